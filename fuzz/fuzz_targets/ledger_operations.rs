//! Operations against the live registry, held against a plain model.
//!
//! Input: a list of [`Operation`]s, as `arbitrary` reads it. After each one the
//! registry lists what the model says, and every bucket holds it; before and
//! after the process ended without a word and the data folder was opened again.
//! Proofs are real: codes that were sent, and tokens that were signed for them.

#![no_main]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
};

use arbitrary::{Arbitrary, Unstructured};
use async_trait::async_trait;
use blindbook::{
    bucket::{Audience, BUCKET_BYTES, Bucket, BucketNumber, Mapping, PrefixBits, SignedMapping},
    identifier::{Provider, Sii, Ssi, User},
    keyring::{self, Keyring},
    registry::{
        Circle, Claim, Ledger, LedgerError, Port, VerifiedClaim, VerifiedControl, Which,
        proof::{
            Challenges, CodeLimits, CodeMessage, CodeSender, Codes, IdentityIssuers, MemoryPending,
            PassportRules, Pending, Proof, Proofs, Proven, SendError, TokenIssuers, TokenSigner,
        },
        verify_directory,
    },
    secret::Secret,
    store::{BulkBucket, Generations, MemoryGenerations, SledGenerations, SledOptions, StoreError},
};
use ed25519_dalek::SigningKey;
use libfuzzer_sys::{Corpus, fuzz_target};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const BEGIN_S: u64 = 1_800_000_000;
const DAY_S: u64 = 86_400;
const MOST_OPERATIONS: usize = 24;
const MOST_MAPPINGS: usize = 8;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime starts"));

static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
    let keys = tempfile::tempdir().expect("a temporary folder");
    keyring::generate(keys.path(), &mut rand::rng()).expect("keys are made");
    Arc::new(Keyring::load(keys.path()).expect("keys are there"))
});

/// Whose mapping, and which.
#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    sii: Few,
    provider: Few,
    user: Few,
    circle: Option<bool>,
}

/// One of three.
#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Few {
    One,
    Two,
    Three,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Operation {
    Claim {
        name: Name,
        business: bool,
        days: u8,
    },
    /// Another's name in the signature.
    Forge(Name),
    Replay,
    ReleaseOwn(Name),
    ReleaseAll(Few),
    Release(Name),
    SetDefault(Name),
    Port {
        from: Option<Few>,
        to: Name,
    },
    PortAway {
        sii: Few,
        from: Option<Few>,
    },
    Sweep,
    Wait(u8),
    Reopen,
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let mut bytes = Unstructured::new(data);
    let mut script: Vec<Operation> = Vec::new();
    while !bytes.is_empty() && script.len() < MOST_OPERATIONS {
        let Ok(operation) = bytes.arbitrary() else { break };
        script.push(operation);
    }
    if script.is_empty() {
        return Corpus::Reject;
    }
    RUNTIME.block_on(run(&script));
    Corpus::Keep
});

async fn run(script: &[Operation]) {
    let on_disk = script.iter().any(|operation| matches!(operation, Operation::Reopen));
    let mut scene = Scene::new(on_disk).await;
    for operation in script {
        scene.step(*operation).await;
        scene.check().await;
    }
}

/// Keeps the last code.
#[derive(Default)]
struct Outbox(Mutex<String>);

#[async_trait]
impl CodeSender for Outbox {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        let code = message.text().chars().take_while(char::is_ascii_digit).collect();
        *self.0.lock().expect("nobody panics with it") = code;
        Ok(())
    }
}

/// What is known of a mapping: audience, until when, since when the default.
type Known = (bool, u32, u32);

struct Scene {
    generations: Arc<dyn Generations>,
    folder: Option<TempDir>,
    ledger: Ledger,
    codes: Codes,
    outbox: Arc<Outbox>,
    signer: TokenSigner,
    proofs: Proofs,
    now_s: u64,
    model: BTreeMap<Name, Known>,
    last: Option<Claim>,
}

