//! One bucket with its rows, opened to be changed, and the commit that comes of
//! it. What a change does not name keeps its every byte: a mapping is sealed
//! anew only where it, its slot or its n is another than before, and a slot
//! that becomes free is overwritten with random bytes.

use std::{collections::BTreeMap, sync::Arc};

use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{
    LedgerError,
    known::{PerProvider, Summary},
    totals::Delta,
};
use crate::{
    bucket::{
        BUCKET_BYTES, Bucket, BucketNumber, ENTRY_BYTES, Entry, EntryKeys, Placement, PrefixBits,
        Slots,
    },
    epoch::Epoch,
    identifier::{Provider, Sii},
    keyring::Keyring,
    registry::{
        circle,
        row::{self, Listing, Placed, Providers, Sequence},
        versions,
    },
    store::{Row, RowChange, RowKey, StoredRows},
};

/// A bucket and its rows, as the store gave them: of one version.
pub(super) struct Stored {
    pub(super) bits: PrefixBits,
    pub(super) number: BucketNumber,
    /// `None` while it was never written.
    pub(super) bucket: Option<Bucket>,
    pub(super) rows: StoredRows,
}

/// A bucket that is being changed.
pub(super) struct Draft {
    keyring: Arc<Keyring>,
    bits: PrefixBits,
    number: BucketNumber,
    epoch: Epoch,
    /// 0 while it was never written.
    expected_version: u64,
    version: u64,
    entries: Vec<u8>,
    slots: Slots,
    /// Those that were opened: all rows, or the only one that may change.
    listings: BTreeMap<RowKey, Listing>,
    /// The mappings of all other rows.
    others: PerProvider,
    /// What those that may have changed were before.
    before: BTreeMap<RowKey, Listing>,
    /// The entries changed, whether or not a row did.
    rebuilt: bool,
}

/// What a store is to commit.
pub(super) struct Commit {
    pub(super) bucket: Bucket,
    pub(super) expected_version: u64,
    pub(super) rows: Vec<RowChange>,
    pub(super) delta: Delta,
}

/// What a draft came to.
pub(super) struct Finished {
    /// `None` if nothing changed.
    pub(super) commit: Option<Commit>,
    /// What the rows come to once that is committed, and of which version.
    pub(super) version: u64,
    pub(super) summary: Summary,
}

/// The mappings of one sequence that are to be sealed, with their n.
struct Seals<'a> {
    input: Zeroizing<Vec<u8>>,
    placed: Vec<(u32, &'a Placed)>,
}

/// The rows of a bucket, by key.
pub(super) fn open_rows(
    keyring: &Keyring,
    stored: &Stored,
) -> Result<BTreeMap<RowKey, Listing>, LedgerError> {
    let mut providers = Providers::default();
    let mut listings = BTreeMap::new();
    for row in &stored.rows.rows {
        let text = keyring.open_row(&row.key.0, &row.sealed)?;
        let listing = row::decode(&text, &mut providers)?;
        // The seal binds a row to its name, not to its bucket.
        if keyring.row_key(&listing.sii) != row.key.0
            || Placement::of(&listing.sii).bucket(stored.bits) != stored.number
        {
            return Err(LedgerError::Damaged("a row lies in a bucket that is not its own"));
        }
        listings.insert(row.key, listing);
    }
    Ok(listings)
}

