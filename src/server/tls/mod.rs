//! The TLS side of the server: HTTP/2 over TLS 1.3, nothing that recognises a
//! client who comes back.
//!
//! What it is made of can be exchanged while it serves: new handshakes use the
//! new certificate and the new lists, connections go on. Who is at their other
//! end is held against the lists of now before a call counts as his.

mod crl;
mod files;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime, pem::PemObject as _,
    },
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    time_provider::TimeProvider,
};
use zeroize::Zeroizing;

pub use self::files::{Reload, TlsFiles, TlsKeeper};
use super::{Clock, ServerError};
use crate::tls::{certificates, provider};

/// What TLS is made of, PEM. Its `Debug` tells nothing of it.
#[derive(Clone)]
pub struct TlsPem {
    /// Certificate chain, the server's first.
    pub cert: Vec<u8>,
    /// Private key.
    pub key: Zeroizing<Vec<u8>>,
    /// The authorities of partners' certificates; `None` if there are no
    /// partners. Who presents no certificate is let in, since lookups are
    /// everybody's.
    pub client_ca: Option<Vec<u8>>,
    /// Certificate revocation lists (RFC 5280 section 5): if there are any, one
    /// for each authority in `client_ca`, and none that is out of date.
    pub client_crl: Option<Vec<u8>>,
}

impl fmt::Debug for TlsPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsPem(..)")
    }
}

/// How a server speaks TLS. Clones share it: what one exchanges, all use.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    clock: Clock,
    current: RwLock<Arc<Current>>,
}

/// Lists that end within so many seconds are worth a warning: a day.
const LISTS_END_SOON_S: u64 = 86_400;

/// How long revocation lists will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lists {
    /// There are none.
    None,
    /// For more than a day.
    InDate,
    /// One of them ends within a day.
    EndSoon,
    /// One of them has ended: partners whom it is about are refused.
    Ended,
}

/// What is in force.
pub(super) struct Current {
    pub(super) config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    /// When the first of the revocation lists ends.
    lists_until_s: Option<u64>,
    /// Counts what was in force before.
    pub(super) generation: u64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

impl Tls {
    /// TLS with these, which are checked whole. Revocation lists may have ended
    /// ([`Self::lists`]): who needs no certificate is served all the same.
    ///
    /// # Errors
    /// [`ServerError::Tls`] names the part that does not serve, and why.
    pub fn new(pem: &TlsPem, clock: Clock) -> Result<Self, ServerError> {
        let current = Current::new(pem, &clock)?;
        Ok(Self(Arc::new(Inner { clock, current: RwLock::new(Arc::new(current)) })))
    }

    /// Puts others in their place, for all handshakes from now on.
    ///
    /// # Errors
    /// As [`Self::new`], and for revocation lists that have ended in place of those
    /// that have not; the old ones stay in force.
    pub fn replace(&self, pem: &TlsPem) -> Result<(), ServerError> {
        let mut current = Current::new(pem, &self.0.clock)?;
        let now_s = self.now_s();
        let mut place = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.lists(now_s) == Lists::Ended && place.lists(now_s) != Lists::Ended {
            return Err(refused("client_crl", crl::CrlError::Expired));
        }
        current.generation = place.generation.wrapping_add(1);
        *place = Arc::new(current);
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn now_s(&self) -> u64 {
        self.0.clock.now_s()
    }

    /// How long the revocation lists will do.
    #[must_use]
    pub fn lists(&self) -> Lists {
        self.current().lists(self.now_s())
    }

    /// Whether partners' certificates are asked for.
    pub(super) fn knows_partners(&self) -> bool {
        self.current().clients.is_some()
    }
}

/// TLS of a certificate chain and its private key, for a server without
/// partners.
///
/// # Errors
/// As [`Tls::new`].
pub fn tls_config(cert_pem: &[u8], key_pem: &[u8]) -> Result<Tls, ServerError> {
    let key = Zeroizing::new(key_pem.to_vec());
    let pem = TlsPem { cert: cert_pem.to_vec(), key, client_ca: None, client_crl: None };
    Tls::new(&pem, Clock::system())
}

/// As [`tls_config`], for a server that also has partners: whoever presents a
/// certificate must have one of an authority in `client_ca_pem`.
///
/// # Errors
/// As [`Tls::new`].
pub fn mutual_tls_config(
    cert_pem: &[u8],
    key_pem: &[u8],
    client_ca_pem: &[u8],
) -> Result<Tls, ServerError> {
    let key = Zeroizing::new(key_pem.to_vec());
    let client_ca = Some(client_ca_pem.to_vec());
    let pem = TlsPem { cert: cert_pem.to_vec(), key, client_ca, client_crl: None };
    Tls::new(&pem, Clock::system())
}

impl Current {
    fn new(pem: &TlsPem, clock: &Clock) -> Result<Self, ServerError> {
        let (clients, lists_until_s) = match (&pem.client_ca, &pem.client_crl) {
            (Some(authorities), lists) => {
                let (clients, until_s) = verifier(authorities, lists.as_deref())?;
                (Some(clients), until_s)
            }
            (None, None) => (None, None),
            (None, Some(_)) => {
                return Err(refused(
                    "client_crl",
                    "revokes certificates of a client_ca: set it too",
                ));
            }
        };
        let presented = clients.clone().unwrap_or_else(|| Arc::new(NoClientAuth));
        let mut config = config(&pem.cert, &pem.key, presented)?;
        config.time_provider = Arc::new(ClockTime(clock.clone()));
        Ok(Self { config: Arc::new(config), clients, lists_until_s, generation: 0 })
    }

