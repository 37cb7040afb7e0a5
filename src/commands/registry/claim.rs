//! Claims: signed here with the provider's key, one or many.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};
use blindbook::{
    bucket::{Audience, Mapping, SignedMapping},
    client::registry::Registry,
    identifier::{Provider, Region, Sii, Ssi, User},
    keyring,
    registry::{DEFAULT_TTL_S, MAX_VERIFIED_S},
    secret::{Secret, SecretText},
    wire::registry::{Claim, Proof},
};
use clap::ValueEnum;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt as _;

use super::{Failure, Outcome, failed, hex, input, print, proof::ProofFlags, secret_text, sii};
use crate::commands::now_s;

/// A proof is at most so old: what is claimed with it must end so much earlier
/// than 30 days from now.
const PROOF_AGE_S: u64 = 3600;

/// Longest line of a file of claims.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Whom a mapping is meant for.
#[derive(Clone, Copy, ValueEnum, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(super) enum For {
    #[default]
    Personal,
    Business,
}

impl From<For> for Audience {
    fn from(meant: For) -> Self {
        match meant {
            For::Personal => Self::Personal,
            For::Business => Self::Business,
        }
    }
}

/// The provider that claims.
#[derive(clap::Args)]
pub(super) struct Signer {
    /// The caller's provider, as wa.example
    #[arg(long, value_name = "DOMAIN")]
    pub(super) provider: String,
    /// Its signing key, ap.key
    #[arg(long, value_name = "FILE")]
    pub(super) ap_key: PathBuf,
}

impl Signer {
    pub(super) fn read(&self) -> Result<(Provider, SigningKey), Failure> {
        let provider = Provider::parse(&self.provider).context("--provider").map_err(input)?;
        Ok((provider, keyring::provider_key(&self.ap_key).map_err(input)?))
    }
}

/// The mapping that is claimed.
#[derive(clap::Args)]
pub(super) struct MappingFlags {
    /// The user at the provider
    #[arg(long, value_name = "NAME")]
    pub(super) user: String,
    /// Whom it is meant for
    #[arg(long, value_enum, default_value = "personal")]
    pub(super) audience: For,
    /// Seconds for which an answer may be kept
    #[arg(long, value_name = "S", default_value_t = DEFAULT_TTL_S)]
    pub(super) ttl_s: u32,
    /// Until when it counts as verified, seconds since 1970; about 30 days from
    /// now if not said
    #[arg(long, value_name = "S")]
    pub(super) verified_until_s: Option<u32>,
    /// A file with a circle's secret, 64 hexadecimal digits: only who holds it
    /// finds the mapping
    #[arg(long, value_name = "FILE")]
    pub(super) circle: Option<PathBuf>,
}

impl MappingFlags {
    pub(super) fn claim(
        &self,
        sii: Sii,
        provider: Provider,
        key: &SigningKey,
        proof: Proof,
    ) -> anyhow::Result<Claim> {
        let circle = self.circle.as_deref().map(circle).transpose()?;
        let wanted = Wanted {
            user: User::parse(&self.user).context("--user")?,
            audience: self.audience.into(),
            ttl_s: self.ttl_s,
            verified_until_s: self.verified_until_s,
            circle,
        };
        wanted.claim(sii, provider, key, proof)
    }
}

/// A circle's secret, from its file.
pub(in super::super) fn circle(path: &Path) -> anyhow::Result<Secret<32>> {
    let text = secret_text(path)?;
    Ok(Secret::new(hex(&text).with_context(|| path.display().to_string())?))
}

/// What is claimed, before it is signed.
struct Wanted {
    user: User,
    audience: Audience,
    ttl_s: u32,
    verified_until_s: Option<u32>,
    circle: Option<Secret<32>>,
}

impl Wanted {
    fn claim(
        self,
        sii: Sii,
        provider: Provider,
        key: &SigningKey,
        proof: Proof,
    ) -> anyhow::Result<Claim> {
        let Self { user, audience, ttl_s, verified_until_s, circle } = self;
        let longest = (now_s() + MAX_VERIFIED_S - PROOF_AGE_S).try_into();
        let verified_until_s = match verified_until_s {
            Some(until_s) => until_s,
            None => longest.context("the clock shows a time beyond the year 2105: set it")?,
        };
        let mapping = Mapping {
            ssi: Ssi::new(provider, user.clone())?,
            audience,
            default_since: 0,
            verified_until: verified_until_s,
            ttl_s,
        };
        let signature = SignedMapping::sign(&sii, mapping, key).signature;
        Ok(Claim { sii, user, audience, ttl_s, verified_until_s, signature, proof, circle })
    }
}

