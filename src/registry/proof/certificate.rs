//! The certificate chain of a PASSporT (RFC 8226, RFC 9060): handed over by the
//! caller, never fetched, and verified up to a configured root. Every certificate
//! of it covers the number, so each delegation can only narrow.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, Pem, X509Certificate, X509Extension};

use super::{ProofError, jwk::Es256, tn_auth_list::TnAuthList};

/// Most certificates of a chain: signer, two delegations, authority, root.
const MAX_CHAIN: usize = 5;

/// Longest certificate that is read.
const MAX_CERTIFICATE_BYTES: usize = 8192;

// Object identifiers, as DER encodes them.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const TN_AUTH_LIST: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 26];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];

/// Extensions that narrow what a certificate may say, and that are not applied
/// here: name constraints (RFC 5280 section 4.2.1.10), and what a PASSporT must
/// claim (RFC 8226 section 8, RFC 9118 section 4). Ignoring one would widen it.
const CONSTRAINTS: [&[u8]; 3] =
    [&[0x55, 0x1d, 30], &[0x2b, 6, 1, 5, 5, 7, 1, 27], &[0x2b, 6, 1, 5, 5, 7, 1, 33]];

/// The roots that may give authority over numbers. Public.
#[derive(Clone, Default)]
pub struct TrustAnchors(Vec<Vec<u8>>);

impl TrustAnchors {
    /// Takes root certificates in DER.
    ///
    /// # Errors
    /// As for any certificate of a chain that may issue others; its time is looked
    /// at when it is used.
    pub fn from_der(roots: Vec<Vec<u8>>) -> Result<Self, ProofError> {
        for root in &roots {
            let root = Certificate::parse(root)?;
            root.may_issue(0)?;
            root.key()?;
        }
        Ok(Self(roots))
    }

    /// Takes the root certificates of a PEM file.
    ///
    /// # Errors
    /// As [`Self::from_der`]; [`ProofError::Certificate`] also for what is no PEM,
    /// or holds no certificate.
    pub fn from_pem(pem: &[u8]) -> Result<Self, ProofError> {
        let certificate = |block: Result<Pem, _>| match block {
            Ok(block) if block.label == "CERTIFICATE" => Ok(block.contents),
            _ => Err(ProofError::Certificate),
        };
        let roots = Pem::iter_from_buffer(pem).map(certificate).collect::<Result<Vec<_>, _>>()?;
        if roots.is_empty() { Err(ProofError::Certificate) } else { Self::from_der(roots) }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, so that no PASSporT counts.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustAnchors of {}", self.0.len())
    }
}

/// Verifies a chain, signer first, for one number; gives the signer's key.
pub(super) fn verify(
    chain: &[Vec<u8>],
    anchors: &TrustAnchors,
    number: &str,
    now_s: u64,
) -> Result<Es256, ProofError> {
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(ProofError::ChainLength);
    }
    let certificates =
        chain.iter().map(|der| Certificate::parse(der)).collect::<Result<Vec<_>, _>>()?;
    let (signer, authorities) = certificates.split_first().ok_or(ProofError::ChainLength)?;
    signer.may_sign()?;
    let Key::P256(key) = signer.key()? else { return Err(ProofError::CertificateKey) };
    let key = Es256::from_point(key).ok_or(ProofError::CertificateKey)?;
    for (beneath, authority) in authorities.iter().enumerate() {
        authority.may_issue(beneath)?;
    }
    for (issued, issuer) in certificates.iter().zip(authorities) {
        issued.is_issued_by(issuer)?;
    }
    for certificate in &certificates {
        certificate.is_valid_at(now_s)?;
    }
    let issued = match (certificates.split_last(), chain.last()) {
        // The root was handed over too; alone it is no signer.
        (Some((root, issued)), Some(der)) if !issued.is_empty() && anchors.0.contains(der) => {
            root.covers_if_it_lists(number)?;
            issued
        }
        _ => {
            anchored(&certificates, anchors, number, now_s)?;
            &certificates
        }
    };
    // RFC 9060 section 4.1: what is delegated is no more than what one has.
    issued.iter().try_for_each(|certificate| certificate.covers(number))?;
    Ok(key)
}

