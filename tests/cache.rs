//! What the client keeps: which lookups ask the network, and that nothing that
//! was found ever decides it.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
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
    bucket::{Mapping, Placement, SignedMapping},
    client::{
        Answer, Circle, Client, ClientError, ClientOptions, Clock, FolderState, MemoryState, Part,
        State,
    },
    epoch::Epoch,
    identifier::Sii,
    secret::Secret,
    wire::bucket_to_proto,
};
use fake_directory::{Call, NOW_S, Running, World, bits, mapping, signing_key, sii};

const DAY_S: u64 = 86_400;

struct Scene {
    running: Running,
    client: Client,
    now_s: Arc<AtomicU64>,
    state: Arc<dyn State>,
}

impl Scene {
    async fn of(world: World, adjust: impl FnOnce(&mut ClientOptions)) -> Self {
        Self::with(world, Arc::new(MemoryState::new()), adjust).await
    }

    async fn with(
        world: World,
        state: Arc<dyn State>,
        adjust: impl FnOnce(&mut ClientOptions),
    ) -> Self {
        let running = Running::start(world).await;
        let now_s = Arc::new(AtomicU64::new(NOW_S));
        let client = connect(&running, &now_s, &state, adjust).await.unwrap();
        running.take_names();
        Self { running, client, now_s, state }
    }

