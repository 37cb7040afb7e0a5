//! The sections `[registry]` and `[[caller]]`: who may change the directory,
//! and which proofs count. Files that they name are read by whoever serves.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::{
    access::{AccessError, Callers, Coverage, Role},
    bucket::DirectoryId,
    identifier::{IdentifierError, Provider},
};

/// Why the registry's settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistryConfigError {
    /// Callers of a directory that nobody may change.
    #[error("a [[caller]] needs a section [registry]: add it, if only its header")]
    NoRegistry,
    /// A caller that cannot be listed.
    #[error("a [[caller]] is refused: {0}")]
    Access(#[from] AccessError),
    /// A caller is known by one thing.
    #[error("a [[caller]] has either a uri or a token")]
    CallerName,
    /// A role with what belongs to another.
    #[error(
        "a [[caller]] with role \"ap\" has a provider, one with role \"authority\" numbers or \
         domains, and neither has both"
    )]
    CallerRole,
    /// A token where certificates are.
    #[error("a [[caller]] has a token only with insecure_plaintext: give it a certificate's uri")]
    TokenWithTls,
    /// A URI where no certificate can be.
    #[error("a [[caller]] with a uri needs TLS, and [registry] client_ca, which verifies it")]
    UriWithoutCa,
    /// Authorities of certificates without TLS.
    #[error("client_ca needs TLS: with insecure_plaintext callers have tokens")]
    CaWithoutTls,
    /// Two ways to send codes.
    #[error("set code_spool or code_webhook, not both")]
    CodeChannels,
    /// Codes in a folder, for all who read it.
    #[error(
        "code_spool lets its readers claim anybody: it serves with insecure_plaintext, or with \
         development = true"
    )]
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
    /// PEM file of the authorities whose client certificates count.
    pub client_ca: Option<PathBuf>,
    /// Who may change the directory.
    pub callers: Callers,
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
    client_ca: Option<PathBuf>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallerSection {
    uri: Option<String>,
    token: Option<String>,
    role: RoleName,
    provider: Option<String>,
    #[serde(default)]
    numbers: Vec<String>,
    #[serde(default)]
    domains: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleName {
    Ap,
    Authority,
}

impl CallerSection {
    fn role(&self) -> Result<Role, RegistryConfigError> {
        let nothing_covered = self.numbers.is_empty() && self.domains.is_empty();
        match (self.role, &self.provider) {
            (RoleName::Ap, Some(name)) if nothing_covered => Ok(Role::Provider(provider(name)?)),
            (RoleName::Authority, None) => {
                Ok(Role::Authority(Coverage::new(&self.numbers, &self.domains)?))
            }
            _ => Err(RegistryConfigError::CallerRole),
        }
    }
}

impl Section {
    pub(super) fn check(
        mut self,
        callers: &[CallerSection],
        tls: bool,
    ) -> Result<RegistryConfig, RegistryConfigError> {
        if self.client_ca.is_some() && !tls {
            return Err(RegistryConfigError::CaWithoutTls);
        }
        let mut listed = Callers::default();
        for caller in callers {
            let role = caller.role()?;
            match (&caller.uri, &caller.token) {
                (Some(_), None) if self.client_ca.is_none() => {
                    return Err(RegistryConfigError::UriWithoutCa);
                }
                (Some(uri), None) => listed.add_uri(uri, role)?,
                (None, Some(_)) if tls => return Err(RegistryConfigError::TokenWithTls),
                (None, Some(token)) => listed.add_token(token, role)?,
                _ => return Err(RegistryConfigError::CallerName),
            }
        }
        let codes = match (self.code_spool.take(), self.code_webhook.take()) {
            (None, None) => None,
            (Some(_), Some(_)) => return Err(RegistryConfigError::CodeChannels),
            (Some(folder), None) if !tls || self.development => Some(CodeChannel::Spool(folder)),
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
            client_ca: self.client_ca,
            callers: listed,
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

fn provider(name: &str) -> Result<Provider, RegistryConfigError> {
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
    const PLAIN: &str = "insecure_plaintext = true\n";
    const TLS: &str = "tls_cert = \"c\"\ntls_key = \"k\"\n";
    const CA: &str = "[registry]\nclient_ca = \"ca.pem\"\n";
    const AP: &str =
        "[[caller]]\nuri = \"spiffe://wa.example/ap\"\nrole = \"ap\"\nprovider = \"wa.example\"\n";

    fn parse(parts: &[&str]) -> Result<Config, ConfigError> {
        Config::parse(&[&[BASE], parts].concat().concat())
    }

    #[track_caller]
    fn says(parts: &[&str], words: &str) {
        let refused = parse(parts).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }

    #[test]
    fn callers_are_listed_by_certificate_or_where_there_is_none_by_token() {
        let authority = "[[caller]]\nuri = \"spiffe://n.example/na\"\nrole = \"authority\"\nnumbers = [\"+1415\"]\ndomains = [\"mail.example\"]\n";
        let registry = parse(&[TLS, CA, AP, authority]).unwrap().registry.unwrap();
        let role = &registry.callers.by_uri("spiffe://wa.example/ap").unwrap().role;
        assert_eq!(*role, Role::Provider(Provider::parse("wa.example").unwrap()));
        let role = &registry.callers.by_uri("spiffe://n.example/na").unwrap().role;
        assert!(matches!(role, Role::Authority(_)));

        let token =
            "[[caller]]\ntoken = \"0123456789abcdef\"\nrole = \"ap\"\nprovider = \"wa.example\"\n";
        let registry = parse(&[PLAIN, "[registry]\n", token]).unwrap().registry.unwrap();
        assert!(registry.callers.by_token("0123456789abcdef").is_some());
        says(&[TLS, CA, token], "only with insecure_plaintext");
        says(&[TLS, "[registry]\n", AP], "client_ca");
        says(&[PLAIN, CA], "client_ca needs TLS");
        says(&[TLS, AP], "[registry]");
        says(&[PLAIN, token], "[registry]");
    }

    #[test]
    fn callers_that_are_none_are_refused_with_clear_words() {
        says(&[TLS, CA, AP, AP], "listed twice");
        for (from, to, words) in [
            ("\"ap\"", "\"operator\"", "expected `ap` or `authority`"),
            ("\"ap\"", "\"authority\"", "role"),
            ("provider = \"wa.example\"", "", "role"),
            ("provider = \"wa.example\"", "provider = \"w a\"", "w a"),
            ("provider = \"wa.example\"", "provider = \"wa.example\"\nnumbers = [\"+1\"]", "role"),
            ("role = \"ap\"\nprovider = \"wa.example\"", "role = \"authority\"", "list some"),
            ("uri = \"spiffe://wa.example/ap\"\n", "", "uri or a token"),
            ("spiffe://wa.example/ap", "wa.example", "no URI"),
            ("provider", "providr", "providr"),
        ] {
            says(&[TLS, CA, &AP.replace(from, to)], words);
        }
    }

    #[test]
    fn codes_go_to_a_folder_only_in_development() {
        let spool = "[registry]\ncode_spool = \"codes\"\n";
        let codes = |parts: &[&str]| parse(parts).unwrap().registry.unwrap().codes;
        assert_eq!(codes(&[PLAIN, spool]), Some(CodeChannel::Spool("codes".into())));
        let development = codes(&[TLS, spool, "development = true\n"]);
        assert_eq!(development, Some(CodeChannel::Spool("codes".into())));
        says(&[TLS, spool], "development");
        says(&[PLAIN, spool, "code_webhook = \"https://sms.example/\"\n"], "not both");
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
