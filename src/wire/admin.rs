//! What administrators ask, and what they are answered, in checked form. Of a
//! partner only the shape is checked here; what its texts name is the server's to
//! judge.

use ed25519_dalek::VerifyingKey;

use super::{WireError, array, proto};

/// Most partners that a page is asked for.
pub const MAX_PARTNERS_PAGE: u32 = 1000;

const DEFAULT_PAGE: u32 = 100;

/// What a partner is to the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartnerRole {
    /// An application provider, by its domain name.
    Ap(String),
    /// Another directory.
    Peer,
    /// An authority over numbers and domains.
    Authority {
        /// Beginnings of numbers.
        numbers: Vec<String>,
        /// Domains.
        domains: Vec<String>,
    },
    /// An administrator.
    Admin,
}

/// A partner, as texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Partner {
    /// The URI of its certificate.
    pub uri: String,
    /// What metrics call it.
    pub alias: String,
    /// What it is.
    pub role: PartnerRole,
    /// Most elements that it may have evaluated in a day.
    pub evaluations_per_day: Option<u64>,
}

impl std::fmt::Debug for Partner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Partner(..)")
    }
}

impl TryFrom<proto::Partner> for Partner {
    type Error = WireError;

    fn try_from(partner: proto::Partner) -> Result<Self, WireError> {
        use proto::partner::Role;
        let role = match partner.role.ok_or(WireError::Missing("partner.role"))? {
            Role::Ap(ap) => PartnerRole::Ap(ap.provider),
            Role::Peer(_) => PartnerRole::Peer,
            Role::Authority(authority) => {
                PartnerRole::Authority { numbers: authority.numbers, domains: authority.domains }
            }
            Role::Admin(_) => PartnerRole::Admin,
        };
        let (uri, alias) = (partner.uri, partner.alias);
        Ok(Self { uri, alias, role, evaluations_per_day: partner.evaluations_per_day })
    }
}

impl From<Partner> for proto::Partner {
    fn from(partner: Partner) -> Self {
        use proto::partner::Role;
        let role = match partner.role {
            PartnerRole::Ap(provider) => Role::Ap(proto::ApplicationProvider { provider }),
            PartnerRole::Peer => Role::Peer(proto::PeerDirectory {}),
            PartnerRole::Authority { numbers, domains } => {
                Role::Authority(proto::NamingAuthority { numbers, domains })
            }
            PartnerRole::Admin => Role::Admin(proto::Administrator {}),
        };
        Self {
            uri: partner.uri,
            alias: partner.alias,
            role: Some(role),
            evaluations_per_day: partner.evaluations_per_day,
        }
    }
}

/// A key of an application provider, and the signature of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderKey {
    /// The key.
    pub key: VerifyingKey,
    /// [`super::KeySuccession::signature`].
    pub vouched: Option<[u8; 64]>,
}

/// Adds or changes a partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutPartner {
    /// All of it.
    pub partner: Partner,
    /// Whether it must not be there yet; else it must.
    pub new: bool,
    /// The key of an application provider, if it is to be recorded.
    pub key: Option<ProviderKey>,
}

impl TryFrom<proto::PutPartnerRequest> for PutPartner {
    type Error = WireError;

    fn try_from(request: proto::PutPartnerRequest) -> Result<Self, WireError> {
        let new = match request.mode() {
            proto::PutMode::Unspecified => return Err(WireError::Missing("mode")),
            proto::PutMode::Add => true,
            proto::PutMode::Set => false,
        };
        let partner: Partner = request.partner.ok_or(WireError::Missing("partner"))?.try_into()?;
        let key = key("provider_key", &request.provider_key)?;
        let vouched = match request.succession_signature.as_ref() {
            [] => None,
            bytes => Some(array("succession_signature", bytes)?),
        };
        if key.is_none() && vouched.is_some() {
            return Err(WireError::Missing("provider_key"));
        }
        if key.is_some() && !matches!(partner.role, PartnerRole::Ap(_)) {
            let rule = "belongs to an application provider";
            return Err(WireError::Rule { field: "provider_key", rule });
        }
        Ok(Self { partner, new, key: key.map(|key| ProviderKey { key, vouched }) })
    }
}

impl From<PutPartner> for proto::PutPartnerRequest {
    fn from(put: PutPartner) -> Self {
        let mode = if put.new { proto::PutMode::Add } else { proto::PutMode::Set };
        let vouched = put.key.as_ref().and_then(|key| key.vouched);
        let key = put.key.map(|key| key.key.as_bytes().to_vec()).unwrap_or_default();
        Self {
            partner: Some(put.partner.into()),
            mode: mode.into(),
            provider_key: key.into(),
            succession_signature: vouched.map(Vec::from).unwrap_or_default().into(),
        }
    }
}

/// Asks for a page of partners.
#[derive(Clone, PartialEq, Eq)]
pub struct ListPartners {
    /// At most so many, 1 to [`MAX_PARTNERS_PAGE`].
    pub page_size: u32,
    /// Of the page before; empty for the first.
    pub page_token: String,
}

impl std::fmt::Debug for ListPartners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListPartners(..)")
    }
}

impl TryFrom<proto::ListPartnersRequest> for ListPartners {
    type Error = WireError;

    fn try_from(request: proto::ListPartnersRequest) -> Result<Self, WireError> {
        let page_size = match request.page_size {
            0 => DEFAULT_PAGE,
            size if size <= MAX_PARTNERS_PAGE => size,
            _ => {
                let rule = "must be at most 1000";
                return Err(WireError::Rule { field: "page_size", rule });
            }
        };
        Ok(Self { page_size, page_token: request.page_token })
    }
}

