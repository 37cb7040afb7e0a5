//! What every engine of the store must do. `open` gives an empty directory each
//! time, whose partitions log at least [`LOGGED`] changes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

use blindbook::{
    bucket::BucketNumber,
    store::{
        BulkBucket, Committed, Generations, Held, MAX_META_BYTES, MAX_META_KEY_BYTES,
        MAX_ROW_BYTES, RowChange, Spent, Store, StoreError, Wanted,
    },
};

use super::{bits, bucket, changed, key, number, put, row, rows};

/// The bound of the change log in these tests.
pub(crate) const LOGGED: u64 = 64;

pub(crate) async fn all<F: Future<Output = Arc<dyn Generations>>>(open: impl Fn() -> F) {
    a_new_directory_is_empty(&*open().await).await;
    commits_are_read_back_and_conflicts_change_nothing(&*staged(&*open().await, 3).await).await;
    buckets_outside_the_generation_are_refused(&*staged(&*open().await, 3).await).await;
    rows_follow_their_commits(&*staged(&*open().await, 0).await).await;
    big_rows_in_any_order_are_kept(&*staged(&*open().await, 0).await).await;
    one_of_two_rivals_wins(staged(&*open().await, 1).await).await;
    nobody_reads_a_mixture(staged(&*open().await, 2).await).await;
    changes_are_logged_in_order_per_partition(&*staged(&*open().await, 17).await).await;
    the_change_log_is_bounded_and_says_when_it_was_cut(&*staged(&*open().await, 4).await).await;
    bulk_buckets_replace_and_cut_the_log(&*staged(&*open().await, 5).await).await;
    a_scan_ends_with_the_directory(&*staged(&*open().await, 4).await).await;
    malformed_bulk_writes_are_refused(&*staged(&*open().await, 4).await).await;
    generations_follow_one_another(&*open().await).await;
    metadata_is_kept_sorted_and_bounded(&*open().await).await;
    tokens_are_spent_once_and_forgotten_with_their_day(&*open().await).await;
    of_rivals_for_a_token_one_wins(&*open().await).await;
}

async fn staged(generations: &dyn Generations, prefix_bits: u32) -> Arc<dyn Store> {
    generations.stage(bits(prefix_bits)).await.unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "keeps the call sites short")]
fn misused<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Misuse(_)))
}

async fn look(store: &dyn Store, at: BucketNumber, wanted: Wanted) -> Option<Held> {
    let (told, held) = mpsc::channel();
    store.look(at, wanted, Box::new(move |held| told.send(held).unwrap())).await.unwrap();
    held.recv().unwrap()
}

async fn version(store: &dyn Store, of: u32) -> u64 {
    let at = number(of, store.prefix_bits());
    let rows = store.rows(at).await.unwrap().version;
    let bucket = store.bucket(at).await.unwrap().map_or(0, |bucket| bucket.version);
    assert_eq!(rows, bucket);
    bucket
}

async fn a_new_directory_is_empty(generations: &dyn Generations) {
    assert!(generations.current().await.unwrap().is_none());
    assert!(misused(generations.promote().await));
    assert!(generations.meta_list("").await.unwrap().is_empty());
    assert_eq!(generations.meta_get("absent").await.unwrap(), None);
    let store = staged(generations, 3).await;
    assert_eq!(store.prefix_bits(), bits(3));
    assert_eq!(version(&*store, 0).await, 0);
    assert!(store.rows(number(7, bits(3))).await.unwrap().rows.is_empty());
    assert!(look(&*store, number(7, bits(3)), Wanted::All).await.is_none());
    assert!(look(&*store, number(7, bits(3)), Wanted::One(key(1))).await.is_none());
    let changes = store.changes_since(0, 0, 10).await.unwrap();
    assert!(changes.changes.is_empty() && !changes.truncated);
    // The same while nothing happened.
    let again = store.changes_since(0, changes.checkpoint, 10).await.unwrap();
    assert!(again == changes);
}

