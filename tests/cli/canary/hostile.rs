//! Requests that are none, callers that are nobody, and more than is allowed:
//! each refused, in words that quote nothing.

use blindbook::{
    oprf::BlindedBatch,
    wire::proto::{
        self, EvaluateRequest, IssueTokensRequest, ResolveManyRequest, ResolveRequest,
        admin_service_client::AdminServiceClient, discovery_service_client::DiscoveryServiceClient,
        quota_service_client::QuotaServiceClient, registry_service_client::RegistryServiceClient,
        sidecar_service_client::SidecarServiceClient,
    },
};
use tonic::{Code, Request, Status, transport::Endpoint};

use super::{ABSENT, CLAIMED, LOADED, PROVIDER, Scene, search::Canaries};
use crate::{
    estate::{Serving, blindbook},
    sidecar::ready,
};

const SIIS: [&str; 5] =
    ["canary@@", "tel:canary", "+1415555canary", "acct:canary.text", "tel:+14155558413"];

/// Whatever the refusal: it was one, and is searched.
fn refused<T>(scene: &mut Scene, what: &str, answer: Result<T, Status>) {
    let Err(status) = answer else { panic!("{what} was not refused") };
    scene.refused(what, status.code(), &status);
}

fn proofs() -> [proto::Proof; 3] {
    use proto::proof::Proof as Kind;
    let passport = proto::PassportProof {
        challenge: "canary challenge".into(),
        token: "canary.passport.token".into(),
        certificates: vec![b"canary certificate".to_vec().into()],
    };
    let identity = proto::IdentityProof {
        challenge: "canary challenge".into(),
        token: "canary.identity.token".into(),
    };
    [Kind::Token("canary.claim.token".into()), Kind::Passport(passport), Kind::Identity(identity)]
        .map(|proof| proto::Proof { proof: Some(proof) })
}

fn claims(sii: &str) -> impl Iterator<Item = proto::ClaimRequest> {
    proofs().into_iter().map(Some).chain([None]).map(move |proof| proto::ClaimRequest {
        sii: sii.into(),
        user: "canary-user-of-no-claim".into(),
        audience: proto::Audience::Personal.into(),
        ttl_s: 600,
        verified_until_s: u32::MAX,
        signature: vec![b'c'; 64].into(),
        proof,
        circle_secret: b"canary".to_vec().into(),
    })
}

fn mapping() -> proto::MappingName {
    proto::MappingName {
        provider: "canary provider".into(),
        user: "canary user".into(),
        circle_id: b"canary circle id".to_vec().into(),
    }
}

/// Every field of text or bytes of every call, filled with what it is not.
pub(super) async fn malformed(scene: &mut Scene) {
    let channel = scene.channel(Some("ap")).await;
    let mut registry = RegistryServiceClient::new(channel.clone());
    for sii in SIIS {
        if !sii.ends_with(|end: char| end.is_ascii_digit()) {
            let start = proto::StartVerificationRequest { sii: sii.into() };
            refused(scene, "no verification", registry.start_verification(start).await);
            let start = proto::StartChallengeRequest { sii: sii.into() };
            refused(scene, "no challenge", registry.start_challenge(start).await);
        }
        for code in ["canary-code", "00000000"] {
            let finish = proto::FinishVerificationRequest { sii: sii.into(), code: code.into() };
            refused(scene, "no code", registry.finish_verification(finish).await);
        }
        for claim in claims(sii) {
            refused(scene, "no claim", registry.claim(claim.clone()).await);
            let many = tokio_stream::iter([proto::ClaimManyRequest { claim: Some(claim.clone()) }]);
            let mut answers = registry.claim_many(many).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap();
            scene.see("the details of one of many claims", format!("{answer:?}").as_bytes());
            let port = proto::PortRequest {
                sii: sii.into(),
                from_provider: "canary provider".into(),
                claim: Some(claim),
            };
            refused(scene, "no port", registry.port(port).await);
        }
        for proof in proofs() {
            use proto::{
                list_request::List, release_request::Release, set_preferences_request::Change,
            };
            let control =
                proto::ControlRelease { mapping: Some(mapping()), proof: Some(proof.clone()) };
            let own = proto::OwnRelease { user: "canary user".into() };
            for release in [Release::Control(control), Release::Own(own)] {
                let request = proto::ReleaseRequest { sii: sii.into(), release: Some(release) };
                refused(scene, "no release", registry.release(request).await);
            }
            let default =
                proto::DefaultChange { mapping: Some(mapping()), proof: Some(proof.clone()) };
            let audience = proto::AudienceChange {
                user: "canary user".into(),
                circle_id: b"canary circle id".to_vec().into(),
                audience: proto::Audience::Business.into(),
                signature: vec![b'c'; 64].into(),
            };
            for change in [Change::Default(default), Change::Audience(audience)] {
                let request =
                    proto::SetPreferencesRequest { sii: sii.into(), change: Some(change) };
                refused(scene, "no preference", registry.set_preferences(request).await);
            }
            let control = proto::ControlList { sii: sii.into(), proof: Some(proof) };
            let list = proto::ListRequest { list: Some(List::Control(control)) };
            refused(scene, "no list", registry.list(list).await);
        }
    }
    let own = proto::OwnList { page_token: b"canary page".to_vec().into(), page_size: 5 };
    let list = proto::ListRequest { list: Some(proto::list_request::List::Own(own)) };
    refused(scene, "no page", registry.list(list).await);

    malformed_lookups(scene, channel).await;
    malformed_partners(scene).await;
}

