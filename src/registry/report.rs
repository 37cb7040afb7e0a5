//! What a load did, and which lines it refused. Lines are named by file and
//! number, never by what they say.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::lines::MAX_LINE_BYTES;
use crate::{
    bucket::{MAX_MAPPINGS, PrefixBits},
    identifier::IdentifierError,
};

/// Why one line of a directory file was not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No honest line comes near.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// Not text.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// RFC 4180 quotes, on one line.
    #[error("a quotation mark is out of place, or not closed on its line")]
    Quotes,
    /// More or fewer fields than columns.
    #[error("the line has {found} fields, the header {expected}")]
    Fields {
        /// Columns of the header.
        expected: usize,
        /// Fields of the line.
        found: usize,
    },
    /// Not JSON, or no object.
    #[error("the line is not one JSON object")]
    Json,
    /// A JSON value of another type.
    #[error(
        "a value has the wrong type: sii, user and audience are strings, default is true or \
         false, ttl_s a whole number"
    )]
    JsonType,
    /// A JSON name that means nothing here.
    #[error("a name is none of sii, user, audience, default, ttl_s")]
    UnknownField,
    /// A JSON name twice.
    #[error("a name comes twice")]
    RepeatedField,
    /// Nothing to find the person by.
    #[error("sii is missing or empty")]
    NoSii,
    /// Nobody to find.
    #[error("user is missing or empty")]
    NoUser,
    /// The identifier is not one.
    #[error("sii: {0}")]
    Sii(IdentifierError),
    /// The user is not one, or too long.
    #[error("user: {0}")]
    User(IdentifierError),
    /// Neither of the two.
    #[error("audience is neither personal nor business")]
    Audience,
    /// Neither of the two.
    #[error("default is neither true nor false")]
    Default,
    /// Not a number of seconds.
    #[error("ttl_s is not a whole number of seconds below 2^32")]
    Ttl,
    /// The identifier has as many mappings as it may.
    #[error("the identifier has {MAX_MAPPINGS} mappings already, the most there may be")]
    TooManyMappings,
    /// The provider has as many entries in the bucket as it may.
    #[error("the identifier's bucket holds as many of this provider's mappings as it may")]
    ShareTaken,
    /// The bucket is full.
    #[error("the identifier's bucket is full")]
    BucketFull,
}

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    /// Index of the input.
    pub(super) file: u32,
    /// From 1.
    pub(super) line: u64,
}

/// One line that was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// The input's name.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u64,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// The lines that were not loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadLines {
    /// How many.
    pub total: u64,
    /// By input and line; as many as the options allow.
    pub listed: Vec<BadLine>,
}

/// Collects bad lines from all workers, up to a bound.
pub(super) struct Collector {
    most: usize,
    total: AtomicU64,
    listed: Mutex<Vec<(At, Reason)>>,
}

impl Collector {
    pub(super) fn new(most: usize) -> Self {
        Self { most, total: AtomicU64::new(0), listed: Mutex::default() }
    }

    pub(super) fn add(&self, at: At, reason: Reason) {
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.len() < self.most {
            listed.push((at, reason));
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn report(&self, names: &[Arc<str>]) -> BadLines {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        listed.sort_unstable_by_key(|(at, _)| *at);
        let listed = listed.into_iter().map(|(at, reason)| {
            let file = usize::try_from(at.file).ok().and_then(|file| names.get(file));
            BadLine { file: file.cloned().unwrap_or_default(), line: at.line, reason }
        });
        BadLines { total: self.total(), listed: listed.collect() }
    }
}

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Lines that were read, headers and blank ones aside.
    pub lines: u64,
    /// Lines that a later line for the same identifier and user replaced.
    pub superseded: u64,
    /// Mappings that are new.
    pub added: u64,
    /// Mappings that were there and changed.
    pub changed: u64,
    /// Mappings that were there as the line says.
    pub unchanged: u64,
    /// Lines that were not loaded.
    pub bad: BadLines,
    /// The directory's prefix bits after the load.
    pub prefix_bits: u8,
    /// The directory's prefix bits before, if the load re-split it.
    pub resplit_from: Option<u8>,
    /// All mappings of the directory after the load.
    pub mappings: u64,
    /// All identifiers of the directory after the load.
    pub identifiers: u64,
    /// Buckets that were written.
    pub buckets_written: u64,
}

impl LoadReport {
    pub(super) fn set_bits(&mut self, before: Option<PrefixBits>, after: PrefixBits) {
        self.prefix_bits = after.get();
        self.resplit_from = before.filter(|before| *before != after).map(PrefixBits::get);
    }
}
