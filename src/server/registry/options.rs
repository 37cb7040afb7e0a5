//! What an operator of a live registry chooses.

use std::{fmt, time::Duration};

use crate::{
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

/// A live registry: which proofs count. Who may change it,
/// [`super::super::Server::with_partners`] says.
pub struct RegistryOptions {
    /// What proves control, and the challenges to answer.
    pub proofs: Proofs,
    /// One-time codes; `None` if this directory sends none.
    pub verification: Option<Verification>,
    /// How long one round over all buckets takes, which removes what lapsed.
    pub sweep_period: Duration,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryOptions(..)")
    }
}

impl RegistryOptions {
    /// Proofs; no codes, and a round of sweeping in an hour.
    #[must_use]
    pub const fn new(proofs: Proofs) -> Self {
        Self { proofs, verification: None, sweep_period: Duration::from_secs(3600) }
    }

    pub(in crate::server) fn check(&self) -> Result<(), ServerError> {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        if !bounds.contains(&self.sweep_period) {
            let rule = "must be from a second to a week";
            return Err(ServerError::Option { name: "sweep_period", rule });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::proof::{
        Challenges, IdentityIssuers, MemoryPending, PassportRules, TokenIssuers,
    };

    fn options() -> RegistryOptions {
        let challenges = Challenges::new(Arc::new(MemoryPending::new(1)), 60, 1).unwrap();
        let (tokens, passports) = (TokenIssuers::default(), PassportRules::default());
        let proofs = Proofs::new(challenges, tokens, passports, IdentityIssuers::default());
        RegistryOptions::new(proofs)
    }

    #[test]
    fn a_round_of_sweeping_takes_a_second_to_a_week() {
        for period in [Duration::ZERO, Duration::from_secs(604_801)] {
            let options = RegistryOptions { sweep_period: period, ..options() };
            let refused = options.check();
            assert!(matches!(refused, Err(ServerError::Option { name: "sweep_period", .. })));
        }
    }
}
