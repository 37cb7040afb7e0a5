//! What each operation does.

use super::scene::{
    Bytes, NOW_S, Scene, changed_slots, circle, claim, claim_in, control, outcome, proof, provider,
    seconds, signature, signed, sii, user, which, which_in,
};
use crate::{
    bucket::{Audience, Mapping},
    registry::{Claim, Claimed, Port, Ported, ProofRecord, VerifiedClaim},
};

const MONTH_S: u32 = 30 * 86_400;

#[tokio::test]
async fn a_claimed_mapping_is_found_and_a_renewed_one_changes_in_its_own_slot() {
    Scene::on_both(2, async |scene| {
        let alice = sii(1);
        let before = scene.bytes().await;
        let done = scene.ledger.claim(NOW_S, claim(&alice, "wa.example", "alice")).await;
        assert_eq!(done.unwrap(), Claimed::New);
        let until = seconds(NOW_S) + MONTH_S;
        let personal = ("wa.example".into(), "alice".into(), Audience::Personal, 0, until);
        assert_eq!(scene.find(&alice, None).await, [personal]);
        let first = scene.bytes().await;
        let slots = changed_slots(&before, &first);
        assert_eq!(slots.len(), 1);
        scene.is_clean(1).await;

        let later = NOW_S + 60;
        let renewed = Claim {
            audience: Audience::Business,
            verified_until: until - 7,
            ..claim(&alice, "wa.example", "alice")
        };
        let done = scene.ledger.claim(later, signed(renewed)).await;
        assert_eq!(done.unwrap(), Claimed::Renewed);
        let business = ("wa.example".into(), "alice".into(), Audience::Business, 0, until - 7);
        assert_eq!(scene.find(&alice, None).await, [business]);
        assert_eq!(changed_slots(&first, &scene.bytes().await), slots);
        scene.is_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn every_change_raises_the_version_of_its_bucket_and_of_no_other() {
    let scene = Scene::memory(2).await;
    let before = scene.bytes().await;
    scene.claimed(&sii(1), "wa.example", "alice").await;
    let after = scene.bytes().await;
    let rises = before.iter().zip(&after).map(|(before, after)| {
        after.0.as_ref().unwrap().version - before.0.as_ref().unwrap().version
    });
    let mut rises: Vec<_> = rises.collect();
    rises.sort_unstable();
    assert_eq!(rises, [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_release_moves_the_rest_up_and_overwrites_its_slot_alone() {
    Scene::on_both(0, async |scene| {
        let (alice, bob) = (sii(1), sii(2));
        for name in ["a", "b", "c", "d"] {
            scene.claimed(&alice, "wa.example", name).await;
            scene.claimed(&bob, "wa.example", name).await;
        }
        let before = scene.bytes().await;
        let slots = scene.slots(&alice).await;
        let released =
            scene.ledger.release_own(NOW_S, provider("wa.example"), &alice, user("b")).await;
        assert_eq!(released.unwrap(), 1);
        assert_eq!(scene.users(&alice).await, ["a", "c", "d"]);
        assert_eq!(scene.users(&bob).await, ["a", "b", "c", "d"]);
        let left = scene.slots(&alice).await;
        assert!(left.is_subset(&slots) && left.len() == 3);
        // `a` keeps its n and its every byte; `c` and `d` move up, `b` is gone.
        let changed = changed_slots(&before, &scene.bytes().await);
        assert_eq!(changed.len(), 3);
        assert!(changed.iter().all(|(_, slot)| slots.contains(&u8::try_from(*slot).unwrap())));
        scene.is_clean(7).await;
    })
    .await;
}

#[tokio::test]
async fn an_authority_releases_everything_and_nothing_of_others() {
    Scene::on_both(0, async |scene| {
        let (alice, bob) = (sii(1), sii(2));
        scene.claimed(&alice, "wa.example", "a").await;
        scene.claimed(&alice, "sg.example", "b").await;
        scene.ledger.claim(NOW_S, claim_in(&alice, "tm.example", "c", circle(1))).await.unwrap();
        scene.claimed(&bob, "wa.example", "bob").await;
        assert_eq!(scene.ledger.release_all(NOW_S, &alice).await.unwrap(), 3);
        assert!(scene.find(&alice, None).await.is_empty());
        assert!(scene.find(&alice, Some(&circle(1))).await.is_empty());
        assert_eq!(scene.users(&bob).await, ["bob"]);
        assert_eq!(scene.ledger.release_all(NOW_S, &alice).await.unwrap(), 0);
        // What was proved stays known.
        assert_eq!(scene.proofs(&alice).await, Some(3));
        scene.is_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_circle_finds_what_nobody_else_does_in_the_same_bucket() {
    Scene::on_both(2, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "wa.example", "alice").await;
        for (name, secret) in [("hidden", 1), ("deeper", 1), ("other", 2), ("alice", 2)] {
            let claim = claim_in(&alice, "wa.example", name, circle(secret));
            assert_eq!(scene.ledger.claim(NOW_S, claim).await.unwrap(), Claimed::New);
        }
        let names = async |secret: Option<u8>| {
            let found = scene.find(&alice, secret.map(circle).as_ref()).await;
            found.into_iter().map(|(_, user, ..)| user).collect::<Vec<_>>()
        };
        assert_eq!(names(None).await, ["alice"]);
        assert_eq!(names(Some(1)).await, ["hidden", "deeper"]);
        assert_eq!(names(Some(2)).await, ["other", "alice"]);
        assert!(names(Some(3)).await.is_empty());

        // One of the two that lead to `alice`, and then the other.
        let which = which_in("wa.example", "alice", &circle(2));
        scene.ledger.release(NOW_S, control(&alice), which).await.unwrap();
        assert_eq!(names(Some(2)).await, ["other"]);
        assert_eq!(names(None).await, ["alice"]);
        let which = which_in("wa.example", "hidden", &circle(1));
        scene.ledger.release(NOW_S, control(&alice), which).await.unwrap();
        assert_eq!(names(Some(1)).await, ["deeper"]);
        scene.is_clean(3).await;
    })
    .await;
}

#[tokio::test]
async fn a_provider_releases_its_user_in_every_circle_at_once() {
    let scene = Scene::memory(0).await;
    let alice = sii(1);
    scene.claimed(&alice, "wa.example", "alice").await;
    scene.claimed(&alice, "sg.example", "alice").await;
    let hidden = claim_in(&alice, "wa.example", "alice", circle(1));
    scene.ledger.claim(NOW_S, hidden).await.unwrap();
    let released =
        scene.ledger.release_own(NOW_S, provider("wa.example"), &alice, user("alice")).await;
    assert_eq!(released.unwrap(), 2);
    let left: Vec<_> = scene.find(&alice, None).await.into_iter().map(|it| it.0).collect();
    assert_eq!(left, ["sg.example"]);
    assert!(scene.find(&alice, Some(&circle(1))).await.is_empty());
    scene.is_clean(1).await;
}

#[tokio::test]
async fn the_default_has_the_strictly_greatest_time_in_all_circles() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "wa.example", "a").await;
        scene.claimed(&alice, "sg.example", "b").await;
        let hidden = claim_in(&alice, "wa.example", "c", circle(1));
        scene.ledger.claim(NOW_S, hidden).await.unwrap();
        let now = seconds(NOW_S);
        let since = async || {
            let found = scene.find(&alice, None).await;
            let hidden = scene.find(&alice, Some(&circle(1))).await;
            found.into_iter().chain(hidden).map(|it| it.3).collect::<Vec<_>>()
        };
        let set = async |which| {
            scene.ledger.set_default(NOW_S, control(&alice), which).await.unwrap();
        };
        set(which("sg.example", "b")).await;
        assert_eq!(since().await, [0, now, 0]);
        // In the same second, and with a clock that was set back.
        set(which_in("wa.example", "c", &circle(1))).await;
        assert_eq!(since().await, [0, now, now + 1]);
        let early = scene.ledger.set_default(5, control(&alice), which("wa.example", "a")).await;
        early.unwrap();
        assert_eq!(since().await, [now + 2, now, now + 1]);

        // The default already: entries keep their bytes, the proof is used.
        let before = scene.bytes().await;
        let control = control(&alice);
        let again = async || {
            let which = which("wa.example", "a");
            outcome(scene.ledger.set_default(NOW_S, control.clone(), which).await)
        };
        assert_eq!(again().await, Ok(()));
        assert!(changed_slots(&before, &scene.bytes().await).is_empty());
        assert_eq!(again().await, Err("proof used"));
        scene.is_clean(3).await;
    })
    .await;
}

#[tokio::test]
async fn an_audience_changes_by_a_new_signature_alone() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "wa.example", "a").await;
        scene.claimed(&alice, "wa.example", "b").await;
        let which = which("wa.example", "b");
        let mapping = Mapping {
            ssi: which.ssi.clone(),
            audience: Audience::Business,
            default_since: 0,
            verified_until: seconds(NOW_S) + MONTH_S,
            ttl_s: 86_400,
        };
        let good = signature(&alice, mapping.clone());
        let before = scene.bytes().await;
        let bad = [[0; 64], signature(&sii(2), mapping)];
        for signature in bad {
            let audience = Audience::Business;
            let done =
                scene.ledger.set_audience(NOW_S, &alice, which.clone(), audience, signature).await;
            assert_eq!(outcome(done), Err("signature"));
        }
        assert!(scene.bytes().await == before);
        let audience = Audience::Business;
        scene.ledger.set_audience(NOW_S, &alice, which, audience, good).await.unwrap();
        let found = scene.find(&alice, None).await;
        let audiences: Vec<_> = found.into_iter().map(|it| it.2).collect();
        assert_eq!(audiences, [Audience::Personal, Audience::Business]);
        assert_eq!(changed_slots(&before, &scene.bytes().await).len(), 1);
        scene.is_clean(2).await;
    })
    .await;
}

