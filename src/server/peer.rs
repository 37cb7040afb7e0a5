//! Who is at the other end of a connection, and which partner that is: as the
//! transport said when it began, and as the lists say now.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::tls::Tls;
use crate::access::{Partner, Partners, RoleKind, Who};

/// How long a certificate counts without being looked at again: its end, and
/// that of the revocation lists, come without a sign.
const RECHECK_S: u64 = 60;

/// The other end of a connection.
pub(super) enum Peer {
    /// There is no TLS: a proxy ended it, or it is one machine.
    Plaintext,
    /// TLS, without a certificate.
    Anonymous,
    /// TLS, with a certificate that the handshake verified.
    Certified(Certified),
}

/// A certificate that was verified.
pub(super) struct Certified {
    /// Its one URI. As in SPIFFE X.509-SVID section 2, a certificate with none or
    /// several names nobody.
    uri: Option<String>,
    /// As it was presented.
    chain: Vec<CertificateDer<'static>>,
    tls: Tls,
    standing: Mutex<Standing>,
}

/// What the chain came to when it was last verified.
#[derive(Clone, Copy)]
struct Standing {
    generation: u64,
    checked_s: u64,
    good: bool,
}

/// Why a call is not a partner's, or not this partner's. The peer is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PeerError {
    /// Nobody can be known here.
    #[error(
        "this is for partners of the directory, who are known by a client certificate, and this \
         server speaks plain text: serve with tls_cert, tls_key and client_ca"
    )]
    Plaintext,
    /// No certificate.
    #[error("this is for partners of the directory: present a client certificate")]
    Unidentified,
    /// A certificate that is no longer good.
    #[error(
        "the client certificate was revoked or has expired, or its authority is trusted no more: \
         connect with one that counts"
    )]
    Lapsed,
    /// A certificate of somebody who is not listed.
    #[error(
        "the client certificate is not that of a partner of this directory: it needs the one URI \
         that is listed, and the extended key usage clientAuth"
    )]
    Unknown,
    /// The role does not open the method.
    #[error("this is for partners with the role {}, and the caller has the role {}", names(.allowed), .role.name())]
    Role {
        /// Who may.
        allowed: &'static [RoleKind],
        /// What the caller is.
        role: RoleKind,
    },
}

fn names(roles: &[RoleKind]) -> String {
    let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
    if names.is_empty() { "of nobody".into() } else { names.join(" or ") }
}

impl Peer {
    /// The peer of a TLS connection, with the chain that it presented and that
    /// was verified under this generation of what is in force.
    pub(super) fn of_tls(chain: Option<&[CertificateDer<'_>]>, tls: &Tls, generation: u64) -> Self {
        let Some((leaf, _)) = chain.and_then(<[_]>::split_first) else { return Self::Anonymous };
        let uri = uri(leaf);
        let chain = chain.unwrap_or_default().iter().map(|one| one.clone().into_owned()).collect();
        let standing = Standing { generation, checked_s: tls.now_s(), good: true };
        Self::Certified(Certified { uri, chain, tls: tls.clone(), standing: Mutex::new(standing) })
    }

    /// Which partner it is, as of now.
    ///
    /// # Errors
    /// It says nothing of itself, its certificate counts no more, or it is not
    /// listed.
    pub(super) fn partner(&self, partners: Option<&Partners>) -> Result<Arc<Partner>, PeerError> {
        match self {
            Self::Plaintext => Err(PeerError::Plaintext),
            Self::Anonymous => Err(PeerError::Unidentified),
            Self::Certified(certified) => {
                let uri = certified.uri.as_deref();
                let partner = uri.zip(partners).and_then(|(uri, partners)| partners.by_uri(uri));
                let partner = partner.ok_or(PeerError::Unknown)?;
                certified.is_good().then_some(partner).ok_or(PeerError::Lapsed)
            }
        }
    }
}

impl Certified {
    /// Whether the chain would be let in now: looked at anew when what is in
    /// force changed, and from time to time.
    fn is_good(&self) -> bool {
        let (current, now_s) = (self.tls.current(), self.tls.now_s());
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = standing.generation != current.generation
            || now_s.abs_diff(standing.checked_s) >= RECHECK_S;
        if stale {
            *standing = Standing {
                generation: current.generation,
                checked_s: now_s,
                good: current.accepts(&self.chain, now_s),
            };
        }
        standing.good
    }
}

/// Who makes a call, let in by its role.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) partner: Arc<Partner>,
    peer: Arc<Peer>,
    partners: Partners,
}

impl Caller {
    /// Lets a call of this kind in.
    ///
    /// # Errors
    /// The peer is no partner, or of another role.
    pub(super) fn admit(
        peer: &Arc<Peer>,
        partners: Option<&Partners>,
        who: Who,
    ) -> Result<Option<Self>, PeerError> {
        let Who::Only(allowed) = who else { return Ok(None) };
        let partner = peer.partner(partners)?;
        let role = partner.role.kind();
        if !allowed.contains(&role) {
            return Err(PeerError::Role { allowed, role });
        }
        let partners = partners.ok_or(PeerError::Unknown)?.clone();
        Ok(Some(Self { partner, peer: peer.clone(), partners }))
    }

