//! Whole retrievals.

#![cfg(feature = "server")]

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// What there is to build a matrix, ask it and change it.
struct Scene {
    public: Public,
    preparer: Preparer,
    matrix: Matrix,
    follower: Follower,
    rng: StdRng,
}

impl Scene {
    fn new(rows: usize, row_bytes: usize, kernel: Kernel, row: &dyn Fn(usize) -> Vec<u8>) -> Self {
        let shape = Shape::new(rows, row_bytes).unwrap();
        let public = Public::expand(&[7; 32], shape);
        let mut preparer = Preparer::new(&public, kernel).unwrap();
        let prepare = |block: usize| {
            let mut filling = Filling::new(shape).unwrap();
            for number in 0..rows {
                let bytes = row(number);
                let end = bytes.len().min((block + 1) * RING);
                filling.write(number, &bytes[block * RING..end]);
            }
            filling.prepare(&mut preparer).unwrap()
        };
        let (blocks, hints) = (0..shape.blocks()).map(prepare).unzip();
        let matrix = Matrix::new(shape, kernel, blocks);
        let follower = Follower::new(shape, hints);
        Self { public, preparer, matrix, follower, rng: StdRng::seed_from_u64(rows as u64) }
    }

    fn ask(&mut self, row: usize) -> (Asked, Query) {
        let asked = Asked::new(&self.public, row, &mut self.rng).unwrap();
        let query = Query::parse(self.matrix.shape(), asked.query()).unwrap();
        (asked, query)
    }

    /// Asks for rows, `batch` at a time.
    fn rows(&mut self, rows: &[usize], batch: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        for rows in rows.chunks(batch) {
            let asked: Vec<_> = rows.iter().map(|row| self.ask(*row)).collect();
            let queries: Vec<&Query> = asked.iter().map(|(_, query)| query).collect();
            let answers = self.matrix.answer(&queries);
            assert_eq!(answers.len(), asked.len());
            for ((asked, _), answer) in asked.iter().zip(&answers) {
                assert_eq!(answer.len(), self.matrix.shape().answer_bytes());
                got.push(asked.decode(answer).unwrap());
            }
        }
        got
    }

    fn change(&mut self, rows: &[(usize, Vec<u8>)]) -> usize {
        let whole = |(row, bytes): &(usize, Vec<u8>)| (*row, 0, bytes.clone());
        self.change_parts(&rows.iter().map(whole).collect::<Vec<_>>())
    }

    /// Of each row what begins with a block.
    fn change_parts(&mut self, parts: &[(usize, usize, Vec<u8>)]) -> usize {
        let Self { public, preparer, matrix, follower, .. } = self;
        let part = |(row, block, bytes)| Part { row, block, bytes };
        let parts: Vec<_> = parts.iter().cloned().map(part).collect();
        let change = follower.prepare(matrix, public, preparer, &parts).unwrap();
        let blocks = change.blocks();
        let spare = matrix.apply(change);
        preparer.recycle(spare);
        blocks
    }
}

fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut row = vec![0; bytes];
    StdRng::seed_from_u64(seed as u64).fill_bytes(&mut row);
    row
}

#[test]
fn every_row_comes_back_whatever_it_holds() {
    for (rows, bytes) in [(4, 1), (4, 2048), (64, 3000)] {
        let contents: [&dyn Fn(usize) -> Vec<u8>; 3] =
            [&|_| vec![0; bytes], &|_| vec![255; bytes], &|row| noise(row, bytes)];
        for content in contents {
            let mut scene = Scene::new(rows, bytes, Kernel::best(), content);
            let all: Vec<usize> = (0..rows).collect();
            for (row, got) in scene.rows(&all, 3).into_iter().enumerate() {
                assert_eq!(got, content(row), "row {row} of {rows}");
                assert_eq!(scene.matrix.row(row), content(row));
            }
        }
    }
}

