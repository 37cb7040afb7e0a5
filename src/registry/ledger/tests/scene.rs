//! A small directory under test, on either engine, and the oracle: it opens
//! buckets as a client would, and verifies what a client verifies.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use crate::{
    bucket::{
        Audience, BUCKET_BYTES, Bucket, BucketNumber, EntryKeys, Mapping, Placement, PrefixBits,
        SignedMapping,
    },
    identifier::{Provider, Sii, Ssi, User},
    keyring::{self, Keyring},
    registry::{
        Circle, Claim, Ledger, LedgerError, ProofRecord, VerifiedClaim, VerifiedControl, Which,
        ledger::{draft, read},
        providers,
        row::Listing,
        verify_directory,
    },
    secret::Secret,
    store::{BulkBucket, Generations, MemoryGenerations, SledGenerations, SledOptions, StoredRows},
};

pub(super) const NOW_S: u64 = 1_800_000_000;

pub(super) const PROVIDERS: [&str; 3] = ["wa.example", "sg.example", "tm.example"];

static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
    let keys = tempfile::tempdir().unwrap();
    keyring::generate(keys.path(), &mut rand::rng()).unwrap();
    Arc::new(Keyring::load(keys.path()).unwrap())
});

pub(super) struct Scene {
    pub(super) generations: Arc<dyn Generations>,
    pub(super) ledger: Ledger,
    data: Option<TempDir>,
}

/// A mapping as a client sees it: provider, user, audience, default since,
/// verified until.
pub(super) type Seen = (String, String, Audience, u32, u32);

/// All buckets with their rows.
pub(super) type Bytes = Vec<(Option<Bucket>, StoredRows)>;

impl Scene {
    pub(super) async fn memory(bits: u32) -> Self {
        Self::on(Arc::new(MemoryGenerations::default()), bits, None).await
    }

    pub(super) async fn sled(bits: u32) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = SledGenerations::open(data.path(), SledOptions::default()).await.unwrap();
        Self::on(Arc::new(store), bits, Some(data)).await
    }

    /// Runs a test on both engines.
    pub(super) async fn on_both(bits: u32, test: impl AsyncFn(Self)) {
        test(Self::memory(bits).await).await;
        test(Self::sled(bits).await).await;
    }

    async fn on(generations: Arc<dyn Generations>, bits: u32, data: Option<TempDir>) -> Self {
        let bits = PrefixBits::new(bits).unwrap();
        let store = generations.stage(bits).await.unwrap();
        let buckets = bits.numbers().map(|number| {
            let mut entries = vec![0; BUCKET_BYTES];
            rand::Rng::fill_bytes(&mut rand::rng(), &mut entries);
            let (epoch, entries) = (keyring().newest(), entries.into());
            let (directory, identity) = (KEYRING.directory(), KEYRING.identity());
            let bucket =
                Bucket::sign(epoch, bits, number, 7, entries, directory, identity).unwrap();
            BulkBucket { bucket, rows: Vec::new() }
        });
        store.bulk_put(buckets.collect()).await.unwrap();
        store.sync().await.unwrap();
        generations.promote().await.unwrap();
        for name in PROVIDERS {
            let key = signer(name).verifying_key();
            providers::record(&*generations, &provider(name), &key).await.unwrap();
        }
        let ledger = Ledger::open(Arc::clone(&generations), keyring()).await.unwrap();
        Self { generations, ledger, data }
    }

    /// The same directory after its process was killed and started again.
    pub(super) async fn reopened(self) -> Self {
        let Self { generations, ledger, data } = self;
        drop(ledger);
        let generations: Arc<dyn Generations> = match &data {
            None => generations,
            Some(data) => {
                drop(generations);
                Arc::new(SledGenerations::open(data.path(), SledOptions::default()).await.unwrap())
            }
        };
        let ledger = Ledger::open(Arc::clone(&generations), keyring()).await.unwrap();
        Self { generations, ledger, data }
    }

    pub(super) async fn bits(&self) -> PrefixBits {
        self.generations.current().await.unwrap().unwrap().prefix_bits()
    }

    /// Every byte of the directory.
    pub(super) async fn bytes(&self) -> Bytes {
        bytes(&*self.generations).await
    }

    /// The slots that an identifier's entries lie in, as its row says.
    pub(super) async fn slots(&self, sii: &Sii) -> BTreeSet<u8> {
        let store = self.generations.current().await.unwrap().unwrap();
        let number = Placement::of(sii).bucket(store.prefix_bits());
        let stored = read(&*store, number).await.unwrap().unwrap();
        let listings = draft::open_rows(&KEYRING, &stored).unwrap();
        let listing = listings.into_values().find(|listing| listing.sii == *sii);
        listing.iter().flat_map(Listing::placed).map(|placed| placed.slot).collect()
    }

    /// How many proofs an identifier's row holds; `None` if it has no row.
    pub(super) async fn proofs(&self, sii: &Sii) -> Option<usize> {
        let store = self.generations.current().await.unwrap().unwrap();
        let number = Placement::of(sii).bucket(store.prefix_bits());
        let stored = read(&*store, number).await.unwrap().unwrap();
        let listings = draft::open_rows(&KEYRING, &stored).unwrap();
        let listing = listings.into_values().find(|listing| listing.sii == *sii);
        listing.map(|listing| listing.used.len())
    }

    /// What a client finds under an identifier, everything verified.
    pub(super) async fn find(&self, sii: &Sii, circle: Option<&Circle>) -> Vec<Seen> {
        find(&*self.generations, sii, circle).await
    }

    /// The users that everybody finds, by n.
    pub(super) async fn users(&self, sii: &Sii) -> Vec<String> {
        self.find(sii, None).await.into_iter().map(|(_, user, ..)| user).collect()
    }

    /// Claims a mapping that nothing speaks against.
    pub(super) async fn claimed(&self, sii: &Sii, provider: &str, user: &str) {
        self.ledger.claim(NOW_S, claim(sii, provider, user)).await.unwrap();
    }

    /// Rows and buckets agree, and there are so many mappings.
    pub(super) async fn is_clean(&self, mappings: u64) {
        is_clean(&*self.generations, mappings).await;
    }
}

