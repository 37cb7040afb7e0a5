//! The vectors of `tests/vectors/oprf`: those of RFC 9497, and broken ones
//! (`voprf_bad_<field>`) that must be refused with the error they name.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by panicking"
)]

mod oprf_support;

use std::{collections::VecDeque, convert::Infallible, fs, path::Path};

use blindbook::{
    oprf::{BlindedBatch, OprfError, PublicKey, ServerKey},
    secret::Secret,
};
use oprf_support::Rng06;
use rand::{TryCryptoRng, TryRng};
use serde_json::Value;
use voprf::{OprfClient, OprfServer, Ristretto255};

#[test]
fn voprf_vectors_of_rfc_9497_a_1_2_hold_on_both_sides() {
    let file = read("rfc9497_a1_2_voprf.json");
    let server = server_key(&file);
    let key = server.public_key();
    assert_eq!(key.to_bytes().as_slice(), hex(&file["public_key"]));
    assert_eq!(PublicKey::from_bytes(&hex(&file["public_key"])).unwrap(), key);

    let vectors = list(&file["vectors"]);
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let inputs = each_hex(&vector["inputs"]);
        let mut blinds = ScalarRng(each_hex(&vector["blinds"]).into());
        let batch = BlindedBatch::blind(&inputs, &mut blinds).unwrap();
        assert_eq!(batch.blinded_elements(), each_hex(&vector["blinded_elements"]).concat());

        let mut nonce = ScalarRng([hex(&vector["proof_random_scalar"])].into());
        let (evaluated, proof) =
            server.blind_evaluate_batch(batch.blinded_elements(), &mut nonce).unwrap();
        assert_eq!(evaluated, each_hex(&vector["evaluated_elements"]).concat());
        assert_eq!(proof.as_slice(), hex(&vector["proof"]));

        let outputs = each_hex(&vector["outputs"]);
        let finalized = batch.finalize(&evaluated, &proof, &key).unwrap();
        let published = server.evaluate_many(&inputs).unwrap();
        assert_eq!(finalized.len(), outputs.len());
        assert_eq!(finalized, published);
        for (output, expected) in finalized.iter().zip(&outputs) {
            assert_eq!(output.expose().as_slice(), expected);
        }
    }
}

/// The crate that serves as the oracle elsewhere is itself held to base mode;
/// our own base-mode check is a unit test of the suite.
#[test]
fn oprf_vectors_of_rfc_9497_a_1_1_hold_for_the_oracle() {
    let file = read("rfc9497_a1_1_oprf.json");
    let server =
        OprfServer::<Ristretto255>::new_from_seed(&hex(&file["seed"]), &hex(&file["key_info"]))
            .unwrap();
    assert_eq!(server.serialize()[..], hex(&file["secret_key"]));

    let vectors = list(&file["vectors"]);
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let input = hex(&vector["inputs"][0]);
        let mut blinds = Rng06(ScalarRng(each_hex(&vector["blinds"]).into()));
        let blinded = OprfClient::<Ristretto255>::blind(&input, &mut blinds).unwrap();
        assert_eq!(blinded.message.serialize()[..], hex(&vector["blinded_elements"][0]));
        let evaluated = server.blind_evaluate(&blinded.message);
        assert_eq!(evaluated.serialize()[..], hex(&vector["evaluated_elements"][0]));
        let output = blinded.state.finalize(&input, &evaluated).unwrap();
        assert_eq!(output[..], hex(&vector["outputs"][0]));
    }
}

#[test]
fn every_broken_vector_is_refused_with_the_error_it_names() {
    let mut seen = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("voprf_bad_") {
            continue;
        }
        seen += 1;
        let file = read(&name);
        let error = match file["refused_by"].as_str().unwrap() {
            "server" => refused_by_server(&file),
            "client" => refused_by_client(&file),
            "key" => PublicKey::from_bytes(&hex(&file["public_key"])).unwrap_err(),
            party => panic!("{name}: unknown party {party}"),
        };
        let variant = format!("{error:?}");
        let variant = variant.split(' ').next().unwrap();
        assert_eq!(variant, file["error"].as_str().unwrap(), "{name}");
    }
    assert_eq!(seen, 25, "a vector was added or lost: correct this count with it");
}

fn refused_by_server(file: &Value) -> OprfError {
    // No nonce to draw: a malformed batch never gets as far as a proof.
    let mut nonce = ScalarRng(VecDeque::new());
    server_key(file).blind_evaluate_batch(&hex(&file["blinded"]), &mut nonce).unwrap_err()
}

fn refused_by_client(file: &Value) -> OprfError {
    let mut blinds = ScalarRng(each_hex(&file["blinds"]).into());
    let batch = BlindedBatch::blind(&each_hex(&file["inputs"]), &mut blinds).unwrap();
    assert_eq!(batch.blinded_elements(), hex(&file["blinded"]));
    let key = PublicKey::from_bytes(&hex(&file["public_key"])).unwrap();
    batch.finalize(&hex(&file["evaluated"]), &hex(&file["proof"]), &key).unwrap_err()
}

fn server_key(file: &Value) -> ServerKey {
    let seed = Secret::new(hex(&file["seed"]).try_into().unwrap());
    ServerKey::derive(&seed, &hex(&file["key_info"])).unwrap()
}

/// Yields the vector's scalars, widened to the 64 bytes that are drawn for
/// each.
struct ScalarRng(VecDeque<Vec<u8>>);

impl TryRng for ScalarRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("only whole scalars are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("only whole scalars are drawn")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let scalar = self.0.pop_front().expect("one more scalar was drawn than the vector has");
        let (low, high) = bytes.split_at_mut(scalar.len());
        assert_eq!(high.len(), 32);
        low.copy_from_slice(&scalar);
        high.fill(0);
        Ok(())
    }
}

impl TryCryptoRng for ScalarRng {}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/oprf"))
}

fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(folder().join(name)).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn each_hex(value: &Value) -> Vec<Vec<u8>> {
    list(value).iter().map(hex).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    assert!(digits.len().is_multiple_of(2), "half a byte in {digits}");
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}
