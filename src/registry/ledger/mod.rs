//! The ledger: the operations of a registry that lives, each one commit of the
//! one bucket that its identifier lies in, durable when it returns. The next
//! fetch of the bucket shows it; a refusal changes nothing.
//!
//! Whoever calls has established who asks: the ledger checks what is signed and
//! what was proved, not who sent it. The time is passed in.

mod change;
mod commit;
mod draft;
mod error;
mod keys;
mod known;
mod list;
mod totals;
mod turns;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{RwLock, Semaphore};

use self::{
    change::Checked,
    commit::Opening,
    draft::{Draft, Stored},
    keys::Keys,
    known::Known,
    totals::Running,
    turns::Turns,
};
pub use self::{
    change::{Claim, Claimed, MAX_VERIFIED_S, Port, Ported, Which},
    error::LedgerError,
    list::{Mapped, Page, PageToken},
    verify::{BucketFault, Verification, verify_directory},
};
use super::verified::VerifiedControl;
use crate::{
    bucket::{Audience, BucketNumber, Placement, SignedMapping},
    identifier::{Provider, Sii, User},
    keyring::Keyring,
    store::{Generations, RowKey, Store, StoreError},
};

/// The live registry of the current generation of a directory.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    generations: Arc<dyn Generations>,
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    turns: Turns,
    /// Whoever reads a bucket and computes on it.
    working: Arc<Semaphore>,
    keys: Keys,
    known: Known,
    totals: Running,
    /// Whether changes are taken; locked for writing once none is under way.
    open: RwLock<bool>,
    observer: Box<Observer>,
}

/// Hears of every bucket that was committed, before the change is acknowledged.
type Observer = dyn Fn(BucketNumber) + Send + Sync;

/// A stretch of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Mappings that lapsed and are gone.
    pub removed: usize,
    /// Buckets that are damaged, and were left as they are.
    pub skipped: usize,
    /// Where to go on; `None` at the end of the directory.
    pub next: Option<BucketNumber>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger(..)")
    }
}

impl Ledger {
    /// Opens the registry of a directory that nobody else reads meanwhile.
    ///
    /// # Errors
    /// [`LedgerError::NoDirectory`] if there is none, or the store failed.
    pub async fn open(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
    ) -> Result<Self, LedgerError> {
        Self::open_observed(generations, keyring, |_| {}).await
    }

    /// Opens the registry of a directory that is read while it changes:
    /// `committed` hears of every bucket that was committed, after it is durable
    /// and before the change is acknowledged. It must return at once.
    ///
    /// # Errors
    /// [`LedgerError::NoDirectory`] if there is none, or the store failed.
    pub async fn open_observed(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        committed: impl Fn(BucketNumber) + Send + Sync + 'static,
    ) -> Result<Self, LedgerError> {
        let store = generations.current().await?.ok_or(LedgerError::NoDirectory)?;
        let totals = Running::open(&*generations).await?;
        Ok(Self(Arc::new(Inner {
            generations,
            store,
            keyring,
            turns: Turns::default(),
            working: commit::working(),
            keys: Keys::default(),
            known: Known::default(),
            totals,
            open: RwLock::new(true),
            observer: Box::new(committed),
        })))
    }

    /// Maps an identifier to a user of the provider that its proof was made
    /// for, or renews the mapping that is there. The proof is used up.
    ///
    /// # Errors
    /// Anything that [`LedgerError`] says of the request, the proof, or the
    /// room that there is.
    pub async fn claim(&self, now_s: u64, claim: Claim) -> Result<Claimed, LedgerError> {
        let signed = self.0.checked(&claim, now_s).await?;
        let sii = claim.verified.sii().clone();
        self.change(&sii, now_s, move |inner, draft| {
            let checked = inner.within_share(&signed);
            change::claim(draft, &claim, &checked, 0, now_s)
        })
        .await
    }

    /// Removes a provider's own mapping to a user, in whatever circles it is
    /// found; how many that were.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`] if there is none.
    pub async fn release_own(
        &self,
        now_s: u64,
        provider: Provider,
        sii: &Sii,
        user: User,
    ) -> Result<usize, LedgerError> {
        let of = sii.clone();
        self.change(sii, now_s, move |_, draft| change::release_own(draft, &of, &provider, &user))
            .await
    }

    /// Removes every mapping of an identifier, on the word of an authority over
    /// it; how many that were, none included.
    ///
    /// # Errors
    /// The directory or its store failed.
    pub async fn release_all(&self, now_s: u64, sii: &Sii) -> Result<usize, LedgerError> {
        let of = sii.clone();
        self.change(sii, now_s, move |_, draft| Ok(change::remove(draft, &of, |_, _| false).len()))
            .await
    }

