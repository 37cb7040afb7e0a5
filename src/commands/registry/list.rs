//! Lists of mappings, and the watch over changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use blindbook::{
    client::registry::Registry,
    identifier::Region,
    wire::{
        Checkpoint, Watch,
        registry::{self, ListedMapping, MAX_PAGE_SIZE},
    },
};
use serde::Serialize;
use tokio_stream::StreamExt as _;

use super::{Outcome, failed, input, print, proof::ProofFlags, sii};

#[derive(clap::Args)]
pub(super) struct List {
    /// All mappings of this identifier, with a proof of control; otherwise all
    /// of the caller's own
    sii: Option<String>,
    #[command(flatten)]
    proof: ProofFlags,
}

#[derive(Serialize)]
struct Line<'a> {
    sii: &'a str,
    provider: &'a str,
    user: &'a str,
    audience: &'static str,
    default_since_s: u32,
    verified_until_s: u32,
    ttl_s: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    circle_id: Option<String>,
}

fn line(listed: &ListedMapping) -> Outcome {
    let ssi = &listed.mapping.ssi;
    print(&Line {
        sii: listed.sii.as_str(),
        provider: ssi.provider().as_str(),
        user: ssi.user().as_str(),
        audience: listed.audience.as_str(),
        default_since_s: listed.default_since_s,
        verified_until_s: listed.verified_until_s,
        ttl_s: listed.ttl_s,
        circle_id: listed.mapping.circle.map(|id| format!("{:032x}", u128::from_be_bytes(id))),
    })
}

impl List {
    pub(super) async fn run(&self, registry: &Registry, region: Option<Region>) -> Outcome {
        if let Some(text) = &self.sii {
            let proof = self.proof.read().map_err(input)?;
            let list = registry::List::Control { sii: sii(text, region)?, proof };
            let listed = registry.list(list).await.map_err(failed)?;
            return listed.mappings.iter().try_for_each(line);
        }
        if self.proof.given() {
            return Err(input(anyhow::anyhow!("a proof is for an identifier: name it")));
        }
        let mut told = Ok(());
        let take = |page: registry::Listed| {
            if told.is_ok() {
                told = page.mappings.iter().try_for_each(line);
            }
        };
        registry.list_all(MAX_PAGE_SIZE, take).await.map_err(failed)?;
        told
    }
}

#[derive(clap::Args)]
pub(super) struct WatchInvalidations {
    /// A file that holds the last checkpoint, kept up to date: the next run goes
    /// on from there
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

#[derive(Serialize)]
struct Changed {
    prefix: u32,
    version: u64,
}

#[derive(Serialize)]
struct Everything {
    everything: bool,
}

impl WatchInvalidations {
    pub(super) async fn run(&self, registry: &Registry) -> Outcome {
        let checkpoint = match &self.checkpoint {
            Some(path) => read(path).map_err(input)?,
            None => None,
        };
        let told = registry.watch_invalidations(Watch { checkpoint }).await.map_err(failed)?;
        let mut told = std::pin::pin!(told);
        while let Some(told) = told.next().await {
            let told = told.map_err(failed)?;
            if told.everything {
                print(&Everything { everything: true })?;
            }
            for changed in told.changed {
                print(&Changed { prefix: changed.number.get(), version: changed.version })?;
            }
            // Only once what came before it was told.
            if let (Some(path), Some(checkpoint)) = (&self.checkpoint, told.checkpoint) {
                write(path, &checkpoint).with_context(|| path.display().to_string())?;
            }
        }
        Err(anyhow::anyhow!("the server ended the stream: begin again").into())
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Checkpoint>> {
    match fs::read(path) {
        Ok(bytes) => {
            let checkpoint = Checkpoint::from_bytes(&bytes);
            Ok(Some(checkpoint.with_context(|| path.display().to_string())?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Beside it, and then in its place: it is one checkpoint or the other.
fn write(path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, checkpoint.to_bytes())?;
    fs::rename(&new, path)
}
