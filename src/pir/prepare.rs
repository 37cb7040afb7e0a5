//! What the server computes ahead of all queries, one block of 2048 columns at
//! a time: the hint, which is the data times the samples' masks, and from it
//! the digits that pack 2048 sums into one ring element.
//!
//! Packing: the sum of column k comes under the mask `h_k`, a ring element whose
//! product with the secret s has the wanted number in coefficient 0. That
//! coefficient is the mean of all images of the product under the
//! automorphisms of the ring, so that
//! `sum_k X^k (b_k - mean_g(g(h_k) g(s))) = B - sum_g A_g g(s)` with
//! `A_g = 1/2048 sum_k X^k g(h_k)`: one element for each image of the secret.
//! From the farthest image on, each is switched to the one before it, whose
//! element takes in what that leaves; the digits of the elements depend on
//! nothing that a query brings.

use super::{
    data::Columns,
    kernels::{CHUNK, Kernel, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, TILE},
    memory::{OutOfMemory, Pages},
    modulus::{of_signed, to_signed},
    ntt::{Factors, HALF, Poly, Tables},
    parameters::{DIGITS, MASK_BITS, Q, RING},
    public::Public,
};
use crate::pir::bits;

/// Columns whose bytes share a cache line, and are taken together.
const TOGETHER: usize = 16;

/// Values of a cache line.
const LINE: usize = 8;

/// The masks of a block's sums: for each column a ring element modulo 2^32.
pub struct Hint(Pages<u32>);

/// What a block's sums are packed with.
pub(super) struct Packed {
    pub(super) digits: Digits,
    /// The digits of the last switch, from `X^-1` to the secret itself.
    pub(super) last: [Vec<u64>; DIGITS],
    /// The mask of every answer, in its bytes.
    pub(super) mask: Vec<u8>,
}

impl Hint {
    pub(super) fn zero() -> Result<Self, OutOfMemory> {
        Pages::new(RING * RING).map(Self)
    }

    /// A byte of the data changed: what that does to its column's mask.
    pub(super) fn change(&mut self, public: &Public, row: usize, column: usize, old: u8, new: u8) {
        let by = u32::from(new).wrapping_sub(u32::from(old));
        let Some(group) = public.groups.get(row / RING) else { return };
        let Some(mask) = self.0.get_mut(column * RING..(column + 1) * RING) else { return };
        // X^-t times the group's element.
        let (wrapped, straight) = group.split_at(row % RING);
        let (front, back) = mask.split_at_mut(straight.len());
        for (to, from) in front.iter_mut().zip(straight) {
            *to = to.wrapping_add(by.wrapping_mul(*from));
        }
        for (to, from) in back.iter_mut().zip(wrapped) {
            *to = to.wrapping_sub(by.wrapping_mul(*from));
        }
    }
}

/// The digits of a block: [`PACKED_VALUES`].
pub(super) struct Digits(Pages<u64>);

