//! One matrix: built from the buckets of partition 0, asked, and every answer
//! held against the store.

use std::{hint::black_box, time::Instant};

use anyhow::{Context as _, ensure};
use blindbook::{
    bucket::{BUCKET_ENTRIES, BucketNumber, DirectoryId, ENTRY_BYTES, PrefixBits},
    pir::{Asked, Filling, Hint, Kernel, Matrix, Preparer, Public, Query, RING, Shape},
    store::Store,
    wire::{pir_seed, pir_shape},
};
use rand::RngExt as _;
use serde::Serialize;

use super::super::{super::progress, memory, rounds::median};

/// Rounds of each measurement, of which the median counts. In all of them together
/// a hundred answers are held against the store.
const ROUNDS: usize = 25;

/// Buckets that are read at once.
const READ: usize = 256;

/// Bytes of a sealed entry before the mapping's signature: tag and nonce.
const BEFORE_SIGNATURE: usize = 20;

/// What one matrix costs.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) rows: usize,
    pub(super) row_bytes: usize,
    /// GB/s of reading the matrix through and doing next to nothing.
    pub(super) bandwidth: f64,
    /// GB/s of the scan.
    pub(super) scan: f64,
    pub(super) query_ms: f64,
    /// Slot bytes over the time of a query, against bandwidth.
    pub(super) query_vs_bandwidth: f64,
    /// Four queries together.
    pub(super) batch_ms: f64,
    pub(super) ask_ms: f64,
    pub(super) decode_ms: f64,
    pub(super) query_bytes: usize,
    pub(super) answer_bytes: usize,
    pub(super) prepare_s: f64,
    /// What the process took more with the matrix and what follows its changes.
    pub(super) memory: Option<u64>,
    /// The same against slot bytes.
    pub(super) memory_ratio: Option<f64>,
    /// Queries whose answer was held against the store.
    pub(super) checked: usize,
}

/// The bytes of a bucket that a row holds: its entries, without their mappings'
/// signatures where they are to be short.
fn row_of(bucket: &blindbook::bucket::Bucket, entry_bytes: usize) -> Vec<u8> {
    let cut = ENTRY_BYTES - entry_bytes;
    bucket
        .entries()
        .chunks_exact(ENTRY_BYTES)
        .flat_map(|entry| {
            let (before, rest) = entry.split_at(BEFORE_SIGNATURE);
            before.iter().chain(rest.iter().skip(cut)).copied()
        })
        .collect()
}

struct Built {
    public: Public,
    matrix: Matrix,
    /// Kept as a server keeps it, to follow changes.
    _following: (Vec<Hint>, Preparer),
    prepare_s: f64,
}

async fn build(
    store: &dyn Store,
    directory: &DirectoryId,
    entry_bytes: usize,
) -> anyhow::Result<Built> {
    let bits = store.prefix_bits();
    let buckets = pir_shape(bits).rows();
    let shape = Shape::of_buckets(buckets, BUCKET_ENTRIES * entry_bytes);
    let public = Public::expand(&pir_seed(directory), shape);
    let kernel = Kernel::best();
    let mut fillings =
        (0..shape.blocks()).map(|_| Filling::new(shape)).collect::<Result<Vec<_>, _>>()?;
    let mut prepare_s = 0.0;
    let bar = progress::bar("reading buckets", buckets as u64);
    for first in (0..buckets).step_by(READ) {
        let number = BucketNumber::new(u32::try_from(first)?, bits);
        let Ok(number) = number else { break };
        let read = store.scan(number, READ).await?;
        let begun = Instant::now();
        for (row, bucket) in (first..buckets).zip(&read) {
            let bucket = bucket.as_ref().context("a bucket is missing")?;
            let bytes = row_of(bucket, entry_bytes);
            for (filling, part) in fillings.iter_mut().zip(bytes.chunks(RING)) {
                filling.write(row, part);
            }
        }
        prepare_s += begun.elapsed().as_secs_f64();
        bar.set_position(first as u64);
    }
    bar.finish_and_clear();
    let begun = Instant::now();
    let mut preparer = Preparer::new(&public, kernel)?;
    let (mut blocks, mut hints) = (Vec::new(), Vec::new());
    for filling in fillings {
        let (block, hint) = filling.prepare(&mut preparer)?;
        blocks.push(block);
        hints.push(hint);
    }
    prepare_s += begun.elapsed().as_secs_f64();
    preparer.reserve(blocks.len())?;
    let matrix = Matrix::new(shape, kernel, blocks);
    Ok(Built { public, matrix, _following: (hints, preparer), prepare_s })
}

