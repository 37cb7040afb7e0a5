//! The client's side of private information retrieval: when it is used, what is
//! asked, and what a lying server gets away with. Rows that hold somebody are
//! read from a real server, in `tests/pir`.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "lengths are known where they are made")]

#[allow(dead_code, reason = "shared by tests, none of which needs all")]
mod fake_directory;

use std::{collections::BTreeSet, sync::Arc};

use blindbook::{
    bucket::PrefixBits,
    client::{Answer, Client, ClientError, ClientOptions, Clock, Fault, MemoryState, Mode},
    wire::{OVERLOADED, pir_shape},
};
use fake_directory::{Call, NOW_S, Running, World, bits, exhausted, sii};
use tonic::Status;

const ALICE: &str = "tel:+14155550100";
const NOBODY: &str = "tel:+14155550199";

/// One round trip.
const ONCE: [&str; 2] = ["Evaluate", "QueryPir"];
const SCHEDULED: [&str; 2] = ["GetParameters", "ListProviders"];

fn world(prefix_bits: PrefixBits) -> World {
    let mut world = World::new(prefix_bits);
    world.parameters.pir = Some(pir_shape(prefix_bits));
    world.put_user(&sii(ALICE), 0, "alice", 1);
    world
}

fn options(running: &Running, mode: Option<Mode>) -> ClientOptions {
    let mut options = ClientOptions::new(running.address(), running.identity());
    options.clock = Clock::new(|| NOW_S);
    options.mode = mode;
    options
}

struct Scene {
    running: Running,
    client: Client,
    state: Arc<MemoryState>,
}

impl Scene {
    async fn of(world: World, mode: Option<Mode>) -> Self {
        let running = Running::start(world).await;
        let state = Arc::new(MemoryState::new());
        let client = Client::connect(options(&running, mode), state.clone()).await.unwrap();
        assert_eq!(running.take_names(), SCHEDULED);
        Self { running, client, state }
    }

    async fn look(&self, who: &str) -> Result<Arc<Answer>, ClientError> {
        self.client.refresh(&sii(who)).await
    }

    /// Another start of the same client.
    async fn again(&self, mode: Option<Mode>) -> Client {
        Client::connect(options(&self.running, mode), self.state.clone()).await.unwrap()
    }

    /// The directory offers it no more.
    fn withdraw(&self) {
        let mut world = self.running.world();
        world.parameters.pir = None;
        world.parameters.serial += 1;
    }
}

#[tokio::test]
async fn a_single_lookup_uses_it_where_it_is_offered_and_many_do_not() {
    let scene = Scene::of(world(bits(4)), None).await;
    scene.look(NOBODY).await.unwrap();
    assert_eq!(scene.running.take_names(), ONCE);
    // Its outputs are known: what is left is the query.
    scene.look(NOBODY).await.unwrap();
    assert_eq!(scene.running.take_names(), ["QueryPir"]);
    // And its answer is kept.
    scene.client.lookup(&sii(NOBODY)).await.unwrap();
    assert!(scene.running.take_names().is_empty());
    scene.client.refresh_many(&[sii(ALICE), sii(NOBODY)]).await.unwrap();
    let names: BTreeSet<_> = scene.running.take_names().into_iter().collect();
    assert_eq!(names, BTreeSet::from(["Evaluate", "FetchBuckets"]));

    let scene = Scene::of(World::new(bits(4)), None).await;
    scene.look(NOBODY).await.unwrap();
    assert_eq!(scene.running.take_names(), ["Evaluate", "FetchBuckets"]);
}

