//! The flags that hand over a proof of control: each names a file, so that no
//! proof stands in a list of processes.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use blindbook::{secret::SecretText, wire::registry::Proof};

use super::secret_text;

/// Shows control of the identifier, for the caller's provider.
#[derive(clap::Args)]
#[group(id = "proof")]
pub(super) struct ProofFlags {
    /// A file with a claim token, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passport", "id_token"])]
    claim_token: Option<PathBuf>,
    /// A file with a `PASSporT` in full form
    #[arg(long, value_name = "FILE", requires_all = ["challenge", "certificate"])]
    passport: Option<PathBuf>,
    /// Its certificates in DER, the signer's first
    #[arg(long = "certificate", value_name = "FILE", requires = "passport")]
    certificate: Vec<PathBuf>,
    /// A file with an OIDC `id_token`
    #[arg(long, value_name = "FILE", requires = "challenge", conflicts_with = "passport")]
    id_token: Option<PathBuf>,
    /// A file with the challenge that the proof answers
    #[arg(long, value_name = "FILE")]
    challenge: Option<PathBuf>,
}

impl ProofFlags {
    /// Whether a proof is handed over.
    pub(super) const fn given(&self) -> bool {
        self.claim_token.is_some() || self.passport.is_some() || self.id_token.is_some()
    }

    pub(super) fn read(&self) -> anyhow::Result<Proof> {
        let text = |path: &PathBuf| {
            secret_text(path).map(|text| SecretText::from(text.as_str().to_owned()))
        };
        Ok(match (&self.claim_token, &self.passport, &self.id_token, &self.challenge) {
            (Some(token), None, None, None) => Proof::Token(text(token)?),
            (None, Some(token), None, Some(challenge)) => Proof::Passport {
                challenge: text(challenge)?,
                token: text(token)?,
                certificates: self
                    .certificate
                    .iter()
                    .map(|path| {
                        let der = fs::read(path).with_context(|| path.display().to_string())?;
                        Ok(der.into())
                    })
                    .collect::<anyhow::Result<_>>()?,
            },
            (None, None, Some(token), Some(challenge)) => {
                Proof::Identity { challenge: text(challenge)?, token: text(token)? }
            }
            _ => bail!(
                "a proof is needed: --claim-token, or --passport or --id-token with --challenge"
            ),
        })
    }
}
