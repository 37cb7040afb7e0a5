//! Calls that are refused in masses: whoever makes them in good faith keeps the
//! connection, and with it all other calls that it carries.

use std::{
    future::poll_fn,
    net::SocketAddr,
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
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Code;

use crate::{
    common::Directory,
    peer::{EVALUATE, FETCH, PARAMETERS, PATIENCE, Peer, frame, outcome},
};

/// Calls of one connection at once.
const STREAMS: u32 = 100;

/// Types and flags of frames, RFC 9113 section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A peer whose frames leave as they are written, whatever was answered until
/// then: as they do when both cross on their way.
struct Wire {
    stream: TcpStream,
    next: u32,
}

impl Wire {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut wire = Self { stream, next: 1 };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        push(&mut hello, SETTINGS, 0, 0, &[]);
        // Room for all answers.
        push(&mut hello, WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        wire.write(&hello).await;
        wire
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection is open");
    }

    /// Begins so many calls, their bodies still open.
    async fn begin(&mut self, path: &str, count: u32) -> Vec<u32> {
        let block = header_block(path);
        let streams: Vec<u32> = (0..count).map(|n| self.next + 2 * n).collect();
        self.next += 2 * count;
        let mut bytes = Vec::new();
        for stream in &streams {
            push(&mut bytes, HEADERS, END_HEADERS, *stream, &block);
        }
        self.write(&bytes).await;
        streams
    }

    /// The same frame on each of these streams.
    async fn send(&mut self, kind: u8, flags: u8, streams: &[u32], payload: &[u8]) {
        let mut bytes = Vec::new();
        for stream in streams {
            push(&mut bytes, kind, flags, *stream, payload);
        }
        self.write(&bytes).await;
    }

    /// Reads until so many streams have ended.
    async fn ended(&mut self, mut count: u32) {
        while count > 0 {
            let mut header = [0; 9];
            let read = timeout(PATIENCE, self.stream.read_exact(&mut header)).await;
            read.expect("an answer in time").expect("the connection is open");
            let [a, b, c, kind, flags, ..] = header;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            self.stream.read_exact(&mut payload).await.expect("a whole frame");
            assert_ne!(kind, GOAWAY, "{}", String::from_utf8_lossy(&payload));
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                count -= 1;
            }
        }
    }
}

/// One frame, RFC 9113 section 4.1.
fn push(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    bytes.extend_from_slice(length.get(1..).expect("three bytes"));
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// The headers of a call as HPACK's literals, RFC 7541 section 6.2.2.
fn header_block(path: &str) -> Vec<u8> {
    // Of the static table: `:method: POST` and `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (":path", path),
        (":authority", "directory.example"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            let length = u8::try_from(text.len()).expect("a short text");
            assert!(length < 127, "one byte of length");
            block.push(length);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Many calls whose bodies come after the server has decided.
async fn calls_late(wire: &mut Wire, path: &str) {
    for _ in 0..6 {
        let streams = wire.begin(path, STREAMS).await;
        sleep(Duration::from_millis(30)).await;
        wire.send(DATA, END_STREAM, &streams, &frame(0, b"")).await;
        wire.ended(STREAMS).await;
    }
}

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
    calls_late(&mut wire, FETCH).await;

    open.send_data(frame(0, b"").into(), true).unwrap();
    assert_eq!(outcome(held).await.unwrap().status.unwrap().code(), Code::Ok);
    calls_late(&mut wire, PARAMETERS).await;
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
        () = calls_late(&mut wire, EVALUATE) => {}
        Some(ended) = others.join_next() => panic!("another was not served: {ended:?}"),
    }
    others.shutdown().await;
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
    calls_late(&mut wire, PARAMETERS).await;
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
