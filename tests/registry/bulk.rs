//! Many claims on one call.

use std::collections::BTreeMap;

use blindbook::{identifier::Sii, wire::proto};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Code;

use crate::scene::{NOW_S, Scene, Served, claim, refused, sii};

fn person(n: usize) -> Sii {
    sii(&format!("mailto:person-{n}@mail.example"))
}

/// What came of each claim: an empty reason if it is there.
async fn outcomes(
    served: &Served<'_>,
    claims: impl Stream<Item = proto::ClaimManyRequest> + Send + 'static,
) -> BTreeMap<u64, (i32, String)> {
    let mut wa = served.ap("wa.example").await;
    let mut answers = wa.claim_many(claims).await.unwrap().into_inner();
    let mut outcomes = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        use proto::claim_many_response::Outcome;
        let outcome = match answer.outcome.unwrap() {
            Outcome::Claimed(_) => (0, String::new()),
            Outcome::Refusal(refusal) => {
                assert!(!refusal.message.is_empty());
                (refusal.code, refusal.reason)
            }
        };
        assert!(outcomes.insert(answer.index, outcome).is_none());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn good_claims_among_bad_ones_are_made_and_each_is_answered() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let mut requests = Vec::new();
    for n in 0..200 {
        let proof = served.token(&mut wa, &person(n)).await;
        let good = claim(&person(n), "wa.example", &format!("u{n}"), proof);
        let claim = match n % 5 {
            0 => None,
            1 => Some(proto::ClaimRequest { user: String::new(), ..good }),
            2 => Some(proto::ClaimRequest { user: "another".into(), ..good }),
            3 => Some(proto::ClaimRequest { sii: person(n + 1).as_str().into(), ..good }),
            _ => Some(good),
        };
        requests.push(proto::ClaimManyRequest { claim });
    }
    let outcomes = outcomes(&served, tokio_stream::iter(requests)).await;
    assert_eq!(outcomes.len(), 200);
    for (index, outcome) in outcomes {
        let expected = match index % 5 {
            0 => (Code::InvalidArgument, "FIELD_MISSING"),
            1 => (Code::InvalidArgument, "IDENTIFIER"),
            2 => (Code::InvalidArgument, "MAPPING_SIGNATURE"),
            3 => (Code::PermissionDenied, "PROOF_SUBJECT"),
            _ => (Code::Ok, ""),
        };
        assert_eq!(outcome, (expected.0.into(), expected.1.to_owned()), "{index}");
    }
    for n in 0..200 {
        let expected = if n % 5 == 4 { vec![format!("u{n}@wa.example")] } else { vec![] };
        if n % 10 > 2 {
            assert_eq!(served.found(&person(n)).await, expected, "{n}");
        }
    }
    served.is_clean(40).await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_comes_many_times_on_one_call_claims_once() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let proof = served.token(&mut wa, &person(0)).await;
    let requests: Vec<_> = (0..100)
        .map(|n| proto::ClaimManyRequest {
            claim: Some(claim(&person(0), "wa.example", &format!("u{n}"), proof.clone())),
        })
        .collect();
    let outcomes = outcomes(&served, tokio_stream::iter(requests)).await;
    assert_eq!(outcomes.len(), 100);
    let claimed = outcomes.values().filter(|(code, _)| *code == 0).count();
    let used = outcomes.values().filter(|(_, reason)| reason == "PROOF_USED").count();
    assert_eq!((claimed, used), (1, 99));
    assert_eq!(served.found(&person(0)).await.len(), 1);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_comes_before_the_last_claim_was_sent() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let (send, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let proof = served.token(&mut wa, &person(1)).await;
    let first = claim(&person(1), "wa.example", "alice", proof);
    send.send(proto::ClaimManyRequest { claim: Some(first) }).await.unwrap();
    let mut answers = wa.claim_many(requests).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().index, 0);
    assert_eq!(served.found(&person(1)).await, ["alice@wa.example"]);
    send.send(proto::ClaimManyRequest { claim: None }).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().index, 1);
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_ends_the_call_after_what_came_before() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let proof = served.token(&mut wa, &person(1)).await;
    let good = claim(&person(1), "wa.example", "alice", proof.clone());
    let long = proto::ClaimRequest { circle_secret: vec![0; 17 << 10].into(), ..good.clone() };
    let (send, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    send.send(proto::ClaimManyRequest { claim: Some(good) }).await.unwrap();
    let mut answers = wa.claim_many(requests).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().index, 0);
    send.send(proto::ClaimManyRequest { claim: Some(long) }).await.unwrap();
    let ended = answers.message().await;
    let too_long = (Code::InvalidArgument, "MESSAGE_TOO_LONG".to_owned());
    assert_eq!(refused(ended), too_long);
    assert_eq!(served.found(&person(1)).await, ["alice@wa.example"]);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = served.ap("wa.example").await;
    let mut requests = Vec::new();
    for n in 0..64 {
        let proof = served.token(&mut wa, &person(n)).await;
        let claim = Some(claim(&person(n), "wa.example", "u", proof));
        requests.push(proto::ClaimManyRequest { claim });
    }
    let endless = tokio_stream::iter(requests).chain(tokio_stream::pending());
    let mut answers = wa.claim_many(endless).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    drop((answers, wa));
    let first = person(usize::try_from(first.index).unwrap());
    assert_eq!(served.found(&first).await, ["u@wa.example"]);
    // Closing waits for the commits that were begun.
    served.ledger.close().await.unwrap();
    let found = blindbook::registry::verify_directory(
        &*scene.directory.generations,
        scene.directory.keyring.clone(),
        |_| {},
    );
    let found = found.await.unwrap();
    assert_eq!(found.faulty, 0);
    assert!(found.mappings >= 1 && found.mappings <= 64);
    let refused = served.ledger.release_all(NOW_S, &first).await;
    assert!(matches!(refused, Err(blindbook::registry::LedgerError::Closed)));
    served.stop().await;
}
