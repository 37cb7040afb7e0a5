use super::*;
use crate::secret::{Secret, SecretText};

fn alice() -> Sii {
    Sii::from_canonical("tel:+14155550100").unwrap()
}

fn text(text: &str) -> SecretText {
    text.to_owned().into()
}

fn name(circle: Option<CircleIdBytes>) -> MappingName {
    let provider = Provider::parse("wa.example").unwrap();
    MappingName { ssi: Ssi::new(provider, User::parse("canary").unwrap()).unwrap(), circle }
}

fn proofs() -> [Proof; 3] {
    [
        Proof::Token(text("canary")),
        Proof::Passport {
            challenge: text("canary"),
            token: text("canary"),
            certificates: vec![Bytes::from_static(b"der")],
        },
        Proof::Identity { challenge: text("canary"), token: text("canary") },
    ]
}

fn claim(proof: Proof, circle: Option<Secret<32>>) -> Claim {
    Claim {
        sii: alice(),
        user: User::parse("canary").unwrap(),
        audience: Audience::Business,
        ttl_s: 3600,
        verified_until_s: 1_800_000_000,
        signature: [7; 64],
        proof,
        circle,
    }
}

/// What is encoded is read back, and shows nothing of the person.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "its call sites make what they pass")]
fn returns<T, P>(typed: T)
where
    T: TryFrom<P, Error: std::fmt::Debug> + Into<P> + Clone + PartialEq + std::fmt::Debug,
    P: std::fmt::Debug,
{
    let proto: P = typed.clone().into();
    let shown = format!("{typed:?} {proto:?}");
    assert!(!shown.contains("canary") && !shown.contains("1415"), "{shown}");
    assert_eq!(T::try_from(proto).unwrap(), typed);
}

#[test]
fn every_request_reads_back() {
    returns::<_, proto::StartVerificationRequest>(StartVerification { sii: alice() });
    let code = text("canary");
    returns::<_, proto::FinishVerificationRequest>(FinishVerification { sii: alice(), code });
    returns::<_, proto::StartChallengeRequest>(StartChallenge { sii: alice() });
    for proof in proofs() {
        returns::<_, proto::ClaimRequest>(claim(proof.clone(), None));
        returns::<_, proto::ClaimManyRequest>(claim(proof.clone(), Some(Secret::new([3; 32]))));
        let mapping = name(Some([1; 16]));
        let (sii, change) = (alice(), SetPreference::Default { mapping, proof: proof.clone() });
        returns::<_, proto::SetPreferencesRequest>(SetPreferences { sii, change });
        let releases = Releases::Control { mapping: name(None), proof: proof.clone() };
        returns::<_, proto::ReleaseRequest>(Release { sii: alice(), releases });
        let claim = Some(claim(proof.clone(), None));
        returns::<_, proto::PortRequest>(Port { sii: alice(), from: None, claim });
        returns::<_, proto::ListRequest>(List::Control { sii: alice(), proof });
    }
    let change = SetPreference::Audience {
        user: User::parse("canary").unwrap(),
        circle: None,
        audience: Audience::Personal,
        signature: [1; 64],
    };
    returns::<_, proto::SetPreferencesRequest>(SetPreferences { sii: alice(), change });
    let own = Releases::Own { user: User::parse("canary").unwrap() };
    for releases in [own, Releases::All] {
        returns::<_, proto::ReleaseRequest>(Release { sii: alice(), releases });
    }
    let from = Some(Provider::parse("sg.example").unwrap());
    returns::<_, proto::PortRequest>(Port { sii: alice(), from, claim: None });
    let page_token = Bytes::from_static(&[1, 2, 3]);
    returns::<_, proto::ListRequest>(List::Own { page_token, page_size: 1000 });
}

