//! One-time codes: sent to a number or address, kept as a keyed hash for a few
//! minutes and a few tries. The text names the provider, so a user who is asked
//! by one cannot be used by another.

use std::{fmt, sync::Arc};

use rand::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    CodeMessage, CodeSender, ProofError,
    pending::{self, Pending, PendingKey},
};
use crate::{
    identifier::{Provider, Sii, SiiKind},
    secret::Secret,
};

const HOUR_S: u64 = 3600;

/// Tries of a compare-and-swap; every loser costs one of the code's few tries.
const MAX_SWAPS: usize = 16;

const RECORD_BYTES: usize = 1 + 8 + 32;

/// How many codes, and how long they are good.
///
/// As it stands, guessing at one identifier succeeds with probability 2 in ten
/// million per hour, and at all that one provider may try with 1 in 5,000.
#[derive(Clone, Debug)]
pub struct CodeLimits {
    /// Digits of a code, 6 to 8.
    pub digits: u32,
    /// How long a code is good.
    pub lifetime_s: u64,
    /// Tries of one code.
    pub tries: u8,
    /// Codes to one identifier for one provider.
    pub per_identifier_and_provider_per_h: u32,
    /// Codes to one identifier, whoever asks.
    pub per_identifier_per_h: u32,
    /// Codes for one provider.
    pub per_provider_per_h: u32,
}

impl Default for CodeLimits {
    fn default() -> Self {
        Self {
            digits: 8,
            lifetime_s: 600,
            tries: 4,
            per_identifier_and_provider_per_h: 3,
            per_identifier_per_h: 6,
            per_provider_per_h: 5000,
        }
    }
}

impl CodeLimits {
    fn check(&self) -> Result<(), ProofError> {
        let refused = |what| Err(ProofError::Setting(what));
        if !(6..=8).contains(&self.digits) {
            return refused("a code has 6 to 8 digits");
        }
        if !(60..=3600).contains(&self.lifetime_s) {
            return refused("a code is good for 60 to 3600 seconds");
        }
        if !(1..=10).contains(&self.tries) {
            return refused("a code has 1 to 10 tries");
        }
        Ok(())
    }

    const fn codes(&self) -> u64 {
        10_u64.pow(self.digits)
    }
}

/// A user gave back the code that was sent. Only this room makes one, and a claim
/// token is minted from nothing else.
pub struct CodeConfirmed {
    pub(super) sii: Sii,
    pub(super) provider: Provider,
}

impl fmt::Debug for CodeConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeConfirmed").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Sends codes and checks what comes back.
#[derive(Clone)]
pub struct Codes {
    pending: Arc<dyn Pending>,
    sender: Arc<dyn CodeSender>,
    key: Secret<32>,
    limits: CodeLimits,
}

impl Codes {
    /// `key` hashes the codes at rest: without it 10^8 guesses find one.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: a limit out of range.
    pub fn new(
        pending: Arc<dyn Pending>,
        sender: Arc<dyn CodeSender>,
        key: Secret<32>,
        limits: CodeLimits,
    ) -> Result<Self, ProofError> {
        limits.check()?;
        Ok(Self { pending, sender, key, limits })
    }