impl std::ops::Deref for Digits {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

/// Memory that a change put aside.
pub struct Spare(Vec<Digits>);

impl Spare {
    pub(super) fn of(packed: impl IntoIterator<Item = Packed>) -> Self {
        Self(packed.into_iter().map(|packed| packed.digits).collect())
    }
}

/// Prepares blocks, one after another, on one thread: holds the constants and
/// the memory to work in.
pub struct Preparer {
    kernel: Kernel,
    /// For each group the values of the lower and the upper 16 bits of its
    /// element, turned about.
    groups: Vec<[Box<Poly>; 2]>,
    /// The masks of the key for `X^5`, each half twice over; of that for `X^-1`.
    turning: [[Factors; 2]; DIGITS],
    last: [Factors; DIGITS],
    scale: Factors,
    square: Pages<u64>,
    images: Pages<u64>,
    /// Memory of digits that nobody reads any more.
    spare: Vec<Digits>,
}

impl Preparer {
    /// Makes room.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(public: &Public, kernel: Kernel) -> Result<Self, OutOfMemory> {
        let tables = Tables::get();
        let values = |mut x: Box<Poly>| {
            kernel.forward(tables, &mut x);
            x
        };
        let groups = public
            .groups
            .iter()
            .map(|group| {
                let turned = turned_about(group);
                let part = |part: fn(i32) -> i32| {
                    let mut x = Box::new([0; RING]);
                    for (x, mask) in x.iter_mut().zip(&turned) {
                        *x = of_signed(i64::from(part(mask.cast_signed())));
                    }
                    values(x)
                };
                // lower + 2^16 * upper, both signed.
                [part(lower), part(|mask| mask.wrapping_sub(lower(mask)) >> 16)]
            })
            .collect();
        let [five, minus] = &public.keys;
        let twice = |half: &[u64]| Factors::new([half, half].concat());
        let negative_scale = vec![Q - tables.scale; RING];
        Ok(Self {
            kernel,
            groups,
            turning: five.each_ref().map(|masks| {
                let (plus, minus) = masks.split_at(HALF);
                [twice(plus), twice(minus)]
            }),
            last: minus.each_ref().map(|masks| Factors::new(masks.clone())),
            scale: Factors::new(negative_scale),
            square: Pages::new(RING * RING)?,
            images: Pages::new(RING * RING)?,
            spare: Vec::new(),
        })
    }

    /// Takes back memory that a change put aside, for the blocks to come: to get
    /// it anew from the system costs as much as the computation.
    pub fn recycle(&mut self, spare: Spare) {
        self.spare.extend(spare.0);
    }

    /// The hint of a block.
    pub(super) fn hint(&self, columns: &Columns) -> Result<Hint, OutOfMemory> {
        let mut hint = Hint::zero()?;
        let mut masks = hint.0.chunks_exact_mut(RING);
        let mut work = Work::new();
        for tile in columns.tiles() {
            for first in (0..TILE).step_by(TOGETHER) {
                self.hint_together(tile, first, &mut work, &mut masks);
            }
        }
        Ok(hint)
    }