#[test]
fn every_response_reads_back() {
    returns::<_, proto::StartVerificationResponse>(VerificationStarted { expires_s: 9 });
    returns::<_, proto::FinishVerificationResponse>(VerificationFinished { token: text("canary") });
    for destination in [None, Some("sip:verify@dp.example".to_owned())] {
        let (challenge, text) = (text("canary"), text("canary"));
        let started = ChallengeStarted { challenge, text, destination, expires_s: 9 };
        returns::<_, proto::StartChallengeResponse>(started);
    }
    returns::<_, proto::ClaimResponse>(Claimed { renewed: true });
    // Whatever a server puts there.
    let (reason, message) = ("tel:+14155550100".into(), "canary".into());
    let refusal = Refusal { code: 9, reason, message };
    for outcome in [Ok(Claimed { renewed: false }), Err(refusal)] {
        returns::<_, proto::ClaimManyResponse>(Outcome { index: 3, outcome });
    }
    returns::<_, proto::ReleaseResponse>(Released { released: 2 });
    for claimed in [None, Some(Claimed { renewed: true })] {
        returns::<_, proto::PortResponse>(Ported { released: 1, claimed });
    }
    let listed = ListedMapping {
        sii: alice(),
        mapping: name(Some([9; 16])),
        audience: Audience::Personal,
        default_since_s: 1,
        verified_until_s: 2,
        ttl_s: 3,
    };
    let next_page_token = Bytes::from_static(&[4]);
    returns::<_, proto::ListResponse>(Listed { mappings: vec![listed], next_page_token });
}

/// The field at fault.
fn fault<T: TryFrom<P, Error = WireError>, P>(message: P) -> &'static str {
    T::try_from(message).err().map_or("none", |error| error.field())
}

#[test]
fn a_bad_claim_is_refused_by_field() {
    let good: proto::ClaimRequest = claim(proofs()[0].clone(), None).into();
    let faults = |alter: fn(&mut proto::ClaimRequest)| {
        let mut bad = good.clone();
        alter(&mut bad);
        fault::<Claim, _>(bad)
    };
    assert_eq!(faults(|_| {}), "none");
    assert_eq!(faults(|claim| claim.sii = "+14155550100".into()), "sii");
    assert_eq!(faults(|claim| claim.sii = String::new()), "sii");
    assert_eq!(faults(|claim| claim.user = String::new()), "user");
    assert_eq!(faults(|claim| claim.user = "a@b".into()), "user");
    assert_eq!(faults(|claim| claim.audience = 0), "audience");
    assert_eq!(faults(|claim| claim.audience = 3), "audience");
    assert_eq!(faults(|claim| claim.signature = vec![0; 63].into()), "signature");
    assert_eq!(faults(|claim| claim.proof = None), "proof");
    assert_eq!(faults(|claim| claim.proof = Some(proto::Proof { proof: None })), "proof");
    assert_eq!(faults(|claim| claim.circle_secret = vec![0; 31].into()), "circle_secret");
    let empty = proto::proof::Proof::Token(String::new());
    let empty = proto::ClaimRequest { proof: Some(proto::Proof { proof: Some(empty) }), ..good };
    assert_eq!(fault::<Claim, _>(empty), "proof.token");
    assert_eq!(fault::<Claim, _>(proto::ClaimManyRequest { claim: None }), "claim");
}

#[test]
fn the_claim_of_a_port_is_for_the_identifier_that_is_ported() {
    let claim: proto::ClaimRequest = claim(proofs()[0].clone(), None).into();
    let port = |sii: &str| proto::PortRequest {
        sii: "tel:+14155550100".into(),
        from_provider: String::new(),
        claim: Some(proto::ClaimRequest { sii: sii.into(), ..claim.clone() }),
    };
    assert_eq!(Port::try_from(port("")).unwrap().claim.unwrap().sii, alice());
    assert_eq!(fault::<Port, _>(port("tel:+14155550101")), "claim.sii");
    let upper = proto::PortRequest { from_provider: "SG.example".into(), ..port("") };
    assert_eq!(fault::<Port, _>(upper), "from_provider");
}

#[test]
fn requests_that_do_not_say_what_they_want_are_refused() {
    let sii = || "tel:+14155550100".to_owned();
    let set = proto::SetPreferencesRequest { sii: sii(), change: None };
    assert_eq!(fault::<SetPreferences, _>(set), "change");
    assert_eq!(fault::<Release, _>(proto::ReleaseRequest { sii: sii(), release: None }), "release");
    assert_eq!(fault::<List, _>(proto::ListRequest { list: None }), "list");
    let own = proto::OwnList { page_token: Bytes::new(), page_size: 1001 };
    let own = proto::ListRequest { list: Some(proto::list_request::List::Own(own)) };
    assert_eq!(fault::<List, _>(own), "page_size");
    let finish = proto::FinishVerificationRequest { sii: sii(), code: String::new() };
    assert_eq!(fault::<FinishVerification, _>(finish), "code");
    let name = proto::MappingName {
        provider: "wa.example".into(),
        user: "alice".into(),
        circle_id: vec![0; 15].into(),
    };
    assert_eq!(fault::<MappingName, _>(name), "mapping.circle_id");
}
