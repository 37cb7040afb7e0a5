//! The TLS side of the server: HTTP/2 over TLS 1.3 or 1.2, nothing that
//! recognises a client who comes back.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::NoServerSessionStorage,
};

use super::ServerError;

/// The TLS configuration of a certificate chain and its private key.
///
/// # Errors
/// [`ServerError::Tls`] when either is not PEM, or they do not belong together.
pub fn tls_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Arc<ServerConfig>, ServerError> {
    let chain = CertificateDer::pem_slice_iter(cert_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ServerError::Tls(format!("the certificate file is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(ServerError::Tls("the certificate file holds no certificate".into()));
    }
    // The parser's error may quote what it read: of a key, nothing is told.
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| ServerError::Tls("the key file holds no private key in PEM".into()))?;
    let refused = |error: rustls::Error| {
        ServerError::Tls(format!("the certificate and the key do not serve: {error}"))
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(refused)?
        .with_no_client_auth()
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
    }
}
