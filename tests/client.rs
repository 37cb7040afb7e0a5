//! The client and an honest server: what is found, what goes over the wire,
//! and what is remembered.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "lengths are known where they are made")]

#[allow(dead_code, reason = "shared by tests, none of which needs all")]
mod fake_directory;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blindbook::{
    bucket::{Audience, Mapping, Placement, SignedMapping},
    client::{
        Answer, Client, ClientError, ClientOptions, Clock, Fault, FolderState, MemoryState, State,
        StateError,
    },
    epoch::Epoch,
    identifier::Sii,
    wire::{
        OVERLOADED,
        proto::{EvaluateRequest, FetchBucketsRequest},
    },
};
use fake_directory::{Call, NOW_S, Running, World, bits, exhausted, mapping, signing_key, sii};
use tokio::net::TcpListener;
use tonic::Status;

const ALICE: &str = "tel:+14155550100";

/// A client at `NOW_S`.
async fn connect(running: &Running, state: Arc<dyn State>) -> Client {
    Client::connect(options(running), state).await.unwrap()
}

fn options(running: &Running) -> ClientOptions {
    let mut options = ClientOptions::new(running.address(), running.identity());
    options.clock = Clock::new(|| NOW_S);
    options
}

async fn meet(world: World) -> (Running, Client) {
    let running = Running::start(world).await;
    let client = connect(&running, Arc::new(MemoryState::new())).await;
    running.take_names();
    (running, client)
}

/// The same with a client that keeps no answers: it makes both calls each time.
async fn meet_forgetful(world: World) -> (Running, Client) {
    let running = Running::start(world).await;
    let options = ClientOptions { cached_answers: 0, ..options(&running) };
    let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    running.take_names();
    (running, client)
}

fn contact(n: usize) -> Sii {
    sii(&format!("acct:user{n}@wa.example"))
}

fn contacts(count: usize) -> Vec<Sii> {
    (0..count).map(contact).collect()
}

fn users(answer: &Answer) -> Vec<&str> {
    answer.mappings.iter().map(|found| found.ssi.user().as_str()).collect()
}

/// The requests since the last call of this, those of each kind in order.
fn take_requests(running: &Running) -> (Vec<EvaluateRequest>, Vec<FetchBucketsRequest>) {
    let (mut evaluate, mut fetch) = (Vec::new(), Vec::new());
    for call in running.calls() {
        match call {
            Call::Evaluate(request) => evaluate.push(request),
            Call::Fetch(request) => fetch.push(request),
            Call::Parameters | Call::Providers | Call::Watch(_) | Call::Query(_) => {}
        }
    }
    running.take_names();
    (evaluate, fetch)
}

fn sorted(mut prefixes: Vec<u32>) -> Vec<u32> {
    prefixes.sort_unstable();
    prefixes
}

// What is found.

#[tokio::test]
async fn all_mappings_are_found_and_the_latest_wish_is_the_default() {
    let alice = sii(ALICE);
    let mut world = World::new(bits(4));
    world.put_user(&alice, 0, "first", 5);
    let business = Mapping {
        audience: Audience::Business,
        ttl_s: 60,
        verified_until: 77,
        ..mapping("wa.example", "second", 9)
    };
    world.put(&alice, 1, &SignedMapping::sign(&alice, business, &signing_key(50)));
    world.put_user(&alice, 2, "third", 9);
    let (_running, client) = meet(world).await;
    let answer = client.lookup(&alice).await.unwrap();
    assert_eq!(users(&answer), ["first", "second", "third"]);
    // Of equal wishes the first.
    let defaults: Vec<_> = answer.mappings.iter().map(|found| found.default).collect();
    assert_eq!(defaults, [false, true, false]);
    let second = answer.default().unwrap();
    assert_eq!(second.ssi.provider().as_str(), "wa.example");
    assert_eq!(second.audience, Audience::Business);
    assert_eq!((second.ttl_s, second.verified_until_s), (60, 77));
    assert_eq!((&answer.sii, answer.damaged), (&alice, 0));
    assert_eq!((answer.answered_at_s, answer.stale), (NOW_S, false));
}