    /// Another client of the same state, as after a restart.
    async fn restart(&self, adjust: impl FnOnce(&mut ClientOptions)) -> Client {
        connect(&self.running, &self.now_s, &self.state, adjust).await.unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    fn now_s(&self) -> u64 {
        self.now_s.load(Ordering::Relaxed)
    }

    /// The prefixes of the fetches since the last look, each sorted.
    fn take_prefixes(&self) -> Vec<Vec<u32>> {
        let fetched = self.running.calls().into_iter().filter_map(|call| match call {
            Call::Fetch(request) => Some(sorted(request.prefixes)),
            _ => None,
        });
        let fetched = fetched.collect();
        self.running.take_names();
        fetched
    }
}

async fn connect(
    running: &Running,
    now_s: &Arc<AtomicU64>,
    state: &Arc<dyn State>,
    adjust: impl FnOnce(&mut ClientOptions),
) -> Result<Client, ClientError> {
    let mut options = ClientOptions::new(running.address(), running.identity());
    let now_s = Arc::clone(now_s);
    options.clock = Clock::new(move || now_s.load(Ordering::Relaxed));
    adjust(&mut options);
    Client::connect(options, Arc::clone(state)).await
}

fn sorted(mut prefixes: Vec<u32>) -> Vec<u32> {
    prefixes.sort_unstable();
    prefixes
}

fn contact(n: usize) -> Sii {
    sii(&format!("acct:user{n}@wa.example"))
}

fn contacts(range: std::ops::Range<usize>) -> Vec<Sii> {
    range.map(contact).collect()
}

fn circle(fill: u8) -> Circle {
    Circle::new(Secret::new([fill; 32]))
}

fn signed(who: &Sii, mapping: Mapping) -> SignedMapping {
    SignedMapping::sign(who, mapping, &signing_key(50))
}

fn users(answer: &Answer) -> Vec<&str> {
    answer.mappings.iter().map(|found| found.ssi.user().as_str()).collect()
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

const NOTHING: [&str; 0] = [];
const BOTH: [&str; 2] = ["Evaluate", "FetchBuckets"];
const FETCH: [&str; 1] = ["FetchBuckets"];

// The period.

#[tokio::test]
async fn within_the_period_hits_misses_and_refusals_come_from_the_cache_and_at_its_end_all_ask() {
    let mut world = World::new(bits(4));
    let [hit, miss, forged, unlisted] = [0, 1, 2, 3].map(contact);
    world.put_user(&hit, 0, "hit", 1);
    let stranger = signing_key(51);
    world.put(&forged, 0, &SignedMapping::sign(&forged, mapping("wa.example", "f", 1), &stranger));
    world.put(&unlisted, 0, &signed(&unlisted, mapping("sg.example", "u", 1)));
    let scene = Scene::of(world, |_| {}).await;
    for period in 0..3 {
        for asked in 0..3 {
            for who in [&hit, &miss, &forged, &unlisted] {
                let answer = scene.client.lookup(who).await;
                if *who == forged {
                    assert!(matches!(answer, Err(ClientError::MappingForged { .. })));
                } else if *who == unlisted {
                    assert!(matches!(answer, Err(ClientError::ProviderUnknown { .. })));
                } else {
                    let found: &[&str] = if *who == hit { &["hit"] } else { &[] };
                    assert_eq!(users(&answer.unwrap()), found);
                }
                let calls = scene.running.take_names();
                match (period, asked) {
                    (0, 0) => assert_eq!(calls, BOTH),
                    // The first of a new period finds the parameters due, too.
                    (_, 0) if *who == hit => {
                        assert_eq!(calls, ["FetchBuckets", "GetParameters", "ListProviders"]);
                    }
                    (_, 0) => assert_eq!(calls, FETCH),
                    _ => assert_eq!(calls, NOTHING),
                }
            }
            scene.pass(if asked < 2 { DAY_S / 2 - 1 } else { 2 });
        }
    }
}

#[tokio::test]
async fn the_cache_is_asked_without_waiting_and_says_what_a_lookup_would() {
    let mut world = World::new(bits(4));
    world.put_user(&contact(0), 0, "hit", 1);
    let scene = Scene::of(world, |_| {}).await;
    assert!(scene.client.cached(&contact(0)).is_none());
    let answer = scene.client.lookup(&contact(0)).await.unwrap();
    let cached = scene.client.cached(&contact(0)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&answer, &cached));
    assert_eq!(cached.answered_at_s, NOW_S);
    scene.pass(DAY_S - 1);
    assert!(scene.client.cached(&contact(0)).is_some());
    scene.pass(1);
    assert!(scene.client.cached(&contact(0)).is_none());
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_keep_an_answer_for_good() {
    let scene = Scene::of(World::new(bits(4)), |_| {}).await;
    scene.client.lookup(&contact(0)).await.unwrap();
    scene.now_s.fetch_sub(120, Ordering::Relaxed);
    assert!(scene.client.cached(&contact(0)).is_some());
    scene.now_s.fetch_sub(1, Ordering::Relaxed);
    assert!(scene.client.cached(&contact(0)).is_none());
}

#[tokio::test]
async fn a_refresh_asks_within_the_period_and_starts_it_anew() {
    let mut world = World::new(bits(4));
    world.put_user(&contact(0), 0, "before", 1);
    let scene = Scene::of(world, |_| {}).await;
    scene.client.lookup_many(&contacts(0..2)).await.unwrap();
    scene.running.take_names();
    scene.running.world().put_user(&contact(0), 0, "after", 1);
    assert_eq!(users(&scene.client.lookup(&contact(0)).await.unwrap()), ["before"]);
    assert_eq!(scene.running.take_names(), NOTHING);
    scene.pass(DAY_S - 1);
    assert_eq!(users(&scene.client.refresh(&contact(0)).await.unwrap()), ["after"]);
    assert_eq!(scene.running.take_names(), FETCH);
    scene.pass(DAY_S - 1);
    let answer = scene.client.lookup(&contact(0)).await.unwrap();
    assert_eq!((users(&answer), answer.answered_at_s), (vec!["after"], NOW_S + DAY_S - 1));
    assert_eq!(scene.running.take_names(), NOTHING);
    // Many, too, and what is not cached with what is.
    let answers = scene.client.refresh_many(&contacts(0..4)).await.unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().answered_at_s == scene.now_s()));
    let names = scene.running.take_names();
    assert_eq!(names, ["Evaluate", "FetchBuckets", "GetParameters", "ListProviders"]);
}