    /// Removes any one mapping, on the word of whoever controls the identifier.
    /// The proof is used up.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], or what is wrong with the proof.
    pub async fn release(
        &self,
        now_s: u64,
        control: VerifiedControl,
        which: Which,
    ) -> Result<(), LedgerError> {
        let sii = control.sii().clone();
        self.change(&sii, now_s, move |_, draft| change::release(draft, &control, &which, now_s))
            .await
    }

    /// Makes a mapping the default, on the word of whoever controls the
    /// identifier. The proof is used up.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], or what is wrong with the proof.
    pub async fn set_default(
        &self,
        now_s: u64,
        control: VerifiedControl,
        which: Which,
    ) -> Result<(), LedgerError> {
        let sii = control.sii().clone();
        self.change(&sii, now_s, move |_, draft| {
            change::set_default(draft, &control, &which, now_s)
        })
        .await
    }

    /// Changes whom a mapping is meant for, as its provider signed it anew:
    /// nothing else of it may differ.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`], [`LedgerError::UnknownProvider`] or
    /// [`LedgerError::Signature`].
    pub async fn set_audience(
        &self,
        now_s: u64,
        sii: &Sii,
        which: Which,
        audience: Audience,
        signature: [u8; 64],
    ) -> Result<(), LedgerError> {
        let key = self.0.keys.recorded(&*self.0.generations, which.ssi.provider()).await?;
        let of = sii.clone();
        self.change(sii, now_s, move |_, draft| {
            change::set_audience(draft, &of, &which, audience, signature, &key)
        })
        .await
    }

    /// Moves an identifier from one operator to another, in one step: what the
    /// old one had is gone and what the new one claims is there, or nothing is
    /// changed. Mappings of other providers stay.
    ///
    /// # Errors
    /// As [`Self::claim`]; [`LedgerError::PortOfAnother`] and
    /// [`LedgerError::PortToItself`] if the parts do not fit.
    pub async fn port(&self, now_s: u64, port: Port) -> Result<Ported, LedgerError> {
        let mut signed = None;
        if let Some(to) = &port.to {
            if *to.verified.sii() != port.sii {
                return Err(LedgerError::PortOfAnother);
            }
            if port.from.as_ref() == Some(to.verified.provider()) {
                return Err(LedgerError::PortToItself);
            }
            signed = Some(self.0.checked(to, now_s).await?);
        }
        let sii = port.sii.clone();
        self.change(&sii, now_s, move |inner, draft| {
            let checked = signed.as_ref().map(|signed| inner.within_share(signed));
            change::port(draft, &port, checked.as_ref(), now_s)
        })
        .await
    }

    /// A provider's own mappings: about `limit` of them, more where a bucket
    /// holds more and fewer where it looked through many buckets.
    ///
    /// # Errors
    /// [`LedgerError::PageToken`], or the directory or its store failed.
    pub async fn list(
        &self,
        provider: &Provider,
        from: Option<PageToken>,
        limit: usize,
    ) -> Result<Page, LedgerError> {
        let bits = self.0.store.prefix_bits();
        let mut next = match from {
            Some(token) => Some(token.number(bits)?),
            None => BucketNumber::new(0, bits).ok(),
        };
        let mut mappings = Vec::new();
        for _ in 0..list::PAGE_BUCKETS {
            let Some(number) = next else { break };
            let provider = provider.clone();
            mappings.extend(
                self.0
                    .look(number, move |keyring, stored| {
                        list::of_provider(keyring, stored, &provider)
                    })
                    .await?,
            );
            next = self.0.after(number);
            if mappings.len() >= limit {
                break;
            }
        }
        Ok(Page { mappings, next: next.map(|number| PageToken::new(bits, number)) })
    }

    /// All mappings of an identifier, for whoever controls it. The proof must
    /// be unused and is not used up: it may then release or re-order one.
    ///
    /// # Errors
    /// What is wrong with the proof, or the directory or its store failed.
    pub async fn list_control(
        &self,
        now_s: u64,
        control: &VerifiedControl,
    ) -> Result<Vec<Mapped>, LedgerError> {
        let number = self.0.bucket_of(control.sii());
        let control = control.clone();
        self.0
            .look(number, move |keyring, stored| list::of_control(keyring, stored, &control, now_s))
            .await
    }