#[tokio::test]
async fn a_hit_and_a_miss_make_the_same_calls_of_the_same_sizes() {
    let mut world = World::new(bits(4));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    let (running, client) = meet(world).await;
    let mut transcripts = Vec::new();
    for who in [ALICE, "tel:+14155550199"] {
        client.lookup(&sii(who)).await.unwrap();
        let (evaluate, fetch) = take_requests(&running);
        assert_eq!((evaluate.len(), fetch.len()), (1, 1));
        transcripts.push((
            evaluate[0].epoch,
            evaluate[0].blinded_elements.len(),
            (fetch[0].epoch, fetch[0].directory_prefix_bits, fetch[0].prefix_bits),
            fetch[0].prefixes.len(),
        ));
    }
    assert_eq!(transcripts[0], (1, 64, (1, 4, 4), 1));
    assert_eq!(transcripts[0], transcripts[1]);
}

#[tokio::test]
async fn many_are_answered_in_the_order_given_and_each_asked_once() {
    let mut world = World::new(bits(4));
    for n in (0..40).step_by(2) {
        world.put_user(&contact(n), 0, &format!("user{n}"), 1);
    }
    let (running, client) = meet(world).await;
    let asked: Vec<_> = [7, 0, 7, 38, 2, 0, 39].into_iter().map(contact).collect();
    let answers = client.lookup_many(&asked).await.unwrap();
    let found: Vec<_> = answers.iter().map(|answer| users(answer.as_ref().unwrap())).collect();
    let expected: [&[&str]; 7] = [&[], &["user0"], &[], &["user38"], &["user2"], &["user0"], &[]];
    assert_eq!(found, expected);
    let (evaluate, fetch) = take_requests(&running);
    assert_eq!((evaluate[0].blinded_elements.len(), fetch[0].prefixes.len()), (32 * 32, 16));
    for (answer, asked) in answers.iter().zip(&asked) {
        assert_eq!(answer.as_ref().unwrap().sii, *asked);
    }
}

#[tokio::test]
async fn nothing_to_look_up_asks_nothing() {
    let (running, client) = meet(World::new(bits(0))).await;
    assert!(client.lookup_many(&[]).await.unwrap().is_empty());
    assert!(running.calls().is_empty());
}

#[tokio::test]
async fn a_directory_deeper_than_pinned_is_searched_beneath_the_pinned_prefix() {
    let mut world = World::new(bits(6));
    for n in 0..20 {
        world.put_user(&contact(n), 0, &format!("user{n}"), 1);
    }
    let running = Running::start(world).await;
    let options = ClientOptions { max_prefix_bits: bits(3), ..options(&running) };
    let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    let answers = client.lookup_many(&contacts(20)).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(users(answer.as_ref().unwrap()), [format!("user{n}")]);
    }
    let (_, fetch) = take_requests(&running);
    assert_eq!((fetch[0].directory_prefix_bits, fetch[0].prefix_bits), (6, 3));
    assert!(fetch[0].prefixes.iter().all(|prefix| *prefix < 8));
}

#[tokio::test]
async fn buckets_of_both_epochs_of_a_rotation_open() {
    let mut world = World::new(bits(4));
    let second = world.add_epoch(2);
    let (old, new) = (contact(0), (1..).map(contact));
    let old_number = world.number_of(&old);
    let new = new.into_iter().find(|new| world.number_of(new) != old_number).unwrap();
    world.put_user(&old, 0, "old", 1);
    world.move_bucket(&new, second);
    world.put_user(&new, 0, "new", 1);
    let (running, client) = meet(world).await;
    let answers = client.lookup_many(&[old, new]).await.unwrap();
    assert_eq!(users(answers[0].as_ref().unwrap()), ["old"]);
    assert_eq!(users(answers[1].as_ref().unwrap()), ["new"]);
    let (evaluate, _) = take_requests(&running);
    assert_eq!(evaluate.len(), 1);
    assert_eq!(Epoch::new(evaluate[0].epoch), Some(second));
}

