//! Following the directory's changes: none is missed, however often the
//! connection breaks or the client dies, and none ever causes a question.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "lengths are known where they are made")]

#[allow(dead_code, reason = "shared by tests, none of which needs all")]
mod fake_directory;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use blindbook::{
    bucket::DirectoryId,
    client::{
        Client, ClientError, ClientOptions, Clock, Fault, Link, MemoryState, Part, Reconnect,
        State, StateError,
    },
    identifier::Sii,
    wire::{Checkpoint, proto},
};
use fake_directory::{Call, NOW_S, Running, World, bits, signing_key, sii};
use tokio::{sync::watch, task::JoinHandle};
use tonic::Status;

const PEOPLE: usize = 40;

/// Its bucket changes last, so that all changes before are known to be told.
const LAST: usize = PEOPLE;

fn contact(n: usize) -> Sii {
    sii(&format!("acct:user{n}@wa.example"))
}

fn everybody() -> Vec<Sii> {
    (0..=LAST).map(contact).collect()
}

/// A follower that ends with this value.
struct Followed {
    link: watch::Receiver<Link>,
    running: JoinHandle<()>,
}

impl Followed {
    fn by(client: &Client) -> Self {
        let follower = client.follow();
        let link = follower.link();
        let running = tokio::spawn(async move {
            follower.run().await;
        });
        Self { link, running }
    }

    async fn connected(client: &Client) -> Self {
        let followed = Self::by(client);
        until(|| followed.link.borrow().is_connected()).await;
        followed
    }

    /// Connected, and with a checkpoint in the state.
    async fn settled(client: &Client, state: &Arc<dyn State>) -> Self {
        let followed = Self::connected(client).await;
        let directory = DirectoryId::of(&signing_key(7).verifying_key());
        until(|| state.load(&directory, Part::Checkpoint).unwrap().is_some()).await;
        followed
    }

