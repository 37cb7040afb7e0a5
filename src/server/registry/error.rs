//! Why a partner's call was refused.

use crate::{
    registry::{LedgerError, proof::ProofError},
    server::{feed::FeedError, peer::PeerError},
    wire::WireError,
};

/// A refused call: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum RegistryError {
    // The request.
    /// It breaks a rule.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The number is from a region that is not served.
    #[error("the number belongs to a region that this directory does not serve")]
    Region,

    // Who asks.
    /// Nobody whom the directory knows.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Only application providers may.
    #[error("this is for application providers, and the caller is none")]
    NotAProvider,
    /// Only authorities may.
    #[error("this is for authorities over numbers and domains, and the caller is none")]
    NotAnAuthority,
    /// An authority over others.
    #[error("the caller has no authority over this number or domain")]
    NotCovered,
    /// Without a claim, a provider gives up what is its own.
    #[error(
        "without a claim a provider ports away from itself: name it as the old operator, or claim"
    )]
    PortOfAnother,

    // What is proved and changed.
    /// The proof, code or challenge is refused.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The change is refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),

    // What this directory does not do.
    /// It is not set up to send codes.
    #[error("this directory sends no codes: use another proof")]
    NoCodes,

    // What ends a watch.
    /// The log of changes cannot be read, or the server stops.
    #[error(transparent)]
    Feed(#[from] FeedError),
}
