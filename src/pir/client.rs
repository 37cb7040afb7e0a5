//! What a client does: makes a query for a row, under a secret that it never
//! uses again, and reads the row out of the answer.

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    bits,
    kernels::Kernel,
    modulus::{add, of_signed, to_signed},
    ntt::{Poly, Tables, multiply_values},
    parameters::{
        BLOCK_ANSWER_BYTES, BODY_BITS, COINS, DIGIT_BITS, KEY_BITS, MASK_BITS, Q, RING,
        SAMPLE_BITS, Shape,
    },
    public::{Public, turned, turned_about},
};

/// What a byte is multiplied by in a sample: 2^32 / 256.
const STEP: u32 = 1 << 24;

/// A row that is not in the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the matrix has no such row")]
pub struct NoSuchRow;

/// An answer that is not of the length that every answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has {got} bytes and not {expected}")]
pub struct AnswerLength {
    expected: usize,
    got: usize,
}

/// A query that was made, and the secret that opens its answer.
pub struct Asked {
    shape: Shape,
    query: Vec<u8>,
    /// The values of the secret.
    secret: Box<Zeroizing<Poly>>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked(..)")
    }
}

impl Asked {
    /// Makes a query for a row, under a fresh secret.
    ///
    /// # Errors
    /// [`NoSuchRow`]: the shape has no row of this number.
    pub fn new(public: &Public, row: usize, rng: &mut impl CryptoRng) -> Result<Self, NoSuchRow> {
        let shape = public.shape();
        if row >= shape.rows() {
            return Err(NoSuchRow);
        }
        let (kernel, tables) = (Kernel::best(), Tables::get());
        let mut secret = ternary(rng);
        kernel.forward(tables, &mut secret);
        let mut query = Vec::with_capacity(shape.query_bytes());
        write_samples(&mut query, public, row, &secret, rng);
        write_keys(&mut query, public, &secret, rng);
        Ok(Self { shape, query, secret })
    }

    /// The query: [`Shape::query_bytes`] bytes, whatever the row.
    #[must_use]
    pub fn query(&self) -> &[u8] {
        &self.query
    }

    /// The bytes of the row.
    ///
    /// # Errors
    /// [`AnswerLength`]. An answer of the right length always decodes to
    /// something: nothing in this room tells a wrong one.
    pub fn decode(&self, answer: &[u8]) -> Result<Vec<u8>, AnswerLength> {
        let (expected, got) = (self.shape.answer_bytes(), answer.len());
        if got != expected {
            return Err(AnswerLength { expected, got });
        }
        let mut row = Vec::with_capacity(self.shape.blocks() * RING);
        for block in answer.as_chunks::<BLOCK_ANSWER_BYTES>().0 {
            row.extend(self.phases(block).into_iter().map(|phase| {
                let [.., byte] = nearest(phase).to_be_bytes();
                byte.wrapping_add(128)
            }));
        }
        row.truncate(self.shape.row_bytes());
        Ok(row)
    }

    /// What each coefficient of a block decrypts to, modulo 2^20.
    fn phases(&self, block: &[u8; BLOCK_ANSWER_BYTES]) -> Vec<u64> {
        let (kernel, tables) = (Kernel::best(), Tables::get());
        let (mask, body) = block.split_at(RING * MASK_BITS as usize / 8);
        let mut product = Box::new(Zeroizing::new([0; RING]));
        for (to, mask) in product.iter_mut().zip(bits::read(mask, MASK_BITS)) {
            *to = mask;
        }
        kernel.forward(tables, &mut product);
        multiply_values(&mut product, &self.secret);
        // Below 2^31 in size, and exact.
        kernel.backward(tables, &mut product);
        bits::read(body, BODY_BITS)
            .zip(product.iter())
            .map(|(body, product)| {
                let product = to_signed(*product).rem_euclid(1 << MASK_BITS).cast_unsigned();
                ((body << (MASK_BITS - BODY_BITS)) + (1 << MASK_BITS) - product) % (1 << MASK_BITS)
            })
            .collect()
    }

    /// How far each coefficient of an answer is from a byte, of the 2048 in which
    /// it decodes rightly.
    #[cfg(test)]
    pub(super) fn strays(&self, answer: &[u8]) -> impl Iterator<Item = f64> {
        let blocks = answer.as_chunks::<BLOCK_ANSWER_BYTES>().0.iter();
        blocks.flat_map(|block| self.phases(block)).map(|phase| {
            const HALF: i64 = 1 << (MASK_BITS - 1);
            let off = phase.cast_signed() - (nearest(phase) << (MASK_BITS - 8)).cast_signed();
            ((off + HALF).rem_euclid(2 * HALF) - HALF) as f64
        })
    }
}

/// The nearest multiple of a byte's step, modulo 256.
const fn nearest(phase: u64) -> u64 {
    ((phase + (1 << (MASK_BITS - 9))) >> (MASK_BITS - 8)) & 0xff
}

/// Coefficients that are -1, 0 or 1 with equal chance.
fn ternary(rng: &mut impl CryptoRng) -> Box<Zeroizing<Poly>> {
    let mut secret = Box::new(Zeroizing::new([0; RING]));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    let mut left = 0;
    for to in secret.iter_mut() {
        *to = loop {
            if left == 0 {
                rng.fill_bytes(bytes.as_mut_slice());
                left = bytes.len();
            }
            left -= 1;
            // 255 of 256 bytes are whole thirds.
            match bytes.get(left) {
                Some(byte) if *byte < 255 => break of_signed(i64::from(*byte % 3) - 1),
                _ => {}
            }
        };
    }
    secret
}

