//! `blindbook.toml`: the settings of `serve`, checked before a port is bound.

mod limits;
mod partners;
mod quota;
mod registry;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub use self::{
    limits::LimitsConfig,
    partners::PartnersConfigError,
    quota::QuotaConfigError,
    registry::{
        CodeChannel, IdentityIssuerConfig, RegistryConfig, RegistryConfigError, TokenIssuerConfig,
        WebhookConfig,
    },
};
use crate::{
    access::{Partner, RoleKind},
    server::{PirOptions, QuotaOptions, ServerError, TlsFiles},
};

/// The longest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{0}")]
    Syntax(#[from] Box<toml::de::Error>),
    /// Neither TLS nor a word that none is wanted, or both.
    #[error(
        "set either tls_cert and tls_key, or insecure_plaintext = true behind a proxy that ends TLS"
    )]
    Tls,
    /// A number out of its range.
    #[error("{name} must lie between {least} and {most}")]
    Range {
        /// Which setting.
        name: &'static str,
        /// The least that works.
        least: u64,
        /// The most that works.
        most: u64,
    },
    /// A region that is no CLDR code.
    #[error("regions must be CLDR region codes of two capital letters, as \"DE\"")]
    Region,
    /// A partner, or what its certificate is verified with.
    #[error(transparent)]
    Partners(#[from] PartnersConfigError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryConfigError),
    /// The quotas.
    #[error(transparent)]
    Quota(#[from] QuotaConfigError),
    /// What the server takes on at once.
    #[error("[limits] {0}")]
    Limits(Box<ServerError>),
    /// The same bound twice.
    #[error("max_connections is set twice: keep the one in [limits]")]
    ConnectionsTwice,
    /// A log level that is none.
    #[error("log must be one of error, warn, info, debug, trace")]
    Log,
}

/// Where the server's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// PEM files.
    Files(TlsFiles),
    /// None: only behind a proxy that ends TLS, or on one machine.
    InsecurePlaintext,
}

/// The settings of `serve`, all checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The data folder that `load` filled.
    pub data: PathBuf,
    /// The folder that `keygen` made.
    pub keys: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where metrics and probes are told, in plain HTTP; nowhere, if `None`.
    pub probe_listen: Option<SocketAddr>,
    /// How connections are protected.
    pub tls: Tls,
    /// How long clients answer from their caches.
    pub refresh_period_s: u32,
    /// How much is taken on at once.
    pub limits: LimitsConfig,
    /// Bytes of assembled buckets that are kept in memory.
    pub bucket_cache_bytes: u64,
    /// Bytes of pages that the store keeps in memory, for each partition.
    pub store_cache_bytes: u64,
    /// CLDR region codes that the directory serves; empty for all.
    pub regions: Vec<String>,
    /// The partners that nobody changes while the server runs.
    pub partners: Vec<Partner>,
    /// The live registry; `None` if the directory changes by loads alone.
    pub registry: Option<RegistryConfig>,
    /// How much may be asked, and by whom.
    pub quotas: QuotaOptions,
    /// Private information retrieval; `None` offers none.
    pub pir: Option<PirOptions>,
    /// The level of the logs.
    pub log: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    data: PathBuf,
    keys: PathBuf,
    listen: SocketAddr,
    probe_listen: Option<SocketAddr>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
    #[serde(default)]
    insecure_plaintext: bool,
    #[serde(default = "defaults::refresh_period_s")]
    refresh_period_s: u32,
    /// Where it stood before it had a section.
    max_connections: Option<usize>,
    #[serde(default = "defaults::bucket_cache_bytes")]
    bucket_cache_bytes: u64,
    #[serde(default = "defaults::store_cache_bytes")]
    store_cache_bytes: u64,
    #[serde(default)]
    regions: Vec<String>,
    #[serde(default = "defaults::log")]
    log: String,
    #[serde(default)]
    limits: limits::Section,
    registry: Option<registry::Section>,
    #[serde(default, rename = "admin")]
    admins: Vec<partners::AdminSection>,
    #[serde(default)]
    quota: quota::Section,
    pir: Option<PirSection>,
    #[serde(default, rename = "caller")]
    callers: Vec<partners::CallerSection>,
}

