//! Circles: a mapping under a circle's secret is found only by clients that
//! hold it. It lies in the identifier's bucket, under an OPRF output of its
//! own, so that nobody else can tell that it exists.

use std::fmt;

use zeroize::Zeroizing;

use crate::{identifier::Sii, secret::Secret};

/// The 32-byte secret that the members of a circle share. `Debug` prints
/// nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle(Secret<32>);

impl Circle {
    /// The circle of a secret.
    #[must_use]
    pub const fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The secret.
    #[must_use]
    pub const fn secret(&self) -> &Secret<32> {
        &self.0
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> CircleId {
        let mut id = [0; 16];
        blake3::Hasher::new_derive_key("blindbook v1 circle id")
            .update(self.0.expose())
            .finalize_xof()
            .fill(&mut id);
        CircleId(id)
    }
}

/// Names a circle to those who may see its mappings without being in it: the
/// first 16 bytes of `derive_key("blindbook v1 circle id", secret)`. It finds
/// nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CircleId([u8; 16]);

impl CircleId {
    /// Reads the 16 bytes of a message.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for CircleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CircleId(..)")
    }
}

/// The OPRF input of an identifier: `SII`, or `SII || 0x00 || circle secret`.
/// No identifier holds a zero byte, so that the two never meet.
#[must_use]
pub fn oprf_input(sii: &Sii, circle: Option<&Circle>) -> Zeroizing<Vec<u8>> {
    let secret_bytes = circle.map_or(0, |_| 1 + 32);
    // Room for all of it, so that no copy is left behind by growing.
    let mut input = Zeroizing::new(Vec::with_capacity(sii.as_bytes().len() + secret_bytes));
    input.extend_from_slice(sii.as_bytes());
    if let Some(circle) = circle {
        input.push(0);
        input.extend_from_slice(circle.0.expose());
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_has_an_input_of_its_own_and_debug_tells_nothing_of_it() {
        let sii = Sii::from_canonical("tel:+14155550100").unwrap();
        let circle = Circle::new(Secret::new([7; 32]));
        assert_eq!(oprf_input(&sii, None).as_slice(), b"tel:+14155550100");
        let expected = [b"tel:+14155550100".as_slice(), &[0], &[7; 32]].concat();
        assert_eq!(*oprf_input(&sii, Some(&circle)), expected);
        assert_eq!(format!("{circle:?}"), "Circle(Secret(..))");
        assert_eq!(format!("{:?}", circle.id()), "CircleId(..)");
    }

    #[test]
    fn the_name_of_a_circle_is_its_own_and_not_its_secret() {
        let id = |secret| Circle::new(Secret::new([secret; 32])).id();
        let derived = blake3::derive_key("blindbook v1 circle id", &[7; 32]);
        assert_eq!(id(7).to_bytes(), derived[..16]);
        assert_ne!(id(7), id(8));
        assert_eq!(CircleId::from_bytes(id(7).to_bytes()), id(7));
    }
}
