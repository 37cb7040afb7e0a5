//! A bulk load, from its inputs to a durable directory. Whenever it is killed,
//! the same load started again ends with the same directory.
//!
//! A new directory, and one that grows into more buckets, is built whole in a
//! staged generation and takes its place in one step. Otherwise changed
//! buckets are replaced one by one, each atomically.

use std::{fmt, num::NonZeroUsize, path::PathBuf, sync::Arc, thread};

use ed25519_dalek::SigningKey;
use tokio::sync::mpsc;

use super::{
    build::Building,
    counts::{self, Totals},
    error::LoadError,
    input::Input,
    people::Tally,
    plan,
    progress::{Phase, Progress},
    providers,
    read::Reading,
    report::{Collector, LoadReport},
    row::Providers,
    source::Source,
    spill::{Leaf, Spill},
    survey::{Survey, Surveying},
    work::{self, Stop, Unit, on_thread},
};
use crate::{
    bucket::PrefixBits,
    identifier::{Provider, Region},
    keyring::Keyring,
    store::{BulkBucket, Generations, Store},
};

/// Memory for records, unless told otherwise.
const MEMORY_BYTES: usize = 256 << 20;

/// Bad lines that a report lists, unless told otherwise.
const LISTED_BAD_LINES: usize = 100_000;

/// A record in memory takes about so many times its spilled bytes.
const IN_MEMORY: usize = 4;

/// Spans that wait for the store while it writes.
const QUEUED_SPANS: usize = 4;

/// How a load is to be done.
#[derive(Clone)]
pub struct LoadOptions {
    /// Whose mappings the inputs hold.
    pub provider: Provider,
    /// The provider's key, which signs them.
    pub provider_key: SigningKey,
    /// Where phone numbers without `+` are dialled.
    pub region: Option<Region>,
    /// Whether one line that cannot be loaded refuses all of them.
    pub strict: bool,
    /// The time, in seconds since 1970.
    pub now_s: u64,
    /// A folder for temporary files, made if need be and removed again.
    pub spill_folder: PathBuf,
    /// Worker threads; as many as there are cores unless told otherwise.
    pub threads: NonZeroUsize,
    /// About how much memory records may take, however many there are.
    pub memory_bytes: usize,
    /// How many bad lines the report lists; all are counted.
    pub listed_bad_lines: usize,
}

impl LoadOptions {
    /// A load that is not strict, with a worker per core.
    #[must_use]
    pub fn new(
        provider: Provider,
        provider_key: SigningKey,
        spill_folder: PathBuf,
        now_s: u64,
    ) -> Self {
        Self {
            provider,
            provider_key,
            region: None,
            strict: false,
            now_s,
            spill_folder,
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory_bytes: MEMORY_BYTES,
            listed_bad_lines: LISTED_BAD_LINES,
        }
    }

    /// Bytes of one write buffer: each worker has 256.
    fn buffer_bytes(&self) -> usize {
        (self.memory_bytes / IN_MEMORY / self.threads.get() / 256).clamp(1 << 10, 1 << 14)
    }

