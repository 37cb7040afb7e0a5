//! What administrators ask: the directory of partners, changed while the server
//! runs. Who asks was let in by its role.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    ServerError,
    peer::{Caller, PeerError},
    publish::Publisher,
};
use crate::{
    access::{AccessError, Alias, Coverage, Partner, PartnerUri, Partners, PartnersError, Role},
    identifier::Provider,
    registry::{KeyRecorded, Ledger, ProviderKeyError, ProviderKeys},
    store::StoreError,
    wire::{
        WireError, admin as wire,
        proto::{self, admin_service_server::AdminService},
    },
};

/// Most bytes of the partners of one page, so that it is no long message.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// Why an administrator's call was refused. No text names a partner.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// The request breaks a rule.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The caller is an administrator no more.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The list of partners does not take it.
    #[error(transparent)]
    Partners(#[from] PartnersError),
    /// The key of a provider is refused.
    #[error(transparent)]
    Key(#[from] ProviderKeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change is durable, but could not be published.
    #[error(transparent)]
    Publish(#[from] ServerError),
}

/// The administrators' side of the server. Clones share everything.
#[derive(Clone)]
pub(super) struct Admin {
    partners: Partners,
    keys: ProviderKeys,
    publisher: Arc<Publisher>,
    /// Remembers the keys of providers.
    ledger: Option<Ledger>,
}

impl Admin {
    pub(super) const fn new(
        partners: Partners,
        keys: ProviderKeys,
        publisher: Arc<Publisher>,
        ledger: Option<Ledger>,
    ) -> Self {
        Self { partners, keys, publisher, ledger }
    }

    async fn put(&self, put: wire::PutPartner) -> Result<(), AdminError> {
        let partner = named(put.partner)?;
        // Nothing is recorded for a partner that will not be taken.
        self.partners.check(&partner, put.new)?;
        if let (Role::Ap(provider), Some(key)) = (&partner.role, put.key) {
            let this = self.clone();
            let provider = provider.clone();
            // To its end, even if whoever asked goes away.
            let recording = tokio::spawn(async move { this.record(&provider, key).await });
            let ended = StoreError::Misuse("the recording of a key was cut short");
            recording.await.map_err(|_| ended)??;
        }
        Ok(self.partners.put(partner, put.new).await?)
    }

    /// Records a provider's key and publishes it.
    async fn record(&self, provider: &Provider, key: wire::ProviderKey) -> Result<(), AdminError> {
        if self.keys.record(provider, &key.key, key.vouched).await? == KeyRecorded::Same {
            return Ok(());
        }
        if let Some(ledger) = &self.ledger {
            ledger.provider_recorded(provider);
        }
        Ok(self.publisher.refresh().await?)
    }

    async fn list(&self, list: &wire::ListPartners) -> Result<wire::PartnersListed, AdminError> {
        let after = Some(list.page_token.as_str()).filter(|token| !token.is_empty());
        let limit = usize::try_from(list.page_size).unwrap_or(usize::MAX);
        let page = self.partners.list(after, limit);
        let (mut partners, mut bytes) = (Vec::new(), 0);
        let mut next = page.next.map(|uri| uri.as_str().to_owned());
        for (partner, configured) in page.partners {
            let key = match &partner.role {
                Role::Ap(provider) => self.keys.get(provider).await?,
                _ => None,
            };
            let listed = texts(&partner);
            bytes += weight(&listed);
            partners.push(wire::ListedPartner { partner: listed, configured, key });
            if bytes > MAX_PAGE_BYTES {
                // Perhaps the last: then the next page is empty.
                next = Some(partner.uri.as_str().to_owned());
                break;
            }
        }
        Ok(wire::PartnersListed { partners, next_page_token: next.unwrap_or_default() })
    }
}

/// About the bytes of a partner in a message.
fn weight(partner: &wire::Partner) -> usize {
    let covered = match &partner.role {
        wire::PartnerRole::Ap(provider) => provider.len(),
        wire::PartnerRole::Authority { numbers, domains } => {
            numbers.iter().chain(domains).map(|text| text.len() + 4).sum()
        }
        wire::PartnerRole::Peer | wire::PartnerRole::Admin => 0,
    };
    partner.uri.len() + partner.alias.len() + covered + 100
}

/// The partner that texts name.
fn named(partner: wire::Partner) -> Result<Partner, WireError> {
    let role = match partner.role {
        wire::PartnerRole::Ap(name) => {
            let refused = |error| WireError::Identifier { field: "partner.ap.provider", error };
            Role::Ap(Provider::from_canonical(&name).map_err(refused)?)
        }
        wire::PartnerRole::Peer => Role::Peer,
        wire::PartnerRole::Authority { numbers, domains } => {
            Role::Authority(Coverage::new(&numbers, &domains).map_err(|error| rule(&error))?)
        }
        wire::PartnerRole::Admin => Role::Admin,
    };
    Ok(Partner {
        uri: PartnerUri::parse(&partner.uri).map_err(|error| rule(&error))?,
        alias: Alias::parse(&partner.alias).map_err(|error| rule(&error))?,
        role,
        evaluations_per_day: partner.evaluations_per_day,
    })
}

/// What is wrong, without the value.
const fn rule(error: &AccessError) -> WireError {
    let (field, rule) = match error {
        AccessError::Uri(_) => {
            ("partner.uri", "must be scheme://rest, at most 1024 bytes of visible ASCII")
        }
        AccessError::Alias(_) => {
            ("partner.alias", "must be 1 to 63 of a-z, 0-9 and -, and not begin with -")
        }
        AccessError::Number(_) => {
            ("partner.authority.numbers", "must be + and 1 to 15 digits, the first not 0")
        }
        AccessError::Domain(_) => ("partner.authority.domains", "must be domains of addresses"),
        AccessError::NoCoverage => ("partner.authority", "must cover numbers or domains"),
    };
    WireError::Rule { field, rule }
}

fn texts(partner: &Partner) -> wire::Partner {
    let owned = |text: &str| text.to_owned();
    let role = match &partner.role {
        Role::Ap(provider) => wire::PartnerRole::Ap(provider.as_str().into()),
        Role::Peer => wire::PartnerRole::Peer,
        Role::Authority(coverage) => wire::PartnerRole::Authority {
            numbers: coverage.numbers().map(owned).collect(),
            domains: coverage.domains().map(owned).collect(),
        },
        Role::Admin => wire::PartnerRole::Admin,
    };
    wire::Partner {
        uri: partner.uri.as_str().into(),
        alias: partner.alias.as_str().into(),
        role,
        evaluations_per_day: partner.evaluations_per_day,
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn put_partner(
        &self,
        request: Request<proto::PutPartnerRequest>,
    ) -> Result<Response<proto::PutPartnerResponse>, Status> {
        Caller::of(&request).map_err(AdminError::from)?;
        let put = request.into_inner().try_into().map_err(AdminError::from)?;
        self.put(put).await?;
        Ok(Response::new(proto::PutPartnerResponse {}))
    }

    async fn remove_partner(
        &self,
        request: Request<proto::RemovePartnerRequest>,
    ) -> Result<Response<proto::RemovePartnerResponse>, Status> {
        Caller::of(&request).map_err(AdminError::from)?;
        let uri = PartnerUri::parse(&request.into_inner().uri);
        let uri = uri.map_err(|error| AdminError::from(rule(&error)))?;
        self.partners.remove(uri).await.map_err(AdminError::from)?;
        Ok(Response::new(proto::RemovePartnerResponse {}))
    }

    async fn list_partners(
        &self,
        request: Request<proto::ListPartnersRequest>,
    ) -> Result<Response<proto::ListPartnersResponse>, Status> {
        Caller::of(&request).map_err(AdminError::from)?;
        let list = request.into_inner().try_into().map_err(AdminError::from)?;
        Ok(Response::new(self.list(&list).await?.into()))
    }
}
