//! `blindbook keygen`: the keys of a new directory, or those that an older one
//! lacks.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use blindbook::{keyring, registry::proof::TokenSigner};

use super::{Failure, Outcome, dev_tls::DevTls, input};

const CA: &str = "dev-ca.pem";
const CERT: &str = "dev-cert.pem";
const KEY: &str = "dev-cert.key";
const ADMIN_CERT: &str = "dev-admin.pem";
const ADMIN_KEY: &str = "dev-admin.key";
const PARTNER_CERT: &str = "dev-partner.pem";
const PARTNER_KEY: &str = "dev-partner.key";

/// The public half of the key that signs claim tokens.
const TOKEN_JWK: &str = "token.jwk";

/// Make the keys of a new directory
#[derive(clap::Args)]
pub(crate) struct Keygen {
    /// The folder to make them in; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also make a development CA, a server certificate for localhost, and client
    /// certificates of an administrator and a partner
    #[arg(long)]
    dev_tls: bool,
    /// Only add the keys of the registry, to a folder from before there were any
    #[arg(long, conflicts_with = "dev_tls")]
    add_registry_keys: bool,
}

impl Keygen {
    pub(crate) fn run(&self) -> Outcome {
        if self.add_registry_keys {
            // Of a folder that is one of keys.
            keyring::Keyring::load(&self.out).map_err(input)?;
            keyring::add_registry_keys(&self.out, &mut rand::rng()).map_err(refused)?;
            self.publish_token_key()?;
            writeln!(
                io::stdout().lock(),
                "{} and {} are in {}. Back them up.",
                keyring::files::TOKEN,
                keyring::files::CODE,
                self.out.display()
            )?;
            return Ok(());
        }
        if self.dev_tls {
            for name in [CA, CERT, KEY, ADMIN_CERT, ADMIN_KEY, PARTNER_CERT, PARTNER_KEY] {
                let path = self.out.join(name);
                if fs::symlink_metadata(&path).is_ok() {
                    let error = keyring::KeyringError::Exists(path);
                    return Err(input(error));
                }
            }
        }
        keyring::generate(&self.out, &mut rand::rng()).map_err(refused)?;
        self.publish_token_key()?;
        if self.dev_tls {
            let tls = DevTls::generate().context("cannot make certificates")?;
            for (name, text, mode) in [
                (CA, &tls.ca, 0o644),
                (CERT, &tls.cert, 0o644),
                (KEY, &*tls.key, 0o600),
                (ADMIN_CERT, &tls.admin.0, 0o644),
                (ADMIN_KEY, &*tls.admin.1, 0o600),
                (PARTNER_CERT, &tls.partner.0, 0o644),
                (PARTNER_KEY, &*tls.partner.1, 0o600),
            ] {
                let path = self.out.join(name);
                write_new(&path, text, mode)
                    .map_err(|error| anyhow!("{}: {error}", path.display()))?;
            }
        }
        let mut out = io::stdout().lock();
        writeln!(out, "Keys are in {}. Clients need identity.pub.", self.out.display())?;
        writeln!(
            out,
            "Keep the folder on another device than the data, and back it up: without it the \
             directory is lost."
        )?;
        if self.dev_tls {
            writeln!(
                out,
                "{CERT} and {KEY} are for development only; clients trust them with {CA}."
            )?;
            writeln!(
                out,
                "{ADMIN_CERT} and {PARTNER_CERT}, with their keys, are of clients with the URIs \
                 spiffe://localhost/admin and spiffe://localhost/partner."
            )?;
        }
        Ok(())
    }

    /// Writes the key with which others verify this directory's claim tokens.
    fn publish_token_key(&self) -> anyhow::Result<()> {
        let keyring = keyring::Keyring::load(&self.out)?;
        let keys = keyring.registry().context("the registry's keys were just made")?;
        let signer = TokenSigner::from_seed(&keys.token_seed, *keyring.directory())?;
        let path = self.out.join(TOKEN_JWK);
        write_new(&path, &format!("{}\n", signer.key().to_jwk()), 0o644)
            .map_err(|error| anyhow!("{}: {error}", path.display()))
    }
}

fn refused(error: keyring::KeyringError) -> Failure {
    match error {
        keyring::KeyringError::Exists(_) => input(error),
        error => error.into(),
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