    fn lists(&self, now_s: u64) -> Lists {
        match self.lists_until_s.map(|until_s| until_s.saturating_sub(now_s)) {
            None => Lists::None,
            Some(0) => Lists::Ended,
            Some(1..LISTS_END_SOON_S) => Lists::EndSoon,
            Some(_) => Lists::InDate,
        }
    }

    /// Whether a chain, as a client presented it, would be let in at this time.
    pub(super) fn accepts(&self, chain: &[CertificateDer<'_>], now_s: u64) -> bool {
        let (Some(clients), Some((leaf, others))) = (&self.clients, chain.split_first()) else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        clients.verify_client_cert(leaf, others, now).is_ok()
    }
}

/// The time of handshakes.
#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now_s())))
    }
}

fn refused(part: &str, why: impl fmt::Display) -> ServerError {
    ServerError::Tls(format!("{part}: {why}"))
}

fn read(part: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    certificates(pem).ok_or_else(|| refused(part, "holds no certificate in PEM, or a damaged one"))
}

/// Verifies partners' certificates. Where there are revocation lists, a
/// certificate is let in only if a list of each of its issuers is there, is in
/// date, and does not name it.
fn verifier(
    authorities: &[u8],
    lists: Option<&[u8]>,
) -> Result<(Arc<dyn ClientCertVerifier>, Option<u64>), ServerError> {
    let authorities = read("client_ca", authorities)?;
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|error| refused("client_ca", error))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        // The names of authorities tell who the partners are.
        .clear_root_hint_subjects()
        .enforce_revocation_expiration();
    let mut until_s = None;
    if let Some(pem) = lists {
        let damaged = || refused("client_crl", "holds no revocation list in PEM, or a damaged one");
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|_| damaged())?;
        if lists.is_empty() {
            return Err(damaged());
        }
        let checked = crl::check(&authorities, &lists);
        until_s = Some(checked.map_err(|why| refused("client_crl", why))?);
        builder = builder.with_crls(lists);
    }
    let clients = builder.build().map_err(|error| refused("client_ca and client_crl", error))?;
    Ok((clients, until_s))
}

fn config(
    cert_pem: &[u8],
    key_pem: &[u8],
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, ServerError> {
    let chain = read("tls_cert", cert_pem)?;
    // The parser's error may quote what it read: of a key, nothing is told.
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|_| refused("tls_key", "holds no private key in PEM"))?;
    let unfit = |error: rustls::Error| refused("tls_cert and tls_key", error);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unfit)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would link a client's connections, like a cookie, and
    // would not be held against the lists again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_certificate_or_key_are_refused_without_quoting_them() {
        let told = |cert: &[u8], key: &[u8]| tls_config(cert, key).unwrap_err().to_string();
        assert!(told(b"", b"").contains("tls_cert: holds no certificate"));
        let cert = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let key = b"-----BEGIN PRIVATE KEY-----\nnot*base64\n-----END PRIVATE KEY-----\n";
        assert_eq!(told(cert, key), "TLS: tls_key: holds no private key in PEM");
        let told = |ca: &[u8]| mutual_tls_config(b"", b"", ca).unwrap_err().to_string();
        assert!(told(b"").contains("client_ca: holds no certificate"));
        assert!(told(cert).contains("client_ca: "), "{}", told(cert));
        let lists = TlsPem {
            cert: cert.to_vec(),
            key: Zeroizing::default(),
            client_ca: None,
            client_crl: Some(Vec::new()),
        };
        let refused = Tls::new(&lists, Clock::system()).unwrap_err().to_string();
        assert!(refused.contains("client_crl: "), "{refused}");
    }
}
