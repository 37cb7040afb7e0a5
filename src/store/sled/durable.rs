//! One sled database that is durable when it says so. sled's own `flush` starts
//! writing without waiting for the disk's cache or the file's length, so the
//! sync that counts is ours, and once it has failed nothing more is written.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How long a database of this process may take to let go of its files: sled
/// closes them in the background.
const REOPEN_WAIT: Duration = Duration::from_secs(10);

/// sled queues what it is to write without bound. After so many bytes a bulk
/// writer waits until the queue is written.
const UNWRITTEN_BYTES: u64 = 16 << 20;

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

/// A sled database and the handle that syncs it.
pub(super) struct Database {
    db: ::sled::Db,
    file: File,
    failed: AtomicBool,
    unwritten: AtomicU64,
}

impl Database {
    /// Opens or creates a database whose folder exists, and makes all that sled
    /// creates there durable.
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = ::sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
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
        Ok(Self { db, file, failed: AtomicBool::new(false), unwritten: AtomicU64::new(0) })
    }

    /// Refuses everything once a write or a sync has failed: what the disk then
    /// holds is known only after it was opened anew.
    pub(super) fn usable(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::SeqCst) {
            Err(StoreError::Disk("an earlier write failed; restart once the disk is sound".into()))
        } else {
            Ok(())
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
        self.usable()?;
        self.db.get(key).map_err(engine)
    }

    /// The entries with keys from `first` to `last`, both included.
    pub(super) fn range(
        &self,
        first: &[u8],
        last: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(::sled::IVec, ::sled::IVec), StoreError>> {
        self.db.range(first..=last).map(|entry| entry.map_err(engine))
    }

    pub(super) fn prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(::sled::IVec, ::sled::IVec), StoreError>> {
        self.db.scan_prefix(prefix).map(|entry| entry.map_err(engine))
    }

    /// Applies a batch: seen whole or not at all, also after a crash, and not
    /// durable before [`Self::sync`].
    pub(super) fn apply(&self, batch: ::sled::Batch) -> Result<(), StoreError> {
        self.usable()?;
        self.failing(self.db.apply_batch(batch).map_err(engine))
    }

    /// Like [`Self::apply`], for many: waits when sled lags behind.
    pub(super) fn apply_bulk(&self, batch: ::sled::Batch, bytes: u64) -> Result<(), StoreError> {
        self.apply(batch)?;
        if self.unwritten.fetch_add(bytes, Ordering::Relaxed) + bytes >= UNWRITTEN_BYTES {
            self.unwritten.store(0, Ordering::Relaxed);
            self.failing(self.db.flush().map_err(engine))?;
        }
        Ok(())
    }

    /// Makes everything applied so far durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.usable()?;
        self.failing(self.db.flush().map_err(engine))?;
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
