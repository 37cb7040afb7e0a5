//! The metadata: the directory's small values, which generation is current, and
//! which partitions exist. Every write is durable when it returns.

use std::{
    path::Path,
    sync::{PoisonError, RwLock},
};

use super::{durable::Database, pages::joined};
use crate::{bucket::PrefixBits, store::StoreError};

const CACHE_BYTES: u64 = 8 << 20;

/// A value is split so that no leaf of sled's tree spills out of its log.
const PART_BYTES: usize = 4096;

const CURRENT: &[u8] = b"\x00current";
const STAGED: &[u8] = b"\x00staged";
const PARTITION: u8 = 0x01;
const VALUE: u8 = 0x02;
const REST: u8 = 0x03;

/// A generation and its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) bits: PrefixBits,
}

impl Generation {
    fn encode(self) -> [u8; 9] {
        joined(&[&self.number.to_be_bytes(), &[self.bits.get()]])
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        const DAMAGED: StoreError = StoreError::Damaged("the record of a generation is malformed");
        let (number, rest) = bytes.split_first_chunk::<8>().ok_or(DAMAGED)?;
        let &[bits] = rest else { return Err(DAMAGED) };
        let bits = PrefixBits::new(bits.into()).map_err(|_| DAMAGED)?;
        Ok(Self { number: u64::from_be_bytes(*number), bits })
    }
}

pub(super) struct Meta {
    database: Database,
    /// Held for writing until what is written is durable: nobody reads what a
    /// power loss could take back.
    gate: RwLock<()>,
}

impl Meta {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(path, CACHE_BYTES)?, gate: RwLock::new(()) })
    }

    fn write(&self, batch: ::sled::Batch) -> Result<(), StoreError> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.database.apply(batch, 0)?;
        self.database.sync()
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.database.usable()?;
        read(&self.database)
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|database| {
            let Some(value) = database.get(&tagged(VALUE, key))? else { return Ok(None) };
            whole(database, key, &value).map(Some)
        })
    }

    pub(super) fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let (head, rest) = value.split_at_checked(PART_BYTES).unwrap_or((value, &[]));
        let mut batch = ::sled::Batch::default();
        batch.insert(tagged(VALUE, key), head);
        if rest.is_empty() {
            batch.remove(tagged(REST, key));
        } else {
            batch.insert(tagged(REST, key), rest);
        }
        self.write(batch)
    }

    pub(super) fn remove(&self, keys: &[String]) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for key in keys {
            batch.remove(tagged(VALUE, key));
            batch.remove(tagged(REST, key));
        }
        self.write(batch)
    }

    pub(super) fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|database| {
            database
                .prefix(&tagged(VALUE, prefix))
                .map(|entry| {
                    let (key, value) = entry?;
                    let key = key.get(1..).and_then(|key| std::str::from_utf8(key).ok());
                    let key = key.ok_or(StoreError::Damaged("a metadata key is malformed"))?;
                    Ok((key.to_owned(), whole(database, key, &value)?))
                })
                .collect()
        })
    }

    fn generation(&self, key: &[u8]) -> Result<Option<Generation>, StoreError> {
        self.read(|database| database.get(key)?.map(|bytes| Generation::decode(&bytes)).transpose())
    }

    pub(super) fn current(&self) -> Result<Option<Generation>, StoreError> {
        self.generation(CURRENT)
    }

    pub(super) fn staged(&self) -> Result<Option<Generation>, StoreError> {
        self.generation(STAGED)
    }

    pub(super) fn stage(&self, staged: Generation) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        batch.insert(STAGED, &staged.encode());
        self.write(batch)
    }

    /// Makes the staged generation current. The record of what was staged
    /// stays: the next one takes a higher number.
    pub(super) fn promote(&self, staged: Generation) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        batch.insert(CURRENT, &staged.encode());
        self.write(batch)
    }

    /// Whether a partition was created: it then exists on disk, whole.
    pub(super) fn has_partition(
        &self,
        generation: u64,
        partition: u32,
    ) -> Result<bool, StoreError> {
        let key = partition_key(generation, Some(partition));
        self.read(|database| Ok(database.get(&key)?.is_some()))
    }

    pub(super) fn add_partition(&self, generation: u64, partition: u32) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        batch.insert(partition_key(generation, Some(partition)), &[]);
        self.write(batch)
    }

    /// Forgets the partitions of a generation that is gone.
    pub(super) fn drop_partitions(&self, generation: u64) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        let mut any = false;
        for entry in self.database.prefix(&partition_key(generation, None)) {
            batch.remove(entry?.0);
            any = true;
        }
        if any { self.write(batch) } else { Ok(()) }
    }
}

fn tagged(tag: u8, key: &str) -> Vec<u8> {
    [&[tag], key.as_bytes()].concat()
}

fn partition_key(generation: u64, partition: Option<u32>) -> Vec<u8> {
    let mut key = vec![PARTITION];
    key.extend_from_slice(&generation.to_be_bytes());
    key.extend(partition.map(u32::to_be_bytes).into_iter().flatten());
    key
}

fn whole(database: &Database, key: &str, head: &[u8]) -> Result<Vec<u8>, StoreError> {
    let rest = match head.len() {
        PART_BYTES => database.get(&tagged(REST, key))?,
        _ => None,
    };
    Ok([head, rest.as_deref().unwrap_or_default()].concat())
}
