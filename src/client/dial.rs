//! TCP and, over it, TLS 1.3: how a channel gets its connection. Nothing is kept
//! by which a server could recognise a client that comes back.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{io::AsyncBufReadExt as _, net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, ClientConfig, RootCertStore,
        client::Resumption,
        pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
        version::TLS13,
    },
};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint},
};

use super::ClientError;
use crate::tls;

const HTTP2: &[u8] = b"h2";

/// How long a server may take with its first frame before a client with a
/// certificate speaks. HTTP/2 lets it wait for the client's, RFC 9113 section 3.4.
const FIRST_FRAME: Duration = Duration::from_secs(1);

/// An endpoint, and the TLS to reach it through unless it is in plain text.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) endpoint: Endpoint,
    pub(super) tls: Option<Dialer>,
}

impl Link {
    /// A channel that connects when it is first used.
    pub(super) fn connect_lazy(&self) -> Channel {
        match &self.tls {
            None => self.endpoint.connect_lazy(),
            Some(dialer) => self.endpoint.connect_with_connector_lazy(dialer.clone()),
        }
    }
}

/// A caller's certificate chain and private key, PEM.
pub(super) type Certified<'a> = (&'a [u8], &'a [u8]);

/// Connects to one server.
#[derive(Clone)]
pub(super) struct Dialer {
    tcp: HttpConnector,
    tls: TlsConnector,
    name: ServerName<'static>,
    certified: bool,
}

/// A server does not take the client's certificate, and says why.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the server refuses the certificate, as {0}")]
pub(super) struct CertificateRefused(pub(super) &'static str);

impl CertificateRefused {
    /// What an alert says of a certificate, RFC 8446 section 6.2.
    fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref()?;
        let rustls::Error::AlertReceived(alert) = error else { return None };
        Some(Self(match alert {
            AlertDescription::CertificateRevoked => "revoked",
            AlertDescription::CertificateExpired => "out of its time",
            AlertDescription::UnknownCA => "of an authority that it does not trust",
            // The last: the authority has the name of another's.
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => "one that it does not accept",
            _ => return None,
        }))
    }
}

impl Dialer {
    /// For the server at `host`, whose certificate must come from one of the
    /// authorities in `ca_pem`, or of the Web's.
    pub(super) fn new(
        host: &str,
        ca_pem: Option<&[u8]>,
        identity: Option<Certified<'_>>,
        connect_timeout: Duration,
        keepalive: Duration,
    ) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        match ca_pem {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                // A file without certificates would trust nobody, and say so only as
                // a failed handshake.
                let authorities =
                    tls::certificates(pem).ok_or(ClientError::CertificateAuthority)?;
                for authority in authorities {
                    roots.add(authority).map_err(|_| ClientError::CertificateAuthority)?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|_| ClientError::Computation)?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = tls::certificates(chain).ok_or(ClientError::Certificate)?;
                let key =
                    PrivateKeyDer::from_pem_slice(key).map_err(|_| ClientError::Certificate)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| ClientError::Certificate)?
            }
        };
        config.alpn_protocols = vec![HTTP2.to_vec()];
        // A ticket that is shown again links two connections.
        config.resumption = Resumption::disabled();
        // The address of a literal stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host).map_err(|_| ClientError::Address)?.to_owned();
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(keepalive));
        tcp.set_connect_timeout(Some(connect_timeout));
        let certified = identity.is_some();
        Ok(Self { tcp, tls: TlsConnector::from(Arc::new(config)), name, certified })
    }
}

type Dialed = TokioIo<TlsStream<TcpStream>>;
type DialError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialed, DialError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialing = self.tcp.call(uri);
        let (tls, name, certified) = (self.tls.clone(), self.name.clone(), self.certified);
        Box::pin(async move {
            let mut stream = tls.connect(name, dialing.await?.into_inner()).await?;
            if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
                return Err(io::Error::other("the server does not speak HTTP/2").into());
            }
            // The handshake ends here before the server has seen the certificate.
            // What it makes of it comes first, and is lost if more was sent.
            if certified && let Ok(Err(error)) = timeout(FIRST_FRAME, stream.fill_buf()).await {
                return Err(match CertificateRefused::of(&error) {
                    Some(refused) => refused.into(),
                    None => error.into(),
                });
            }
            Ok(TokioIo::new(stream))
        })
    }
}
