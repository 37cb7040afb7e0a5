//! The inner loops, three times: plain Rust, AVX2, and AVX-512 with IFMA and
//! VNNI, chosen at run time. All give the same bytes.
//!
//! This is the only room of Blindbook with `unsafe` code, and only to call
//! instructions that the processor was asked for and to read and write where
//! the length was checked.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[expect(clippy::inline_always, reason = "compiled anew with the instructions of each way")]
mod ahead;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[expect(clippy::many_single_char_names, reason = "registers")]
#[expect(clippy::inline_always, reason = "compiled anew with the instructions of each way")]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[expect(clippy::many_single_char_names, reason = "registers")]
mod avx512;
#[cfg(target_arch = "x86_64")]
#[expect(clippy::many_single_char_names, reason = "registers")]
#[expect(clippy::inline_always, reason = "compiled anew with the instructions of each way")]
mod places;
#[expect(clippy::many_single_char_names, reason = "as in the others")]
#[expect(clippy::inline_always, reason = "compiled anew with the instructions of each way")]
mod scalar;

use super::{
    ntt::{HALF, LANES, Poly, Tables},
    parameters::{DIGITS, RING},
};

/// Columns of a tile: what one pass of the scan accumulates.
pub(super) const TILE: usize = 64;

/// Rows that lie side by side in a tile: what one instruction takes.
pub(super) const QUAD: usize = 4;

/// Values of one half that one pass of the packing accumulates.
pub(super) const CHUNK: usize = 8;

/// Steps of packing that share a key: one for each automorphism but the first
/// of each half.
pub(super) const STEPS: usize = HALF - 1;

/// Digits' values of one step and chunk: digit, chain, half, value.
pub(super) const STEP_VALUES: usize = DIGITS * 2 * 2 * CHUNK;

/// Digits' values of one block.
pub(super) const PACKED_VALUES: usize = HALF / CHUNK * STEPS * STEP_VALUES;

/// Values of a row of a square: for each half its values, and the first of them
/// once more, so that eight that go around the end lie side by side.
pub(super) const WIDTH: usize = 2 * (HALF + LANES);

/// Where in a row of a square value `value` of a half lies.
pub(super) const fn square_place(half: usize, value: usize) -> usize {
    half * (HALF + LANES) + value
}

/// Where in row `p` of a half the images of a step and of those after it begin.
const fn diagonal_place(half: usize, p: usize, step: usize) -> usize {
    square_place(half, (p + step) % HALF)
}

/// Most queries that share one pass.
#[cfg(feature = "server")]
pub const BATCH: usize = 4;

/// The samples of a query, as the kernels take them.
pub(super) struct Samples {
    /// One a row.
    words: Vec<u32>,
    /// The same as balanced bytes: for four rows, their lowest, second, third
    /// and highest bytes.
    limbs: Vec<[u32; 4]>,
    /// The same as halves that count as signed: for four rows, the lower ones of
    /// the first and the third, of the second and the fourth, and the upper ones.
    halves: Vec<[u32; 4]>,
    /// The sum of all.
    sum: u32,
}

impl Samples {
    /// Takes one sample a row.
    pub(super) fn new(words: Vec<u32>) -> Self {
        let limbs = words
            .chunks_exact(QUAD)
            .map(|rows| {
                let mut bytes = [[0_u8; QUAD]; 4];
                for (row, word) in rows.iter().enumerate() {
                    let mut rest = *word;
                    for limb in &mut bytes {
                        let [low, ..] = rest.to_le_bytes();
                        if let Some(byte) = limb.get_mut(row) {
                            *byte = low;
                        }
                        // What is left after a byte that counts as signed.
                        rest = (rest >> 8).wrapping_add(u32::from(low >> 7));
                    }
                }
                bytes.map(u32::from_le_bytes)
            })
            .collect();
        let halves = words.as_chunks::<QUAD>().0.iter().map(|rows| {
            let lower = rows.map(|word| word & 0xffff);
            // What is left after a half that counts as signed.
            let upper = rows.map(|word| (word >> 16).wrapping_add(word >> 15 & 1));
            let pairs = |[a, b, c, d]: [u32; QUAD]| [a & 0xffff | c << 16, b & 0xffff | d << 16];
            let ([a, b], [c, d]) = (pairs(lower), pairs(upper));
            [a, b, c, d]
        });
        let halves = halves.collect();
        let sum = words.iter().fold(0, |sum: u32, word| sum.wrapping_add(*word));
        Self { words, limbs, halves, sum }
    }

    /// The sum of all samples modulo 2^32.
    pub(super) const fn sum(&self) -> u32 {
        self.sum
    }
}

/// The bodies of a packing key in orbit order, each half twice over, so that a
/// rotation is a place to begin at.
pub(super) struct Turning {
    /// By digit, by half, each [`APART`] from the next.
    values: Vec<u64>,
}

/// Halves of keys are read side by side. Did they begin at the same place of a page,
/// as allocations of 16 KiB do, they would displace each other in the nearest cache.
const APART: usize = 2 * HALF + 32;

impl Turning {
    /// Takes the values of each digit in orbit order.
    pub(super) fn new(digits: &[Vec<u64>; DIGITS]) -> Self {
        let mut values = vec![0; 2 * DIGITS * APART];
        let halves = digits.iter().flat_map(|values| values.chunks(HALF));
        for (to, half) in values.chunks_exact_mut(APART).zip(halves) {
            for (to, value) in to.iter_mut().zip(half.iter().chain(half)) {
                *to = *value;
            }
        }
        Self { values }
    }

    /// By digit, by half.
    fn halves(&self) -> [[&[u64]; 2]; DIGITS] {
        let mut halves = self.values.chunks_exact(APART).filter_map(|half| half.get(..2 * HALF));
        [(); DIGITS].map(|()| [(); 2].map(|()| halves.next().unwrap_or_default()))
    }
}

