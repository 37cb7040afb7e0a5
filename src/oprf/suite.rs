//! The hash functions of the ciphersuite: RFC 9497 section 4.1
//! (ristretto255, SHA-512) over `expand_message_xmd` of RFC 9380, with the
//! constant parts hashed once per process.

use std::sync::LazyLock;

use curve25519_dalek::{RistrettoPoint, Scalar, traits::IsIdentity as _};
use sha2::{Digest as _, Sha512};
use zeroize::Zeroizing;

use super::{MAX_INPUT_BYTES, OprfError, Output, scalar::SecretScalar};

/// `modeVOPRF` of RFC 9497 section 3.
const MODE_VOPRF: u8 = 0x01;

/// SHA-512's block size: the zeroes before every expanded message fill a
/// block, so that their state can be kept.
const BLOCK_BYTES: usize = 128;

/// `I2OSP(len, 2)` of an element.
pub(super) const ELEMENT_LEN: [u8; 2] = [0, 32];
/// `I2OSP(len, 2)` of a hash.
pub(super) const HASH_LEN: [u8; 2] = [0, 64];

/// The suite in VOPRF mode, the only one in use.
pub(super) static VOPRF: LazyLock<Suite> = LazyLock::new(|| Suite::new(MODE_VOPRF));

/// The hash functions under the context string of one mode.
pub(super) struct Suite {
    hash_to_group: Expander,
    hash_to_scalar: Expander,
    derive_key_pair: Expander,
    seed_dst: Vec<u8>,
}

impl Suite {
    /// Fixes the domain separation tags of a mode.
    pub(super) fn new(mode: u8) -> Self {
        // CreateContextString, RFC 9497 section 3.1.
        let context = [b"OPRFV1-".as_slice(), &[mode], b"-ristretto255-SHA512"].concat();
        let dst = |label: &[u8]| [label, &context].concat();
        Self {
            hash_to_group: Expander::new(&dst(b"HashToGroup-")),
            hash_to_scalar: Expander::new(&dst(b"HashToScalar-")),
            // No dash: RFC 9497 section 3.2.1 has it so.
            derive_key_pair: Expander::new(&dst(b"DeriveKeyPair")),
            seed_dst: dst(b"Seed-"),
        }
    }

    /// Input `index` as an element that is not the identity.
    pub(super) fn hash_to_group(
        &self,
        index: usize,
        input: &[u8],
    ) -> Result<RistrettoPoint, OprfError> {
        if input.len() > MAX_INPUT_BYTES {
            return Err(OprfError::InputTooLong { index });
        }
        let uniform = Zeroizing::new(self.hash_to_group.expand(&[input]));
        refuse_identity(index, RistrettoPoint::from_uniform_bytes(&uniform))
    }

    /// `HashToScalar` of RFC 9497 section 4.1.
    pub(super) fn hash_to_scalar(&self, message: &[&[u8]]) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&self.hash_to_scalar.expand(message))
    }

    /// The state of [`Self::hash_to_scalar`] after the first part of a
    /// message, for many messages that begin alike.
    pub(super) fn hash_to_scalar_after(&self, prefix: &[u8]) -> ScalarHasher<'_> {
        ScalarHasher {
            expander: &self.hash_to_scalar,
            state: self.hash_to_scalar.padded.clone().chain_update(prefix),
        }
    }

    /// `seed` of `ComputeComposites`, RFC 9497 sections 2.2.1 and 2.2.2.
    pub(super) fn composite_seed(&self, public_key: &[u8; 32]) -> [u8; 64] {
        Sha512::new()
            .chain_update(ELEMENT_LEN)
            .chain_update(public_key)
            .chain_update(length_prefix(&self.seed_dst))
            .chain_update(&self.seed_dst)
            .finalize()
            .into()
    }

    /// The secret scalar of `DeriveKeyPair`, RFC 9497 section 3.2.1.
    pub(super) fn derive_key(
        &self,
        seed: &[u8; 32],
        info: &[u8],
    ) -> Result<SecretScalar, OprfError> {
        let info_len = u16::try_from(info.len()).map_err(|_| OprfError::InfoTooLong)?.to_be_bytes();
        for counter in 0..=u8::MAX {
            let uniform =
                Zeroizing::new(self.derive_key_pair.expand(&[seed, &info_len, info, &[counter]]));
            if let Some(key) = SecretScalar::from_uniform(&uniform) {
                return Ok(key);
            }
        }
        Err(OprfError::NoKeyFromSeed)
    }
}

/// Refuses what RFC 9497 section 3.3.1 calls an invalid input.
fn refuse_identity(index: usize, element: RistrettoPoint) -> Result<RistrettoPoint, OprfError> {
    if element.is_identity() {
        return Err(OprfError::InputMapsToIdentity { index });
    }
    Ok(element)
}

/// The last step of `Finalize` and `Evaluate`, RFC 9497 sections 3.3.1 and
/// 3.3.2, for inputs and the halves of their unblinded elements.
///
/// Encoding an element takes an inverse square root; encoding the doubles of
/// many takes one inversion for all. Hence halves.
pub(super) fn finalize_halves<'a>(
    inputs: impl Iterator<Item = &'a [u8]>,
    halves: &[RistrettoPoint],
) -> Vec<Output> {
    let elements = Zeroizing::new(RistrettoPoint::double_and_compress_batch(halves));
    inputs
        .zip(elements.iter())
        .map(|(input, element)| {
            let hash = Sha512::new()
                .chain_update(length_prefix(input))
                .chain_update(input)
                .chain_update(ELEMENT_LEN)
                .chain_update(element.as_bytes())
                .chain_update(b"Finalize")
                .finalize();
            Output::new(hash.into())
        })
        .collect()
}

