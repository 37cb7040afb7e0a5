//! The matrix that a server answers from, and its queries.

use std::collections::BTreeMap;

use super::{
    bits,
    data::Columns,
    kernels::{BATCH, Kernel, Samples, TILE, Turning},
    memory::OutOfMemory,
    modulus::{add, multiply, subtract},
    ntt::{Poly, Tables},
    parameters::{BODY_BITS, DIGITS, KEY_BITS, KEYS_BYTES, Q, RING, SAMPLE_BITS, Shape},
    prepare::{Hint, Packed, Preparer, Spare, rounded},
    public::Public,
};

/// A query that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Every query for a matrix has the same length.
    #[error("a query has {expected} bytes, this one {got}")]
    Length {
        /// What it must be.
        expected: usize,
        /// What it is.
        got: usize,
    },
    /// A residue that is not below the modulus.
    #[error("a packing key holds a number that is not below the modulus")]
    Residue,
}

/// A query, taken apart.
pub struct Query {
    samples: Samples,
    turning: Turning,
    last: [Vec<u64>; DIGITS],
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query(..)")
    }
}

impl Query {
    /// Takes the bytes of a query apart.
    ///
    /// # Errors
    /// [`QueryError`]: not the length that the shape says, or a key with a number
    /// that is not below the modulus.
    pub fn parse(shape: Shape, bytes: &[u8]) -> Result<Self, QueryError> {
        let (expected, got) = (shape.query_bytes(), bytes.len());
        if got != expected {
            return Err(QueryError::Length { expected, got });
        }
        let (samples, keys) = bytes.split_at(expected - KEYS_BYTES);
        #[expect(clippy::cast_possible_truncation, reason = "26 bits")]
        let words = bits::read(samples, SAMPLE_BITS)
            .map(|sample| (sample as u32) << (32 - SAMPLE_BITS))
            .collect();
        let mut residues = bits::read(keys, KEY_BITS);
        let mut key = || {
            let mut digits = [const { Vec::new() }; DIGITS];
            for digit in &mut digits {
                *digit = residues.by_ref().take(RING).collect();
                if digit.iter().any(|residue| *residue >= Q) {
                    return Err(QueryError::Residue);
                }
            }
            Ok(digits)
        };
        let (turning, last) = (Turning::new(&key()?), key()?);
        Ok(Self { samples: Samples::new(words), turning, last })
    }
}

/// One block of columns, ready for queries.
pub struct Block {
    columns: Columns,
    packed: Packed,
}

/// A block that is being filled.
pub struct Filling(Columns);

impl Filling {
    /// An empty block of a shape.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn new(shape: Shape) -> Result<Self, OutOfMemory> {
        Columns::new(shape).map(Self)
    }

    /// Writes what of a row belongs here: at most [`RING`] bytes.
    pub fn write(&mut self, row: usize, bytes: &[u8]) {
        self.0.write(row, bytes);
    }

    /// Makes the block ready, and gives the hint that later changes need.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn prepare(self, preparer: &mut Preparer) -> Result<(Block, Hint), OutOfMemory> {
        let hint = preparer.hint(&self.0)?;
        let digits = preparer.digits()?;
        let packed = preparer.pack(&hint, digits);
        Ok((Block { columns: self.0, packed }, hint))
    }
}

/// A matrix of bytes, ready for queries.
pub struct Matrix {
    shape: Shape,
    kernel: Kernel,
    blocks: Vec<Block>,
}

impl Matrix {
    /// Puts blocks together: as many as the shape has, or nothing is answered
    /// rightly.
    #[must_use]
    pub const fn new(shape: Shape, kernel: Kernel, blocks: Vec<Block>) -> Self {
        Self { shape, kernel, blocks }
    }

    /// Its shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The bytes of a row.
    #[must_use]
    pub fn row(&self, row: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.blocks.iter().flat_map(|block| block.columns.read(row, RING)).collect();
        bytes.truncate(self.shape.row_bytes());
        bytes
    }

