//! Refusals of the registry: for each a reason that programs may rely on. The
//! code follows from whose fault it is.

use std::time::Duration;

use tonic::{Code, Status};

use super::{Refusal, peer, store, wire};
use crate::{
    registry::{
        LedgerError,
        proof::{Fault, ProofError},
    },
    server::{feed::FeedError, registry::RegistryError},
    wire::registry as wired,
};

/// When to come back to a limit that counts by the hour.
const LIMIT_RETRY_AFTER: Duration = Duration::from_secs(600);

impl From<RegistryError> for Status {
    fn from(error: RegistryError) -> Self {
        explain(&error).status()
    }
}

/// What one of many is told, where a status would be for all.
pub(in crate::server) fn refusal(error: &RegistryError) -> wired::Refusal {
    let Refusal { code, reason, message, .. } = explain(error);
    wired::Refusal { code: code.into(), reason: reason.into(), message }
}

fn explain(error: &RegistryError) -> Refusal {
    let message = error.to_string();
    match error {
        RegistryError::Wire(error) | RegistryError::Feed(FeedError::Wire(error)) => wire(*error),
        RegistryError::Region => Refusal::outdated("REGION_NOT_SERVED", "sii", message),
        RegistryError::Peer(error) => peer(*error),
        RegistryError::NotAProvider => Refusal::denied("NOT_A_PROVIDER", message),
        RegistryError::NotAnAuthority => Refusal::denied("NOT_AN_AUTHORITY", message),
        RegistryError::NotCovered => Refusal::denied("NOT_COVERED", message),
        RegistryError::PortOfAnother => Refusal::denied("PORT_OF_ANOTHER", message),
        RegistryError::Proof(error) => proof(error),
        RegistryError::Ledger(error) => ledger(error),
        RegistryError::NoCodes => Refusal::new(Code::Unimplemented, "NO_CODES", message),
        RegistryError::Feed(FeedError::Store(error)) => store(error),
        RegistryError::Feed(FeedError::Stopping) => {
            Refusal::new(Code::Unavailable, "STOPPING", message)
        }
    }
}

impl Refusal {
    /// There is no room, or there was too much lately.
    fn exhausted(reason: &'static str, subject: &str, message: impl Into<String>) -> Self {
        let mut refusal = Self::new(Code::ResourceExhausted, reason, message);
        refusal.details.add_quota_failure_violation(subject, refusal.message.as_str());
        refusal
    }
}

fn ledger(error: &LedgerError) -> Refusal {
    let message = error.to_string();
    match error {
        LedgerError::Ssi(_) => Refusal::invalid("IDENTIFIER", "user", message),
        LedgerError::UnknownProvider(_) => {
            Refusal::outdated("PROVIDER_UNKNOWN", "provider", message)
        }
        LedgerError::Signature(_) => Refusal::invalid("MAPPING_SIGNATURE", "signature", message),
        LedgerError::VerifiedTooLong => {
            Refusal::invalid("VERIFIED_TOO_LONG", "verified_until_s", message)
        }
        LedgerError::Lapsed => Refusal::invalid("LAPSED", "verified_until_s", message),
        LedgerError::NotFound => Refusal::new(Code::NotFound, "NO_SUCH_MAPPING", message),
        LedgerError::PortOfAnother => Refusal::invalid("FIELD_RULE", "claim.sii", message),
        LedgerError::PortToItself => Refusal::invalid("PORT_TO_ITSELF", "from_provider", message),
        LedgerError::PageToken => Refusal::invalid("PAGE_TOKEN", "page_token", message),
        LedgerError::ProofUsed => Refusal::outdated("PROOF_USED", "proof", message),
        LedgerError::ProofExpired => Refusal::outdated("PROOF_EXPIRED", "proof", message),
        LedgerError::TooManyMappings => Refusal::exhausted("TOO_MANY_MAPPINGS", "sii", message),
        LedgerError::ShareTaken => Refusal::exhausted("SHARE_TAKEN", "bucket", message),
        LedgerError::BucketFull => Refusal::exhausted("BUCKET_FULL", "bucket", message),
        LedgerError::TooManyProofs => {
            let mut refusal = Refusal::exhausted("TOO_MANY_PROOFS", "sii", message);
            refusal.details.set_retry_info(Some(LIMIT_RETRY_AFTER));
            refusal
        }
        LedgerError::Busy => Refusal::new(Code::Aborted, "BUCKET_BUSY", message),
        LedgerError::Closed => Refusal::new(Code::Unavailable, "STOPPING", message),
        LedgerError::Store(error) => told(error, store(error)),
        LedgerError::EpochMissing(_)
        | LedgerError::Keyring(_)
        | LedgerError::Row(_)
        | LedgerError::Damaged(_) => {
            told(error, Refusal::ours("REGISTRY_DAMAGED", "the directory's registry is damaged"))
        }
        LedgerError::NoDirectory
        | LedgerError::Clock
        | LedgerError::Oprf(_)
        | LedgerError::Entry(_)
        | LedgerError::Bucket(_)
        | LedgerError::Worker => {
            told(error, Refusal::ours("REGISTRY_FAILED", "the directory's registry failed"))
        }
    }
}

