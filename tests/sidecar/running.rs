//! From start to stop: health, reflection, and calls that are under way.

use std::time::Duration;

use blindbook::sidecar::SidecarOptions;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    estate::{Beside, Dp, PEOPLE, ask, us},
    hold::Hold,
};

#[tokio::test(flavor = "multi_thread")]
async fn health_serves_until_the_stop_and_reflection_lists_the_services() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let channel = beside.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let service = |name: &str| HealthCheckRequest { service: name.into() };
    for name in ["", "blindbook.v1.SidecarService"] {
        let answer = health.check(service(name)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let unknown = health.check(service("blindbook.v1.DiscoveryService")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("another answer") };
    let listed: Vec<_> = list.service.iter().map(|service| &*service.name).collect();
    assert!(listed.contains(&"blindbook.v1.SidecarService"), "{listed:?}");

    let mut watch = health.watch(service("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = beside.begin_to_stop();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(matches!(watch.message().await, Ok(None) | Err(_)), "who watches is let go");
    drop((health, answers));
    stopping.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_under_way_is_answered_before_the_end_and_no_other_is_taken() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let hold = Hold::before(server.address).await;
    let options = us(vec![dp.options("wa", hold.address)]);
    let beside = Beside::start(SidecarOptions { max_calls: 1, ..options }).await;
    beside.ready().await;
    let address = beside.address();
    let (mut first, mut second) = (beside.client().await, beside.client().await);
    hold.hold();
    let mut one = tokio::spawn(async move { first.resolve(ask("+14155550100")).await });
    let mut two = tokio::spawn(async move { second.resolve(ask("+14155550100")).await });
    // There is room for one: once the other was refused, it is under way.
    let (refused, asking) = tokio::select! {
        refused = &mut one => (refused, two),
        refused = &mut two => (refused, one),
    };
    assert_eq!(refused.unwrap().unwrap_err().code(), Code::ResourceExhausted);
    let stopping = beside.begin_to_stop();
    // The listener goes at once, while the call is still held.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!asking.is_finished());
    hold.let_go();
    assert_eq!(asking.await.unwrap().unwrap().mappings.len(), 1);
    stopping.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_farewell_is_bounded() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let hold = Hold::before(server.address).await;
    let options = us(vec![dp.options("wa", hold.address)]);
    let drain_timeout = Duration::from_millis(20);
    let beside = Beside::start(SidecarOptions { drain_timeout, ..options }).await;
    beside.ready().await;
    let mut client = beside.client().await;
    hold.hold();
    let asking = tokio::spawn(async move { client.resolve(ask("+14155550100")).await });
    hold.something_waits().await;
    beside.begin_to_stop().end().await;
    assert!(asking.await.unwrap().is_err(), "cut off");
}
