//! The last pass of a load: merges the records of a few buckets into what they
//! hold, evaluates, signs and seals what is new, and builds the buckets anew.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rand::CryptoRng;

use super::{
    error::LoadError,
    people::{People, Rules, Tally},
    report::{At, Reason},
    row::{self, Providers},
    source::Source,
    spilled::Spilled,
    versions, work,
};
use crate::{
    bucket::{
        BUCKET_BYTES, Bucket, BucketNumber, ENTRY_BYTES, Entry, EntryKeys, Placement, PrefixBits,
        SignedMapping,
    },
    epoch::Epoch,
    identifier::Provider,
    keyring::Keyring,
    store::{BulkBucket, Row},
};

/// Buckets that are built together, at most: what one bulk write holds.
const SPAN_BUCKETS: usize = 16;

/// Records that are evaluated together, about: enough to fill the OPRF's
/// batches.
const SPAN_RECORDS: usize = 512;

/// How buckets are to be built.
pub(super) struct Building {
    pub(super) keyring: Arc<Keyring>,
    pub(super) provider: Provider,
    pub(super) provider_key: SigningKey,
    pub(super) now_s: u64,
    /// The prefix bits of the generation that is written.
    pub(super) bits: PrefixBits,
    /// Most mappings of the provider in one bucket.
    pub(super) share: usize,
    /// The generation before, of as many or fewer bits.
    pub(super) source: Option<Source>,
}

/// A bucket that is being built.
pub(super) struct Draft {
    number: BucketNumber,
    epoch: Epoch,
    version: u64,
    /// The entries as they are; `None` to begin with random bytes.
    kept: Option<Bytes>,
    placed: Vec<(u8, Entry)>,
    people: People,
}

