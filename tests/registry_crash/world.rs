//! The directory, its providers, and the people whom writers act for.

use std::{
    collections::BTreeMap,
    io::Cursor,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use blindbook::{
    bucket::{Audience, Mapping, SignedMapping},
    identifier::{Provider, Sii, Ssi, User},
    keyring::{self, Keyring},
    registry::{
        self, Circle, Claim, Input, Ledger, LoadOptions, Progress, VerifiedControl, Which,
        proof::{
            Challenges, CodeLimits, CodeMessage, CodeSender, Codes, IdentityIssuers, MemoryPending,
            PassportRules, Pending, Proof, Proofs, Proven, SendError, TokenIssuers, TokenSigner,
        },
    },
    secret::Secret,
    store::{SledGenerations, SledOptions},
};
use ed25519_dalek::SigningKey;

use crate::{
    model::{Known, Mappings},
    operation::{Name, Token},
};

pub(crate) const OPTIONS: SledOptions =
    SledOptions { cache_bytes: 16 << 20, change_log_entries: 256, group_commits: true };

pub(crate) const START_S: u64 = 1_800_000_000;
pub(crate) const PROVIDERS: [&str; 2] = ["wa.example", "sg.example"];
pub(crate) const USERS: usize = 5;

/// Writers, the sweeper not counted, and whom they act for.
pub(crate) const WRITERS: usize = 6;
pub(crate) const IDENTIFIERS: usize = 3 * WRITERS;

/// Whom the sweeper acts for.
pub(crate) const SWEPT: Range<usize> = IDENTIFIERS..IDENTIFIERS + 3;

/// How long a mapping that is to be swept holds.
pub(crate) const BRIEF_S: u64 = 60;

const TTL_S: u32 = 3600;

/// People who were loaded and whom nobody changes: they fill four buckets.
const LOADED: usize = 300;

/// Until when a mapping is verified. But for those that are to be swept it is the
/// same for all, so that an audience can be signed without asking.
pub(crate) fn until(brief: bool, now_s: u64) -> u32 {
    let until_s = if brief { now_s + BRIEF_S } else { START_S + 29 * 86_400 };
    u32::try_from(until_s).unwrap()
}

pub(crate) fn sii(of: usize) -> Sii {
    Sii::from_canonical(&format!("mailto:person-{of}@changing.example")).unwrap()
}

pub(crate) fn provider(of: usize) -> Provider {
    Provider::parse(PROVIDERS[of]).unwrap()
}

pub(crate) fn user(of: usize) -> User {
    User::parse(&format!("user-{of}")).unwrap()
}

pub(crate) fn which((by, whom): Name) -> Which {
    Which { ssi: Ssi::new(provider(by), user(whom)).unwrap(), circle: None }
}

pub(crate) fn circle() -> Circle {
    Circle::new(Secret::new([7; 32]))
}

const fn audience(business: bool) -> Audience {
    if business { Audience::Business } else { Audience::Personal }
}

fn signer(of: usize) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(PROVIDERS[of].as_bytes()).as_bytes())
}

/// The signature of a provider over a mapping as it is.
pub(crate) fn signature(of: usize, name: Name, business: bool, until: u32) -> [u8; 64] {
    let mapping = Mapping {
        ssi: which(name).ssi,
        audience: audience(business),
        default_since: 0,
        verified_until: until,
        ttl_s: TTL_S,
    };
    SignedMapping::sign(&sii(of), mapping, &signer(name.0)).signature
}

/// Keeps the newest message to each.
#[derive(Default)]
struct Outbox(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl CodeSender for Outbox {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        let code = message.text().chars().take_while(char::is_ascii_digit).collect();
        self.0.lock().unwrap().insert(message.to().as_str().to_owned(), code);
        Ok(())
    }
}

pub(crate) struct World {
    root: PathBuf,
    keyring: Arc<Keyring>,
    outbox: Arc<Outbox>,
    codes: Codes,
    tokens: TokenSigner,
    proofs: Proofs,
}

impl World {
    /// Makes keys and a loaded directory.
    pub(crate) async fn make(root: &Path) -> Self {
        keyring::generate(&root.join("keys"), &mut rand::rng()).unwrap();
        let world = Self::open(root);
        let generations = Arc::new(SledGenerations::open(world.data(), OPTIONS).await.unwrap());
        for by in 0..PROVIDERS.len() {
            let people = (0..LOADED / PROVIDERS.len())
                .map(|n| format!("loaded-{by}-{n}@still.example,person-{n}"));
            let people = ["sii,user".to_owned()].into_iter().chain(people);
            let people = people.collect::<Vec<_>>().join("\n") + "\n";
            let people = Input::stream("people", Cursor::new(people));
            let spill = root.join("spill");
            let options = LoadOptions::new(provider(by), signer(by), spill, START_S);
            let progress = Arc::new(Progress::default());
            let keyring = world.keyring();
            registry::load(generations.clone(), keyring, options, vec![people], progress)
                .await
                .unwrap();
        }
        world
    }

