//! One sled database that is durable when it says so. sled's own `flush` starts
//! writing without waiting for the disk's cache or the file's length, so the
//! sync that counts is ours, and once it has failed nothing more is written.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How long a database of this process may take to let go of its files: sled
/// closes them in the background.
const REOPEN_WAIT: Duration = Duration::from_secs(10);

/// sled writes its log in segments of this size, each in one job of a pool of
/// seven threads that all databases of the process share. A job that shortens
/// the file can be waited for by the one who holds what the other jobs need, so
/// that sled stands still for ever once seven of them wait. Few and large
/// segments keep their number far below that.
const SEGMENT_BYTES: usize = 4 << 20;

/// Bytes that may be applied, in the whole process, before all of them are
/// written. It bounds the jobs that are under way, and the memory they hold.
const UNWRITTEN_BYTES: u64 = SEGMENT_BYTES as u64;

/// What sled writes for each byte that is put, whole leaves and moved ones
/// included.
const AMPLIFICATION: u64 = 4;

/// The databases of this process that have applied something since they were
/// last flushed, and how many bytes of log that made.
static UNWRITTEN: Mutex<Vec<(Weak<Inner>, u64)>> = Mutex::new(Vec::new());

/// Makes a folder's names durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(disk)
}

/// Creates a folder whose name outlives a power loss.
pub(super) fn create_dir(path: &Path) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(disk(error)),
        _ => path.parent().map_or(Ok(()), sync_dir),
    }
}

/// Removes a folder and all beneath it, if it is there.
pub(super) fn remove_dir(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(error)),
        _ => Ok(()),
    }
}

/// The fault of a file operation.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
pub(super) fn disk(error: io::Error) -> StoreError {
    StoreError::Disk(error.to_string())
}

/// The fault of a sled operation. What sled says may name file offsets, never
/// keys or values.
pub(super) fn engine(error: ::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Io(error) => disk(error),
        ::sled::Error::Corruption { .. } => {
            StoreError::Damaged("a checksum of the storage engine does not match")
        }
        ::sled::Error::CollectionNotFound(_) => StoreError::Damaged("a collection is missing"),
        ::sled::Error::Unsupported(text) => StoreError::Open(text),
        ::sled::Error::ReportableBug(text) => StoreError::Disk(text),
    }
}

/// A sled database and the handle that syncs it; clones share it.
#[derive(Clone)]
pub(super) struct Database(Arc<Inner>);

struct Inner {
    db: ::sled::Db,
    file: File,
    failed: AtomicBool,
    live: AtomicBool,
}

impl Database {
    /// Opens or creates a database whose folder exists, and makes all that sled
    /// creates there durable.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = ::sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .segment_size(SEGMENT_BYTES)
            .use_compression(false)
            .flush_every_ms(None);
        let db = open_unlocked(&config)?;
        db.flush().map_err(engine)?;
        for entry in fs::read_dir(path).map_err(disk)? {
            // sled syncs its data file alone, and no name.
            File::open(entry.map_err(disk)?.path())
                .and_then(|file| file.sync_all())
                .map_err(disk)?;
        }
        sync_dir(path)?;
        let file = File::open(path.join("db")).map_err(disk)?;
        let (failed, live) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self(Arc::new(Inner { db, file, failed, live })))
    }

    /// From now on the database holds what was acknowledged. sled reuses room
    /// in its file one segment after it has moved away what was there, and
    /// believes it moved without a sync; so what is moved is synced before.
    pub(super) fn set_live(&self) {
        self.0.live.store(true, Ordering::SeqCst);
    }

    /// Refuses everything once a write or a sync has failed: what the disk then
    /// holds is known only after it was opened anew.
    pub(super) fn usable(&self) -> Result<(), StoreError> {
        self.0.usable()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
        self.usable()?;
        self.0.db.get(key).map_err(engine)
    }

    /// The entries with keys from `first` to `last`, both included.
    pub(super) fn range(
        &self,
        first: &[u8],
        last: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(::sled::IVec, ::sled::IVec), StoreError>> {
        self.0.db.range(first..=last).map(|entry| entry.map_err(engine))
    }

    pub(super) fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(::sled::IVec, ::sled::IVec), StoreError>> {
        self.0.db.scan_prefix(prefix).map(|entry| entry.map_err(engine))
    }

    /// Applies a batch of so many bytes: seen whole or not at all, also after a
    /// crash, and not durable before [`Self::sync`]. Waits when the disk lags
    /// behind.
    pub(super) fn apply(&self, batch: ::sled::Batch, bytes: usize) -> Result<(), StoreError> {
        self.usable()?;
        self.0.failing(self.0.db.apply_batch(batch).map_err(engine))?;
        let written = bytes as u64 * AMPLIFICATION;
        let mut unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        match unwritten.iter_mut().find(|(inner, _)| inner.as_ptr() == Arc::as_ptr(&self.0)) {
            Some((_, bytes)) => *bytes += written,
            None => unwritten.push((Arc::downgrade(&self.0), written)),
        }
        if unwritten.iter().map(|(_, bytes)| bytes).sum::<u64>() < UNWRITTEN_BYTES {
            return Ok(());
        }
        let behind = std::mem::take(&mut *unwritten);
        drop(unwritten);
        for inner in behind.iter().filter_map(|(inner, _)| inner.upgrade()) {
            // Each remembers its own fault.
            let _ = if inner.live.load(Ordering::SeqCst) { inner.sync() } else { inner.flush() };
        }
        self.usable()
    }

    /// Remembers the fault of a write beside the database: see [`Self::usable`].
    pub(super) fn failing<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.0.failing(result)
    }

    /// Makes everything applied so far durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        UNWRITTEN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(inner, _)| inner.as_ptr() != Arc::as_ptr(&self.0));
        self.0.sync()
    }
}

impl Inner {
    fn usable(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::SeqCst) {
            Err(StoreError::Disk("an earlier write failed; restart once the disk is sound".into()))
        } else {
            Ok(())
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.usable()?;
        self.failing(self.db.flush().map(drop).map_err(engine))
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.flush()?;
        self.failing(self.file.sync_data().map_err(disk))
    }

    fn failing<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| {
            if !self.failed.swap(true, Ordering::SeqCst) {
                tracing::error!(%error, "the store failed and takes no more writes");
            }
        })
    }
}

/// Opens a database; waits while a handle that this process dropped still holds
/// its lock. Nobody else can hold it: the data folder has a lock of its own.
fn open_unlocked(config: &::sled::Config) -> Result<::sled::Db, StoreError> {
    let start = Instant::now();
    loop {
        match config.open() {
            Err(::sled::Error::Io(error))
                if error.kind() == io::ErrorKind::Other && start.elapsed() < REOPEN_WAIT =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            result => {
                return result.map_err(|error| match engine(error) {
                    StoreError::Disk(text) => StoreError::Open(text),
                    other => other,
                });
            }
        }
    }
}
