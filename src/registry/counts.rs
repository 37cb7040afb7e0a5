//! How many mappings and identifiers a directory holds, kept as metadata:
//! exact after every completed load, known to be out of date after an
//! interrupted one, and never more than advice.

use std::collections::BTreeMap;

use super::people::Person;
use crate::{
    identifier::Provider,
    store::{Generations, StoreError},
};

const TOTALS: &str = "registry/counts";
const OF_PROVIDER: &str = "registry/counts/";
const FORMAT: u8 = 1;

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Mappings, of all providers.
    pub mappings: u64,
    /// Identifiers that have any.
    pub identifiers: u64,
}

/// What a directory holds, or a part of it, by provider.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) identifiers: u64,
    pub(super) mappings: BTreeMap<Provider, u64>,
}

impl Totals {
    pub(super) fn of(people: &[Person]) -> Self {
        let mut totals = Self::default();
        for person in people {
            totals.identifiers += u64::from(person.placed().next().is_some());
            for placed in person.placed() {
                let provider = placed.signed.mapping.ssi.provider();
                if let Some(count) = totals.mappings.get_mut(provider) {
                    *count += 1;
                } else {
                    totals.mappings.insert(provider.clone(), 1);
                }
            }
        }
        totals
    }

    pub(super) fn add(&mut self, more: Self) {
        self.identifiers += more.identifiers;
        for (provider, count) in more.mappings {
            *self.mappings.entry(provider).or_default() += count;
        }
    }

    pub(super) fn of_provider(&self, provider: &Provider) -> u64 {
        self.mappings.get(provider).copied().unwrap_or(0)
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { mappings: self.mappings.values().sum(), identifiers: self.identifiers }
    }
}

/// What the directory holds; `None` in a new directory and after an
/// interrupted load.
///
/// # Errors
/// The store failed.
pub async fn counts(generations: &dyn Generations) -> Result<Option<Counts>, StoreError> {
    let value = generations.meta_get(TOTALS).await?;
    Ok(value.as_deref().and_then(decode))
}

/// The totals by provider, unless they are out of date.
pub(super) async fn read(generations: &dyn Generations) -> Result<Option<Totals>, StoreError> {
    let Some(counts) = counts(generations).await? else { return Ok(None) };
    let Some(mappings) = parts(generations).await? else { return Ok(None) };
    let totals = Totals { identifiers: counts.identifiers, mappings };
    Ok(Some(totals).filter(|totals| totals.counts() == counts))
}

/// The mappings of each provider when they were last written down: near the
/// truth, and no more once the totals are out of date.
pub(super) async fn advice(
    generations: &dyn Generations,
) -> Result<BTreeMap<Provider, u64>, StoreError> {
    Ok(parts(generations).await?.unwrap_or_default())
}

async fn parts(
    generations: &dyn Generations,
) -> Result<Option<BTreeMap<Provider, u64>>, StoreError> {
    let mut mappings = BTreeMap::new();
    for (key, value) in generations.meta_list(OF_PROVIDER).await? {
        let provider = key.strip_prefix(OF_PROVIDER).map(Provider::from_canonical);
        let (Some(Ok(provider)), Ok(count)) = (provider, value.try_into()) else {
            return Ok(None);
        };
        mappings.insert(provider, u64::from_be_bytes(count));
    }
    Ok(Some(mappings))
}

/// Notes that the totals no longer hold.
pub(super) async fn forget(generations: &dyn Generations) -> Result<(), StoreError> {
    generations.meta_put(TOTALS, Vec::new()).await
}

/// Writes the totals of a directory that is complete and durable.
pub(super) async fn write(
    generations: &dyn Generations,
    totals: &Totals,
) -> Result<(), StoreError> {
    // While the parts change, the whole is unknown.
    forget(generations).await?;
    write_advice(generations, &totals.mappings).await?;
    generations.meta_put(TOTALS, encode(totals.counts())).await
}

/// Writes down the mappings of each provider, while the totals are out of date.
pub(super) async fn write_advice(
    generations: &dyn Generations,
    mappings: &BTreeMap<Provider, u64>,
) -> Result<(), StoreError> {
    let mut parts: BTreeMap<_, _> =
        mappings.iter().map(|(provider, count)| (key(provider), *count)).collect();
    for (key, _) in generations.meta_list(OF_PROVIDER).await? {
        parts.entry(key).or_default();
    }
    for (key, count) in parts {
        generations.meta_put(&key, count.to_be_bytes().to_vec()).await?;
    }
    Ok(())
}

fn key(provider: &Provider) -> String {
    format!("{OF_PROVIDER}{}", provider.as_str())
}

fn encode(counts: Counts) -> Vec<u8> {
    let [mappings, identifiers] = [counts.mappings, counts.identifiers].map(u64::to_be_bytes);
    [[FORMAT].as_slice(), &mappings, &identifiers].concat()
}

fn decode(value: &[u8]) -> Option<Counts> {
    let (&[FORMAT], rest) = value.split_first_chunk()? else { return None };
    let (mappings, identifiers) = rest.split_first_chunk()?;
    let identifiers = identifiers.try_into().ok()?;
    Some(Counts {
        mappings: u64::from_be_bytes(*mappings),
        identifiers: u64::from_be_bytes(identifiers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryGenerations;

    fn totals(counts: &[(&str, u64)], identifiers: u64) -> Totals {
        let provider = |name: &str| Provider::parse(name).unwrap();
        let mappings = counts.iter().map(|(name, count)| (provider(name), *count)).collect();
        Totals { identifiers, mappings }
    }

    #[tokio::test]
    async fn totals_hold_until_they_are_forgotten() {
        let generations = MemoryGenerations::default();
        assert_eq!(read(&generations).await.unwrap(), None);
        let first = totals(&[("a.example", 3), ("b.example", 4)], 5);
        write(&generations, &first).await.unwrap();
        assert_eq!(read(&generations).await.unwrap(), Some(first));
        let held = Counts { mappings: 7, identifiers: 5 };
        assert_eq!(counts(&generations).await.unwrap(), Some(held));

        forget(&generations).await.unwrap();
        assert_eq!(read(&generations).await.unwrap(), None);
        assert_eq!(counts(&generations).await.unwrap(), None);

        write(&generations, &totals(&[("b.example", 1)], 1)).await.unwrap();
        let known = read(&generations).await.unwrap().unwrap();
        assert_eq!(known, totals(&[("a.example", 0), ("b.example", 1)], 1));
    }

    #[tokio::test]
    async fn totals_that_contradict_each_other_are_not_believed() {
        let generations = MemoryGenerations::default();
        write(&generations, &totals(&[("a.example", 3)], 3)).await.unwrap();
        for (key, value) in [("registry/counts/a.example", vec![0; 8]), (TOTALS, vec![2; 17])] {
            generations.meta_put(key, value).await.unwrap();
            assert_eq!(read(&generations).await.unwrap(), None);
        }
    }
}
