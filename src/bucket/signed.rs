//! One bucket, signed by its directory.

use std::fmt;

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::{BUCKET_BYTES, BucketNumber, DirectoryId, ENTRY_BYTES, Entry, PrefixBits};
use crate::epoch::Epoch;

/// What is wrong with a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// A bucket holds exactly 256 entries of 192 bytes.
    #[error("a bucket has {BUCKET_BYTES} bytes of entries, this one has {0}")]
    Length(usize),
    /// The signature is not the directory's over this bucket.
    #[error("the bucket is not signed by the directory's identity key")]
    Signature,
}

/// One bucket of sealed entries.
#[derive(Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The epoch whose OPRF outputs seal the entries.
    pub epoch: Epoch,
    /// The directory's prefix bits.
    pub prefix_bits: PrefixBits,
    /// Which bucket of the directory this is.
    pub number: BucketNumber,
    /// Rises with every change.
    pub version: u64,
    entries: Bytes,
    signature: [u8; 64],
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Signs a bucket.
    ///
    /// # Errors
    /// `entries` has not [`BUCKET_BYTES`] bytes.
    pub fn sign(
        epoch: Epoch,
        prefix_bits: PrefixBits,
        number: BucketNumber,
        version: u64,
        entries: Bytes,
        directory: &DirectoryId,
        identity: &SigningKey,
    ) -> Result<Self, BucketError> {
        let mut bucket = Self::from_parts(epoch, prefix_bits, number, version, entries, [0; 64])?;
        bucket.signature = identity.sign(&bucket.signature_input(directory)).to_bytes();
        Ok(bucket)
    }

    /// A bucket as it was received or stored. Nothing is verified but the
    /// length.
    ///
    /// # Errors
    /// `entries` has not [`BUCKET_BYTES`] bytes.
    pub fn from_parts(
        epoch: Epoch,
        prefix_bits: PrefixBits,
        number: BucketNumber,
        version: u64,
        entries: Bytes,
        signature: [u8; 64],
    ) -> Result<Self, BucketError> {
        if entries.len() != BUCKET_BYTES {
            return Err(BucketError::Length(entries.len()));
        }
        Ok(Self { epoch, prefix_bits, number, version, entries, signature })
    }

    /// Verifies the directory's signature, strictly: no small-order keys, no
    /// malleable signatures.
    ///
    /// # Errors
    /// The signature does not hold.
    pub fn verify(
        &self,
        directory: &DirectoryId,
        identity: &VerifyingKey,
    ) -> Result<(), BucketError> {
        identity
            .verify_strict(
                &self.signature_input(directory),
                &Signature::from_bytes(&self.signature),
            )
            .map_err(|_| BucketError::Signature)
    }

    /// All entries, one after another.
    #[must_use]
    pub const fn entries(&self) -> &Bytes {
        &self.entries
    }

    /// The entries, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + Clone {
        let (entries, _) = self.entries.as_chunks::<ENTRY_BYTES>();
        entries.iter().copied().map(Entry::from_bytes)
    }

    /// The directory's signature.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The entries, to be changed: no copy if nobody else holds them.
    #[must_use]
    pub fn into_entries(self) -> Vec<u8> {
        self.entries.into()
    }

    fn signature_input(&self, directory: &DirectoryId) -> Vec<u8> {
        let mut input = Vec::with_capacity(96);
        input.extend_from_slice(b"blindbook v1 bucket");
        input.extend_from_slice(directory.as_bytes());
        input.extend_from_slice(&self.epoch.get().to_be_bytes());
        input.push(self.prefix_bits.get());
        input.extend_from_slice(&self.number.get().to_be_bytes());
        input.extend_from_slice(&self.version.to_be_bytes());
        input.extend_from_slice(blake3::hash(&self.entries).as_bytes());
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (Bucket, DirectoryId, VerifyingKey) {
        let identity = SigningKey::from_bytes(&[7; 32]);
        let directory = DirectoryId::of(&identity.verifying_key());
        let bits = PrefixBits::new(10).unwrap();
        let bucket = Bucket::sign(
            Epoch::FIRST,
            bits,
            BucketNumber::new(5, bits).unwrap(),
            9,
            vec![3; BUCKET_BYTES].into(),
            &directory,
            &identity,
        )
        .unwrap();
        (bucket, directory, identity.verifying_key())
    }

    #[test]
    fn a_signed_bucket_verifies_and_no_altered_one_does() {
        let (bucket, directory, key) = signed();
        assert_eq!(bucket.verify(&directory, &key), Ok(()));
        assert_eq!(bucket.iter().count(), super::super::BUCKET_ENTRIES);

        let mut altered = bucket.entries().to_vec();
        altered[BUCKET_BYTES - 1] ^= 1;
        let bits = bucket.prefix_bits;
        let other = BucketNumber::new(6, bits).unwrap();
        let alterations = [
            Bucket { entries: altered.into(), ..bucket.clone() },
            Bucket { version: 10, ..bucket.clone() },
            Bucket { number: other, ..bucket.clone() },
            Bucket { prefix_bits: PrefixBits::new(11).unwrap(), ..bucket.clone() },
            Bucket { epoch: Epoch::new(2).unwrap(), ..bucket.clone() },
            Bucket { signature: [0; 64], ..bucket.clone() },
        ];
        for altered in alterations {
            assert_eq!(altered.verify(&directory, &key), Err(BucketError::Signature));
        }
        let elsewhere = DirectoryId::from_bytes([0; 16]);
        assert_eq!(bucket.verify(&elsewhere, &key), Err(BucketError::Signature));
        let stranger = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert_eq!(bucket.verify(&directory, &stranger), Err(BucketError::Signature));
    }

    #[test]
    fn a_bucket_of_another_length_is_refused() {
        let (bucket, ..) = signed();
        for bytes in [0, BUCKET_BYTES - 1, BUCKET_BYTES + 1] {
            let refused = Bucket::from_parts(
                bucket.epoch,
                bucket.prefix_bits,
                bucket.number,
                1,
                vec![0; bytes].into(),
                [0; 64],
            );
            assert_eq!(refused.err(), Some(BucketError::Length(bytes)));
        }
    }
}