    fn hint_together<'a>(
        &self,
        tile: &[u8],
        first: usize,
        work: &mut Work,
        masks: &mut impl Iterator<Item = &'a mut [u32]>,
    ) {
        let (kernel, tables) = (self.kernel, Tables::get());
        for sums in work.sums.iter_mut().flatten().flatten() {
            sums.fill(0);
        }
        let rows_at_once = RING / QUAD * TILE * QUAD;
        for (run, group) in tile.chunks(rows_at_once).zip(&self.groups) {
            // The bytes of these columns, column by column.
            for (row, quad) in run.chunks_exact(TILE * QUAD).enumerate() {
                let bytes = quad.as_chunks::<QUAD>().0.iter().skip(first);
                for (column, bytes) in work.bytes.iter_mut().zip(bytes) {
                    if let Some(to) = column.as_chunks_mut::<QUAD>().0.get_mut(row) {
                        *to = *bytes;
                    }
                }
            }
            let rows = run.len() / TILE;
            for (bytes, sums) in work.bytes.iter().zip(&mut work.sums) {
                work.poly.fill(0);
                kernel.centre(&mut work.poly, bytes.get(..rows).unwrap_or(bytes));
                kernel.forward(tables, &mut work.poly);
                for ([low, high], part) in sums.iter_mut().zip(group) {
                    kernel.accumulate(low, high, &work.poly, part);
                }
            }
        }
        for (sums, mask) in work.sums.iter().zip(masks) {
            let mut sample = Box::new([0_u32; RING]);
            for ([low, high], shift) in sums.iter().zip([0, 16]) {
                kernel.reduce(&mut work.poly, low, high);
                kernel.backward(tables, &mut work.poly);
                // Exact: below 2^39 in size.
                for (sample, x) in sample.iter_mut().zip(work.poly.iter()) {
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "modulo 2^32"
                    )]
                    let part = (to_signed(*x) << shift) as u32;
                    *sample = sample.wrapping_add(part);
                }
            }
            mask.copy_from_slice(&turned_about(sample.as_slice()));
        }
    }

    /// Memory for the digits of a block.
    pub(super) fn digits(&mut self) -> Result<Digits, OutOfMemory> {
        self.spare.pop().map_or_else(|| Pages::new(PACKED_VALUES).map(Digits), Ok)
    }

    /// What packs the sums of a block with this hint.
    pub(super) fn pack(&mut self, hint: &Hint, digits: Digits) -> Packed {
        self.transform_masks(hint);
        self.transform_images();
        self.collapse(digits)
    }

    /// The values of all masks: `square[value][column]`.
    fn transform_masks(&mut self, hint: &Hint) {
        let (kernel, tables) = (self.kernel, Tables::get());
        let mut lines = vec![[0; RING]; LINE];
        for (step, masks) in hint.0.chunks_exact(LINE * RING).enumerate() {
            for (line, mask) in lines.iter_mut().zip(masks.chunks_exact(RING)) {
                kernel.lift(line, mask);
                kernel.forward(tables, line);
            }
            kernel.columns(&lines, &mut self.square, step);
        }
    }

    /// The values of all images `A_g`, by chain and step, in orbit order, eight
    /// steps together.
    fn transform_images(&mut self) {
        let (kernel, tables) = (self.kernel, Tables::get());
        let mut lines = vec![[0; RING]; LINE];
        let mut line = [0; RING];
        for (first, rows) in tables.to_orbit.chunks_exact(LINE).enumerate() {
            for (to, row) in lines.iter_mut().zip(rows) {
                let from = *row as usize * RING;
                if let Some(row) = self.square.get(from..from + RING) {
                    line.copy_from_slice(row);
                }
                kernel.forward(tables, &mut line);
                kernel.gather(to, &line, &tables.to_orbit);
            }
            let first = first * LINE;
            let (half, first) = (first / HALF, first % HALF);
            for (offset, line) in lines.iter().enumerate() {
                for (to_half, values) in line.chunks_exact(HALF).enumerate() {
                    let chain = half ^ to_half;
                    for (p, value) in values.iter().enumerate() {
                        let step = (first + offset + HALF - p) % HALF;
                        let place = image_place(chain, step, to_half * HALF + p);
                        if let Some(to) = self.images.get_mut(place) {
                            *to = *value;
                        }
                    }
                }
            }
        }
    }

    /// `A_g` of this chain and step, scaled, in orbit order.
    fn image(&self, chain: usize, step: usize, unscaled: &mut Poly, to: &mut Poly) {
        let lines = self.images.as_chunks::<LINE>().0;
        let first = image_place(chain, step, 0) / LINE;
        let lines = lines.get(first..first + RING).unwrap_or_default();
        for (to, line) in unscaled.iter_mut().zip(lines) {
            *to = line.get(step % LINE).copied().unwrap_or(0);
        }
        to.fill(0);
        self.kernel.subtract_products(to, unscaled, &self.scale.factor, &self.scale.quotient);
    }

    /// Switches all images to the secret itself. Every digit is written.
    fn collapse(&self, mut digits: Digits) -> Packed {
        let (kernel, tables) = (self.kernel, Tables::get());
        let mut sums = [Box::new([0; RING]), Box::new([0; RING])];
        let mut next = sums.clone();
        let mut work = Box::new([0; RING]);
        let mut cut = [Box::new([0; RING]), Box::new([0; RING])];
        let mut values = Box::new([0; RING]);
        for (chain, sum) in sums.iter_mut().enumerate() {
            self.image(chain, HALF - 1, &mut work, sum);
        }
        for step in (0..STEPS).rev() {
            for (chain, (sum, next)) in sums.iter().zip(&mut next).enumerate() {
                self.image(chain, step, &mut work, next);
                self.coefficients(sum, &mut work);
                kernel.cut(&work, &mut cut);
                for (digit, (cut, turning)) in cut.iter_mut().zip(&self.turning).enumerate() {
                    kernel.forward(tables, cut);
                    kernel.gather(&mut values, cut, &tables.to_orbit);
                    store(&mut digits.0, step, digit, chain, &values);
                    let halves = next.chunks_exact_mut(HALF).zip(values.chunks_exact(HALF));
                    for (half, (next, values)) in halves.enumerate() {
                        let Some(turning) = turning.get(chain ^ half) else { continue };
                        kernel.subtract_products(
                            next,
                            values,
                            turning.factor.get(step..step + HALF).unwrap_or_default(),
                            turning.quotient.get(step..step + HALF).unwrap_or_default(),
                        );
                    }
                }
            }
            std::mem::swap(&mut sums, &mut next);
        }
        // From X^-1 to the secret itself.
        let [mut mask, about] = sums;
        self.coefficients(&about, &mut work);
        kernel.cut(&work, &mut cut);
        let mut last = [const { Vec::new() }; DIGITS];
        for ((cut, masks), last) in cut.iter_mut().zip(&self.last).zip(&mut last) {
            kernel.forward(tables, cut);
            kernel.gather(&mut values, cut, &tables.to_orbit);
            kernel.subtract_products(
                mask.as_mut_slice(),
                values.as_slice(),
                &masks.factor,
                &masks.quotient,
            );
            *last = values.to_vec();
        }
        self.coefficients(&mask, &mut work);
        let mut bytes = Vec::new();
        bits::write(&mut bytes, MASK_BITS, work.iter().map(|x| rounded(*x, MASK_BITS)));
        Packed { digits, last, mask: bytes }
    }

    fn coefficients(&self, values: &Poly, to: &mut Poly) {
        let tables = Tables::get();
        self.kernel.gather(to, values, &tables.from_orbit);
        self.kernel.backward(tables, to);
    }
}

