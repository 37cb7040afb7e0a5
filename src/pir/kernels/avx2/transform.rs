//! The transform in floating point: residues are signed integers of less than 53
//! bits, and so exact; products are by a fused multiply-add. Two levels in one
//! pass over the memory.
//!
//! `|x|` is given in multiples of Q, which is below 2^50.

use std::{
    arch::x86_64::{
        __m256d, __m256i, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm256_add_pd,
        _mm256_and_pd, _mm256_castpd_si256, _mm256_castsi256_pd, _mm256_cmp_pd, _mm256_fmsub_pd,
        _mm256_fnmadd_pd, _mm256_loadu_pd, _mm256_mul_pd, _mm256_or_si256, _mm256_permute2f128_pd,
        _mm256_round_pd, _mm256_set1_pd, _mm256_setzero_pd, _mm256_storeu_pd, _mm256_sub_pd,
        _mm256_unpackhi_pd, _mm256_unpacklo_pd, _mm256_xor_si256,
    },
    sync::LazyLock,
};

use super::{
    super::{
        super::{
            modulus::to_signed,
            ntt::{Direction, Factors, HALF, LEVELS, Poly, Tables},
            parameters::{Q, RING},
        },
        places::{halves, halves_mut, neighbours, neighbours_mut, quarters, quarters_mut},
    },
    load_values, store_values,
};

/// Values in one register.
const LANES: usize = 4;

/// 2^52: added to a whole number below it, the number is the low bits.
const SHIFT: f64 = (1_u64 << 52) as f64;

/// A half, as floating-point numbers.
type Half = [f64; HALF];

type All = [f64; RING];

/// The constants of one direction, nearest to 0.
struct Turns {
    first: f64,
    levels: [[Vec<f64>; LEVELS]; 2],
}

/// Forward and backward.
static TURNS: LazyLock<[Turns; 2]> = LazyLock::new(|| {
    let tables = Tables::get();
    [Turns::new(&tables.forward), Turns::new(&tables.backward)]
});

impl Turns {
    fn new(direction: &Direction) -> Self {
        let of = |factors: &Factors| factors.factor.iter().copied().map(nearest).collect();
        Self {
            first: nearest(direction.first.0),
            levels: direction.levels.each_ref().map(|levels| levels.each_ref().map(of)),
        }
    }
}

/// A residue as the number nearest to 0: exact.
#[expect(clippy::cast_precision_loss, reason = "49 bits and a sign")]
const fn nearest(x: u64) -> f64 {
    to_signed(x) as f64
}

/// Constants in all lanes.
#[derive(Clone, Copy)]
struct Constants {
    q: __m256d,
    inverse: __m256d,
}

impl Constants {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new() -> Self {
        #[expect(clippy::cast_precision_loss, reason = "50 bits")]
        let q = Q as f64;
        Self { q: _mm256_set1_pd(q), inverse: _mm256_set1_pd(1.0 / q) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn quotient(&self, x: __m256d) -> __m256d {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        _mm256_round_pd::<NEAREST>(_mm256_mul_pd(x, self.inverse))
    }

    /// `x` modulo Q, at most 0.5 and what rounding adds.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn reduce(&self, x: __m256d) -> __m256d {
        _mm256_fnmadd_pd(self.quotient(x), self.q, x)
    }

    /// `x * w` modulo Q for `|x * w|` of up to 2 squares: the quotient is off by
    /// at most 0.75 and half for rounding, the product is at most 1.25.
    ///
    /// What the rounded product lacks is added in the end. All numbers on the way
    /// are integers below 2^53 or multiples of the last bit of the product.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn multiply(&self, x: __m256d, w: __m256d) -> __m256d {
        let product = _mm256_mul_pd(x, w);
        let rest = _mm256_fmsub_pd(x, w, product);
        let off = _mm256_fnmadd_pd(self.quotient(product), self.q, product);
        _mm256_add_pd(off, rest)
    }

