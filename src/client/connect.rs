//! The connections: a few channels used in turn, over TLS unless the address
//! says plain text, and the one way to repeat a call.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::Uri;
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    ClientError, ClientOptions,
    dial::{Certified, Dialer, Link},
    error::is_transport,
    registry::RegistryOptions,
};
use crate::wire::{
    MAX_INVALIDATIONS_BYTES, Watch,
    proto::{
        WatchInvalidationsRequest, WatchInvalidationsResponse,
        discovery_service_client::DiscoveryServiceClient, quota_service_client::QuotaServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};

pub(super) type Stub = DiscoveryServiceClient<Channel>;

/// Room for the largest answer but the provider list: one bucket, or a batch
/// under two epochs.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Room for about 20,000 providers.
const MAX_PROVIDERS_BYTES: usize = 4 * 1024 * 1024;

/// An answer of 256 buckets in flight without a pause for the window.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// A connection on which nothing comes for long is asked whether it still is
/// one, and given up without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the system asks whether an idle connection still is one.
const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);

const HTTPS_PORT: u16 = 443;

/// A connection to follow changes on.
pub(super) struct Watching(RegistryServiceClient<Channel>);

impl Watching {
    /// Asks to be told. There is no end to it, and so no deadline.
    pub(super) async fn ask(
        mut self,
        watch: Watch,
    ) -> Result<Streaming<WatchInvalidationsResponse>, Status> {
        let request = WatchInvalidationsRequest::from(watch);
        Ok(self.0.watch_invalidations(request).await?.into_inner())
    }
}

pub(super) struct Pool {
    link: Link,
    channels: Vec<Channel>,
    next: AtomicUsize,
    pub(super) deadline: Duration,
}

impl Pool {
    /// Prepares the channels. Each connects when it is first used, and again
    /// after it broke.
    pub(super) fn open(options: &ClientOptions) -> Result<Self, ClientError> {
        let identity = options.certificate.as_ref();
        let identity = identity.map(|own| (own.chain_pem.as_slice(), own.key_pem.as_slice()));
        let link = link(&options.server, options.ca_pem.as_deref(), identity, options.deadline)?;
        let channels = (0..options.connections).map(|_| link.connect_lazy()).collect();
        Ok(Self { link, channels, next: AtomicUsize::new(0), deadline: options.deadline })
    }

