//! Plain Rust: what the other kernels must equal.

use super::{
    super::{
        modulus::{multiply_lazy, of_signed, reduce as reduced, subtract, to_signed},
        ntt::{HALF, Poly, Tables},
        parameters::{DIGIT_BITS, DIGITS, Q, RING},
    },
    CHUNK, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, Samples, TILE, Turning,
};

const LOW_52: u64 = (1 << 52) - 1;

/// `x mod Q` for x below 4Q.
#[inline(always)]
fn settle(x: u64) -> u64 {
    let x = if x >= 2 * Q { x - 2 * Q } else { x };
    if x >= Q { x - Q } else { x }
}

/// Harvey's butterfly: below 4Q in, below 4Q out.
#[inline(always)]
fn forth(x: &mut u64, y: &mut u64, w: u64, quotient: u64) {
    let a = if *x >= 2 * Q { *x - 2 * Q } else { *x };
    let b = multiply_lazy(*y, w, quotient);
    *x = a + b;
    *y = a + 2 * Q - b;
}

/// Its inverse but for a factor of 2: below 2Q in, below 2Q out.
#[inline(always)]
fn back(x: &mut u64, y: &mut u64, w: u64, quotient: u64) {
    let sum = *x + *y;
    let difference = *x + 2 * Q - *y;
    *x = if sum >= 2 * Q { sum - 2 * Q } else { sum };
    *y = multiply_lazy(difference, w, quotient);
}

type Butterfly = fn(&mut u64, &mut u64, u64, u64);

/// One level: pairs at a distance, each group with its own factor.
#[inline(always)]
fn level(x: &mut [u64], distance: usize, factors: impl Iterator<Item = (u64, u64)>, f: Butterfly) {
    for (group, (w, quotient)) in x.chunks_exact_mut(2 * distance).zip(factors) {
        let (left, right) = group.split_at_mut(distance);
        for (x, y) in left.iter_mut().zip(right) {
            f(x, y, w, quotient);
        }
    }
}

fn wide(factors: &super::super::ntt::Factors, groups: usize) -> impl Iterator<Item = (u64, u64)> {
    factors.factor.iter().copied().zip(factors.quotient.iter().copied()).skip(groups).take(groups)
}

/// 64 neighbours: 8 rows of 8 become 8 columns.
fn transpose(x: &mut [u64; 64]) {
    let old = *x;
    for (i, x) in x.iter_mut().enumerate() {
        *x = old.get(i % 8 * 8 + i / 8).copied().unwrap_or(0);
    }
}

/// The pairs of rows of the last three levels, by the factor that they use.
const PAIRS: [(usize, usize, usize); 12] = [
    (0, 4, 0),
    (1, 5, 0),
    (2, 6, 0),
    (3, 7, 0),
    (0, 2, 1),
    (1, 3, 1),
    (4, 6, 2),
    (5, 7, 2),
    (0, 1, 3),
    (2, 3, 4),
    (4, 5, 5),
    (6, 7, 6),
];

fn pair(x: &mut [u64; 64], at: (usize, usize, usize), w: &[u64], quotients: &[u64], f: Butterfly) {
    let (upper, lower, factor) = at;
    for column in 0..8 {
        let (i, j, k) = (upper * 8 + column, lower * 8 + column, factor * 8 + column);
        if let (Ok([x, y]), Some(w), Some(q)) =
            (x.get_disjoint_mut([i, j]), w.get(k), quotients.get(k))
        {
            f(x, y, *w, *q);
        }
    }
}

pub(super) fn forward(tables: &Tables, x: &mut Poly) {
    let factors = &tables.forward;
    let mut groups = 1;
    while groups < RING / 8 {
        level(x, HALF / groups, wide(&factors.wide, groups), forth);
        groups *= 2;
    }
    let narrow =
        factors.narrow.factor.chunks_exact(56).zip(factors.narrow.quotient.chunks_exact(56));
    for (x, (w, quotients)) in x.as_chunks_mut::<64>().0.iter_mut().zip(narrow) {
        transpose(x);
        for at in PAIRS {
            pair(x, at, w, quotients, forth);
        }
        for x in x {
            *x = settle(*x);
        }
    }
}

pub(super) fn backward(tables: &Tables, x: &mut Poly) {
    let factors = &tables.backward;
    let narrow =
        factors.narrow.factor.chunks_exact(56).zip(factors.narrow.quotient.chunks_exact(56));
    for (x, (w, quotients)) in x.as_chunks_mut::<64>().0.iter_mut().zip(narrow) {
        for at in PAIRS.into_iter().rev() {
            pair(x, at, w, quotients, back);
        }
        transpose(x);
    }
    let mut groups = RING / 16;
    while groups > 0 {
        level(x, HALF / groups, wide(&factors.wide, groups), back);
        groups /= 2;
    }
    for x in x {
        *x = settle(multiply_lazy(*x, tables.scale, tables.scale_quotient));
    }
}

pub(super) fn gather(to: &mut Poly, from: &Poly, index: &[u32]) {
    for (to, index) in to.iter_mut().zip(index) {
        *to = from.get(*index as usize).copied().unwrap_or(from[0]);
    }
}

