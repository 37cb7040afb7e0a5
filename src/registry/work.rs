//! The threads of a load: units of placements handed out to one worker per
//! core, given up together when one fails or the caller goes away.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{
    error::LoadError,
    plan::bucket_of,
    spill::{Leaf, Spill},
    spilled::Spilled,
};
use crate::bucket::{BucketNumber, PlacementError, PrefixBits};

/// Tells every worker to give up.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Gives up when dropped, as the load's future is when its caller leaves.
    pub(super) fn guard(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }

    /// # Errors
    /// The load was given up.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        if self.0.load(Ordering::Relaxed) { Err(LoadError::Stopped) } else { Ok(()) }
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Runs blocking work on a thread of its own; dropped, it lets the thread run
/// to its next look at [`Stop`].
pub(super) async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let (sender, receiver) = oneshot::channel();
    thread::Builder::new()
        .name("load".into())
        .spawn(move || {
            // Nobody receives when the load was given up.
            let _ = sender.send(work());
        })
        .map_err(LoadError::Thread)?;
    // The sender is dropped unsent only by a panic.
    receiver.await.map_err(|_| LoadError::Worker)?
}

/// Buckets that are worked on together, and the files of their records.
pub(super) struct Unit<'a> {
    first: u32,
    buckets: u64,
    leaves: Vec<&'a Leaf>,
}

impl<'a> Unit<'a> {
    /// All buckets of a directory in units as small as the files allow,
    /// ascending.
    pub(super) fn all(leaves: &'a [Leaf], bits: PrefixBits) -> Vec<Self> {
        let bits = u32::from(bits.get());
        let mut units: Vec<Self> = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            if let Some(deeper) = bits.checked_sub(leaf.bits) {
                // 32 bits deeper only beneath no prefix at all.
                let first = leaf.prefix.checked_shl(deeper).unwrap_or(0);
                units.push(Self { first, buckets: 1 << deeper, leaves: vec![leaf] });
                continue;
            }
            let first = leaf.prefix.checked_shr(leaf.bits - bits).unwrap_or(0);
            match units.last_mut() {
                Some(unit) if unit.first == first => unit.leaves.push(leaf),
                _ => units.push(Self { first, buckets: 1, leaves: vec![leaf] }),
            }
        }
        units
    }

    /// The unit's buckets, ascending.
    pub(super) fn numbers(&self, bits: PrefixBits) -> Result<Vec<BucketNumber>, PlacementError> {
        let last = u64::from(self.first) + self.buckets - 1;
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        (self.first..=last).map(|number| BucketNumber::new(number, bits)).collect()
    }

    /// The unit's records, the last of each identifier and user, by bucket;
    /// and how many were superseded.
    pub(super) fn records(&self, spill: &Spill) -> Result<(Vec<Spilled>, u64), LoadError> {
        let mut records = Vec::new();
        let (mut all, mut compact_at) = (0, COMPACT_RECORDS);
        for leaf in &self.leaves {
            spill.read(leaf, |record| {
                records.push(record);
                all += 1;
                if records.len() >= compact_at {
                    keep_last(&mut records);
                    compact_at = COMPACT_RECORDS.max(records.len() * 2);
                }
                Ok(())
            })?;
        }
        keep_last(&mut records);
        let kept = u64::try_from(records.len()).unwrap_or(all);
        Ok((records, all - kept))
    }
}

/// Repeated records are dropped whenever so many have come together, so that
/// no number of repetitions fills the memory.
const COMPACT_RECORDS: usize = 1 << 16;

/// Sorts by placement and keeps the last line of each identifier and user.
fn keep_last(records: &mut Vec<Spilled>) {
    records.sort_unstable_by(|a, b| {
        let person = (a.leading, &a.sii, &**a.user).cmp(&(b.leading, &b.sii, &**b.user));
        person.then(b.at.cmp(&a.at))
    });
    records.dedup_by(|next, kept| next.sii == kept.sii && next.user == kept.user);
}

/// The records of each bucket, ascending; buckets without any are left out.
pub(super) fn by_bucket(
    records: &[Spilled],
    bits: PrefixBits,
) -> impl Iterator<Item = (BucketNumber, &[Spilled])> {
    let number = move |record: &Spilled| bucket_of(record.leading, bits);
    records
        .chunk_by(move |a, b| number(a) == number(b))
        .filter_map(move |chunk| Some((number(chunk.first()?), chunk)))
}

/// Works on every unit, one worker per thread, in the units' order as far as
/// that goes. The first failure stops all and is returned.
pub(super) fn for_each<T: Send>(
    threads: NonZeroUsize,
    stop: &Stop,
    units: &[Unit<'_>],
    work: impl Fn(&Unit<'_>) -> Result<T, LoadError> + Sync,
) -> Result<Vec<T>, LoadError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let done = Mutex::new(Vec::with_capacity(units.len()));
    let run = || {
        while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
            stop.check()?;
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let result = work(unit).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.get().min(units.len()))
            .map(|_| {
                thread::Builder::new()
                    .name("load-work".into())
                    .spawn_scoped(scope, run)
                    .map_err(LoadError::Thread)
            })
            .collect();
        let mut outcome = Ok(());
        for worker in workers {
            let result = worker.and_then(|worker| worker.join().map_err(|_| LoadError::Worker)?);
            outcome = outcome.and(result);
        }
        outcome
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}
