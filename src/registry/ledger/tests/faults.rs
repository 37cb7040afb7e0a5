//! Stores that fail in the middle of an operation: it is done or it is not,
//! whatever its caller heard.

use std::sync::Arc;

use super::{
    scene::{
        NOW_S, Scene, changed_slots, circle, claim, claim_in, control, keyring, outcome, provider,
        signature, signed, sii, user, which,
    },
    wrapped::{Fault, Faulty},
};
use crate::{
    bucket::{Audience, Mapping},
    registry::{Claim, Ledger, LedgerError, Port},
};

/// Operations on an identifier with three mappings, and how many are left.
const OPERATIONS: [(&str, u64); 9] = [
    ("claim", 4),
    ("claim in a circle", 4),
    ("renew", 3),
    ("release own", 2),
    ("release all", 0),
    ("release", 2),
    ("set default", 3),
    ("set audience", 3),
    ("port", 2),
];

async fn operate(ledger: &Ledger, operation: &str) -> Result<(), LedgerError> {
    let alice = sii(1);
    match operation {
        "claim" => ledger.claim(NOW_S, claim(&alice, "sg.example", "new")).await.map(drop),
        "claim in a circle" => {
            let claim = claim_in(&alice, "sg.example", "new", circle(1));
            ledger.claim(NOW_S, claim).await.map(drop)
        }
        "renew" => {
            let renewed =
                Claim { audience: Audience::Business, ..claim(&alice, "wa.example", "b") };
            ledger.claim(NOW_S, signed(renewed)).await.map(drop)
        }
        "release own" => {
            let wa = provider("wa.example");
            ledger.release_own(NOW_S, wa, &alice, user("a")).await.map(drop)
        }
        "release all" => ledger.release_all(NOW_S, &alice).await.map(drop),
        "release" => ledger.release(NOW_S, control(&alice), which("wa.example", "b")).await,
        "set default" => ledger.set_default(NOW_S, control(&alice), which("wa.example", "c")).await,
        "set audience" => {
            let which = which("wa.example", "a");
            let mapping = Mapping {
                ssi: which.ssi.clone(),
                audience: Audience::Business,
                default_since: 0,
                verified_until: claim(&alice, "wa.example", "a").verified_until,
                ttl_s: 86_400,
            };
            let signature = signature(&alice, mapping);
            ledger.set_audience(NOW_S, &alice, which, Audience::Business, signature).await
        }
        "port" => {
            let to = Some(claim(&alice, "sg.example", "new"));
            let port = Port { sii: alice, from: Some(provider("tm.example")), to };
            ledger.port(NOW_S, port).await.map(drop)
        }
        other => panic!("no such operation: {other}"),
    }
}

async fn begun(scene: &Scene, operation: &str) {
    for name in ["a", "b", "c"] {
        // A port has two to release.
        let by = if operation == "port" && name != "b" { "tm.example" } else { "wa.example" };
        scene.claimed(&sii(1), by, name).await;
    }
    scene.claimed(&sii(2), "wa.example", "bystander").await;
}

#[tokio::test]
async fn an_operation_whose_commit_fails_is_not_done_and_can_be_done_again() {
    for (operation, left) in OPERATIONS {
        let scene = Scene::memory(0).await;
        begun(&scene, operation).await;
        let before = scene.bytes().await;
        let faulty = Faulty::new(&scene.generations, Fault::Before);
        let ledger = Ledger::open(faulty, keyring()).await.unwrap();
        assert_eq!(outcome(operate(&ledger, operation).await), Err("store"), "{operation}");
        assert!(scene.bytes().await == before, "{operation}");
        let scene = scene.reopened().await;
        operate(&scene.ledger, operation).await.unwrap();
        scene.is_clean(left + 1).await;
    }
}

#[tokio::test]
async fn an_operation_whose_acknowledgement_is_lost_is_done_whole() {
    for (operation, left) in OPERATIONS {
        let scene = Scene::memory(0).await;
        begun(&scene, operation).await;
        let before = scene.bytes().await;
        let faulty = Faulty::new(&scene.generations, Fault::After);
        let ledger = Ledger::open(faulty, keyring()).await.unwrap();
        assert_eq!(outcome(operate(&ledger, operation).await), Err("store"), "{operation}");
        assert!(!changed_slots(&before, &scene.bytes().await).is_empty(), "{operation}");
        let scene = scene.reopened().await;
        scene.is_clean(left + 1).await;
        assert_eq!(scene.users(&sii(2)).await, ["bystander"]);
    }
}

#[tokio::test]
async fn a_change_that_others_forestall_is_planned_anew_and_given_up_at_last() {
    let scene = Scene::memory(0).await;
    let faulty = Faulty::new(&scene.generations, Fault::Conflict(15));
    let ledger = Ledger::open(Arc::<Faulty>::clone(&faulty), keyring()).await.unwrap();
    ledger.claim(NOW_S, claim(&sii(1), "wa.example", "alice")).await.unwrap();
    assert_eq!(faulty.tried(), 16);
    scene.is_clean(1).await;

    let before = scene.bytes().await;
    let faulty = Faulty::new(&scene.generations, Fault::Conflict(usize::MAX));
    let ledger = Ledger::open(Arc::<Faulty>::clone(&faulty), keyring()).await.unwrap();
    let busy = ledger.claim(NOW_S, claim(&sii(2), "wa.example", "bob")).await;
    assert_eq!(outcome(busy), Err("busy"));
    assert_eq!(faulty.tried(), 16);
    assert!(scene.bytes().await == before);
}
