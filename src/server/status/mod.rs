//! The one place where the server's errors become a gRPC status: a code, a
//! sentence, and google.rpc details for programs. No status repeats a value
//! that was sent, and none tells what the disk said.

mod admin;
mod quota;
mod registry;

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(super) use self::registry::refusal;
use super::{PirError, gate::CallError, lookup::LookupError, peer::PeerError};
pub use crate::wire::ERROR_DOMAIN;
use crate::{
    oprf::OprfError,
    store::StoreError,
    wire::{OVERLOADED, WireError},
};

/// When to come back to a server that has too much to do.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What one status says.
struct Refusal {
    code: Code,
    /// For `ErrorInfo`: stable, programs may rely on it.
    reason: &'static str,
    message: String,
    details: ErrorDetails,
}

impl Refusal {
    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: ErrorDetails::new() }
    }

    /// The request broke a rule: asking again as it is would not help.
    fn invalid(reason: &'static str, field: &str, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(Code::InvalidArgument, reason, message);
        refusal.details.add_bad_request_violation(field, refusal.message.as_str());
        refusal
    }

    /// What the client knows of the directory has changed.
    fn outdated(reason: &'static str, subject: &str, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(Code::FailedPrecondition, reason, message);
        refusal.details.add_precondition_failure_violation(
            reason,
            subject,
            refusal.message.as_str(),
        );
        refusal
    }

    /// Too much to do just now; nothing was done.
    fn busy(subject: &str) -> Self {
        let message = "the server has too much to do: ask again later";
        let mut refusal = Self::new(Code::ResourceExhausted, OVERLOADED, message);
        refusal.details.add_quota_failure_violation(subject, message);
        refusal.details.set_retry_info(Some(RETRY_AFTER));
        refusal
    }

    /// Somebody may, but not the one who asks, or not with this proof.
    fn denied(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, reason, message)
    }

    /// Ours. The log has the cause, the peer does not.
    fn ours(reason: &'static str, message: &str) -> Self {
        Self::new(Code::Internal, reason, message)
    }

    fn status(mut self) -> Status {
        self.details.set_error_info(self.reason, ERROR_DOMAIN, HashMap::new());
        Status::with_error_details(self.code, self.message, self.details)
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        let refusal = match error {
            // gRPC, "Compression Method Asymmetry Between Peers": a server
            // that does not support an algorithm answers UNIMPLEMENTED.
            CallError::Encoding => Refusal::new(Code::Unimplemented, "COMPRESSED", message),
            // The same page: the flag without an algorithm is INTERNAL.
            CallError::CompressedFlag => Refusal::new(Code::Internal, "COMPRESSED", message),
            CallError::Flag => Refusal::invalid("MALFORMED_FRAME", "frame", message),
            CallError::TooLong { .. } => Refusal::invalid("MESSAGE_TOO_LONG", "message", message),
            CallError::CutShort => Refusal::invalid("INCOMPLETE_MESSAGE", "message", message),
            CallError::Surplus => Refusal::invalid("SURPLUS_MESSAGE", "message", message),
            CallError::Undecodable => Refusal::invalid("MALFORMED_MESSAGE", "message", message),
            CallError::Method => Refusal::new(Code::Unimplemented, "UNKNOWN_METHOD", message),
            CallError::Busy => Refusal::busy("calls"),
            CallError::Full => Refusal::busy("evaluations"),
            CallError::Timeout => Refusal::invalid("DEADLINE", "grpc-timeout", message),
            CallError::Deadline => Refusal::new(Code::DeadlineExceeded, "DEADLINE", message),
            CallError::Peer(error) => peer(error),
        };
        refusal.status()
    }
}

impl From<LookupError> for Status {
    fn from(error: LookupError) -> Self {
        let message = error.to_string();
        let refusal = match error {
            LookupError::Wire(error) => wire(error),
            LookupError::Epoch => Refusal::outdated("EPOCH_NOT_ACTIVE", "epoch", message),
            LookupError::NoPir => Refusal::outdated("PIR_NOT_OFFERED", "pir", message),
            LookupError::PrefixBits => {
                Refusal::outdated("PREFIX_BITS_CHANGED", "directory_prefix_bits", message)
            }
            LookupError::Oprf(error) => oprf(error),
            LookupError::Pir(error) => retrieval(&error),
            LookupError::Busy => Refusal::busy("evaluations"),
            LookupError::Store(error) => store(&error),
            LookupError::NoBucket => Refusal::ours("BUCKET_MISSING", &message),
            LookupError::Evaluation => Refusal::ours("EVALUATION_FAILED", &message),
            LookupError::Quota(error) => quota::refusal(&error),
            LookupError::NothingPublished => {
                Refusal::new(Code::Unavailable, "NOTHING_PUBLISHED", message)
            }
        };
        refusal.status()
    }
}

/// A query for a row was not answered.
fn retrieval(error: &PirError) -> Refusal {
    let message = error.to_string();
    match error {
        PirError::Query(_) => Refusal::invalid("MALFORMED_QUERY", "query", message),
        PirError::Busy => Refusal::busy("queries"),
        PirError::NotReady => {
            let mut refusal = Refusal::new(Code::Unavailable, "PIR_NOT_READY", message);
            refusal.details.set_retry_info(Some(RETRY_AFTER));
            refusal
        }
        PirError::Store(error) => store(error),
        PirError::Memory { .. }
        | PirError::OutOfMemory(_)
        | PirError::NoBucket
        | PirError::Stopped => {
            Refusal::ours("RETRIEVAL_FAILED", "the server could not answer the query")
        }
    }
}

