//! A token as it is redeemed: `Token`, RFC 9577 section 2.2.

use std::fmt;

use super::{
    Challenge, INPUT_BYTES, NONCE_BYTES, PublicKey, SIGNATURE_BYTES, TOKEN_BYTES, TOKEN_TYPE,
    TokenError,
};

/// Under which a spent token is remembered: a hash of its nonce and its key. Two
/// signatures over one nonce are one token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpentName(pub [u8; 16]);

impl fmt::Debug for SpentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SpentName(..)")
    }
}

/// A token: type, nonce, challenge digest, key id, authenticator.
#[derive(Clone, PartialEq, Eq)]
pub struct Pass(Box<[u8; TOKEN_BYTES]>);

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pass(..)")
    }
}

/// All of a token but its authenticator.
pub(super) fn input(
    nonce: &[u8; NONCE_BYTES],
    challenge: &Challenge,
    key: &PublicKey,
) -> [u8; INPUT_BYTES] {
    let mut input = [0; INPUT_BYTES];
    let kind = TOKEN_TYPE.to_be_bytes();
    let parts = [kind.as_slice(), nonce, challenge.digest(), key.id()];
    for (to, from) in input.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    input
}

impl Pass {
    /// A token of these bytes, not yet verified.
    #[must_use]
    pub fn new(bytes: &[u8; TOKEN_BYTES]) -> Self {
        Self(Box::new(*bytes))
    }

    pub(super) fn signed(input: &[u8; INPUT_BYTES], signature: &[u8; SIGNATURE_BYTES]) -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        for (to, from) in bytes.iter_mut().zip(input.iter().chain(signature)) {
            *to = *from;
        }
        Self(Box::new(bytes))
    }

    /// Its bytes. Whoever has them can spend it.
    #[must_use]
    pub fn expose(&self) -> &[u8; TOKEN_BYTES] {
        &self.0
    }

    fn input(&self) -> &[u8] {
        self.0.split_at(INPUT_BYTES).0
    }

    pub(super) fn authenticator(&self) -> &[u8] {
        self.0.split_at(INPUT_BYTES).1
    }

    fn nonce(&self) -> &[u8] {
        self.input().get(2..2 + NONCE_BYTES).unwrap_or_default()
    }

    /// Which key it says signed it.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        self.input().get(2 + NONCE_BYTES + 32..).unwrap_or_default()
    }

    /// Under which it is remembered.
    #[must_use]
    pub fn name(&self) -> SpentName {
        let mut name = [0; 16];
        blake3::Hasher::new_derive_key("blindbook v1 spent token")
            .update(self.nonce())
            .update(self.key_id())
            .finalize_xof()
            .fill(&mut name);
        SpentName(name)
    }

    /// Whether it answers this challenge and is signed by this key.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], whatever is wrong with it.
    pub fn verify(&self, challenge: &Challenge, key: &PublicKey) -> Result<(), TokenError> {
        let nonce = self.nonce().try_into().map_err(|_| TokenError::Invalid)?;
        let expected = input(&nonce, challenge, key);
        if self.input() != expected.as_slice() {
            return Err(TokenError::Invalid);
        }
        key.verify(&expected, self.authenticator())
    }
}
