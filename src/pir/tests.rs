//! Whole retrievals.

use std::time::Instant;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

fn build(
    shape: Shape,
    kernel: Kernel,
    row: impl Fn(usize) -> Vec<u8>,
) -> (Matrix, Follower, Public) {
    let public = Public::expand(&[7; 32], shape);
    let mut preparer = Preparer::new(&public, kernel).unwrap();
    let mut blocks = Vec::new();
    let mut hints = Vec::new();
    for block in 0..shape.blocks() {
        let mut filling = Filling::new(shape).unwrap();
        for number in 0..shape.rows() {
            let bytes = row(number);
            let end = bytes.len().min((block + 1) * RING);
            filling.write(number, &bytes[block * RING..end]);
        }
        let begun = Instant::now();
        let (block, hint) = filling.prepare(&mut preparer).unwrap();
        eprintln!("prepare {:?}", begun.elapsed());
        blocks.push(block);
        hints.push(hint);
    }
    (Matrix::new(shape, kernel, blocks), Follower::new(shape, hints), public)
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut row = vec![0; bytes];
    StdRng::seed_from_u64(seed).fill_bytes(&mut row);
    row
}

#[test]
fn every_row_comes_back_whatever_it_holds() {
    let mut rng = StdRng::seed_from_u64(1);
    for rows in [4, 64] {
        let shape = Shape::new(rows, 3000).unwrap();
        let contents: [&dyn Fn(usize) -> Vec<u8>; 3] =
            [&|_| vec![0; 3000], &|_| vec![255; 3000], &|row| noise(row as u64, 3000)];
        for content in contents {
            let (matrix, _, public) = build(shape, Kernel::best(), content);
            for row in 0..rows {
                let asked = Asked::new(&public, row, &mut rng).unwrap();
                let query = Query::parse(shape, asked.query()).unwrap();
                let answers = matrix.answer(&[&query]);
                assert_eq!(asked.decode(&answers[0]).unwrap(), content(row), "row {row} of {rows}");
                if row == 0 {
                    eprintln!("stray {}", asked.stray(&answers[0]));
                }
            }
        }
    }
}
