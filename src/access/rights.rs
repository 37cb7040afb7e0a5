//! Which role may call which method. What stands in no line, nobody may call.

use super::RoleKind::{self, Admin, Ap, Authority};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everybody, with a certificate or without.
    Anybody,
    /// Partners of these roles, and nobody else. What of a partner's own or of
    /// whose it may touch, the method itself decides.
    Only(&'static [RoleKind]),
}

/// Who may call one method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The service, as in the path of its calls.
    pub service: &'static str,
    /// The method.
    pub method: &'static str,
    /// Who may call it.
    pub who: Who,
}

const fn right(service: &'static str, method: &'static str, who: Who) -> Right {
    Right { service, method, who }
}

const DISCOVERY: &str = "blindbook.v1.DiscoveryService";
const QUOTA: &str = "blindbook.v1.QuotaService";
const REGISTRY: &str = "blindbook.v1.RegistryService";
const ADMIN: &str = "blindbook.v1.AdminService";
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";

const PROVIDERS: Who = Who::Only(&[Ap]);
const PROVIDERS_AND_AUTHORITIES: Who = Who::Only(&[Ap, Authority]);
const ADMINS: Who = Who::Only(&[Admin]);

/// Every method that there is.
pub const RIGHTS: &[Right] = &[
    right(DISCOVERY, "GetParameters", Who::Anybody),
    right(DISCOVERY, "ListProviders", Who::Anybody),
    right(DISCOVERY, "Evaluate", Who::Anybody),
    right(DISCOVERY, "FetchBuckets", Who::Anybody),
    right(DISCOVERY, "QueryPir", Who::Anybody),
    right(QUOTA, "GetLimits", Who::Anybody),
    right(QUOTA, "GetTokenKeys", Who::Anybody),
    right(QUOTA, "IssueTokens", PROVIDERS),
    right(REGISTRY, "StartVerification", PROVIDERS),
    right(REGISTRY, "FinishVerification", PROVIDERS),
    right(REGISTRY, "StartChallenge", PROVIDERS),
    right(REGISTRY, "Claim", PROVIDERS),
    right(REGISTRY, "ClaimMany", PROVIDERS),
    right(REGISTRY, "SetPreferences", PROVIDERS),
    right(REGISTRY, "Release", PROVIDERS_AND_AUTHORITIES),
    right(REGISTRY, "Port", PROVIDERS_AND_AUTHORITIES),
    right(REGISTRY, "List", PROVIDERS),
    right(REGISTRY, "WatchInvalidations", Who::Anybody),
    right(ADMIN, "PutPartner", ADMINS),
    right(ADMIN, "RemovePartner", ADMINS),
    right(ADMIN, "ListPartners", ADMINS),
    right(HEALTH, "Check", Who::Anybody),
    right(HEALTH, "Watch", Who::Anybody),
    right(REFLECTION, "ServerReflectionInfo", Who::Anybody),
];

/// The line of the method of this path, `/service/method`.
#[must_use]
pub fn right_of(path: &str) -> Option<&'static Right> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    RIGHTS.iter().find(|right| right.service == service && right.method == method)
}

/// Who may call the method of this path; nobody, if there is no line for it.
#[must_use]
pub fn who_may(path: &str) -> Who {
    right_of(path).map_or(Who::Only(&[]), |right| right.who)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_no_line_nobody_may_call() {
        for path in [
            "",
            "/",
            "blindbook.v1.DiscoveryService/Evaluate",
            "/blindbook.v1.DiscoveryService/evaluate",
            "/blindbook.v1.DiscoveryService/Evaluate/",
            "/blindbook.v1.RegistryService/Evaluate",
        ] {
            assert_eq!(who_may(path), Who::Only(&[]), "{path}");
        }
        assert_eq!(who_may("/blindbook.v1.DiscoveryService/Evaluate"), Who::Anybody);
    }

    #[test]
    fn no_method_has_two_lines() {
        for (index, one) in RIGHTS.iter().enumerate() {
            let again = RIGHTS.iter().skip(index + 1);
            let mut again =
                again.filter(|next| (next.service, next.method) == (one.service, one.method));
            assert_eq!(again.next(), None);
        }
    }
}
