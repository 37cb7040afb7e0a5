//! Adding and changing partners.

use std::path::PathBuf;

use anyhow::Context as _;
use blindbook::{
    identifier::Provider,
    keyring,
    wire::admin::{Partner, PartnerRole, ProviderKey, PutPartner},
};

use super::{Outcome, Speaker, failed, input, speak};
use crate::commands::registry::hex;

/// What a partner is.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RoleName {
    /// An application provider: --provider
    Ap,
    /// Another directory
    Peer,
    /// An authority: --number, --domain
    Authority,
    /// An administrator
    Admin,
}

#[derive(clap::Args)]
pub(super) struct Put {
    #[command(flatten)]
    speaker: Speaker,
    /// The URI of its certificate, as `spiffe://wa.example/ap`
    #[arg(long)]
    uri: String,
    /// What metrics call it: a-z, 0-9 and -
    #[arg(long)]
    alias: String,
    /// What it is
    #[arg(long, value_enum)]
    role: RoleName,
    /// The domain name of an application provider
    #[arg(long, required_if_eq("role", "ap"))]
    provider: Option<String>,
    /// The public key that signs an application provider's mappings, as the
    /// `ap.pub` of keygen; without it the recorded one stays
    #[arg(long, value_name = "FILE", requires = "provider")]
    provider_key: Option<PathBuf>,
    /// What `vouch` printed, where a recorded key gives way
    #[arg(long, value_name = "HEX", requires = "provider_key")]
    vouched: Option<String>,
    /// Beginnings of numbers that an authority covers, as +1415
    #[arg(long = "number", value_name = "BEGINNING")]
    numbers: Vec<String>,
    /// Domains that an authority covers
    #[arg(long = "domain", value_name = "NAME")]
    domains: Vec<String>,
    /// Most elements that it may have evaluated in a day
    #[arg(long, value_name = "NUMBER")]
    evaluations_per_day: Option<u64>,
}

impl Put {
    pub(super) fn run(self, new: bool) -> Outcome {
        let put = self.request(new).map_err(input)?;
        speak(&self.speaker, async |admin| admin.put(put).await.map_err(failed))
    }

    fn request(&self, new: bool) -> anyhow::Result<PutPartner> {
        let (ap, authority) = (self.role == RoleName::Ap, self.role == RoleName::Authority);
        anyhow::ensure!(ap || self.provider.is_none(), "--provider belongs to --role ap");
        anyhow::ensure!(
            authority || (self.numbers.is_empty() && self.domains.is_empty()),
            "--number and --domain belong to --role authority"
        );
        let role = match (self.role, &self.provider) {
            (RoleName::Ap, provider) => {
                let name = provider.as_deref().unwrap_or_default();
                let name = Provider::parse(name).context("--provider is refused")?;
                PartnerRole::Ap(name.as_str().to_owned())
            }
            (RoleName::Peer, _) => PartnerRole::Peer,
            (RoleName::Authority, _) => PartnerRole::Authority {
                numbers: self.numbers.clone(),
                domains: self.domains.clone(),
            },
            (RoleName::Admin, _) => PartnerRole::Admin,
        };
        let key = match &self.provider_key {
            Some(path) => {
                let vouched = self.vouched.as_deref().map(hex).transpose().context("--vouched")?;
                Some(ProviderKey { key: keyring::provider_public_key(path)?, vouched })
            }
            None => None,
        };
        let partner = Partner {
            uri: self.uri.clone(),
            alias: self.alias.clone(),
            role,
            evaluations_per_day: self.evaluations_per_day,
        };
        Ok(PutPartner { partner, new, key })
    }
}
