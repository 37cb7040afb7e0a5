//! The data folder's own lock: one process at a time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::store::StoreError;

/// How long to wait for a process that is just ending, or for the handles that
/// this one dropped.
const WAIT: Duration = Duration::from_secs(2);

/// Held as long as any handle to the folder's files lives; the system frees it
/// when the process ends, however it ends.
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let start = Instant::now();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(|error| StoreError::Open(error.to_string()))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(StoreError::Open(error.to_string())),
                Err(TryLockError::WouldBlock) if start.elapsed() < WAIT => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Open(
                        "another process is using it; stop that one first".into(),
                    ));
                }
            }
        }
    }
}
