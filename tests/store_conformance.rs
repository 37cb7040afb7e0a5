//! The conformance suite against every engine, and what is the sled engine's
//! own: its files, its lock, what it refuses to open.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and knows its own sizes"
)]

mod store;

use std::{fs, path::Path, sync::Arc};

use blindbook::store::{
    BulkBucket, Generations, MAX_ROW_BYTES, MemoryGenerations, SledGenerations, SledOptions,
    StoreError,
};
use store::{bits, bucket, changed, conformance, number, put, rows};
use tempfile::TempDir;

const SMALL: SledOptions = SledOptions {
    cache_bytes: 16 << 20,
    change_log_entries: conformance::LOGGED,
    group_commits: true,
};

async fn open(data: &Path) -> SledGenerations {
    SledGenerations::open(data, SMALL).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    conformance::all(|| async {
        Arc::new(MemoryGenerations::new(conformance::LOGGED)) as Arc<dyn Generations>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sled_conforms() {
    sled_conforms_with(SMALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sled_conforms_when_each_commit_is_synced_for_itself() {
    sled_conforms_with(SledOptions { group_commits: false, ..SMALL }).await;
}

async fn sled_conforms_with(options: SledOptions) {
    let root = TempDir::new().unwrap();
    let opened = std::sync::atomic::AtomicU32::new(0);
    conformance::all(|| async {
        let next = opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let data = root.path().join(next.to_string());
        let generations = SledGenerations::open(data, options).await.unwrap();
        Arc::new(generations) as Arc<dyn Generations>
    })
    .await;
}

/// Loads 300 buckets, commits on some, gives the folder back closed.
async fn filled(data: &Path) {
    let generations = open(data).await;
    let staged = generations.stage(bits(9)).await.unwrap();
    let bulk = (0..300).map(|of| BulkBucket {
        bucket: bucket(number(of, bits(9)), bits(9), 1),
        rows: rows(0..140, 1, 200),
    });
    staged.bulk_put(bulk.collect()).await.unwrap();
    staged.sync().await.unwrap();
    let store = generations.promote().await.unwrap();
    for of in (0..300).step_by(30) {
        let old = store.bucket(number(of, bits(9))).await.unwrap().unwrap();
        let rows = (0..40).map(|name| put(1000 + name, 2, MAX_ROW_BYTES)).collect();
        store.commit(changed(&old, 2, &[1, 99]), 1, rows).await.unwrap();
    }
    generations.meta_put("kept", vec![1; 8192]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reopened_folder_holds_what_was_committed() {
    let data = TempDir::new().unwrap();
    filled(data.path()).await;
    for _ in 0..2 {
        let generations = open(data.path()).await;
        assert_eq!(generations.meta_get("kept").await.unwrap().unwrap().len(), 8192);
        let store = generations.current().await.unwrap().unwrap();
        for of in 0..512 {
            let at = number(of, bits(9));
            let read = store.bucket(at).await.unwrap();
            let stored = store.rows(at).await.unwrap();
            match of {
                0..300 if of % 30 == 0 => {
                    let whole = changed(&bucket(at, bits(9), 1), 2, &[1, 99]);
                    assert!(read == Some(whole));
                    assert_eq!((stored.version, stored.rows.len()), (2, 180));
                }
                0..300 => {
                    assert!(read == Some(bucket(at, bits(9), 1)));
                    assert!(stored.rows == rows(0..140, 1, 200));
                }
                _ => assert!(read.is_none() && stored.version == 0),
            }
        }
        // The log goes on where it was.
        let changes = store.changes_since(0, u64::MAX, 1).await.unwrap();
        let logged = store.changes_since(0, changes.checkpoint - 10, 100).await.unwrap();
        assert_eq!(logged.changes.len(), 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_spills_into_a_blob_file() {
    let data = TempDir::new().unwrap();
    filled(data.path()).await;
    let mut folders = vec![data.path().to_owned()];
    let mut blob_folders = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(!folder.ends_with("blobs"), "sled put a value into a file of its own");
            blob_folders += u32::from(path.ends_with("blobs"));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert_eq!(blob_folders, 2, "where sled keeps them has moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_is_refused_and_free_again_later() {
    let data = TempDir::new().unwrap();
    let first = open(data.path()).await;
    let refused = SledGenerations::open(data.path(), SMALL).await.err().unwrap();
    assert!(matches!(refused, StoreError::Open(_)));
    assert_eq!(
        refused.to_string(),
        "the data folder cannot be opened: another process is using it; stop that one first"
    );
    drop(first);
    open(data.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_stage_leaves_nothing_behind() {
    let data = TempDir::new().unwrap();
    let generations = open(data.path()).await;
    let staged = generations.stage(bits(4)).await.unwrap();
    let at = number(3, bits(4));
    staged.commit(bucket(at, bits(4), 1), 0, vec![]).await.unwrap();
    drop((staged, generations));

    let generations = open(data.path()).await;
    assert!(generations.current().await.unwrap().is_none());
    assert!(!data.path().join("generation-000001").exists());
    let staged = generations.stage(bits(4)).await.unwrap();
    assert!(staged.bucket(at).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn promoting_removes_the_old_generation_and_open_handles_still_read() {
    let data = TempDir::new().unwrap();
    let generations = open(data.path()).await;
    let at = number(3, bits(4));
    let first = generations.stage(bits(4)).await.unwrap();
    first.commit(bucket(at, bits(4), 1), 0, vec![]).await.unwrap();
    generations.promote().await.unwrap();
    generations.stage(bits(5)).await.unwrap();
    generations.promote().await.unwrap();
    assert!(!data.path().join("generation-000001").exists());
    assert!(data.path().join("generation-000002").exists());
    assert!(first.bucket(at).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_lacks_a_part_is_refused() {
    for (part, what) in [
        ("format", "the record of the folder's format is missing"),
        ("meta", "the metadata's files are missing"),
        ("generation-000001", "the current generation's folder is missing"),
    ] {
        let data = TempDir::new().unwrap();
        filled(data.path()).await;
        let path = data.path().join(part);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        match SledGenerations::open(data.path(), SMALL).await {
            Err(StoreError::Damaged(said)) => assert_eq!(said, what),
            _ => panic!("opened without {part}"),
        }
    }
    let data = TempDir::new().unwrap();
    filled(data.path()).await;
    fs::remove_dir_all(data.path().join("generation-000001/partition-00000")).unwrap();
    let store = open(data.path()).await.current().await.unwrap().unwrap();
    let refused = store.bucket(number(0, bits(9))).await.err();
    assert!(matches!(refused, Some(StoreError::Damaged("a partition's files are missing"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_version_is_refused() {
    let data = TempDir::new().unwrap();
    filled(data.path()).await;
    fs::write(data.path().join("format"), "blindbook store 2\n").unwrap();
    let refused = SledGenerations::open(data.path(), SMALL).await.err().unwrap();
    assert!(matches!(refused, StoreError::Open(text) if text.contains("another version")));
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_tells_nothing() {
    let data = TempDir::new().unwrap();
    let generations = open(data.path()).await;
    assert_eq!(format!("{generations:?}"), "SledGenerations(..)");
    assert_eq!(format!("{:?}", MemoryGenerations::default()), "MemoryGenerations(..)");
}