// What goes over the wire.

#[tokio::test]
async fn batches_have_the_fixed_sizes() {
    let (running, client) = meet_forgetful(World::new(bits(4))).await;
    for (lookups, sizes) in [
        (1, vec![1]),
        (2, vec![4]),
        (4, vec![4]),
        (5, vec![16]),
        (17, vec![64]),
        (65, vec![256]),
        (260, vec![256, 4]),
    ] {
        let answers = client.lookup_many(&contacts(lookups)).await.unwrap();
        assert_eq!(answers.len(), lookups);
        assert!(answers.iter().all(Result::is_ok));
        let (evaluate, fetch) = take_requests(&running);
        let prefixes: Vec<_> = fetch.iter().map(|fetch| fetch.prefixes.len()).collect();
        let elements: Vec<_> =
            evaluate.iter().map(|evaluate| evaluate.blinded_elements.len() / 64).collect();
        assert_eq!(prefixes, sizes, "{lookups}");
        assert_eq!(elements, sizes, "{lookups}");
    }
}

#[tokio::test]
async fn decoys_fill_up_are_the_same_in_every_sync_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(World::new(bits(12))).await;
    let mut syncs = Vec::new();
    for _ in 0..2 {
        let state = Arc::new(FolderState::open(folder.path()).unwrap());
        let client = connect(&running, state).await;
        for _ in 0..2 {
            client.refresh_many(&contacts(10)).await.unwrap();
            let (_, mut fetch) = take_requests(&running);
            syncs.push(fetch.remove(0).prefixes);
        }
    }
    let asked = sorted(syncs[0].clone());
    assert_eq!(asked.len(), 16);
    for sync in &syncs {
        assert_eq!(sorted(sync.clone()), asked);
    }
    // In another order each time.
    assert_ne!(syncs[0], syncs[1]);
    assert_ne!(syncs[1], syncs[2]);
    // Ten are the contacts'.
    let of = |sii: &Sii| Placement::of(sii).bucket(bits(12)).get();
    let mut decoys = asked.clone();
    for prefix in contacts(10).iter().map(of) {
        let place = decoys.iter().position(|decoy| *decoy == prefix).unwrap();
        decoys.remove(place);
    }
    // With one contact more, one decoy fewer, and the rest as before.
    let state = Arc::new(FolderState::open(folder.path()).unwrap());
    connect(&running, state).await.refresh_many(&contacts(11)).await.unwrap();
    let (_, fetch) = take_requests(&running);
    let mut fewer = sorted(fetch[0].prefixes.clone());
    for prefix in contacts(11).iter().map(of) {
        let place = fewer.iter().position(|decoy| *decoy == prefix).unwrap();
        fewer.remove(place);
    }
    assert_eq!(fewer.len(), 5);
    assert!(fewer.iter().all(|decoy| decoys.contains(decoy)));

    // Somebody else's are others.
    let other = connect(&running, Arc::new(MemoryState::new())).await;
    other.lookup_many(&contacts(10)).await.unwrap();
    let (_, fetch) = take_requests(&running);
    assert_ne!(sorted(fetch[0].prefixes.clone()), asked);
}

#[tokio::test]
async fn blinded_elements_are_fresh_and_distinct() {
    let (running, client) = meet_forgetful(World::new(bits(4))).await;
    for _ in 0..2 {
        client.lookup_many(&contacts(16)).await.unwrap();
    }
    let (evaluate, _) = take_requests(&running);
    let mut elements: Vec<_> =
        evaluate.iter().flat_map(|evaluate| evaluate.blinded_elements.chunks(32)).collect();
    elements.sort_unstable();
    elements.dedup();
    assert_eq!(elements.len(), 64);
}

// Retries.

