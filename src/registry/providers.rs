//! The application providers of a directory and the keys that sign their
//! mappings, as metadata: the source of the signed provider list. A key gives way
//! only to one that it vouches for, since clients pin it.

use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use super::error::LoadError;
use crate::{
    identifier::Provider,
    store::{Generations, StoreError},
    wire::{self, KeySuccession},
};

const PREFIX: &str = "provider/";

const DAMAGED: StoreError = StoreError::Damaged("the list of providers holds something else");

const KEY_BYTES: usize = 32;

/// A key before and its signature over the one after.
const STEP_BYTES: usize = KEY_BYTES + 64;

/// Most keys before that are kept: as many as a list may hold.
const MAX_STEPS: usize = 64;

/// Why a provider's key is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum ProviderKeyError {
    /// It has another, which does not vouch for this one.
    #[error(
        "the provider has another key, which must vouch for the new one: clients that pinned it \
         trust no other"
    )]
    NotVouched,
    /// It had this key before.
    #[error("the provider had this key before: a key that gave way does not come back")]
    Former,
    /// The key is weak.
    #[error("the key has a small order: anybody could sign with it")]
    Weak,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What recording a key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRecorded {
    /// It is the provider's first.
    First,
    /// It is the one that is recorded.
    Same,
    /// It took the place of the one that vouched for it. Mappings that the one
    /// before signed must be published again.
    Succeeded,
}

/// Every provider that mappings were loaded for, with its key, ascending by
/// name.
///
/// # Errors
/// The store failed or is damaged.
pub async fn providers(
    generations: &dyn Generations,
) -> Result<Vec<(Provider, VerifyingKey)>, StoreError> {
    let listed = listed_providers(generations).await?;
    Ok(listed.into_iter().map(|provider| (provider.name, provider.key)).collect())
}

/// The same, and how earlier keys lead to those of now: what is published.
///
/// # Errors
/// The store failed or is damaged.
pub async fn listed_providers(
    generations: &dyn Generations,
) -> Result<Vec<wire::Provider>, StoreError> {
    let list = generations.meta_list(PREFIX).await?.into_iter().map(|(key, value)| {
        let name = key.strip_prefix(PREFIX).ok_or(DAMAGED)?;
        let name = Provider::from_canonical(name).map_err(|_| DAMAGED)?;
        let (key, successions) = read(&value)?;
        Ok(wire::Provider { name, key, successions })
    });
    list.collect()
}

/// Records keys of providers while the directory is served: one at a time.
#[derive(Clone)]
pub struct ProviderKeys {
    generations: Arc<dyn Generations>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for ProviderKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProviderKeys(..)")
    }
}

impl ProviderKeys {
    /// Those of a directory.
    #[must_use]
    pub fn new(generations: Arc<dyn Generations>) -> Self {
        Self { generations, turn: Arc::default() }
    }

    /// A provider's key of now.
    ///
    /// # Errors
    /// The store failed or is damaged.
    pub async fn get(&self, provider: &Provider) -> Result<Option<VerifyingKey>, StoreError> {
        recorded(&*self.generations, provider).await
    }

    /// Records a provider's key, durably: its first, or one that the key of now
    /// vouches for, with [`KeySuccession`]'s signature.
    ///
    /// # Errors
    /// [`ProviderKeyError`]; nothing changed.
    pub async fn record(
        &self,
        provider: &Provider,
        new: &VerifyingKey,
        vouched: Option<[u8; 64]>,
    ) -> Result<KeyRecorded, ProviderKeyError> {
        let _turn = self.turn.lock().await;
        if new.is_weak() {
            return Err(ProviderKeyError::Weak);
        }
        let name = key(provider);
        let Some(value) = self.generations.meta_get(&name).await? else {
            record(&*self.generations, provider, new).await?;
            return Ok(KeyRecorded::First);
        };
        let (old, mut steps) = read(&value)?;
        if old == *new {
            return Ok(KeyRecorded::Same);
        }
        if steps.iter().any(|step| step.old == *new) {
            return Err(ProviderKeyError::Former);
        }
        let signature = vouched.ok_or(ProviderKeyError::NotVouched)?;
        let step = KeySuccession { old, new: *new, signature };
        if !step.holds(provider) {
            return Err(ProviderKeyError::NotVouched);
        }
        steps.push(step);
        // A client that pinned a key of so long ago asks its provider.
        let surplus = steps.len().saturating_sub(MAX_STEPS);
        let mut value = new.as_bytes().to_vec();
        for step in steps.iter().skip(surplus) {
            value.extend_from_slice(step.old.as_bytes());
            value.extend_from_slice(&step.signature);
        }
        self.generations.meta_put(&name, value).await?;
        Ok(KeyRecorded::Succeeded)
    }
}

/// Refuses a key that is not the provider's; true if it has none yet.
pub(super) async fn check(
    generations: &dyn Generations,
    provider: &Provider,
    given: &VerifyingKey,
) -> Result<bool, LoadError> {
    match recorded(generations, provider).await? {
        None => Ok(true),
        Some(known) if known == *given => Ok(false),
        Some(_) => Err(LoadError::ProviderKey(provider.clone())),
    }
}

/// The key that signs a provider's mappings; `None` if it has none recorded.
pub(super) async fn recorded(
    generations: &dyn Generations,
    provider: &Provider,
) -> Result<Option<VerifyingKey>, StoreError> {
    let value = generations.meta_get(&key(provider)).await?;
    value.map(|value| Ok(read(&value)?.0)).transpose()
}

