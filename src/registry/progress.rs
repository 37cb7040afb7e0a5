//! How far a load is, in counters that whoever shows it reads at any time.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a load is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Phase {
    /// Reading and canonicalising the inputs.
    #[default]
    Reading,
    /// Counting what is new.
    Counting,
    /// Looking for records that do not fit (strict loads only).
    Checking,
    /// Evaluating, signing, sealing and writing.
    Sealing,
    /// Making it durable.
    Syncing,
    /// All is done.
    Done,
}

/// How far a load is; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    bytes_read: AtomicU64,
    bytes_total: AtomicU64,
    lines: AtomicU64,
    bad: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
}

/// How far a load was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What it was doing.
    pub phase: Phase,
    /// Bytes read of all inputs.
    pub bytes_read: u64,
    /// Bytes of all inputs; `None` when one of them does not tell, as a pipe.
    pub bytes_total: Option<u64>,
    /// Lines read.
    pub lines: u64,
    /// Lines refused.
    pub bad: u64,
    /// Records that the phase has behind it.
    pub done: u64,
    /// Records that the phase has before and behind it; 0 while reading.
    pub total: u64,
}

impl Progress {
    /// How far the load is now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let phases =
            [Phase::Reading, Phase::Counting, Phase::Checking, Phase::Sealing, Phase::Syncing];
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        Snapshot {
            phase: phases.get(phase).copied().unwrap_or(Phase::Done),
            bytes_read: get(&self.bytes_read),
            bytes_total: Some(get(&self.bytes_total)).filter(|total| *total > 0),
            lines: get(&self.lines),
            bad: get(&self.bad),
            done: get(&self.done),
            total: get(&self.total),
        }
    }

    pub(super) fn begin_reading(&self, bytes_total: Option<u64>) {
        self.bytes_total.store(bytes_total.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: u64) {
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn lines(&self, lines: u64, bad: u64) {
        self.lines.fetch_add(lines, Ordering::Relaxed);
        self.bad.fetch_add(bad, Ordering::Relaxed);
    }

    pub(super) fn begin(&self, phase: Phase, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn done(&self, records: u64) {
        self.done.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, records: u64) {
        self.bad.fetch_add(records, Ordering::Relaxed);
    }
}