#[tokio::test]
async fn the_four_cases_of_a_port() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "tm.example", "over-the-top").await;
        let port = async |from: Option<&str>, to: Option<(&str, &str)>| {
            let port = Port {
                sii: alice.clone(),
                from: from.map(provider),
                to: to.map(|(provider, user)| claim(&alice, provider, user)),
            };
            scene.ledger.port(NOW_S, port).await.unwrap()
        };
        // Neither is a provider: nothing is changed.
        let before = scene.bytes().await;
        assert_eq!(port(None, None).await, Ported { released: 0, claimed: None });
        assert!(scene.bytes().await == before);
        // The new one is.
        let ported = port(None, Some(("wa.example", "alice"))).await;
        assert_eq!(ported, Ported { released: 0, claimed: Some(Claimed::New) });
        assert_eq!(scene.users(&alice).await, ["over-the-top", "alice"]);
        // Both are: in one commit, and the default moves along.
        let which = which("wa.example", "alice");
        scene.ledger.set_default(NOW_S, control(&alice), which).await.unwrap();
        let before = scene.bytes().await;
        let ported = port(Some("wa.example"), Some(("sg.example", "alice.2"))).await;
        assert_eq!(ported, Ported { released: 1, claimed: Some(Claimed::New) });
        assert_eq!(scene.users(&alice).await, ["over-the-top", "alice.2"]);
        let defaults: Vec<_> = scene.find(&alice, None).await.iter().map(|it| it.3).collect();
        assert_eq!(defaults, [0, seconds(NOW_S)]);
        let version = |bytes: &Bytes| bytes[0].0.as_ref().unwrap().version;
        assert_eq!(version(&scene.bytes().await), version(&before) + 1);
        // The old one was.
        let ported = port(Some("sg.example"), None).await;
        assert_eq!(ported, Ported { released: 1, claimed: None });
        assert_eq!(scene.users(&alice).await, ["over-the-top"]);
        scene.is_clean(1).await;
    })
    .await;
}