#[test]
fn all_kernels_give_the_same_bytes_for_one_query_and_for_four() {
    let rows = 4096;
    let content = |row: usize| noise(row, 100);
    let mut answers: Vec<Vec<Vec<u8>>> = Vec::new();
    for kernel in Kernel::available() {
        let mut scene = Scene::new(rows, 100, *kernel, &content);
        let asked: Vec<_> = [0, 2047, 2048, 4095].iter().map(|row| scene.ask(*row)).collect();
        let queries: Vec<&Query> = asked.iter().map(|(_, query)| query).collect();
        let together = scene.matrix.answer(&queries);
        for (at, query) in queries.iter().enumerate() {
            assert_eq!(scene.matrix.answer(&[query])[0], together[at], "{kernel:?}");
        }
        for batch in [2, 3] {
            assert_eq!(scene.matrix.answer(&queries[..batch]), together[..batch], "{kernel:?}");
        }
        assert_eq!(asked[2].0.decode(&together[2]).unwrap(), content(2048));
        answers.push(together);
    }
    // The same seeds asked each: what differs is the kernel alone.
    assert!(answers.iter().all(|these| *these == answers[0]));
}

#[test]
fn changes_are_seen_at_once_and_whole_and_touch_their_blocks_only() {
    let (rows, bytes) = (128, 5000);
    let mut scene = Scene::new(rows, bytes, Kernel::best(), &|row| noise(row, bytes));
    let mut expected: Vec<Vec<u8>> = (0..rows).map(|row| noise(row, bytes)).collect();
    for round in 0..4 {
        // Of one row the first bytes, of another the last, of a third nothing.
        let (first, last, same) = (round, 127 - round, 64);
        expected[first][..192].copy_from_slice(&noise(1000 + round, 192));
        expected[last][4900..].copy_from_slice(&noise(2000 + round, 100));
        let changed = [first, last, same].map(|row| (row, expected[row].clone()));
        assert_eq!(scene.change(&changed), 2);
        assert_eq!(scene.change(&changed), 0, "it was changed already");
    }
    // Of two rows a part: the second block and some of the third, and the third.
    for (row, block, length) in [(30, 1, 2500), (31, 2, 904)] {
        let part = noise(3000 + row, length);
        expected[row][block * RING..][..length].copy_from_slice(&part);
        assert_eq!(scene.change_parts(&[(row, block, part)]), 3 - block);
    }
    let all: Vec<usize> = (0..rows).collect();
    assert_eq!(scene.rows(&all, 4), expected);
}

/// What a client of another version asks, and what it reads, depends on this.
#[test]
fn queries_and_answers_have_the_bytes_that_they_always_had() {
    let bytes = 3000;
    let mut scene = Scene::new(4096, bytes, Kernel::best(), &|row| noise(row, bytes));
    let (asked, query) = scene.ask(2049);
    let answer = scene.matrix.answer(&[&query]).remove(0);
    let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
    assert_eq!(
        hash(asked.query()),
        "0d59685efd33d49abda9453aebfec66118c0571031ec1e05e3991a8785eaac8a"
    );
    assert_eq!(hash(&answer), "0f009f6b72e2ee059e816601cb8a60de10bf51484e9cccac24fa2a724ef77a7f");
}

#[test]
fn a_change_gives_the_bytes_that_a_new_matrix_has() {
    let bytes = 300;
    let mut changed = Scene::new(64, bytes, Kernel::best(), &|row| noise(row, bytes));
    changed.change(&[(5, noise(99, bytes))]);
    let new =
        Scene::new(64, bytes, Kernel::best(), &|row| noise(if row == 5 { 99 } else { row }, bytes));
    let (_, query) = changed.ask(5);
    assert_eq!(changed.matrix.answer(&[&query]), new.matrix.answer(&[&query]));
}

