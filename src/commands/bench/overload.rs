//! Ten times as much as the server can do: how much of it is still done.
//!
//! The server is a process of its own, on one processor where the system lets us
//! choose; the load comes from one thread. A unit of work is a batch of elements,
//! two for each lookup: a refusal costs the server the same whatever it refuses,
//! so that the ratio is told for each size that there is. At saturation as many wait
//! as keep the server busy; in the overload requests come on time, ten times as
//! many as were answered at saturation, whatever becomes of those before. Once all
//! are sent, as by callers that heed no refusal; and once each goes through the
//! throttle of a client, which keeps some back. Goodput counts what is answered
//! within a second.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, ensure};
use blindbook::{
    client::Throttle,
    oprf::BlindedBatch,
    wire::{
        ELEMENT_BATCHES, ELEMENT_BYTES,
        proto::{EvaluateRequest, discovery_service_client::DiscoveryServiceClient},
    },
};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{
    cpu,
    directory::Directory,
    memory::Memory,
    process::Process,
    report::{self, Row},
    rounds::{Rounds, rate},
    step,
};

/// Elements of the batch that counts: that of an address book of 17 to 64 people.
const COUNTED: usize = 128;

const CONNECTIONS: usize = 24;

/// Those of one client, unless it is told otherwise.
const CONNECTIONS_OF_CLIENT: usize = 4;

/// Requests that wait at saturation, and their elements: no more than are done in
/// time.
const SATURATING: usize = 32;
const ELEMENTS_SATURATING: usize = 4096;

/// How much more than it can do the server is asked.
const TIMES: f64 = 10.0;

/// What counts is measured more often than what is told beside it.
const ROUNDS_COUNTED: usize = 9;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(2);
const ROUND_QUICK: Duration = Duration::from_millis(200);

/// How often requests of the overload are sent.
const TICK: Duration = Duration::from_millis(2);

/// A load that takes so much of its processor is late itself.
const ALL_BUSY: f64 = 0.95;

/// Later answers count as none.
const DEADLINE: Duration = Duration::from_secs(1);

/// Latencies are told from a microsecond to a minute.
const MAX_US: u64 = 60_000_000;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Overload {
    /// Whether the server had a processor of its own.
    pinned: bool,
    batches: Vec<OfBatches>,
    /// Of the batches that count, by callers that heed nothing.
    #[serde(skip)]
    pub(super) ratio: f64,
    /// The least of all batches, by clients.
    #[serde(skip)]
    pub(super) throttled_ratio: f64,
}

/// What was measured with batches of one size.
#[derive(Serialize)]
struct OfBatches {
    elements_per_request: usize,
    saturation_per_s: f64,
    memory_saturated: Option<Memory>,
    memory_overloaded: Option<Memory>,
    /// By callers that heed no refusal.
    heedless: OfOverload,
    /// By clients.
    throttled: OfOverload,
}

/// What came of ten times too much.
#[derive(Serialize)]
struct OfOverload {
    goodput_vs_saturation: f64,
    offered_per_s: f64,
    goodput_per_s: f64,
    refused_per_s: f64,
    /// By the client itself: they never went out.
    kept_back_per_s: f64,
    /// Neither answered nor refused in time.
    late_per_s: f64,
    /// With their connection, as the server closes those whose peers give calls up
    /// in masses.
    cut_off_per_s: f64,
    refusal_p50_us: u64,
    refusal_p99_us: u64,
    /// How much of a processor the load itself took: near 1 the server was asked
    /// less than it says, and what is late may be so for that.
    load_busy: Option<f64>,
}

