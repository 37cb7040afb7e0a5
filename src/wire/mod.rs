//! The messages of `blindbook.v1`: generated types, and beside each the checked
//! form that cannot hold a bad value.
//!
//! Generated types stop here: the roles hand them in and out, and work with
//! the checked ones. What a checked form refuses, it refuses with the field and
//! the rule, never with the value.

pub mod admin;
mod audience;
mod evaluate;
mod fetch;
mod invalidations;
mod parameters;
mod pir;
mod providers;
mod quota;
pub mod registry;
mod signed;
mod silent;
mod timeout;

pub use audience::audience_to_proto;
pub use evaluate::{ELEMENT_BATCHES, ELEMENT_BYTES, Evaluate, Evaluation, PROOF_BYTES};
pub use fetch::{BUCKET_BATCHES, Fetch, MAX_BUCKETS_PER_FETCH, bucket_from_proto, bucket_to_proto};
pub use invalidations::{
    Checkpoint, Invalidation, Invalidations, MAX_INVALIDATIONS, MAX_INVALIDATIONS_BYTES, Watch,
};
pub use parameters::{EpochKey, Parameters};
pub use pir::{QueryPir, pir_row, pir_seed, pir_shape};
pub use providers::{KeySuccession, Provider, ProviderList};
pub use quota::{IssueTokens, LimitTold, LimitsTold, MAX_ISSUED, TokenKeys, issued_from_proto};
pub use signed::SignedBody;
pub use timeout::grpc_timeout;

use crate::identifier::IdentifierError;

/// The domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "blindbook";

/// The reason of a refusal by a server that has too much to do.
pub const OVERLOADED: &str = "OVERLOADED";

/// The generated messages, client and server.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, unused_qualifications)]
pub mod proto {
    tonic::include_proto!("blindbook.v1");

    /// The encoded file descriptors of the package, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/blindbook.v1.binpb"));
}

/// What is wrong with a message. The sender is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field is absent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has the wrong number of bytes.
    #[error("{field} must have {expected} bytes, it has {got}")]
    Length {
        /// Which field.
        field: &'static str,
        /// How many it must have.
        expected: usize,
        /// How many it has.
        got: usize,
    },
    /// A batch has a size that is not one of the fixed ones.
    #[error("{field} must hold one of {allowed:?}, it holds {got}")]
    Batch {
        /// Which field.
        field: &'static str,
        /// The sizes there are.
        allowed: &'static [usize],
        /// Its size.
        got: usize,
    },
    /// A field breaks a rule.
    #[error("{field} {rule}")]
    Rule {
        /// Which field.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A field names nobody, or names somebody in another form than the
    /// canonical one.
    #[error("{field}: {error}")]
    Identifier {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        error: IdentifierError,
    },
    /// The bytes are no protobuf message of this kind.
    #[error("{0} is not an encoded message of its kind")]
    Encoding(&'static str),
    /// The signature is not the directory's over this body.
    #[error("the {0} are not signed by the directory's identity key")]
    Signature(&'static str),
}

impl WireError {
    /// The field at fault.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Missing(field)
            | Self::Length { field, .. }
            | Self::Batch { field, .. }
            | Self::Rule { field, .. }
            | Self::Identifier { field, .. }
            | Self::Encoding(field)
            | Self::Signature(field) => field,
        }
    }
}

/// Exactly `N` bytes.
fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| WireError::Length { field, expected: N, got: bytes.len() })
}