impl Draft {
    /// Opens a bucket to change it.
    ///
    /// # Errors
    /// A row does not open, or the rows contradict each other.
    pub(super) fn open(
        keyring: Arc<Keyring>,
        stored: Stored,
        now_s: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, LedgerError> {
        let listings = open_rows(&keyring, &stored)?;
        let mut slots = Slots::default();
        for placed in listings.values().flat_map(Listing::placed) {
            if !slots.take(placed.slot) {
                return Err(LedgerError::Damaged("two mappings share one slot"));
            }
        }
        Self::begin(keyring, stored, listings, PerProvider::default(), slots, now_s, rng)
    }

    /// Opens one row of a bucket to change it, which is the only one that was
    /// read; the others are known.
    ///
    /// # Errors
    /// The row does not open, or contradicts what is known.
    pub(super) fn open_one(
        keyring: Arc<Keyring>,
        stored: Stored,
        known: &Summary,
        now_s: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, LedgerError> {
        let listings = open_rows(&keyring, &stored)?;
        let others = known
            .others(listings.values())
            .ok_or(LedgerError::Damaged("a row contradicts the others of its bucket"))?;
        Self::begin(keyring, stored, listings, others, known.slots.clone(), now_s, rng)
    }

    /// Opens a bucket to build it anew from its rows, whatever its entries are:
    /// every mapping is sealed again, every other slot overwritten.
    ///
    /// # Errors
    /// A row does not open, or the rows hold more mappings than there are slots.
    pub(super) fn rebuild(
        keyring: Arc<Keyring>,
        stored: Stored,
        now_s: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, LedgerError> {
        let mut listings = open_rows(&keyring, &stored)?;
        let mut slots = Slots::default();
        let mut homeless: Vec<&mut Placed> = Vec::new();
        for listing in listings.values_mut() {
            for placed in listing.sequences.iter_mut().flat_map(|sequence| &mut sequence.placed) {
                if !slots.take(placed.slot) {
                    homeless.push(placed);
                }
            }
        }
        for placed in homeless {
            placed.slot = slots
                .take_random(rng)
                .ok_or(LedgerError::Damaged("a bucket has more mappings than slots"))?;
        }
        let others = PerProvider::default();
        let mut draft = Self::begin(keyring, stored, listings, others, slots, now_s, rng)?;
        rng.fill_bytes(&mut draft.entries);
        draft.rebuilt = true;
        let nothing =
            |(key, listing): (&RowKey, &Listing)| (*key, Listing::new(listing.sii.clone()));
        draft.before = draft.listings.iter().map(nothing).collect();
        Ok(draft)
    }

    fn begin(
        keyring: Arc<Keyring>,
        stored: Stored,
        listings: BTreeMap<RowKey, Listing>,
        others: PerProvider,
        slots: Slots,
        now_s: u64,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, LedgerError> {
        let Stored { bits, number, bucket, .. } = stored;
        let (epoch, expected_version, version, entries) = if let Some(bucket) = bucket {
            let version = versions::next(bucket.version)
                .ok_or(LedgerError::Damaged("a bucket has the greatest version there is"))?;
            (bucket.epoch, bucket.version, version, bucket.into_entries())
        } else {
            let mut entries = vec![0; BUCKET_BYTES];
            rng.fill_bytes(&mut entries);
            (keyring.newest(), 0, versions::first(now_s), entries)
        };
        let before = BTreeMap::new();
        Ok(Self {
            keyring,
            bits,
            number,
            epoch,
            expected_version,
            version,
            entries,
            slots,
            listings,
            others,
            before,
            rebuilt: false,
        })
    }

    /// How many mappings a provider has in this bucket.
    pub(super) fn count(&self, provider: &Provider) -> usize {
        let placed = self.listings.values().flat_map(Listing::placed);
        let theirs = placed.filter(|placed| placed.signed.mapping.ssi.provider() == provider);
        self.others.get(provider) + theirs.count()
    }

    /// Every identifier whose row was opened.
    pub(super) fn siis(&self) -> Vec<Sii> {
        self.listings.values().map(|listing| listing.sii.clone()).collect()
    }

    /// What is known of an identifier of this bucket, to be changed, and the
    /// slots of all.
    pub(super) fn edit(&mut self, sii: &Sii) -> (&mut Listing, &mut Slots) {
        let key = RowKey(self.keyring.row_key(sii));
        let listing = self.listings.entry(key).or_insert_with(|| Listing::new(sii.clone()));
        self.before.entry(key).or_insert_with(|| listing.clone());
        (listing, &mut self.slots)
    }

    /// Seals and signs what changed, if anything did.
    ///
    /// # Errors
    /// The seed of the bucket's epoch is gone; the other faults are ours.
    pub(super) fn finish(self, rng: &mut impl CryptoRng) -> Result<Finished, LedgerError> {
        let mut counts = self.others.clone();
        counts.add(self.listings.values());
        let summary = Summary { slots: self.slots.clone(), counts };
        let (old, new) = (self.expected_version, self.version);
        let commit = self.commit(rng)?;
        Ok(Finished { version: if commit.is_some() { new } else { old }, commit, summary })
    }

    fn commit(self, rng: &mut impl CryptoRng) -> Result<Option<Commit>, LedgerError> {
        let Self { keyring, listings, before, slots, mut entries, .. } = self;
        let mut rows = Vec::new();
        let mut delta = Delta::default();
        let mut seals = Vec::new();
        for (key, before) in &before {
            let Some(after) = listings.get(key).filter(|after| *after != before) else { continue };
            delta.count(before, after);
            rows.push(if after.is_empty() {
                RowChange::Delete(*key)
            } else {
                let sealed = keyring.seal_row(&key.0, &row::encode(after)?, rng)?;
                RowChange::Put(Row { key: *key, sealed })
            });
            for placed in before.placed().filter(|placed| !slots.contains(placed.slot)) {
                write(&mut entries, placed.slot, &Entry::random(rng));
            }
            seals.extend(after.sequences.iter().filter_map(|sequence| {
                let old = before.sequences.iter().find(|old| old.circle == sequence.circle);
                Seals::of(&after.sii, sequence, old)
            }));
        }
        if rows.is_empty() && !self.rebuilt {
            return Ok(None);
        }
        if !seals.is_empty() {
            let key = keyring.key(self.epoch).ok_or(LedgerError::EpochMissing(self.epoch))?;
            let inputs: Vec<_> = seals.iter().map(|seals| &seals.input).collect();
            let outputs = key.evaluate_many(&inputs)?;
            for (seals, output) in seals.iter().zip(outputs) {
                let keys = EntryKeys::of(output.expose());
                for (n, placed) in &seals.placed {
                    let directory = keyring.directory();
                    let entry = keys.seal(directory, self.epoch, *n, &placed.signed, rng)?;
                    write(&mut entries, placed.slot, &entry);
                }
            }
        }
        let bucket = Bucket::sign(
            self.epoch,
            self.bits,
            self.number,
            self.version,
            entries.into(),
            keyring.directory(),
            keyring.identity(),
        )?;
        Ok(Some(Commit { bucket, expected_version: self.expected_version, rows, delta }))
    }
}

impl<'a> Seals<'a> {
    /// What of a sequence differs from before, n by n; `None` if nothing does.
    fn of(sii: &Sii, after: &'a Sequence, before: Option<&Sequence>) -> Option<Self> {
        let mut old = before.iter().flat_map(|before| &before.placed);
        let mut placed: Vec<_> = (0..).zip(&after.placed).collect();
        // In the order of n, and past the end of the old ones everything is new.
        placed.retain(|(_, placed)| old.next() != Some(*placed));
        let input = || circle::oprf_input(sii, after.circle.as_ref());
        (!placed.is_empty()).then(|| Self { input: input(), placed })
    }
}

fn write(entries: &mut [u8], slot: u8, entry: &Entry) {
    let (slots, _) = entries.as_chunks_mut::<ENTRY_BYTES>();
    if let Some(slot) = slots.get_mut(usize::from(slot)) {
        *slot = *entry.as_bytes();
    }
}