impl Scene {
    async fn new(on_disk: bool) -> Self {
        let folder = on_disk.then(|| tempfile::tempdir().expect("a temporary folder"));
        let generations: Arc<dyn Generations> = match &folder {
            Some(folder) => open(folder).await,
            None => Arc::new(MemoryGenerations::default()),
        };
        let store = generations.stage(PrefixBits::ZERO).await.expect("a generation begins");
        store
            .bulk_put(vec![BulkBucket { bucket: empty(), rows: Vec::new() }])
            .await
            .expect("written");
        store.sync().await.expect("syncs");
        generations.promote().await.expect("it is promoted");
        for few in [Few::One, Few::Two, Few::Three] {
            let key = key(few).verifying_key().to_bytes().to_vec();
            let meta = format!("provider/{}", provider(few).as_str());
            generations.meta_put(&meta, key).await.expect("it is recorded");
        }
        let outbox = Arc::new(Outbox::default());
        let pending: Arc<dyn Pending> = Arc::new(MemoryPending::new(1000));
        let limits = CodeLimits {
            per_identifier_and_provider_per_h: u32::MAX,
            per_identifier_per_h: u32::MAX,
            per_provider_per_h: u32::MAX,
            ..CodeLimits::default()
        };
        let (sender, secret) = (outbox.clone(), Secret::new([1; 32]));
        let codes = Codes::new(pending.clone(), sender, secret, limits).expect("in range");
        let signer = TokenSigner::from_seed(&Secret::new([2; 32]), *KEYRING.directory());
        let signer = signer.expect("a key");
        let mut issuers = TokenIssuers::default();
        issuers.trust(signer.issuer(), signer.key().clone()).expect("the first key");
        let challenges = Challenges::new(pending, 300, 10).expect("in range");
        let proofs =
            Proofs::new(challenges, issuers, PassportRules::default(), IdentityIssuers::default());
        let ledger = Ledger::open(generations.clone(), KEYRING.clone()).await.expect("it opens");
        let (now_s, model, last) = (BEGIN_S, BTreeMap::new(), None);
        Self { generations, folder, ledger, codes, outbox, signer, proofs, now_s, model, last }
    }

    async fn proven(&self, sii: &Sii, provider: &Provider) -> Proven {
        let rng = &mut rand::rng();
        self.codes.start(sii, provider, self.now_s, rng).await.expect("a code is sent");
        let code = self.outbox.0.lock().expect("nobody panics with it").clone();
        let confirmed = self.codes.finish(sii, provider, &code, self.now_s).await;
        let confirmed = confirmed.expect("the code is right");
        let token = self.signer.mint(&confirmed, self.now_s, rng).expect("a token");
        let proof = Proof::Token(token.to_string());
        self.proofs.verify(&proof, sii, provider, self.now_s).await.expect("the token is good")
    }

    async fn control(&self, of: Few) -> VerifiedControl {
        self.proven(&sii(of), &provider(Few::One)).await.into()
    }

    async fn claim(&self, name: Name, business: bool, until: u32, signs: Few) -> Claim {
        let (sii, ssi) = (sii(name.sii), ssi(name));
        let verified: VerifiedClaim = self.proven(&sii, ssi.provider()).await.into();
        let audience = if business { Audience::Business } else { Audience::Personal };
        let mapping = Mapping {
            ssi: ssi.clone(),
            audience,
            default_since: 0,
            verified_until: until,
            ttl_s: 60,
        };
        let signature = SignedMapping::sign(&sii, mapping, &key(signs)).signature;
        Claim {
            verified,
            user: ssi.user().clone(),
            audience,
            ttl_s: 60,
            verified_until: until,
            signature,
            circle: name.circle.map(circle),
        }
    }

    fn until(&self, days: u8) -> u32 {
        u32::try_from(self.now_s + u64::from(days) * DAY_S).expect("before 2105")
    }

    /// What a claim must come to.
    fn claims(&mut self, name: Name, business: bool, until: u32, since: u32) -> Expected {
        if let Some((audience, verified, _)) = self.model.get_mut(&name) {
            (*audience, *verified) = (business, until);
            return Expected::Done;
        }
        if self.model.keys().filter(|other| other.sii == name.sii).count() >= MOST_MAPPINGS {
            return Expected::TooMany;
        }
        self.model.insert(name, (business, until, since));
        Expected::Done
    }

    fn remove(&mut self, gone: impl Fn(&Name) -> bool) -> (usize, u32) {
        let removed = self.model.iter().filter(|(name, _)| gone(name));
        let since = removed.clone().map(|(_, known)| known.2).max().unwrap_or(0);
        let count = removed.count();
        self.model.retain(|name, _| !gone(name));
        (count, since)
    }

