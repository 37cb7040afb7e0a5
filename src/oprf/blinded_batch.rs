//! The client's side: blinds inputs, checks the server's proof and unblinds.

use std::fmt;

use curve25519_dalek::{
    RistrettoPoint, Scalar, ristretto::CompressedRistretto, traits::VartimeMultiscalarMul as _,
};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{
    ELEMENT_BYTES, OprfError, Output, PublicKey,
    element::{Encoding, check_batch_size, decode_batch, split_batch},
    proof::{self, Proof},
    scalar::SecretScalar,
    suite::{self, VOPRF},
};

/// A batch of inputs on its way through the server. It can be finalised once
/// for every key that evaluated it; inputs and blinds are zeroised when it is
/// dropped.
pub struct BlindedBatch {
    /// All inputs, one after the other, and where each ends.
    inputs: Zeroizing<Vec<u8>>,
    ends: Vec<usize>,
    /// Half of every blinded element, before encoding.
    halves: Zeroizing<Vec<RistrettoPoint>>,
    /// Half of every blind's inverse.
    unblind_halves: Zeroizing<Vec<Scalar>>,
    encodings: Vec<Encoding>,
}

impl BlindedBatch {
    /// Blinds inputs: `Blind` of RFC 9497 section 3.3.1, with a fresh blind
    /// from `rng` for each.
    ///
    /// # Errors
    /// [`OprfError::EmptyBatch`] or [`OprfError::TooManyElements`] for the
    /// batch; [`OprfError::InputTooLong`] or
    /// [`OprfError::InputMapsToIdentity`] for an input.
    pub fn blind(inputs: &[impl AsRef<[u8]>], rng: &mut impl CryptoRng) -> Result<Self, OprfError> {
        check_batch_size(inputs.len())?;
        let suite = &*VOPRF;

        // Sized ahead: a vector that grows leaves copies of secrets behind.
        let input_bytes = inputs.iter().map(|input| input.as_ref().len()).sum();
        let mut copies = Zeroizing::new(Vec::with_capacity(input_bytes));
        let mut ends = Vec::with_capacity(inputs.len());
        let mut halves = Zeroizing::new(Vec::with_capacity(inputs.len()));
        let mut blinds = Zeroizing::new(Vec::with_capacity(inputs.len()));
        for (index, input) in inputs.iter().enumerate() {
            let element = suite.hash_to_group(index, input.as_ref())?;
            let blind = SecretScalar::random(rng);
            halves.push(element * blind.half);
            blinds.push(blind.whole);
            copies.extend_from_slice(input.as_ref());
            ends.push(copies.len());
        }

        // No blind is zero, so all can be inverted for the price of one.
        drop(Zeroizing::new(Scalar::invert_batch_alloc(&mut blinds)));
        for inverse in blinds.iter_mut() {
            *inverse = inverse.div_by_2();
        }

        let encodings = RistrettoPoint::double_and_compress_batch(halves.iter())
            .iter()
            .map(CompressedRistretto::to_bytes)
            .collect();
        Ok(Self { inputs: copies, ends, halves, unblind_halves: blinds, encodings })
    }

    /// The blinded elements, one after the other: what the server gets.
    #[must_use]
    pub fn blinded_elements(&self) -> &[u8] {
        self.encodings.as_flattened()
    }

    /// Verifies the proof and returns the outputs, in the order of the
    /// inputs: `Finalize` of RFC 9497 section 3.3.2.
    ///
    /// # Errors
    /// Whatever is wrong with the server's answer, and then no output at all:
    /// [`OprfError::TrailingBytes`], [`OprfError::EmptyBatch`],
    /// [`OprfError::TooManyElements`], [`OprfError::WrongElementCount`],
    /// [`OprfError::MalformedElement`], [`OprfError::IdentityElement`],
    /// [`OprfError::WrongProofLength`], [`OprfError::MalformedProof`], or
    /// [`OprfError::InvalidProof`] when it was made with another key or for
    /// other elements.
    pub fn finalize(
        &self,
        evaluated: &[u8],
        proof: &[u8],
        key: &PublicKey,
    ) -> Result<Vec<Output>, OprfError> {
        let encodings = split_batch(evaluated)?;
        if encodings.len() != self.encodings.len() {
            return Err(OprfError::WrongElementCount {
                expected: self.encodings.len(),
                found: encodings.len(),
            });
        }
        let proof = Proof::from_bytes(proof)?;
        let points = decode_batch(encodings)?;

        let suite = &*VOPRF;
        let weights = proof::composite_weights(suite, key, &self.encodings, encodings);
        let m_half = RistrettoPoint::vartime_multiscalar_mul(&weights, self.halves.iter());
        let z = RistrettoPoint::vartime_multiscalar_mul(&weights, &points);
        proof::verify(suite, key, &m_half, &z, &proof)?;

        let mut unblinded = Zeroizing::new(Vec::with_capacity(points.len()));
        unblinded.extend(
            points.iter().zip(self.unblind_halves.iter()).map(|(point, half)| point * half),
        );
        Ok(suite::finalize_halves(self.inputs(), &unblinded))
    }

    fn inputs(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.inputs.as_slice();
        let mut start = 0;
        self.ends.iter().map_while(move |&end| {
            let (input, after) = rest.split_at_checked(end - start)?;
            (rest, start) = (after, end);
            Some(input)
        })
    }
}

impl fmt::Debug for BlindedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlindedBatch({} elements of {ELEMENT_BYTES} bytes)", self.encodings.len())
    }
}
