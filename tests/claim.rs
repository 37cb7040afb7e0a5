//! From a one-time code to being found: the code is confirmed, the token it
//! ends in is verified, the claim is committed, and the next lookup finds it.
#![cfg(all(feature = "client", feature = "server"))]
#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Cursor,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use blindbook::{
    bucket::{Audience, Mapping, Placement, SignedMapping},
    client::{Client, ClientOptions, MemoryState},
    identifier::{Provider, Sii, Ssi, User},
    keyring::{self, Keyring},
    registry::{
        self, Claim, Claimed, Input, Ledger, LedgerError, LoadOptions, Progress,
        proof::{
            Challenges, CodeLimits, CodeMessage, CodeSender, Codes, IdentityIssuers, MemoryPending,
            PassportRules, Pending, Proof, Proofs, SendError, TokenIssuers, TokenSigner,
        },
        verify_directory,
    },
    secret::Secret,
    server::{Clock, Server, ServerOptions},
    store::{Generations, MemoryGenerations},
};
use tokio::net::TcpListener;

const NOW_S: u64 = 1_800_000_000;

/// Keeps the newest message.
#[derive(Default)]
struct Outbox(Mutex<Option<String>>);

#[async_trait]
impl CodeSender for Outbox {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        *self.0.lock().unwrap() = Some(message.text().to_owned());
        Ok(())
    }
}

impl Outbox {
    fn code(&self) -> String {
        let message = self.0.lock().unwrap();
        message.as_ref().unwrap().chars().take_while(char::is_ascii_digit).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_code_makes_its_user_found_by_the_next_lookup_and_only_once() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    keyring::generate(&keys, &mut rand::rng()).unwrap();
    let keyring = Arc::new(Keyring::load(&keys).unwrap());
    let provider_key = keyring::provider_key(&keys.join(keyring::files::PROVIDER)).unwrap();
    let wa = Provider::parse("wa.example").unwrap();
    let generations = Arc::new(MemoryGenerations::default());
    let options =
        LoadOptions::new(wa.clone(), provider_key.clone(), folder.path().join("spill"), NOW_S);
    let people = Input::stream("people", Cursor::new("sii,user\nfirst@example.com,first\n"));
    let progress = Arc::new(Progress::default());
    registry::load(generations.clone(), keyring.clone(), options, vec![people], progress)
        .await
        .unwrap();

    let server = Server::open(
        generations.clone(),
        keyring.clone(),
        ServerOptions::default(),
        Clock::system(),
    )
    .await
    .unwrap();
    let buckets = server.lookup();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server.run(listener, std::future::pending()));
    let options = ClientOptions::new(address, keyring.identity().verifying_key());
    let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
    let alice = Sii::parse("+14155550100", None).unwrap();
    assert!(client.lookup(&alice).await.unwrap().mappings.is_empty());

    // The code goes to the number, and comes back.
    let outbox = Arc::new(Outbox::default());
    let pending: Arc<dyn Pending> = Arc::new(MemoryPending::new(100));
    let codes = Codes::new(
        pending.clone(),
        outbox.clone(),
        Secret::random(&mut rand::rng()),
        CodeLimits::default(),
    )
    .unwrap();
    codes.start(&alice, &wa, NOW_S, &mut rand::rng()).await.unwrap();
    let confirmed = codes.finish(&alice, &wa, &outbox.code(), NOW_S).await.unwrap();
    let signer =
        TokenSigner::from_seed(&Secret::random(&mut rand::rng()), *keyring.directory()).unwrap();
    let token = signer.mint(&confirmed, NOW_S, &mut rand::rng()).unwrap();

    let mut issuers = TokenIssuers::default();
    issuers.trust(signer.issuer(), signer.key().clone()).unwrap();
    let proofs = Proofs::new(
        Challenges::new(pending, 300, 100).unwrap(),
        issuers,
        PassportRules::default(),
        IdentityIssuers::default(),
    );
    let proven = proofs.verify(&Proof::Token(token.to_string()), &alice, &wa, NOW_S).await.unwrap();

    let ssi = Ssi::new(wa, User::parse("alice").unwrap()).unwrap();
    let mapping = Mapping {
        ssi: ssi.clone(),
        audience: Audience::Personal,
        default_since: 0,
        verified_until: u32::try_from(NOW_S + 86_400).unwrap(),
        ttl_s: 3600,
    };
    let claim = Claim {
        verified: proven.into(),
        user: ssi.user().clone(),
        audience: mapping.audience,
        ttl_s: mapping.ttl_s,
        verified_until: mapping.verified_until,
        signature: SignedMapping::sign(&alice, mapping, &provider_key).signature,
        circle: None,
    };
    let ledger = Ledger::open(generations.clone(), keyring.clone()).await.unwrap();
    assert_eq!(ledger.claim(NOW_S, claim.clone()).await.unwrap(), Claimed::New);
    let store = generations.current().await.unwrap().unwrap();
    buckets.changed(Placement::of(&alice).bucket(store.prefix_bits()));

    let found = client.refresh(&alice).await.unwrap();
    assert_eq!(found.mappings.iter().map(|found| &found.ssi).collect::<Vec<_>>(), [&ssi]);

    // The proof is used up, and the directory agrees with itself.
    let replayed = ledger.claim(NOW_S, claim).await;
    assert!(matches!(replayed, Err(LedgerError::ProofUsed)), "{replayed:?}");
    let verification = verify_directory(&*generations, keyring, |_| {}).await.unwrap();
    assert_eq!((verification.mappings, verification.faulty), (2, 0));
}
