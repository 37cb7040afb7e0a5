//! The number-theoretic transform of the ring: a polynomial of degree below
//! 2048 as its values at the odd powers of a 4096th root of unity.
//!
//! Two orders of the values are used. In the *transform's order* they come out.
//! In *orbit order* the value at `root^(5^p)` is at place `p` and that at
//! `root^(-5^p)` at place `1024 + p`: the automorphism `X -> X^5` rotates each
//! half by one place, and `X -> X^-1` swaps the halves.

use std::sync::LazyLock;

use super::{
    kernels::Kernel,
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

/// The constants of one direction.
pub(super) struct Direction {
    /// The powers of the root in bit-reversed order, as the wide levels take
    /// them: level by level, one for each of 1, 2, 4, ... 128 groups.
    pub(super) wide: Factors,
    /// For each 64 neighbours, which lie as 8 rows of 8: the factors of the
    /// last three levels, 8 for 8 columns each: one for distance 4, two for
    /// distance 2, four for distance 1.
    pub(super) narrow: Factors,
}

/// Both directions, and the way to orbit order and back.
pub(super) struct Tables {
    pub(super) forward: Direction,
    pub(super) backward: Direction,
    /// Where a value of orbit order stands in the transform's order.
    pub(super) to_orbit: Vec<u32>,
    /// Where a value of the transform's order stands in orbit order.
    pub(super) from_orbit: Vec<u32>,
    /// 1 / 2048.
    pub(super) scale: u64,
    pub(super) scale_quotient: u64,
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::new);

fn bit_reversed(i: usize, bits: u32) -> usize {
    i.reverse_bits() >> (usize::BITS - bits)
}

fn direction(root: u64) -> Direction {
    let powers: Vec<u64> =
        (0..RING).map(|i| power(root, bit_reversed(i, RING.ilog2()) as u64)).collect();
    let at = |i: usize| powers.get(i).copied().unwrap_or(0);
    let mut narrow = Vec::with_capacity(7 * RING / 8);
    for group in (0..RING / 8).step_by(8) {
        for (first, stride, offset) in [
            (256, 1, 0),
            (512, 2, 0),
            (512, 2, 1),
            (1024, 4, 0),
            (1024, 4, 1),
            (1024, 4, 2),
            (1024, 4, 3),
        ] {
            narrow.extend((group..group + 8).map(|column| at(first + stride * column + offset)));
        }
    }
    Direction {
        wide: Factors::new(powers.iter().take(256).copied().collect()),
        narrow: Factors::new(narrow),
    }
}

impl Tables {
    /// The tables: made once.
    pub(super) fn get() -> &'static Self {
        &TABLES
    }

    fn new() -> Self {
        let scale = inverse(RING as u64);
        let mut tables = Self {
            forward: direction(ROOT),
            backward: direction(inverse(ROOT)),
            to_orbit: Vec::new(),
            from_orbit: Vec::new(),
            scale,
            scale_quotient: quotient(scale),
        };
        // The transform of X tells which power of the root each place is for.
        let mut values = [0; RING];
        if let Some(x) = values.get_mut(1) {
            *x = 1;
        }
        Kernel::scalar().forward(&tables, &mut values);
        let mut places = std::collections::HashMap::with_capacity(RING);
        for (place, value) in (0_u32..).zip(values) {
            places.insert(value, place);
        }
        let orbit =
            |start: u64| std::iter::successors(Some(start), |e| Some(e * 5 % 4096)).take(HALF);
        tables.to_orbit = orbit(1)
            .chain(orbit(4095))
            .filter_map(|e| places.get(&power(ROOT, e)).copied())
            .collect();
        let mut from: Vec<(u32, u32)> = tables.to_orbit.iter().copied().zip(0..).collect();
        from.sort_unstable();
        tables.from_orbit = from.into_iter().map(|(_, place)| place).collect();
        tables
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
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::pir::parameters::Q;

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
    fn orbit_order_turns_automorphisms_into_rotations() {
        let mut rng = StdRng::seed_from_u64(2);
        let tables = Tables::get();
        let a = random(&mut rng);
        let orbit = |mut x: Poly| {
            let mut values = [0; RING];
            Kernel::scalar().forward(tables, &mut x);
            Kernel::scalar().gather(&mut values, &x, &tables.to_orbit);
            let mut back = [0; RING];
            Kernel::scalar().gather(&mut back, &values, &tables.from_orbit);
            assert_eq!(back, x);
            values
        };
        let automorphism = |by: usize| {
            let mut image = [0; RING];
            for (i, a) in a.iter().enumerate() {
                let power = i * by % 4096;
                image[power % RING] = if power < RING { *a } else { (Q - a) % Q };
            }
            image
        };
        let values = orbit(a);
        let five = orbit(automorphism(5));
        let minus = orbit(automorphism(4095));
        for p in 0..HALF {
            assert_eq!(five[p], values[(p + 1) % HALF]);
            assert_eq!(five[HALF + p], values[HALF + (p + 1) % HALF]);
            assert_eq!(minus[p], values[HALF + p]);
            assert_eq!(minus[HALF + p], values[p]);
        }
    }
}