/// The last certificate was issued by a root of ours.
fn anchored(
    certificates: &[Certificate<'_>],
    anchors: &TrustAnchors,
    number: &str,
    now_s: u64,
) -> Result<(), ProofError> {
    let last = certificates.last().ok_or(ProofError::ChainLength)?;
    let mut refusal = ProofError::UnknownRoot;
    for root in &anchors.0 {
        let root = Certificate::parse(root)?;
        if last.issuer() != root.subject() {
            continue;
        }
        // Of two roots of one name, either will do.
        match root
            .may_issue(certificates.len() - 1)
            .and_then(|()| root.is_valid_at(now_s))
            .and_then(|()| last.is_issued_by(&root))
            .and_then(|()| root.covers_if_it_lists(number))
        {
            Ok(()) => return Ok(()),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

enum Key<'a> {
    P256(&'a [u8]),
    P384(&'a [u8]),
}

/// A certificate that could be read; each question is asked where it matters.
struct Certificate<'a>(X509Certificate<'a>);

impl<'a> Certificate<'a> {
    fn parse(der: &'a [u8]) -> Result<Self, ProofError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(ProofError::TooLarge);
        }
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| ProofError::Certificate)?;
        // RFC 5280 section 4.1.1.2: the algorithm stands inside and outside.
        let twice = certificate.signature_algorithm == certificate.tbs_certificate.signature;
        let version_3 = certificate.version().0 == 2;
        // RFC 5280 section 4.2: no extension twice.
        let once = certificate.extensions_map().is_ok();
        if !rest.is_empty() || !twice || !version_3 || !once {
            return Err(ProofError::Certificate);
        }
        for extension in certificate.extensions() {
            if matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. }) {
                return Err(ProofError::Certificate);
            }
            let oid = extension.oid.as_bytes();
            let understood = [TN_AUTH_LIST, KEY_USAGE, BASIC_CONSTRAINTS].contains(&oid);
            if (extension.critical && !understood) || CONSTRAINTS.contains(&oid) {
                return Err(ProofError::CertificateExtension);
            }
        }
        Ok(Self(certificate))
    }

    fn extension(&self, oid: &[u8]) -> Option<&X509Extension<'a>> {
        self.0.extensions().iter().find(|extension| extension.oid.as_bytes() == oid)
    }

    fn subject(&self) -> &[u8] {
        self.0.subject().as_raw()
    }

    fn issuer(&self) -> &[u8] {
        self.0.issuer().as_raw()
    }

    fn is_valid_at(&self, now_s: u64) -> Result<(), ProofError> {
        let now_s = i64::try_from(now_s).map_err(|_| ProofError::CertificateTime)?;
        let validity = self.0.validity();
        let times = validity.not_before.timestamp()..=validity.not_after.timestamp();
        if times.contains(&now_s) { Ok(()) } else { Err(ProofError::CertificateTime) }
    }

    /// RFC 5280 section 4.2.1.9: an authority says so, and how many may stand
    /// between it and the signer.
    fn may_issue(&self, beneath: usize) -> Result<(), ProofError> {
        let constraints = match self
            .extension(BASIC_CONSTRAINTS)
            .map(X509Extension::parsed_extension)
        {
            Some(ParsedExtension::BasicConstraints(constraints)) if constraints.ca => constraints,
            _ => return Err(ProofError::CertificateAuthority),
        };
        let most = constraints.path_len_constraint.map_or(usize::MAX, |most| most as usize);
        if beneath > most {
            return Err(ProofError::CertificatePathLength);
        }
        match self.extension(KEY_USAGE).map(X509Extension::parsed_extension) {
            Some(ParsedExtension::KeyUsage(usage)) if usage.key_cert_sign() => Ok(()),
            _ => Err(ProofError::CertificateUsage),
        }
    }

    /// A signer is no authority, and its key is for signatures.
    fn may_sign(&self) -> Result<(), ProofError> {
        match self.extension(BASIC_CONSTRAINTS).map(X509Extension::parsed_extension) {
            None => {}
            Some(ParsedExtension::BasicConstraints(constraints)) if !constraints.ca => {}
            Some(_) => return Err(ProofError::CertificateUsage),
        }
        match self.extension(KEY_USAGE).map(X509Extension::parsed_extension) {
            None => Ok(()),
            Some(ParsedExtension::KeyUsage(usage)) if usage.digital_signature() => Ok(()),
            Some(_) => Err(ProofError::CertificateUsage),
        }
    }

    fn key(&self) -> Result<Key<'_>, ProofError> {
        let info = self.0.public_key();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let point = info.subject_public_key.data.as_ref();
        if info.algorithm.algorithm.as_bytes() != EC_PUBLIC_KEY
            || info.subject_public_key.unused_bits != 0
        {
            return Err(ProofError::CertificateKey);
        }
        match curve {
            Some(curve) if curve.as_bytes() == P256 => Ok(Key::P256(point)),
            Some(curve) if curve.as_bytes() == P384 => Ok(Key::P384(point)),
            _ => Err(ProofError::CertificateKey),
        }
    }

    fn is_issued_by(&self, issuer: &Self) -> Result<(), ProofError> {
        if self.issuer() != issuer.subject() {
            return Err(ProofError::CertificateOrder);
        }
        let signature = &self.0.signature_algorithm;
        // RFC 5758 section 3.2: no parameters.
        if signature.parameters.is_some() {
            return Err(ProofError::CertificateAlgorithm);
        }
        let sha384 = match signature.algorithm.as_bytes() {
            ECDSA_SHA256 => false,
            ECDSA_SHA384 => true,
            _ => return Err(ProofError::CertificateAlgorithm),
        };
        let (algorithm, point): (&EcdsaVerificationAlgorithm, _) = match (issuer.key()?, sha384) {
            (Key::P256(point), false) => (&ECDSA_P256_SHA256_ASN1, point),
            (Key::P256(point), true) => (&ECDSA_P256_SHA384_ASN1, point),
            (Key::P384(point), false) => (&ECDSA_P384_SHA256_ASN1, point),
            (Key::P384(point), true) => (&ECDSA_P384_SHA384_ASN1, point),
        };
        if self.0.signature_value.unused_bits != 0 {
            return Err(ProofError::CertificateSignature);
        }
        UnparsedPublicKey::new(algorithm, point)
            .verify(self.0.tbs_certificate.as_ref(), &self.0.signature_value.data)
            .map_err(|_| ProofError::CertificateSignature)
    }

    fn covers(&self, number: &str) -> Result<(), ProofError> {
        let extension = self.extension(TN_AUTH_LIST).ok_or(ProofError::NumbersMissing)?;
        let list = TnAuthList::from_der(extension.value)?;
        if list.covers(number) { Ok(()) } else { Err(ProofError::NumberNotCovered) }
    }

    /// A root need not list numbers: that it is trusted is configured.
    fn covers_if_it_lists(&self, number: &str) -> Result<(), ProofError> {
        match self.extension(TN_AUTH_LIST) {
            Some(_) => self.covers(number),
            None => Ok(()),
        }
    }
}
