//! Connections that are none, never end, or never read.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use blindbook::{
    server::{ServerOptions, tls_config},
    wire::proto::{self, GetParametersRequest},
};
use bytes::Bytes;
use h2::Reason;
use http::Method;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::Code;

use crate::{
    common::{Directory, Running},
    peer::{EVALUATE, FETCH, PATIENCE, Peer, frame, outcome},
};

/// Timeouts short enough for a test.
fn hasty() -> ServerOptions {
    ServerOptions {
        handshake_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(500),
        keepalive_interval: Duration::from_millis(400),
        keepalive_timeout: Duration::from_millis(400),
        ..ServerOptions::default()
    }
}

/// Somebody else is served as if nothing had been, as soon as the calls of
/// those who were cut off are over.
async fn serves_on(server: &Running) {
    let mut client = server.client().await;
    let asks = async {
        loop {
            match client.get_parameters(GetParametersRequest {}).await {
                Err(status) if status.code() == Code::ResourceExhausted => {
                    sleep(Duration::from_millis(10)).await;
                }
                answer => return answer,
            }
        }
    };
    timeout(PATIENCE, asks).await.expect("an answer in time").expect("an answer");
}

/// Sends bytes and waits for the server to close the connection.
async fn closes(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // The server may be done with us before we have said it all.
    let _ = stream.write_all(bytes).await;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the end");
}

