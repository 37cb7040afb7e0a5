//! Codes and challenges.

use std::path::PathBuf;

use blindbook::{
    client::registry::Registry,
    identifier::Region,
    secret::SecretText,
    wire::registry::{FinishVerification, StartChallenge, StartVerification},
};
use serde::Serialize;

use super::{Outcome, failed, input, print, secret_text, sii};

#[derive(clap::Args)]
pub(super) struct Start {
    /// A phone number or mail address
    sii: String,
}

#[derive(clap::Args)]
pub(super) struct Finish {
    /// As it was when the code was sent
    sii: String,
    /// A file with the code, or - for standard input
    #[arg(long, value_name = "FILE")]
    code: PathBuf,
}

#[derive(clap::Args)]
pub(super) struct Challenge {
    /// The identifier to prove control of
    sii: String,
}

#[derive(Serialize)]
struct Started {
    expires_s: u64,
}

#[derive(Serialize)]
struct Finished<'a> {
    token: &'a str,
}

#[derive(Serialize)]
struct Opened<'a> {
    challenge: &'a str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    expires_s: u64,
}

impl Start {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let start = StartVerification { sii: sii(&self.sii, region)? };
        let started = registry.start_verification(start).await.map_err(failed)?;
        print(&Started { expires_s: started.expires_s })
    }
}

impl Finish {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let code = secret_text(&self.code).map_err(input)?;
        let code = SecretText::from(code.as_str().to_owned());
        let finish = FinishVerification { sii: sii(&self.sii, region)?, code };
        let finished = registry.finish_verification(finish).await.map_err(failed)?;
        print(&Finished { token: finished.token.expose() })
    }
}

impl Challenge {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        let start = StartChallenge { sii: sii(&self.sii, region)? };
        let opened = registry.start_challenge(start).await.map_err(failed)?;
        print(&Opened {
            challenge: opened.challenge.expose(),
            text: opened.text.expose(),
            destination: opened.destination.as_deref(),
            expires_s: opened.expires_s,
        })
    }
}
