//! Directories that were damaged: what verification finds, and what repair can
//! do about it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::scene::{
    NOW_S, Scene, circle, claim, claim_in, keyring, outcome, provider, sii, siis_in, user,
};
use crate::{
    bucket::{Bucket, BucketNumber, ENTRY_BYTES},
    epoch::Epoch,
    registry::{
        BucketFault, Verification,
        row::{self, Listing},
        verify_directory,
    },
    store::{BulkBucket, Row, RowKey},
};

/// Puts an altered bucket in the place of the only one.
async fn alter(scene: &Scene, alter: impl FnOnce(&mut Bucket, &mut Vec<Row>)) {
    let store = scene.generations.current().await.unwrap().unwrap();
    let [(bucket, rows)] = scene.bytes().await.try_into().ok().unwrap();
    let (mut bucket, mut rows) = (bucket.unwrap(), rows.rows);
    bucket.version += 1;
    alter(&mut bucket, &mut rows);
    store.bulk_put(vec![BulkBucket { bucket, rows }]).await.unwrap();
    store.sync().await.unwrap();
}

/// The same bucket with other entries, signed by the directory.
fn resigned(bucket: &Bucket, entries: Vec<u8>) -> Bucket {
    let keyring = keyring();
    let (directory, identity) = (keyring.directory(), keyring.identity());
    let Bucket { epoch, prefix_bits, number, version, .. } = *bucket;
    Bucket::sign(epoch, prefix_bits, number, version, entries.into(), directory, identity).unwrap()
}

async fn fault(scene: &Scene) -> BucketFault {
    let heard = AtomicU64::new(0);
    let hear = |found: &Verification| heard.store(found.faulty, Ordering::Relaxed);
    let found = verify_directory(&*scene.generations, keyring(), hear).await.unwrap();
    assert_eq!((found.buckets, found.faulty, found.faults.len()), (1, 1, 1));
    assert_eq!(heard.load(Ordering::Relaxed), 1);
    found.faults[0].1
}

async fn full() -> Scene {
    let scene = Scene::memory(0).await;
    for n in 0..10 {
        scene.claimed(&sii(n), "wa.example", "user").await;
        scene.claimed(&sii(n), "sg.example", "user").await;
    }
    let hidden = claim_in(&sii(1), "wa.example", "hidden", circle(1));
    scene.ledger.claim(NOW_S, hidden).await.unwrap();
    scene.is_clean(21).await;
    scene
}

async fn number(scene: &Scene) -> BucketNumber {
    BucketNumber::new(0, scene.bits().await).unwrap()
}

/// After its repair the directory holds what its rows say.
async fn repaired(scene: &Scene) {
    let version = scene.bytes().await[0].0.as_ref().unwrap().version;
    scene.ledger.repair(NOW_S, number(scene).await).await.unwrap();
    scene.is_clean(21).await;
    assert_eq!(scene.bytes().await[0].0.as_ref().unwrap().version, version + 1);
    for n in 0..10 {
        assert_eq!(scene.users(&sii(n)).await, ["user", "user"]);
    }
    assert_eq!(scene.find(&sii(1), Some(&circle(1))).await.len(), 1);
    // And it can be changed again.
    scene.claimed(&sii(1), "tm.example", "user").await;
    scene.is_clean(22).await;
}

#[tokio::test]
async fn altered_entries_are_found_and_rebuilt() {
    let scene = full().await;
    let slot = *scene.slots(&sii(3)).await.first().unwrap();
    alter(&scene, |bucket, _| {
        let mut entries = bucket.entries().to_vec();
        entries[usize::from(slot) * ENTRY_BYTES + 100] ^= 1;
        *bucket = resigned(bucket, entries);
    })
    .await;
    assert_eq!(fault(&scene).await, BucketFault::Entries);
    repaired(&scene).await;
}

#[tokio::test]
async fn a_mapping_that_clients_find_and_no_row_knows_is_found_and_removed() {
    let scene = full().await;
    scene.claimed(&sii(5), "tm.example", "gone").await;
    let extra = scene.bytes().await[0].0.clone().unwrap();
    let released =
        scene.ledger.release_own(NOW_S, provider("tm.example"), &sii(5), user("gone")).await;
    released.unwrap();
    scene.is_clean(21).await;
    alter(&scene, |bucket, _| *bucket = resigned(bucket, extra.entries().to_vec())).await;
    assert_eq!(fault(&scene).await, BucketFault::Entries);
    repaired(&scene).await;
}

