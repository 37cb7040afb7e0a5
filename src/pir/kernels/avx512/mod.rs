//! AVX-512: IFMA for the products of 52 bits, VNNI for those of bytes.

mod transform;

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_epi64, _mm512_and_si512, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_min_epu64,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_i64x2,
    _mm512_slli_epi32, _mm512_storeu_si512, _mm512_sub_epi64, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64,
};

use super::{
    super::{
        modulus,
        ntt::{HALF, LANES, Poly, Tables},
        parameters::{DIGITS, Q, RING},
    },
    CHUNK, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, Samples, TILE, Turning, WIDTH,
    ahead::{AHEAD, ahead},
    diagonal_place, scalar,
};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512vnni")
}

/// Columns in one register.
const COLUMNS: usize = 16;

/// Rows, in fours, that are scanned for all columns before the next, whose bytes are
/// asked for meanwhile.
const RUN: usize = 64;

/// How far ahead of what it reads the packing of several queries asks for more.
const PACK_AHEAD: usize = 16384;

// SAFETY of every call below: a kernel of this way exists only where
// `is_available` said yes.

pub(super) fn forward(tables: &Tables, x: &mut Poly) {
    // SAFETY: see above.
    unsafe { transform::forward(&tables.forward, x) }
}

pub(super) fn backward(tables: &Tables, scale: (u64, u64), x: &mut Poly) {
    // SAFETY: see above.
    unsafe { transform::backward(&tables.backward, scale, x) }
}

pub(super) fn scan<const N: usize>(
    tile: &[u8],
    samples: &[&Samples; N],
    sums: &mut [[u32; TILE]; N],
) {
    *sums = [[0; TILE]; N];
    // SAFETY: see above.
    unsafe {
        match N {
            1 => scan_columns::<N, 4>(tile, samples, sums),
            2 => scan_columns::<N, 2>(tile, samples, sums),
            _ => scan_columns::<N, 1>(tile, samples, sums),
        }
    }
}

pub(super) fn pack<const N: usize>(digits: &[u64], keys: &[&Turning; N], sums: &mut [Poly; N]) {
    *sums = [[0; RING]; N];
    if digits.len() == PACKED_VALUES {
        // SAFETY: see above.
        unsafe { pack_wide(digits, keys, sums) }
    }
}

pub(super) fn accumulate(low: &mut Poly, high: &mut Poly, x: &Poly, factors: &Poly) {
    // SAFETY: see above.
    unsafe { accumulate_wide(low, high, x, factors) }
}

pub(super) fn reduce(to: &mut Poly, low: &Poly, high: &Poly) {
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn wide(to: &mut Poly, low: &Poly, high: &Poly) {
        scalar::reduce(to, low, high);
    }
    // SAFETY: see above.
    unsafe { wide(to, low, high) }
}

pub(super) fn subtract_products(sums: &mut [u64], x: &[u64], factors: &[u64], quotients: &[u64]) {
    // SAFETY: see above.
    unsafe { subtract_products_wide(sums, x, factors, quotients) }
}

pub(super) fn lift(to: &mut Poly, samples: &[u32]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn wide(to: &mut Poly, samples: &[u32]) {
        scalar::lift(to, samples);
    }
    // SAFETY: see above.
    unsafe { wide(to, samples) }
}

pub(super) fn cut(x: &Poly, digits: &mut [Box<Poly>; DIGITS]) {
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn wide(x: &Poly, digits: &mut [Box<Poly>; DIGITS]) {
        scalar::cut(x, digits);
    }
    // SAFETY: see above.
    unsafe { wide(x, digits) }
}

pub(super) fn centre(to: &mut Poly, bytes: &[u8]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn wide(to: &mut Poly, bytes: &[u8]) {
        scalar::centre(to, bytes);
    }
    // SAFETY: see above.
    unsafe { wide(to, bytes) }
}

pub(super) fn read(bytes: &[u8]) -> u64 {
    // SAFETY: see above.
    unsafe { read_wide(bytes) }
}

pub(super) fn columns(lines: &[Poly], square: &mut [u64], place: usize) {
    // SAFETY: see above.
    unsafe { columns_wide(lines, square, place) }
}

pub(super) fn diagonals(square: &[u64], first: usize, to: &mut [Vec<Poly>; 2]) {
    // SAFETY: see above.
    unsafe { diagonals_wide(square, first, to) }
}

