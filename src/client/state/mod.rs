//! What a client remembers between lookups and across restarts, and where.
//!
//! A [`State`] is a place for some byte strings per directory. The
//! client writes each whole, with a checksum, and refuses what it did not
//! write itself: a state that is gone is a fresh start, a state that is
//! damaged is an error.

mod folder;
mod memory;

use std::{fmt, io, path::PathBuf, sync::Arc};

use zeroize::Zeroizing;

pub use folder::FolderState;
pub use memory::MemoryState;

use super::{ClientError, blocking::blocking};
use crate::bucket::{DirectoryId, Placement};

/// Bytes of the checksum that ends a part.
const CHECKSUM_BYTES: usize = 32;

/// What is remembered of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The signed parameters and provider list last seen, and the keys pinned
    /// for its providers.
    Directory,
    /// The highest version seen of each bucket.
    Versions,
    /// What fills batches up.
    Decoys,
    /// A share of the cached answers and OPRF outputs. It holds whom the owner
    /// asked for.
    Answers(Shard),
    /// Where to go on in the directory's log of changes.
    Checkpoint,
    /// Tokens that were had and not spent. Whoever reads them can spend them.
    Tokens,
    /// That the directory has offered private information retrieval.
    Retrieval,
}

/// Which share of the cached answers: they lie in sixteen parts, so that a
/// lookup writes a sixteenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    const NAMES: [&str; 16] = [
        "answers-0",
        "answers-1",
        "answers-2",
        "answers-3",
        "answers-4",
        "answers-5",
        "answers-6",
        "answers-7",
        "answers-8",
        "answers-9",
        "answers-a",
        "answers-b",
        "answers-c",
        "answers-d",
        "answers-e",
        "answers-f",
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..16).map(Self)
    }

    /// The share of a placement: its first four bits.
    pub(super) const fn of(placement: &Placement) -> Self {
        let [first, ..] = placement.expose();
        Self(*first >> 4)
    }
}

impl Part {
    /// A name that can be a file's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answers(Shard(shard)) => {
                Shard::NAMES.get(usize::from(shard)).copied().unwrap_or("answers")
            }
            Self::Checkpoint => "checkpoint",
            Self::Tokens => "tokens",
            Self::Retrieval => "retrieval",
            Self::Directory => "directory",
            Self::Versions => "versions",
            Self::Decoys => "decoys",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "parameters and keys",
            Self::Versions => "bucket versions",
            Self::Decoys => "decoys",
            Self::Answers(_) => "answers",
            Self::Checkpoint => "checkpoint of changes",
            Self::Tokens => "tokens",
            Self::Retrieval => "notes on private information retrieval",
        })
    }
}

/// Why a state could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process, or another client of this one, holds the folder.
    #[error(
        "the state folder {} is in use by another client: wait for it, or give each its own folder",
        .0.display()
    )]
    InUse(
        /// The folder.
        PathBuf,
    ),
    /// The file system refuses.
    #[error("the state at {} cannot be read or written: {error}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the file system says.
        error: Arc<io::Error>,
    },
    /// Some other store refuses.
    #[error("the client's state cannot be read or written: {0}")]
    Other(
        /// What that store says.
        String,
    ),
}

/// A place for what a client remembers.
///
/// An implementation keeps the bytes as they are. `store` replaces a part
/// whole or not at all, and has made it durable when it returns: what it lost
/// would take the protection against older answers with it. What it holds
/// tells who was asked for, so it is private to its owner. One
/// state serves one [`Client`](super::Client) per directory at a time; clones
/// of a client share theirs.
///
/// Both functions may block: the client calls them beside its runtime.
pub trait State: Send + Sync + 'static {
    /// Reads a part, `None` if it was never stored.
    ///
    /// # Errors
    /// The place cannot be read.
    fn load(&self, directory: &DirectoryId, part: Part) -> Result<Option<Vec<u8>>, StateError>;

    /// Replaces a part.
    ///
    /// # Errors
    /// The place cannot be written; the part is then what it was.
    fn store(&self, directory: &DirectoryId, part: Part, bytes: &[u8]) -> Result<(), StateError>;
}

