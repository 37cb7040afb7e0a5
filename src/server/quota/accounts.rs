//! What partners have left. Balances are in memory; written down is how far each
//! may be spent, before it is: a few writes for each burst, and none for a call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::RwLock;

use super::QuotaError;
use crate::{
    access::quota::{Account, Charge, Counted, Leases, Limits, Meter, Outcome},
    clock::Clock,
    store::{Generations, StoreError},
};

/// Where leases are written down.
const LEASES_META: &str = "quota/";

/// The one account of all callers that are no partners. No partner is called so.
pub(super) const ANONYMOUS: &str = "";

/// One partner's account, and where it is written down.
pub(super) struct Shared {
    key: String,
    account: Mutex<Account>,
    /// Held while a lease is written down.
    writing: tokio::sync::Mutex<()>,
    generations: Arc<dyn Generations>,
}

/// What was charged, and to whom.
pub(in crate::server) struct Charged {
    shared: Arc<Shared>,
    counted: Counted,
    charge: Charge,
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that more may be spent. Runs to its end whatever becomes of
    /// the caller: of two writes the later must be the last.
    async fn lease(
        self: &Arc<Self>,
        counted: Counted,
        count: u64,
        now_s: u64,
    ) -> Result<(), StoreError> {
        let this = Arc::clone(self);
        let written = tokio::spawn(async move {
            let _writing = this.writing.lock().await;
            // Somebody may have done it meanwhile.
            let leases = this.account().lease(counted, count, now_s);
            this.generations.meta_put(&this.key, leases.encode()).await?;
            this.account().leased(leases);
            Ok(())
        });
        written.await.unwrap_or_else(|_| Err(StoreError::Disk("a quota was not written".into())))
    }

    async fn charge(
        self: &Arc<Self>,
        limits: &Limits,
        counted: Counted,
        count: u64,
        clock: &Clock,
    ) -> Result<Charged, QuotaError> {
        loop {
            let now_s = clock.now_s();
            let outcome = {
                let mut account = self.account();
                // The operator may have changed them.
                account.set_limits(limits);
                account.charge(counted, count, now_s)
            };
            match outcome {
                Outcome::Granted(charge) => {
                    return Ok(Charged { shared: Arc::clone(self), counted, charge });
                }
                Outcome::Refused(refused) => {
                    let retry_after_s = refused.retry_after_s;
                    return Err(QuotaError::Exhausted { counted, retry_after_s });
                }
                Outcome::NeedsLease => self.lease(counted, count, now_s).await?,
            }
        }
    }
}

/// All accounts that were used since the start.
pub(super) struct Accounts {
    generations: Arc<dyn Generations>,
    open: RwLock<HashMap<String, Arc<Shared>>>,
}

impl Accounts {
    pub(super) fn new(generations: Arc<dyn Generations>) -> Self {
        Self { generations, open: RwLock::default() }
    }

    async fn of(&self, alias: &str, limits: &Limits) -> Result<Arc<Shared>, QuotaError> {
        if let Some(shared) = self.open.read().await.get(alias) {
            return Ok(Arc::clone(shared));
        }
        let mut open = self.open.write().await;
        if let Some(shared) = open.get(alias) {
            return Ok(Arc::clone(shared));
        }
        let key = [LEASES_META, alias].concat();
        let leases = match self.generations.meta_get(&key).await? {
            Some(bytes) => Leases::decode(&bytes)
                .ok_or(StoreError::Damaged("the record of a quota is malformed"))?,
            None => Leases::default(),
        };
        let shared = Arc::new(Shared {
            key,
            account: Mutex::new(Account::new(limits, leases)),
            writing: tokio::sync::Mutex::default(),
            generations: self.generations.clone(),
        });
        open.insert(alias.to_owned(), Arc::clone(&shared));
        Ok(shared)
    }

    /// Charges, whole or not at all.
    pub(super) async fn charge(
        &self,
        alias: &str,
        limits: &Limits,
        counted: Counted,
        count: u64,
        clock: &Clock,
    ) -> Result<Charged, QuotaError> {
        self.of(alias, limits).await?.charge(limits, counted, count, clock).await
    }

