//! Group elements as they arrive from a peer: exact length, canonical and
//! never the identity, or refused.

use std::fmt;

use curve25519_dalek::{RistrettoPoint, ristretto::CompressedRistretto};

use super::{ELEMENT_BYTES, MAX_BATCH_ELEMENTS, OprfError};

/// A serialised element.
pub(super) type Encoding = [u8; ELEMENT_BYTES];

/// The identity's only canonical encoding (RFC 9496, appendix A.1).
const IDENTITY: Encoding = [0; ELEMENT_BYTES];

/// Why an encoding is refused.
enum Refused {
    Malformed,
    Identity,
}

/// `DeserializeElement` of RFC 9497 section 4.1: canonical, not the identity.
fn decode(encoding: &Encoding) -> Result<RistrettoPoint, Refused> {
    if *encoding == IDENTITY {
        return Err(Refused::Identity);
    }
    CompressedRistretto(*encoding).decompress().ok_or(Refused::Malformed)
}

/// Splits a batch into its encodings, without looking inside them.
pub(super) fn split_batch(bytes: &[u8]) -> Result<&[Encoding], OprfError> {
    let (encodings, rest) = bytes.as_chunks::<ELEMENT_BYTES>();
    if !rest.is_empty() {
        return Err(OprfError::TrailingBytes { trailing: rest.len() });
    }
    check_batch_size(encodings.len())?;
    Ok(encodings)
}

/// Refuses batches for which RFC 9497 section 2.2 has no proof.
pub(super) const fn check_batch_size(elements: usize) -> Result<(), OprfError> {
    match elements {
        0 => Err(OprfError::EmptyBatch),
        1..=MAX_BATCH_ELEMENTS => Ok(()),
        _ => Err(OprfError::TooManyElements),
    }
}

/// Decodes every element of a batch.
pub(super) fn decode_batch(encodings: &[Encoding]) -> Result<Vec<RistrettoPoint>, OprfError> {
    encodings
        .iter()
        .enumerate()
        .map(|(index, encoding)| {
            decode(encoding).map_err(|refused| match refused {
                Refused::Malformed => OprfError::MalformedElement { index },
                Refused::Identity => OprfError::IdentityElement { index },
            })
        })
        .collect()
}

/// Encodes the doubles of a few public points for the price of one inversion.
pub(super) fn double_and_encode<const N: usize>(halves: &[RistrettoPoint; N]) -> [Encoding; N] {
    let mut encodings = [IDENTITY; N];
    let doubles = RistrettoPoint::double_and_compress_batch(halves);
    for (encoding, double) in encodings.iter_mut().zip(doubles) {
        *encoding = double.to_bytes();
    }
    encodings
}

/// The public half of a [`ServerKey`](super::ServerKey): what proofs are
/// verified against. Never the identity.
#[derive(Clone, Copy)]
pub struct PublicKey {
    encoding: Encoding,
    point: RistrettoPoint,
}

impl PublicKey {
    /// Decodes a public key.
    ///
    /// # Errors
    /// [`OprfError::WrongPublicKeyLength`], [`OprfError::MalformedPublicKey`]
    /// or [`OprfError::IdentityPublicKey`] for anything but the canonical
    /// encoding of an element that is not the identity.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OprfError> {
        let encoding: Encoding =
            bytes.try_into().map_err(|_| OprfError::WrongPublicKeyLength { found: bytes.len() })?;
        let point = decode(&encoding).map_err(|refused| match refused {
            Refused::Malformed => OprfError::MalformedPublicKey,
            Refused::Identity => OprfError::IdentityPublicKey,
        })?;
        Ok(Self { encoding, point })
    }

    /// The key of a point that is known not to be the identity.
    pub(super) fn from_point(point: RistrettoPoint) -> Self {
        Self { encoding: point.compress().to_bytes(), point }
    }

    /// The canonical encoding.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; ELEMENT_BYTES] {
        self.encoding
    }

    pub(super) const fn point(&self) -> &RistrettoPoint {
        &self.point
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.encoding == other.encoding
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        for byte in self.encoding {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}
