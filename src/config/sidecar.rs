//! `sidecar.toml`: the settings of `sidecar`, checked before anything is opened.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use ed25519_dalek::VerifyingKey;
use serde::Deserialize;

use crate::{
    bucket::PrefixBits,
    client::Mode,
    identifier::{IdentifierError, Provider, Region},
    sidecar::{Listen, ListenError, Route, RouteError},
};

/// The longest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Why a sidecar's configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum SidecarConfigError {
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
    /// Not a place where the sidecar may listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A setting of a socket file without one.
    #[error("socket_mode and socket_group are for listen = \"unix:PATH\" only")]
    NoSocket,
    /// A mode that is no octal number.
    #[error("socket_mode must be an octal number in quotes, as \"0660\"")]
    SocketMode,
    /// No such region.
    #[error("region: {0}")]
    Region(IdentifierError),
    /// A log level that is none.
    #[error("log must be one of error, warn, info, debug, trace")]
    Log,
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
    /// No directory, or two that differ in nothing.
    #[error("give at least one [[directory]], each with a name and a state folder of its own")]
    Directories,
    /// No identity key, or two.
    #[error("directory {0}: set either identity, a file, or identity_hex, its 64 digits")]
    Identity(
        /// Which directory.
        String,
    ),
    /// Hexadecimal digits that are no key.
    #[error("directory {0}: identity_hex must be the 64 hexadecimal digits of an Ed25519 key")]
    IdentityHex(
        /// Which directory.
        String,
    ),
    /// Half a certificate.
    #[error("directory {0}: set both cert and key, or neither")]
    Certificate(
        /// Which directory.
        String,
    ),
    /// A route that is none.
    #[error("directory {directory}: serves: {error}")]
    Route {
        /// Which directory.
        directory: String,
        /// What a route is.
        error: RouteError,
    },
    /// A provider's name that is none.
    #[error("directory {directory}: provider_keys: {error}")]
    Provider {
        /// Which directory.
        directory: String,
        /// What is wrong with the name.
        error: IdentifierError,
    },
}

/// Where a directory's identity key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// In a file, as `keygen` writes `identity.pub`.
    File(PathBuf),
    /// Here.
    Key(VerifyingKey),
}

/// One directory that the sidecar asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// What callers and logs call it.
    pub name: String,
    /// Where it is.
    pub address: String,
    /// Who it is.
    pub identity: Identity,
    /// CA certificates, PEM, instead of the public ones.
    pub ca: Option<PathBuf>,
    /// Certificate chain and private key, PEM, by which the directory knows its
    /// partner: that one's account pays.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The folder in which its client remembers.
    pub state: PathBuf,
    /// What it is asked for unless the caller names a directory.
    pub serves: Vec<Route>,
    /// Files with keys of providers that are known otherwise.
    pub provider_keys: Vec<(Provider, PathBuf)>,
    /// The most bits of a hash that it is sent; the client's own default if
    /// there are none.
    pub max_prefix_bits: Option<PrefixBits>,
    /// How lookups are hidden from it; as the client chooses if it says nothing.
    pub mode: Option<Mode>,
    /// How long one exchange with it may take.
    pub deadline_s: u64,
    /// Connections kept to it.
    pub connections: usize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Bucket,
    Pir,
}

