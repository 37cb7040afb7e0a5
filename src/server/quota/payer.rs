//! Who pays: as the connection says who asks.

use http::HeaderMap;

use crate::{
    access::{Callers, Role},
    server::peer::Peer,
};

/// The account of all authorities together, who look nobody up. No provider is
/// called so.
const AUTHORITIES: &str = "authorities";

/// Who pays for a call.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::server) enum Payer {
    /// Nobody that is known.
    Anonymous,
    /// A partner, by the name that it is listed under.
    Partner {
        /// Its account.
        alias: String,
        /// Whether it has users, who get tokens.
        has_users: bool,
    },
}

impl Payer {
    /// Who pays for what comes from this peer. Whoever is not listed is nobody
    /// that is known.
    pub(in crate::server) fn of(
        peer: &Peer,
        headers: &HeaderMap,
        callers: Option<&Callers>,
    ) -> Self {
        let caller = callers.and_then(|callers| peer.caller(headers, callers).ok());
        match caller.as_ref().map(|caller| &caller.role) {
            None => Self::Anonymous,
            Some(Role::Provider(provider)) => {
                Self::Partner { alias: provider.as_str().to_owned(), has_users: true }
            }
            Some(Role::Authority(_)) => {
                Self::Partner { alias: AUTHORITIES.to_owned(), has_users: false }
            }
        }
    }
}
