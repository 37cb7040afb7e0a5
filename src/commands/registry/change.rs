//! Preferences, releases, ports.

use std::path::PathBuf;

use anyhow::Context as _;
use blindbook::{
    bucket::{Mapping, SignedMapping},
    client::registry::Registry,
    identifier::{Provider, Region, Ssi, User},
    registry::DEFAULT_TTL_S,
    wire::registry::{self, MappingName, Releases, SetPreference, SetPreferences},
};
use serde::Serialize;

use super::{
    Failure, Outcome,
    claim::{For, MappingFlags, Signer},
    failed, hex, input, print,
    proof::ProofFlags,
    sii,
};

#[derive(clap::Args)]
pub(super) struct SetAudience {
    /// The identifier
    sii: String,
    #[command(flatten)]
    signer: Signer,
    /// The user at the provider
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Whom the mapping is meant for from now on
    #[arg(long, value_enum)]
    audience: For,
    /// As it was claimed
    #[arg(long, value_name = "S")]
    ttl_s: u32,
    /// As it was claimed; 0 if it was loaded
    #[arg(long, value_name = "S")]
    verified_until_s: u32,
    /// The circle's id as `list` tells it, if the mapping is a circle's
    #[arg(long, value_name = "HEX")]
    circle_id: Option<String>,
}

impl SetAudience {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let (provider, key) = self.signer.read()?;
        let sii = sii(&self.sii, region)?;
        let user = User::parse(&self.user).context("--user").map_err(input)?;
        let mapping = Mapping {
            ssi: Ssi::new(provider, user.clone()).map_err(input)?,
            audience: self.audience.into(),
            default_since: 0,
            verified_until: self.verified_until_s,
            ttl_s: self.ttl_s,
        };
        let signature = SignedMapping::sign(&sii, mapping, &key).signature;
        let (audience, circle) = (self.audience.into(), circle_id(self.circle_id.as_deref())?);
        let change = SetPreference::Audience { user, circle, audience, signature };
        registry.set_preferences(SetPreferences { sii, change }).await.map_err(failed)
    }
}

fn circle_id(text: Option<&str>) -> Result<Option<[u8; 16]>, Failure> {
    text.map(hex).transpose().context("--circle-id").map_err(input)
}

/// Names a mapping of any provider.
fn name(mapping: &str, circle: Option<&str>) -> Result<MappingName, Failure> {
    let named = || {
        let (user, provider) = mapping.rsplit_once('@').context("it has no @")?;
        Ok::<_, anyhow::Error>(Ssi::new(Provider::parse(provider)?, User::parse(user)?)?)
    };
    let ssi = named().context("--mapping takes USER@PROVIDER").map_err(input)?;
    Ok(MappingName { ssi, circle: circle_id(circle)? })
}

#[derive(clap::Args)]
pub(super) struct SetDefault {
    /// The identifier
    sii: String,
    /// Which mapping, as alice@wa.example
    #[arg(long, value_name = "USER@PROVIDER")]
    mapping: String,
    /// The circle's id as `list` tells it, if the mapping is a circle's
    #[arg(long, value_name = "HEX")]
    circle_id: Option<String>,
    #[command(flatten)]
    proof: ProofFlags,
}

impl SetDefault {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let sii = sii(&self.sii, region)?;
        let mapping = name(&self.mapping, self.circle_id.as_deref())?;
        let proof = self.proof.read().map_err(input)?;
        let change = SetPreference::Default { mapping, proof };
        registry.set_preferences(SetPreferences { sii, change }).await.map_err(failed)
    }
}

#[derive(clap::Args)]
pub(super) struct Release {
    /// The identifier
    sii: String,
    #[command(flatten)]
    right: Right,
    /// The circle's id as `list` tells it, if the mapping is a circle's
    #[arg(long, value_name = "HEX", requires = "mapping")]
    circle_id: Option<String>,
    #[command(flatten)]
    proof: ProofFlags,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Right {
    /// The caller's own mapping to this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Every mapping, as an authority over the number or domain
    #[arg(long)]
    all: bool,
    /// Any one mapping, as alice@wa.example, with a proof of control
    #[arg(long, value_name = "USER@PROVIDER")]
    mapping: Option<String>,
}

#[derive(Serialize)]
struct Released {
    released: u32,
}

impl Release {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let sii = sii(&self.sii, region)?;
        let which = match (&self.right.user, &self.right.mapping) {
            (Some(user), _) => {
                Releases::Own { user: User::parse(user).context("--user").map_err(input)? }
            }
            (None, Some(mapping)) => Releases::Control {
                mapping: name(mapping, self.circle_id.as_deref())?,
                proof: self.proof.read().map_err(input)?,
            },
            (None, None) => Releases::All,
        };
        let release = registry::Release { sii, releases: which };
        let released = registry.release(release).await.map_err(failed)?;
        print(&Released { released: released.released })
    }
}

#[derive(clap::Args)]
pub(super) struct Port {
    /// The identifier
    sii: String,
    /// The old operator, if it is a provider
    #[arg(long, value_name = "DOMAIN")]
    from: Option<String>,
    /// Claims it for the caller's provider, the new operator
    #[arg(long, value_name = "DOMAIN", requires_all = ["ap_key", "user"])]
    provider: Option<String>,
    /// Its signing key, ap.key
    #[arg(long, value_name = "FILE", requires = "provider")]
    ap_key: Option<PathBuf>,
    /// The user there
    #[arg(long, value_name = "NAME", requires = "provider")]
    user: Option<String>,
    /// Whom the new mapping is meant for
    #[arg(long, value_enum, default_value = "personal")]
    audience: For,
    /// Seconds for which an answer may be kept
    #[arg(long, value_name = "S", default_value_t = DEFAULT_TTL_S)]
    ttl_s: u32,
    /// Until when it counts as verified, seconds since 1970; about 30 days from
    /// now if not said
    #[arg(long, value_name = "S", requires = "provider")]
    verified_until_s: Option<u32>,
    /// A file with a circle's secret, 64 hexadecimal digits
    #[arg(long, value_name = "FILE", requires = "provider")]
    circle: Option<PathBuf>,
    #[command(flatten)]
    proof: ProofFlags,
}

#[derive(Serialize)]
struct Ported {
    released: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewed: Option<bool>,
}

impl Port {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let sii = sii(&self.sii, region)?;
        let from = self.from.as_deref().map(Provider::parse);
        let from = from.transpose().context("--from").map_err(input)?;
        let claim = match (&self.provider, &self.ap_key, &self.user) {
            (Some(provider), Some(ap_key), Some(user)) => {
                let signer = Signer { provider: provider.clone(), ap_key: ap_key.clone() };
                let mapping = MappingFlags {
                    user: user.clone(),
                    audience: self.audience,
                    ttl_s: self.ttl_s,
                    verified_until_s: self.verified_until_s,
                    circle: self.circle.clone(),
                };
                let (provider, key) = signer.read()?;
                let proof = self.proof.read().map_err(input)?;
                Some(mapping.claim(sii.clone(), provider, &key, proof).map_err(input)?)
            }
            _ => None,
        };
        let ported = registry.port(registry::Port { sii, from, claim }).await.map_err(failed)?;
        let renewed = ported.claimed.map(|claimed| claimed.renewed);
        print(&Ported { released: ported.released, renewed })
    }
}
