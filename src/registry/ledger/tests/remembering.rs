//! What a ledger remembers of buckets and keys, and that it believes none of it
//! once somebody else has changed them.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use tokio::task::JoinSet;

use super::scene::{
    NOW_S, PROVIDERS, Scene, claim, control, keyring, name, outcome, provider, sii, siis_in, user,
    which,
};
use crate::{
    bucket::{Audience, Mapping, PrefixBits, SignedMapping},
    registry::{
        BucketFault, Claim, Ledger, plan, providers,
        row::{self, Listing, Providers},
        verify_directory,
    },
    store::{BulkBucket, Row},
};

async fn second(scene: &Scene) -> Ledger {
    Ledger::open(Arc::clone(&scene.generations), keyring()).await.unwrap()
}

/// Puts other rows in the place of those of the only bucket, its version raised
/// by so much.
async fn alter(scene: &Scene, raised: u64, alter: impl FnOnce(&mut Vec<Row>)) {
    let store = scene.generations.current().await.unwrap().unwrap();
    let [(bucket, rows)] = scene.bytes().await.try_into().ok().unwrap();
    let (mut bucket, mut rows) = (bucket.unwrap(), rows.rows);
    bucket.version += raised;
    alter(&mut rows);
    store.bulk_put(vec![BulkBucket { bucket, rows }]).await.unwrap();
}

/// Changes what a row says.
fn rewrite(rows: &mut [Row], of: usize, change: impl FnOnce(&mut Listing)) {
    let key = keyring().row_key(&sii(of));
    let row = rows.iter_mut().find(|row| row.key.0 == key).unwrap();
    let text = keyring().open_row(&key, &row.sealed).unwrap();
    let mut listing = row::decode(&text, &mut Providers::default()).unwrap();
    change(&mut listing);
    let text = row::encode(&listing).unwrap();
    row.sealed = keyring().seal_row(&key, &text, &mut rand::rng()).unwrap();
}