/// Errors: the heads of [`COINS`] coins, less half of them.
fn errors<R: CryptoRng>(rng: &mut R) -> impl Iterator<Item = i64> + use<'_, R> {
    const LAST: u64 = (1 << (COINS - 128)) - 1;
    let mut words = Zeroizing::new([[0_u8; 24]; 64]);
    let mut next = words.len();
    std::iter::repeat_with(move || {
        if next == words.len() {
            rng.fill_bytes(words.as_flattened_mut());
            next = 0;
        }
        let coins = words.get(next).copied().unwrap_or_default();
        next += 1;
        let heads = coins
            .as_chunks::<8>()
            .0
            .iter()
            .zip([u64::MAX, u64::MAX, LAST])
            .map(|(word, mask)| (u64::from_ne_bytes(*word) & mask).count_ones());
        i64::from(heads.sum::<u32>()) - i64::from(COINS / 2)
    })
}

fn write_samples(
    query: &mut Vec<u8>,
    public: &Public,
    row: usize,
    secret: &Poly,
    rng: &mut impl CryptoRng,
) {
    let (kernel, tables) = (Kernel::best(), Tables::get());
    // Below 65,536.
    let row = u32::try_from(row).unwrap_or(u32::MAX);
    let rows = public.shape().rows();
    let mut body = Box::new(Zeroizing::new([0; RING]));
    let mut errors = errors(rng);
    for (group, first) in public.groups.iter().zip((0_u32..).step_by(RING)) {
        for (to, mask) in body.iter_mut().zip(group) {
            *to = of_signed(i64::from(mask.cast_signed()));
        }
        kernel.forward(tables, &mut body);
        multiply_values(&mut body, secret);
        // Below 2^42 in size, and exact.
        kernel.backward(tables, &mut body);
        let samples =
            body.iter().zip(first..).zip(errors.by_ref()).map(|((body, number), error)| {
                let here = u32::from(number.ct_eq(&row).unwrap_u8());
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "modulo 2^32"
                )]
                let sample = ((to_signed(*body) + error) as u32).wrapping_add(here * STEP);
                u64::from(sample.wrapping_add(1 << (31 - SAMPLE_BITS)) >> (32 - SAMPLE_BITS))
            });
        bits::write(query, SAMPLE_BITS, samples.take(rows.min(RING)));
    }
}

fn write_keys(query: &mut Vec<u8>, public: &Public, secret: &Poly, rng: &mut impl CryptoRng) {
    let (kernel, tables) = (Kernel::best(), Tables::get());
    let five = Box::new(Zeroizing::new(turned(secret)));
    let about = Box::new(Zeroizing::new(turned_about(secret)));
    let mut body = Box::new(Zeroizing::new([0; RING]));
    for (masks, image) in public.keys.iter().zip([five, about]) {
        for (masks, weight) in masks.iter().zip((0..).step_by(DIGIT_BITS as usize)) {
            for (to, drawn) in body.iter_mut().zip(errors(rng)) {
                *to = of_signed(drawn);
            }
            kernel.forward(tables, &mut body);
            let terms = secret.iter().zip(masks).zip(image.iter());
            for (to, ((secret, mask), image)) in body.iter_mut().zip(terms) {
                let masked = super::modulus::multiply(*secret, *mask);
                let weighted = super::modulus::multiply(*image, 1 << weight);
                *to = add(*to, add(masked, weighted));
            }
            bits::write(query, KEY_BITS, body.iter().copied());
        }
    }
}

const _: () = assert!(DIGIT_BITS < 50 && Q < 1 << KEY_BITS && COINS > 128);

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn errors_have_the_deviation_that_security_counts_on() {
        let mut rng = StdRng::seed_from_u64(3);
        let count = 200_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for error in errors(&mut rng).take(count) {
            sum += error as f64;
            squares += (error * error) as f64;
        }
        let (mean, variance) = (sum / count as f64, squares / count as f64);
        assert!(mean.abs() < 0.1, "{mean}");
        assert!((variance - 41.0).abs() < 1.0, "{variance}");
    }

    #[test]
    fn secrets_are_ternary_and_never_the_same() {
        let mut rng = StdRng::seed_from_u64(4);
        let one = ternary(&mut rng);
        let counts = [Q - 1, 0, 1].map(|value| one.iter().filter(|x| **x == value).count());
        assert_eq!(counts.iter().sum::<usize>(), RING);
        assert!(counts.iter().all(|count| (550..820).contains(count)), "{counts:?}");
        let public = Public::expand(&[0; 32], Shape::new(4, 1).unwrap());
        let queries: Vec<Asked> =
            (0..4).map(|_| Asked::new(&public, 1, &mut rng).unwrap()).collect();
        for (i, a) in queries.iter().enumerate() {
            for b in queries.iter().skip(i + 1) {
                assert_ne!(a.secret, b.secret);
            }
        }
    }

    #[test]
    fn every_row_has_a_query_of_one_length_and_no_other_row_has() {
        let mut rng = StdRng::seed_from_u64(5);
        let shape = Shape::new(4, 1).unwrap();
        let public = Public::expand(&[0; 32], shape);
        for row in 0..4 {
            let asked = Asked::new(&public, row, &mut rng).unwrap();
            assert_eq!(asked.query().len(), shape.query_bytes());
            assert_eq!(format!("{asked:?}"), "Asked(..)");
            let short = asked.decode(&[0; 9]).unwrap_err();
            assert_eq!(short, AnswerLength { expected: 8192, got: 9 });
        }
        assert_eq!(Asked::new(&public, 4, &mut rng).unwrap_err(), NoSuchRow);
    }
}
