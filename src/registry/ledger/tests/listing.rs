//! What is listed, and to whom.

use std::collections::BTreeSet;

use super::scene::{
    NOW_S, Scene, circle, claim_in, control, outcome, provider, seconds, sii, which, which_in,
};
use crate::{
    bucket::Audience,
    registry::{Mapped, PageToken},
};

#[tokio::test]
async fn a_provider_pages_through_its_own_mappings_each_once_and_no_others() {
    Scene::on_both(4, async |scene| {
        for n in 0..40 {
            scene.claimed(&sii(n), "wa.example", "user").await;
            scene.claimed(&sii(n), "sg.example", "user").await;
        }
        let hidden = claim_in(&sii(7), "wa.example", "hidden", circle(1));
        scene.ledger.claim(NOW_S, hidden).await.unwrap();
        for limit in [1, 10, 1000] {
            let (mut listed, mut from) = (Vec::new(), None);
            loop {
                let wa = provider("wa.example");
                let page = scene.ledger.list(&wa, from, limit).await.unwrap();
                listed.extend(page.mappings);
                // Between two pages the token goes over the wire.
                let Some(next) = page.next else { break };
                from = Some(PageToken::from_bytes(&next.to_bytes()).unwrap());
            }
            assert_eq!(listed.len(), 41);
            let people: BTreeSet<_> =
                listed.iter().map(|mapped| mapped.sii.as_str().to_owned()).collect();
            assert_eq!(people, (0..40).map(|n| sii(n).as_str().to_owned()).collect());
            let own = |mapped: &Mapped| mapped.which.ssi.provider().as_str() == "wa.example";
            assert!(listed.iter().all(own));
            let hidden: Vec<_> = listed
                .iter()
                .filter(|mapped| mapped.which.circle == Some(circle(1).id()))
                .collect();
            assert_eq!(hidden.len(), 1);
        }
        let nothing = scene.ledger.list(&provider("tm.example"), None, 10).await.unwrap();
        assert_eq!((nothing.mappings.len(), nothing.next), (0, None));
    })
    .await;
}

#[tokio::test]
async fn a_token_of_a_directory_of_another_size_is_refused() {
    let (four, five) = (Scene::memory(4).await, Scene::memory(5).await);
    four.claimed(&sii(1), "wa.example", "user").await;
    let page = four.ledger.list(&provider("wa.example"), None, 1).await.unwrap();
    let refused = five.ledger.list(&provider("wa.example"), page.next, 1).await;
    assert_eq!(outcome(refused), Err("page token"));
}

#[tokio::test]
async fn whoever_controls_an_identifier_sees_all_of_it_and_may_then_act() {
    Scene::on_both(0, async |scene| {
        let alice = sii(1);
        scene.claimed(&alice, "wa.example", "a").await;
        scene.claimed(&alice, "sg.example", "b").await;
        let hidden = claim_in(&alice, "wa.example", "c", circle(1));
        scene.ledger.claim(NOW_S, hidden).await.unwrap();
        scene.claimed(&sii(2), "wa.example", "other").await;
        let before = scene.bytes().await;
        let control = control(&alice);
        let listed = scene.ledger.list_control(NOW_S, &control).await.unwrap();
        assert!(scene.bytes().await == before);
        let expected = [
            which("wa.example", "a"),
            which("sg.example", "b"),
            which_in("wa.example", "c", &circle(1)),
        ];
        let expected = expected.map(|which| Mapped {
            sii: alice.clone(),
            which,
            audience: Audience::Personal,
            default_since: 0,
            verified_until: seconds(NOW_S + 30 * 86_400),
            ttl_s: 86_400,
        });
        assert_eq!(listed, expected);
        let [_, _, hidden] = expected;
        scene.ledger.release(NOW_S, control.clone(), hidden.which).await.unwrap();
        let again = scene.ledger.list_control(NOW_S, &control).await;
        assert_eq!(outcome(again), Err("proof used"));
        let nobody = scene.ledger.list_control(NOW_S, &super::scene::control(&sii(3))).await;
        assert_eq!(nobody.unwrap(), []);
    })
    .await;
}
