//! The application providers of a directory and the keys that sign their
//! mappings, as metadata: the source of the signed provider list.

use ed25519_dalek::VerifyingKey;

use super::error::LoadError;
use crate::{
    identifier::Provider,
    store::{Generations, StoreError},
};

const PREFIX: &str = "provider/";

const DAMAGED: StoreError = StoreError::Damaged("the list of providers holds something else");

/// Every provider that mappings were loaded for, with its key, ascending by
/// name.
///
/// # Errors
/// The store failed or is damaged.
pub async fn providers(
    generations: &dyn Generations,
) -> Result<Vec<(Provider, VerifyingKey)>, StoreError> {
    let list = generations.meta_list(PREFIX).await?.into_iter().map(|(key, value)| {
        let name = key.strip_prefix(PREFIX).ok_or(DAMAGED)?;
        Ok((Provider::from_canonical(name).map_err(|_| DAMAGED)?, read(&value)?))
    });
    list.collect()
}

/// Refuses a key that is not the provider's; true if it has none yet.
pub(super) async fn check(
    generations: &dyn Generations,
    provider: &Provider,
    given: &VerifyingKey,
) -> Result<bool, LoadError> {
    match generations.meta_get(&key(provider)).await? {
        None => Ok(true),
        Some(known) if read(&known)? == *given => Ok(false),
        Some(_) => Err(LoadError::ProviderKey(provider.clone())),
    }
}

/// The key that signs a provider's mappings; `None` if it has none recorded.
pub(super) async fn recorded(
    generations: &dyn Generations,
    provider: &Provider,
) -> Result<Option<VerifyingKey>, StoreError> {
    generations.meta_get(&key(provider)).await?.map(|value| read(&value)).transpose()
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

fn read(value: &[u8]) -> Result<VerifyingKey, StoreError> {
    let bytes = value.try_into().map_err(|_| DAMAGED)?;
    let key = VerifyingKey::from_bytes(&bytes).ok();
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
    async fn what_is_no_key_is_damage() {
        let generations = MemoryGenerations::default();
        generations.meta_put("provider/a.example", vec![1; 31]).await.unwrap();
        assert!(matches!(providers(&generations).await, Err(StoreError::Damaged(_))));
        let a = Provider::parse("a.example").unwrap();
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
        assert!(matches!(check(&generations, &a, &key).await, Err(LoadError::Store(_))));
    }
}
