//! Why a call of the registry failed.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::{
    client::ClientError,
    wire::{ERROR_DOMAIN, WireError, registry::Refusal},
};

/// Longest sentence that is taken over from a server.
const MAX_MESSAGE_CHARS: usize = 500;

/// Why a call of the registry failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The server refuses, and nothing was changed.
    #[error("refused ({}): {}", .0.reason, .0.message)]
    Refused(
        /// Why.
        Refusal,
    ),
    /// The server could not be reached, or the options are of no use. Whether a
    /// call that was sent was done is not known.
    #[error(transparent)]
    Connection(#[from] ClientError),
    /// The answer breaks a rule: the server is at fault.
    #[error("the server's answer is malformed: {0}; its operator must know")]
    Malformed(WireError),
}

impl RegistryError {
    pub(in crate::client) fn of(status: &Status, deadline: Duration) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        match reason {
            Some(info) => Self::Refused(Refusal {
                code: status.code().into(),
                reason: printable(&info.reason),
                message: printable(status.message()),
            }),
            None => ClientError::from_status(status, deadline).into(),
        }
    }

    /// The reason of a refusal, which programs may rely on.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.reason),
            _ => None,
        }
    }
}

/// What a server says, safe to print: a terminal obeys other characters.
fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_names_its_reason_and_nothing_else_passes_for_one() {
        let mut details = ErrorDetails::new();
        details.set_error_info("PROOF_USED", ERROR_DOMAIN, HashMap::new());
        let told = "the proof\u{1b}[31m was used\n";
        let status = Status::with_error_details(Code::FailedPrecondition, told, details);
        let error = RegistryError::of(&status, Duration::from_secs(1));
        assert_eq!(error.reason(), Some("PROOF_USED"));
        assert_eq!(error.to_string(), "refused (PROOF_USED): the proof[31m was used");

        let mut details = ErrorDetails::new();
        details.set_error_info("PROOF_USED", "elsewhere", HashMap::new());
        for status in [
            Status::with_error_details(Code::FailedPrecondition, told, details),
            Status::unavailable("nobody there"),
        ] {
            let error = RegistryError::of(&status, Duration::from_secs(1));
            assert!(matches!(error, RegistryError::Connection(_)), "{error:?}");
        }
    }
}
