//! `blindbook load`: mappings from an operator's files into a directory.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use blindbook::{
    identifier::{Provider, Region},
    keyring::{self, Keyring},
    registry::{
        self, BadLine, BadLines, Input, LoadError, LoadOptions, LoadReport, Phase, Progress,
    },
    store::{SledGenerations, SledOptions},
};

use super::{Failure, Outcome, input, logs, now_s, progress, runtime};

/// How often the bar moves.
const TICK: Duration = Duration::from_millis(200);

/// Load mappings from CSV or JSONL files
#[derive(clap::Args)]
pub(crate) struct Load {
    /// The data folder; made when it does not exist
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The folder that `keygen` made
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Whose users these are, as wa.example
    #[arg(long, value_name = "DOMAIN")]
    provider: Provider,
    /// The provider's signing key instead of ap.key in the key folder
    #[arg(long, value_name = "FILE")]
    ap_key: Option<PathBuf>,
    /// Region of numbers without `+`, as US
    #[arg(long, value_name = "CODE")]
    region: Option<Region>,
    /// Refuse everything when one line is bad
    #[arg(long)]
    strict: bool,
    /// CSV with a header `sii,user[,audience][,default][,ttl_s]`, or JSONL with
    /// these names; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Load {
    pub(crate) fn run(self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        let keyring = Keyring::load(&self.keys).map_err(input)?;
        let ap_key = self.ap_key.unwrap_or_else(|| self.keys.join(keyring::files::PROVIDER));
        let provider_key = keyring::provider_key(&ap_key).map_err(input)?;
        let inputs: Vec<_> = self
            .files
            .iter()
            .map(|path| match path.to_str() {
                Some("-") => Input::stream("-", io::stdin()),
                _ => Input::file(path),
            })
            .collect();
        // On the disk of the data, which has room for as much.
        let spill = self.data.join("spill");
        let mut options = LoadOptions::new(self.provider, provider_key, spill, now_s());
        options.region = self.region;
        options.strict = self.strict;
        let counters = Arc::new(Progress::default());
        let report = runtime()?.block_on(async {
            let generations = SledGenerations::open(&self.data, SledOptions::default()).await?;
            let load = registry::load(
                Arc::new(generations),
                Arc::new(keyring),
                options,
                inputs,
                counters.clone(),
            );
            Ok::<_, Failure>(watch(load, &counters).await)
        })?;
        match report {
            Ok(report) => print(&report),
            Err(LoadError::Refused(report)) => {
                print_bad(&report.bad)?;
                Err(input(LoadError::Refused(report)))
            }
            Err(
                error @ (LoadError::Input { .. }
                | LoadError::Header { .. }
                | LoadError::ProviderKey(_)),
            ) => Err(input(error)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What was done, on standard output; bad lines on standard error.
fn print(report: &LoadReport) -> Outcome {
    print_bad(&report.bad)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} lines: {} mappings added, {} changed, {} unchanged, {} replaced by a later line, {} \
         refused",
        report.lines,
        report.added,
        report.changed,
        report.unchanged,
        report.superseded,
        report.bad.total
    )?;
    if let Some(before) = report.resplit_from {
        writeln!(out, "re-split from {before} to {} prefix bits", report.prefix_bits)?;
    }
    writeln!(
        out,
        "the directory has {} mappings of {} identifiers under {} prefix bits",
        report.mappings, report.identifiers, report.prefix_bits
    )?;
    Ok(())
}

fn print_bad(bad: &BadLines) -> io::Result<()> {
    let mut out = io::stderr().lock();
    for BadLine { file, line, reason } in &bad.listed {
        writeln!(out, "{file}:{line}: {reason}")?;
    }
    let listed = bad.listed.len() as u64;
    if listed < bad.total {
        writeln!(out, "and {} more", bad.total - listed)?;
    }
    Ok(())
}

/// Runs a load with progress bars.
pub(crate) async fn watch(
    load: impl Future<Output = Result<LoadReport, LoadError>>,
    counters: &Progress,
) -> Result<LoadReport, LoadError> {
    let mut load = std::pin::pin!(load);
    let mut ticks = tokio::time::interval(TICK);
    let mut phase = Phase::Reading;
    let mut bar = progress::load_bar(&counters.snapshot());
    loop {
        tokio::select! {
            outcome = &mut load => {
                bar.finish_and_clear();
                return outcome;
            }
            _ = ticks.tick() => {
                let now = counters.snapshot();
                if now.phase != phase {
                    bar.finish_and_clear();
                    bar = progress::load_bar(&now);
                    phase = now.phase;
                }
                progress::advance(&bar, &now);
            }
        }
    }
}
