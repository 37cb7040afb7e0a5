//! Private information retrieval through a real server: what it answers, what it
//! refuses, and that it follows the directory while it is asked.

#![cfg(all(feature = "client", feature = "server"))]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "shared by tests, none of which needs all")]
mod common;

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use blindbook::{
    bucket::{Bucket, BucketNumber, ENTRY_BYTES},
    client::{Client as SdkClient, ClientOptions, MemoryState},
    identifier::{Provider, Sii},
    keyring::{self, Keyring},
    pir::{Asked, Public},
    registry::{self, Input, LoadOptions},
    server::{Call, Clock, PirError, PirOptions, Server, ServerError, ServerOptions, Transcript},
    store::{Committed, Generations as _, MemoryGenerations},
    wire::{
        Parameters, SignedBody, pir_row, pir_seed, pir_shape,
        proto::{
            GetParametersRequest, QueryPirRequest, discovery_service_client::DiscoveryServiceClient,
        },
    },
};
use common::{Directory, Running};
use prost::Message as _;
use rand::RngExt as _;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

/// A matrix takes a second or many to make.
const PATIENCE: Duration = Duration::from_secs(240);

/// Within this what was acknowledged is found, on a machine that has much else to
/// do. What it takes on a quiet one `blindbook bench --mode pir` tells.
const VISIBLE: Duration = Duration::from_secs(30);

type Client = DiscoveryServiceClient<Channel>;

/// What is refused, how, and what makes a good query that.
type Refused = (&'static str, Code, &'static str, fn(&mut QueryPirRequest));

/// One matrix at a time: each takes two gigabytes.
static ONE: Mutex<()> = Mutex::new(());

fn options(pir: PirOptions) -> ServerOptions {
    ServerOptions { pir: Some(pir), ..ServerOptions::default() }
}

async fn is_ready(server: &Running) -> bool {
    let mut health = HealthClient::new(server.channel().await);
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status;
    status == i32::from(ServingStatus::Serving)
}

