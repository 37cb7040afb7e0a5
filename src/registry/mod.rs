//! The registry: who may be found. It is the truth, sealed in rows that lie
//! with their bucket; buckets are its published form.
//!
//! [`load`] fills it from the files of an application provider, at the speed
//! of the arithmetic on all cores and in bounded memory. [`Ledger`] changes it
//! while it serves, one identifier at a time.

mod build;
mod counts;
mod error;
mod input;
mod ledger;
mod lines;
mod load;
mod people;
mod plan;
mod progress;
pub mod proof;
mod providers;
mod read;
mod records;
mod report;
mod row;
mod source;
mod spill;
mod spilled;
mod survey;
mod verified;
mod versions;
mod work;

/// Both find the same entries by it: the client that holds it, and the registry.
use crate::bucket::circle;

pub use circle::{Circle, CircleId};
pub use counts::{Counts, counts};
pub use error::{HeaderError, LoadError, RowFault};
pub use input::Input;
pub use ledger::{
    BucketFault, Claim, Claimed, Ledger, LedgerError, MAX_VERIFIED_S, Mapped, Page, PageToken,
    Port, Ported, Swept, Verification, Which, verify_directory,
};
pub use lines::MAX_LINE_BYTES;
pub use load::{LoadOptions, load};
pub use progress::{Phase, Progress, Snapshot};
pub use providers::{KeyRecorded, ProviderKeyError, ProviderKeys, listed_providers, providers};
pub use records::DEFAULT_TTL_S;
pub use report::{BadLine, BadLines, LoadReport, Reason};
pub use verified::{ProofRecord, VerifiedClaim, VerifiedControl};