/// Makes the first `times` evaluations or fetches fail as from a server that
/// is not ready.
fn unavailable(running: &Running, mut evaluations: usize, mut fetches: usize) {
    let mut lies = running.lies();
    lies.evaluate = Box::new(move |_, answer| {
        if evaluations == 0 {
            return answer;
        }
        evaluations -= 1;
        Err(Status::unavailable("not ready"))
    });
    lies.fetch = Box::new(move |_, answer| {
        if fetches == 0 {
            return answer;
        }
        fetches -= 1;
        Err(Status::unavailable("not ready"))
    });
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_asked_once_more_with_the_same_bytes() {
    let mut world = World::new(bits(4));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    let (running, client) = meet_forgetful(world).await;
    unavailable(&running, 1, 1);
    assert_eq!(users(&client.lookup(&sii(ALICE)).await.unwrap()), ["alice"]);
    let (evaluate, fetch) = take_requests(&running);
    assert_eq!((evaluate.len(), fetch.len()), (2, 2));
    assert_eq!(evaluate[0], evaluate[1]);
    assert_eq!(fetch[0], fetch[1]);

    unavailable(&running, 9, 9);
    let error = client.lookup(&sii(ALICE)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(None)));
    assert_eq!(error.fault(), Fault::Network);
    let (evaluate, fetch) = take_requests(&running);
    assert_eq!((evaluate.len(), fetch.len()), (2, 2));
}

#[tokio::test]
async fn a_server_that_answered_half_is_not_asked_again() {
    let (running, client) = meet(World::new(bits(4))).await;
    for (evaluations, fetches) in [(1, 0), (0, 1)] {
        unavailable(&running, evaluations, fetches);
        let error = client.lookup(&sii(ALICE)).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable(None)));
        let (evaluate, fetch) = take_requests(&running);
        assert_eq!((evaluate.len(), fetch.len()), (1, 1));
    }
}

#[tokio::test]
async fn a_client_that_is_refused_for_want_of_room_keeps_requests_back_whoever_they_are_for() {
    const TIMES: usize = 150;
    let mut world = World::new(bits(4));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    let (running, client) = meet(world).await;
    let known = contact(1);
    client.lookup(&known).await.unwrap();
    running.take_names();
    running.lies().evaluate = Box::new(|_, _| Err(exhausted(OVERLOADED)));
    let mut sent = [0; 2];
    for _ in 0..TIMES {
        for (sent, who) in sent.iter_mut().zip([sii(ALICE), contact(2)]) {
            let refused = client.refresh(&who).await.unwrap_err();
            assert!(matches!(refused, ClientError::Overloaded), "{refused}");
            assert_eq!(refused.fault(), Fault::Network);
            match running.take_names()[..] {
                [] => {}
                ["Evaluate", "FetchBuckets"] => *sent += 1,
                ref other => panic!("{other:?}"),
            }
        }
    }
    let [hits, misses] = sent;
    assert!(hits + misses >= 5 && hits.max(misses) < TIMES / 2, "{hits} and {misses} sent");
    // What is kept is answered as ever.
    client.lookup(&known).await.unwrap();
    assert!(running.take_names().is_empty());
    // Some always go out: that there is room again is found out.
    running.be_honest();
    let mut tried = 0;
    while let Err(refused) = client.refresh(&sii(ALICE)).await {
        assert!(matches!(refused, ClientError::Overloaded), "{refused}");
        tried += 1;
        assert!(tried < 10_000);
    }
}

