//! What partners change, the next lookup finds: claims, releases, ports,
//! preferences.

use blindbook::{
    bucket::Audience, identifier::Sii, secret::Secret, store::Generations as _, wire::proto,
};
use tonic::Code;

use crate::scene::{
    NOW_S, Partner, Scene, Served, claim, in_circle, reason, refused, signature, sii,
};

const ALICE: &str = "tel:+12015550123";

fn name(provider: &str, user: &str, circle_id: &[u8]) -> proto::MappingName {
    proto::MappingName {
        provider: provider.into(),
        user: user.into(),
        circle_id: circle_id.to_vec().into(),
    }
}

async fn release(
    partner: &mut Partner,
    sii: &Sii,
    release: proto::release_request::Release,
) -> u32 {
    let request = proto::ReleaseRequest { sii: sii.as_str().into(), release: Some(release) };
    partner.release(request).await.unwrap().into_inner().released
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_lookup_finds_a_claim_and_after_a_release_does_not() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let alice = sii(ALICE);
    let mut wa = served.ap("wa.example").await;
    for round in 0..20 {
        // The bucket is in the server's cache when it changes.
        assert!(served.lookup(&alice).await.is_empty(), "{round}");
        let proof = served.token(&mut wa, &alice).await;
        wa.claim(claim(&alice, "wa.example", "alice", proof)).await.unwrap();
        assert_eq!(served.found(&alice).await, ["alice@wa.example"], "{round}");
        let own = proto::OwnRelease { user: "alice".into() };
        let own = proto::release_request::Release::Own(own);
        assert_eq!(release(&mut wa, &alice, own).await, 1);
    }
    served.is_clean(0).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_releases_all_that_it_covers() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut us = served.certified("spiffe://numbers.example/us").await;
    for of in [sii(ALICE), sii("mailto:alice@mail.example")] {
        served.claimed(&of, "wa.example", "alice").await;
        served.claimed(&of, "signal.example", "alice").await;
        let all = || proto::release_request::Release::Authority(proto::AuthorityRelease {});
        assert_eq!(release(&mut us, &of, all()).await, 2);
        assert!(served.lookup(&of).await.is_empty());
        assert_eq!(release(&mut us, &of, all()).await, 0);
    }
    served.is_clean(0).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_controls_an_identifier_lists_and_releases_at_any_provider() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let alice = sii(ALICE);
    served.claimed(&alice, "signal.example", "alice").await;
    let secret = Secret::new([7; 32]);
    let mut signal = served.ap("signal.example").await;
    let proof = served.token(&mut signal, &alice).await;
    let hidden = in_circle(claim(&alice, "signal.example", "hidden", proof), &secret);
    signal.claim(hidden).await.unwrap();

    // Of another provider than those that are listed and released.
    let mut wa = served.ap("wa.example").await;
    let proof = served.token(&mut wa, &alice).await;
    let control = proto::ControlList { sii: ALICE.into(), proof: Some(proof.clone()) };
    let list = proto::ListRequest { list: Some(proto::list_request::List::Control(control)) };
    let listed = wa.list(list).await.unwrap().into_inner();
    let names: Vec<_> = listed
        .mappings
        .iter()
        .map(|listed| {
            assert_eq!(listed.sii, ALICE);
            listed.mapping.clone().unwrap()
        })
        .collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0].user, "alice");
    assert!(names[0].circle_id.is_empty());
    let id = &names[1].circle_id;
    assert_eq!((names[1].user.as_str(), id.len()), ("hidden", 16));
    // A listing tells a circle's name, and nothing of its secret.
    assert_ne!(id.as_ref(), &secret.expose()[..16]);

    // Listing did not use the proof up; releasing does.
    let control = |mapping, proof| {
        proto::release_request::Release::Control(proto::ControlRelease {
            mapping: Some(mapping),
            proof: Some(proof),
        })
    };
    let hidden = name("signal.example", "hidden", id);
    assert_eq!(release(&mut wa, &alice, control(hidden, proof.clone())).await, 1);
    let again = proto::ReleaseRequest {
        sii: ALICE.into(),
        release: Some(control(name("signal.example", "alice", &[]), proof)),
    };
    assert_eq!(reason(wa.release(again).await), "PROOF_USED");
    assert_eq!(served.found(&alice).await, ["alice@signal.example"]);
    let proof = served.token(&mut wa, &alice).await;
    let open = name("signal.example", "alice", &[]);
    assert_eq!(release(&mut wa, &alice, control(open, proof)).await, 1);
    assert!(served.lookup(&alice).await.is_empty());
    served.is_clean(0).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_show_in_the_next_lookup() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let alice = sii(ALICE);
    for provider in ["wa.example", "signal.example"] {
        served.claimed(&alice, provider, "alice").await;
    }
    let mut wa = served.ap("wa.example").await;
    for provider in ["signal.example", "wa.example", "signal.example"] {
        let proof = served.token(&mut wa, &alice).await;
        let change = proto::DefaultChange {
            mapping: Some(name(provider, "alice", &[])),
            proof: Some(proof),
        };
        let set = proto::SetPreferencesRequest {
            sii: ALICE.into(),
            change: Some(proto::set_preferences_request::Change::Default(change)),
        };
        wa.set_preferences(set).await.unwrap();
        let found = served.lookup(&alice).await;
        let default = found.iter().filter(|found| found.default);
        let default: Vec<_> = default.map(|found| found.ssi.provider().as_str()).collect();
        assert_eq!(default, [provider]);
    }

    let terms = (3600, u32::try_from(NOW_S + 86_400).unwrap());
    let change = |signature: Vec<u8>| proto::SetPreferencesRequest {
        sii: ALICE.into(),
        change: Some(proto::set_preferences_request::Change::Audience(proto::AudienceChange {
            user: "alice".into(),
            circle_id: Vec::new().into(),
            audience: proto::Audience::Business.into(),
            signature: signature.into(),
        })),
    };
    let other = signature(&alice, ("wa.example", "alice"), Audience::Personal, terms);
    assert_eq!(reason(wa.set_preferences(change(other)).await), "MAPPING_SIGNATURE");
    let signed = signature(&alice, ("wa.example", "alice"), Audience::Business, terms);
    wa.set_preferences(change(signed)).await.unwrap();
    let found = served.lookup(&alice).await;
    for found in found {
        let business = found.ssi.provider().as_str() == "wa.example";
        assert_eq!(found.audience == Audience::Business, business);
    }
    served.is_clean(2).await;
    served.stop().await;
}

