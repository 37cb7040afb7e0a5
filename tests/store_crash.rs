//! What is acknowledged survives: a process that stores and acknowledges is
//! killed at random moments, with and without power loss, and what is left must
//! hold all that it acknowledged, and nothing by halves.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test fails by panicking, and knows its own sizes"
)]

mod store;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use blindbook::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, PrefixBits},
    epoch::Epoch,
    store::{
        BulkBucket, Committed, Generations as _, Row, SledGenerations, SledOptions, Spent, Store,
    },
};
use rand::RngExt as _;
use store::{
    bits, key, number,
    power::{self, Later},
    put, row,
};
use tempfile::TempDir;

const OPTIONS: SledOptions =
    SledOptions { cache_bytes: 16 << 20, change_log_entries: 256, group_commits: true };

/// Which part a process plays that a test has started.
const PART: &str = "BLINDBOOK_CRASH_PART";
const DATA: &str = "BLINDBOOK_CRASH_DATA";

const ROWS: u64 = 40;

/// Two buckets in each of eight tasks, spread over two partitions.
fn numbers() -> Vec<BucketNumber> {
    (0..16).map(|of| number(of % 2 * 0x1_0000 + of / 2 * 7, bits(17))).collect()
}

/// A bucket of which each version rewrites one page of eight.
fn paged(number: BucketNumber, bits: PrefixBits, version: u64) -> Bucket {
    let mut entries = vec![0; BUCKET_BYTES];
    for (page, bytes) in (0..8).zip(entries.chunks_mut(BUCKET_BYTES / 8)) {
        let wrote = (1..=version).rev().find(|wrote| wrote % 8 == page).unwrap_or(0);
        let mut hash = blake3::Hasher::new();
        hash.update(&number.get().to_be_bytes()).update(&wrote.to_be_bytes());
        hash.finalize_xof().fill(bytes);
    }
    let mut signature = [0; 64];
    signature[..8].copy_from_slice(&version.to_be_bytes());
    Bucket::from_parts(Epoch::FIRST, bits, number, version, entries.into(), signature).unwrap()
}

/// Its rows, of which each version rewrites one.
fn paged_rows(version: u64) -> Vec<Row> {
    let mut rows: Vec<_> = (0..ROWS)
        .filter_map(|name| {
            let wrote = (1..=version).rev().find(|wrote| wrote % ROWS == name)?;
            Some(row(name, wrote, 300))
        })
        .collect();
    rows.sort_by_key(|row| row.key);
    rows
}

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

fn acknowledge(what: &str, value: u64) {
    println!("\nack {what} {value}");
}

/// The process under test; does nothing when the test runner runs it.
#[test]
fn part() {
    let (Ok(part), Ok(data)) = (env::var(PART), env::var(DATA)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match part.as_str() {
            "commit" => commit_for_ever(Path::new(&data)).await,
            "promote" => promote_for_ever(Path::new(&data)).await,
            "spend" => spend_for_ever(Path::new(&data)).await,
            "fail" => commit_until_it_fails(Path::new(&data)).await,
            other => panic!("no such part: {other}"),
        }
    });
}

async fn current(generations: &SledGenerations) -> Arc<dyn Store> {
    if let Some(store) = generations.current().await.unwrap() {
        return store;
    }
    generations.stage(bits(17)).await.unwrap();
    let store = generations.promote().await.unwrap();
    acknowledge("promoted", 17);
    store
}

async fn next(store: &dyn Store, at: BucketNumber) -> Result<u64, blindbook::store::StoreError> {
    let old = store.bucket(at).await?.map_or(0, |bucket| bucket.version);
    let version = old + 1;
    let rows = vec![put(version % ROWS, version, 300)];
    let done = store.commit(paged(at, bits(17), version), old, rows).await?;
    assert!(matches!(done, Committed::Done { .. }));
    Ok(version)
}

