//! What a handshake agrees upon, seen from outside: TLS 1.3 and the hybrid
//! post-quantum group, by server and SDK alike, and nothing older.

#![cfg(feature = "cli")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with tests that use all of it")]
mod common;

use std::{net::SocketAddr, sync::Arc};

use blindbook::{
    client::{Client, ClientCertificate, ClientError, ClientOptions, MemoryState},
    server::{ServerOptions, tls_config},
};
use ed25519_dalek::SigningKey;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        AlertDescription, ClientConfig, Error, HandshakeKind, NamedGroup, ProtocolVersion,
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{PrivateKeyDer, ServerName},
        version::{TLS12, TLS13},
    },
};

use common::Directory;

struct Certified {
    pem: String,
    key: String,
    der: (Vec<u8>, Vec<u8>),
}

fn certified() -> Certified {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Certified {
        pem: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        der: (made.cert.der().to_vec(), made.signing_key.serialize_der()),
    }
}

/// Everything that the library knows, in an order of its own.
fn foreign(groups_first: NamedGroup) -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = aws_lc_rs::ALL_KX_GROUPS.to_vec();
    provider.kx_groups.sort_by_key(|group| group.name() != groups_first);
    Arc::new(provider)
}

/// Connects as some client, and says what was agreed upon.
async fn agreed(
    address: SocketAddr,
    server: &Certified,
    version: &'static SupportedProtocolVersion,
    provider: Arc<CryptoProvider>,
) -> std::io::Result<(ProtocolVersion, NamedGroup)> {
    let mut roots = RootCertStore::empty();
    roots.add(server.der.0.clone().into()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    stream.read_exact(&mut [0; 9]).await?;
    let session = stream.get_ref().1;
    let group = session.negotiated_key_exchange_group().unwrap().name();
    Ok((session.protocol_version().unwrap(), group))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_speaks_tls_1_3_with_the_hybrid_group_and_refuses_tls_1_2() {
    let server = certified();
    let tls = tls_config(server.pem.as_bytes(), server.key.as_bytes()).unwrap();
    let options = ServerOptions { tls: Some(tls), ..ServerOptions::default() };
    let running = Directory::new(2, 1).await.serve(options).await;
    let hybrid = NamedGroup::X25519MLKEM768;
    let met = agreed(running.address, &server, &TLS13, foreign(hybrid)).await.unwrap();
    assert_eq!(met, (ProtocolVersion::TLSv1_3, hybrid));
    // A client without it is served too.
    let mut old = aws_lc_rs::default_provider();
    old.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let met = agreed(running.address, &server, &TLS13, Arc::new(old)).await.unwrap();
    assert_eq!(met, (ProtocolVersion::TLSv1_3, NamedGroup::X25519));

    let refused = agreed(running.address, &server, &TLS12, foreign(hybrid)).await.unwrap_err();
    let told = refused.get_ref().and_then(|error| error.downcast_ref::<Error>());
    assert_eq!(told, Some(&Error::AlertReceived(AlertDescription::ProtocolVersion)));
    running.stop().await;
}

/// Takes connections in with this certificate and this version alone.
fn acceptor(server: &Certified, version: &'static SupportedProtocolVersion) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(server.der.1.clone()).unwrap();
    let mut config = ServerConfig::builder_with_provider(foreign(NamedGroup::X25519MLKEM768))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der.0.clone().into()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// What the SDK agrees upon with a server of this version, and its own error.
async fn met_by_the_sdk(
    version: &'static SupportedProtocolVersion,
) -> (Option<(ProtocolVersion, NamedGroup, HandshakeKind)>, ClientError) {
    let server = certified();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor(&server, version);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        // The SDK tries a second time.
        while let Ok((tcp, _)) = listener.accept().await {
            let met = acceptor.accept(tcp).await.ok().map(|stream| {
                let session = stream.get_ref().1;
                let group = session.negotiated_key_exchange_group().unwrap().name();
                let version = session.protocol_version().unwrap();
                (version, group, session.handshake_kind().unwrap())
            });
            tell.send(met).unwrap();
        }
    });
    let identity = SigningKey::from_bytes(&[1; 32]).verifying_key();
    let mut options = ClientOptions::new(format!("https://localhost:{port}"), identity);
    options.ca_pem = Some(server.pem.into());
    // Nobody speaks HTTP/2 there: the handshake is all that is looked at.
    let error = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap_err();
    let met = told.recv().await.expect("a handshake");
    serving.abort();
    (met, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_offers_the_hybrid_group_first_and_refuses_a_server_of_tls_1_2() {
    let (met, _) = met_by_the_sdk(&TLS13).await;
    // No retry: it sent a share of the hybrid without being asked.
    let hybrid = NamedGroup::X25519MLKEM768;
    assert_eq!(met, Some((ProtocolVersion::TLSv1_3, hybrid, HandshakeKind::Full)));

    let (met, error) = met_by_the_sdk(&TLS12).await;
    assert_eq!(met, None);
    let ClientError::Unreachable(Some(told)) = error else { panic!("{error}") };
    assert!(told.contains("ProtocolVersion"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lets_a_certified_client_speak_first_is_spoken_to() {
    let server = certified();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = ClientOptions::new(
        format!("https://localhost:{}", listener.local_addr().unwrap().port()),
        SigningKey::from_bytes(&[1; 32]).verifying_key(),
    );
    options.ca_pem = Some(server.pem.clone().into());
    let (chain_pem, key_pem) = (server.pem.clone().into(), server.key.clone().into_bytes().into());
    options.certificate = Some(ClientCertificate { chain_pem, key_pem });
    let asking = Client::connect(options, Arc::new(MemoryState::new()));
    let asked = tokio::spawn(async move { asking.await.map(drop) });
    let (tcp, _) = listener.accept().await.unwrap();
    let mut stream = acceptor(&server, &TLS13).accept(tcp).await.unwrap();
    let mut preface = [0; 14];
    stream.read_exact(&mut preface).await.unwrap();
    assert_eq!(&preface, b"PRI * HTTP/2.0");
    asked.abort();
}
