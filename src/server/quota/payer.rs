//! Who pays: as the connection says who asks.

use crate::{
    access::{Partners, RoleKind},
    server::peer::Peer,
};

/// Who pays for a call.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::server) enum Payer {
    /// Nobody that is known.
    Anonymous,
    /// A partner.
    Partner {
        /// Its account.
        alias: String,
        /// Whether it has users, who get tokens.
        has_users: bool,
        /// Its own limit, if it has one.
        evaluations_per_day: Option<u64>,
    },
}

impl Payer {
    /// Who pays for what comes from this peer. Whoever is not listed, or has a
    /// certificate that counts no more, is nobody that is known.
    pub(in crate::server) fn of(peer: &Peer, partners: Option<&Partners>) -> Self {
        match peer.partner(partners) {
            Err(_) => Self::Anonymous,
            Ok(partner) => Self::Partner {
                alias: partner.alias.as_str().to_owned(),
                has_users: partner.role.kind() == RoleKind::Ap,
                evaluations_per_day: partner.evaluations_per_day,
            },
        }
    }
}