/// The settings of `sidecar`, all checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarConfig {
    /// Where to listen.
    pub listen: Listen,
    /// Where a phone number without `+` is dialled.
    pub region: Option<Region>,
    /// Most connections at once.
    pub max_connections: usize,
    /// Most single calls at once.
    pub max_calls: usize,
    /// Most calls of many identifiers at once.
    pub max_batches: usize,
    /// How long a call may take whose caller names no deadline.
    pub call_timeout_s: u64,
    /// How long calls under way may take when the sidecar stops.
    pub drain_timeout_s: u64,
    /// The level of the logs.
    pub log: String,
    /// The directories, in the order in which their routes are tried.
    pub directories: Vec<DirectoryConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: String,
    socket_mode: Option<String>,
    socket_group: Option<String>,
    region: Option<String>,
    #[serde(default = "defaults::max_connections")]
    max_connections: usize,
    #[serde(default = "defaults::max_calls")]
    max_calls: usize,
    #[serde(default = "defaults::max_batches")]
    max_batches: usize,
    #[serde(default = "defaults::call_timeout_s")]
    call_timeout_s: u64,
    #[serde(default = "defaults::drain_timeout_s")]
    drain_timeout_s: u64,
    #[serde(default = "defaults::log")]
    log: String,
    #[serde(default, rename = "directory")]
    directories: Vec<DirectoryTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectoryTable {
    name: String,
    address: String,
    identity: Option<PathBuf>,
    identity_hex: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    state: PathBuf,
    /// Left out: everything.
    serves: Option<Vec<String>>,
    #[serde(default)]
    provider_keys: BTreeMap<String, PathBuf>,
    max_prefix_bits: Option<u32>,
    mode: Option<ModeName>,
    #[serde(default = "defaults::deadline_s")]
    deadline_s: u64,
    #[serde(default = "defaults::connections")]
    connections: usize,
}

mod defaults {
    pub(super) const fn max_connections() -> usize {
        256
    }
    pub(super) const fn max_calls() -> usize {
        4096
    }
    pub(super) const fn max_batches() -> usize {
        8
    }
    pub(super) const fn call_timeout_s() -> u64 {
        120
    }
    pub(super) const fn drain_timeout_s() -> u64 {
        30
    }
    pub(super) const fn deadline_s() -> u64 {
        10
    }
    pub(super) const fn connections() -> usize {
        4
    }
    pub(super) fn log() -> String {
        "info".into()
    }
}

impl SidecarConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is refused by [`SidecarConfig::parse`].
    pub fn read(path: &Path) -> Result<Self, SidecarConfigError> {
        let read = || -> io::Result<String> {
            if fs::metadata(path)?.len() > MAX_CONFIG_BYTES {
                return Err(io::Error::other("too long for a configuration"));
            }
            fs::read_to_string(path)
        };
        let text = read().map_err(|error| SidecarConfigError::Read { path: path.into(), error })?;
        Self::parse(&text)
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// Not TOML, an unknown key, a value of the wrong kind or out of range, a
    /// place that other machines reach.
    pub fn parse(text: &str) -> Result<Self, SidecarConfigError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        range("max_connections", file.max_connections as u64, 1, 1 << 16)?;
        range("max_calls", file.max_calls as u64, 1, 1 << 16)?;
        range("max_batches", file.max_batches as u64, 1, 1 << 10)?;
        range("call_timeout_s", file.call_timeout_s, 1, 3600)?;
        range("drain_timeout_s", file.drain_timeout_s, 0, 3600)?;
        if file.log.parse::<tracing::Level>().is_err() {
            return Err(SidecarConfigError::Log);
        }
        let listen = listen(&file.listen, file.socket_mode.as_deref(), file.socket_group)?;
        let region = file.region.map(|code| code.parse()).transpose();
        let directories: Vec<DirectoryConfig> =
            file.directories.into_iter().map(directory).collect::<Result<_, _>>()?;
        let alone = directories.iter().enumerate().all(|(n, one)| {
            directories
                .iter()
                .skip(n + 1)
                .all(|other| one.name != other.name && one.state != other.state)
        });
        if directories.is_empty() || !alone {
            return Err(SidecarConfigError::Directories);
        }
        Ok(Self {
            listen,
            region: region.map_err(SidecarConfigError::Region)?,
            max_connections: file.max_connections,
            max_calls: file.max_calls,
            max_batches: file.max_batches,
            call_timeout_s: file.call_timeout_s,
            drain_timeout_s: file.drain_timeout_s,
            log: file.log,
            directories,
        })
    }
}