    /// The blocks in which these are other bytes than a row has.
    #[must_use]
    pub fn differing(&self, row: usize, bytes: &[u8]) -> Vec<usize> {
        let parts = self.blocks.iter().zip(bytes.chunks(RING)).enumerate();
        parts
            .filter(|(_, (block, part))| {
                !block.columns.read(row, part.len()).eq(part.iter().copied())
            })
            .map(|(number, _)| number)
            .collect()
    }

    /// Puts prepared changes in place, all at once. What they took the place of
    /// is for [`Preparer::recycle`].
    pub fn apply(&mut self, change: Change) -> Spare {
        let mut old = Vec::new();
        for (number, renewed) in change.blocks {
            if let Some(block) = self.blocks.get_mut(number) {
                for (row, bytes) in renewed.writes {
                    block.columns.write(row, &bytes);
                }
                old.push(std::mem::replace(&mut block.packed, renewed.packed));
            }
        }
        Spare::of(old)
    }

    /// Answers queries. They share the pass over the memory, up to four at a
    /// time.
    #[must_use]
    pub fn answer(&self, queries: &[&Query]) -> Vec<Vec<u8>> {
        queries
            .chunks(BATCH)
            .flat_map(|queries| match queries {
                [] => Vec::new(),
                [a] => self.answer_together(&[*a]),
                [a, b] => self.answer_together(&[*a, *b]),
                [a, b, c] => self.answer_together(&[*a, *b, *c]),
                [a, b, c, d, ..] => self.answer_together(&[*a, *b, *c, *d]),
            })
            .collect()
    }

    fn answer_together<const N: usize>(&self, queries: &[&Query; N]) -> Vec<Vec<u8>> {
        let mut answers: Vec<Vec<u8>> =
            queries.iter().map(|_| Vec::with_capacity(self.shape.answer_bytes())).collect();
        let mut packed = vec![[0; RING]; N];
        for block in &self.blocks {
            let sums = block.scan(self.kernel, queries);
            block.pack(self.kernel, queries, &mut packed);
            for (((answer, query), sums), packed) in
                answers.iter_mut().zip(queries).zip(&sums).zip(&packed)
            {
                block.finish(self.kernel, query, sums, packed, answer);
            }
        }
        answers
    }

    /// Only the scan: the sums of each block and query. For measurements.
    #[must_use]
    pub fn scan(&self, query: &Query) -> u32 {
        self.blocks
            .iter()
            .flat_map(|block| block.scan(self.kernel, &[query]))
            .flatten()
            .fold(0, u32::wrapping_add)
    }

    /// One pass over all bytes that does as good as nothing with them: what memory
    /// allows. For measurements.
    #[must_use]
    pub fn read_through(&self) -> u64 {
        self.blocks
            .iter()
            .flat_map(|block| block.columns.tiles())
            .fold(0, |sum, tile| sum.wrapping_add(self.kernel.read(tile)))
    }
}

impl Block {
    /// What of these parts belongs here, and is not here yet.
    fn differing(&self, number: usize, parts: &[Part<impl AsRef<[u8]>>]) -> Writes {
        parts
            .iter()
            .filter_map(|part| {
                let before = number.checked_sub(part.block)? * RING;
                let bytes = part.bytes.as_ref().get(before..)?;
                let new = bytes.get(..RING).unwrap_or(bytes);
                let same = self.columns.read(part.row, new.len()).eq(new.iter().copied());
                (!same).then(|| (part.row, new.to_vec()))
            })
            .collect()
    }

    /// The sum of each column and query.
    fn scan<const N: usize>(&self, kernel: Kernel, queries: &[&Query; N]) -> Vec<Vec<u32>> {
        let samples = queries.map(|query| &query.samples);
        let mut sums = vec![Vec::with_capacity(RING); N];
        let mut tile_sums = [[0; TILE]; N];
        for tile in self.columns.tiles() {
            kernel.scan(tile, &samples, &mut tile_sums);
            for ((sums, tile_sums), samples) in sums.iter_mut().zip(&tile_sums).zip(samples) {
                // The bytes count from -128 on.
                let centre = samples.sum().wrapping_mul(128);
                sums.extend(tile_sums.iter().map(|sum| sum.wrapping_sub(centre)));
            }
        }
        sums
    }