pub(super) fn spread(values: &Poly, digits: &mut [u64], place: usize) {
    #[target_feature(enable = "avx512f")]
    fn wide(values: &Poly, digits: &mut [u64], place: usize) {
        scalar::spread(values, digits, place);
    }
    // SAFETY: see above.
    unsafe { wide(values, digits, place) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[u64; LANES]) -> __m512i {
    // SAFETY: eight words are read where eight are.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [u64; LANES], values: __m512i) {
    // SAFETY: eight words are written where eight are.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), values) }
}

/// `x` less `limit` where that is not negative: `x` is below twice the limit.
#[inline]
#[target_feature(enable = "avx512f")]
fn at_most(x: __m512i, limit: __m512i) -> __m512i {
    _mm512_min_epu64(x, _mm512_sub_epi64(x, limit))
}

/// Constants in all lanes.
#[derive(Clone, Copy)]
struct Constants {
    q: __m512i,
    twice: __m512i,
    low: __m512i,
    zero: __m512i,
}

impl Constants {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new() -> Self {
        Self {
            q: _mm512_set1_epi64(Q.cast_signed()),
            twice: _mm512_set1_epi64(2 * Q.cast_signed()),
            low: _mm512_set1_epi64((1 << 52) - 1),
            zero: _mm512_setzero_si512(),
        }
    }

    /// `x * w` below 2Q, for x below 2^52.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn multiply(&self, x: __m512i, w: __m512i, quotient: __m512i) -> __m512i {
        let off = _mm512_madd52hi_epu64(self.zero, x, quotient);
        let product = _mm512_madd52lo_epu64(self.zero, x, w);
        let taken = _mm512_madd52lo_epu64(self.zero, off, self.q);
        _mm512_and_si512(_mm512_sub_epi64(product, taken), self.low)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn settle(&self, x: __m512i) -> __m512i {
        at_most(at_most(x, self.twice), self.q)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(x: &[__m512i; 8]) -> [__m512i; 8] {
    let [a, b, c, d, e, f, g, h] = *x;
    let (ab0, ab1) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let (cd0, cd1) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
    let (ef0, ef1) = (_mm512_unpacklo_epi64(e, f), _mm512_unpackhi_epi64(e, f));
    let (gh0, gh1) = (_mm512_unpacklo_epi64(g, h), _mm512_unpackhi_epi64(g, h));
    let even = quarters([ab0, cd0, ef0, gh0]);
    let odd = quarters([ab1, cd1, ef1, gh1]);
    let ([r0, r2, r4, r6], [r1, r3, r5, r7]) = (even, odd);
    [r0, r1, r2, r3, r4, r5, r6, r7]
}

/// Transposes four by four pairs of lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn quarters(x: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b, c, d] = x;
    // Pairs 0 and 2, and pairs 1 and 3, of two.
    let (ab02, ab13) = (_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0xdd>(a, b));
    let (cd02, cd13) = (_mm512_shuffle_i64x2::<0x88>(c, d), _mm512_shuffle_i64x2::<0xdd>(c, d));
    [
        _mm512_shuffle_i64x2::<0x88>(ab02, cd02),
        _mm512_shuffle_i64x2::<0x88>(ab13, cd13),
        _mm512_shuffle_i64x2::<0xdd>(ab02, cd02),
        _mm512_shuffle_i64x2::<0xdd>(ab13, cd13),
    ]
}

/// `Z` registers of columns at a time, for `N` queries.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn scan_columns<const N: usize, const Z: usize>(
    tile: &[u8],
    samples: &[&Samples; N],
    sums: &mut [[u32; TILE]; N],
) {
    let mut limbs = samples.map(|samples| samples.limbs.as_slice());
    for run in tile.chunks(RUN * TILE * QUAD) {
        let rows = run.len() / (TILE * QUAD);
        let now = limbs.map(|limbs| limbs.get(..rows.min(limbs.len())).unwrap_or_default());
        for first in (0..TILE / COLUMNS).step_by(Z) {
            scan_run::<N, Z>(run, now, first, sums);
        }
        limbs = limbs.map(|limbs| limbs.get(rows..).unwrap_or_default());
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn scan_run<const N: usize, const Z: usize>(
    run: &[u8],
    limbs: [&[[u32; 4]]; N],
    first: usize,
    sums: &mut [[u32; TILE]; N],
) {
    let rows =
        limbs.iter().map(|limbs| limbs.len()).min().unwrap_or(0).min(run.len() / (TILE * QUAD));
    if first + Z > TILE / COLUMNS {
        return;
    }
    let mut totals = [[[_mm512_setzero_si512(); Z]; 4]; N];
    for row in 0..rows {
        let mut bytes = [_mm512_setzero_si512(); Z];
        for (z, bytes) in bytes.iter_mut().enumerate() {
            let place = (row * (TILE / COLUMNS) + first + z) * 64;
            // Of the next run, in order.
            let next = (first * rows + row * Z + z) * 64;
            if N == 1 {
                ahead::<true, _>(run, run.len() + next);
            } else {
                ahead::<false, _>(run, run.len() + next);
            }
            // SAFETY: `row` is below the number of whole rows of the run, and
            // `first + z` below the registers of a row.
            *bytes = unsafe { _mm512_loadu_si512(run.as_ptr().add(place).cast()) };
        }
        for (totals, limbs) in totals.iter_mut().zip(&limbs) {
            // SAFETY: `row` is below the length of every query's limbs.
            let limbs = unsafe { limbs.get_unchecked(row) };
            for (totals, limb) in totals.iter_mut().zip(limbs) {
                let limb = _mm512_set1_epi32(limb.cast_signed());
                for (total, bytes) in totals.iter_mut().zip(bytes) {
                    *total = _mm512_dpbusd_epi32(*total, bytes, limb);
                }
            }
        }
    }
    for (totals, sums) in totals.iter().zip(sums) {
        let [one, two, three, four] = totals;
        for z in 0..Z {
            let (Some(a), Some(b), Some(c), Some(d)) =
                (one.get(z), two.get(z), three.get(z), four.get(z))
            else {
                continue;
            };
            let upper = _mm512_add_epi32(*c, _mm512_slli_epi32::<8>(*d));
            let lower = _mm512_add_epi32(*a, _mm512_slli_epi32::<8>(*b));
            let sum = _mm512_add_epi32(lower, _mm512_slli_epi32::<16>(upper));
            if let Some(to) = sums.as_chunks_mut::<COLUMNS>().0.get_mut(first + z) {
                // SAFETY: sixteen words are read and written where sixteen are.
                unsafe {
                    let old = _mm512_loadu_si512(to.as_ptr().cast());
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_add_epi32(old, sum));
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn pack_wide<const N: usize>(digits: &[u64], keys: &[&Turning; N], sums: &mut [Poly; N]) {
    // By query, by digit, by half: each two halves long, or nothing is done.
    let halves = keys.map(Turning::halves);
    if halves.iter().flatten().flatten().any(|half| half.len() != 2 * HALF) {
        return;
    }
    for (chunk, digits) in digits.chunks_exact(STEPS * STEP_VALUES).take(HALF / CHUNK).enumerate() {
        // By query, by half: low and high.
        let mut totals = [[[_mm512_setzero_si512(); 2]; 2]; N];
        for (step, digits) in digits.as_chunks::<STEP_VALUES>().0.iter().enumerate() {
            let mut x = [_mm512_setzero_si512(); 2 * 2 * DIGITS];
            for (x, digits) in x.iter_mut().zip(digits.as_chunks::<CHUNK>().0) {
                if N == 1 {
                    ahead::<true, _>(digits, AHEAD);
                } else {
                    ahead::<false, _>(digits, PACK_AHEAD);
                }
                *x = load(digits);
            }
            let place = chunk * CHUNK + step;
            for (totals, halves) in totals.iter_mut().zip(&halves) {
                for (digit, [plus, minus]) in halves.iter().enumerate() {
                    // SAFETY: chunk * 8 is at most 1016 and step at most 1022,
                    // and each half has 2048 values.
                    let (p, n) = unsafe {
                        (
                            _mm512_loadu_si512(plus.as_ptr().add(place).cast()),
                            _mm512_loadu_si512(minus.as_ptr().add(place).cast()),
                        )
                    };
                    for (half, totals) in totals.iter_mut().enumerate() {
                        let [low, high] = totals;
                        for chain in 0..2 {
                            let Some(x) = x.get(digit * 4 + chain * 2 + half) else { continue };
                            let key = if chain == half { p } else { n };
                            *low = _mm512_madd52lo_epu64(*low, *x, key);
                            *high = _mm512_madd52hi_epu64(*high, *x, key);
                        }
                    }
                }
            }
        }
        for (totals, sums) in totals.iter().zip(sums.iter_mut()) {
            for (half, [low, high]) in totals.iter().enumerate() {
                let (mut lows, mut highs) = ([0; LANES], [0; LANES]);
                store(&mut lows, *low);
                store(&mut highs, *high);
                let to = sums.iter_mut().skip(half * HALF + chunk * CHUNK);
                for ((to, low), high) in to.zip(lows).zip(highs) {
                    *to = modulus::reduce(low, high);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn read_wide(bytes: &[u8]) -> u64 {
    let mut sums = [_mm512_setzero_si512(); 4];
    for line in bytes.as_chunks::<256>().0 {
        for (sum, words) in sums.iter_mut().zip(line.as_chunks::<64>().0) {
            ahead::<true, _>(words, AHEAD);
            // SAFETY: 64 bytes are read where 64 are.
            let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
            *sum = _mm512_add_epi64(*sum, words);
        }
    }
    let mut total = 0_u64;
    for sum in sums {
        let mut words = [0; LANES];
        store(&mut words, sum);
        total = words.iter().fold(total, |total, word| total.wrapping_add(*word));
    }
    total
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn accumulate_wide(low: &mut Poly, high: &mut Poly, x: &Poly, factors: &Poly) {
    let sums = low.as_chunks_mut::<LANES>().0.iter_mut().zip(high.as_chunks_mut::<LANES>().0);
    let terms = x.as_chunks::<LANES>().0.iter().zip(factors.as_chunks::<LANES>().0);
    for ((low, high), (x, factor)) in sums.zip(terms) {
        let (x, factor) = (load(x), load(factor));
        let sum = _mm512_madd52lo_epu64(load(low), x, factor);
        store(low, sum);
        let sum = _mm512_madd52hi_epu64(load(high), x, factor);
        store(high, sum);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn subtract_products_wide(sums: &mut [u64], x: &[u64], factors: &[u64], quotients: &[u64]) {
    let constants = Constants::new();
    let factors = factors.as_chunks::<LANES>().0.iter().zip(quotients.as_chunks::<LANES>().0);
    let terms = x.as_chunks::<LANES>().0.iter().zip(factors);
    for (sum, (x, (w, quotient))) in sums.as_chunks_mut::<LANES>().0.iter_mut().zip(terms) {
        let product = constants.multiply(load(x), load(w), load(quotient));
        let rest = _mm512_sub_epi64(_mm512_add_epi64(load(sum), constants.twice), product);
        store(sum, constants.settle(rest));
    }
}

#[target_feature(enable = "avx512f")]
fn columns_wide(lines: &[Poly], square: &mut [u64], place: usize) {
    let Some(lines) = lines.first_chunk::<LANES>() else { return };
    let mut rows = square.chunks_exact_mut(WIDTH);
    for at in 0..RING / LANES {
        let mut block = [_mm512_setzero_si512(); LANES];
        for (to, line) in block.iter_mut().zip(lines) {
            if let Some(values) = line.as_chunks::<LANES>().0.get(at) {
                *to = load(values);
            }
        }
        for (values, row) in transpose(&block).into_iter().zip(rows.by_ref()) {
            if let Some(to) = row.get_mut(place..).and_then(|to| to.first_chunk_mut()) {
                store(to, values);
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn diagonals_wide(square: &[u64], first: usize, to: &mut [Vec<Poly>; 2]) {
    for (at, rows) in square.chunks_exact(WIDTH * LANES).enumerate() {
        let (half, p) = (at * LANES / HALF, at * LANES % HALF);
        for (chain, images) in to.iter_mut().enumerate() {
            let mut block = [_mm512_setzero_si512(); LANES];
            for ((row, values), p) in rows.chunks_exact(WIDTH).zip(&mut block).zip(p..) {
                let from = row.get(diagonal_place(half ^ chain, p, first)..).unwrap_or_default();
                if let Some(from) = from.first_chunk() {
                    *values = load(from);
                }
            }
            for (values, image) in transpose(&block).into_iter().zip(images.iter_mut()) {
                if let Some(to) = image.as_chunks_mut::<LANES>().0.get_mut(at) {
                    store(to, values);
                }
            }
        }
    }
}
