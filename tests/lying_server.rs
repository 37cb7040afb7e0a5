//! A server that lies, one lie per test. The client refuses each with an error
//! of its own, and no answer makes it ask anything more, but for the one retry
//! of a changed epoch.

#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "lengths are known where they are made")]

#[allow(dead_code, reason = "shared by tests, none of which needs all")]
mod fake_directory;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use blindbook::{
    bucket::SignedMapping,
    client::{
        Answer, Client, ClientError, ClientOptions, Clock, Distrust, Fault, MemoryState, Unverified,
    },
    epoch::Epoch,
    oprf::{OprfError, ServerKey},
    secret::Secret,
    wire::{self, KeySuccession, bucket_to_proto, proto},
};
use fake_directory::{Buckets, NOW_S, Running, World, bits, mapping, provider, signing_key, sii};
use tonic::Status;

const ALICE: &str = "tel:+14155550100";
const NOBODY: &str = "tel:+14155550199";

/// What a lookup makes, and what the one epoch retry makes of it.
const ONCE: [&str; 2] = ["Evaluate", "FetchBuckets"];
const REFRESHED: [&str; 3] = ["Evaluate", "FetchBuckets", "GetParameters"];
const TWICE: [&str; 5] = ["Evaluate", "Evaluate", "FetchBuckets", "FetchBuckets", "GetParameters"];
const SCHEDULED: [&str; 2] = ["GetParameters", "ListProviders"];

struct Scene {
    running: Running,
    client: Client,
    state: Arc<MemoryState>,
    now_s: Arc<AtomicU64>,
}

impl Scene {
    /// A client that has seen the honest directory, alice in it.
    async fn set() -> Self {
        Self::of(World::new(bits(4)), |_| {}).await
    }

    async fn of(mut world: World, adjust: impl FnOnce(&mut ClientOptions)) -> Self {
        world.put_user(&sii(ALICE), 0, "alice", 1);
        let running = Running::start(world).await;
        let state = Arc::new(MemoryState::new());
        let now_s = Arc::new(AtomicU64::new(NOW_S));
        let mut options = options(&running, &now_s);
        adjust(&mut options);
        let client = Client::connect(options, state.clone()).await.unwrap();
        assert_eq!(running.take_names(), SCHEDULED);
        Self { running, client, state, now_s }
    }

    /// The same client after a restart.
    async fn restart(&self) -> Result<Client, ClientError> {
        Client::connect(options(&self.running, &self.now_s), self.state.clone()).await
    }

