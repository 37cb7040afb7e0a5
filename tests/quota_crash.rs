//! Quotas hold and spent tokens stay spent when the server's process is killed
//! (`SIGKILL`) again and again while partners and users ask, over a data folder on
//! disk.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells its parent where it listens"
)]

#[path = "common/certificates.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod certificates;
#[path = "common/mod.rs"]
#[allow(dead_code, clippy::expect_used, reason = "shared with tests that use other parts of it")]
mod common;
#[path = "registry/scene.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod scene;
#[path = "registry/vectors.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod vectors;
#[path = "quota/world.rs"]
#[allow(dead_code, reason = "shared with tests that use other parts of it")]
mod world;

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use blindbook::{
    access::{
        Role,
        quota::{Limit, Limits},
    },
    bucket::{BUCKET_BYTES, Bucket, PrefixBits},
    keyring::{self, Keyring},
    registry::proof::{
        Challenges, IdentityIssuers, MemoryPending, PassportRules, Proofs, TokenIssuers,
    },
    server::{
        Anonymous, Clock, QuotaOptions, RegistryOptions, Server, ServerOptions, mutual_tls_config,
    },
    store::{BulkBucket, Generations, SledGenerations, SledOptions},
    token::{Challenge, Day, Pass},
    wire::{
        SignedBody, TokenKeys,
        proto::{EvaluateRequest, GetTokenKeysRequest},
    },
};
use rand::RngExt as _;
use tokio::net::TcpListener;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{
    certificates::Authority,
    scene::{listed, provider, reason},
    world::{Asker, batch, finalize, paid},
};

const ROOT: &str = "BLINDBOOK_QUOTA_CRASH_ROOT";
const PARTNER: &str = "spiffe://wa.example/ap";
const ROUNDS: usize = 8;

/// One a second, after this.
const BURST: u64 = 4096;

async fn generations(root: &Path) -> Arc<dyn Generations> {
    let options = SledOptions { cache_bytes: 16 << 20, ..SledOptions::default() };
    Arc::new(SledGenerations::open(root.join("data"), options).await.unwrap())
}

