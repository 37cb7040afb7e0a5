//! The people of one bucket, as its rows tell, and how records of a load are
//! merged into them: what is new, what changes, what does not fit.

use std::collections::{HashMap, hash_map::Entry as Slot};

use rand::CryptoRng;

use super::{
    error::LoadError,
    report::{At, Reason},
    row::{Listing, Placed, Sequence},
    spilled::Spilled,
    verified::ProofRecord,
};
use crate::{
    bucket::{MAX_MAPPINGS, Mapping, SignedMapping, Slots},
    identifier::{Provider, Sii, Ssi, User},
    keyring::Keyring,
    store::RowKey,
};

/// One mapping of a person.
pub(super) struct Held {
    pub(super) placed: Placed,
    /// Its signature does not fit it yet.
    pub(super) sign: bool,
    /// Its entry does not fit it yet.
    pub(super) seal: bool,
}

/// One identifier and its mappings. A load adds to the open ones alone.
pub(super) struct Person {
    pub(super) key: RowKey,
    pub(super) sii: Sii,
    /// Those that everybody finds, by n.
    pub(super) held: Vec<Held>,
    pub(super) circles: Vec<Sequence>,
    pub(super) used: Vec<ProofRecord>,
    /// Its row as stored; `None` when that says something else by now.
    pub(super) stored: Option<Vec<u8>>,
}

impl Person {
    /// Somebody that the directory knows nothing of.
    pub(super) const fn new(key: RowKey, sii: Sii) -> Self {
        Self { key, sii, held: Vec::new(), circles: Vec::new(), used: Vec::new(), stored: None }
    }

    /// What a stored row says.
    pub(super) fn of(key: RowKey, listing: Listing, stored: Vec<u8>) -> Self {
        let Listing { sii, mut sequences, used } = listing;
        let open = sequences.iter().position(|sequence| sequence.circle.is_none());
        let open = open.map_or_else(Vec::new, |open| sequences.remove(open).placed);
        let held = open.into_iter().map(|placed| Held { placed, sign: false, seal: false });
        let stored = Some(stored);
        Self { key, sii, held: held.collect(), circles: sequences, used, stored }
    }

    /// What its row is to say.
    pub(super) fn into_listing(self) -> Listing {
        let placed: Vec<_> = self.held.into_iter().map(|held| held.placed).collect();
        let open = (!placed.is_empty()).then_some(Sequence { circle: None, placed });
        let sequences = open.into_iter().chain(self.circles).collect();
        Listing { sii: self.sii, sequences, used: self.used }
    }

    /// All mappings, in circles or not.
    pub(super) fn placed(&self) -> impl Iterator<Item = &Placed> {
        let circles = self.circles.iter().flat_map(|circle| &circle.placed);
        self.held.iter().map(|held| &held.placed).chain(circles)
    }

    /// All slots, to be moved.
    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = &mut u8> {
        let circles = self.circles.iter_mut().flat_map(|circle| &mut circle.placed);
        let held = self.held.iter_mut().map(|held| &mut held.placed);
        held.chain(circles).map(|placed| &mut placed.slot)
    }

    /// The mapping to a user of a provider.
    pub(super) fn find(&self, provider: &Provider, user: &str) -> Option<usize> {
        self.held.iter().position(|held| {
            let ssi = &held.placed.signed.mapping.ssi;
            ssi.user().as_str() == user && ssi.provider() == provider
        })
    }

    /// Makes a mapping the default, if it is not: the strictly greatest time.
    fn make_default(&mut self, n: usize, now_s: u32) {
        let since = |placed: &Placed| placed.signed.mapping.default_since;
        // The mapping itself is the n-th of all, too: the open ones come first.
        let others = self.placed().enumerate().filter(|(other, _)| *other != n);
        let others = others.map(|(_, placed)| since(placed)).max().unwrap_or(0);
        let Some(held) = self.held.get_mut(n) else { return };
        let mine = since(&held.placed);
        if mine > others {
            return;
        }
        let greatest = now_s.max(others.saturating_add(1));
        held.seal |= greatest != mine;
        held.placed.signed.mapping.default_since = greatest;
    }
}

/// On whose behalf records are merged, and how far.
pub(super) struct Rules<'a> {
    pub(super) keyring: &'a Keyring,
    pub(super) provider: &'a Provider,
    pub(super) now_s: u32,
    /// Most mappings of the provider in this bucket.
    pub(super) share: usize,
}

/// What merging did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) added: u64,
    pub(super) changed: u64,
    pub(super) unchanged: u64,
    pub(super) identifiers: u64,
    pub(super) refused: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.added += more.added;
        self.changed += more.changed;
        self.unchanged += more.unchanged;
        self.identifiers += more.identifiers;
        self.refused += more.refused;
    }
}

/// The people of one bucket and the slots of their entries.
#[derive(Default)]
pub(super) struct People {
    pub(super) all: Vec<Person>,
    pub(super) slots: Slots,
}

