//! The directory's secrets: identity key, OPRF seeds by epoch, at-rest key.
//!
//! The only loader of key files. A key file holds one line, a label and hex
//! digits, so that no file passes for another; secret ones are readable by
//! their owner only. Everything secret is zeroised when dropped.

mod generate;
mod tokens;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

pub use self::generate::{add_registry_keys, generate};
use crate::{
    bucket::DirectoryId,
    epoch::Epoch,
    identifier::Sii,
    oprf::{OprfError, ServerKey},
    secret::Secret,
};

const NONCE_BYTES: usize = 12;
const GCM_TAG_BYTES: usize = 16;

/// The longest key file that is read: no honest one comes near.
const MAX_KEY_FILE_BYTES: u64 = 512;

/// Reserved at once, so that no copy of a key is left behind by growth.
const MAX_KEY_FILE_CHARS: usize = 512;

/// What a key file holds, by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    IdentityKey,
    IdentityPublicKey,
    OprfSeed,
    AtRestKey,
    TokenSeed,
    CodeKey,
    ProviderKey,
    ProviderPublicKey,
}

impl Kind {
    const fn label(self) -> &'static str {
        match self {
            Self::IdentityKey => "blindbook-v1-identity-key",
            Self::IdentityPublicKey => "blindbook-v1-identity-public-key",
            Self::OprfSeed => "blindbook-v1-oprf-seed",
            Self::AtRestKey => "blindbook-v1-at-rest-key",
            Self::TokenSeed => "blindbook-v1-token-seed",
            Self::CodeKey => "blindbook-v1-code-key",
            Self::ProviderKey => "blindbook-v1-provider-key",
            Self::ProviderPublicKey => "blindbook-v1-provider-public-key",
        }
    }

    const fn is_secret(self) -> bool {
        !matches!(self, Self::IdentityPublicKey | Self::ProviderPublicKey)
    }
}

/// Why keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file system refused.
    #[error("{path}: {error}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// `generate` never overwrites.
    #[error("{0} exists: keys are never overwritten; name another folder")]
    Exists(PathBuf),
    /// Others can read or change a secret.
    #[error("{0} is open to others: make it readable by its owner only (chmod 600)")]
    Permissions(PathBuf),
    /// The file is not what its name says.
    #[error("{path} does not hold `{label}` and 64 hex digits")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// The label it should have.
        label: &'static str,
    },
    /// The folder has no OPRF seed.
    #[error("{0} has no file oprf-EPOCH.seed; make keys with `blindbook keygen`")]
    NoSeed(PathBuf),
    /// The public key is not one, or a weak one.
    #[error("{0} does not hold a usable Ed25519 public key")]
    PublicKey(PathBuf),
    /// A seed gave no key, which chance alone does not bring about.
    #[error("the OPRF seed of epoch {epoch} gives no key: {error}")]
    Derive {
        /// Which epoch.
        epoch: Epoch,
        /// What the derivation said.
        error: OprfError,
    },
    /// A row was altered, or sealed under another at-rest key.
    #[error("a registry row does not open: it was altered, or at-rest.key is another directory's")]
    Row,
    /// A token key was altered, or sealed under another at-rest key.
    #[error("a token key does not open: it was altered, or at-rest.key is another directory's")]
    TokenKey,
}

/// The file names in a folder of keys.
pub mod files {
    /// The directory's Ed25519 identity key.
    pub const IDENTITY: &str = "identity.key";
    /// Its public half, for clients.
    pub const IDENTITY_PUBLIC: &str = "identity.pub";
    /// The key under which rows are named and sealed.
    pub const AT_REST: &str = "at-rest.key";
    /// The seed of the key that signs claim tokens.
    pub const TOKEN: &str = "token.seed";
    /// The key under which one-time codes are hashed.
    pub const CODE: &str = "code.key";
    /// An application provider's Ed25519 key, which signs mappings.
    pub const PROVIDER: &str = "ap.key";
    /// Its public half, for clients that pin it.
    pub const PROVIDER_PUBLIC: &str = "ap.pub";
}

