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
    kernels::{CHUNK, Kernel, PACKED_VALUES, QUAD, STEP_VALUES, STEPS, TILE, WIDTH, square_place},
    memory::{OutOfMemory, Pages},
    modulus::{multiply, of_signed, to_signed},
    ntt::{Factors, HALF, LANES, Poly, Tables},
    parameters::{DIGITS, MASK_BITS, Q, RING},
    public::Public,
};
use crate::pir::bits;

/// Columns whose bytes share a cache line, and are taken together.
const TOGETHER: usize = 16;

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
    /// The masks of the key for `X^5` times 2048, each half twice over; of that for
    /// `X^-1`.
    turning: [[Factors; 2]; DIGITS],
    last: [Factors; DIGITS],
    /// The values of all masks: a row for each value.
    masks: Pages<u64>,
    /// The values of those rows: a row for each value.
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
        let larger =
            |masks: &Vec<u64>| masks.iter().map(|x| multiply(*x, RING as u64)).collect::<Vec<_>>();
        let [five, minus] = public.keys.each_ref().map(|keys| keys.each_ref().map(larger));
        let twice = |half: &[u64]| Factors::new([half, half].concat());
        Ok(Self {
            kernel,
            groups,
            turning: five.map(|masks| {
                let (plus, minus) = masks.split_at(HALF);
                [twice(plus), twice(minus)]
            }),
            last: minus.map(Factors::new),
            masks: Pages::new(RING * WIDTH)?,
            images: Pages::new(RING * WIDTH)?,
            spare: Vec::new(),
        })
    }

    /// Gets memory for so many blocks ahead: to get it when it is needed costs as much
    /// as the computation.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn reserve(&mut self, blocks: usize) -> Result<(), OutOfMemory> {
        while self.spare.len() < blocks {
            let mut digits = Pages::new(PACKED_VALUES)?;
            digits.touch();
            self.spare.push(Digits(digits));
        }
        Ok(())
    }

    /// Takes over the memory of another.
    pub fn join(&mut self, other: Self) {
        self.spare.extend(other.spare);
    }

    /// Takes back memory that a change put aside, for the blocks to come.
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

    /// The values of all masks, as columns.
    fn transform_masks(&mut self, hint: &Hint) {
        let (kernel, tables) = (self.kernel, Tables::get());
        let mut lines = vec![[0; RING]; LANES];
        for (step, masks) in hint.0.chunks_exact(LANES * RING).enumerate() {
            for (line, mask) in lines.iter_mut().zip(masks.chunks_exact(RING)) {
                kernel.lift(line, mask);
                kernel.forward(tables, line);
            }
            kernel.columns(&lines, &mut self.masks, step * LANES);
        }
    }

    /// For each value the polynomial that the masks have in it, by its values, as
    /// columns: the images `A_g` lie on the diagonals.
    fn transform_images(&mut self) {
        let (kernel, tables) = (self.kernel, Tables::get());
        let mut lines = vec![[0; RING]; LANES];
        for (step, rows) in self.masks.chunks_exact(LANES * WIDTH).enumerate() {
            for (line, row) in lines.iter_mut().zip(rows.chunks_exact(WIDTH)) {
                if let Some(row) = row.first_chunk() {
                    *line = *row;
                }
                kernel.forward(tables, line);
            }
            let (half, first) = (step * LANES / HALF, step * LANES % HALF);
            kernel.columns(&lines, &mut self.images, square_place(half, first));
            if first == 0 {
                kernel.columns(&lines, &mut self.images, square_place(half, HALF));
            }
        }
    }

    /// Switches all images to the secret itself. Every digit is written.
    ///
    /// The sums are too large by 2048, as what the masks of the keys were multiplied
    /// by, until they are polynomials again.
    fn collapse(&self, mut digits: Digits) -> Packed {
        let (kernel, tables) = (self.kernel, Tables::get());
        let mut images = [vec![[0; RING]; LANES], vec![[0; RING]; LANES]];
        let mut sums = [Box::new([0; RING]), Box::new([0; RING])];
        let mut cut = [Box::new([0; RING]), Box::new([0; RING])];
        for step in (0..HALF).rev() {
            if step % LANES == LANES - 1 {
                kernel.diagonals(&self.images, step + 1 - LANES, &mut images);
            }
            for (chain, (sum, images)) in sums.iter_mut().zip(&mut images).enumerate() {
                let Some(image) = images.get_mut(step % LANES) else { continue };
                // The farthest takes in nothing.
                if step < STEPS {
                    kernel.backward_over(tables, sum);
                    kernel.cut(sum, &mut cut);
                    for (digit, (cut, turning)) in cut.iter_mut().zip(&self.turning).enumerate() {
                        kernel.forward(tables, cut);
                        kernel.spread(cut, &mut digits.0, digit_place(step, digit, chain));
                        let halves = image.chunks_exact_mut(HALF).zip(cut.chunks_exact(HALF));
                        for (half, (image, values)) in halves.enumerate() {
                            let Some(turning) = turning.get(chain ^ half) else { continue };
                            kernel.subtract_products(
                                image,
                                values,
                                turning.factor.get(step..step + HALF).unwrap_or_default(),
                                turning.quotient.get(step..step + HALF).unwrap_or_default(),
                            );
                        }
                    }
                }
                **sum = *image;
            }
        }
        // From X^-1 to the secret itself.
        let [mut mask, mut about] = sums;
        kernel.backward_over(tables, &mut about);
        kernel.cut(&about, &mut cut);
        for (values, masks) in cut.iter_mut().zip(&self.last) {
            kernel.forward(tables, values);
            let (factors, quotients) = (&masks.factor, &masks.quotient);
            kernel.subtract_products(mask.as_mut_slice(), values.as_slice(), factors, quotients);
        }
        kernel.backward_over(tables, &mut mask);
        let mut bytes = Vec::new();
        bits::write(&mut bytes, MASK_BITS, mask.iter().map(|x| rounded(*x, MASK_BITS)));
        Packed { digits, last: cut.map(|values| values.to_vec()), mask: bytes }
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

/// Where the values of a digit begin, in the first chunk.
const fn digit_place(step: usize, digit: usize, chain: usize) -> usize {
    step * STEP_VALUES + (digit * 2 + chain) * 2 * CHUNK
}
