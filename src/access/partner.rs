//! One partner: who it is, what it is called in metrics, and what it is to the
//! directory.

use std::fmt;

use super::{AccessError, Coverage};
use crate::identifier::Provider;

/// Longest URI of a partner.
pub const MAX_URI_BYTES: usize = 1024;

/// Longest alias: that of a DNS label.
const MAX_ALIAS_BYTES: usize = 63;

/// The URI in a partner's certificate, compared byte for byte. Its `Debug` does
/// not tell it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartnerUri(String);

impl PartnerUri {
    /// Takes a URI as certificates hold it.
    ///
    /// # Errors
    /// [`AccessError::Uri`]: not `scheme://rest` of visible ASCII, or too long.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let shaped = text.len() <= MAX_URI_BYTES
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && text
                .split_once("://")
                .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        if shaped { Ok(Self(text.into())) } else { Err(AccessError::Uri(text.into())) }
    }

    /// As in the certificate.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for PartnerUri {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PartnerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartnerUri(..)")
    }
}

/// What a partner is called where its identity must not stand: in metrics and
/// logs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(String);

impl Alias {
    /// Takes an alias.
    ///
    /// # Errors
    /// [`AccessError::Alias`].
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let shaped = (1..=MAX_ALIAS_BYTES).contains(&text.len())
            && text.bytes().all(good)
            && !text.starts_with('-');
        if shaped { Ok(Self(text.into())) } else { Err(AccessError::Alias(text.into())) }
    }

    /// As it stands in metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a partner is to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An application provider: speaks for itself alone.
    Ap(Provider),
    /// Another directory.
    Peer,
    /// An authority over numbers or domains.
    Authority(Coverage),
    /// Who keeps the list of partners.
    Admin,
}

/// A role without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// [`Role::Ap`].
    Ap,
    /// [`Role::Peer`].
    Peer,
    /// [`Role::Authority`].
    Authority,
    /// [`Role::Admin`].
    Admin,
}

impl RoleKind {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Ap, Self::Peer, Self::Authority, Self::Admin];

    /// As the configuration and the command line have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ap => "ap",
            Self::Peer => "peer",
            Self::Authority => "authority",
            Self::Admin => "admin",
        }
    }
}

impl Role {
    /// Which it is.
    #[must_use]
    pub const fn kind(&self) -> RoleKind {
        match self {
            Self::Ap(_) => RoleKind::Ap,
            Self::Peer => RoleKind::Peer,
            Self::Authority(_) => RoleKind::Authority,
            Self::Admin => RoleKind::Admin,
        }
    }
}

/// A partner of the directory. Its `Debug` tells its alias and no more.
#[derive(Clone, PartialEq, Eq)]
pub struct Partner {
    /// Names it in its certificate.
    pub uri: PartnerUri,
    /// Names it in metrics; no two partners share one.
    pub alias: Alias,
    /// What it is.
    pub role: Role,
    /// Most elements that it may have evaluated in a day; `None` for what the
    /// directory allows everybody.
    pub evaluations_per_day: Option<u64>,
}

impl fmt::Debug for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partner({}, {})", self.alias, self.role.kind().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_and_aliases_have_their_form() {
        for uri in ["spiffe://wa.example/ap", "https://a/b?c#d"] {
            assert_eq!(PartnerUri::parse(uri).unwrap().as_str(), uri);
        }
        let long = format!("spiffe://{}", "a".repeat(MAX_URI_BYTES));
        for uri in ["", "wa.example", "://x", "spiffe://", "spiffe://a b", "spiffe://\u{e9}", &long]
        {
            assert_eq!(PartnerUri::parse(uri), Err(AccessError::Uri(uri.into())));
        }
        for alias in ["a", "wa-1", "0", &"a".repeat(63)] {
            assert_eq!(Alias::parse(alias).unwrap().as_str(), alias);
        }
        for alias in ["", "-a", "A", "a.b", "a b", "\u{e9}", &"a".repeat(64)] {
            assert_eq!(Alias::parse(alias), Err(AccessError::Alias(alias.into())));
        }
    }

    #[test]
    fn a_partner_prints_its_alias_and_not_who_it_is() {
        let partner = Partner {
            uri: PartnerUri::parse("spiffe://wa.example/ap").unwrap(),
            alias: Alias::parse("partner-1").unwrap(),
            role: Role::Ap(Provider::parse("wa.example").unwrap()),
            evaluations_per_day: None,
        };
        assert_eq!(format!("{partner:?}"), "Partner(partner-1, ap)");
        assert_eq!(format!("{:?}", partner.uri), "PartnerUri(..)");
    }
}
