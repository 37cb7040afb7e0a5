//! Who follows a directory hears of every change, whoever makes it; and a
//! client that follows says which of its answers are out of date.

use std::{sync::Arc, time::Duration};

use blindbook::{
    bucket::{Circle, Placement, PrefixBits},
    client::{Answer, Client, ClientOptions, MemoryState, Mode},
    identifier::Sii,
    secret::Secret,
    server::PirOptions,
    store::Generations as _,
    wire::proto,
};
use tonic::{Code, Streaming};

use crate::scene::{Partner, Scene, Served, claim, in_circle, refused, sii};

const ALICE: &str = "tel:+12015550123";
const BOB: &str = "tel:+12015550124";

type Told = Streaming<proto::WatchInvalidationsResponse>;

async fn watch(served: &Served<'_>, checkpoint: Option<proto::Checkpoint>) -> Told {
    let mut anybody = Partner::new(served.channel(None).await.unwrap());
    let request = proto::WatchInvalidationsRequest { checkpoint };
    anybody.watch_invalidations(request).await.unwrap().into_inner()
}

/// Hears on until this identifier's bucket is told of.
async fn hear_of(told: &mut Told, sii: &Sii, bits: PrefixBits) {
    let number = Placement::of(sii).bucket(bits).get();
    loop {
        let heard = told.message().await.unwrap().unwrap();
        if heard.changed.iter().any(|changed| changed.number == number) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_hears_of_changes_resumes_and_is_let_go_when_the_server_stops() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let store = scene.directory.generations.current().await.unwrap().unwrap();
    let bits = store.prefix_bits();
    let (alice, bob) = (sii(ALICE), sii(BOB));
    let mut first = watch(&served, None).await;
    let checkpoint = first.message().await.unwrap().unwrap().checkpoint.unwrap();
    served.claimed(&alice, "wa.example", "alice").await;
    hear_of(&mut first, &alice, bits).await;
    served.claimed(&bob, "signal.example", "bob").await;
    hear_of(&mut first, &bob, bits).await;

    let mut resumed = watch(&served, Some(checkpoint.clone())).await;
    hear_of(&mut resumed, &alice, bits).await;

    // Another directory's place, and nonsense.
    let split = proto::Checkpoint { prefix_bits: 1, sequences: vec![0] };
    let mut lost = watch(&served, Some(split)).await;
    assert!(lost.message().await.unwrap().unwrap().everything);
    let mut anybody = Partner::new(served.channel(None).await.unwrap());
    let nonsense = proto::Checkpoint { sequences: Vec::new(), ..checkpoint };
    let nonsense = proto::WatchInvalidationsRequest { checkpoint: Some(nonsense) };
    let refused = refused(anybody.watch_invalidations(nonsense).await);
    assert_eq!(refused, (Code::InvalidArgument, "FIELD_RULE".to_owned()));

    let stopping = served.stop();
    let hearing = async {
        loop {
            match first.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no reason was told"),
                Err(status) => break status.code(),
            }
        }
    };
    let ((), code) = tokio::join!(stopping, hearing);
    assert_eq!(code, Code::Unavailable);
}

async fn client(served: &Served<'_>) -> Client {
    client_of(served, None, None).await
}

async fn client_of(served: &Served<'_>, circle: Option<Circle>, mode: Option<Mode>) -> Client {
    let identity = served.scene.directory.keyring.identity().verifying_key();
    let mut options = ClientOptions::new(served.url(), identity);
    options.ca_pem = Some(served.scene.authority.pem.clone().into());
    options.clock = served.scene.clock();
    options.circle = circle;
    options.mode = mode;
    Client::connect(options, Arc::new(MemoryState::new())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_follows_says_that_its_answer_is_out_of_date_and_asks_when_told_to() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let alice = sii(ALICE);
    let client = client(&served).await;
    let follower = client.follow();
    let mut link = follower.link();
    let following = tokio::spawn(follower.run());
    link.wait_for(blindbook::client::Link::is_connected).await.unwrap();
    assert!(client.lookup(&alice).await.unwrap().mappings.is_empty());

    served.claimed(&alice, "wa.example", "alice").await;
    loop {
        let kept = client.cached(&alice).unwrap().unwrap();
        if kept.stale {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let kept = client.lookup(&alice).await.unwrap();
    assert!(kept.stale && kept.mappings.is_empty());
    let fresh = client.refresh(&alice).await.unwrap();
    assert_eq!((fresh.mappings.len(), fresh.stale), (1, false));
    following.abort();
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_finds_its_own_beside_what_everybody_finds() {
    found_by_circles(Scene::new().await, Mode::Bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_finds_its_own_by_private_retrieval() {
    let pir = Some(PirOptions::default());
    found_by_circles(Scene { pir, ..Scene::new().await }, Mode::Pir).await;
}

/// A matrix is made first, and then follows.
async fn soon(client: &Client, sii: &Sii, mappings: usize) -> Arc<Answer> {
    let all = async {
        loop {
            if let Ok(answer) = client.refresh(sii).await
                && answer.mappings.len() >= mappings
            {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.unwrap()
}

async fn found_by_circles(scene: Scene, mode: Mode) {
    let served = scene.serve().await;
    let alice = sii(ALICE);
    let secret = || Secret::new([7; 32]);
    let mut wa = served.ap("wa.example").await;
    let token = served.token(&mut wa, &alice).await;
    wa.claim(in_circle(claim(&alice, "wa.example", "friends", token), &secret())).await.unwrap();
    if mode == Mode::Bucket {
        assert!(served.found(&alice).await.is_empty());
    }
    served.claimed(&alice, "signal.example", "open").await;
    if mode == Mode::Bucket {
        assert_eq!(served.found(&alice).await, ["open@signal.example"]);
    }
    // Who finds both is the first: from then on the others could.
    for (circle, expected) in [
        (Some(secret()), vec![("open", false), ("friends", true)]),
        (Some(Secret::new([8; 32])), vec![("open", false)]),
        (None, vec![("open", false)]),
    ] {
        let client = client_of(&served, circle.map(Circle::new), Some(mode)).await;
        let answer = match mode {
            Mode::Bucket => client.lookup(&alice).await.unwrap(),
            Mode::Pir => soon(&client, &alice, expected.len()).await,
        };
        let found = answer.mappings.iter().map(|found| (found.ssi.user().as_str(), found.circle));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
    served.is_clean(2).await;
    served.stop().await;
}
