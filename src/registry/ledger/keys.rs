//! The recorded keys of providers, read once. A signature that a remembered key
//! does not verify is held against the key that is recorded by now.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use ed25519_dalek::VerifyingKey;

use super::LedgerError;
use crate::{
    bucket::SignedMapping,
    identifier::{Provider, Sii},
    registry::providers,
    store::Generations,
};

/// The keys that were read. Only providers that have one are remembered, so
/// that nobody can make it grow.
#[derive(Default)]
pub(super) struct Keys(RwLock<HashMap<Provider, VerifyingKey>>);

impl Keys {
    /// Forgets a provider's key.
    pub(super) fn forget(&self, provider: &Provider) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(provider);
    }

    /// Refuses a mapping that is not signed by the recorded key of its
    /// provider.
    pub(super) async fn check(
        &self,
        generations: &dyn Generations,
        sii: &Sii,
        signed: &SignedMapping,
    ) -> Result<(), LedgerError> {
        let provider = signed.mapping.ssi.provider();
        let remembered = self.remembered(provider);
        if remembered.is_some_and(|key| signed.verify(sii, &key).is_ok()) {
            return Ok(());
        }
        let recorded = self.recorded(generations, provider).await?;
        signed.verify(sii, &recorded).map_err(|_| LedgerError::Signature(provider.clone()))
    }

    /// The key that is recorded by now.
    pub(super) async fn recorded(
        &self,
        generations: &dyn Generations,
        provider: &Provider,
    ) -> Result<VerifyingKey, LedgerError> {
        let recorded = providers::recorded(generations, provider).await?;
        let recorded = recorded.ok_or_else(|| LedgerError::UnknownProvider(provider.clone()))?;
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(provider.clone(), recorded);
        Ok(recorded)
    }

    fn remembered(&self, provider: &Provider) -> Option<VerifyingKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(provider).copied()
    }
}
