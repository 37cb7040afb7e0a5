//! What an operator chooses of quotas.

use std::{collections::BTreeMap, fmt};

use crate::{
    access::quota::{Limit, LimitError, Limits},
    server::ServerError,
};

/// How callers without a partner's certificate pay for evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// Not at all: whoever reaches the server can try every number of a country.
    /// For development, and behind something else that limits.
    #[default]
    Open,
    /// With a Privacy Pass token for each two elements.
    Tokens,
}

/// How much may be asked, and by whom.
#[derive(Clone, PartialEq, Eq)]
pub struct QuotaOptions {
    /// How callers pay that are no partners.
    pub anonymous: Anonymous,
    /// The bytes of buckets of all of them together, where they pay with tokens.
    pub anonymous_bytes: Limit,
    /// The limits of a partner that has none of its own.
    pub partner: Limits,
    /// The limits of others, by the name that they are known by.
    pub partners: BTreeMap<String, Limits>,
}

impl fmt::Debug for QuotaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuotaOptions").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}

impl QuotaOptions {
    /// What all that are no partners may fetch together unless told otherwise:
    /// the buckets of some twenty million lookups a day.
    ///
    /// # Errors
    /// None: it is a constant that can be.
    pub const fn anonymous_bytes() -> Result<Limit, LimitError> {
        Limit::new(1 << 40, 64 << 30)
    }

    /// The limits of a partner.
    pub(super) fn of(&self, alias: &str) -> Limits {
        self.partners.get(alias).copied().unwrap_or(self.partner)
    }

    /// Checks that each limit admits the largest request.
    pub(in crate::server) fn check(&self) -> Result<(), ServerError> {
        let refused = |name, rule| Err(ServerError::Option { name, rule });
        for limits in self.partners.values().chain([&self.partner]) {
            if limits.elements.burst() < 512 {
                return refused("elements burst", "must admit the largest batch, 512 elements");
            }
            if limits.tokens.burst() < 256 {
                return refused("tokens burst", "must admit the largest call, 256 tokens");
            }
        }
        Ok(())
    }
}

impl Default for QuotaOptions {
    fn default() -> Self {
        Self {
            anonymous: Anonymous::default(),
            anonymous_bytes: Self::anonymous_bytes().unwrap_or(Limits::DEFAULT.bytes),
            partner: Limits::DEFAULT,
            partners: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_below_the_largest_request_are_refused_and_names_do_not_show() {
        QuotaOptions::default().check().unwrap();
        assert_eq!(QuotaOptions::anonymous_bytes().unwrap().burst(), 64 << 30);
        let small = Limit::new(1000, 511).unwrap();
        let elements = Limits { elements: small, ..Limits::DEFAULT };
        let tokens = Limits { tokens: Limit::new(1000, 255).unwrap(), ..Limits::DEFAULT };
        for limits in [elements, tokens] {
            let general = QuotaOptions { partner: limits, ..QuotaOptions::default() };
            assert!(general.check().is_err());
            let mut one = QuotaOptions::default();
            one.partners.insert("canary.example".into(), limits);
            assert!(one.check().is_err());
            assert!(!format!("{one:?}").contains("canary"));
            assert_eq!(one.of("canary.example"), limits);
            assert_eq!(one.of("other.example"), Limits::DEFAULT);
        }
    }
}
