//! A mapping: one identifier, one user of one provider, signed by the
//! provider.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::identifier::{Provider, Sii, Ssi, User};

/// Bytes of the fixed fields in a signature input and an entry.
const FIXED_BYTES: usize = 16;

/// The format that this code writes and reads.
const FORMAT: u8 = 1;

const FLAG_BUSINESS: u8 = 1;

/// Bytes of a mapping's plaintext in an entry.
pub(super) const PLAINTEXT_BYTES: usize = 156;

/// Whom a mapping is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Audience {
    /// A person.
    #[default]
    Personal,
    /// A business.
    Business,
}

impl Audience {
    /// `personal` or `business`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::Business => "business",
        }
    }
}

/// What is wrong with a mapping that was opened or is to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The plaintext has another format, flags, padding or lengths.
    #[error("the entry holds something that is not a mapping of format 1")]
    Malformed,
    /// The signature is not the provider's over this mapping.
    #[error("the mapping is not signed by its provider's key")]
    Signature,
}

/// One mapping of an identifier to a user of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Who is found.
    pub ssi: Ssi,
    /// Whom this mapping is meant for.
    pub audience: Audience,
    /// When the user made this the default, seconds since 1970. The greatest
    /// of an identifier's mappings is its default.
    pub default_since: u32,
    /// Until when the mapping counts as verified, seconds since 1970; 0 when
    /// the provider vouches and nothing sweeps it.
    pub verified_until: u32,
    /// Seconds for which an answer may be kept.
    pub ttl_s: u32,
}

impl Mapping {
    fn fixed(&self, default_since: u32) -> [u8; FIXED_BYTES] {
        let flags = match self.audience {
            Audience::Personal => 0,
            Audience::Business => FLAG_BUSINESS,
        };
        let times = [default_since, self.verified_until, self.ttl_s];
        let bytes = [FORMAT, flags]
            .into_iter()
            .chain(times.into_iter().flat_map(u32::to_be_bytes))
            .chain([0; 2]);
        let mut fixed = [0; FIXED_BYTES];
        for (to, from) in fixed.iter_mut().zip(bytes) {
            *to = from;
        }
        fixed
    }

    /// `"blindbook v1 mapping" || lp(SII) || fixed || lp provider || lp user`,
    /// `default_since` zeroed: re-ordering needs no new signature.
    fn signature_input(&self, sii: &Sii) -> Vec<u8> {
        let mut input = Vec::with_capacity(192);
        input.extend_from_slice(b"blindbook v1 mapping");
        lp(&mut input, sii.as_bytes());
        input.extend_from_slice(&self.fixed(0));
        lp(&mut input, self.ssi.provider().as_str().as_bytes());
        lp(&mut input, self.ssi.user().as_str().as_bytes());
        input
    }
}

/// Appends u16 length and bytes. Every caller's bytes are bounded by their
/// types far below 2^16.
fn lp(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A mapping with its provider's signature, not necessarily verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMapping {
    /// What is signed, and `default_since`, which is not.
    pub mapping: Mapping,
    /// Ed25519 by the provider's key.
    pub signature: [u8; 64],
}

impl SignedMapping {
    /// Signs a mapping of `sii` with its provider's key.
    #[must_use]
    pub fn sign(sii: &Sii, mapping: Mapping, provider_key: &SigningKey) -> Self {
        let signature = provider_key.sign(&mapping.signature_input(sii)).to_bytes();
        Self { mapping, signature }
    }

    /// Verifies that the provider of `key` signed this mapping of `sii`.
    ///
    /// # Errors
    /// It did not.
    pub fn verify(&self, sii: &Sii, key: &VerifyingKey) -> Result<(), MappingError> {
        key.verify_strict(
            &self.mapping.signature_input(sii),
            &Signature::from_bytes(&self.signature),
        )
        .map_err(|_| MappingError::Signature)
    }

    /// The plaintext of an entry: signature, fixed fields, lp provider,
    /// lp user, zero padding.
    ///
    /// # Errors
    /// The names are longer than an entry holds, which [`Ssi`] rules out.
    pub(super) fn encode(&self) -> Result<[u8; PLAINTEXT_BYTES], MappingError> {
        let mut plaintext = Vec::with_capacity(PLAINTEXT_BYTES);
        plaintext.extend_from_slice(&self.signature);
        plaintext.extend_from_slice(&self.mapping.fixed(self.mapping.default_since));
        lp(&mut plaintext, self.mapping.ssi.provider().as_str().as_bytes());
        lp(&mut plaintext, self.mapping.ssi.user().as_str().as_bytes());
        if plaintext.len() > PLAINTEXT_BYTES {
            return Err(MappingError::Malformed);
        }
        plaintext.resize(PLAINTEXT_BYTES, 0);
        plaintext.try_into().map_err(|_| MappingError::Malformed)
    }