    /// Who makes this call. Its message may have come long after the call began:
    /// the caller must still be what it was.
    ///
    /// # Errors
    /// As [`Self::still`].
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Result<&Self, PeerError> {
        // A request without a caller did not come through the gate.
        let caller = request.extensions().get::<Self>().ok_or(PeerError::Unidentified)?;
        caller.still().map(|()| caller)
    }

    /// Whether it still is what it was when it was let in: for calls that last.
    ///
    /// # Errors
    /// It is a partner no more, or another one.
    pub(super) fn still(&self) -> Result<(), PeerError> {
        let now = self.peer.partner(Some(&self.partners))?;
        if now.role == self.partner.role { Ok(()) } else { Err(PeerError::Unknown) }
    }
}

/// The one URI among the alternative names of a certificate that is meant for
/// clients.
fn uri(leaf: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    // The handshake lets a certificate without any extended key usage pass.
    let usages = certificate.extended_key_usage().ok().flatten()?;
    if !usages.value.client_auth {
        return None;
    }
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
    use crate::{
        access::{Alias, PartnerUri, Role},
        clock::Clock,
        keyring::{self, Keyring},
        store::MemoryGenerations,
    };

    async fn partners(listed: Vec<Partner>) -> Partners {
        let keys = tempfile::tempdir().unwrap();
        keyring::generate(keys.path(), &mut rand::rng()).unwrap();
        let keyring = Arc::new(Keyring::load(keys.path()).unwrap());
        Partners::open(Arc::new(MemoryGenerations::default()), keyring, listed).await.unwrap()
    }

    fn admin(uri: &str) -> Partner {
        let (uri, alias) = (PartnerUri::parse(uri).unwrap(), Alias::parse("admin").unwrap());
        Partner { uri, alias, role: Role::Admin, evaluations_per_day: None }
    }

    fn said(outcome: Result<Option<Caller>, PeerError>) -> Result<bool, PeerError> {
        outcome.map(|caller| caller.is_some())
    }

    #[tokio::test]
    async fn who_has_no_certificate_is_let_in_to_what_is_everybodys_alone() {
        let partners = partners(vec![admin("spiffe://dp.example/admin")]).await;
        let only = Who::Only(&[RoleKind::Admin]);
        for (peer, error) in
            [(Peer::Plaintext, PeerError::Plaintext), (Peer::Anonymous, PeerError::Unidentified)]
        {
            let peer = Arc::new(peer);
            for partners in [None, Some(&partners)] {
                assert_eq!(said(Caller::admit(&peer, partners, Who::Anybody)), Ok(false));
                assert_eq!(said(Caller::admit(&peer, partners, only)), Err(error));
            }
        }
    }

    #[tokio::test]
    async fn a_chain_that_would_not_be_let_in_now_is_nobodys() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let pem = super::super::TlsPem {
            cert: cert.clone().into_bytes(),
            key: key.into_bytes().into(),
            client_ca: Some(cert.into_bytes()),
            client_crl: None,
        };
        let tls = Tls::new(&pem, Clock::new(|| 1_800_000_000)).unwrap();
        let partners = partners(vec![admin("spiffe://dp.example/admin")]).await;
        let of = |uri: &str, chain: Vec<CertificateDer<'static>>, generation| {
            let standing = Standing { generation, checked_s: 1_800_000_000, good: true };
            let (tls, standing) = (tls.clone(), Mutex::new(standing));
            Peer::Certified(Certified { uri: Some(uri.into()), chain, tls, standing })
        };
        let nonsense = || vec![CertificateDer::from(b"no certificate".to_vec())];
        let partner = |peer: &Peer| peer.partner(Some(&partners)).map(|found| found.role.kind());
        let (known, unknown) = ("spiffe://dp.example/admin", "spiffe://dp.example/other");
        // As the handshake left it; after a reload; and of nobody in the list.
        assert_eq!(partner(&of(known, nonsense(), 0)), Ok(RoleKind::Admin));
        assert_eq!(partner(&of(known, nonsense(), 1)), Err(PeerError::Lapsed));
        assert_eq!(partner(&of(known, Vec::new(), 1)), Err(PeerError::Lapsed));
        assert_eq!(partner(&of(unknown, nonsense(), 0)), Err(PeerError::Unknown));
        assert_eq!(of(known, nonsense(), 0).partner(None).err(), Some(PeerError::Unknown));
        let peer = Peer::of_tls(Some(&nonsense()), &tls, 0);
        assert_eq!(partner(&peer), Err(PeerError::Unknown));
    }
}
