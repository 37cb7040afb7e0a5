//! Many writers at once: none is lost, and none waits for another bucket's.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use super::{
    scene::{
        NOW_S, Scene, circle, claim, claim_in, keyring, outcome, provider, sii, siis_in, user,
    },
    wrapped::{Fault, Faulty},
};
use crate::{
    bucket::{BucketNumber, Placement, PrefixBits},
    registry::{Ledger, counts},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_64_claims_at_once_on_one_bucket_none_is_lost() {
    Scene::on_both(0, async |scene| {
        let mut claims = JoinSet::new();
        for n in 0..64 {
            let ledger = scene.ledger.clone();
            claims.spawn(async move {
                ledger.claim(NOW_S, claim(&sii(n), "wa.example", &format!("user-{n}"))).await
            });
        }
        while let Some(done) = claims.join_next().await {
            done.unwrap().unwrap();
        }
        for n in 0..64 {
            assert_eq!(scene.users(&sii(n)).await, [format!("user-{n}")]);
        }
        let (bucket, _) = scene.bytes().await.remove(0);
        assert_eq!(bucket.unwrap().version, 7 + 64);
        scene.is_clean(64).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_claims_at_once_on_one_identifier_eight_are_taken() {
    let scene = Scene::memory(0).await;
    let mut claims = JoinSet::new();
    for n in 0..24 {
        let ledger = scene.ledger.clone();
        claims.spawn(async move {
            let name = format!("user-{n}");
            let claim = match n % 3 {
                0 => claim(&sii(1), "wa.example", &name),
                _ => claim_in(&sii(1), "wa.example", &name, circle(1)),
            };
            outcome(ledger.claim(NOW_S, claim).await)
        });
    }
    let mut outcomes = BTreeMap::new();
    while let Some(done) = claims.join_next().await {
        *outcomes.entry(done.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(outcomes, BTreeMap::from([(Ok(()), 8), (Err("too many mappings"), 16)]));
    scene.is_clean(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_one_proof_shown_many_times_at_once_one_is_taken() {
    let scene = Scene::memory(0).await;
    let shown = claim(&sii(1), "wa.example", "alice");
    let mut claims = JoinSet::new();
    for _ in 0..16 {
        let (ledger, claim) = (scene.ledger.clone(), shown.clone());
        claims.spawn(async move { outcome(ledger.claim(NOW_S, claim).await) });
    }
    let outcomes = claims.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err("proof used")).count(), 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_ledgers_over_one_store_do_not_overwrite_each_other() {
    let scene = Scene::memory(0).await;
    let other = Ledger::open(scene.generations.clone(), keyring()).await.unwrap();
    let mut claims = JoinSet::new();
    for (ledger, from) in [(scene.ledger.clone(), 0), (other, 100)] {
        claims.spawn(async move {
            for n in from..from + 20 {
                ledger.claim(NOW_S, claim(&sii(n), "wa.example", "user")).await.unwrap();
            }
        });
    }
    claims.join_all().await;
    scene.is_clean(40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_stands_still_holds_up_no_other() {
    let scene = Scene::memory(1).await;
    let stuck = BucketNumber::new(0, PrefixBits::new(1).unwrap()).unwrap();
    let faulty = Faulty::new(&scene.generations, Fault::Hang(stuck));
    let ledger = Ledger::open(faulty, keyring()).await.unwrap();
    let mut waiting = JoinSet::new();
    for sii in siis_in(0, 1).take(8) {
        let ledger = ledger.clone();
        waiting.spawn(async move {
            ledger.claim(NOW_S, claim(&sii, "wa.example", "stuck")).await.map(drop)
        });
    }
    let free = async {
        for sii in siis_in(1, 1).take(8) {
            ledger.claim(NOW_S, claim(&sii, "wa.example", "free")).await.unwrap();
        }
    };
    timeout(Duration::from_secs(60), free).await.expect("no waiting");
    assert!(waiting.try_join_next().is_none());
    scene.is_clean(8).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_whole_change_behind() {
    let scene = Scene::memory(0).await;
    for n in 0..16 {
        let claim = scene.ledger.claim(NOW_S, claim(&sii(n), "wa.example", "user"));
        // Given up at once, or soon.
        let _ = timeout(Duration::from_micros(n as u64 * 50), claim).await;
    }
    // Whoever comes after waits for its turn, and closing for everybody.
    scene.ledger.close().await.unwrap();
    let mut found = 0;
    for n in 0..16 {
        found += scene.users(&sii(n)).await.len() as u64;
    }
    scene.is_clean(found).await;
    let counted = counts(&*scene.generations).await.unwrap();
    // Opened without totals, so that it cannot know them exactly.
    assert_eq!(counted, None);
}

#[tokio::test]
async fn totals_stay_exact_through_a_closed_ledger_and_become_advice_through_a_killed_one() {
    let scene = Scene::memory(0).await;
    let generations = &*scene.generations;
    counts::write(generations, &counts::Totals::default()).await.unwrap();
    let ledger = Ledger::open(scene.generations.clone(), keyring()).await.unwrap();
    for n in 0..3 {
        ledger.claim(NOW_S, claim(&sii(n), "wa.example", "user")).await.unwrap();
    }
    ledger.claim(NOW_S, claim(&sii(0), "sg.example", "user")).await.unwrap();
    ledger.release_own(NOW_S, provider("wa.example"), &sii(2), user("user")).await.unwrap();
    assert_eq!(counts(generations).await.unwrap(), None);
    ledger.close().await.unwrap();
    let exact = counts(generations).await.unwrap().unwrap();
    assert_eq!((exact.mappings, exact.identifiers), (3, 2));

    let ledger = Ledger::open(scene.generations.clone(), keyring()).await.unwrap();
    ledger.claim(NOW_S, claim(&sii(5), "wa.example", "user")).await.unwrap();
    ledger.note_counts().await.unwrap();
    drop(ledger);
    assert_eq!(counts(generations).await.unwrap(), None);
    let advice = counts::advice(generations).await.unwrap();
    assert_eq!(advice[&provider("wa.example")], 3);
    assert_eq!(advice[&provider("sg.example")], 1);
}

#[tokio::test]
async fn every_change_stands_in_the_change_log_with_its_version() {
    let scene = Scene::memory(2).await;
    let store = scene.generations.current().await.unwrap().unwrap();
    let checkpoint = store.changes_since(0, 0, 1000).await.unwrap().checkpoint;
    let mut expected = BTreeSet::new();
    for n in 0..10 {
        scene.claimed(&sii(n), "wa.example", "user").await;
        let number = Placement::of(&sii(n)).bucket(scene.bits().await);
        expected.insert((number, store.bucket(number).await.unwrap().unwrap().version));
    }
    let changes = store.changes_since(0, checkpoint, 1000).await.unwrap();
    assert!(!changes.truncated);
    let logged: BTreeSet<_> =
        changes.changes.iter().map(|change| (change.number, change.version)).collect();
    assert_eq!(logged, expected);
}
