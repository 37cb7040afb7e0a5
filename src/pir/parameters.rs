//! The numbers of the scheme, why they are what they are, and the shape of a
//! matrix.
//!
//! # Security
//! What a query shows is learning-with-errors samples under one secret that is
//! fresh for each query: [`RING`] = 2048 ternary coefficients, errors of
//! standard deviation 6.4 ([`COINS`]), `rows` samples modulo 2^32 and four ring
//! elements (the packing keys) modulo [`Q`], about 2^50. The Homomorphic
//! Encryption Security Standard (Albrecht et al., 2018, table 1: ternary
//! secret, n = 2048) allows a modulus of up to 54 bits for 128-bit security
//! against known classical attacks. The packing keys encrypt images of the
//! secret under itself: circular security is assumed, as in every scheme with
//! key switching.
//!
//! # Source
//! The scan is `SimplePIR` (Henzinger et al., USENIX Security 2023), with rows
//! of the public matrix grouped into ring elements; the packing is
//! `InspiRING` (Mahdavi et al., `InsPIRe`, IEEE S&P 2026).

use super::kernels::WIDTH;

/// Coefficients of a ring element, and the dimension of the samples.
pub const RING: usize = 2048;

/// The packing modulus: prime, 1 modulo 4096, and near 2^50, so that products
/// reduce with shifts.
pub const Q: u64 = (1 << 50) - 16_383;

/// Fair coins of which an error is the heads minus half: variance 41, standard
/// deviation 6.4.
pub const COINS: u32 = 164;

/// Digits that a coefficient is cut into where keys are switched.
pub const DIGITS: usize = 2;

/// Bits of a digit.
pub const DIGIT_BITS: u32 = 25;

/// Bits of a sample in a query: the lowest six are rounded off.
pub const SAMPLE_BITS: u32 = 26;

/// Bits of a residue modulo [`Q`] in a query.
pub const KEY_BITS: u32 = 50;

/// Bits of a coefficient of an answer's mask.
pub const MASK_BITS: u32 = 20;

/// Bits of a coefficient of an answer's body.
pub const BODY_BITS: u32 = 12;

/// Bytes of the packing keys in a query: two keys of two digits.
pub const KEYS_BYTES: usize = 2 * DIGITS * RING * KEY_BITS as usize / 8;

/// Bytes of an answer for each [`RING`] bytes of a row.
pub const BLOCK_ANSWER_BYTES: usize = RING * (MASK_BITS + BODY_BITS) as usize / 8;

/// Most rows of a matrix: those of one partition.
pub const MAX_ROWS: usize = 1 << 16;

/// Fewest rows: what one instruction of the scan takes.
pub const MIN_ROWS: usize = 4;

/// Most bytes of a row.
pub const MAX_ROW_BYTES: usize = 1 << 20;

/// A shape that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Not a power of two, or out of bounds.
    #[error("a matrix has 4 to 65536 rows, a power of two, not {0}")]
    Rows(usize),
    /// Empty, or too long.
    #[error("a row has 1 to 1048576 bytes, not {0}")]
    RowBytes(usize),
}

/// How many rows, and how many bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    rows: usize,
    row_bytes: usize,
}

/// Bytes of a block's hint, and of the digits that pack it.
const HINT_BYTES: usize = RING * RING * 4;
const DIGITS_BYTES: usize = 2 * DIGITS * RING / 2 * RING * 8;

/// Bytes of the memory that blocks are prepared in, one at a time.
pub const PREPARER_BYTES: usize = 2 * RING * WIDTH * 8;

impl Shape {
    /// As many rows as there can be.
    pub const LARGEST: Self = Self { rows: MAX_ROWS, row_bytes: MAX_ROW_BYTES };

    /// A shape.
    ///
    /// # Errors
    /// [`ShapeError`]: not a power of two from [`MIN_ROWS`] to [`MAX_ROWS`]
    /// rows, or rows of no bytes or more than [`MAX_ROW_BYTES`].
    pub const fn new(rows: usize, row_bytes: usize) -> Result<Self, ShapeError> {
        if !rows.is_power_of_two() || rows < MIN_ROWS || rows > MAX_ROWS {
            return Err(ShapeError::Rows(rows));
        }
        if row_bytes == 0 || row_bytes > MAX_ROW_BYTES {
            return Err(ShapeError::RowBytes(row_bytes));
        }
        Ok(Self { rows, row_bytes })
    }

    /// The shape whose rows are so many buckets, of so many bytes: the bounds hold
    /// what is beyond them.
    #[must_use]
    pub fn of_buckets(buckets: usize, bucket_bytes: usize) -> Self {
        let rows = buckets.clamp(MIN_ROWS, MAX_ROWS).next_power_of_two();
        Self { rows, row_bytes: bucket_bytes.clamp(1, MAX_ROW_BYTES) }
    }

