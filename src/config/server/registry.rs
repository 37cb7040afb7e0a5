//! The section `[registry]`: which proofs count. Files that it names are read by
//! whoever serves.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::{
    bucket::DirectoryId,
    identifier::{IdentifierError, Provider},
};

/// Why the registry's settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistryConfigError {
    /// Two ways to send codes.
    #[error("set code_spool or code_webhook, not both")]
    CodeChannels,
    /// Codes in a folder, for all who read it.
    #[error("code_spool lets its readers claim anybody: it serves with development = true")]
    SpoolInProduction,
    /// Not a URL to send codes to.
    #[error("code_webhook must be an https:// URL, or http:// to this machine")]
    Webhook,
    /// What belongs to a webhook that there is none of.
    #[error("code_webhook_token and code_webhook_ca belong to a code_webhook: set it too")]
    NoWebhook,
    /// Not the name of a provider.
    #[error("`{name}` is no provider: {error}")]
    Provider {
        /// What it says.
        name: String,
        /// What is wrong with it.
        error: IdentifierError,
    },
    /// Not a directory id.
    #[error("directory must be the 32 lower-case hex digits of a directory id")]
    Directory,
    /// A period out of its range.
    #[error("sweep_period_s must lie between 1 and 604800")]
    SweepPeriod,
}

/// How one-time codes leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeChannel {
    /// Into files of a folder, for development.
    Spool(PathBuf),
    /// To whoever delivers them.
    Webhook(WebhookConfig),
}

/// Who delivers codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where they are posted.
    pub url: String,
    /// A file with the bearer token that goes with them.
    pub token: Option<PathBuf>,
    /// PEM file of the authorities of its certificate; the Web's if there is
    /// none.
    pub ca: Option<PathBuf>,
}

/// Another directory whose claim tokens count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIssuerConfig {
    /// Which.
    pub directory: DirectoryId,
    /// A file with its public key, as JWK.
    pub jwk: PathBuf,
}

/// An OIDC issuer whose `id_token`s count.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityIssuerConfig {
    /// As its tokens have it in `iss`.
    pub url: String,
    /// A file with its keys, as JWK set.
    pub jwks: PathBuf,
    /// The mail domains that it is trusted for.
    pub domains: Vec<String>,
    /// The client id of each provider, as tokens have it in `aud`.
    pub clients: BTreeMap<String, String>,
}

impl IdentityIssuerConfig {
    /// The client ids by provider.
    ///
    /// # Errors
    /// [`RegistryConfigError::Provider`], which [`super::Config`] has ruled out.
    pub fn clients(&self) -> Result<BTreeMap<Provider, String>, RegistryConfigError> {
        by_provider(&self.clients)
    }
}

/// The settings of a live registry, all checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// How codes leave; `None` if this directory sends none.
    pub codes: Option<CodeChannel>,
    /// PEM file of the roots of authority over numbers.
    pub passport_roots: Option<PathBuf>,
    /// Where users of each provider call to answer a challenge.
    pub verification_addresses: BTreeMap<Provider, String>,
    /// Other directories whose claim tokens count.
    pub token_issuers: Vec<TokenIssuerConfig>,
    /// OIDC issuers whose `id_token`s count.
    pub identity_issuers: Vec<IdentityIssuerConfig>,
    /// Within how many seconds all that lapsed is removed.
    pub sweep_period_s: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(default)]
    development: bool,
    code_spool: Option<PathBuf>,
    code_webhook: Option<String>,
    code_webhook_token: Option<PathBuf>,
    code_webhook_ca: Option<PathBuf>,
    passport_roots: Option<PathBuf>,
    #[serde(default)]
    verification_addresses: BTreeMap<String, String>,
    #[serde(default, rename = "token_issuer")]
    token_issuers: Vec<TokenIssuerSection>,
    #[serde(default, rename = "identity_issuer")]
    identity_issuers: Vec<IdentityIssuerConfig>,
    #[serde(default = "sweep_period_s")]
    sweep_period_s: u64,
}