    fn pass(&self, seconds: u64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn look(&self, who: &str) -> Result<Arc<Answer>, ClientError> {
        self.client.lookup(&sii(who)).await
    }

    /// Looks up a hit and a miss; both end in an error of the server's making,
    /// after exactly these calls each.
    async fn refuses(&self, calls: &[&str], is_right: impl Fn(&ClientError) -> bool) {
        for who in [ALICE, NOBODY] {
            let error = self.look(who).await.unwrap_err();
            assert!(is_right(&error), "{error}");
            assert_eq!(error.fault(), Fault::Server, "{error}");
            assert_eq!(self.running.take_names(), calls, "{error}");
        }
    }

    fn lie_about_evaluation(
        &self,
        mut lie: impl FnMut(&World, &mut proto::Evaluation) + Send + 'static,
    ) {
        self.running.lies().evaluate = Box::new(move |world, answer| {
            let mut answer = answer?;
            lie(world, &mut answer.evaluations[0]);
            Ok(answer)
        });
    }

    fn lie_about_buckets(&self, mut lie: impl FnMut(&World, &mut Buckets) + Send + 'static) {
        self.running.lies().fetch = Box::new(move |world, answer| {
            let mut answer = answer?;
            lie(world, &mut answer);
            Ok(answer)
        });
    }
}

fn options(running: &Running, now_s: &Arc<AtomicU64>) -> ClientOptions {
    let mut options = ClientOptions::new(running.address(), running.identity());
    let now_s = Arc::clone(now_s);
    options.clock = Clock::new(move || now_s.load(Ordering::Relaxed));
    // Nothing is kept: each lookup makes both calls.
    options.cached_answers = 0;
    options
}

fn first(buckets: &mut Buckets) -> &mut proto::Bucket {
    buckets[0].as_mut().unwrap().bucket.as_mut().unwrap()
}

fn flip(bytes: &bytes::Bytes, offset: usize) -> bytes::Bytes {
    let mut bytes = bytes.to_vec();
    bytes[offset] ^= 1;
    bytes.into()
}

fn users(answer: &Answer) -> Vec<&str> {
    answer.mappings.iter().map(|found| found.ssi.user().as_str()).collect()
}

#[tokio::test]
async fn the_honest_server_is_believed() {
    let scene = Scene::set().await;
    assert_eq!(users(&scene.look(ALICE).await.unwrap()), ["alice"]);
    assert_eq!(scene.running.take_names(), ONCE);
    assert!(scene.look(NOBODY).await.unwrap().mappings.is_empty());
    assert_eq!(scene.running.take_names(), ONCE);
}

// Evaluation.

#[tokio::test]
async fn an_evaluation_with_another_key_is_refused() {
    let scene = Scene::set().await;
    let stranger = ServerKey::derive(&Secret::new([99; 32]), b"stranger").unwrap();
    scene.running.world().epochs.insert(Epoch::FIRST, stranger);
    scene.refuses(&ONCE, |error| matches!(error, ClientError::ProofInvalid { .. })).await;
}

#[tokio::test]
async fn a_proof_that_does_not_hold_is_refused() {
    let scene = Scene::set().await;
    scene.lie_about_evaluation(|_, evaluation| evaluation.proof = flip(&evaluation.proof, 0));
    scene.refuses(&ONCE, |error| matches!(error, ClientError::ProofInvalid { .. })).await;
    // Right elements in a wrong order.
    scene.lie_about_evaluation(|_, evaluation| {
        let (one, other) = evaluation.evaluated_elements.split_at(32);
        evaluation.evaluated_elements = [other, one].concat().into();
    });
    scene.refuses(&ONCE, |error| matches!(error, ClientError::ProofInvalid { .. })).await;
}

#[tokio::test]
async fn a_proof_or_element_that_is_none_is_refused() {
    let scene = Scene::set().await;
    scene.lie_about_evaluation(|_, evaluation| evaluation.proof = vec![0xff; 64].into());
    let malformed_proof = |error: &ClientError| {
        matches!(error, ClientError::EvaluationInvalid { fault: OprfError::MalformedProof, .. })
    };
    scene.refuses(&ONCE, malformed_proof).await;
    scene.lie_about_evaluation(|_, evaluation| {
        evaluation.evaluated_elements = vec![0; 64].into();
    });
    let identity = |error: &ClientError| {
        let fault = OprfError::IdentityElement { index: 0 };
        matches!(error, ClientError::EvaluationInvalid { fault: found, .. } if *found == fault)
    };
    scene.refuses(&ONCE, identity).await;
}

#[tokio::test]
async fn another_number_of_elements_is_refused() {
    let scene = Scene::set().await;
    for elements in [0, 1, 3] {
        scene.lie_about_evaluation(move |_, evaluation| {
            let three = [&evaluation.evaluated_elements[..], &[9; 32]].concat();
            evaluation.evaluated_elements = three[..32 * elements].to_vec().into();
        });
        scene.refuses(&ONCE, |error| matches!(error, ClientError::ElementCount)).await;
    }
}

#[tokio::test]
async fn an_evaluation_of_another_shape_is_refused() {
    let scene = Scene::set().await;
    scene.running.lies().evaluate =
        Box::new(|_, _| Ok(proto::EvaluateResponse { evaluations: Vec::new() }));
    scene.refuses(&ONCE, |error| matches!(error, ClientError::EvaluationMalformed(_))).await;
    scene.lie_about_evaluation(|_, evaluation| evaluation.proof = vec![0; 65].into());
    scene.refuses(&ONCE, |error| matches!(error, ClientError::EvaluationMalformed(_))).await;
}

// Epochs.

#[tokio::test]
async fn an_epoch_that_no_parameters_name_costs_one_refresh_and_is_refused() {
    let scene = Scene::set().await;
    let ninth = Epoch::new(9).unwrap();
    let unknown = |error: &ClientError| matches!(error, ClientError::EpochUnknown { epoch } if *epoch == ninth);
    scene.lie_about_evaluation(|_, evaluation| evaluation.epoch = 9);
    scene.refuses(&REFRESHED, unknown).await;
    scene.running.be_honest();
    for who in [ALICE, NOBODY] {
        scene.running.world().move_bucket(&sii(who), ninth);
    }
    scene.refuses(&REFRESHED, unknown).await;
}

#[tokio::test]
async fn a_bucket_of_an_epoch_that_was_not_evaluated_is_refused() {
    let mut world = World::new(bits(4));
    let second = world.add_epoch(2);
    let scene = Scene::of(world, |_| {}).await;
    scene.running.lies().evaluate = Box::new(move |_, answer| {
        let mut answer = answer?;
        answer.evaluations.retain(|evaluation| evaluation.epoch == second.get());
        Ok(answer)
    });
    scene.refuses(&ONCE, |error| matches!(error, ClientError::EpochNotEvaluated { .. })).await;
}

#[tokio::test]
async fn a_server_that_moved_to_another_epoch_is_asked_once_more() {
    let scene = Scene::set().await;
    scene.running.world().rotate();
    let answer = scene.look(NOBODY).await.unwrap();
    assert!(answer.mappings.is_empty());
    let calls = scene.running.calls();
    assert_eq!(scene.running.take_names(), TWICE);
    // The elements are the same, the epoch is the new one.
    let asked = calls.iter().filter_map(|call| match call {
        fake_directory::Call::Evaluate(request) => Some(request),
        _ => None,
    });
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked[0].blinded_elements, asked[1].blinded_elements);
    assert_eq!((asked[0].epoch, asked[1].epoch), (1, 2));
    // From now on the new one is known.
    assert!(scene.look(ALICE).await.unwrap().mappings.is_empty());
    assert_eq!(scene.running.take_names(), ONCE);
}

