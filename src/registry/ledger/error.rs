//! Why an operation of the ledger was refused: each variant names whose fault
//! it is, and none can hold an identifier, a user or a bucket number. After
//! any of them but a failed store nothing is changed.

use crate::{
    bucket::{BUCKET_ENTRIES, BucketError, EntryError, MAX_MAPPINGS},
    epoch::Epoch,
    identifier::{IdentifierError, Provider},
    keyring::KeyringError,
    oprf::OprfError,
    registry::{
        error::RowFault,
        row::{MAX_PROOFS, RowError},
    },
    store::StoreError,
};

/// A refused operation.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    // The caller's request.
    /// User and provider are too long together.
    #[error("{0}")]
    Ssi(IdentifierError),
    /// No key is recorded for the provider.
    #[error("{0} is no provider of this directory: have its key recorded first")]
    UnknownProvider(Provider),
    /// The mapping is not signed by the recorded key of its provider.
    #[error(
        "the signature is not {0}'s over this mapping as it is: sign the identifier, the user and \
         the fixed fields with the recorded key"
    )]
    Signature(Provider),
    /// The mapping would outlive its proof by too much.
    #[error("verified_until lies more than 30 days after the proof: propose an earlier time")]
    VerifiedTooLong,
    /// The mapping would be gone at once.
    #[error("verified_until has passed: propose a later time")]
    Lapsed,
    /// There is no such mapping.
    #[error("the identifier has no such mapping")]
    NotFound,
    /// The claim that a port ends in is for another identifier.
    #[error("the claim of a port must be for the identifier that is ported")]
    PortOfAnother,
    /// Both sides of a port are one provider.
    #[error("a port leads from one provider to another")]
    PortToItself,
    /// A page token that this directory did not make, or made before it grew.
    #[error("the page token is not one of this directory as it is now: list from the beginning")]
    PageToken,

    // The proof.
    /// The proof was used before.
    #[error("the proof was used before: obtain a new one")]
    ProofUsed,
    /// The proof is too old to be remembered, so that it could be used twice.
    #[error("the proof has expired: obtain a new one")]
    ProofExpired,

    // What there is room for.
    /// The identifier has all the mappings that it may have.
    #[error("the identifier has {MAX_MAPPINGS} mappings already: release one first")]
    TooManyMappings,
    /// The provider has its share of the bucket.
    #[error("the provider has its share of the bucket that the identifier lies in")]
    ShareTaken,
    /// The bucket is full.
    #[error("the bucket that the identifier lies in has {BUCKET_ENTRIES} mappings already")]
    BucketFull,
    /// Too many proofs were used for the identifier lately.
    #[error("{MAX_PROOFS} proofs were used for the identifier lately: wait until one expires")]
    TooManyProofs,
    /// Others kept changing the bucket.
    #[error("others keep changing the bucket that the identifier lies in: try again")]
    Busy,

    // The directory.
    /// There is no directory yet.
    #[error("the data folder holds no directory: make one with `blindbook load`")]
    NoDirectory,
    /// The ledger was closed.
    #[error("the directory is being shut down: try again later")]
    Closed,
    /// A bucket is sealed under a key that is gone.
    #[error("a bucket is sealed under epoch {0}, whose seed is not among the keys: put it back")]
    EpochMissing(Epoch),
    /// A row does not open.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A row is malformed.
    #[error("the registry is damaged: {0}; restore it from a backup")]
    Row(#[from] RowFault),
    /// Rows and buckets contradict each other.
    #[error("the registry is damaged: {0}; verify and repair it")]
    Damaged(&'static str),

    // The machine.
    /// The store failed. Whether the change was made shows when it is opened
    /// again; it was not acknowledged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The clock is beyond what a mapping can say.
    #[error("the clock shows a time beyond the year 2105: set it")]
    Clock,

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
    /// A worker ended without a result.
    #[error("a worker failed: this is a fault of Blindbook; report it")]
    Worker,
}

impl LedgerError {
    /// Whether one bucket is damaged, and others need not be.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::EpochMissing(_)
                | Self::Keyring(_)
                | Self::Row(_)
                | Self::Damaged(_)
                | Self::Store(StoreError::Damaged(_))
        )
    }
}

impl From<RowError> for LedgerError {
    fn from(error: RowError) -> Self {
        Self::Row(error.into())
    }
}
