//! Makes key files: new ones only, all or none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use ed25519_dalek::SigningKey;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::{KeyringError, Kind, files, io_error, seed_file};
use crate::{epoch::Epoch, secret::Secret};

/// Makes the keys of a new directory and of one application provider, all
/// files new, secret ones 0600, synced.
///
/// # Errors
/// Any of the files exists, and nothing was written; or the file system
/// refuses, and what was written is removed again.
pub fn generate(folder: &Path, rng: &mut impl CryptoRng) -> Result<(), KeyringError> {
    let identity = SigningKey::from_bytes(Secret::random(rng).expose());
    let provider = SigningKey::from_bytes(Secret::random(rng).expose());
    let seed = Secret::<32>::random(rng);
    let [at_rest, token, code] = [(); 3].map(|()| Secret::<32>::random(rng));
    let public = |key: &SigningKey| Secret::new(key.verifying_key().to_bytes());
    let secret = |key: &SigningKey| Secret::new(key.to_bytes());
    let made = [
        (files::IDENTITY.into(), Kind::IdentityKey, secret(&identity)),
        (files::IDENTITY_PUBLIC.into(), Kind::IdentityPublicKey, public(&identity)),
        (seed_file(Epoch::FIRST), Kind::OprfSeed, seed),
        (files::AT_REST.into(), Kind::AtRestKey, at_rest),
        (files::TOKEN.into(), Kind::TokenSeed, token),
        (files::CODE.into(), Kind::CodeKey, code),
        (files::PROVIDER.into(), Kind::ProviderKey, secret(&provider)),
        (files::PROVIDER_PUBLIC.into(), Kind::ProviderPublicKey, public(&provider)),
    ];
    write_all(folder, &made)
}

/// Adds the registry's keys to a folder that has the others.
///
/// # Errors
/// As [`generate`].
pub fn add_registry_keys(folder: &Path, rng: &mut impl CryptoRng) -> Result<(), KeyringError> {
    let [token, code] = [(); 2].map(|()| Secret::<32>::random(rng));
    let made =
        [(files::TOKEN.into(), Kind::TokenSeed, token), (files::CODE.into(), Kind::CodeKey, code)];
    write_all(folder, &made)
}

/// Writes all of them, or none.
fn write_all(folder: &Path, made: &[(String, Kind, Secret<32>)]) -> Result<(), KeyringError> {
    for (name, ..) in made {
        let path = folder.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(KeyringError::Exists(path));
        }
    }
    create_folder(folder).map_err(|error| io_error(folder, error))?;
    let mut written = Vec::new();
    for (name, kind, bytes) in made {
        let path = folder.join(name);
        match write_new(&path, *kind, bytes) {
            Ok(()) => written.push(path),
            Err(error) => {
                for path in written {
                    // The first error is the one to tell.
                    let _ = fs::remove_file(path);
                }
                return Err(match error.kind() {
                    io::ErrorKind::AlreadyExists => KeyringError::Exists(path),
                    _ => io_error(&path, error),
                });
            }
        }
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| io_error(folder, error))
}

fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

pub(super) fn write_new(path: &Path, kind: Kind, bytes: &Secret<32>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        if kind.is_secret() { 0o600 } else { 0o644 },
    );
    let mut line = Zeroizing::new(String::with_capacity(128));
    line.push_str(kind.label());
    line.push(' ');
    for byte in bytes.expose() {
        for nibble in [byte >> 4, byte & 15] {
            line.extend(char::from_digit(nibble.into(), 16));
        }
    }
    line.push('\n');
    let mut file = options.open(path)?;
    file.write_all(line.as_bytes())?;
    file.sync_all()
}
