//! TLS 1.3, and the one cryptographic library beneath it, for every role that
//! speaks over a network. Neither depends on a provider that somebody else set
//! for the process, nor sets one.

use std::sync::{Arc, LazyLock};

use tokio_rustls::rustls::{
    crypto::{
        CryptoProvider,
        aws_lc_rs::{cipher_suite, default_provider, kx_group},
    },
    pki_types::{CertificateDer, pem::PemObject as _},
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // Suites of TLS 1.3 alone: whoever builds a configuration of this
        // provider offers and takes no older version, whatever is compiled in.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        // What is recorded today must not be read by the machines of tomorrow:
        // the hybrid of draft-ietf-tls-ecdhe-mlkem first.
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..default_provider()
    })
});

/// AWS-LC with the suites of TLS 1.3, which prefers X25519MLKEM768.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// The certificates of a PEM text, in its order; what else it holds is passed
/// over. `None` if it is damaged or holds none.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    read.ok().filter(|certificates| !certificates.is_empty())
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::{NamedGroup, ProtocolVersion};

    use super::*;

    #[test]
    fn there_are_suites_of_tls_1_3_alone_and_the_hybrid_group_comes_first() {
        let provider = provider();
        let of_1_3 = |suite: &tokio_rustls::rustls::SupportedCipherSuite| {
            suite.version().version == ProtocolVersion::TLSv1_3
        };
        assert!(!provider.cipher_suites.is_empty());
        assert!(provider.cipher_suites.iter().all(of_1_3));
        let first = provider.kx_groups.first().map(|group| group.name());
        assert_eq!(first, Some(NamedGroup::X25519MLKEM768));
    }

    #[test]
    fn a_text_without_certificates_is_none() {
        assert!(certificates(b"").is_none());
        assert!(certificates(b"-----BEGIN CERTIFICATE-----\n").is_none());
        let pem = b"words\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(pem).map(|all| all.len()), Some(1));
    }
}