fn listen(
    place: &str,
    mode: Option<&str>,
    group: Option<String>,
) -> Result<Listen, SidecarConfigError> {
    let mut listen = place.parse()?;
    match &mut listen {
        Listen::Tcp(_) if mode.is_some() || group.is_some() => {
            return Err(SidecarConfigError::NoSocket);
        }
        Listen::Tcp(_) => {}
        Listen::Unix(file) => {
            if let Some(mode) = mode {
                let octal = |mode| u32::from_str_radix(mode, 8).ok();
                file.mode = octal(mode).ok_or(SidecarConfigError::SocketMode)?;
            }
            file.group = group;
        }
    }
    listen.check()?;
    Ok(listen)
}

fn directory(table: DirectoryTable) -> Result<DirectoryConfig, SidecarConfigError> {
    let DirectoryTable { name, identity, identity_hex, .. } = table;
    let identity = match (identity, identity_hex) {
        (Some(path), None) => Identity::File(path),
        (None, Some(hex)) => {
            Identity::Key(key(&hex).ok_or_else(|| SidecarConfigError::IdentityHex(name.clone()))?)
        }
        _ => return Err(SidecarConfigError::Identity(name)),
    };
    let certificate = match (table.cert, table.key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(SidecarConfigError::Certificate(name)),
    };
    let serves = match table.serves {
        None => Route::all(),
        Some(routes) => routes
            .iter()
            .map(|route| route.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| SidecarConfigError::Route { directory: name.clone(), error })?,
    };
    let provider_keys = table.provider_keys.into_iter().map(|(provider, path)| {
        let provider = Provider::parse(&provider)
            .map_err(|error| SidecarConfigError::Provider { directory: name.clone(), error })?;
        Ok((provider, path))
    });
    let provider_keys = provider_keys.collect::<Result<_, SidecarConfigError>>()?;
    let max_prefix_bits = table.max_prefix_bits.map(PrefixBits::new).transpose();
    range("deadline_s", table.deadline_s, 1, 3600)?;
    range("connections", table.connections as u64, 1, 64)?;
    Ok(DirectoryConfig {
        name,
        address: table.address,
        identity,
        ca: table.ca,
        certificate,
        state: table.state,
        serves,
        provider_keys,
        max_prefix_bits: max_prefix_bits.map_err(|_| SidecarConfigError::Range {
            name: "max_prefix_bits",
            least: 0,
            most: 32,
        })?,
        mode: table.mode.map(|mode| match mode {
            ModeName::Bucket => Mode::Bucket,
            ModeName::Pir => Mode::Pir,
        }),
        deadline_s: table.deadline_s,
        connections: table.connections,
    })
}

fn key(hex: &str) -> Option<VerifyingKey> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes =
        pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok());
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    let key = VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok()?;
    (!key.is_weak()).then_some(key)
}