/// The process under test; does nothing when the test runner runs it.
#[tokio::test(flavor = "multi_thread")]
async fn part() {
    let Ok(root) = env::var(ROOT) else { return };
    let root = Path::new(&root);
    let read = |name: &str| fs::read(root.join(name)).unwrap();
    let tls = mutual_tls_config(&read("cert.pem"), &read("cert.key"), &read("ca.pem")).unwrap();
    let partner = Limits {
        elements: Limit::new(86_400, BURST).unwrap(),
        tokens: Limit::new(86_400, 2048).unwrap(),
        ..Limits::default()
    };
    let quotas = QuotaOptions { anonymous: Anonymous::Tokens, partner, ..QuotaOptions::default() };
    let options = ServerOptions { tls: Some(tls), quotas, ..ServerOptions::default() };
    let keyring = Arc::new(Keyring::load(&root.join("keys")).unwrap());
    let server =
        Server::open(generations(root).await, keyring, options, Clock::system()).await.unwrap();
    let partner = listed(PARTNER, "wa", Role::Ap(provider("wa.example")));
    let server = server.with_partners(vec![partner]).await.unwrap();
    let challenges = Challenges::new(Arc::new(MemoryPending::new(1)), 60, 1).unwrap();
    let (tokens, passports) = (TokenIssuers::default(), PassportRules::default());
    let proofs = Proofs::new(challenges, tokens, passports, IdentityIssuers::default());
    let server = server.with_registry(RegistryOptions::new(proofs)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nport {}", listener.local_addr().unwrap().port());
    server.run(listener, std::future::pending()).await.unwrap();
}

struct Estate {
    root: tempfile::TempDir,
    authority: Authority,
    keyring: Keyring,
}

impl Estate {
    async fn make() -> Self {
        let root = tempfile::tempdir().unwrap();
        let keys = root.path().join("keys");
        keyring::generate(&keys, &mut rand::rng()).unwrap();
        let keyring = Keyring::load(&keys).unwrap();
        let authority = Authority::new();
        let (cert, key) = authority.server();
        for (name, text) in [("ca.pem", &authority.pem), ("cert.pem", &cert), ("cert.key", &key)] {
            fs::write(root.path().join(name), text).unwrap();
        }
        let generations = generations(root.path()).await;
        let bits = PrefixBits::new(1).unwrap();
        let store = generations.stage(bits).await.unwrap();
        let buckets = bits.numbers().map(|number| {
            let entries = vec![7; BUCKET_BYTES].into();
            let (epoch, directory) = (keyring.newest(), keyring.directory());
            let bucket =
                Bucket::sign(epoch, bits, number, 1, entries, directory, keyring.identity());
            BulkBucket { bucket: bucket.unwrap(), rows: Vec::new() }
        });
        store.bulk_put(buckets.collect()).await.unwrap();
        store.sync().await.unwrap();
        generations.promote().await.unwrap();
        Self { root, authority, keyring }
    }

    /// Starts the server, and tells where it listens.
    fn start(&self) -> (Child, u16) {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "part", "--nocapture", "--test-threads=1"])
            .env(ROOT, self.root.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ").and_then(|port| port.parse().ok()));
        (child, port.unwrap())
    }

    async fn asker(&self, port: u16, uri: Option<&str>) -> Result<Asker, tonic::transport::Error> {
        let ca = Certificate::from_pem(&self.authority.pem);
        let mut tls = ClientTlsConfig::new().ca_certificate(ca);
        if let Some(uri) = uri {
            let (cert, key) = self.authority.partner_pem(&[uri]);
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://localhost:{port}"))?;
        Ok(Asker::on(endpoint.tls_config(tls)?.connect().await?))
    }

    /// Tokens of a day; none if the server was killed meanwhile.
    async fn tokens(&self, asker: &mut Asker, count: usize) -> Option<Vec<Pass>> {
        let response = asker.quota.get_token_keys(GetTokenKeysRequest {}).await.ok()?;
        let signed = SignedBody::try_from(response.into_inner()).unwrap();
        let keys = TokenKeys::verify(&signed, &self.keyring.identity().verifying_key()).unwrap();
        let today = Day::at(Clock::system().now_s());
        let key = keys.key(today)?;
        let challenge = Challenge::of(self.keyring.directory().as_bytes(), today);
        let blinded: Vec<_> =
            (0..count).map(|_| key.blind(&challenge, &mut rand::rng()).unwrap()).collect();
        let signatures = asker.issue(today, &blinded).await.ok()?;
        Some(finalize(&blinded, &signatures, key))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_again_and_again_no_quota_grants_more_and_no_token_pays_twice() {
    let estate = Arc::new(Estate::make().await);
    let begun = Instant::now();
    let granted = Arc::new(AtomicU64::new(0));
    // Requests that were answered, and the token that paid each.
    let mut answered: Vec<(EvaluateRequest, Pass)> = Vec::new();
    for _ in 0..ROUNDS {
        let (mut child, port) = estate.start();
        let mut partners = Vec::new();
        for _ in 0..3 {
            let (estate, granted) = (estate.clone(), granted.clone());
            partners.push(tokio::spawn(async move {
                let Ok(mut asker) = estate.asker(port, Some(PARTNER)).await else { return };
                while asker.elements(32).await.is_ok() {
                    granted.fetch_add(32, Ordering::SeqCst);
                }
            }));
        }
        let user = tokio::spawn({
            let estate = estate.clone();
            async move {
                let mut paid_for = Vec::new();
                let (Ok(mut ap), Ok(mut user)) =
                    (estate.asker(port, Some(PARTNER)).await, estate.asker(port, None).await)
                else {
                    return paid_for;
                };
                let Some(tokens) = estate.tokens(&mut ap, 64).await else { return paid_for };
                for token in tokens {
                    let request = paid(batch(2), std::slice::from_ref(&token));
                    if user.evaluate(&request).await.is_err() {
                        break;
                    }
                    paid_for.push((request, token));
                }
                paid_for
            }
        });
        let time_ms = rand::rng().random_range(50..1500);
        tokio::time::sleep(Duration::from_millis(time_ms)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for partner in partners {
            partner.await.unwrap();
        }
        answered.extend(user.await.unwrap());
    }
    let most = BURST + begun.elapsed().as_secs() + 1;
    let granted = granted.load(Ordering::SeqCst);
    assert!(granted <= most, "{granted} granted, {most} allowed");
    assert!(granted >= 512, "hardly anything was granted: {granted}");
    assert!(answered.len() >= 16, "hardly any token was spent: {}", answered.len());

    let (mut child, port) = estate.start();
    let mut user = estate.asker(port, None).await.unwrap();
    for (request, token) in answered.iter().step_by(answered.len().div_ceil(100)) {
        let other = paid(batch(2), std::slice::from_ref(token));
        assert_eq!(reason(user.evaluate(&other).await), "TOKEN_SPENT");
        user.evaluate(request).await.unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
