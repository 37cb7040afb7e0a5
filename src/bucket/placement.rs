//! Where an identifier lies: the unkeyed hash that places it, and the bucket
//! and partition that its leading bits number.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::PARTITION_BUCKET_BITS;
use crate::identifier::Sii;

/// Names a directory: the first 16 bytes of
/// `derive_key("blindbook v1 directory", identity public key)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirectoryId([u8; 16]);

impl DirectoryId {
    /// The directory of an identity key.
    #[must_use]
    pub fn of(identity: &VerifyingKey) -> Self {
        let mut id = [0; 16];
        blake3::Hasher::new_derive_key("blindbook v1 directory")
            .update(identity.as_bytes())
            .finalize_xof()
            .fill(&mut id);
        Self(id)
    }

    /// Reads the 16 bytes of a message.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A placement, prefix or bucket number that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// A placement has at most 32 usable bits.
    #[error("{0} prefix bits are more than the 32 that number a bucket")]
    PrefixBits(u32),
    /// The number needs more bits than the prefix has.
    #[error("the bucket number does not fit in {} bits", .0.get())]
    Number(PrefixBits),
}

/// How many leading bits of a placement number a bucket, 0 to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixBits(u8);

impl PrefixBits {
    /// One bucket for the whole directory.
    pub const ZERO: Self = Self(0);

    /// As many bits as given.
    ///
    /// # Errors
    /// More than 32.
    pub fn new(bits: u32) -> Result<Self, PlacementError> {
        match u8::try_from(bits) {
            Ok(bits) if bits <= 32 => Ok(Self(bits)),
            _ => Err(PlacementError::PrefixBits(bits)),
        }
    }

    /// The bits.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// How many buckets these bits number: 1 to 2^32.
    #[must_use]
    pub const fn buckets(self) -> u64 {
        1 << self.0
    }

    /// How many partitions these bits number: 1 to 2^16.
    #[must_use]
    pub const fn partitions(self) -> u32 {
        1 << self.0.saturating_sub(PARTITION_BUCKET_BITS)
    }

    /// Every bucket number, ascending.
    pub fn numbers(self) -> impl Iterator<Item = BucketNumber> {
        // 2^32 buckets at most, so the last number fits.
        (0..=u32::try_from(self.buckets() - 1).unwrap_or(u32::MAX)).map(BucketNumber)
    }
}

/// The hash of an identifier. Without key, salt or epoch on purpose: nested
/// prefixes of one hash never tell more than the longest of them.
///
/// The full placement is as good as the identifier and is treated like it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Placement([u8; 32]);

impl Placement {
    /// `derive_key("blindbook v1 placement", SII)`.
    #[must_use]
    pub fn of(sii: &Sii) -> Self {
        Self(blake3::derive_key("blindbook v1 placement", sii.as_bytes()))
    }

    /// A placement that some stored decoy has.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// All 32 bytes.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bucket of a directory with so many prefix bits, or the prefix of so
    /// many bits.
    #[must_use]
    pub const fn bucket(&self, bits: PrefixBits) -> BucketNumber {
        let [a, b, c, d, ..] = self.0;
        let leading = u32::from_be_bytes([a, b, c, d]);
        match leading.checked_shr(32 - bits.0 as u32) {
            Some(number) => BucketNumber(number),
            None => BucketNumber(0),
        }
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placement(..)")
    }
}

/// The number of a bucket: the leading bits of its entries' placements.
/// `Debug` prints nothing of it: a log must not hold it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketNumber(u32);

impl BucketNumber {
    /// The bucket of this number.
    ///
    /// # Errors
    /// The number needs more than `bits` bits.
    pub fn new(number: u32, bits: PrefixBits) -> Result<Self, PlacementError> {
        if u64::from(number) < bits.buckets() {
            Ok(Self(number))
        } else {
            Err(PlacementError::Number(bits))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The partition of this bucket: the leading `max(0, bits - 16)` bits.
    #[must_use]
    pub const fn partition(self, bits: PrefixBits) -> u32 {
        if bits.0 > PARTITION_BUCKET_BITS { self.0 >> PARTITION_BUCKET_BITS } else { 0 }
    }

    /// The numbers, in a directory of `deep` bits, of the buckets beneath this
    /// prefix of `bits` bits: first and how many. `None` if `deep < bits`.
    #[must_use]
    pub fn beneath(self, bits: PrefixBits, deep: PrefixBits) -> Option<(Self, u64)> {
        let more = u32::from(deep.0.checked_sub(bits.0)?);
        // 32 more bits only beneath the empty prefix, whose number is 0.
        Some((Self(self.0.checked_shl(more).unwrap_or(0)), 1 << more))
    }

    /// The prefix of `bits` bits above this bucket of a directory of `deep`
    /// bits. `None` if `deep < bits`.
    #[must_use]
    pub fn above(self, deep: PrefixBits, bits: PrefixBits) -> Option<Self> {
        let less = u32::from(deep.0.checked_sub(bits.0)?);
        Some(Self(self.0.checked_shr(less).unwrap_or(0)))
    }
}

impl fmt::Debug for BucketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketNumber(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(bits: u32) -> PrefixBits {
        PrefixBits::new(bits).unwrap()
    }

    #[test]
    fn a_bucket_is_the_leading_bits_of_the_placement() {
        let placement = Placement::from_bytes([0xa5; 32]);
        assert_eq!(placement.bucket(bits(0)).get(), 0);
        assert_eq!(placement.bucket(bits(1)).get(), 1);
        assert_eq!(placement.bucket(bits(4)).get(), 0xa);
        assert_eq!(placement.bucket(bits(17)).get(), 0x14b4b);
        assert_eq!(placement.bucket(bits(32)).get(), 0xa5a5_a5a5);
    }

    #[test]
    fn prefixes_nest() {
        let placement = Placement::from_bytes([0x5a; 32]);
        for deep in 0..=32 {
            for shallow in 0..=deep {
                let prefix = placement.bucket(bits(shallow));
                let number = placement.bucket(bits(deep));
                let (first, count) = prefix.beneath(bits(shallow), bits(deep)).unwrap();
                let offset = u64::from(number.get() - first.get());
                assert!(offset < count);
                assert_eq!(number.above(bits(deep), bits(shallow)).unwrap(), prefix);
            }
        }
        assert_eq!(placement.bucket(bits(3)).beneath(bits(3), bits(2)), None);
    }

    #[test]
    fn a_number_beyond_its_bits_is_refused() {
        assert_eq!(BucketNumber::new(4, bits(2)), Err(PlacementError::Number(bits(2))));
        assert!(BucketNumber::new(3, bits(2)).is_ok());
        assert!(BucketNumber::new(u32::MAX, bits(32)).is_ok());
        assert_eq!(PrefixBits::new(33), Err(PlacementError::PrefixBits(33)));
    }

    #[test]
    fn partitions_hold_65536_buckets() {
        assert_eq!(bits(16).partitions(), 1);
        assert_eq!(bits(17).partitions(), 2);
        assert_eq!(BucketNumber(0x1_ffff).partition(bits(17)), 1);
        assert_eq!(BucketNumber(0xffff).partition(bits(16)), 0);
        assert_eq!(bits(2).numbers().map(BucketNumber::get).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", BucketNumber(7)), "BucketNumber(..)");
        assert_eq!(format!("{:?}", Placement::from_bytes([7; 32])), "Placement(..)");
    }
}