#[tokio::test]
async fn a_server_that_keeps_moving_is_asked_once_more_and_never_again() {
    let scene = Scene::set().await;
    // Each fetch of the parameters names a later serial, and none is good.
    let mut serial = 100;
    scene.running.lies().parameters = Box::new(move |world, _| {
        serial += 1;
        let parameters = wire::Parameters { serial, ..world.parameters.clone() };
        Ok(parameters.sign(&world.identity))
    });
    scene.running.lies().evaluate = Box::new(|_, _| Err(Status::failed_precondition("epoch")));
    scene.refuses(&TWICE, |error| matches!(error, ClientError::ParametersContradicted)).await;
    // The same when only the buckets are refused.
    scene.running.lies().evaluate = Box::new(|_, answer| answer);
    scene.running.lies().fetch = Box::new(|_, _| Err(Status::failed_precondition("prefix_bits")));
    scene.refuses(&TWICE, |error| matches!(error, ClientError::ParametersContradicted)).await;
}

#[tokio::test]
async fn a_refusal_without_newer_parameters_is_not_repeated() {
    let scene = Scene::set().await;
    scene.running.lies().evaluate = Box::new(|_, _| Err(Status::failed_precondition("epoch")));
    scene.refuses(&REFRESHED, |error| matches!(error, ClientError::ParametersContradicted)).await;
}

// Buckets.

