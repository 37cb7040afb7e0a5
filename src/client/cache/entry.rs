//! One answer as it is kept: a contact's, or a decoy's, which is kept like one.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use zeroize::Zeroizing;

use crate::{
    bucket::{Placement, PrefixBits},
    client::{Answer, ClientError, marks::Mark},
    epoch::Epoch,
    secret::Secret,
};

/// How far a clock may be set back before what was answered counts as old.
const CLOCK_SKEW_S: u64 = 120;

/// What names an answer: the OPRF input, an identifier's or a decoy's.
#[derive(Clone)]
pub(in crate::client) struct Key(Zeroizing<Box<[u8]>>);

impl Key {
    pub(in crate::client) fn of(input: &[u8]) -> Self {
        Self(Zeroizing::new(input.into()))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self.0 == **other.0
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As its bytes do: it is looked up by them.
        (**self.0).hash(state);
    }
}

/// The outputs of one lookup under one epoch.
#[derive(Clone)]
pub(in crate::client) struct Outputs {
    /// Of the identifier.
    pub(in crate::client) open: Secret<64>,
    /// Of the identifier in the client's circle, if it has one.
    pub(in crate::client) circle: Option<Secret<64>>,
}

/// What came of a lookup; nothing for a decoy.
pub(in crate::client) type Outcome = Result<Arc<Answer>, ClientError>;

/// An answer and all that belongs to it.
pub(in crate::client) struct Entry {
    pub(in crate::client) key: Key,
    pub(in crate::client) placement: Placement,
    /// When it was asked, by the clock of the client.
    pub(in crate::client) asked_at_s: u64,
    /// The depth of its bucket.
    pub(in crate::client) bits: PrefixBits,
    /// The bucket's version.
    pub(in crate::client) version: u64,
    /// The bucket's mark, as it was before the bucket was asked for.
    pub(in crate::client) mark: Arc<Mark>,
    /// By epoch, ascending.
    pub(in crate::client) outputs: Vec<(Epoch, Outputs)>,
    pub(in crate::client) outcome: Option<Outcome>,
    pub(in crate::client) aside: Aside,
}

/// What an entry holds beside what was answered.
#[derive(Default)]
pub(in crate::client) struct Aside {
    /// The same answer once it is stale: made once, and handed out often.
    stale: OnceLock<Arc<Answer>>,
    /// The mark that the state holds.
    stored_mark: AtomicU64,
}

impl Entry {
    /// Whether its time in the cache has ended.
    pub(super) const fn is_due(&self, now_s: u64, period_s: u64) -> bool {
        // A clock set back must not keep an answer for good.
        now_s >= self.asked_at_s.saturating_add(period_s)
            || now_s.saturating_add(CLOCK_SKEW_S) < self.asked_at_s
    }

    /// What came of the lookup, marked stale if it is.
    pub(in crate::client) fn outcome(&self, now_s: u64) -> Option<Outcome> {
        let outcome = self.outcome.as_ref()?;
        Some(match outcome {
            Ok(answer) if self.mark.is_after(self.version) || answer.has_lapsed(now_s) => {
                let stale = || Arc::new(Answer { stale: true, ..Answer::clone(answer) });
                Ok(Arc::clone(self.aside.stale.get_or_init(stale)))
            }
            outcome => outcome.clone(),
        })
    }

    /// The outputs under each of these epochs, if all are known.
    pub(super) fn outputs(&self, epochs: &[Epoch]) -> Option<Vec<&Outputs>> {
        let of = |epoch: &Epoch| {
            self.outputs.iter().find(|(known, _)| known == epoch).map(|(_, outputs)| outputs)
        };
        epochs.iter().map(of).collect()
    }

    /// Whether the state holds less than the mark says.
    pub(super) fn has_news(&self) -> bool {
        self.aside.stored_mark.load(Ordering::Acquire) != self.mark.get()
    }

    /// The mark, which is about to be stored.
    pub(super) fn mark_to_store(&self) -> u64 {
        let mark = self.mark.get();
        self.aside.stored_mark.store(mark, Ordering::Release);
        mark
    }
}