impl People {
    /// People whose entries stay where they are.
    ///
    /// # Errors
    /// Two mappings claim one slot.
    pub(super) fn settled(all: Vec<Person>) -> Result<Self, LoadError> {
        let mut slots = Slots::default();
        for placed in all.iter().flat_map(Person::placed) {
            if !slots.take(placed.slot) {
                return Err(LoadError::Damaged("two mappings share one slot"));
            }
        }
        Ok(Self { all, slots })
    }

    /// Merges the records of this bucket, earlier lines first. A record that
    /// does not fit is handed to `refuse` and changes nothing; of several that
    /// would be an identifier's default, the last one is.
    ///
    /// # Errors
    /// A user is none, which the first pass ruled out.
    pub(super) fn merge(
        &mut self,
        records: &[Spilled],
        rules: &Rules<'_>,
        rng: &mut impl CryptoRng,
        mut refuse: impl FnMut(At, Reason),
    ) -> Result<Tally, LoadError> {
        let mut tally = Tally::default();
        let mut index: HashMap<RowKey, usize> =
            self.all.iter().zip(0..).map(|(person, index)| (person.key, index)).collect();
        let mut ours = self.count(rules.provider);
        let mut records: Vec<_> = records.iter().collect();
        records.sort_unstable_by_key(|record| record.at);
        let mut met = Vec::with_capacity(records.len());
        let mut defaults = HashMap::new();
        for record in records {
            let key = RowKey(rules.keyring.row_key(&record.sii));
            let known = index.get(&key).copied();
            let person = known.and_then(|known| self.all.get_mut(known));
            let found = person.as_ref().and_then(|it| it.find(rules.provider, &record.user));
            let (at, n) = if let (Some(person), Some(known), Some(n)) = (person, known, found) {
                if let Some(held) = person.held.get_mut(n) {
                    held.update(record);
                }
                met.push((known, n, false));
                (known, n)
            } else {
                let known = known.and_then(|known| self.all.get(known));
                let taken = known.map_or(0, |it| it.placed().count());
                let reason = if taken >= MAX_MAPPINGS {
                    Err(Reason::TooManyMappings)
                } else if ours >= rules.share {
                    Err(Reason::ShareTaken)
                } else {
                    self.slots.take_random(rng).ok_or(Reason::BucketFull)
                };
                let slot = match reason {
                    Ok(slot) => slot,
                    Err(reason) => {
                        tally.refused += 1;
                        refuse(record.at, reason);
                        continue;
                    }
                };
                let held = Held::new(record, rules.provider, slot)?;
                ours += 1;
                // A row may outlive its mappings, for the proofs that it holds.
                tally.identifiers += u64::from(taken == 0);
                let at = match index.entry(key) {
                    Slot::Occupied(known) => *known.get(),
                    Slot::Vacant(vacant) => {
                        self.all.push(Person::new(key, record.sii.clone()));
                        *vacant.insert(self.all.len() - 1)
                    }
                };
                let Some(person) = self.all.get_mut(at) else { continue };
                person.held.push(held);
                met.push((at, person.held.len() - 1, true));
                (at, person.held.len() - 1)
            };
            if record.default {
                defaults.insert(at, n);
            }
        }
        for (at, n) in defaults {
            if let Some(person) = self.all.get_mut(at) {
                person.make_default(n, rules.now_s);
            }
        }
        for (at, n, new) in met {
            let Some(person) = self.all.get_mut(at) else { continue };
            let seal = person.held.get(n).is_some_and(|held| held.seal);
            match (new, seal) {
                (true, _) => tally.added += 1,
                (false, true) => tally.changed += 1,
                (false, false) => tally.unchanged += 1,
            }
            if seal {
                person.stored = None;
            }
        }
        Ok(tally)
    }

    /// Whether an entry has to be sealed.
    pub(super) fn changed(&self) -> bool {
        self.all.iter().flat_map(|person| &person.held).any(|held| held.seal)
    }

    fn count(&self, provider: &Provider) -> usize {
        let placed = self.all.iter().flat_map(Person::placed);
        placed.filter(|placed| placed.signed.mapping.ssi.provider() == provider).count()
    }
}

impl Held {
    fn new(record: &Spilled, provider: &Provider, slot: u8) -> Result<Self, LoadError> {
        let fault = |_| LoadError::Damaged("a temporary file holds a user that is none");
        let user = User::from_canonical(&record.user).map_err(fault)?;
        let ssi = Ssi::new(provider.clone(), user).map_err(fault)?;
        let mapping = Mapping {
            ssi,
            audience: record.audience,
            default_since: 0,
            // The provider vouches: nothing sweeps it.
            verified_until: 0,
            ttl_s: record.ttl_s,
        };
        let signed = SignedMapping { mapping, signature: [0; 64] };
        Ok(Self { placed: Placed { signed, slot }, sign: true, seal: true })
    }

    /// Takes over what is signed; the default is another matter.
    fn update(&mut self, record: &Spilled) {
        let mapping = &mut self.placed.signed.mapping;
        let before = (mapping.audience, mapping.ttl_s, mapping.verified_until);
        let after = (record.audience, record.ttl_s, 0);
        if before != after {
            (mapping.audience, mapping.ttl_s, mapping.verified_until) = after;
            self.sign = true;
            self.seal = true;
        }
    }
}
