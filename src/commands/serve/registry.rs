//! Puts the live registry together: the files that its settings name are read,
//! and what they hold is checked, before a port is bound.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use blindbook::{
    config::{CodeChannel, RegistryConfig},
    keyring::Keyring,
    registry::proof::{
        Challenges, CodeLimits, CodeSender, Codes, IdentityIssuer, IdentityIssuers, IssuerKeys,
        MemoryPending, PassportRules, Pending, Proofs, SpoolSender, TokenIssuers, TokenKey,
        TokenSigner, TrustAnchors, VerificationAddress,
    },
    server::{RegistryOptions, Verification},
};

/// Most codes, challenges and counters at once: under 200 bytes each.
const MOST_PENDING: usize = 1 << 20;

/// How long a challenge stays open.
const CHALLENGE_LIFETIME_S: u64 = 300;

/// Most challenges of one provider within an hour.
const CHALLENGES_PER_PROVIDER_PER_H: u32 = 100_000;

pub(super) fn options(
    settings: &RegistryConfig,
    keyring: &Keyring,
) -> anyhow::Result<RegistryOptions> {
    let keys = keyring.registry().ok_or_else(|| {
        anyhow!(
            "the folder of keys has no token.seed and no code.key, which [registry] needs: run \
             `blindbook keygen --add-registry-keys --out` with that folder"
        )
    })?;
    let signer = TokenSigner::from_seed(&keys.token_seed, *keyring.directory())?;
    let pending: Arc<dyn Pending> = Arc::new(MemoryPending::new(MOST_PENDING));

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

    let challenges =
        Challenges::new(pending.clone(), CHALLENGE_LIFETIME_S, CHALLENGES_PER_PROVIDER_PER_H)?;
    let passports = PassportRules::new(anchors, addresses)?;
    let proofs = Proofs::new(challenges, tokens, passports, IdentityIssuers::new(identities)?);
    let mut options = RegistryOptions::new(settings.callers.clone(), proofs);
    if let Some(channel) = &settings.codes {
        let codes =
            Codes::new(pending, sender(channel)?, keys.code_key.clone(), CodeLimits::default())?;
        options.verification = Some(Verification { codes, signer });
    }
    options.sweep_period = Duration::from_secs(settings.sweep_period_s);
    Ok(options)
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
        CodeChannel::Webhook(_) => bail!("code_webhook is not supported yet: leave it out"),
    }
}

fn text(path: &Path) -> anyhow::Result<String> {
    Ok(fs::read_to_string(path)?)
}

/// Says which file or folder a fault is about.
fn in_file<T>(path: &Path, read: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    read().with_context(|| path.display().to_string())
}
