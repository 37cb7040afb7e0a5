//! What is refused, and that a refusal changes no byte.

use super::scene::{
    NOW_S, PROVIDERS, Scene, circle, claim, claim_in, control, name, outcome, proof, provider,
    seconds, signature, signed, sii, siis_in, user, which, which_in,
};
use crate::{
    bucket::{Audience, BUCKET_ENTRIES, Mapping},
    identifier::Sii,
    registry::{
        Claim, Claimed, Ledger, LedgerError, MAX_VERIFIED_S, Port, ProofRecord, VerifiedClaim,
        VerifiedControl, plan,
    },
    store::MemoryGenerations,
};

/// A claim is refused, and every byte is as before.
async fn refused(scene: &Scene, now_s: u64, claim: Claim) -> &'static str {
    let before = scene.bytes().await;
    let error = scene.ledger.claim(now_s, claim).await.expect_err("a refusal");
    assert!(scene.bytes().await == before);
    name(&error)
}

#[tokio::test]
async fn a_claim_that_its_provider_did_not_sign_as_it_is_is_refused() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "wa.example", "alice").await;
        let good = || claim(&alice, "wa.example", "bob");
        let others_signature = claim(&sii(2), "wa.example", "bob").signature;
        let until = good().verified_until;
        for altered in [
            Claim { user: user("mallory"), ..good() },
            Claim { audience: Audience::Business, ..good() },
            Claim { ttl_s: 1, ..good() },
            Claim { verified_until: until - 1, ..good() },
            Claim { signature: [0; 64], ..good() },
            Claim { signature: others_signature, ..good() },
            Claim { signature: claim(&alice, "sg.example", "bob").signature, ..good() },
        ] {
            assert_eq!(refused(&scene, NOW_S, altered).await, "signature");
        }
        let stranger = claim(&alice, "nobody.example", "bob");
        assert_eq!(refused(&scene, NOW_S, stranger).await, "unknown provider");
        let long = Claim { user: user(&"u".repeat(63)), ..good() };
        assert_eq!(refused(&scene, NOW_S, long).await, "ssi");
    })
    .await;
}

#[tokio::test]
async fn a_mapping_may_hold_for_thirty_days_after_its_proof_and_no_longer() {
    let scene = Scene::memory(0).await;
    let alice = sii(1);
    let until =
        |until_s| signed(Claim { verified_until: until_s, ..claim(&alice, "wa.example", "alice") });
    let longest = seconds(NOW_S + MAX_VERIFIED_S);
    assert_eq!(refused(&scene, NOW_S, until(longest + 1)).await, "verified too long");
    assert_eq!(refused(&scene, NOW_S, until(u32::MAX)).await, "verified too long");
    // A mapping that nothing sweeps is not claimed, but loaded.
    assert_eq!(refused(&scene, NOW_S, until(0)).await, "lapsed");
    assert_eq!(refused(&scene, NOW_S, until(seconds(NOW_S))).await, "lapsed");
    scene.ledger.claim(NOW_S, until(longest)).await.unwrap();
    scene.ledger.claim(NOW_S, until(seconds(NOW_S) + 1)).await.unwrap();
}

#[tokio::test]
async fn a_proof_is_used_once_whatever_it_is_used_for_and_also_after_a_restart() {
    Scene::on_both(0, async |mut scene| {
        let alice = sii(1);
        let first = claim(&alice, "wa.example", "alice");
        let record = first.verified.proof();
        scene.ledger.claim(NOW_S, first.clone()).await.unwrap();
        for _ in 0..2 {
            // As it was, for another user, in a circle, as proof of control.
            assert_eq!(refused(&scene, NOW_S, first.clone()).await, "proof used");
            let other = signed(Claim { user: user("mallory"), ..first.clone() });
            assert_eq!(refused(&scene, NOW_S, other).await, "proof used");
            let hidden = Claim { circle: Some(circle(1)), ..first.clone() };
            assert_eq!(refused(&scene, NOW_S, hidden).await, "proof used");
            let before = scene.bytes().await;
            let control = VerifiedControl::new(alice.clone(), record);
            let which = which("wa.example", "alice");
            let done = scene.ledger.release(NOW_S, control.clone(), which.clone()).await;
            assert_eq!(outcome(done), Err("proof used"));
            let done = scene.ledger.set_default(NOW_S, control.clone(), which).await;
            assert_eq!(outcome(done), Err("proof used"));
            let listed = scene.ledger.list_control(NOW_S, &control).await;
            assert_eq!(outcome(listed), Err("proof used"));
            let port = Port { sii: alice.clone(), from: None, to: Some(first.clone()) };
            assert_eq!(outcome(scene.ledger.port(NOW_S, port).await), Err("proof used"));
            assert!(scene.bytes().await == before);
            scene = scene.reopened().await;
        }
        // Nor once the mapping is gone, or swept.
        scene.ledger.release_all(NOW_S, &alice).await.unwrap();
        scene.ledger.sweep(NOW_S + 299, None, 1).await.unwrap();
        assert_eq!(refused(&scene, NOW_S + 299, first.clone()).await, "proof used");
        // Nor by a call that was let in just before it expired.
        scene.claimed(&alice, "wa.example", "bob").await;
        scene.ledger.sweep(NOW_S + 899, None, 1).await.unwrap();
        assert_eq!(refused(&scene, NOW_S + 299, first.clone()).await, "proof used");
        assert_eq!(refused(&scene, NOW_S + 300, first).await, "proof expired");
    })
    .await;
}