/// The secrets of one directory.
pub struct Keyring {
    directory: DirectoryId,
    identity: SigningKey,
    epochs: BTreeMap<Epoch, ServerKey>,
    row_name: Secret<32>,
    row_seal: Secret<32>,
    registry: Option<RegistryKeys>,
    newest: Epoch,
}

/// What a directory that checks codes itself has beside its other keys.
pub struct RegistryKeys {
    /// The seed of the key that signs claim tokens.
    pub token_seed: Secret<32>,
    /// The key under which one-time codes are hashed.
    pub code_key: Secret<32>,
}

impl fmt::Debug for RegistryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryKeys(..)")
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads a folder that [`generate`] made: the identity key, the at-rest
    /// key, every `oprf-EPOCH.seed`, and the registry's keys if they are there.
    ///
    /// # Errors
    /// A file is missing, malformed, mislabelled or open to others.
    pub fn load(folder: &Path) -> Result<Self, KeyringError> {
        let identity = signing_key(&folder.join(files::IDENTITY), Kind::IdentityKey)?;
        let at_rest = read(&folder.join(files::AT_REST), Kind::AtRestKey)?;
        let mut seeds = Vec::new();
        let listing = fs::read_dir(folder).map_err(|error| io_error(folder, error))?;
        for file in listing {
            let file = file.map_err(|error| io_error(folder, error))?;
            if let Some(epoch) = file.file_name().to_str().and_then(seed_epoch) {
                seeds.push((epoch, read(&file.path(), Kind::OprfSeed)?));
            }
        }
        let (token, code) = (folder.join(files::TOKEN), folder.join(files::CODE));
        // One without the other is an error: half of them was lost.
        let registry = if is_there(&token) || is_there(&code) {
            let token_seed = read(&token, Kind::TokenSeed)?;
            Some(RegistryKeys { token_seed, code_key: read(&code, Kind::CodeKey)? })
        } else {
            None
        };
        let keyring = Self::new(identity, &at_rest, seeds)?;
        let keyring = keyring.ok_or_else(|| KeyringError::NoSeed(folder.into()))?;
        Ok(Self { registry, ..keyring })
    }

    fn new(
        identity: SigningKey,
        at_rest: &Secret<32>,
        seeds: Vec<(Epoch, Secret<32>)>,
    ) -> Result<Option<Self>, KeyringError> {
        let directory = DirectoryId::of(&identity.verifying_key());
        let mut epochs = BTreeMap::new();
        for (epoch, seed) in seeds {
            let key = ServerKey::derive(&seed, &oprf_info(&directory, epoch))
                .map_err(|error| KeyringError::Derive { epoch, error })?;
            epochs.insert(epoch, key);
        }
        let Some(newest) = epochs.keys().next_back().copied() else { return Ok(None) };
        let derive = |context| Secret::new(blake3::derive_key(context, at_rest.expose()));
        Ok(Some(Self {
            directory,
            identity,
            epochs,
            row_name: derive("blindbook v1 row name"),
            row_seal: derive("blindbook v1 row seal"),
            registry: None,
            newest,
        }))
    }

    /// The directory of the identity key.
    #[must_use]
    pub const fn directory(&self) -> &DirectoryId {
        &self.directory
    }

    /// The key that signs parameters, provider list and buckets.
    #[must_use]
    pub const fn identity(&self) -> &SigningKey {
        &self.identity
    }

    /// Every epoch with its OPRF key, ascending; at least one.
    pub fn epochs(&self) -> impl Iterator<Item = (Epoch, &ServerKey)> {
        self.epochs.iter().map(|(epoch, key)| (*epoch, key))
    }

    /// The OPRF key of an epoch.
    #[must_use]
    pub fn key(&self, epoch: Epoch) -> Option<&ServerKey> {
        self.epochs.get(&epoch)
    }

    /// The newest epoch.
    #[must_use]
    pub const fn newest(&self) -> Epoch {
        self.newest
    }

    /// The registry's keys; `None` in a folder from before there were any, to
    /// which [`add_registry_keys`] adds them.
    #[must_use]
    pub const fn registry(&self) -> Option<&RegistryKeys> {
        self.registry.as_ref()
    }

    /// The name of an identifier's registry row: a keyed hash.
    #[must_use]
    pub fn row_key(&self, sii: &Sii) -> [u8; 16] {
        let mut name = [0; 16];
        blake3::Hasher::new_keyed(self.row_name.expose())
            .update(sii.as_bytes())
            .finalize_xof()
            .fill(&mut name);
        name
    }

    /// The name under which something open lies, from the hash that names it in
    /// memory: without the keys it says nothing. No identifier begins with a zero
    /// byte, so that it is never a row's.
    #[must_use]
    pub fn pending_key(&self, name: &[u8; 32]) -> [u8; 16] {
        let mut key = [0; 16];
        blake3::Hasher::new_keyed(self.row_name.expose())
            .update(b"\0pending")
            .update(name)
            .finalize_xof()
            .fill(&mut key);
        key
    }

    /// Seals a registry row, bound to its name and directory:
    /// nonce 12 || ciphertext || GCM tag 16, under a key of the row's own.
    ///
    /// # Errors
    /// The row is longer than AES-GCM takes, which no row is.
    pub fn seal_row(
        &self,
        key: &[u8; 16],
        plaintext: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, KeyringError> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let mut sealed = Vec::with_capacity(NONCE_BYTES + plaintext.len() + GCM_TAG_BYTES);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plaintext);
        let (_, text) = sealed.split_at_mut(NONCE_BYTES);
        let tag = self
            .row_cipher(key)
            .encrypt_inout_detached(&nonce.into(), &self.row_aad(key), InOutBuf::from(text))
            .map_err(|_| KeyringError::Row)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens a registry row.
    ///
    /// # Errors
    /// It was altered, belongs elsewhere, or was sealed under another key.
    pub fn open_row(
        &self,
        key: &[u8; 16],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(KeyringError::Row)?;
        let (text, tag) = rest.split_last_chunk::<GCM_TAG_BYTES>().ok_or(KeyringError::Row)?;
        let mut text = Zeroizing::new(text.to_vec());
        self.row_cipher(key)
            .decrypt_inout_detached(
                nonce.into(),
                &self.row_aad(key),
                InOutBuf::from(text.as_mut_slice()),
                tag.into(),
            )
            .map_err(|_| KeyringError::Row)?;
        Ok(text)
    }

    fn row_cipher(&self, key: &[u8; 16]) -> Aes256Gcm {
        let mut hash = blake3::keyed_hash(self.row_seal.expose(), key);
        let cipher = Aes256Gcm::new(hash.as_bytes().into());
        hash.zeroize();
        cipher
    }

    fn row_aad(&self, key: &[u8; 16]) -> Vec<u8> {
        [b"blindbook v1 row".as_slice(), self.directory.as_bytes(), key].concat()
    }
}

