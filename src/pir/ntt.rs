//! The number-theoretic transform of the ring: a polynomial of degree below
//! 2048 as its values at the odd powers of a 4096th root of unity.
//!
//! The values are in *orbit order*: the value at `root^(5^p)` is at place `p` and
//! that at `root^(-5^p)` at place `1024 + p`. The automorphism `X -> X^5` rotates
//! each half by one place, and `X -> X^-1` swaps the halves.
//!
//! The first level parts the halves, and each level after it parts what is left by
//! one more bit of `p`, the lowest first. After `t` of them the remainders modulo
//! `X^m - c_g`, `m = 1024 / 2^t`, one for each `g = p mod 2^t`, lie with coefficient
//! `j` of remainder `g` at place `j * 2^t + g`. The next bit goes above those of
//! `g`, so that the last level leaves the values in order, and a level reads and
//! writes neighbours.

use std::sync::LazyLock;

use super::{
    modulus::{ROOT, inverse, multiply, power, quotient},
    parameters::RING,
};

/// Half of the ring's coefficients: the length of the orbit of 5.
pub(super) const HALF: usize = RING / 2;

/// A polynomial, or its values.
pub(super) type Poly = [u64; RING];

/// Constants to multiply by, each with its Shoup quotient.
pub(super) struct Factors {
    pub(super) factor: Vec<u64>,
    pub(super) quotient: Vec<u64>,
}

impl Factors {
    pub(super) fn new(factor: Vec<u64>) -> Self {
        let quotient = factor.iter().map(|factor| quotient(*factor)).collect();
        Self { factor, quotient }
    }
}

/// Levels that part a half.
pub(super) const LEVELS: usize = HALF.ilog2() as usize;

/// The constants of one direction.
pub(super) struct Direction {
    /// That of the level that parts the halves, and its quotient.
    pub(super) first: (u64, u64),
    /// By half, by level `t`: one for each of the `2^t` remainders, again and again
    /// up to [`LANES`] of them.
    pub(super) levels: [[Factors; LEVELS]; 2],
}

/// Least constants of a level: what one instruction takes.
pub(super) const LANES: usize = 8;

/// Both directions.
pub(super) struct Tables {
    pub(super) forward: Direction,
    pub(super) backward: Direction,
    /// What [`Kernel::backward`](super::kernels::Kernel::backward) multiplies by in
    /// the end, and its quotient: 1 / 2048.
    pub(super) scale: (u64, u64),
    /// Its square, for values that are too large by 2048.
    pub(super) squared: (u64, u64),
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let scale = inverse(RING as u64);
    let squared = multiply(scale, scale);
    Tables {
        forward: Direction::new(ROOT),
        backward: Direction::new(inverse(ROOT)),
        scale: (scale, quotient(scale)),
        squared: (squared, quotient(squared)),
    }
});

impl Direction {
    fn new(root: u64) -> Self {
        let first = power(root, HALF as u64);
        let half = |start: u64| {
            let orbit: Vec<u64> =
                std::iter::successors(Some(start), |e| Some(e * 5 % 4096)).take(HALF).collect();
            std::array::from_fn(|level| {
                let remainders = 1 << level;
                let here = orbit.iter().take(remainders).cycle().take(remainders.max(LANES));
                // Half the degree of the remainders that it parts.
                let degree = (HALF as u64 / 2) >> level;
                Factors::new(here.map(|e| power(root, e * degree)).collect())
            })
        };
        Self { first: (first, quotient(first)), levels: [half(1), half(4095)] }
    }
}

impl Tables {
    /// The tables: made once.
    pub(super) fn get() -> &'static Self {
        &TABLES
    }
}

/// The negacyclic product of two polynomials, coefficients modulo Q.
#[cfg(test)]
pub(super) fn naive_product(a: &Poly, b: &Poly) -> Vec<u64> {
    use super::modulus::{add, subtract};
    let mut product = vec![0; RING];
    for (i, a) in a.iter().enumerate().filter(|(_, a)| **a != 0) {
        for (j, b) in b.iter().enumerate() {
            let term = multiply(*a, *b);
            let at = &mut product[(i + j) % RING];
            *at = if i + j < RING { add(*at, term) } else { subtract(*at, term) };
        }
    }
    product
}

