//! Identifiers of people, in their one canonical form.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most bytes of provider and user together: what an entry holds.
pub const MAX_SSI_BYTES: usize = 72;

/// What is wrong with an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// Not canonical.
    #[error("not canonical")]
    NotCanonical,
    /// Too long.
    #[error("provider and user are longer than an entry holds")]
    TooLong,
}

/// A service-independent identifier.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Zeroize, ZeroizeOnDrop)]
pub struct Sii(String);

impl Sii {
    /// Reads a canonical form.
    ///
    /// # Errors
    /// Not canonical.
    pub fn from_canonical(text: &str) -> Result<Self, IdentifierError> {
        if text.contains(':') { Ok(Self(text.into())) } else { Err(IdentifierError::NotCanonical) }
    }
    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The canonical form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Sii {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sii(..)")
    }
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Provider(String);

impl Provider {
    /// Reads.
    ///
    /// # Errors
    /// Empty.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        if text.is_empty() {
            return Err(IdentifierError::NotCanonical);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
    /// Text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User(String);

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("User(..)")
    }
}

impl User {
    /// Reads.
    ///
    /// # Errors
    /// Empty.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        if text.is_empty() { Err(IdentifierError::NotCanonical) } else { Ok(Self(text.into())) }
    }
    /// Text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssi {
    provider: Provider,
    user: User,
}

impl Ssi {
    /// Both.
    ///
    /// # Errors
    /// Too long.
    pub fn new(provider: Provider, user: User) -> Result<Self, IdentifierError> {
        if provider.0.len() + user.0.len() > MAX_SSI_BYTES {
            return Err(IdentifierError::TooLong);
        }
        Ok(Self { provider, user })
    }
    /// The provider.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }
    /// The user.
    #[must_use]
    pub const fn user(&self) -> &User {
        &self.user
    }
}