#[tokio::test]
async fn who_chooses_gets_what_was_chosen_or_an_error() {
    let scene = Scene::of(world(bits(4)), Some(Mode::Bucket)).await;
    let found = scene.look(ALICE).await.unwrap();
    assert_eq!(found.mappings.len(), 1);
    assert_eq!(scene.running.take_names(), ["Evaluate", "FetchBuckets"]);

    let scene = Scene::of(world(bits(4)), Some(Mode::Pir)).await;
    let both = scene.client.lookup_many(&[sii(ALICE), sii(NOBODY)]).await.unwrap();
    assert_eq!(both.len(), 2);
    let mut names = scene.running.take_names();
    names.sort_unstable();
    assert_eq!(names, ["Evaluate", "Evaluate", "QueryPir", "QueryPir"]);

    let scene = Scene::of(World::new(bits(4)), Some(Mode::Pir)).await;
    for asked in
        [scene.look(ALICE).await.map(drop), scene.client.lookup_many(&[sii(ALICE)]).await.map(drop)]
    {
        let refused = asked.unwrap_err();
        assert!(matches!(refused, ClientError::NoRetrieval), "{refused}");
        assert_eq!(refused.fault(), Fault::Incompatible);
    }
    assert!(scene.running.take_names().is_empty());
}

#[tokio::test]
async fn an_offer_that_is_taken_back_is_told_after_a_restart_too() {
    let scene = Scene::of(world(bits(4)), None).await;
    scene.look(NOBODY).await.unwrap();
    scene.running.take_names();
    scene.withdraw();
    // A server that refuses to, and signs that it offers none.
    scene.running.lies().row = Box::new(|_, _| Err(Status::failed_precondition("there is none")));
    let refused = scene.look(NOBODY).await.unwrap_err();
    assert!(matches!(refused, ClientError::RetrievalWithdrawn), "{refused}");
    assert_eq!(scene.running.take_names(), ["GetParameters", "QueryPir"]);
    drop(scene.client.clone());
    let again = scene.again(None).await;
    let refused = again.refresh(&sii(ALICE)).await.unwrap_err();
    assert!(matches!(refused, ClientError::RetrievalWithdrawn), "{refused}");
    assert_eq!(refused.fault(), Fault::Server);
    // Nothing was asked in a bucket instead; who accepts that says so.
    assert!(!scene.running.take_names().contains(&"FetchBuckets"));
    let accepting = scene.again(Some(Mode::Bucket)).await;
    assert_eq!(accepting.refresh(&sii(ALICE)).await.unwrap().mappings.len(), 1);
}

type Refused = (fn() -> Status, fn(&ClientError) -> bool);

#[tokio::test]
async fn failures_are_errors_and_never_a_fetch() {
    let scene = Scene::of(world(bits(4)), None).await;
    let refusals: [Refused; 3] = [
        (|| Status::resource_exhausted("busy"), |error| matches!(error, ClientError::Exhausted)),
        (|| Status::internal("broken"), |error| matches!(error, ClientError::ServerFailed(_))),
        (|| Status::permission_denied("no"), |error| matches!(error, ClientError::Denied(_))),
    ];
    for (status, is_right) in refusals {
        for who in [ALICE, NOBODY] {
            scene.running.lies().row = Box::new(move |_, _| Err(status()));
            let refused = scene.look(who).await.unwrap_err();
            assert!(is_right(&refused), "{refused}");
            let mut names = scene.running.take_names();
            names.sort_unstable();
            assert_eq!(names, ONCE);
        }
    }
    // Not ready: the same bytes once more.
    scene.running.lies().row = Box::new(|_, _| Err(Status::unavailable("soon")));
    let refused = scene.look(ALICE).await.unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable(_)), "{refused}");
    let calls = scene.running.calls();
    assert!(calls.iter().all(|call| call.name() != "FetchBuckets"));
}

#[tokio::test]
async fn queries_that_are_refused_for_want_of_room_keep_queries_back_and_no_buckets() {
    let scene = Scene::of(world(bits(4)), None).await;
    scene.running.lies().row = Box::new(|_, _| Err(exhausted(OVERLOADED)));
    let mut sent = 0;
    for _ in 0..200 {
        let refused = scene.look(NOBODY).await.unwrap_err();
        assert!(matches!(refused, ClientError::Overloaded), "{refused}");
        sent += usize::from(!scene.running.take_names().is_empty());
    }
    assert!((5..100).contains(&sent), "{sent} sent");
    for _ in 0..20 {
        scene.client.refresh_many(&[sii(ALICE), sii(NOBODY)]).await.unwrap();
        assert!(scene.running.take_names().contains(&"FetchBuckets"));
    }
}

