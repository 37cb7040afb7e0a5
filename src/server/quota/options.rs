//! What an operator chooses of quotas.

use std::{collections::BTreeMap, fmt};

use crate::{
    access::quota::{Limit, LimitError, Limits},
    server::ServerError,
};

/// The largest batch.
const LEAST_ELEMENTS: u64 = 512;

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
    /// The limits of others, by their alias.
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

    /// The limits of a partner, of whom the list of partners may say how many
    /// elements it has: the burst then stands to them as it did.
    pub(super) fn of(&self, alias: &str, evaluations_per_day: Option<u64>) -> Limits {
        let limits = self.partners.get(alias).copied().unwrap_or(self.partner);
        let Some(per_day) = evaluations_per_day else { return limits };
        let general = limits.elements;
        let burst =
            u128::from(per_day) * u128::from(general.burst()) / u128::from(general.per_day());
        let burst = u64::try_from(burst).unwrap_or(u64::MAX).max(LEAST_ELEMENTS);
        let smallest = Limit::new(1, 1).unwrap_or(general);
        let elements = Limit::new(per_day, burst)
            .or_else(|_| Limit::new(per_day, per_day))
            .unwrap_or(smallest);
        Limits { elements, ..limits }
    }

    /// Checks that each limit admits the largest request.
    pub(in crate::server) fn check(&self) -> Result<(), ServerError> {
        let refused = |name, rule| Err(ServerError::Option { name, rule });
        for limits in self.partners.values().chain([&self.partner]) {
            if limits.elements.burst() < LEAST_ELEMENTS {
                return refused("elements burst", "must admit the largest batch, 512 elements");
            }
            if limits.queries.burst() < 1 {
                return refused("queries burst", "must admit one query");
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
    fn a_partners_own_number_of_elements_takes_the_place_of_the_general_one() {
        let options = QuotaOptions::default();
        let of = |per_day| options.of("a", Some(per_day)).elements;
        assert_eq!(of(2_000_000), Limit::new(2_000_000, 131_072).unwrap());
        assert_eq!(of(1000), Limit::new(1000, 512).unwrap());
        // Of so few a month brings back no batch of the largest size.
        assert_eq!(of(10), Limit::new(10, 10).unwrap());
        assert_eq!(of(0), Limit::new(1, 1).unwrap());
        assert_eq!(options.of("a", Some(7)).bytes, Limits::DEFAULT.bytes);
    }

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
            assert_eq!(one.of("canary.example", None), limits);
            assert_eq!(one.of("other.example", None), Limits::DEFAULT);
        }
    }
}
