//! What it costs to know who asks, and how often: lookups over mutual TLS, each
//! paid with a token, with every quota on, beside the same over plain text with
//! none.
//!
//! Blinded elements and tokens are made before the clock starts, so that the
//! client, which shares the processors, costs little beside the server.

mod tokens;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use blindbook::{
    access::{
        Alias, Partner, PartnerUri, Role,
        quota::{Limit, Limits},
    },
    bucket::BUCKET_BYTES,
    oprf::BlindedBatch,
    server::{self, Anonymous, Clock, QuotaOptions, Server, ServerOptions},
    store::Generations,
    wire::proto::{
        EvaluateRequest, FetchBucketsRequest, discovery_service_client::DiscoveryServiceClient,
    },
};
use bytes::Bytes;
use serde::Serialize;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{
    cpu,
    directory::Directory,
    report::Row,
    rounds::{Pace, Rounds},
    serving::{self, Serving, until},
    step,
};

const CONNECTIONS: usize = 4;
/// Lookups at once: enough that neither side waits for the disk, and less than the
/// queue of evaluations holds.
const CONCURRENCY: usize = 120;
const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 1;

/// Lookups of one round on each side: as many tokens are spent.
const LOOKUPS: usize = 2048;
const LOOKUPS_QUICK: usize = 256;

/// Blinded elements of one lookup, of which so many pairs are sent in turn.
const BLINDED: usize = 64;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Access {
    secured: Side,
    /// Mutual TLS and the partner's account, and no tokens.
    account: Side,
    plain: Side,
    /// Processor time of server and client.
    cpu_ratio: Option<f64>,
    token_verify_us: f64,
    /// Of the time that the secured side takes for a lookup, both processors.
    token_verify_share: Option<f64>,
    #[serde(skip)]
    pub(super) ratio: f64,
}

/// One way of asking.
#[derive(Serialize)]
struct Side {
    requests_per_s: f64,
    cpu_us_per_lookup: Option<f64>,
}

impl Access {
    pub(super) fn rows(&self) -> Vec<Row> {
        let side = |side: &Side| {
            let cpu = side.cpu_us_per_lookup.map_or_else(String::new, |us| {
                format!("; {us:.0} us of processor for each lookup, client and server")
            });
            format!("{:.0}{cpu}", side.requests_per_s)
        };
        let share = self.token_verify_share.map_or_else(String::new, |share| {
            format!(", {:.0} % of a lookup's processor time", share * 100.0)
        });
        vec![
            Row::new("requests/s, mTLS, quotas and tokens", side(&self.secured)),
            Row::new("requests/s, mTLS and quotas", side(&self.account)),
            Row::new("requests/s, plain text alone", side(&self.plain)),
            Row::new("token verification", format!("{:.1} us{share}", self.token_verify_us)),
        ]
    }
}

/// Measures both in turns.
pub(super) async fn measure(
    directory: &Directory,
    data: &Path,
    quick: bool,
) -> anyhow::Result<Access> {
    let (rounds, lookups) = if quick { (ROUNDS_QUICK, LOOKUPS_QUICK) } else { (ROUNDS, LOOKUPS) };
    step("lookups with mTLS, quotas and tokens beside plain text")?;
    let generations = serving::open(data).await?;
    let plain = Serving::directory(directory, generations.clone(), false, 256 << 20).await?;
    let secured = secured(directory, generations.clone()).await?;
    let plain_channels = connect(directory, &plain).await?;
    let secured_channels = connect(directory, &secured).await?;

    let questions = Arc::new(Questions::new(directory, &*generations).await?);
    // One round to warm up, and one for the accounts.
    let spent = (rounds + 1) * lookups;
    let issued = secured_channels.first().context("no connection")?;
    let tokens = tokens::issue(directory, issued.clone(), spent).await?;
    let (token_verify_us, tokens) = (tokens.verify_us, tokens.passes);
    let mut stock = tokens.chunks(lookups);

    let none = Arc::new(Vec::new());
    drive(&plain_channels, &questions, none.clone(), lookups).await?;
    let first = stock.next().context("too few tokens")?;
    drive(&secured_channels, &questions, Arc::new(first.to_vec()), lookups).await?;
    let (mut rates, mut processor) = (Rounds::default(), Rounds::default());
    let (mut accounts, mut accounts_cpu) = (Rounds::default(), Rounds::default());
    for round in 0..rounds {
        let tokens = Arc::new(stock.next().context("too few tokens")?.to_vec());
        let (ours, theirs) = if round % 2 == 0 {
            let ours = drive(&secured_channels, &questions, tokens, lookups).await?;
            (ours, drive(&plain_channels, &questions, none.clone(), lookups).await?)
        } else {
            let theirs = drive(&plain_channels, &questions, none.clone(), lookups).await?;
            (drive(&secured_channels, &questions, tokens, lookups).await?, theirs)
        };
        let account = drive(&secured_channels, &questions, none.clone(), lookups).await?;
        rates.push(ours.per_s, theirs.per_s);
        accounts.push(account.per_s, theirs.per_s);
        if let Some((ours, theirs)) = ours.per_cpu_s.zip(theirs.per_cpu_s) {
            processor.push(ours, theirs);
        }
        if let Some((account, theirs)) = account.per_cpu_s.zip(theirs.per_cpu_s) {
            accounts_cpu.push(account, theirs);
        }
    }
    drop((plain_channels, secured_channels));
    plain.stop().await?;
    secured.stop().await?;
    let us = |rate: f64| 1e6 / rate;
    let known = !processor.is_empty() && !accounts_cpu.is_empty();
    let secured_us = known.then(|| us(processor.ours()));
    Ok(Access {
        secured: Side { requests_per_s: 2.0 * rates.ours(), cpu_us_per_lookup: secured_us },
        account: Side {
            requests_per_s: 2.0 * accounts.ours(),
            cpu_us_per_lookup: known.then(|| us(accounts_cpu.ours())),
        },
        plain: Side {
            requests_per_s: 2.0 * rates.theirs(),
            cpu_us_per_lookup: known.then(|| us(processor.theirs())),
        },
        cpu_ratio: known.then(|| processor.ratio()),
        token_verify_us,
        token_verify_share: secured_us.map(|us| token_verify_us / us),
        ratio: rates.ratio(),
    })
}

