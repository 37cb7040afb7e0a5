//! A state that ends with the process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use super::{Part, State, StateError};
use crate::bucket::DirectoryId;

/// A state in memory, for tests and for whoever cannot keep one.
///
/// **Rollback protection ends with the process**: a client that starts again
/// accepts older parameters and buckets than it saw before, pins whatever
/// provider keys it sees first, and fills batches with other decoys, which an
/// observant server can tell from contacts. Use a [`FolderState`](super::FolderState)
/// wherever there is a folder.
#[derive(Default)]
pub struct MemoryState(Mutex<HashMap<(DirectoryId, Part), Vec<u8>>>);

impl MemoryState {
    /// An empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemoryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryState(..)")
    }
}

impl State for MemoryState {
    fn load(&self, directory: &DirectoryId, part: Part) -> Result<Option<Vec<u8>>, StateError> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(parts.get(&(*directory, part)).cloned())
    }

    fn store(&self, directory: &DirectoryId, part: Part, bytes: &[u8]) -> Result<(), StateError> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert((*directory, part), bytes.to_vec());
        Ok(())
    }
}
