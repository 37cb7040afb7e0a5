//! Claims through the ledger, proofs verified, beside the engine that commits
//! the same bytes with as many writers; how soon a claim is found, and what
//! lookups feel of claims.

mod engine;
mod live;
mod prepare;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, anyhow};
use blindbook::{
    registry::Ledger,
    store::{Generations as _, SledGenerations, SledOptions, Store},
};
use serde::Serialize;
use tokio::task::JoinSet;

pub(super) use self::prepare::Claimants;
use self::{
    engine::Recorder,
    live::{Found, Latency},
    prepare::{Arriving, Taker},
};
use super::{
    cpu,
    directory::Directory,
    report::Row,
    rounds::{Pace, Rounds},
    serving::{self, Serving},
    step,
};

/// Rounds of each number of writers.
const ROUNDS: usize = 7;

/// Writers at once, and the most claims of a round.
const LEVELS: [(usize, usize); 2] = [(1, 300), (64, 2500)];

/// One in so many people claims in one round, at most.
const PEOPLE_PER_CLAIM: usize = 36;

/// The server's default.
const CACHE_BYTES: u64 = 256 << 20;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Claims {
    levels: Vec<Level>,
    /// From the acknowledgement of a claim to the answer that holds it.
    visible: Found,
    lookups_at_rest: Latency,
    lookups_while_claims_come: Latency,
    meanwhile_per_s: f64,
    lookup_p99_ratio: f64,
    #[serde(skip)]
    pub(super) ratio: f64,
}

/// So many writers at once.
#[derive(Serialize)]
struct Level {
    writers: usize,
    ratio: f64,
    claims_per_s: f64,
    /// Every writer writes and flushes for itself.
    engine_commits_per_s: f64,
    /// To the engine behind our group commit, which has nothing else to do.
    ratio_to_group_commit: f64,
    group_commits_per_s: f64,
    /// Processor time, which a shared machine's other work does not change.
    cpu: Option<Cpu>,
}

/// Processor time for each claim.
#[derive(Serialize)]
struct Cpu {
    us_per_claim: f64,
    us_per_engine_commit: f64,
}

impl Claims {
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for level in &self.levels {
            let Level { writers, ratio, claims_per_s, engine_commits_per_s, cpu, .. } = level;
            let name = if *writers == 1 { "1 writer".into() } else { format!("{writers} writers") };
            rows.push(Row::new(
                format!("claims/s, {name}"),
                format!(
                    "{claims_per_s:.0}; engine alone {engine_commits_per_s:.0} (ratio {ratio:.2})"
                ),
            ));
            rows.push(Row::new(
                format!("engine behind group commit, {name}"),
                format!(
                    "{:.0} (claims beside it {:.2})",
                    level.group_commits_per_s, level.ratio_to_group_commit
                ),
            ));
            if let Some(Cpu { us_per_claim, us_per_engine_commit }) = cpu {
                rows.push(Row::new(
                    format!("processor time per claim, {name}"),
                    format!("{us_per_claim:.0} us; engine alone {us_per_engine_commit:.0} us"),
                ));
            }
        }
        let Found { claims, p50_us, p99_us } = self.visible;
        rows.push(Row::new(
            "from acknowledged to found",
            format!("p50 {}, p99 {} ({claims} claims)", ms(p50_us), ms(p99_us)),
        ));
        rows.push(Row::new(
            "lookup p99, claims at a tenth of their most",
            format!(
                "{} at rest, {} with {:.0} claims/s (ratio {:.2})",
                ms(self.lookups_at_rest.p99_us),
                ms(self.lookups_while_claims_come.p99_us),
                self.meanwhile_per_s,
                self.lookup_p99_ratio
            ),
        ));
        rows
    }
}

fn ms(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1e3)
}

