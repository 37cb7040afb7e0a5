//! Challenges: open for a while, for one identifier and one provider.

use blindbook::registry::proof::{
    Challenge, Challenges, IdentityIssuers, MAX_CHALLENGE_LIFETIME_S, PassportRules, Proof,
    ProofError, Proofs, TokenIssuers,
};

use crate::support::{Given, NOW_S, name, pending, provider, sii};

fn proofs(per_provider_per_h: u32) -> Proofs {
    Proofs::new(
        Challenges::new(pending(), 300, per_provider_per_h).unwrap(),
        TokenIssuers::default(),
        PassportRules::default(),
        IdentityIssuers::default(),
    )
}

/// An open challenge lets the token be looked at; one that is not open does not.
async fn seen(
    proofs: &Proofs,
    challenge: &Challenge,
    who: &str,
    whose: &str,
    now_s: u64,
) -> String {
    let proof = Proof::Identity { challenge: challenge.clone(), token: String::new() };
    let refusal = proofs.verify(&proof, &sii(who), &provider(whose), now_s).await.err();
    name(&refusal.unwrap())
}

#[tokio::test]
async fn a_challenge_is_open_for_its_time_its_identifier_and_its_provider() {
    let proofs = proofs(10);
    let (alice, bob) = ("mailto:alice@mail.example", "mailto:bob@mail.example");
    let (given, expires_s) = proofs
        .challenges()
        .open(&sii(alice), &provider("wa.example"), NOW_S, &mut rand::rng())
        .await
        .unwrap();
    assert_eq!(expires_s, NOW_S + 300);
    let given = Challenge::parse(&given.nonce()).unwrap();
    assert_eq!(seen(&proofs, &given, alice, "wa.example", NOW_S + 299).await, "Form");
    for (who, whose, now_s) in [
        (alice, "wa.example", NOW_S + 300),
        (alice, "signal.example", NOW_S),
        (bob, "wa.example", NOW_S),
    ] {
        assert_eq!(seen(&proofs, &given, who, whose, now_s).await, "ChallengeUnknown");
    }
    let made_up = Challenge::parse("AAAAAAAAAAAAAAAAAAAAAA").unwrap();
    assert_eq!(seen(&proofs, &made_up, alice, "wa.example", NOW_S).await, "ChallengeUnknown");
    // As after a restart, when what was open is gone.
    assert_eq!(
        seen(&self::proofs(10), &given, alice, "wa.example", NOW_S).await,
        "ChallengeUnknown"
    );
}

#[tokio::test]
async fn challenges_are_limited_per_provider() {
    let proofs = proofs(2);
    let sii = sii("tel:+12015550123");
    for (whose, now_s, allowed) in [
        ("wa.example", NOW_S, true),
        ("wa.example", NOW_S, true),
        ("wa.example", NOW_S, false),
        ("signal.example", NOW_S, true),
        ("wa.example", NOW_S + 3600, true),
    ] {
        let opened =
            proofs.challenges().open(&sii, &provider(whose), now_s, &mut rand::rng()).await;
        match opened {
            Ok(_) => assert!(allowed, "{whose} {now_s}"),
            Err(error) => assert!(!allowed && matches!(error, ProofError::ChallengeLimit)),
        }
    }
}

#[tokio::test]
async fn a_generator_that_repeats_itself_is_noticed() {
    let proofs = proofs(10);
    let (sii, wa) = (sii("tel:+12015550123"), provider("wa.example"));
    let open = async || proofs.challenges().open(&sii, &wa, NOW_S, &mut Given::new(&[1])).await;
    open().await.unwrap();
    assert!(matches!(open().await, Err(ProofError::Pending(_))));
}

#[test]
fn what_is_no_challenge_is_refused() {
    for text in [
        "",
        "A",
        "AAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAB",
        "AAAAAAAAAAAAAAAAAAAAAA==",
    ] {
        assert!(matches!(Challenge::parse(text), Err(ProofError::ChallengeForm)), "{text}");
    }
    for lifetime_s in [0, MAX_CHALLENGE_LIFETIME_S + 1] {
        assert!(Challenges::new(pending(), lifetime_s, 1).is_err());
    }
}

#[test]
fn a_challenge_prints_nothing_and_its_text_names_the_provider() {
    let challenge = Challenge::parse("AAECAwQFBgcICQoLDA0ODw").unwrap();
    assert_eq!(format!("{challenge:?}"), "Challenge(..)");
    assert_eq!(
        challenge.text(&provider("wa.example")),
        "I want to be found at wa.example. blindbook v1 challenge AAECAwQFBgcICQoLDA0ODw"
    );
}