    /// Ends it, as the end of the process would.
    async fn kill(mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn connect(running: &Running, state: &Arc<dyn State>) -> Client {
    let mut options = ClientOptions::new(running.address(), running.identity());
    options.clock = Clock::new(|| NOW_S);
    options.reconnect =
        Reconnect { first: Duration::from_millis(1), longest: Duration::from_millis(2) };
    Client::connect(options, Arc::clone(state)).await.unwrap()
}

async fn meet(world: World) -> (Running, Client, Arc<dyn State>) {
    let running = Running::start(world).await;
    let state: Arc<dyn State> = Arc::new(MemoryState::new());
    let client = connect(&running, &state).await;
    (running, client, state)
}

/// Waits for what another task does.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came");
}

fn is_stale(client: &Client, n: usize) -> bool {
    client.cached(&contact(n)).unwrap().unwrap().stale
}

fn stale(client: &Client) -> BTreeSet<usize> {
    (0..PEOPLE).filter(|n| is_stale(client, *n)).collect()
}

fn questions(running: &Running) -> usize {
    running.calls().iter().filter(|call| !matches!(call, Call::Watch(_))).count()
}

fn watches(running: &Running) -> Vec<proto::WatchInvalidationsRequest> {
    let watches = running.calls().into_iter().filter_map(|call| match call {
        Call::Watch(request) => Some(request),
        _ => None,
    });
    watches.collect()
}

/// Changes the buckets of some, and at last that of `LAST`. Returns who shares
/// a bucket with them.
fn change(running: &Running, some: &[usize]) -> BTreeSet<usize> {
    let mut world = running.world();
    for n in some {
        world.touch(&contact(*n));
    }
    world.touch(&contact(LAST));
    let changed = some.iter().chain([&LAST]).map(|n| world.number_of(&contact(*n)));
    let changed: BTreeSet<u32> = changed.collect();
    (0..PEOPLE).filter(|n| changed.contains(&world.number_of(&contact(*n)))).collect()
}

#[tokio::test]
async fn a_changed_bucket_marks_its_answers_until_they_are_refreshed_and_asks_nothing() {
    let (running, client, _) = meet(World::new(bits(10))).await;
    let _followed = Followed::connected(&client).await;
    client.lookup_many(&everybody()).await.unwrap();
    let asked = questions(&running);
    let expected = change(&running, &[3, 7]);
    until(|| is_stale(&client, LAST)).await;
    assert_eq!(stale(&client), expected);
    assert!(client.lookup(&contact(3)).await.unwrap().stale);
    assert_eq!(questions(&running), asked);
    assert!(!client.refresh(&contact(3)).await.unwrap().stale);
    assert!(!is_stale(&client, 3));
    assert!(is_stale(&client, 7));
}

#[tokio::test]
async fn an_answer_from_before_a_change_that_was_told_is_stale_when_it_comes() {
    let (running, client, _) = meet(World::new(bits(10))).await;
    let _followed = Followed::connected(&client).await;
    client.lookup(&contact(LAST)).await.unwrap();
    // The log tells of a version that the server has not got yet.
    let number = running.world().number_of(&contact(0));
    running.world().log.send_modify(|log| log.push((number, 5)));
    running.world().touch(&contact(LAST));
    until(|| is_stale(&client, LAST)).await;
    assert!(client.lookup(&contact(0)).await.unwrap().stale);
}

/// What happens to the directory in each round of the tests below.
const ROUNDS: [&[usize]; 4] = [&[0, 1, 2], &[3], &[1, 4, 5, 6], &[7, 8]];

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_wherever_the_stream_breaks() {
    for cut in 0..14 {
        let (running, client, state) = meet(World::new(bits(10))).await;
        let followed = Followed::settled(&client, &state).await;
        client.lookup_many(&everybody()).await.unwrap();
        followed.kill().await;
        // Each connection ends after so many messages, or one more.
        running.world().cuts = (0..30).map(|n| cut + n % 2).chain([usize::MAX]).collect();
        let _followed = Followed::by(&client);
        let mut model = BTreeSet::new();
        for round in ROUNDS {
            model.extend(change(&running, round));
        }
        until(|| is_stale(&client, LAST)).await;
        until(|| stale(&client).is_superset(&model)).await;
        assert_eq!(stale(&client), model, "cut after {cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_change_is_lost_wherever_the_process_ends() {
    for told in 0..14 {
        let (running, client, state) = meet(World::new(bits(10))).await;
        let followed = Followed::settled(&client, &state).await;
        client.lookup_many(&everybody()).await.unwrap();
        followed.kill().await;
        let mut model = BTreeSet::new();
        let mut client = client;
        for (n, round) in ROUNDS.into_iter().enumerate() {
            // It is told so much, and ends, in the middle of whatever it does.
            running.world().cuts = [told + n].into();
            let seen = running.calls().len();
            let followed = Followed::by(&client);
            model.extend(change(&running, round));
            until(|| running.calls().len() > seen).await;
            followed.kill().await;
            drop(client);
            client = connect(&running, &state).await;
        }
        running.world().cuts.clear();
        let _followed = Followed::by(&client);
        until(|| is_stale(&client, LAST)).await;
        until(|| stale(&client).is_superset(&model)).await;
        assert_eq!(stale(&client), model, "ended after {told}");
    }
}

#[tokio::test]
async fn without_a_checkpoint_every_kept_answer_counts_as_stale() {
    let (running, client, state) = meet(World::new(bits(10))).await;
    client.lookup(&contact(0)).await.unwrap();
    let followed = Followed::settled(&client, &state).await;
    until(|| is_stale(&client, 0)).await;
    // What is asked from then on does not.
    client.refresh(&contact(0)).await.unwrap();
    client.lookup(&contact(1)).await.unwrap();
    assert!(!is_stale(&client, 0) && !is_stale(&client, 1));
    // Nor after a restart: now there is a checkpoint.
    followed.kill().await;
    let again = connect(&running, &state).await;
    let _followed = Followed::connected(&again).await;
    again.lookup(&contact(LAST)).await.unwrap();
    running.world().touch(&contact(LAST));
    until(|| is_stale(&again, LAST)).await;
    assert!(!is_stale(&again, 0) && !is_stale(&again, 1));
    let watched = watches(&running);
    assert_eq!(watched.len(), 2);
    assert!(watched[0].checkpoint.is_none());
    assert!(watched[1].checkpoint.is_some());
}

#[tokio::test]
async fn a_checkpoint_that_is_too_old_or_of_another_depth_makes_everything_stale() {
    let too_old = |running: &Running| running.world().log_begins = 2;
    let split = |running: &Running| {
        running.world().parameters.prefix_bits = bits(17);
    };
    let changes: [&dyn Fn(&Running); 2] = [&too_old, &split];
    for change_log in changes {
        let (running, client, state) = meet(World::new(bits(10))).await;
        let followed = Followed::settled(&client, &state).await;
        client.lookup_many(&everybody()).await.unwrap();
        followed.kill().await;
        change(&running, &[0, 1, 2]);
        change_log(&running);
        let _followed = Followed::by(&client);
        until(|| stale(&client).len() == PEOPLE).await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_refused_is_given_up_and_everything_is_stale() {
    let (running, client, state) = meet(World::new(bits(10))).await;
    let followed = Followed::settled(&client, &state).await;
    client.lookup_many(&everybody()).await.unwrap();
    followed.kill().await;
    running.lies().watch = Box::new(|_, request| {
        let refused = Status::failed_precondition("canary-text");
        request.checkpoint.is_some().then_some(Err(refused))
    });
    let followed = Followed::by(&client);
    until(|| stale(&client).len() == PEOPLE).await;
    until(|| followed.link.borrow().is_connected()).await;
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_and_what_follows_is_told_all_the_same() {
    let good = || proto::Checkpoint { prefix_bits: 10, sequences: vec![0] };
    let told = |changed: Vec<(u32, u64)>, checkpoint| {
        let changed =
            changed.into_iter().map(|(number, version)| proto::Invalidation { number, version });
        proto::WatchInvalidationsResponse {
            everything: false,
            changed: changed.collect(),
            checkpoint,
        }
    };
    let bad = [
        told(vec![(1024, 1)], Some(good())),
        told(vec![(1, 0)], Some(good())),
        told(vec![(1, 1); 4097], Some(good())),
        told(vec![], Some(proto::Checkpoint { prefix_bits: 33, ..good() })),
        told(vec![], Some(proto::Checkpoint { sequences: vec![0; 2], ..good() })),
        told(vec![], Some(proto::Checkpoint { sequences: vec![0; 65_536], ..good() })),
        told(vec![], Some(proto::Checkpoint { prefix_bits: 11, ..good() })),
        proto::WatchInvalidationsResponse { everything: true, changed: vec![], checkpoint: None },
    ];
    for (n, bad) in bad.into_iter().enumerate() {
        let (running, client, state) = meet(World::new(bits(10))).await;
        let followed = Followed::settled(&client, &state).await;
        client.lookup_many(&everybody()).await.unwrap();
        followed.kill().await;
        running.lies().watch = Box::new(move |_, _| Some(Ok(vec![Ok(bad.clone())])));
        let followed = Followed::by(&client);
        let expected = change(&running, &[3]);
        until(|| is_malformed(&followed.link.borrow())).await;
        assert!(stale(&client).is_empty(), "lie {n}");
        running.be_honest();
        until(|| is_stale(&client, LAST)).await;
        assert_eq!(stale(&client), expected, "lie {n}");
    }
}

fn is_malformed(link: &Link) -> bool {
    match link {
        Link::Lost(error @ ClientError::InvalidationsMalformed(_)) => {
            assert_eq!(error.fault(), Fault::Server);
            true
        }
        _ => false,
    }
}

#[tokio::test]
async fn a_server_that_does_not_tell_changes_is_asked_for_ever_and_nothing_else_is() {
    let (running, client, _) = meet(World::new(bits(10))).await;
    running.lies().watch = Box::new(|_, _| Some(Err(Status::unimplemented("canary-text"))));
    client.lookup(&contact(0)).await.unwrap();
    let asked = questions(&running);
    let followed = Followed::by(&client);
    until(|| watches(&running).len() > 5).await;
    let lost = followed.link.borrow().clone();
    assert!(matches!(&lost, Link::Lost(ClientError::CallRefused(_))), "{lost:?}");
    assert!(!format!("{lost:?}").contains("canary"));
    assert_eq!(questions(&running), asked);
    assert!(!is_stale(&client, 0));
    running.be_honest();
    until(|| followed.link.borrow().is_connected()).await;
}

#[tokio::test]
async fn two_followers_of_one_client_take_turns() {
    let (running, client, _) = meet(World::new(bits(10))).await;
    let first = Followed::connected(&client).await;
    let second = Followed::by(&client.clone());
    client.lookup_many(&everybody()).await.unwrap();
    change(&running, &[]);
    until(|| is_stale(&client, LAST)).await;
    assert_eq!(watches(&running).len(), 1);
    first.kill().await;
    until(|| second.link.borrow().is_connected()).await;
    assert_eq!(watches(&running).len(), 2);
}

/// A state that at some time cannot be written any more.
struct Fails {
    state: MemoryState,
    fails: AtomicBool,
}

impl State for Fails {
    fn load(&self, directory: &DirectoryId, part: Part) -> Result<Option<Vec<u8>>, StateError> {
        self.state.load(directory, part)
    }

    fn store(&self, directory: &DirectoryId, part: Part, bytes: &[u8]) -> Result<(), StateError> {
        if self.fails.load(Ordering::Relaxed) && matches!(part, Part::Answers(_)) {
            return Err(StateError::Other("the disk is full".into()));
        }
        self.state.store(directory, part, bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_stored_only_after_what_was_told_before_it() {
    let running = Running::start(World::new(bits(10))).await;
    let fails = Arc::new(Fails { state: MemoryState::new(), fails: AtomicBool::new(false) });
    let state: Arc<dyn State> = fails.clone();
    let client = connect(&running, &state).await;
    let directory = running.world().directory();
    let stored = || fails.load(&directory, Part::Checkpoint).unwrap();
    let followed = Followed::connected(&client).await;
    until(|| stored().is_some()).await;
    let before = stored();
    client.lookup_many(&everybody()).await.unwrap();
    fails.fails.store(true, Ordering::Relaxed);
    let expected = change(&running, &[0, 1, 2, 3, 4]);
    until(|| is_stale(&client, LAST)).await;
    // When the connection ends, what was told cannot be stored.
    followed.kill().await;
    running.world().cuts = std::iter::repeat_n(4, 10_000).collect();
    let followed = Followed::by(&client);
    let is_full = |link: &Link| matches!(link, Link::Lost(ClientError::State(_)));
    until(|| is_full(&followed.link.borrow())).await;
    assert_eq!(stored(), before);
    followed.kill().await;
    drop(client);
    // It is told again.
    running.world().cuts.clear();
    fails.fails.store(false, Ordering::Relaxed);
    let again = connect(&running, &state).await;
    assert!(stale(&again).is_empty());
    let _followed = Followed::by(&again);
    until(|| is_stale(&again, LAST)).await;
    assert_eq!(stale(&again), expected);
    assert!(Checkpoint::from_bytes(b"").is_err());
}

#[tokio::test]
async fn a_damaged_checkpoint_is_an_error() {
    let (running, client, state) = meet(World::new(bits(10))).await;
    let followed = Followed::connected(&client).await;
    let directory = running.world().directory();
    let stored = || state.load(&directory, Part::Checkpoint).unwrap();
    until(|| stored().is_some()).await;
    followed.kill().await;
    drop(client);
    let mut bytes = stored().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    state.store(&directory, Part::Checkpoint, &bytes).unwrap();
    let options = ClientOptions::new(running.address(), running.identity());
    let refused = Client::connect(options, state).await;
    assert!(matches!(refused, Err(ClientError::StateDamaged(Part::Checkpoint))));
}