async fn commit_for_ever(data: &Path) {
    let generations = SledGenerations::open(data, OPTIONS).await.unwrap();
    let store = current(&generations).await;
    for pair in numbers().chunks(2) {
        let (store, pair) = (Arc::clone(&store), pair.to_vec());
        tokio::spawn(async move {
            loop {
                for at in &pair {
                    let version = next(&*store, *at).await.unwrap();
                    acknowledge(&format!("bucket/{}", at.get()), version);
                }
            }
        });
    }
    for count in 1_u64.. {
        let name = format!("meta/{}", count % 5);
        let old = generations.meta_get(&name).await.unwrap();
        let old = old.map_or(0, |old| u64::from_be_bytes(old[..8].try_into().unwrap()));
        // Long enough to be split.
        let value = (old + 1).to_be_bytes().repeat(1 + 200 * (count % 5) as usize);
        generations.meta_put(&name, value).await.unwrap();
        acknowledge(&name, old + 1);
    }
}

async fn promote_for_ever(data: &Path) {
    let generations = SledGenerations::open(data, OPTIONS).await.unwrap();
    let mut turn = match generations.current().await.unwrap() {
        Some(store) => store.bucket(number(0, store.prefix_bits())).await.unwrap().unwrap().version,
        None => 0,
    };
    loop {
        turn += 1;
        let bits = bits(turn as u32 % 4);
        let store = generations.stage(bits).await.unwrap();
        let bulk = bits
            .numbers()
            .map(|at| BulkBucket { bucket: paged(at, bits, turn), rows: paged_rows(turn) });
        store.bulk_put(bulk.collect()).await.unwrap();
        store.sync().await.unwrap();
        generations.promote().await.unwrap();
        acknowledge("turn", turn);
    }
}

/// The tokens of a task's `turn`th request, and the request. So many that a few
/// groups fill the journal.
fn tokens(task: u64, turn: u64) -> (Vec<[u8; 16]>, [u8; 32]) {
    let hash = |what: u64| {
        let parts = [task, turn, what].map(u64::to_be_bytes);
        *blake3::hash(parts.as_flattened()).as_bytes()
    };
    let name = |what| hash(what)[..16].try_into().unwrap();
    ((1..=16).map(name).collect(), hash(0))
}

