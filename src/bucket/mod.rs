//! Buckets of sealed entries: where an identifier is placed, how a mapping is
//! signed, sealed and opened, and how a bucket is signed.
//!
//! Pure: no clock, no files, no runtime; randomness is passed in. The exact
//! bytes are those of `docs/protocol.md`, "Exact bytes".

pub mod circle;
mod entry;
mod mapping;
mod placement;
mod signed;
mod slots;

pub use circle::{Circle, CircleId};
pub use entry::{Entry, EntryError, EntryKeys, Opened};
pub use mapping::{Audience, Mapping, MappingError, SignedMapping};
pub use placement::{BucketNumber, DirectoryId, Placement, PlacementError, PrefixBits};
pub use signed::{Bucket, BucketError};
pub use slots::Slots;

/// Bytes of one sealed entry.
pub const ENTRY_BYTES: usize = 192;

/// Entries of one bucket, free ones included.
pub const BUCKET_ENTRIES: usize = 256;

/// Bytes of all entries of one bucket: 48 KiB.
pub const BUCKET_BYTES: usize = ENTRY_BYTES * BUCKET_ENTRIES;

/// Most mappings that one identifier may have.
pub const MAX_MAPPINGS: usize = 8;

/// Bits of a bucket number within its partition: 2^16 buckets make one.
pub const PARTITION_BUCKET_BITS: u8 = 16;
