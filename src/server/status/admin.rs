//! Refusals of the directory of partners.

use tonic::{Code, Status};

use super::{Refusal, peer, store, wire};
use crate::{access::PartnersError, registry::ProviderKeyError, server::admin::AdminError};

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        let refusal = match &error {
            AdminError::Wire(error) => wire(*error),
            AdminError::Peer(error) => peer(*error),
            AdminError::Partners(error) => partners(error, message),
            AdminError::Key(error) => key(error, message),
            AdminError::Store(error) => store(error),
            AdminError::Publish(_) => Refusal::ours(
                "NOT_PUBLISHED",
                "the key is recorded, but could not be published: it will be when the server can",
            ),
        };
        if refusal.code == Code::Internal {
            // None of these errors holds who a partner is.
            tracing::error!(%error, "an administrator's call failed");
        }
        refusal.status()
    }
}

fn partners(error: &PartnersError, message: String) -> Refusal {
    match error {
        PartnersError::Exists => Refusal::new(Code::AlreadyExists, "PARTNER_EXISTS", message),
        PartnersError::Absent => Refusal::new(Code::NotFound, "NO_SUCH_PARTNER", message),
        PartnersError::AliasTaken(_) => Refusal::new(Code::AlreadyExists, "ALIAS_TAKEN", message),
        PartnersError::Configured => Refusal::outdated("PARTNER_CONFIGURED", "partner", message),
        PartnersError::TooLong => Refusal::invalid("PARTNER_TOO_LONG", "partner", message),
        PartnersError::TooMany => {
            let mut refusal = Refusal::new(Code::ResourceExhausted, "TOO_MANY_PARTNERS", message);
            refusal.details.add_quota_failure_violation("partners", refusal.message.as_str());
            refusal
        }
        PartnersError::Store(error) => store(error),
        // The first two are errors of a start.
        PartnersError::ListedTwice(_)
        | PartnersError::Contradiction(_)
        | PartnersError::Keyring(_) => {
            Refusal::ours("PARTNERS_FAILED", "the directory of partners failed")
        }
    }
}

fn key(error: &ProviderKeyError, message: String) -> Refusal {
    match error {
        ProviderKeyError::NotVouched => {
            Refusal::outdated("KEY_NOT_VOUCHED", "provider_key", message)
        }
        ProviderKeyError::Former => Refusal::outdated("KEY_FORMER", "provider_key", message),
        ProviderKeyError::Weak => Refusal::invalid("FIELD_RULE", "provider_key", message),
        ProviderKeyError::Store(error) => store(error),
    }
}