#[tokio::test]
async fn a_passed_ttl_marks_an_answer_and_asks_nothing() {
    let mut world = World::new(bits(4));
    let short = Mapping { ttl_s: 60, ..mapping("wa.example", "short", 1) };
    world.put(&contact(0), 0, &signed(&contact(0), short));
    world.put_user(&contact(0), 1, "long", 2);
    let scene = Scene::of(world, |_| {}).await;
    assert!(!scene.client.lookup(&contact(0)).await.unwrap().stale);
    scene.client.lookup(&contact(1)).await.unwrap();
    scene.pass(60);
    assert!(!scene.client.lookup(&contact(0)).await.unwrap().stale);
    scene.running.take_names();
    scene.pass(1);
    let stale = scene.client.lookup(&contact(0)).await.unwrap();
    assert_eq!((users(&stale), stale.stale), (vec!["short", "long"], true));
    assert!(Arc::ptr_eq(&stale, &scene.client.cached(&contact(0)).unwrap().unwrap()));
    // A miss has no TTL.
    assert!(!scene.client.lookup(&contact(1)).await.unwrap().stale);
    assert_eq!(scene.running.take_names(), NOTHING);
    assert!(!scene.client.refresh(&contact(0)).await.unwrap().stale);
}

// What is kept.

#[tokio::test]
async fn the_cache_outlives_the_process_and_so_do_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let state = || Arc::new(FolderState::open(folder.path()).unwrap());
    let mut world = World::new(bits(4));
    for n in 0..30 {
        world.put_user(&contact(n), 0, &format!("user{n}"), 1);
        let business = Mapping {
            audience: blindbook::bucket::Audience::Business,
            ttl_s: 7,
            verified_until: 9,
            ..mapping("wa.example", "b", 2)
        };
        world.put_in(&contact(n), Some(&circle(1)), 0, &signed(&contact(n), business));
    }
    let unlisted = contact(40);
    world.put(&unlisted, 0, &signed(&unlisted, mapping("sg.example", "u", 1)));
    let in_circle = |options: &mut ClientOptions| options.circle = Some(circle(1));
    let scene = Scene::with(world, state(), in_circle).await;
    let asked = contacts(0..60);
    let before = scene.client.lookup_many(&asked).await.unwrap();
    let Scene { running, client, now_s, state: first } = scene;
    drop((client, first));
    running.take_names();

    let second: Arc<dyn State> = state();
    let client = connect(&running, &now_s, &second, in_circle).await.unwrap();
    let after = client.lookup_many(&asked).await.unwrap();
    assert_eq!(running.take_names(), NOTHING);
    for (before, after) in before.iter().zip(&after) {
        match (before, after) {
            (Ok(before), Ok(after)) => assert_eq!(before, after),
            (Err(before), Err(after)) => assert_eq!(before.to_string(), after.to_string()),
            _ => panic!("a refusal stays one"),
        }
    }
    assert!(matches!(after[40], Err(ClientError::ProviderUnknown { .. })));
    assert_eq!(users(after[29].as_ref().unwrap()), ["user29", "b"]);
    running.world().put_user(&contact(0), 0, "moved", 1);
    assert_eq!(users(&client.refresh(&contact(0)).await.unwrap()), ["moved", "b"]);
    assert_eq!(running.take_names(), FETCH);
}

#[tokio::test]
async fn a_batch_is_evaluated_whole_or_not_at_all_and_always_fetched_whole() {
    let scene = Scene::of(World::new(bits(4)), |_| {}).await;
    let sizes = |scene: &Scene| {
        let sizes = scene.running.calls().into_iter().map(|call| match call {
            Call::Evaluate(request) => ("elements", request.blinded_elements.len() / 32),
            Call::Fetch(request) => ("prefixes", request.prefixes.len()),
            _ => panic!("nothing else"),
        });
        let mut sizes: Vec<_> = sizes.collect();
        sizes.sort_unstable();
        scene.running.take_names();
        sizes
    };
    scene.client.lookup_many(&contacts(0..10)).await.unwrap();
    assert_eq!(sizes(&scene), [("elements", 32), ("prefixes", 16)]);
    scene.client.refresh_many(&contacts(0..10)).await.unwrap();
    assert_eq!(sizes(&scene), [("prefixes", 16)]);
    // Fewer are filled up with decoys, of which the last were never evaluated.
    scene.client.refresh_many(&contacts(0..5)).await.unwrap();
    assert_eq!(sizes(&scene), [("elements", 32), ("prefixes", 16)]);
    scene.client.refresh_many(&contacts(0..5)).await.unwrap();
    assert_eq!(sizes(&scene), [("prefixes", 16)]);
    // One more contact, and all are evaluated.
    scene.client.refresh_many(&contacts(0..11)).await.unwrap();
    assert_eq!(sizes(&scene), [("elements", 32), ("prefixes", 16)]);
    scene.client.refresh(&contact(10)).await.unwrap();
    assert_eq!(sizes(&scene), [("prefixes", 1)]);
}