#[tokio::test]
async fn other_refusals_keep_nothing_back() {
    let (running, client) = meet_forgetful(World::new(bits(4))).await;
    let quota = exhausted("QUOTA_EXHAUSTED");
    for refusal in [quota, Status::resource_exhausted(""), Status::internal("")] {
        running.lies().evaluate = Box::new(move |_, _| Err(refusal.clone()));
        for _ in 0..40 {
            client.lookup(&contact(1)).await.unwrap_err();
            assert_eq!(running.take_names().len(), 2);
        }
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_unreachable_and_one_that_is_silent_misses_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let identity = signing_key(7).verifying_key();
    let mut options = ClientOptions::new(address, identity);
    options.deadline = Duration::from_millis(300);
    let state = Arc::new(MemoryState::new());
    let silent = Client::connect(options.clone(), state.clone()).await.unwrap_err();
    assert!(matches!(silent, ClientError::DeadlineExceeded(_)), "{silent}");
    drop(listener);
    let gone = Client::connect(options, state).await.unwrap_err();
    assert!(matches!(&gone, ClientError::Unreachable(Some(_))), "{gone:?}");
    assert!(gone.to_string().contains("refused"), "{gone}");
}

#[cfg(feature = "cli")]
#[tokio::test]
async fn tls_holds_for_the_given_ca_and_for_no_other() {
    use tonic::transport::{Identity, ServerTlsConfig};
    let certified = || rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let (ours, other) = (certified(), certified());
    let mut world = World::new(bits(4));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    let tls = Identity::from_pem(ours.cert.pem(), ours.signing_key.serialize_pem());
    let running = Running::start_tls(world, ServerTlsConfig::new().identity(tls)).await;
    let mut options = options(&running);
    options.server = running.address().replace("http://", "https://");
    for (ca_pem, trusted) in [
        (Some(ours.cert.pem().into_bytes()), true),
        (Some(other.cert.pem().into_bytes()), false),
        (None, false),
    ] {
        let options = ClientOptions { ca_pem, ..options.clone() };
        let met = Client::connect(options, Arc::new(MemoryState::new())).await;
        if trusted {
            let answer = met.unwrap().lookup(&sii(ALICE)).await.unwrap();
            assert_eq!(users(&answer), ["alice"]);
        } else {
            let error = met.unwrap_err();
            assert!(matches!(error, ClientError::Unreachable(Some(_))), "{error}");
            assert!(error.to_string().contains("certificate"), "{error}");
        }
    }
}

// What is remembered.

#[tokio::test]
async fn the_schedule_alone_fetches_parameters_and_callers_share_one_fetch() {
    let running = Running::start(World::new(bits(4))).await;
    let now_s = Arc::new(AtomicU64::new(NOW_S));
    let clock = Arc::clone(&now_s);
    let mut options = options(&running);
    options.clock = Clock::new(move || clock.load(Ordering::Relaxed));
    let state: Arc<dyn State> = Arc::new(MemoryState::new());
    let client = Client::connect(options.clone(), Arc::clone(&state)).await.unwrap();
    assert_eq!(running.take_names(), ["GetParameters", "ListProviders"]);

    now_s.fetch_add(86_399, Ordering::Relaxed);
    let client_again = Client::connect(options, state).await.unwrap();
    client_again.lookup(&sii(ALICE)).await.unwrap();
    assert_eq!(running.take_names(), ["Evaluate", "FetchBuckets"]);

    now_s.fetch_add(1, Ordering::Relaxed);
    let mut lookups = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = client.clone();
        lookups.spawn(async move { client.lookup(&contact(n)).await });
    }
    while let Some(answer) = lookups.join_next().await {
        answer.unwrap().unwrap();
    }
    let names = running.take_names();
    let count = |name| names.iter().filter(|called| **called == name).count();
    assert_eq!((count("GetParameters"), count("ListProviders")), (1, 1));
    assert_eq!((count("Evaluate"), count("FetchBuckets")), (20, 20));
}

#[tokio::test]
async fn parameters_are_replaced_ahead_of_their_end() {
    let mut world = World::new(bits(4));
    world.parameters.refresh_period_s = u32::MAX;
    let running = Running::start(world).await;
    let now_s = Arc::new(AtomicU64::new(NOW_S));
    let clock = Arc::clone(&now_s);
    let mut options = options(&running);
    options.clock = Clock::new(move || clock.load(Ordering::Relaxed));
    let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    running.take_names();
    now_s.fetch_add(7 * 86_400 - 3601, Ordering::Relaxed);
    client.parameters().await.unwrap();
    assert!(running.take_names().is_empty());
    now_s.fetch_add(1, Ordering::Relaxed);
    running.world().parameters.not_after_s += 86_400;
    running.world().parameters.serial += 1;
    client.parameters().await.unwrap();
    assert_eq!(running.take_names(), ["GetParameters", "ListProviders"]);
    client.parameters().await.unwrap();
    assert!(running.take_names().is_empty());
}