impl OfOverload {
    fn of(rounds: &[Round], rates: &Rounds) -> anyhow::Result<Self> {
        let mut refusals = Histogram::<u64>::new_with_bounds(1, MAX_US, 3)?;
        for round in rounds {
            refusals.add(&round.refusals)?;
        }
        let per_s = |count: fn(&Round) -> usize| {
            let all: f64 = rounds.iter().map(|round| rate(count(round), round.time)).sum();
            all / rounds.len() as f64
        };
        let busy: Option<f64> = rounds.iter().map(|round| round.busy).sum();
        Ok(Self {
            goodput_vs_saturation: rates.ratio(),
            offered_per_s: per_s(|round| round.offered),
            goodput_per_s: rates.ours(),
            refused_per_s: per_s(|round| round.refused),
            kept_back_per_s: per_s(|round| round.kept_back),
            late_per_s: per_s(|round| round.late),
            cut_off_per_s: per_s(|round| round.cut_off),
            refusal_p50_us: refusals.value_at_quantile(0.5),
            refusal_p99_us: refusals.value_at_quantile(0.99),
            load_busy: busy.map(|busy| busy / rounds.len() as f64),
        })
    }

    fn row(&self, whose: &str) -> Row {
        Row::new(
            format!("{whose}, at {:.0} offered/s", self.offered_per_s),
            format!(
                "{:.0} answered in time ({:.2}), {:.0} refused (p50 {:.2} ms, p99 {:.2} ms), \
                 {:.0} kept back, {:.0} late, {:.0} cut off{}",
                self.goodput_per_s,
                self.goodput_vs_saturation,
                self.refused_per_s,
                self.refusal_p50_us as f64 / 1e3,
                self.refusal_p99_us as f64 / 1e3,
                self.kept_back_per_s,
                self.late_per_s,
                self.cut_off_per_s,
                if self.load_busy.is_some_and(|busy| busy > ALL_BUSY) {
                    "; the load itself fell behind"
                } else {
                    ""
                }
            ),
        )
    }
}

impl Overload {
    pub(super) fn rows(&self) -> Vec<Row> {
        let server = if self.pinned { "on one processor" } else { "not pinned: no taskset" };
        let mut rows = vec![Row::new("server", server)];
        rows.extend(self.batches.iter().flat_map(OfBatches::rows));
        rows
    }
}

impl OfBatches {
    fn rows(&self) -> [Row; 5] {
        [
            Row::new(
                format!("batches of {}/s at saturation", self.elements_per_request),
                format!("{:.0}", self.saturation_per_s),
            ),
            self.heedless.row("heedless callers"),
            self.throttled.row("clients"),
            Row::new("memory of the server", report::memory_text(self.memory_saturated)),
            Row::new("the same, overloaded", report::memory_text(self.memory_overloaded)),
        ]
    }
}

/// What became of the requests of one round.
struct Round {
    offered: usize,
    kept_back: usize,
    answered: usize,
    refused: usize,
    late: usize,
    cut_off: usize,
    refusals: Histogram<u64>,
    time: Duration,
    busy: Option<f64>,
}

impl Round {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            offered: 0,
            kept_back: 0,
            answered: 0,
            refused: 0,
            late: 0,
            cut_off: 0,
            refusals: Histogram::new_with_bounds(1, MAX_US, 3)?,
            time: Duration::ZERO,
            busy: None,
        })
    }

    fn take(&mut self, outcome: Result<(), Refused>) -> anyhow::Result<()> {
        match outcome {
            Ok(()) => self.answered += 1,
            Err(Refused::Busy(took)) => {
                self.refused += 1;
                let us = u64::try_from(took.as_micros())?.clamp(1, MAX_US);
                self.refusals.record(us)?;
            }
            Err(Refused::Late) => self.late += 1,
            Err(Refused::CutOff) => self.cut_off += 1,
            Err(Refused::Else(error)) => return Err(error),
        }
        Ok(())
    }
}

/// Why a request was not answered.
enum Refused {
    Busy(Duration),
    Late,
    CutOff,
    Else(anyhow::Error),
}