/// The real server with everything on: client certificates, accounts, tokens.
async fn secured(
    directory: &Directory,
    generations: Arc<dyn Generations>,
) -> anyhow::Result<Serving> {
    let tls = &directory.tls;
    let tls =
        server::mutual_tls_config(tls.cert.as_bytes(), tls.key.as_bytes(), tls.ca.as_bytes())?;
    // More than is asked here: it is charged all the same.
    let roomy = Limit::new(1 << 40, 1 << 36)?;
    let quotas = QuotaOptions {
        anonymous: Anonymous::Tokens,
        partner: Limits {
            elements: roomy,
            bytes: Limit::new(1 << 46, 1 << 44)?,
            tokens: roomy,
            queries: roomy,
        },
        ..QuotaOptions::default()
    };
    let options = ServerOptions { tls: Some(tls), quotas, ..ServerOptions::default() };
    let partner = Partner {
        uri: PartnerUri::parse("spiffe://localhost/partner")?,
        alias: Alias::parse("bench")?,
        role: Role::Ap(directory.provider.clone()),
        evaluations_per_day: None,
    };
    let keyring = directory.keyring.clone();
    let server = Server::open(generations, keyring, options, Clock::system()).await?;
    let server = server.with_partners(vec![partner]).await?;
    Serving::start(true, |listener, stopped| async move {
        server.run(listener, until(stopped)).await?;
        Ok(())
    })
    .await
}

async fn connect(directory: &Directory, server: &Serving) -> anyhow::Result<Vec<Channel>> {
    let mut endpoint = Endpoint::from_shared(server.url.clone())?;
    if server.url.starts_with("https") {
        let (chain, key) = &directory.tls.partner;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&directory.tls.ca))
            .identity(Identity::from_pem(chain, key.as_bytes()));
        endpoint = endpoint.tls_config(tls)?;
    }
    let mut channels = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        channels.push(endpoint.connect().await.context("cannot connect to the own server")?);
    }
    Ok(channels)
}

/// What is asked, made ahead.
struct Questions {
    epoch: u32,
    blinded: Vec<Bytes>,
    bits: u32,
    buckets: u64,
}

impl Questions {
    async fn new(directory: &Directory, generations: &dyn Generations) -> anyhow::Result<Self> {
        let store = generations.current().await?.context("the directory is empty")?;
        let blind = |n: usize| {
            let inputs =
                [format!("acct:one{n}@bench.example"), format!("acct:two{n}@bench.example")];
            let batch = BlindedBatch::blind(&inputs, &mut rand::rng())?;
            anyhow::Ok(Bytes::from(batch.blinded_elements().to_vec()))
        };
        Ok(Self {
            epoch: directory.keyring.newest().get(),
            blinded: (0..BLINDED).map(blind).collect::<Result<_, _>>()?,
            bits: u32::from(store.prefix_bits().get()),
            buckets: store.prefix_bits().buckets(),
        })
    }

    fn requests(&self, n: usize, token: Bytes) -> (EvaluateRequest, FetchBucketsRequest) {
        let blinded = self.blinded.get(n % self.blinded.len()).cloned().unwrap_or_default();
        let evaluate =
            EvaluateRequest { epoch: self.epoch, blinded_elements: blinded, tokens: token };
        let number = u32::try_from(n as u64 % self.buckets).unwrap_or(0);
        let fetch = FetchBucketsRequest {
            epoch: self.epoch,
            directory_prefix_bits: self.bits,
            prefix_bits: self.bits,
            prefixes: vec![number],
        };
        (evaluate, fetch)
    }
}

/// Makes so many lookups, each with a token where there are any.
async fn drive(
    channels: &[Channel],
    questions: &Arc<Questions>,
    tokens: Arc<Vec<Bytes>>,
    lookups: usize,
) -> anyhow::Result<Pace> {
    let cpu_before = cpu::used();
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for (_, channel) in (0..CONCURRENCY).zip(channels.iter().cycle()) {
        let mut client = DiscoveryServiceClient::new(channel.clone());
        let (questions, tokens, next) = (questions.clone(), tokens.clone(), next.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= lookups {
                    return anyhow::Ok(());
                }
                let token = tokens.get(n).cloned().unwrap_or_default();
                let (evaluate, fetch) = questions.requests(n, token);
                let mut other = client.clone();
                let (evaluated, fetched) = tokio::join!(client.evaluate(evaluate), async {
                    let mut stream = other.fetch_buckets(fetch).await?.into_inner();
                    let first = stream.message().await?;
                    stream.message().await?;
                    Ok::<_, tonic::Status>(first)
                });
                let bucket = fetched?.and_then(|answer| answer.bucket);
                let bytes = bucket.map_or(0, |bucket| bucket.entries.len());
                ensure!(bytes == BUCKET_BYTES, "a bucket of {bytes} bytes came");
                ensure!(!evaluated?.into_inner().evaluations.is_empty(), "nothing was evaluated");
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.context("a lookup ended early")??;
    }
    Ok(Pace::of(lookups, begun, cpu_before))
}

/// A while that a measurement of one operation takes.
const SHORT: Duration = Duration::from_millis(200);