/// Records a provider's first key.
pub(super) async fn record(
    generations: &dyn Generations,
    provider: &Provider,
    given: &VerifyingKey,
) -> Result<(), StoreError> {
    generations.meta_put(&key(provider), given.as_bytes().to_vec()).await
}

fn key(provider: &Provider) -> String {
    format!("{PREFIX}{}", provider.as_str())
}

/// The key of now, then each key before, oldest first, with its signature over
/// the next.
fn read(value: &[u8]) -> Result<(VerifyingKey, Vec<KeySuccession>), StoreError> {
    let (now, rest) = value.split_first_chunk::<KEY_BYTES>().ok_or(DAMAGED)?;
    let now = checked(now)?;
    let (steps, surplus) = rest.as_chunks::<STEP_BYTES>();
    if !surplus.is_empty() {
        return Err(DAMAGED);
    }
    let mut successions = Vec::with_capacity(steps.len());
    let mut new = now;
    for step in steps.iter().rev() {
        let (old, signature) = step.split_first_chunk::<KEY_BYTES>().ok_or(DAMAGED)?;
        let (old, signature) = (checked(old)?, signature.try_into().map_err(|_| DAMAGED)?);
        successions.push(KeySuccession { old, new, signature });
        new = old;
    }
    successions.reverse();
    Ok((now, successions))
}

fn checked(bytes: &[u8; KEY_BYTES]) -> Result<VerifyingKey, StoreError> {
    let key = VerifyingKey::from_bytes(bytes).ok();
    key.filter(|key| !key.is_weak()).ok_or(DAMAGED)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::store::MemoryGenerations;

    #[tokio::test]
    async fn a_provider_keeps_its_first_key() {
        let generations = MemoryGenerations::default();
        let [first, second] =
            [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]).verifying_key());
        let [a, b] = ["a.example", "b.example"].map(|name| Provider::parse(name).unwrap());
        assert!(check(&generations, &b, &first).await.unwrap());
        record(&generations, &b, &first).await.unwrap();
        record(&generations, &a, &second).await.unwrap();
        assert!(!check(&generations, &b, &first).await.unwrap());
        let refused = check(&generations, &b, &second).await;
        assert!(matches!(refused, Err(LoadError::ProviderKey(provider)) if provider == b));
        assert_eq!(providers(&generations).await.unwrap(), [(a, second), (b, first)]);
    }

    #[tokio::test]
    async fn a_key_gives_way_only_to_one_that_it_vouches_for() {
        let generations: Arc<dyn Generations> = Arc::new(MemoryGenerations::default());
        let keys = ProviderKeys::new(generations.clone());
        let signers = [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32]));
        let public = [0, 1, 2].map(|n: usize| signers[n].verifying_key());
        let [a, b] = ["a.example", "b.example"].map(|name| Provider::parse(name).unwrap());
        let vouch = |of: &Provider, old: usize, new: usize| {
            Some(KeySuccession::sign(of, &signers[old], &public[new]).signature)
        };
        assert_eq!(keys.record(&a, &public[0], None).await.unwrap(), KeyRecorded::First);
        assert_eq!(keys.record(&a, &public[0], None).await.unwrap(), KeyRecorded::Same);
        for wrong in [None, Some([0; 64]), vouch(&b, 0, 1), vouch(&a, 1, 1), vouch(&a, 0, 2)] {
            let refused = keys.record(&a, &public[1], wrong).await;
            assert!(matches!(refused, Err(ProviderKeyError::NotVouched)));
        }
        assert_eq!(keys.get(&a).await.unwrap(), Some(public[0]));
        for (old, new) in [(0, 1), (1, 2)] {
            let recorded = keys.record(&a, &public[new], vouch(&a, old, new)).await.unwrap();
            assert_eq!(recorded, KeyRecorded::Succeeded);
        }
        let back = keys.record(&a, &public[0], vouch(&a, 2, 0)).await;
        assert!(matches!(back, Err(ProviderKeyError::Former)));
        let listed = listed_providers(&*generations).await.unwrap();
        assert_eq!((listed[0].key, listed[0].successions.len()), (public[2], 2));
        for pinned in &public {
            assert!(listed[0].follows(pinned));
        }
        assert!(!listed[0].follows(&SigningKey::from_bytes(&[9; 32]).verifying_key()));
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_keys_is_forgotten() {
        let generations: Arc<dyn Generations> = Arc::new(MemoryGenerations::default());
        let keys = ProviderKeys::new(generations.clone());
        let a = Provider::parse("a.example").unwrap();
        let signer = |n: u8| SigningKey::from_bytes(&[n; 32]);
        keys.record(&a, &signer(0).verifying_key(), None).await.unwrap();
        for n in 0..66 {
            let new = signer(n + 1).verifying_key();
            let vouched = KeySuccession::sign(&a, &signer(n), &new).signature;
            keys.record(&a, &new, Some(vouched)).await.unwrap();
        }
        let listed = listed_providers(&*generations).await.unwrap();
        assert_eq!(listed[0].successions.len(), MAX_STEPS);
        assert!(listed[0].follows(&signer(2).verifying_key()));
        assert!(!listed[0].follows(&signer(1).verifying_key()));
    }

    #[tokio::test]
    async fn what_is_no_key_is_damage() {
        let generations = MemoryGenerations::default();
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
        for value in [vec![1; 31], [key.as_bytes().as_slice(), &[0; 95]].concat()] {
            generations.meta_put("provider/a.example", value).await.unwrap();
            assert!(matches!(providers(&generations).await, Err(StoreError::Damaged(_))));
            let a = Provider::parse("a.example").unwrap();
            assert!(matches!(check(&generations, &a, &key).await, Err(LoadError::Store(_))));
        }
    }
}
