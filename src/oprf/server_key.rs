//! The server's key: evaluates blinded batches for clients, and plain inputs
//! in bulk for the directory's own publication.

use std::fmt;

use curve25519_dalek::{RistrettoPoint, ristretto::CompressedRistretto};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{
    OprfError, Output, PROOF_BYTES, PublicKey,
    element::{Encoding, decode_batch, split_batch},
    proof,
    scalar::SecretScalar,
    suite::{self, VOPRF},
};
use crate::secret::Secret;

/// Points per shared inversion: its cost is spread thin, and the points still
/// fit a processor's cache.
const CHUNK: usize = 256;

/// A secret OPRF key of one epoch, with its public half. Zeroised when
/// dropped, and never compared or printed.
pub struct ServerKey {
    secret: SecretScalar,
    public: PublicKey,
}

impl ServerKey {
    /// Derives the key of a seed: `DeriveKeyPair` of RFC 9497 section 3.2.1.
    ///
    /// # Errors
    /// [`OprfError::InfoTooLong`] for an info of more than 65,535 bytes;
    /// [`OprfError::NoKeyFromSeed`] should all 256 candidates be zero.
    pub fn derive(seed: &Secret<32>, info: &[u8]) -> Result<Self, OprfError> {
        let secret = VOPRF.derive_key(seed.expose(), info)?;
        let public = PublicKey::from_point(RistrettoPoint::mul_base(&secret.whole));
        Ok(Self { secret, public })
    }

    /// The public key that clients verify proofs against.
    #[must_use]
    pub const fn public_key(&self) -> PublicKey {
        self.public
    }

    /// Evaluates a batch of blinded elements, given one after the other, and
    /// proves it: `BlindEvaluate` of RFC 9497 section 3.3.2. Returns the
    /// evaluated elements in the same order and form, and the proof.
    ///
    /// `rng` yields the proof's nonce. Like in every such proof, a nonce that
    /// an attacker can guess or that is used twice gives the key away.
    ///
    /// # Errors
    /// [`OprfError::TrailingBytes`], [`OprfError::EmptyBatch`],
    /// [`OprfError::TooManyElements`], [`OprfError::MalformedElement`] or
    /// [`OprfError::IdentityElement`] when the batch is not well-formed;
    /// nothing has been evaluated then.
    pub fn blind_evaluate_batch(
        &self,
        blinded: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, [u8; PROOF_BYTES]), OprfError> {
        let encodings = split_batch(blinded)?;
        let points = decode_batch(encodings)?;

        let mut evaluated: Vec<Encoding> = Vec::with_capacity(points.len());
        for chunk in points.chunks(CHUNK) {
            let halves: Vec<RistrettoPoint> =
                chunk.iter().map(|point| point * self.secret.half).collect();
            let doubles = RistrettoPoint::double_and_compress_batch(&halves);
            evaluated.extend(doubles.iter().map(CompressedRistretto::to_bytes));
        }

        let suite = &*VOPRF;
        let weights = proof::composite_weights(suite, &self.public, encodings, &evaluated);
        let proof = proof::generate(suite, &self.secret, &self.public, &points, &weights, rng);
        Ok((evaluated.into_flattened(), proof))
    }

    /// The outputs of plain inputs, in their order: `Evaluate` of RFC 9497
    /// section 3.3.1 for each. Runs on the calling thread; callers that want
    /// more cores split their inputs.
    ///
    /// # Errors
    /// [`OprfError::InputTooLong`] or [`OprfError::InputMapsToIdentity`]
    /// names the first input without an output.
    pub fn evaluate_many(&self, inputs: &[impl AsRef<[u8]>]) -> Result<Vec<Output>, OprfError> {
        let suite = &*VOPRF;
        let mut outputs = Vec::with_capacity(inputs.len());
        for chunk in inputs.chunks(CHUNK) {
            let mut halves = Zeroizing::new(Vec::with_capacity(chunk.len()));
            for (offset, input) in chunk.iter().enumerate() {
                let index = outputs.len() + offset;
                halves.push(suite.hash_to_group(index, input.as_ref())? * self.secret.half);
            }
            outputs.extend(suite::finalize_halves(chunk.iter().map(AsRef::as_ref), &halves));
        }
        Ok(outputs)
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}