/// The values' product, place by place.
pub(super) fn multiply_values(a: &mut Poly, b: &Poly) {
    for (a, b) in a.iter_mut().zip(b) {
        *a = multiply(*a, *b);
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::pir::{kernels::Kernel, parameters::Q};

    fn random(rng: &mut StdRng) -> Poly {
        std::array::from_fn(|_| rng.next_u64() % Q)
    }

    #[test]
    fn products_are_negacyclic_and_kernels_agree() {
        let mut rng = StdRng::seed_from_u64(1);
        let tables = Tables::get();
        for _ in 0..3 {
            let (a, b) = (random(&mut rng), random(&mut rng));
            let expected = naive_product(&a, &b);
            let mut seen = Vec::new();
            for kernel in Kernel::available() {
                let (mut x, mut y) = (a, b);
                kernel.forward(tables, &mut x);
                kernel.forward(tables, &mut y);
                seen.push(x);
                multiply_values(&mut x, &y);
                kernel.backward(tables, &mut x);
                assert_eq!(x.to_vec(), expected, "{kernel:?}");
            }
            assert!(seen.iter().all(|x| *x == seen[0]));
        }
    }

    #[test]
    fn extremes_survive() {
        for value in [0, 1, Q - 1] {
            for kernel in Kernel::available() {
                let mut x = [value; RING];
                kernel.forward(Tables::get(), &mut x);
                kernel.backward(Tables::get(), &mut x);
                assert!(x.iter().all(|x| *x == value));
            }
        }
    }

    #[test]
    fn kernels_agree_on_what_is_far_from_zero() {
        let mut rng = StdRng::seed_from_u64(3);
        let far = [0, 1, Q / 2, Q / 2 + 1, Q - 1];
        for _ in 0..100 {
            let x: Poly = std::array::from_fn(|_| far[rng.random_range(0..far.len())]);
            let each = Kernel::available().iter().map(|kernel| {
                let (mut there, mut back) = (x, x);
                kernel.forward(Tables::get(), &mut there);
                kernel.backward(Tables::get(), &mut back);
                (there, back)
            });
            let each: Vec<_> = each.collect();
            assert!(each.iter().all(|values| *values == each[0]));
        }
    }

    #[test]
    fn values_are_those_at_the_orbit_of_five() {
        let a = random(&mut StdRng::seed_from_u64(2));
        let mut values = a;
        Kernel::best().forward(Tables::get(), &mut values);
        let at = |x: u64| a.iter().rev().fold(0, |sum, a| (multiply(sum, x) + a) % Q);
        for p in [0, 1, 2, 511, 512, 1023] {
            let e = (0..p).fold(1, |e, _| e * 5 % 4096);
            assert_eq!(values[p], at(power(ROOT, e)));
            assert_eq!(values[HALF + p], at(power(ROOT, 4096 - e)));
        }
    }

    #[test]
    fn automorphisms_are_rotations() {
        let a = random(&mut StdRng::seed_from_u64(2));
        let values = |mut x: Poly| {
            Kernel::best().forward(Tables::get(), &mut x);
            x
        };
        let automorphism = |by: usize| {
            let mut image = [0; RING];
            for (i, a) in a.iter().enumerate() {
                let power = i * by % 4096;
                image[power % RING] = if power < RING { *a } else { (Q - a) % Q };
            }
            image
        };
        let (of_a, five, minus) = (values(a), values(automorphism(5)), values(automorphism(4095)));
        for p in 0..HALF {
            assert_eq!(five[p], of_a[(p + 1) % HALF]);
            assert_eq!(five[HALF + p], of_a[HALF + (p + 1) % HALF]);
            assert_eq!(minus[p], of_a[HALF + p]);
            assert_eq!(minus[HALF + p], of_a[p]);
        }
    }
}
