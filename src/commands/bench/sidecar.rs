//! Resolves through the sidecar, answered from its cache, beside a bare echo of
//! the same sizes: what the sidecar adds to what tonic costs anyway.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use blindbook::wire::proto::{
    ResolveManyRequest, ResolveRequest, ResolveResponse, resolve_many_result::Outcome,
    sidecar_service_client::SidecarServiceClient,
};
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::{
    super::now_s,
    cpu,
    directory::Directory,
    echo,
    report::Row,
    rounds::{Pace, Rounds},
    serving::{self, Serving},
    step,
};

/// Connections to each server.
const CONNECTIONS: usize = 4;

/// Calls at once over all connections.
const CONCURRENCY: usize = 64;

/// People who are asked for again and again.
const PEOPLE: usize = 1024;

/// The directory's cache, as the server has it by default.
const CACHE_BYTES: u64 = 256 << 20;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(500);

/// What was measured.
#[derive(Serialize)]
pub(super) struct Sidecar {
    connections: usize,
    concurrency: usize,
    people: usize,
    resolves_per_s: f64,
    echo_per_s: f64,
    /// Whether the answers of the last round were those of the first.
    from_cache: bool,
    /// Processor time of sidecar and client, which a shared machine's other
    /// work does not change.
    cpu: Option<Cpu>,
    #[serde(skip)]
    pub(super) ratio: f64,
}

/// Processor time for each resolve.
#[derive(Serialize)]
struct Cpu {
    us_per_resolve: f64,
    echo_us_per_resolve: f64,
    ratio: f64,
}

impl Sidecar {
    pub(super) fn rows(&self) -> Vec<Row> {
        let Self { resolves_per_s, echo_per_s, from_cache, ratio, .. } = self;
        let origin = if *from_cache { "from cache" } else { "NOT from cache" };
        let cpu = self.cpu.as_ref().map_or_else(String::new, |cpu| {
            let Cpu { us_per_resolve, echo_us_per_resolve, ratio } = cpu;
            format!("{us_per_resolve:.1} us; echo {echo_us_per_resolve:.1} us (ratio {ratio:.2})")
        });
        vec![
            Row::new(
                "resolves/s through the sidecar",
                format!("{resolves_per_s:.0} {origin}; echo {echo_per_s:.0} (ratio {ratio:.2})"),
            ),
            Row::new("processor time per resolve", cpu),
        ]
    }
}

/// Measures over loopback, as a backend asks.
pub(super) async fn measure(directory: &Directory, data: &Path) -> anyhow::Result<Sidecar> {
    step("resolves through the sidecar beside an echo")?;
    let generations = serving::open(data).await?;
    let server = Serving::directory(directory, generations, false, CACHE_BYTES).await?;
    let ours = Serving::sidecar(directory, &server.url).await?;
    let our_channels = connect(&ours).await?;
    let siis: Arc<[String]> =
        directory.sample(PEOPLE)?.into_iter().map(|person| person.sii).collect();
    let answer = fill(&our_channels, &siis).await?;
    let filled_at_s = now_s();
    let echo = echo::serve_resolves(answer).await?;
    let echo_channels = connect(&echo).await?;

    drive(&echo_channels, &siis, ROUND).await?;
    drive(&our_channels, &siis, ROUND).await?;
    let mut rates = Rounds::default();
    let mut cpu = Rounds::default();
    for round in 0..ROUNDS {
        // The second of a round may find a hotter processor.
        let (ours, echo) = if round % 2 == 0 {
            let ours = drive(&our_channels, &siis, ROUND).await?;
            (ours, drive(&echo_channels, &siis, ROUND).await?)
        } else {
            let echo = drive(&echo_channels, &siis, ROUND).await?;
            (drive(&our_channels, &siis, ROUND).await?, echo)
        };
        rates.push(ours.per_s, echo.per_s);
        if let Some((ours, echo)) = ours.per_cpu_s.zip(echo.per_cpu_s) {
            cpu.push(ours, echo);
        }
    }
    let last = resolve(&mut client(&our_channels)?, siis.first().cloned()).await?;
    drop((our_channels, echo_channels));
    for server in [ours, echo, server] {
        server.stop().await?;
    }
    Ok(Sidecar {
        connections: CONNECTIONS,
        concurrency: CONCURRENCY,
        people: siis.len(),
        resolves_per_s: rates.ours(),
        echo_per_s: rates.theirs(),
        from_cache: last.answered_at_s <= filled_at_s,
        ratio: rates.ratio(),
        cpu: (!cpu.is_empty()).then(|| Cpu {
            us_per_resolve: 1e6 / cpu.ours(),
            echo_us_per_resolve: 1e6 / cpu.theirs(),
            ratio: cpu.ratio(),
        }),
    })
}

