//! What an evaluation and a bucket cost, and who pays: partners from their
//! accounts, everybody else with anonymous tokens. Whoever may ask without end
//! can walk through all numbers of a country; nothing else can keep them.
//!
//! The same is charged for a hit and a miss, and a refusal says the same
//! whatever was asked. No name of a partner and no part of a token is logged.

mod accounts;
mod keys;
mod options;
mod payer;
mod service;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc};

pub use self::options::{Anonymous, QuotaOptions};
pub(super) use self::{accounts::Charged, payer::Payer};
use self::{
    accounts::{ANONYMOUS, Accounts},
    keys::Keys,
};
use super::{Clock, evaluate::Evaluator, metrics::Metrics};
use crate::{
    access::{
        quota::{Counted, Limits},
        tokens::{Redeemed, redeem},
    },
    keyring::Keyring,
    store::{Generations, Spent, SpentTokens, StoreError},
    token::{SpentName, TokenError},
    wire::WireError,
};

/// Batches of tokens that may wait to be signed, for each thread that signs.
const QUEUED_ISSUES: usize = 16;

/// Why quotas stand against a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuotaError {
    // The caller's.
    /// There is not enough left.
    #[error("the quota is used up: ask again later")]
    Exhausted {
        /// Of what.
        counted: Counted,
        /// When to come back.
        retry_after_s: u64,
    },
    /// Neither a partner's certificate nor tokens.
    #[error(
        "evaluations cost one token for each two elements and a query for a row costs one, or they \
         come from a partner with its certificate: get tokens from your application provider"
    )]
    TokensRequired,
    /// Forged, expired, of another issuer, or twice in one request: all alike.
    #[error("a token is not valid here and now: get new ones from your application provider")]
    TokenInvalid,
    /// It paid another request.
    #[error("a token was spent for another request: tokens pay once")]
    TokenSpent,
    /// Only an application provider has users.
    #[error("tokens are issued to application providers: present the certificate of one")]
    NotAProvider,
    /// No key of that day issues now.
    #[error("the token key of that day issues nothing now: fetch the token keys again")]
    Day,
    /// A blinded message is none.
    #[error("a blinded message is none under this key: nothing was issued or charged")]
    Blinded,
    /// The request breaks a rule.
    #[error(transparent)]
    Wire(#[from] WireError),

    // Ours.
    /// More to sign than the server can.
    #[error("too many tokens wait to be signed")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sealed key does not open.
    #[error("a token key does not open: restore the data folder and its keys from one backup")]
    Key,
    /// A computation did not end.
    #[error("the server could not compute with its token keys")]
    Computation,
}

/// How an evaluation is paid.
pub(super) enum Paid {
    /// It costs nothing.
    Nothing,
    /// From an account.
    Charged(Charged),
    /// With tokens, once they are verified.
    Unverified,
    /// With tokens, once they are spent.
    Tokens(Redeemed),
}

/// What was paid for work that may not be done: given back when it is dropped.
pub(super) struct Returning {
    quotas: Quotas,
    paid: Option<Paid>,
}

impl Returning {
    /// Verifies tokens for what is asked, if there are any, and looks whether they were spent: a
    /// computation, which may read the disk.
    pub(super) fn verify(&mut self, tokens: &[u8], asked: &[&[u8]]) -> Result<(), QuotaError> {
        if matches!(self.paid, Some(Paid::Unverified)) {
            self.paid = Some(Paid::Tokens(self.quotas.verify(tokens, asked)?));
        }
        Ok(())
    }

    /// The work was done.
    pub(super) fn keep(mut self) -> Paid {
        self.paid.take().unwrap_or(Paid::Nothing)
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if let Some(paid) = self.paid.take() {
            self.quotas.refund(paid);
        }
    }
}

/// The quotas of a directory. Clones share them.
#[derive(Clone)]
pub(super) struct Quotas(Arc<Inner>);

struct Inner {
    options: QuotaOptions,
    accounts: Accounts,
    keys: Keys,
    spent: Arc<dyn SpentTokens>,
    keyring: Arc<Keyring>,
    clock: Clock,
    metrics: Arc<Metrics>,
    signers: Evaluator,
}

/// Signs tokens on some of so many threads: lookups go on meanwhile.
pub(super) fn signers(threads: usize) -> io::Result<Evaluator> {
    Evaluator::new(threads.div_ceil(2), QUEUED_ISSUES)
}