/// `I2OSP(len(bytes), 2)` of bytes whose length was checked.
fn length_prefix(bytes: &[u8]) -> [u8; 2] {
    debug_assert!(bytes.len() <= MAX_INPUT_BYTES, "lengths are checked at the door");
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

/// `expand_message_xmd` of RFC 9380 section 5.3.1 for 64 bytes: one block of
/// SHA-512, so that only `b_0` and `b_1` are ever computed.
struct Expander {
    /// The state after `Z_pad`.
    padded: Sha512,
    /// `l_i_b_str || I2OSP(0, 1) || DST_prime`, the end of `b_0`'s input.
    b_0_tail: Vec<u8>,
    /// `I2OSP(1, 1) || DST_prime`, the end of `b_1`'s input.
    b_1_tail: Vec<u8>,
}

impl Expander {
    fn new(dst: &[u8]) -> Self {
        // Every tag here has less than 50 bytes, so its length fits a byte.
        let dst_len = u8::try_from(dst.len()).unwrap_or(u8::MAX);
        let dst_prime = [dst, &[dst_len]].concat();
        Self {
            padded: Sha512::new().chain_update([0; BLOCK_BYTES]),
            b_0_tail: [HASH_LEN.as_slice(), &[0], &dst_prime].concat(),
            b_1_tail: [[1].as_slice(), &dst_prime].concat(),
        }
    }

    fn expand(&self, message: &[&[u8]]) -> [u8; 64] {
        self.finish(self.padded.clone(), message)
    }

    fn finish(&self, mut state: Sha512, message: &[&[u8]]) -> [u8; 64] {
        for part in message {
            state.update(part);
        }
        state.update(&self.b_0_tail);
        let b_0 = state.finalize();
        Sha512::new().chain_update(b_0).chain_update(&self.b_1_tail).finalize().into()
    }
}

/// `HashToScalar` with the beginning of the message already hashed.
pub(super) struct ScalarHasher<'a> {
    expander: &'a Expander,
    state: Sha512,
}

impl ScalarHasher<'_> {
    /// The scalar of the whole message.
    pub(super) fn scalar(&self, rest: &[&[u8]]) -> Scalar {
        let uniform = self.expander.finish(self.state.clone(), rest);
        Scalar::from_bytes_mod_order_wide(&uniform)
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::{ristretto::CompressedRistretto, traits::Identity as _};

    use super::*;

    /// Base mode differs from VOPRF mode in the context string and the proof
    /// alone, so its vectors check everything below the proof once more.
    #[test]
    fn base_mode_vectors_of_rfc_9497_a_1_1_hold_under_its_context_string() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/oprf/rfc9497_a1_1_oprf.json"))
                .unwrap();
        let mode = u8::try_from(file["mode"].as_u64().unwrap()).unwrap();
        let suite = Suite::new(mode);
        let seed = hex(&file["seed"]).try_into().unwrap();
        let k = suite.derive_key(&seed, &hex(&file["key_info"])).unwrap();
        assert_eq!(k.whole.as_bytes().as_slice(), hex(&file["secret_key"]));

        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 2);
        for vector in vectors {
            let input = hex(&vector["inputs"][0]);
            let blind = scalar(&vector["blinds"][0]);
            let element = suite.hash_to_group(0, &input).unwrap();

            let blinded = element * blind;
            assert_eq!(encoding(&blinded), hex(&vector["blinded_elements"][0]));
            let evaluated = blinded * k.whole;
            assert_eq!(encoding(&evaluated), hex(&vector["evaluated_elements"][0]));

            let unblinded_half = evaluated * blind.invert().div_by_2();
            let outputs = finalize_halves(std::iter::once(input.as_slice()), &[unblinded_half]);
            assert_eq!(outputs[0].expose().as_slice(), hex(&vector["outputs"][0]));
        }
    }

    #[test]
    fn an_input_on_the_identity_is_refused_by_index() {
        let refused = refuse_identity(7, RistrettoPoint::identity());
        assert_eq!(refused.unwrap_err(), OprfError::InputMapsToIdentity { index: 7 });
    }

    #[test]
    fn a_prefix_hashed_ahead_changes_no_scalar() {
        let whole = VOPRF.hash_to_scalar(&[b"prefix", b"rest", b"end"]);
        assert_eq!(VOPRF.hash_to_scalar_after(b"prefix").scalar(&[b"rest", b"end"]), whole);
    }

    fn encoding(point: &RistrettoPoint) -> Vec<u8> {
        let CompressedRistretto(bytes) = point.compress();
        bytes.to_vec()
    }

    fn scalar(value: &serde_json::Value) -> Scalar {
        Scalar::from_canonical_bytes(hex(value).try_into().unwrap()).unwrap()
    }

    fn hex(value: &serde_json::Value) -> Vec<u8> {
        let digits = value.as_str().unwrap().as_bytes();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap();
        digits
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[high, low]| u8::try_from(digit(high) << 4 | digit(low)).unwrap())
            .collect()
    }
}
