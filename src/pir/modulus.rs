//! Arithmetic modulo the packing modulus, a prime just below 2^50.

use super::parameters::Q;

/// 2^50 = `FOLD` modulo `Q`.
pub(super) const FOLD: u64 = (1 << 50) - Q;

const LOW_50: u64 = (1 << 50) - 1;
const LOW_52: u64 = (1 << 52) - 1;

/// A primitive 4096th root of unity: 11^((Q - 1) / 4096).
pub(super) const ROOT: u64 = power(11, (Q - 1) / 4096);

/// `a * b mod Q`.
#[expect(clippy::cast_possible_truncation, reason = "a remainder modulo Q")]
pub(super) const fn multiply(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) % Q as u128) as u64
}

/// `base^exponent mod Q`.
pub(super) const fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut product = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = multiply(product, base);
        }
        base = multiply(base, base);
        exponent >>= 1;
    }
    product
}

/// The inverse of a unit.
pub(super) const fn inverse(a: u64) -> u64 {
    power(a, Q - 2)
}

/// `a - b mod Q` of residues.
#[inline]
pub(super) const fn subtract(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    if a < b { difference.wrapping_add(Q) } else { difference }
}

/// `a + b mod Q` of residues.
#[inline]
pub(super) const fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= Q { sum - Q } else { sum }
}

/// What a product by `w` takes off: `floor(w * 2^52 / Q)`, after Shoup.
#[expect(clippy::cast_possible_truncation, reason = "w is below Q, the quotient below 2^52")]
pub(super) const fn quotient(w: u64) -> u64 {
    (((w as u128) << 52) / Q as u128) as u64
}

/// `x * w` modulo Q, below 2Q, for any x below 2^52 and `quotient(w)`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "taken modulo 2^64, as the difference is small"
)]
pub(super) const fn multiply_lazy(x: u64, w: u64, quotient: u64) -> u64 {
    let off = ((x as u128 * quotient as u128) >> 52) as u64;
    x.wrapping_mul(w).wrapping_sub(off.wrapping_mul(Q))
}

/// `high * 2^52 + low` modulo Q, of sums of at most 4096 products.
#[inline(always)]
pub(super) const fn reduce(low: u64, high: u64) -> u64 {
    let high = high + (low >> 52);
    let low = low & LOW_52;
    // 2^52 = 4 * FOLD, 16 bits; high has at most 62.
    let upper = (high >> 32) * (4 * FOLD);
    let lower = (high & 0xffff_ffff) * (4 * FOLD);
    // upper * 2^32 = (upper >> 18) * 2^50 + the rest.
    let folded = (upper >> 18) * FOLD + ((upper & 0x3_ffff) << 32);
    let sum = low + lower + folded;
    let sum = (sum & LOW_50) + (sum >> 50) * FOLD;
    if sum >= Q { sum - Q } else { sum }
}

/// A signed number of less than Q in size as a residue.
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "the negative are lifted by Q")]
pub(super) const fn of_signed(x: i64) -> u64 {
    (x as u64).wrapping_add(Q & ((x >> 63) as u64))
}

/// The residue as the signed number nearest to 0.
#[inline(always)]
#[expect(clippy::cast_possible_wrap, reason = "residues have 50 bits")]
pub(super) const fn to_signed(x: u64) -> i64 {
    if x > Q / 2 { x as i64 - Q as i64 } else { x as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_primitive() {
        assert_eq!(Q % 4096, 1);
        assert_eq!(power(ROOT, 2048), Q - 1);
        assert_eq!(multiply(inverse(ROOT), ROOT), 1);
    }

    #[test]
    fn lazy_products_and_sums_reduce() {
        let mut x = 1;
        for i in 0..10_000_u64 {
            x = multiply(x, 0x1234_5678_9abc) + i % 2;
            let (low, high) = (u64::MAX - x, (4096 << 48) - i);
            let wide = (u128::from(high) << 52) + u128::from(low);
            assert_eq!(u128::from(reduce(low, high)), wide % u128::from(Q));
            let w = Q - 1 - x / 3;
            let lazy = multiply_lazy((1 << 52) - 1 - x, w, quotient(w));
            assert!(lazy < 2 * Q);
            assert_eq!(lazy % Q, multiply(((1 << 52) - 1 - x) % Q, w));
            assert_eq!(of_signed(to_signed(x % Q)), x % Q);
        }
        assert_eq!(reduce(0, 0), 0);
        assert_eq!(of_signed(-1), Q - 1);
        assert_eq!((add(Q - 1, 1), subtract(0, 1)), (0, Q - 1));
    }
}
