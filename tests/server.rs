//! The server in good times: what it publishes, tells of itself, answers, and
//! how it stops.

#![cfg(all(feature = "client", feature = "server"))]
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blindbook::{
    bucket::BucketNumber,
    epoch::Epoch,
    oprf::BlindedBatch,
    server::{Clock, Server, ServerError, ServerOptions, Transcript},
    store::{BulkBucket, Committed, Generations, MemoryGenerations},
    wire::{
        Evaluation, Parameters, ProviderList, SignedBody, bucket_from_proto,
        proto::{EvaluateRequest, FetchBucketsRequest, GetParametersRequest, ListProvidersRequest},
    },
};
use common::{Directory, Running};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn fetch(directory: &Directory, bits: u32, prefixes: Vec<u32>) -> FetchBucketsRequest {
    FetchBucketsRequest {
        epoch: 1,
        directory_prefix_bits: directory.bits.get().into(),
        prefix_bits: bits,
        prefixes,
    }
}

/// The numbers and versions of all buckets of an answer, each verified.
async fn fetched(
    directory: &Directory,
    server: &Running,
    request: FetchBucketsRequest,
) -> Vec<(u32, u64)> {
    let identity = directory.keyring.identity().verifying_key();
    let mut stream = server.client().await.fetch_buckets(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(message) = stream.next().await {
        let bucket = bucket_from_proto(message.unwrap(), directory.bits).unwrap();
        bucket.verify(directory.keyring.directory(), &identity).unwrap();
        all.push((bucket.number.get(), bucket.version));
    }
    all
}

/// What the server publishes, verified.
async fn published(directory: &Directory, server: &Running) -> (Parameters, ProviderList) {
    let identity = directory.keyring.identity().verifying_key();
    let mut client = server.client().await;
    let parameters = client.get_parameters(GetParametersRequest {}).await.unwrap();
    let providers = client.list_providers(ListProvidersRequest {}).await.unwrap();
    let parameters = SignedBody::try_from(parameters.into_inner()).unwrap();
    let providers = SignedBody::try_from(providers.into_inner()).unwrap();
    (
        Parameters::verify(&parameters, &identity).unwrap(),
        ProviderList::verify(&providers, &identity).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bucket_comes_in_the_order_asked_and_all_beneath_a_short_prefix() {
    let directory = Directory::new(4, 1).await;
    let server = directory.serve(ServerOptions::default()).await;
    for _uncached_then_cached in 0..2 {
        let numbers = |prefixes: Vec<u32>, bits| {
            fetched(&directory, &server, fetch(&directory, bits, prefixes))
        };
        assert_eq!(numbers(vec![15], 4).await, [(15, 1)]);
        assert_eq!(numbers(vec![9, 0, 9, 3], 4).await, [(9, 1), (0, 1), (9, 1), (3, 1)]);
        let beneath = [12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3].map(|n| (n, 1));
        assert_eq!(numbers(vec![3, 0, 1, 0], 2).await, beneath);
        let all: Vec<_> = (0..16).map(|n| (n, 1)).collect();
        assert_eq!(numbers(vec![0], 0).await, all);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_bucket_is_served_from_its_acknowledgement_on() {
    let directory = Directory::new(4, 1).await;
    let server = directory.server(ServerOptions::default()).await;
    let lookup = server.lookup();
    let server = Running::start(server).await;
    let store = directory.generations.current().await.unwrap().unwrap();
    let number = BucketNumber::new(6, directory.bits).unwrap();
    for version in 1..5 {
        let seen = fetched(&directory, &server, fetch(&directory, 4, vec![6])).await;
        assert_eq!(seen, [(6, version)]);
        let next = directory.bucket(number, version + 1);
        let committed = store.commit(next, version, Vec::new()).await.unwrap();
        assert!(matches!(committed, Committed::Done { .. }));
        lookup.changed(number);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_active_epoch_answers_and_no_older_one() {
    let directory = Directory::new(2, 3).await;
    // Three seeds, of which the newest two are active: the buckets' is not.
    let refused = Server::open(
        directory.generations.clone(),
        directory.keyring.clone(),
        ServerOptions::default(),
        Clock::system(),
    );
    assert!(matches!(refused.await, Err(ServerError::NoSeed { epoch: Epoch::FIRST })));

    let directory = Directory::new(2, 2).await;
    let server = directory.serve(ServerOptions::default()).await;
    let mut client = server.client().await;
    for (asked, size) in [(1, 2), (2, 8), (2, 512)] {
        let inputs: Vec<_> = (0..size).map(|n: u32| n.to_be_bytes()).collect();
        let batch = BlindedBatch::blind(&inputs, &mut rand::rng()).unwrap();
        let request = EvaluateRequest {
            epoch: asked,
            blinded_elements: batch.blinded_elements().to_vec().into(),
            ..Default::default()
        };
        let answer = client.evaluate(request).await.unwrap().into_inner();
        let evaluations = Evaluation::check(answer, inputs.len()).unwrap();
        let epochs: Vec<_> = evaluations.iter().map(|answer| answer.epoch.get()).collect();
        assert_eq!(epochs, [1, 2]);
        for evaluation in evaluations {
            let key = directory.keyring.key(evaluation.epoch).unwrap();
            let outputs = batch
                .finalize(&evaluation.evaluated_elements, &evaluation.proof, &key.public_key())
                .unwrap();
            assert!(outputs == key.evaluate_many(&inputs).unwrap());
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_signed_again_in_time_and_never_with_a_lower_serial() {
    let directory = Directory::new(3, 2).await;
    let now_s = Arc::new(AtomicU64::new(2_000_000));
    let options = ServerOptions {
        parameters_lifetime_s: 60,
        refresh_period_s: 30,
        regions: vec!["DE".into()],
        ..ServerOptions::default()
    };
    let start = || async {
        let clock = now_s.clone();
        let server = Server::open(
            directory.generations.clone(),
            directory.keyring.clone(),
            options.clone(),
            Clock::new(move || clock.load(Ordering::SeqCst)),
        );
        Running::start(server.await.unwrap()).await
    };
    let published = async |server: &Running| published(&directory, server).await;

    let server = start().await;
    let (first, providers) = published(&server).await;
    assert_eq!((first.prefix_bits, first.refresh_period_s), (directory.bits, 30));
    assert_eq!(first.regions, ["DE"]);
    assert_eq!(first.epochs.len(), 2);
    assert!(first.not_before_s < 2_000_000 && first.not_after_s == 2_000_060);
    assert!(providers.providers.is_empty());
    assert_eq!(published(&server).await.0, first);

    // While it runs, half a life later, and with a provider more.
    let meta = directory.keyring.identity().verifying_key().to_bytes().to_vec();
    directory.generations.meta_put("provider/wa.example", meta).await.unwrap();
    now_s.fetch_add(31, Ordering::SeqCst);
    let renewed = timeout(PATIENCE, async {
        loop {
            let (parameters, list) = published(&server).await;
            if parameters != first && list != providers {
                return (parameters, list);
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    let (second, listed) = renewed.await.expect("renewed in time");
    assert!(second.serial > first.serial && second.not_after_s == 2_000_091);
    assert!(listed.serial > providers.serial);
    assert_eq!(listed.providers[0].name.as_str(), "wa.example");
    server.stop().await;

    // A restart, with the clock set back.
    let server = start().await;
    assert_eq!(published(&server).await, (second.clone(), listed.clone()));
    server.stop().await;
    now_s.store(1_000_000, Ordering::SeqCst);
    let server = start().await;
    let (third, listed_still) = published(&server).await;
    assert!(third.serial > second.serial);
    assert_eq!(listed_still, listed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_serving_until_the_stop_and_reflection_lists_the_services() {
    let directory = Directory::new(2, 1).await;
    let server = directory.serve(ServerOptions::default()).await;
    let channel = server.channel().await;
    let mut health = HealthClient::new(channel.clone());
    let service = |name: &str| HealthCheckRequest { service: name.into() };
    let discovery = "blindbook.v1.DiscoveryService";
    for name in ["", discovery] {
        let answer = health.check(service(name)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let unknown = health.check(service("other.Service")).await.unwrap_err();
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
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("no list") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [discovery, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&name), "{names:?}");
    }
    drop(answers);

    let mut watch = health.watch(service(discovery)).await.unwrap().into_inner();
    let told = watch.next().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::Serving);
    let stopping = tokio::spawn(server.stop());
    let told = watch.next().await.unwrap().unwrap();
    assert_eq!(told.status(), ServingStatus::NotServing);
    assert!(watch.next().await.is_none());
    timeout(PATIENCE, stopping).await.expect("stops in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_calls_under_way_end_and_takes_no_new_ones() {
    let directory = Directory::new(6, 1).await;
    let server = directory.serve(ServerOptions::default()).await;
    let address = server.address;
    let mut client = server.client().await;
    let request = fetch(&directory, 0, vec![0]);
    let mut stream = client.fetch_buckets(request).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first.bucket.unwrap().number, Some(0));

    let stopping = tokio::spawn(server.stop());
    timeout(PATIENCE, async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("new connections are refused");
    assert!(!stopping.is_finished());
    let mut numbers = Vec::new();
    while let Some(message) = stream.next().await {
        numbers.extend(message.unwrap().bucket.unwrap().number);
    }
    assert_eq!(numbers, (1..64).collect::<Vec<_>>());
    timeout(PATIENCE, stopping).await.expect("stops in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever() {
    let directory = Directory::new(8, 1).await;
    let drain_timeout = Duration::from_millis(300);
    let server = directory.serve(ServerOptions { drain_timeout, ..ServerOptions::default() }).await;
    let mut client = server.client().await;
    let request = fetch(&directory, 0, vec![0]);
    // 12 MiB that nobody reads.
    let mut stream = client.fetch_buckets(request).await.unwrap().into_inner();
    timeout(PATIENCE, server.stop()).await.expect("stops in time");
    let cut_off = async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return status,
                None => panic!("the stream must not look whole"),
            }
        }
    };
    timeout(PATIENCE, cut_off).await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_holds_every_call_as_it_arrived() {
    let directory = Directory::new(4, 1).await;
    let transcript = Arc::new(Transcript::new());
    let server = directory.server(ServerOptions::default()).await.record(transcript.clone());
    let server = Running::start(server).await;
    let mut client = server.client().await;
    client.get_parameters(GetParametersRequest {}).await.unwrap();
    assert_eq!(fetched(&directory, &server, fetch(&directory, 4, vec![1, 2, 3, 4])).await.len(), 4);
    let refused =
        EvaluateRequest { epoch: 7, blinded_elements: vec![0x5a; 64].into(), ..Default::default() };
    client.evaluate(refused).await.unwrap_err();
    server.stop().await;

    let calls = transcript.calls();
    let short: Vec<_> = calls
        .iter()
        .map(|call| (call.connection, call.path.rsplit('/').next().unwrap(), call.status))
        .collect();
    assert_eq!(short, [(0, "GetParameters", 0), (1, "FetchBuckets", 0), (0, "Evaluate", 9)]);
    assert_eq!(&calls[0].request[..], [0; 5]);
    assert_eq!(calls[0].response_messages.len(), 1);
    assert_eq!(calls[1].response_messages.len(), 4);
    assert!(calls[1].response_messages.iter().all(|bytes| *bytes == calls[1].response_messages[0]));
    assert!(calls[2].request.windows(64).any(|window| window == [0x5a; 64]));
    assert!(calls[2].response_messages.is_empty());
    let kind = ("content-type".to_owned(), "application/grpc".to_owned());
    assert!(calls.iter().all(|call| call.request_headers.contains(&kind)));
    assert!(!format!("{calls:?}").contains("90, 90"));
}

#[tokio::test]
async fn a_server_opens_only_what_it_can_serve() {
    let directory = Directory::new(2, 1).await;
    let stranger = Directory::new(2, 1).await;
    let options = ServerOptions::default;
    let empty: Arc<MemoryGenerations> = Arc::default();
    let opened = Server::open(empty.clone(), directory.keyring.clone(), options(), Clock::system());
    let error = opened.await.unwrap_err();
    assert!(matches!(error, ServerError::NoDirectory));
    assert!(error.to_string().contains("load"), "{error}");
    // Neither is anything written for a directory that is not served.
    assert!(empty.meta_list("").await.unwrap().is_empty());

    let foreign = Server::open(
        directory.generations.clone(),
        stranger.keyring.clone(),
        options(),
        Clock::system(),
    );
    assert!(matches!(foreign.await, Err(ServerError::ForeignKeys)));

    let bad = ServerOptions { max_calls: 0, ..options() };
    let opened = Server::open(
        directory.generations.clone(),
        directory.keyring.clone(),
        bad,
        Clock::system(),
    );
    assert!(matches!(opened.await, Err(ServerError::Option { name: "max_calls", .. })));

    let hole = directory.generations.stage(directory.bits).await.unwrap();
    hole.sync().await.unwrap();
    directory.generations.promote().await.unwrap();
    let opened = Server::open(
        directory.generations.clone(),
        directory.keyring.clone(),
        options(),
        Clock::system(),
    );
    assert!(matches!(opened.await, Err(ServerError::NoBucket)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_missing_ends_the_stream_with_our_fault() {
    let directory = Directory::new(2, 1).await;
    let store = directory.generations.stage(directory.bits).await.unwrap();
    for number in [0, 1, 3] {
        let number = BucketNumber::new(number, directory.bits).unwrap();
        let bucket = directory.bucket(number, 1);
        store.bulk_put(vec![BulkBucket { bucket, rows: Vec::new() }]).await.unwrap();
    }
    store.sync().await.unwrap();
    directory.generations.promote().await.unwrap();
    let server = directory.serve(ServerOptions::default()).await;
    let request = fetch(&directory, 0, vec![0]);
    let mut stream = server.client().await.fetch_buckets(request).await.unwrap().into_inner();
    assert!(stream.next().await.unwrap().is_ok());
    assert!(stream.next().await.unwrap().is_ok());
    assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
    assert!(stream.next().await.is_none());
    server.stop().await;
}