async fn commits_are_read_back_and_conflicts_change_nothing(store: &dyn Store) {
    let at = number(5, bits(3));
    let first = bucket(at, bits(3), 10);
    let done = store.commit(first.clone(), 0, vec![put(1, 10, 100)]).await.unwrap();
    assert!(matches!(done, Committed::Done { .. }));
    assert!(store.bucket(at).await.unwrap().unwrap() == first);

    // A claim: one entry, one row.
    let second = changed(&first, 11, &[77]);
    let done = store.commit(second.clone(), 10, vec![put(2, 11, 100)]).await.unwrap();
    assert!(matches!(done, Committed::Done { .. }));
    let kept = store.bucket(at).await.unwrap().unwrap();
    assert!(kept == second && kept.signature() == second.signature());

    for expected in [0, 9, 10] {
        let rival = store.commit(changed(&first, 12, &[3]), expected, vec![put(3, 12, 9)]).await;
        assert_eq!(rival.unwrap(), Committed::Conflict { version: 11 });
    }
    let absent = number(4, bits(3));
    let rival = store.commit(bucket(absent, bits(3), 3), 2, vec![]).await.unwrap();
    assert_eq!(rival, Committed::Conflict { version: 0 });
    assert!(store.bucket(at).await.unwrap().unwrap() == second);
    assert!(store.rows(at).await.unwrap().rows.iter().all(|row| row.key != key(3)));
    assert_eq!(version(store, 4).await, 0);

    // The version must rise.
    for version in [10, 11] {
        assert!(misused(store.commit(changed(&second, version, &[1]), 11, vec![]).await));
    }
}

async fn buckets_outside_the_generation_are_refused(store: &dyn Store) {
    let beyond = number(8, bits(4));
    assert!(misused(store.bucket(beyond).await));
    assert!(misused(store.rows(beyond).await));
    assert!(misused(store.look(beyond, Wanted::All, Box::new(|_| panic!("not called"))).await));
    assert!(misused(store.scan(beyond, 1).await));
    assert!(misused(store.commit(bucket(beyond, bits(4), 1), 0, vec![]).await));
    // A number that fits, of a directory with other bits.
    let other = bucket(number(1, bits(4)), bits(4), 1);
    assert!(misused(store.commit(other.clone(), 0, vec![]).await));
    assert!(misused(store.bulk_put(vec![BulkBucket { bucket: other, rows: vec![] }]).await));
    assert!(misused(store.changes_since(1, 0, 1).await));
}

async fn rows_follow_their_commits(store: &dyn Store) {
    let at = number(0, bits(0));
    let mut expected = BTreeMap::new();
    let mut stored = bucket(at, bits(0), 1);
    store.commit(stored.clone(), 0, vec![]).await.unwrap();
    // Grows to several pages, shrinks again, ends empty.
    for step in 0..60_u64 {
        let changes: Vec<_> = (0..8)
            .map(|i| match (step, i) {
                (0..30, _) | (30..45, 0) => put(step * 8 + i, step, 40 + 60 * i as usize),
                _ => RowChange::Delete(key((step - 30) * 8 + i)),
            })
            .collect();
        for change in &changes {
            match change {
                RowChange::Put(row) => drop(expected.insert(row.key, row.clone())),
                RowChange::Delete(key) => drop(expected.remove(key)),
            }
        }
        let next = changed(&stored, stored.version + 1, &[step as usize]);
        let done = store.commit(next.clone(), stored.version, changes).await.unwrap();
        assert!(matches!(done, Committed::Done { .. }));
        stored = next;
        let read = store.rows(at).await.unwrap();
        assert_eq!(read.version, stored.version);
        let all = look(store, at, Wanted::All).await.unwrap();
        assert!(all.bucket == stored && all.rows == read.rows);
        for name in (0..4).map(|i| step * 5 + i) {
            let one = look(store, at, Wanted::One(key(name))).await.unwrap();
            let wanted: Vec<_> = expected.get(&key(name)).cloned().into_iter().collect();
            assert!(one.bucket == stored && one.rows == wanted);
        }
        assert!(read.rows.iter().eq(expected.values()), "after step {step}");
    }
    // Within one commit the changes apply in their order.
    let next = changed(&stored, stored.version + 1, &[]);
    let changes = vec![put(9999, 1, 10), RowChange::Delete(key(9999)), put(9998, 1, 0)];
    store.commit(next, stored.version, changes).await.unwrap();
    let read = store.rows(at).await.unwrap().rows;
    assert!(read.iter().all(|row| row.key != key(9999)));
    assert!(read.contains(&row(9998, 1, 0)));
}