#[tokio::test]
async fn a_hit_and_a_miss_leave_states_of_the_same_size() {
    let mut world = World::new(bits(4));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    let running = Running::start(world).await;
    let mut sizes = Vec::new();
    for who in [ALICE, "tel:+14155550199"] {
        let folder = tempfile::tempdir().unwrap();
        let client = connect(&running, Arc::new(FolderState::open(folder.path()).unwrap())).await;
        client.lookup(&sii(who)).await.unwrap();
        let mut files = Vec::new();
        for inner in std::fs::read_dir(folder.path()).unwrap() {
            let inner = inner.unwrap().path();
            if inner.is_dir() {
                for file in std::fs::read_dir(inner).unwrap() {
                    let file = file.unwrap();
                    let name = file.file_name().into_string().unwrap();
                    // Which share of the answers it is depends on who was asked.
                    let kind = name.split('-').next().unwrap().to_owned();
                    files.push((kind, file.metadata().unwrap().len()));
                }
            }
        }
        files.sort();
        assert_eq!(files.len(), 4);
        sizes.push(files);
    }
    assert_eq!(sizes[0], sizes[1]);
}

#[tokio::test]
async fn a_damaged_state_is_an_error_and_not_a_fresh_start() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(World::new(bits(4))).await;
    let state = Arc::new(FolderState::open(folder.path()).unwrap());
    let client = connect(&running, state).await;
    client.lookup(&sii(ALICE)).await.unwrap();
    drop(client);
    let directory = running.world().directory().to_string();
    let parts = std::fs::read_dir(folder.path().join(&directory)).unwrap();
    let parts: Vec<_> = parts.map(|part| part.unwrap().path()).collect();
    assert_eq!(parts.len(), 4);
    for path in parts {
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let state = Arc::new(FolderState::open(folder.path()).unwrap());
        let error = Client::connect(options(&running), state).await.unwrap_err();
        assert!(matches!(error, ClientError::StateDamaged(_)), "{}", path.display());
        assert_eq!(error.fault(), Fault::Ours);
        std::fs::write(&path, good).unwrap();
    }
    let state = Arc::new(FolderState::open(folder.path()).unwrap());
    connect(&running, state).await;
}

/// A state that can be read and not written.
struct Full;

impl State for Full {
    fn load(
        &self,
        _: &blindbook::bucket::DirectoryId,
        _: blindbook::client::Part,
    ) -> Result<Option<Vec<u8>>, StateError> {
        Ok(None)
    }

    fn store(
        &self,
        _: &blindbook::bucket::DirectoryId,
        _: blindbook::client::Part,
        _: &[u8],
    ) -> Result<(), StateError> {
        Err(StateError::Other("the disk is full".into()))
    }
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_an_error_before_anything_is_asked() {
    let running = Running::start(World::new(bits(4))).await;
    let error = Client::connect(options(&running), Arc::new(Full)).await.unwrap_err();
    assert!(matches!(&error, ClientError::State(StateError::Other(_))));
    assert!(error.to_string().contains("the disk is full"));
    assert!(running.calls().is_empty());
}

#[tokio::test]
async fn nothing_that_a_client_prints_names_who_was_looked_up() {
    let mut world = World::new(bits(4));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    let (_running, client) = meet(world).await;
    let answer = client.lookup(&sii(ALICE)).await.unwrap();
    let printed = format!("{client:?} {answer:?}");
    assert!(!printed.contains("4155550100"), "{printed}");
    assert!(!printed.contains("alice"), "{printed}");
}
