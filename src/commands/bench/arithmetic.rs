//! The batch paths of the oprf room beside the voprf crate, each from bytes to
//! bytes on one thread, in that thread's processor time. Both must come to the
//! same result.

use std::hint::black_box;

use anyhow::{anyhow, ensure};
use blindbook::{
    oprf::{BlindedBatch, ServerKey},
    secret::Secret,
};
use rand::CryptoRng;
use serde::Serialize;
use voprf::{BlindedElement, EvaluationElement, Ristretto255, VoprfServer};

use super::{report::Row, rounds::Rounds, step};

/// The largest batch that a client sends.
const BATCH: usize = 512;

/// Enough for a median that one disturbed round does not move; about two
/// seconds.
const ROUNDS: usize = 25;

const SEED: [u8; 32] = [7; 32];
const INFO: &[u8] = b"blindbook bench";

type Server = VoprfServer<Ristretto255>;
type Theirs<T> = Result<T, voprf::Error>;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Arithmetic {
    batch_elements: usize,
    batch_us_per_element: f64,
    voprf_batch_us_per_element: f64,
    bulk_prf_us_per_record: f64,
    voprf_prf_us_per_record: f64,
    #[serde(skip)]
    pub(super) batch_ratio: f64,
    #[serde(skip)]
    pub(super) bulk_prf_ratio: f64,
}

impl Arithmetic {
    pub(super) fn rows(&self) -> Vec<Row> {
        let beside = |ours, theirs| format!("{ours:.1} us; voprf crate {theirs:.1} us");
        vec![
            Row::new(
                "server batch of 512 with proof, per element",
                beside(self.batch_us_per_element, self.voprf_batch_us_per_element),
            ),
            Row::new(
                "bulk PRF, per record",
                beside(self.bulk_prf_us_per_record, self.voprf_prf_us_per_record),
            ),
        ]
    }
}

/// Measures both paths.
pub(super) fn measure() -> anyhow::Result<Arithmetic> {
    step("arithmetic beside the voprf crate")?;
    let mut rng = rand::rng();
    let inputs: Vec<String> = (0..BATCH).map(|n| format!("tel:+1415{n:07}")).collect();
    let ours = ServerKey::derive(&Secret::new(SEED), INFO)?;
    let theirs = Server::new_from_seed(&SEED, INFO).map_err(refused)?;
    let batch = BlindedBatch::blind(&inputs, &mut rng)?;
    let blinded = batch.blinded_elements();
    agree(&ours, &theirs, &inputs, blinded)?;

    let batches = Rounds::alternate(
        ROUNDS,
        BATCH,
        || {
            black_box(ours.blind_evaluate_batch(black_box(blinded), &mut rand::rng())?);
            Ok(())
        },
        || {
            black_box(their_batch(&theirs, black_box(blinded)).map_err(refused)?);
            Ok(())
        },
    )?;
    let prf = Rounds::alternate(
        ROUNDS,
        BATCH,
        || {
            black_box(ours.evaluate_many(black_box(&inputs))?);
            Ok(())
        },
        || {
            black_box(their_outputs(&theirs, black_box(&inputs)).map_err(refused)?);
            Ok(())
        },
    )?;
    Ok(Arithmetic {
        batch_elements: BATCH,
        batch_us_per_element: 1e6 / batches.ours(),
        voprf_batch_us_per_element: 1e6 / batches.theirs(),
        bulk_prf_us_per_record: 1e6 / prf.ours(),
        voprf_prf_us_per_record: 1e6 / prf.theirs(),
        batch_ratio: batches.ratio(),
        bulk_prf_ratio: prf.ratio(),
    })
}

/// Runs every path once, which also warms it.
fn agree(
    ours: &ServerKey,
    theirs: &Server,
    inputs: &[String],
    blinded: &[u8],
) -> anyhow::Result<()> {
    let (evaluated, _) = ours.blind_evaluate_batch(blinded, &mut rand::rng())?;
    let (their_evaluated, _) = their_batch(theirs, blinded).map_err(refused)?;
    ensure!(evaluated == their_evaluated, "the batch differs from the voprf crate's");
    let outputs = ours.evaluate_many(inputs)?;
    let their_outputs = their_outputs(theirs, inputs).map_err(refused)?;
    let same = outputs.len() == their_outputs.len()
        && outputs.iter().zip(&their_outputs).all(|(ours, theirs)| ours.expose()[..] == theirs[..]);
    ensure!(same, "the bulk PRF differs from the voprf crate's");
    Ok(())
}

fn their_batch(server: &Server, blinded: &[u8]) -> Theirs<(Vec<u8>, Vec<u8>)> {
    let elements =
        blinded.chunks(32).map(BlindedElement::deserialize).collect::<Theirs<Vec<_>>>()?;
    let answer = server.batch_blind_evaluate(&mut Rng06(rand::rng()), &elements)?;
    let evaluated = answer.messages.iter().flat_map(EvaluationElement::serialize).collect();
    Ok((evaluated, answer.proof.serialize().to_vec()))
}

fn their_outputs(server: &Server, inputs: &[String]) -> Theirs<Vec<[u8; 64]>> {
    inputs.iter().map(|input| server.evaluate(input.as_bytes()).map(Into::into)).collect()
}

fn refused(error: voprf::Error) -> anyhow::Error {
    anyhow!("the voprf crate refused: {error:?}")
}

/// A generator of today as one of `rand_core` 0.6, which the voprf crate wants.
struct Rng06<R>(R);

impl<R: CryptoRng> rand_core_06::RngCore for Rng06<R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> rand_core_06::CryptoRng for Rng06<R> {}
