//! OIDC `id_token`s (OpenID Connect Core 1.0 section 2): an issuer that is trusted
//! for a mail domain says that an address there is verified, to this provider,
//! over our nonce. Issuers' keys come from a file; nothing is fetched.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::{
    CLOCK_SKEW_S, IssuerKeys, ProofError, ProofKind, Proven,
    challenge::OpenChallenge,
    jose::{Compact, Forbidden, not_from_the_future},
    proof_id,
};
use crate::identifier::{Provider, Sii, SiiKind};

/// Other header parameters are the issuer's affair and mean nothing here.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default)]
    typ: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    iat: u64,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    nonce: String,
    email: String,
    email_verified: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    /// OpenID Connect Core section 3.1.3.7: nobody else whom we do not trust.
    fn is_only(&self, client: &str) -> bool {
        match self {
            Self::One(audience) => audience == client,
            Self::Many(audiences) => matches!(audiences.as_slice(), [one] if one == client),
        }
    }
}

/// An issuer, the mail domains it is trusted for, and our providers' names there.
#[derive(Clone)]
pub struct IdentityIssuer {
    url: String,
    keys: IssuerKeys,
    domains: Vec<String>,
    clients: BTreeMap<Provider, String>,
}

impl IdentityIssuer {
    /// `clients` holds, for each provider, the client id it has at the issuer.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: the URL is not https, a domain is none, there is
    /// none, or two providers have one client id.
    pub fn new(
        url: &str,
        keys: IssuerKeys,
        domains: &[&str],
        clients: BTreeMap<Provider, String>,
    ) -> Result<Self, ProofError> {
        let refused = |what| Err(ProofError::Setting(what));
        if !url.starts_with("https://") {
            return refused("an OIDC issuer is an https:// URL, as its tokens have it in iss");
        }
        let mut canonical = Vec::new();
        for domain in domains {
            // As it comes out of an address, whatever form it was written in.
            match Sii::parse(&format!("mailto:a@{domain}"), None) {
                Ok(sii) => canonical.extend(mail_domain(&sii).map(str::to_owned)),
                Err(_) => return refused("an OIDC issuer's mail domain is none"),
            }
        }
        if canonical.is_empty() {
            return refused("an OIDC issuer is trusted for no mail domain: list them");
        }
        let mut ids: Vec<&String> = clients.values().collect();
        ids.sort();
        if ids.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return refused("two providers have one client id: a token must tell them apart");
        }
        Ok(Self { url: url.into(), keys, domains: canonical, clients })
    }
}

impl fmt::Debug for IdentityIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityIssuer")
            .field("url", &self.url)
            .field("domains", &self.domains)
            .finish_non_exhaustive()
    }
}

/// The issuers that count here.
#[derive(Clone, Debug, Default)]
pub struct IdentityIssuers(Vec<IdentityIssuer>);

impl IdentityIssuers {
    /// Takes them together.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: one is there twice.
    pub fn new(issuers: Vec<IdentityIssuer>) -> Result<Self, ProofError> {
        let mut urls: Vec<&str> = issuers.iter().map(|issuer| issuer.url.as_str()).collect();
        urls.sort_unstable();
        if urls.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(ProofError::Setting("an OIDC issuer is there twice: list it once"));
        }
        Ok(Self(issuers))
    }
}

/// Verifies an `id_token` as the answer to an open challenge.
pub(super) fn verify(
    token: &str,
    open: &OpenChallenge<'_>,
    issuers: &IdentityIssuers,
    now_s: u64,
) -> Result<Proven, ProofError> {
    let domain = mail_domain(open.sii).ok_or(ProofError::Kind)?;
    let compact = Compact::split(token)?;
    compact.header::<Forbidden>()?.check(false)?;
    let header: Header = compact.header()?;
    // RFC 8725 section 3.11: an access token or a logout token says so here.
    if header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("jwt")) {
        return Err(ProofError::Type);
    }
    // Not believed yet: `iss` only chooses whose keys must have signed.
    let claims: Claims = compact.claims()?;
    let issuer = issuers
        .0
        .iter()
        .find(|issuer| issuer.url == claims.iss && issuer.domains.iter().any(|one| one == domain))
        .ok_or(ProofError::UnknownSigner)?;
    let input = compact.signing_input.as_bytes();
    issuer.keys.verify(&header.kid, &header.alg, input, &compact.signature)?;
    let client = issuer.clients.get(open.provider).ok_or(ProofError::Audience)?;
    if !claims.aud.is_only(client) || claims.azp.is_some_and(|azp| azp != *client) {
        return Err(ProofError::Audience);
    }
    if !open.challenge.is(&claims.nonce) {
        return Err(ProofError::Nonce);
    }
    let address = Sii::parse(&format!("mailto:{}", claims.email), None);
    if !address.is_ok_and(|address| address == *open.sii) {
        return Err(ProofError::Subject);
    }
    if !claims.email_verified {
        return Err(ProofError::EmailUnverified);
    }
    not_from_the_future(claims.iat, now_s)?;
    not_from_the_future(claims.nbf.unwrap_or_default(), now_s)?;
    if now_s >= claims.exp {
        return Err(ProofError::Expired);
    }
    if claims.iat.saturating_add(CLOCK_SKEW_S) < open.issued_s {
        return Err(ProofError::BeforeChallenge);
    }
    Ok(Proven {
        sii: open.sii.clone(),
        provider: open.provider.clone(),
        kind: ProofKind::Identity,
        proof_id: proof_id(ProofKind::Identity, &[input]),
        proof_time_s: claims.iat,
        expires_s: claims.exp.min(open.expires_s),
    })
}

fn mail_domain(sii: &Sii) -> Option<&str> {
    match sii.kind() {
        SiiKind::Mailto => sii.as_str().rsplit_once('@').map(|(_, domain)| domain),
        SiiKind::Tel | SiiKind::Acct => None,
    }
}
