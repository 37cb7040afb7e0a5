//! Preferences, releases and lists.

use bytes::Bytes;

use super::{Inner, RegistryError};
use crate::{
    access::Partner,
    identifier::{Provider, Ssi},
    registry::{CircleId, LedgerError, Mapped, PageToken, Which},
    wire::registry as wire,
};

impl Inner {
    pub(super) async fn set_preferences(
        &self,
        provider: &Provider,
        set: wire::SetPreferences,
    ) -> Result<(), RegistryError> {
        match set.change {
            wire::SetPreference::Audience { user, circle, audience, signature } => {
                let ssi = Ssi::new(provider.clone(), user).map_err(LedgerError::Ssi)?;
                let which = Which { ssi, circle: circle.map(CircleId::from_bytes) };
                let now_s = self.now_s();
                self.ledger.set_audience(now_s, &set.sii, which, audience, signature).await?;
            }
            wire::SetPreference::Default { mapping, proof } => {
                let proven = self.prove(&proof, &set.sii, provider).await?;
                self.ledger.set_default(self.now_s(), proven.into(), which(mapping)).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn release(
        &self,
        caller: &Partner,
        release: wire::Release,
    ) -> Result<wire::Released, RegistryError> {
        let released = match release.releases {
            wire::Releases::Own { user } => {
                let provider = caller.provider()?.clone();
                self.ledger.release_own(self.now_s(), provider, &release.sii, user).await?
            }
            wire::Releases::All => {
                caller.covers(&release.sii)?;
                self.ledger.release_all(self.now_s(), &release.sii).await?
            }
            wire::Releases::Control { mapping, proof } => {
                let proven = self.prove(&proof, &release.sii, caller.provider()?).await?;
                self.ledger.release(self.now_s(), proven.into(), which(mapping)).await?;
                1
            }
        };
        Ok(wire::Released { released: count(released) })
    }

    pub(super) async fn list(
        &self,
        provider: &Provider,
        list: wire::List,
    ) -> Result<wire::Listed, RegistryError> {
        let (mapped, next) = match list {
            wire::List::Own { page_token, page_size } => {
                let from = match page_token.as_ref() {
                    [] => None,
                    token => Some(PageToken::from_bytes(token)?),
                };
                let limit = usize::try_from(page_size).unwrap_or(usize::MAX);
                let page = self.ledger.list(provider, from, limit).await?;
                (page.mappings, page.next)
            }
            wire::List::Control { sii, proof } => {
                let proven = self.prove_to_look(&proof, &sii, provider).await?;
                (self.ledger.list_control(self.now_s(), &proven.into()).await?, None)
            }
        };
        let next_page_token =
            next.map_or_else(Bytes::new, |next| Bytes::copy_from_slice(&next.to_bytes()));
        Ok(wire::Listed { mappings: mapped.into_iter().map(listed).collect(), next_page_token })
    }
}

fn which(name: wire::MappingName) -> Which {
    Which { ssi: name.ssi, circle: name.circle.map(CircleId::from_bytes) }
}

fn listed(mapped: Mapped) -> wire::ListedMapping {
    wire::ListedMapping {
        sii: mapped.sii,
        mapping: wire::MappingName {
            ssi: mapped.which.ssi,
            circle: mapped.which.circle.map(CircleId::to_bytes),
        },
        audience: mapped.audience,
        default_since_s: mapped.default_since,
        verified_until_s: mapped.verified_until,
        ttl_s: mapped.ttl_s,
    }
}

/// At most eight of one identifier.
pub(super) fn count(mappings: usize) -> u32 {
    u32::try_from(mappings).unwrap_or(u32::MAX)
}
