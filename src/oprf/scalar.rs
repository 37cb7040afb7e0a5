//! Secret scalars: a key or a nonce beside its half, zeroised together.

use curve25519_dalek::Scalar;
use rand::CryptoRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// A secret scalar that is not zero. Multiplying by `half` leaves the doubling
/// to the batched encoding, which takes one inversion for many elements.
#[derive(ZeroizeOnDrop)]
pub(super) struct SecretScalar {
    pub(super) whole: Scalar,
    pub(super) half: Scalar,
}

impl SecretScalar {
    /// Reduces 64 uniform bytes; `None` for zero.
    pub(super) fn from_uniform(uniform: &[u8; 64]) -> Option<Self> {
        let whole = Zeroizing::new(Scalar::from_bytes_mod_order_wide(uniform));
        (*whole != Scalar::ZERO).then(|| Self { whole: *whole, half: whole.div_by_2() })
    }

    /// `G.RandomScalar` of RFC 9497 section 2.1: uniform, not zero.
    pub(super) fn random(rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut uniform = Zeroizing::new([0; 64]);
            rng.fill_bytes(uniform.as_mut_slice());
            if let Some(scalar) = Self::from_uniform(&uniform) {
                return scalar;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_half_make_the_whole() {
        for byte in [1, 2, 0xff] {
            let scalar = SecretScalar::from_uniform(&[byte; 64]).unwrap();
            assert_eq!(scalar.half + scalar.half, scalar.whole);
        }
    }

    #[test]
    fn zero_is_no_secret() {
        assert!(SecretScalar::from_uniform(&[0; 64]).is_none());
    }
}