async fn malformed_lookups(scene: &mut Scene, channel: tonic::transport::Channel) {
    let mut discovery = DiscoveryServiceClient::new(channel.clone());
    let bad = b"canary element of no group 01234".to_vec();
    for (elements, tokens) in [
        ([bad.clone(), bad.clone()].concat(), Vec::new()),
        (b"canary".to_vec(), Vec::new()),
        ([bad.clone(), bad.clone()].concat(), b"canary token".repeat(30)[..354].to_vec()),
    ] {
        let request =
            EvaluateRequest { epoch: 1, blinded_elements: elements.into(), tokens: tokens.into() };
        refused(scene, "no elements", discovery.evaluate(request).await);
    }
    let query = proto::QueryPirRequest {
        query: b"canary query".to_vec().into(),
        tokens: b"canary token".to_vec().into(),
        ..Default::default()
    };
    refused(scene, "no query", discovery.query_pir(query).await);
    let fetch = proto::FetchBucketsRequest { epoch: 1, prefixes: vec![77], ..Default::default() };
    refused(scene, "no bucket", discovery.fetch_buckets(fetch).await);
    let mut timed = Request::new(proto::GetParametersRequest {});
    timed.metadata_mut().insert("grpc-timeout", "canary".parse().unwrap());
    timed.metadata_mut().insert("canary-name", "canary value".parse().unwrap());
    refused(scene, "no deadline", discovery.get_parameters(timed).await);

    let mut quota = QuotaServiceClient::new(channel);
    let issue = IssueTokensRequest { day: 1, blinded_messages: b"canary".to_vec().into() };
    refused(scene, "no blinded message", quota.issue_tokens(issue).await);
}

async fn malformed_partners(scene: &mut Scene) {
    let mut admin = AdminServiceClient::new(scene.channel(Some("admin")).await);
    for (uri, alias, provider) in [
        ("canary uri", "fine", PROVIDER),
        ("spiffe://canary.example/x", "canary alias!", PROVIDER),
        ("spiffe://canary.example/x", "fine", "canary provider"),
    ] {
        let role =
            proto::partner::Role::Ap(proto::ApplicationProvider { provider: provider.into() });
        let put = proto::PutPartnerRequest {
            partner: Some(proto::Partner {
                uri: uri.into(),
                alias: alias.into(),
                role: Some(role),
                ..Default::default()
            }),
            mode: proto::PutMode::Add.into(),
            provider_key: b"canary key".to_vec().into(),
            succession_signature: b"canary signature".to_vec().into(),
        };
        refused(scene, "no partner", admin.put_partner(put).await);
    }
    let remove = proto::RemovePartnerRequest { uri: "spiffe://canary.example/none".into() };
    refused(scene, "no partner to remove", admin.remove_partner(remove).await);
    // Any text is a page: where the list goes on.
    let list = proto::ListPartnersRequest { page_token: "canary page".into(), page_size: 5 };
    admin.list_partners(list).await.unwrap();
}

