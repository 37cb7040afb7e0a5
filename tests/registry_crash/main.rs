//! What the registry acknowledged survives: a process with several writers is
//! killed at random moments of claims, renewals, releases, ports, changes of
//! preference and sweeps. Each acknowledged operation must be there, each other
//! one wholly or not at all, its used proof with it; registry and buckets agree.
//!
//! `BLINDBOOK_CRASH_ROUNDS` says how often it is killed.
#![cfg(feature = "server")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, knows its own sizes, and tells what it did"
)]

mod model;
mod operation;
mod oracle;
mod worker;
mod world;

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use blindbook::{
    registry::{Claimed, Ledger, LedgerError, verify_directory},
    store::SledGenerations,
};
use rand::RngExt as _;

use self::{
    model::Model,
    operation::Operation,
    oracle::{Line, Oracle},
    world::{OPTIONS, World},
};

/// Kills in an ordinary run.
const ROUNDS: usize = 60;

/// Kills of one directory: then another is made, so that simulated time does not
/// outrun what its mappings are verified for.
const ROUNDS_PER_DIRECTORY: usize = 20;

/// Tells a process that it is to be killed, and where it works.
const ROOT: &str = "BLINDBOOK_CRASH_ROOT";
const START_S: &str = "BLINDBOOK_CRASH_START_S";

/// The process under test; does nothing when the test runner runs it.
#[test]
fn part() {
    let (Ok(root), Ok(start_s)) = (env::var(ROOT), env::var(START_S)) else { return };
    runtime().block_on(worker::work_for_ever(Path::new(&root), start_s.parse().unwrap()));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// Runs the part until it is killed.
fn kill_at_random(root: &Path, start_s: u64) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "part", "--nocapture", "--test-threads=1"])
        .env(ROOT, root)
        .env(START_S, start_s.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut rng = rand::rng();
    // Some are killed while they open the directory, most while they write.
    if !rng.random_ratio(1, 8) {
        let begun = Instant::now();
        while Oracle::length(root) == 0 && begun.elapsed() < Duration::from_secs(60) {
            assert_eq!(child.try_wait().unwrap(), None, "the part ended by itself");
            thread::sleep(Duration::from_millis(2));
        }
    }
    thread::sleep(Duration::from_micros(rng.random_range(0..300_000)));
    assert_eq!(child.try_wait().unwrap(), None, "the part ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What `docs/durability.md` looks at from outside: one claim between two lines.
#[test]
fn one_claim() {
    let folder = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let world = World::make(folder.path()).await;
        let generations = SledGenerations::open(world.data(), OPTIONS).await.unwrap();
        let ledger = Ledger::open(Arc::new(generations), world.keyring()).await.unwrap();
        let start_s = Model::default().now_s();
        // The first change of a process also notes that totals are out of date.
        for of in 0..2 {
            let claim = world.claim(of, &world.prove(of, 0, start_s).await).await;
            println!("begun");
            assert_eq!(ledger.claim(start_s, claim).await.unwrap(), Claimed::New);
            println!("acknowledged");
        }
    });
}

/// What the rounds came to.
#[derive(Default, Debug)]
struct Tally {
    acknowledged: usize,
    refused: usize,
    under_way: usize,
    of_those_done: usize,
    proofs_used: usize,
}

/// Takes the operations that were answered into the model, and returns those
/// that were under way.
fn follow(model: &mut Model, lines: Vec<Line>, tally: &mut Tally) -> BTreeMap<usize, Operation> {
    let mut under_way = BTreeMap::new();
    for line in lines {
        match line {
            Line::Begun { writer, operation } => drop(under_way.insert(writer, operation)),
            Line::Answered { writer, refusal } => {
                let operation: Operation = under_way.remove(&writer).unwrap();
                let expected = model.apply(&operation);
                assert_eq!(refusal, expected.err(), "{operation:?} was answered otherwise");
                tally.acknowledged += usize::from(refusal.is_none());
                tally.refused += usize::from(refusal.is_some());
            }
        }
    }
    under_way
}

/// Holds what is left of a directory against the model; the model then knows
/// what became of the operations that were under way.
async fn check(
    world: &World,
    model: &mut Model,
    under_way: BTreeMap<usize, Operation>,
    tally: &mut Tally,
) {
    let generations = SledGenerations::open(world.data(), OPTIONS).await.unwrap();
    let generations = Arc::new(generations);
    let found = verify_directory(&*generations, world.keyring(), |_| {}).await.unwrap();
    assert_eq!((found.faulty, found.faults), (0, vec![]));
    let ledger = Ledger::open(generations, world.keyring()).await.unwrap();
    let listed = world.listed(&ledger).await;

    for operation in under_way.into_values() {
        tally.under_way += 1;
        let mut after = model.clone();
        let done = after.apply(&operation);
        let touched = operation.identifiers();
        let same = |model: &Model, of: usize| model.mappings(of) == listed.get(&of);
        // Each identifier is one commit: as before, or as after.
        for of in touched {
            let (before, after) = (same(model, of), same(&after, of));
            assert!(before || after, "{operation:?} was done by halves");
        }
        model.saw(operation.now_s());
        if let Some((of, proof)) = operation.proof() {
            let control = world.control(of, proof).await;
            let used = match ledger.list_control(proof.now_s, &control).await {
                Ok(_) => false,
                Err(LedgerError::ProofUsed) => true,
                Err(error) => panic!("{error}"),
            };
            let expected = if used { &after } else { &*model };
            assert!(same(expected, of), "{operation:?}: proof and mappings do not agree");
            assert!(!used || done.is_ok(), "{operation:?} used its proof and must be refused");
            if used {
                model.used(of, proof);
            }
        }
        for of in operation.identifiers() {
            if same(&after, of) && !same(model, of) {
                model.take(of, &after);
                tally.of_those_done += 1;
            }
        }
    }
    assert_eq!(model.all(), listed, "what was acknowledged is not what is there");

    // No proof that was acknowledged can be used again.
    for (of, proof) in model.fresh_proofs() {
        let control = world.control(of, &proof).await;
        let again = ledger.list_control(proof.now_s, &control).await;
        assert!(matches!(again, Err(LedgerError::ProofUsed)), "a used proof is forgotten");
        let claim = world.claim(of, &proof).await;
        let again = ledger.claim(proof.now_s, claim).await;
        assert!(matches!(again, Err(LedgerError::ProofUsed)), "a used proof counts again");
        tally.proofs_used += 1;
    }
}

#[test]
fn killed_at_any_point_nothing_acknowledged_is_lost_and_nothing_half_done() {
    let rounds = env::var("BLINDBOOK_CRASH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut tally = Tally::default();
    let mut done = 0;
    while done < rounds {
        let folder = tempfile::tempdir().unwrap();
        let runtime = runtime();
        let world = runtime.block_on(World::make(folder.path()));
        let mut model = Model::default();
        for _ in 0..ROUNDS_PER_DIRECTORY.min(rounds - done) {
            let start_s = model.now_s() + 1000;
            fs::remove_file(Oracle::path(folder.path())).ok();
            kill_at_random(folder.path(), start_s);
            let lines = Oracle::read(folder.path());
            let under_way = follow(&mut model, lines, &mut tally);
            runtime.block_on(check(&world, &mut model, under_way, &mut tally));
            done += 1;
        }
    }
    println!("{done} kills: {tally:?}");
    assert!(tally.acknowledged > rounds, "hardly anything was done");
}
