//! The one place where the sidecar's errors become a gRPC status: a code, a
//! sentence, and google.rpc details for programs. No status repeats a value
//! that was sent.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{gate::CallError, resolve::ResolveError};
pub use crate::wire::ERROR_DOMAIN;
use crate::{
    client::Fault,
    wire::{OVERLOADED, proto},
};

/// When to come back to a sidecar or a directory that cannot answer now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What one status says.
struct Said {
    code: Code,
    /// For `ErrorInfo`: stable, programs may rely on it.
    reason: &'static str,
    message: String,
    details: ErrorDetails,
    /// The directory that it is about.
    directory: Option<Box<str>>,
}

impl Said {
    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let details = ErrorDetails::new();
        Self { code, reason, message: message.into(), details, directory: None }
    }

    /// The request broke a rule: asking again as it is would not help.
    fn invalid(reason: &'static str, field: &str, message: impl Into<String>) -> Self {
        let mut said = Self::new(Code::InvalidArgument, reason, message);
        said.details.add_bad_request_violation(field, said.message.as_str());
        said
    }

    /// Later it may work.
    fn later(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        let mut said = Self::new(code, reason, message);
        said.details.set_retry_info(Some(RETRY_AFTER));
        said
    }

    fn of(mut self, directory: Box<str>) -> Self {
        self.directory = Some(directory);
        self
    }

    fn status(mut self) -> Status {
        let directory = self.directory.map(|name| ("directory".to_owned(), name.into()));
        let metadata: HashMap<String, String> = directory.into_iter().collect();
        self.details.set_error_info(self.reason, ERROR_DOMAIN, metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }
}

fn said(error: ResolveError) -> Said {
    let message = error.to_string();
    match error {
        ResolveError::Identifier(_) => Said::invalid("IDENTIFIER", "sii", message),
        ResolveError::Audience => Said::invalid("AUDIENCE", "audience", message),
        ResolveError::NoSuchDirectory => Said::invalid("DIRECTORY_UNKNOWN", "directory", message),
        ResolveError::NoRoute => Said::invalid("DIRECTORY_NOT_NAMED", "directory", message),
        ResolveError::TooMany => Said::invalid("TOO_MANY", "siis", message),
        ResolveError::Awaited { directory } => {
            Said::later(Code::Unavailable, "DIRECTORY_UNREACHABLE", message).of(directory)
        }
        ResolveError::Asked { directory, error } => match error.fault() {
            Fault::Network => Said::later(Code::Unavailable, "DIRECTORY_UNREACHABLE", message),
            Fault::Server => Said::new(Code::Internal, "DIRECTORY_NOT_TRUSTED", message),
            Fault::Incompatible => Said::new(Code::Internal, "DIRECTORY_INCOMPATIBLE", message),
            Fault::Caller => Said::new(Code::Internal, "SIDECAR_MISCONFIGURED", message),
            Fault::Ours => Said::new(Code::Internal, "SIDECAR_FAILED", message),
        }
        .of(directory),
        ResolveError::Cut => Said::later(Code::Unavailable, "SIDECAR_FAILED", message),
    }
}

impl From<ResolveError> for Status {
    fn from(error: ResolveError) -> Self {
        said(error).status()
    }
}

/// The same for one identifier of many.
pub(super) fn refusal(error: ResolveError) -> proto::Refusal {
    let Said { code, reason, message, .. } = said(error);
    proto::Refusal { code: code.into(), reason: reason.into(), message }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        let said = match error {
            // gRPC, "Compression Method Asymmetry Between Peers".
            CallError::Encoding => Said::new(Code::Unimplemented, "COMPRESSED", message),
            CallError::Undecodable => Said::invalid("MALFORMED_MESSAGE", "message", message),
            CallError::TooLong => Said::invalid("MESSAGE_TOO_LONG", "message", message),
            CallError::Method => Said::new(Code::Unimplemented, "UNKNOWN_METHOD", message),
            CallError::Deadline => Said::new(Code::DeadlineExceeded, "DEADLINE", message),
            CallError::Timeout => Said::invalid("DEADLINE", "grpc-timeout", message),
            CallError::Busy => Said::later(Code::ResourceExhausted, OVERLOADED, message),
        };
        said.status()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::ClientError, identifier::Sii};

    fn asked(error: ClientError) -> ResolveError {
        ResolveError::Asked { directory: "wa".into(), error }
    }

    #[test]
    fn a_fault_of_each_party_has_its_code_and_reason() {
        let refused = Sii::parse("secret@", None).unwrap_err();
        for (error, code, reason) in [
            (ResolveError::Identifier(refused), Code::InvalidArgument, "IDENTIFIER"),
            (ResolveError::Audience, Code::InvalidArgument, "AUDIENCE"),
            (ResolveError::NoSuchDirectory, Code::InvalidArgument, "DIRECTORY_UNKNOWN"),
            (ResolveError::NoRoute, Code::InvalidArgument, "DIRECTORY_NOT_NAMED"),
            (ResolveError::TooMany, Code::InvalidArgument, "TOO_MANY"),
            (
                ResolveError::Awaited { directory: "wa".into() },
                Code::Unavailable,
                "DIRECTORY_UNREACHABLE",
            ),
            (asked(ClientError::Unreachable(None)), Code::Unavailable, "DIRECTORY_UNREACHABLE"),
            (asked(ClientError::BucketForged), Code::Internal, "DIRECTORY_NOT_TRUSTED"),
            (
                asked(ClientError::CallRefused(Code::Unimplemented)),
                Code::Internal,
                "DIRECTORY_INCOMPATIBLE",
            ),
            (asked(ClientError::Address), Code::Internal, "SIDECAR_MISCONFIGURED"),
            (asked(ClientError::Computation), Code::Internal, "SIDECAR_FAILED"),
        ] {
            let alike = refusal(error.clone());
            let status = Status::from(error);
            assert_eq!((status.code(), alike.code), (code, i32::from(code)));
            assert_eq!((status.message(), &*alike.reason), (&*alike.message, reason));
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((&*info.reason, &*info.domain), (reason, ERROR_DOMAIN));
            assert_eq!(details.bad_request().is_some(), code == Code::InvalidArgument);
            assert_eq!(details.retry_info().is_some(), code == Code::Unavailable);
            assert!(!format!("{status:?}").contains("secret"));
        }
    }

    #[test]
    fn a_status_names_the_directory_that_it_is_about() {
        let status = Status::from(asked(ClientError::BucketForged));
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["directory"], "wa");
    }

    #[test]
    fn a_call_that_does_not_pass_is_told_why() {
        for error in [
            CallError::Encoding,
            CallError::Undecodable,
            CallError::TooLong,
            CallError::Method,
            CallError::Deadline,
            CallError::Timeout,
            CallError::Busy,
        ] {
            let status = Status::from(error);
            assert_eq!(status.get_error_details().error_info().unwrap().domain, ERROR_DOMAIN);
            assert!(!status.message().is_empty());
        }
    }
}
