//! `blindbook keygen`: the keys of a new directory.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use blindbook::keyring;

use super::{Outcome, dev_tls::DevTls, input};

const CA: &str = "dev-ca.pem";
const CERT: &str = "dev-cert.pem";
const KEY: &str = "dev-cert.key";

/// Make the keys of a new directory
#[derive(clap::Args)]
pub(crate) struct Keygen {
    /// The folder to make them in; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also make a development CA and a server certificate for localhost
    #[arg(long)]
    dev_tls: bool,
}

impl Keygen {
    pub(crate) fn run(&self) -> Outcome {
        if self.dev_tls {
            for name in [CA, CERT, KEY] {
                let path = self.out.join(name);
                if fs::symlink_metadata(&path).is_ok() {
                    let error = keyring::KeyringError::Exists(path);
                    return Err(input(error));
                }
            }
        }
        keyring::generate(&self.out, &mut rand::rng()).map_err(|error| match error {
            keyring::KeyringError::Exists(_) => input(error),
            error => error.into(),
        })?;
        if self.dev_tls {
            let tls = DevTls::generate().context("cannot make certificates")?;
            for (name, text, mode) in
                [(CA, &tls.ca, 0o644), (CERT, &tls.cert, 0o644), (KEY, &tls.key, 0o600)]
            {
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
        }
        Ok(())
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
