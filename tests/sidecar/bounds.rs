//! What one peer may take: calls, connections, bytes and time.

use std::time::Duration;

use blindbook::sidecar::SidecarOptions;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt as _;

use crate::{
    estate::{Beside, Dp, PATIENCE, PEOPLE, ask, ask_many, field, reason, us},
    hold::Hold,
    wire::{Wire, calls_late},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_or_at_the_sidecars() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let hold = Hold::before(server.address).await;
    let call_timeout = Duration::from_millis(100);
    let options = us(vec![dp.options("wa", hold.address)]);
    let beside = Beside::start(SidecarOptions { call_timeout, ..options }).await;
    beside.ready().await;
    hold.hold();
    let mut client = beside.client().await;
    let late = client.resolve(ask("+14155550100")).await.unwrap_err();
    assert_eq!((late.code(), &*reason(&late)), (Code::DeadlineExceeded, "DEADLINE"));

    // Nothing is asked for a deadline that cannot be met; whichever side
    // notices it first says so.
    let mut request = Request::new(ask("+14155550100"));
    request.metadata_mut().insert("grpc-timeout", "1n".parse().unwrap());
    let late = client.0.resolve(request).await.unwrap_err();
    assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late:?}");

    let mut request = Request::new(ask("+14155550100"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let refused = client.0.resolve(request).await.unwrap_err();
    assert_eq!((refused.code(), &*field(&refused)), (Code::InvalidArgument, "grpc-timeout"));
    hold.let_go();
    assert_eq!(client.users("+14155550101").await, ["bob@wa.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_too_many_is_told_to_come_back() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let hold = Hold::before(server.address).await;
    let options = us(vec![dp.options("wa", hold.address)]);
    let beside = Beside::start(SidecarOptions { max_calls: 1, ..options }).await;
    beside.ready().await;
    let (mut first, mut second) = (beside.client().await, beside.client().await);
    hold.hold();
    let one = tokio::spawn(async move { first.resolve(ask("+14155550100")).await });
    hold.something_waits().await;
    let busy = second.resolve(ask("+14155550100")).await.unwrap_err();
    assert_eq!((busy.code(), &*reason(&busy)), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(busy.get_error_details().retry_info().is_some());
    // Calls of many have a bound of their own, and health has none.
    assert!(second.many(ask_many(&[])).await.unwrap().is_empty());
    assert_eq!(beside.status().await, ServingStatus::Serving);
    hold.let_go();
    assert_eq!(one.await.unwrap().unwrap().mappings.len(), 1);
    assert_eq!(second.users("+14155550101").await, ["bob@wa.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_refused_before_their_bodies_came_cost_no_connection() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let hold = Hold::before(server.address).await;
    let options = us(vec![dp.options("wa", hold.address)]);
    let beside = Beside::start(SidecarOptions { max_calls: 1, ..options }).await;
    beside.ready().await;
    let mut first = beside.client().await;
    hold.hold();
    let one = tokio::spawn(async move { first.resolve(ask("+14155550100")).await });
    hold.something_waits().await;
    let mut wire = Wire::connect(beside.address()).await;
    // HTTP/2 closes a connection for 1024 faults.
    calls_late(&mut wire, "/blindbook.v1.SidecarService/Resolve", 24).await;
    hold.let_go();
    assert_eq!(one.await.unwrap().unwrap().mappings.len(), 1);
    calls_late(&mut wire, "/blindbook.v1.SidecarService/Resolve", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_of_many_too_many_is_told_to_come_back() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let hold = Hold::before(server.address).await;
    let options = us(vec![dp.options("wa", hold.address)]);
    let beside = Beside::start(SidecarOptions { max_batches: 1, ..options }).await;
    beside.ready().await;
    let (mut first, mut second) = (beside.client().await, beside.client().await);
    hold.hold();
    let many = tokio::spawn(async move { first.many(ask_many(&["+14155550100"])).await });
    hold.something_waits().await;
    let busy = second.many(ask_many(&[])).await.unwrap_err();
    assert_eq!((busy.code(), &*reason(&busy)), (Code::ResourceExhausted, "OVERLOADED"));
    hold.let_go();
    assert_eq!(many.await.unwrap().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_at_once() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let options = us(vec![dp.options("wa", server.address)]);
    let beside = Beside::start(SidecarOptions { max_connections: 1, ..options }).await;
    let client = beside.client().await;
    let mut other = TcpStream::connect(beside.address()).await.unwrap();
    let read = timeout(PATIENCE, other.read(&mut [0; 64])).await.expect("an end in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_long_or_compressed_are_refused() {
    let dp = Dp::with(PEOPLE).await;
    let server = dp.serve().await;
    let beside = Beside::of(dp.options("wa", server.address)).await;
    let mut client = beside.client().await;
    let before = dp.lookups().len();
    let long = client.resolve(ask(&"1".repeat(5000))).await.unwrap_err();
    assert_eq!((long.code(), &*reason(&long)), (Code::InvalidArgument, "MESSAGE_TOO_LONG"));
    let long = client.many(ask_many(&[&*"1".repeat(5_000_000)])).await.unwrap_err();
    assert_eq!((long.code(), &*reason(&long)), (Code::InvalidArgument, "MESSAGE_TOO_LONG"));
    let mut request = Request::new(ask("+14155550100"));
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let refused = client.0.resolve(request).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unimplemented, "COMPRESSED"));
    assert_eq!(dp.lookups().len(), before);
    assert_eq!(client.users("+14155550100").await, ["alice@wa.example"]);
}
