//! Puts the live registry together: the files that its settings name are read,
//! and what they hold is checked, before a port is bound.

use std::{convert::Infallible, fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use blindbook::{
    config::{CodeChannel, RegistryConfig},
    keyring::Keyring,
    registry::proof::{
        Challenges, CodeLimits, CodeSender, Codes, IdentityIssuer, IdentityIssuers, IssuerKeys,
        PassportRules, Pending, Proofs, SpoolSender, StoredPending, TokenIssuers, TokenKey,
        TokenSigner, TrustAnchors, VerificationAddress, WebhookSender,
    },
    secret::Secret,
    server::{Clock, RegistryOptions, Verification},
    store::Generations,
};
use zeroize::Zeroizing;

/// Most codes, challenges and counters at once: under 200 bytes each.
const MOST_PENDING: usize = 1 << 20;

/// How long a challenge stays open.
const CHALLENGE_LIFETIME_S: u64 = 300;

/// Most challenges of one provider within an hour.
const CHALLENGES_PER_PROVIDER_PER_H: u32 = 100_000;

/// How often what expired of codes and challenges is removed.
const PENDING_PERIOD: Duration = Duration::from_secs(60);

/// What the settings name, read and checked, before the data folder is opened.
pub(super) struct Prepared {
    tokens: TokenIssuers,
    passports: PassportRules,
    identities: IdentityIssuers,
    codes: Option<(Arc<dyn CodeSender>, Secret<32>, TokenSigner)>,
    sweep_period: Duration,
}

impl Prepared {
    /// The options of a live registry, and where its open codes and challenges
    /// lie.
    pub(super) async fn open(
        self,
        keyring: Arc<Keyring>,
        generations: Arc<dyn Generations>,
    ) -> anyhow::Result<(RegistryOptions, StoredPending)> {
        let stored = StoredPending::open(generations, keyring, MOST_PENDING).await?;
        let pending: Arc<dyn Pending> = Arc::new(stored.clone());
        let challenges =
            Challenges::new(pending.clone(), CHALLENGE_LIFETIME_S, CHALLENGES_PER_PROVIDER_PER_H)?;
        let proofs = Proofs::new(challenges, self.tokens, self.passports, self.identities);
        let mut options = RegistryOptions::new(proofs);
        if let Some((sender, key, signer)) = self.codes {
            let codes = Codes::new(pending, sender, key, CodeLimits::default())?;
            options.verification = Some(Verification { codes, signer });
        }
        options.sweep_period = self.sweep_period;
        Ok((options, stored))
    }
}

/// Removes expired codes and challenges, for ever.
pub(super) async fn keep_pending(pending: StoredPending, clock: Clock) -> Infallible {
    loop {
        tokio::time::sleep(PENDING_PERIOD).await;
        if let Err(error) = pending.sweep(clock.now_s()).await {
            tracing::error!(%error, "expired verifications could not be removed");
        }
    }
}

/// Reads what the settings name.
pub(super) fn prepare(settings: &RegistryConfig, keyring: &Keyring) -> anyhow::Result<Prepared> {
    let keys = keyring.registry().ok_or_else(|| {
        anyhow!(
            "the folder of keys has no token.seed and no code.key, which [registry] needs: run \
             `blindbook keygen --add-registry-keys --out` with that folder"
        )
    })?;
    let signer = TokenSigner::from_seed(&keys.token_seed, *keyring.directory())?;

    let mut tokens = TokenIssuers::default();
    tokens.trust(signer.issuer(), signer.key().clone())?;
    for issuer in &settings.token_issuers {
        let read = || -> anyhow::Result<()> {
            let key = TokenKey::from_jwk(&text(&issuer.jwk)?)?;
            Ok(tokens.trust(issuer.directory, key)?)
        };
        in_file(&issuer.jwk, read)?;
    }

    let anchors = match &settings.passport_roots {
        None => TrustAnchors::default(),
        Some(path) => in_file(path, || Ok(TrustAnchors::from_pem(&fs::read(path)?)?))?,
    };
    let mut addresses = std::collections::BTreeMap::new();
    for (provider, address) in &settings.verification_addresses {
        addresses.insert(provider.clone(), VerificationAddress::parse(address)?);
    }

    let mut identities = Vec::new();
    for issuer in &settings.identity_issuers {
        let read = || -> anyhow::Result<IdentityIssuer> {
            let keys = IssuerKeys::from_jwks(&text(&issuer.jwks)?)?;
            let domains: Vec<&str> = issuer.domains.iter().map(String::as_str).collect();
            Ok(IdentityIssuer::new(&issuer.url, keys, &domains, issuer.clients()?)?)
        };
        identities.push(in_file(&issuer.jwks, read)?);
    }

    let codes = match &settings.codes {
        Some(channel) => Some((sender(channel)?, keys.code_key.clone(), signer)),
        None => None,
    };
    Ok(Prepared {
        tokens,
        passports: PassportRules::new(anchors, addresses)?,
        identities: IdentityIssuers::new(identities)?,
        codes,
        sweep_period: Duration::from_secs(settings.sweep_period_s),
    })
}

/// What codes leave by.
fn sender(channel: &CodeChannel) -> anyhow::Result<Arc<dyn CodeSender>> {
    match channel {
        CodeChannel::Spool(folder) => {
            tracing::warn!(
                "one-time codes are written into a folder: whoever reads it can claim anybody"
            );
            in_file(folder, || Ok(Arc::new(SpoolSender::new(folder)?) as Arc<dyn CodeSender>))
        }
        CodeChannel::Webhook(webhook) => {
            let token = webhook.token.as_deref().map(|path| in_file(path, || secret(path)));
            let roots = webhook.ca.as_deref().map(|path| in_file(path, || Ok(fs::read(path)?)));
            let (token, roots) = (token.transpose()?, roots.transpose()?);
            let token = token.as_ref().map(|token| token.trim());
            let sender = WebhookSender::new(&webhook.url, token, roots.as_deref());
            Ok(Arc::new(sender.context("code_webhook")?))
        }
    }
}

fn secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(fs::read_to_string(path)?))
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(fs::read_to_string(path)?)
}

/// Says which file or folder a fault is about.
fn in_file<T>(path: &Path, read: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    read().with_context(|| path.display().to_string())
}
