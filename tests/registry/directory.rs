//! The directory of partners, changed by administrators while the server runs.

use std::sync::Arc;

use blindbook::{
    client::{admin::Admin, registry::RegistryOptions},
    server::Transcript,
    wire::{
        KeySuccession, ProviderList,
        admin::{ListPartners, Partner as Put, PartnerRole, ProviderKey, PutPartner},
        proto::{self, discovery_service_client::DiscoveryServiceClient},
    },
};
use ed25519_dalek::SigningKey;
use tonic::{client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use crate::{
    certificates::Client,
    scene::{ADMIN, Scene, Served, claim, provider, reason, signer, sii},
};

const NEW: &str = "spiffe://new.example/ap";

impl Served<'_> {
    /// An administrator's SDK.
    fn admin(&self, uri: &str) -> Admin {
        let client = Client { uris: &[uri], ..Client::default() };
        let (cert, key) = self.scene.authority.client(&client);
        let mut options = RegistryOptions::new(self.url());
        options.ca_pem = Some(self.scene.authority.pem.clone().into_bytes());
        options.certificate = Some((cert.into_bytes(), key.into_bytes().into()));
        Admin::open(&options).unwrap()
    }

    /// The signed list of providers that anybody gets.
    async fn providers(&self) -> ProviderList {
        let mut anybody = DiscoveryServiceClient::new(self.channel(None).await.unwrap());
        let list = anybody.list_providers(proto::ListProvidersRequest {}).await.unwrap();
        let identity = self.scene.directory.keyring.identity().verifying_key();
        ProviderList::verify(&list.into_inner().try_into().unwrap(), &identity).unwrap()
    }
}

fn put(uri: &str, alias: &str, role: PartnerRole, new: bool) -> PutPartner {
    let (uri, alias) = (uri.to_owned(), alias.to_owned());
    let partner = Put { uri, alias, role, evaluations_per_day: None };
    PutPartner { partner, new, key: None }
}

