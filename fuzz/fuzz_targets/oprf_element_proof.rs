//! Elements, proofs and public keys as a peer sends them.
//!
//! Input: one byte that chooses the part, then bytes. Only canonical encodings
//! of elements other than the identity are taken, exactly as the voprf crate
//! says, and no answer but the true one is ever finalised.

#![no_main]

use std::sync::LazyLock;

use blindbook::{
    oprf::{BlindedBatch, Output, PublicKey, ServerKey},
    secret::Secret,
};
use libfuzzer_sys::{Corpus, fuzz_target};
use rand::{SeedableRng as _, rngs::StdRng};
use voprf::{BlindedElement, Ristretto255};

const ELEMENT: usize = 32;

/// A batch of two, and its true answer.
struct Answered {
    server: ServerKey,
    stranger: PublicKey,
    batch: BlindedBatch,
    evaluated: Vec<u8>,
    proof: [u8; 64],
    outputs: Vec<Output>,
}

static ANSWERED: LazyLock<Answered> = LazyLock::new(|| {
    let mut rng = StdRng::seed_from_u64(1);
    let key = |seed| ServerKey::derive(&Secret::new([seed; 32]), b"fuzz").expect("derives");
    let server = key(1);
    let inputs = ["tel:+14155550100", "mailto:alice@example.com"];
    let batch = BlindedBatch::blind(&inputs, &mut rng).expect("blinds");
    let (evaluated, proof) =
        server.blind_evaluate_batch(batch.blinded_elements(), &mut rng).expect("evaluates");
    let outputs = batch.finalize(&evaluated, &proof, &server.public_key()).expect("finalizes");
    assert!(outputs == server.evaluate_many(&inputs).expect("evaluates"));
    Answered { server, stranger: key(2).public_key(), batch, evaluated, proof, outputs }
});

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((part, bytes)) = data.split_first() else { return Corpus::Reject };
    match part % 3 {
        0 => public_key(bytes),
        1 => elements(bytes),
        _ => answer(bytes),
    }
    Corpus::Keep
});

fn public_key(bytes: &[u8]) {
    let key = PublicKey::from_bytes(bytes);
    assert_eq!(key.is_ok(), is_element(bytes));
    if let Ok(key) = key {
        assert_eq!(key.to_bytes(), bytes, "one encoding per element");
    }
}

/// The voprf crate looks at the first 32 bytes only, so the length is ours.
fn is_element(bytes: &[u8]) -> bool {
    bytes.len() == ELEMENT && BlindedElement::<Ristretto255>::deserialize(bytes).is_ok()
}

fn elements(bytes: &[u8]) {
    let server = &ANSWERED.server;
    let mut rng = StdRng::seed_from_u64(2);
    let well_formed = !bytes.is_empty()
        && bytes.len().is_multiple_of(ELEMENT)
        && bytes.chunks(ELEMENT).all(is_element);
    let evaluated = server.blind_evaluate_batch(bytes, &mut rng);
    assert_eq!(evaluated.is_ok(), well_formed);
    let Ok((evaluated, _)) = evaluated else { return };
    assert_eq!(evaluated.len(), bytes.len());
    for (blinded, evaluated) in bytes.chunks(ELEMENT).zip(evaluated.chunks(ELEMENT)) {
        assert!(is_element(evaluated));
        let (alone, _) = server.blind_evaluate_batch(blinded, &mut rng).expect("was taken before");
        assert_eq!(alone, evaluated, "an element's evaluation depends on its batch");
    }
}

/// An answer that differs from the true one: the bytes are pairs of an offset
/// and what to flip there, or, after 0xff, the whole answer.
fn answer(bytes: &[u8]) {
    let true_answer = &*ANSWERED;
    let key = true_answer.server.public_key();
    let (evaluated, proof) = if let Some((0xff, bytes)) = bytes.split_first() {
        let middle = bytes.len().min(true_answer.evaluated.len());
        let (evaluated, proof) = bytes.split_at(middle);
        (evaluated.to_vec(), proof.to_vec())
    } else {
        let mut evaluated = true_answer.evaluated.clone();
        let mut proof = true_answer.proof.to_vec();
        for flip in bytes.chunks_exact(2) {
            let at = usize::from(flip[0]) % (evaluated.len() + proof.len());
            match at.checked_sub(evaluated.len()) {
                None => evaluated[at] ^= flip[1],
                Some(at) => proof[at] ^= flip[1],
            }
        }
        (evaluated, proof)
    };
    let is_true = evaluated == true_answer.evaluated && proof == true_answer.proof;
    let finalized = true_answer.batch.finalize(&evaluated, &proof, &key);
    assert_eq!(finalized.is_ok(), is_true, "an answer that was not given was believed");
    if let Ok(outputs) = finalized {
        assert!(outputs == true_answer.outputs);
    }
    assert!(true_answer.batch.finalize(&evaluated, &proof, &true_answer.stranger).is_err());
}
