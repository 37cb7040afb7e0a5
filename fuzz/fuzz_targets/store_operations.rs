//! Operations against the store's engines, each held against a plain model.
//!
//! Input: a list of [`Operation`]s, as `arbitrary` reads it. Both engines must answer every
//! read, commit, scan and change log as the model says, before and after the
//! data folder was closed and opened again.

#![no_main]

mod store_model;

use std::sync::LazyLock;

use arbitrary::Unstructured;
use blindbook::{
    bucket::PrefixBits,
    store::{Generations, MemoryGenerations, SledGenerations, SledOptions, StoreError},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use store_model::{KEPT_CHANGES, Model, Operation};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime starts"));

/// Enough to meet every operation, few enough for a disk.
const MOST_OPERATIONS: usize = 48;

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut bytes = Unstructured::new(data);
    let mut script = Vec::new();
    while !bytes.is_empty() && script.len() < MOST_OPERATIONS {
        let Ok(operation) = bytes.arbitrary() else { break };
        script.push(operation);
    }
    if script.is_empty() {
        return Corpus::Reject;
    }
    RUNTIME.block_on(async {
        let memory = MemoryGenerations::new(KEPT_CHANGES);
        run(Engine::Memory(memory), &script).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sled = open(&folder).await;
        run(Engine::Sled(sled, folder), &script).await;
    });
    Corpus::Keep
});

enum Engine {
    Memory(MemoryGenerations),
    Sled(SledGenerations, TempDir),
}

impl Engine {
    fn generations(&self) -> &dyn Generations {
        match self {
            Self::Memory(memory) => memory,
            Self::Sled(sled, _) => sled,
        }
    }

    /// Closes and opens the data folder; memory just goes on.
    async fn reopened(self) -> Self {
        match self {
            Self::Memory(memory) => Self::Memory(memory),
            Self::Sled(sled, folder) => {
                drop(sled);
                Self::Sled(open(&folder).await, folder)
            }
        }
    }
}

async fn open(folder: &TempDir) -> SledGenerations {
    let options = SledOptions {
        cache_bytes: 16 << 20,
        change_log_entries: KEPT_CHANGES,
        ..SledOptions::default()
    };
    // The threads of a store that was just dropped may hold its lock a moment.
    for _ in 0..500 {
        match SledGenerations::open(folder.path(), options).await {
            Ok(sled) => return sled,
            Err(StoreError::Open(_)) => std::thread::sleep(std::time::Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data folder stays locked");
}

async fn run(mut engine: Engine, script: &[Operation]) {
    let mut model = Model::begin(engine.generations(), PrefixBits::ZERO).await;
    for operation in script {
        match operation {
            Operation::Reopen => {
                model = model.without_store().await;
                engine = engine.reopened().await;
                model.with_store(engine.generations()).await;
            }
            Operation::Resplit(choice) => {
                model = model.resplit(engine.generations(), choice.bits()).await;
            }
            operation => model.apply(engine.generations(), operation).await,
        }
    }
    model.check_everything(engine.generations()).await;
}