/// Builds a matrix of entries of so many bytes and measures it on this thread.
pub(super) async fn measure(
    store: &dyn Store,
    directory: &DirectoryId,
    entry_bytes: usize,
) -> anyhow::Result<Measured> {
    let before = memory::now();
    let built = build(store, directory, entry_bytes).await?;
    let after = memory::now();
    let shape = built.matrix.shape();
    let slots = (shape.rows() * shape.row_bytes()) as f64;
    let memory = before
        .zip(after)
        .map(|(before, after)| after.resident_bytes.saturating_sub(before.resident_bytes));
    let mut times = Times::default();
    let mut checked = 0;
    for _ in 0..ROUNDS {
        checked += round(&built, store, entry_bytes, &mut times).await?;
    }
    let scanned = (shape.rows() * shape.blocks() * RING) as f64 / 1e9;
    let bandwidth = scanned / median(times.read);
    let query_s = median(times.query);
    Ok(Measured {
        rows: shape.rows(),
        row_bytes: shape.row_bytes(),
        bandwidth,
        scan: scanned / median(times.scan),
        query_ms: query_s * 1e3,
        query_vs_bandwidth: slots / 1e9 / query_s / bandwidth,
        batch_ms: median(times.batch) * 1e3,
        ask_ms: median(times.ask) * 1e3,
        decode_ms: median(times.decode) * 1e3,
        query_bytes: shape.query_bytes(),
        answer_bytes: shape.answer_bytes(),
        prepare_s: built.prepare_s,
        memory,
        memory_ratio: memory.map(|memory| memory as f64 / slots),
        checked,
    })
}

#[derive(Default)]
struct Times {
    read: Vec<f64>,
    scan: Vec<f64>,
    query: Vec<f64>,
    batch: Vec<f64>,
    ask: Vec<f64>,
    decode: Vec<f64>,
}

fn timed<T>(times: &mut Vec<f64>, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    times.push(begun.elapsed().as_secs_f64());
    done
}

/// Everything once, in turns: one query, then four, of rows by chance. Gives how
/// many answers were held against the store.
async fn round(
    built: &Built,
    store: &dyn Store,
    entry_bytes: usize,
    times: &mut Times,
) -> anyhow::Result<usize> {
    let (public, matrix) = (&built.public, &built.matrix);
    let (shape, bits) = (matrix.shape(), store.prefix_bits());
    let rng = &mut rand::rng();
    let mut rows = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..4 {
        let row = usize::try_from(rng.random_range(0..bits.buckets().min(shape.rows() as u64)))?;
        rows.push(row);
        asked.push(timed(&mut times.ask, || Asked::new(public, row, rng))?);
    }
    timed(&mut times.read, || black_box(matrix.read_through()));
    let parse = |asked: &Asked| Query::parse(shape, asked.query());
    let one = asked.first().context("four were asked")?;
    let alone = timed(&mut times.query, || anyhow::Ok(matrix.answer(&[&parse(one)?])))?;
    timed(&mut times.scan, || anyhow::Ok(black_box(matrix.scan(&parse(one)?))))?;
    let together = timed(&mut times.batch, || {
        let queries = asked.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        anyhow::Ok(matrix.answer(&queries.iter().collect::<Vec<_>>()))
    })?;
    ensure!(alone.first() == together.first(), "an answer depends on who else asks");
    for ((row, asked), answer) in rows.iter().zip(&asked).zip(&together) {
        let decoded = timed(&mut times.decode, || asked.decode(answer))?;
        let number = bucket_number(*row, bits)?;
        let bucket = store.bucket(number).await?.context("a bucket is missing")?;
        ensure!(decoded == row_of(&bucket, entry_bytes), "an answer is not what the store holds");
    }
    Ok(rows.len())
}

fn bucket_number(row: usize, bits: PrefixBits) -> anyhow::Result<BucketNumber> {
    Ok(BucketNumber::new(u32::try_from(row)?, bits)?)
}
