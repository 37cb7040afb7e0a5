//! `blindbook registry`: what an application provider or an authority asks of
//! a directory, call by call.

mod change;
mod claim;
mod limits;
mod list;
mod proof;
mod verification;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, ensure};
use blindbook::{
    client::registry::{Registry, RegistryError, RegistryOptions},
    identifier::{Region, Sii},
};
use clap::Subcommand;
use serde::Serialize;
use zeroize::Zeroizing;

pub(super) use self::claim::circle;
use super::{Failure, Outcome, input, logs, runtime};

/// Longest file that holds a proof, a token or a secret.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Say who may be found, as a partner of a directory
#[derive(clap::Args)]
pub(crate) struct RegistryCommand {
    #[command(flatten)]
    speaker: Speaker,
    /// Region of numbers without `+`, as US
    #[arg(long, value_name = "CODE")]
    region: Option<Region>,
    #[command(subcommand)]
    call: Call,
}

/// Where the directory is, and as whom to speak.
#[derive(clap::Args)]
pub(super) struct Speaker {
    /// The discovery provider, as `https://dp.example:4433`
    #[arg(long, value_name = "URL")]
    server: String,
    /// CA certificates, PEM, instead of the public ones
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The caller's certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The caller's private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Call {
    /// Send a one-time code to a number or address
    StartVerification(verification::Start),
    /// Give the code back for a claim token
    FinishVerification(verification::Finish),
    /// Open a challenge for a `PASSporT` or an OIDC `id_token`
    StartChallenge(verification::Challenge),
    /// Map an identifier to a user
    Claim(claim::One),
    /// Map many identifiers, one line of JSON for each
    ClaimMany(claim::Many),
    /// Change for whom a mapping is meant
    SetAudience(change::SetAudience),
    /// Make a mapping the default
    SetDefault(change::SetDefault),
    /// Remove mappings
    Release(change::Release),
    /// Move an identifier from one operator to another
    Port(change::Port),
    /// List the caller's mappings, or all of one identifier
    List(list::List),
    /// Show the caller's quotas, and what is left of them
    Limits(limits::Limits),
    /// Tell which buckets change, until interrupted
    WatchInvalidations(list::WatchInvalidations),
}

impl RegistryCommand {
    pub(crate) fn run(self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        let region = self.region;
        let options = self.speaker.options().map_err(input)?;
        runtime()?.block_on(async {
            // Within the runtime, whose tasks the connection lives on.
            let registry = Registry::open(&options).map_err(input)?;
            match self.call {
                Call::StartVerification(call) => call.run(&registry, region).await,
                Call::FinishVerification(call) => call.run(&registry, region).await,
                Call::StartChallenge(call) => call.run(&registry, region).await,
                Call::Claim(call) => call.run(&registry, region).await,
                Call::ClaimMany(call) => call.run(&registry, region).await,
                Call::SetAudience(call) => call.run(&registry, region).await,
                Call::SetDefault(call) => call.run(&registry, region).await,
                Call::Release(call) => call.run(&registry, region).await,
                Call::Port(call) => call.run(&registry, region).await,
                Call::List(call) => call.run(&registry, region).await,
                Call::Limits(call) => call.run(&registry).await,
                Call::WatchInvalidations(call) => call.run(&registry).await,
            }
        })
    }
}

impl Speaker {
    pub(super) fn options(&self) -> anyhow::Result<RegistryOptions> {
        let file = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
        let mut options = RegistryOptions::new(&self.server);
        options.ca_pem = self.ca.as_ref().map(file).transpose()?;
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            options.certificate = Some((file(cert)?, Zeroizing::new(file(key)?)));
        }
        Ok(options)
    }
}

/// An identifier as it stands on the command line.
fn sii(text: &str, region: Option<Region>) -> Result<Sii, Failure> {
    Sii::parse(text, region).context("the identifier is refused").map_err(input)
}

/// The text of a short file, or of standard input for `-`, without white space
/// at its ends.
fn secret_text(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    let read = |reader: &mut dyn io::Read, text: &mut String| {
        reader.take(MAX_FILE_BYTES + 1).read_to_string(text)
    };
    if path == Path::new("-") {
        read(&mut io::stdin().lock(), &mut text).context("standard input")?;
    } else {
        let mut file = fs::File::open(path).with_context(|| path.display().to_string())?;
        read(&mut file, &mut text).with_context(|| path.display().to_string())?;
    }
    ensure!(text.len() as u64 <= MAX_FILE_BYTES, "{} is too long", path.display());
    let trimmed = text.trim();
    ensure!(!trimmed.is_empty(), "{} is empty", path.display());
    Ok(Zeroizing::new(trimmed.to_owned()))
}

/// 64 bytes, 32 or 16 as hexadecimal digits.
pub(super) fn hex<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    let digits = text.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    ensure!(pairs.len() == N && rest.is_empty(), "must be {} hexadecimal digits", 2 * N);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
        let pair = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        *byte = pair.ok_or_else(|| anyhow!("must be {} hexadecimal digits", 2 * N))?;
    }
    Ok(bytes)
}

/// Prints one JSON object in a line.
pub(super) fn print(line: &impl Serialize) -> Outcome {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Refusals are the request's fault, what never arrived is not.
pub(super) fn failed(error: RegistryError) -> Failure {
    Failure::Failed(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_strictly() {
        assert_eq!(hex::<2>("00fF").unwrap(), [0, 0xff]);
        for bad in ["", "00f", "00ff0", "00fg", "+0ff", "00 f", "é0f"] {
            assert!(hex::<2>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_the_text_of_its_file_without_the_line_feed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "a.b.c\n").unwrap();
        assert_eq!(secret_text(&path).unwrap().as_str(), "a.b.c");
        for bad in ["", "\n"] {
            fs::write(&path, bad).unwrap();
            assert!(secret_text(&path).is_err());
        }
        fs::write(&path, "a".repeat(64 * 1024 + 1)).unwrap();
        assert!(secret_text(&path).is_err());
    }
}