#[tokio::test]
async fn outputs_serve_for_their_epoch_only() {
    let mut world = World::new(bits(4));
    world.put_user(&contact(0), 0, "old", 1);
    let scene = Scene::of(world, |_| {}).await;
    scene.client.lookup(&contact(0)).await.unwrap();
    scene.running.take_names();
    // The server moves on: it is asked once more, and now for outputs, too.
    scene.running.world().rotate();
    scene.running.world().put_user(&contact(0), 0, "new", 1);
    assert_eq!(users(&scene.client.refresh(&contact(0)).await.unwrap()), ["new"]);
    assert_eq!(
        scene.running.take_names(),
        ["Evaluate", "FetchBuckets", "FetchBuckets", "GetParameters"]
    );
    assert_eq!(users(&scene.client.refresh(&contact(0)).await.unwrap()), ["new"]);
    assert_eq!(scene.running.take_names(), FETCH);
}

#[tokio::test]
async fn during_a_rotation_outputs_of_both_epochs_are_kept() {
    let mut world = World::new(bits(4));
    let second = world.add_epoch(2);
    world.put_user(&contact(0), 0, "old", 1);
    let scene = Scene::of(world, |_| {}).await;
    assert_eq!(users(&scene.client.lookup(&contact(0)).await.unwrap()), ["old"]);
    scene.running.take_names();
    scene.running.world().move_bucket(&contact(0), second);
    scene.running.world().put_user(&contact(0), 0, "new", 1);
    assert_eq!(users(&scene.client.refresh(&contact(0)).await.unwrap()), ["new"]);
    assert_eq!(scene.running.take_names(), FETCH);
}

#[tokio::test]
async fn a_bucket_that_opens_with_kept_outputs_is_verified_like_any_other() {
    let scene = Scene::of(World::new(bits(4)), |_| {}).await;
    scene.client.lookup(&contact(0)).await.unwrap();
    scene.running.take_names();
    scene.running.lies().fetch = Box::new(|world, answer| {
        let mut buckets = answer?;
        let number = buckets[0].as_ref().unwrap().bucket.as_ref().unwrap().number.unwrap();
        let mut forged = bucket_to_proto(&world.bucket(number, |_, _| {}));
        forged.bucket.as_mut().unwrap().version += 1;
        buckets[0] = Ok(forged);
        Ok(buckets)
    });
    let refused = scene.client.refresh(&contact(0)).await;
    assert!(matches!(refused, Err(ClientError::BucketForged)));
    scene.running.lies().fetch = Box::new(|_, mut answer| {
        answer.as_mut().unwrap().clear();
        answer
    });
    let refused = scene.client.refresh(&contact(0)).await;
    assert!(matches!(refused, Err(ClientError::TooFewBuckets { .. })));
    scene.running.be_honest();
    let ninth = Epoch::new(9).unwrap();
    scene.running.world().move_bucket(&contact(0), ninth);
    let refused = scene.client.refresh(&contact(0)).await;
    assert!(matches!(refused, Err(ClientError::EpochUnknown { epoch }) if epoch == ninth));
    let names = scene.running.take_names();
    assert_eq!(names, ["FetchBuckets", "FetchBuckets", "FetchBuckets", "GetParameters"]);
    // And the last good answer is still there.
    assert!(scene.client.cached(&contact(0)).is_some());
}

