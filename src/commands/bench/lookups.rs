//! Lookups through the SDK as a client makes them, over TLS: how many, how
//! fast, and how many bytes. Half are hits and half misses; every answer is
//! checked.

use std::{
    net::SocketAddr,
    path::Path,
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
use tokio::task::JoinSet;

use super::{
    directory::Directory,
    memory::Memory,
    process::Process,
    proxy::Proxy,
    report::{self, Row},
    rounds::rate,
    step,
};

const LEVELS: [usize; 3] = [1, 16, 64];

/// Most time for one level.
const TIME: Duration = Duration::from_secs(5);

/// Nobody is asked for twice by one client: it would answer from its cache.
const HITS: usize = 25_000;

/// Lookups that are counted on the wire, after connections have settled.
const COUNTED: usize = 200;
const SETTLING: usize = 20;

/// Latencies are told from a microsecond to a minute.
const MAX_US: u64 = 60_000_000;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Lookups {
    levels: Vec<Level>,
    bytes_per_lookup: Bytes,
    /// Of the server, a process of its own.
    server_memory: Option<Memory>,
}

/// One level of concurrency.
#[derive(Serialize)]
struct Level {
    concurrency: usize,
    lookups: usize,
    lookups_per_s: f64,
    p50_us: u64,
    p99_us: u64,
}

/// On the wire, TLS and HTTP/2 included.
#[derive(Serialize)]
struct Bytes {
    sent: f64,
    received: f64,
    total: f64,
}

impl Lookups {
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<_> = self
            .levels
            .iter()
            .map(|level| {
                Row::new(
                    format!("lookups/s, TLS, {} at once", level.concurrency),
                    format!(
                        "{:.0}; p50 {:.2} ms, p99 {:.2} ms",
                        level.lookups_per_s,
                        level.p50_us as f64 / 1e3,
                        level.p99_us as f64 / 1e3
                    ),
                )
            })
            .collect();
        let Bytes { sent, received, total } = self.bytes_per_lookup;
        rows.push(Row::new(
            "bytes per lookup on the wire",
            format!("{total:.0}: {sent:.0} sent, {received:.0} received"),
        ));
        rows.push(Row::new(
            "resident memory of the server",
            report::memory_text(self.server_memory),
        ));
        rows
    }
}

/// Whom to look up, and the user that must be found, if any.
struct Question {
    sii: Sii,
    user: Option<String>,
}

/// Measures every level, then the bytes.
pub(super) async fn measure(directory: &Directory, data: &Path) -> anyhow::Result<Lookups> {
    let questions = Arc::new(questions(directory)?);
    let server = Process::serve(directory, data)?;
    let mut levels = Vec::new();
    for concurrency in LEVELS {
        step(&format!("lookups, {concurrency} at once"))?;
        // A client of its own: what it caches, it does not ask again.
        let client = connect(directory, server.address).await?;
        levels.push(level(&client, &questions, concurrency).await?);
    }
    step("bytes on the wire")?;
    let bytes_per_lookup = bytes(directory, server.address, &questions).await?;
    Ok(Lookups { levels, bytes_per_lookup, server_memory: server.memory() })
}

/// People of the directory and strangers by turns, all different.
fn questions(directory: &Directory) -> anyhow::Result<Vec<Question>> {
    let mut questions = Vec::new();
    for (n, person) in directory.sample(HITS)?.into_iter().enumerate() {
        let sii = Sii::parse(&person.sii, None)?;
        questions.push(Question { sii, user: Some(person.user) });
        let sii = Sii::parse(&format!("stranger.{n}@nowhere.example"), None)?;
        questions.push(Question { sii, user: None });
    }
    Ok(questions)
}

async fn connect(directory: &Directory, server: SocketAddr) -> anyhow::Result<Client> {
    let url = format!("https://{server}");
    let mut options = ClientOptions::new(&url, directory.keyring.identity().verifying_key());
    options.ca_pem = Some(directory.tls.ca.clone().into_bytes());
    // The network is measured: both calls, each time.
    options.cached_answers = 0;
    Ok(Client::connect(options, Arc::new(MemoryState::default())).await?)
}

/// Looks up `concurrency` people at once until the time or the people are over.
async fn level(
    client: &Client,
    questions: &Arc<Vec<Question>>,
    concurrency: usize,
) -> anyhow::Result<Level> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency {
        let (client, questions, next) = (client.clone(), questions.clone(), next.clone());
        tasks.spawn(async move {
            let mut latencies = histogram()?;
            while begun.elapsed() < TIME {
                let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    break;
                };
                let asked = Instant::now();
                ask(&client, question).await?;
                let us = u64::try_from(asked.elapsed().as_micros()).unwrap_or(MAX_US);
                latencies.saturating_record(us);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = histogram()?;
    while let Some(task) = tasks.join_next().await {
        latencies.add(task.context("a lookup ended early")??)?;
    }
    let lookups = usize::try_from(latencies.len())?;
    ensure!(lookups > 0, "no lookup ended in time");
    Ok(Level {
        concurrency,
        lookups,
        lookups_per_s: rate(lookups, begun.elapsed()),
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
    })
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, MAX_US, 3)?)
}

/// Asks, and checks what comes.
async fn ask(client: &Client, question: &Question) -> anyhow::Result<()> {
    let answer = client.lookup(&question.sii).await?;
    ensure!(answer.damaged == 0, "an answer held damaged entries");
    let found: Vec<&str> = answer.mappings.iter().map(|found| found.ssi.user().as_str()).collect();
    ensure!(found.iter().copied().eq(question.user.as_deref()), "an answer was wrong");
    Ok(())
}

/// Counts the bytes of lookups, one after the other.
async fn bytes(
    directory: &Directory,
    server: SocketAddr,
    questions: &[Question],
) -> anyhow::Result<Bytes> {
    let proxy = Proxy::start(server).await?;
    let client = connect(directory, proxy.address).await?;
    let (settling, rest) = questions.split_at_checked(SETTLING).unwrap_or_default();
    for question in settling {
        ask(&client, question).await?;
    }
    let before = proxy.passed();
    let counted = rest.get(..COUNTED).unwrap_or(rest);
    for question in counted {
        ask(&client, question).await?;
    }
    let passed = proxy.passed().since(before);
    let each = |bytes: u64| bytes as f64 / counted.len().max(1) as f64;
    let (sent, received) = (each(passed.sent), each(passed.received));
    Ok(Bytes { sent, received, total: sent + received })
}
