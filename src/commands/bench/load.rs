//! `registry::load` beside the arithmetic that it cannot do without, on the
//! same cores: canonicalise, bulk PRF, Ed25519 signature.

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{anyhow, ensure};
use blindbook::{
    bucket::{Audience, Mapping, SignedMapping},
    identifier::{Provider, Sii, Ssi, User},
    oprf::ServerKey,
    registry::{self, Input, LoadOptions, Progress},
    store::{SledGenerations, SledOptions},
};
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::{
    super::{load::watch, now_s},
    cpu,
    directory::{Directory, Person},
    memory::{self, Memory},
    report::{self, Row, cores},
    rounds::{Pace, Rounds},
    step,
};

/// The arithmetic is the same for each record: of more, a sample is done and
/// rates are compared.
const ARITHMETIC_RECORDS: usize = 200_000;

/// Records that a core takes at a time.
const CHUNK: usize = 512;

/// What was measured.
#[derive(Serialize)]
pub(super) struct Load {
    rounds: usize,
    seconds: f64,
    records_per_s: f64,
    /// Absent when only the load was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    arithmetic_records_per_s: Option<f64>,
    /// Processor time, which a shared machine's other work does not change.
    cpu: Option<Cpu>,
    prefix_bits: u8,
    buckets: u64,
    disk_bytes: u64,
    disk_bytes_per_record: f64,
    /// Of this process after the last load, and at most meanwhile; it holds the
    /// phone number metadata from making up people as well.
    memory: Option<Memory>,
    #[serde(skip)]
    pub(super) ratio: Option<f64>,
}

/// Processor time for each record.
#[derive(Serialize)]
struct Cpu {
    us_per_record: f64,
    arithmetic_us_per_record: f64,
    /// Of the arithmetic's to the load's: what the ratio would be if both had
    /// all cores for themselves and never waited.
    ratio: f64,
}

impl Load {
    pub(super) fn rows(&self) -> Vec<Row> {
        let arithmetic = self
            .arithmetic_records_per_s
            .map(|rate| format!("; arithmetic alone {rate:.0}"))
            .unwrap_or_default();
        vec![
            Row::new(
                "load, records/s",
                format!("{:.0}{arithmetic} ({:.1} s)", self.records_per_s, self.seconds),
            ),
            Row::new(
                "load, processor time per record",
                self.cpu.as_ref().map_or_else(
                    || "not measured".into(),
                    |Cpu { us_per_record, arithmetic_us_per_record, ratio }| {
                        format!(
                            "{us_per_record:.1} us; arithmetic {arithmetic_us_per_record:.1} us \
                             (ratio {ratio:.2})"
                        )
                    },
                ),
            ),
            Row::new(
                "directory",
                format!("{} prefix bits, {} buckets", self.prefix_bits, self.buckets),
            ),
            Row::new(
                "disk",
                format!(
                    "{}, {:.0} bytes per record",
                    report::mib(self.disk_bytes),
                    self.disk_bytes_per_record
                ),
            ),
            Row::new("resident memory while loading", report::memory_text(self.memory)),
        ]
    }
}