/// Measures every number of writers, then what lookups see.
pub(super) async fn measure(directory: &Directory, data: &Path) -> anyhow::Result<Claims> {
    step("copying the directory for the engine alone")?;
    let [engine, store] = ["data-engine", "data-store"].map(|name| directory.path(name));
    engine::copy(data, &engine)?;
    engine::copy(data, &store)?;
    let generations = serving::open(data).await?;
    let engine = open_copy(&engine, false).await?;
    let store = open_copy(&store, true).await?;

    let recorder = Recorder::new(generations.clone());
    let (server, buckets) = Serving::observed(directory, generations, true, CACHE_BYTES).await?;
    let ledger =
        Ledger::open_observed(recorder.clone(), directory.keyring.clone(), move |number| {
            buckets.changed(number);
        })
        .await?;
    let mut claimants = Claimants::new(directory)?;
    let taker = claimants.taker(&ledger);
    let mut levels = Vec::new();
    for (writers, most) in LEVELS {
        let count = (directory.records / PEOPLE_PER_CLAIM).clamp(1, most);
        let (taker, recorder) = (&taker, &recorder);
        let sides = Sides { taker, recorder, engine: &engine, store: &store, writers, count };
        levels.push(sides.measure(&mut claimants).await?);
    }
    let most = levels.last().map_or(0.0, |level| level.claims_per_s);
    let room = directory.records / PEOPLE_PER_CLAIM;
    let visible = live::found(directory, &server, &taker, &mut claimants, room).await?;
    let (rest, busy, claims_per_s) =
        live::beside_claims(directory, &server, &taker, &mut claimants, most, room).await?;
    ledger.close().await?;
    server.stop().await?;
    Ok(Claims {
        ratio: levels.last().map_or(f64::NAN, |level| level.ratio),
        levels,
        visible,
        lookup_p99_ratio: busy.p99_us as f64 / rest.p99_us.max(1) as f64,
        lookups_at_rest: rest,
        lookups_while_claims_come: busy,
        meanwhile_per_s: claims_per_s,
    })
}

async fn open_copy(data: &Path, group_commits: bool) -> anyhow::Result<Arc<dyn Store>> {
    let options = SledOptions { group_commits, ..SledOptions::default() };
    let copy = SledGenerations::open(data, options).await?;
    copy.current().await?.ok_or_else(|| anyhow!("the copy is empty"))
}

/// The sides of a comparison.
struct Sides<'a> {
    taker: &'a Taker,
    recorder: &'a Recorder,
    /// Every writer writes and flushes for itself.
    engine: &'a Arc<dyn Store>,
    /// The same in groups.
    store: &'a Arc<dyn Store>,
    writers: usize,
    count: usize,
}

impl Sides<'_> {
    /// The engine and the store commit what the ledger did a round before, so
    /// that each round of claims lies between two of theirs. The first round is
    /// not counted: it reads from the disk what the others find in memory.
    async fn measure(&self, claimants: &mut Claimants) -> anyhow::Result<Level> {
        let writers = self.writers;
        let mut rates = Rounds::default();
        let mut grouped = Rounds::default();
        let mut cpu = Rounds::default();
        self.claims(claimants).await?;
        let mut before = self.without().await?;
        for round in 0..ROUNDS {
            step(&format!("claims, {writers} at once, round {} of {ROUNDS}", round + 1))?;
            let ours = self.claims(claimants).await?;
            let after = self.without().await?;
            let engine = before.engine.mean(after.engine);
            let store = before.store.mean(after.store);
            rates.push(ours.per_s, engine.per_s);
            grouped.push(ours.per_s, store.per_s);
            if let Some((ours, theirs)) = ours.per_cpu_s.zip(engine.per_cpu_s) {
                cpu.push(ours, theirs);
            }
            before = after;
        }
        Ok(Level {
            writers,
            ratio: rates.ratio(),
            claims_per_s: rates.ours(),
            engine_commits_per_s: rates.theirs(),
            ratio_to_group_commit: grouped.ratio(),
            group_commits_per_s: grouped.theirs(),
            cpu: (!cpu.is_empty()).then(|| Cpu {
                us_per_claim: 1e6 / cpu.ours(),
                us_per_engine_commit: 1e6 / cpu.theirs(),
            }),
        })
    }

    async fn claims(&self, claimants: &mut Claimants) -> anyhow::Result<Pace> {
        let arriving = Arc::new(claimants.make(self.count).await?);
        take(self.taker, &arriving, self.writers).await
    }

    async fn without(&self) -> anyhow::Result<Without> {
        let commits = self.recorder.take();
        let engine = engine::commit(self.engine, commits.clone(), self.writers).await?;
        let store = engine::commit(self.store, commits, self.writers).await?;
        Ok(Without { engine, store })
    }
}

/// The same commits without a registry.
struct Without {
    engine: Pace,
    store: Pace,
}

/// Takes all claims, so many at once.
async fn take(
    taker: &Taker,
    arriving: &Arc<Vec<Arriving>>,
    writers: usize,
) -> anyhow::Result<Pace> {
    let next = Arc::new(AtomicUsize::new(0));
    let cpu_before = cpu::used();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (taker, arriving, next) = (taker.clone(), Arc::clone(arriving), Arc::clone(&next));
        tasks.spawn(async move {
            while let Some(claim) = arriving.get(next.fetch_add(1, Ordering::Relaxed)) {
                taker.take(claim).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.context("a writer ended early")??;
    }
    Ok(Pace::of(arriving.len(), begun, cpu_before))
}
