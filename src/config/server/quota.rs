//! The section `[quota]`: how much may be asked, and how callers pay that are no
//! partners.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    access::quota::{Limit, LimitError, Limits},
    server::{Anonymous, QuotaOptions},
};

/// Why the settings of quotas are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuotaConfigError {
    /// A limit that cannot be.
    #[error("[quota] {setting}: {error}")]
    Limit {
        /// Which.
        setting: &'static str,
        /// What is wrong with it.
        error: LimitError,
    },
    /// A partner's limits twice.
    #[error("[[quota.partner]] {0} is listed twice")]
    Twice(String),
    /// A burst that keeps the largest request from ever being served.
    #[error("[quota] {setting} must be at least {least}, which the largest request takes")]
    Burst {
        /// Which.
        setting: &'static str,
        /// The least that works.
        least: u64,
    },
    /// Tokens that nobody could get.
    #[error(
        "[quota] anonymous = \"tokens\" needs a client_ca, and a [[caller]] with role \"ap\", who \
         gets them for its users, or an [[admin]], who may add one"
    )]
    NoIssue,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnonymousName {
    Open,
    Tokens,
}

#[derive(Clone, Copy)]
struct LimitsSection {
    elements_per_day: Option<u64>,
    elements_burst: Option<u64>,
    bucket_bytes_per_day: Option<u64>,
    bucket_bytes_burst: Option<u64>,
    pir_queries_per_day: Option<u64>,
    pir_queries_burst: Option<u64>,
    users: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartnerSection {
    alias: String,
    elements_per_day: Option<u64>,
    elements_burst: Option<u64>,
    bucket_bytes_per_day: Option<u64>,
    bucket_bytes_burst: Option<u64>,
    pir_queries_per_day: Option<u64>,
    pir_queries_burst: Option<u64>,
    users: Option<u64>,
}

impl PartnerSection {
    const fn limits(&self) -> LimitsSection {
        LimitsSection {
            elements_per_day: self.elements_per_day,
            elements_burst: self.elements_burst,
            bucket_bytes_per_day: self.bucket_bytes_per_day,
            bucket_bytes_burst: self.bucket_bytes_burst,
            pir_queries_per_day: self.pir_queries_per_day,
            pir_queries_burst: self.pir_queries_burst,
            users: self.users,
        }
    }
}

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    anonymous: Option<AnonymousName>,
    anonymous_bytes_per_day: Option<u64>,
    anonymous_bytes_burst: Option<u64>,
    elements_per_day: Option<u64>,
    elements_burst: Option<u64>,
    bucket_bytes_per_day: Option<u64>,
    bucket_bytes_burst: Option<u64>,
    pir_queries_per_day: Option<u64>,
    pir_queries_burst: Option<u64>,
    users: Option<u64>,
    #[serde(default, rename = "partner")]
    partners: Vec<PartnerSection>,
}

/// A rate and a burst where either may be left out: the burst then stands to the
/// rate as it does in `default`.
fn limit(
    setting: &'static str,
    per_day: Option<u64>,
    burst: Option<u64>,
    default: Limit,
    least: u64,
) -> Result<Limit, QuotaConfigError> {
    let per_day = per_day.unwrap_or(default.per_day());
    let scaled = u128::from(per_day) * u128::from(default.burst()) / u128::from(default.per_day());
    let scaled = u64::try_from(scaled).unwrap_or(u64::MAX).max(least);
    let burst = burst.unwrap_or(scaled);
    if burst < least {
        return Err(QuotaConfigError::Burst { setting, least });
    }
    Limit::new(per_day, burst).map_err(|error| QuotaConfigError::Limit { setting, error })
}

/// The largest batch, the largest fetch in bytes, the largest call for tokens.
const LEAST_ELEMENTS: u64 = 512;
const LEAST_BYTES: u64 = 16_384 * 49_152;
const LEAST_TOKENS: u64 = 256;

impl LimitsSection {
    fn over(self, default: &Limits) -> Result<Limits, QuotaConfigError> {
        let tokens = self.users.map(|users| users.saturating_mul(Limits::TOKENS_PER_USER));
        Ok(Limits {
            elements: limit(
                "elements_burst",
                self.elements_per_day,
                self.elements_burst,
                default.elements,
                LEAST_ELEMENTS,
            )?,
            bytes: limit(
                "bucket_bytes_burst",
                self.bucket_bytes_per_day,
                self.bucket_bytes_burst,
                default.bytes,
                LEAST_BYTES,
            )?,
            tokens: limit("users", tokens, None, default.tokens, LEAST_TOKENS)?,
            queries: limit(
                "pir_queries_burst",
                self.pir_queries_per_day,
                self.pir_queries_burst,
                default.queries,
                1,
            )?,
        })
    }
}

