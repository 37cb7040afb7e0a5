//! Certificates that name nobody; and everything that is everybody's.

use std::sync::Arc;

use blindbook::{
    client::{Client, ClientOptions, MemoryState},
    wire::proto::{
        self, discovery_service_client::DiscoveryServiceClient,
        registry_service_client::RegistryServiceClient,
    },
};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    certificates::Authority,
    scene::{Partner, Scene, refused, sii},
};

async fn asks(partner: &mut Partner) -> (Code, String) {
    let start = proto::StartChallengeRequest { sii: "tel:+12015550123".into() };
    match partner.start_challenge(start).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => refused::<()>(Err(status)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_a_partner_by_its_one_uri() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let listed = "spiffe://wa.example/ap";
    for (uris, known) in [
        (&[listed][..], true),
        (&[], false),
        (&["spiffe://wa.example/AP"], false),
        (&["spiffe://wa.example/ap/"], false),
        (&[listed, "spiffe://signal.example/ap"], false),
    ] {
        let identity = scene.authority.partner(uris);
        let mut partner = Partner::new(served.channel(Some(identity)).await.unwrap());
        let (code, reason) = asks(&mut partner).await;
        let expected = if known { Code::Ok } else { Code::Unauthenticated };
        assert_eq!(code, expected, "{uris:?} {reason}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_ends_the_connection() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let forged = Authority::new().partner(&["spiffe://wa.example/ap"]);
    // TLS 1.3 tells a client of it after its own side of the handshake.
    if let Ok(channel) = served.channel(Some(forged)).await {
        let mut partner = Partner::new(channel);
        let start = proto::StartChallengeRequest { sii: "tel:+12015550123".into() };
        let status = partner.start_challenge(start).await.unwrap_err();
        // Made on this side: nothing came from the server.
        assert!(std::error::Error::source(&status).is_some(), "{status}");
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_need_no_certificate_and_a_bearer_token_serves_nobody() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    assert!(served.lookup(&sii("tel:+12015550123")).await.is_empty());
    let mut anonymous = RegistryServiceClient::new(served.channel(None).await.unwrap());
    let mut request =
        tonic::Request::new(proto::StartChallengeRequest { sii: "tel:+12015550123".into() });
    request.metadata_mut().insert("authorization", "Bearer 0123456789abcdef".parse().unwrap());
    let unknown = (Code::Unauthenticated, "CALLER_UNIDENTIFIED".to_owned());
    assert_eq!(refused(anonymous.start_challenge(request).await), unknown);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_registry_and_no_service_that_is_not_here() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(served.channel(None).await.unwrap());
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("no list") };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    let expected = [
        "blindbook.v1.AdminService",
        "blindbook.v1.DiscoveryService",
        "blindbook.v1.QuotaService",
        "blindbook.v1.RegistryService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, expected);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_registry_has_no_such_method() {
    let scene = Scene::new().await;
    let running = scene.directory.serve(blindbook::server::ServerOptions::default()).await;
    let mut partner = Partner::new(running.channel().await);
    let start = proto::StartChallengeRequest { sii: "tel:+12015550123".into() };
    let status = partner.start_challenge(start).await;
    assert_eq!(refused(status), (Code::Unimplemented, "UNKNOWN_METHOD".to_owned()));
    let parameters = proto::GetParametersRequest {};
    let mut lookups = DiscoveryServiceClient::new(running.channel().await);
    lookups.get_parameters(parameters).await.unwrap();
    let identity = scene.directory.keyring.identity().verifying_key();
    let options = ClientOptions::new(format!("http://{}", running.address), identity);
    Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    running.stop().await;
}
