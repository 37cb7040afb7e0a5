//! Bucket fetches through the real server beside a bare echo of the same sizes:
//! what the server adds to what tonic costs anyway.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use blindbook::{
    bucket::{BUCKET_BYTES, PrefixBits},
    store::Generations,
    wire::proto::{
        FetchBucketsRequest, FetchBucketsResponse, discovery_service_client::DiscoveryServiceClient,
    },
};
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::{
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

/// Buckets that are asked for: they fit the cache, and no processor's.
const CACHED_BUCKETS: u64 = 1024;

/// The server's default.
const CACHE_BYTES: u64 = 256 << 20;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);

/// What was measured.
#[derive(Serialize)]
pub(super) struct Fetch {
    connections: usize,
    concurrency: usize,
    plaintext: Setting,
    tls: Setting,
    #[serde(skip)]
    pub(super) ratio: f64,
}

/// Fetches per second under one setting of TLS.
#[derive(Serialize)]
struct Setting {
    ratio: f64,
    cached_per_s: f64,
    echo_per_s: f64,
    uncached_per_s: f64,
    /// Processor time of server and client, which a shared machine's other work
    /// does not change.
    cpu: Option<Cpu>,
}

/// Processor time for each fetch.
#[derive(Serialize)]
struct Cpu {
    us_per_fetch: f64,
    echo_us_per_fetch: f64,
    ratio: f64,
}

impl Fetch {
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |name: &str, setting: &Setting| {
            let Setting { ratio, cached_per_s, echo_per_s, uncached_per_s, cpu } = setting;
            let cpu = cpu.as_ref().map_or_else(String::new, |cpu| {
                let Cpu { us_per_fetch, echo_us_per_fetch, ratio } = cpu;
                format!("{us_per_fetch:.1} us; echo {echo_us_per_fetch:.1} us (ratio {ratio:.2})")
            });
            [
                Row::new(
                    format!("fetches/s, {name}"),
                    format!(
                        "{cached_per_s:.0} cached; echo {echo_per_s:.0} (ratio {ratio:.2}); \
                         {uncached_per_s:.0} uncached"
                    ),
                ),
                Row::new(format!("processor time per fetch, {name}"), cpu),
            ]
        };
        let settings = [("plaintext", &self.plaintext), ("TLS", &self.tls)];
        settings.into_iter().flat_map(|(name, setting)| row(name, setting)).collect()
    }
}

/// Measures without TLS, which hides nothing, and with it.
pub(super) async fn measure(directory: &Directory, data: &Path) -> anyhow::Result<Fetch> {
    let generations = serving::open(data).await?;
    let plaintext = compare(directory, &generations, false).await?;
    let tls = compare(directory, &generations, true).await?;
    Ok(Fetch {
        connections: CONNECTIONS,
        concurrency: CONCURRENCY,
        ratio: plaintext.ratio,
        plaintext,
        tls,
    })
}

/// What is asked for.
struct Wanted {
    epoch: u32,
    bits: PrefixBits,
    buckets: u64,
}

impl Wanted {
    /// The `n`th request: buckets spread over the directory, in no order that a
    /// disk would like.
    fn request(&self, n: u64) -> FetchBucketsRequest {
        // An odd factor takes every number once before it takes one twice.
        const SCATTER: u64 = 0x9e37_79b9;
        let total = self.bits.buckets();
        let scattered = (n % self.buckets).wrapping_mul(SCATTER) % total;
        let bits = u32::from(self.bits.get());
        FetchBucketsRequest {
            epoch: self.epoch,
            directory_prefix_bits: bits,
            prefix_bits: bits,
            prefixes: vec![u32::try_from(scattered).unwrap_or(0)],
        }
    }
}

