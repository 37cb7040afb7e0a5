//! The public randomness that client and server expand alike: the samples'
//! masks and the masks of the packing keys.

use std::fmt;

use super::{
    ntt::{HALF, Poly},
    parameters::{DIGITS, KEY_BITS, Q, RING, Shape},
};

/// The masks of all queries for matrices of one shape: fixed, and the same for
/// everybody.
pub struct Public {
    shape: Shape,
    /// One ring element for each 2048 rows: the mask of row `i` of a group is
    /// what multiplies the secret in coefficient `i` of its product.
    pub(super) groups: Vec<Vec<u32>>,
    /// Of the key for `X^5` and of that for `X^-1`: for each digit, values in
    /// orbit order.
    pub(super) keys: [[Vec<u64>; DIGITS]; 2],
}

impl Public {
    /// Expands a seed: BLAKE3 keyed with it, over `"samples" || u32 group`, gives
    /// the 2048 coefficients of a group as u32, and over `"key" || u8 key || u8
    /// digit` the 2048 values of a key's digit, as the leading 50 bits of each
    /// u64 of the output that are below Q.
    #[must_use]
    pub fn expand(seed: &[u8; 32], shape: Shape) -> Self {
        let groups = (0_u32..)
            .take(shape.groups())
            .map(|group| {
                let mut hash = blake3::Hasher::new_keyed(seed);
                hash.update(b"samples").update(&group.to_be_bytes());
                let mut bytes = vec![0; RING * 4];
                hash.finalize_xof().fill(&mut bytes);
                bytes.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect()
            })
            .collect();
        let key = |key: u8| std::array::from_fn(|digit| key_masks(seed, key, digit));
        Self { shape, groups, keys: [key(0), key(1)] }
    }

    /// The shape that this is for.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Public").field("shape", &self.shape).finish_non_exhaustive()
    }
}

fn key_masks(seed: &[u8; 32], key: u8, digit: usize) -> Vec<u64> {
    let mut hash = blake3::Hasher::new_keyed(seed);
    // Two digits: a byte has room.
    hash.update(b"key").update(&[key, u8::try_from(digit).unwrap_or(u8::MAX)]);
    let mut stream = hash.finalize_xof();
    let mut words = std::iter::repeat_with(move || {
        let mut word = [0; 8];
        stream.fill(&mut word);
        u64::from_be_bytes(word) >> (64 - KEY_BITS)
    });
    words.by_ref().filter(|word| *word < Q).take(RING).collect()
}

/// Values in orbit order under `X -> X^5`.
pub(super) fn turned(values: &Poly) -> Poly {
    let mut turned = *values;
    for half in turned.chunks_exact_mut(HALF) {
        half.rotate_left(1);
    }
    turned
}

/// Values in orbit order under `X -> X^-1`.
pub(super) fn turned_about(values: &Poly) -> Poly {
    let mut turned = *values;
    turned.rotate_left(HALF);
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_depend_on_the_seed_and_on_their_place() {
        let shape = Shape::new(4096, 1).unwrap();
        let one = Public::expand(&[1; 32], shape);
        let other = Public::expand(&[2; 32], shape);
        assert_eq!((one.groups.len(), one.groups[0].len()), (2, RING));
        assert_ne!(one.groups[0], one.groups[1]);
        assert_ne!(one.groups[0], other.groups[0]);
        assert_eq!(one.groups, Public::expand(&[1; 32], shape).groups);
        let keys: Vec<&Vec<u64>> = one.keys.iter().flatten().collect();
        assert!(keys.iter().all(|key| key.len() == RING && key.iter().all(|word| *word < Q)));
        assert_ne!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
    }
}
