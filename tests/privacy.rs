//! The privacy table's rows for the discovery provider, on what the server
//! itself recorded.
#![cfg(all(feature = "client", feature = "server"))]
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

use std::{collections::BTreeSet, sync::Arc};

use blindbook::{
    bucket::{BUCKET_BYTES, Bucket, ENTRY_BYTES, EntryKeys, Placement},
    client::{Client, ClientOptions, MemoryState},
    identifier::{Provider, Sii},
    keyring::{self, Keyring},
    registry::{self, Input, LoadOptions, Progress},
    server::{Call, Clock, Server, ServerOptions, Transcript},
    store::{Committed, Generations, MemoryGenerations},
    wire::{Evaluate, Fetch, proto},
};
use prost::Message as _;
use tokio::net::TcpListener;

/// Enough for several buckets.
const PEOPLE: usize = 600;

/// A loaded directory, its real server, and what that recorded.
struct Scene {
    generations: Arc<MemoryGenerations>,
    keyring: Arc<Keyring>,
    transcript: Arc<Transcript>,
    /// Keeps nothing: each lookup makes both calls.
    client: Client,
    /// Keeps answers.
    keeper: Client,
}

fn person(n: usize) -> Sii {
    Sii::parse(&format!("canary.person.{n:04}@example.com"), None).unwrap()
}

fn user(n: usize) -> String {
    format!("canary-user-{n:04}-with-a-long-name")
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        keyring::generate(&keys, &mut rand::rng()).unwrap();
        let keyring = Arc::new(Keyring::load(&keys).unwrap());
        let generations = Arc::new(MemoryGenerations::default());
        let mut lines = String::from("sii,user\n");
        for n in 0..PEOPLE {
            lines.push_str(&format!("{},{}\n", person(n).as_str(), user(n)));
        }
        let options = LoadOptions::new(
            Provider::parse("wa.example").unwrap(),
            keyring::provider_key(&keys.join(keyring::files::PROVIDER)).unwrap(),
            folder.path().join("spill"),
            1_700_000_000,
        );
        let input = Input::stream("people", std::io::Cursor::new(lines));
        let progress = Arc::new(Progress::default());
        let report =
            registry::load(generations.clone(), keyring.clone(), options, vec![input], progress)
                .await
                .unwrap();
        assert_eq!(report.added, PEOPLE as u64);

        let transcript = Arc::new(Transcript::new());
        let server = Server::open(
            generations.clone(),
            keyring.clone(),
            ServerOptions::default(),
            Clock::system(),
        )
        .await
        .unwrap()
        .record(transcript.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(server.run(listener, std::future::pending()));
        let mut options = ClientOptions::new(address, keyring.identity().verifying_key());
        let keeper = Client::connect(options.clone(), Arc::new(MemoryState::new())).await.unwrap();
        options.cached_answers = 0;
        let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
        Self { generations, keyring, transcript, client, keeper }
    }

    /// What the server recorded since it had seen `before` calls, in an order
    /// that does not depend on which of two concurrent calls arrived first.
    async fn since(&self, before: usize) -> Vec<Call> {
        // The answer may reach the client before the server has written down
        // that it ended.
        for _ in 0..200 {
            if self.transcript.calls().iter().all(|call| call.status >= 0) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let mut calls = self.transcript.calls().split_off(before);
        calls.sort_by(|one, other| one.path.cmp(&other.path));
        calls
    }

    async fn lookup(&self, sii: &Sii) -> (Arc<blindbook::client::Answer>, Vec<Call>) {
        let before = self.transcript.calls().len();
        let answer = self.client.lookup(sii).await.unwrap();
        (answer, self.since(before).await)
    }

    /// Alters one byte of somebody's entry and signs the bucket again, as a
    /// failing disk or a careless operator might.
    async fn damage(&self, sii: &Sii) {
        let store = self.generations.current().await.unwrap().unwrap();
        let bits = store.prefix_bits();
        let bucket = store.bucket(Placement::of(sii).bucket(bits)).await.unwrap().unwrap();
        let (_, key) = self.keyring.epochs().next().unwrap();
        let output = key.evaluate_many(&[sii.as_bytes()]).unwrap().remove(0);
        let keys = EntryKeys::of(output.expose());
        let slot = bucket
            .iter()
            .position(|entry| keys.open(self.keyring.directory(), bucket.epoch, 0, &entry).is_ok())
            .unwrap();
        let mut entries = bucket.entries().to_vec();
        entries[slot * ENTRY_BYTES + ENTRY_BYTES / 2] ^= 1;
        let damaged = Bucket::sign(
            bucket.epoch,
            bits,
            bucket.number,
            bucket.version + 1,
            entries.into(),
            self.keyring.directory(),
            self.keyring.identity(),
        )
        .unwrap();
        let done = store.commit(damaged, bucket.version, Vec::new()).await.unwrap();
        assert!(matches!(done, Committed::Done { .. }));
    }
}

/// All that a call shows to somebody who cannot read its bytes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    path: String,
    header_bytes: Vec<(String, usize)>,
    request_bytes: usize,
    message_bytes: Vec<usize>,
    status: i32,
}