/// The info string of RFC 9497 `DeriveKeyPair`, section 3.2.1, for an epoch.
#[must_use]
pub fn oprf_info(directory: &DirectoryId, epoch: Epoch) -> Vec<u8> {
    [b"blindbook v1 oprf".as_slice(), directory.as_bytes(), &epoch.get().to_be_bytes()].concat()
}

/// Reads an application provider's signing key.
///
/// # Errors
/// The file is missing, malformed, mislabelled or open to others.
pub fn provider_key(path: &Path) -> Result<SigningKey, KeyringError> {
    signing_key(path, Kind::ProviderKey)
}

/// Reads a directory's public identity key.
///
/// # Errors
/// The file is missing, malformed, mislabelled, or holds a weak key.
pub fn identity_public_key(path: &Path) -> Result<VerifyingKey, KeyringError> {
    public_key(path, Kind::IdentityPublicKey)
}

/// Reads an application provider's public key.
///
/// # Errors
/// The file is missing, malformed, mislabelled, or holds a weak key.
pub fn provider_public_key(path: &Path) -> Result<VerifyingKey, KeyringError> {
    public_key(path, Kind::ProviderPublicKey)
}

fn public_key(path: &Path, kind: Kind) -> Result<VerifyingKey, KeyringError> {
    VerifyingKey::from_bytes(read(path, kind)?.expose())
        .ok()
        .filter(|key| !key.is_weak())
        .ok_or_else(|| KeyringError::PublicKey(path.into()))
}

