//! Anonymous tokens: what they pay, once, and what nobody can make of them.

use blindbook::token::{Day, Pass, SecretKey, TOKEN_BYTES};
use tonic::Code;

use crate::{
    scene::{NOW_S, Scene, reason, refused},
    world::{Asker, DAY_S, batch, blind, exhausted, finalize, paid, scene},
};

const INVALID: (Code, &str) = (Code::Unauthenticated, "TOKEN_INVALID");

#[track_caller]
fn is_invalid<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>) {
    let (code, reason) = refused(outcome);
    assert_eq!((code, reason.as_str()), INVALID);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_pays_two_elements_once_and_the_identical_request_again() {
    let scene = scene().await;
    let served = scene.serve().await;
    let tokens = Asker::ap(&served, "wa.example").await.tokens(&scene, 20).await;
    let mut user = Asker::anonymous(&served).await;
    let request = paid(batch(8), &tokens[..4]);
    let first = user.evaluate(&request).await.unwrap();
    // The answer was lost: the same again, on any connection.
    let again = Asker::anonymous(&served).await.evaluate(&request).await.unwrap();
    let elements = |answer: &blindbook::wire::proto::EvaluateResponse| {
        answer.evaluations[0].evaluated_elements.clone()
    };
    assert_eq!(elements(&first), elements(&again));
    // Any other is refused: other elements, one of the tokens, another order.
    let spent = "TOKEN_SPENT";
    assert_eq!(reason(user.evaluate(&paid(batch(8), &tokens[..4])).await), spent);
    assert_eq!(reason(user.evaluate(&paid(batch(2), &tokens[3..4])).await), spent);
    let mut turned = tokens[..4].to_vec();
    turned.reverse();
    assert_eq!(reason(user.evaluate(&paid(batch(8), &turned)).await), spent);
    // One spent token among fresh ones spoils none of them.
    assert_eq!(reason(user.evaluate(&paid(batch(8), &tokens[3..7])).await), spent);
    user.evaluate(&paid(batch(8), &tokens[4..8])).await.unwrap();
    // The number of tokens is the number of elements.
    let few = user.evaluate(&paid(batch(8), &tokens[8..11])).await;
    assert_eq!(refused(few), (Code::InvalidArgument, "FIELD_RULE".into()));
    is_invalid(user.evaluate(&paid(batch(8), &[&tokens[8..11], &tokens[8..9]].concat())).await);
    user.evaluate(&paid(batch(8), &tokens[8..12])).await.unwrap();
    // What was refused for its elements has spent nothing.
    let mut malformed = paid(batch(8), &tokens[12..16]);
    malformed.blinded_elements = vec![0xff; 8 * 32].into();
    assert_eq!(reason(user.evaluate(&malformed).await), "MALFORMED_ELEMENT");
    user.evaluate(&paid(batch(8), &tokens[12..16])).await.unwrap();
    // A partner's tokens pay for it as well, and its account does not.
    let mut ap = Asker::ap(&served, "wa.example").await;
    ap.evaluate(&paid(batch(8), &tokens[16..20])).await.unwrap();
    assert_eq!(ap.limits().await.elements.unwrap().available, Some(1024));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_token_stays_spent_across_restart_and_kill() {
    let scene = scene().await;
    let served = scene.serve().await;
    let tokens = Asker::ap(&served, "wa.example").await.tokens(&scene, 5).await;
    let request = paid(batch(8), &tokens[..4]);
    Asker::anonymous(&served).await.evaluate(&request).await.unwrap();
    served.kill().await;
    let served = scene.serve().await;
    let mut user = Asker::anonymous(&served).await;
    assert_eq!(reason(user.evaluate(&paid(batch(8), &tokens[..4])).await), "TOKEN_SPENT");
    user.evaluate(&request).await.unwrap();
    // The key is the same as before, and so the fifth token is good.
    user.evaluate(&paid(batch(2), &tokens[4..])).await.unwrap();
    served.stop().await;
    let served = scene.serve().await;
    let mut user = Asker::anonymous(&served).await;
    assert_eq!(reason(user.evaluate(&paid(batch(2), &tokens[4..])).await), "TOKEN_SPENT");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_spend_one_token_at_once_one_is_answered() {
    let scene = scene().await;
    let served = scene.serve().await;
    let tokens = Asker::ap(&served, "wa.example").await.tokens(&scene, 4).await;
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let mut user = Asker::anonymous(&served).await;
        let request = paid(batch(8), &tokens);
        tasks.push(tokio::spawn(async move { user.evaluate(&request).await }));
    }
    let mut answered = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => answered += 1,
            refused => assert_eq!(reason(refused), "TOKEN_SPENT"),
        }
    }
    assert_eq!(answered, 1);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_foreign_and_expired_tokens_are_refused_in_the_same_words() {
    let scene = scene().await;
    let served = scene.serve().await;
    let mut ap = Asker::ap(&served, "wa.example").await;
    let good = ap.tokens(&scene, 6).await;
    let today = Day::at(NOW_S);
    let mut user = Asker::anonymous(&served).await;
    let mut words = Vec::new();
    let mut refuse = async |user: &mut Asker, pass: &Pass| {
        let status = user.evaluate(&paid(batch(2), std::slice::from_ref(pass))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        words.push((status.message().to_owned(), status.details().to_vec()));
    };
    for at in [0, 5, 40, 70, TOKEN_BYTES - 1] {
        let mut forged = *good[0].expose();
        forged[at] ^= 1;
        refuse(&mut user, &Pass::new(&forged)).await;
    }
    // By a key of one's own, and by another directory that does all else right.
    let own = SecretKey::generate(&mut rand::rng()).unwrap();
    let blinded = blind(&scene, today, own.public(), 1);
    let signature = own.sign(blinded[0].message().try_into().unwrap(), &mut rand::rng()).unwrap();
    refuse(&mut user, &finalize(&blinded, &signature, own.public())[0]).await;
    let elsewhere = Scene { quotas: crate::world::tight(), ..Scene::new().await };
    let other = elsewhere.serve().await;
    let foreign = Asker::ap(&other, "wa.example").await.tokens(&elsewhere, 1).await;
    refuse(&mut user, &foreign[0]).await;
    other.stop().await;
    // Signed for another day than the key's.
    let key = ap.keys(&scene).await.key(today).unwrap().clone();
    let blinded = blind(&scene, today.next(), &key, 1);
    let signature = ap.issue(today, &blinded).await.unwrap();
    refuse(&mut user, &finalize(&blinded, &signature, &key)[0]).await;

    // The next day it pays, and then no more; that key issues no more.
    scene.set_time(NOW_S + DAY_S);
    user.evaluate(&paid(batch(2), &good[..1])).await.unwrap();
    let fresh = ap.tokens(&scene, 2).await;
    assert_eq!(ap.keys(&scene).await.keys.len(), 2);
    let late = blind(&scene, today, &key, 1);
    assert_eq!(reason(ap.issue(today, &late).await), "TOKEN_DAY");
    is_invalid(user.evaluate(&paid(batch(8), &[&fresh[..], &good[1..3]].concat())).await);
    scene.set_time(NOW_S + 2 * DAY_S);
    refuse(&mut user, &good[1]).await;
    user.evaluate(&paid(batch(2), &fresh[..1])).await.unwrap();
    // Gone with its key; who was refused is still refused when a clock is set back.
    ap.tokens(&scene, 1).await;
    assert_eq!(ap.keys(&scene).await.keys.len(), 2);
    scene.set_time(NOW_S);
    refuse(&mut user, &good[0]).await;
    refuse(&mut user, &good[1]).await;
    assert!(words.windows(2).all(|pair| pair[0] == pair[1]), "{words:?}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_issued_to_providers_and_so_many_a_day() {
    let scene = scene().await;
    let served = scene.serve().await;
    let today = Day::at(NOW_S);
    let key = Asker::anonymous(&served).await.keys(&scene).await.key(today).unwrap().clone();
    let one = blind(&scene, today, &key, 1);
    for (mut stranger, code, reason) in [
        (Asker::anonymous(&served).await, Code::Unauthenticated, "CALLER_UNIDENTIFIED"),
        (
            Asker::partner(&served, "spiffe://numbers.example/us").await,
            Code::PermissionDenied,
            "ROLE_NOT_ALLOWED",
        ),
        (
            Asker::partner(&served, "spiffe://nobody.example/ap").await,
            Code::Unauthenticated,
            "CALLER_UNKNOWN",
        ),
    ] {
        let outcome = stranger.issue(today, &one).await;
        assert_eq!(refused(outcome), (code, reason.into()));
    }
    let mut ap = Asker::ap(&served, "wa.example").await;
    ap.tokens(&scene, 256).await;
    let more = blind(&scene, today, &key, 45);
    let (subject, _, _) = exhausted(ap.issue(today, &more).await);
    assert_eq!(subject, "tokens");
    // What is no blinded message is not signed, and nothing is charged.
    let request = blindbook::wire::proto::IssueTokensRequest {
        day: today.number(),
        blinded_messages: vec![0xff; 256].into(),
    };
    assert_eq!(reason(ap.quota.issue_tokens(request).await), "BLINDED_MESSAGE");
    assert_eq!(ap.limits().await.tokens.unwrap().available, Some(44));
    ap.issue(today, &more[..44]).await.unwrap();
    exhausted(Asker::ap(&served, "wa.example").await.issue(today, &one).await);
    served.stop().await;
}

/// What the issuer saw and what the redeemer saw have nothing in common but what
/// all tokens of the day have in common.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_and_what_is_redeemed_cannot_be_linked() {
    let scene = scene().await;
    let served = scene.serve().await;
    let mut ap = Asker::ap(&served, "wa.example").await;
    let today = Day::at(NOW_S);
    let key = ap.keys(&scene).await.key(today).unwrap().clone();
    let blinded = blind(&scene, today, &key, 8);
    let signatures = ap.issue(today, &blinded).await.unwrap();
    let tokens = finalize(&blinded, &signatures, &key);
    // Seen at the issuing: blinded messages and their signatures.
    let mut seen: Vec<&[u8]> = blinded.iter().map(blindbook::token::Blinded::message).collect();
    seen.push(&signatures);
    let seen = seen.concat();
    // Of four bytes two in a thousand runs would share some by accident.
    let shares =
        |bytes: &[u8]| bytes.windows(8).any(|part| seen.windows(8).any(|other| other == part));
    for token in &tokens {
        // The nonce is the user's own, the authenticator unblinded; type,
        // challenge and key id are those of everybody.
        let bytes = token.expose();
        assert!(!shares(&bytes[2..34]) && !shares(&bytes[98..]));
        assert_eq!(bytes[..2], tokens[0].expose()[..2]);
        assert_eq!(bytes[34..98], tokens[0].expose()[34..98]);
    }
    // Two blindings of one token look like any other two.
    assert_ne!(blinded[0].message(), blinded[1].message());
    Asker::anonymous(&served).await.evaluate(&paid(batch(8), &tokens[..4])).await.unwrap();
    served.stop().await;
}