#[tokio::test]
async fn a_port_into_a_full_identifier_takes_the_place_of_what_it_releases() {
    let scene = Scene::memory(0).await;
    let alice = sii(1);
    for n in 0..8 {
        scene.claimed(&alice, "wa.example", &format!("user-{n}")).await;
    }
    let to = Some(claim(&alice, "sg.example", "new"));
    let port = Port { sii: alice.clone(), from: Some(provider("wa.example")), to };
    assert_eq!(scene.ledger.port(NOW_S, port).await.unwrap().released, 8);
    assert_eq!(scene.users(&alice).await, ["new"]);
    scene.is_clean(1).await;
}

#[tokio::test]
async fn what_lapsed_is_swept_and_what_a_provider_vouches_for_is_not() {
    Scene::on_both(2, async |scene| {
        let month = u64::from(MONTH_S);
        for n in 0..20 {
            let early = Claim {
                verified_until: seconds(NOW_S) + 100,
                ..claim(&sii(n), "wa.example", "early")
            };
            scene.ledger.claim(NOW_S, signed(early)).await.unwrap();
            scene.claimed(&sii(n), "wa.example", "late").await;
        }
        let sweep = async |now_s| {
            let (mut removed, mut from, mut stretches) = (0, None, 0);
            loop {
                let swept = scene.ledger.sweep(now_s, from, 3).await.unwrap();
                removed += swept.removed;
                stretches += 1;
                let Some(next) = swept.next else { return (removed, stretches) };
                from = Some(next);
            }
        };
        let before = scene.bytes().await;
        assert_eq!(sweep(NOW_S + 99).await, (0, 2));
        assert!(scene.bytes().await == before);
        assert_eq!(sweep(NOW_S + 100).await, (20, 2));
        assert_eq!(changed_slots(&before, &scene.bytes().await).len(), 40);
        for n in 0..20 {
            assert_eq!(scene.users(&sii(n)).await, ["late"]);
        }
        scene.is_clean(20).await;
        // Once all is gone, and no proof could be shown again, nothing is kept.
        assert_eq!(sweep(NOW_S + month).await, (20, 2));
        assert!(scene.bytes().await.iter().all(|(_, rows)| rows.rows.is_empty()));
        scene.is_clean(0).await;
    })
    .await;
}

#[tokio::test]
async fn a_renewed_mapping_outlives_its_first_proof() {
    let scene = Scene::memory(0).await;
    let alice = sii(1);
    scene.claimed(&alice, "wa.example", "alice").await;
    let later = NOW_S + 29 * 86_400;
    let mut renewed = claim(&alice, "wa.example", "alice");
    let proof = ProofRecord { expires_s: later + 300, ..proof() };
    renewed.verified = VerifiedClaim::new(alice.clone(), provider("wa.example"), proof, later);
    renewed.verified_until = seconds(later) + MONTH_S;
    scene.ledger.claim(later, signed(renewed)).await.unwrap();
    let swept = scene.ledger.sweep(NOW_S + 31 * 86_400, None, 1).await.unwrap();
    assert_eq!(swept.removed, 0);
    assert_eq!(scene.users(&alice).await, ["alice"]);
    // The first proof is long expired, and forgotten.
    assert_eq!(scene.proofs(&alice).await, Some(1));
}