async fn spend_for_ever(data: &Path) {
    let generations = SledGenerations::open(data, OPTIONS).await.unwrap();
    let spent = generations.spent_tokens().await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let spent = Arc::clone(&spent);
            tokio::spawn(async move {
                for turn in 1.. {
                    let (names, request) = tokens(task, turn);
                    let outcome = spent.spend(7, names, request).await.unwrap();
                    assert_ne!(outcome, Spent::Other);
                    acknowledge(&format!("spent/{task}"), turn);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Whether all requests that were acknowledged are remembered, and no other
/// gets their tokens.
async fn remembers(data: &Path, acknowledged: &BTreeMap<String, u64>) -> Result<(), String> {
    let generations =
        SledGenerations::open(data, OPTIONS).await.map_err(|error| error.to_string())?;
    let fault = |error: blindbook::store::StoreError| error.to_string();
    let spent = generations.spent_tokens().await.map_err(fault)?;
    for (what, last) in acknowledged {
        let task = what.strip_prefix("spent/").unwrap().parse().unwrap();
        for turn in 1..=*last {
            let (names, request) = tokens(task, turn);
            let known = spent.look(7, &names, &request).map_err(fault)?;
            ensure!(known == Spent::Again, "{what}: request {turn} of {last} is {known:?}");
            let other = spent.look(7, &names, &[0; 32]).map_err(fault)?;
            ensure!(other == Spent::Other, "{what}: the tokens of {turn} are {other:?}");
        }
        // One that was on its way is there whole or not at all.
        let (names, request) = tokens(task, last + 1);
        let next = spent.look(7, &names, &request).map_err(fault)?;
        ensure!(next != Spent::Other, "{what}: request {} is there by halves", last + 1);
    }
    Ok(())
}

async fn commit_until_it_fails(data: &Path) {
    let generations = SledGenerations::open(data, OPTIONS).await.unwrap();
    let store = current(&generations).await;
    let at = numbers()[0];
    let failed = loop {
        match next(&*store, at).await {
            Ok(version) => acknowledge(&format!("bucket/{}", at.get()), version),
            Err(failed) => break failed,
        }
    };
    assert!(failed.to_string().contains("nothing was acknowledged"), "{failed}");
    // Neither taken any more nor shown: nobody knows what the disk holds.
    assert!(next(&*store, at).await.is_err());
    assert!(store.bucket(at).await.is_err());
    assert!(store.rows(at).await.is_err());
    assert!(store.changes_since(at.partition(bits(17)), 0, 1).await.is_err());
    acknowledge("refused", 1);
}

/// Starts a part, kills it after some time, and gives what it acknowledged.
fn run(
    part: &str,
    data: &Path,
    time: Option<Duration>,
    environment: &[(&str, &Path)],
) -> BTreeMap<String, u64> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "part", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .env(DATA, data)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = thread::spawn(move || {
        let mut acknowledged = BTreeMap::new();
        for line in lines.map_while(Result::ok) {
            // The last line may be cut.
            if let Some([what, value]) =
                line.strip_prefix("ack ").map(|ack| ack.split(' ').collect::<Vec<_>>()).as_deref()
                && let Ok(value) = value.parse::<u64>()
            {
                let last = acknowledged.entry((*what).to_owned()).or_insert(0);
                *last = value.max(*last);
            }
        }
        acknowledged
    });
    if let Some(time) = time {
        thread::sleep(time);
        child.kill().unwrap();
        child.wait().unwrap();
    } else {
        assert!(child.wait().unwrap().success());
    }
    reader.join().unwrap()
}

/// Whether the folder holds all that was acknowledged, and only whole versions.
async fn holds(data: &Path, acknowledged: &BTreeMap<String, u64>) -> Result<(), String> {
    let generations =
        SledGenerations::open(data, OPTIONS).await.map_err(|error| error.to_string())?;
    let fault = |error: blindbook::store::StoreError| error.to_string();
    for (what, at_least) in acknowledged {
        if let Some(name) = what.strip_prefix("meta/") {
            let value = generations.meta_get(&format!("meta/{name}")).await.map_err(fault)?;
            let value = value.ok_or(format!("{what} is lost"))?;
            let words: Vec<_> = value.as_chunks::<8>().0.to_vec();
            ensure!(words.iter().all(|word| *word == words[0]), "{what} is a mixture");
            let stored = u64::from_be_bytes(words[0]);
            ensure!((*at_least..=at_least + 1).contains(&stored), "{what}: {stored} < {at_least}");
        }
    }
    let Some(store) = generations.current().await.map_err(fault)? else {
        ensure!(!acknowledged.keys().any(|what| !what.starts_with("meta/")), "nothing is left");
        return Ok(());
    };
    let mut newest = BTreeMap::new();
    for partition in 0..2 {
        let end = store.changes_since(partition, u64::MAX, 1).await.map_err(fault)?.checkpoint;
        let after = end.saturating_sub(200);
        let changes = store.changes_since(partition, after, 1000).await.map_err(fault)?.changes;
        newest.extend(changes.iter().map(|change| (change.number, change.version)));
    }
    for at in numbers() {
        let read = store.bucket(at).await.map_err(fault)?;
        let rows = store.rows(at).await.map_err(fault)?;
        let version = read.as_ref().map_or(0, |read| read.version);
        let least = acknowledged.get(&format!("bucket/{}", at.get())).copied().unwrap_or(0);
        ensure!((least..=least + 1).contains(&version), "version {version}, acknowledged {least}");
        ensure!(rows.version == version, "rows of {}, bucket of {version}", rows.version);
        ensure!(rows.rows == paged_rows(version), "the rows of version {version} are not whole");
        ensure!(
            read.is_none_or(|read| read == paged(at, bits(17), version)),
            "version {version} is not whole"
        );
        let logged = newest.get(&at).copied();
        ensure!(
            logged.is_none_or(|logged| logged == version),
            "{logged:?} logged, {version} there"
        );
        ensure!(version == 0 || logged.is_some() || newest.len() >= 8, "not logged");
    }
    Ok(())
}

async fn holds_a_turn(data: &Path, acknowledged: &BTreeMap<String, u64>) -> Result<u64, String> {
    let generations =
        SledGenerations::open(data, OPTIONS).await.map_err(|error| error.to_string())?;
    let fault = |error: blindbook::store::StoreError| error.to_string();
    let least = acknowledged.get("turn").copied().unwrap_or(0);
    let Some(store) = generations.current().await.map_err(fault)? else {
        ensure!(least == 0, "nothing is left of turn {least}");
        return Ok(0);
    };
    let bits = store.prefix_bits();
    let mut turn = None;
    for at in bits.numbers() {
        let read = store.bucket(at).await.map_err(fault)?.ok_or("a bucket is lost")?;
        let turn = *turn.get_or_insert(read.version);
        ensure!(read == paged(at, bits, turn), "a bucket is not whole");
        ensure!(store.rows(at).await.map_err(fault)?.rows == paged_rows(turn), "rows differ");
    }
    let turn = turn.unwrap_or(0);
    ensure!((least..=least + 1).contains(&turn), "turn {turn}, acknowledged {least}");
    ensure!(turn as u32 % 4 == u32::from(bits.get()), "the bits of another turn");
    Ok(turn)
}

fn wait_for<T>(check: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(check)
}

fn some_time(most_ms: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(30..most_ms))
}

#[test]
fn killed_while_committing_nothing_acknowledged_is_lost() {
    let data = TempDir::new().unwrap();
    let mut all = BTreeMap::new();
    for round in 0..8 {
        let acknowledged = run("commit", data.path(), Some(some_time(900)), &[]);
        all.extend(acknowledged);
        wait_for(holds(data.path(), &all)).unwrap_or_else(|lost| panic!("round {round}: {lost}"));
        // What was on its way when the process was killed may be there.
        wait_for(async {
            let generations = SledGenerations::open(data.path(), OPTIONS).await.unwrap();
            if let Some(store) = generations.current().await.unwrap() {
                for at in numbers() {
                    let version = store.rows(at).await.unwrap().version;
                    all.insert(format!("bucket/{}", at.get()), version);
                }
            }
            for (name, value) in generations.meta_list("meta/").await.unwrap() {
                all.insert(name, u64::from_be_bytes(value[..8].try_into().unwrap()));
            }
            Ok(())
        })
        .unwrap();
    }
    assert!(all.values().sum::<u64>() > 100, "hardly anything was committed");
}

#[test]
fn killed_while_promoting_one_generation_or_the_other_is_whole() {
    let data = TempDir::new().unwrap();
    let mut all = BTreeMap::new();
    for round in 0..8 {
        all.extend(run("promote", data.path(), Some(some_time(700)), &[]));
        let turn = wait_for(holds_a_turn(data.path(), &all))
            .unwrap_or_else(|lost| panic!("round {round}: {lost}"));
        all.insert("turn".to_owned(), turn);
    }
    assert!(all["turn"] > 8, "hardly anything was promoted");
}

#[test]
fn killed_while_spending_every_spent_token_is_remembered() {
    let data = TempDir::new().unwrap();
    let mut all = BTreeMap::new();
    let spent = |all: &BTreeMap<String, u64>| all.values().sum::<u64>();
    let mut round = 0;
    // More rounds where the disk takes its time.
    while round < 6 || spent(&all) <= 100 && round < 60 {
        all.extend(run("spend", data.path(), Some(some_time(1200)), &[]));
        wait_for(remembers(data.path(), &all))
            .unwrap_or_else(|lost| panic!("round {round}: {lost}"));
        round += 1;
    }
    assert!(spent(&all) > 100, "hardly anything was spent");
}

/// A part that ran with the power-loss library, and what it acknowledged.
struct PowerLoss {
    root: TempDir,
    acknowledged: BTreeMap<String, u64>,
}

impl PowerLoss {
    fn run(part: &str, time: Option<Duration>, more: &[(&str, &Path)]) -> Self {
        let root = TempDir::new().unwrap();
        let folder = root.path().canonicalize().unwrap();
        let shim = power::build_shim(&folder);
        let (data, shadow) = (folder.join("data"), folder.join("shadow"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&shadow).unwrap();
        let mut environment =
            vec![("LD_PRELOAD", &*shim), ("SHIM_ROOT", &*data), ("SHIM_SHADOW", &*shadow)];
        environment.extend_from_slice(more);
        let acknowledged = run(part, &data, time, &environment);
        Self { root, acknowledged }
    }

    fn left(&self, later: &Later, name: &str) -> std::path::PathBuf {
        let folder = self.root.path().canonicalize().unwrap();
        let to = folder.join(name);
        power::after_power_loss(&folder.join("data"), &folder.join("shadow"), later, &to);
        to
    }
}

#[test]
fn after_a_power_loss_everything_acknowledged_is_there() {
    let mut total = 0;
    for (round, most_ms) in [150, 300, 900, 1500, 1500].into_iter().enumerate() {
        let lost = PowerLoss::run("commit", Some(some_time(most_ms)), &[]);
        total += lost.acknowledged.values().sum::<u64>();
        wait_for(holds(&lost.left(&Later::Nothing, "nothing"), &lost.acknowledged))
            .unwrap_or_else(|what| panic!("round {round}: {what}"));
        for seed in 0..6 {
            let left = lost.left(&Later::Some(seed), &format!("some-{seed}"));
            wait_for(holds(&left, &lost.acknowledged))
                .unwrap_or_else(|what| panic!("round {round}, seed {seed}: {what}"));
        }
    }
    assert!(total > 100, "hardly anything was committed: {total}");
}

#[test]
fn after_a_power_loss_one_generation_or_the_other_is_whole() {
    for (round, most_ms) in [200, 700, 1200].into_iter().enumerate() {
        let lost = PowerLoss::run("promote", Some(some_time(most_ms)), &[]);
        wait_for(holds_a_turn(&lost.left(&Later::Nothing, "nothing"), &lost.acknowledged))
            .unwrap_or_else(|what| panic!("round {round}: {what}"));
        for seed in 0..4 {
            let left = lost.left(&Later::Some(seed), &format!("some-{seed}"));
            wait_for(holds_a_turn(&left, &lost.acknowledged))
                .unwrap_or_else(|what| panic!("round {round}, seed {seed}: {what}"));
        }
    }
}

#[test]
fn after_a_power_loss_every_spent_token_is_remembered() {
    let mut total = 0;
    for (round, most_ms) in [200, 700, 1200].into_iter().enumerate() {
        let lost = PowerLoss::run("spend", Some(some_time(most_ms)), &[]);
        total += lost.acknowledged.values().sum::<u64>();
        wait_for(remembers(&lost.left(&Later::Nothing, "nothing"), &lost.acknowledged))
            .unwrap_or_else(|what| panic!("round {round}: {what}"));
        for seed in 0..4 {
            let left = lost.left(&Later::Some(seed), &format!("some-{seed}"));
            wait_for(remembers(&left, &lost.acknowledged))
                .unwrap_or_else(|what| panic!("round {round}, seed {seed}: {what}"));
        }
    }
    assert!(total > 50, "hardly anything was spent: {total}");
}

/// The proof that the tests above can fail: with sled's own flush alone, or
/// with the folders left out, data is lost.
#[test]
fn without_our_syncs_a_power_loss_loses_acknowledged_data() {
    for ignored in ["fdatasync", "folders"] {
        let time = Some(Duration::from_millis(1200));
        let lost = PowerLoss::run("commit", time, &[("SHIM_IGNORE", Path::new(ignored))]);
        assert!(lost.acknowledged.values().sum::<u64>() > 20);
        let left = wait_for(holds(&lost.left(&Later::Nothing, "nothing"), &lost.acknowledged));
        assert!(left.is_err(), "nothing was lost without {ignored}");
    }
}

#[test]
fn after_a_failed_sync_nothing_more_is_acknowledged() {
    let lost = PowerLoss::run("fail", None, &[("SHIM_FAIL_AFTER", Path::new("25"))]);
    assert_eq!(lost.acknowledged.get("refused"), Some(&1));
    assert!(lost.acknowledged.len() == 3, "{:?}", lost.acknowledged);
    wait_for(holds(&lost.left(&Later::Nothing, "nothing"), &lost.acknowledged)).unwrap();
}

#[test]
fn rows_of_a_version_are_as_the_process_under_test_writes_them() {
    let rows = paged_rows(41);
    assert_eq!(rows.len(), 40);
    assert!(rows.contains(&row(1, 41, 300)) && rows.iter().any(|row| row.key == key(0)));
}