#[tokio::test]
async fn a_swapped_bucket_is_refused() {
    let scene = Scene::set().await;
    scene.lie_about_buckets(|world, buckets| {
        let other = (first(buckets).number.unwrap() + 1) % 16;
        buckets[0] = Ok(bucket_to_proto(&world.bucket(other, |_, _| {})));
    });
    scene.refuses(&ONCE, |error| matches!(error, ClientError::BucketSwapped)).await;
}

#[tokio::test]
async fn an_altered_bucket_is_refused_in_every_part() {
    let scene = Scene::set().await;
    let alterations: [fn(&mut proto::Bucket); 4] = [
        |bucket| bucket.entries = flip(&bucket.entries, 49_151),
        |bucket| bucket.signature = flip(&bucket.signature, 63),
        |bucket| bucket.version += 1,
        |bucket| bucket.epoch += 1,
    ];
    for alter in alterations {
        scene.lie_about_buckets(move |_, buckets| alter(first(buckets)));
        scene.refuses(&ONCE, |error| matches!(error, ClientError::BucketForged)).await;
    }
}

#[tokio::test]
async fn a_bucket_of_another_shape_is_refused() {
    let scene = Scene::set().await;
    let alterations: [fn(&mut proto::Bucket); 3] = [
        |bucket| bucket.entries = bucket.entries.slice(..49_151),
        |bucket| bucket.number = None,
        |bucket| bucket.number = Some(16),
    ];
    for alter in alterations {
        scene.lie_about_buckets(move |_, buckets| alter(first(buckets)));
        scene.refuses(&ONCE, |error| matches!(error, ClientError::BucketMalformed(_))).await;
    }
}

#[tokio::test]
async fn a_bucket_older_than_one_seen_is_refused_after_a_restart_too() {
    let scene = Scene::set().await;
    scene.running.world().put_user(&sii(NOBODY), 1, "somebody", 1);
    for who in [ALICE, NOBODY] {
        scene.look(who).await.unwrap();
    }
    scene.running.take_names();
    scene.lie_about_buckets(|world, buckets| {
        let older = world.bucket(first(buckets).number.unwrap(), |version, _| *version -= 1);
        buckets[0] = Ok(bucket_to_proto(&older));
    });
    let rolled_back = |error: &ClientError| matches!(error, ClientError::BucketRolledBack);
    scene.refuses(&ONCE, rolled_back).await;
    let again = scene.restart().await.unwrap();
    assert!(rolled_back(&again.lookup(&sii(ALICE)).await.unwrap_err()));
}

#[tokio::test]
async fn two_contents_of_one_version_are_refused() {
    let scene = Scene::set().await;
    for who in [ALICE, NOBODY] {
        scene.look(who).await.unwrap();
    }
    scene.running.take_names();
    scene.lie_about_buckets(|world, buckets| {
        let number = first(buckets).number.unwrap();
        buckets[0] = Ok(bucket_to_proto(&world.bucket(number, |_, entries| entries[5] ^= 1)));
    });
    scene.refuses(&ONCE, |error| matches!(error, ClientError::BucketEquivocated)).await;
}

#[tokio::test]
async fn too_few_and_too_many_buckets_are_refused() {
    let scene = Scene::set().await;
    scene.lie_about_buckets(|_, buckets| buckets.clear());
    let too_few =
        |error: &ClientError| matches!(error, ClientError::TooFewBuckets { expected: 1, got: 0 });
    scene.refuses(&ONCE, too_few).await;
    scene.lie_about_buckets(|_, buckets| buckets.push(buckets[0].clone()));
    let too_many = |error: &ClientError| matches!(error, ClientError::TooManyBuckets { .. });
    scene.refuses(&ONCE, too_many).await;
}

// Prefix bits.

