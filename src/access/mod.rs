//! Who may ask what: the partners of a directory, known by the URI of their
//! certificate, and the methods that their roles open. Where certificates come
//! from is the server's affair, where the first of the list come from the
//! configuration's.

mod coverage;
mod partner;
mod partners;
pub mod quota;
mod record;
mod rights;
pub mod tokens;

pub use self::{
    coverage::Coverage,
    partner::{Alias, MAX_URI_BYTES, Partner, PartnerUri, Role, RoleKind},
    partners::{Listed, Partners, PartnersError},
    rights::{RIGHTS, Right, Who, right_of, who_may},
};

/// Why a partner cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The URI is none that a certificate could hold.
    #[error("`{0}` is no URI of a certificate, as spiffe://wa.example/ap")]
    Uri(String),
    /// The alias is none.
    #[error("`{0}` is no alias: 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit")]
    Alias(String),
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
