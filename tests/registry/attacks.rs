//! What a malicious partner tries, beside the proofs that `vectors` has: each
//! refused by name, and everybody finds what they found before.

use blindbook::{
    bucket::{Audience, Placement},
    identifier::Sii,
    wire::proto,
};
use tonic::Code;

use crate::{
    scene::{NOW_S, Scene, claim, claim_until, proof, reason, refused, signature, sii},
    vectors::{self, Topic},
};

const VICTIM: &str = "tel:+12015550123";

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_not_its_providers_is_refused_and_changes_nothing() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let victim = sii(VICTIM);
    served.claimed(&victim, "signal.example", "owner").await;
    let mut wa = served.ap("wa.example").await;
    let fresh = served.token(&mut wa, &victim).await;
    let good = claim(&victim, "wa.example", "mallory", fresh.clone());
    let vector = |name: &'static str| vectors::case(Topic::Tokens, name);

    // A proof that was made for another provider, or another identifier.
    let for_signal = vector("for another provider").claim(&served, Topic::Tokens).await;
    let mut signal = served.ap("signal.example").await;
    assert_eq!(refused(signal.claim(for_signal).await), denied("PROOF_AUDIENCE"));
    let stolen = claim(&victim, "signal.example", "mallory", fresh.clone());
    assert_eq!(refused(signal.claim(stolen).await), denied("PROOF_AUDIENCE"));
    let other = claim(&sii("tel:+12015550124"), "wa.example", "mallory", fresh.clone());
    assert_eq!(refused(wa.claim(other).await), denied("PROOF_SUBJECT"));

    // None at all.
    let without = proto::ClaimRequest { proof: None, ..good.clone() };
    assert_eq!(refused(wa.claim(without).await), invalid("FIELD_MISSING"));
    let empty = proto::ClaimRequest { proof: Some(proto::Proof { proof: None }), ..good.clone() };
    assert_eq!(refused(wa.claim(empty).await), invalid("FIELD_MISSING"));

    // A mapping that the provider did not sign as it is, or not for so long.
    for altered in [
        proto::ClaimRequest { user: "eve".into(), ..good.clone() },
        proto::ClaimRequest { ttl_s: 7200, ..good.clone() },
        proto::ClaimRequest { audience: proto::Audience::Business.into(), ..good.clone() },
        proto::ClaimRequest { signature: vec![7; 64].into(), ..good.clone() },
    ] {
        assert_eq!(refused(wa.claim(altered).await), invalid("MAPPING_SIGNATURE"));
    }
    let month = |until_s| claim_until(&victim, "wa.example", "mallory", fresh.clone(), until_s);
    let too_long = month(NOW_S + 30 * 86_400 + 1);
    assert_eq!(refused(wa.claim(too_long).await), invalid("VERIFIED_TOO_LONG"));
    assert_eq!(refused(wa.claim(month(NOW_S)).await), invalid("LAPSED"));
    assert_eq!(refused(wa.claim(month(0)).await), invalid("LAPSED"));

    // A provider whose key the directory does not know.
    let mut stranger = served.ap("stranger.example").await;
    let proof = served.token(&mut stranger, &victim).await;
    let unknown = claim(&victim, "stranger.example", "mallory", proof);
    let outdated = (Code::FailedPrecondition, "PROVIDER_UNKNOWN".to_owned());
    assert_eq!(refused(stranger.claim(unknown).await), outdated);

    // Identifiers and users in other forms.
    let spelled = proto::ClaimRequest { sii: "+12015550123".into(), ..good.clone() };
    assert_eq!(refused(wa.claim(spelled).await), invalid("IDENTIFIER"));
    let user = proto::ClaimRequest { user: "a@b".into(), ..good.clone() };
    assert_eq!(refused(wa.claim(user).await), invalid("IDENTIFIER"));
    let long = proto::ClaimRequest { user: "u".repeat(71), ..good };
    assert_eq!(refused(wa.claim(long).await), invalid("IDENTIFIER"));

    assert_eq!(served.found(&victim).await, ["owner@signal.example"]);
    served.is_clean(1).await;
    served.stop().await;
}

fn denied(reason: &str) -> (Code, String) {
    (Code::PermissionDenied, reason.into())
}

