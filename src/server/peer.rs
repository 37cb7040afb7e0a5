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
