//! The highest version seen of every bucket: what makes an older answer, or
//! two answers of one version, an error.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    ClientError,
    blocking::blocking,
    state::{Part, Parts},
};
use crate::bucket::{Bucket, BucketNumber, PrefixBits};

/// Bits, number, version, content.
const RECORD_BYTES: usize = 1 + 4 + 8 + 32;

/// A bucket's place: buckets of another depth are other buckets.
pub(super) type Place = (PrefixBits, BucketNumber);

/// What was seen of a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    version: u64,
    /// BLAKE3 of epoch and entries: one version has one content.
    content: [u8; 32],
}

impl Seen {
    fn of(bucket: &Bucket) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bucket.epoch.get().to_be_bytes());
        hasher.update(bucket.entries());
        Self { version: bucket.version, content: *hasher.finalize().as_bytes() }
    }

    /// Compares a received bucket with what had been seen before it was asked
    /// for. Anything seen since then may be newer for good reason.
    pub(super) fn check(bucket: &Bucket, before: Option<Self>) -> Result<Self, ClientError> {
        let now = Self::of(bucket);
        match before {
            Some(before) if now.version < before.version => Err(ClientError::BucketRolledBack),
            Some(before) if now.version == before.version && now.content != before.content => {
                Err(ClientError::BucketEquivocated)
            }
            _ => Ok(now),
        }
    }
}

#[derive(Default)]
struct Table {
    seen: HashMap<Place, Seen>,
    /// Counts the changes.
    turn: u64,
}

/// All that was seen, in memory and in the state.
pub(super) struct Versions {
    table: Mutex<Table>,
    /// The turn that the state holds. Locked while it is written, so that an
    /// older table never replaces a newer one.
    saved: Arc<tokio::sync::Mutex<u64>>,
    parts: Parts,
}

impl Versions {
    pub(super) async fn load(parts: &Parts) -> Result<Arc<Self>, ClientError> {
        let seen = match parts.load(Part::Versions).await? {
            Some(payload) => decode(&payload).ok_or(ClientError::StateDamaged(Part::Versions))?,
            None => HashMap::new(),
        };
        Ok(Arc::new(Self {
            table: Mutex::new(Table { seen, turn: 0 }),
            saved: Arc::default(),
            parts: parts.clone(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change is one insertion: a panic elsewhere leaves no half.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What had been seen of these buckets.
    pub(super) fn before(&self, bits: PrefixBits, numbers: &[BucketNumber]) -> Vec<Option<Seen>> {
        let table = self.table();
        numbers.iter().map(|number| table.seen.get(&(bits, *number)).copied()).collect()
    }

    /// Takes over what one answer showed, and returns once the state holds it.
    pub(super) async fn raise(
        self: &Arc<Self>,
        bits: PrefixBits,
        shown: impl IntoIterator<Item = (BucketNumber, Seen)>,
    ) -> Result<(), ClientError> {
        let turn = self.merge(bits, shown)?;
        let mut saved = Arc::clone(&self.saved).lock_owned().await;
        // One write serves all who waited for it.
        if *saved >= turn {
            return Ok(());
        }
        let this = Arc::clone(self);
        blocking(move || {
            let (payload, turn) = {
                let table = this.table();
                (encode(&table.seen), table.turn)
            };
            this.parts.store(Part::Versions, &payload)?;
            *saved = turn;
            Ok(())
        })
        .await
    }

    fn merge(
        &self,
        bits: PrefixBits,
        shown: impl IntoIterator<Item = (BucketNumber, Seen)>,
    ) -> Result<u64, ClientError> {
        let mut table = self.table();
        for (number, now) in shown {
            match table.seen.get(&(bits, number)) {
                Some(seen) if seen.version > now.version || *seen == now => {}
                Some(seen) if seen.version == now.version => {
                    return Err(ClientError::BucketEquivocated);
                }
                _ => {
                    table.seen.insert((bits, number), now);
                    table.turn += 1;
                }
            }
        }
        Ok(table.turn)
    }
}

fn encode(seen: &HashMap<Place, Seen>) -> Vec<u8> {
    let mut payload = Vec::with_capacity(seen.len() * RECORD_BYTES);
    for ((bits, number), seen) in seen {
        payload.push(bits.get());
        payload.extend_from_slice(&number.get().to_be_bytes());
        payload.extend_from_slice(&seen.version.to_be_bytes());
        payload.extend_from_slice(&seen.content);
    }
    payload
}

fn decode(payload: &[u8]) -> Option<HashMap<Place, Seen>> {
    let (records, []) = payload.as_chunks::<RECORD_BYTES>() else { return None };
    records
        .iter()
        .map(|record| {
            let ([bits], rest) = record.split_first_chunk()?;
            let (number, rest) = rest.split_first_chunk()?;
            let (version, content) = rest.split_first_chunk()?;
            let bits = PrefixBits::new((*bits).into()).ok()?;
            let number = BucketNumber::new(u32::from_be_bytes(*number), bits).ok()?;
            let version = u64::from_be_bytes(*version);
            Some(((bits, number), Seen { version, content: content.try_into().ok()? }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::{BUCKET_BYTES, DirectoryId},
        client::state::MemoryState,
        epoch::Epoch,
    };

    const BITS: PrefixBits = PrefixBits::ZERO;

    fn bucket(version: u64, fill: u8) -> Bucket {
        let number = BucketNumber::new(0, BITS).unwrap();
        let entries = vec![fill; BUCKET_BYTES].into();
        Bucket::from_parts(Epoch::FIRST, BITS, number, version, entries, [0; 64]).unwrap()
    }

    fn seen(version: u64, fill: u8) -> Seen {
        Seen::of(&bucket(version, fill))
    }

    #[test]
    fn an_older_version_and_a_second_content_of_one_version_are_refused() {
        let check = |version, fill| Seen::check(&bucket(version, fill), Some(seen(5, 1)));
        assert!(Seen::check(&bucket(0, 9), None).is_ok());
        assert!(check(5, 1).is_ok());
        assert!(check(6, 2).is_ok());
        assert!(matches!(check(4, 1), Err(ClientError::BucketRolledBack)));
        assert!(matches!(check(5, 2), Err(ClientError::BucketEquivocated)));
    }

    #[tokio::test]
    async fn versions_rise_never_fall_and_outlive_the_client() {
        let parts = Parts::new(Arc::new(MemoryState::new()), DirectoryId::from_bytes([1; 16]));
        let versions = Versions::load(&parts).await.unwrap();
        let number = BucketNumber::new(0, BITS).unwrap();
        versions.raise(BITS, [(number, seen(5, 1))]).await.unwrap();
        // An answer that was overtaken on its way.
        versions.raise(BITS, [(number, seen(4, 1))]).await.unwrap();
        assert!(matches!(
            versions.raise(BITS, [(number, seen(5, 2))]).await,
            Err(ClientError::BucketEquivocated)
        ));
        let again = Versions::load(&parts).await.unwrap();
        assert!(again.before(BITS, &[number]) == [Some(seen(5, 1))]);
        let deeper = PrefixBits::new(1).unwrap();
        assert!(again.before(deeper, &[number]) == [None]);
    }

    #[test]
    fn a_record_of_another_length_or_range_is_damage() {
        let place = (BITS, BucketNumber::new(0, BITS).unwrap());
        let good = encode(&HashMap::from([(place, seen(5, 1))]));
        assert!(decode(&good).is_some());
        assert!(decode(&good[1..]).is_none());
        for (offset, byte) in [(0, 33), (4, 1)] {
            let mut bad = good.clone();
            bad[offset] = byte;
            assert!(decode(&bad).is_none());
        }
    }
}