pub(super) fn scan<const N: usize>(
    tile: &[u8],
    samples: &[&Samples; N],
    sums: &mut [[u32; TILE]; N],
) {
    for (sums, samples) in sums.iter_mut().zip(samples) {
        *sums = [0; TILE];
        for (quad, rows) in tile.chunks_exact(TILE * QUAD).zip(samples.words.chunks_exact(QUAD)) {
            for (sum, bytes) in sums.iter_mut().zip(quad.chunks_exact(QUAD)) {
                for (byte, sample) in bytes.iter().zip(rows) {
                    *sum = sum.wrapping_add(u32::from(*byte).wrapping_mul(*sample));
                }
            }
        }
    }
}

pub(super) fn pack<const N: usize>(digits: &[u64], keys: &[&Turning; N], sums: &mut [Poly; N]) {
    for (sums, key) in sums.iter_mut().zip(keys) {
        *sums = [0; RING];
        if digits.len() != PACKED_VALUES {
            return;
        }
        let (plus, minus) = sums.split_at_mut(HALF);
        let chunks = digits.chunks_exact(STEPS * STEP_VALUES);
        let places = plus.chunks_exact_mut(CHUNK).zip(minus.chunks_exact_mut(CHUNK));
        for (chunk, (digits, (plus, minus))) in chunks.zip(places).enumerate() {
            let mut low = [[0_u64; CHUNK]; 2];
            let mut high = [[0_u64; CHUNK]; 2];
            for (step, digits) in digits.chunks_exact(STEP_VALUES).enumerate() {
                let turned = |i: usize, half: usize| {
                    key.halves
                        .get(i)
                        .and_then(|halves| halves.get(half))
                        .and_then(|half| half.get(chunk * CHUNK + step..))
                        .unwrap_or_default()
                };
                for (at, x) in digits.chunks_exact(CHUNK).enumerate() {
                    let (digit, chain, half) = (at / 4, at / 2 % 2, at % 2);
                    let (Some(low), Some(high)) = (low.get_mut(half), high.get_mut(half)) else {
                        continue;
                    };
                    // The second chain is turned about, too: its halves swap.
                    let key = turned(digit, chain ^ half);
                    for (((low, high), x), key) in low.iter_mut().zip(high).zip(x).zip(key) {
                        let product = u128::from(*x) * u128::from(*key);
                        *low += halves_of(product).0;
                        *high += halves_of(product).1;
                    }
                }
            }
            for (to, (low, high)) in [plus, minus].into_iter().zip(low.iter().zip(&high)) {
                for (to, (low, high)) in to.iter_mut().zip(low.iter().zip(high)) {
                    *to = reduced(*low, *high);
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a product of 104 bits, in two halves")]
const fn halves_of(product: u128) -> (u64, u64) {
    (product as u64 & LOW_52, (product >> 52) as u64)
}

pub(super) fn accumulate(low: &mut Poly, high: &mut Poly, x: &Poly, factors: &Poly) {
    for (((low, high), x), factor) in low.iter_mut().zip(high).zip(x).zip(factors) {
        let product = halves_of(u128::from(*x) * u128::from(*factor));
        *low += product.0;
        *high += product.1;
    }
}

#[inline(always)]
pub(super) fn reduce(to: &mut Poly, low: &Poly, high: &Poly) {
    for ((to, low), high) in to.iter_mut().zip(low).zip(high) {
        *to = reduced(*low, *high);
    }
}

pub(super) fn subtract_products(sums: &mut [u64], x: &[u64], factors: &[u64], quotients: &[u64]) {
    for (((sum, x), factor), quotient) in sums.iter_mut().zip(x).zip(factors).zip(quotients) {
        *sum = subtract(*sum, settle(multiply_lazy(*x, *factor, *quotient)));
    }
}

#[inline(always)]
pub(super) fn lift(to: &mut Poly, samples: &[u32]) {
    for (to, sample) in to.iter_mut().zip(samples) {
        let sample = u64::from(*sample);
        // sample * Q / 2^32, rounded; at most Q, which is 0.
        let lifted = (sample << 18) - ((sample * super::super::modulus::FOLD + (1 << 31)) >> 32);
        *to = if lifted >= Q { lifted - Q } else { lifted };
    }
}

#[inline(always)]
pub(super) fn cut(x: &Poly, digits: &mut [Box<Poly>; DIGITS]) {
    const HALF_DIGIT: i64 = 1 << (DIGIT_BITS - 1);
    const MASK: i64 = (1 << DIGIT_BITS) - 1;
    let [lower, upper] = digits;
    for ((x, lower), upper) in x.iter().zip(lower.iter_mut()).zip(upper.iter_mut()) {
        let x = to_signed(*x);
        let low = ((x + HALF_DIGIT) & MASK) - HALF_DIGIT;
        *lower = of_signed(low);
        *upper = of_signed((x - low) >> DIGIT_BITS);
    }
}

#[inline(always)]
pub(super) fn centre(to: &mut Poly, bytes: &[u8]) {
    for (to, byte) in to.iter_mut().zip(bytes) {
        *to = of_signed(i64::from(*byte) - 128);
    }
}

pub(super) fn columns(lines: &[Poly], square: &mut [u64], step: usize) {
    for (k, line) in lines.iter().enumerate() {
        let places = square.iter_mut().skip(8 * step + k).step_by(RING);
        for (to, value) in places.zip(line) {
            *to = *value;
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; 32];
    for line in bytes.as_chunks::<256>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}