impl Section {
    /// Who pays with tokens unless told otherwise: callers that are no partners,
    /// where partners are known and one of them can get tokens.
    pub(super) fn check(self, known: bool, issues: bool) -> Result<QuotaOptions, QuotaConfigError> {
        let anonymous = match self.anonymous {
            Some(AnonymousName::Tokens) if !(known && issues) => {
                return Err(QuotaConfigError::NoIssue);
            }
            Some(AnonymousName::Tokens) => Anonymous::Tokens,
            None if known && issues => Anonymous::Tokens,
            Some(AnonymousName::Open) | None => Anonymous::Open,
        };
        let general = QuotaOptions::default();
        let partner = LimitsSection {
            elements_per_day: self.elements_per_day,
            elements_burst: self.elements_burst,
            bucket_bytes_per_day: self.bucket_bytes_per_day,
            bucket_bytes_burst: self.bucket_bytes_burst,
            pir_queries_per_day: self.pir_queries_per_day,
            pir_queries_burst: self.pir_queries_burst,
            users: self.users,
        }
        .over(&general.partner)?;
        let mut partners = BTreeMap::new();
        for section in self.partners {
            let limits = section.limits().over(&partner)?;
            if partners.contains_key(&section.alias) {
                return Err(QuotaConfigError::Twice(section.alias));
            }
            partners.insert(section.alias, limits);
        }
        let anonymous_bytes = limit(
            "anonymous_bytes_burst",
            self.anonymous_bytes_per_day,
            self.anonymous_bytes_burst,
            general.anonymous_bytes,
            LEAST_BYTES,
        )?;
        Ok(QuotaOptions { anonymous, anonymous_bytes, partner, partners })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError};

    const PLAIN: &str =
        "data = \"d\"\nkeys = \"k\"\nlisten = \"127.0.0.1:1\"\ninsecure_plaintext = true\n";
    const TLS: &str =
        "data = \"d\"\nkeys = \"k\"\nlisten = \"127.0.0.1:1\"\ntls_cert = \"c\"\ntls_key = \"k\"\n";
    const AP: &str = "client_ca = \"ca.pem\"\n[[caller]]\nuri = \"spiffe://wa.example/ap\"\nalias = \"wa\"\nrole = \"ap\"\nprovider = \"wa.example\"\n";
    const ADMIN: &str = "client_ca = \"ca.pem\"\n[[admin]]\nuri = \"spiffe://dp.example/admin\"\nalias = \"operator\"\n";

    fn parse(parts: &[&str]) -> Result<QuotaOptions, ConfigError> {
        Config::parse(&parts.concat()).map(|config| config.quotas)
    }

    #[test]
    fn who_is_no_partner_pays_with_tokens_where_some_are_issued() {
        let anonymous = |parts: &[&str]| parse(parts).unwrap().anonymous;
        assert_eq!(anonymous(&[PLAIN]), Anonymous::Open);
        assert_eq!(anonymous(&[TLS]), Anonymous::Open);
        assert_eq!(anonymous(&[TLS, AP]), Anonymous::Tokens);
        assert_eq!(anonymous(&[TLS, ADMIN]), Anonymous::Tokens);
        assert_eq!(anonymous(&[TLS, AP, "[quota]\nanonymous = \"open\"\n"]), Anonymous::Open);
        let nobody = parse(&[TLS, "[quota]\nanonymous = \"tokens\"\n"]);
        assert!(nobody.unwrap_err().to_string().contains("role \"ap\""));
    }

    #[test]
    fn limits_are_the_defaults_or_ones_own_and_bursts_follow_rates() {
        let options = parse(&[
            PLAIN,
            "[quota]\nelements_per_day = 2000000\n[[quota.partner]]\nalias = \"wa.example\"\n\
             users = 500\nelements_burst = 600\n",
        ])
        .unwrap();
        assert_eq!(options.partner.elements, Limit::new(2_000_000, 131_072).unwrap());
        assert_eq!(options.partner.bytes, Limits::DEFAULT.bytes);
        let one = options.partners["wa.example"];
        assert_eq!(one.elements, Limit::new(2_000_000, 600).unwrap());
        assert_eq!(one.tokens, Limit::new(500 * 256, 50 * 256).unwrap());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (section, name) in [
            ("[quota]\nelements_burst = 511\n", "elements_burst"),
            ("[quota]\nbucket_bytes_burst = 1\n", "bucket_bytes_burst"),
            ("[quota]\nelements_per_day = 0\n", "elements_burst"),
            ("[quota]\nusers = 0\n", "users"),
            ("[quota]\npir_queries_burst = 0\n", "pir_queries_burst"),
            ("[quota]\nanonymous = \"free\"\n", "free"),
            ("[quota]\nelement_per_day = 1\n", "element_per_day"),
            ("[[quota.partner]]\nalias = \"a\"\n[[quota.partner]]\nalias = \"a\"\n", "twice"),
        ] {
            let refused = parse(&[PLAIN, section]).unwrap_err().to_string();
            assert!(refused.contains(name), "{section}: {refused}");
        }
    }
}
