//! How records meet what the directory holds already.

use blindbook::{bucket::Audience, registry::LoadError};

use crate::directory::{Directory, NOW_S, Seen, found, people, plain, signer, sii, siis};

const NOW: u32 = 1_800_000_000;

fn defaults(seen: &[Seen]) -> Vec<(&str, u32)> {
    seen.iter().map(|(_, user, _, since, _)| (user.as_str(), *since)).collect()
}

#[tokio::test]
async fn loading_the_same_file_again_changes_nothing() {
    for directory in [Directory::memory(), Directory::sled().await] {
        let text = format!("{}{},also\n", people(0..400), sii(7));
        let with_default = "sii,user,default\nmailto:person-9@mail.example,a,true\n\
                            mailto:person-9@mail.example,b,true\n";
        directory.load(&text).await.unwrap();
        directory.load(with_default).await.unwrap();
        let before = (directory.buckets().await, directory.meta().await);
        for (text, lines) in [(text.as_str(), 401), (with_default, 2)] {
            let mut later = directory.options.clone();
            later.now_s += 1000;
            let report = directory.load_with(later, text).await.unwrap();
            assert_eq!((report.unchanged, report.buckets_written), (lines, 0));
            assert_eq!((report.added, report.changed), (0, 0));
        }
        assert!((directory.buckets().await, directory.meta().await) == before);
    }
}

#[tokio::test]
async fn the_last_line_for_an_identifier_and_user_wins() {
    let directory = Directory::memory();
    let text = "sii,user,ttl_s,audience\n\
                a@mail.example,alice,1,personal\n\
                a@mail.example,bob,5,\n\
                A@mail.example,alice,2,business\n";
    let report = directory.load(text).await.unwrap();
    assert_eq!((report.lines, report.added, report.superseded), (3, 2, 1));
    let bob = ("wa.example".into(), "bob".into(), Audience::Personal, 0, 5);
    let alice = ("wa.example".into(), "alice".into(), Audience::Business, 0, 2);
    assert_eq!(directory.find("mailto:a@mail.example").await, [bob, alice]);
}

#[tokio::test]
async fn another_ttl_or_audience_reseals_its_own_slot_and_nothing_else() {
    let directory = Directory::memory();
    directory.load(&people(0..1000)).await.unwrap();
    let before = directory.buckets().await;
    let text = format!("sii,user,ttl_s,audience\n{},user-5,77,business\n", sii(5));
    let report = directory.load(&text).await.unwrap();
    assert_eq!((report.changed, report.buckets_written), (1, 1));

    let mut changed = 0;
    for (number, (bucket, rows)) in directory.buckets().await {
        let (old, old_rows) = &before[&number];
        let slots = bucket.iter().zip(old.iter()).filter(|(new, old)| new != old).count();
        assert_eq!(bucket.version - old.version, slots as u64);
        let resealed = rows.rows.iter().zip(&old_rows.rows).filter(|(new, old)| new != old).count();
        assert_eq!((resealed, rows.rows.len()), (slots, old_rows.rows.len()));
        changed += slots;
    }
    assert_eq!(changed, 1);
    let seen = ("wa.example".into(), "user-5".into(), Audience::Business, 0, 77);
    assert_eq!(directory.find(&sii(5)).await, [seen]);
}

#[tokio::test]
async fn a_new_mapping_takes_one_free_slot_and_nothing_else() {
    let directory = Directory::memory();
    directory.load(&people(0..100)).await.unwrap();
    let (_, (before, _)) = directory.buckets().await.pop_first().unwrap();
    let report = directory.load(&people([100])).await.unwrap();
    assert_eq!((report.added, report.mappings, report.identifiers), (1, 101, 101));
    let (_, (after, _)) = directory.buckets().await.pop_first().unwrap();
    let slots = after.iter().zip(before.iter()).filter(|(new, old)| new != old).count();
    assert_eq!((slots, after.version), (1, before.version + 1));
    assert_eq!(directory.find_all(&siis(0..101)).await, found(0..101));
}

