//! The bytes of a matrix, as the scan reads them: blocks of 2048 columns, each
//! in tiles of 64 columns, in which four rows lie side by side.

use super::{
    kernels::{QUAD, TILE},
    memory::{OutOfMemory, Pages},
    parameters::{RING, Shape},
};

/// What a byte that nobody wrote is: nothing, once it is centred.
const EMPTY: u8 = 128;

/// One block of 2048 columns.
pub(super) struct Columns {
    rows: usize,
    bytes: Pages<u8>,
}

impl Columns {
    pub(super) fn new(shape: Shape) -> Result<Self, OutOfMemory> {
        let rows = shape.rows();
        let mut bytes = Pages::new(rows * RING)?;
        bytes.fill(EMPTY);
        Ok(Self { rows, bytes })
    }

    const fn place(&self, row: usize, column: usize) -> usize {
        let quads = self.rows / QUAD;
        ((column / TILE * quads + row / QUAD) * TILE + column % TILE) * QUAD + row % QUAD
    }

    /// Writes the leading columns of a row.
    pub(super) fn write(&mut self, row: usize, bytes: &[u8]) {
        if row >= self.rows {
            return;
        }
        for (column, byte) in bytes.iter().enumerate().take(RING) {
            let place = self.place(row, column);
            if let Some(to) = self.bytes.get_mut(place) {
                *to = *byte;
            }
        }
    }

    /// The leading columns of a row.
    pub(super) fn read(&self, row: usize, columns: usize) -> impl Iterator<Item = u8> + '_ {
        (0..columns.min(RING))
            .map(move |column| self.bytes.get(self.place(row, column)).copied().unwrap_or(EMPTY))
    }

    /// The tiles, from the first column on.
    pub(super) fn tiles(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.rows * TILE)
    }
}