/// Measures on a server of its own.
pub(super) fn measure(directory: &Directory, data: &Path, quick: bool) -> anyhow::Result<Overload> {
    step("ten times as much as the server can do")?;
    let (server, pinned) = Process::serve_on_one(directory, data)?;
    let measure = |elements| measure_with(directory, &server, elements, quick);
    let batches = ELEMENT_BATCHES.into_iter().map(measure).collect::<anyhow::Result<Vec<_>>>()?;
    let counted = batches.iter().find(|of| of.elements_per_request == COUNTED);
    let ratio = counted.map_or(f64::NAN, |of| of.heedless.goodput_vs_saturation);
    let throttled = batches.iter().map(|of| of.throttled.goodput_vs_saturation);
    // One that is no number stays what it is.
    let least = |least: f64, ratio| if least.is_nan() || least < ratio { least } else { ratio };
    let throttled_ratio = throttled.reduce(least).unwrap_or(f64::NAN);
    Ok(Overload { pinned, batches, ratio, throttled_ratio })
}

fn measure_with(
    directory: &Directory,
    server: &Process,
    elements_per_request: usize,
    quick: bool,
) -> anyhow::Result<OfBatches> {
    let url = format!("https://{}", server.address);
    let ca = directory.tls.ca.clone();
    let epoch = directory.keyring.newest().get();
    let inputs: Vec<String> =
        (0..elements_per_request).map(|n| format!("acct:u{n}@bench.example")).collect();
    let blinded = BlindedBatch::blind(&inputs, &mut rand::rng())?;
    let elements = blinded.blinded_elements().to_vec();
    let request =
        EvaluateRequest { epoch, blinded_elements: elements.into(), ..EvaluateRequest::default() };

    let (rounds, round) = match elements_per_request {
        _ if quick => (1, ROUND_QUICK),
        COUNTED => (ROUNDS_COUNTED, ROUND),
        _ => (ROUNDS, ROUND),
    };
    let (sender, told) = std::sync::mpsc::channel();
    // One thread, so that it leaves the server its processor.
    let load = thread::spawn(move || -> anyhow::Result<[(Rounds, Vec<Round>); 2]> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let clients = connect(&url, &ca).await?;
            saturate(&clients, &request, round).await?;
            let mut all: [(Rounds, Vec<Round>); 2] = Default::default();
            for _ in 0..rounds {
                let saturated = saturate(&clients, &request, round).await?;
                let per_s = rate(saturated.answered, saturated.time);
                ensure!(saturated.refused == 0, "a saturated server refused");
                ensure!(saturated.cut_off == 0, "a saturated server closed a connection");
                sender.send(())?;
                for (throttled, (rates, overloads)) in [false, true].into_iter().zip(&mut all) {
                    let callers = callers(&clients, throttled);
                    let overload = overload(&callers, &request, per_s * TIMES, round).await?;
                    rates.push(rate(overload.answered, overload.time), per_s);
                    overloads.push(overload);
                    if !throttled {
                        sender.send(())?;
                    }
                }
            }
            Ok(all)
        })
    });
    let (mut at_saturation, mut at_overload) = (None, None);
    while told.recv().is_ok() {
        at_saturation = at_saturation.or_else(|| server.memory());
        if told.recv().is_ok() {
            at_overload = server.memory();
        }
    }
    let [heedless, throttled] = load.join().map_err(|_| anyhow!("the load ended early"))??;
    let (rates, overloads) = heedless;
    Ok(OfBatches {
        elements_per_request,
        saturation_per_s: rates.theirs(),
        memory_saturated: at_saturation,
        memory_overloaded: at_overload,
        heedless: OfOverload::of(&overloads, &rates)?,
        throttled: OfOverload::of(&throttled.1, &throttled.0)?,
    })
}

type Clients = Vec<DiscoveryServiceClient<Channel>>;

async fn connect(url: &str, ca: &str) -> anyhow::Result<Clients> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let endpoint = Endpoint::from_shared(url.to_owned())?.tls_config(tls)?;
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let channel = endpoint.connect().await.context("cannot connect to the own server")?;
        clients.push(DiscoveryServiceClient::new(channel));
    }
    Ok(clients)
}

/// A connection, and what the client that it is of keeps back.
type Caller = (DiscoveryServiceClient<Channel>, Option<Arc<Throttle>>);

