//! What the store's tests share: buckets and rows to store, and the
//! conformance suite that every engine passes.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod conformance;
pub(crate) mod power;

use blindbook::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, PrefixBits},
    epoch::Epoch,
    store::{Row, RowChange, RowKey},
};

pub(crate) fn bits(bits: u32) -> PrefixBits {
    PrefixBits::new(bits).unwrap()
}

pub(crate) fn number(number: u32, bits: PrefixBits) -> BucketNumber {
    BucketNumber::new(number, bits).unwrap()
}

/// A bucket that differs from its earlier versions in the pages that hold the
/// entries `changed`, as a claim does; every page tells which version wrote it.
pub(crate) fn changed(old: &Bucket, version: u64, changed: &[usize]) -> Bucket {
    let mut entries = old.entries().to_vec();
    for entry in changed {
        entries[entry * 192..(entry + 1) * 192].fill(version.to_le_bytes()[0]);
    }
    let signature = blake3_pair(old.number, version);
    Bucket::from_parts(old.epoch, old.prefix_bits, old.number, version, entries.into(), signature)
        .unwrap()
}

/// A bucket whose every byte follows from its number and version.
pub(crate) fn bucket(number: BucketNumber, bits: PrefixBits, version: u64) -> Bucket {
    let mut entries = vec![0; BUCKET_BYTES];
    let mut hash = blake3::Hasher::new();
    hash.update(&number.get().to_be_bytes()).update(&version.to_be_bytes());
    hash.finalize_xof().fill(&mut entries);
    let signature = blake3_pair(number, version);
    Bucket::from_parts(Epoch::FIRST, bits, number, version, entries.into(), signature).unwrap()
}

fn blake3_pair(number: BucketNumber, version: u64) -> [u8; 64] {
    let mut signature = [0; 64];
    blake3::Hasher::new()
        .update(b"signature")
        .update(&number.get().to_be_bytes())
        .update(&version.to_be_bytes())
        .finalize_xof()
        .fill(&mut signature);
    signature
}

pub(crate) fn key(name: u64) -> RowKey {
    let hash = blake3::hash(&name.to_be_bytes());
    RowKey(hash.as_bytes()[..16].try_into().unwrap())
}

pub(crate) fn row(name: u64, version: u64, bytes: usize) -> Row {
    let mut sealed = vec![version.to_le_bytes()[0]; bytes];
    for (byte, name) in sealed.iter_mut().zip(name.to_be_bytes()) {
        *byte = name;
    }
    Row { key: key(name), sealed }
}

pub(crate) fn put(name: u64, version: u64, bytes: usize) -> RowChange {
    RowChange::Put(row(name, version, bytes))
}

/// Rows of these names, ascending by key as the store wants and gives them.
pub(crate) fn rows(names: impl IntoIterator<Item = u64>, version: u64, bytes: usize) -> Vec<Row> {
    let mut rows: Vec<_> = names.into_iter().map(|name| row(name, version, bytes)).collect();
    rows.sort_by_key(|row| row.key);
    rows
}