fn fetch(bits: u32, count: u32) -> Vec<u8> {
    let request = proto::FetchBucketsRequest {
        epoch: 1,
        directory_prefix_bits: bits,
        prefix_bits: bits,
        prefixes: (0..count).collect(),
    };
    frame(0, &request.encode_to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection_only() {
    let server = Directory::new(4, 1).await.serve(hasty()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut noise = vec![0; 4096];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    let after = |bytes: &[u8]| [preface, bytes].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: directory.example\r\n\r\n".to_vec(),
        noise.clone(),
        vec![0; 64],
        after(&noise),
        // A HEADERS frame on stream 0, and one far longer than allowed.
        after(&[0, 0, 0, 1, 4, 0, 0, 0, 0]),
        after(&[0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1]),
        // DATA on a stream that nobody opened.
        after(&[0, 0, 1, 0, 0, 0, 0, 0, 1, 9]),
    ] {
        closes(server.address, &bytes).await;
        serves_on(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_time_out() {
    let server = Directory::new(4, 1).await.serve(hasty()).await;
    let began = Instant::now();
    closes(server.address, b"").await;
    closes(server.address, b"PRI * HTTP/2.0\r\n").await;
    // A preface, and then not even an answer to a ping.
    closes(server.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    serves_on(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_tls_handshakes_time_out_and_garbage_ends_them() {
    let key = rcgen::generate_simple_self_signed(["directory.example".to_owned()]).unwrap();
    let tls = tls_config(key.cert.pem().as_bytes(), key.signing_key.serialize_pem().as_bytes());
    let options = ServerOptions { tls: Some(tls.unwrap()), ..hasty() };
    let server = Directory::new(4, 1).await.serve(options).await;
    for bytes in [&b""[..], &[22, 3, 1, 2, 0, 1], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[7; 999]] {
        closes(server.address, bytes).await;
    }
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", server.address))
        .unwrap()
        .tls_config(
            tonic::transport::ClientTlsConfig::new()
                .ca_certificate(tonic::transport::Certificate::from_pem(key.cert.pem()))
                .domain_name("directory.example"),
        )
        .unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut client = proto::discovery_service_client::DiscoveryServiceClient::new(channel);
    client.get_parameters(GetParametersRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_ends_its_connection() {
    let server = Directory::new(4, 1).await.serve(hasty()).await;
    let mut peer = Peer::connect(server.address).await;
    let (response, mut stream) = peer.begin(Method::POST, EVALUATE, &[]).await.unwrap();
    stream.send_data(vec![0, 0, 0].into(), false).unwrap();
    let ended = timeout(PATIENCE, outcome(response)).await.expect("an end");
    assert!(ended.is_err());
    peer.closed().await;
    serves_on(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_read_is_cut_off_and_its_calls_are_free_again() {
    let options = ServerOptions { max_calls: 4, ..hasty() };
    let server = Directory::new(4, 1).await.serve(options).await;
    // No window at all, and one that a bucket overflows.
    for window in [0, 40_000] {
        let mut peer = Peer::with_window(server.address, window).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            let (response, mut stream) = peer.begin(Method::POST, FETCH, &[]).await.unwrap();
            stream.send_data(fetch(4, 16).into(), true).unwrap();
            held.push((response.await.unwrap(), stream));
        }
        peer.closed().await;
        drop(held);
        serves_on(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_take_bounded_memory() {
    let options = ServerOptions { cache_bytes: 1 << 20, ..ServerOptions::default() };
    let server = Directory::new(8, 1).await.serve(options).await;
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = resident();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut peer = Peer::with_window(server.address, 30_000).await;
        for _ in 0..100 {
            let (response, mut stream) = peer.begin(Method::POST, FETCH, &[]).await.unwrap();
            stream.send_data(fetch(8, 256).into(), true).unwrap();
            held.push((response.await.unwrap(), stream));
        }
        sleep(Duration::from_millis(200)).await;
    }
    // 400 answers of 12 MiB are under way: 4.9 GiB, were they made at once.
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 << 10, "{grown} kB");
    serves_on(&server).await;
    drop(held);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_are_closed_and_room_comes_back() {
    let options = ServerOptions { max_connections: 8, ..hasty() };
    let server = Directory::new(4, 1).await.serve(options).await;
    let mut peers = Vec::new();
    for _ in 0..8 {
        let mut peer = Peer::connect(server.address).await;
        peer.post("/x", frame(0, b"")).await;
        peers.push(peer);
    }
    for _ in 0..50 {
        closes(server.address, b"").await;
    }
    drop(peers);
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let endpoint =
            tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        if let Ok(channel) = endpoint.connect().await {
            let mut client = proto::discovery_service_client::DiscoveryServiceClient::new(channel);
            if client.get_parameters(GetParametersRequest {}).await.is_ok() {
                return;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("no room came back");
}

/// Begins fetches and calls each off, at once or when it is under way; gives how
/// many could be begun, of so many.
async fn call_off(peer: &mut Peer, count: usize, under_way: bool) -> usize {
    for begun in 0..count {
        let Ok((response, mut stream)) = peer.begin(Method::POST, FETCH, &[]).await else {
            return begun;
        };
        let _ = stream.send_data(Bytes::from(fetch(4, 16)), true);
        if under_way {
            // The answer is there, and its end is not.
            let Ok(Ok(answer)) = timeout(PATIENCE, response).await else { return begun };
            stream.send_reset(Reason::CANCEL);
            drop(answer);
        } else {
            stream.send_reset(Reason::CANCEL);
            drop(response);
        }
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_reset_in_masses_end_their_connection_only() {
    let server = Directory::new(4, 1).await.serve(hasty()).await;
    let mut other = server.client().await;
    for under_way in [false, true] {
        // Too small a window for a bucket: no answer ends by itself.
        let mut peer = Peer::with_window(server.address, 1000).await;
        let attack = async {
            let begun = call_off(&mut peer, 20_000, under_way).await;
            assert!(begun < 20_000, "the connection was not closed");
            peer.closed().await;
        };
        let others = async {
            loop {
                let answer = other.get_parameters(GetParametersRequest {}).await;
                answer.expect("others are served meanwhile");
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = attack => {}
            () = others => unreachable!("it does not end"),
        }
        serves_on(&server).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_calls_off_now_and_then_stays() {
    let server = Directory::new(4, 1).await.serve(hasty()).await;
    let mut peer = Peer::with_window(server.address, 1000).await;
    assert_eq!(call_off(&mut peer, 100, true).await, 100);
    let good = peer.post("/x", frame(0, b"")).await;
    assert_eq!(good.status.unwrap().code(), Code::Unimplemented);
    server.stop().await;
}
