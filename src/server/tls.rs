//! The TLS side of the server: HTTP/2 over TLS 1.3, nothing that recognises a
//! client who comes back.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
};

use super::ServerError;
use crate::tls::provider;

/// The TLS configuration of a certificate chain and its private key.
///
/// # Errors
/// [`ServerError::Tls`] when either is not PEM, or they do not belong together.
pub fn tls_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, ServerError> {
    config(cert_pem, key_pem, Arc::new(NoClientAuth))
}

/// As [`tls_config`], for a server that also has partners: whoever presents a
/// certificate must have one of an authority in `client_ca_pem`. Who presents
/// none is let in, since lookups are everybody's.
///
/// # Errors
/// [`ServerError::Tls`], also when there is no such authority.
pub fn mutual_tls_config(
    cert_pem: &[u8],
    key_pem: &[u8],
    client_ca_pem: &[u8],
) -> Result<Arc<ServerConfig>, ServerError> {
    let mut roots = RootCertStore::empty();
    for root in certificates("client_ca", client_ca_pem)? {
        let refused = |error: rustls::Error| ServerError::Tls(format!("client_ca: {error}"));
        roots.add(root).map_err(refused)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        // The names of authorities tell who the partners are.
        .clear_root_hint_subjects()
        .build()
        .map_err(|error| ServerError::Tls(format!("client_ca: {error}")))?;
    config(cert_pem, key_pem, verifier)
}

fn certificates(
    file: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ServerError::Tls(format!("the {file} file is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(ServerError::Tls(format!("the {file} file holds no certificate")));
    }
    Ok(chain)
}

fn config(
    cert_pem: &[u8],
    key_pem: &[u8],
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, ServerError> {
    let chain = certificates("certificate", cert_pem)?;
    // The parser's error may quote what it read: of a key, nothing is told.
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| ServerError::Tls("the key file holds no private key in PEM".into()))?;
    let refused = |error: rustls::Error| {
        ServerError::Tls(format!("the certificate and the key do not serve: {error}"))
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would link a client's connections, like a cookie.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificate_or_key_are_refused_without_quoting_them() {
        let told = |cert: &[u8], key: &[u8]| tls_config(cert, key).unwrap_err().to_string();
        assert!(told(b"", b"").contains("holds no certificate"));
        let cert = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let key = b"-----BEGIN PRIVATE KEY-----\nnot*base64\n-----END PRIVATE KEY-----\n";
        assert_eq!(told(cert, key), "TLS: the key file holds no private key in PEM");
        let told = |ca: &[u8]| mutual_tls_config(b"", b"", ca).unwrap_err().to_string();
        assert!(told(b"").contains("client_ca file holds no certificate"));
        assert!(told(cert).contains("client_ca: "), "{}", told(cert));
    }
}
