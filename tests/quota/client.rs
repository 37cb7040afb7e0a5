//! The SDK where evaluations cost tokens: it gets them, spends each once, and
//! remembers those that are left.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use blindbook::{
    client::{
        Client, ClientCertificate, ClientError, ClientOptions, FolderState, MemoryState, State,
        tokens::{IssueTokens, TokenSource, TokenSourceError, TokenSupply},
    },
    server::{QuotaOptions, Transcript},
    wire::proto::IssueTokensRequest,
};
use tokio::sync::Mutex;
use tonic::Code;

use crate::{
    scene::{NOW_S, Scene, Served, sii},
    world::{Asker, DAY_S, tight},
};

/// What the backend of a user's provider does.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) asker: Arc<Mutex<Asker>>,
    issued: Arc<AtomicUsize>,
    /// A provider that alters what it hands on.
    alters: bool,
}

impl Backend {
    pub(crate) async fn of(served: &Served<'_>) -> Self {
        let asker = Arc::new(Mutex::new(Asker::ap(served, "wa.example").await));
        Self { asker, issued: Arc::default(), alters: false }
    }

    pub(crate) fn issued(&self) -> usize {
        self.issued.load(Ordering::SeqCst)
    }
}

#[tonic::async_trait]
impl TokenSource for Backend {
    async fn issue(&self, request: IssueTokens) -> Result<Vec<[u8; 256]>, TokenSourceError> {
        let mut asker = self.asker.lock().await;
        let count = request.blinded.len();
        let issued = asker.quota.issue_tokens(IssueTokensRequest::from(request)).await;
        let issued = issued.map_err(|_| TokenSourceError("not today".into()))?.into_inner();
        self.issued.fetch_add(count, Ordering::SeqCst);
        let mut signatures = issued.blind_signatures.as_chunks::<256>().0.to_vec();
        if self.alters {
            signatures[0][255] ^= 1;
        }
        Ok(signatures)
    }
}

pub(crate) async fn client(
    scene: &Scene,
    served: &Served<'_>,
    backend: Option<&Backend>,
    state: Arc<dyn State>,
) -> Client {
    let identity = scene.directory.keyring.identity().verifying_key();
    let mut options = ClientOptions::new(served.url(), identity);
    options.ca_pem = Some(scene.authority.pem.clone().into());
    options.clock = scene.clock();
    options.tokens = backend.map(|backend| TokenSupply::new(backend.clone()));
    Client::connect(options, state).await.unwrap()
}

/// With room for buckets.
pub(crate) async fn roomy() -> Scene {
    let anonymous_bytes = QuotaOptions::default().anonymous_bytes;
    Scene { quotas: QuotaOptions { anonymous_bytes, ..tight() }, ..Scene::new().await }
}