async fn big_rows_in_any_order_are_kept(store: &dyn Store) {
    let at = number(0, bits(0));
    let names = 0..80_u64;
    let puts = names.clone().map(|name| put(name, 1, MAX_ROW_BYTES)).collect();
    store.commit(bucket(at, bits(0), 1), 0, puts).await.unwrap();
    assert!(store.rows(at).await.unwrap().rows == rows(names, 1, MAX_ROW_BYTES));
    let too_big = put(99, 2, MAX_ROW_BYTES + 1);
    assert!(misused(store.commit(bucket(at, bits(0), 2), 1, vec![too_big]).await));
    assert_eq!(version(store, 0).await, 1);
}

async fn one_of_two_rivals_wins(store: Arc<dyn Store>) {
    let at = number(1, bits(1));
    for base in (0..20).map(|round| round * 10) {
        let rivals: Vec<_> = (1..=4)
            .map(|rival| {
                let store = Arc::clone(&store);
                let bucket = bucket(at, bits(1), base + rival);
                let expected = if base == 0 { 0 } else { base };
                tokio::spawn(async move {
                    store.commit(bucket, expected, vec![put(rival, base, 50)]).await.unwrap()
                })
            })
            .collect();
        let mut won = 0;
        for rival in rivals {
            won += u32::from(matches!(rival.await.unwrap(), Committed::Done { .. }));
        }
        assert_eq!(won, 1);
        let version = version(&*store, 1).await;
        let next = bucket(at, bits(1), base + 10);
        store.commit(next, version, vec![]).await.unwrap();
    }
}

