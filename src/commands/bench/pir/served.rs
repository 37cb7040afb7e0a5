//! The same over gRPC: from `blindbook serve` to the SDK, over TLS, every answer
//! held against the file of people; and how soon claims are found while they come
//! and queries run.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use blindbook::{
    client::{Client, ClientError, ClientOptions, MemoryState, Mode},
    identifier::Sii,
    registry::Ledger,
    server::{PirOptions, ServerOptions},
};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use super::super::{
    claims::Claimants,
    directory::{Directory, Person},
    memory::Memory,
    process::Process,
    proxy::Proxy,
    rounds::{median, rate},
    serving::{self, Serving},
    step,
};

/// Longest time that the matrices may take to make.
const READY: Duration = Duration::from_secs(600);

/// Lookups one after the other, and at once.
const ALONE: usize = 20;
const TOGETHER: usize = 8;
const LOOKUPS_TOGETHER: usize = 48;

/// Claims a second, and for how long.
const CLAIMS_PER_S: usize = 100;
const CLAIMING: Duration = Duration::from_secs(30);

/// Of how many one is looked up until it is found.
const FOLLOWED: usize = 150;

/// Callers of queries meanwhile.
const ASKING: usize = 2;

/// Whatever the machine: the server is asked to make as much as it needs.
const MEMORY_BYTES: u64 = 1 << 40;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Served {
    /// From the start of the process until queries were answered.
    pub(super) ready_s: f64,
    /// A whole lookup of one, OPRF and query in one round trip.
    pub(super) lookup_ms: f64,
    /// Lookups with eight at once.
    pub(super) lookups_per_s: f64,
    /// Bytes of a whole lookup on the wire, TLS and HTTP/2 included.
    pub(super) sent_bytes: f64,
    pub(super) received_bytes: f64,
    pub(super) server_memory: Option<Memory>,
    /// A lookup in a bucket, beside nothing and beside queries for rows.
    pub(super) bucket_ms: f64,
    pub(super) bucket_beside_queries_ms: f64,
    pub(super) following: Following,
}

/// How soon claims were found.
#[derive(Serialize)]
pub(super) struct Following {
    pub(super) claims_per_s: f64,
    pub(super) queries_per_s: f64,
    pub(super) found: usize,
    pub(super) median_s: f64,
    pub(super) longest_s: f64,
}

async fn connect(directory: &Directory, url: String, mode: Mode) -> anyhow::Result<Client> {
    let mut options = ClientOptions::new(url, directory.keyring.identity().verifying_key());
    options.ca_pem = Some(directory.tls.ca.clone().into_bytes());
    // Each lookup makes both calls.
    options.cached_answers = 0;
    options.mode = Some(mode);
    options.connections = 1;
    options.deadline = Duration::from_secs(60);
    Ok(Client::connect(options, Arc::new(MemoryState::default())).await?)
}

async fn look(client: &Client, person: &Person) -> anyhow::Result<Duration> {
    let sii = Sii::parse(&person.sii, None)?;
    let begun = Instant::now();
    let answer = client.lookup(&sii).await?;
    let took = begun.elapsed();
    let users = answer.mappings.iter().map(|found| found.ssi.user().as_str());
    ensure!(users.eq([person.user.as_str()]), "an answer is not what was loaded");
    Ok(took)
}

