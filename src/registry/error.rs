//! Why a load came to an end: each variant names whose fault it is, and none
//! can hold an identifier, a user or a bucket number.

use std::{io, path::PathBuf, sync::Arc};

use super::{lines::MAX_LINE_BYTES, report::LoadReport, row::RowError};
use crate::{
    bucket::{BucketError, EntryError, PlacementError},
    epoch::Epoch,
    identifier::Provider,
    keyring::KeyringError,
    oprf::OprfError,
    store::StoreError,
};

/// What is wrong with the header of a CSV file. Columns are named by number: a
/// file without header must not show its first line here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not text.
    #[error("is not UTF-8; save the file as UTF-8")]
    NotUtf8,
    /// No honest header comes near.
    #[error("is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Misplaced quotes.
    #[error("has a quotation mark out of place")]
    Quotes,
    /// A column that means nothing here.
    #[error("has a column {0} that is none of sii, user, audience, default, ttl_s")]
    Unknown(usize),
    /// A column twice.
    #[error("has the column {0} twice")]
    Repeated(&'static str),
    /// A column that must be there.
    #[error("lacks the column {0}")]
    Missing(&'static str),
}

/// Why a load came to an end. What was acknowledged before stays; the same
/// load started again completes it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    // The caller's input.
    /// An input could not be read.
    #[error("{file} cannot be read: {error}; nothing was changed")]
    Input {
        /// Its name.
        file: Arc<str>,
        /// What the system said.
        error: io::Error,
    },
    /// A CSV file has another header.
    #[error(
        "the first line of {file} {error}; write sii,user[,audience][,default][,ttl_s]; nothing was changed"
    )]
    Header {
        /// The file's name.
        file: Arc<str>,
        /// What is wrong.
        error: HeaderError,
    },
    /// Strict, and at least one line cannot be loaded.
    #[error("{} lines cannot be loaded; nothing was changed", .0.bad.total)]
    Refused(Box<LoadReport>),
    /// The provider is recorded with another key: clients that pinned that one
    /// would refuse what the given key signs.
    #[error(
        "the directory knows {0} by another key: sign with the key of its earlier loads; \
         nothing was changed"
    )]
    ProviderKey(Provider),
    /// A bucket to be changed is sealed under a key that is gone.
    #[error("a bucket is sealed under epoch {0}, whose seed is not among the keys: put it back")]
    EpochMissing(Epoch),

    // The machine.
    /// The temporary files failed.
    #[error("{path}: {error}; free or mend the disk and load again")]
    Spill {
        /// Where they lie.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The temporary files were altered.
    #[error("{0}: a temporary file was altered while loading; load again")]
    SpillAltered(PathBuf),
    /// No thread to work on.
    #[error("no thread could be started: {0}")]
    Thread(io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),

    // The directory.
    /// A row does not open.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A row is malformed.
    #[error("the registry is damaged: {0}; restore it from a backup")]
    Row(#[from] RowFault),
    /// Rows and buckets contradict each other.
    #[error("the registry is damaged: {0}; restore it from a backup")]
    Damaged(&'static str),

    // Ours.
    /// An identifier has no OPRF value.
    #[error("an identifier cannot be evaluated: {0}")]
    Oprf(#[from] OprfError),
    /// A mapping that its types allow cannot be sealed.
    #[error("a mapping cannot be sealed: {0}")]
    Entry(#[from] EntryError),
    /// A bucket of another length.
    #[error("a bucket cannot be built: {0}")]
    Bucket(#[from] BucketError),
    /// A bucket number out of range.
    #[error("a bucket cannot be numbered: {0}")]
    Placement(#[from] PlacementError),
    /// A worker ended without a result.
    #[error("a worker thread failed: this is a fault of Blindbook; load again and report it")]
    Worker,
    /// The load was given up by its caller.
    #[error("the load was given up")]
    Stopped,
}

/// A row that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RowFault(RowError);

impl From<RowError> for RowFault {
    fn from(error: RowError) -> Self {
        Self(error)
    }
}

impl From<RowError> for LoadError {
    fn from(error: RowError) -> Self {
        Self::Row(error.into())
    }
}
