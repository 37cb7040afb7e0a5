//! Holds the whole directory against itself: every bucket opens, to whoever
//! looks its identifiers up, exactly what its rows say, and is signed.

use std::{collections::BTreeMap, fmt, sync::Arc, thread};

use ed25519_dalek::VerifyingKey;
use tokio::task::JoinSet;

use super::{
    LedgerError,
    draft::{self, Stored},
    read,
};
use crate::{
    bucket::{Bucket, BucketNumber, EntryKeys, Slots},
    identifier::Provider,
    keyring::Keyring,
    registry::{
        circle,
        providers::providers,
        row::{Listing, Sequence},
    },
    store::{Generations, Store, StoreError},
};

/// Faulty buckets that are listed; all are counted.
const LISTED: usize = 65_536;

/// How often a bucket is read that somebody else keeps changing.
const ATTEMPTS: u32 = 16;

/// What is wrong with a bucket; the first fault that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketFault {
    /// It was never written.
    #[error("the bucket is missing")]
    Missing,
    /// The store cannot read it.
    #[error("the store cannot read the bucket")]
    Unreadable,
    /// Bucket and rows are of different versions.
    #[error("the bucket and its rows are of different versions")]
    Version,
    /// Not signed by the directory, or signed as another bucket.
    #[error("the bucket is not signed by the directory as the bucket that it is")]
    Signature,
    /// Sealed under an epoch without seed.
    #[error("the bucket is sealed under an epoch whose seed is not among the keys")]
    Epoch,
    /// A row does not open, is malformed, or is another bucket's. Nothing can
    /// be rebuilt from it.
    #[error("a row does not open, or lies in a bucket that is not its own")]
    Row,
    /// A mapping is not signed by its provider's recorded key. Nothing can be
    /// rebuilt from it.
    #[error("a mapping is not signed by the recorded key of its provider")]
    Mapping,
    /// Two mappings in one slot.
    #[error("two mappings share one slot")]
    Slot,
    /// The entries say something else than the rows.
    #[error("the entries do not hold what the rows say")]
    Entries,
}

impl BucketFault {
    /// Whether the bucket can be rebuilt from its rows.
    #[must_use]
    pub const fn is_repairable(self) -> bool {
        match self {
            Self::Missing | Self::Signature | Self::Slot | Self::Entries => true,
            Self::Unreadable | Self::Version | Self::Epoch | Self::Row | Self::Mapping => false,
        }
    }
}

/// What a directory was found to hold.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Buckets that were verified.
    pub buckets: u64,
    /// Identifiers that have a mapping.
    pub identifiers: u64,
    /// Mappings, in circles or not.
    pub mappings: u64,
    /// Buckets with a fault.
    pub faulty: u64,
    /// The first of them, each with its fault.
    pub faults: Vec<(BucketNumber, BucketFault)>,
}

impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification")
            .field("buckets", &self.buckets)
            .field("mappings", &self.mappings)
            .field("faulty", &self.faulty)
            .finish_non_exhaustive()
    }
}

/// What one bucket holds: identifiers and mappings.
type Held = (u64, u64);