/// The median of lookups one after the other, in milliseconds.
async fn alone(client: &Client, people: &[Person]) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for person in people.iter().take(ALONE) {
        times.push(look(client, person).await?.as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

/// Lookups with several under way, until so many are done or `stop` says so.
async fn together(
    client: &Client,
    people: &Arc<Vec<Person>>,
    at_once: usize,
    most: usize,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<(usize, Duration)> {
    let begun = Instant::now();
    let turn = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..at_once {
        let (client, people, turn) = (client.clone(), people.clone(), turn.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while !stop.load(Ordering::Relaxed) {
                let n = turn.fetch_add(1, Ordering::Relaxed);
                let Some(person) = people.get(n % people.len()).filter(|_| n < most) else { break };
                look(&client, person).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(ended) = tasks.join_next().await {
        done += ended.context("a lookup ended early")??;
    }
    Ok((done, begun.elapsed()))
}

/// Waits until queries are answered.
async fn ready(client: &Client, person: &Person) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match look(client, person).await {
            Ok(_) => return Ok(()),
            Err(error) => {
                let early = error.downcast_ref::<ClientError>();
                if !matches!(early, Some(ClientError::Unreachable(_))) || begun.elapsed() > READY {
                    return Err(error);
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Measures on a server of its own, then on one that changes.
pub(super) async fn measure(directory: &Directory, data: &Path) -> anyhow::Result<Served> {
    step("private information retrieval over gRPC")?;
    let people = Arc::new(directory.sample(ALONE.max(LOOKUPS_TOGETHER))?);
    let person = people.first().context("there are no people")?;
    let begun = Instant::now();
    let more = format!("[pir]\nmemory_bytes = {MEMORY_BYTES}");
    let server = Process::serve_with(directory, data, &more)?;
    let proxy = Proxy::start(server.address).await?;
    let url = format!("https://{}", proxy.address);
    let client = connect(directory, url.clone(), Mode::Pir).await?;
    ready(&client, person).await?;
    let ready_s = begun.elapsed().as_secs_f64();

    let buckets = connect(directory, url, Mode::Bucket).await?;
    alone(&buckets, &people).await?;
    let bucket_ms = alone(&buckets, &people).await?;
    let before = proxy.passed();
    let lookup_ms = alone(&client, &people).await?;
    let passed = proxy.passed().since(before);
    let lookups = people.len().min(ALONE) as f64;
    let go_on = Arc::new(AtomicBool::new(false));
    let (done, took) = together(&client, &people, TOGETHER, LOOKUPS_TOGETHER, &go_on).await?;
    let lookups_per_s = rate(done, took);
    let asking = together(&client, &people, TOGETHER, usize::MAX, &go_on);
    let beside = async {
        let beside = alone(&buckets, &people).await;
        go_on.store(true, Ordering::Relaxed);
        beside
    };
    let (asked, bucket_beside_queries_ms) = tokio::join!(asking, beside);
    asked?;
    let server_memory = server.memory();
    drop(server);
    Ok(Served {
        ready_s,
        lookup_ms,
        lookups_per_s,
        sent_bytes: passed.sent as f64 / lookups,
        received_bytes: passed.received as f64 / lookups,
        server_memory,
        bucket_ms,
        bucket_beside_queries_ms: bucket_beside_queries_ms?,
        following: follow(directory, data, &people).await?,
    })
}

/// Claims at an even pace while queries run; some are looked up until they are
/// found.
async fn follow(
    directory: &Directory,
    data: &Path,
    people: &Arc<Vec<Person>>,
) -> anyhow::Result<Following> {
    step("claims, and how soon queries find them")?;
    let generations = serving::open(data).await?;
    let pir = PirOptions { memory_bytes: MEMORY_BYTES, ..PirOptions::default() };
    let options = ServerOptions { pir: Some(pir), ..ServerOptions::default() };
    let (server, buckets) = Serving::with(directory, generations.clone(), true, options).await?;
    let ledger = Ledger::open_observed(generations, directory.keyring.clone(), move |number| {
        buckets.changed(number);
    })
    .await?;
    let mut claimants = Claimants::new(directory)?;
    let taker = claimants.taker(&ledger);
    let client = connect(directory, server.url.clone(), Mode::Pir).await?;
    let person = people.first().context("there are no people")?;
    ready(&client, person).await?;

    let count = CLAIMS_PER_S * usize::try_from(CLAIMING.as_secs())?;
    let arriving = claimants.make(count).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = together(&client, people, ASKING, usize::MAX, &stop);
    let claiming = async {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_secs(1) / u32::try_from(CLAIMS_PER_S)?);
        let mut followed = JoinSet::new();
        let mut underway = JoinSet::new();
        for (n, claim) in arriving.into_iter().enumerate() {
            ticks.tick().await;
            let taker = taker.clone();
            if n % FOLLOWED != 0 {
                underway.spawn(async move { taker.take(&claim).await });
                continue;
            }
            let client = client.clone();
            followed.spawn(async move {
                taker.take(&claim).await?;
                let acknowledged = Instant::now();
                while client.lookup(&claim.sii).await?.mappings.is_empty() {
                    sleep(Duration::from_millis(100)).await;
                }
                anyhow::Ok(acknowledged.elapsed().as_secs_f64())
            });
        }
        while let Some(ended) = underway.join_next().await {
            ended.context("a claim ended early")??;
        }
        let took = begun.elapsed();
        let mut times = Vec::new();
        while let Some(ended) = followed.join_next().await {
            times.push(ended.context("a claim ended early")??);
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok((took, times))
    };
    let (asked, claimed) = tokio::join!(asking, claiming);
    let (took, times) = claimed?;
    let (asked, asking) = asked?;
    ledger.close().await?;
    server.stop().await?;
    let longest_s = times.iter().copied().reduce(f64::max).ok_or_else(|| anyhow!("no claims"))?;
    Ok(Following {
        claims_per_s: rate(count, took),
        queries_per_s: rate(asked, asking),
        found: times.len(),
        median_s: median(times),
        longest_s,
    })
}