fn invalid(reason: &str) -> (Code, String) {
    (Code::InvalidArgument, reason.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_serves_once_whatever_it_is_used_for_also_after_a_restart() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let victim = sii(VICTIM);
    let mut wa = served.ap("wa.example").await;
    let proof = served.token(&mut wa, &victim).await;
    let first = claim(&victim, "wa.example", "alice", proof.clone());
    assert!(!wa.claim(first.clone()).await.unwrap().into_inner().renewed);
    served.stop().await;

    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let used = (Code::FailedPrecondition, "PROOF_USED".to_owned());
    assert_eq!(refused(wa.claim(first).await), used);
    let mapping = Some(proto::MappingName {
        provider: "wa.example".into(),
        user: "alice".into(),
        circle_id: Vec::new().into(),
    });
    let control = proto::ControlRelease { mapping: mapping.clone(), proof: Some(proof.clone()) };
    let release = proto::ReleaseRequest {
        sii: VICTIM.into(),
        release: Some(proto::release_request::Release::Control(control)),
    };
    assert_eq!(refused(wa.release(release).await), used);
    let default = proto::DefaultChange { mapping, proof: Some(proof.clone()) };
    let set = proto::SetPreferencesRequest {
        sii: VICTIM.into(),
        change: Some(proto::set_preferences_request::Change::Default(default)),
    };
    assert_eq!(refused(wa.set_preferences(set).await), used);
    let control = proto::ControlList { sii: VICTIM.into(), proof: Some(proof.clone()) };
    let list = proto::ListRequest { list: Some(proto::list_request::List::Control(control)) };
    assert_eq!(refused(wa.list(list).await), used);
    let port = proto::PortRequest {
        sii: VICTIM.into(),
        from_provider: String::new(),
        claim: Some(claim(&victim, "wa.example", "mallory", proof)),
    };
    assert_eq!(refused(wa.port(port).await), used);

    assert_eq!(served.found(&victim).await, ["alice@wa.example"]);
    served.is_clean(1).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_other_regions_are_refused_before_any_proof_is_looked_at() {
    let scene = Scene { regions: vec!["US".into(), "DE".into()], ..Scene::new().await };
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let outside = (Code::FailedPrecondition, "REGION_NOT_SERVED".to_owned());
    for number in ["tel:+442079460018", "tel:+16135550100"] {
        let number = sii(number);
        let start = proto::StartVerificationRequest { sii: number.as_str().into() };
        assert_eq!(refused(wa.start_verification(start).await), outside);
        let start = proto::StartChallengeRequest { sii: number.as_str().into() };
        assert_eq!(refused(wa.start_challenge(start).await), outside);
        let claim = claim(&number, "wa.example", "mallory", proof("none".into()));
        assert_eq!(refused(wa.claim(claim.clone()).await), outside);
        let port = proto::PortRequest {
            sii: number.as_str().into(),
            from_provider: String::new(),
            claim: Some(claim),
        };
        assert_eq!(refused(wa.port(port).await), outside);
        assert!(served.lookup(&number).await.is_empty());
    }
    for inside in ["tel:+12015550123", "tel:+4915112345678", "mailto:a@mail.example"] {
        served.claimed(&sii(inside), "wa.example", "alice").await;
    }
    served.is_clean(3).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ninth_mapping_is_refused_and_the_eight_are_found() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let victim = sii(VICTIM);
    for n in 0..8 {
        let provider = ["wa.example", "signal.example"][n % 2];
        served.claimed(&victim, provider, &format!("user{n}")).await;
    }
    let mut wa = served.ap("wa.example").await;
    let proof = served.token(&mut wa, &victim).await;
    let ninth = claim(&victim, "wa.example", "ninth", proof.clone());
    let full = (Code::ResourceExhausted, "TOO_MANY_MAPPINGS".to_owned());
    assert_eq!(refused(wa.claim(ninth.clone()).await), full);
    let hidden = proto::ClaimRequest { circle_secret: vec![3; 32].into(), ..ninth };
    assert_eq!(refused(wa.claim(hidden).await), full);
    // What is there can be renewed, with the proof that was refused for more.
    let again = claim(&victim, "wa.example", "user0", proof);
    assert!(wa.claim(again).await.unwrap().into_inner().renewed);
    assert_eq!(served.lookup(&victim).await.len(), 8);
    served.is_clean(8).await;
    served.stop().await;
}

/// Addresses that lie in one bucket.
fn crowd(bits: u32) -> impl Iterator<Item = Sii> {
    let bits = blindbook::bucket::PrefixBits::new(bits).unwrap();
    (0..)
        .map(|n| sii(&format!("mailto:person-{n}@mail.example")))
        .filter(move |sii| Placement::of(sii).bucket(bits).get() == 5)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fills_a_bucket_gets_no_more_than_its_share() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let mut claimed = 0;
    let mut crowd = crowd(crate::scene::BITS);
    let refused_one = loop {
        let one = crowd.next().unwrap();
        let proof = served.token(&mut wa, &one).await;
        match wa.claim(claim(&one, "wa.example", "u", proof)).await {
            Ok(_) => claimed += 1,
            Err(status) => {
                let taken = (Code::ResourceExhausted, "SHARE_TAKEN".to_owned());
                assert_eq!(refused::<()>(Err(status)), taken);
                break one;
            }
        }
        assert!(claimed < 256);
    };
    assert!(claimed > 16, "{claimed}");
    assert!(served.lookup(&refused_one).await.is_empty());
    // Another provider has a share of its own.
    served.claimed(&refused_one, "signal.example", "u").await;
    assert_eq!(served.found(&refused_one).await, ["u@signal.example"]);
    served.is_clean(claimed + 1).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_what_is_anothers() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let victim = sii(VICTIM);
    served.claimed(&victim, "signal.example", "owner").await;
    let mut wa = served.ap("wa.example").await;

    // Another's mapping is not one's own.
    let own = proto::OwnRelease { user: "owner".into() };
    let release = proto::ReleaseRequest {
        sii: VICTIM.into(),
        release: Some(proto::release_request::Release::Own(own)),
    };
    assert_eq!(refused(wa.release(release).await).0, Code::NotFound);
    let terms = (3600, u32::try_from(NOW_S + 86_400).unwrap());
    let signed = signature(&victim, ("wa.example", "owner"), Audience::Business, terms);
    let audience = proto::AudienceChange {
        user: "owner".into(),
        circle_id: Vec::new().into(),
        audience: proto::Audience::Business.into(),
        signature: signed.into(),
    };
    let set = proto::SetPreferencesRequest {
        sii: VICTIM.into(),
        change: Some(proto::set_preferences_request::Change::Audience(audience)),
    };
    assert_eq!(reason(wa.set_preferences(set).await), "NO_SUCH_MAPPING");

    // A port without a claim leads away from oneself.
    for from in ["signal.example", ""] {
        let port =
            proto::PortRequest { sii: VICTIM.into(), from_provider: from.into(), claim: None };
        assert_eq!(refused(wa.port(port).await), denied("PORT_OF_ANOTHER"));
    }
    // The claim of a port is for what is ported.
    let proof = served.token(&mut wa, &victim).await;
    let port = |sii: &str, from: &str, of: &str| proto::PortRequest {
        sii: sii.into(),
        from_provider: from.into(),
        claim: Some(proto::ClaimRequest {
            sii: of.into(),
            ..claim(&victim, "wa.example", "mallory", proof.clone())
        }),
    };
    let other = port(VICTIM, "signal.example", "tel:+12015550124");
    assert_eq!(refused(wa.port(other).await), invalid("FIELD_RULE"));
    let other = port("tel:+12015550124", "signal.example", "");
    assert_eq!(refused(wa.port(other).await), denied("PROOF_SUBJECT"));
    let itself = port(VICTIM, "wa.example", "");
    assert_eq!(refused(wa.port(itself).await), invalid("PORT_TO_ITSELF"));

    // An authority over others.
    let mut uk = served.certified("spiffe://numbers.example/uk").await;
    let all = proto::release_request::Release::Authority(proto::AuthorityRelease {});
    let release = proto::ReleaseRequest { sii: VICTIM.into(), release: Some(all) };
    assert_eq!(refused(uk.release(release).await), denied("NOT_COVERED"));
    let port = proto::PortRequest {
        sii: VICTIM.into(),
        from_provider: "signal.example".into(),
        claim: None,
    };
    assert_eq!(refused(uk.port(port).await), denied("NOT_COVERED"));

    assert_eq!(served.found(&victim).await, ["owner@signal.example"]);
    served.is_clean(1).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_tried_a_few_times_and_only_by_the_provider_that_asked() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let (mut wa, mut signal) = (served.ap("wa.example").await, served.ap("signal.example").await);
    wa.start_verification(proto::StartVerificationRequest { sii: VICTIM.into() }).await.unwrap();
    let code = scene.outbox.code();
    let finish =
        |code: &str| proto::FinishVerificationRequest { sii: VICTIM.into(), code: code.into() };
    assert_eq!(reason(signal.finish_verification(finish(&code)).await), "CODE_UNKNOWN");
    assert_eq!(reason(wa.finish_verification(finish("12")).await), "CODE_FORM");
    let wrong = if code == "00000000" { "11111111" } else { "00000000" };
    for expected in ["CODE_WRONG", "CODE_WRONG", "CODE_WRONG", "CODE_TRIES", "CODE_UNKNOWN"] {
        assert_eq!(reason(wa.finish_verification(finish(wrong)).await), expected);
    }
    assert_eq!(reason(wa.finish_verification(finish(&code)).await), "CODE_UNKNOWN");
    let user_id = proto::StartVerificationRequest { sii: "acct:alice@mail.example".into() };
    assert_eq!(reason(wa.start_verification(user_id).await), "CODE_NO_CHANNEL");
    served.stop().await;
}