#[derive(clap::Args)]
pub(super) struct One {
    /// The identifier
    sii: String,
    #[command(flatten)]
    signer: Signer,
    #[command(flatten)]
    mapping: MappingFlags,
    #[command(flatten)]
    proof: ProofFlags,
}

#[derive(Serialize)]
struct Line {
    renewed: bool,
}

impl One {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let (provider, key) = self.signer.read()?;
        let proof = self.proof.read().map_err(input)?;
        let sii = sii(&self.sii, region)?;
        let claim = self.mapping.claim(sii, provider, &key, proof).map_err(input)?;
        let claimed = registry.claim(claim).await.map_err(failed)?;
        print(&Line { renewed: claimed.renewed })
    }
}

#[derive(clap::Args)]
pub(super) struct Many {
    /// A file with one JSON object a line: sii, user, `claim_token`, and if
    /// wanted audience, `ttl_s`, `verified_until_s`, circle
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    signer: Signer,
}

/// One line of a file of claims.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimLine {
    sii: String,
    user: String,
    claim_token: String,
    #[serde(default)]
    audience: For,
    ttl_s: Option<u32>,
    verified_until_s: Option<u32>,
    circle: Option<String>,
}

#[derive(Serialize)]
struct OutcomeLine<'a> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl Many {
    /// Reads the whole file before a claim goes out: a broken line is found
    /// while nothing is done.
    fn read(&self, region: Option<Region>) -> anyhow::Result<Vec<Claim>> {
        let (provider, key) = self.signer.read().map_err(|failure| match failure {
            Failure::Input(error) | Failure::Failed(error) => error,
        })?;
        let at = || self.file.display().to_string();
        let mut file = BufReader::new(File::open(&self.file).with_context(at)?);
        let mut claims = Vec::new();
        for number in 1.. {
            let mut line = String::new();
            let read = (&mut file).take(MAX_LINE_BYTES + 1).read_line(&mut line);
            if read.with_context(at)? == 0 {
                break;
            }
            // Nothing of the line is told: it holds a token and an identifier.
            let claim = read_line(&line, region, &provider, &key)
                .with_context(|| format!("{}, line {number}", at()))?;
            claims.push(claim);
        }
        Ok(claims)
    }

    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let claims = self.read(region).map_err(input)?;
        let expected = claims.len() as u64;
        let outcomes = registry.claim_many(tokio_stream::iter(claims)).await.map_err(failed)?;
        let mut outcomes = std::pin::pin!(outcomes);
        let (mut told, mut refused) = (0, 0);
        while let Some(outcome) = outcomes.next().await {
            let outcome = outcome.map_err(failed)?;
            let (renewed, refusal) = match &outcome.outcome {
                Ok(claimed) => (Some(claimed.renewed), None),
                Err(refusal) => (None, Some(refusal)),
            };
            told += 1;
            refused += u64::from(refusal.is_some());
            print(&OutcomeLine {
                line: outcome.index + 1,
                renewed,
                reason: refusal.map(|refusal| refusal.reason.as_str()),
                message: refusal.map(|refusal| refusal.message.as_str()),
            })?;
        }
        if told != expected {
            let unknown = expected.saturating_sub(told);
            return Err(Failure::Failed(anyhow!("{unknown} claims were not answered: ask again")));
        }
        match refused {
            0 => Ok(()),
            refused => Err(Failure::Failed(anyhow!("{refused} of {expected} claims were refused"))),
        }
    }
}

fn read_line(
    line: &str,
    region: Option<Region>,
    provider: &Provider,
    key: &SigningKey,
) -> anyhow::Result<Claim> {
    ensure!(line.len() as u64 <= MAX_LINE_BYTES, "the line is too long");
    // What serde_json says may quote the line.
    let line: ClaimLine = serde_json::from_str(line).map_err(|error| {
        anyhow!("not a JSON object of a claim, at column {} of the line", error.column())
    })?;
    let wanted = Wanted {
        user: User::parse(&line.user).context("user")?,
        audience: line.audience.into(),
        ttl_s: line.ttl_s.unwrap_or(DEFAULT_TTL_S),
        verified_until_s: line.verified_until_s,
        circle: line
            .circle
            .map(|text| hex(&text).map(Secret::new))
            .transpose()
            .context("circle")?,
    };
    let sii = Sii::parse(&line.sii, region).context("sii")?;
    let token = Proof::Token(SecretText::from(line.claim_token));
    wanted.claim(sii, provider.clone(), key, token)
}