fn signing_key(path: &Path, kind: Kind) -> Result<SigningKey, KeyringError> {
    Ok(SigningKey::from_bytes(read(path, kind)?.expose()))
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn seed_file(epoch: Epoch) -> String {
    format!("oprf-{epoch}.seed")
}

fn seed_epoch(name: &str) -> Option<Epoch> {
    let number = name.strip_prefix("oprf-")?.strip_suffix(".seed")?;
    let epoch = Epoch::new(number.parse().ok()?)?;
    // One name per epoch: `oprf-01.seed` is no second seed of epoch 1.
    (seed_file(epoch) == name).then_some(epoch)
}

fn io_error(path: &Path, error: io::Error) -> KeyringError {
    KeyringError::Io { path: path.into(), error }
}

fn read(path: &Path, kind: Kind) -> Result<Secret<32>, KeyringError> {
    let file = File::open(path).map_err(|error| io_error(path, error))?;
    #[cfg(unix)]
    if kind.is_secret() {
        let metadata = file.metadata().map_err(|error| io_error(path, error))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        // A group may read, as from a secret mount; nobody else may do anything.
        if mode & 0o027 != 0 {
            return Err(KeyringError::Permissions(path.into()));
        }
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_KEY_FILE_CHARS));
    file.take(MAX_KEY_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| io_error(path, error))?;
    parse(&text, kind)
        .ok_or_else(|| KeyringError::Malformed { path: path.into(), label: kind.label() })
}