#[tokio::test]
async fn a_server_that_wants_more_bits_than_pinned_gets_none_of_them() {
    let scene = Scene::of(World::new(bits(6)), |options| options.max_prefix_bits = bits(4)).await;
    scene.running.lies().fetch = Box::new(|_, _| Err(Status::failed_precondition("prefix_bits")));
    let demanded = |error: &ClientError| {
        let (pinned, wanted) = (bits(4), bits(6));
        matches!(error, ClientError::MorePrefixBitsDemanded { pinned: p, wanted: w }
            if (*p, *w) == (pinned, wanted))
    };
    scene.refuses(&REFRESHED, demanded).await;
}

#[tokio::test]
async fn a_server_that_raises_its_bits_meanwhile_still_gets_the_pinned_ones() {
    let scene = Scene::of(World::new(bits(3)), |options| options.max_prefix_bits = bits(4)).await;
    let mut deeper = World::new(bits(6));
    deeper.parameters.serial = 11;
    *scene.running.world() = deeper;
    scene.look(ALICE).await.unwrap();
    let sent = scene.running.calls().into_iter().filter_map(|call| match call {
        fake_directory::Call::Fetch(request) => Some(request),
        _ => None,
    });
    let sent: Vec<_> = sent.map(|sent| (sent.directory_prefix_bits, sent.prefix_bits)).collect();
    assert_eq!(sent, [(3, 3), (6, 4)]);
    assert_eq!(scene.running.take_names(), TWICE);
}

#[tokio::test]
async fn one_bucket_for_a_short_prefix_is_too_few() {
    let scene = Scene::of(World::new(bits(6)), |options| options.max_prefix_bits = bits(4)).await;
    scene.lie_about_buckets(|_, buckets| buckets.truncate(1));
    let too_few =
        |error: &ClientError| matches!(error, ClientError::TooFewBuckets { expected: 4, got: 1 });
    scene.refuses(&ONCE, too_few).await;
}

// Parameters and provider list.

/// What a client that meets the server for the first time says to parameters.
async fn first_meeting(alter: impl FnOnce(&mut World)) -> Result<Client, ClientError> {
    let mut world = World::new(bits(4));
    let identity = world.identity.verifying_key();
    alter(&mut world);
    let running = Running::start(world).await;
    let now_s = Arc::new(AtomicU64::new(NOW_S));
    let options = ClientOptions { identity, ..options(&running, &now_s) };
    let met = Client::connect(options, Arc::new(MemoryState::new())).await;
    assert_eq!(running.take_names(), SCHEDULED);
    met
}

#[tokio::test]
async fn parameters_of_another_identity_are_forged() {
    let forged = first_meeting(|world| world.identity = signing_key(8)).await;
    assert!(matches!(forged, Err(ClientError::ParametersForged)));
}

#[tokio::test]
async fn altered_parameters_and_provider_lists_are_forged() {
    let scene = Scene::set().await;
    scene.pass(86_400);
    scene.running.lies().parameters = Box::new(|_, answer| {
        let signed = answer?;
        Ok(wire::SignedBody { body: flip(&signed.body, 20), ..signed })
    });
    scene.refuses(&SCHEDULED, |error| matches!(error, ClientError::ParametersForged)).await;
    scene.running.be_honest();
    scene.running.lies().providers = Box::new(|_, answer| {
        let signed = answer?;
        Ok(wire::SignedBody { body: flip(&signed.body, 20), ..signed })
    });
    scene.refuses(&SCHEDULED, |error| matches!(error, ClientError::ProvidersForged)).await;
}

#[tokio::test]
async fn a_signature_over_one_kind_is_none_over_the_other() {
    let scene = Scene::set().await;
    scene.pass(86_400);
    scene.running.lies().providers =
        Box::new(|world, _| Ok(world.parameters.sign(&world.identity)));
    scene.refuses(&SCHEDULED, |error| matches!(error, ClientError::ProvidersForged)).await;
}

