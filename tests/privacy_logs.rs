//! No log at any level holds an element or a prefix: in one process, so that
//! the test knows what was sent. A process has one set of logs, so this file
//! has one test.
#![cfg(feature = "cli")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::unnecessary_debug_formatting,
    reason = "a test fails by panicking, and prints what it saw"
)]

use std::{
    io,
    sync::{Arc, Mutex},
};

use blindbook::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, Placement, PrefixBits},
    client::{Client, ClientOptions, MemoryState},
    identifier::Sii,
    keyring::{self, Keyring},
    server::{Clock, Server, ServerOptions, Transcript},
    store::{BulkBucket, Generations, MemoryGenerations},
    telemetry,
    wire::proto::{
        EvaluateRequest, FetchBucketsRequest, discovery_service_client::DiscoveryServiceClient,
    },
};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Seven or eight digits: no accident in a log.
const BITS: u32 = 24;

#[tokio::test(flavor = "multi_thread")]
async fn no_level_logs_an_element_or_a_prefix_not_even_of_refused_requests() {
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber =
        telemetry::subscriber(tracing::Level::TRACE, telemetry::Format::Json, move || {
            writer.clone()
        });
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let keys = tempfile::tempdir().unwrap();
    keyring::generate(keys.path(), &mut rand::rng()).unwrap();
    let keyring = Arc::new(Keyring::load(keys.path()).unwrap());
    let bits = PrefixBits::new(BITS).unwrap();
    let siis: Vec<_> =
        (0..8).map(|n| Sii::parse(&format!("person.{n}@example.com"), None).unwrap()).collect();
    let mut numbers: Vec<_> = siis.iter().map(|sii| Placement::of(sii).bucket(bits)).collect();
    numbers.push(BucketNumber::new(0, bits).unwrap());

    // Only the buckets that are asked for exist: the others would be 800 GiB.
    let generations = Arc::new(MemoryGenerations::default());
    let store = generations.stage(bits).await.unwrap();
    let buckets = numbers.iter().map(|number| BulkBucket {
        bucket: Bucket::sign(
            keyring.newest(),
            bits,
            *number,
            1,
            vec![7; BUCKET_BYTES].into(),
            keyring.directory(),
            keyring.identity(),
        )
        .unwrap(),
        rows: Vec::new(),
    });
    store.bulk_put(buckets.collect()).await.unwrap();
    store.sync().await.unwrap();
    generations.promote().await.unwrap();

    let transcript = Arc::new(Transcript::new());
    let server =
        Server::open(generations, keyring.clone(), ServerOptions::default(), Clock::system())
            .await
            .unwrap()
            .record(transcript.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server.run(listener, std::future::pending()));

    let mut options = ClientOptions::new(&*address, keyring.identity().verifying_key());
    options.max_prefix_bits = bits;
    let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    for sii in &siis {
        assert!(client.lookup(sii).await.unwrap().mappings.is_empty());
    }

    // Requests that are refused are logged no better.
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut raw = DiscoveryServiceClient::new(channel);
    let number = numbers[0].get();
    let odd = [0xa7_u8; 64];
    let evaluate =
        EvaluateRequest { epoch: 1, blinded_elements: odd.to_vec().into(), ..Default::default() };
    let refused = raw.evaluate(evaluate).await.unwrap_err();
    assert_tells_nothing("a status", format!("{refused:?}").as_bytes(), &forms(&odd[..32]));
    let fetch = |prefix_bits, prefix: u32| FetchBucketsRequest {
        epoch: 1,
        directory_prefix_bits: BITS,
        prefix_bits,
        prefixes: vec![prefix],
    };
    // Out of range; beneath too short a prefix; a bucket that does not exist.
    for request in [fetch(8, number), fetch(2, 1), fetch(BITS, number ^ 1)] {
        let refused = match raw.fetch_buckets(request).await {
            Ok(answer) => answer.into_inner().message().await.unwrap_err(),
            Err(refused) => refused,
        };
        for number in [number, number ^ 1] {
            assert_tells_nothing("a status", format!("{refused:?}").as_bytes(), &digits(number));
        }
    }

    let log = sink.0.lock().unwrap().clone();
    assert!(!log.is_empty(), "something must have been logged");
    for call in transcript.calls() {
        if call.path.ends_with("/Evaluate") {
            let request = EvaluateRequest::decode(&call.request[5..]).unwrap();
            for element in request.blinded_elements.chunks(32) {
                assert_tells_nothing("the log", &log, &forms(element));
            }
        }
    }
    for number in numbers.iter().map(|number| number.get()).filter(|number| *number > 0) {
        assert_tells_nothing("the log", &log, &digits(number));
        assert_tells_nothing("the log", &log, &digits(number ^ 1));
    }
    for sii in &siis {
        assert_tells_nothing("the log", &log, &[sii.as_str().into()]);
        assert_tells_nothing("the log", &log, &forms(&Placement::of(sii).expose()[..8]));
    }
}

/// How bytes come to be written by accident.
fn forms(bytes: &[u8]) -> Vec<String> {
    let part = &bytes[..8];
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<_> = part.iter().map(ToString::to_string).collect();
    vec![hex.to_uppercase(), hex, list.join(", "), part.escape_ascii().to_string()]
}

fn digits(number: u32) -> Vec<String> {
    vec![number.to_string(), format!("{number:06x}"), format!("{number:06X}")]
}

#[track_caller]
fn assert_tells_nothing(what: &str, bytes: &[u8], secrets: &[String]) {
    let text = String::from_utf8_lossy(bytes);
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{what} holds {secret}");
    }
}