    /// Opens what was made.
    pub(crate) fn open(root: &Path) -> Self {
        let keyring = Arc::new(Keyring::load(&root.join("keys")).unwrap());
        let pending: Arc<dyn Pending> = Arc::new(MemoryPending::new(1 << 20));
        let outbox = Arc::new(Outbox::default());
        let most = u32::MAX;
        let limits = CodeLimits {
            per_identifier_and_provider_per_h: most,
            per_identifier_per_h: most,
            per_provider_per_h: most,
            ..CodeLimits::default()
        };
        let codes = Codes::new(pending.clone(), outbox.clone(), Secret::new([3; 32]), limits);
        let tokens = TokenSigner::from_seed(&Secret::new([4; 32]), *keyring.directory()).unwrap();
        let mut issuers = TokenIssuers::default();
        issuers.trust(tokens.issuer(), tokens.key().clone()).unwrap();
        let proofs = Proofs::new(
            Challenges::new(pending, 300, 100).unwrap(),
            issuers,
            PassportRules::default(),
            IdentityIssuers::default(),
        );
        Self { root: root.into(), keyring, outbox, codes: codes.unwrap(), tokens, proofs }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        self.keyring.clone()
    }

    /// A new proof, the way a user makes one.
    pub(crate) async fn prove(&self, of: usize, by: usize, now_s: u64) -> Token {
        let (sii, provider) = (sii(of), provider(by));
        let started = self.codes.start(&sii, &provider, now_s, &mut rand::rng());
        started.await.unwrap();
        let code = self.outbox.0.lock().unwrap().get(sii.as_str()).cloned().unwrap();
        let confirmed = self.codes.finish(&sii, &provider, &code, now_s).await.unwrap();
        let token = self.tokens.mint(&confirmed, now_s, &mut rand::rng()).unwrap();
        Token { now_s, provider: by, text: token.to_string() }
    }

    async fn proven(&self, of: usize, token: &Token) -> Proven {
        let proof = Proof::Token(token.text.clone());
        let provider = provider(token.provider);
        self.proofs.verify(&proof, &sii(of), &provider, token.now_s).await.unwrap()
    }

    pub(crate) async fn control(&self, of: usize, token: &Token) -> VerifiedControl {
        self.proven(of, token).await.into()
    }

    /// A claim with a proof, of whomever.
    pub(crate) async fn claim(&self, of: usize, token: &Token) -> Claim {
        self.claim_of(of, (token.provider, 0), (false, false, false), token).await
    }

    /// A claim: whether of a business, in the circle, and for a short time.
    pub(crate) async fn claim_of(
        &self,
        of: usize,
        name: Name,
        (business, in_circle, brief): (bool, bool, bool),
        token: &Token,
    ) -> Claim {
        let verified_until = until(brief, token.now_s);
        Claim {
            verified: self.proven(of, token).await.into(),
            user: user(name.1),
            audience: audience(business),
            ttl_s: TTL_S,
            verified_until,
            signature: signature(of, name, business, verified_until),
            circle: in_circle.then(circle),
        }
    }

    /// All mappings of the people whom writers act for.
    pub(crate) async fn listed(&self, ledger: &Ledger) -> BTreeMap<usize, Mappings> {
        let people: BTreeMap<_, _> =
            (0..SWEPT.end).map(|of| (sii(of).as_str().to_owned(), of)).collect();
        let mut listed: BTreeMap<usize, Mappings> = BTreeMap::new();
        let mut others = 0;
        for by in 0..PROVIDERS.len() {
            let mut from = None;
            loop {
                let page = ledger.list(&provider(by), from, 1000).await.unwrap();
                for mapped in page.mappings {
                    let Some(of) = people.get(mapped.sii.as_str()) else {
                        others += 1;
                        continue;
                    };
                    let whom = mapped.which.ssi.user().as_str();
                    let whom = whom.trim_start_matches("user-").parse().unwrap();
                    listed.entry(*of).or_default().push(Known {
                        name: (by, whom),
                        circle: mapped.which.circle.is_some(),
                        business: mapped.audience == Audience::Business,
                        since: mapped.default_since,
                        until: mapped.verified_until,
                    });
                }
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        assert_eq!(others, LOADED, "people whom nobody changes were changed");
        for mappings in listed.values_mut() {
            mappings.sort_unstable();
        }
        listed
    }
}