/// The section `[pir]`, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PirSection {
    memory_bytes: Option<u64>,
    threads: Option<usize>,
    max_waiting: Option<usize>,
}

impl PirSection {
    fn check(self) -> Result<PirOptions, ConfigError> {
        let default = PirOptions::default();
        let options = PirOptions {
            memory_bytes: self.memory_bytes.unwrap_or(default.memory_bytes),
            threads: self.threads.unwrap_or(default.threads),
            max_waiting: self.max_waiting.unwrap_or(default.max_waiting),
        };
        range("[pir] memory_bytes", options.memory_bytes, 1 << 30, 1 << 50)?;
        range("[pir] threads", options.threads as u64, 0, 512)?;
        range("[pir] max_waiting", options.max_waiting as u64, 1, 4096)?;
        Ok(options)
    }
}

mod defaults {
    pub(super) const fn refresh_period_s() -> u32 {
        86_400
    }
    pub(super) const fn bucket_cache_bytes() -> u64 {
        256 << 20
    }
    pub(super) const fn store_cache_bytes() -> u64 {
        256 << 20
    }
    pub(super) fn log() -> String {
        "info".into()
    }
}

impl Config {
    /// The settings that the command line names, the others at their defaults.
    ///
    /// # Errors
    /// Neither or both of TLS and plaintext.
    pub fn from_flags(
        data: PathBuf,
        keys: PathBuf,
        listen: SocketAddr,
        tls_cert: Option<PathBuf>,
        tls_key: Option<PathBuf>,
        insecure_plaintext: bool,
    ) -> Result<Self, ConfigError> {
        Self::check(File {
            data,
            keys,
            listen,
            probe_listen: None,
            tls_cert,
            tls_key,
            client_ca: None,
            client_crl: None,
            insecure_plaintext,
            refresh_period_s: defaults::refresh_period_s(),
            max_connections: None,
            bucket_cache_bytes: defaults::bucket_cache_bytes(),
            store_cache_bytes: defaults::store_cache_bytes(),
            regions: Vec::new(),
            log: defaults::log(),
            limits: limits::Section::default(),
            registry: None,
            admins: Vec::new(),
            quota: quota::Section::default(),
            pir: None,
            callers: Vec::new(),
        })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is refused by [`Config::parse`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = || -> io::Result<String> {
            if fs::metadata(path)?.len() > MAX_CONFIG_BYTES {
                return Err(io::Error::other("too long for a configuration"));
            }
            fs::read_to_string(path)
        };
        let text = read().map_err(|error| ConfigError::Read { path: path.into(), error })?;
        Self::parse(&text)
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a value of the wrong kind or out of range.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::check(toml::from_str(text).map_err(Box::new)?)
    }

    fn check(file: File) -> Result<Self, ConfigError> {
        let tls = match (file.tls_cert, file.tls_key, file.insecure_plaintext) {
            (Some(cert), Some(key), false) => {
                let (client_ca, client_crl) = (file.client_ca, file.client_crl);
                if client_ca.is_none() && client_crl.is_some() {
                    return Err(PartnersConfigError::CrlWithoutCa.into());
                }
                Tls::Files(TlsFiles { cert, key, client_ca, client_crl })
            }
            (None, None, true) if file.client_ca.is_some() || file.client_crl.is_some() => {
                return Err(PartnersConfigError::ClientCaWithoutTls.into());
            }
            (None, None, true) => Tls::InsecurePlaintext,
            _ => return Err(ConfigError::Tls),
        };
        range("refresh_period_s", file.refresh_period_s.into(), 60, 30 * 86_400)?;
        range("bucket_cache_bytes", file.bucket_cache_bytes, 1 << 20, 1 << 40)?;
        range("store_cache_bytes", file.store_cache_bytes, 1 << 20, 1 << 40)?;
        let limits = file.limits.check(file.max_connections)?;
        let is_region = |code: &String| {
            code.len() == 2 && code.bytes().all(|letter| letter.is_ascii_uppercase())
        };
        if !file.regions.iter().all(is_region) {
            return Err(ConfigError::Region);
        }
        if file.log.parse::<tracing::Level>().is_err() {
            return Err(ConfigError::Log);
        }
        let client_ca = matches!(&tls, Tls::Files(files) if files.client_ca.is_some());
        let partners = partners::check(&file.admins, &file.callers, client_ca)?;
        let registry = file.registry.map(registry::Section::check).transpose()?;
        // Whoever keeps the list may add a provider at any time.
        let issuing =
            |partner: &Partner| matches!(partner.role.kind(), RoleKind::Ap | RoleKind::Admin);
        let quotas = file.quota.check(client_ca, partners.iter().any(issuing))?;
        Ok(Self {
            data: file.data,
            keys: file.keys,
            listen: file.listen,
            probe_listen: file.probe_listen,
            tls,
            refresh_period_s: file.refresh_period_s,
            limits,
            bucket_cache_bytes: file.bucket_cache_bytes,
            store_cache_bytes: file.store_cache_bytes,
            regions: file.regions,
            partners,
            registry,
            quotas,
            pir: file.pir.map(PirSection::check).transpose()?,
            log: file.log,
        })
    }
}

const fn range(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), ConfigError> {
    if value < least || value > most {
        return Err(ConfigError::Range { name, least, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "data = \"d\"\nkeys = \"k\"\nlisten = \"127.0.0.1:1\"\n";

    fn parse(more: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{LEAST}{more}"))
    }

    #[test]
    fn the_shipped_configuration_is_accepted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/blindbook.toml");
        let config = Config::read(&path).unwrap();
        let Tls::Files(files) = config.tls else { panic!("no TLS") };
        assert!(files.client_ca.is_some() && config.registry.is_some());
        assert!(!config.partners.is_empty());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let refused = parse("insecure_plaintext = true\nlissten = \"127.0.0.1:2\"\n");
        assert!(refused.unwrap_err().to_string().contains("lissten"));
    }

    #[test]
    fn plaintext_must_be_asked_for_by_name() {
        assert!(matches!(parse(""), Err(ConfigError::Tls)));
        assert!(matches!(parse("tls_cert = \"c\""), Err(ConfigError::Tls)));
        let both = "tls_cert = \"c\"\ntls_key = \"k\"\ninsecure_plaintext = true";
        assert!(matches!(parse(both), Err(ConfigError::Tls)));
        assert_eq!(parse("insecure_plaintext = true").unwrap().tls, Tls::InsecurePlaintext);
    }

    #[test]
    fn private_retrieval_is_offered_where_its_section_is() {
        let pir = |more: &str| parse(&format!("insecure_plaintext = true\n{more}")).unwrap().pir;
        assert_eq!(pir(""), None);
        assert_eq!(pir("[pir]"), Some(PirOptions::default()));
        let chosen = PirOptions { threads: 3, ..PirOptions::default() };
        assert_eq!(pir("[pir]\nthreads = 3"), Some(chosen));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (setting, name) in [
            ("refresh_period_s = 0", "refresh_period_s"),
            ("max_connections = 0", "max_connections"),
            ("bucket_cache_bytes = 1", "bucket_cache_bytes"),
            ("store_cache_bytes = 1", "store_cache_bytes"),
            ("regions = [\"de\"]", "regions"),
            ("[pir]\nmemory_bytes = 1", "[pir] memory_bytes"),
            ("[pir]\nthreads = 513", "[pir] threads"),
            ("[pir]\nmax_waiting = 0", "[pir] max_waiting"),
            ("[pir]\nmemory = 1", "memory"),
            ("log = \"loud\"", "log"),
            ("listen = \"here\"", "listen"),
        ] {
            let refused = parse(&format!("insecure_plaintext = true\n{setting}\n"));
            assert!(refused.unwrap_err().to_string().contains(name), "{setting}");
        }
    }
}
