//! Why a lookup failed, and whose fault it is: one variant per lie, each with
//! what to do about it. No variant holds an identifier, element, prefix, or
//! text that the server chose.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    dial::CertificateRefused,
    state::{Part, StateError},
    tokens::TokenSourceError,
};
use crate::{
    bucket::{MappingError, PrefixBits},
    epoch::Epoch,
    identifier::Provider,
    oprf::OprfError,
    wire::{ERROR_DOMAIN, OVERLOADED, WireError},
};

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The server lied, or somebody in its place.
    Server,
    /// Client and server do not fit each other.
    Incompatible,
    /// The network, or a server that is down or busy.
    Network,
    /// Whoever called the client.
    Caller,
    /// This side: the client's state or runtime.
    Ours,
}

/// Why a lookup failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    // The server lied.
    /// The parameters are not signed by the pinned identity.
    #[error(
        "the parameters are not signed by the pinned identity key: somebody else answers at this \
         address, or the identity file belongs to another directory; check both"
    )]
    ParametersForged,
    /// The parameters are past their end.
    #[error(
        "the directory's parameters expired {by_s} s ago: check this machine's clock; if it is \
         right, the server is stale or replays old parameters, and its operator must know"
    )]
    ParametersExpired {
        /// How long ago, by the client's clock.
        by_s: u64,
    },
    /// The parameters begin in the future.
    #[error(
        "the directory's parameters are valid only in {in_s} s: check this machine's clock; if it \
         is right, the server's is wrong, and its operator must know"
    )]
    ParametersNotYetValid {
        /// In how long, by the client's clock.
        in_s: u64,
    },
    /// The parameters are older than ones seen before.
    #[error(
        "the server offers parameters of serial {offered}, older than serial {seen} seen before: \
         it was restored from a backup or replays old parameters; ask its operator"
    )]
    ParametersRolledBack {
        /// The highest serial seen.
        seen: u64,
        /// The serial offered.
        offered: u64,
    },
    /// Two parameters of one serial.
    #[error(
        "the server offers parameters of serial {serial} that differ from those of the same serial \
         seen before: it may be marking this client; do not trust this server"
    )]
    ParametersEquivocated {
        /// The serial of both.
        serial: u64,
    },
    /// The server refuses what its own parameters say.
    #[error(
        "the server refuses the epoch and prefix bits that its own parameters name: try again \
         later, and tell its operator if it stays so"
    )]
    ParametersContradicted,
    /// The provider list is not signed by the pinned identity.
    #[error(
        "the provider list is not signed by the pinned identity key: it was altered on the way or \
         by the server; do not trust this server"
    )]
    ProvidersForged,
    /// The provider list is older than one seen before.
    #[error(
        "the server offers a provider list of serial {offered}, older than serial {seen} seen \
         before: it was restored from a backup or replays an old list; ask its operator"
    )]
    ProvidersRolledBack {
        /// The highest serial seen.
        seen: u64,
        /// The serial offered.
        offered: u64,
    },
    /// Two provider lists of one serial.
    #[error(
        "the server offers a provider list of serial {serial} that differs from that of the same \
         serial seen before: it shows different clients different lists; do not trust this server"
    )]
    ProvidersEquivocated {
        /// The serial of both.
        serial: u64,
    },
    /// Another number of elements came back than was sent.
    #[error(
        "the server evaluated another number of elements than it was sent: its answer is useless, \
         and its operator must know"
    )]
    ElementCount,
    /// The evaluation has a wrong shape.
    #[error("the server's evaluation is malformed ({0}): its operator must know")]
    EvaluationMalformed(WireError),
    /// An evaluated element or proof is no element or proof.
    #[error(
        "the server's evaluation under epoch {epoch} is no evaluation ({fault}): its operator must know"
    )]
    EvaluationInvalid {
        /// The epoch that it claims.
        epoch: Epoch,
        /// What is wrong.
        fault: OprfError,
    },
    /// The proof does not hold under the epoch's signed key.
    #[error(
        "the server did not evaluate with its key of epoch {epoch}, or cannot prove it: it may be \
         marking this client with a key of its own; do not trust this server"
    )]
    ProofInvalid {
        /// The epoch that it claims.
        epoch: Epoch,
    },
    /// An answer names an epoch that the signed parameters do not.
    #[error(
        "the server answers under epoch {epoch}, which its signed parameters do not name: do not \
         trust this server"
    )]
    EpochUnknown {
        /// The epoch.
        epoch: Epoch,
    },
    /// A bucket is sealed under an epoch that was not evaluated.
    #[error(
        "a bucket is sealed under epoch {epoch}, for which the server gave no evaluation: its \
         operator must know"
    )]
    EpochNotEvaluated {
        /// The bucket's epoch.
        epoch: Epoch,
    },
    /// Fewer buckets came than were asked for.
    #[error(
        "the server sent {got} of {expected} buckets: its answer is useless, and its operator must know"
    )]
    TooFewBuckets {
        /// How many were asked for.
        expected: usize,
        /// How many came.
        got: usize,
    },
    /// More buckets came than were asked for.
    #[error("the server sent more than the {expected} buckets asked for: its operator must know")]
    TooManyBuckets {
        /// How many were asked for.
        expected: usize,
    },
    /// A bucket has a wrong shape.
    #[error("the server sent a malformed bucket ({0}): its operator must know")]
    BucketMalformed(WireError),
    /// Another bucket came than was asked for.
    #[error("the server sent another bucket than the one asked for: do not trust this server")]
    BucketSwapped,
    /// A bucket is not signed by the pinned identity.
    #[error(
        "a bucket is not signed by the pinned identity key: it was altered on the way or by the \
         server; do not trust this server"
    )]
    BucketForged,
    /// A bucket is older than one seen before.
    #[error(
        "a bucket is older than the one seen before in its place: the server was restored from a \
         backup or hides changes; ask its operator"
    )]
    BucketRolledBack,
    /// A bucket has the version of one seen before and another content.
    #[error(
        "a bucket has the version of one seen before and another content: the server shows \
         different clients different directories; do not trust it"
    )]
    BucketEquivocated,
    /// The server insists on a longer prefix than the client may send.
    #[error(
        "the server refuses a prefix of {} bits, the most that is pinned, and wants \
         {}: more bits tell it more about whom is looked up, so none were sent; raise \
         max_prefix_bits only if you accept that",
        .pinned.get(),
        .wanted.get()
    )]
    MorePrefixBitsDemanded {
        /// The most that may be sent.
        pinned: PrefixBits,
        /// What the directory uses.
        wanted: PrefixBits,
    },
    /// A mapping is not signed by the key of its provider.
    #[error(
        "a mapping is not signed by the key of {provider}: the server forged it, or {provider} \
         must publish it again under its new key; do not use it"
    )]
    MappingForged {
        /// Who should have signed it.
        provider: Provider,
        /// What the signature's check said.
        #[source]
        fault: MappingError,
    },
    /// A mapping names a provider that the signed list does not.
    #[error(
        "a mapping names the provider {provider}, which the server's signed list does not: do not \
         use it; a provider that has just joined is listed after the next refresh"
    )]
    ProviderUnknown {
        /// The provider.
        provider: Provider,
    },
    /// A provider has another key than the pinned one, which does not vouch.
    #[error(
        "the server lists a new key for {provider} that the pinned one does not vouch for: ask \
         {provider} for its key over another channel, and give it as the provider's key if it is \
         the new one"
    )]
    ProviderKeyChanged {
        /// The provider.
        provider: Provider,
    },

    /// What the server tells of changes breaks a rule.
    #[error(
        "the server tells changes of the directory in a wrong form ({0}): nothing of it was \
         taken, and its operator must know"
    )]
    InvalidationsMalformed(WireError),

    /// The token keys are not signed by the pinned identity.
    #[error(
        "the token keys are not signed by the pinned identity key: they were altered on the way or \
         by the server; do not trust this server"
    )]
    TokenKeysForged,
    /// The signatures that came back are not of the directory's published key.
    #[error(
        "the tokens are not signed by the key that the directory publishes: the application \
         provider or the directory may be marking this client; none of them is used"
    )]
    TokensForged,

    /// The answer to a query for a row has another length than all have.
    #[error("the server's answer to a query for a row is malformed: its operator must know")]
    RowMalformed,
    /// The directory offered private information retrieval, and does not any more.
    #[error(
        "the directory offered private information retrieval before and does not any more, so that \
         lookups would tell it more than they did: ask its operator why; choose the mode bucket \
         only if you accept that"
    )]
    RetrievalWithdrawn,

    // Client and server do not fit each other.
    /// The caller wants private information retrieval, and there is none.
    #[error(
        "the directory offers no private information retrieval: nothing was asked; choose another \
         mode, or another directory"
    )]
    NoRetrieval,
    /// Well signed, but not what this version reads.
    #[error(
        "the token keys are not of the kind this client reads ({0}): bring client and server to \
         the same version"
    )]
    TokenKeysMalformed(WireError),
    /// Well signed, but not what this version reads.
    #[error(
        "the directory's parameters are not of the kind this client reads ({0}): bring client and \
         server to the same version"
    )]
    ParametersMalformed(WireError),
    /// Well signed, but not what this version reads.
    #[error(
        "the provider list is not of the kind this client reads ({0}): bring client and server to \
         the same version"
    )]
    ProvidersMalformed(WireError),
    /// Beneath one pinned prefix lie more buckets than one answer carries.
    #[error(
        "the directory has {} prefix bits and at most {} may be sent: one answer \
         cannot carry all buckets beneath such a prefix; raise max_prefix_bits, knowing that more \
         bits tell the server more",
        .directory.get(),
        .pinned.get()
    )]
    DirectoryTooDeep {
        /// The directory's prefix bits.
        directory: PrefixBits,
        /// The most that may be sent.
        pinned: PrefixBits,
    },
    /// The server does not know the call, or refuses its form.
    #[error(
        "the server does not take this client's calls (gRPC status {0:?}): bring client and server \
         to the same version, and check that the address is that of a discovery provider"
    )]
    CallRefused(Code),

    // The network, or a server that is down or busy.
    /// No connection, or none that held.
    #[error("the server cannot be reached{}: check the address, the CA and the network, then try again", told(.0.as_deref()))]
    Unreachable(
        /// What the connection's own error says; nothing from the server.
        Option<String>,
    ),
    /// The deadline passed.
    #[error("no answer within {0:?}: try again, or allow a longer deadline")]
    DeadlineExceeded(Duration),
    /// The server has too much to do; or it had of late, and the client asks less.
    #[error("the server has too much to do: try again later")]
    Overloaded,
    /// A quota is used up, or something on the way takes no more calls.
    #[error("the server takes no more calls now (load or quota): wait before you ask again")]
    Exhausted,
    /// The application provider gave no tokens.
    #[error("the application provider gave no tokens ({0}): wait until it does, or look up less")]
    TokensRefused(
        /// What it says.
        TokenSourceError,
    ),
    /// The directory issues tokens of another day than this clock shows.
    #[error(
        "the directory issues no tokens for today, as this machine's clock has it: check the \
         clock, or try again if a day ends just now"
    )]
    TokensExpired,
    /// The server does not serve this client.
    #[error(
        "the server does not serve this client (gRPC status {0:?}): ask its operator for access"
    )]
    Denied(Code),
    /// The server failed.
    #[error(
        "the server failed the call (gRPC status {0:?}): try again later, and tell its operator if it stays so"
    )]
    ServerFailed(Code),

    // The caller.
    /// The address is none.
    #[error(
        "the server's address must be https://HOST[:PORT], or http://HOST[:PORT] for plain text"
    )]
    Address,
    /// An option is out of range.
    #[error("{option} {rule}")]
    Option {
        /// Which.
        option: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The CA is not PEM, or useless.
    #[error(
        "the CA is no PEM file of certificates: give the one that signed the server's certificate"
    )]
    CertificateAuthority,
    /// The caller's certificate or key is not PEM, or they do not belong together.
    #[error(
        "the client's certificate and key do not serve: give a PEM certificate chain and the \
         private key that belongs to its first certificate"
    )]
    Certificate,
    /// The server does not take the caller's certificate.
    #[error(
        "the server refuses the client's certificate, as {0}: ask its operator, or give one that \
         it accepts"
    )]
    CertificateRefused(
        /// Why.
        &'static str,
    ),
    /// An identifier has no OPRF value, which no identifier has.
    #[error("an input cannot be blinded ({0}): leave it out")]
    Input(OprfError),

    // This side.
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state holds what the client did not write there.
    #[error(
        "the client's stored {0} are damaged: restore them from a copy; removing them also forgets \
         what they protect against (older answers, changed keys, decoys that repeat)"
    )]
    StateDamaged(Part),
    /// A computation did not end.
    #[error(
        "a computation of the client was cut short, by the runtime's end or a defect: report it if the runtime still runs"
    )]
    Computation,
}

