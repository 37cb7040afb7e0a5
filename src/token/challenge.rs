//! `TokenChallenge`, RFC 9577 section 2.1.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{Day, TOKEN_TYPE};

/// What a token answers: its issuer, its origin, and for when it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    digest: [u8; 32],
}

impl Challenge {
    /// The challenge of these parts: `redemption_context` has no or 32 bytes.
    /// `None` for other parts than RFC 9577 allows.
    #[must_use]
    pub fn new(issuer: &str, redemption_context: &[u8], origin: &str) -> Option<Self> {
        if issuer.is_empty() || !matches!(redemption_context.len(), 0 | 32) {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update(TOKEN_TYPE.to_be_bytes());
        hash.update(u16::try_from(issuer.len()).ok()?.to_be_bytes());
        hash.update(issuer);
        hash.update([u8::try_from(redemption_context.len()).ok()?]);
        hash.update(redemption_context);
        hash.update(u16::try_from(origin.len()).ok()?.to_be_bytes());
        hash.update(origin);
        Some(Self { digest: hash.finalize().into() })
    }

    /// That of a directory on a day: issuer and origin are its id in hex digits,
    /// and the context is the day's, the same for all.
    #[must_use]
    pub fn of(directory: &[u8; 16], day: Day) -> Self {
        let name = directory.iter().fold(String::with_capacity(32), |mut name, byte| {
            // Writing into a string does not fail.
            let _ = write!(name, "{byte:02x}");
            name
        });
        let context = [directory.as_slice(), &day.number().to_be_bytes()].concat();
        let context = blake3::derive_key("blindbook v1 token redemption", &context);
        // A name of 32 digits and a context of 32 bytes are allowed.
        Self::new(&name, &context, &name).unwrap_or(Self { digest: context })
    }

    /// SHA-256 of the encoded challenge.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_and_day_has_its_own_challenge() {
        let of = |directory: u8, day| *Challenge::of(&[directory; 16], Day::new(day)).digest();
        assert_eq!(of(1, 20_000), of(1, 20_000));
        assert_ne!(of(1, 20_000), of(2, 20_000));
        assert_ne!(of(1, 20_000), of(1, 20_001));
        let name = "01".repeat(16);
        assert!(Challenge::new(&name, &[7; 31], "").is_none());
        assert!(Challenge::new("", &[], "").is_none());
        // The parts that are allowed are those that `of` has.
        let context = blake3::derive_key(
            "blindbook v1 token redemption",
            &[[1; 16].as_slice(), &20_000_u32.to_be_bytes()].concat(),
        );
        assert_eq!(*Challenge::new(&name, &context, &name).unwrap().digest(), of(1, 20_000));
    }
}