pub(super) async fn bytes(generations: &dyn Generations) -> Bytes {
    let store = generations.current().await.unwrap().unwrap();
    let mut bytes = Vec::new();
    for number in store.prefix_bits().numbers() {
        bytes.push((store.bucket(number).await.unwrap(), store.rows(number).await.unwrap()));
    }
    bytes
}

pub(super) async fn find(
    generations: &dyn Generations,
    sii: &Sii,
    circle: Option<&Circle>,
) -> Vec<Seen> {
    let store = generations.current().await.unwrap().unwrap();
    let number = Placement::of(sii).bucket(store.prefix_bits());
    let bucket = store.bucket(number).await.unwrap().unwrap();
    bucket.verify(KEYRING.directory(), &KEYRING.identity().verifying_key()).unwrap();
    let mut input = sii.as_bytes().to_vec();
    if let Some(circle) = circle {
        input.push(0);
        input.extend(circle.secret().expose());
    }
    let outputs = KEYRING.key(bucket.epoch).unwrap().evaluate_many(&[input]).unwrap();
    let keys = EntryKeys::of(outputs[0].expose());
    let opened = keys.open_all(KEYRING.directory(), bucket.epoch, &bucket.iter());
    assert_eq!(opened.damaged, 0);
    let seen = opened.mappings.into_iter().map(|signed| {
        let ssi = &signed.mapping.ssi;
        signed.verify(sii, &signer(ssi.provider().as_str()).verifying_key()).unwrap();
        (
            ssi.provider().as_str().to_owned(),
            ssi.user().as_str().to_owned(),
            signed.mapping.audience,
            signed.mapping.default_since,
            signed.mapping.verified_until,
        )
    });
    seen.collect()
}

pub(super) async fn is_clean(generations: &dyn Generations, mappings: u64) {
    let found = verify_directory(generations, keyring(), |_| {}).await.unwrap();
    assert_eq!(found.faults, []);
    assert_eq!((found.faulty, found.mappings), (0, mappings));
}

/// Which slots of which buckets differ.
pub(super) fn changed_slots(before: &Bytes, after: &Bytes) -> BTreeSet<(usize, usize)> {
    let mut changed = BTreeSet::new();
    for (number, (before, after)) in before.iter().zip(after).enumerate() {
        let (Some(before), Some(after)) = (&before.0, &after.0) else { continue };
        for (slot, (before, after)) in before.iter().zip(after.iter()).enumerate() {
            if before != after {
                changed.insert((number, slot));
            }
        }
    }
    changed
}

pub(super) fn keyring() -> Arc<Keyring> {
    Arc::clone(&KEYRING)
}

pub(super) fn provider(name: &str) -> Provider {
    Provider::parse(name).unwrap()
}

pub(super) fn user(name: &str) -> User {
    User::parse(name).unwrap()
}

pub(super) fn signer(provider: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(provider.as_bytes()).as_bytes())
}