fn told(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

impl ClientError {
    /// Whose fault it is.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::ParametersForged
            | Self::ParametersExpired { .. }
            | Self::ParametersNotYetValid { .. }
            | Self::ParametersRolledBack { .. }
            | Self::ParametersEquivocated { .. }
            | Self::ParametersContradicted
            | Self::ProvidersForged
            | Self::ProvidersRolledBack { .. }
            | Self::ProvidersEquivocated { .. }
            | Self::ElementCount
            | Self::EvaluationMalformed(_)
            | Self::EvaluationInvalid { .. }
            | Self::ProofInvalid { .. }
            | Self::EpochUnknown { .. }
            | Self::EpochNotEvaluated { .. }
            | Self::TooFewBuckets { .. }
            | Self::TooManyBuckets { .. }
            | Self::BucketMalformed(_)
            | Self::BucketSwapped
            | Self::BucketForged
            | Self::BucketRolledBack
            | Self::BucketEquivocated
            | Self::MorePrefixBitsDemanded { .. }
            | Self::MappingForged { .. }
            | Self::ProviderUnknown { .. }
            | Self::ProviderKeyChanged { .. }
            | Self::InvalidationsMalformed(_)
            | Self::TokenKeysForged
            | Self::TokensForged
            | Self::RowMalformed
            | Self::RetrievalWithdrawn => Fault::Server,
            Self::TokenKeysMalformed(_)
            | Self::ParametersMalformed(_)
            | Self::ProvidersMalformed(_)
            | Self::DirectoryTooDeep { .. }
            | Self::NoRetrieval
            | Self::CallRefused(_) => Fault::Incompatible,
            Self::Unreachable(_)
            | Self::DeadlineExceeded(_)
            | Self::Overloaded
            | Self::Exhausted
            | Self::TokensRefused(_)
            | Self::TokensExpired
            | Self::Denied(_)
            | Self::ServerFailed(_) => Fault::Network,
            Self::Address
            | Self::Option { .. }
            | Self::CertificateAuthority
            | Self::Certificate
            | Self::CertificateRefused(_)
            | Self::Input(_) => Fault::Caller,
            Self::State(_) | Self::StateDamaged(_) | Self::Computation => Fault::Ours,
        }
    }

    /// Whether it is of one identifier's mapping, and says nothing of the others.
    #[must_use]
    pub const fn concerns_one(&self) -> bool {
        matches!(
            self,
            Self::MappingForged { .. }
                | Self::ProviderUnknown { .. }
                | Self::ProviderKeyChanged { .. }
        )
    }

    /// A failed call. The server's message is dropped: it could hold anything,
    /// and errors end up in logs.
    pub(super) fn from_status(status: &Status, deadline: Duration) -> Self {
        let timed_out = causes(status).any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>);
        let refused = causes(status).find_map(|cause| cause.downcast_ref::<CertificateRefused>());
        if let Some(CertificateRefused(why)) = refused {
            return Self::CertificateRefused(why);
        }
        match status.code() {
            _ if timed_out => Self::DeadlineExceeded(deadline),
            Code::Unavailable => Self::Unreachable(
                // The last cause of a connection's own error names the fault.
                causes(status).last().map(|cause| cause.to_string().chars().take(200).collect()),
            ),
            // Made here, when a connection breaks.
            Code::Unknown | Code::Cancelled if causes(status).next().is_some() => {
                Self::Unreachable(None)
            }
            Code::DeadlineExceeded => Self::DeadlineExceeded(deadline),
            Code::ResourceExhausted if says(status, OVERLOADED) => Self::Overloaded,
            Code::ResourceExhausted => Self::Exhausted,
            code @ (Code::PermissionDenied | Code::Unauthenticated) => Self::Denied(code),
            code @ (Code::Unimplemented
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition) => Self::CallRefused(code),
            code @ (Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::OutOfRange
            | Code::Aborted
            | Code::Internal
            | Code::DataLoss) => Self::ServerFailed(code),
        }
    }
}

/// Whether a server gives this reason.
fn says(status: &Status, reason: &str) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.domain == ERROR_DOMAIN && info.reason == reason)
}

/// Whether a call failed before the server did anything with it that must not
/// be done twice: there was no connection, it broke, or the server was not
/// ready.
pub(super) fn is_transport(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Cancelled => causes(status).next().is_some_and(|_| {
            !causes(status).any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>)
        }),
        _ => false,
    }
}

/// What lies beneath a status that was made on this side; empty for one that
/// the server sent.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |error| error.source())
}