#[tokio::test]
async fn expired_parameters_are_refused_beyond_a_small_skew() {
    assert!(first_meeting(|world| world.parameters.not_after_s = NOW_S - 119).await.is_ok());
    let expired = first_meeting(|world| world.parameters.not_after_s = NOW_S - 120).await;
    assert!(matches!(expired, Err(ClientError::ParametersExpired { by_s: 120 })));
}

#[tokio::test]
async fn parameters_of_the_future_are_refused_beyond_a_small_skew() {
    assert!(first_meeting(|world| world.parameters.not_before_s = NOW_S + 120).await.is_ok());
    let early = first_meeting(|world| world.parameters.not_before_s = NOW_S + 121).await;
    assert!(matches!(early, Err(ClientError::ParametersNotYetValid { in_s: 121 })));
}

#[tokio::test]
async fn parameters_that_expire_between_fetches_are_not_used() {
    let mut world = World::new(bits(4));
    world.parameters.refresh_period_s = u32::MAX;
    let scene = Scene::of(world, |_| {}).await;
    scene.pass(8 * 86_400);
    let expired = |error: &ClientError| matches!(error, ClientError::ParametersExpired { .. });
    scene.refuses(&SCHEDULED, expired).await;
}

#[tokio::test]
async fn a_lower_serial_is_refused_after_a_restart_too() {
    let scene = Scene::set().await;
    scene.pass(86_400);
    scene.running.world().parameters.serial -= 1;
    let older = |error: &ClientError| {
        matches!(error, ClientError::ParametersRolledBack { seen: 10, offered: 9 })
    };
    scene.refuses(&SCHEDULED, older).await;
    assert!(older(&scene.restart().await.unwrap_err()));
    scene.running.take_names();

    scene.running.world().parameters.serial += 1;
    scene.running.world().list.serial -= 1;
    let older = |error: &ClientError| {
        matches!(error, ClientError::ProvidersRolledBack { seen: 20, offered: 19 })
    };
    scene.refuses(&SCHEDULED, older).await;
    assert!(older(&scene.restart().await.unwrap_err()));
}

#[tokio::test]
async fn two_sets_of_one_serial_are_refused() {
    let scene = Scene::set().await;
    scene.pass(86_400);
    scene.running.world().parameters.not_after_s += 1;
    let differs =
        |error: &ClientError| matches!(error, ClientError::ParametersEquivocated { serial: 10 });
    scene.refuses(&SCHEDULED, differs).await;
    scene.running.world().parameters.not_after_s -= 1;
    scene.running.world().list.providers.clear();
    let differs =
        |error: &ClientError| matches!(error, ClientError::ProvidersEquivocated { serial: 20 });
    scene.refuses(&SCHEDULED, differs).await;
}

#[tokio::test]
async fn well_signed_parameters_of_another_kind_are_incompatible() {
    let refused = first_meeting(|world| {
        world.parameters.regions = vec!["Germany".into()];
    });
    let error = refused.await.unwrap_err();
    assert!(matches!(error, ClientError::ParametersMalformed(_)));
    assert_eq!(error.fault(), Fault::Incompatible);
}

// Mappings.

/// Bob's mapping is `signed`; alice, asked for beside him, is found all the
/// same.
async fn bob_is_refused(scene: &Scene, is_right: impl Fn(&ClientError) -> bool) {
    scene.running.take_names();
    let asked = [sii(ALICE), sii("tel:+14155550101")];
    let answers = scene.client.lookup_many(&asked).await.unwrap();
    assert_eq!(users(answers[0].as_ref().unwrap()), ["alice"]);
    let error = answers[1].as_ref().unwrap_err();
    assert!(is_right(error), "{error}");
    assert_eq!(error.fault(), Fault::Server);
    assert!(!format!("{error} {error:?}").contains("4155550101"));
    assert_eq!(scene.running.take_names(), ONCE);
}

