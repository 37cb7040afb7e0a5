//! `blindbook partners`: who may speak to a directory, and as what, changed while
//! it serves.

mod list;
mod put;
mod vouch;

use blindbook::client::admin::Admin;
use clap::Subcommand;

use super::{
    Outcome, input, logs,
    registry::{Speaker, failed},
    runtime,
};

/// Say who may speak to a directory, as its administrator
#[derive(clap::Args)]
pub(crate) struct PartnersCommand {
    #[command(subcommand)]
    call: Call,
}

#[derive(Subcommand)]
enum Call {
    /// Add a partner
    Add(put::Put),
    /// Change a partner: what is not said again is gone
    Set(put::Put),
    /// Remove a partner, also from connections that are open
    Remove(Remove),
    /// List all partners, one line of JSON for each
    List(list::List),
    /// As an application provider: let its key vouch for a new one
    Vouch(vouch::Vouch),
}

#[derive(clap::Args)]
struct Remove {
    #[command(flatten)]
    speaker: Speaker,
    /// The URI of its certificate
    #[arg(long)]
    uri: String,
}

impl PartnersCommand {
    pub(crate) fn run(self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        match self.call {
            Call::Add(put) => put.run(true),
            Call::Set(put) => put.run(false),
            Call::Remove(Remove { speaker, uri }) => {
                speak(&speaker, async |admin| admin.remove(uri).await.map_err(failed))
            }
            Call::List(list) => list.run(),
            Call::Vouch(vouch) => vouch.run(),
        }
    }
}

/// Speaks to the directory that the arguments name.
fn speak(speaker: &Speaker, call: impl AsyncFnOnce(Admin) -> Outcome) -> Outcome {
    let options = speaker.options().map_err(input)?;
    runtime()?.block_on(async {
        // Within the runtime, whose tasks the connection lives on.
        call(Admin::open(&options).map_err(input)?).await
    })
}