    /// Parts two, of which the other is at most 4: the one grows by the product.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn part(&self, x: __m256d, y: __m256d, w: __m256d) -> (__m256d, __m256d) {
        let y = self.multiply(y, w);
        (_mm256_add_pd(x, y), _mm256_sub_pd(x, y))
    }

    /// Parts four in two levels, from at most 2.75 to at most that: of what is not
    /// multiplied the first is reduced before, the other grows to 3.75 and is
    /// multiplied then.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn part_twice(&self, [a, b, c, d]: [__m256d; 4], turns: [__m256d; 3]) -> [__m256d; 4] {
        let [one, even, odd] = turns;
        let (a, c) = self.part(self.reduce(a), c, one);
        let (b, d) = self.part(b, d, one);
        let (a, b) = self.part(a, b, even);
        let (c, d) = self.part(c, d, odd);
        [a, b, c, d]
    }

    /// Joins two again but for a factor of 2: from at most 1.25 to at most that.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn join(&self, x: __m256d, y: __m256d, w: __m256d) -> (__m256d, __m256d) {
        (self.reduce(_mm256_add_pd(x, y)), self.multiply(_mm256_sub_pd(x, y), w))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn join_twice(&self, [a, b, c, d]: [__m256d; 4], turns: [__m256d; 3]) -> [__m256d; 4] {
        let [one, even, odd] = turns;
        let (a, b) = self.join(a, b, even);
        let (c, d) = self.join(c, d, odd);
        let (a, c) = self.join(a, c, one);
        let (b, d) = self.join(b, d, one);
        [a, b, c, d]
    }

    /// Numbers below 8 as residues below Q.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn give(&self, x: __m256d, to: &mut [u64; LANES]) {
        let x = self.reduce(x);
        let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(x, _mm256_setzero_pd());
        let x = _mm256_add_pd(x, _mm256_and_pd(negative, self.q));
        let shift = _mm256_set1_pd(SHIFT);
        let lifted = _mm256_castpd_si256(_mm256_add_pd(x, shift));
        store_values(to, _mm256_xor_si256(lifted, _mm256_castpd_si256(shift)));
    }
}

/// Residues as numbers.
#[inline]
#[target_feature(enable = "avx2")]
fn take(x: __m256i) -> __m256d {
    let shift = _mm256_set1_pd(SHIFT);
    let lifted = _mm256_or_si256(x, _mm256_castpd_si256(shift));
    _mm256_sub_pd(_mm256_castsi256_pd(lifted), shift)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[f64; LANES]) -> __m256d {
    // SAFETY: four numbers are read where four are.
    unsafe { _mm256_loadu_pd(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [f64; LANES], x: __m256d) {
    // SAFETY: four numbers are written where four are.
    unsafe { _mm256_storeu_pd(to.as_mut_ptr(), x) }
}

/// The first of a level.
#[inline]
#[target_feature(enable = "avx2")]
fn first(level: &[f64]) -> __m256d {
    load(&level.first_chunk().copied().unwrap_or_default())
}

/// Two registers whose lanes lie in memory one by one, and below the way back.
#[inline]
#[target_feature(enable = "avx2")]
fn mix_ones(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    let (even, odd) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
    mix_twos(even, odd)
}

#[inline]
#[target_feature(enable = "avx2")]
fn part_ones(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    let (a, b) = mix_twos(a, b);
    (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b))
}

/// The same two by two: its own way back.
#[inline]
#[target_feature(enable = "avx2")]
fn mix_twos(a: __m256d, b: __m256d) -> (__m256d, __m256d) {
    (_mm256_permute2f128_pd::<0x20>(a, b), _mm256_permute2f128_pd::<0x31>(a, b))
}

/// The first level, and that which parts the halves in two remainders each.
#[target_feature(enable = "avx2,fma")]
fn part_first(constants: &Constants, turns: &Turns, from: &Poly, to: &mut All) {
    let one = _mm256_set1_pd(turns.first);
    let [[even, ..], [odd, ..]] = &turns.levels;
    let turns = [one, first(even), first(odd)];
    let (plus, minus) = to.split_at_mut(HALF);
    let to =
        neighbours_mut::<_, LANES, 2>(plus).iter_mut().zip(neighbours_mut::<_, LANES, 2>(minus));
    for ([a, b, c, d], ([plus, more_plus], [minus, more_minus])) in quarters(from).zip(to) {
        let four = [
            take(load_values(a)),
            take(load_values(b)),
            take(load_values(c)),
            take(load_values(d)),
        ];
        let [a, b, c, d] = constants.part_twice(four, turns);
        let ((a, b), (c, d)) = (mix_ones(a, b), mix_ones(c, d));
        store(plus, a);
        store(more_plus, b);
        store(minus, c);
        store(more_minus, d);
    }
}

/// Its inverse, with the scale.
#[target_feature(enable = "avx2,fma")]
fn join_first(constants: &Constants, turns: &Turns, scale: f64, from: &All, to: &mut Poly) {
    let one = _mm256_set1_pd(turns.first);
    let [[even, ..], [odd, ..]] = &turns.levels;
    let turns = [one, first(even), first(odd)];
    let scale = _mm256_set1_pd(scale);
    let (plus, minus) = from.split_at(HALF);
    let from = neighbours::<_, LANES, 2>(plus).iter().zip(neighbours::<_, LANES, 2>(minus));
    for (to, ([plus, more_plus], [minus, more_minus])) in quarters_mut(to).zip(from) {
        let (a, b) = part_ones(load(plus), load(more_plus));
        let (c, d) = part_ones(load(minus), load(more_minus));
        for (to, x) in to.into_iter().zip(constants.join_twice([a, b, c, d], turns)) {
            constants.give(constants.multiply(x, scale), to);
        }
    }
}

/// The constants of two remainders, and those of the four that they become, two
/// by two.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow(levels: &[Vec<f64>; LEVELS]) -> [__m256d; 3] {
    let [_, one, two, ..] = levels;
    let two = first(two);
    let (even, odd) = mix_twos(two, two);
    [first(one), even, odd]
}