    /// A meter as it stands.
    pub(super) async fn meter(
        &self,
        alias: &str,
        limits: &Limits,
        counted: Counted,
    ) -> Result<Meter, QuotaError> {
        let shared = self.of(alias, limits).await?;
        let mut account = shared.account();
        account.set_limits(limits);
        Ok(*account.meter(counted))
    }

    /// Writes down what is left, so that the next start loses nothing of it.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let open: Vec<_> = self.open.read().await.values().cloned().collect();
        for shared in open {
            let _writing = shared.writing.lock().await;
            let leases = shared.account().settle();
            shared.generations.meta_put(&shared.key, leases.encode()).await?;
        }
        Ok(())
    }
}

impl Charged {
    /// Gives it back: nothing was done for it.
    pub(in crate::server) fn refund(self, clock: &Clock) {
        self.shared.account().refund(self.counted, self.charge, clock.now_s());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::quota::Limit, store::MemoryGenerations};

    const NOW_S: u64 = 1_800_000_000;

    /// How many single elements are granted to many who ask at once.
    async fn granted(accounts: &Arc<Accounts>) -> u64 {
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let accounts = Arc::clone(accounts);
                tokio::spawn(async move {
                    let (limits, clock) = (Limits::DEFAULT, Clock::new(|| NOW_S));
                    let mut granted = 0;
                    let charge =
                        async || accounts.charge("a", &limits, Counted::Elements, 64, &clock).await;
                    while charge().await.is_ok() {
                        granted += 64;
                    }
                    granted
                })
            })
            .collect();
        let mut all = 0;
        for task in tasks {
            all += task.await.unwrap();
        }
        all
    }

    #[tokio::test]
    async fn limits_that_change_count_from_the_next_charge_and_forgive_nothing() {
        let accounts = Accounts::new(Arc::new(MemoryGenerations::default()));
        let clock = Clock::new(|| NOW_S);
        let of = |per_day, burst| Limits {
            elements: Limit::new(per_day, burst).unwrap(),
            ..Limits::DEFAULT
        };
        let charge = async |limits: &Limits, count| {
            accounts.charge("a", limits, Counted::Elements, count, &clock).await.is_ok()
        };
        let available = async |limits: &Limits| {
            let meter = accounts.meter("a", limits, Counted::Elements).await.unwrap();
            meter.available(NOW_S)
        };
        let (usual, less, more) = (of(86_400, 1000), of(86_400, 600), of(86_400, 2000));
        assert!(charge(&usual, 500).await);
        assert_eq!(available(&less).await, 100);
        assert!(!charge(&less, 101).await);
        assert_eq!(available(&more).await, 1500);
        assert!(charge(&more, 1500).await && !charge(&more, 1).await);
        // Back to what it was, there is no more than before.
        assert!(!charge(&usual, 1).await);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_at_once_get_the_burst_and_no_more_and_nor_does_another_start() {
        let generations: Arc<dyn Generations> = Arc::new(MemoryGenerations::default());
        let accounts = Arc::new(Accounts::new(generations.clone()));
        let burst = Limits::DEFAULT.elements.burst();
        assert_eq!(granted(&accounts).await, burst);
        // After a crash, and after a stop in order.
        let crashed = Arc::new(Accounts::new(generations.clone()));
        assert_eq!(granted(&crashed).await, 0);
        accounts.settle().await.unwrap();
        assert_eq!(granted(&Arc::new(Accounts::new(generations.clone()))).await, 0);
        // Few writes for many charges: a record, and nothing else.
        assert_eq!(generations.meta_list("quota/").await.unwrap().len(), 1);
        generations.meta_put("quota/a", vec![1]).await.unwrap();
        let damaged = Accounts::new(generations);
        let refused = damaged.meter("a", &Limits::DEFAULT, Counted::Elements).await;
        assert!(matches!(refused, Err(QuotaError::Store(StoreError::Damaged(_)))));
    }
}