#[tokio::test]
async fn a_mapping_with_a_wrong_signature_is_that_identifiers_error() {
    let bob = sii("tel:+14155550101");
    // Signed by another key, and over another identifier by the right one.
    for signed in [
        SignedMapping::sign(&bob, mapping("wa.example", "bob", 1), &signing_key(51)),
        SignedMapping::sign(&sii(ALICE), mapping("wa.example", "bob", 1), &signing_key(50)),
    ] {
        let mut world = World::new(bits(4));
        world.put(&bob, 0, &signed);
        let scene = Scene::of(world, |_| {}).await;
        bob_is_refused(&scene, |error| {
            matches!(error, ClientError::MappingForged { provider, .. }
                if provider.as_str() == "wa.example")
        })
        .await;
    }
}

#[tokio::test]
async fn a_mapping_of_an_unlisted_provider_is_that_identifiers_error() {
    let bob = sii("tel:+14155550101");
    let signed = SignedMapping::sign(&bob, mapping("sg.example", "bob", 1), &signing_key(51));
    let mut world = World::new(bits(4));
    world.put(&bob, 0, &signed);
    let scene = Scene::of(world, |_| {}).await;
    bob_is_refused(&scene, |error| {
        matches!(error, ClientError::ProviderUnknown { provider }
            if provider.as_str() == "sg.example")
    })
    .await;
}

#[tokio::test]
async fn a_mapping_that_is_not_to_be_believed_hides_no_other_and_is_told() {
    let bob = sii("tel:+14155550101");
    let good = SignedMapping::sign(&bob, mapping("wa.example", "bob", 1), &signing_key(50));
    let others = [
        (mapping("wa.example", "mallory", 9), signing_key(51), Distrust::Forged),
        (mapping("sg.example", "bob", 9), signing_key(51), Distrust::ProviderUnknown),
    ];
    for (other, key, distrust) in others {
        let provider = other.ssi.provider().clone();
        let mut world = World::new(bits(4));
        world.put(&bob, 0, &SignedMapping::sign(&bob, other, &key));
        world.put(&bob, 1, &good);
        let scene = Scene::of(world, |_| {}).await;
        scene.running.take_names();
        let answer = scene.client.lookup(&bob).await.unwrap();
        assert_eq!(users(&answer), ["bob"]);
        // What is not believed is not preferred either.
        assert!(answer.default().is_some_and(|found| found.ssi.user().as_str() == "bob"));
        assert_eq!(answer.unverified, [Unverified { provider, distrust }]);
        assert_eq!(scene.running.take_names(), ONCE);
    }
}

/// A directory in which sg.example, of key 60, has bob as a user.
fn with_second_provider() -> World {
    let mut world = World::new(bits(4));
    world.list.providers.insert(
        0,
        wire::Provider {
            name: provider("sg.example"),
            key: signing_key(60).verifying_key(),
            successions: Vec::new(),
        },
    );
    let bob = sii("tel:+14155550101");
    let signed = SignedMapping::sign(&bob, mapping("sg.example", "bob", 1), &signing_key(60));
    world.put(&bob, 0, &signed);
    world
}

#[tokio::test]
async fn a_provider_key_that_changes_without_succession_is_refused_and_stays_refused() {
    let scene = Scene::of(with_second_provider(), |_| {}).await;
    scene.running.world().list.providers[0].key = signing_key(61).verifying_key();
    scene.running.world().list.serial += 1;
    scene.pass(86_400);
    scene.client.parameters().await.unwrap();
    let changed = |error: &ClientError| {
        matches!(error, ClientError::ProviderKeyChanged { provider }
            if provider.as_str() == "sg.example")
    };
    bob_is_refused(&scene, changed).await;
    let again = scene.restart().await.unwrap();
    let bob = again.lookup(&sii("tel:+14155550101")).await;
    assert!(changed(&bob.unwrap_err()));
}