/// No certificate, one of another authority, one that is on no list any more,
/// and one whose role may not.
pub(super) async fn strangers(scene: &mut Scene) {
    for name in [None, Some("stranger"), Some("later"), Some("admin")] {
        let channel = scene.try_channel(name).await;
        let Ok(channel) = channel else { continue };
        let mut registry = RegistryServiceClient::new(channel);
        for claim in claims("tel:+14155558413") {
            refused(scene, "a stranger", registry.claim(claim).await);
        }
    }
}

/// More than a partner may ask.
pub(super) async fn too_much(scene: &mut Scene, canaries: &mut Canaries) {
    let channel = scene.channel(Some("ap")).await;
    let mut discovery = DiscoveryServiceClient::new(channel);
    let names: Vec<String> =
        (0..128).map(|n| format!("acct:canary.many{n}@host-canary.example")).collect();
    let mut exhausted = None;
    for _ in 0..5 {
        let batch = BlindedBatch::blind(&names, &mut rand::rng()).unwrap();
        let elements = batch.blinded_elements().to_vec();
        canaries.bytes(&elements[..12]);
        canaries.bytes(&elements[elements.len() - 32..][..12]);
        let request = EvaluateRequest {
            epoch: 1,
            blinded_elements: elements.into(),
            tokens: Vec::new().into(),
        };
        match discovery.evaluate(request).await {
            Ok(answer) => {
                let evaluated = &answer.get_ref().evaluations[0].evaluated_elements;
                canaries.bytes(&evaluated[..12]);
            }
            Err(status) => exhausted = Some(status),
        }
    }
    scene.refused("a quota", Code::ResourceExhausted, &exhausted.unwrap());
}

/// A provider's own helper, which is told in clear whom its users look for.
pub(super) async fn sidecar(scene: &mut Scene) {
    let key = |name: &str| scene.estate.keys().join(name);
    let config = format!(
        "region = \"US\"\nlisten = \"127.0.0.1:0\"\n[[directory]]\nname = \"wa\"\n\
         address = \"https://{}\"\nidentity = {:?}\nca = {:?}\nstate = {:?}\ncert = {:?}\n\
         key = {:?}\n",
        scene.serving().address,
        key("identity.pub"),
        key("dev-ca.pem"),
        scene.estate.path("sidecar-state"),
        scene.estate.path("ap.pem"),
        scene.estate.path("ap.key"),
    );
    let mut command = blindbook();
    command.args(["sidecar", "--log", "trace", "--log-format", "json", "--config"]);
    command.arg(scene.estate.write("sidecar.toml", &config));
    let sidecar = Serving::start(command);
    let url = format!("http://{}", sidecar.address);
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    ready(&channel).await;
    let mut client = SidecarServiceClient::new(channel);
    for (sii, user) in LOADED.iter().map(|(sii, user)| (*sii, Some(*user))).chain([(ABSENT, None)])
    {
        let request = ResolveRequest { sii: sii.into(), ..ResolveRequest::default() };
        let found = client.resolve(request).await.unwrap().into_inner().mappings;
        assert_eq!(found.first().map(|found| &*found.user), user);
    }
    for (sii, directory) in [("canary@", ""), ("+1415555canary", ""), (CLAIMED.0, "canary")] {
        let request = ResolveRequest {
            sii: sii.into(),
            directory: directory.into(),
            ..ResolveRequest::default()
        };
        refused(scene, "no question of a sidecar", client.resolve(request).await);
    }
    let siis = vec![LOADED[0].0.into(), "canary@".into()];
    let request = ResolveManyRequest { siis, ..ResolveManyRequest::default() };
    client.resolve_many(request).await.unwrap();
    let (code, log) = sidecar.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"serving\""), "the sidecar must really log: {log}");
    scene.see("the log of a sidecar", log.as_bytes());
}