async fn ready(server: &Running) {
    let waiting = async {
        while !is_ready(server).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("ready in time");
}

struct Asker {
    public: Arc<Public>,
    bits: u32,
}

impl Asker {
    fn of(directory: &Directory) -> Self {
        let seed = pir_seed(directory.keyring.directory());
        let public = Arc::new(Public::expand(&seed, pir_shape(directory.bits)));
        Self { public, bits: directory.bits.get().into() }
    }

    fn ask(&self, number: BucketNumber, directory: &Directory) -> (Asked, QueryPirRequest) {
        let (partition, row) = pir_row(number, directory.bits);
        let asked = Asked::new(&self.public, row, &mut rand::rng()).unwrap();
        let request = QueryPirRequest {
            epoch: directory.keyring.newest().get(),
            directory_prefix_bits: self.bits,
            partition: Some(partition),
            query: asked.query().to_vec().into(),
            ..QueryPirRequest::default()
        };
        (asked, request)
    }

    async fn row(
        &self,
        client: &mut Client,
        directory: &Directory,
        number: BucketNumber,
    ) -> Result<Vec<u8>, Status> {
        let (asked, request) = self.ask(number, directory);
        let answer = client.query_pir(request).await?.into_inner().answer;
        Ok(asked.decode(&answer).unwrap())
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bucket_is_had_by_its_row_and_what_is_no_query_is_refused() {
    let _one = ONE.lock();
    let directory = Directory::new(3, 2).await;
    let server = directory.serve(options(PirOptions::default())).await;
    let mut client = server.client().await;
    let asker = Asker::of(&directory);
    let numbers: Vec<_> = directory.bits.numbers().collect();

    // Until the matrix is made the server says so, and is not ready.
    let early = asker.row(&mut client, &directory, numbers[0]).await;
    if let Err(status) = &early {
        assert_eq!((status.code(), reason(status).as_str()), (Code::Unavailable, "PIR_NOT_READY"));
        assert!(status.get_details_retry_info().is_some());
    }
    ready(&server).await;

    let parameters = client.get_parameters(GetParametersRequest {}).await.unwrap();
    let signed = SignedBody::try_from(parameters.into_inner()).unwrap();
    let identity = directory.keyring.identity().verifying_key();
    let offered = Parameters::verify(&signed, &identity).unwrap().pir;
    assert_eq!(offered, Some(pir_shape(directory.bits)));

    for number in &numbers {
        let row = asker.row(&mut client, &directory, *number).await.unwrap();
        assert!(row == *directory.bucket(*number, 1).entries(), "{}", number.get());
    }

    let (_, good) = asker.ask(numbers[5], &directory);
    let refused: [Refused; 7] = [
        ("short", Code::InvalidArgument, "FIELD_LENGTH", |r| r.query = r.query.slice(1..)),
        ("a residue", Code::InvalidArgument, "MALFORMED_QUERY", |r| {
            let mut bytes = r.query.to_vec();
            bytes.iter_mut().rev().take(1000).for_each(|byte| *byte = 0xff);
            r.query = bytes.into();
        }),
        ("partition", Code::InvalidArgument, "FIELD_RULE", |r| r.partition = Some(1)),
        ("epoch", Code::FailedPrecondition, "EPOCH_NOT_ACTIVE", |r| r.epoch = 9),
        // Active, and not the newest.
        ("old epoch", Code::FailedPrecondition, "EPOCH_NOT_ACTIVE", |r| r.epoch = 1),
        ("no epoch", Code::InvalidArgument, "FIELD_RULE", |r| r.epoch = 0),
        ("bits", Code::FailedPrecondition, "PREFIX_BITS_CHANGED", |r| {
            r.directory_prefix_bits = 2;
            let beyond = r.query.len() - (8 - 4) * 26 / 8;
            r.query = r.query.slice(..beyond);
        }),
    ];
    for (what, code, expected, alter) in refused {
        let mut bad = good.clone();
        alter(&mut bad);
        let status = client.query_pir(bad).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{what}");
    }
    client.query_pir(good).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_queue_queries_are_refused_and_the_others_and_buckets_are_answered() {
    let _one = ONE.lock();
    let directory = Directory::new(2, 1).await;
    let pir = PirOptions { threads: 1, max_waiting: 2, ..PirOptions::default() };
    let server = directory.serve(options(pir)).await;
    ready(&server).await;
    let asker = Arc::new(Asker::of(&directory));
    let directory = Arc::new(directory);
    let number = BucketNumber::new(3, directory.bits).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (asker, directory) = (asker.clone(), directory.clone());
        let mut client = server.client().await;
        tasks.spawn(async move {
            let row = asker.row(&mut client, &directory, number).await?;
            assert!(row == *directory.bucket(number, 1).entries());
            Ok::<_, Status>(())
        });
    }
    let mut refused = 0;
    let mut answered = 0;
    while let Some(ended) = tasks.join_next().await {
        match ended.unwrap() {
            Ok(()) => answered += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(status.get_details_retry_info().is_some());
                refused += 1;
            }
        }
    }
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    asker.row(&mut server.client().await, &directory, number).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_directory_that_needs_more_memory_is_not_served() {
    let directory = Directory::new(2, 1).await;
    let pir = PirOptions { memory_bytes: 1 << 30, ..PirOptions::default() };
    let opened = Server::open(
        directory.generations.clone(),
        directory.keyring.clone(),
        options(pir),
        Clock::system(),
    );
    let refused = opened.await.unwrap_err();
    assert!(matches!(refused, ServerError::Pir(PirError::Memory { .. })));
    let text = refused.to_string();
    assert!(text.contains("1 partitions of 4 rows") && text.contains("1.0 GiB"), "{text}");
}

fn person(n: usize) -> Sii {
    Sii::parse(&format!("person.{n:04}@example.com"), None).unwrap()
}

/// What the server saw since it had seen `before` calls, in an order that does not
/// depend on which of two concurrent calls arrived first.
async fn seen(transcript: &Transcript, before: usize) -> Vec<Call> {
    let whole = async {
        while transcript.calls().iter().any(|call| call.status < 0) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, whole).await.unwrap();
    let mut calls = transcript.calls().split_off(before);
    calls.sort_by(|one, other| one.path.cmp(&other.path));
    calls
}

/// All of a call that may not depend on whom it is about.
type Outside = (String, Vec<(String, String)>, usize, Vec<usize>, i32);

fn outside(call: &Call) -> Outside {
    let Call { path, request_headers, request, response_messages, status, .. } = call;
    (path.clone(), request_headers.clone(), request.len(), response_messages.clone(), *status)
}

/// From a load to the answer, by the SDK's own choice: hits and misses, and what
/// the server sees of them.
#[tokio::test(flavor = "multi_thread")]
async fn people_are_found_and_the_server_sees_the_same_of_hits_and_misses() {
    const PEOPLE: usize = 600;
    let _one = ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    keyring::generate(&keys, &mut rand::rng()).unwrap();
    let keyring = Arc::new(Keyring::load(&keys).unwrap());
    let generations = Arc::new(MemoryGenerations::default());
    let mut lines = String::from("sii,user\n");
    for n in 0..PEOPLE {
        writeln!(lines, "{},user-{n}", person(n).as_str()).unwrap();
    }
    let load = LoadOptions::new(
        Provider::parse("wa.example").unwrap(),
        keyring::provider_key(&keys.join(keyring::files::PROVIDER)).unwrap(),
        folder.path().join("spill"),
        1_700_000_000,
    );
    let input = Input::stream("people", std::io::Cursor::new(lines));
    let progress = Arc::default();
    registry::load(generations.clone(), keyring.clone(), load, vec![input], progress)
        .await
        .unwrap();
    let transcript = Arc::new(Transcript::new());
    let options = options(PirOptions::default());
    let identity = keyring.identity().verifying_key();
    let server = Server::open(generations, keyring, options, Clock::system()).await.unwrap();
    let server = Running::start(server.record(transcript.clone())).await;
    ready(&server).await;

    let mut options = ClientOptions::new(format!("http://{}", server.address), identity);
    options.cached_answers = 0;
    let client = SdkClient::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    let mut views: Vec<Vec<Outside>> = Vec::new();
    let mut queries = BTreeSet::new();
    for n in [0, 1, 17, PEOPLE - 1, PEOPLE, PEOPLE + 1, 17, PEOPLE] {
        let before = transcript.calls().len();
        let answer = client.lookup(&person(n)).await.unwrap();
        let users: Vec<_> = answer.mappings.iter().map(|found| found.ssi.user().as_str()).collect();
        if n < PEOPLE {
            assert_eq!(users, [format!("user-{n}")]);
        } else {
            assert!(users.is_empty());
        }
        let calls = seen(&transcript, before).await;
        // Beside the query's own bytes nothing is there that could differ.
        let [_, query] = calls.as_slice() else { panic!("{} calls", calls.len()) };
        let mut sent = QueryPirRequest::decode(&query.request[5..]).unwrap();
        assert!(queries.insert(std::mem::take(&mut sent.query)), "a query was sent twice");
        let same = QueryPirRequest {
            epoch: 1,
            directory_prefix_bits: sent.directory_prefix_bits,
            partition: Some(0),
            ..QueryPirRequest::default()
        };
        assert_eq!(sent, same);
        views.push(calls.iter().map(outside).collect());
    }
    assert!(views.iter().all(|view| view == &views[0]));
    let paths: Vec<_> =
        views[0].iter().map(|(path, ..)| path.rsplit('/').next().unwrap()).collect();
    assert_eq!(paths, ["Evaluate", "QueryPir"]);
    server.stop().await;
}

/// The slots that a version wrote anew: one, as a claim does, or two, as a port.
fn written(bucket: &Bucket) -> Vec<usize> {
    let [one, other, kind] = *bucket.entries().first_chunk().expect("a bucket has entries");
    let slots = [one, other].map(usize::from);
    if bucket.version == 1 {
        (0..bucket.entries().len() / ENTRY_BYTES).collect()
    } else if kind < 64 && one != other {
        slots.to_vec()
    } else {
        slots[..1].to_vec()
    }
}

fn entry(entries: &[u8], slot: usize) -> &[u8] {
    &entries[slot * ENTRY_BYTES..][..ENTRY_BYTES]
}

/// The bucket as it is with a version.
fn bucket(directory: &Directory, number: BucketNumber, version: u64) -> Bucket {
    let mut entries = directory.bucket(number, 1).entries().to_vec();
    for version in 2..=version {
        let new = directory.bucket(number, version);
        for slot in written(&new) {
            entries[slot * ENTRY_BYTES..][..ENTRY_BYTES]
                .copy_from_slice(entry(new.entries(), slot));
        }
    }
    let epoch = directory.keyring.newest();
    let (keys, identity) = (directory.keyring.directory(), directory.keyring.identity());
    Bucket::sign(epoch, directory.bits, number, version, entries.into(), keys, identity).unwrap()
}

/// Holds a row against the versions that were written: of each version all is
/// there, or nothing; of those up to `due` all.
fn holds_whole_versions(versions: &[Bucket], due: u64, row: &[u8]) {
    let newest = |slot: usize| {
        versions.iter().rev().find(|one| entry(one.entries(), slot) == entry(row, slot))
    };
    let shown: Vec<u64> = (0..row.len() / ENTRY_BYTES)
        .map(|slot| newest(slot).expect("an entry that was written").version)
        .collect();
    for version in versions {
        let slots = written(version);
        let there = slots.iter().filter(|slot| shown[**slot] >= version.version).count();
        assert!(there == 0 || there == slots.len(), "{there} of {} entries", slots.len());
        assert!(there > 0 || version.version > due, "a change is not found in time");
    }
}

/// While buckets change and queries run, each answer has every change whole or not
/// at all, and all that were acknowledged some time before it was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_are_found_in_time_and_no_answer_has_half_of_one() {
    const TIME: Duration = VISIBLE.saturating_add(Duration::from_secs(3));
    const AFTERWARDS: Duration = Duration::from_secs(2);
    let _one = ONE.lock();
    let directory = Arc::new(Directory::new(7, 1).await);
    let server = directory.serve(options(PirOptions::default())).await;
    ready(&server).await;
    let asker = Arc::new(Asker::of(&directory));
    let store = directory.generations.current().await.unwrap().unwrap();
    let numbers: Vec<_> = directory.bits.numbers().collect();
    // By bucket, when each version was acknowledged, from version 1 on.
    let begun = Instant::now();
    let acknowledged: Arc<Mutex<HashMap<u32, Vec<Instant>>>> = Arc::default();
    for number in &numbers {
        acknowledged.lock().unwrap().insert(number.get(), vec![begun]);
    }

    let writer = {
        let (directory, acknowledged) = (directory.clone(), acknowledged.clone());
        let numbers = numbers.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while begun.elapsed() < TIME {
                ticks.tick().await;
                let number = numbers[rand::rng().random_range(0..numbers.len())];
                let version = acknowledged.lock().unwrap()[&number.get()].len() as u64;
                let next = bucket(&directory, number, version + 1);
                let committed = store.commit(next, version, Vec::new()).await.unwrap();
                assert!(matches!(committed, Committed::Done { .. }));
                let mut all = acknowledged.lock().unwrap();
                all.get_mut(&number.get()).unwrap().push(Instant::now());
            }
        })
    };
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (directory, acknowledged) = (directory.clone(), acknowledged.clone());
        let (numbers, asker) = (numbers.clone(), asker.clone());
        let mut client = server.client().await;
        readers.spawn(async move {
            let mut seen = 0;
            while begun.elapsed() < TIME + AFTERWARDS {
                let number = numbers[rand::rng().random_range(0..numbers.len())];
                let sent = Instant::now();
                let row = asker.row(&mut client, &directory, number).await.unwrap();
                let times = acknowledged.lock().unwrap()[&number.get()].clone();
                // One more may be committed and not acknowledged yet.
                let versions: Vec<_> = (1..=times.len() as u64 + 1)
                    .map(|version| directory.bucket(number, version))
                    .collect();
                let due = times.iter().filter(|time| **time + VISIBLE < sent).count() as u64;
                holds_whole_versions(&versions, due, &row);
                seen += 1;
            }
            seen
        });
    }
    writer.await.unwrap();
    let mut seen = 0;
    while let Some(ended) = readers.join_next().await {
        seen += ended.unwrap();
    }
    assert!(seen > 50, "{seen} queries");
    // In the end everything is there.
    let mut client = server.client().await;
    for number in &numbers {
        let last = acknowledged.lock().unwrap()[&number.get()].len() as u64;
        let expected = bucket(&directory, *number, last);
        let found = async {
            while asker.row(&mut client, &directory, *number).await.unwrap() != *expected.entries()
            {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(VISIBLE, found).await.expect("the last change is found");
    }
    server.stop().await;
}