    /// Removes what lapsed in up to `count` buckets, from the first or from
    /// where an earlier stretch ended: each in a commit of its own, so that
    /// nobody waits for the whole. A damaged bucket keeps nothing but itself from
    /// being swept.
    ///
    /// # Errors
    /// The store failed, or the ledger is closed; what was removed before is
    /// gone, and the same stretch can be swept again.
    pub async fn sweep(
        &self,
        now_s: u64,
        from: Option<BucketNumber>,
        count: usize,
    ) -> Result<Swept, LedgerError> {
        let first = BucketNumber::new(0, self.0.store.prefix_bits()).ok();
        let mut swept = Swept { removed: 0, skipped: 0, next: from.or(first) };
        for _ in 0..count {
            let Some(number) = swept.next else { break };
            let sweep = move |_: &Inner, draft: &mut Draft| Ok(change::sweep(draft, now_s));
            match self.begin(number, Opening::All, now_s, sweep).await {
                Ok(removed) => swept.removed += removed,
                Err(error) if error.is_damage() => swept.skipped += 1,
                Err(error) => return Err(error),
            }
            swept.next = self.0.after(number);
        }
        Ok(swept)
    }

    /// Builds the entries of a bucket anew from its rows, whatever they are:
    /// every mapping is sealed again, every other slot overwritten.
    ///
    /// # Errors
    /// A row does not open, or the store failed.
    pub async fn repair(&self, now_s: u64, number: BucketNumber) -> Result<(), LedgerError> {
        self.begin(number, Opening::Rebuild, now_s, |_, _| Ok(())).await
    }

    /// Forgets what was remembered of a provider's key: to be called when another
    /// was recorded.
    pub fn provider_recorded(&self, provider: &Provider) {
        self.0.keys.forget(provider);
    }

    /// Writes down how many mappings each provider has by now: what a ledger
    /// that is killed begins with the next time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn note_counts(&self) -> Result<(), LedgerError> {
        Ok(self.0.totals.note(&*self.0.generations).await?)
    }

    /// Waits for the changes that are under way, takes no more, and writes down
    /// how much the directory holds.
    ///
    /// # Errors
    /// The store failed.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let mut open = self.0.open.write().await;
        if std::mem::replace(&mut *open, false) {
            self.0.totals.close(&*self.0.generations).await?;
        }
        Ok(())
    }

    async fn change<T: Send + 'static>(
        &self,
        sii: &Sii,
        now_s: u64,
        plan: impl Fn(&Inner, &mut Draft) -> Result<T, LedgerError> + Send + Sync + 'static,
    ) -> Result<T, LedgerError> {
        let row = RowKey(self.0.keyring.row_key(sii));
        self.begin(self.0.bucket_of(sii), Opening::One(row), now_s, plan).await
    }

    /// Changes a bucket as planned. Once begun, the change comes to its end,
    /// even if its caller goes away.
    async fn begin<T: Send + 'static>(
        &self,
        number: BucketNumber,
        opening: Opening,
        now_s: u64,
        plan: impl Fn(&Inner, &mut Draft) -> Result<T, LedgerError> + Send + Sync + 'static,
    ) -> Result<T, LedgerError> {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.commit(number, opening, now_s, plan).await })
            .await
            .map_err(|_| LedgerError::Worker)?
    }
}

impl Inner {
    fn bucket_of(&self, sii: &Sii) -> BucketNumber {
        Placement::of(sii).bucket(self.store.prefix_bits())
    }

    fn after(&self, number: BucketNumber) -> Option<BucketNumber> {
        let next = number.get().checked_add(1)?;
        BucketNumber::new(next, self.store.prefix_bits()).ok()
    }

    fn within_share(&self, signed: &SignedMapping) -> Checked {
        let provider = signed.mapping.ssi.provider();
        let share = self.totals.share(provider, self.store.prefix_bits());
        Checked { signed: signed.clone(), share }
    }

    /// A claim's mapping, once its provider's signature is verified: before the
    /// bucket's turn, for it depends on nothing in the bucket.
    async fn checked(&self, claim: &Claim, now_s: u64) -> Result<SignedMapping, LedgerError> {
        let signed = claim.mapping(now_s)?;
        self.keys.check(&*self.generations, claim.verified.sii(), &signed).await?;
        Ok(signed)
    }
}

/// A bucket with its rows; `None` if somebody changed it in between.
async fn read(store: &dyn Store, number: BucketNumber) -> Result<Option<Stored>, StoreError> {
    let bucket = store.bucket(number).await?;
    let rows = store.rows(number).await?;
    let version = bucket.as_ref().map_or(0, |bucket| bucket.version);
    let stored = Stored { bits: store.prefix_bits(), number, bucket, rows };
    Ok((stored.rows.version == version).then_some(stored))
}
