//! Who may call what: every role and every method.

use blindbook::wire::proto::{self, registry_service_client::RegistryServiceClient};
use tonic::{Code, Status};

use crate::scene::{NUMBERS, Partner, Scene, claim, proof, refused, sii};

const SII: &str = "tel:+12015550123";

/// What a call that its role lets through comes to: these are refused for what
/// they ask, or not at all.
const THROUGH: [&str; 4] = ["OK", "PROOF_FORM", "NO_SUCH_MAPPING", "CODE_UNKNOWN"];

async fn call(partner: &mut Partner, what: &str) -> Result<(), Status> {
    let sii_text = || SII.to_owned();
    let bad = || proof("no proof".into());
    let good_shape = || claim(&sii(SII), "wa.example", "alice", bad());
    let mapping = || {
        Some(proto::MappingName {
            provider: "wa.example".into(),
            user: "alice".into(),
            circle_id: Vec::new().into(),
        })
    };
    let release = |release| proto::ReleaseRequest { sii: sii_text(), release: Some(release) };
    let set = |change| proto::SetPreferencesRequest { sii: sii_text(), change: Some(change) };
    let port = |from: &str, claim| proto::PortRequest {
        sii: sii_text(),
        from_provider: from.into(),
        claim,
    };
    let list = |list| proto::ListRequest { list: Some(list) };
    match what {
        "StartVerification" => partner
            .start_verification(proto::StartVerificationRequest { sii: sii_text() })
            .await
            .map(drop),
        "FinishVerification" => {
            let code = "00000000".into();
            let finish =
                proto::FinishVerificationRequest { sii: "mailto:a@b.example".into(), code };
            partner.finish_verification(finish).await.map(drop)
        }
        "StartChallenge" => partner
            .start_challenge(proto::StartChallengeRequest { sii: sii_text() })
            .await
            .map(drop),
        "Claim" => partner.claim(good_shape()).await.map(drop),
        "ClaimMany" => {
            let many = proto::ClaimManyRequest { claim: Some(good_shape()) };
            let answers = partner.claim_many(tokio_stream::iter([many])).await?;
            let mut answers = answers.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        }
        "SetPreferences audience" => {
            let change = proto::AudienceChange {
                user: "alice".into(),
                circle_id: Vec::new().into(),
                audience: proto::Audience::Business.into(),
                signature: vec![1; 64].into(),
            };
            let set = set(proto::set_preferences_request::Change::Audience(change));
            partner.set_preferences(set).await.map(drop)
        }
        "SetPreferences default" => {
            let change = proto::DefaultChange { mapping: mapping(), proof: Some(bad()) };
            let set = set(proto::set_preferences_request::Change::Default(change));
            partner.set_preferences(set).await.map(drop)
        }
        "Release own" => {
            let own = proto::OwnRelease { user: "alice".into() };
            partner.release(release(proto::release_request::Release::Own(own))).await.map(drop)
        }
        "Release all" => {
            let all = proto::release_request::Release::Authority(proto::AuthorityRelease {});
            partner.release(release(all)).await.map(drop)
        }
        "Release control" => {
            let control = proto::ControlRelease { mapping: mapping(), proof: Some(bad()) };
            let control = proto::release_request::Release::Control(control);
            partner.release(release(control)).await.map(drop)
        }
        "Port with claim" => {
            partner.port(port("signal.example", Some(good_shape()))).await.map(drop)
        }
        "Port away" => partner.port(port("wa.example", None)).await.map(drop),
        "Port of another" => partner.port(port("signal.example", None)).await.map(drop),
        "Port of nobody" => partner.port(port("", None)).await.map(drop),
        "List own" => {
            let own = proto::OwnList::default();
            partner.list(list(proto::list_request::List::Own(own))).await.map(drop)
        }
        "List control" => {
            let control = proto::ControlList { sii: sii_text(), proof: Some(bad()) };
            partner.list(list(proto::list_request::List::Control(control))).await.map(drop)
        }
        "WatchInvalidations" => {
            let watch = proto::WatchInvalidationsRequest { checkpoint: None };
            partner.watch_invalidations(watch).await.map(drop)
        }
        _ => panic!("{what}"),
    }
}

/// Method, and what an application provider and an authority over the number
/// get; `+` where the role is let through.
const TABLE: &[(&str, &str, &str)] = &[
    ("StartVerification", "+", "ROLE_NOT_ALLOWED"),
    ("FinishVerification", "+", "ROLE_NOT_ALLOWED"),
    ("StartChallenge", "+", "ROLE_NOT_ALLOWED"),
    ("Claim", "+", "ROLE_NOT_ALLOWED"),
    ("ClaimMany", "+", "ROLE_NOT_ALLOWED"),
    ("SetPreferences audience", "+", "ROLE_NOT_ALLOWED"),
    ("SetPreferences default", "+", "ROLE_NOT_ALLOWED"),
    ("Release own", "+", "NOT_A_PROVIDER"),
    ("Release all", "NOT_AN_AUTHORITY", "+"),
    ("Release control", "+", "NOT_A_PROVIDER"),
    ("Port with claim", "+", "NOT_A_PROVIDER"),
    ("Port away", "+", "+"),
    ("Port of another", "PORT_OF_ANOTHER", "+"),
    ("Port of nobody", "PORT_OF_ANOTHER", "+"),
    ("List own", "+", "ROLE_NOT_ALLOWED"),
    ("List control", "+", "ROLE_NOT_ALLOWED"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_role_is_let_in_where_it_belongs_and_nowhere_else() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut anonymous = RegistryServiceClient::new(served.channel(None).await.unwrap());
    let mut unlisted = served.certified("spiffe://evil.example/ap").await;
    let mut ap = served.ap("wa.example").await;
    let mut authority = served.certified(NUMBERS).await;
    let mut wrong = Vec::new();
    for (method, for_ap, for_authority) in TABLE {
        for (who, partner, expected) in [
            ("anonymous", &mut anonymous, "CALLER_UNIDENTIFIED"),
            ("unlisted", &mut unlisted, "CALLER_UNKNOWN"),
            ("ap", &mut ap, for_ap),
            ("authority", &mut authority, for_authority),
        ] {
            let outcome = call(partner, method).await;
            let (code, reason) = match outcome {
                Ok(()) => (Code::Ok, "OK".to_owned()),
                Err(status) => refused::<()>(Err(status)),
            };
            let code_fits = match reason.as_str() {
                "CALLER_UNIDENTIFIED" | "CALLER_UNKNOWN" => code == Code::Unauthenticated,
                "ROLE_NOT_ALLOWED" | "NOT_A_PROVIDER" | "NOT_AN_AUTHORITY" | "PORT_OF_ANOTHER" => {
                    code == Code::PermissionDenied
                }
                _ => true,
            };
            let through = expected == "+" && THROUGH.contains(&reason.as_str());
            if !code_fits || (reason != expected && !through) {
                wrong.push(format!("{method} by {who}: {code:?} {reason}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(served.lookup(&sii(SII)).await.is_empty());
    served.is_clean(0).await;
    served.stop().await;
}