#[test]
fn queries_that_are_none_are_refused() {
    let shape = Shape::new(64, 1).unwrap();
    let public = Public::expand(&[0; 32], shape);
    let asked = Asked::new(&public, 9, &mut rand::rng()).unwrap();
    let good = asked.query();
    assert!(Query::parse(shape, good).is_ok());
    let (expected, got) = (good.len(), good.len() - 1);
    let length = QueryError::Length { expected, got };
    assert_eq!(Query::parse(shape, &good[1..]).err(), Some(length));
    assert!(Query::parse(shape, &[good, &[0]].concat()).is_err());
    assert!(Query::parse(Shape::new(128, 1).unwrap(), good).is_err());
    // The first residue of the keys, and the last.
    let keys = good.len() - KEYS_BYTES;
    let mut first = good.to_vec();
    first[keys..keys + 7].fill(0xff);
    assert_eq!(Query::parse(shape, &first).err(), Some(QueryError::Residue));
    let mut last = good.to_vec();
    last[good.len() - 7..].fill(0xff);
    assert_eq!(Query::parse(shape, &last).err(), Some(QueryError::Residue));
    assert_eq!(format!("{:?}", Query::parse(shape, good).unwrap()), "Query(..)");
}

/// Any query is answered, and with the same number of bytes.
#[test]
fn nonsense_is_answered_in_full_length() {
    let scene = Scene::new(64, 100, Kernel::best(), &|row| noise(row, 100));
    let shape = scene.matrix.shape();
    for byte in [0, 0x55] {
        let query = Query::parse(shape, &vec![byte; shape.query_bytes()]).unwrap();
        assert_eq!(scene.matrix.answer(&[&query])[0].len(), shape.answer_bytes());
    }
    assert!(scene.matrix.answer(&[]).is_empty());
}

/// The bound that the parameters give holds what is measured, and is no more
/// than half as much again.
#[test]
fn noise_is_what_the_parameters_say() {
    for (rows, extreme) in [(64, false), (8192, false), (8192, true)] {
        let row = |row: usize| {
            let mut bytes = noise(row, RING);
            // The sign of each by chance, the size as great as can be.
            bytes.iter_mut().filter(|_| extreme).for_each(|byte| *byte = 255 * (*byte >> 7));
            bytes
        };
        let mut scene = Scene::new(rows, RING, Kernel::best(), &row);
        let bound = scene.matrix.shape().noise();
        let deviation = if extreme { bound.worst } else { bound.usual };
        let (mut squares, mut count) = (0.0, 0.0);
        for _ in 0..20 {
            let (asked, query) = scene.ask(rows / 2);
            let answer = scene.matrix.answer(&[&query]).remove(0);
            assert_eq!(asked.decode(&answer).unwrap(), row(rows / 2));
            for off in asked.strays(&answer) {
                squares += off * off;
                count += 1.0;
            }
        }
        // In steps of the answer's modulus, which has rounding of its own.
        let unit = Q as f64 / f64::from(1 << MASK_BITS);
        let body = f64::from(1 << (MASK_BITS - BODY_BITS)) / 12_f64.sqrt();
        let measured = ((squares / count) - body * body).sqrt() * unit;
        let ratio = measured / deviation;
        assert!((0.66..1.05).contains(&ratio), "{rows} rows: {ratio}");
    }
}

/// `BLINDBOOK_PIR_QUERIES` says how many, 1,000 unless told otherwise; 100,000
/// take some minutes.
#[test]
fn many_queries_decode() {
    let count = std::env::var("BLINDBOOK_PIR_QUERIES").ok().and_then(|count| count.parse().ok());
    let count: usize = count.unwrap_or(1000);
    let (rows, bytes) = (256, RING);
    let mut scene = Scene::new(rows, bytes, Kernel::best(), &|row| noise(row, bytes));
    let expected: Vec<Vec<u8>> = (0..rows).map(|row| noise(row, bytes)).collect();
    let asked: Vec<usize> = (0..count).map(|at| at % rows).collect();
    for rows in asked.chunks(1000) {
        for (row, got) in rows.iter().zip(scene.rows(rows, 4)) {
            assert!(got == expected[*row], "a query for row {row} did not decode");
        }
    }
}