const fn sweep_period_s() -> u64 {
    3600
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenIssuerSection {
    directory: String,
    jwk: PathBuf,
}

impl Section {
    pub(super) fn check(mut self) -> Result<RegistryConfig, RegistryConfigError> {
        let codes = match (self.code_spool.take(), self.code_webhook.take()) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(RegistryConfigError::CodeChannels),
            (Some(folder), None) if self.development => Some(CodeChannel::Spool(folder)),
            (Some(_), None) => return Err(RegistryConfigError::SpoolInProduction),
            (None, Some(url)) if is_webhook(&url) => {
                let (token, ca) = (self.code_webhook_token.take(), self.code_webhook_ca.take());
                Some(CodeChannel::Webhook(WebhookConfig { url, token, ca }))
            }
            (None, Some(_)) => return Err(RegistryConfigError::Webhook),
        };
        if self.code_webhook_token.is_some() || self.code_webhook_ca.is_some() {
            return Err(RegistryConfigError::NoWebhook);
        }
        for issuer in &self.identity_issuers {
            issuer.clients()?;
        }
        let token_issuer = |issuer: TokenIssuerSection| {
            let directory = directory(&issuer.directory).ok_or(RegistryConfigError::Directory)?;
            Ok::<_, RegistryConfigError>(TokenIssuerConfig { directory, jwk: issuer.jwk })
        };
        if !(1..=604_800).contains(&self.sweep_period_s) {
            return Err(RegistryConfigError::SweepPeriod);
        }
        Ok(RegistryConfig {
            codes,
            passport_roots: self.passport_roots,
            verification_addresses: by_provider(&self.verification_addresses)?,
            token_issuers: self
                .token_issuers
                .into_iter()
                .map(token_issuer)
                .collect::<Result<_, _>>()?,
            identity_issuers: self.identity_issuers,
            sweep_period_s: self.sweep_period_s,
        })
    }
}

/// A code in clear text crosses no network without TLS.
fn is_webhook(url: &str) -> bool {
    let local = ["http://127.0.0.1", "http://[::1]", "http://localhost"];
    let is_local = |start: &str| {
        let rest = url.strip_prefix(start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    };
    url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty())
        || local.into_iter().any(is_local)
}

fn by_provider(
    texts: &BTreeMap<String, String>,
) -> Result<BTreeMap<Provider, String>, RegistryConfigError> {
    texts.iter().map(|(name, text)| Ok((provider(name)?, text.clone()))).collect()
}

pub(super) fn provider(name: &str) -> Result<Provider, RegistryConfigError> {
    Provider::parse(name)
        .map_err(|error| RegistryConfigError::Provider { name: name.into(), error })
}

/// Reads the 16 bytes of a directory id.
fn directory(text: &str) -> Option<DirectoryId> {
    let right =
        text.len() == 32 && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let number = u128::from_str_radix(text, 16).ok().filter(|_| right)?;
    Some(DirectoryId::from_bytes(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError};

    const BASE: &str = "data = \"d\"\nkeys = \"k\"\nlisten = \"127.0.0.1:1\"\n";
    const TLS: &str = "tls_cert = \"c\"\ntls_key = \"k\"\n";
    fn parse(parts: &[&str]) -> Result<Config, ConfigError> {
        Config::parse(&[&[BASE], parts].concat().concat())
    }

    #[track_caller]
    fn says(parts: &[&str], words: &str) {
        let refused = parse(parts).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }

    #[test]
    fn codes_go_to_a_folder_only_in_development() {
        let spool = "[registry]\ncode_spool = \"codes\"\n";
        let codes = |parts: &[&str]| parse(parts).unwrap().registry.unwrap().codes;
        let development = codes(&[TLS, spool, "development = true\n"]);
        assert_eq!(development, Some(CodeChannel::Spool("codes".into())));
        says(&[TLS, spool], "development");
        says(&[TLS, spool, "code_webhook = \"https://sms.example/\"\n"], "not both");
        for (url, good) in [
            ("https://sms.example/send", true),
            ("http://127.0.0.1:8080/send", true),
            ("http://localhost/send", true),
            ("http://sms.example/send", false),
            ("http://localhost.example/send", false),
            ("https://", false),
            ("sms.example", false),
        ] {
            let webhook = format!("[registry]\ncode_webhook = {url:?}\n");
            assert_eq!(parse(&[TLS, &webhook]).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn issuers_and_addresses_are_checked_as_far_as_text_goes() {
        let id = "0123456789abcdef0123456789abcdef";
        let issuer = format!("[[registry.token_issuer]]\ndirectory = \"{id}\"\njwk = \"x.jwk\"\n");
        let registry = parse(&[TLS, "[registry]\n", &issuer]).unwrap().registry.unwrap();
        assert_eq!(registry.token_issuers[0].directory.to_string(), id);
        for bad in [id.to_uppercase(), id.replace("01", "+1"), "0".repeat(31)] {
            says(&[TLS, "[registry]\n", &issuer.replace(id, &bad)], "directory must");
        }
        let identity = "[[registry.identity_issuer]]\nurl = \"https://id.example\"\njwks = \"id.jwks\"\ndomains = [\"mail.example\"]\nclients = { \"wa.example\" = \"wa\" }\n";
        let registry = parse(&[TLS, "[registry]\n", identity]).unwrap().registry.unwrap();
        assert_eq!(registry.identity_issuers[0].clients().unwrap().len(), 1);
        says(&[TLS, "[registry]\n", &identity.replace("wa.example", "w a")], "w a");
        let address = "[registry.verification_addresses]\n\"w a\" = \"+14155550199\"\n";
        says(&[TLS, address], "w a");
        says(&[TLS, "[registry]\nsweep_period_s = 0\n"], "sweep_period_s");
        says(&[TLS, "[registry]\ncode_spol = \"x\"\n"], "code_spol");
    }
}