    async fn step(&mut self, operation: Operation) {
        let before = self.model.clone();
        let (done, expected) = match operation {
            Operation::Claim { name, business, days } => {
                // From lapsed to beyond what may be.
                let days = days % 33;
                let until = self.until(days);
                let claim = self.claim(name, business, until, name.provider).await;
                let done = self.ledger.claim(self.now_s, claim.clone()).await.map(drop);
                if done.is_ok() {
                    self.last = Some(claim);
                }
                let expected = match days {
                    0 => Expected::Lapsed,
                    1..=30 => self.claims(name, business, until, 0),
                    _ => Expected::TooLong,
                };
                (done, expected)
            }
            Operation::Forge(name) => {
                let signs = if name.provider == Few::One { Few::Two } else { Few::One };
                let claim = self.claim(name, false, self.until(1), signs).await;
                (self.ledger.claim(self.now_s, claim).await.map(drop), Expected::Forged)
            }
            Operation::Replay => {
                let Some(last) = self.last.clone() else { return };
                (self.ledger.claim(self.now_s, last).await.map(drop), Expected::Used)
            }
            Operation::ReleaseOwn(name) => {
                let (user, provider) = (ssi(name).user().clone(), provider(name.provider));
                let own = |other: &Name| {
                    (other.sii, other.provider, other.user) == (name.sii, name.provider, name.user)
                };
                let (removed, _) = self.remove(own);
                let done =
                    self.ledger.release_own(self.now_s, provider, &sii(name.sii), user).await;
                (done.map(|released| assert_eq!(released, removed)), Expected::found(removed))
            }
            Operation::ReleaseAll(of) => {
                let (removed, _) = self.remove(|name| name.sii == of);
                let done = self.ledger.release_all(self.now_s, &sii(of)).await;
                (done.map(|released| assert_eq!(released, removed)), Expected::Done)
            }
            Operation::Release(name) => {
                let control = self.control(name.sii).await;
                let (removed, _) = self.remove(|other| *other == name);
                let done = self.ledger.release(self.now_s, control, which(name)).await;
                (done, Expected::found(removed))
            }
            Operation::SetDefault(name) => {
                let control = self.control(name.sii).await;
                let done = self.ledger.set_default(self.now_s, control, which(name)).await;
                (done, self.prefers(name))
            }
            Operation::Port { from, to } => {
                let until = self.until(1);
                let claim = self.claim(to, false, until, to.provider).await;
                let port = Port { sii: sii(to.sii), from: from.map(provider), to: Some(claim) };
                let done = self.ledger.port(self.now_s, port).await.map(drop);
                let expected = if from == Some(to.provider) {
                    Expected::ToItself
                } else {
                    let left = |name: &Name| name.sii == to.sii && Some(name.provider) == from;
                    let (_, since) = self.remove(left);
                    self.claims(to, false, until, since)
                };
                (done, expected)
            }
            Operation::PortAway { sii: of, from } => {
                let port = Port { sii: sii(of), from: from.map(provider), to: None };
                let done = self.ledger.port(self.now_s, port).await.map(drop);
                self.remove(|name| name.sii == of && Some(name.provider) == from);
                (done, Expected::Done)
            }
            Operation::Sweep => {
                let now = self.now_s;
                let lapsed = self.model.values().filter(|known| u64::from(known.1) <= now).count();
                self.model.retain(|_, known| u64::from(known.1) > now);
                let done = self.ledger.sweep(now, None, 10).await;
                (done.map(|swept| assert_eq!(swept.removed, lapsed)), Expected::Done)
            }
            Operation::Wait(days) => {
                // Longer than any proof is remembered.
                self.now_s += DAY_S * u64::from(days % 8) + DAY_S;
                self.last = None;
                return;
            }
            Operation::Reopen => return self.reopen().await,
        };
        let told = Expected::of(&done);
        assert_eq!(told, expected, "{operation:?}: {done:?}");
        if told != Expected::Done {
            self.model = before;
        }
    }

    fn prefers(&mut self, name: Name) -> Expected {
        let Some(mine) = self.model.get(&name).map(|known| known.2) else {
            return Expected::NotFound;
        };
        let of = |other: &&Name| other.sii == name.sii;
        let since: Vec<u32> = self.model.keys().filter(of).map(|name| self.model[name].2).collect();
        let greatest = since.iter().copied().max().unwrap_or(0);
        let alone = since.iter().filter(|since| **since == greatest).count() == 1;
        if mine != greatest || !alone {
            let now = u32::try_from(self.now_s).expect("before 2105");
            self.model.get_mut(&name).expect("it is there").2 = now.max(greatest + 1);
        }
        Expected::Done
    }

