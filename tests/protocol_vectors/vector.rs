//! Access to the parts of a vector, and the rules by which long bytes are given.

use std::{collections::VecDeque, convert::Infallible, fmt};

use blindbook::{
    bucket::{DirectoryId, PrefixBits},
    epoch::Epoch,
    secret::Secret,
};
use bytes::Bytes;
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::{TryCryptoRng, TryRng};
use serde_json::Value;

/// What a check that should refuse gives when it does not.
pub(crate) const NOTHING: &str = "nothing is refused";

/// One case, or a part of one.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a>(pub(crate) &'a Value);

impl fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get("name").and_then(Value::as_str) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'a> Case<'a> {
    pub(crate) fn has(self, field: &str) -> bool {
        self.0.get(field).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn get(self, field: &str) -> Self {
        Self(self.0.get(field).unwrap_or_else(|| panic!("{self} has no {field}")))
    }

    pub(crate) fn list(self, field: &str) -> impl Iterator<Item = Self> {
        self.get(field).0.as_array().unwrap().iter().map(Case)
    }

    pub(crate) fn text(self, field: &str) -> &'a str {
        self.get(field).0.as_str().unwrap()
    }

    pub(crate) fn u64(self, field: &str) -> u64 {
        self.get(field).0.as_u64().unwrap()
    }

    pub(crate) fn u32(self, field: &str) -> u32 {
        self.u64(field).try_into().unwrap()
    }

    pub(crate) fn usize(self, field: &str) -> usize {
        self.u64(field).try_into().unwrap()
    }

    pub(crate) fn bytes(self, field: &str) -> Vec<u8> {
        self.get(field).hex()
    }

    pub(crate) fn array<const N: usize>(self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap()
    }

    /// Each of a list of byte strings.
    pub(crate) fn all_bytes(self, field: &str) -> Vec<Vec<u8>> {
        self.list(field).map(Self::hex).collect()
    }

    fn hex(self) -> Vec<u8> {
        let digits = self.0.as_str().unwrap();
        assert!(digits.len().is_multiple_of(2), "half a byte in {digits}");
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    pub(crate) fn epoch(self) -> Epoch {
        Epoch::new(self.u32("epoch")).unwrap()
    }

    pub(crate) fn bits(self, field: &str) -> PrefixBits {
        PrefixBits::new(self.u32(field)).unwrap()
    }

    pub(crate) fn seed(self, field: &str) -> Secret<32> {
        Secret::new(self.array(field))
    }

    pub(crate) fn signing_key(self, field: &str) -> SigningKey {
        SigningKey::from_bytes(&self.array(field))
    }

    pub(crate) fn public_key(self, field: &str) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.array(field)).unwrap()
    }

    pub(crate) fn directory(self) -> DirectoryId {
        DirectoryId::from_bytes(self.array("directory_id"))
    }

    /// Bytes given by rule: filler, and entries in some slots.
    pub(crate) fn filled(self) -> Vec<u8> {
        let mut bytes = vec![0; self.usize("bytes")];
        let label = self.text("filler").as_bytes();
        blake3::Hasher::new().update(label).finalize_xof().fill(&mut bytes);
        if self.has("slots") {
            for slot in self.get("slots").0.as_object().unwrap().keys() {
                let at = 192 * slot.parse::<usize>().unwrap();
                bytes[at..at + 192].copy_from_slice(&self.get("slots").bytes(slot));
            }
        }
        bytes
    }

    /// A message given as its head, filled middle and tail.
    pub(crate) fn message(self) -> Bytes {
        let mut message = self.bytes("head");
        if self.has("middle") {
            message.extend(self.get("middle").filled());
        }
        message.extend(self.bytes("tail"));
        assert_eq!(blake3::hash(&message).as_bytes().as_slice(), self.bytes("blake3"), "{self}");
        message.into()
    }
}

/// Yields what a vector says, each string as one drawing, zeroes behind it.
pub(crate) struct Drawn(VecDeque<Vec<u8>>);

impl Drawn {
    pub(crate) fn new(strings: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self(strings.into_iter().collect())
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        panic!("only strings are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        panic!("only strings are drawn")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let next = self.0.pop_front().unwrap_or_else(|| panic!("more is drawn than given"));
        bytes.fill(0);
        bytes[..next.len()].copy_from_slice(&next);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}