async fn connect(server: &Serving) -> anyhow::Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(server.url.clone())?;
    let mut channels = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        channels.push(endpoint.connect().await.context("cannot connect to the own server")?);
    }
    Ok(channels)
}

fn client(channels: &[Channel]) -> anyhow::Result<SidecarServiceClient<Channel>> {
    let channel = channels.first().ok_or_else(|| anyhow!("no connection"))?;
    Ok(SidecarServiceClient::new(channel.clone()))
}

/// Asks for everybody once, so that the cache holds them; returns one answer.
async fn fill(channels: &[Channel], siis: &[String]) -> anyhow::Result<ResolveResponse> {
    let mut client = client(channels)?;
    ready(&mut client, siis).await?;
    let request = ResolveManyRequest { siis: siis.into(), ..ResolveManyRequest::default() };
    let results = client.resolve_many(request).await?.into_inner().results;
    ensure!(results.len() == siis.len(), "another number of answers came");
    let mut last = None;
    for result in results {
        match result.outcome {
            Some(Outcome::Found(found)) if !found.mappings.is_empty() => last = Some(found),
            Some(Outcome::Refusal(refusal)) => bail!("a resolve was refused: {}", refusal.message),
            _ => bail!("somebody was not found"),
        }
    }
    last.ok_or_else(|| anyhow!("there is nobody to ask for"))
}

/// Waits until the sidecar knows its directory.
async fn ready(client: &mut SidecarServiceClient<Channel>, siis: &[String]) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let begun = Instant::now();
    loop {
        match resolve(client, siis.first().cloned()).await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Resolves for `time` over all connections; returns how fast.
async fn drive(channels: &[Channel], siis: &Arc<[String]>, time: Duration) -> anyhow::Result<Pace> {
    let cpu_before = cpu::used();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (first, channel) in (0..CONCURRENCY).zip(channels.iter().cycle()) {
        let mut client = SidecarServiceClient::new(channel.clone());
        let siis = Arc::clone(siis);
        tasks.spawn(async move {
            let mut resolved = 0;
            // Each task begins elsewhere, and together they ask for all.
            let mut people = siis.iter().cycle().skip(first).step_by(CONCURRENCY + 1);
            while begun.elapsed() < time {
                resolve(&mut client, people.next().cloned()).await?;
                resolved += 1;
            }
            anyhow::Ok(resolved)
        });
    }
    let mut resolved: usize = 0;
    while let Some(task) = tasks.join_next().await {
        resolved += task.context("a resolve ended early")??;
    }
    Ok(Pace::of(resolved, begun, cpu_before))
}

/// Resolves one identifier, which must be found.
async fn resolve(
    client: &mut SidecarServiceClient<Channel>,
    sii: Option<String>,
) -> anyhow::Result<ResolveResponse> {
    let request = ResolveRequest { sii: sii.unwrap_or_default(), ..ResolveRequest::default() };
    let answer = client.resolve(request).await?.into_inner();
    ensure!(!answer.mappings.is_empty(), "somebody was not found");
    Ok(answer)
}