#[tokio::test]
async fn a_batch_that_was_a_lie_is_not_kept() {
    let scene = Scene::of(World::new(bits(4)), |_| {}).await;
    scene.running.lies().fetch = Box::new(|_, mut answer| {
        answer.as_mut().unwrap().clear();
        answer
    });
    for _ in 0..2 {
        scene.client.lookup(&contact(0)).await.unwrap_err();
        assert_eq!(scene.running.take_names(), BOTH);
    }
    assert!(scene.client.cached(&contact(0)).is_none());
}

#[tokio::test]
async fn the_oldest_answers_go_first_whatever_they_are() {
    let mut world = World::new(bits(4));
    for n in [0, 2, 4] {
        world.put_user(&contact(n), 0, "hit", 1);
    }
    let scene = Scene::of(world, |options| options.cached_answers = 3).await;
    for n in 0..5 {
        scene.client.lookup(&contact(n)).await.unwrap();
        // To be asked for does not keep an answer.
        scene.client.lookup(&contact(0)).await.unwrap();
        scene.pass(1);
    }
    // 0 was asked again when it was gone: after 3 had come.
    let kept = |client: &Client| {
        (0..5).filter(|n| client.cached(&contact(*n)).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&scene.client), [0, 3, 4]);
    let again = scene.restart(|options| options.cached_answers = 3).await;
    assert_eq!(kept(&again), [0, 3, 4]);
    again.lookup(&contact(7)).await.unwrap();
    assert_eq!(kept(&again), [0, 4]);
    let none = scene.restart(|options| options.cached_answers = 0).await;
    none.lookup(&contact(0)).await.unwrap();
    assert!(kept(&none).is_empty());
}

#[tokio::test]
async fn a_decoy_is_asked_once_in_a_period_as_contacts_are() {
    let scene = Scene::of(World::new(bits(16)), |_| {}).await;
    let prefix = |n| Placement::of(&contact(n)).bucket(bits(16)).get();
    let decoys = |asked: Vec<Vec<u32>>, of: std::ops::Range<usize>| {
        let [mut prefixes] = <[_; 1]>::try_from(asked).unwrap();
        for n in of {
            prefixes.remove(prefixes.iter().position(|asked| *asked == prefix(n)).unwrap());
        }
        prefixes
    };
    scene.client.lookup_many(&contacts(0..10)).await.unwrap();
    let first = decoys(scene.take_prefixes(), 0..10);
    scene.client.lookup_many(&contacts(0..13)).await.unwrap();
    let other = decoys(scene.take_prefixes(), 10..13);
    assert_eq!((first.len(), other.len()), (6, 1));
    assert!(!first.contains(&other[0]));
    // In the next period as in the one before.
    scene.pass(DAY_S);
    scene.client.lookup_many(&contacts(0..10)).await.unwrap();
    assert_eq!(decoys(scene.take_prefixes(), 0..10), first);
    // Whoever asks contacts out of turn asks decoys out of turn.
    scene.client.refresh_many(&contacts(0..10)).await.unwrap();
    assert_eq!(decoys(scene.take_prefixes(), 0..10), first);
}

// Circles.

#[tokio::test]
async fn a_circles_mappings_are_found_by_its_members_alone_and_marked() {
    let alice = contact(0);
    let put = |world: &mut World| {
        world.put_user(&alice, 0, "open", 1);
        for (n, (user, since)) in [("friends", 5), ("more", 3)].into_iter().enumerate() {
            let mapping = signed(&alice, mapping("wa.example", user, since));
            world.put_in(&alice, Some(&circle(1)), u32::try_from(n).unwrap(), &mapping);
        }
        let hidden = signed(&contact(1), mapping("wa.example", "hidden", 1));
        world.put_in(&contact(1), Some(&circle(1)), 0, &hidden);
    };
    let mut shapes = Vec::new();
    for (holds, open, hidden) in [
        (Some(1), vec![("open", false, false), ("friends", true, true), ("more", true, false)], 1),
        (Some(2), vec![("open", false, true)], 0),
        (None, vec![("open", false, true)], 0),
    ] {
        let mut world = World::new(bits(4));
        put(&mut world);
        let scene = Scene::of(world, |options| options.circle = holds.map(circle)).await;
        let answer = scene.client.lookup(&alice).await.unwrap();
        let found = answer.mappings.iter();
        let found: Vec<_> = found.map(|f| (f.ssi.user().as_str(), f.circle, f.default)).collect();
        assert_eq!(found, open);
        assert_eq!(scene.client.lookup(&contact(1)).await.unwrap().mappings.len(), hidden);
        scene.client.lookup_many(&contacts(0..9)).await.unwrap();
        scene.client.refresh_many(&contacts(0..9)).await.unwrap();
        let shape = scene.running.calls().into_iter().map(|call| match call {
            Call::Evaluate(request) => ("Evaluate", request.blinded_elements.len()),
            Call::Fetch(request) => ("FetchBuckets", request.prefixes.len()),
            call => (call.name(), 0),
        });
        let mut shape: Vec<_> = shape.collect();
        shape.sort_unstable();
        shapes.push(shape);
    }
    assert_eq!(shapes[0], shapes[1]);
    assert_eq!(shapes[0], shapes[2]);
}