    /// Rows, a power of two.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of a row.
    #[must_use]
    pub const fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// Blocks of [`RING`] bytes that a row is cut into.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.row_bytes.div_ceil(RING)
    }

    /// Ring elements that the samples of all rows come from.
    #[must_use]
    pub const fn groups(&self) -> usize {
        self.rows.div_ceil(RING)
    }

    /// Bytes of every query.
    #[must_use]
    pub const fn query_bytes(&self) -> usize {
        self.rows * SAMPLE_BITS as usize / 8 + KEYS_BYTES
    }

    /// Bytes of every answer.
    #[must_use]
    pub const fn answer_bytes(&self) -> usize {
        self.blocks() * BLOCK_ANSWER_BYTES
    }

    /// Bytes of memory that a matrix of this shape takes at rest.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        (self.blocks() * (self.rows * RING + HINT_BYTES + DIGITS_BYTES)) as u64
    }

    /// Bytes more that following changes takes, in the worst case: every block gets
    /// its digits anew before the old ones are let go.
    #[must_use]
    pub const fn following_bytes(&self) -> u64 {
        (self.blocks() * DIGITS_BYTES) as u64
    }

    /// The noise of a decoded byte, against the margin in which it decodes.
    #[must_use]
    pub fn noise(&self) -> Noise {
        let ring = RING as f64;
        let lift = Q as f64 / 2_f64.powi(32);
        let error = f64::from(COINS) / 4.0;
        let rounding = 2_f64.powi(2 * (32 - SAMPLE_BITS.cast_signed())) / 12.0;
        // All bytes of a column at their extreme.
        let worst = self.rows as f64 * 128.0 * 128.0 * (error + rounding);
        // Uniform bytes, as ciphertext is.
        let usual = worst / 3.0;
        let digit = 2_f64.powi(2 * DIGIT_BITS.cast_signed()) / 12.0;
        let packing = (RING - 1) as f64 * DIGITS as f64 * ring * digit * error;
        // Rounding to the answer's bits: of the mask, times a ternary secret.
        let mask =
            (Q as f64 / 2_f64.powi(MASK_BITS.cast_signed())).powi(2) / 12.0 * ring * 2.0 / 3.0;
        let deviation = |scan: f64| (scan * lift * lift + packing + mask).sqrt();
        let step = Q as f64 / 256.0;
        let body = Q as f64 / 2_f64.powi(BODY_BITS.cast_signed()) / 2.0;
        Noise { margin: step / 2.0 - body, usual: deviation(usual), worst: deviation(worst) }
    }
}

/// How far a coefficient may stray, and how far it does.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Beyond this a byte decodes wrongly.
    pub margin: f64,
    /// Standard deviation with the bytes of ciphertext.
    pub usual: f64,
    /// Standard deviation with the worst bytes there are.
    pub worst: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameters_are_no_weaker_than_written_down() {
        // Table 1 of the standard: 54 bits for 2048 coefficients, a ternary
        // secret and 128 bits. It is for deviations of 3.2 and more.
        let (ring, modulus, coins) = std::hint::black_box((RING, Q, COINS));
        assert_eq!(ring, 2048);
        assert!(modulus.ilog2() < 54, "the modulus is too large for the ring");
        assert!(f64::from(coins) / 4.0 >= 6.4 * 6.4, "the error is smaller than 6.4");
    }

    #[test]
    fn a_full_partition_decodes() {
        let noise = Shape::new(MAX_ROWS, 256 * 192).unwrap().noise();
        assert!(noise.margin / noise.usual > 9.0, "{}", noise.margin / noise.usual);
        // 2^-45 per byte, if somebody could choose every byte of a column.
        assert!(noise.margin / noise.worst > 7.5, "{}", noise.margin / noise.worst);
    }

    #[test]
    fn sizes_are_as_documented() {
        let shape = Shape::new(1 << 16, 256 * 192).unwrap();
        assert_eq!((shape.blocks(), shape.groups()), (24, 32));
        assert_eq!((shape.query_bytes(), shape.answer_bytes()), (264_192, 196_608));
        let drafts = Shape::new(1 << 16, 256 * 128).unwrap();
        assert_eq!(drafts.query_bytes() + drafts.answer_bytes(), 395_264);
        assert_eq!(Shape::new(12, 1), Err(ShapeError::Rows(12)));
        assert_eq!(Shape::new(2, 1), Err(ShapeError::Rows(2)));
        assert_eq!(Shape::new(1 << 17, 1), Err(ShapeError::Rows(1 << 17)));
        assert_eq!(Shape::new(4, 0), Err(ShapeError::RowBytes(0)));
    }
}