/// One directory's parts in a state.
#[derive(Clone)]
pub(super) struct Parts {
    state: Arc<dyn State>,
    directory: DirectoryId,
}

impl Parts {
    pub(super) fn new(state: Arc<dyn State>, directory: DirectoryId) -> Self {
        Self { state, directory }
    }

    /// Reads the payload of a part.
    pub(super) async fn load(&self, part: Part) -> Result<Option<Vec<u8>>, ClientError> {
        let this = self.clone();
        blocking(move || match this.state.load(&this.directory, part)? {
            Some(bytes) => open(part, &bytes).map(Some).ok_or(ClientError::StateDamaged(part)),
            None => Ok(None),
        })
        .await
    }

    /// Writes the payload of a part. Blocks.
    pub(super) fn store(&self, part: Part, payload: &[u8]) -> Result<(), ClientError> {
        let sealed = Zeroizing::new(seal(part, payload));
        Ok(self.state.store(&self.directory, part, &sealed)?)
    }
}

fn header(part: Part) -> String {
    format!("blindbook client {} 1\n", part.name())
}

/// Header, payload, BLAKE3 of both.
fn seal(part: Part, payload: &[u8]) -> Vec<u8> {
    let header = header(part);
    // Room for all of it, so that no copy of secrets is left behind by growing.
    let mut bytes = Vec::with_capacity(header.len() + payload.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(payload);
    let checksum = blake3::hash(&bytes);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes
}

fn open(part: Part, bytes: &[u8]) -> Option<Vec<u8>> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if blake3::hash(content) != *checksum {
        return None;
    }
    content.strip_prefix(header(part).as_bytes()).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_opens_only_whole_unaltered_and_as_itself() {
        let sealed = seal(Part::Decoys, b"payload");
        assert_eq!(open(Part::Decoys, &sealed).as_deref(), Some(b"payload".as_slice()));
        assert_eq!(open(Part::Versions, &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(open(Part::Decoys, &sealed[..length]), None);
        }
        for offset in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[offset] ^= 1;
            assert_eq!(open(Part::Decoys, &altered), None);
        }
    }

    #[test]
    fn every_part_has_a_name_of_its_own() {
        let mut names: Vec<_> = Shard::all().map(|shard| Part::Answers(shard).name()).collect();
        let others =
            [Part::Directory, Part::Versions, Part::Decoys, Part::Checkpoint, Part::Tokens];
        names.extend(others.map(Part::name));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 21);
    }

    /// What every implementation promises.
    fn keeps_parts_apart(state: &dyn State) {
        let (one, other) = (DirectoryId::from_bytes([1; 16]), DirectoryId::from_bytes([2; 16]));
        assert_eq!(state.load(&one, Part::Decoys).unwrap(), None);
        state.store(&one, Part::Decoys, b"first").unwrap();
        state.store(&one, Part::Decoys, b"second").unwrap();
        state.store(&one, Part::Versions, b"").unwrap();
        state.store(&other, Part::Decoys, b"other").unwrap();
        assert_eq!(state.load(&one, Part::Decoys).unwrap().as_deref(), Some(b"second".as_slice()));
        assert_eq!(state.load(&one, Part::Versions).unwrap().as_deref(), Some(b"".as_slice()));
        assert_eq!(state.load(&other, Part::Decoys).unwrap().as_deref(), Some(b"other".as_slice()));
        assert_eq!(state.load(&other, Part::Directory).unwrap(), None);
    }

    #[test]
    fn both_states_keep_parts_and_directories_apart() {
        let folder = tempfile::tempdir().unwrap();
        keeps_parts_apart(&MemoryState::new());
        keeps_parts_apart(&FolderState::open(&folder.path().join("state")).unwrap());
    }
}