    fn pack<const N: usize>(&self, kernel: Kernel, queries: &[&Query; N], to: &mut [Poly]) {
        let keys = queries.map(|query| &query.turning);
        if let Some(to) = to.first_chunk_mut::<N>() {
            kernel.pack(&self.packed.digits, &keys, to);
        }
    }

    fn finish(
        &self,
        kernel: Kernel,
        query: &Query,
        sums: &[u32],
        packed: &Poly,
        answer: &mut Vec<u8>,
    ) {
        let tables = Tables::get();
        let mut switched = *packed;
        for (digits, key) in self.packed.last.iter().zip(&query.last) {
            for ((value, digit), key) in switched.iter_mut().zip(digits).zip(key) {
                *value = add(*value, multiply(*digit, *key));
            }
        }
        kernel.backward(tables, &mut switched);
        let mut body = [0; RING];
        kernel.lift(&mut body, sums);
        answer.extend_from_slice(&self.packed.mask);
        let body = body.iter().zip(&switched).map(|(body, off)| subtract(*body, *off));
        bits::write(answer, BODY_BITS, body.map(|x| rounded(x, BODY_BITS)));
    }
}

/// What a row is to hold, from the beginning of a block on, of any length.
#[derive(Clone)]
pub struct Part<B> {
    /// The row.
    pub row: usize,
    /// The block.
    pub block: usize,
    /// The bytes.
    pub bytes: B,
}

/// Changes that were prepared beside a matrix that went on answering.
#[must_use = "who prepared it counts on it"]
pub struct Change {
    blocks: BTreeMap<usize, Renewed>,
}

/// Rows, and what of them belongs to a block.
type Writes = Vec<(usize, Vec<u8>)>;

/// A block's part of a change.
struct Renewed {
    packed: Packed,
    writes: Writes,
}

/// What follows the changes of one matrix: the hints of its blocks.
pub struct Follower {
    shape: Shape,
    hints: Vec<Hint>,
}

impl Follower {
    /// Takes the hint of every block.
    #[must_use]
    pub const fn new(shape: Shape, hints: Vec<Hint>) -> Self {
        Self { shape, hints }
    }

    /// Prepares that parts of rows get other bytes. The matrix is only read, and the change
    /// must be applied to it before the next is prepared.
    ///
    /// # Errors
    /// [`OutOfMemory`]: nothing changed.
    pub fn prepare(
        &mut self,
        matrix: &Matrix,
        public: &Public,
        preparer: &mut Preparer,
        parts: &[Part<impl AsRef<[u8]>>],
    ) -> Result<Change, OutOfMemory> {
        let mut renewing = Vec::new();
        let hints = matrix.blocks.iter().zip(&mut self.hints).enumerate();
        for (number, (block, hint)) in hints {
            let writes = block.differing(number, parts);
            if !writes.is_empty() {
                renewing.push((number, block, hint, writes, preparer.digits()?));
            }
        }
        // Nothing fails from here on.
        let mut blocks = BTreeMap::new();
        for (number, block, hint, writes, digits) in renewing {
            for (row, new) in &writes {
                let columns = block.columns.read(*row, new.len()).zip(new).enumerate();
                for (column, (old, new)) in columns.filter(|(_, (old, new))| old != *new) {
                    hint.change(public, *row, column, old, *new);
                }
            }
            let packed = preparer.pack(hint, digits);
            blocks.insert(number, Renewed { packed, writes });
        }
        Ok(Change { blocks })
    }

    /// The shape of its matrix.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }
}

impl Change {
    /// How many blocks it prepared anew.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}