#[tokio::test]
async fn a_bucket_without_its_signature_is_found_and_signed() {
    let scene = full().await;
    // The version is signed, and raised without signing.
    alter(&scene, |_, _| {}).await;
    assert_eq!(fault(&scene).await, BucketFault::Signature);
    repaired(&scene).await;
}

#[tokio::test]
async fn a_bucket_without_rows_is_signed_again_too() {
    let scene = Scene::memory(0).await;
    alter(&scene, |_, _| {}).await;
    assert_eq!(fault(&scene).await, BucketFault::Signature);
    scene.ledger.repair(NOW_S, number(&scene).await).await.unwrap();
    scene.is_clean(0).await;
}

/// Rewrites the row of an identifier.
fn rewrite(rows: &mut [Row], n: usize, change: impl FnOnce(&mut Listing)) {
    let keyring = keyring();
    let key = keyring.row_key(&sii(n));
    let row = rows.iter_mut().find(|row| row.key == RowKey(key)).unwrap();
    let text = keyring.open_row(&key, &row.sealed).unwrap();
    let mut listing = row::decode(&text, &mut row::Providers::default()).unwrap();
    change(&mut listing);
    let text = row::encode(&listing).unwrap();
    row.sealed = keyring.seal_row(&key, &text, &mut rand::rng()).unwrap();
}

#[tokio::test]
async fn two_mappings_in_one_slot_are_found_and_parted() {
    let scene = full().await;
    let slot = *scene.slots(&sii(3)).await.first().unwrap();
    alter(&scene, |bucket, rows| {
        *bucket = resigned(bucket, bucket.entries().to_vec());
        rewrite(rows, 4, |listing| listing.sequences[0].placed[0].slot = slot);
    })
    .await;
    assert_eq!(fault(&scene).await, BucketFault::Slot);
    // Nothing is changed on such grounds.
    let refused = scene.ledger.claim(NOW_S, claim(&sii(9), "tm.example", "user"));
    assert_eq!(outcome(refused.await), Err("damaged"));
    repaired(&scene).await;
}

#[tokio::test]
async fn what_rows_alone_cannot_mend_is_told_apart() {
    let cut = |rows: &mut Vec<Row>| rows[0].sealed.truncate(60);
    let forge = |rows: &mut Vec<Row>| {
        rewrite(rows, 4, |listing| listing.sequences[0].placed[0].signed.signature = [1; 64]);
    };
    let scene = full().await;
    alter(&scene, |_, rows| cut(rows)).await;
    assert_eq!(fault(&scene).await, BucketFault::Row);
    let swept = scene.ledger.sweep(u64::from(u32::MAX), None, 1).await.unwrap();
    assert_eq!((swept.removed, swept.skipped), (0, 1));
    assert!(scene.ledger.repair(NOW_S, number(&scene).await).await.is_err());

    let scene = full().await;
    alter(&scene, |_, rows| forge(rows)).await;
    assert_eq!(fault(&scene).await, BucketFault::Mapping);

    let scene = full().await;
    alter(&scene, |bucket, _| {
        bucket.epoch = Epoch::new(9).unwrap();
        *bucket = resigned(bucket, bucket.entries().to_vec());
    })
    .await;
    assert_eq!(fault(&scene).await, BucketFault::Epoch);
    let refused = scene.ledger.repair(NOW_S, number(&scene).await).await;
    assert_eq!(outcome(refused), Err("epoch missing"));
    for fault in [BucketFault::Row, BucketFault::Mapping, BucketFault::Epoch] {
        assert!(!fault.is_repairable());
    }
}

#[tokio::test]
async fn a_row_in_a_bucket_that_is_not_its_own_is_found() {
    let scene = Scene::memory(1).await;
    let stranger = siis_in(1, 1).next().unwrap();
    let local = siis_in(0, 1).next().unwrap();
    scene.claimed(&stranger, "wa.example", "user").await;
    scene.claimed(&local, "wa.example", "user").await;
    let store = scene.generations.current().await.unwrap().unwrap();
    let [(bucket, mut rows), (_, others)] = scene.bytes().await.try_into().ok().unwrap();
    let bucket = bucket.unwrap();
    rows.rows.extend(others.rows);
    rows.rows.sort_by_key(|row| row.key);
    store.bulk_put(vec![BulkBucket { bucket, rows: rows.rows }]).await.unwrap();
    let found = verify_directory(&*scene.generations, keyring(), |_| {}).await.unwrap();
    assert_eq!(found.faults.len(), 1);
    assert_eq!(found.faults[0].1, BucketFault::Row);
}