fn ap(name: &str) -> PartnerRole {
    PartnerRole::Ap(name.into())
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(
    outcome: Result<T, blindbook::client::registry::RegistryError>,
) -> String {
    outcome.unwrap_err().reason().expect("a reason").to_owned()
}

fn start() -> proto::StartChallengeRequest {
    proto::StartChallengeRequest { sii: "tel:+12015550123".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn partners_come_change_and_go_on_connections_that_are_open() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let mut new = served.certified(NEW).await;
    assert_eq!(reason(new.start_challenge(start()).await), "CALLER_UNKNOWN");
    admin.put(put(NEW, "new", ap("new.example"), true)).await.unwrap();
    new.start_challenge(start()).await.unwrap();
    admin.put(put(NEW, "new", PartnerRole::Peer, false)).await.unwrap();
    assert_eq!(reason(new.start_challenge(start()).await), "ROLE_NOT_ALLOWED");
    admin.put(put(NEW, "new", ap("new.example"), false)).await.unwrap();
    new.start_challenge(start()).await.unwrap();
    served.stop().await;

    // It is there after a restart, and then it is not.
    let served = scene.serve().await;
    let mut new = served.certified(NEW).await;
    new.start_challenge(start()).await.unwrap();
    served.admin(ADMIN).remove(NEW).await.unwrap();
    assert_eq!(reason(new.start_challenge(start()).await), "CALLER_UNKNOWN");
    served.stop().await;
    let served = scene.serve().await;
    let mut new = served.certified(NEW).await;
    assert_eq!(reason(new.start_challenge(start()).await), "CALLER_UNKNOWN");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_lasts_claims_nothing_for_a_partner_that_was_removed() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let second = "spiffe://wa.example/second";
    admin.put(put(second, "wa-second", ap("wa.example"), true)).await.unwrap();
    let mut wa = served.certified(second).await;
    let who = sii("mailto:one@mail.example");
    let proof = served.token(&mut wa, &who).await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = wa.claim_many(requests).await.unwrap().into_inner();
    admin.remove(second).await.unwrap();
    let claim = Some(claim(&who, "wa.example", "user", proof));
    send.send(proto::ClaimManyRequest { claim }).await.unwrap();
    let outcome = answers.message().await.unwrap().unwrap().outcome.unwrap();
    let proto::claim_many_response::Outcome::Refusal(refusal) = outcome else { panic!("claimed") };
    assert_eq!(refusal.reason, "CALLER_UNKNOWN");
    assert!(served.found(&who).await.is_empty());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_after_its_sender_was_removed_is_not_taken() {
    let transcript = Arc::new(Transcript::new());
    let scene = Scene { transcript: Some(transcript.clone()), ..Scene::new().await };
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    admin.put(put(NEW, "new", ap("new.example"), true)).await.unwrap();
    let identity = scene.authority.partner(&[NEW]);
    let mut grpc = Grpc::new(served.channel(Some(identity)).await.unwrap());
    grpc.ready().await.unwrap();
    let path = "/blindbook.v1.RegistryService/StartChallenge";
    let codec = ProstCodec::<_, proto::StartChallengeResponse>::default();
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(receive));
    let calling = tokio::spawn(async move {
        grpc.client_streaming(request, PathAndQuery::from_static(path), codec).await
    });
    // The call has begun, and its message is still to come.
    while !transcript.calls().iter().any(|call| call.path == path) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    admin.remove(NEW).await.unwrap();
    send.send(start()).await.unwrap();
    drop(send);
    assert_eq!(reason(calling.await.unwrap()), "CALLER_UNKNOWN");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_add_administrators_but_none_touches_what_is_configured() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let second = "spiffe://dp.example/second";
    assert_eq!(refusal(served.admin(second).remove(NEW).await), "CALLER_UNKNOWN");
    admin.put(put(second, "second", PartnerRole::Admin, true)).await.unwrap();
    let second_admin = served.admin(second);
    second_admin.put(put(NEW, "new", PartnerRole::Peer, true)).await.unwrap();
    admin.remove(second).await.unwrap();
    assert_eq!(refusal(second_admin.remove(NEW).await), "CALLER_UNKNOWN");
    assert_eq!(refusal(admin.remove(ADMIN).await), "PARTNER_CONFIGURED");
    let set = put("spiffe://wa.example/ap", "wa", ap("evil.example"), false);
    assert_eq!(refusal(admin.put(set).await), "PARTNER_CONFIGURED");
    assert_eq!(
        refusal(served.admin("spiffe://wa.example/ap").remove(NEW).await),
        "ROLE_NOT_ALLOWED"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_partner_can_be_is_refused_by_its_field_and_not_repeated() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let authority = |number: &str, domain: &str| PartnerRole::Authority {
        numbers: [number]
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| (*text).into())
            .collect(),
        domains: [domain]
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| (*text).into())
            .collect(),
    };
    for (uri, alias, role, expected) in [
        ("canary", "new", PartnerRole::Peer, "FIELD_RULE"),
        (NEW, "Canary", PartnerRole::Peer, "FIELD_RULE"),
        (NEW, "new", ap("canary canary"), "IDENTIFIER"),
        (NEW, "new", authority("canary", ""), "FIELD_RULE"),
        (NEW, "new", authority("", "canary canary"), "FIELD_RULE"),
        (NEW, "new", authority("", ""), "FIELD_RULE"),
        (NEW, "wa-example", PartnerRole::Peer, "ALIAS_TAKEN"),
    ] {
        let error = admin.put(put(uri, alias, role, true)).await.unwrap_err();
        assert_eq!(error.reason(), Some(expected), "{error}");
        assert!(!error.to_string().to_lowercase().contains("canary"), "{error}");
    }
    let absent = put(NEW, "new", PartnerRole::Peer, false);
    assert_eq!(refusal(admin.put(absent).await), "NO_SUCH_PARTNER");
    assert_eq!(refusal(admin.remove(NEW).await), "NO_SUCH_PARTNER");
    assert_eq!(refusal(admin.remove("canary").await), "FIELD_RULE");
    let again = put(NEW, "new", PartnerRole::Peer, true);
    admin.put(again.clone()).await.unwrap();
    assert_eq!(refusal(admin.put(again).await), "PARTNER_EXISTS");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_are_listed_page_by_page() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let configured = admin.list(ListPartners { page_size: 1000, page_token: String::new() }).await;
    let configured = configured.unwrap();
    assert!(configured.next_page_token.is_empty());
    assert!(configured.partners.iter().all(|listed| listed.configured));
    let wa = configured.partners.iter().find(|one| one.partner.uri == "spiffe://wa.example/ap");
    assert_eq!(wa.unwrap().key, Some(signer("wa.example").verifying_key()));
    let many = 1500;
    for n in 0..many {
        let mut one =
            put(&format!("spiffe://n.example/{n}"), &format!("n-{n}"), PartnerRole::Peer, true);
        one.partner.evaluations_per_day = Some(n);
        admin.put(one).await.unwrap();
    }
    let (mut pages, mut listed) = (0, Vec::new());
    let all = admin.list_all(500, |page| {
        assert!(page.partners.len() <= 500);
        pages += 1;
        listed.extend(page.partners);
    });
    all.await.unwrap();
    assert_eq!(pages, 4);
    assert_eq!(listed.len(), configured.partners.len() + usize::try_from(many).unwrap());
    assert!(listed.is_sorted_by(|one, next| one.partner.uri < next.partner.uri));
    let seventh = listed.iter().find(|one| one.partner.alias == "n-7").unwrap();
    assert_eq!(seventh.partner.evaluations_per_day, Some(7));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_provider_is_published_and_gives_way_only_to_one_that_it_vouches_for() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let name = provider("new.example");
    let [old, new] = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let with = |key: &SigningKey, vouched, first| {
        let mut put = put(NEW, "new", ap("new.example"), first);
        put.key = Some(ProviderKey { key: key.verifying_key(), vouched });
        put
    };
    admin.put(with(&old, None, true)).await.unwrap();
    let before = served.providers().await;
    assert_eq!(before.get(&name).unwrap().key, old.verifying_key());

    assert_eq!(refusal(admin.put(with(&new, None, false)).await), "KEY_NOT_VOUCHED");
    assert_eq!(refusal(admin.put(with(&new, Some([9; 64]), false)).await), "KEY_NOT_VOUCHED");
    assert_eq!(served.providers().await, before);
    let vouched = KeySuccession::sign(&name, &old, &new.verifying_key()).signature;
    admin.put(with(&new, Some(vouched), false)).await.unwrap();
    let after = served.providers().await;
    assert!(after.serial > before.serial);
    let listed = after.get(&name).unwrap();
    assert_eq!(listed.key, new.verifying_key());
    assert!(listed.follows(&old.verifying_key()));
    assert_eq!(refusal(admin.put(with(&old, None, false)).await), "KEY_FORMER");

    // A partner that is refused brings no key along.
    let other = SigningKey::from_bytes(&[3; 32]);
    let mut taken = with(&other, None, true);
    taken.partner.uri = "spiffe://third.example/ap".into();
    taken.partner.role = ap("third.example");
    assert_eq!(refusal(admin.put(taken).await), "ALIAS_TAKEN");
    assert!(served.providers().await.get(&provider("third.example")).is_none());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_held_against_the_new_key_at_once() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let admin = served.admin(ADMIN);
    let who = sii("tel:+12015550123");
    served.claimed(&who, "wa.example", "alice").await;
    let name = provider("wa.example");
    let new = SigningKey::from_bytes(&[2; 32]);
    let vouched = KeySuccession::sign(&name, &signer("wa.example"), &new.verifying_key()).signature;
    let mut second = put("spiffe://wa.example/second", "wa-second", ap("wa.example"), true);
    second.key = Some(ProviderKey { key: new.verifying_key(), vouched: Some(vouched) });
    admin.put(second).await.unwrap();
    let mut wa = served.ap("wa.example").await;
    let proof = served.token(&mut wa, &who).await;
    let old = claim(&who, "wa.example", "alice", proof);
    assert_eq!(reason(wa.claim(old).await), "MAPPING_SIGNATURE");
    served.stop().await;
}
