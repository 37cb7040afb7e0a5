//! AVX2 with FMA: the scan, the packing, the transform and what moves values. The
//! rest is plain Rust, compiled with these instructions.

mod transform;

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_mul_epu32, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_slli_epi64,
    _mm256_srli_epi16, _mm256_srli_epi64, _mm256_storeu_si256, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi64,
};

use super::{
    super::{
        modulus,
        ntt::{HALF, LANES as EIGHT, Poly, Tables},
        parameters::{DIGITS, RING},
    },
    CHUNK, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, Samples, TILE, Turning, WIDTH,
    ahead::ahead,
    diagonal_place, scalar,
};

pub(super) use scalar::read;

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Columns in one register.
const LANES: usize = 8;

/// Registers of columns that one pass sums.
const TOGETHER: usize = 4;

/// Rows, in fours, that are scanned for all columns and queries before the next,
/// whose bytes are asked for meanwhile: they stay in the nearest cache.
const RUN: usize = 64;

/// Steps that are packed for all queries before the next.
const STEPS_RUN: usize = 32;

/// Bits of the halves that values are multiplied in.
const SPLIT: i32 = 25;

// SAFETY of every call below: a kernel of this way exists only where
// `is_available` said yes.

pub(super) fn scan<const N: usize>(
    tile: &[u8],
    samples: &[&Samples; N],
    sums: &mut [[u32; TILE]; N],
) {
    *sums = [[0; TILE]; N];
    for (run, bytes) in tile.chunks(RUN * TILE * QUAD).enumerate() {
        let halves = samples.map(|samples| samples.halves.get(run * RUN..).unwrap_or_default());
        let mut queries = halves.iter().zip(sums.iter_mut());
        // The first reads what the others find in the cache.
        if let Some((halves, sums)) = queries.next() {
            // SAFETY: see above.
            unsafe { scan_run::<true>(bytes, halves, sums) }
        }
        for (halves, sums) in queries {
            // SAFETY: see above.
            unsafe { scan_run::<false>(bytes, halves, sums) }
        }
    }
}