impl Quotas {
    pub(super) async fn open(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        options: QuotaOptions,
        signers: Evaluator,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, QuotaError> {
        let spent = generations.spent_tokens().await?;
        let keys = Keys::open(generations.clone(), keyring.clone(), spent.clone()).await?;
        Ok(Self(Arc::new(Inner {
            options,
            accounts: Accounts::new(generations),
            keys,
            spent,
            keyring,
            clock,
            metrics,
            signers,
        })))
    }

    /// Charges a partner for so many elements or queries. Tokens are still to be verified
    /// ([`Returning::verify`]), and spent when it is done ([`Self::spend`]).
    pub(super) async fn pay(
        &self,
        payer: &Payer,
        tokens: &[u8],
        counted: Counted,
        count: usize,
    ) -> Result<Paid, QuotaError> {
        if !tokens.is_empty() {
            return Ok(Paid::Unverified);
        }
        match payer {
            Payer::Partner { .. } => {
                Ok(Paid::Charged(self.charge(payer, counted, count as u64).await?))
            }
            Payer::Anonymous => match self.0.options.anonymous {
                Anonymous::Open => Ok(Paid::Nothing),
                Anonymous::Tokens => Err(QuotaError::TokensRequired),
            },
        }
    }

    fn verify(&self, tokens: &[u8], asked: &[&[u8]]) -> Result<Redeemed, QuotaError> {
        let inner = &self.0;
        let (directory, now_s) = (inner.keyring.directory(), inner.clock.now_s());
        let redeemed = redeem(directory, &inner.keys.known(), now_s, tokens, asked)
            .map_err(|_| QuotaError::TokenInvalid)?;
        let (day, hash) = (redeemed.day.number(), redeemed.request);
        match inner.spent.look(day, &names(&redeemed), &hash)? {
            Spent::Other => Err(QuotaError::TokenSpent),
            Spent::New | Spent::Again => Ok(redeemed),
        }
    }

    /// The evaluation is done and not yet answered: its tokens are spent, for
    /// good and durably. Of two requests with one token one is answered.
    pub(super) async fn spend(&self, paid: Paid) -> Result<(), QuotaError> {
        let redeemed = match paid {
            Paid::Tokens(redeemed) => redeemed,
            Paid::Nothing | Paid::Charged(_) => return Ok(()),
            Paid::Unverified => return Err(QuotaError::TokenInvalid),
        };
        let (day, hash) = (redeemed.day.number(), redeemed.request);
        match self.0.spent.spend(day, names(&redeemed), hash).await? {
            Spent::Other => Err(QuotaError::TokenSpent),
            // What was spent is forgotten after its key: with the key still
            // there, it is remembered.
            Spent::New | Spent::Again => {
                let keys = self.0.keys.known();
                let key = keys.key(redeemed.day).map(|key| *key.public().id());
                if key == Some(redeemed.key_id) { Ok(()) } else { Err(QuotaError::TokenInvalid) }
            }
        }
    }

    /// What is given back unless it is kept.
    pub(super) fn returning(&self, paid: Paid) -> Returning {
        Returning { quotas: self.clone(), paid: Some(paid) }
    }

    /// The evaluation was not done.
    fn refund(&self, paid: Paid) {
        if let Paid::Charged(charged) = paid {
            charged.refund(&self.0.clock);
        }
    }

    /// Charges bytes of buckets.
    pub(super) async fn pay_bytes(&self, payer: &Payer, bytes: u64) -> Result<(), QuotaError> {
        if *payer == Payer::Anonymous && self.0.options.anonymous == Anonymous::Open {
            return Ok(());
        }
        self.charge(payer, Counted::Bytes, bytes).await.map(drop)
    }

    /// The account of a payer, and its limits.
    fn account<'a>(&self, payer: &'a Payer) -> (&'a str, Limits) {
        let options = &self.0.options;
        match payer {
            Payer::Anonymous => {
                (ANONYMOUS, Limits { bytes: options.anonymous_bytes, ..options.partner })
            }
            Payer::Partner { alias, evaluations_per_day, .. } => {
                (alias, options.of(alias, *evaluations_per_day))
            }
        }
    }

    async fn charge(
        &self,
        payer: &Payer,
        counted: Counted,
        count: u64,
    ) -> Result<Charged, QuotaError> {
        let (alias, limits) = self.account(payer);
        let inner = &self.0;
        let charged = inner.accounts.charge(alias, &limits, counted, count, &inner.clock).await;
        match &charged {
            Ok(_) => inner.metrics.charged(alias, counted, count),
            Err(QuotaError::Exhausted { .. }) => inner.metrics.over_quota(alias, counted),
            Err(_) => {}
        }
        charged
    }

    /// Writes down what is left, at the end.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        self.0.accounts.settle().await
    }
}

fn names(redeemed: &Redeemed) -> Vec<[u8; 16]> {
    redeemed.names.iter().map(|SpentName(name)| *name).collect()
}

impl From<TokenError> for QuotaError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Blinded => Self::Blinded,
            TokenError::Invalid => Self::TokenInvalid,
            TokenError::Key | TokenError::Computation => Self::Computation,
        }
    }
}