#[tokio::test]
async fn default_makes_a_mapping_the_strictly_greatest_and_only_when_it_is_not() {
    let directory = Directory::memory();
    let load = async |lines: &str, now_s: u64| {
        let mut options = directory.options.clone();
        options.now_s = now_s;
        let text = format!("sii,user,default\n{lines}");
        directory.load_with(options, &text).await.unwrap()
    };
    let a = "mailto:a@mail.example";
    load("a@mail.example,x,true\na@mail.example,y,\n", NOW_S).await;
    assert_eq!(defaults(&directory.find(a).await), [("x", NOW), ("y", 0)]);

    // x is the default already; y becomes it at the same second.
    load("a@mail.example,x,true\n", NOW_S + 9).await;
    assert_eq!(defaults(&directory.find(a).await), [("x", NOW), ("y", 0)]);
    let report = load("a@mail.example,y,true\n", NOW_S).await;
    assert_eq!(report.changed, 1);
    assert_eq!(defaults(&directory.find(a).await), [("x", NOW), ("y", NOW + 1)]);

    // Later, and with a clock that went backwards.
    load("a@mail.example,x,true\n", NOW_S + 50).await;
    assert_eq!(defaults(&directory.find(a).await), [("x", NOW + 50), ("y", NOW + 1)]);
    load("a@mail.example,y,true\n", 1).await;
    assert_eq!(defaults(&directory.find(a).await), [("x", NOW + 50), ("y", NOW + 51)]);

    // False and absent keep what is; of several trues the last one counts.
    let report = load("a@mail.example,y,false\na@mail.example,x,\n", NOW_S + 99).await;
    assert_eq!(report.unchanged, 2);
    load("b@mail.example,x,true\nb@mail.example,y,true\nb@mail.example,z,false\n", NOW_S).await;
    let b = directory.find("mailto:b@mail.example").await;
    assert_eq!(defaults(&b), [("x", 0), ("y", NOW), ("z", 0)]);
}

#[tokio::test]
async fn providers_load_side_by_side_and_never_touch_each_other() {
    let directory = Directory::memory();
    directory.load(&people(0..300)).await.unwrap();
    let other = directory.of("other.example");
    let before = directory.find_all(&siis(0..300)).await;
    let report =
        other.load("sii,user,ttl_s\nmailto:person-3@mail.example,user-3,1\n").await.unwrap();
    assert_eq!((report.added, report.changed, report.mappings), (1, 0, 301));
    assert_eq!(report.identifiers, 300);
    let theirs = ("other.example".into(), "user-3".into(), Audience::Personal, 0, 1);
    assert_eq!(directory.find(&sii(3)).await, [plain("user-3"), theirs]);
    let after = directory.find_all(&siis((0..300).filter(|n| *n != 3))).await;
    assert_eq!(after.len(), 299);
    assert!(after.iter().zip(before.iter().take(3)).all(|(a, b)| a == b));
    assert_eq!(after[3..], before[4..]);
}

#[tokio::test]
async fn a_provider_with_another_key_is_refused() {
    let directory = Directory::memory();
    directory.load(&people(0..10)).await.unwrap();
    let before = (directory.buckets().await, directory.meta().await);
    let mut options = directory.options.clone();
    options.provider_key = signer("somebody else");
    let refused = directory.load_with(options, &people(0..20)).await;
    assert!(matches!(refused, Err(LoadError::ProviderKey(_))));
    assert!((directory.buckets().await, directory.meta().await) == before);
}

#[tokio::test]
async fn a_bucket_keeps_its_epoch_and_new_ones_have_the_newest() {
    let mut directory = Directory::memory();
    directory.load(&people(0..100)).await.unwrap();
    directory.add_epoch(2);
    directory.load(&people(50..130)).await.unwrap();
    assert!(directory.buckets().await.values().all(|(bucket, _)| bucket.epoch.get() == 1));
    assert_eq!(directory.find_all(&siis(0..130)).await, found(0..130));

    // It grows: entries move as they are, so their buckets keep their epoch.
    let report = directory.load(&people(130..200)).await.unwrap();
    assert_eq!((report.resplit_from, report.prefix_bits), (Some(0), 1));
    assert!(directory.buckets().await.values().all(|(bucket, _)| bucket.epoch.get() == 1));
    assert_eq!(directory.find_all(&siis(0..200)).await, found(0..200));

    let mut fresh = Directory::memory();
    fresh.add_epoch(2);
    fresh.load(&people(0..200)).await.unwrap();
    assert!(fresh.buckets().await.values().all(|(bucket, _)| bucket.epoch.get() == 2));
    assert_eq!(fresh.find_all(&siis(0..200)).await, found(0..200));
}

#[tokio::test]
async fn a_bucket_of_an_epoch_without_seed_is_not_added_to() {
    let mut directory = Directory::memory();
    directory.load(&people(0..10)).await.unwrap();
    directory.add_epoch(2);
    directory.remove_epoch(1);
    let before = directory.buckets().await;
    assert_eq!(directory.load(&people(0..10)).await.unwrap().unchanged, 10);
    let refused = directory.load(&people(10..20)).await;
    assert!(matches!(refused, Err(LoadError::EpochMissing(epoch)) if epoch.get() == 1));
    assert!(directory.buckets().await == before);
}
