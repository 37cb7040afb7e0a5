//! Calls that are refused in masses: whoever makes them in good faith keeps the
//! connection, and with it all other calls that it carries.

use std::{
    future::poll_fn,
    time::{Duration, Instant},
};

use blindbook::{
    oprf::{BlindedBatch, OprfError},
    server::ServerOptions,
    wire::proto,
};
use h2::Reason;
use http::Method;
use prost::Message as _;
use tokio::{task::JoinSet, time::timeout};
use tonic::Code;

use crate::{
    common::Directory,
    peer::{EVALUATE, FETCH, PARAMETERS, PATIENCE, Peer, frame, outcome},
    wire::{END_HEADERS, HEADERS, STREAMS, Wire, calls_late, header_block, push},
};

/// The type of a frame, RFC 9113 section 6.4.
const RST_STREAM: u8 = 3;

/// More than the faults that a connection may have.
const TIMES: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_whose_bodies_are_on_their_way_cost_no_connection() {
    let options = ServerOptions { max_calls: 1, ..ServerOptions::default() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let mut busy = Peer::connect(server.address).await;
    let (held, mut open) = busy.begin(Method::POST, PARAMETERS, &[]).await.unwrap();
    // All that there may be, as soon as the server knows of it.
    let mut other = Peer::connect(server.address).await;
    while other.post(PARAMETERS, frame(0, b"")).await.status.unwrap().code() == Code::Ok {}

    let mut wire = Wire::connect(server.address).await;
    calls_late(&mut wire, FETCH, TIMES).await;

    open.send_data(frame(0, b"").into(), true).unwrap();
    assert_eq!(outcome(held).await.unwrap().status.unwrap().code(), Code::Ok);
    calls_late(&mut wire, PARAMETERS, TIMES).await;
    drop(wire);
    server.stop().await;
}

/// The longest that there is to evaluate.
fn largest_batch() -> Result<Vec<u8>, OprfError> {
    let inputs: Vec<_> = (0..512_usize).map(usize::to_be_bytes).collect();
    let batch = BlindedBatch::blind(&inputs, &mut rand::rng())?;
    let blinded_elements = batch.blinded_elements().to_vec().into();
    let request = proto::EvaluateRequest { epoch: 1, blinded_elements, ..Default::default() };
    Ok(frame(0, &request.encode_to_vec()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_takes_the_room_of_four() {
    let options =
        ServerOptions { evaluation_threads: 1, queued_per_thread: 7, ..ServerOptions::default() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let request = largest_batch().unwrap();
    let mut peers = Vec::new();
    for _ in 0..8 {
        peers.push(Peer::connect(server.address).await);
    }
    // Eight of the smaller ones have room, but two of these.
    let codes = peers.into_iter().map(|mut peer| {
        let request = request.clone();
        async move { peer.post(EVALUATE, request).await.status.unwrap().code() }
    });
    let codes = codes.collect::<JoinSet<_>>().join_all().await;
    assert!(codes.contains(&Code::Ok), "{codes:?}");
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_that_are_shed_cost_no_connection() {
    let options =
        ServerOptions { evaluation_threads: 1, queued_per_thread: 1, ..ServerOptions::default() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let request = largest_batch().unwrap();
    let mut others = JoinSet::new();
    for _ in 0..6 {
        let (address, request) = (server.address, request.clone());
        others.spawn(async move {
            let mut peer = Peer::connect(address).await;
            loop {
                let answer = peer.post(EVALUATE, request.clone()).await;
                let code = answer.status.unwrap().code();
                assert!(matches!(code, Code::Ok | Code::ResourceExhausted), "{code:?}");
            }
        });
    }
    let mut wire = Wire::connect(server.address).await;
    tokio::select! {
        () = calls_late(&mut wire, EVALUATE, TIMES) => {}
        Some(ended) = others.join_next() => panic!("another was not served: {ended:?}"),
    }
    others.shutdown().await;
    drop(wire);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_gives_up_all_its_calls_at_once_keeps_its_connection() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut wire = Wire::connect(server.address).await;
    let mut bytes = Vec::new();
    let block = header_block(FETCH);
    let streams = (0..STREAMS).map(|n| 2 * n + 1);
    for stream in streams.clone() {
        push(&mut bytes, HEADERS, END_HEADERS, stream, &block);
    }
    for stream in streams {
        // With the reason CANCEL.
        push(&mut bytes, RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    wire.next = 2 * STREAMS + 1;
    wire.write(&bytes).await;
    calls_late(&mut wire, PARAMETERS, TIMES).await;
    drop(wire);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_refused_before_its_end_and_whatever_is_left_of_it() {
    let stall_timeout = Duration::from_millis(300);
    let options = ServerOptions { stall_timeout, ..ServerOptions::default() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let mut peer = Peer::connect(server.address).await;
    let compressed = [("grpc-encoding", "gzip")];
    let (response, mut open) = peer.begin(Method::POST, FETCH, &compressed).await.unwrap();
    let begun = Instant::now();
    assert_eq!(outcome(response).await.unwrap().status.unwrap().code(), Code::Unimplemented);
    // Not for ever: its stream is free again, and its connection stays.
    let reset = timeout(PATIENCE, poll_fn(|cx| open.poll_reset(cx))).await;
    assert_eq!(reset.expect("an end").unwrap(), Reason::NO_ERROR);
    assert!(begun.elapsed() >= stall_timeout);
    // Nor is more taken than any good request has.
    let answer = peer.call(Method::POST, FETCH, &compressed, vec![0; 1 << 20]).await;
    assert_eq!(answer.status.unwrap().code(), Code::Unimplemented);
    let answer = peer.post(PARAMETERS, frame(0, b"")).await;
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
    drop(peer);
    server.stop().await;
}