async fn nobody_reads_a_mixture(store: Arc<dyn Store>) {
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|reader| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                let at = number(reader % 2, bits(2));
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    if let Some(read) = store.bucket(at).await.unwrap() {
                        assert!(read.version >= seen, "a version was taken back");
                        seen = read.version;
                        assert!(read == bucket(at, bits(2), seen), "a mixture was read");
                    }
                    let read = store.rows(at).await.unwrap();
                    assert!(read.version >= seen);
                    let whole = rows(0..20, read.version, 300);
                    assert!(read.version == 0 || read.rows == whole, "mixed rows were read");
                }
                seen
            })
        })
        .collect();
    for version in 1..=60 {
        for at in [number(0, bits(2)), number(1, bits(2))] {
            let puts = (0..20).map(|name| put(name, version, 300)).collect();
            let done = store.commit(bucket(at, bits(2), version), version - 1, puts).await.unwrap();
            assert!(matches!(done, Committed::Done { .. }));
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

async fn changes_are_logged_in_order_per_partition(store: &dyn Store) {
    let bits = bits(17);
    // Two buckets of each of the two partitions.
    let numbers = [3, 4, 0x1_0003, 0x1_ffff].map(|of| number(of, bits));
    let mut logged: [Vec<(u64, u32, u64)>; 2] = Default::default();
    for version in 1..=5 {
        for (index, at) in numbers.into_iter().enumerate() {
            let Committed::Done { sequence } =
                store.commit(bucket(at, bits, version), version - 1, vec![]).await.unwrap()
            else {
                panic!("nobody else commits");
            };
            logged[index / 2].push((sequence, at.get(), version));
        }
    }
    for (partition, logged) in logged.iter().enumerate() {
        assert!(logged.is_sorted_by(|a, b| a.0 < b.0));
        let mut checkpoint = 0;
        let mut read = Vec::new();
        loop {
            let part = store.changes_since(partition as u32, checkpoint, 3).await.unwrap();
            assert!(!part.truncated);
            checkpoint = part.checkpoint;
            if part.changes.is_empty() {
                break;
            }
            read.extend(part.changes.iter().map(|c| (c.sequence, c.number.get(), c.version)));
        }
        assert_eq!(&read, logged);
        let middle = logged[4].0;
        let rest = store.changes_since(partition as u32, middle, 100).await.unwrap();
        assert_eq!(rest.changes[0].sequence, logged[5].0);
        assert_eq!(rest.changes.len(), logged.len() - 5);
        // A checkpoint that this log never gave.
        let beyond = store.changes_since(partition as u32, u64::MAX, 100).await.unwrap();
        assert!(beyond.truncated && beyond.checkpoint == checkpoint);
    }
    assert!(misused(store.changes_since(2, 0, 1).await));
}

async fn the_change_log_is_bounded_and_says_when_it_was_cut(store: &dyn Store) {
    let at = number(9, bits(4));
    let mut stored = bucket(at, bits(4), 1);
    store.commit(stored.clone(), 0, vec![]).await.unwrap();
    let early = store.changes_since(0, 0, 10).await.unwrap().checkpoint;
    for version in 2..=3 * LOGGED {
        let next = changed(&stored, version, &[version as usize % 256]);
        store.commit(next.clone(), version - 1, vec![]).await.unwrap();
        stored = next;
    }
    for checkpoint in [0, early] {
        let cut = store.changes_since(0, checkpoint, 1000).await.unwrap();
        assert!(cut.truncated && cut.changes.is_empty());
        // From there on nothing is missed.
        let now = store.changes_since(0, cut.checkpoint, 1000).await.unwrap();
        assert!(!now.truncated && now.changes.is_empty());
    }
    let end = store.changes_since(0, early, 1).await.unwrap().checkpoint;
    let kept = store.changes_since(0, end - LOGGED, 1000).await.unwrap();
    assert!(!kept.truncated);
    assert_eq!(kept.changes.len() as u64, LOGGED);
    assert_eq!(kept.changes.last().map(|change| change.version), Some(3 * LOGGED));
    let cut = store.changes_since(0, end - 2 * LOGGED, 1000).await.unwrap();
    assert!(cut.truncated, "more is kept than twice the bound");
}

fn bulk(of: u32, prefix_bits: u32, version: u64, names: std::ops::Range<u64>) -> BulkBucket {
    let at = number(of, bits(prefix_bits));
    let bucket = bucket(at, bits(prefix_bits), version);
    BulkBucket { bucket, rows: rows(names, version, 200) }
}

async fn bulk_buckets_replace_and_cut_the_log(store: &dyn Store) {
    let at = number(3, bits(5));
    store.commit(bucket(at, bits(5), 7), 0, vec![put(500, 7, 4000)]).await.unwrap();
    let before = store.changes_since(0, 0, 10).await.unwrap();
    assert_eq!(before.changes.len(), 1);

    store.bulk_put((0..32).map(|of| bulk(of, 5, 4, 0..140)).collect()).await.unwrap();
    for of in 0..32 {
        let at = number(of, bits(5));
        assert!(store.bucket(at).await.unwrap().unwrap() == bucket(at, bits(5), 4));
        assert!(store.rows(at).await.unwrap().rows == rows(0..140, 4, 200));
    }
    let cut = store.changes_since(0, before.checkpoint, 10).await.unwrap();
    assert!(cut.truncated && cut.changes.is_empty());
    assert!(store.changes_since(0, 0, 10).await.unwrap().truncated);

    // Fewer rows: none of the old is left.
    store.bulk_put(vec![bulk(3, 5, 9, 1000..1003), bulk(4, 5, 9, 0..0)]).await.unwrap();
    assert!(store.rows(at).await.unwrap().rows == rows(1000..1003, 9, 200));
    assert!(store.rows(number(4, bits(5))).await.unwrap().rows.is_empty());
    assert!(store.changes_since(0, cut.checkpoint, 10).await.unwrap().truncated);
    store.sync().await.unwrap();

    // Commits go on from what was bulk written.
    let next = bucket(at, bits(5), 10);
    let done = store.commit(next, 9, vec![RowChange::Delete(key(1001))]).await.unwrap();
    let Committed::Done { sequence } = done else { panic!("nobody else commits") };
    assert_eq!(store.rows(at).await.unwrap().rows.len(), 2);
    let end = store.changes_since(0, u64::MAX, 1).await.unwrap().checkpoint;
    assert_eq!(end, sequence);
}

async fn a_scan_ends_with_the_directory(store: &dyn Store) {
    store.bulk_put((2..14).map(|of| bulk(of, 4, 1, 0..3)).collect()).await.unwrap();
    let all = store.scan(number(0, bits(4)), 100).await.unwrap();
    assert_eq!(all.len(), 16);
    for (of, read) in (0..).zip(&all) {
        let expected = (2..14).contains(&of).then(|| bucket(number(of, bits(4)), bits(4), 1));
        assert!(*read == expected);
    }
    let part = store.scan(number(13, bits(4)), 2).await.unwrap();
    assert!(part[0].is_some() && part[1].is_none() && part.len() == 2);
    assert!(store.scan(number(13, bits(4)), 0).await.unwrap().is_empty());
}

async fn malformed_bulk_writes_are_refused(store: &dyn Store) {
    let twice = BulkBucket { rows: vec![row(1, 1, 1), row(1, 1, 1)], ..bulk(1, 4, 1, 0..0) };
    let mut backwards = bulk(1, 4, 1, 0..5);
    backwards.rows.reverse();
    let never = BulkBucket { bucket: bucket(number(1, bits(4)), bits(4), 0), rows: vec![] };
    let big = BulkBucket { rows: vec![row(1, 1, MAX_ROW_BYTES + 1)], ..bulk(1, 4, 1, 0..0) };
    for malformed in [twice, backwards, never, big] {
        // Refused before anything of the same call is written.
        assert!(misused(store.bulk_put(vec![bulk(2, 4, 1, 0..1), malformed]).await));
        assert_eq!(version(store, 2).await, 0);
    }
}

async fn generations_follow_one_another(generations: &dyn Generations) {
    let discarded = staged(generations, 2).await;
    discarded.bulk_put(vec![bulk(1, 2, 1, 0..4)]).await.unwrap();
    let first = staged(generations, 2).await;
    assert_eq!(version(&*first, 1).await, 0, "a new stage begins empty");
    assert!(misused(discarded.bulk_put(vec![bulk(1, 2, 1, 0..4)]).await));
    assert!(generations.current().await.unwrap().is_none());

    first.bulk_put(vec![bulk(1, 2, 1, 0..4)]).await.unwrap();
    first.sync().await.unwrap();
    let promoted = generations.promote().await.unwrap();
    assert_eq!(version(&*promoted, 1).await, 1);
    let current = generations.current().await.unwrap().unwrap();
    assert_eq!(current.prefix_bits(), bits(2));
    assert!(misused(generations.promote().await), "nothing is staged any more");

    // The current one takes commits while the next is built.
    let second = staged(generations, 3).await;
    let at = number(1, bits(2));
    let Committed::Done { sequence } =
        current.commit(bucket(at, bits(2), 2), 1, vec![]).await.unwrap()
    else {
        panic!("nobody else commits");
    };
    second.bulk_put((0..8).map(|of| bulk(of, 3, 5, 0..2)).collect()).await.unwrap();
    second.sync().await.unwrap();
    let second = generations.promote().await.unwrap();
    assert_eq!(second.prefix_bits(), bits(3));
    assert_eq!(generations.current().await.unwrap().unwrap().prefix_bits(), bits(3));
    assert_eq!(version(&*second, 7).await, 5);
    // A checkpoint of the replaced generation means nothing to the new one.
    assert!(second.changes_since(0, sequence, 10).await.unwrap().truncated);
    assert!(misused(current.commit(bucket(at, bits(2), 3), 2, vec![]).await));
    assert!(misused(current.bulk_put(vec![bulk(1, 2, 9, 0..4)]).await));
}

async fn metadata_is_kept_sorted_and_bounded(generations: &dyn Generations) {
    for (key, value) in [("b/2", "two"), ("a", ""), ("b/10", "ten"), ("b", "b"), ("c", "c")] {
        generations.meta_put(key, value.into()).await.unwrap();
    }
    let listed = generations.meta_list("b").await.unwrap();
    let expected = [("b", "b"), ("b/10", "ten"), ("b/2", "two")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(listed, expected);
    assert_eq!(generations.meta_list("").await.unwrap().len(), 5);
    assert_eq!(generations.meta_get("a").await.unwrap(), Some(vec![]));

    let key = "k".repeat(MAX_META_KEY_BYTES);
    for length in [MAX_META_BYTES, 4097, 4096, 4095, 1, MAX_META_BYTES, 4096] {
        let value: Vec<u8> = (0..length).map(|i| i.to_le_bytes()[0]).collect();
        generations.meta_put(&key, value.clone()).await.unwrap();
        assert_eq!(generations.meta_get(&key).await.unwrap().as_ref(), Some(&value));
        assert_eq!(generations.meta_list("k").await.unwrap(), [(key.clone(), value)]);
    }
    // The long one, one of two parts, and one that is not there.
    generations.meta_put(&key, vec![7; 5000]).await.unwrap();
    let gone = ["b/2", &key, "absent"].map(str::to_owned).to_vec();
    generations.meta_remove(gone).await.unwrap();
    assert_eq!(generations.meta_get(&key).await.unwrap(), None);
    let left = generations.meta_list("").await.unwrap();
    assert_eq!(
        left.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["a", "b", "b/10", "c"]
    );
    generations.meta_put(&key, vec![7; 4096]).await.unwrap();
    assert_eq!(generations.meta_get(&key).await.unwrap(), Some(vec![7; 4096]));
    assert!(misused(generations.meta_remove(vec![format!("{key}k")]).await));
    assert!(misused(generations.meta_put(&key, vec![0; MAX_META_BYTES + 1]).await));
    assert!(misused(generations.meta_put(&format!("{key}k"), vec![]).await));
    assert!(misused(generations.meta_get(&format!("{key}k")).await));
}

fn names(of: impl IntoIterator<Item = u8>) -> Vec<[u8; 16]> {
    of.into_iter().map(|name| [name; 16]).collect()
}

async fn tokens_are_spent_once_and_forgotten_with_their_day(generations: &dyn Generations) {
    let spent = generations.spent_tokens().await.unwrap();
    let (one, other) = ([1; 32], [2; 32]);
    assert_eq!(spent.look(7, &names(1..=4), &one).unwrap(), Spent::New);
    assert_eq!(spent.spend(7, names(1..=4), one).await.unwrap(), Spent::New);
    for _ in 0..2 {
        assert_eq!(spent.look(7, &names(1..=4), &one).unwrap(), Spent::Again);
        assert_eq!(spent.spend(7, names(1..=4), one).await.unwrap(), Spent::Again);
        assert_eq!(spent.look(7, &names(1..=4), &other).unwrap(), Spent::Other);
        assert_eq!(spent.spend(7, names(1..=4), other).await.unwrap(), Spent::Other);
    }
    // One that is spent keeps the others from being spent.
    assert_eq!(spent.spend(7, names([9, 4]), other).await.unwrap(), Spent::Other);
    assert_eq!(spent.spend(7, names([9, 4]), one).await.unwrap(), Spent::Other);
    assert_eq!(spent.spend(7, names([9]), other).await.unwrap(), Spent::New);
    // Each day has its own.
    assert_eq!(spent.spend(8, names(1..=4), other).await.unwrap(), Spent::New);
    // The same store again.
    let again = generations.spent_tokens().await.unwrap();
    assert_eq!(again.look(7, &names(1..=4), &one).unwrap(), Spent::Again);
    spent.forget_before(8).await.unwrap();
    spent.forget_before(8).await.unwrap();
    assert_eq!(spent.look(7, &names(1..=4), &other).unwrap(), Spent::New);
    assert_eq!(spent.look(8, &names(1..=4), &other).unwrap(), Spent::Again);
}

async fn of_rivals_for_a_token_one_wins(generations: &dyn Generations) {
    let spent = generations.spent_tokens().await.unwrap();
    for round in 0..20 {
        let rivals: Vec<_> = (0..8)
            .map(|rival| {
                let spent = Arc::clone(&spent);
                tokio::spawn(async move { spent.spend(7, names([round]), [rival; 32]).await })
            })
            .collect();
        let mut won = 0;
        for rival in rivals {
            match rival.await.unwrap().unwrap() {
                Spent::New => won += 1,
                outcome => assert_eq!(outcome, Spent::Other),
            }
        }
        assert_eq!(won, 1);
    }
}
