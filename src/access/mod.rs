//! Who may ask what: the partners of a directory, known by their transport
//! identity. Pure logic; where certificates and headers come from is the
//! server's affair, where the list comes from the configuration's.

mod callers;
mod coverage;
pub mod quota;
pub mod tokens;

pub use self::{
    callers::{Caller, Callers, MIN_TOKEN_BYTES, Role},
    coverage::Coverage,
};

/// Why a partner cannot be listed. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The URI is none that a certificate could hold.
    #[error("`{0}` is no URI of a certificate, as spiffe://wa.example/ap")]
    Uri(String),
    /// Two callers share one URI.
    #[error("the URI {0} is listed twice: a certificate names one caller")]
    DuplicateUri(String),
    /// A token that could be guessed.
    #[error("a caller's token has fewer than {MIN_TOKEN_BYTES} bytes, or is no visible ASCII text")]
    Token,
    /// Two callers share one token.
    #[error("two callers have one token: each needs its own")]
    DuplicateToken,
    /// Not the beginning of a number.
    #[error("`{0}` is not the beginning of a phone number: + and 1 to 15 digits")]
    Number(String),
    /// Not a domain.
    #[error("`{0}` is no domain of e-mail addresses")]
    Domain(String),
    /// An authority over nothing.
    #[error("an authority covers numbers or domains: list some")]
    NoCoverage,
}