/// `x * 2^bits / Q`, rounded, modulo `2^bits`.
#[expect(clippy::cast_possible_truncation, reason = "masked")]
pub(super) const fn rounded(x: u64, bits: u32) -> u64 {
    let scaled = (((x as u128) << bits) + Q as u128 / 2) / Q as u128;
    scaled as u64 & ((1 << bits) - 1)
}

/// Memory for [`TOGETHER`] columns.
struct Work {
    bytes: Vec<[u8; RING]>,
    /// By column, by part: low and high.
    sums: Vec<[[Box<Poly>; 2]; 2]>,
    poly: Box<Poly>,
}

impl Work {
    fn new() -> Self {
        let two = || [Box::new([0; RING]), Box::new([0; RING])];
        Self {
            bytes: vec![[0; RING]; TOGETHER],
            sums: (0..TOGETHER).map(|_| [two(), two()]).collect(),
            poly: Box::new([0; RING]),
        }
    }
}

const fn lower(mask: i32) -> i32 {
    (mask << 16) >> 16
}

/// Coefficients under `X -> X^-1`.
fn turned_about(coefficients: &[u32]) -> Vec<u32> {
    let (first, rest) = coefficients.split_at(1);
    first.iter().copied().chain(rest.iter().rev().map(|x| x.wrapping_neg())).collect()
}

const fn image_place(chain: usize, step: usize, place: usize) -> usize {
    ((chain * HALF + step) / LINE * RING + place) * LINE + step % LINE
}

fn store(digits: &mut [u64], step: usize, digit: usize, chain: usize, values: &Poly) {
    for (half, values) in values.chunks_exact(HALF).enumerate() {
        let first = step * STEP_VALUES + ((digit * 2 + chain) * 2 + half) * CHUNK;
        let places = digits.get_mut(first..).unwrap_or_default();
        let places = places.chunks_mut(STEPS * STEP_VALUES);
        for (to, values) in places.zip(values.as_chunks::<CHUNK>().0) {
            if let Some(to) = to.first_chunk_mut() {
                *to = *values;
            }
        }
    }
}
