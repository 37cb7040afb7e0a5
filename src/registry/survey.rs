//! The second pass of a load: counts exactly what the directory will hold, so
//! that its size and each provider's share follow from the data alone.

use std::{collections::BTreeMap, num::NonZeroUsize};

use super::{
    counts::Totals,
    error::LoadError,
    people::Person,
    progress::Progress,
    row::Providers,
    source::Source,
    spill::{Leaf, Spill},
    spilled::Spilled,
    work::{self, Stop, Unit},
};
use crate::{
    bucket::{MAX_MAPPINGS, PrefixBits},
    identifier::Provider,
};

/// How the records are to be counted.
pub(super) struct Surveying<'a> {
    pub(super) source: Option<&'a Source>,
    pub(super) provider: &'a Provider,
    /// Whether buckets without records are counted too.
    pub(super) everything: bool,
    pub(super) threads: NonZeroUsize,
    pub(super) spill: &'a Spill,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a Stop,
}

/// What was counted.
#[derive(Default)]
pub(super) struct Survey {
    /// What the surveyed buckets hold before the load.
    pub(super) before: Totals,
    /// Mappings that the load adds unless their buckets are full.
    pub(super) added: u64,
    /// Records that a later line supersedes.
    pub(super) superseded: u64,
    /// Records that are left.
    pub(super) records: u64,
}

impl Survey {
    fn add(&mut self, more: Self) {
        self.before.add(more.before);
        self.added += more.added;
        self.superseded += more.superseded;
        self.records += more.records;
    }
}

impl Surveying<'_> {
    pub(super) fn run(&self, leaves: &[Leaf]) -> Result<Survey, LoadError> {
        // Without a directory any partition of the placements will do.
        let bits = match self.source {
            Some(source) => source.bits(),
            None => PrefixBits::new(8)?,
        };
        let units = Unit::all(leaves, bits);
        let surveys =
            work::for_each(self.threads, self.stop, &units, |unit| self.unit(unit, bits))?;
        let mut survey = Survey::default();
        for more in surveys {
            survey.add(more);
        }
        Ok(survey)
    }

    fn unit(&self, unit: &Unit<'_>, bits: PrefixBits) -> Result<Survey, LoadError> {
        let (records, superseded) = unit.records(self.spill)?;
        let mut survey = Survey {
            superseded,
            records: u64::try_from(records.len()).unwrap_or(u64::MAX),
            ..Survey::default()
        };
        let mut providers = Providers::default();
        let mut with_records: BTreeMap<_, _> = work::by_bucket(&records, bits).collect();
        if self.everything {
            for number in unit.numbers(bits)? {
                with_records.entry(number).or_default();
            }
        }
        for (number, records) in with_records {
            self.stop.check()?;
            let people = match self.source {
                Some(source) => source.people(number, &mut providers)?,
                None => Vec::new(),
            };
            survey.before.add(Totals::of(&people));
            survey.added += self.added(records, &people);
        }
        self.progress.done(survey.records + superseded);
        Ok(survey)
    }

    /// How many mappings some records of one bucket add.
    fn added(&self, records: &[Spilled], people: &[Person]) -> u64 {
        let people: BTreeMap<_, _> = people.iter().map(|person| (&person.sii, person)).collect();
        let mut added = 0;
        for records in records.chunk_by(|a, b| a.sii == b.sii) {
            let person = records.first().and_then(|record| people.get(&record.sii));
            let new = records.iter().filter(|record| {
                person.is_none_or(|it| it.find(self.provider, &record.user).is_none())
            });
            let room = MAX_MAPPINGS - person.map_or(0, |it| it.placed().count().min(MAX_MAPPINGS));
            added += new.take(room).count();
        }
        u64::try_from(added).unwrap_or(u64::MAX)
    }
}