#[tokio::test]
async fn a_silent_server_is_sent_the_same_query_again_and_a_new_epoch_another() {
    let scene = Scene::of(world(bits(4)), None).await;
    scene.look(NOBODY).await.unwrap();
    scene.running.take_names();
    let before = scene.running.calls().len();
    let mut first = true;
    scene.running.lies().row = Box::new(move |_, honest| {
        if std::mem::take(&mut first) { Err(Status::unavailable("restarts")) } else { honest }
    });
    scene.look(NOBODY).await.unwrap();
    let calls = scene.running.calls().split_off(before);
    assert!(calls.len() == 2 && calls[0] == calls[1]);

    scene.running.be_honest();
    scene.running.world().rotate();
    let before = scene.running.calls().len();
    scene.look(NOBODY).await.unwrap();
    let queries: Vec<_> = scene
        .running
        .calls()
        .split_off(before)
        .into_iter()
        .filter_map(|call| match call {
            Call::Query(query) => Some(query),
            _ => None,
        })
        .collect();
    assert!(queries.windows(2).all(|pair| pair[0].query != pair[1].query));
}

#[tokio::test]
async fn a_row_of_another_length_is_refused_and_one_of_nonsense_holds_nobody() {
    let scene = Scene::of(world(bits(4)), None).await;
    for who in [ALICE, NOBODY] {
        scene.running.lies().row = Box::new(|_, honest| {
            honest.map(|mut answer| {
                answer.answer = answer.answer.slice(1..);
                answer
            })
        });
        let refused = scene.look(who).await.unwrap_err();
        assert!(matches!(refused, ClientError::RowMalformed), "{refused}");
        assert_eq!(refused.fault(), Fault::Server);
        scene.running.be_honest();
        // Withholding cannot be told from there being nobody.
        assert!(scene.look(who).await.unwrap().mappings.is_empty());
    }
}

#[tokio::test]
async fn every_epoch_must_be_evaluated() {
    let mut world = world(bits(4));
    world.add_epoch(2);
    let scene = Scene::of(world, None).await;
    scene.running.lies().evaluate = Box::new(|_, honest| {
        honest.map(|mut response| {
            response.evaluations.pop();
            response
        })
    });
    let refused = scene.look(NOBODY).await.unwrap_err();
    assert!(matches!(refused, ClientError::EpochNotEvaluated { .. }), "{refused}");
}

#[tokio::test]
async fn more_partitions_than_may_be_told_are_refused_before_anything_is_asked() {
    // Eighteen bits are four partitions: two bits are told.
    let scene = Scene::of(world(bits(4)), None).await;
    {
        let mut world = scene.running.world();
        world.parameters.prefix_bits = bits(18);
        world.parameters.pir = Some(pir_shape(bits(18)));
        world.parameters.serial += 1;
    }
    let mut shallow = options(&scene.running, None);
    shallow.max_prefix_bits = bits(1);
    let client = Client::connect(shallow, Arc::new(MemoryState::new())).await.unwrap();
    scene.running.take_names();
    let refused = client.lookup(&sii(NOBODY)).await.unwrap_err();
    assert!(matches!(refused, ClientError::MorePrefixBitsDemanded { .. }), "{refused}");
    assert!(scene.running.take_names().is_empty());
}

#[tokio::test]
async fn all_queries_are_of_one_length_and_no_two_alike() {
    let scene = Scene::of(world(bits(4)), None).await;
    for who in [ALICE, NOBODY, ALICE, "mailto:nobody@example.com"] {
        scene.look(who).await.unwrap();
    }
    let mut queries = BTreeSet::new();
    let mut lengths = BTreeSet::new();
    for call in scene.running.calls() {
        if let Call::Query(query) = call {
            assert_eq!(
                (query.epoch, query.partition, query.directory_prefix_bits),
                (1, Some(0), 4)
            );
            assert!(query.tokens.is_empty());
            lengths.insert(query.query.len());
            queries.insert(query.query);
        }
    }
    assert_eq!((lengths.len(), queries.len()), (1, 4));
}