/// Two remainders of a half to eight.
#[target_feature(enable = "avx2,fma")]
fn part_narrow(constants: &Constants, levels: &[Vec<f64>; LEVELS], from: &[f64], to: &mut [f64]) {
    let turns = narrow(levels);
    for ([a, b, c, d], to) in quarters(from).zip(neighbours_mut::<_, LANES, 4>(to)) {
        let four = [load(a), load(b), load(c), load(d)];
        let [a, b, c, d] = constants.part_twice(four, turns);
        let ((a, c), (b, d)) = (mix_twos(a, c), mix_twos(b, d));
        for (to, x) in to.iter_mut().zip([a, b, c, d]) {
            store(to, x);
        }
    }
}

/// Its inverse.
#[target_feature(enable = "avx2,fma")]
fn join_narrow(constants: &Constants, levels: &[Vec<f64>; LEVELS], from: &[f64], to: &mut [f64]) {
    let turns = narrow(levels);
    for (to, [a, b, c, d]) in quarters_mut(to).zip(neighbours::<_, LANES, 4>(from)) {
        let ((a, c), (b, d)) = (mix_twos(load(a), load(c)), mix_twos(load(b), load(d)));
        for (to, x) in to.into_iter().zip(constants.join_twice([a, b, c, d], turns)) {
            store(to, x);
        }
    }
}

/// The constants of two levels, in fours.
#[inline(always)]
fn twice<const G: usize>(levels: &[Vec<f64>]) -> impl Iterator<Item = [&[f64; LANES]; 3]> + Clone {
    let level = |at| levels.get(at).map(Vec::as_slice).unwrap_or_default().as_chunks().0;
    let (one, two) = (level(0), level(1));
    one.iter().zip(two).zip(two.iter().skip(G / LANES)).map(|((a, b), c)| [a, b, c])
}

/// `G` remainders of a half to four times as many.
#[target_feature(enable = "avx2,fma")]
fn part_more<const G: usize>(
    constants: &Constants,
    levels: &[Vec<f64>],
    from: &[f64],
    to: &mut [f64],
) {
    let turns = twice::<G>(levels);
    let mut from = quarters(from);
    for to in to.chunks_exact_mut(4 * G) {
        for ((to, [one, even, odd]), [a, b, c, d]) in
            quarters_mut(to).zip(turns.clone()).zip(from.by_ref())
        {
            let turns = [load(one), load(even), load(odd)];
            let four = [load(a), load(b), load(c), load(d)];
            let [a, b, c, d] = constants.part_twice(four, turns);
            for (to, x) in to.into_iter().zip([a, c, b, d]) {
                store(to, x);
            }
        }
    }
}