fn shape(calls: &[Call]) -> Vec<Shape> {
    let shape = |call: &Call| {
        let headers = call.request_headers.iter().map(|(name, value)| (name.clone(), value.len()));
        Shape {
            path: call.path.clone(),
            header_bytes: headers.collect(),
            request_bytes: call.request.len(),
            message_bytes: call.response_messages.clone(),
            status: call.status,
        }
    };
    calls.iter().map(shape).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_misses_and_damaged_entries_are_alike_in_calls_order_and_sizes() {
    let scene = Scene::new().await;
    scene.damage(&person(7)).await;
    let mut shapes = BTreeSet::new();
    let absent = Sii::parse("+14155550100", None).unwrap();
    for sii in [person(0), absent.clone(), person(7), person(PEOPLE), person(1), absent] {
        let (answer, calls) = scene.lookup(&sii).await;
        let paths: Vec<_> =
            calls.iter().map(|call| call.path.rsplit('/').next().unwrap()).collect();
        assert_eq!(paths, ["Evaluate", "FetchBuckets"]);
        let expected = if sii == person(7) {
            (0, 1)
        } else {
            (usize::from(sii == person(0) || sii == person(1)), 0)
        };
        assert_eq!((answer.mappings.len(), answer.damaged), expected);
        shapes.insert(shape(&calls));
    }
    assert_eq!(shapes.len(), 1, "{shapes:#?}");

    // Afterwards, too: none of the answers has caused anything.
    let before = scene.transcript.calls().len();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(scene.transcript.calls().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_and_refreshed_hits_misses_and_damaged_entries_are_alike() {
    let scene = Scene::new().await;
    scene.damage(&person(7)).await;
    let mut shapes = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
    for sii in [person(0), person(PEOPLE), person(7)] {
        for (n, shapes) in shapes.iter_mut().enumerate() {
            let before = scene.transcript.calls().len();
            let answer = match n {
                2 => scene.keeper.refresh(&sii).await.unwrap(),
                _ => scene.keeper.lookup(&sii).await.unwrap(),
            };
            assert_eq!(answer.mappings.len(), usize::from(sii == person(0)));
            assert_eq!(answer.damaged, usize::from(sii == person(7)));
            shapes.insert(shape(&scene.since(before).await));
        }
    }
    let paths = |shapes: &BTreeSet<Vec<Shape>>| {
        assert_eq!(shapes.len(), 1, "{shapes:#?}");
        let paths = shapes.first().unwrap().iter();
        paths.map(|call| call.path.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&shapes[0]), ["Evaluate", "FetchBuckets"]);
    assert!(paths(&shapes[1]).is_empty());
    assert_eq!(paths(&shapes[2]), ["FetchBuckets"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_hits_and_of_misses_are_alike() {
    let scene = Scene::new().await;
    let mut shapes = BTreeSet::new();
    for first in [0, PEOPLE - 5, PEOPLE] {
        let siis: Vec<_> = (first..first + 10).map(person).collect();
        let before = scene.transcript.calls().len();
        let answers = scene.client.lookup_many(&siis).await.unwrap();
        let hits = answers
            .into_iter()
            .filter(|answer| answer.as_ref().is_ok_and(|answer| !answer.mappings.is_empty()));
        assert_eq!(hits.count(), PEOPLE.saturating_sub(first).min(10));
        shapes.insert(shape(&scene.since(before).await));
    }
    assert_eq!(shapes.len(), 1, "{shapes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_complete_view_of_a_lookup_holds_no_sii_no_ssi_and_no_full_placement() {
    let scene = Scene::new().await;
    for sii in [person(3), person(PEOPLE + 3)] {
        let (_, calls) = scene.lookup(&sii).await;
        let placement = Placement::of(&sii);
        let secrets: [&[u8]; 4] = [
            sii.as_bytes(),
            b"canary",
            // More than any prefix of a bucket can be.
            &placement.expose()[..5],
            &placement.expose()[16..24],
        ];
        for call in &calls {
            println!("{} on connection {}, status {}", call.path, call.connection, call.status);
            for (name, value) in &call.request_headers {
                println!("    {name}: {value}");
            }
            println!("    {} bytes: {}", call.request.len(), hex(&call.request));
            println!("    answered with messages of {:?} bytes", call.response_messages);
            let headers: Vec<_> =
                call.request_headers.iter().flat_map(|(name, value)| [name, value]).collect();
            let texts = headers.into_iter().chain([&call.path]).map(String::as_bytes);
            for bytes in texts.chain([call.request.as_ref()]) {
                for secret in secrets {
                    let found = bytes.windows(secret.len()).any(|part| part == secret);
                    assert!(!found, "{} holds {:?}", call.path, String::from_utf8_lossy(secret));
                }
            }
        }
        // And nothing else: what arrived decodes to these fields and no more.
        let [evaluate, fetch] = calls.as_slice() else { panic!("two calls") };
        let message = proto::EvaluateRequest::decode(&evaluate.request[5..]).unwrap();
        assert_eq!(message.encoded_len() + 5, evaluate.request.len());
        assert_eq!(Evaluate::try_from(message).unwrap().blinded_elements.len(), 64);
        let message = proto::FetchBucketsRequest::decode(&fetch.request[5..]).unwrap();
        assert_eq!(message.encoded_len() + 5, fetch.request.len());
        let message = Fetch::try_from(message).unwrap();
        assert_eq!(message.prefixes.len(), 1);
        assert_eq!(message.prefixes[0], placement.bucket(message.prefix_bits));
        assert_eq!(message.buckets_per_prefix(), 1);
        assert!(fetch.response_messages[0] > BUCKET_BYTES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_twice_shows_the_same_prefix_and_unlinked_elements() {
    let scene = Scene::new().await;
    let (_, first) = scene.lookup(&person(3)).await;
    let (_, second) = scene.lookup(&person(3)).await;
    let elements = |calls: &[Call]| calls[0].request.slice(9..);
    assert_eq!(first[1].request, second[1].request);
    let (first, second) = (elements(&first), elements(&second));
    let shared = first.windows(8).filter(|part| second.windows(8).any(|other| other == *part));
    assert_eq!(shared.count(), 0);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
