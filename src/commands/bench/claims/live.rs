//! What clients see while claims come: how soon a claim is found, and how long
//! lookups take. The server, its clients and the ledger share this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use blindbook::{
    client::{Client, ClientOptions, MemoryState},
    identifier::Sii,
};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    super::{directory::Directory, rounds::rate, serving::Serving, step},
    prepare::{Claimants, Taker},
};

/// Claims that are looked up as soon as they are acknowledged, at most.
const FOUND: usize = 300;

/// Lookups at once.
const LOOKUPS: usize = 4;

/// Stretches at rest and under claims, by turns.
const ROUNDS: usize = 4;
const ROUND: Duration = Duration::from_secs(3);

/// The part of their most at which claims come.
const PART: f64 = 0.1;

/// Latencies are told from a microsecond to a minute.
const MAX_US: u64 = 60_000_000;

/// How soon claims were found.
#[derive(Serialize)]
pub(super) struct Found {
    pub(super) claims: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// How long lookups took.
#[derive(Serialize)]
pub(super) struct Latency {
    pub(super) lookups: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

/// Claims one after the other and looks each up once it is acknowledged; the
/// first answer must hold it.
pub(super) async fn found(
    directory: &Directory,
    server: &Serving,
    taker: &Taker,
    claimants: &mut Claimants,
    room: usize,
) -> anyhow::Result<Found> {
    step("from acknowledged to found")?;
    let client = connect(directory, server).await?;
    let mut latencies = histogram()?;
    for claim in claimants.make(room.clamp(1, FOUND)).await? {
        taker.take(&claim).await?;
        let acknowledged = Instant::now();
        let answer = client.lookup(&claim.sii).await?;
        record(&mut latencies, acknowledged);
        let users = answer.mappings.iter().map(|found| found.ssi.user());
        ensure!(users.eq([&claim.user]), "an acknowledged claim was not found");
    }
    let (p50_us, p99_us) = (latencies.value_at_quantile(0.5), latencies.value_at_quantile(0.99));
    Ok(Found { claims: latencies.len(), p50_us, p99_us })
}

/// Lookups at rest and while claims come at a part of their most, by turns; and
/// how many claims came.
pub(super) async fn beside_claims(
    directory: &Directory,
    server: &Serving,
    taker: &Taker,
    claimants: &mut Claimants,
    most_per_s: f64,
    room: usize,
) -> anyhow::Result<(Latency, Latency, f64)> {
    let (mut rest, mut busy) = (histogram()?, histogram()?);
    let (mut claims, mut claimed_s) = (0, 0.0);
    let asked = Arc::new(AtomicUsize::new(0));
    for round in 0..ROUNDS {
        step(&format!("lookups beside claims, round {} of {ROUNDS}", round + 1))?;
        // A client of its own: what it caches, it does not ask again.
        let client = connect(directory, server).await?;
        rest.add(lookups(&client, &asked, ROUND).await?)?;

        let per_s = (most_per_s * PART).max(1.0);
        let due = per_s * ROUND.as_secs_f64();
        let count = (0..room).take_while(|count| (*count as f64) < due).count();
        let arriving = claimants.make(count.max(1)).await?;
        let begun = Instant::now();
        let looking = lookups(&client, &asked, ROUND);
        let claiming = async {
            let mut due = interval(Duration::from_secs_f64(1.0 / per_s));
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut tasks = JoinSet::new();
            for claim in arriving {
                due.tick().await;
                let taker = taker.clone();
                tasks.spawn(async move { taker.take(&claim).await });
            }
            let mut done = 0;
            while let Some(task) = tasks.join_next().await {
                task.context("a claim ended early")??;
                done += 1;
            }
            anyhow::Ok((done, begun.elapsed()))
        };
        let (looked, (done, took)) = tokio::try_join!(looking, claiming)?;
        busy.add(looked)?;
        claims += done;
        claimed_s += took.as_secs_f64();
    }
    let claims_per_s = rate(claims, Duration::from_secs_f64(claimed_s));
    Ok((latency(&rest), latency(&busy), claims_per_s))
}

fn latency(latencies: &Histogram<u64>) -> Latency {
    Latency {
        lookups: latencies.len(),
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
    }
}

/// Looks up people whom nobody asked for before, for some time.
async fn lookups(
    client: &Client,
    asked: &Arc<AtomicUsize>,
    time: Duration,
) -> anyhow::Result<Histogram<u64>> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..LOOKUPS {
        let (client, asked) = (client.clone(), Arc::clone(asked));
        tasks.spawn(async move {
            let mut latencies = histogram()?;
            while begun.elapsed() < time {
                let n = asked.fetch_add(1, Ordering::Relaxed);
                let sii = Sii::parse(&format!("stranger.{n}@nowhere.example"), None)?;
                let asked = Instant::now();
                let answer = client.lookup(&sii).await?;
                record(&mut latencies, asked);
                ensure!(answer.mappings.is_empty(), "an answer was wrong");
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = histogram()?;
    while let Some(task) = tasks.join_next().await {
        latencies.add(task.context("a lookup ended early")??)?;
    }
    Ok(latencies)
}

async fn connect(directory: &Directory, server: &Serving) -> anyhow::Result<Client> {
    let mut options = ClientOptions::new(&server.url, directory.keyring.identity().verifying_key());
    options.ca_pem = Some(directory.tls.ca.clone().into_bytes());
    Ok(Client::connect(options, Arc::new(MemoryState::default())).await?)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, MAX_US, 3)?)
}

fn record(latencies: &mut Histogram<u64>, since: Instant) {
    let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(MAX_US);
    latencies.saturating_record(us);
}