/// One of the three ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Way);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Calls what this way has.
macro_rules! by_way {
    ($way:expr, $name:ident $(::<$n:ident>)? ($($argument:expr),*)) => {
        match $way {
            #[cfg(target_arch = "x86_64")]
            Way::Avx512 => avx512::$name $(::<$n>)? ($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => avx2::$name $(::<$n>)? ($($argument),*),
            Way::Scalar => scalar::$name $(::<$n>)? ($($argument),*),
        }
    };
}

impl Kernel {
    /// The fastest that this processor has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().copied().unwrap_or(Self::scalar())
    }

    /// All that this processor has, the plain one first.
    #[must_use]
    pub fn available() -> &'static [Self] {
        const ALL: &[Kernel] = &[
            Kernel(Way::Scalar),
            #[cfg(target_arch = "x86_64")]
            Kernel(Way::Avx2),
            #[cfg(target_arch = "x86_64")]
            Kernel(Way::Avx512),
        ];
        #[cfg(target_arch = "x86_64")]
        let count = if avx512::is_available() && avx2::is_available() {
            3
        } else if avx2::is_available() {
            2
        } else {
            1
        };
        #[cfg(not(target_arch = "x86_64"))]
        let count = 1;
        ALL.get(..count).unwrap_or(ALL)
    }

    /// Plain Rust: the reference of the others.
    #[must_use]
    pub const fn scalar() -> Self {
        Self(Way::Scalar)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Way::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Way::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Way::Avx512 => "AVX-512",
        }
    }

    /// The values of a polynomial, in orbit order.
    pub(super) fn forward(self, tables: &Tables, x: &mut Poly) {
        by_way!(self.0, forward(tables, x));
    }

    /// The polynomial of values in orbit order.
    pub(super) fn backward(self, tables: &Tables, x: &mut Poly) {
        by_way!(self.0, backward(tables, tables.scale, x));
    }

    /// The same over 2048.
    pub(super) fn backward_over(self, tables: &Tables, x: &mut Poly) {
        by_way!(self.0, backward(tables, tables.squared, x));
    }

    /// For each column of a tile and each query, the sum over all rows of byte
    /// times sample, modulo 2^32. A tile is as long as the samples say, or only
    /// what both have counts.
    pub(super) fn scan<const N: usize>(
        self,
        tile: &[u8],
        samples: &[&Samples; N],
        sums: &mut [[u32; TILE]; N],
    ) {
        by_way!(self.0, scan::<N>(tile, samples, sums));
    }

    /// The sum over all steps of digits times the turned key, reduced, in orbit
    /// order. Digits are [`PACKED_VALUES`] long, or nothing is summed.
    pub(super) fn pack<const N: usize>(
        self,
        digits: &[u64],
        keys: &[&Turning; N],
        sums: &mut [Poly; N],
    ) {
        by_way!(self.0, pack::<N>(digits, keys, sums));
    }

    /// `sums += x * factors`, place by place, unreduced: low and high 52 bits of
    /// the products apart.
    pub(super) fn accumulate(self, low: &mut Poly, high: &mut Poly, x: &Poly, factors: &Poly) {
        by_way!(self.0, accumulate(low, high, x, factors));
    }

    /// What [`Self::accumulate`] summed, reduced.
    pub(super) fn reduce(self, to: &mut Poly, low: &Poly, high: &Poly) {
        by_way!(self.0, reduce(to, low, high));
    }

    /// `sums -= x * factors`, place by place, of so many as all have.
    pub(super) fn subtract_products(
        self,
        sums: &mut [u64],
        x: &[u64],
        factors: &[u64],
        quotients: &[u64],
    ) {
        by_way!(self.0, subtract_products(sums, x, factors, quotients));
    }

    /// Lifts samples modulo 2^32 to residues modulo Q.
    pub(super) fn lift(self, to: &mut Poly, samples: &[u32]) {
        by_way!(self.0, lift(to, samples));
    }

    /// Cuts residues into signed digits, each a residue.
    pub(super) fn cut(self, x: &Poly, digits: &mut [Box<Poly>; DIGITS]) {
        by_way!(self.0, cut(x, digits));
    }

    /// Writes eight lines as columns of a square from `place` of its rows on:
    /// `square[i][place + k] = lines[k][i]`, its rows [`WIDTH`] long.
    pub(super) fn columns(self, lines: &[Poly], square: &mut [u64], place: usize) {
        by_way!(self.0, columns(lines, square, place));
    }

    /// The images of eight steps, for both chains, out of a square with a row for
    /// each value: the diagonals of its quarters.
    pub(super) fn diagonals(self, square: &[u64], first: usize, to: &mut [Vec<Poly>; 2]) {
        by_way!(self.0, diagonals(square, first, to));
    }

    /// Writes the values of a digit where [`Self::pack`] reads them: two chunks, one
    /// of each half, from `place` on and after each [`STEPS`] steps.
    pub(super) fn spread(self, values: &Poly, digits: &mut [u64], place: usize) {
        by_way!(self.0, spread(values, digits, place));
    }

    /// Reads all bytes and does next to nothing with them: what memory allows. A
    /// sum of words, of as many whole 256 bytes as there are.
    pub(super) fn read(self, bytes: &[u8]) -> u64 {
        by_way!(self.0, read(bytes))
    }

    /// Bytes less 128 as residues.
    pub(super) fn centre(self, to: &mut Poly, bytes: &[u8]) {
        by_way!(self.0, centre(to, bytes));
    }
}

const _: () = assert!(RING.is_multiple_of(TILE) && HALF.is_multiple_of(CHUNK));
