//! The bulk load and the ledger, one after the other on the same directory.

use std::{io::Cursor, sync::Arc};

use super::scene::{
    NOW_S, circle, claim, claim_in, find, is_clean, keyring, outcome, provider, signer, sii,
};
use crate::{
    bucket::PrefixBits,
    registry::{Circle, Claimed, Input, Ledger, LoadOptions, LoadReport, Progress, counts, load},
    store::{Generations, MemoryGenerations},
};

async fn loaded(
    generations: &Arc<dyn Generations>,
    people: impl Iterator<Item = usize>,
) -> LoadReport {
    let spill = tempfile::tempdir().unwrap();
    let lines = people.map(|n| format!("mailto:person-{n}@mail.example,user-{n}\n"));
    let text: String = std::iter::once("sii,user\n".to_owned()).chain(lines).collect();
    let key = signer("wa.example");
    let spill = spill.path().join("spill");
    let options = LoadOptions::new(provider("wa.example"), key, spill, NOW_S);
    let inputs = vec![Input::stream("people.csv", Cursor::new(text))];
    let progress = Arc::new(Progress::default());
    load(Arc::clone(generations), keyring(), options, inputs, progress).await.unwrap()
}

async fn users(generations: &dyn Generations, n: usize, circle: Option<&Circle>) -> Vec<String> {
    let found = find(generations, &sii(n), circle).await;
    found.into_iter().map(|(_, user, ..)| user).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_claimed_lives_through_loads_and_a_split_and_its_proofs_too() {
    let generations: Arc<dyn Generations> = Arc::new(MemoryGenerations::default());
    loaded(&generations, 0..100).await;
    let ledger = Ledger::open(Arc::clone(&generations), keyring()).await.unwrap();
    let first = claim(&sii(7), "wa.example", "claimed");
    ledger.claim(NOW_S, first.clone()).await.unwrap();
    let hidden = claim_in(&sii(7), "wa.example", "hidden", circle(1));
    ledger.claim(NOW_S, hidden).await.unwrap();
    let lone = claim_in(&sii(500), "wa.example", "lone", circle(1));
    ledger.claim(NOW_S, lone.clone()).await.unwrap();
    // A mapping that was loaded is renewed by a claim.
    let renewed = ledger.claim(NOW_S, claim(&sii(8), "wa.example", "user-8")).await.unwrap();
    assert_eq!(renewed, Claimed::Renewed);
    // One whose row holds nothing but its proof any more.
    let gone = claim(&sii(501), "wa.example", "gone");
    ledger.claim(NOW_S, gone.clone()).await.unwrap();
    ledger.release_all(NOW_S, &sii(501)).await.unwrap();
    ledger.close().await.unwrap();
    is_clean(&*generations, 103).await;
    let before = counts(&*generations).await.unwrap().unwrap();
    assert_eq!((before.mappings, before.identifiers), (103, 101));

    // In place, and into twice as many buckets.
    for (people, mappings, bits) in [(100..130, 133, 0), (0..250, 253, 1)] {
        loaded(&generations, people).await;
        let now = generations.current().await.unwrap().unwrap().prefix_bits();
        assert_eq!(now, PrefixBits::new(bits).unwrap());
        is_clean(&*generations, mappings).await;
        let exact = counts(&*generations).await.unwrap().unwrap();
        assert_eq!((exact.mappings, exact.identifiers), (mappings, mappings - 2));
        assert_eq!(users(&*generations, 7, None).await, ["user-7", "claimed"]);
        assert_eq!(users(&*generations, 7, Some(&circle(1))).await, ["hidden"]);
        assert_eq!(users(&*generations, 500, Some(&circle(1))).await, ["lone"]);
        assert!(users(&*generations, 500, None).await.is_empty());

        let ledger = Ledger::open(Arc::clone(&generations), keyring()).await.unwrap();
        for used in [&first, &lone, &gone] {
            let again = ledger.claim(NOW_S, used.clone()).await;
            assert_eq!(outcome(again), Err("proof used"));
        }
    }
    // Somebody of whom only a proof, or only a circle, is known is loaded like
    // anybody else.
    let report = loaded(&generations, [500, 501].into_iter()).await;
    assert_eq!((report.added, report.identifiers), (2, 252));
    assert_eq!(users(&*generations, 500, None).await, ["user-500"]);
    assert_eq!(users(&*generations, 500, Some(&circle(1))).await, ["lone"]);
    is_clean(&*generations, 255).await;
}