async fn port(
    partner: &mut Partner,
    from: &str,
    claim: Option<proto::ClaimRequest>,
) -> proto::PortResponse {
    let request = proto::PortRequest { sii: ALICE.into(), from_provider: from.into(), claim };
    partner.port(request).await.unwrap().into_inner()
}

async fn ports_to(served: &Served<'_>, to: &str, user: &str, from: &str) -> proto::PortResponse {
    let mut partner = served.ap(to).await;
    let alice = sii(ALICE);
    let proof = served.token(&mut partner, &alice).await;
    port(&mut partner, from, Some(claim(&alice, to, user, proof))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_cases_of_a_port() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let alice = sii(ALICE);
    let mut us = served.certified("spiffe://numbers.example/us").await;
    let threema = "alice@threema.example";

    // Neither operator is a provider: nothing to do.
    served.claimed(&alice, "threema.example", "alice").await;
    let ported = port(&mut us, "", None).await;
    assert_eq!((ported.released, ported.claimed), (0, None));
    assert_eq!(served.found(&alice).await, [threema]);

    // The new one is.
    let ported = ports_to(&served, "wa.example", "new", "").await;
    assert_eq!(ported.released, 0);
    assert!(!ported.claimed.unwrap().renewed);
    assert_eq!(served.found(&alice).await, [threema, "new@wa.example"]);

    // Both are: the mapping moves, and the old operator need not agree.
    let ported = ports_to(&served, "signal.example", "newer", "wa.example").await;
    assert_eq!(ported.released, 1);
    assert!(!ported.claimed.unwrap().renewed);
    assert_eq!(served.found(&alice).await, [threema, "newer@signal.example"]);

    // The old one was: by itself, or by an authority.
    let mut signal = served.ap("signal.example").await;
    let ported = port(&mut signal, "signal.example", None).await;
    assert_eq!((ported.released, ported.claimed), (1, None));
    assert_eq!(served.found(&alice).await, [threema]);
    let ported = port(&mut us, "threema.example", None).await;
    assert_eq!((ported.released, ported.claimed), (1, None));
    assert!(served.lookup(&alice).await.is_empty());

    // A port whose claim is refused takes nothing away.
    served.claimed(&alice, "wa.example", "alice").await;
    let proof = served.token(&mut signal, &alice).await;
    let bad = proto::ClaimRequest {
        user: "other".into(),
        ..claim(&alice, "signal.example", "alice", proof)
    };
    let request = proto::PortRequest {
        sii: ALICE.into(),
        from_provider: "wa.example".into(),
        claim: Some(bad),
    };
    assert_eq!(
        refused(signal.port(request).await),
        (Code::InvalidArgument, "MAPPING_SIGNATURE".to_owned())
    );
    assert_eq!(served.found(&alice).await, ["alice@wa.example"]);
    served.is_clean(1).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stopped_takes_no_change() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    served.claimed(&sii(ALICE), "wa.example", "alice").await;
    let ledger = served.ledger.clone();
    served.stop().await;
    let refused = ledger.release_all(NOW_S, &sii(ALICE)).await.unwrap_err();
    assert!(matches!(refused, blindbook::registry::LedgerError::Closed));
    // How much there is was written down.
    let noted = scene.directory.generations.meta_get("registry/counts/wa.example").await.unwrap();
    assert_eq!(noted, Some(1_u64.to_be_bytes().to_vec()));
}
