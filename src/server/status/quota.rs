//! Refusals of quotas: the same words whatever was asked.

use std::time::Duration;

use tonic::{Code, Status};

use super::{Refusal, store, wire};
use crate::{access::quota::Counted, server::quota::QuotaError};

impl From<QuotaError> for Status {
    fn from(error: QuotaError) -> Self {
        refusal(&error).status()
    }
}

pub(super) fn refusal(error: &QuotaError) -> Refusal {
    let message = error.to_string();
    match error {
        QuotaError::Exhausted { counted, retry_after_s } => {
            let subject = match counted {
                Counted::Elements => "elements",
                Counted::Bytes => "bucket_bytes",
                Counted::Tokens => "tokens",
                Counted::Queries => "pir_queries",
            };
            let mut refusal = Refusal::new(Code::ResourceExhausted, "QUOTA_EXHAUSTED", message);
            let said = refusal.message.as_str();
            refusal.details.add_quota_failure_violation(subject, said);
            refusal.details.set_retry_info(Some(Duration::from_secs(*retry_after_s)));
            refusal
        }
        QuotaError::TokensRequired => {
            Refusal::new(Code::Unauthenticated, "TOKENS_REQUIRED", message)
        }
        QuotaError::TokenInvalid => Refusal::new(Code::Unauthenticated, "TOKEN_INVALID", message),
        QuotaError::TokenSpent => Refusal::new(Code::Unauthenticated, "TOKEN_SPENT", message),
        QuotaError::NotAProvider => Refusal::new(Code::PermissionDenied, "NOT_A_PROVIDER", message),
        QuotaError::Day => Refusal::outdated("TOKEN_DAY", "day", message),
        QuotaError::Blinded => Refusal::invalid("BLINDED_MESSAGE", "blinded_messages", message),
        QuotaError::Wire(error) => wire(*error),
        QuotaError::Busy => Refusal::busy("tokens"),
        QuotaError::Store(error) => store(error),
        QuotaError::Key | QuotaError::Computation => Refusal::ours("TOKEN_KEYS", &message),
    }
}
