//! The keys that issue tokens: one a day, made when it is first asked for, kept
//! sealed among the metadata, and gone for good when it redeems no more.

use std::sync::{Arc, PoisonError, RwLock};

use super::QuotaError;
use crate::{
    access::tokens::IssuerKeys,
    keyring::Keyring,
    store::{Generations, SpentTokens, StoreError},
    token::{Day, SecretKey},
};

/// Where the sealed keys lie, by day.
const KEYS_META: &str = "token-key/";

fn meta_key(day: Day) -> String {
    format!("{KEYS_META}{day}")
}

/// Keeps the keys. Clones share them.
#[derive(Clone)]
pub(super) struct Keys(Arc<Inner>);

struct Inner {
    generations: Arc<dyn Generations>,
    keyring: Arc<Keyring>,
    spent: Arc<dyn SpentTokens>,
    keys: RwLock<Arc<IssuerKeys>>,
    /// Held while a key is made.
    making: tokio::sync::Mutex<()>,
}

impl Keys {
    /// Reads the keys that were made.
    pub(super) async fn open(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        spent: Arc<dyn SpentTokens>,
    ) -> Result<Self, QuotaError> {
        let mut keys = IssuerKeys::default();
        for (name, sealed) in generations.meta_list(KEYS_META).await? {
            let day = name.strip_prefix(KEYS_META).and_then(|day| day.parse().ok()).map(Day::new);
            let day = day.ok_or(StoreError::Damaged("the name of a token key is malformed"))?;
            let key = keyring.open_token_key(day, &sealed).map_err(|_| QuotaError::Key)?;
            keys.add(day, key);
        }
        let (keys, making) = (RwLock::new(Arc::new(keys)), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Inner { generations, keyring, spent, keys, making })))
    }

    /// The keys that there are.
    pub(super) fn known(&self) -> Arc<IssuerKeys> {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys, that of today among them.
    pub(super) async fn of_today(&self, now_s: u64) -> Result<Arc<IssuerKeys>, QuotaError> {
        let known = self.known();
        if known.key(Day::at(now_s)).is_some() {
            return Ok(known);
        }
        // To its end, whatever becomes of the caller: a key is made once.
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.make(now_s).await })
            .await
            .unwrap_or(Err(QuotaError::Computation))?;
        Ok(self.known())
    }
}

impl Inner {
    async fn make(&self, now_s: u64) -> Result<(), QuotaError> {
        let _making = self.making.lock().await;
        let today = Day::at(now_s);
        let mut keys = {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            IssuerKeys::clone(&keys)
        };
        if keys.key(today).is_some() {
            return Ok(());
        }
        let made = tokio::task::spawn_blocking(|| SecretKey::generate(&mut rand::rng())).await;
        let key = made.ok().and_then(Result::ok).ok_or(QuotaError::Computation)?;
        let sealed = self.keyring.seal_token_key(today, &key, &mut rand::rng());
        let sealed = sealed.map_err(|_| QuotaError::Computation)?;
        // Durable before anybody has a token of it.
        self.generations.meta_put(&meta_key(today), sealed).await?;
        keys.add(today, key);
        let expired = keys.expire(now_s);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        // First the keys: a token whose key is there must be known as spent.
        self.generations.meta_remove(expired.into_iter().map(meta_key).collect()).await?;
        self.spent.forget_before(today.before().number()).await?;
        Ok(())
    }
}