/// Its inverse.
#[target_feature(enable = "avx2,fma")]
fn join_more<const G: usize>(
    constants: &Constants,
    levels: &[Vec<f64>],
    from: &[f64],
    to: &mut [f64],
) {
    let turns = twice::<G>(levels);
    let mut to = quarters_mut(to);
    for from in from.chunks_exact(4 * G) {
        for (([a, c, b, d], [one, even, odd]), to) in
            quarters(from).zip(turns.clone()).zip(to.by_ref())
        {
            let turns = [load(one), load(even), load(odd)];
            let four = [load(a), load(b), load(c), load(d)];
            for (to, x) in to.into_iter().zip(constants.join_twice(four, turns)) {
                store(to, x);
            }
        }
    }
}

/// The last level, to residues.
#[target_feature(enable = "avx2,fma")]
fn part_last(constants: &Constants, level: &[f64], from: &Half, to: &mut [u64]) {
    for (((x, y), (to_x, to_y)), w) in halves(from).zip(halves_mut(to)).zip(level.as_chunks().0) {
        let (x, y) = constants.part(load(x), load(y), load(w));
        constants.give(x, to_x);
        constants.give(y, to_y);
    }
}

/// Its inverse.
#[target_feature(enable = "avx2,fma")]
fn join_last(constants: &Constants, level: &[f64], from: &[u64], to: &mut Half) {
    for (((x, y), (to_x, to_y)), w) in halves(from).zip(halves_mut(to)).zip(level.as_chunks().0) {
        let (x, y) = (take(load_values(x)), take(load_values(y)));
        let (x, y) = constants.join(x, y, load(w));
        store(to_x, x);
        store(to_y, y);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn subtract_products(sums: &mut [u64], x: &[u64], factors: &[u64]) {
    let constants = Constants::new();
    let terms = x.as_chunks().0.iter().zip(factors.as_chunks().0);
    for (sum, (x, factor)) in sums.as_chunks_mut().0.iter_mut().zip(terms) {
        let [before, x, factor] = [&*sum, x, factor].map(|values| take(load_values(values)));
        constants.give(_mm256_sub_pd(before, constants.multiply(x, factor)), sum);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn forward(x: &mut Poly) {
    let (constants, [turns, _]) = (&Constants::new(), &*TURNS);
    let (mut here, mut there): (All, Half) = ([0.0; RING], [0.0; HALF]);
    part_first(constants, turns, x, &mut here);
    let halves = here.as_chunks_mut::<HALF>().0.iter_mut().zip(x.chunks_exact_mut(HALF));
    for ((here, x), levels) in halves.zip(&turns.levels) {
        part_narrow(constants, levels, here, &mut there);
        part_more::<8>(constants, levels.get(3..).unwrap_or_default(), &there, here);
        part_more::<32>(constants, levels.get(5..).unwrap_or_default(), here, &mut there);
        part_more::<128>(constants, levels.get(7..).unwrap_or_default(), &there, here);
        let [.., last] = levels;
        part_last(constants, last, here, x);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn backward((scale, _): (u64, u64), x: &mut Poly) {
    let (constants, [_, turns]) = (&Constants::new(), &*TURNS);
    let (mut here, mut there): (All, Half) = ([0.0; RING], [0.0; HALF]);
    let halves = here.as_chunks_mut::<HALF>().0.iter_mut().zip(x.chunks_exact(HALF));
    for ((here, x), levels) in halves.zip(&turns.levels) {
        let [.., last] = levels;
        join_last(constants, last, x, here);
        join_more::<128>(constants, levels.get(7..).unwrap_or_default(), here, &mut there);
        join_more::<32>(constants, levels.get(5..).unwrap_or_default(), &there, here);
        join_more::<8>(constants, levels.get(3..).unwrap_or_default(), here, &mut there);
        join_narrow(constants, levels, &there, here);
    }
    join_first(constants, turns, nearest(scale), &here, x);
}