pub(super) fn sii(n: usize) -> Sii {
    Sii::from_canonical(&format!("mailto:person-{n}@mail.example")).unwrap()
}

/// Identifiers that lie in one bucket.
pub(super) fn siis_in(number: u32, bits: u32) -> impl Iterator<Item = Sii> {
    let bits = PrefixBits::new(bits).unwrap();
    let number = BucketNumber::new(number, bits).unwrap();
    (0..).map(sii).filter(move |sii| Placement::of(sii).bucket(bits) == number)
}

pub(super) fn circle(secret: u8) -> Circle {
    Circle::new(Secret::new([secret; 32]))
}

pub(super) fn which(provider_: &str, user_: &str) -> Which {
    Which { ssi: Ssi::new(provider(provider_), user(user_)).unwrap(), circle: None }
}

pub(super) fn which_in(provider: &str, user: &str, circle: &Circle) -> Which {
    Which { circle: Some(circle.id()), ..which(provider, user) }
}

/// A proof that nobody has seen, good for five minutes.
pub(super) fn proof() -> ProofRecord {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let hash = *blake3::hash(&number.to_be_bytes()).as_bytes();
    ProofRecord { hash, expires_s: NOW_S + 300 }
}

pub(super) fn control(sii: &Sii) -> VerifiedControl {
    VerifiedControl::new(sii.clone(), proof())
}

pub(super) fn seconds(seconds: u64) -> u32 {
    seconds.try_into().unwrap()
}

/// The signature of a provider over a mapping as it is.
pub(super) fn signature(sii: &Sii, mapping: Mapping) -> [u8; 64] {
    let key = signer(mapping.ssi.provider().as_str());
    SignedMapping::sign(sii, mapping, &key).signature
}

/// A claim of now, verified for 30 days.
pub(super) fn claim(sii: &Sii, provider_: &str, user_: &str) -> Claim {
    let claim = Claim {
        verified: VerifiedClaim::new(sii.clone(), provider(provider_), proof(), NOW_S),
        user: user(user_),
        audience: Audience::Personal,
        ttl_s: 86_400,
        verified_until: seconds(NOW_S + 30 * 86_400),
        signature: [0; 64],
        circle: None,
    };
    signed(claim)
}

pub(super) fn claim_in(sii: &Sii, provider: &str, user: &str, circle: Circle) -> Claim {
    Claim { circle: Some(circle), ..claim(sii, provider, user) }
}

/// The claim as its provider signs it.
pub(super) fn signed(mut claim: Claim) -> Claim {
    let mapping = Mapping {
        ssi: Ssi::new(claim.verified.provider().clone(), claim.user.clone()).unwrap(),
        audience: claim.audience,
        default_since: 0,
        verified_until: claim.verified_until,
        ttl_s: claim.ttl_s,
    };
    claim.signature = signature(claim.verified.sii(), mapping);
    claim
}

/// The name of a refusal.
pub(super) fn name(error: &LedgerError) -> &'static str {
    match error {
        LedgerError::Ssi(_) => "ssi",
        LedgerError::UnknownProvider(_) => "unknown provider",
        LedgerError::Signature(_) => "signature",
        LedgerError::VerifiedTooLong => "verified too long",
        LedgerError::Lapsed => "lapsed",
        LedgerError::NotFound => "not found",
        LedgerError::PortOfAnother => "port of another",
        LedgerError::PortToItself => "port to itself",
        LedgerError::PageToken => "page token",
        LedgerError::ProofUsed => "proof used",
        LedgerError::ProofExpired => "proof expired",
        LedgerError::TooManyMappings => "too many mappings",
        LedgerError::ShareTaken => "share taken",
        LedgerError::BucketFull => "bucket full",
        LedgerError::TooManyProofs => "too many proofs",
        LedgerError::Busy => "busy",
        LedgerError::NoDirectory => "no directory",
        LedgerError::Closed => "closed",
        LedgerError::EpochMissing(_) => "epoch missing",
        LedgerError::Damaged(_) => "damaged",
        LedgerError::Store(_) => "store",
        LedgerError::Clock => "clock",
        LedgerError::Keyring(_)
        | LedgerError::Row(_)
        | LedgerError::Oprf(_)
        | LedgerError::Entry(_)
        | LedgerError::Bucket(_)
        | LedgerError::Worker => "fault",
    }
}

/// The outcome of an operation, by name.
pub(super) fn outcome<T>(result: Result<T, LedgerError>) -> Result<(), &'static str> {
    result.map(drop).map_err(|error| name(&error))
}