#[tokio::test]
async fn expired_proofs_make_room_and_too_many_others_do_not() {
    let scene = Scene::memory(0).await;
    let alice = sii(1);
    let renew = |now_s: u64| {
        let proof = ProofRecord { expires_s: now_s + 300, ..proof() };
        let provider = provider("wa.example");
        let verified = VerifiedClaim::new(alice.clone(), provider, proof, NOW_S);
        Claim { verified, ..claim(&alice, "wa.example", "alice") }
    };
    for _ in 0..48 {
        scene.ledger.claim(NOW_S, renew(NOW_S)).await.unwrap();
    }
    assert_eq!(refused(&scene, NOW_S, renew(NOW_S)).await, "too many proofs");
    let later = NOW_S + 899;
    assert_eq!(refused(&scene, later, renew(later)).await, "too many proofs");
    let later = NOW_S + 900;
    scene.ledger.claim(later, renew(later)).await.unwrap();
    assert_eq!(scene.proofs(&alice).await, Some(1));
}

#[tokio::test]
async fn a_ninth_mapping_is_refused_in_whatever_circle() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        for n in 0..5 {
            scene.claimed(&alice, PROVIDERS[n % 3], &format!("user-{n}")).await;
        }
        for n in 0..3 {
            let hidden = claim_in(&alice, "wa.example", "hidden", circle(n));
            scene.ledger.claim(NOW_S, hidden).await.unwrap();
        }
        let open = claim(&alice, "wa.example", "ninth");
        assert_eq!(refused(&scene, NOW_S, open).await, "too many mappings");
        let hidden = claim_in(&alice, "wa.example", "ninth", circle(0));
        assert_eq!(refused(&scene, NOW_S, hidden).await, "too many mappings");
        // One that is there may be renewed.
        let done = scene.ledger.claim(NOW_S, claim(&alice, "wa.example", "user-0")).await;
        assert_eq!(done.unwrap(), Claimed::Renewed);
        scene.is_clean(8).await;
    })
    .await;
}

#[tokio::test]
async fn a_provider_may_fill_its_share_of_a_bucket_and_others_still_have_theirs() {
    let scene = Scene::memory(4).await;
    let mut siis = siis_in(3, 4);
    let mut claims = 0;
    loop {
        let next = claim(&siis.next().unwrap(), "wa.example", "user");
        match scene.ledger.claim(NOW_S, next.clone()).await {
            Ok(_) => claims += 1,
            Err(error) => {
                assert_eq!(name(&error), "share taken");
                // Its proof is not used up: nothing was written.
                assert_eq!(refused(&scene, NOW_S, next).await, "share taken");
                break;
            }
        }
        assert!(claims < BUCKET_ENTRIES);
    }
    assert_eq!(claims, plan::share(u64::try_from(claims).unwrap() + 1, scene.bits().await));
    scene.claimed(&siis.next().unwrap(), "sg.example", "user").await;
    // The share grows with the provider.
    for n in siis_in(4, 4).take(16) {
        scene.claimed(&n, "wa.example", "user").await;
    }
    scene.claimed(&siis.next().unwrap(), "wa.example", "user").await;
}

