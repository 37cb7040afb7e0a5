//! What is looked at in revocation lists before they are put in force: a list
//! that no handshake could use would shut all partners out.

use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

/// Why revocation lists do not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CrlError {
    #[error("holds something else than revocation lists and certificates")]
    Malformed,
    #[error("holds a list whose nextUpdate has passed: fetch the authority's newest")]
    Expired,
    #[error("holds a list of an authority in client_ca that this authority did not sign")]
    Signature,
    #[error(
        "holds no list of one of the authorities in client_ca, whose partners would all be refused"
    )]
    Missing,
}

/// Holds lists against the authorities whose certificates they revoke; says when
/// the first of the lists ends, or ended.
pub(super) fn check(
    authorities: &[CertificateDer<'_>],
    lists: &[CertificateRevocationListDer<'_>],
) -> Result<u64, CrlError> {
    let parsed = lists.iter().map(|list| match CertificateRevocationList::from_der(list) {
        Ok((&[], list)) => Ok(list),
        _ => Err(CrlError::Malformed),
    });
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    let mut until_s = i64::MAX;
    for list in &parsed {
        // RFC 5280 section 5.1.2.5: it is always there.
        let next = list.next_update().ok_or(CrlError::Malformed)?;
        until_s = until_s.min(next.timestamp());
    }
    for authority in authorities {
        let (_, authority) =
            X509Certificate::from_der(authority).map_err(|_| CrlError::Malformed)?;
        let mut its = parsed
            .iter()
            .filter(|list| list.issuer().as_raw() == authority.subject().as_raw())
            .peekable();
        if its.peek().is_none() {
            return Err(CrlError::Missing);
        }
        // Two authorities may share a name: each list must be of one of them.
        if !its.any(|list| list.verify_signature(authority.public_key()).is_ok()) {
            return Err(CrlError::Signature);
        }
    }
    Ok(u64::try_from(until_s).unwrap_or(0))
}
