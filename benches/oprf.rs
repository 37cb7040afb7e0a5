//! The batch paths beside the voprf crate, each from wire bytes to wire bytes:
//! `cargo bench --bench oprf`.

#[path = "../tests/oprf_support/mod.rs"]
mod oprf_support;

use std::{error::Error, hint::black_box, process};

use blindbook::{
    oprf::{BlindedBatch, OprfError, Output, PublicKey, ServerKey},
    secret::Secret,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use oprf_support::Rng06;
use voprf::{
    BlindedElement, EvaluationElement, Group as _, Proof, Ristretto255, VoprfClient, VoprfServer,
};

const BATCH: u64 = 512;
const SEED: [u8; 32] = [7; 32];
const INFO: &[u8] = b"bench";

type Client = VoprfClient<Ristretto255>;
type Server = VoprfServer<Ristretto255>;
type Oracle<T> = Result<T, voprf::Error>;

fn voprf_server_batch(server: &Server, blinded: &[u8]) -> Oracle<(Vec<u8>, Vec<u8>)> {
    let elements =
        blinded.chunks(32).map(BlindedElement::deserialize).collect::<Oracle<Vec<_>>>()?;
    let answer = server.batch_blind_evaluate(&mut Rng06(rand::rng()), &elements)?;
    let evaluated = answer.messages.iter().flat_map(EvaluationElement::serialize).collect();
    Ok((evaluated, answer.proof.serialize().to_vec()))
}

/// The three paths, with everything that is not measured made beforehand.
struct Paths {
    ours: ServerKey,
    theirs: Server,
    inputs: Vec<String>,
    batch: BlindedBatch,
    clients: Vec<Client>,
    evaluated: Vec<u8>,
    proof: [u8; 64],
    their_evaluated: Vec<u8>,
    their_proof: Vec<u8>,
}

impl Paths {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut rng = rand::rng();
        let inputs: Vec<_> = (0..BATCH).map(|n| format!("tel:+1415{n:07}")).collect();
        let ours = ServerKey::derive(&Secret::new(SEED), INFO)?;
        let theirs = Server::new_from_seed(&SEED, INFO).map_err(|error| error.to_string())?;

        let batch = BlindedBatch::blind(&inputs, &mut rng)?;
        let (evaluated, proof) = ours.blind_evaluate_batch(batch.blinded_elements(), &mut rng)?;
        let blinded = inputs
            .iter()
            .map(|input| Client::blind(input.as_bytes(), &mut Rng06(&mut rng)))
            .collect::<Oracle<Vec<_>>>()
            .map_err(|error| error.to_string())?;
        let bytes: Vec<u8> =
            blinded.iter().flat_map(|blinded| blinded.message.serialize()).collect();
        let (their_evaluated, their_proof) =
            voprf_server_batch(&theirs, &bytes).map_err(|error| error.to_string())?;
        let clients = blinded.into_iter().map(|blinded| blinded.state).collect();
        Ok(Self {
            ours,
            theirs,
            inputs,
            batch,
            clients,
            evaluated,
            proof,
            their_evaluated,
            their_proof,
        })
    }

    fn our_finalize(&self) -> Result<Vec<Output>, OprfError> {
        let key = PublicKey::from_bytes(&self.ours.public_key().to_bytes())?;
        self.batch.finalize(&self.evaluated, &self.proof, &key)
    }

    fn their_finalize(&self) -> Oracle<Vec<[u8; 64]>> {
        let key = Ristretto255::deserialize_elem(&self.ours.public_key().to_bytes())?;
        let elements = self
            .their_evaluated
            .chunks(32)
            .map(EvaluationElement::deserialize)
            .collect::<Oracle<Vec<_>>>()?;
        let proof = Proof::deserialize(&self.their_proof)?;
        Client::batch_finalize(&self.inputs, &self.clients, &elements, &proof, key)?
            .map(|output| output.map(Into::into))
            .collect()
    }
}

#[expect(clippy::print_stderr, reason = "a benchmark speaks to whoever runs it")]
fn compare(criterion: &mut Criterion) {
    let paths = match Paths::new() {
        Ok(paths) => paths,
        Err(error) => {
            eprintln!("cannot prepare the benchmark: {error}");
            process::exit(1);
        }
    };
    let mut rng = rand::rng();

    let mut group = criterion.benchmark_group("server_batch_512_with_proof");
    group.throughput(Throughput::Elements(BATCH));
    let blinded = paths.batch.blinded_elements();
    group.bench_function("blindbook", |bencher| {
        bencher.iter(|| paths.ours.blind_evaluate_batch(black_box(blinded), &mut rng));
    });
    group.bench_function("voprf", |bencher| {
        bencher.iter(|| voprf_server_batch(&paths.theirs, black_box(blinded)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("bulk_prf");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("blindbook", |bencher| {
        bencher.iter(|| paths.ours.evaluate_many(black_box(&paths.inputs)));
    });
    group.bench_function("voprf", |bencher| {
        let evaluate = |input: &String| paths.theirs.evaluate(input.as_bytes());
        bencher.iter(|| black_box(&paths.inputs).iter().map(evaluate).collect::<Oracle<Vec<_>>>());
    });
    group.finish();

    let mut group = criterion.benchmark_group("client_verify_and_finalize_512");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("blindbook", |bencher| bencher.iter(|| paths.our_finalize()));
    group.bench_function("voprf", |bencher| bencher.iter(|| paths.their_finalize()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = compare
}
criterion_main!(benches);
