//! Requests that break a rule, one by one.

use std::time::Duration;

use blindbook::{
    oprf::BlindedBatch,
    server::{ERROR_DOMAIN, ServerOptions},
    wire::proto,
};
use http::{Method, StatusCode};
use prost::Message as _;
use tokio::{task::JoinSet, time::timeout};
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    common::Directory,
    peer::{EVALUATE, FETCH, Outcome, PARAMETERS, PATIENCE, Peer, data, frame, outcome},
};

/// Asserts code and reason, and hands out the details.
fn refused(outcome: &Outcome, code: Code, reason: &str) -> ErrorDetails {
    assert_eq!(outcome.http, StatusCode::OK);
    assert_eq!(outcome.body, 0, "{reason}");
    let status = outcome.status.as_ref().expect("a gRPC status");
    let details = status.get_error_details();
    let info = details.error_info().expect("error info");
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{}", status.message());
    assert_eq!(info.domain, ERROR_DOMAIN);
    assert!(info.metadata.is_empty());
    details
}

/// Asserts an `INVALID_ARGUMENT` that names its field.
fn invalid(outcome: &Outcome, reason: &str, field: &str) {
    let details = refused(outcome, Code::InvalidArgument, reason);
    let violations = &details.bad_request().expect("a bad request").field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, [field]);
    assert!(!violations.iter().any(|violation| violation.description.is_empty()));
}

/// Asserts a `FAILED_PRECONDITION` about its subject.
fn outdated(outcome: &Outcome, reason: &str, subject: &str) {
    let details = refused(outcome, Code::FailedPrecondition, reason);
    let violations = &details.precondition_failure().expect("a precondition").violations;
    let subjects: Vec<_> = violations.iter().map(|violation| violation.subject.as_str()).collect();
    assert_eq!(subjects, [subject]);
}

fn elements(count: usize) -> Vec<u8> {
    let inputs: Vec<_> = (0..count).map(usize::to_be_bytes).collect();
    let batch = BlindedBatch::blind(&inputs, &mut rand::rng()).expect("a batch");
    batch.blinded_elements().to_vec()
}

fn evaluate(epoch: u32, elements: Vec<u8>) -> Vec<u8> {
    proto::EvaluateRequest { epoch, blinded_elements: elements.into(), ..Default::default() }
        .encode_to_vec()
}

fn fetch(epoch: u32, directory: u32, bits: u32, prefixes: Vec<u32>) -> Vec<u8> {
    proto::FetchBucketsRequest {
        epoch,
        directory_prefix_bits: directory,
        prefix_bits: bits,
        prefixes,
    }
    .encode_to_vec()
}

