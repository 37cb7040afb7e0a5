//! `blindbook bench`: how fast this machine is, in ratios that hold on others.
//!
//! Measures and judges by no exit code: a missed target is printed, and only an
//! error fails. Both sides of a ratio run in turns in one process.

mod access;
mod arithmetic;
mod claims;
mod cpu;
mod directory;
mod echo;
mod enumerate;
mod fetch;
mod load;
mod lookups;
mod memory;
mod overload;
mod pir;
mod process;
mod proxy;
mod report;
mod rounds;
mod serving;
mod sidecar;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context as _, anyhow};

use self::{directory::Directory, report::Report};
use super::{Outcome, input, logs, runtime};

/// Fewer make no directory worth measuring.
const MIN_RECORDS: usize = 100;

/// Measure this machine: arithmetic, load, fetches, lookups, claims, the sidecar
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// How many people the directory holds; one full partition has 9000000
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    records: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Measure one thing only
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
    /// Measure this way of fetching only
    #[arg(long, value_enum, value_name = "MODE", conflicts_with = "only")]
    mode: Option<Mode>,
    /// Simulate an attack under the default limits instead of measuring
    #[arg(long, value_enum, value_name = "ATTACK", conflicts_with_all = ["only", "mode", "records", "dir"])]
    attack: Option<Attack>,
    /// Of access and overload measure a moment: whether it works, not how fast it is
    #[arg(long, conflicts_with_all = ["mode", "attack"])]
    quick: bool,
    /// Where the directory is made and removed again, instead of the system's
    /// temporary folder; about 2 KB for each record
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Batches and bulk PRF beside the voprf crate
    Arithmetic,
    /// Load beside its arithmetic alone
    Load,
    /// Bucket fetches beside a bare echo
    Fetch,
    /// Lookups through the SDK
    Lookups,
    /// Claims beside the engine alone
    Claims,
    /// Resolves through the sidecar beside a bare echo
    Sidecar,
    /// Lookups with mTLS, quotas and tokens beside plain text
    Access,
    /// Ten times as much as the server can do
    Overload,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// Private information retrieval, from a matrix built from the loaded store
    Pir,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Attack {
    /// Try every phone number of a country
    Enumerate,
}

impl Bench {
    pub(crate) fn run(&self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        if let Some(Attack::Enumerate) = self.attack {
            let found = enumerate::simulate()?;
            let text =
                if self.json { serde_json::to_string(&found)? + "\n" } else { found.table() };
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
            return Ok(());
        }
        if self.records < MIN_RECORDS {
            return Err(input(anyhow!("--records must be at least {MIN_RECORDS}")));
        }
        let report = runtime()?.block_on(self.measure())?;
        let text = if self.json { serde_json::to_string(&report)? + "\n" } else { report.table() };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    async fn measure(&self) -> anyhow::Result<Report> {
        let begun = Instant::now();
        let wanted = |part| self.only.is_none_or(|only| only == part);
        let mut report = Report::default();
        if self.mode == Some(Mode::Pir) {
            let directory = Directory::make(self.dir.as_deref(), self.records)
                .context("cannot make up a directory")?;
            let (_, data) = load::measure(&directory, false).await?;
            report.pir = Some(pir::measure(&directory, &data).await?);
            report.close(self.records, begun.elapsed().as_secs_f64());
            return Ok(report);
        }
        if wanted(Part::Arithmetic) {
            report.arithmetic = Some(arithmetic::measure()?);
        }
        if self.only != Some(Part::Arithmetic) {
            let directory = Directory::make(self.dir.as_deref(), self.records)
                .context("cannot make up a directory")?;
            let (load, data) = load::measure(&directory, wanted(Part::Load)).await?;
            report.load = Some(load);
            if wanted(Part::Fetch) {
                report.fetch = Some(fetch::measure(&directory, &data).await?);
            }
            if wanted(Part::Lookups) {
                report.lookups = Some(lookups::measure(&directory, &data).await?);
            }
            if wanted(Part::Sidecar) {
                report.sidecar = Some(sidecar::measure(&directory, &data).await?);
            }
            if wanted(Part::Access) {
                report.access = Some(access::measure(&directory, &data, self.quick).await?);
            }
            if wanted(Part::Overload) {
                let measure = || overload::measure(&directory, &data, self.quick);
                report.overload = Some(tokio::task::block_in_place(measure)?);
            }
            // The last: it changes the directory.
            if wanted(Part::Claims) {
                report.claims = Some(claims::measure(&directory, &data).await?);
            }
        }
        report.close(self.records, begun.elapsed().as_secs_f64());
        Ok(report)
    }
}

/// Tells what is being measured, on standard error.
fn step(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "bench: {what}")
}
