//! Who is at the other end of a connection, as far as the transport says.

use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::access::{Caller, Callers};

/// The other end of a connection. A TLS peer's certificate was verified by the
/// handshake.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// There is no TLS: a proxy ended it, or it is one machine.
    Plaintext,
    /// TLS, without a certificate.
    Anonymous,
    /// TLS, with a certificate and its one URI. As in SPIFFE X.509-SVID
    /// section 2, one with none or several names nobody.
    Certified(Option<String>),
}

/// Why nobody is known to be at the other end. The peer is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PeerError {
    /// Neither certificate nor token.
    #[error("this is for partners of the directory: present a client certificate")]
    Unidentified,
    /// A certificate or token of somebody who is not listed.
    #[error("the certificate or token is not that of a partner of this directory")]
    Unknown,
}

impl Peer {
    /// The peer of a TLS connection, with the chain that it presented.
    pub(super) fn of_tls(chain: Option<&[CertificateDer<'_>]>) -> Self {
        match chain.and_then(<[_]>::first) {
            None => Self::Anonymous,
            Some(leaf) => Self::Certified(uri(leaf)),
        }
    }

    /// Which partner it is.
    ///
    /// # Errors
    /// It says nothing of itself, or is not listed.
    pub(super) fn caller(
        &self,
        headers: &HeaderMap,
        callers: &Callers,
    ) -> Result<Arc<Caller>, PeerError> {
        match self {
            Self::Anonymous => Err(PeerError::Unidentified),
            Self::Certified(uri) => {
                let caller = uri.as_deref().and_then(|uri| callers.by_uri(uri));
                caller.ok_or(PeerError::Unknown)
            }
            Self::Plaintext => {
                let header = headers.get(AUTHORIZATION).ok_or(PeerError::Unidentified)?;
                let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
                token.and_then(|token| callers.by_token(token)).ok_or(PeerError::Unknown)
            }
        }
    }
}

/// The one URI among the alternative names of a certificate.
fn uri(leaf: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten()?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next()?;
    uris.next().is_none().then(|| uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Role, identifier::Provider};

    fn callers() -> Callers {
        let role = |name| Role::Provider(Provider::parse(name).unwrap());
        let mut callers = Callers::default();
        callers.add_uri("spiffe://wa.example/ap", role("wa.example")).unwrap();
        callers.add_token("0123456789abcdef", role("sg.example")).unwrap();
        callers
    }

    fn authorization(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !value.is_empty() {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn outcome(peer: &Peer, header: &str) -> Result<Role, PeerError> {
        peer.caller(&authorization(header), &callers()).map(|caller| caller.role.clone())
    }

    #[test]
    fn a_token_counts_only_where_there_is_no_tls() {
        let token = "Bearer 0123456789abcdef";
        let sg = Role::Provider(Provider::parse("sg.example").unwrap());
        assert_eq!(outcome(&Peer::Plaintext, token), Ok(sg));
        assert_eq!(outcome(&Peer::Anonymous, token), Err(PeerError::Unidentified));
        assert_eq!(outcome(&Peer::Certified(None), token), Err(PeerError::Unknown));
        assert_eq!(outcome(&Peer::Plaintext, ""), Err(PeerError::Unidentified));
        for header in ["0123456789abcdef", "bearer 0123456789abcdef", "Bearer ", "Bearer 0123"] {
            assert_eq!(outcome(&Peer::Plaintext, header), Err(PeerError::Unknown), "{header}");
        }
    }

    #[test]
    fn a_certificate_counts_by_its_uri() {
        let wa = Role::Provider(Provider::parse("wa.example").unwrap());
        let certified = |uri: &str| Peer::Certified(Some(uri.into()));
        assert_eq!(outcome(&certified("spiffe://wa.example/ap"), ""), Ok(wa));
        assert_eq!(outcome(&certified("spiffe://sg.example/ap"), ""), Err(PeerError::Unknown));
        assert_eq!(outcome(&Peer::of_tls(None), ""), Err(PeerError::Unidentified));
        let nonsense = CertificateDer::from(b"no certificate".to_vec());
        assert!(Peer::of_tls(Some(&[nonsense])) == Peer::Certified(None));
    }
}