/// Reads `label hex\n`: the label of this kind, 64 lower-case digits.
fn parse(text: &str, kind: Kind) -> Option<Secret<32>> {
    let digits = text.trim_ascii_end().strip_prefix(kind.label())?.strip_prefix(' ')?.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let mut bytes = Zeroizing::new([0; 32]);
    if pairs.len() != bytes.len() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(Secret::new(*bytes))
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{generate::write_new, *};

    fn made() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path(), &mut rand::rng()).unwrap();
        folder
    }

    #[test]
    fn made_keys_load_and_public_halves_match() {
        let folder = made();
        let keyring = Keyring::load(folder.path()).unwrap();
        assert_eq!(keyring.newest(), Epoch::FIRST);
        assert_eq!(keyring.epochs().count(), 1);
        let public = identity_public_key(&folder.path().join(files::IDENTITY_PUBLIC)).unwrap();
        assert_eq!(public, keyring.identity().verifying_key());
        let provider = provider_key(&folder.path().join(files::PROVIDER)).unwrap();
        let public = provider_public_key(&folder.path().join(files::PROVIDER_PUBLIC)).unwrap();
        assert_eq!(public, provider.verifying_key());
    }

    #[cfg(unix)]
    #[test]
    fn secret_files_are_for_their_owner_only_and_refused_otherwise() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = made();
        let secrets = [files::IDENTITY, files::AT_REST, files::TOKEN, files::CODE];
        for name in secrets.into_iter().chain([files::PROVIDER, "oprf-1.seed"]) {
            let path = folder.path().join(name);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let seed = folder.path().join("oprf-1.seed");
        fs::set_permissions(&seed, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Keyring::load(folder.path());
        assert!(matches!(refused, Err(KeyringError::Permissions(path)) if path == seed));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_half_made() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(files::AT_REST), "mine").unwrap();
        let refused = generate(folder.path(), &mut rand::rng());
        assert!(matches!(refused, Err(KeyringError::Exists(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read(folder.path().join(files::AT_REST)).unwrap(), b"mine");
    }

    #[test]
    fn a_file_in_the_place_of_another_is_refused() {
        let folder = made();
        fs::copy(folder.path().join(files::PROVIDER), folder.path().join(files::IDENTITY)).unwrap();
        assert!(matches!(Keyring::load(folder.path()), Err(KeyringError::Malformed { .. })));
    }

    #[test]
    fn every_seed_is_an_epoch_and_the_greatest_is_the_newest() {
        let folder = made();
        let second = Secret::random(&mut rand::rng());
        write_new(&folder.path().join("oprf-2.seed"), Kind::OprfSeed, &second).unwrap();
        let keyring = Keyring::load(folder.path()).unwrap();
        assert_eq!(keyring.newest().get(), 2);
        let keys: Vec<_> = keyring.epochs().map(|(_, key)| key.public_key().to_bytes()).collect();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0], keys[1]);
        fs::remove_file(folder.path().join("oprf-1.seed")).unwrap();
        fs::remove_file(folder.path().join("oprf-2.seed")).unwrap();
        assert!(matches!(Keyring::load(folder.path()), Err(KeyringError::NoSeed(_))));
    }

    #[test]
    fn a_folder_without_the_registrys_keys_loads_and_gets_them() {
        let folder = made();
        let registry =
            |folder: &Path| Keyring::load(folder).map(|keyring| keyring.registry.is_some());
        assert!(registry(folder.path()).unwrap());
        fs::remove_file(folder.path().join(files::TOKEN)).unwrap();
        assert!(matches!(registry(folder.path()), Err(KeyringError::Io { .. })));
        let refused = add_registry_keys(folder.path(), &mut rand::rng());
        assert!(matches!(refused, Err(KeyringError::Exists(_))));
        fs::remove_file(folder.path().join(files::CODE)).unwrap();
        assert!(!registry(folder.path()).unwrap());
        add_registry_keys(folder.path(), &mut rand::rng()).unwrap();
        assert!(registry(folder.path()).unwrap());
    }

    #[test]
    fn a_row_opens_only_under_its_own_name_and_key() {
        let folder = made();
        let keyring = Keyring::load(folder.path()).unwrap();
        let sii = Sii::from_canonical("tel:+14155550100").unwrap();
        let name = keyring.row_key(&sii);
        let sealed = keyring.seal_row(&name, b"a row", &mut rand::rng()).unwrap();
        assert_eq!(keyring.open_row(&name, &sealed).unwrap().as_slice(), b"a row");
        assert!(keyring.open_row(&[0; 16], &sealed).is_err());
        for offset in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[offset] ^= 1;
            assert!(keyring.open_row(&name, &altered).is_err(), "{offset}");
        }
        assert!(keyring.open_row(&name, &sealed[..27]).is_err());
        let other = Keyring::load(made().path()).unwrap();
        assert_ne!(other.row_key(&sii), name);
        assert!(other.open_row(&name, &sealed).is_err());
    }

    #[test]
    fn malformed_lines_are_refused() {
        let good = format!("{} {}\n", Kind::OprfSeed.label(), "0a".repeat(32));
        assert!(parse(&good, Kind::OprfSeed).is_some());
        assert!(parse(&good, Kind::AtRestKey).is_none());
        for bad in [
            good.replace("0a", "0A"),
            good.replace(' ', ""),
            good.replace("0a\n", "0\n"),
            good.replace("0a\n", "0a0a\n"),
            String::new(),
        ] {
            assert!(parse(&bad, Kind::OprfSeed).is_none());
        }
    }
}