    /// Reads the plaintext of an entry, strictly: one encoding per mapping.
    ///
    /// # Errors
    /// Anything that [`Self::encode`] would not have written.
    pub(super) fn decode(plaintext: &[u8; PLAINTEXT_BYTES]) -> Result<Self, MappingError> {
        let mut reader = Reader(plaintext);
        let signature = reader.array::<64>()?;
        let [format, flags] = reader.array()?;
        let default_since = u32::from_be_bytes(reader.array()?);
        let verified_until = u32::from_be_bytes(reader.array()?);
        let ttl_s = u32::from_be_bytes(reader.array()?);
        let reserved: [u8; 2] = reader.array()?;
        let audience = match flags {
            0 => Audience::Personal,
            FLAG_BUSINESS => Audience::Business,
            _ => return Err(MappingError::Malformed),
        };
        let provider = reader.lp()?;
        let user = reader.lp()?;
        let provider = Provider::from_canonical(provider).map_err(|_| MappingError::Malformed)?;
        let user = User::from_canonical(user).map_err(|_| MappingError::Malformed)?;
        let ssi = Ssi::new(provider, user).map_err(|_| MappingError::Malformed)?;
        let padded = reader.0.iter().any(|byte| *byte != 0);
        if format != FORMAT || reserved != [0; 2] || padded {
            return Err(MappingError::Malformed);
        }
        let mapping = Mapping { ssi, audience, default_since, verified_until, ttl_s };
        Ok(Self { mapping, signature })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], MappingError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(MappingError::Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    fn lp(&mut self) -> Result<&'a str, MappingError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        let (head, tail) = self.0.split_at_checked(length).ok_or(MappingError::Malformed)?;
        self.0 = tail;
        std::str::from_utf8(head).map_err(|_| MappingError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Mapping {
        Mapping {
            ssi: Ssi::new(Provider::parse("wa.example").unwrap(), User::parse("alice").unwrap())
                .unwrap(),
            audience: Audience::Business,
            default_since: 17,
            verified_until: 0,
            ttl_s: 86_400,
        }
    }

    fn sii() -> Sii {
        Sii::from_canonical("tel:+14155550100").unwrap()
    }

    #[test]
    fn a_signature_binds_the_identifier_and_every_field_but_the_order() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let signed = SignedMapping::sign(&sii(), mapping(), &key);
        let key = key.verifying_key();
        assert_eq!(signed.verify(&sii(), &key), Ok(()));

        let reordered =
            SignedMapping { mapping: Mapping { default_since: 99, ..mapping() }, ..signed.clone() };
        assert_eq!(reordered.verify(&sii(), &key), Ok(()));

        let other = Sii::from_canonical("tel:+14155550101").unwrap();
        assert_eq!(signed.verify(&other, &key), Err(MappingError::Signature));
        let elsewhere =
            Ssi::new(Provider::parse("sg.example").unwrap(), User::parse("alice").unwrap());
        for altered in [
            Mapping { audience: Audience::Personal, ..mapping() },
            Mapping { verified_until: 1, ..mapping() },
            Mapping { ttl_s: 1, ..mapping() },
            Mapping { ssi: elsewhere.unwrap(), ..mapping() },
        ] {
            let altered = SignedMapping { mapping: altered, ..signed.clone() };
            assert_eq!(altered.verify(&sii(), &key), Err(MappingError::Signature));
        }
    }

    #[test]
    fn a_plaintext_round_trips_and_no_other_encoding_is_read() {
        let signed = SignedMapping::sign(&sii(), mapping(), &SigningKey::from_bytes(&[3; 32]));
        let plaintext = signed.encode().unwrap();
        assert_eq!(SignedMapping::decode(&plaintext), Ok(signed));

        // format, flags, reserved, provider length, provider case, last padding
        for (offset, byte) in
            [(64, 2), (65, 2), (65, 0x81), (78, 1), (79, 1), (80, 1), (81, 200), (82, b'W')]
        {
            let mut altered = plaintext;
            altered[offset] = byte;
            assert_eq!(SignedMapping::decode(&altered), Err(MappingError::Malformed), "{offset}");
        }
        let mut padded = plaintext;
        padded[PLAINTEXT_BYTES - 1] = 1;
        assert_eq!(SignedMapping::decode(&padded), Err(MappingError::Malformed));
    }

    #[test]
    fn the_longest_names_fit() {
        let provider = format!("{}.example", "p".repeat(30));
        let user = "u".repeat(crate::identifier::MAX_SSI_BYTES - provider.len());
        let ssi =
            Ssi::new(Provider::parse(&provider).unwrap(), User::parse(&user).unwrap()).unwrap();
        let signed = SignedMapping { mapping: Mapping { ssi, ..mapping() }, signature: [9; 64] };
        assert_eq!(SignedMapping::decode(&signed.encode().unwrap()), Ok(signed));
    }
}
