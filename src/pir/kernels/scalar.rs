//! Plain Rust: what the other kernels must equal.

use super::{
    super::{
        modulus::{multiply_lazy, of_signed, reduce as reduced, subtract, to_signed},
        ntt::{Direction, Factors, HALF, Poly, Tables},
        parameters::{DIGIT_BITS, DIGITS, Q, RING},
    },
    CHUNK, LANES, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, Samples, TILE, Turning, WIDTH,
    diagonal_place,
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

/// One level of one half: parts each remainder in two.
#[inline(always)]
fn part(from: &[u64], to: &mut [u64], remainders: usize, factors: &Factors) {
    let (left, right) = from.split_at(from.len() / 2);
    let pairs = left.chunks_exact(remainders).zip(right.chunks_exact(remainders));
    for ((left, right), to) in pairs.zip(to.chunks_exact_mut(2 * remainders)) {
        let (one, other) = to.split_at_mut(remainders);
        let constants = factors.factor.iter().zip(&factors.quotient);
        let to = one.iter_mut().zip(other);
        for (((x, y), (w, quotient)), (one, other)) in left.iter().zip(right).zip(constants).zip(to)
        {
            (*one, *other) = (*x, *y);
            forth(one, other, *w, *quotient);
        }
    }
}

/// Joins what [`part`] parted, but for a factor of 2.
#[inline(always)]
fn join(from: &[u64], to: &mut [u64], remainders: usize, factors: &Factors) {
    let (left, right) = to.split_at_mut(from.len() / 2);
    let pairs = left.chunks_exact_mut(remainders).zip(right.chunks_exact_mut(remainders));
    for ((left, right), from) in pairs.zip(from.chunks_exact(2 * remainders)) {
        let (one, other) = from.split_at(remainders);
        let constants = factors.factor.iter().zip(&factors.quotient);
        let to = left.iter_mut().zip(right);
        for (((one, other), (w, quotient)), (x, y)) in one.iter().zip(other).zip(constants).zip(to)
        {
            (*x, *y) = (*one, *other);
            back(x, y, *w, *quotient);
        }
    }
}

pub(super) fn forward(tables: &Tables, x: &mut Poly) {
    let Direction { first: (w, quotient), levels } = &tables.forward;
    let (plus, minus) = x.split_at_mut(HALF);
    for (x, y) in plus.iter_mut().zip(minus) {
        forth(x, y, *w, *quotient);
    }
    let mut work = [0; HALF];
    for (half, levels) in x.chunks_exact_mut(HALF).zip(levels) {
        for (level, factors) in levels.iter().enumerate() {
            part(half, &mut work, 1 << level, factors);
            half.copy_from_slice(&work);
        }
        for x in half {
            *x = settle(*x);
        }
    }
}

pub(super) fn backward(tables: &Tables, scale: (u64, u64), x: &mut Poly) {
    let Direction { first: (w, quotient), levels } = &tables.backward;
    let mut work = [0; HALF];
    for (half, levels) in x.chunks_exact_mut(HALF).zip(levels) {
        for (level, factors) in levels.iter().enumerate().rev() {
            join(half, &mut work, 1 << level, factors);
            half.copy_from_slice(&work);
        }
    }
    let (plus, minus) = x.split_at_mut(HALF);
    for (x, y) in plus.iter_mut().zip(minus) {
        back(x, y, *w, *quotient);
    }
    let (w, quotient) = scale;
    for x in x {
        *x = settle(multiply_lazy(*x, w, quotient));
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
            continue;
        }
        let halves = key.halves();
        let (plus, minus) = sums.split_at_mut(HALF);
        let chunks = digits.chunks_exact(STEPS * STEP_VALUES);
        let places = plus.chunks_exact_mut(CHUNK).zip(minus.chunks_exact_mut(CHUNK));
        for (chunk, (digits, (plus, minus))) in chunks.zip(places).enumerate() {
            let mut low = [[0_u64; CHUNK]; 2];
            let mut high = [[0_u64; CHUNK]; 2];
            for (step, digits) in digits.chunks_exact(STEP_VALUES).enumerate() {
                let turned = |i: usize, half: usize| {
                    halves
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

pub(super) fn columns(lines: &[Poly], square: &mut [u64], place: usize) {
    for (k, line) in lines.iter().take(LANES).enumerate() {
        let places = square.iter_mut().skip(place + k).step_by(WIDTH);
        for (to, value) in places.zip(line) {
            *to = *value;
        }
    }
}

pub(super) fn diagonals(square: &[u64], first: usize, to: &mut [Vec<Poly>; 2]) {
    for (row, from) in square.chunks_exact(WIDTH).enumerate() {
        let (half, p) = (row / HALF, row % HALF);
        for (chain, images) in to.iter_mut().enumerate() {
            let from = from.get(diagonal_place(half ^ chain, p, first)..).unwrap_or_default();
            for (image, value) in images.iter_mut().zip(from) {
                if let Some(to) = image.get_mut(row) {
                    *to = *value;
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn spread(values: &Poly, digits: &mut [u64], place: usize) {
    let (plus, minus) = values.split_at(HALF);
    let values = plus.as_chunks::<CHUNK>().0.iter().zip(minus.as_chunks::<CHUNK>().0);
    let places = digits.get_mut(place..).unwrap_or_default().chunks_mut(STEPS * STEP_VALUES);
    for (to, (plus, minus)) in places.zip(values) {
        if let Some([one, other]) = to.as_chunks_mut::<CHUNK>().0.first_chunk_mut() {
            (*one, *other) = (*plus, *minus);
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
