//! Challenges: random, given for one identifier and one provider, answered once.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::CryptoRng;
use subtle::ConstantTimeEq as _;

use super::{
    ProofError,
    pending::{self, Pending, PendingKey},
};
use crate::identifier::{Provider, Sii};

/// Longest time that a challenge may stay open.
pub const MAX_CHALLENGE_LIFETIME_S: u64 = 3600;

const CHALLENGE_BYTES: usize = 16;
const HOUR_S: u64 = 3600;

/// A challenge as it is handed out: who reads it can try to answer it, so `Debug`
/// prints nothing of it.
#[derive(Clone)]
pub struct Challenge([u8; CHALLENGE_BYTES]);

impl Challenge {
    /// Reads what [`Challenge::nonce`] wrote.
    ///
    /// # Errors
    /// [`ProofError::ChallengeForm`].
    pub fn parse(nonce: &str) -> Result<Self, ProofError> {
        let bytes = URL_SAFE_NO_PAD.decode(nonce).map_err(|_| ProofError::ChallengeForm)?;
        Ok(Self(bytes.try_into().map_err(|_| ProofError::ChallengeForm)?))
    }

    /// The challenge as text: an OIDC `nonce`.
    #[must_use]
    pub fn nonce(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The text whose digest is the `msgi` of an RFC 9475 PASSporT: the user sends
    /// it, byte for byte, as a message.
    #[must_use]
    pub fn text(&self, provider: &Provider) -> String {
        format!("I want to be found at {provider}. blindbook v1 challenge {}", self.nonce())
    }

    pub(super) fn is(&self, nonce: &str) -> bool {
        self.nonce().as_bytes().ct_eq(nonce.as_bytes()).into()
    }

    fn key(&self, sii: &Sii, provider: &Provider) -> PendingKey {
        PendingKey::of("challenge", &[&self.0, sii.as_bytes(), provider.as_str().as_bytes()])
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Challenge(..)")
    }
}

/// A challenge that was found open for these two.
pub(super) struct OpenChallenge<'a> {
    pub(super) challenge: &'a Challenge,
    pub(super) sii: &'a Sii,
    pub(super) provider: &'a Provider,
    pub(super) issued_s: u64,
    pub(super) expires_s: u64,
}

/// Gives challenges out and takes them back.
#[derive(Clone)]
pub struct Challenges {
    pending: Arc<dyn Pending>,
    lifetime_s: u64,
    per_provider_per_h: u32,
}

impl Challenges {
    /// Challenges that stay open for `lifetime_s`.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: a lifetime of nothing, or beyond
    /// [`MAX_CHALLENGE_LIFETIME_S`].
    pub fn new(
        pending: Arc<dyn Pending>,
        lifetime_s: u64,
        per_provider_per_h: u32,
    ) -> Result<Self, ProofError> {
        if !(1..=MAX_CHALLENGE_LIFETIME_S).contains(&lifetime_s) {
            return Err(ProofError::Setting("a challenge stays open for 1 to 3600 seconds"));
        }
        Ok(Self { pending, lifetime_s, per_provider_per_h })
    }

    /// Gives one out, and until when it is open.
    ///
    /// # Errors
    /// [`ProofError::ChallengeLimit`], [`ProofError::Pending`].
    pub fn open<'a, R: CryptoRng>(
        &'a self,
        sii: &'a Sii,
        provider: &'a Provider,
        now_s: u64,
        rng: &mut R,
    ) -> impl Future<Output = Result<(Challenge, u64), ProofError>> + Send + use<'a, R> {
        // Drawn at once: a generator need not go from thread to thread.
        let mut challenge = Challenge([0; CHALLENGE_BYTES]);
        rng.fill_bytes(&mut challenge.0);
        self.keep(challenge, sii, provider, now_s)
    }

    async fn keep(
        &self,
        challenge: Challenge,
        sii: &Sii,
        provider: &Provider,
        now_s: u64,
    ) -> Result<(Challenge, u64), ProofError> {
        let parts = [provider.as_str().as_bytes()];
        let most = self.per_provider_per_h;
        let pending = &*self.pending;
        if !pending::count(pending, "challenges of provider", &parts, most, HOUR_S, now_s).await? {
            return Err(ProofError::ChallengeLimit);
        }
        let expires_s = now_s.saturating_add(self.lifetime_s);
        let mut value = [0; 16];
        let (issued, expires) = value.split_at_mut(8);
        issued.copy_from_slice(&now_s.to_be_bytes());
        expires.copy_from_slice(&expires_s.to_be_bytes());
        let key = challenge.key(sii, provider);
        if !pending.swap(&key, None, Some((&value, expires_s)), now_s).await? {
            // A random number drawn twice: the generator is broken.
            return Err(pending::contended());
        }
        Ok((challenge, expires_s))
    }

    /// Finds one that was given for just these two.
    pub(super) async fn find<'a>(
        &self,
        challenge: &'a Challenge,
        sii: &'a Sii,
        provider: &'a Provider,
        now_s: u64,
    ) -> Result<OpenChallenge<'a>, ProofError> {
        let found = self.pending.get(&challenge.key(sii, provider), now_s).await?;
        let value = found.ok_or(ProofError::ChallengeUnknown)?;
        let (issued_s, expires_s) = read(&value).ok_or_else(pending::damaged)?;
        Ok(OpenChallenge { challenge, sii, provider, issued_s, expires_s })
    }

    /// Closes it; of two that try, one succeeds.
    pub(super) async fn close(
        &self,
        open: &OpenChallenge<'_>,
        now_s: u64,
    ) -> Result<(), ProofError> {
        let mut value = open.issued_s.to_be_bytes().to_vec();
        value.extend(open.expires_s.to_be_bytes());
        let key = open.challenge.key(open.sii, open.provider);
        if self.pending.swap(&key, Some(&value), None, now_s).await? {
            Ok(())
        } else {
            Err(ProofError::ChallengeUnknown)
        }
    }
}

impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("lifetime_s", &self.lifetime_s).finish_non_exhaustive()
    }
}

fn read(value: &[u8]) -> Option<(u64, u64)> {
    let (issued, expires) = value.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*issued), u64::from_be_bytes(expires.try_into().ok()?)))
}
