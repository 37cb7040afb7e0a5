//! Certificates that do not count, or count no more: at the handshake, and on
//! connections that are open.

use std::sync::Arc;

use blindbook::{
    client::{Client as Sdk, ClientCertificate, ClientError, ClientOptions, Fault, MemoryState},
    server::{Lists, Tls},
    wire::proto::{
        self, claim_many_response::Outcome, discovery_service_client::DiscoveryServiceClient,
    },
};
use rcgen::ExtendedKeyUsagePurpose;
use tonic::{Code, transport::Identity};

use crate::{
    certificates::{Authority, Client},
    scene::{NOW_S, Partner, Scene, Served, claim, proof, reason, refused, sii},
};

const WA: &str = "spiffe://wa.example/ap";
const SIGNAL: &str = "spiffe://signal.example/ap";

const YEAR_S: u64 = 366 * 86_400;

fn client(uri: &'static str) -> Client<'static> {
    let uris: &[&str] = if uri == WA { &[WA] } else { &[SIGNAL] };
    Client { uris, ..Client::default() }
}

fn identity(scene: &Scene, client: &Client<'_>) -> Identity {
    let (cert, key) = scene.authority.client(client);
    Identity::from_pem(cert, key)
}

fn start() -> proto::StartChallengeRequest {
    proto::StartChallengeRequest { sii: "tel:+12015550123".into() }
}

async fn connected(served: &Served<'_>, client: &Client<'_>) -> Partner {
    Partner::new(served.channel(Some(identity(served.scene, client))).await.unwrap())
}

/// The handshake ends before any call: the server answers nothing.
async fn is_shut_out(served: &Served<'_>, identity: Identity) -> bool {
    // TLS 1.3 tells a client of it after its own side of the handshake.
    let Ok(channel) = served.channel(Some(identity)).await else { return true };
    let Err(status) = Partner::new(channel).start_challenge(start()).await else { return false };
    // Made on this side: nothing came from the server.
    std::error::Error::source(&status).is_some()
}

fn lapsed() -> (Code, String) {
    (Code::Unauthenticated, "CERTIFICATE_LAPSED".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_out_of_their_time_or_for_servers_alone_are_shut_out() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    assert!(!is_shut_out(&served, identity(&scene, &client(WA))).await);
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (what, client) in [
        ("expired", Client { years: (2020, 2026), ..client(WA) }),
        ("not yet valid", Client { years: (2030, 2090), ..client(WA) }),
        ("for servers", Client { usages, ..client(WA) }),
    ] {
        assert!(is_shut_out(&served, identity(&scene, &client)).await, "{what}");
    }
    let (cert, key) = Authority::new().client(&client(WA));
    assert!(is_shut_out(&served, Identity::from_pem(cert, key)).await, "another authority");

    // The standard lets any use pass where none is named; here it names nobody.
    let mut any = connected(&served, &Client { usages: Vec::new(), ..client(WA) }).await;
    let unknown = (Code::Unauthenticated, "CALLER_UNKNOWN".to_owned());
    assert_eq!(refused(any.start_challenge(start()).await), unknown);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_shut_out_and_others_are_not() {
    let scene = Scene::new().await;
    let served = scene.serve_with(Some(scene.authority.revokes(&[7], 2030))).await;
    let of = |serial| Client { serial, ..client(WA) };
    assert!(is_shut_out(&served, identity(&scene, &of(7))).await);
    assert!(!is_shut_out(&served, identity(&scene, &of(8))).await);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_ended_before_the_start_shut_partners_out_and_nobody_else() {
    let scene = Scene::new().await;
    let served = scene.serve_with(Some(scene.authority.revokes(&[7], 2026))).await;
    assert_eq!(served.tls.lists(), Lists::Ended);
    let mut anybody = DiscoveryServiceClient::new(served.channel(None).await.unwrap());
    for serial in [7, 8] {
        let partner = identity(&scene, &Client { serial, ..client(WA) });
        assert!(is_shut_out(&served, partner).await);
    }
    anybody.get_parameters(proto::GetParametersRequest {}).await.unwrap();

    // No worse than what is in force: what else is new counts.
    served.tls.replace(&scene.pem(Some(scene.authority.revokes(&[], 2026)))).unwrap();
    assert!(is_shut_out(&served, identity(&scene, &client(WA))).await);
    served.tls.replace(&scene.pem(Some(scene.authority.revokes(&[7], 2030)))).unwrap();
    for (serial, is_out) in [(7, true), (8, false)] {
        let partner = identity(&scene, &Client { serial, ..client(WA) });
        assert_eq!(is_shut_out(&served, partner).await, is_out);
    }
    anybody.get_parameters(proto::GetParametersRequest {}).await.unwrap();
    served.stop().await;
}

/// What the SDK says whose certificate this is.
async fn told(served: &Served<'_>, (chain, key): (String, String)) -> Result<(), ClientError> {
    let identity = served.scene.directory.keyring.identity().verifying_key();
    let mut options = ClientOptions::new(served.url(), identity);
    options.ca_pem = Some(served.scene.authority.pem.clone().into());
    options.clock = served.scene.clock();
    let (chain_pem, key_pem) = (chain.into(), key.into_bytes().into());
    options.certificate = Some(ClientCertificate { chain_pem, key_pem });
    Sdk::connect(options, Arc::new(MemoryState::new())).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_says_that_its_certificate_is_refused_and_why() {
    let scene = Scene::new().await;
    let served = scene.serve_with(Some(scene.authority.revokes(&[7], 2030))).await;
    let of = |client: &Client<'_>| scene.authority.client(client);
    told(&served, of(&client(WA))).await.unwrap();
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for (certificate, why) in [
        (of(&Client { serial: 7, ..client(WA) }), "revoked"),
        (of(&Client { years: (2020, 2026), ..client(WA) }), "out of its time"),
        (of(&Client { usages, ..client(WA) }), "one that it does not accept"),
        // Of the same name.
        (Authority::new().client(&client(WA)), "one that it does not accept"),
    ] {
        let error = told(&served, certificate).await.unwrap_err();
        assert!(matches!(error, ClientError::CertificateRefused(told) if told == why), "{error}");
        assert_eq!(error.fault(), Fault::Caller);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_revokes_ends_the_authority_of_open_connections_and_of_no_others() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = connected(&served, &Client { serial: 7, ..client(WA) }).await;
    let mut signal = connected(&served, &Client { serial: 8, ..client(SIGNAL) }).await;
    wa.start_challenge(start()).await.unwrap();
    signal.start_challenge(start()).await.unwrap();

    served.tls.replace(&scene.pem(Some(scene.authority.revokes(&[7], 2030)))).unwrap();
    assert_eq!(refused(wa.start_challenge(start()).await), lapsed());
    // What is everybody's is still his.
    let watch = proto::WatchInvalidationsRequest { checkpoint: None };
    wa.watch_invalidations(watch).await.unwrap();
    signal.start_challenge(start()).await.unwrap();
    assert!(is_shut_out(&served, identity(&scene, &Client { serial: 7, ..client(WA) })).await);

    // A list that no longer names it gives nothing back that was not its own.
    served.tls.replace(&scene.pem(Some(scene.authority.revokes(&[], 2030)))).unwrap();
    wa.start_challenge(start()).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_call_that_lasts_are_refused_from_the_revocation_on() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = connected(&served, &Client { serial: 7, ..client(WA) }).await;
    let (first, second) = (sii("mailto:one@mail.example"), sii("mailto:two@mail.example"));
    let mut claims = Vec::new();
    for who in [&first, &second] {
        let proof = served.token(&mut wa, who).await;
        claims
            .push(proto::ClaimManyRequest { claim: Some(claim(who, "wa.example", "user", proof)) });
    }
    let (send, receive) = tokio::sync::mpsc::channel(2);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    send.send(claims.remove(0)).await.unwrap();
    let mut answers = wa.claim_many(requests).await.unwrap().into_inner();
    let outcome = answers.message().await.unwrap().unwrap().outcome.unwrap();
    assert!(matches!(outcome, Outcome::Claimed(_)));

    served.tls.replace(&scene.pem(Some(scene.authority.revokes(&[7], 2030)))).unwrap();
    send.send(claims.remove(0)).await.unwrap();
    let outcome = answers.message().await.unwrap().unwrap().outcome.unwrap();
    let Outcome::Refusal(refusal) = outcome else { panic!("it was claimed") };
    assert_eq!(refusal.reason, "CERTIFICATE_LAPSED");
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(served.found(&first).await, ["user@wa.example"]);
    assert!(served.found(&second).await.is_empty());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_or_whose_list_ends_counts_no_more() {
    let scene = Scene::new().await;
    let served = scene.serve_with(Some(scene.authority.revokes(&[], 2029))).await;
    let mut short = connected(&served, &Client { years: (2020, 2028), ..client(WA) }).await;
    let mut long = connected(&served, &client(SIGNAL)).await;
    short.start_challenge(start()).await.unwrap();
    scene.set_time(NOW_S + YEAR_S);
    assert_eq!(refused(short.start_challenge(start()).await), lapsed());
    long.start_challenge(start()).await.unwrap();

    // Without a list that is in date nobody can say who was revoked.
    scene.set_time(NOW_S + 2 * YEAR_S);
    assert_eq!(refused(long.start_challenge(start()).await), lapsed());
    assert!(is_shut_out(&served, identity(&scene, &client(SIGNAL))).await);
    let anonymous = served.channel(None).await.unwrap();
    let watch = proto::WatchInvalidationsRequest { checkpoint: None };
    Partner::new(anonymous).watch_invalidations(watch).await.unwrap();
    served.tls.replace(&scene.pem(Some(scene.authority.revokes(&[], 2040)))).unwrap();
    long.start_challenge(start()).await.unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_trusted_no_more_takes_its_partners_along() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let mut wa = connected(&served, &client(WA)).await;
    wa.start_challenge(start()).await.unwrap();
    let mut pem = scene.pem(None);
    pem.client_ca = Some(Authority::new().pem.into_bytes());
    served.tls.replace(&pem).unwrap();
    assert_eq!(refused(wa.start_challenge(start()).await), lapsed());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_serve_is_refused_by_name_and_the_old_stays_in_force() {
    let scene = Scene::new().await;
    let served = scene.serve_with(Some(scene.authority.revokes(&[7], 2030))).await;
    let other = Authority::new();
    let good = scene.pem(Some(scene.authority.revokes(&[], 2030)));
    let (_, foreign_key) = scene.authority.server();
    let altered = |change: &dyn Fn(&mut blindbook::server::TlsPem)| {
        let mut pem = good.clone();
        change(&mut pem);
        pem
    };
    let crl = |text: String| altered(&move |pem| pem.client_crl = Some(text.clone().into_bytes()));
    let both = [scene.authority.pem.clone(), other.pem.clone()].concat();
    for (part, pem) in [
        ("tls_cert: ", altered(&|pem| pem.cert = b"no PEM".to_vec())),
        ("tls_key: ", altered(&|pem| pem.key = b"no PEM".to_vec().into())),
        (
            "tls_cert and tls_key: ",
            altered(&|pem| pem.key = foreign_key.clone().into_bytes().into()),
        ),
        ("client_ca: ", altered(&|pem| pem.client_ca = Some(Vec::new()))),
        ("client_crl: ", crl(String::new())),
        ("client_crl: holds a list whose nextUpdate", crl(scene.authority.revokes(&[], 2026))),
        // Of the same name, by another key.
        ("client_crl: holds a list of an authority", crl(other.revokes(&[], 2030))),
        // One of two authorities has no list.
        ("client_crl: ", altered(&|pem| pem.client_ca = Some(both.clone().into_bytes()))),
    ] {
        let refused = served.tls.replace(&pem).unwrap_err().to_string();
        assert!(refused.contains(part), "{refused} is not about {part}");
        assert!(!refused.contains("PRIVATE"), "{refused}");
        // At a start there are no old lists that would be in date.
        let (tls, ended) = (Tls::new(&pem, scene.clock()), part.contains("nextUpdate"));
        assert_eq!(tls.is_ok(), ended);
        assert_eq!(tls.ok().map(|tls| tls.lists()), ended.then_some(Lists::Ended));
        let revoked = identity(&scene, &Client { serial: 7, ..client(WA) });
        assert!(is_shut_out(&served, revoked).await, "{part}");
        let mut wa = connected(&served, &Client { serial: 8, ..client(WA) }).await;
        wa.start_challenge(start()).await.unwrap();
    }
    served.tls.replace(&good).unwrap();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_claims_and_signs_for_itself_alone() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let who = sii("tel:+12015550123");
    let mut wa = served.ap("wa.example").await;
    let mut signal = served.ap("signal.example").await;
    let of_signal = served.token(&mut signal, &who).await;
    let of_wa = served.token(&mut wa, &who).await;
    // Its own name and signature with another's proof; another's signature with
    // its own proof; all that is another's.
    let borrowed = claim(&who, "wa.example", "mallory", of_signal.clone());
    assert_eq!(reason(wa.claim(borrowed).await), "PROOF_AUDIENCE");
    let signed = claim(&who, "signal.example", "mallory", of_wa);
    assert_eq!(reason(wa.claim(signed).await), "MAPPING_SIGNATURE");
    let all = claim(&who, "signal.example", "mallory", of_signal);
    assert_eq!(reason(wa.claim(all).await), "PROOF_AUDIENCE");
    let none = claim(&who, "signal.example", "mallory", proof("x.y.z".into()));
    assert!(wa.claim(none).await.is_err());
    assert!(served.found(&who).await.is_empty());
    served.is_clean(0).await;
    served.stop().await;
}