/// Verifies every bucket of the current generation on all cores; `progress`
/// hears of each. A directory that is being changed may be verified.
///
/// # Errors
/// [`LedgerError::NoDirectory`] if there is none, or the store failed. A fault
/// of a bucket is no error: it is in the answer.
pub async fn verify_directory(
    generations: &dyn Generations,
    keyring: Arc<Keyring>,
    progress: impl Fn(&Verification) + Send,
) -> Result<Verification, LedgerError> {
    let store = generations.current().await?.ok_or(LedgerError::NoDirectory)?;
    let keys: BTreeMap<_, _> = providers(generations).await?.into_iter().collect();
    let keys = Arc::new(keys);
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut found = Verification::default();
    let mut working: JoinSet<(BucketNumber, Result<Held, BucketFault>)> = JoinSet::new();
    let add = move |found: &mut Verification, number, result| {
        found.buckets += 1;
        match result {
            Ok((identifiers, mappings)) => {
                found.identifiers += identifiers;
                found.mappings += mappings;
            }
            Err(fault) => {
                found.faulty += 1;
                if found.faults.len() < LISTED {
                    found.faults.push((number, fault));
                }
            }
        }
        progress(found);
    };
    for number in store.prefix_bits().numbers() {
        let stored = match read_whole(&*store, number).await {
            Ok(Some(stored)) => stored,
            Ok(None) => {
                add(&mut found, number, Err(BucketFault::Version));
                continue;
            }
            Err(StoreError::Damaged(_)) => {
                add(&mut found, number, Err(BucketFault::Unreadable));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let (keyring, keys) = (Arc::clone(&keyring), Arc::clone(&keys));
        working.spawn_blocking(move || (number, verify(&keyring, &keys, &stored)));
        if working.len() > workers
            && let Some(done) = working.join_next().await
        {
            let (number, result) = done.map_err(|_| LedgerError::Worker)?;
            add(&mut found, number, result);
        }
    }
    while let Some(done) = working.join_next().await {
        let (number, result) = done.map_err(|_| LedgerError::Worker)?;
        add(&mut found, number, result);
    }
    found.faults.sort_unstable_by_key(|(number, _)| *number);
    Ok(found)
}

/// A bucket with its rows; `None` if it changes all the time.
async fn read_whole(store: &dyn Store, number: BucketNumber) -> Result<Option<Stored>, StoreError> {
    for _ in 0..ATTEMPTS {
        if let Some(stored) = read(store, number).await? {
            return Ok(Some(stored));
        }
    }
    Ok(None)
}

/// Verifies one bucket.
fn verify(
    keyring: &Keyring,
    keys: &BTreeMap<Provider, VerifyingKey>,
    stored: &Stored,
) -> Result<Held, BucketFault> {
    let listings = draft::open_rows(keyring, stored).map_err(|_| BucketFault::Row)?;
    let bucket = stored.bucket.as_ref().ok_or(BucketFault::Missing)?;
    let mut slots = Slots::default();
    for listing in listings.values() {
        for placed in listing.placed() {
            let signed = &placed.signed;
            let key = keys.get(signed.mapping.ssi.provider()).ok_or(BucketFault::Mapping)?;
            signed.verify(&listing.sii, key).map_err(|_| BucketFault::Mapping)?;
        }
    }
    let identity = keyring.identity().verifying_key();
    if bucket.number != stored.number || bucket.prefix_bits != stored.bits {
        return Err(BucketFault::Signature);
    }
    bucket.verify(keyring.directory(), &identity).map_err(|_| BucketFault::Signature)?;
    for placed in listings.values().flat_map(Listing::placed) {
        if !slots.take(placed.slot) {
            return Err(BucketFault::Slot);
        }
    }
    let sequences: Vec<_> = listings
        .values()
        .flat_map(|listing| listing.sequences.iter().map(move |sequence| (listing, sequence)))
        .collect();
    let key = keyring.key(bucket.epoch).ok_or(BucketFault::Epoch)?;
    let inputs: Vec<_> = sequences
        .iter()
        .map(|(listing, sequence)| circle::oprf_input(&listing.sii, sequence.circle.as_ref()))
        .collect();
    let outputs = key.evaluate_many(&inputs).map_err(|_| BucketFault::Row)?;
    for ((_, sequence), output) in sequences.iter().zip(outputs) {
        opens(keyring, bucket, &EntryKeys::of(output.expose()), sequence)?;
    }
    let with_mappings = listings.values().filter(|listing| listing.placed().next().is_some());
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Ok((count(with_mappings.count()), count(slots.count())))
}

/// Each mapping opens in its own slot, and a client finds these and no others.
fn opens(
    keyring: &Keyring,
    bucket: &Bucket,
    keys: &EntryKeys,
    sequence: &Sequence,
) -> Result<(), BucketFault> {
    let directory = keyring.directory();
    for (n, placed) in (0..).zip(&sequence.placed) {
        let entry = bucket.iter().nth(placed.slot.into()).ok_or(BucketFault::Entries)?;
        if keys.open(directory, bucket.epoch, n, &entry).ok().as_ref() != Some(&placed.signed) {
            return Err(BucketFault::Entries);
        }
    }
    let opened = keys.open_all(directory, bucket.epoch, &bucket.iter());
    if opened.damaged > 0 || !opened.mappings.iter().eq(sequence.placed.iter().map(|it| &it.signed))
    {
        return Err(BucketFault::Entries);
    }
    Ok(())
}