#[tokio::test]
async fn a_full_bucket_takes_no_more_until_something_is_released() {
    let scene = Scene::memory(0).await;
    for n in 0..BUCKET_ENTRIES / 8 {
        for m in 0..8 {
            scene.claimed(&sii(n), PROVIDERS[m % 3], &format!("user-{m}")).await;
        }
    }
    let late = sii(1000);
    assert_eq!(refused(&scene, NOW_S, claim(&late, "wa.example", "late")).await, "bucket full");
    scene.is_clean(256).await;
    scene.ledger.release_own(NOW_S, provider("wa.example"), &sii(3), user("user-0")).await.unwrap();
    scene.claimed(&late, "wa.example", "late").await;
    assert_eq!(scene.users(&late).await, ["late"]);
    scene.is_clean(256).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_its_proof_not_used_up() {
    Scene::on_both(0, async |scene| {
        let (alice, stranger) = (sii(1), sii(2));
        scene.claimed(&alice, "wa.example", "alice").await;
        let before = scene.bytes().await;
        let own = async |sii: &Sii, name, by| {
            outcome(scene.ledger.release_own(NOW_S, provider(by), sii, user(name)).await)
        };
        assert_eq!(own(&alice, "bob", "wa.example").await, Err("not found"));
        // Another provider's mapping is not its own, whatever its user is called.
        assert_eq!(own(&alice, "alice", "sg.example").await, Err("not found"));
        assert_eq!(own(&stranger, "alice", "wa.example").await, Err("not found"));
        let held = control(&alice);
        for which in [
            which("wa.example", "bob"),
            which("sg.example", "alice"),
            which_in("wa.example", "alice", &circle(1)),
        ] {
            let released = scene.ledger.release(NOW_S, held.clone(), which.clone()).await;
            assert_eq!(outcome(released), Err("not found"));
            let set = scene.ledger.set_default(NOW_S, held.clone(), which.clone()).await;
            assert_eq!(outcome(set), Err("not found"));
            let signature = [0; 64];
            let audience = Audience::Business;
            let set = scene.ledger.set_audience(NOW_S, &alice, which, audience, signature).await;
            assert_eq!(outcome(set), Err("not found"));
        }
        assert!(scene.bytes().await == before);
        scene.ledger.release(NOW_S, held, which("wa.example", "alice")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn control_of_one_identifier_is_none_of_another() {
    let scene = Scene::memory(0).await;
    scene.claimed(&sii(1), "wa.example", "alice").await;
    let before = scene.bytes().await;
    let which = which("wa.example", "alice");
    let released = scene.ledger.release(NOW_S, control(&sii(2)), which.clone()).await;
    assert_eq!(outcome(released), Err("not found"));
    let expired = ProofRecord { expires_s: NOW_S, ..proof() };
    let expired = VerifiedControl::new(sii(1), expired);
    let released = scene.ledger.release(NOW_S, expired, which).await;
    assert_eq!(outcome(released), Err("proof expired"));
    assert!(scene.bytes().await == before);
}

#[tokio::test]
async fn a_port_that_fails_in_its_second_half_has_no_first_half() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "wa.example", "alice").await;
        let before = scene.bytes().await;
        let port = |from: &str, to: Claim| Port {
            sii: alice.clone(),
            from: Some(provider(from)),
            to: Some(to),
        };
        let forged = Claim { signature: [0; 64], ..claim(&alice, "sg.example", "alice") };
        let stranger = claim(&alice, "nobody.example", "alice");
        for (port, refusal) in [
            (port("wa.example", forged), "signature"),
            (port("wa.example", stranger), "unknown provider"),
            (port("wa.example", claim(&sii(2), "sg.example", "bob")), "port of another"),
            (port("wa.example", claim(&alice, "wa.example", "new")), "port to itself"),
        ] {
            assert_eq!(outcome(scene.ledger.port(NOW_S, port).await), Err(refusal));
        }
        assert!(scene.bytes().await == before);
    })
    .await;
}

#[tokio::test]
async fn an_audience_signed_for_what_the_mapping_was_before_is_refused() {
    let scene = Scene::memory(0).await;
    let alice = sii(1);
    scene.claimed(&alice, "wa.example", "alice").await;
    let which = which("wa.example", "alice");
    let mapping = Mapping {
        ssi: which.ssi.clone(),
        audience: Audience::Business,
        default_since: 0,
        verified_until: seconds(NOW_S + MAX_VERIFIED_S),
        ttl_s: 86_400,
    };
    let stale = signature(&alice, mapping);
    let renewed = Claim {
        verified_until: seconds(NOW_S + MAX_VERIFIED_S - 1),
        ..claim(&alice, "wa.example", "alice")
    };
    scene.ledger.claim(NOW_S, signed(renewed)).await.unwrap();
    let before = scene.bytes().await;
    let audience = Audience::Business;
    let set = scene.ledger.set_audience(NOW_S, &alice, which, audience, stale).await;
    assert_eq!(outcome(set), Err("signature"));
    assert!(scene.bytes().await == before);
}

#[tokio::test]
async fn a_closed_ledger_and_one_without_directory_change_nothing() {
    let scene = Scene::memory(0).await;
    scene.claimed(&sii(1), "wa.example", "alice").await;
    scene.ledger.close().await.unwrap();
    let late = claim(&sii(2), "wa.example", "bob");
    assert_eq!(refused(&scene, NOW_S, late).await, "closed");
    scene.ledger.close().await.unwrap();

    let empty = std::sync::Arc::new(MemoryGenerations::default());
    let opened = Ledger::open(empty, super::scene::keyring()).await;
    assert!(matches!(opened, Err(LedgerError::NoDirectory)));
}

#[tokio::test]
async fn no_refusal_tells_whom_it_is_about() {
    let scene = Scene::memory(0).await;
    let sii = Sii::from_canonical("mailto:canary-identifier@mail.example").unwrap();
    let forged = Claim { signature: [0; 64], ..claim(&sii, "wa.example", "canary-user") };
    let told = format!("{forged:?} {:?}", control(&sii));
    let errors = [
        scene.ledger.claim(NOW_S, forged).await.map(drop),
        scene.ledger.release(NOW_S, control(&sii), which("wa.example", "canary-user")).await,
    ];
    for error in errors {
        let error = error.expect_err("a refusal");
        for text in [format!("{error}"), format!("{error:?}"), told.clone()] {
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