/// Adds what rows side by side give, by the lower and the upper halves of their
/// samples, which count as signed: modulo 2^32 that is the same.
#[target_feature(enable = "avx2")]
fn scan_run<const FIRST: bool>(bytes: &[u8], halves: &[[u32; 4]], sums: &mut [u32; TILE]) {
    let even = _mm256_set1_epi32(0x00ff_00ff);
    for (part, sums) in sums.as_chunks_mut::<{ TOGETHER * LANES }>().0.iter_mut().enumerate() {
        let mut totals = [[_mm256_setzero_si256(); 2]; TOGETHER];
        let quads = bytes.as_chunks::<{ TILE * QUAD }>().0;
        for (row, (quad, halves)) in quads.iter().zip(halves).enumerate() {
            if FIRST {
                // Of the next run, in order.
                let next = (part * quads.len() + row) * TOGETHER * 32;
                ahead::<false, _>(bytes, bytes.len() + next);
                ahead::<false, _>(bytes, bytes.len() + next + 64);
            }
            let [lower_even, lower_odd, upper_even, upper_odd] =
                halves.map(|pair| _mm256_set1_epi32(pair.cast_signed()));
            let bytes = quad.as_chunks::<32>().0.iter().skip(part * TOGETHER);
            for ([lower, upper], bytes) in totals.iter_mut().zip(bytes) {
                let bytes = load(bytes);
                // Rows 0 and 2, and rows 1 and 3.
                let (x, y) = (_mm256_and_si256(bytes, even), _mm256_srli_epi16::<8>(bytes));
                let sum = _mm256_add_epi32(*lower, _mm256_madd_epi16(x, lower_even));
                *lower = _mm256_add_epi32(sum, _mm256_madd_epi16(y, lower_odd));
                let sum = _mm256_add_epi32(*upper, _mm256_madd_epi16(x, upper_even));
                *upper = _mm256_add_epi32(sum, _mm256_madd_epi16(y, upper_odd));
            }
        }
        for ([lower, upper], sums) in totals.iter().zip(sums.as_chunks_mut::<LANES>().0) {
            let sum = _mm256_add_epi32(*lower, _mm256_slli_epi32::<16>(*upper));
            // SAFETY: eight words are read and written where eight are.
            unsafe {
                let old = _mm256_loadu_si256(sums.as_ptr().cast());
                _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_add_epi32(old, sum));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are read where 32 are.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_values(values: &[u64; 4]) -> __m256i {
    // SAFETY: four words are read where four are.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_values(to: &mut [u64; 4], values: __m256i) {
    // SAFETY: four words are written where four are.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), values) }
}

pub(super) fn forward(_: &Tables, x: &mut Poly) {
    // SAFETY: see above.
    unsafe { transform::forward(x) }
}

pub(super) fn backward(_: &Tables, scale: (u64, u64), x: &mut Poly) {
    // SAFETY: see above.
    unsafe { transform::backward(scale, x) }
}

pub(super) fn accumulate(low: &mut Poly, high: &mut Poly, x: &Poly, factors: &Poly) {
    // SAFETY: see above.
    unsafe { accumulate_wide(low, high, x, factors) }
}

pub(super) fn subtract_products(sums: &mut [u64], x: &[u64], factors: &[u64], _: &[u64]) {
    // SAFETY: see above.
    unsafe { transform::subtract_products(sums, x, factors) }
}

pub(super) fn columns(lines: &[Poly], square: &mut [u64], place: usize) {
    // SAFETY: see above.
    unsafe { columns_wide(lines, square, place) }
}

pub(super) fn diagonals(square: &[u64], first: usize, to: &mut [Vec<Poly>; 2]) {
    // SAFETY: see above.
    unsafe { diagonals_wide(square, first, to) }
}

pub(super) fn reduce(to: &mut Poly, low: &Poly, high: &Poly) {
    #[target_feature(enable = "avx2")]
    fn wide(to: &mut Poly, low: &Poly, high: &Poly) {
        scalar::reduce(to, low, high);
    }
    // SAFETY: see above.
    unsafe { wide(to, low, high) }
}

pub(super) fn lift(to: &mut Poly, samples: &[u32]) {
    #[target_feature(enable = "avx2")]
    fn wide(to: &mut Poly, samples: &[u32]) {
        scalar::lift(to, samples);
    }
    // SAFETY: see above.
    unsafe { wide(to, samples) }
}

pub(super) fn cut(x: &Poly, digits: &mut [Box<Poly>; DIGITS]) {
    #[target_feature(enable = "avx2")]
    fn wide(x: &Poly, digits: &mut [Box<Poly>; DIGITS]) {
        scalar::cut(x, digits);
    }
    // SAFETY: see above.
    unsafe { wide(x, digits) }
}

pub(super) fn centre(to: &mut Poly, bytes: &[u8]) {
    #[target_feature(enable = "avx2")]
    fn wide(to: &mut Poly, bytes: &[u8]) {
        scalar::centre(to, bytes);
    }
    // SAFETY: see above.
    unsafe { wide(to, bytes) }
}

pub(super) fn spread(values: &Poly, digits: &mut [u64], place: usize) {
    #[target_feature(enable = "avx2")]
    fn wide(values: &Poly, digits: &mut [u64], place: usize) {
        scalar::spread(values, digits, place);
    }
    // SAFETY: see above.
    unsafe { wide(values, digits, place) }
}

/// Halves of 25 bits, and what is above the lowest two of the upper product.
#[target_feature(enable = "avx2")]
fn accumulate_wide(low: &mut Poly, high: &mut Poly, x: &Poly, factors: &Poly) {
    let lowest = _mm256_set1_epi64x((1 << SPLIT) - 1);
    let middle = _mm256_set1_epi64x((1 << (52 - SPLIT)) - 1);
    let lowest_two = _mm256_set1_epi64x(3);
    let sums = low.as_chunks_mut::<4>().0.iter_mut().zip(high.as_chunks_mut::<4>().0);
    let terms = x.as_chunks::<4>().0.iter().zip(factors.as_chunks::<4>().0);
    for ((low, high), (x, factor)) in sums.zip(terms) {
        let mut parts = [_mm256_setzero_si256(); 3];
        multiply(&mut parts, load_values(x), load_values(factor), lowest);
        let [a, b, c] = parts;
        let below = _mm256_slli_epi64::<SPLIT>(_mm256_and_si256(b, middle));
        let between = _mm256_slli_epi64::<{ 2 * SPLIT }>(_mm256_and_si256(c, lowest_two));
        let sum = _mm256_add_epi64(load_values(low), _mm256_add_epi64(a, below));
        store_values(low, _mm256_add_epi64(sum, between));
        let above = _mm256_srli_epi64::<{ 52 - SPLIT }>(b);
        let sum = _mm256_add_epi64(load_values(high), _mm256_srli_epi64::<2>(c));
        store_values(high, _mm256_add_epi64(sum, above));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab0, ab1) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (cd0, cd1) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab0, cd0),
        _mm256_permute2x128_si256::<0x20>(ab1, cd1),
        _mm256_permute2x128_si256::<0x31>(ab0, cd0),
        _mm256_permute2x128_si256::<0x31>(ab1, cd1),
    ]
}

#[target_feature(enable = "avx2")]
fn columns_wide(lines: &[Poly], square: &mut [u64], place: usize) {
    for (at, rows) in square.chunks_exact_mut(4 * WIDTH).enumerate() {
        let mut columns = [_mm256_setzero_si256(); EIGHT];
        for (column, line) in columns.iter_mut().zip(lines) {
            if let Some(values) = line.as_chunks().0.get(at) {
                *column = load_values(values);
            }
        }
        let [left, right] = columns.as_chunks().0 else { return };
        let values = transpose(*left).into_iter().zip(transpose(*right));
        for (row, (left, right)) in rows.chunks_exact_mut(WIDTH).zip(values) {
            let to = row.get_mut(place..place + EIGHT).unwrap_or_default();
            if let [one, other] = to.as_chunks_mut().0 {
                store_values(one, left);
                store_values(other, right);
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn diagonals_wide(square: &[u64], first: usize, to: &mut [Vec<Poly>; 2]) {
    for (at, rows) in square.chunks_exact(4 * WIDTH).enumerate() {
        let (half, p) = (at * 4 / HALF, at * 4 % HALF);
        for (chain, images) in to.iter_mut().enumerate() {
            for (place, images) in images.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let mut block = [_mm256_setzero_si256(); 4];
                for ((row, values), p) in rows.chunks_exact(WIDTH).zip(&mut block).zip(p..) {
                    let from = diagonal_place(half ^ chain, p, first) + 4 * place;
                    if let Some(from) = row.get(from..).and_then(<[u64]>::first_chunk) {
                        *values = load_values(from);
                    }
                }
                for (values, image) in transpose(block).into_iter().zip(images) {
                    if let Some(to) = image.as_chunks_mut().0.get_mut(at) {
                        store_values(to, values);
                    }
                }
            }
        }
    }
}

/// Sums of products in three parts, of weight 1, 2^25 and 2^50.
type Parts = [__m256i; 3];

/// By half, by four values.
type Totals = [[Parts; 2]; 2];

pub(super) fn pack<const N: usize>(digits: &[u64], keys: &[&Turning; N], sums: &mut [Poly; N]) {
    *sums = [[0; RING]; N];
    if digits.len() == PACKED_VALUES {
        // SAFETY: see above.
        unsafe { pack_together(digits, keys, sums) }
    }
}

#[target_feature(enable = "avx2")]
fn pack_together<const N: usize>(digits: &[u64], keys: &[&Turning; N], sums: &mut [Poly; N]) {
    for (chunk, digits) in digits.chunks_exact(STEPS * STEP_VALUES).enumerate() {
        let mut totals: [Totals; N] = [[[[_mm256_setzero_si256(); 3]; 2]; 2]; N];
        for (run, digits) in digits.chunks(STEPS_RUN * STEP_VALUES).enumerate() {
            let place = chunk * CHUNK + run * STEPS_RUN;
            let mut queries = keys.iter().zip(totals.iter_mut());
            if let Some((key, totals)) = queries.next() {
                pack_run::<true>(digits, key, place, totals);
            }
            for (key, totals) in queries {
                pack_run::<false>(digits, key, place, totals);
            }
        }
        for (sums, totals) in sums.iter_mut().zip(&totals) {
            for (half, totals) in sums.chunks_exact_mut(HALF).zip(totals) {
                let places = half.as_chunks_mut::<4>().0.iter_mut().skip(chunk * CHUNK / 4);
                for (to, total) in places.zip(totals) {
                    *to = joined(total);
                }
            }
        }
    }
}

/// What each step takes of a half.
#[inline(always)]
fn turns(half: &[u64]) -> impl Iterator<Item = &[u64; CHUNK]> {
    half.windows(CHUNK).filter_map(<[u64]>::first_chunk)
}

/// Some steps, of which the first takes the key's values from `place` on.
#[target_feature(enable = "avx2")]
fn pack_run<const FIRST: bool>(digits: &[u64], key: &Turning, place: usize, totals: &mut Totals) {
    let low = _mm256_set1_epi64x((1 << SPLIT) - 1);
    for (half, totals) in totals.iter_mut().enumerate() {
        let mut sums = *totals;
        for (digit, [plus, minus]) in key.halves().iter().enumerate() {
            let (Some(plus), Some(minus)) = (plus.get(place..), minus.get(place..)) else { return };
            // The second chain is turned about, too: its halves swap.
            let (one, other) = if half == 0 { (plus, minus) } else { (minus, plus) };
            let steps = digits.as_chunks::<STEP_VALUES>().0;
            let keys = turns(one).zip(turns(other));
            for (step, (values, (one, other))) in steps.iter().zip(keys).enumerate() {
                if FIRST {
                    // Of the next run, in order.
                    let next = ((half * DIGITS + digit) * steps.len() + step) * 2 * CHUNK * 8;
                    ahead::<false, _>(digits, size_of_val(digits) + next);
                    ahead::<false, _>(digits, size_of_val(digits) + next + CHUNK * 8);
                }
                let x = values.as_chunks::<CHUNK>().0.iter().skip(4 * digit + half).step_by(2);
                for (x, key) in x.zip([one, other]) {
                    let values = x.as_chunks::<4>().0.iter().zip(key.as_chunks::<4>().0);
                    for (sum, (x, key)) in sums.iter_mut().zip(values) {
                        multiply(sum, load_values(x), load_values(key), low);
                    }
                }
            }
        }
        *totals = sums;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn multiply(total: &mut Parts, x: __m256i, y: __m256i, low: __m256i) {
    let (x0, x1) = (_mm256_and_si256(x, low), _mm256_srli_epi64::<SPLIT>(x));
    let (y0, y1) = (_mm256_and_si256(y, low), _mm256_srli_epi64::<SPLIT>(y));
    let [a, b, c] = total;
    *a = _mm256_add_epi64(*a, _mm256_mul_epu32(x0, y0));
    *b = _mm256_add_epi64(*b, _mm256_mul_epu32(x0, y1));
    *b = _mm256_add_epi64(*b, _mm256_mul_epu32(x1, y0));
    *c = _mm256_add_epi64(*c, _mm256_mul_epu32(x1, y1));
}

#[target_feature(enable = "avx2")]
fn joined(total: &Parts) -> [u64; 4] {
    let [a, b, c] = total.map(|part| {
        let mut words = [0; 4];
        store_values(&mut words, part);
        words
    });
    let mut words = [0; 4];
    for (((word, a), b), c) in words.iter_mut().zip(a).zip(b).zip(c) {
        let sum = u128::from(a) + (u128::from(b) << SPLIT) + (u128::from(c) << (2 * SPLIT));
        #[expect(clippy::cast_possible_truncation, reason = "the low 52 bits, and at most 64 more")]
        let (low, high) = (sum as u64 & ((1 << 52) - 1), (sum >> 52) as u64);
        *word = modulus::reduce(low, high);
    }
    words
}
