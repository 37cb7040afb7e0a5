//! The transform, two levels in one pass over the memory.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_min_epu64, _mm512_permutex2var_epi64,
    _mm512_permutexvar_epi64, _mm512_set1_epi64, _mm512_setr_epi64, _mm512_sub_epi64,
};

use super::{
    super::{
        super::{
            ntt::{Direction, Factors, HALF, LANES, Poly},
            parameters::RING,
        },
        places::{halves, halves_mut, neighbours, neighbours_mut, quarters, quarters_mut},
    },
    Constants, load, store,
};

type Half = [u64; HALF];

/// A constant and its quotient, in all lanes or one for each.
#[derive(Clone, Copy)]
struct Turn(__m512i, __m512i);

impl Turn {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn all((w, quotient): (u64, u64)) -> Self {
        Self(_mm512_set1_epi64(w.cast_signed()), _mm512_set1_epi64(quotient.cast_signed()))
    }

    /// The first eight.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn of(factors: &Factors) -> Self {
        let first = |factors: &[u64]| factors.first_chunk().copied().unwrap_or_default();
        Self(load(&first(&factors.factor)), load(&first(&factors.quotient)))
    }
}

/// The constants of a level, in eights.
#[inline]
fn turns(factors: &Factors) -> impl Iterator<Item = (&[u64; LANES], &[u64; LANES])> {
    factors.factor.as_chunks().0.iter().zip(factors.quotient.as_chunks().0)
}

impl Constants {
    /// Parts `x` and `y`, below 4Q before and after.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn part(&self, x: __m512i, y: __m512i, Turn(w, quotient): Turn) -> (__m512i, __m512i) {
        let a = _mm512_min_epu64(x, _mm512_sub_epi64(x, self.twice));
        let b = self.multiply(y, w, quotient);
        (_mm512_add_epi64(a, b), _mm512_sub_epi64(_mm512_add_epi64(a, self.twice), b))
    }

    /// Joins them again but for a factor of 2, below 2Q before and after.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn join(&self, x: __m512i, y: __m512i, Turn(w, quotient): Turn) -> (__m512i, __m512i) {
        let sum = _mm512_add_epi64(x, y);
        let difference = _mm512_sub_epi64(_mm512_add_epi64(x, self.twice), y);
        let sum = _mm512_min_epu64(sum, _mm512_sub_epi64(sum, self.twice));
        (sum, self.multiply(difference, w, quotient))
    }
}

/// How the lanes of two registers lie side by side in memory, `N` by `N`.
struct Interleaving {
    /// First and second half of what lies there.
    there: (__m512i, __m512i),
    /// The way back: all of one, all of the other.
    back: (__m512i, __m512i),
}

