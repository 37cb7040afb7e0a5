//! Service-specific identifiers: always fully qualified, `user@provider`, since
//! the same user name at two providers is two people.

use std::{fmt, str::FromStr};

use zeroize::Zeroizing;

use super::{IdentifierError, domain, text};

/// Most bytes of provider and user together: what fits a directory entry.
pub const MAX_SSI_BYTES: usize = 72;

/// A messaging service, named by its lower-case ASCII domain. Public.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Provider(Box<str>);

impl Provider {
    /// Canonicalises a provider's domain (UTS 46 to ASCII).
    ///
    /// # Errors
    /// [`IdentifierError::Domain`] or [`IdentifierError::DomainIsAddress`] for
    /// what is no domain, [`IdentifierError::SsiTooLong`] for one that leaves no
    /// room for a user.
    pub fn parse(domain: &str) -> Result<Self, IdentifierError> {
        let domain = domain::to_ascii(domain)?;
        if domain.len() >= MAX_SSI_BYTES {
            return Err(IdentifierError::SsiTooLong);
        }
        Ok(Self(domain.into()))
    }

    /// Takes a domain that is canonical already, as received from a peer.
    ///
    /// # Errors
    /// [`IdentifierError::NotCanonical`] for another spelling; otherwise as
    /// [`Provider::parse`].
    pub fn from_canonical(domain: &str) -> Result<Self, IdentifierError> {
        let provider = Self::parse(domain)?;
        if provider.as_str() == domain { Ok(provider) } else { Err(IdentifierError::NotCanonical) }
    }

    /// The domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Provider {
    type Err = IdentifierError;

    fn from_str(domain: &str) -> Result<Self, Self::Err> {
        Self::parse(domain)
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's name at a provider: any visible characters but `@`, in NFC. Case
/// and punctuation are the provider's affair.
///
/// Zeroised when dropped; `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct User(Zeroizing<Box<str>>);

impl User {
    /// Normalises (NFC) a user's name.
    ///
    /// # Errors
    /// [`IdentifierError::UserEmpty`], [`IdentifierError::UserCharacter`], or
    /// [`IdentifierError::SsiTooLong`] for one that leaves no room for a provider.
    pub fn parse(name: &str) -> Result<Self, IdentifierError> {
        if name.is_empty() {
            return Err(IdentifierError::UserEmpty);
        }
        // Normalisation shortens a text to a third at most.
        if name.len() >= 3 * MAX_SSI_BYTES {
            return Err(IdentifierError::SsiTooLong);
        }
        let name = Zeroizing::new(text::nfc(name).into_owned());
        if name.chars().any(|c| c == '@' || text::is_forbidden(c)) {
            return Err(IdentifierError::UserCharacter);
        }
        if name.len() >= MAX_SSI_BYTES {
            return Err(IdentifierError::SsiTooLong);
        }
        Ok(Self(Zeroizing::new(name.as_str().into())))
    }

    /// Takes a name that is canonical already, as received from a peer.
    ///
    /// # Errors
    /// [`IdentifierError::NotCanonical`] for another spelling; otherwise as
    /// [`User::parse`].
    pub fn from_canonical(name: &str) -> Result<Self, IdentifierError> {
        let user = Self::parse(name)?;
        if user.as_str() == name { Ok(user) } else { Err(IdentifierError::NotCanonical) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for User {
    type Err = IdentifierError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(..)")
    }
}

/// A user at a provider; together they fit a directory entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Ssi {
    provider: Provider,
    user: User,
}

impl Ssi {
    /// Puts the two together.
    ///
    /// # Errors
    /// [`IdentifierError::SsiTooLong`] beyond [`MAX_SSI_BYTES`].
    pub fn new(provider: Provider, user: User) -> Result<Self, IdentifierError> {
        if provider.as_str().len() + user.as_str().len() > MAX_SSI_BYTES {
            return Err(IdentifierError::SsiTooLong);
        }
        Ok(Self { provider, user })
    }

    /// The messaging service.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The user there.
    #[must_use]
    pub const fn user(&self) -> &User {
        &self.user
    }
}

impl fmt::Debug for Ssi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ssi(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_is_a_lower_case_ascii_domain() {
        for (input, domain) in [
            ("WA.Example", "wa.example"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(Provider::parse(input).unwrap().as_str(), domain);
        }
        for input in ["", ".", "wa.example.", "a b.example", "-a.example", "a_b.example", "xn--a"] {
            assert_eq!(Provider::parse(input), Err(IdentifierError::Domain), "{input:?}");
        }
        for input in ["127.0.0.1", "[::1]", "wa.example:443"] {
            assert_eq!(Provider::parse(input), Err(IdentifierError::DomainIsAddress), "{input:?}");
        }
        assert_eq!(Provider::from_canonical("WA.example"), Err(IdentifierError::NotCanonical));
    }

    #[test]
    fn user_keeps_its_case_and_is_normalised() {
        assert_eq!(User::parse("Alice+1.x:y/z").unwrap().as_str(), "Alice+1.x:y/z");
        assert_eq!(User::parse("E\u{301}lan").unwrap().as_str(), "\u{c9}lan");
        assert_eq!(User::from_canonical("E\u{301}lan"), Err(IdentifierError::NotCanonical));
        assert_eq!(User::parse(""), Err(IdentifierError::UserEmpty));
        for name in ["a@b", "a b", "a\n", "\u{202e}ecila", "a\u{200b}", "\u{0}"] {
            assert_eq!(User::parse(name), Err(IdentifierError::UserCharacter), "{name:?}");
        }
    }

    #[test]
    fn ssi_holds_exactly_what_fits_an_entry() {
        let provider = Provider::parse("wa.example").unwrap();
        let user = |bytes: usize| User::parse(&"u".repeat(bytes)).unwrap();
        let room = MAX_SSI_BYTES - provider.as_str().len();
        let ssi = Ssi::new(provider.clone(), user(room)).unwrap();
        assert_eq!((ssi.provider(), ssi.user()), (&provider, &user(room)));
        assert_eq!(Ssi::new(provider, user(room + 1)), Err(IdentifierError::SsiTooLong));
        assert_eq!(User::parse(&"u".repeat(MAX_SSI_BYTES)), Err(IdentifierError::SsiTooLong));
    }

    #[test]
    fn debug_prints_nothing_of_the_user() {
        let user = User::parse("canary").unwrap();
        let ssi = Ssi::new(Provider::parse("wa.example").unwrap(), user.clone()).unwrap();
        assert_eq!(format!("{user:?} {ssi:?}"), "User(..) Ssi(..)");
    }
}