#[tokio::test]
async fn a_provider_key_that_the_old_one_vouches_for_is_taken() {
    let scene = Scene::of(with_second_provider(), |_| {}).await;
    let bob = sii("tel:+14155550101");
    {
        let mut world = scene.running.world();
        let (old, new) = (signing_key(60), signing_key(61));
        let listed = &mut world.list.providers[0];
        listed.key = new.verifying_key();
        let step = KeySuccession::sign(&listed.name, &old, &listed.key);
        listed.successions = vec![step];
        world.list.serial += 1;
        let signed = SignedMapping::sign(&bob, mapping("sg.example", "bob", 1), &new);
        world.put(&bob, 0, &signed);
    }
    scene.pass(86_400);
    assert_eq!(users(&scene.client.lookup(&bob).await.unwrap()), ["bob"]);
    // The list may forget the old key: the new one is pinned now.
    scene.running.world().list.providers[0].successions.clear();
    scene.running.world().list.serial += 1;
    scene.pass(86_400);
    assert_eq!(users(&scene.client.lookup(&bob).await.unwrap()), ["bob"]);
}

#[tokio::test]
async fn a_given_provider_key_is_held_against_the_first_list_already() {
    let scene = Scene::of(with_second_provider(), |options| {
        let given = signing_key(66).verifying_key();
        options.provider_keys = vec![(provider("sg.example"), given)];
    })
    .await;
    bob_is_refused(&scene, |error| matches!(error, ClientError::ProviderKeyChanged { .. })).await;
}

#[tokio::test]
async fn a_damaged_entry_is_counted_and_causes_nothing() {
    let mut world = World::new(bits(4));
    let carol = sii("tel:+14155550102");
    world.put_user(&carol, 0, "carol", 1);
    world.damage(&carol);
    world.put_user(&carol, 1, "carol.work", 2);
    let scene = Scene::of(world, |_| {}).await;
    let answer = scene.client.lookup(&carol).await.unwrap();
    assert_eq!((users(&answer), answer.damaged), (vec!["carol.work"], 1));
    assert_eq!(scene.running.take_names(), ONCE);
    assert_eq!(scene.look(NOBODY).await.unwrap().damaged, 0);
    assert_eq!(scene.running.take_names(), ONCE);
}

#[tokio::test]
async fn a_lie_in_the_first_batch_does_not_change_what_the_others_ask() {
    let scene = Scene::set().await;
    let mut first_batch = true;
    scene.lie_about_buckets(move |_, buckets| {
        if std::mem::take(&mut first_batch) {
            first(buckets).signature = vec![0; 64].into();
        }
    });
    let asked: Vec<_> = (0..300).map(|n| sii(&format!("acct:user{n}@wa.example"))).collect();
    let error = scene.client.lookup_many(&asked).await.unwrap_err();
    assert!(matches!(error, ClientError::BucketForged));
    assert_eq!(scene.running.take_names(), TWICE[..4]);
}

// Statuses.

#[tokio::test]
async fn a_failing_server_is_not_asked_again_and_its_words_are_not_repeated() {
    let scene = Scene::set().await;
    for status in [
        Status::internal("canary-text"),
        Status::resource_exhausted("canary-text"),
        Status::invalid_argument("canary-text"),
        Status::permission_denied("canary-text"),
        Status::unknown("canary-text"),
        Status::cancelled("canary-text"),
    ] {
        scene.running.lies().fetch = Box::new({
            let status = status.clone();
            move |_, _| Err(status.clone())
        });
        let error = scene.look(ALICE).await.unwrap_err();
        assert_ne!(error.fault(), Fault::Server);
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        assert_eq!(scene.running.take_names(), ONCE, "{status}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_not_asked_again() {
    let scene = Scene::of(World::new(bits(6)), |options| options.max_prefix_bits = bits(4)).await;
    scene.lie_about_buckets(|_, buckets| buckets[2] = Err(Status::unavailable("canary-text")));
    let error = scene.look(ALICE).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(None)));
    assert_eq!(scene.running.take_names(), ONCE);
}