fn callers(clients: &Clients, throttled: bool) -> Vec<Caller> {
    let of_client = clients.chunks(CONNECTIONS_OF_CLIENT).flat_map(|connections| {
        let throttle = throttled.then(Arc::<Throttle>::default);
        connections.iter().map(move |connection| (connection.clone(), throttle.clone()))
    });
    of_client.collect()
}

async fn evaluate(
    mut client: DiscoveryServiceClient<Channel>,
    request: EvaluateRequest,
) -> Result<(), Refused> {
    let begun = Instant::now();
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    match client.evaluate(request).await {
        Ok(_) if begun.elapsed() <= DEADLINE => Ok(()),
        Ok(_) => Err(Refused::Late),
        Err(status) => match status.code() {
            Code::ResourceExhausted => Err(Refused::Busy(begun.elapsed())),
            // The client gives up by itself when the time has passed.
            Code::DeadlineExceeded | Code::Cancelled => Err(Refused::Late),
            // What a client makes of a connection that ends beneath a call.
            Code::Unknown | Code::Unavailable => Err(Refused::CutOff),
            _ => Err(Refused::Else(status.into())),
        },
    }
}

/// As many at once as keep the server busy, for `time`.
async fn saturate(
    clients: &Clients,
    request: &EvaluateRequest,
    time: Duration,
) -> anyhow::Result<Round> {
    let begun = Instant::now();
    let mut round = Round::new()?;
    let mut tasks = JoinSet::new();
    let elements = request.blinded_elements.len() / ELEMENT_BYTES;
    let waiting = SATURATING.min(ELEMENTS_SATURATING / elements.max(1));
    for (_, client) in (0..waiting).zip(clients.iter().cycle()) {
        let (client, request) = (client.clone(), request.clone());
        tasks.spawn(async move {
            let mut outcomes = Vec::new();
            while begun.elapsed() < time {
                outcomes.push(evaluate(client.clone(), request.clone()).await);
            }
            outcomes
        });
    }
    while let Some(outcomes) = tasks.join_next().await {
        for outcome in outcomes.context("a request ended early")? {
            round.offered += 1;
            round.take(outcome)?;
        }
    }
    round.time = begun.elapsed();
    Ok(round)
}

/// So many a second for `time`, whatever becomes of them.
async fn overload(
    callers: &[Caller],
    request: &EvaluateRequest,
    per_s: f64,
    time: Duration,
) -> anyhow::Result<Round> {
    let (begun, cpu_before) = (Instant::now(), cpu::of_thread());
    let mut round = Round::new()?;
    let mut tasks = JoinSet::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut callers = callers.iter().cycle();
    while begun.elapsed() < time {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                let due = begun.elapsed().as_secs_f64() * per_s;
                while (round.offered as f64) < due {
                    round.offered += 1;
                    let (client, throttle) = callers.next().context("no connection")?.clone();
                    if throttle.as_ref().is_some_and(|throttle| !throttle.admits()) {
                        round.kept_back += 1;
                        continue;
                    }
                    let asking = evaluate(client, request.clone());
                    tasks.spawn(async move {
                        let outcome = asking.await;
                        match (throttle, &outcome) {
                            (Some(throttle), Ok(())) => throttle.answered(),
                            (Some(throttle), Err(Refused::Busy(_))) => throttle.refused(),
                            _ => {}
                        }
                        outcome
                    });
                }
            }
            Some(outcome) = tasks.join_next() => {
                round.take(outcome.context("a request ended early")?)?;
            }
        }
    }
    // What is answered after the end of the round was not answered in it.
    round.time = begun.elapsed();
    let used = cpu_before.zip(cpu::of_thread()).map(|(before, after)| after.saturating_sub(before));
    round.busy = used.map(|used| used.as_secs_f64() / round.time.as_secs_f64());
    let counted = (round.answered, round.refused);
    while let Some(outcome) = tasks.join_next().await {
        round.take(outcome.context("a request ended early")?)?;
    }
    (round.answered, round.refused) = counted;
    Ok(round)
}