async fn compare(
    directory: &Directory,
    generations: &Arc<dyn Generations>,
    tls: bool,
) -> anyhow::Result<Setting> {
    step(if tls { "fetches beside an echo, TLS" } else { "fetches beside an echo, plaintext" })?;
    let store = generations.current().await?.ok_or_else(|| anyhow!("the directory is empty"))?;
    let bits = store.prefix_bits();
    let epoch = directory.keyring.newest().get();
    let cached = Arc::new(Wanted { epoch, bits, buckets: bits.buckets().min(CACHED_BUCKETS) });
    let all = Arc::new(Wanted { epoch, bits, buckets: bits.buckets() });

    let ours = Serving::directory(directory, generations.clone(), tls, CACHE_BYTES).await?;
    let bare = Serving::directory(directory, generations.clone(), tls, 0).await?;
    let our_channels = connect(directory, &ours).await?;
    let bare_channels = connect(directory, &bare).await?;
    let answer = fill(&our_channels, &cached).await?;
    let echo = echo::serve(directory, answer, tls).await?;
    let echo_channels = connect(directory, &echo).await?;

    drive(&echo_channels, &cached, ROUND).await?;
    drive(&our_channels, &cached, ROUND).await?;
    let mut rates = Rounds::default();
    let mut cpu = Rounds::default();
    let mut uncached = Rounds::default();
    for round in 0..ROUNDS {
        // The second of a round may find a hotter processor.
        let (ours, echo) = if round % 2 == 0 {
            let ours = drive(&our_channels, &cached, ROUND).await?;
            (ours, drive(&echo_channels, &cached, ROUND).await?)
        } else {
            let echo = drive(&echo_channels, &cached, ROUND).await?;
            (drive(&our_channels, &cached, ROUND).await?, echo)
        };
        rates.push(ours.per_s, echo.per_s);
        if let Some((ours, echo)) = ours.per_cpu_s.zip(echo.per_cpu_s) {
            cpu.push(ours, echo);
        }
        uncached.push(drive(&bare_channels, &all, ROUND / 2).await?.per_s, echo.per_s);
    }
    drop((our_channels, bare_channels, echo_channels));
    for server in [ours, bare, echo] {
        server.stop().await?;
    }
    Ok(Setting {
        ratio: rates.ratio(),
        cached_per_s: rates.ours(),
        echo_per_s: rates.theirs(),
        uncached_per_s: uncached.ours(),
        cpu: (!cpu.is_empty()).then(|| Cpu {
            us_per_fetch: 1e6 / cpu.ours(),
            echo_us_per_fetch: 1e6 / cpu.theirs(),
            ratio: cpu.ratio(),
        }),
    })
}

async fn connect(directory: &Directory, server: &Serving) -> anyhow::Result<Vec<Channel>> {
    let mut endpoint = Endpoint::from_shared(server.url.clone())?;
    if server.url.starts_with("https") {
        let ca = Certificate::from_pem(&directory.tls.ca);
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(ca))?;
    }
    let mut channels = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        channels.push(endpoint.connect().await.context("cannot connect to the own server")?);
    }
    Ok(channels)
}

/// Asks for every wanted bucket once, so that the cache holds them; returns one.
async fn fill(channels: &[Channel], wanted: &Wanted) -> anyhow::Result<FetchBucketsResponse> {
    let channel = channels.first().ok_or_else(|| anyhow!("no connection"))?;
    let mut client = DiscoveryServiceClient::new(channel.clone());
    let mut last = None;
    for n in 0..wanted.buckets {
        last = Some(fetch(&mut client, wanted.request(n)).await?);
    }
    last.ok_or_else(|| anyhow!("the directory has no bucket"))
}

/// Fetches for `time` over all connections; returns how fast.
async fn drive(channels: &[Channel], wanted: &Arc<Wanted>, time: Duration) -> anyhow::Result<Pace> {
    let cpu_before = cpu::used();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (first, channel) in (0..CONCURRENCY as u64).zip(channels.iter().cycle()) {
        let mut client = DiscoveryServiceClient::new(channel.clone());
        let wanted = Arc::clone(wanted);
        tasks.spawn(async move {
            let mut fetched = 0;
            // Each task begins elsewhere, and together they ask for all.
            let mut n = first;
            while begun.elapsed() < time {
                fetch(&mut client, wanted.request(n)).await?;
                fetched += 1;
                n += CONCURRENCY as u64;
            }
            anyhow::Ok(fetched)
        });
    }
    let mut fetched: usize = 0;
    while let Some(task) = tasks.join_next().await {
        fetched += task.context("a fetch ended early")??;
    }
    Ok(Pace::of(fetched, begun, cpu_before))
}

/// Fetches one bucket, whole.
async fn fetch(
    client: &mut DiscoveryServiceClient<Channel>,
    request: FetchBucketsRequest,
) -> anyhow::Result<FetchBucketsResponse> {
    let mut stream = client.fetch_buckets(request).await?.into_inner();
    let answer = stream.message().await?.ok_or_else(|| anyhow!("an answer was empty"))?;
    let bytes = answer.bucket.as_ref().map_or(0, |bucket| bucket.entries.len());
    ensure!(bytes == BUCKET_BYTES, "a bucket of {bytes} bytes came");
    ensure!(stream.message().await?.is_none(), "more than one bucket came");
    Ok(answer)
}
