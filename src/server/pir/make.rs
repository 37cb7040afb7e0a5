//! Makes the matrix of a partition from the store's buckets: read once, prepared
//! on all cores.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;

use super::PirError;
use crate::{
    bucket::{BucketNumber, PrefixBits},
    pir::{Block, Filling, Follower, Hint, Kernel, Matrix, OutOfMemory, Preparer, Public, RING},
    server::cores,
    store::Store,
    wire::pir_shape,
};

/// Buckets that are read at once: 50 MB.
const READ: usize = 1024;

/// The bucket of a row, `None` for rows that stand for none.
pub(super) fn number_of(partition: u32, row: usize, bits: PrefixBits) -> Option<BucketNumber> {
    let rows = pir_shape(bits).rows() as u64;
    let number = u64::from(partition) * rows + row as u64;
    if number >= bits.buckets() {
        return None;
    }
    BucketNumber::new(u32::try_from(number).ok()?, bits).ok()
}

/// The content of rows from `first` on, as the store has it now.
pub(super) async fn rows_of(
    store: &dyn Store,
    partition: u32,
    first: usize,
) -> Result<Vec<(usize, Bytes)>, PirError> {
    let bits = store.prefix_bits();
    let rows = pir_shape(bits).rows();
    let Some(number) = number_of(partition, first, bits) else { return Ok(Vec::new()) };
    let buckets = store.scan(number, READ.min(rows - first)).await?;
    (first..)
        .zip(buckets)
        .map(|(row, bucket)| Ok((row, bucket.ok_or(PirError::NoBucket)?.entries().clone())))
        .collect()
}

fn each_on_its_core<T: Send>(items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
    let share = items.len().div_ceil(cores()).max(1);
    thread::scope(|scope| {
        for (n, items) in items.chunks_mut(share).enumerate() {
            let work = &work;
            scope.spawn(move || {
                for (item, at) in items.iter_mut().zip(n * share..) {
                    work(at, item);
                }
            });
        }
    });
}

/// The blocks with all rows in them, not ready yet.
async fn fill(store: &dyn Store, partition: u32) -> Result<Vec<Filling>, PirError> {
    let shape = pir_shape(store.prefix_bits());
    let new = (0..shape.blocks()).map(|_| Filling::new(shape));
    let mut fillings = new.collect::<Result<Vec<_>, _>>()?;
    let mut rows = rows_of(store, partition, 0).await?;
    let mut told = 0;
    while let Some((last, _)) = rows.last() {
        let next = last + 1;
        let writing = tokio::task::spawn_blocking(move || {
            each_on_its_core(&mut fillings, |block, filling| {
                for (row, bytes) in &rows {
                    let part = bytes.get(block * RING..).unwrap_or_default();
                    filling.write(*row, part.get(..RING).unwrap_or(part));
                }
            });
            fillings
        });
        // The next are read while these are written.
        let read = async {
            if next < shape.rows() { rows_of(store, partition, next).await } else { Ok(Vec::new()) }
        };
        let (written, read) = tokio::join!(writing, read);
        fillings = written.map_err(|_| PirError::Stopped)?;
        rows = read?;
        let percent = next * 100 / shape.rows();
        if percent >= told + 10 {
            told = percent;
            tracing::info!(partition, percent, "reading buckets for private retrieval");
        }
    }
    Ok(fillings)
}

/// A matrix, and what follows its changes, with memory for a change of all blocks.
pub(super) struct Made {
    pub(super) matrix: Matrix,
    pub(super) follower: Follower,
    pub(super) preparer: Preparer,
}

/// A block by its number, and its hint.
type Ready = (usize, Block, Hint);

/// Makes blocks ready, on all cores.
fn prepare(
    fillings: Vec<Filling>,
    partition: u32,
    public: &Public,
    kernel: Kernel,
) -> Result<Made, PirError> {
    let (shape, count) = (public.shape(), fillings.len());
    let waiting = Mutex::new(fillings.into_iter().enumerate());
    let done = AtomicUsize::new(0);
    let work = || -> Result<(Vec<Ready>, Preparer), OutOfMemory> {
        let mut preparer = Preparer::new(public, kernel)?;
        let mut made = Vec::new();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, filling)) = next else { break };
            let (block, hint) = filling.prepare(&mut preparer)?;
            made.push((number, block, hint));
            let percent = (done.fetch_add(1, Ordering::Relaxed) + 1) * 100 / count;
            tracing::info!(partition, percent, "preparing private retrieval");
        }
        preparer.reserve(made.len())?;
        Ok((made, preparer))
    };
    let parts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores().min(count)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut all = Vec::with_capacity(count);
    let mut preparer = Preparer::new(public, kernel)?;
    for part in parts {
        let (made, other) = part.map_err(|_| PirError::Stopped)??;
        all.extend(made);
        preparer.join(other);
    }
    all.sort_unstable_by_key(|(number, ..)| *number);
    let (blocks, hints) = all.into_iter().map(|(_, block, hint)| (block, hint)).unzip();
    let matrix = Matrix::new(shape, kernel, blocks);
    Ok(Made { matrix, follower: Follower::new(shape, hints), preparer })
}

/// Makes the matrix of a partition.
pub(super) async fn make(
    store: &dyn Store,
    partition: u32,
    public: &Arc<Public>,
    kernel: Kernel,
) -> Result<Made, PirError> {
    let fillings = fill(store, partition).await?;
    let public = Arc::clone(public);
    let preparing = move || prepare(fillings, partition, &public, kernel);
    tokio::task::spawn_blocking(preparing).await.map_err(|_| PirError::Stopped)?
}