impl Interleaving {
    /// One by one.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn ones() -> Self {
        Self {
            there: (
                _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
                _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15),
            ),
            back: (
                _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14),
                _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15),
            ),
        }
    }

    /// Two by two.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn twos() -> Self {
        let there = (
            _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
            _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15),
        );
        let back = (
            _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13),
            _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15),
        );
        Self { there, back }
    }

    /// Four by four.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn fours() -> Self {
        let there = (
            _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 10, 11),
            _mm512_setr_epi64(4, 5, 6, 7, 12, 13, 14, 15),
        );
        // It is its own way back.
        Self { there, back: there }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn mix(a: __m512i, b: __m512i, (one, other): (__m512i, __m512i)) -> (__m512i, __m512i) {
        (_mm512_permutex2var_epi64(a, one, b), _mm512_permutex2var_epi64(a, other, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn there(&self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        Self::mix(a, b, self.there)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn back(&self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        Self::mix(a, b, self.back)
    }
}

/// The first level, and that which parts the halves in two remainders each.
#[target_feature(enable = "avx512f,avx512ifma")]
fn part_first(constants: &Constants, factors: &Direction, from: &Poly, to: &mut Poly) {
    let ones = Interleaving::ones();
    let first = Turn::all(factors.first);
    let [[plus_turn, ..], [minus_turn, ..]] = &factors.levels;
    let (plus_turn, minus_turn) = (Turn::of(plus_turn), Turn::of(minus_turn));
    let (plus, minus) = to.split_at_mut(HALF);
    let to =
        neighbours_mut::<_, LANES, 2>(plus).iter_mut().zip(neighbours_mut::<_, LANES, 2>(minus));
    for ([a, b, c, d], ([plus, more_plus], [minus, more_minus])) in quarters(from).zip(to) {
        let (a, c) = constants.part(load(a), load(c), first);
        let (b, d) = constants.part(load(b), load(d), first);
        let (a, b) = constants.part(a, b, plus_turn);
        let (a, b) = ones.there(a, b);
        store(plus, a);
        store(more_plus, b);
        let (c, d) = constants.part(c, d, minus_turn);
        let (c, d) = ones.there(c, d);
        store(minus, c);
        store(more_minus, d);
    }
}

/// Its inverse, with the scale.
#[target_feature(enable = "avx512f,avx512ifma")]
fn join_first(
    constants: &Constants,
    factors: &Direction,
    scale: (u64, u64),
    from: &Poly,
    to: &mut Poly,
) {
    let ones = Interleaving::ones();
    let first = Turn::all(factors.first);
    let [[plus_turn, ..], [minus_turn, ..]] = &factors.levels;
    let (plus_turn, minus_turn) = (Turn::of(plus_turn), Turn::of(minus_turn));
    let Turn(scale, quotient) = Turn::all(scale);
    let (plus, minus) = from.split_at(HALF);
    let from = neighbours::<_, LANES, 2>(plus).iter().zip(neighbours::<_, LANES, 2>(minus));
    for (to, ([plus, more_plus], [minus, more_minus])) in quarters_mut(to).zip(from) {
        let (a, b) = ones.back(load(plus), load(more_plus));
        let (a, b) = constants.join(a, b, plus_turn);
        let (c, d) = ones.back(load(minus), load(more_minus));
        let (c, d) = constants.join(c, d, minus_turn);
        let (a, c) = constants.join(a, c, first);
        let (b, d) = constants.join(b, d, first);
        for (to, value) in to.into_iter().zip([a, b, c, d]) {
            store(to, constants.settle(constants.multiply(value, scale, quotient)));
        }
    }
}

/// The constants of the second level and those of the third, for each two
/// remainders of it.
#[inline]
#[target_feature(enable = "avx512f")]
fn narrow(levels: &[Factors]) -> [Turn; 3] {
    let [_, one, two, ..] = levels else { return [Turn::all((0, 0)); 3] };
    let Turn(w, quotient) = Turn::of(two);
    let even = _mm512_setr_epi64(0, 1, 0, 1, 0, 1, 0, 1);
    let odd = _mm512_setr_epi64(2, 3, 2, 3, 2, 3, 2, 3);
    let of =
        |which| (_mm512_permutexvar_epi64(which, w), _mm512_permutexvar_epi64(which, quotient));
    let ((w0, q0), (w1, q1)) = (of(even), of(odd));
    [Turn::of(one), Turn(w0, q0), Turn(w1, q1)]
}

/// Two remainders of a half to eight.
#[target_feature(enable = "avx512f,avx512ifma")]
fn part_narrow(constants: &Constants, levels: &[Factors], from: &Half, to: &mut Half) {
    let (twos, fours) = (Interleaving::twos(), Interleaving::fours());
    let [one, even, odd] = narrow(levels);
    for ([a, b, c, d], to) in quarters(from).zip(neighbours_mut::<_, LANES, 4>(to)) {
        let (a, c) = constants.part(load(a), load(c), one);
        let (b, d) = constants.part(load(b), load(d), one);
        let (a, b) = constants.part(a, b, even);
        let (c, d) = constants.part(c, d, odd);
        let ((a, c), (b, d)) = (twos.there(a, c), twos.there(b, d));
        let ((a, b), (c, d)) = (fours.there(a, b), fours.there(c, d));
        for (to, value) in to.iter_mut().zip([a, b, c, d]) {
            store(to, value);
        }
    }
}

/// Its inverse.
#[target_feature(enable = "avx512f,avx512ifma")]
fn join_narrow(constants: &Constants, levels: &[Factors], from: &Half, to: &mut Half) {
    let (twos, fours) = (Interleaving::twos(), Interleaving::fours());
    let [one, even, odd] = narrow(levels);
    for (to, [a, b, c, d]) in quarters_mut(to).zip(neighbours::<_, LANES, 4>(from)) {
        let ((a, b), (c, d)) = (fours.back(load(a), load(b)), fours.back(load(c), load(d)));
        let ((a, c), (b, d)) = (twos.back(a, c), twos.back(b, d));
        let (a, b) = constants.join(a, b, even);
        let (c, d) = constants.join(c, d, odd);
        let (a, c) = constants.join(a, c, one);
        let (b, d) = constants.join(b, d, one);
        for (to, value) in to.into_iter().zip([a, b, c, d]) {
            store(to, value);
        }
    }
}

/// `G` remainders of a half to four times as many.
#[target_feature(enable = "avx512f,avx512ifma")]
fn part_twice<const G: usize>(
    constants: &Constants,
    levels: &[Factors],
    from: &Half,
    to: &mut Half,
) {
    let [one, two, ..] = levels else { return };
    let mut from = quarters(from);
    for to in to.chunks_exact_mut(4 * G) {
        let turns = turns(one).zip(turns(two)).zip(turns(two).skip(G / LANES));
        for ((to, ((one, even), odd)), [a, b, c, d]) in
            quarters_mut(to).zip(turns).zip(from.by_ref())
        {
            let one = Turn(load(one.0), load(one.1));
            let (a, c) = constants.part(load(a), load(c), one);
            let (b, d) = constants.part(load(b), load(d), one);
            let (a, b) = constants.part(a, b, Turn(load(even.0), load(even.1)));
            let (c, d) = constants.part(c, d, Turn(load(odd.0), load(odd.1)));
            for (to, value) in to.into_iter().zip([a, c, b, d]) {
                store(to, value);
            }
        }
    }
}

/// Its inverse.
#[target_feature(enable = "avx512f,avx512ifma")]
fn join_twice<const G: usize>(
    constants: &Constants,
    levels: &[Factors],
    from: &Half,
    to: &mut Half,
) {
    let [one, two, ..] = levels else { return };
    let mut to = quarters_mut(to);
    for from in from.chunks_exact(4 * G) {
        let turns = turns(one).zip(turns(two)).zip(turns(two).skip(G / LANES));
        for (([a, c, b, d], ((one, even), odd)), to) in quarters(from).zip(turns).zip(to.by_ref()) {
            let (a, b) = constants.join(load(a), load(b), Turn(load(even.0), load(even.1)));
            let (c, d) = constants.join(load(c), load(d), Turn(load(odd.0), load(odd.1)));
            let one = Turn(load(one.0), load(one.1));
            let (a, c) = constants.join(a, c, one);
            let (b, d) = constants.join(b, d, one);
            for (to, value) in to.into_iter().zip([a, b, c, d]) {
                store(to, value);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn part_last(constants: &Constants, level: &Factors, from: &Half, to: &mut Half) {
    for (((a, b), (to_a, to_b)), (w, quotient)) in
        halves(from).zip(halves_mut(to)).zip(turns(level))
    {
        let (a, b) = constants.part(load(a), load(b), Turn(load(w), load(quotient)));
        store(to_a, constants.settle(a));
        store(to_b, constants.settle(b));
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn join_last(constants: &Constants, level: &Factors, from: &Half, to: &mut Half) {
    for (((a, b), (to_a, to_b)), (w, quotient)) in
        halves(from).zip(halves_mut(to)).zip(turns(level))
    {
        let (a, b) = constants.join(load(a), load(b), Turn(load(w), load(quotient)));
        store(to_a, a);
        store(to_b, b);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn forward(factors: &Direction, x: &mut Poly) {
    let constants = &Constants::new();
    let mut work = [0; RING];
    part_first(constants, factors, x, &mut work);
    let halves = x.as_chunks_mut::<HALF>().0.iter_mut().zip(work.as_chunks_mut::<HALF>().0);
    for ((x, work), levels) in halves.zip(&factors.levels) {
        part_narrow(constants, levels, work, x);
        part_twice::<8>(constants, levels.get(3..).unwrap_or_default(), x, work);
        part_twice::<32>(constants, levels.get(5..).unwrap_or_default(), work, x);
        part_twice::<128>(constants, levels.get(7..).unwrap_or_default(), x, work);
        let [.., last] = levels;
        part_last(constants, last, work, x);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
pub(super) fn backward(factors: &Direction, scale: (u64, u64), x: &mut Poly) {
    let constants = &Constants::new();
    let mut work = [0; RING];
    let halves = x.as_chunks_mut::<HALF>().0.iter_mut().zip(work.as_chunks_mut::<HALF>().0);
    for ((x, work), levels) in halves.zip(&factors.levels) {
        let [.., last] = levels;
        join_last(constants, last, x, work);
        join_twice::<128>(constants, levels.get(7..).unwrap_or_default(), work, x);
        join_twice::<32>(constants, levels.get(5..).unwrap_or_default(), x, work);
        join_twice::<8>(constants, levels.get(3..).unwrap_or_default(), work, x);
        join_narrow(constants, levels, x, work);
    }
    join_first(constants, factors, scale, &work, x);
}

const _: () = assert!(HALF == 2 * 512 && LANES == 8);
