//! Claims as they arrive: a claim token that this directory signed after its
//! own code, and a mapping that the provider signed. Made beforehand: neither is
//! work of the registry.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use blindbook::{
    bucket::{Audience, Mapping, SignedMapping},
    identifier::{Provider, Sii, Ssi, User},
    registry::{
        Claim, DEFAULT_TTL_S, Ledger,
        proof::{
            Challenges, CodeLimits, CodeMessage, CodeSender, Codes, IdentityIssuers, MemoryPending,
            PassportRules, Proof, Proofs, SendError, TokenIssuers, TokenSigner,
        },
    },
    secret::Secret,
};
use ed25519_dalek::SigningKey;

use super::super::{super::now_s, directory::Directory};

/// How long a mapping is to hold: within what its proof allows.
const VERIFIED_S: u64 = 86_400;

/// A claim that nobody has verified yet.
pub(in crate::commands::bench) struct Arriving {
    pub(in crate::commands::bench) sii: Sii,
    pub(in crate::commands::bench) user: User,
    proof: Proof,
    verified_until: u32,
    signature: [u8; 64],
}

/// Makes claims, each of somebody new, and takes them.
pub(in crate::commands::bench) struct Claimants {
    provider: Provider,
    provider_key: SigningKey,
    codes: Codes,
    outbox: Arc<Outbox>,
    signer: TokenSigner,
    proofs: Proofs,
    made: usize,
}

/// Keeps the newest message.
#[derive(Default)]
struct Outbox(Mutex<String>);

#[async_trait]
impl CodeSender for Outbox {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        message.text().clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

impl Outbox {
    fn code(&self) -> String {
        let message = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        message.chars().take_while(char::is_ascii_digit).collect()
    }
}

impl Claimants {
    pub(in crate::commands::bench) fn new(directory: &Directory) -> anyhow::Result<Self> {
        let pending = Arc::new(MemoryPending::new(1 << 22));
        let outbox = Arc::new(Outbox::default());
        let limits = CodeLimits { per_provider_per_h: u32::MAX, ..CodeLimits::default() };
        let secret = Secret::random(&mut rand::rng());
        let codes = Codes::new(pending.clone(), outbox.clone(), secret, limits)?;
        let seed = Secret::random(&mut rand::rng());
        let signer = TokenSigner::from_seed(&seed, *directory.keyring.directory())?;
        let mut issuers = TokenIssuers::default();
        issuers.trust(signer.issuer(), signer.key().clone())?;
        let challenges = Challenges::new(pending, 300, 100)?;
        let (passports, identities) = (PassportRules::default(), IdentityIssuers::default());
        Ok(Self {
            provider: directory.provider.clone(),
            provider_key: directory.provider_key()?,
            codes,
            outbox,
            signer,
            proofs: Proofs::new(challenges, issuers, passports, identities),
            made: 0,
        })
    }

    /// Claims of so many people whom the directory does not know.
    pub(in crate::commands::bench) async fn make(
        &mut self,
        count: usize,
    ) -> anyhow::Result<Vec<Arriving>> {
        let mut made = Vec::with_capacity(count);
        for _ in 0..count {
            let n = self.made;
            self.made += 1;
            made.push(self.one(n).await?);
        }
        Ok(made)
    }

    async fn one(&self, n: usize) -> anyhow::Result<Arriving> {
        let now_s = now_s();
        let sii = Sii::parse(&format!("claimant.{n}@newcomer.example"), None)?;
        let user = User::parse(&format!("claimant.{n}"))?;
        self.codes.start(&sii, &self.provider, now_s, &mut rand::rng()).await?;
        let code = self.outbox.code();
        let confirmed = self.codes.finish(&sii, &self.provider, &code, now_s).await?;
        let token = self.signer.mint(&confirmed, now_s, &mut rand::rng())?;
        let mapping = Mapping {
            ssi: Ssi::new(self.provider.clone(), user.clone())?,
            audience: Audience::Personal,
            default_since: 0,
            verified_until: u32::try_from(now_s + VERIFIED_S)?,
            ttl_s: DEFAULT_TTL_S,
        };
        let verified_until = mapping.verified_until;
        let signature = SignedMapping::sign(&sii, mapping, &self.provider_key).signature;
        Ok(Arriving {
            sii,
            user,
            proof: Proof::Token(token.to_string()),
            verified_until,
            signature,
        })
    }

    /// Verifies a claim and has the ledger commit it.
    pub(in crate::commands::bench) fn taker(&self, ledger: &Ledger) -> Taker {
        let (proofs, provider) = (self.proofs.clone(), self.provider.clone());
        Taker { proofs, provider, ledger: ledger.clone() }
    }
}

/// Takes claims as the registry's service does.
#[derive(Clone)]
pub(in crate::commands::bench) struct Taker {
    proofs: Proofs,
    provider: Provider,
    ledger: Ledger,
}

impl Taker {
    /// Verifies a claim and commits it: it is durable when this returns.
    pub(in crate::commands::bench) async fn take(&self, arriving: &Arriving) -> anyhow::Result<()> {
        let Arriving { sii, user, proof, verified_until, signature } = arriving;
        let now_s = now_s();
        let proven = self.proofs.verify(proof, sii, &self.provider, now_s).await;
        let claim = Claim {
            verified: proven.context("a made-up proof was refused")?.into(),
            user: user.clone(),
            audience: Audience::Personal,
            ttl_s: DEFAULT_TTL_S,
            verified_until: *verified_until,
            signature: *signature,
            circle: None,
        };
        let claimed = self.ledger.claim(now_s, claim).await;
        claimed.map(drop).map_err(|error| anyhow!("a made-up claim was refused: {error}"))
    }
}
