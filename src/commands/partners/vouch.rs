//! An application provider's key vouches for the next: without a word of the old
//! one no directory and no client takes the new one.

use std::{io::Write as _, path::PathBuf};

use blindbook::{identifier::Provider, keyring, wire::KeySuccession};

use super::{Outcome, input, list::digits};

#[derive(clap::Args)]
pub(super) struct Vouch {
    /// The domain name of the application provider
    #[arg(long)]
    provider: String,
    /// Its key of now, as the `ap.key` of keygen
    #[arg(long, value_name = "FILE")]
    ap_key: PathBuf,
    /// The public half of its new key
    #[arg(long, value_name = "FILE")]
    new_key: PathBuf,
}

impl Vouch {
    pub(super) fn run(self) -> Outcome {
        let provider = Provider::parse(&self.provider).map_err(input)?;
        let old = keyring::provider_key(&self.ap_key).map_err(input)?;
        let new = keyring::provider_public_key(&self.new_key).map_err(input)?;
        let step = KeySuccession::sign(&provider, &old, &new);
        writeln!(std::io::stdout().lock(), "{}", digits(&step.signature))?;
        Ok(())
    }
}