#[tokio::test]
async fn a_forged_mapping_of_a_circle_is_that_identifiers_error() {
    let mut world = World::new(bits(4));
    let forged = SignedMapping::sign(&contact(0), mapping("wa.example", "f", 1), &signing_key(51));
    world.put_in(&contact(0), Some(&circle(1)), 0, &forged);
    let scene = Scene::of(world, |options| options.circle = Some(circle(1))).await;
    let refused = scene.client.lookup(&contact(0)).await;
    assert!(matches!(refused, Err(ClientError::MappingForged { .. })));
}

#[tokio::test]
async fn answers_of_another_circle_are_not_answers() {
    let mut world = World::new(bits(4));
    let hidden = signed(&contact(0), mapping("wa.example", "hidden", 1));
    world.put_in(&contact(0), Some(&circle(1)), 0, &hidden);
    let scene = Scene::of(world, |_| {}).await;
    assert!(scene.client.lookup(&contact(0)).await.unwrap().mappings.is_empty());
    scene.running.take_names();
    for (holds, found) in [(Some(1), 1), (Some(2), 0), (None, 0)] {
        let again = scene.restart(|options| options.circle = holds.map(circle)).await;
        assert!(again.cached(&contact(0)).is_none());
        let answer = again.lookup(&contact(0)).await.unwrap();
        assert_eq!(answer.mappings.len(), found);
        assert_eq!(scene.running.take_names(), BOTH);
    }
}

// Transcripts.

/// What a server sees of a call, and when.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    at_s: u64,
    name: &'static str,
    elements: usize,
    prefixes: Vec<u32>,
    epoch: u32,
}

fn seen(scene: &Scene, transcript: &mut Vec<Seen>) {
    let mut calls: Vec<_> = scene
        .running
        .calls()
        .into_iter()
        .map(|call| {
            let (at_s, name) = (scene.now_s(), call.name());
            let (elements, prefixes, epoch) = match call {
                Call::Evaluate(request) => (request.blinded_elements.len(), vec![], request.epoch),
                Call::Fetch(request) => (0, sorted(request.prefixes), request.epoch),
                _ => (0, vec![], 0),
            };
            Seen { at_s, name, elements, prefixes, epoch }
        })
        .collect();
    calls.sort();
    transcript.extend(calls);
    scene.running.take_names();
}

/// What was found over the days, to know that something was.
#[derive(Default, Debug, PartialEq, Eq)]
struct Tally {
    hits: usize,
    misses: usize,
    circle: usize,
    refused: usize,
    stale: usize,
    damaged: usize,
}

impl Tally {
    fn count(&mut self, answers: &[Result<Arc<Answer>, ClientError>]) {
        for answer in answers {
            match answer {
                Ok(answer) => {
                    *(if answer.mappings.is_empty() {
                        &mut self.misses
                    } else {
                        &mut self.hits
                    }) += 1;
                    self.circle += answer.mappings.iter().filter(|found| found.circle).count();
                    self.stale += usize::from(answer.stale);
                    self.damaged += answer.damaged;
                }
                Err(_) => self.refused += 1,
            }
        }
    }
}

