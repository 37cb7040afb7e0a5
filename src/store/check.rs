//! What every engine refuses, and how every engine numbers its change log: one
//! place, so that the engines cannot differ.

use super::{
    BulkBucket, Changes, MAX_META_BYTES, MAX_META_KEY_BYTES, MAX_ROW_BYTES, Row, RowChange,
    StoreError,
};
use crate::bucket::{Bucket, BucketNumber, PrefixBits};

/// Bits of a sequence that count the changes of one generation. The rest is the
/// generation, so that a checkpoint of an older generation is known as such.
const SEQUENCE_BITS: u32 = 40;

/// What a generation answers to writes once another has taken its place.
pub(super) const RETIRED: StoreError = StoreError::Misuse(
    "this generation of the directory was replaced by a newer one; open the current one",
);

/// The sequence before the first change of a generation, counted from 1.
pub(super) const fn base_sequence(generation: u64) -> u64 {
    generation.saturating_sub(1) << SEQUENCE_BITS
}

/// Refuses the number of a bucket that the generation has not.
pub(super) fn number(bits: PrefixBits, number: BucketNumber) -> Result<(), StoreError> {
    if u64::from(number.get()) < bits.buckets() {
        Ok(())
    } else {
        Err(StoreError::Misuse("the bucket lies outside this generation of the directory"))
    }
}

/// Refuses a partition that the generation has not.
pub(super) fn partition(bits: PrefixBits, partition: u32) -> Result<(), StoreError> {
    if partition < bits.partitions() {
        Ok(())
    } else {
        Err(StoreError::Misuse("the partition lies outside this generation of the directory"))
    }
}

/// Refuses a commit that no store may take.
pub(super) fn commit(
    bits: PrefixBits,
    bucket: &Bucket,
    expected_version: u64,
    rows: &[RowChange],
) -> Result<(), StoreError> {
    placed(bits, bucket)?;
    if bucket.version <= expected_version {
        return Err(StoreError::Misuse("the new version of a bucket must exceed the old one"));
    }
    rows.iter().try_for_each(|change| match change {
        RowChange::Put(row) => row_size(row),
        RowChange::Delete(_) => Ok(()),
    })
}

/// Refuses a bulk bucket that no store may take.
pub(super) fn bulk(bits: PrefixBits, bulk: &BulkBucket) -> Result<(), StoreError> {
    placed(bits, &bulk.bucket)?;
    if bulk.bucket.version == 0 {
        return Err(StoreError::Misuse("version 0 means that a bucket was never written"));
    }
    bulk.rows.iter().try_for_each(row_size)?;
    if bulk.rows.is_sorted_by(|a, b| a.key < b.key) {
        Ok(())
    } else {
        Err(StoreError::Misuse("the rows of a bulk write must ascend by key, each key once"))
    }
}

/// Refuses a metadata key that no store may take.
pub(super) fn meta_key(key: &str) -> Result<(), StoreError> {
    if key.len() <= MAX_META_KEY_BYTES {
        Ok(())
    } else {
        Err(StoreError::Misuse("a metadata key has at most 512 bytes"))
    }
}

/// Refuses a metadata entry that no store may take.
pub(super) fn meta(key: &str, value: &[u8]) -> Result<(), StoreError> {
    meta_key(key)?;
    if value.len() <= MAX_META_BYTES {
        Ok(())
    } else {
        Err(StoreError::Misuse("a metadata value has at most 8192 bytes"))
    }
}

fn placed(bits: PrefixBits, bucket: &Bucket) -> Result<(), StoreError> {
    if bucket.prefix_bits != bits {
        return Err(StoreError::Misuse("the bucket has other prefix bits than this generation"));
    }
    number(bits, bucket.number)
}

fn row_size(row: &Row) -> Result<(), StoreError> {
    if row.sealed.len() <= MAX_ROW_BYTES {
        Ok(())
    } else {
        Err(StoreError::Misuse("a sealed row has at most 4096 bytes"))
    }
}

/// The ends of a change log: it holds the changes after `floor`, up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogEnds {
    /// Where the generation began to count.
    pub(super) base: u64,
    /// What lies at or before it was cut, or never logged.
    pub(super) floor: u64,
    /// The last change; equal to `floor` when there is none.
    pub(super) last: u64,
}

impl LogEnds {
    /// Where to read on from a checkpoint; `Err` holds the answer when the log
    /// does not reach back to it. Such a caller reads everything anew, and what
    /// it then reads is at least as new as the end of the log.
    pub(super) const fn resume(self, checkpoint: u64) -> Result<u64, Changes> {
        let complete = match checkpoint {
            0 => self.floor == self.base,
            _ => self.floor <= checkpoint && checkpoint <= self.last,
        };
        if complete {
            Ok(if checkpoint == 0 { self.base } else { checkpoint })
        } else {
            Err(Changes { changes: Vec::new(), checkpoint: self.last, truncated: true })
        }
    }
}

/// The bucket numbers of a scan: `count` of them, or fewer at the end.
pub(super) fn scanned(
    bits: PrefixBits,
    first: BucketNumber,
    count: usize,
) -> Result<impl Iterator<Item = BucketNumber>, StoreError> {
    number(bits, first)?;
    Ok((first.get()..=u32::MAX)
        .map_while(move |number| BucketNumber::new(number, bits).ok())
        .take(count))
}