    /// Bytes of a temporary file that one worker takes into memory.
    fn leaf_bytes(&self) -> u64 {
        let bytes = self.memory_bytes / IN_MEMORY / self.threads.get();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("provider", &self.provider)
            .field("strict", &self.strict)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Loads directory files into a directory. Nobody else may write to it
/// meanwhile.
///
/// Dropping the future gives the load up; it ends as if it had been killed.
/// To be awaited within a multi-threaded runtime, or one whose thread does
/// nothing else.
///
/// # Errors
/// [`LoadError::Input`], [`LoadError::Header`], [`LoadError::ProviderKey`] and
/// [`LoadError::Refused`] leave the directory unchanged. After any other error
/// the load can be started again once its cause is gone.
pub async fn load(
    generations: Arc<dyn Generations>,
    keyring: Arc<Keyring>,
    options: LoadOptions,
    inputs: Vec<Input>,
    progress: Arc<Progress>,
) -> Result<LoadReport, LoadError> {
    let stop = Stop::default();
    let _guard = stop.guard();
    let verifying_key = options.provider_key.verifying_key();
    let new_provider = providers::check(&*generations, &options.provider, &verifying_key).await?;
    let current = generations.current().await?;
    let source = current.as_ref().map(|store| Source::new(Arc::clone(store), Arc::clone(&keyring)));
    let known = match &source {
        Some(_) => counts::read(&*generations).await?,
        None => Some(Totals::default()),
    };

    let job = Arc::new(Job {
        names: inputs.iter().map(Input::name).collect(),
        bad: Collector::new(options.listed_bad_lines),
        options,
        progress,
        stop: stop.clone(),
    });
    let mut report = LoadReport::default();
    let (spill, leaves) = {
        let (job, lines) = (Arc::clone(&job), &mut report.lines);
        let (read, spill, leaves) = on_thread(move || job.read(inputs)).await?;
        *lines = read;
        (spill, leaves)
    };
    if job.options.strict && job.bad.total() > 0 {
        return Err(job.refused(report));
    }

    let survey = {
        let (job, spill, leaves) = (Arc::clone(&job), Arc::clone(&spill), Arc::clone(&leaves));
        let (source, everything) = (source.clone(), known.is_none());
        let lines = report.lines - job.bad.total();
        on_thread(move || job.survey(source.as_ref(), everything, lines, &spill, &leaves)).await?
    };
    report.superseded = survey.superseded;
    let mut totals = known.clone().unwrap_or(survey.before);

    let before = source.as_ref().map(Source::bits);
    let needed = plan::prefix_bits(totals.counts().mappings + survey.added);
    // Growth alone: a directory that shrank keeps its buckets.
    let bits = before.map_or(needed, |before| before.max(needed));
    let ours = totals.of_provider(&job.options.provider) + survey.added;
    let building = Arc::new(Building {
        keyring,
        provider: job.options.provider.clone(),
        provider_key: job.options.provider_key.clone(),
        now_s: job.options.now_s,
        bits,
        share: plan::share(ours, bits),
        source,
    });
    report.set_bits(before, bits);

    if job.options.strict {
        job.progress.begin(Phase::Checking, survey.records);
        let pass = Pass::new(&job, &building, &spill, &leaves);
        if on_thread(move || pass.run(None)).await?.refused > 0 {
            return Err(job.refused(report));
        }
    }

    job.progress.begin(Phase::Sealing, survey.records);
    let pass = Pass::new(&job, &building, &spill, &leaves);
    let target = match current.filter(|_| building.in_place()) {
        Some(current) => current,
        None => generations.stage(bits).await?,
    };
    let (sender, receiver) = mpsc::channel(QUEUED_SPANS);
    let sealing = on_thread(move || pass.run(Some(&sender)));
    let begin = async || {
        if new_provider {
            providers::record(&*generations, &job.options.provider, &verifying_key).await?;
        }
        counts::forget(&*generations).await
    };
    // Nothing of a staged generation is seen before it is promoted.
    let begin_first = building.in_place().then_some(&begin);
    let writing = write(&*target, receiver, begin_first);
    let (tally, written) = tokio::join!(sealing, writing);
    // When the store fails the workers only find that nobody listens.
    report.buckets_written = written?;
    let tally = tally?;

    job.progress.begin(Phase::Syncing, 0);
    if report.buckets_written > 0 {
        target.sync().await?;
    }
    if !building.in_place() {
        begin().await?;
        generations.promote().await?;
    }
    totals.identifiers += tally.identifiers;
    *totals.mappings.entry(job.options.provider.clone()).or_default() += tally.added;
    if report.buckets_written > 0 || known.is_none() {
        counts::write(&*generations, &totals).await?;
    }
    (report.added, report.changed, report.unchanged) =
        (tally.added, tally.changed, tally.unchanged);
    (report.mappings, report.identifiers) = (totals.counts().mappings, totals.counts().identifiers);
    report.bad = job.bad.report(&job.names);
    job.progress.begin(Phase::Done, 0);
    Ok(report)
}

/// Writes built buckets as they come; `begin` is run before the first.
async fn write(
    target: &dyn Store,
    mut built: mpsc::Receiver<Vec<BulkBucket>>,
    begin: Option<&impl AsyncFn() -> Result<(), crate::store::StoreError>>,
) -> Result<u64, LoadError> {
    let mut written = 0;
    while let Some(buckets) = built.recv().await {
        if written == 0
            && let Some(begin) = begin
        {
            begin().await?;
        }
        written += u64::try_from(buckets.len()).unwrap_or(0);
        target.bulk_put(buckets).await?;
    }
    Ok(written)
}

/// What all passes of a load share.
struct Job {
    options: LoadOptions,
    names: Vec<Arc<str>>,
    bad: Collector,
    progress: Arc<Progress>,
    stop: Stop,
}

impl Job {
    fn refused(&self, mut report: LoadReport) -> LoadError {
        report.bad = self.bad.report(&self.names);
        LoadError::Refused(Box::new(report))
    }

    #[expect(clippy::type_complexity, reason = "three results of one pass, taken apart at once")]
    fn read(&self, inputs: Vec<Input>) -> Result<(u64, Arc<Spill>, Arc<[Leaf]>), LoadError> {
        let options = &self.options;
        let spill = Spill::create(&options.spill_folder, options.buffer_bytes(), &mut rand::rng())?;
        let reading = Reading {
            provider: &options.provider,
            region: options.region,
            threads: options.threads,
            spill: &spill,
            bad: &self.bad,
            progress: &self.progress,
            stop: &self.stop,
        };
        let found = reading.run(inputs)?;
        let leaves = spill.split(found.leaves, options.leaf_bytes())?;
        Ok((found.lines, Arc::new(spill), leaves.into()))
    }

    fn survey(
        &self,
        source: Option<&Source>,
        everything: bool,
        lines: u64,
        spill: &Spill,
        leaves: &[Leaf],
    ) -> Result<Survey, LoadError> {
        self.progress.begin(Phase::Counting, lines);
        let surveying = Surveying {
            source,
            provider: &self.options.provider,
            everything,
            threads: self.options.threads,
            spill,
            progress: &self.progress,
            stop: &self.stop,
        };
        surveying.run(leaves)
    }
}

/// One pass over all records and the buckets they go to.
struct Pass {
    job: Arc<Job>,
    building: Arc<Building>,
    spill: Arc<Spill>,
    leaves: Arc<[Leaf]>,
}

impl Pass {
    fn new(
        job: &Arc<Job>,
        building: &Arc<Building>,
        spill: &Arc<Spill>,
        leaves: &Arc<[Leaf]>,
    ) -> Self {
        Self {
            job: Arc::clone(job),
            building: Arc::clone(building),
            spill: Arc::clone(spill),
            leaves: Arc::clone(leaves),
        }
    }

    /// Merges all records and sends the buckets that change; without a
    /// receiver it only finds out which records do not fit.
    fn run(&self, built: Option<&mpsc::Sender<Vec<BulkBucket>>>) -> Result<Tally, LoadError> {
        let bits = self.building.bits;
        let units = Unit::all(&self.leaves, bits);
        let job = &*self.job;
        let tallies = work::for_each(job.options.threads, &job.stop, &units, |unit| {
            self.unit(unit, bits, built)
        })?;
        let mut tally = Tally::default();
        for more in tallies {
            tally += more;
        }
        Ok(tally)
    }

    fn unit(
        &self,
        unit: &Unit<'_>,
        bits: PrefixBits,
        built: Option<&mpsc::Sender<Vec<BulkBucket>>>,
    ) -> Result<Tally, LoadError> {
        let (building, job) = (&*self.building, &*self.job);
        let (records, _) = unit.records(&self.spill)?;
        let mut providers = Providers::default();
        let mut rng = rand::rng();
        let mut tally = Tally::default();
        for span in building.spans(unit.numbers(bits)?, &records) {
            job.stop.check()?;
            let (drafts, more) =
                building.drafts(&span, &mut providers, &mut rng, |at, reason| {
                    job.bad.add(at, reason);
                    job.progress.refused(1);
                })?;
            tally += more;
            if let Some(built) = built
                && !drafts.is_empty()
            {
                let buckets = building.finish(drafts, &mut rng)?;
                built.blocking_send(buckets).map_err(|_| LoadError::Stopped)?;
            }
            let records = span.iter().map(|(_, records)| records.len()).sum::<usize>();
            job.progress.done(u64::try_from(records).unwrap_or(0));
        }
        Ok(tally)
    }
}
