//! `blindbook verify`: holds a directory's buckets against its registry.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
};

use anyhow::anyhow;
use blindbook::{
    keyring::Keyring,
    registry::{Ledger, Verification, verify_directory},
    store::{Generations as _, SledGenerations, SledOptions},
};

use super::{Failure, Outcome, input, logs, now_s, progress, runtime};

/// Check that every bucket holds what the registry says
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// The data folder; its server must not run meanwhile
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The folder that `keygen` made
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Rebuild faulty buckets from the registry
    #[arg(long)]
    repair: bool,
}

impl Verify {
    pub(crate) fn run(&self, log: Option<&str>) -> Outcome {
        logs(log, "warn")?;
        let keyring = Arc::new(Keyring::load(&self.keys).map_err(input)?);
        if !self.data.is_dir() {
            let error = anyhow!("{} is no folder: name the data folder", self.data.display());
            return Err(input(error));
        }
        runtime()?.block_on(async {
            let generations =
                Arc::new(SledGenerations::open(&self.data, SledOptions::default()).await?);
            let found = verify(&generations, &keyring).await?;
            print(&found)?;
            if found.faulty == 0 {
                return Ok(());
            }
            if !self.repair {
                return Err(failed("run it again with --repair to rebuild what can be rebuilt"));
            }
            let ledger = Ledger::open(generations.clone(), keyring.clone()).await?;
            for (number, fault) in &found.faults {
                if fault.is_repairable() {
                    ledger.repair(now_s(), *number).await?;
                }
            }
            ledger.close().await?;
            let left = verify(&generations, &keyring).await?;
            print(&left)?;
            if left.faulty == 0 {
                return Ok(());
            }
            Err(failed("what is left cannot be rebuilt: restore the data folder from a backup"))
        })
    }
}

fn failed(advice: &'static str) -> Failure {
    Failure::Failed(anyhow!("the directory has faulty buckets; {advice}"))
}

async fn verify(
    generations: &Arc<SledGenerations>,
    keyring: &Arc<Keyring>,
) -> anyhow::Result<Verification> {
    let buckets = generations.current().await?.map_or(0, |store| store.prefix_bits().buckets());
    let bar = progress::buckets_bar("verifying", buckets);
    let tell = bar.clone();
    let found = verify_directory(&**generations, keyring.clone(), move |found| {
        tell.set_position(found.buckets);
    })
    .await?;
    bar.finish_and_clear();
    Ok(found)
}

/// What was found, faults counted by their kind: which bucket has one is
/// nobody's business.
fn print(found: &Verification) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} buckets, {} identifiers, {} mappings; {} buckets are faulty",
        found.buckets, found.identifiers, found.mappings, found.faulty
    )?;
    let mut kinds = BTreeMap::new();
    for (_, fault) in &found.faults {
        *kinds.entry(fault.to_string()).or_insert(0_u64) += 1;
    }
    for (kind, count) in kinds {
        writeln!(out, "  {count}: {kind}")?;
    }
    Ok(())
}