/// Six days of one client. A directory that `lives` has people in it, whose
/// mappings come and go, with TTLs, circles, damage and forgeries; the other
/// one is empty and never changes.
async fn days(lives: bool, holds: Option<Circle>, decoys: &[u8]) -> (Vec<Seen>, Tally) {
    let mut world = World::new(bits(8));
    let directory = world.directory();
    if lives {
        for n in 0..12 {
            let ttl_s = [30, 3600, 200_000][n % 3];
            let mapping = Mapping { ttl_s, ..mapping("wa.example", &format!("u{n}"), 1) };
            world.put(&contact(n), 0, &signed(&contact(n), mapping));
        }
        for n in 10..15 {
            let mapping = signed(&contact(n), mapping("wa.example", "friend", 2));
            world.put_in(&contact(n), Some(&circle(1)), 0, &mapping);
        }
        let unlisted = signed(&contact(16), mapping("sg.example", "x", 1));
        world.put(&contact(16), 0, &unlisted);
    }
    world.parameters.not_after_s = NOW_S + 30 * DAY_S;
    let state = Arc::new(MemoryState::new());
    state.store(&directory, Part::Decoys, decoys).unwrap();
    let scene = Scene::with(world, state, |options| options.circle = holds).await;
    let follower = scene.client.follow();
    let link = follower.link();
    let following = tokio::spawn(follower.run());
    until(|| link.borrow().is_connected()).await;
    let (mut transcript, mut tally) = (Vec::new(), Tally::default());
    let mut book = 20;
    for day in 0..6 {
        for hour in 0..24 {
            let siis = match hour {
                // Contacts come to the book in the evening.
                20 => {
                    book += 2;
                    contacts(book - 2..book)
                }
                8 | 9 | 21 => contacts(0..book),
                12 => vec![contact(3), contact(11), contact(19)],
                _ => Vec::new(),
            };
            tally.count(&scene.client.lookup_many(&siis).await.unwrap());
            seen(&scene, &mut transcript);
            if (day, hour) == (2, 15) {
                tally.count(&scene.client.refresh_many(&contacts(4..9)).await.unwrap());
                seen(&scene, &mut transcript);
            }
            if (day, hour) == (3, 3) {
                scene.running.world().add_epoch(2);
                scene.running.world().parameters.serial += 1;
            }
            if lives && hour % 5 == 0 {
                let n = (7 * day + hour) % 20;
                scene.running.world().touch(&contact(n));
                scene.running.world().put_user(&contact(n), 0, &format!("d{day}"), 1);
                if hour == 15 {
                    scene.running.world().damage(&contact(5));
                }
                let cached = || scene.client.cached(&contact(n));
                until(|| !matches!(cached(), Some(Ok(answer)) if !answer.stale)).await;
            }
            scene.pass(3600);
        }
    }
    following.abort();
    (transcript, tally)
}

#[tokio::test(flavor = "multi_thread")]
async fn over_days_a_living_directory_is_asked_exactly_as_an_empty_one() {
    // The same decoys for all, so that prefixes can be compared.
    let maker = Scene::of(World::new(bits(8)), |_| {}).await;
    let directory = maker.running.world().directory();
    let decoys = maker.state.load(&directory, Part::Decoys).unwrap().unwrap();
    let (control, nobody) = days(false, None, &decoys).await;
    assert_eq!(nobody, Tally { misses: nobody.misses, ..Tally::default() });
    assert!(control.iter().any(|seen| seen.name == "Evaluate"));
    assert!(control.len() > 20, "{}", control.len());
    for holds in [None, Some(circle(1)), Some(circle(2))] {
        let (lived, tally) = days(true, holds.clone(), &decoys).await;
        assert!(lived == control, "{lived:#?}\n{control:#?}");
        assert!(tally.hits > 50 && tally.misses > 20, "{tally:?}");
        assert!(tally.refused > 5 && tally.stale > 20 && tally.damaged > 0, "{tally:?}");
        assert_eq!(tally.circle > 0, holds == Some(circle(1)), "{tally:?}");
    }
}