impl From<ListPartners> for proto::ListPartnersRequest {
    fn from(list: ListPartners) -> Self {
        Self { page_size: list.page_size, page_token: list.page_token }
    }
}

/// One partner, listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPartner {
    /// All of it.
    pub partner: Partner,
    /// Whether the server's configuration lists it.
    pub configured: bool,
    /// The key of an application provider.
    pub key: Option<VerifyingKey>,
}

impl TryFrom<proto::ListedPartner> for ListedPartner {
    type Error = WireError;

    fn try_from(listed: proto::ListedPartner) -> Result<Self, WireError> {
        let partner = listed.partner.ok_or(WireError::Missing("partners.partner"))?.try_into()?;
        let key = key("partners.provider_key", &listed.provider_key)?;
        Ok(Self { partner, configured: listed.configured, key })
    }
}

impl From<ListedPartner> for proto::ListedPartner {
    fn from(listed: ListedPartner) -> Self {
        let key = listed.key.map(|key| key.as_bytes().to_vec()).unwrap_or_default();
        Self {
            partner: Some(listed.partner.into()),
            configured: listed.configured,
            provider_key: key.into(),
        }
    }
}

/// A page of partners.
#[derive(Clone, PartialEq, Eq)]
pub struct PartnersListed {
    /// Ascending by URI.
    pub partners: Vec<ListedPartner>,
    /// For the next page; empty at the end.
    pub next_page_token: String,
}

impl std::fmt::Debug for PartnersListed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PartnersListed(..)")
    }
}

impl TryFrom<proto::ListPartnersResponse> for PartnersListed {
    type Error = WireError;

    fn try_from(response: proto::ListPartnersResponse) -> Result<Self, WireError> {
        let partners = response.partners.into_iter().map(TryInto::try_into);
        let next_page_token = response.next_page_token;
        Ok(Self { partners: partners.collect::<Result<_, _>>()?, next_page_token })
    }
}

impl From<PartnersListed> for proto::ListPartnersResponse {
    fn from(listed: PartnersListed) -> Self {
        let partners = listed.partners.into_iter().map(Into::into).collect();
        Self { partners, next_page_token: listed.next_page_token }
    }
}

/// A key, or none.
fn key(field: &'static str, bytes: &[u8]) -> Result<Option<VerifyingKey>, WireError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = VerifyingKey::from_bytes(&array(field, bytes)?).ok();
    let rule = "must be an Ed25519 key of the full order";
    key.filter(|key| !key.is_weak()).map(Some).ok_or(WireError::Rule { field, rule })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn put(role: PartnerRole, key: Option<ProviderKey>) -> PutPartner {
        let (uri, alias) = ("spiffe://wa.example/ap".into(), "wa".into());
        let partner = Partner { uri, alias, role, evaluations_per_day: Some(0) };
        PutPartner { partner, new: false, key }
    }

    #[test]
    fn partners_round_trip() {
        let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let authority = PartnerRole::Authority {
            numbers: vec!["+1415".into()],
            domains: vec!["mail.example".into()],
        };
        let with = |vouched| Some(ProviderKey { key, vouched });
        for put in [
            put(PartnerRole::Ap("wa.example".into()), None),
            put(PartnerRole::Ap("wa.example".into()), with(None)),
            put(PartnerRole::Ap("wa.example".into()), with(Some([7; 64]))),
            put(PartnerRole::Peer, None),
            put(authority, None),
            put(PartnerRole::Admin, None),
        ] {
            let read = PutPartner::try_from(proto::PutPartnerRequest::from(put.clone()));
            assert_eq!(read.as_ref(), Ok(&put));
            let partner = put.partner;
            let listed = ListedPartner { partner, configured: true, key: Some(key) };
            let page = PartnersListed { partners: vec![listed], next_page_token: "x".into() };
            let read = PartnersListed::try_from(proto::ListPartnersResponse::from(page.clone()));
            assert!(read == Ok(page));
        }
    }

    #[test]
    fn what_does_not_belong_together_is_refused_by_its_field() {
        let fault = |change: fn(&mut proto::PutPartnerRequest)| {
            let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
            let key = Some(ProviderKey { key, vouched: Some([7; 64]) });
            let mut request = put(PartnerRole::Ap("wa.example".into()), key).into();
            change(&mut request);
            PutPartner::try_from(request).unwrap_err().field()
        };
        assert_eq!(fault(|put| put.mode = 0), "mode");
        assert_eq!(fault(|put| put.mode = 9), "mode");
        assert_eq!(fault(|put| put.partner = None), "partner");
        assert_eq!(fault(|put| put.partner.as_mut().unwrap().role = None), "partner.role");
        assert_eq!(fault(|put| put.provider_key = vec![1; 31].into()), "provider_key");
        assert_eq!(fault(|put| put.provider_key = vec![0; 32].into()), "provider_key");
        assert_eq!(fault(|put| put.provider_key = vec![].into()), "provider_key");
        assert_eq!(fault(|put| put.succession_signature = vec![1].into()), "succession_signature");
        let admin = proto::partner::Role::Admin(proto::Administrator {});
        let mut request: proto::PutPartnerRequest =
            put(PartnerRole::Ap("wa.example".into()), None).into();
        request.provider_key =
            SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes().to_vec().into();
        request.partner.as_mut().unwrap().role = Some(admin);
        assert_eq!(PutPartner::try_from(request).unwrap_err().field(), "provider_key");
        let list = |page_size| {
            let page_token = String::new();
            ListPartners::try_from(proto::ListPartnersRequest { page_size, page_token })
                .map(|list| list.page_size)
        };
        assert_eq!((list(0), list(1000)), (Ok(100), Ok(1000)));
        assert_eq!(list(1001).unwrap_err().field(), "page_size");
    }
}