fn folder(path: &Path) -> Arc<dyn State> {
    Arc::new(FolderState::open(path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_are_paid_with_tokens_and_what_is_known_costs_none() {
    let mut scene = roomy().await;
    let transcript = Arc::new(Transcript::new());
    scene.transcript = Some(transcript.clone());
    let served = scene.serve().await;
    let who = sii("tel:+14155550123");
    let without = client(&scene, &served, None, Arc::new(MemoryState::new())).await;
    let refused = without.lookup(&who).await;
    assert!(matches!(refused, Err(ClientError::Denied(Code::Unauthenticated))), "{refused:?}");

    let backend = Backend::of(&served).await;
    let state = tempfile::tempdir().unwrap();
    let user = client(&scene, &served, Some(&backend), folder(state.path())).await;
    assert!(user.lookup(&who).await.unwrap().mappings.is_empty());
    assert_eq!(backend.issued(), 32, "a lot, whatever it is for");
    // The same again, cached or fetched anew: its output is known.
    user.lookup(&who).await.unwrap();
    user.refresh(&who).await.unwrap();
    // More than the lot pays: 64 lookups.
    let many: Vec<_> = (0..60).map(|n| sii(&format!("tel:+141555501{n:02}"))).collect();
    for answer in user.lookup_many(&many).await.unwrap() {
        assert!(answer.unwrap().mappings.is_empty());
    }
    assert_eq!(backend.issued(), 96);
    drop(user);

    // What is left is left to the next process.
    let user = client(&scene, &served, Some(&backend), folder(state.path())).await;
    for n in 0..31 {
        user.lookup(&sii(&format!("mailto:{n}@mail.example"))).await.unwrap();
    }
    assert_eq!(backend.issued(), 96);
    user.lookup(&sii("mailto:one-more@mail.example")).await.unwrap();
    assert_eq!(backend.issued(), 128);

    // No token came twice.
    let mut seen = std::collections::HashSet::new();
    let calls = transcript.calls();
    let mut spent = 0;
    for call in calls.iter().filter(|call| call.path.ends_with("/Evaluate")) {
        let request = blindbook::wire::Evaluate::decode(&call.request[5..]).unwrap();
        for token in request.tokens.as_chunks::<354>().0 {
            assert!(seen.insert(*token), "a token was sent twice");
            spent += 1;
        }
    }
    assert_eq!(spent, 1 + 64 + 31 + 1);
    served.stop().await;
}

/// Hit and miss: the same calls, of the same sizes, for the same price.
#[tokio::test(flavor = "multi_thread")]
async fn a_hit_costs_what_a_miss_costs_and_looks_the_same() {
    let mut scene = roomy().await;
    let transcript = Arc::new(Transcript::new());
    scene.transcript = Some(transcript.clone());
    let served = scene.serve().await;
    let (hit, miss) = (sii("tel:+14155550123"), sii("tel:+14155550124"));
    served.claimed(&hit, "wa.example", "alice").await;
    let backend = Backend::of(&served).await;
    let mut seen = Vec::new();
    for (who, found) in [(&hit, 1), (&miss, 0)] {
        let user = client(&scene, &served, Some(&backend), Arc::new(MemoryState::new())).await;
        let before = (transcript.calls().len(), backend.issued());
        assert_eq!(user.lookup(who).await.unwrap().mappings.len(), found);
        user.refresh(who).await.unwrap();
        let mut calls: Vec<_> = transcript
            .calls()
            .split_off(before.0)
            .into_iter()
            .map(|call| (call.path, call.request.len(), call.response_messages, call.status))
            .collect();
        // Two calls of a lookup go out at once.
        calls.sort();
        seen.push((calls, backend.issued() - before.1));
    }
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].0.iter().any(|(path, ..)| path.ends_with("/Evaluate")));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_looks_up_for_itself_needs_no_tokens() {
    let scene = roomy().await;
    let served = scene.serve().await;
    let identity = scene.directory.keyring.identity().verifying_key();
    let (cert, key) = scene.authority.partner_pem(&["spiffe://wa.example/ap"]);
    let mut options = ClientOptions::new(served.url(), identity);
    options.ca_pem = Some(scene.authority.pem.clone().into());
    options.clock = scene.clock();
    options.certificate = Some(ClientCertificate {
        chain_pem: cert.into(),
        key_pem: zeroize::Zeroizing::new(key.into()),
    });
    let partner = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    let who = sii("tel:+14155550123");
    for _ in 0..3 {
        partner.lookup(&who).await.unwrap();
        partner.refresh(&who).await.unwrap();
    }
    let left = Asker::ap(&served, "wa.example").await.limits().await;
    assert_eq!(left.elements.unwrap().available, Some(1024 - 2), "what is known costs nothing");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_is_had_ahead_and_lasts_into_the_next_day() {
    let scene = roomy().await;
    let served = scene.serve().await;
    let backend = Backend::of(&served).await;
    let user = client(&scene, &served, Some(&backend), Arc::new(MemoryState::new())).await;
    user.stock_tokens(100).await.unwrap();
    user.stock_tokens(100).await.unwrap();
    assert_eq!(backend.issued(), 128);
    scene.set_time(NOW_S + DAY_S);
    user.lookup(&sii("tel:+14155550123")).await.unwrap();
    assert_eq!(backend.issued(), 128);
    // Yesterday's is no stock of today.
    user.stock_tokens(1).await.unwrap();
    assert_eq!(backend.issued(), 160);
    scene.set_time(NOW_S + 3 * DAY_S);
    user.lookup(&sii("tel:+14155550124")).await.unwrap();
    assert_eq!(backend.issued(), 192, "what has expired pays no more");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_refused_or_altered_are_errors_that_say_so() {
    let scene = roomy().await;
    let served = scene.serve().await;
    let who = sii("tel:+14155550123");
    let altering = Backend { alters: true, ..Backend::of(&served).await };
    let user = client(&scene, &served, Some(&altering), Arc::new(MemoryState::new())).await;
    assert!(matches!(user.lookup(&who).await, Err(ClientError::TokensForged)));
    let backend = Backend::of(&served).await;
    let user = client(&scene, &served, Some(&backend), Arc::new(MemoryState::new())).await;
    // The provider has 300 in all, of which the other had 32.
    user.stock_tokens(256).await.unwrap();
    let refused = user.stock_tokens(288).await;
    assert!(matches!(refused, Err(ClientError::TokensRefused(_))), "{refused:?}");
    user.lookup(&who).await.unwrap();
    served.stop().await;
}