#[tokio::test]
async fn two_ledgers_that_change_one_bucket_by_turns_see_each_others_changes() {
    Scene::on_both(0, async |scene| {
        let other = second(&scene).await;
        for n in 0..24 {
            let ledger = if n % 2 == 0 { &scene.ledger } else { &other };
            ledger.claim(NOW_S, claim(&sii(n), "wa.example", "user")).await.unwrap();
            // What the other wrote, this one adds to.
            let before = n.saturating_sub(1);
            ledger.claim(NOW_S, claim(&sii(before), "sg.example", "more")).await.unwrap();
        }
        scene.is_clean(2 * 24 - 1).await;
        for n in 0..24 {
            let ledger = if n % 3 == 0 { &scene.ledger } else { &other };
            ledger.release(NOW_S, control(&sii(n)), which("wa.example", "user")).await.unwrap();
        }
        scene.is_clean(23).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_the_claims_of_two_ledgers_at_once_none_is_lost_and_no_slot_taken_twice() {
    Scene::on_both(0, async |scene| {
        let mut claims = JoinSet::new();
        for ledger in [scene.ledger.clone(), second(&scene).await] {
            let by = PROVIDERS[claims.len()];
            claims.spawn(async move {
                let mut done = 0;
                for n in 0..24 {
                    // One that others forestalled for too long changed nothing.
                    match ledger.claim(NOW_S, claim(&sii(n), by, "user")).await {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(name(&error), "busy"),
                    }
                }
                done
            });
        }
        let done: u64 = claims.join_all().await.into_iter().sum();
        assert!(done >= 24, "{done}");
        scene.is_clean(done).await;
    })
    .await;
}

#[tokio::test]
async fn a_share_is_counted_over_what_others_claimed_meanwhile() {
    let scene = Scene::memory(0).await;
    let other = second(&scene).await;
    // One ledger alone counts what it claims; the other begins at nothing.
    let mut claimed = 0;
    let refused = loop {
        let ledger = if claimed % 2 == 0 { &scene.ledger } else { &other };
        match ledger.claim(NOW_S, claim(&sii(claimed), "wa.example", "user")).await {
            Ok(_) => claimed += 1,
            Err(error) => break name(&error),
        }
        assert!(claimed < 256);
    };
    assert_eq!(refused, "share taken");
    let least = plan::share(1, PrefixBits::ZERO);
    assert!(claimed >= least, "{claimed} of {least}");
    // And room that somebody else made is room.
    let of = sii(0);
    other.release_own(NOW_S, provider("wa.example"), &of, user("user")).await.unwrap();
    scene.ledger.claim(NOW_S, claim(&of, "wa.example", "user")).await.unwrap();
    scene.is_clean(claimed as u64).await;
}

#[tokio::test]
async fn two_mappings_in_one_slot_are_found_whatever_was_remembered() {
    let scene = Scene::memory(0).await;
    for n in 0..3 {
        scene.claimed(&sii(n), "wa.example", "user").await;
    }
    let taken = scene.slots(&sii(1)).await.into_iter().next().unwrap();
    alter(&scene, 1, |rows| rewrite(rows, 2, |row| row.sequences[0].placed[0].slot = taken)).await;
    let claim = scene.ledger.claim(NOW_S, claim(&sii(0), "sg.example", "user")).await;
    assert_eq!(outcome(claim), Err("damaged"));
}

#[tokio::test]
async fn a_row_that_contradicts_what_is_remembered_is_not_changed() {
    let scene = Scene::memory(0).await;
    for n in 0..3 {
        scene.claimed(&sii(n), "wa.example", "user").await;
    }
    let free = {
        let mut taken = Vec::new();
        for n in 0..3 {
            taken.extend(scene.slots(&sii(n)).await);
        }
        (0..=u8::MAX).find(|slot| !taken.contains(slot)).unwrap()
    };
    // Altered behind the back of whoever remembers: the version is the same.
    alter(&scene, 0, |rows| rewrite(rows, 1, |row| row.sequences[0].placed[0].slot = free)).await;
    let before = scene.bytes().await;
    let refused = scene.ledger.claim(NOW_S, claim(&sii(1), "sg.example", "user")).await;
    assert_eq!(outcome(refused), Err("damaged"));
    assert!(scene.bytes().await == before);
    // The others are sound, and verification finds what none of them opens.
    scene.claimed(&sii(0), "sg.example", "user").await;
    let found = verify_directory(&*scene.generations, keyring(), |_| {}).await.unwrap();
    assert_eq!(
        found.faults.iter().map(|(_, fault)| *fault).collect::<Vec<_>>(),
        [BucketFault::Entries]
    );
}

#[tokio::test]
async fn a_row_of_another_bucket_is_refused_though_it_alone_is_opened() {
    let scene = Scene::memory(1).await;
    let [here, there] = [0, 1].map(|number| siis_in(number, 1).next().unwrap());
    scene.claimed(&here, "wa.example", "user").await;
    scene.claimed(&there, "wa.example", "user").await;
    let store = scene.generations.current().await.unwrap().unwrap();
    let bytes = scene.bytes().await;
    let foreign = bytes[1].1.rows.clone();
    let bucket = bytes[0].0.clone().unwrap();
    // Under its own name it lies where nobody asks for it; the bucket is sound
    // to whoever opens another row, and to nobody who opens all.
    let mut rows = bytes[0].1.rows.clone();
    rows.extend(foreign);
    rows.sort_by_key(|row| row.key);
    store.bulk_put(vec![BulkBucket { bucket, rows }]).await.unwrap();
    scene.claimed(&here, "sg.example", "user").await;
    let found = verify_directory(&*scene.generations, keyring(), |_| {}).await.unwrap();
    assert_eq!(
        found.faults.iter().map(|(_, fault)| *fault).collect::<Vec<_>>(),
        [BucketFault::Row]
    );
    let fresh = second(&scene).await.claim(NOW_S, claim(&here, "tm.example", "user")).await;
    assert_eq!(outcome(fresh), Err("damaged"));
}

#[tokio::test]
async fn a_key_that_was_recorded_anew_counts_from_then_on_and_the_old_one_no_more() {
    let scene = Scene::memory(0).await;
    scene.claimed(&sii(1), "wa.example", "user").await;
    let wa = provider("wa.example");
    let key = SigningKey::from_bytes(&[9; 32]);
    let old = claim(&sii(2), "wa.example", "old");
    let mut new = claim(&sii(2), "wa.example", "new");
    let Claim { audience, verified_until, ttl_s, .. } = new;
    let ssi = which("wa.example", "new").ssi;
    let mapping = Mapping { ssi, audience, default_since: 0, verified_until, ttl_s };
    assert_eq!(audience, Audience::Personal);
    new.signature = SignedMapping::sign(&sii(2), mapping, &key).signature;
    let refused = scene.ledger.claim(NOW_S, new.clone()).await;
    assert_eq!(outcome(refused), Err("signature"));

    providers::record(&*scene.generations, &wa, &key.verifying_key()).await.unwrap();
    // Nobody told the ledger, which finds out when the one it knows does not do.
    scene.ledger.claim(NOW_S, new).await.unwrap();
    let refused = scene.ledger.claim(NOW_S, old.clone()).await;
    assert_eq!(outcome(refused), Err("signature"));

    let first = super::scene::signer("wa.example").verifying_key();
    providers::record(&*scene.generations, &wa, &first).await.unwrap();
    scene.ledger.provider_recorded(&wa);
    scene.ledger.claim(NOW_S, old).await.unwrap();
}

#[tokio::test]
async fn what_is_remembered_is_of_its_own_directory() {
    let scene = Scene::memory(0).await;
    scene.claimed(&sii(1), "wa.example", "user").await;
    // Another generation takes the place of this one: the ledger writes no more.
    let bits = PrefixBits::new(1).unwrap();
    scene.generations.stage(bits).await.unwrap();
    scene.generations.promote().await.unwrap();
    let refused = scene.ledger.claim(NOW_S, claim(&sii(1), "sg.example", "user")).await;
    assert_eq!(outcome(refused), Err("store"));
}