/// Loads into fresh folders, the arithmetic before and after each, and returns
/// the last folder. Without comparison: loads once.
pub(super) async fn measure(
    directory: &Directory,
    compare: bool,
) -> anyhow::Result<(Load, PathBuf)> {
    let rounds = match directory.records {
        _ if !compare => 1,
        0..=200_000 => 5,
        200_001..=1_000_000 => 3,
        _ => 1,
    };
    let people = if compare { directory.sample(ARITHMETIC_RECORDS)? } else { Vec::new() };
    let arithmetic = || {
        if compare { arithmetic_pace(directory, &people).map(Some) } else { Ok(None) }
    };
    memory::reset_peak();
    let mut rates = Rounds::default();
    let mut cpu = Rounds::default();
    let mut before = arithmetic()?;
    let mut round = 0;
    loop {
        step(&format!("load, round {} of {rounds}", round + 1))?;
        let data = directory.path(&format!("data-{round}"));
        let loaded = load(directory, data.clone()).await?;
        let memory = memory::now();
        let after = arithmetic()?;
        // What else the machine did, it did before, during and after.
        let around = before.zip(after).map(|(before, after)| before.mean(after));
        rates.push(loaded.pace.per_s, around.map_or(f64::NAN, |around| around.per_s));
        let per_cpu_s = around.and_then(|around| loaded.pace.per_cpu_s.zip(around.per_cpu_s));
        if let Some((ours, theirs)) = per_cpu_s {
            cpu.push(ours, theirs);
        }
        before = after;
        round += 1;
        if round < rounds {
            fs::remove_dir_all(&data)?;
            continue;
        }
        let disk_bytes = memory::disk_bytes(&data)?;
        let load = Load {
            rounds,
            seconds: directory.records as f64 / rates.ours(),
            records_per_s: rates.ours(),
            arithmetic_records_per_s: compare.then(|| rates.theirs()),
            cpu: (!cpu.is_empty()).then(|| Cpu {
                us_per_record: 1e6 / cpu.ours(),
                arithmetic_us_per_record: 1e6 / cpu.theirs(),
                ratio: cpu.ratio(),
            }),
            prefix_bits: loaded.prefix_bits,
            buckets: 1 << loaded.prefix_bits,
            disk_bytes,
            disk_bytes_per_record: disk_bytes as f64 / directory.records as f64,
            memory,
            ratio: compare.then(|| rates.ratio()),
        };
        return Ok((load, data));
    }
}

struct Loaded {
    pace: Pace,
    prefix_bits: u8,
}

/// Loads all people into a new folder.
async fn load(directory: &Directory, data: PathBuf) -> anyhow::Result<Loaded> {
    let generations = Arc::new(SledGenerations::open(&data, SledOptions::default()).await?);
    let options = LoadOptions::new(
        directory.provider.clone(),
        directory.provider_key()?,
        data.join("spill"),
        now_s(),
    );
    let counters = Arc::new(Progress::default());
    let cpu_before = cpu::used();
    let begun = Instant::now();
    let load = registry::load(
        generations,
        directory.keyring.clone(),
        options,
        vec![Input::file(&directory.people)],
        counters.clone(),
    );
    let report = watch(load, &counters).await?;
    let pace = Pace::of(directory.records, begun, cpu_before);
    ensure!(report.bad.total == 0, "{} made-up people were refused", report.bad.total);
    ensure!(report.mappings == directory.records as u64, "not everybody was loaded");
    Ok(Loaded { pace, prefix_bits: report.prefix_bits })
}

/// The arithmetic alone, on all cores.
fn arithmetic_pace(directory: &Directory, people: &[Person]) -> anyhow::Result<Pace> {
    step("the load's arithmetic alone")?;
    let keyring = &directory.keyring;
    let key =
        keyring.key(keyring.newest()).ok_or_else(|| anyhow!("the newest epoch has no key"))?;
    let provider_key = directory.provider_key()?;
    let next = AtomicUsize::new(0);
    let work = || -> anyhow::Result<()> {
        loop {
            let first = next.fetch_add(CHUNK, Ordering::Relaxed);
            let Some(rest) = people.get(first..).filter(|rest| !rest.is_empty()) else {
                return Ok(());
            };
            let chunk = rest.get(..CHUNK).unwrap_or(rest);
            black_box(publish(chunk, key, &directory.provider, &provider_key)?);
        }
    };
    let cpu_before = cpu::used();
    let begun = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().map_err(|_| anyhow!("the arithmetic ended early"))?
        })
    })?;
    Ok(Pace::of(people.len(), begun, cpu_before))
}

/// Everything about some records that takes arithmetic, and nothing else.
fn publish(
    people: &[Person],
    key: &ServerKey,
    provider: &Provider,
    provider_key: &SigningKey,
) -> anyhow::Result<usize> {
    let siis =
        people.iter().map(|person| Sii::parse(&person.sii, None)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&[u8]> = siis.iter().map(Sii::as_bytes).collect();
    let outputs = black_box(key.evaluate_many(&inputs)?);
    for (person, sii) in people.iter().zip(&siis) {
        let ssi = Ssi::new(provider.clone(), User::parse(&person.user)?)?;
        let mapping = Mapping {
            ssi,
            audience: Audience::Personal,
            default_since: 0,
            verified_until: 0,
            ttl_s: 86_400,
        };
        black_box(SignedMapping::sign(sii, mapping, provider_key));
    }
    Ok(outputs.len())
}
