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

    /// Writes the leading columns of a row.
    pub(super) fn write(&mut self, row: usize, bytes: &[u8]) {
        let (quad, shift) = (row / QUAD, row % QUAD * 8);
        let mask = !(0xff << shift);
        let tiles = self.bytes.chunks_exact_mut(self.rows * TILE);
        for (tile, bytes) in tiles.zip(bytes.chunks(TILE)) {
            let Some(quad) = tile.as_chunks_mut::<{ TILE * QUAD }>().0.get_mut(quad) else {
                return;
            };
            for (column, byte) in quad.as_chunks_mut().0.iter_mut().zip(bytes) {
                let others = u32::from_le_bytes(*column) & mask;
                *column = (others | u32::from(*byte) << shift).to_le_bytes();
            }
        }
    }

    /// The leading columns of a row.
    pub(super) fn read(&self, row: usize, columns: usize) -> impl Iterator<Item = u8> + '_ {
        let quads = self.tiles().filter_map(move |tile| {
            let quads = tile.as_chunks::<{ TILE * QUAD }>().0;
            quads.get(row / QUAD).map(|quad| quad.as_chunks::<QUAD>().0)
        });
        quads.flatten().filter_map(move |column| column.get(row % QUAD)).copied().take(columns)
    }

    /// The tiles, from the first column on.
    pub(super) fn tiles(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.rows * TILE)
    }
}
