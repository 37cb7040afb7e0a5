//! How many mappings each provider has, kept up to date while the ledger runs:
//! a provider's share of a bucket follows from it. Written down as advice; exact
//! again once the ledger is closed, if it was when it was opened.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use crate::{
    bucket::PrefixBits,
    identifier::Provider,
    registry::{
        counts::{self, Totals},
        plan,
        row::Listing,
    },
    store::{Generations, StoreError},
};

/// What a change adds and takes away.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Delta {
    identifiers: i64,
    mappings: BTreeMap<Provider, i64>,
}

impl Delta {
    /// Counts an identifier's change.
    pub(super) fn count(&mut self, before: &Listing, after: &Listing) {
        for (listing, sign) in [(before, -1), (after, 1)] {
            for placed in listing.placed() {
                let provider = placed.signed.mapping.ssi.provider().clone();
                *self.mappings.entry(provider).or_default() += sign;
            }
            if listing.placed().next().is_some() {
                self.identifiers += sign;
            }
        }
    }
}

/// The totals of a running ledger.
pub(super) struct Running {
    /// Whether every change was counted since the totals were last exact.
    exact: bool,
    totals: Mutex<Totals>,
    /// Set once what is written down is known to be out of date.
    outdated: OnceCell<()>,
}

impl Running {
    pub(super) async fn open(generations: &dyn Generations) -> Result<Self, StoreError> {
        let known = counts::read(generations).await?;
        let exact = known.is_some();
        let totals = if let Some(totals) = known {
            totals
        } else {
            Totals { identifiers: 0, mappings: counts::advice(generations).await? }
        };
        Ok(Self { exact, totals: Mutex::new(totals), outdated: OnceCell::new() })
    }

    /// Most mappings of a provider in one bucket, with the one to be added.
    pub(super) fn share(&self, provider: &Provider, bits: PrefixBits) -> usize {
        let mappings = self.with(|totals| totals.of_provider(provider));
        plan::share(mappings.saturating_add(1), bits)
    }

    /// Notes, durably and before the first change, that what is written down
    /// will not hold.
    pub(super) async fn begin(&self, generations: &dyn Generations) -> Result<(), StoreError> {
        self.outdated.get_or_try_init(|| counts::forget(generations)).await.copied()
    }

    /// Counts a change that is done.
    pub(super) fn add(&self, delta: Delta) {
        self.with(|totals| {
            totals.identifiers = totals.identifiers.saturating_add_signed(delta.identifiers);
            for (provider, change) in delta.mappings {
                let count = totals.mappings.entry(provider).or_default();
                *count = count.saturating_add_signed(change);
            }
        });
    }

    /// Writes down how many mappings each provider has by now.
    pub(super) async fn note(&self, generations: &dyn Generations) -> Result<(), StoreError> {
        if self.outdated.initialized() {
            let mappings = self.with(|totals| totals.mappings.clone());
            counts::write_advice(generations, &mappings).await?;
        }
        Ok(())
    }

    /// Writes down the totals after the last change.
    pub(super) async fn close(&self, generations: &dyn Generations) -> Result<(), StoreError> {
        if !(self.exact && self.outdated.initialized()) {
            return self.note(generations).await;
        }
        let totals = self.with(|totals| totals.clone());
        counts::write(generations, &totals).await
    }

    fn with<T>(&self, look: impl FnOnce(&mut Totals) -> T) -> T {
        // Nothing panics while the lock is held.
        look(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
