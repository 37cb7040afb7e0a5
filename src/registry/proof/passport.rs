//! PASSporTs (RFC 8225), in full form, as the answer to our challenge: either
//! made for a call to the address that we keep for this provider, or a message
//! PASSporT (RFC 9475) over the challenge's text. One that was made for a call to
//! anybody else proves nothing, since whoever was called has it.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use super::{
    CLOCK_SKEW_S, ProofError, ProofKind, Proven, TrustAnchors, certificate,
    challenge::OpenChallenge,
    jose::{Compact, Forbidden, not_from_the_future},
    proof_id,
};
use crate::identifier::{Provider, Sii, SiiKind};

/// RFC 8225 section 10.1 and RFC 8224 section 4.1: fresh is a minute.
pub const MAX_PASSPORT_AGE_S: u64 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    #[serde(default)]
    ppt: Option<String>,
    /// Where the certificate lies: never fetched, the caller hands it over.
    #[serde(default, rename = "x5u")]
    _x5u: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    orig: Originator,
    dest: Destinations,
    #[serde(default)]
    msgi: Option<String>,
}

/// RFC 8225 section 5.2.1: exactly one of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Originator {
    #[serde(default)]
    tn: Option<String>,
    #[serde(default)]
    uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Destinations {
    #[serde(default)]
    tn: Vec<String>,
    #[serde(default)]
    uri: Vec<String>,
}

/// Where a user calls to answer a challenge: one address per provider, so that a
/// call tells whom it is for. As it stands in `dest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerificationAddress {
    /// A number: country code and digits.
    Tn(String),
    /// A URI, `sip:...`.
    Uri(String),
}

impl VerificationAddress {
    /// Reads a number with `+`, or a URI in the form in which it will be signed.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: neither.
    pub fn parse(address: &str) -> Result<Self, ProofError> {
        if address.starts_with("sip:") && address.contains('@') {
            return Ok(Self::Uri(address.into()));
        }
        let number = Sii::parse(address, None).ok();
        number.as_ref().and_then(digits).map(|digits| Self::Tn(digits.into())).ok_or(
            ProofError::Setting("a verification address is a number with + or a sip: URI with @"),
        )
    }
}

impl fmt::Display for VerificationAddress {
    /// The number with `+`, or the URI: as [`Self::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tn(digits) => write!(f, "+{digits}"),
            Self::Uri(uri) => f.write_str(uri),
        }
    }
}

/// Which PASSporTs count.
#[derive(Clone, Default)]
pub struct PassportRules {
    anchors: TrustAnchors,
    addresses: BTreeMap<Provider, VerificationAddress>,
}

impl PassportRules {
    /// Chains must end at `anchors`. Calls count for providers that have an
    /// address, messages for all.
    ///
    /// # Errors
    /// [`ProofError::Setting`]: two providers have one address.
    pub fn new(
        anchors: TrustAnchors,
        addresses: BTreeMap<Provider, VerificationAddress>,
    ) -> Result<Self, ProofError> {
        let mut seen = Vec::new();
        for address in addresses.values() {
            if seen.contains(&address) {
                return Err(ProofError::Setting(
                    "two providers have one verification address: a call must tell them apart",
                ));
            }
            seen.push(address);
        }
        Ok(Self { anchors, addresses })
    }

    pub(super) fn address(&self, provider: &Provider) -> Option<&VerificationAddress> {
        self.addresses.get(provider)
    }
}

impl fmt::Debug for PassportRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PassportRules")
            .field("anchors", &self.anchors)
            .field("addresses", &self.addresses)
            .finish()
    }
}

/// Verifies a PASSporT as the answer to an open challenge.
pub(super) fn verify(
    token: &str,
    chain: &[Vec<u8>],
    open: &OpenChallenge<'_>,
    rules: &PassportRules,
    now_s: u64,
) -> Result<Proven, ProofError> {
    let number = digits(open.sii).ok_or(ProofError::Kind)?;
    let compact = Compact::split(token)?;
    compact.header::<Forbidden>()?.check(true)?;
    let header: Header = compact.header()?;
    if header.typ != "passport" {
        return Err(ProofError::Type);
    }
    // RFC 8225 section 4.3: ES256 is what all have, and all that we take.
    if header.alg != "ES256" {
        return Err(ProofError::Algorithm);
    }
    // RFC 8225 section 8.1: an extension that is not understood is not accepted.
    let message = match header.ppt.as_deref() {
        None => false,
        Some("msg") => true,
        Some(_) => return Err(ProofError::PassportExtension),
    };
    let key = certificate::verify(chain, &rules.anchors, number, now_s)?;
    key.verify(compact.signing_input.as_bytes(), &compact.signature)?;
    let claims: Claims = compact.claims()?;
    match (&claims.orig.tn, &claims.orig.uri) {
        (Some(tn), None) if tn == number => {}
        (Some(_), None) | (None, Some(_)) => return Err(ProofError::Subject),
        _ => return Err(ProofError::Claims),
    }
    if message {
        let digest = claims.msgi.as_deref().ok_or(ProofError::Claims)?;
        if !is_digest(digest, &open.challenge.text(open.provider)) {
            return Err(ProofError::Message);
        }
    } else if !rules.addresses.get(open.provider).is_some_and(|ours| claims.dest.is_only(ours)) {
        return Err(ProofError::Destination);
    }
    not_from_the_future(claims.iat, now_s)?;
    let last_s = claims.iat.saturating_add(MAX_PASSPORT_AGE_S);
    if now_s > last_s {
        return Err(ProofError::Expired);
    }
    if claims.iat.saturating_add(CLOCK_SKEW_S) < open.issued_s {
        return Err(ProofError::BeforeChallenge);
    }
    Ok(Proven {
        sii: open.sii.clone(),
        provider: open.provider.clone(),
        kind: ProofKind::Passport,
        // Not the challenge: the same call must not answer a second one.
        proof_id: proof_id(ProofKind::Passport, &[compact.signing_input.as_bytes()]),
        proof_time_s: claims.iat,
        expires_s: last_s.saturating_add(1),
    })
}

impl Destinations {
    /// One call, to this address: a call to several is shown to others.
    fn is_only(&self, address: &VerificationAddress) -> bool {
        match (self.tn.as_slice(), self.uri.as_slice(), address) {
            ([tn], [], VerificationAddress::Tn(ours)) => tn == ours,
            ([], [uri], VerificationAddress::Uri(ours)) => uri == ours,
            _ => false,
        }
    }
}

/// RFC 8225 section 5.2.1: a number is its digits, without `+`.
fn digits(sii: &Sii) -> Option<&str> {
    match sii.kind() {
        SiiKind::Tel => sii.as_str().strip_prefix("tel:+"),
        SiiKind::Mailto | SiiKind::Acct => None,
    }
}

/// RFC 9475 section 3: the algorithm's name, a hyphen, the digest in base64.
fn is_digest(msgi: &str, text: &str) -> bool {
    let Some((algorithm, digest)) = msgi.split_once('-') else { return false };
    let Ok(digest) = STANDARD.decode(digest) else { return false };
    let expected = match algorithm {
        "sha256" => Sha256::digest(text).to_vec(),
        "sha384" => Sha384::digest(text).to_vec(),
        "sha512" => Sha512::digest(text).to_vec(),
        _ => return false,
    };
    expected.ct_eq(&digest).into()
}