impl Building {
    /// Whether the written generation is the one that is read.
    pub(super) fn in_place(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.bits() == self.bits)
    }

    /// The records of each bucket that may have to be written, in spans:
    /// every bucket of a new generation, of the current one those with
    /// records.
    pub(super) fn spans<'a>(
        &self,
        numbers: Vec<BucketNumber>,
        records: &'a [Spilled],
    ) -> Vec<Vec<(BucketNumber, &'a [Spilled])>> {
        let mut buckets: BTreeMap<_, &[Spilled]> = work::by_bucket(records, self.bits).collect();
        if !self.in_place() {
            for number in numbers {
                buckets.entry(number).or_default();
            }
        }
        let mut spans: Vec<Vec<_>> = Vec::new();
        let mut filled = 0;
        for (number, records) in buckets {
            match spans.last_mut() {
                Some(span) if span.len() < SPAN_BUCKETS && filled < SPAN_RECORDS => {
                    span.push((number, records));
                }
                _ => {
                    filled = 0;
                    spans.push(vec![(number, records)]);
                }
            }
            filled += records.len();
        }
        spans
    }

    /// What the buckets of a span hold, with their records merged in. Buckets
    /// of the current generation that stay as they are are left out.
    pub(super) fn drafts(
        &self,
        span: &[(BucketNumber, &[Spilled])],
        providers: &mut Providers,
        rng: &mut impl CryptoRng,
        mut refuse: impl FnMut(At, Reason),
    ) -> Result<(Vec<Draft>, Tally), LoadError> {
        let rules = Rules {
            keyring: &self.keyring,
            provider: &self.provider,
            now_s: u32::try_from(self.now_s).unwrap_or(u32::MAX),
            share: self.share,
        };
        let mut drafts = self.held(span, providers, rng)?;
        let mut tally = Tally::default();
        for (draft, (_, records)) in drafts.iter_mut().zip(span) {
            tally += draft.people.merge(records, &rules, rng, &mut refuse)?;
        }
        // A bucket that is kept has the version that it will have.
        drafts.retain(|draft| draft.kept.is_none() || draft.people.changed());
        Ok((drafts, tally))
    }

    /// What the buckets of a span hold before the load.
    fn held(
        &self,
        span: &[(BucketNumber, &[Spilled])],
        providers: &mut Providers,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Draft>, LoadError> {
        let mut drafts: Vec<Draft> = Vec::with_capacity(span.len());
        let Some(source) = &self.source else {
            drafts.extend(span.iter().map(|(number, _)| self.fresh(*number)));
            return Ok(drafts);
        };
        for (number, _) in span {
            if self.in_place() {
                drafts.push(match source.bucket(*number, providers)? {
                    None => self.fresh(*number),
                    Some((bucket, people)) => Draft {
                        number: *number,
                        epoch: bucket.epoch,
                        version: next(bucket.version)?,
                        kept: Some(bucket.entries().clone()),
                        placed: Vec::new(),
                        people: People::settled(people)?,
                    },
                });
            } else {
                drafts.push(self.fresh(*number));
            }
        }
        if !self.in_place() {
            self.move_in(source, &mut drafts, providers, rng)?;
        }
        Ok(drafts)
    }

    /// Moves entries from the buckets of fewer bits into those beneath them.
    /// An entry needs no new seal: neither its key nor its associated data
    /// names the bucket.
    fn move_in(
        &self,
        source: &Source,
        drafts: &mut [Draft],
        providers: &mut Providers,
        rng: &mut impl CryptoRng,
    ) -> Result<(), LoadError> {
        let shrunk = LoadError::Damaged("a directory is never split into fewer buckets");
        let mut rest = drafts;
        while let Some(first) = rest.first() {
            let Some(above) = first.number.above(self.bits, source.bits()) else {
                return Err(shrunk);
            };
            let beneath = rest
                .iter()
                .take_while(|draft| draft.number.above(self.bits, source.bits()) == Some(above))
                .count();
            let (beneath, behind) = rest.split_at_mut(beneath);
            rest = behind;
            let Some((bucket, people)) = source.bucket(above, providers)? else { continue };
            let (entries, _) = bucket.entries().as_chunks::<ENTRY_BYTES>();
            for draft in beneath.iter_mut() {
                draft.epoch = bucket.epoch;
                draft.version = draft.version.max(next(bucket.version)?);
            }
            // Also refuses two mappings in one slot.
            for mut person in People::settled(people)?.all {
                let number = Placement::of(&person.sii).bucket(self.bits);
                let Some(draft) = beneath.iter_mut().find(|draft| draft.number == number) else {
                    continue;
                };
                for held in person.slots_mut() {
                    let slot = draft
                        .people
                        .slots
                        .take_random(rng)
                        .ok_or(LoadError::Damaged("a bucket has more mappings than slots"))?;
                    let entry = entries.get(usize::from(*held));
                    let entry =
                        entry.ok_or(LoadError::Damaged("a slot lies outside its bucket"))?;
                    draft.placed.push((slot, Entry::from_bytes(*entry)));
                    *held = slot;
                }
                person.stored = None;
                draft.people.all.push(person);
            }
        }
        Ok(())
    }

    fn fresh(&self, number: BucketNumber) -> Draft {
        Draft {
            number,
            epoch: self.keyring.newest(),
            version: versions::first(self.now_s),
            kept: None,
            placed: Vec::new(),
            people: People::default(),
        }
    }

    /// Evaluates, signs, seals and builds.
    pub(super) fn finish(
        &self,
        mut drafts: Vec<Draft>,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<BulkBucket>, LoadError> {
        let mut jobs: BTreeMap<Epoch, Vec<(usize, usize)>> = BTreeMap::new();
        for (draft, at) in drafts.iter().zip(0..) {
            for (person, of) in draft.people.all.iter().zip(0..) {
                if person.held.iter().any(|held| held.seal) {
                    jobs.entry(draft.epoch).or_default().push((at, of));
                }
            }
        }
        for (epoch, jobs) in jobs {
            self.seal(epoch, &jobs, &mut drafts, rng)?;
        }
        drafts.into_iter().map(|draft| self.build(draft, rng)).collect()
    }

    /// Signs and seals what is new of some people, by draft and place in it.
    fn seal(
        &self,
        epoch: Epoch,
        jobs: &[(usize, usize)],
        drafts: &mut [Draft],
        rng: &mut impl CryptoRng,
    ) -> Result<(), LoadError> {
        let key = self.keyring.key(epoch).ok_or(LoadError::EpochMissing(epoch))?;
        let inputs: Vec<_> = jobs
            .iter()
            .filter_map(|(at, of)| Some(drafts.get(*at)?.people.all.get(*of)?.sii.as_bytes()))
            .collect();
        let outputs = key.evaluate_many(&inputs)?;
        for ((at, of), output) in jobs.iter().zip(outputs) {
            let Some(draft) = drafts.get_mut(*at) else { continue };
            let Some(person) = draft.people.all.get_mut(*of) else { continue };
            let keys = EntryKeys::of(output.expose());
            for (held, n) in person.held.iter_mut().zip(0..) {
                if !held.seal {
                    continue;
                }
                let signed = &mut held.placed.signed;
                if held.sign {
                    let mapping = signed.mapping.clone();
                    *signed = SignedMapping::sign(&person.sii, mapping, &self.provider_key);
                }
                let entry = keys.seal(self.keyring.directory(), epoch, n, signed, rng)?;
                draft.placed.push((held.placed.slot, entry));
            }
        }
        Ok(())
    }

    fn build(&self, draft: Draft, rng: &mut impl CryptoRng) -> Result<BulkBucket, LoadError> {
        let mut entries = if let Some(kept) = draft.kept {
            kept.to_vec()
        } else {
            let mut entries = vec![0; BUCKET_BYTES];
            rng.fill_bytes(&mut entries);
            entries
        };
        let (slots, _) = entries.as_chunks_mut::<ENTRY_BYTES>();
        for (slot, entry) in &draft.placed {
            if let Some(slot) = slots.get_mut(usize::from(*slot)) {
                *slot = *entry.as_bytes();
            }
        }
        let mut rows = Vec::with_capacity(draft.people.all.len());
        for mut person in draft.people.all {
            let key = person.key;
            let sealed = if let Some(stored) = person.stored.take() {
                stored
            } else {
                let row = row::encode(&person.into_listing())?;
                self.keyring.seal_row(&key.0, &row, rng)?
            };
            rows.push(Row { key, sealed });
        }
        rows.sort_unstable_by_key(|row| row.key);
        let bucket = Bucket::sign(
            draft.epoch,
            self.bits,
            draft.number,
            draft.version,
            entries.into(),
            self.keyring.directory(),
            self.keyring.identity(),
        )?;
        Ok(BulkBucket { bucket, rows })
    }
}

fn next(version: u64) -> Result<u64, LoadError> {
    versions::next(version).ok_or(LoadError::Damaged("a bucket has the greatest version there is"))
}