    /// As after a crash: nothing is closed.
    async fn reopen(&mut self) {
        let folder = self.folder.as_ref().expect("scripts that reopen have one");
        let nothing: Arc<dyn Generations> = Arc::new(MemoryGenerations::default());
        nothing.stage(PrefixBits::ZERO).await.expect("a generation begins");
        nothing.promote().await.expect("it is promoted");
        self.ledger = Ledger::open(nothing.clone(), KEYRING.clone()).await.expect("it opens");
        self.generations = nothing;
        self.generations = open(folder).await;
        let generations = self.generations.clone();
        self.ledger = Ledger::open(generations, KEYRING.clone()).await.expect("it opens");
    }

    async fn check(&self) {
        let mut listed = BTreeMap::new();
        for few in [Few::One, Few::Two, Few::Three] {
            let page = self.ledger.list(&provider(few), None, 1000).await.expect("it is listed");
            assert!(page.next.is_none());
            for mapped in page.mappings {
                let name = names()
                    .find(|name| sii(name.sii) == mapped.sii && which(*name) == mapped.which);
                let name = name.expect("a name of the script's");
                let business = mapped.audience == Audience::Business;
                let known = (business, mapped.verified_until, mapped.default_since);
                assert!(listed.insert(name, known).is_none(), "listed twice");
            }
        }
        assert!(listed == self.model, "another list than the model's");
        let verified = verify_directory(&*self.generations, KEYRING.clone(), |_| {}).await;
        let verified = verified.expect("it is read");
        assert_eq!((verified.faulty, verified.mappings), (0, self.model.len() as u64));
    }
}

/// What an operation comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Done,
    NotFound,
    TooMany,
    TooLong,
    Lapsed,
    Forged,
    Used,
    ToItself,
    Other,
}

impl Expected {
    const fn found(removed: usize) -> Self {
        if removed == 0 { Self::NotFound } else { Self::Done }
    }

    const fn of(done: &Result<(), LedgerError>) -> Self {
        match done {
            Ok(()) => Self::Done,
            Err(LedgerError::NotFound) => Self::NotFound,
            Err(LedgerError::TooManyMappings) => Self::TooMany,
            Err(LedgerError::VerifiedTooLong) => Self::TooLong,
            Err(LedgerError::Lapsed) => Self::Lapsed,
            Err(LedgerError::Signature(_)) => Self::Forged,
            Err(LedgerError::ProofUsed) => Self::Used,
            Err(LedgerError::PortToItself) => Self::ToItself,
            Err(_) => Self::Other,
        }
    }
}

/// The one bucket, as it is loaded.
fn empty() -> Bucket {
    let number = BucketNumber::new(0, PrefixBits::ZERO).expect("the first");
    let entries = vec![7; BUCKET_BYTES].into();
    let (directory, identity) = (KEYRING.directory(), KEYRING.identity());
    let bits = PrefixBits::ZERO;
    Bucket::sign(KEYRING.newest(), bits, number, 1, entries, directory, identity)
        .expect("the right length")
}

fn names() -> impl Iterator<Item = Name> {
    let few = [Few::One, Few::Two, Few::Three];
    few.into_iter().flat_map(move |sii| {
        few.into_iter().flat_map(move |provider| {
            few.into_iter().flat_map(move |user| {
                let circles = [None, Some(false), Some(true)];
                circles.into_iter().map(move |circle| Name { sii, provider, user, circle })
            })
        })
    })
}

fn sii(few: Few) -> Sii {
    let text = ["tel:+14155550100", "mailto:alice@mail.example", "tel:+4930123456"];
    Sii::from_canonical(text[few as usize]).expect("canonical")
}

fn provider(few: Few) -> Provider {
    let name = ["wa.example", "sg.example", "tm.example"];
    Provider::parse(name[few as usize]).expect("a domain")
}

fn key(few: Few) -> SigningKey {
    SigningKey::from_bytes(&[few as u8 + 1; 32])
}

fn circle(other: bool) -> Circle {
    Circle::new(Secret::new([u8::from(other); 32]))
}

fn ssi(name: Name) -> Ssi {
    let user = User::parse(["alice", "bob", "carol"][name.user as usize]).expect("a name");
    Ssi::new(provider(name.provider), user).expect("short names")
}

fn which(name: Name) -> Which {
    Which { ssi: ssi(name), circle: name.circle.map(|other| circle(other).id()) }
}

async fn open(folder: &TempDir) -> Arc<dyn Generations> {
    let options = SledOptions { cache_bytes: 16 << 20, ..SledOptions::default() };
    // The threads of a store that was just dropped may hold its lock a moment.
    for _ in 0..500 {
        match SledGenerations::open(folder.path(), options).await {
            Ok(sled) => return Arc::new(sled),
            Err(StoreError::Open(_)) => std::thread::sleep(std::time::Duration::from_millis(2)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the data folder stays locked");
}
