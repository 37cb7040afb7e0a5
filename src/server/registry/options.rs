//! What an operator of a live registry chooses.

use std::{fmt, time::Duration};

use crate::{
    access::Callers,
    registry::proof::{Codes, Proofs, TokenSigner},
    server::ServerError,
};

/// How the directory checks identifiers itself.
pub struct Verification {
    /// Sends codes and checks them.
    pub codes: Codes,
    /// Signs that a code was confirmed. Its key must be among those that
    /// [`RegistryOptions::proofs`] trusts.
    pub signer: TokenSigner,
}

/// A live registry: who may change it, and which proofs count.
pub struct RegistryOptions {
    /// The partners.
    pub callers: Callers,
    /// What proves control, and the challenges to answer.
    pub proofs: Proofs,
    /// One-time codes; `None` if this directory sends none.
    pub verification: Option<Verification>,
    /// How long one round over all buckets takes, which removes what lapsed.
    pub sweep_period: Duration,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions").field("callers", &self.callers).finish_non_exhaustive()
    }
}

impl RegistryOptions {
    /// Partners and proofs; no codes, and a round of sweeping in an hour.
    #[must_use]
    pub const fn new(callers: Callers, proofs: Proofs) -> Self {
        Self { callers, proofs, verification: None, sweep_period: Duration::from_secs(3600) }
    }

    /// Checks them for a server with or without TLS.
    pub(in crate::server) fn check(&self, tls: bool) -> Result<(), ServerError> {
        let refused = |name, rule| Err(ServerError::Option { name, rule });
        if tls && self.callers.has_tokens() {
            return refused("callers", "may have tokens only where there is no TLS");
        }
        if !tls && self.callers.has_uris() {
            return refused("callers", "have URIs only in certificates, which need TLS");
        }
        let bounds = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        if !bounds.contains(&self.sweep_period) {
            return refused("sweep_period", "must be from a second to a week");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        access::Role,
        identifier::Provider,
        registry::proof::{
            Challenges, IdentityIssuers, MemoryPending, PassportRules, TokenIssuers,
        },
    };

    fn options() -> RegistryOptions {
        let challenges = Challenges::new(Arc::new(MemoryPending::new(1)), 60, 1).unwrap();
        let (tokens, passports) = (TokenIssuers::default(), PassportRules::default());
        let proofs = Proofs::new(challenges, tokens, passports, IdentityIssuers::default());
        RegistryOptions::new(Callers::default(), proofs)
    }

    #[test]
    fn tokens_and_certificates_exclude_each_other_by_transport() {
        let role = || Role::Provider(Provider::parse("wa.example").unwrap());
        assert!(options().check(true).is_ok() && options().check(false).is_ok());
        let mut tokens = options();
        tokens.callers.add_token("0123456789abcdef", role()).unwrap();
        assert!(tokens.check(false).is_ok());
        assert!(matches!(tokens.check(true), Err(ServerError::Option { name: "callers", .. })));
        let mut uris = options();
        uris.callers.add_uri("spiffe://wa.example/ap", role()).unwrap();
        assert!(uris.check(true).is_ok());
        assert!(matches!(uris.check(false), Err(ServerError::Option { name: "callers", .. })));
    }

    #[test]
    fn a_round_of_sweeping_takes_a_second_to_a_week() {
        for period in [Duration::ZERO, Duration::from_secs(604_801)] {
            let options = RegistryOptions { sweep_period: period, ..options() };
            let refused = options.check(true);
            assert!(matches!(refused, Err(ServerError::Option { name: "sweep_period", .. })));
        }
    }
}
