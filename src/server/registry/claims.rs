//! Claims, and the ports that may end in one.

use super::{Inner, RegistryError, changes::count};
use crate::{
    access::{Partner, Role},
    identifier::Provider,
    registry::{Circle, Claim, Claimed, Port},
    wire::registry as wire,
};

impl Inner {
    /// Maps an identifier to a user of the provider that asks.
    pub(super) async fn claim(
        &self,
        provider: &Provider,
        claim: wire::Claim,
    ) -> Result<wire::Claimed, RegistryError> {
        let claim = self.proved(provider, claim).await?;
        Ok(answer(self.ledger.claim(self.now_s(), claim).await?))
    }

    /// Moves an identifier. Who claims it shows that its user wants that, so
    /// that the old operator need not agree; who does not claim may only give
    /// up its own, or has authority over the identifier.
    pub(super) async fn port(
        &self,
        caller: &Partner,
        port: wire::Port,
    ) -> Result<wire::Ported, RegistryError> {
        let to = match (&caller.role, port.claim) {
            (Role::Ap(own), Some(claim)) => Some(self.proved(own, claim).await?),
            (Role::Ap(own), None) if port.from.as_ref() == Some(own) => None,
            (Role::Ap(_), None) => return Err(RegistryError::PortOfAnother),
            (Role::Authority(_), Some(_)) | (Role::Peer | Role::Admin, _) => {
                return Err(RegistryError::NotAProvider);
            }
            (Role::Authority(_), None) => {
                caller.covers(&port.sii)?;
                None
            }
        };
        let port = Port { sii: port.sii, from: port.from, to };
        let ported = self.ledger.port(self.now_s(), port).await?;
        let (released, claimed) = (count(ported.released), ported.claimed.map(answer));
        Ok(wire::Ported { released, claimed })
    }

    /// A claim whose proof holds for the provider that asks.
    async fn proved(
        &self,
        provider: &Provider,
        claim: wire::Claim,
    ) -> Result<Claim, RegistryError> {
        self.check_region(&claim.sii)?;
        let proven = self.prove(&claim.proof, &claim.sii, provider).await?;
        Ok(Claim {
            verified: proven.into(),
            user: claim.user,
            audience: claim.audience,
            ttl_s: claim.ttl_s,
            verified_until: claim.verified_until_s,
            signature: claim.signature,
            circle: claim.circle.map(Circle::new),
        })
    }
}

const fn answer(claimed: Claimed) -> wire::Claimed {
    wire::Claimed { renewed: matches!(claimed, Claimed::Renewed) }
}
