//! A directory that outgrows its buckets is split into more, and every entry
//! moves as it is.

use std::collections::BTreeSet;

use crate::directory::{Directory, NOW_S, found, people, siis};

#[tokio::test]
async fn growth_moves_every_sealed_entry_and_keeps_everybody() {
    for directory in [Directory::memory(), Directory::sled().await] {
        directory.load(&people(0..1100)).await.unwrap();
        let other = directory.of("other.example");
        other.load("sii,user\nmailto:person-1@mail.example,x\n").await.unwrap();
        assert_eq!(directory.bits().await.get(), 3);
        let before = directory.buckets().await;
        let entries = |buckets: &std::collections::BTreeMap<_, (blindbook::bucket::Bucket, _)>| {
            let entries = buckets.values().flat_map(|(bucket, _)| bucket.iter());
            entries.map(|entry| *entry.as_bytes()).collect::<BTreeSet<_>>()
        };

        let report = directory.load(&people(1000..5000)).await.unwrap();
        assert_eq!((report.resplit_from, report.prefix_bits), (Some(3), 6));
        assert_eq!((report.added, report.unchanged), (3900, 100));
        assert_eq!((report.mappings, report.buckets_written), (5001, 64));
        let after = directory.buckets().await;
        let moved = entries(&before).intersection(&entries(&after)).count();
        assert_eq!(moved, 1101);
        let oldest = before.values().map(|(bucket, _)| bucket.version).max();
        assert!(after.values().all(|(bucket, _)| Some(bucket.version) >= oldest));

        let seen = directory.find_all(&siis(0..5000)).await;
        assert_eq!(seen[1].len(), 2);
        assert_eq!((&seen[..1], &seen[2..]), (&found(0..1)[..], &found(2..5000)[..]));
    }
}

#[tokio::test]
async fn one_bucket_grows_into_very_many_at_once() {
    let directory = Directory::memory();
    directory.load(&people(0..100)).await.unwrap();
    let report = directory.load(&people(100..40_000)).await.unwrap();
    assert_eq!((report.resplit_from, report.prefix_bits), (Some(0), 9));
    assert_eq!(directory.find_all(&siis(0..40_000)).await, found(0..40_000));
    assert_eq!(directory.buckets().await.len(), 512);
}

#[tokio::test]
async fn versions_rise_over_a_re_split_even_when_the_clock_fell() {
    let directory = Directory::memory();
    directory.load(&people(0..100)).await.unwrap();
    let old = directory.buckets().await.values().next().unwrap().0.version;
    let mut options = directory.options.clone();
    options.now_s = NOW_S - 1_000_000;
    directory.load_with(options, &people(100..200)).await.unwrap();
    let after = directory.buckets().await;
    assert_eq!(after.len(), 2);
    assert!(after.values().all(|(bucket, _)| bucket.version == old + 1));
}

#[tokio::test]
async fn a_directory_within_its_bounds_is_not_split() {
    let directory = Directory::memory();
    directory.load(&people(0..141)).await.unwrap();
    assert_eq!(directory.bits().await.get(), 1);
    let report = directory.load(&people(0..280)).await.unwrap();
    assert_eq!((report.resplit_from, report.prefix_bits), (None, 1));
    let report = directory.load(&people(280..281)).await.unwrap();
    assert_eq!((report.resplit_from, report.prefix_bits), (Some(1), 2));
}