const fn range(
    name: &'static str,
    value: u64,
    least: u64,
    most: u64,
) -> Result<(), SidecarConfigError> {
    if value < least || value > most {
        return Err(SidecarConfigError::Range { name, least, most });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::SocketFile;

    const DIRECTORY: &str = "[[directory]]\nname = \"a\"\naddress = \"https://a.example\"\n\
                             identity = \"a.pub\"\nstate = \"state/a\"\n";

    fn parse(top: &str, directories: &str) -> Result<SidecarConfig, SidecarConfigError> {
        SidecarConfig::parse(&format!("{top}\n{directories}"))
    }

    const LISTEN: &str = "listen = \"127.0.0.1:4480\"\n";

    #[test]
    fn the_shipped_configuration_is_accepted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/sidecar.toml");
        let config = SidecarConfig::read(&path).unwrap();
        assert!(matches!(config.listen, Listen::Unix(_)));
        assert!(!config.directories.is_empty());
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config = parse(LISTEN, DIRECTORY).unwrap();
        let [directory] = &config.directories[..] else { panic!("one directory") };
        assert_eq!(directory.serves, Route::all());
        assert_eq!(directory.identity, Identity::File("a.pub".into()));
        assert_eq!((directory.deadline_s, directory.connections), (10, 4));
        assert_eq!((config.max_calls, &*config.log), (4096, "info"));
        let none = format!("{DIRECTORY}serves = []\n");
        assert!(parse(LISTEN, &none).unwrap().directories[0].serves.is_empty());
    }

    #[test]
    fn a_place_that_others_reach_is_refused_with_a_clear_sentence() {
        let refused = parse("listen = \"0.0.0.0:4480\"", DIRECTORY).unwrap_err().to_string();
        assert!(refused.contains("no loopback address") && refused.contains("Unix socket"));
    }

    #[test]
    fn a_socket_file_has_a_mode_and_a_group() {
        let top = "listen = \"unix:/s\"\nsocket_mode = \"0660\"\nsocket_group = \"g\"";
        let file = SocketFile { path: "/s".into(), mode: 0o660, group: Some("g".into()) };
        assert_eq!(parse(top, DIRECTORY).unwrap().listen, Listen::Unix(file));
        for (top, says) in [
            ("listen = \"127.0.0.1:1\"\nsocket_mode = \"0660\"", "socket_mode"),
            ("listen = \"127.0.0.1:1\"\nsocket_group = \"g\"", "socket_group"),
            ("listen = \"unix:/s\"\nsocket_mode = \"rw\"", "octal"),
            ("listen = \"unix:/s\"\nsocket_mode = \"4777\"", "0o777"),
            ("listen = \"/s\"", "unix:"),
        ] {
            let refused = parse(top, DIRECTORY).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
    }

    #[test]
    fn an_identity_key_stands_in_a_file_or_in_the_configuration() {
        let with = |lines: &str| {
            let table = DIRECTORY.replace("identity = \"a.pub\"\n", lines);
            parse(LISTEN, &table).map(|config| config.directories[0].identity.clone())
        };
        let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
        let hex: String =
            key.as_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        assert_eq!(with(&format!("identity_hex = \"{hex}\"\n")).unwrap(), Identity::Key(key));
        for bad in [
            String::new(),
            format!("identity = \"f\"\nidentity_hex = \"{hex}\"\n"),
            "identity_hex = \"12\"\n".into(),
            format!("identity_hex = \"{hex}00\"\n"),
            format!("identity_hex = \"{}\"\n", "00".repeat(32)),
            format!("identity_hex = \"{}\"\n", "+1".repeat(32)),
        ] {
            assert!(with(&bad).unwrap_err().to_string().contains("identity"), "{bad}");
        }
    }

    #[test]
    fn directories_are_refused_by_name_and_setting() {
        for (more, says) in [
            ("serves = [\"sip:\"]", "directory a: serves"),
            ("provider_keys = { \"not a domain\" = \"f\" }", "directory a: provider_keys"),
            ("max_prefix_bits = 33", "max_prefix_bits"),
            ("mode = \"open\"", "open"),
            ("deadline_s = 0", "deadline_s"),
            ("connections = 65", "connections"),
            ("servces = []", "servces"),
        ] {
            let refused = parse(LISTEN, &format!("{DIRECTORY}{more}\n")).unwrap_err().to_string();
            assert!(refused.contains(says), "{refused}");
        }
        let other_name = DIRECTORY.replace("\"a\"", "\"b\"");
        let other_state = DIRECTORY.replace("state/a", "state/b");
        for twice in [String::new(), DIRECTORY.repeat(2), other_name, other_state] {
            let tables = if twice.is_empty() { twice } else { format!("{DIRECTORY}{twice}") };
            let refused = parse(LISTEN, &tables).unwrap_err();
            assert!(matches!(refused, SidecarConfigError::Directories), "{tables}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (setting, name) in [
            ("region = \"XX\"", "region"),
            ("log = \"loud\"", "log"),
            ("max_connections = 0", "max_connections"),
            ("max_calls = 0", "max_calls"),
            ("max_batches = 0", "max_batches"),
            ("call_timeout_s = 0", "call_timeout_s"),
            ("drain_timeout_s = 99999", "drain_timeout_s"),
            ("lissten = 1", "lissten"),
        ] {
            let refused = parse(&format!("{LISTEN}{setting}"), DIRECTORY);
            assert!(refused.unwrap_err().to_string().contains(name), "{setting}");
        }
    }
}