    /// The next channel in turn, for lookups.
    pub(super) fn stub(&self) -> Result<Stub, ClientError> {
        Ok(Stub::new(self.channel()?).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// The same for limits and token keys.
    pub(super) fn quota_stub(&self) -> Result<QuotaServiceClient<Channel>, ClientError> {
        let stub = QuotaServiceClient::new(self.channel()?);
        Ok(stub.max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn channel(&self) -> Result<Channel, ClientError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        // There is at least one channel: the options were checked.
        self.channels
            .get(turn % self.channels.len().max(1))
            .cloned()
            .ok_or(ClientError::Option { option: "connections", rule: "must be 1 to 64" })
    }

    /// The same for the one long message.
    pub(super) fn stub_for_providers(&self) -> Result<Stub, ClientError> {
        Ok(self.stub()?.max_decoding_message_size(MAX_PROVIDERS_BYTES))
    }

    /// A connection of its own to follow changes on, made anew each time.
    pub(super) fn watch(&self) -> Watching {
        let mut link = self.link.clone();
        link.endpoint = link
            .endpoint
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let stub = RegistryServiceClient::new(link.connect_lazy());
        Watching(stub.max_decoding_message_size(MAX_INVALIDATIONS_BYTES))
    }

    /// A request that names the deadline. The same for every call, whatever is
    /// left of it: nothing about this client's past shows.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Makes a call without side effects, and once more when the first got no
    /// answer for want of a connection.
    pub(super) async fn call<T, F>(
        &self,
        mut call: impl FnMut() -> Result<F, ClientError>,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let once_or_twice = async {
            match call()?.await {
                Err(status) if is_transport(&status) => {
                    pause().await;
                    Ok::<_, ClientError>(call()?.await)
                }
                other => Ok(other),
            }
        };
        timeout_at(self.deadline(), once_or_twice)
            .await
            .map_err(|_| ClientError::DeadlineExceeded(self.deadline))??
            .map(Response::into_inner)
            .map_err(|status| ClientError::from_status(&status, self.deadline))
    }
}

/// How to connect to a server, as `identity` if there is one.
pub(super) fn link(
    server: &str,
    ca_pem: Option<&[u8]>,
    identity: Option<Certified<'_>>,
    connect_timeout: Duration,
) -> Result<Link, ClientError> {
    let uri: Uri = server.parse().map_err(|_| ClientError::Address)?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(ClientError::Address)?;
    let (endpoint, tls) = match uri.scheme_str() {
        Some("https") => {
            let dialer = Dialer::new(host, ca_pem, identity, connect_timeout, TCP_KEEP_ALIVE)?;
            // The dialer brings TLS along: what is connected to is the bare
            // address, and requests name the origin.
            let address = format!("http://{host}:{}", uri.port_u16().unwrap_or(HTTPS_PORT));
            let address: Uri = address.parse().map_err(|_| ClientError::Address)?;
            (Endpoint::from(address).origin(uri), Some(dialer))
        }
        Some("http") => {
            let rule = "is of no use for an http:// address: use https://, or leave it out";
            if ca_pem.is_some() {
                return Err(ClientError::Option { option: "ca_pem", rule });
            }
            if identity.is_some() {
                return Err(ClientError::Option { option: "certificate", rule });
            }
            (Endpoint::from(uri), None)
        }
        _ => return Err(ClientError::Address),
    };
    let endpoint = endpoint
        .user_agent(concat!("blindbook/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| ClientError::Address)?
        .connect_timeout(connect_timeout)
        .tcp_keepalive(Some(TCP_KEEP_ALIVE))
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(MAX_HEADER_BYTES);
    Ok(Link { endpoint, tls })
}

/// A channel for a partner, as its certificate says.
pub(super) fn partner_channel(options: &RegistryOptions) -> Result<Channel, ClientError> {
    let identity = options.certificate.as_ref();
    let identity = identity.map(|(chain, key)| (chain.as_slice(), key.as_slice()));
    let link = link(&options.server, options.ca_pem.as_deref(), identity, options.deadline)?;
    Ok(link.connect_lazy())
}

/// A short pause before a call is repeated, not the same for all clients of a
/// server that restarts.
pub(super) async fn pause() {
    let pause_ms = rand::rng().random_range(50..150);
    sleep(Duration::from_millis(pause_ms)).await;
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn open(server: &str, ca_pem: Option<&[u8]>) -> Result<Pool, ClientError> {
        let identity = SigningKey::from_bytes(&[1; 32]).verifying_key();
        let mut options = ClientOptions::new(server, identity);
        options.ca_pem = ca_pem.map(<[u8]>::to_vec);
        Pool::open(&options)
    }

    #[tokio::test]
    async fn only_http_and_https_addresses_are_taken() {
        assert!(open("http://127.0.0.1:7000", None).is_ok());
        assert!(open("https://dp.example", None).is_ok());
        for bad in ["", "dp.example", "dp.example:443", "ftp://dp.example", "https://", "/x"] {
            assert!(matches!(open(bad, None), Err(ClientError::Address)), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_ca_that_is_none_is_refused_and_never_ignored() {
        let refused = open("https://dp.example", Some(b"not PEM"));
        assert!(matches!(refused, Err(ClientError::CertificateAuthority)));
        let refused = open("http://dp.example", Some(b"-----BEGIN CERTIFICATE-----"));
        assert!(matches!(refused, Err(ClientError::Option { option: "ca_pem", .. })));
    }

    #[tokio::test]
    async fn channels_are_used_in_turn() {
        let pool = open("http://127.0.0.1:7000", None).unwrap();
        for _ in 0..pool.channels.len() {
            pool.stub().unwrap();
        }
        assert_eq!(pool.next.load(Ordering::Relaxed), pool.channels.len());
    }
}
