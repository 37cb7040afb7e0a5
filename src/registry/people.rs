//! The people of one bucket, as its rows tell, and how records of a load are
//! merged into them: what is new, what changes, what does not fit.

use std::collections::{HashMap, hash_map::Entry as Slot};

use rand::CryptoRng;

use super::{
    error::LoadError,
    report::{At, Reason},
    row::Placed,
    spilled::Spilled,
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

/// One identifier and its mappings, by n.
pub(super) struct Person {
    pub(super) key: RowKey,
    pub(super) sii: Sii,
    pub(super) held: Vec<Held>,
    /// Its row as stored; `None` when that says something else by now.
    pub(super) stored: Option<Vec<u8>>,
}

impl Person {
    /// The mapping to a user of a provider.
    pub(super) fn find(&self, provider: &Provider, user: &str) -> Option<usize> {
        self.held.iter().position(|held| {
            let ssi = &held.placed.signed.mapping.ssi;
            ssi.user().as_str() == user && ssi.provider() == provider
        })
    }

    /// Makes a mapping the default, if it is not: the strictly greatest time.
    fn make_default(&mut self, n: usize, now_s: u32) {
        let since = |held: &Held| held.placed.signed.mapping.default_since;
        let others = self.held.iter().enumerate().filter(|(other, _)| *other != n);
        let others = others.map(|(_, held)| since(held)).max().unwrap_or(0);
        let Some(held) = self.held.get_mut(n) else { return };
        let mine = since(held);
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
        for held in all.iter().flat_map(|person| &person.held) {
            if !slots.take(held.placed.slot) {
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
                let taken =
                    known.and_then(|known| self.all.get(known)).map_or(0, |it| it.held.len());
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
                let at = match index.entry(key) {
                    Slot::Occupied(known) => *known.get(),
                    Slot::Vacant(vacant) => {
                        tally.identifiers += 1;
                        let sii = record.sii.clone();
                        self.all.push(Person { key, sii, held: Vec::new(), stored: None });
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
        let held = self.all.iter().flat_map(|person| &person.held);
        held.filter(|held| held.placed.signed.mapping.ssi.provider() == provider).count()
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