/// The peer's own connection answers good requests as if nothing had been.
async fn serves_on(peer: &mut Peer) {
    let answer = peer.post(EVALUATE, frame(0, &evaluate(1, elements(2)))).await;
    assert_eq!(answer.status.expect("a status").code(), Code::Ok);
    assert!(answer.body > 2 * 32);
    let answer = peer.post(FETCH, frame(0, &fetch(1, 4, 4, vec![15]))).await;
    assert_eq!(answer.status.expect("a status").code(), Code::Ok);
    assert!(answer.body > 48 << 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_elements_that_are_none_are_refused() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    let field = "blinded_elements";
    for (blinded, reason) in [
        (vec![], "BATCH_SIZE"),
        (elements(1), "BATCH_SIZE"),
        (elements(3), "BATCH_SIZE"),
        (elements(513), "BATCH_SIZE"),
        (elements(2).split_off(1), "FIELD_RULE"),
        ([elements(2), vec![0]].concat(), "FIELD_RULE"),
        // The identity is the encoding of zeros.
        ([elements(1), vec![0; 32]].concat(), "IDENTITY_ELEMENT"),
        // At least the prime; and a negative field element.
        ([vec![0xff; 32], elements(1)].concat(), "MALFORMED_ELEMENT"),
        ([vec![1], vec![0; 31], elements(1)].concat(), "MALFORMED_ELEMENT"),
    ] {
        let answer = peer.post(EVALUATE, frame(0, &evaluate(1, blinded))).await;
        invalid(&answer, reason, field);
    }
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_epochs_and_prefixes_out_of_range_are_refused() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    for epoch in [2, u32::MAX] {
        let answer = peer.post(EVALUATE, frame(0, &evaluate(epoch, elements(2)))).await;
        outdated(&answer, "EPOCH_NOT_ACTIVE", "epoch");
        let answer = peer.post(FETCH, frame(0, &fetch(epoch, 4, 4, vec![0]))).await;
        outdated(&answer, "EPOCH_NOT_ACTIVE", "epoch");
    }
    let answer = peer.post(EVALUATE, frame(0, &evaluate(0, elements(2)))).await;
    invalid(&answer, "FIELD_RULE", "epoch");

    for directory in [3, 5] {
        let answer = peer.post(FETCH, frame(0, &fetch(1, directory, 3, vec![7]))).await;
        outdated(&answer, "PREFIX_BITS_CHANGED", "directory_prefix_bits");
    }
    for (request, reason, field) in [
        (fetch(1, 33, 4, vec![0]), "FIELD_RULE", "directory_prefix_bits"),
        (fetch(1, 4, 5, vec![0]), "FIELD_RULE", "prefix_bits"),
        (fetch(1, 4, 4, vec![16]), "FIELD_RULE", "prefixes"),
        (fetch(1, 4, 4, vec![]), "BATCH_SIZE", "prefixes"),
        (fetch(1, 4, 4, vec![0, 1]), "BATCH_SIZE", "prefixes"),
        (fetch(1, 32, 0, vec![0]), "FIELD_RULE", "prefix_bits"),
    ] {
        invalid(&peer.post(FETCH, frame(0, &request)).await, reason, field);
    }
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_messages_are_refused_and_the_accepted_encoding_is_named() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    let message = evaluate(1, elements(2));
    for encoding in ["gzip", "zstd", "deflate", "made-up"] {
        let headers = [("grpc-encoding", encoding)];
        for flag in [0, 1] {
            let answer = peer.call(Method::POST, EVALUATE, &headers, frame(flag, &message)).await;
            refused(&answer, Code::Unimplemented, "COMPRESSED");
            assert_eq!(answer.headers.get("grpc-accept-encoding").unwrap(), "identity");
            assert!(!answer.status.unwrap().message().contains(encoding));
        }
    }
    refused(&peer.post(EVALUATE, frame(1, &message)).await, Code::Internal, "COMPRESSED");
    let identity = [("grpc-encoding", "identity")];
    let answer = peer.call(Method::POST, EVALUATE, &identity, frame(1, &message)).await;
    refused(&answer, Code::Internal, "COMPRESSED");
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_none_are_refused() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    let good = frame(0, &evaluate(1, elements(2)));
    let garbage = frame(0, &[0xff; 40]);
    let other_kind = frame(0, &[0x12, 0x05, 1, 2]);
    for (path, body, reason, field) in [
        (EVALUATE, frame(7, b"x"), "MALFORMED_FRAME", "frame"),
        (EVALUATE, vec![], "INCOMPLETE_MESSAGE", "message"),
        (EVALUATE, vec![0, 0, 0], "INCOMPLETE_MESSAGE", "message"),
        (EVALUATE, good[..good.len() - 1].to_vec(), "INCOMPLETE_MESSAGE", "message"),
        (EVALUATE, [&good[..], &good].concat(), "SURPLUS_MESSAGE", "message"),
        (EVALUATE, garbage.clone(), "MALFORMED_MESSAGE", "message"),
        (FETCH, garbage.clone(), "MALFORMED_MESSAGE", "message"),
        (PARAMETERS, garbage, "MALFORMED_MESSAGE", "message"),
        (EVALUATE, other_kind, "MALFORMED_MESSAGE", "message"),
    ] {
        invalid(&peer.post(path, body).await, reason, field);
    }
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_is_refused_before_it_has_come() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    for (path, bytes) in [(EVALUATE, 108_000), (FETCH, 1_400), (PARAMETERS, 65)] {
        invalid(&peer.post(path, frame(0, &vec![0; bytes])).await, "MESSAGE_TOO_LONG", "message");
    }
    // Only the length comes, and the stream stays open.
    let (response, mut stream) = peer.begin(Method::POST, EVALUATE, &[]).await.unwrap();
    stream.send_data(vec![0, 0xff, 0xff, 0xff, 0xff].into(), false).unwrap();
    let answer = outcome(response).await.unwrap();
    invalid(&answer, "MESSAGE_TOO_LONG", "message");
    drop(stream);
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_and_what_is_no_grpc_are_refused() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    for path in ["/", "/blindbook.v1.DiscoveryService/Claim", "/other.Service/Evaluate", EVALUATE] {
        let upper = path.to_uppercase();
        let answer = peer.post(&upper, frame(0, b"")).await;
        refused(&answer, Code::Unimplemented, "UNKNOWN_METHOD");
    }
    let answer = peer.call(Method::GET, EVALUATE, &[], vec![]).await;
    assert_eq!((answer.http, answer.body), (StatusCode::METHOD_NOT_ALLOWED, 0));
    let html = [("content-type", "text/html")];
    let answer = peer.call(Method::POST, EVALUATE, &html, frame(0, b"")).await;
    assert_eq!((answer.http, answer.body), (StatusCode::UNSUPPORTED_MEDIA_TYPE, 0));
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_bound_are_refused_with_a_time_to_come_back() {
    let options = ServerOptions { max_calls: 2, ..ServerOptions::default() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let mut peer = Peer::connect(server.address).await;
    // Three requests begin and do not end: one of them finds no room.
    let (mut streams, mut answers) = (Vec::new(), JoinSet::new());
    for _ in 0..3 {
        let (response, mut stream) = peer.begin(Method::POST, EVALUATE, &[]).await.unwrap();
        stream.send_data(vec![0].into(), false).unwrap();
        streams.push(stream);
        answers.spawn(outcome(response));
    }
    let answer = timeout(PATIENCE, answers.join_next()).await.expect("a refusal in time");
    let answer = answer.unwrap().unwrap().unwrap();
    let details = refused(&answer, Code::ResourceExhausted, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    assert_eq!(answers.len(), 2);
    answers.shutdown().await;
    drop(streams);
    while peer.post(PARAMETERS, frame(0, b"")).await.status.unwrap().code() != Code::Ok {
        tokio::task::yield_now().await;
    }
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_is_none_is_refused_and_one_that_passes_ends_the_call() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::connect(server.address).await;
    for bad in ["1", "S", "1s", "123456789S", "-1S", ""] {
        let headers = [("grpc-timeout", bad)];
        let answer = peer.call(Method::POST, PARAMETERS, &headers, frame(0, b"")).await;
        invalid(&answer, "DEADLINE", "grpc-timeout");
    }
    let good = [("grpc-timeout", "10S")];
    let answer = peer.call(Method::POST, PARAMETERS, &good, frame(0, b"")).await;
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
    // The request does not end. The server's own time is longer than the test's.
    unfinished(&mut peer, &[("grpc-timeout", "50m")]).await;
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

/// A call whose request does not end is answered all the same.
async fn unfinished(peer: &mut Peer, headers: &[(&str, &str)]) {
    let (response, mut stream) = peer.begin(Method::POST, EVALUATE, headers).await.expect("a call");
    stream.send_data(vec![0].into(), false).expect("a connection");
    let answer = timeout(PATIENCE, outcome(response)).await.expect("in time").expect("an answer");
    refused(&answer, Code::DeadlineExceeded, "DEADLINE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_deadline_has_the_servers() {
    let max_call_time = Duration::from_millis(200);
    let options = ServerOptions { max_call_time, ..ServerOptions::default() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let mut peer = Peer::connect(server.address).await;
    unfinished(&mut peer, &[]).await;
    unfinished(&mut peer, &[("grpc-timeout", "1H")]).await;
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}

/// What is read too slowly for its own deadline ends with it, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_ends_with_its_deadline() {
    let server = Directory::new(4, 1).await.serve(ServerOptions::default()).await;
    let mut peer = Peer::with_window(server.address, 60_000).await;
    let headers = [("grpc-timeout", "300m")];
    let (response, mut stream) = peer.begin(Method::POST, FETCH, &headers).await.unwrap();
    stream.send_data(frame(0, &fetch(1, 4, 4, vec![3; 256])).into(), true).unwrap();
    let (_, mut body) = response.await.unwrap().into_parts();
    let mut bytes = 0;
    while let Some(piece) = timeout(PATIENCE, data(&mut body)).await.expect("in time").unwrap() {
        bytes += piece.len();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(bytes < 64 * 49_152, "{bytes} bytes came");
    let trailers = body.trailers().await.unwrap().expect("trailers");
    let status = tonic::Status::from_header_map(&trailers).expect("a status");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    serves_on(&mut peer).await;
    drop(peer);
    server.stop().await;
}