/// The log has the cause, which no error of the registry's holds a value in.
fn told(error: &dyn std::error::Error, refusal: Refusal) -> Refusal {
    tracing::error!(%error, "a partner's call failed");
    refusal
}

fn proof(error: &ProofError) -> Refusal {
    let (reason, message) = (reason(error), error.to_string());
    match error.fault() {
        Fault::Malformed => Refusal::invalid(reason, "proof", message),
        Fault::Refused => Refusal::denied(reason, message),
        Fault::Stale => Refusal::outdated(reason, "proof", message),
        Fault::Limited => {
            let mut refusal = Refusal::exhausted(reason, "proof", message);
            refusal.details.set_retry_info(Some(LIMIT_RETRY_AFTER));
            refusal
        }
        Fault::Ours => told(error, Refusal::ours(reason, "the directory could not check it")),
    }
}

const fn reason(error: &ProofError) -> &'static str {
    match error {
        ProofError::TooLarge => "PROOF_TOO_LARGE",
        ProofError::Form => "PROOF_FORM",
        ProofError::Header => "PROOF_HEADER",
        ProofError::HeaderParameter => "PROOF_HEADER_PARAMETER",
        ProofError::Type => "PROOF_TYPE",
        ProofError::Algorithm => "PROOF_ALGORITHM",
        ProofError::Claims => "PROOF_CLAIMS",
        ProofError::UnknownSigner => "PROOF_UNKNOWN_SIGNER",
        ProofError::Signature => "PROOF_SIGNATURE",
        ProofError::Issuer => "PROOF_ISSUER",
        ProofError::Subject => "PROOF_SUBJECT",
        ProofError::Audience => "PROOF_AUDIENCE",
        ProofError::Kind => "PROOF_KIND",
        ProofError::NotYetValid => "PROOF_NOT_YET_VALID",
        ProofError::Expired => "PROOF_EXPIRED",
        ProofError::Lifetime => "PROOF_LIFETIME",
        ProofError::BeforeChallenge => "PROOF_BEFORE_CHALLENGE",
        ProofError::Nonce => "PROOF_NONCE",
        ProofError::Destination => "PROOF_DESTINATION",
        ProofError::Message => "PROOF_MESSAGE",
        ProofError::PassportExtension => "PROOF_PASSPORT_EXTENSION",
        ProofError::EmailUnverified => "PROOF_EMAIL_UNVERIFIED",
        ProofError::ChallengeForm => "CHALLENGE_FORM",
        ProofError::ChallengeUnknown => "CHALLENGE_UNKNOWN",
        ProofError::ChallengeLimit => "CHALLENGE_LIMIT",
        ProofError::CodeForm => "CODE_FORM",
        ProofError::CodeUnknown => "CODE_UNKNOWN",
        ProofError::CodeWrong => "CODE_WRONG",
        ProofError::CodeTries => "CODE_TRIES",
        ProofError::CodeLimitIdentifier => "CODE_LIMIT_IDENTIFIER",
        ProofError::CodeLimitProvider => "CODE_LIMIT_PROVIDER",
        ProofError::NoChannel => "CODE_NO_CHANNEL",
        ProofError::ChainLength => "CHAIN_LENGTH",
        ProofError::Certificate => "CERTIFICATE_MALFORMED",
        ProofError::CertificateAlgorithm => "CERTIFICATE_ALGORITHM",
        ProofError::CertificateKey => "CERTIFICATE_KEY",
        ProofError::CertificateExtension => "CERTIFICATE_EXTENSION",
        ProofError::CertificateTime => "CERTIFICATE_TIME",
        ProofError::CertificateAuthority => "CERTIFICATE_AUTHORITY",
        ProofError::CertificatePathLength => "CERTIFICATE_PATH_LENGTH",
        ProofError::CertificateUsage => "CERTIFICATE_USAGE",
        ProofError::CertificateOrder => "CERTIFICATE_ORDER",
        ProofError::CertificateSignature => "CERTIFICATE_SIGNATURE",
        ProofError::UnknownRoot => "CERTIFICATE_UNKNOWN_ROOT",
        ProofError::NumbersMissing => "NUMBERS_MISSING",
        ProofError::NumbersMalformed => "NUMBERS_MALFORMED",
        ProofError::NumbersUnnamed => "NUMBERS_UNNAMED",
        ProofError::NumberNotCovered => "NUMBERS_NOT_COVERED",
        ProofError::Pending(_) => "VERIFICATIONS_FULL",
        ProofError::Send(_) => "CODE_NOT_SENT",
        ProofError::Setting(_) => "PROOF_SETTING",
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::{
        registry::proof::{PendingError, SendError},
        server::{ERROR_DOMAIN, peer::PeerError},
        store::StoreError,
        wire::WireError,
    };

    fn errors() -> Vec<RegistryError> {
        let secret = || -> Box<dyn std::error::Error + Send + Sync> { "a secret".into() };
        vec![
            WireError::Missing("sii").into(),
            RegistryError::Region,
            PeerError::Unidentified.into(),
            PeerError::Unknown.into(),
            RegistryError::NotAProvider,
            RegistryError::NotAnAuthority,
            RegistryError::NotCovered,
            RegistryError::PortOfAnother,
            RegistryError::NoCodes,
            RegistryError::Feed(FeedError::Stopping),
            ProofError::Form.into(),
            ProofError::Signature.into(),
            ProofError::Expired.into(),
            ProofError::CodeTries.into(),
            ProofError::Pending(PendingError::Full).into(),
            ProofError::Pending(PendingError::Failed(secret())).into(),
            ProofError::Send(SendError(secret())).into(),
            LedgerError::Lapsed.into(),
            LedgerError::NotFound.into(),
            LedgerError::ProofUsed.into(),
            LedgerError::ShareTaken.into(),
            LedgerError::TooManyProofs.into(),
            LedgerError::Busy.into(),
            LedgerError::Closed.into(),
            LedgerError::Store(StoreError::Disk("a secret".into())).into(),
            LedgerError::Damaged("a secret").into(),
            LedgerError::Worker.into(),
        ]
    }

    #[test]
    fn every_refusal_has_a_reason_and_what_its_code_promises() {
        for error in errors() {
            let one = refusal(&error);
            let status = Status::from(error);
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!(info.domain, ERROR_DOMAIN);
            assert_eq!((one.code, &one.reason), (status.code().into(), &info.reason));
            assert_eq!(one.message, status.message());
            assert!(!status.message().contains("secret"), "{status}");
            let invalid = status.code() == Code::InvalidArgument;
            assert_eq!(details.bad_request().is_some(), invalid, "{status}");
            let outdated = status.code() == Code::FailedPrecondition;
            assert_eq!(details.precondition_failure().is_some(), outdated, "{status}");
            let exhausted = status.code() == Code::ResourceExhausted;
            assert_eq!(details.quota_failure().is_some(), exhausted, "{status}");
        }
    }
}
