//! Anonymous tokens: Privacy Pass (RFC 9576, 9577 and 9578), publicly verifiable,
//! of type 0x0002, blind RSA of 2048 bits (RFC 9474, RSABSSA-SHA384-PSS with
//! deterministic messages).
//!
//! A directory is issuer and origin at once. Its challenge is not sent: both
//! sides compute it from the directory and the day, so that nobody can be given
//! one of his own. What the issuer signs is blinded; what is redeemed later has
//! no byte in common with it.
//!
//! Pure: randomness and time are passed in.

mod challenge;
mod day;
mod key;
mod pass;

pub use self::{
    challenge::Challenge,
    day::Day,
    key::{Blinded, PublicKey, SecretKey},
    pass::{Pass, SpentName},
};

/// Blind RSA of 2048 bits, RFC 9578 section 8.2.2.
pub const TOKEN_TYPE: u16 = 0x0002;

/// Bytes of a token's nonce.
pub const NONCE_BYTES: usize = 32;

/// Bytes of a blinded message, a blind signature and an authenticator.
pub const SIGNATURE_BYTES: usize = 256;

/// What is signed of a token: all but the authenticator.
pub const INPUT_BYTES: usize = 2 + NONCE_BYTES + 32 + 32;

/// Bytes of a whole token.
pub const TOKEN_BYTES: usize = INPUT_BYTES + SIGNATURE_BYTES;

/// How many evaluated elements one token pays: those of one lookup.
pub const ELEMENTS_PER_TOKEN: usize = 2;

/// What is wrong with a token, a key or a blinded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a public key of this kind.
    #[error("it is no RSASSA-PSS key of 2048 bits with SHA-384, as RFC 9578 section 6.5 has it")]
    Key,
    /// Not a number below the modulus.
    #[error("a blinded message is none under this key")]
    Blinded,
    /// Not signed by this key, or for another challenge or key.
    #[error("the token is not valid here and now")]
    Invalid,
    /// A key could not be made, or a signature not be computed.
    #[error("the token computation failed")]
    Computation,
}