    /// Sends a new code, which voids an earlier one for the same two. Says until
    /// when it is good.
    ///
    /// # Errors
    /// [`ProofError::NoChannel`], a limit, or our own failure; no code is good
    /// then that was not before.
    pub fn start<'a, R: CryptoRng>(
        &'a self,
        sii: &'a Sii,
        provider: &'a Provider,
        now_s: u64,
        rng: &mut R,
    ) -> impl Future<Output = Result<u64, ProofError>> + Send + use<'a, R> {
        // Drawn at once: a generator need not go from thread to thread.
        let number = rng.next_u64();
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        self.send(sii, provider, now_s, number, id)
    }

    async fn send(
        &self,
        sii: &Sii,
        provider: &Provider,
        now_s: u64,
        number: u64,
        id: [u8; 16],
    ) -> Result<u64, ProofError> {
        if !matches!(sii.kind(), SiiKind::Tel | SiiKind::Mailto) {
            return Err(ProofError::NoChannel);
        }
        self.charge(sii, provider, now_s).await?;
        let expires_s = now_s.saturating_add(self.limits.lifetime_s);
        // 64 bits modulo 10^8: no code is likelier than another by 2^-37.
        let number = number % self.limits.codes();
        let width = self.limits.digits as usize;
        let code = Zeroizing::new(format!("{number:0width$}"));
        let record =
            Record { tries: self.limits.tries, expires_s, hash: self.hash(sii, provider, &code) };
        self.put(sii, provider, &record, now_s).await?;
        let text = Zeroizing::new(format!(
            "{} is your code for {provider}: with it, people who know this address or number can \
             find you at {provider}. Give it to nobody else. If you did not ask for it, ignore it.",
            *code
        ));
        let message =
            CodeMessage { to: sii.clone(), provider: provider.clone(), text, id, expires_s };
        if let Err(error) = self.sender.send(message).await {
            let key = self.key(sii, provider);
            self.pending.swap(&key, Some(&record.to_bytes()), None, now_s).await?;
            return Err(error.into());
        }
        Ok(expires_s)
    }

    /// Checks a code. Right or wrong, it costs one of the code's tries before it
    /// is compared; the right one is good once.
    ///
    /// # Errors
    /// [`ProofError::CodeForm`], [`ProofError::CodeUnknown`],
    /// [`ProofError::CodeWrong`], [`ProofError::CodeTries`], or our own failure.
    pub async fn finish(
        &self,
        sii: &Sii,
        provider: &Provider,
        code: &str,
        now_s: u64,
    ) -> Result<CodeConfirmed, ProofError> {
        let digits = code.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || code.len() != self.limits.digits as usize {
            return Err(ProofError::CodeForm);
        }
        let key = self.key(sii, provider);
        let mut swaps = 0;
        let (record, rest) = loop {
            if swaps == MAX_SWAPS {
                return Err(pending::contended());
            }
            swaps += 1;
            let found = self.pending.get(&key, now_s).await?.ok_or(ProofError::CodeUnknown)?;
            let record = Record::from_bytes(&found).ok_or_else(pending::damaged)?;
            let rest = record.tried();
            let bytes = rest.as_ref().map(Record::to_bytes);
            let new = bytes.as_ref().map(|bytes| (bytes.as_slice(), record.expires_s));
            if self.pending.swap(&key, Some(&found), new, now_s).await? {
                break (record, rest);
            }
        };
        let right: bool = record.hash.ct_eq(&self.hash(sii, provider, code)).into();
        match (right, rest) {
            (true, None) => {}
            (true, Some(rest)) => {
                // Whoever changed it meanwhile tried the code as well: of two who
                // have it right, one succeeds.
                if !self.pending.swap(&key, Some(&rest.to_bytes()), None, now_s).await? {
                    return Err(ProofError::CodeUnknown);
                }
            }
            (false, Some(_)) => return Err(ProofError::CodeWrong),
            (false, None) => return Err(ProofError::CodeTries),
        }
        Ok(CodeConfirmed { sii: sii.clone(), provider: provider.clone() })
    }

    async fn charge(&self, sii: &Sii, provider: &Provider, now_s: u64) -> Result<(), ProofError> {
        let (sii, provider) = (sii.as_bytes(), provider.as_str().as_bytes());
        let limits = &self.limits;
        let most = limits.per_identifier_and_provider_per_h;
        if !self.count("codes to identifier for provider", &[sii, provider], most, now_s).await? {
            return Err(ProofError::CodeLimitIdentifier);
        }
        // Charged before the identifier's: a provider over its limit must not use
        // up what others may send there.
        if !self.count("codes of provider", &[provider], limits.per_provider_per_h, now_s).await? {
            return Err(ProofError::CodeLimitProvider);
        }
        if !self.count("codes to identifier", &[sii], limits.per_identifier_per_h, now_s).await? {
            return Err(ProofError::CodeLimitIdentifier);
        }
        Ok(())
    }

    async fn count(
        &self,
        kind: &'static str,
        parts: &[&[u8]],
        most: u32,
        now_s: u64,
    ) -> Result<bool, ProofError> {
        // Under the key, so that counters do not tell whom codes were sent to.
        let key = self.key.expose().as_slice();
        let parts: Vec<&[u8]> = [key].into_iter().chain(parts.iter().copied()).collect();
        pending::count(&*self.pending, kind, &parts, most, HOUR_S, now_s).await
    }

    async fn put(
        &self,
        sii: &Sii,
        provider: &Provider,
        record: &Record,
        now_s: u64,
    ) -> Result<(), ProofError> {
        let key = self.key(sii, provider);
        let bytes = record.to_bytes();
        for _ in 0..MAX_SWAPS {
            let found = self.pending.get(&key, now_s).await?;
            let new = Some((bytes.as_slice(), record.expires_s));
            if self.pending.swap(&key, found.as_deref(), new, now_s).await? {
                return Ok(());
            }
        }
        Err(pending::contended())
    }

    fn key(&self, sii: &Sii, provider: &Provider) -> PendingKey {
        let parts = [self.key.expose(), sii.as_bytes(), provider.as_str().as_bytes()];
        PendingKey::of("code", &parts)
    }

    fn hash(&self, sii: &Sii, provider: &Provider, code: &str) -> [u8; 32] {
        let key = blake3::derive_key("blindbook v1 code", self.key.expose());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        for part in [sii.as_bytes(), provider.as_str().as_bytes(), code.as_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        hasher.finalize().into()
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A code at rest.
struct Record {
    tries: u8,
    expires_s: u64,
    hash: [u8; 32],
}

impl Record {
    fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let (tries, rest) = bytes.split_at_mut(1);
        let (expires, hash) = rest.split_at_mut(8);
        tries.fill(self.tries);
        expires.copy_from_slice(&self.expires_s.to_be_bytes());
        hash.copy_from_slice(&self.hash);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tries, rest) = bytes.split_first()?;
        let (expires, hash) = rest.split_first_chunk::<8>()?;
        let expires_s = u64::from_be_bytes(*expires);
        Some(Self { tries: *tries, expires_s, hash: hash.try_into().ok()? })
    }

    /// What is left after a try.
    fn tried(&self) -> Option<Self> {
        let tries = self.tries.checked_sub(1).filter(|tries| *tries > 0)?;
        Some(Self { tries, ..*self })
    }
}