/// Who calls is not let in.
fn peer(error: PeerError) -> Refusal {
    let message = error.to_string();
    let unauthenticated = |reason| Refusal::new(Code::Unauthenticated, reason, message.as_str());
    match error {
        PeerError::Plaintext | PeerError::Unidentified => unauthenticated("CALLER_UNIDENTIFIED"),
        PeerError::Lapsed => unauthenticated("CERTIFICATE_LAPSED"),
        PeerError::Unknown => unauthenticated("CALLER_UNKNOWN"),
        PeerError::Role { .. } => Refusal::denied("ROLE_NOT_ALLOWED", message),
    }
}

fn wire(error: WireError) -> Refusal {
    let reason = match error {
        WireError::Missing(_) => "FIELD_MISSING",
        WireError::Length { .. } => "FIELD_LENGTH",
        WireError::Batch { .. } => "BATCH_SIZE",
        WireError::Rule { .. } => "FIELD_RULE",
        WireError::Identifier { .. } => "IDENTIFIER",
        WireError::Encoding(_) => "MALFORMED_MESSAGE",
        WireError::Signature(_) => "SIGNATURE",
    };
    Refusal::invalid(reason, error.field(), error.to_string())
}

fn oprf(error: OprfError) -> Refusal {
    let ours = || Refusal::ours("EVALUATION_FAILED", "the server could not evaluate the batch");
    let reason = match error {
        OprfError::EmptyBatch | OprfError::TooManyElements => "BATCH_SIZE",
        OprfError::TrailingBytes { .. } => "FIELD_LENGTH",
        OprfError::MalformedElement { .. } => "MALFORMED_ELEMENT",
        OprfError::IdentityElement { .. } => "IDENTITY_ELEMENT",
        // An evaluation gives none of these: they are a client's or a key's.
        OprfError::InputTooLong { .. }
        | OprfError::InputMapsToIdentity { .. }
        | OprfError::InfoTooLong
        | OprfError::WrongElementCount { .. }
        | OprfError::WrongProofLength { .. }
        | OprfError::MalformedProof
        | OprfError::InvalidProof
        | OprfError::WrongPublicKeyLength { .. }
        | OprfError::MalformedPublicKey
        | OprfError::IdentityPublicKey
        | OprfError::NoKeyFromSeed => return ours(),
    };
    Refusal::invalid(reason, "blinded_elements", error.to_string())
}

fn store(error: &StoreError) -> Refusal {
    let (reason, message) = match error {
        StoreError::Open(_) => ("STORE_CLOSED", "the directory's data cannot be opened"),
        StoreError::Damaged(_) => ("STORE_DAMAGED", "the directory's data is damaged"),
        StoreError::Disk(_) => ("STORE_FAILED", "the directory's disk failed"),
        StoreError::Misuse(_) => ("STORE_MISUSED", "the server asked its store for too much"),
    };
    Refusal::ours(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{RoleKind, quota::Counted},
        server::quota::QuotaError,
    };

    #[test]
    fn every_status_has_a_reason_of_this_domain_and_what_its_code_promises() {
        let statuses: Vec<Status> = [
            CallError::Encoding,
            CallError::CompressedFlag,
            CallError::Flag,
            CallError::TooLong { limit: 9 },
            CallError::CutShort,
            CallError::Surplus,
            CallError::Undecodable,
            CallError::Method,
            CallError::Busy,
            CallError::Full,
            CallError::Timeout,
            CallError::Deadline,
            CallError::Peer(PeerError::Plaintext),
            CallError::Peer(PeerError::Unidentified),
            CallError::Peer(PeerError::Lapsed),
            CallError::Peer(PeerError::Unknown),
            CallError::Peer(PeerError::Role { allowed: &[], role: RoleKind::Peer }),
        ]
        .map(Status::from)
        .into_iter()
        .chain(
            [
                LookupError::Wire(WireError::Missing("epoch")),
                LookupError::Epoch,
                LookupError::PrefixBits,
                LookupError::NoPir,
                LookupError::Oprf(OprfError::IdentityElement { index: 3 }),
                LookupError::Oprf(OprfError::InvalidProof),
                LookupError::Busy,
                LookupError::Store(StoreError::Disk("/secret/path: no space".into())),
                LookupError::NoBucket,
                LookupError::Evaluation,
                LookupError::NothingPublished,
                LookupError::Quota(QuotaError::Exhausted {
                    counted: Counted::Elements,
                    retry_after_s: 7,
                }),
                LookupError::Quota(QuotaError::TokensRequired),
                LookupError::Quota(QuotaError::TokenInvalid),
                LookupError::Quota(QuotaError::TokenSpent),
                LookupError::Quota(QuotaError::NotAProvider),
                LookupError::Quota(QuotaError::Day),
                LookupError::Quota(QuotaError::Blinded),
                LookupError::Quota(QuotaError::Busy),
                LookupError::Quota(QuotaError::Key),
            ]
            .map(Status::from),
        )
        .collect();
        for status in statuses {
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().domain, ERROR_DOMAIN);
            assert!(!status.message().contains("secret"));
            let invalid = status.code() == Code::InvalidArgument;
            assert_eq!(details.bad_request().is_some(), invalid, "{status}");
            let outdated = status.code() == Code::FailedPrecondition;
            assert_eq!(details.precondition_failure().is_some(), outdated, "{status}");
            let busy = status.code() == Code::ResourceExhausted;
            assert_eq!(details.quota_failure().is_some(), busy, "{status}");
            assert_eq!(details.retry_info().is_some(), busy, "{status}");
        }
    }
}
