//! AVX2: the scan and the packing. The rest is plain.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256,
    _mm256_loadu_si256, _mm256_mul_epu32, _mm256_mullo_epi32, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_srl_epi32, _mm256_srli_epi64,
    _mm256_storeu_si256,
};

use super::{
    super::{
        modulus::reduce,
        ntt::{HALF, Poly},
        parameters::RING,
    },
    CHUNK, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, Samples, TILE, Turning,
};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Columns in one register.
const LANES: usize = 8;

/// Bits of the halves that values are multiplied in.
const SPLIT: i32 = 25;

pub(super) fn scan<const N: usize>(
    tile: &[u8],
    samples: &[&Samples; N],
    sums: &mut [[u32; TILE]; N],
) {
    for (samples, sums) in samples.iter().zip(sums) {
        // SAFETY: a kernel of this way exists only where AVX2 was detected.
        unsafe { scan_one(tile, &samples.words, sums) }
    }
}

#[target_feature(enable = "avx2")]
fn scan_one(tile: &[u8], words: &[u32], sums: &mut [u32; TILE]) {
    let mut totals = [_mm256_setzero_si256(); TILE / LANES];
    let byte = _mm256_set1_epi32(0xff);
    for (quad, rows) in tile.chunks_exact(TILE * QUAD).zip(words.as_chunks::<QUAD>().0) {
        for (total, bytes) in totals.iter_mut().zip(quad.as_chunks::<32>().0) {
            let bytes = load(bytes);
            for (shift, sample) in (0..).step_by(8).zip(rows) {
                let row = _mm256_and_si256(_mm256_srl_epi32(bytes, _mm_cvtsi32_si128(shift)), byte);
                let sample = _mm256_set1_epi32(sample.cast_signed());
                *total = _mm256_add_epi32(*total, _mm256_mullo_epi32(row, sample));
            }
        }
    }
    for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<LANES>().0) {
        // SAFETY: eight words are written where eight are.
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), *total) }
    }
}

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: 32 bytes are read where 32 are.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_values(values: &[u64; 4]) -> __m256i {
    // SAFETY: four words are read where four are.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}

pub(super) fn pack<const N: usize>(digits: &[u64], keys: &[&Turning; N], sums: &mut [Poly; N]) {
    for (key, sums) in keys.iter().zip(sums) {
        *sums = [0; RING];
        if digits.len() == PACKED_VALUES {
            // SAFETY: a kernel of this way exists only where AVX2 was detected.
            unsafe { pack_one(digits, key, sums) }
        }
    }
}

/// Sums of products in three parts, of weight 1, 2^25 and 2^50.
type Parts = [__m256i; 3];

#[target_feature(enable = "avx2")]
fn pack_one(digits: &[u64], key: &Turning, sums: &mut Poly) {
    let low = _mm256_set1_epi64x((1 << SPLIT) - 1);
    let (plus, minus) = sums.split_at_mut(HALF);
    let places = plus.chunks_exact_mut(CHUNK).zip(minus.chunks_exact_mut(CHUNK));
    for (chunk, (digits, (plus, minus))) in
        digits.chunks_exact(STEPS * STEP_VALUES).zip(places).enumerate()
    {
        // By half, by four values.
        let mut totals = [[[_mm256_setzero_si256(); 3]; 2]; 2];
        for (step, digits) in digits.chunks_exact(STEP_VALUES).enumerate() {
            for (at, x) in digits.as_chunks::<CHUNK>().0.iter().enumerate() {
                let (digit, chain, half) = (at / 4, at / 2 % 2, at % 2);
                let turned = key
                    .halves
                    .get(digit)
                    .and_then(|halves| halves.get(chain ^ half))
                    .and_then(|half| half.get(chunk * CHUNK + step..))
                    .unwrap_or_default();
                let Some(totals) = totals.get_mut(half) else { continue };
                let values = x.as_chunks::<4>().0.iter().zip(turned.as_chunks::<4>().0);
                for (total, (x, key)) in totals.iter_mut().zip(values) {
                    multiply(total, load_values(x), load_values(key), low);
                }
            }
        }
        for (to, totals) in [plus, minus].into_iter().zip(&totals) {
            for (to, total) in to.as_chunks_mut::<4>().0.iter_mut().zip(totals) {
                *to = joined(total);
            }
        }
    }
}

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
        let mut words = [0_u64; 4];
        // SAFETY: four words are written where four are.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), part) }
        words
    });
    let mut words = [0; 4];
    for (((word, a), b), c) in words.iter_mut().zip(a).zip(b).zip(c) {
        let sum = u128::from(a) + (u128::from(b) << SPLIT) + (u128::from(c) << (2 * SPLIT));
        #[expect(clippy::cast_possible_truncation, reason = "the low 52 bits, and at most 64 more")]
        let (low, high) = (sum as u64 & ((1 << 52) - 1), (sum >> 52) as u64);
        *word = reduce(low, high);
    }
    words
}
