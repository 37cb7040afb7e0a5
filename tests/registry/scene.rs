//! A directory with partners: a server with TLS, the partners' certificates
//! and keys, and a clock that the test sets.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use blindbook::{
    access::{Alias, Coverage, Partner as Listed, PartnerUri, Role},
    bucket::{Audience, Mapping, SignedMapping},
    client::{Client, ClientOptions, Found, MemoryState},
    identifier::{Provider, Sii, Ssi, User},
    registry::{
        Ledger,
        proof::{
            Challenges, CodeLimits, CodeMessage, CodeSender, Codes, MemoryPending, Pending,
            PendingError, PendingKey, Proofs, SendError, TokenSigner,
        },
        verify_directory,
    },
    secret::Secret,
    server::{
        Clock, PirOptions, QuotaOptions, RegistryOptions, Server, ServerOptions, Tls, TlsPem,
        Transcript, Verification,
    },
    store::Generations as _,
    wire::proto::{self, registry_service_client::RegistryServiceClient},
};
use ed25519_dalek::SigningKey;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use crate::{
    certificates::Authority,
    common::{Directory, Running},
    vectors,
};

pub(crate) const NOW_S: u64 = 1_800_000_010;

pub(crate) const BITS: u32 = 6;

/// Providers with a key; the vectors name them.
pub(crate) const PROVIDERS: [&str; 3] = ["wa.example", "signal.example", "threema.example"];

pub(crate) type Partner = RegistryServiceClient<Channel>;

/// Keeps the newest message.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<String>);

#[async_trait]
impl CodeSender for Outbox {
    async fn send(&self, message: CodeMessage) -> Result<(), SendError> {
        message.text().clone_into(&mut self.0.lock().unwrap());
        Ok(())
    }
}

impl Outbox {
    pub(crate) fn code(&self) -> String {
        self.0.lock().unwrap().chars().take_while(char::is_ascii_digit).collect()
    }
}

/// What is pending, to be forgotten at will.
pub(crate) struct Forgetful(Mutex<Arc<MemoryPending>>);

impl Forgetful {
    fn new() -> Self {
        Self(Mutex::new(Arc::new(MemoryPending::new(10_000))))
    }

    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap() = Arc::new(MemoryPending::new(10_000));
    }

    fn pending(&self) -> Arc<MemoryPending> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Pending for Forgetful {
    async fn get(&self, key: &PendingKey, now_s: u64) -> Result<Option<Vec<u8>>, PendingError> {
        self.pending().get(key, now_s).await
    }

    async fn swap(
        &self,
        key: &PendingKey,
        expected: Option<&[u8]>,
        new: Option<(&[u8], u64)>,
        now_s: u64,
    ) -> Result<bool, PendingError> {
        self.pending().swap(key, expected, new, now_s).await
    }
}

/// What outlives a server.
pub(crate) struct Scene {
    pub(crate) directory: Directory,
    pub(crate) authority: Authority,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) pending: Arc<Forgetful>,
    pub(crate) now_s: Arc<AtomicU64>,
    pub(crate) regions: Vec<String>,
    pub(crate) sweep_period: Duration,
    pub(crate) quotas: QuotaOptions,
    pub(crate) pir: Option<PirOptions>,
    /// Every call, from its beginning.
    pub(crate) transcript: Option<Arc<Transcript>>,
}

/// A running server.
pub(crate) struct Served<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) challenges: Challenges,
    pub(crate) ledger: Ledger,
    pub(crate) tls: Tls,
    running: Running,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let directory = Directory::new(BITS, 1).await;
        for name in PROVIDERS {
            let key = signer(name).verifying_key().to_bytes().to_vec();
            directory.generations.meta_put(&format!("provider/{name}"), key).await.unwrap();
        }
        Self {
            directory,
            authority: Authority::new(),
            outbox: Arc::default(),
            pending: Arc::new(Forgetful::new()),
            now_s: Arc::new(AtomicU64::new(NOW_S)),
            regions: Vec::new(),
            sweep_period: Duration::from_secs(3600),
            quotas: QuotaOptions::default(),
            pir: None,
            transcript: None,
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        let now_s = self.now_s.clone();
        Clock::new(move || now_s.load(Ordering::SeqCst))
    }

    pub(crate) fn set_time(&self, now_s: u64) {
        self.now_s.store(now_s, Ordering::SeqCst);
    }

    pub(crate) async fn serve(&self) -> Served<'_> {
        self.serve_with(None).await
    }

    /// The files of TLS, with a revocation list or without.
    pub(crate) fn pem(&self, crl: Option<String>) -> TlsPem {
        let (cert, key) = self.authority.server();
        TlsPem {
            cert: cert.into_bytes(),
            key: key.into_bytes().into(),
            client_ca: Some(self.authority.pem.clone().into_bytes()),
            client_crl: crl.map(String::into_bytes),
        }
    }

    pub(crate) async fn serve_with(&self, crl: Option<String>) -> Served<'_> {
        let tls = Tls::new(&self.pem(crl), self.clock()).unwrap();
        let options = ServerOptions {
            tls: Some(tls.clone()),
            regions: self.regions.clone(),
            quotas: self.quotas.clone(),
            pir: self.pir.clone(),
            ..ServerOptions::default()
        };
        let (generations, keyring) =
            (self.directory.generations.clone(), self.directory.keyring.clone());
        let server = Server::open(generations, keyring, options, self.clock()).await.unwrap();
        let challenges = Challenges::new(self.pending.clone(), 300, 100_000).unwrap();
        let server = server.with_partners(partners()).await.unwrap();
        let server = server.with_registry(self.options(challenges.clone())).await.unwrap();
        let ledger = server.ledger().unwrap();
        let server = match self.transcript.clone() {
            Some(transcript) => server.record(transcript),
            None => server,
        };
        Served { scene: self, challenges, ledger, tls, running: Running::start(server).await }
    }

    /// What a registry of its own is made of.
    pub(crate) fn registry(&self) -> RegistryOptions {
        self.options(Challenges::new(self.pending.clone(), 300, 100_000).unwrap())
    }

    fn options(&self, challenges: Challenges) -> RegistryOptions {
        let seed = &self.directory.keyring.registry().unwrap().token_seed;
        let signer = TokenSigner::from_seed(seed, *self.directory.keyring.directory()).unwrap();
        let mut tokens = vectors::token_issuers();
        tokens.trust(signer.issuer(), signer.key().clone()).unwrap();
        let (passports, identities) = (vectors::passport_rules(), vectors::identity_issuers());
        let proofs = Proofs::new(challenges, tokens, passports, identities);
        let limits = CodeLimits {
            per_identifier_and_provider_per_h: 1000,
            per_identifier_per_h: 1000,
            ..CodeLimits::default()
        };
        let key = self.directory.keyring.registry().unwrap().code_key.clone();
        let codes = Codes::new(self.pending.clone(), self.outbox.clone(), key, limits).unwrap();
        let mut options = RegistryOptions::new(proofs);
        options.verification = Some(Verification { codes, signer });
        options.sweep_period = self.sweep_period;
        options
    }
}

pub(crate) const ADMIN: &str = "spiffe://dp.example/admin";
pub(crate) const PEER: &str = "spiffe://other.example/dp";
pub(crate) const NUMBERS: &str = "spiffe://numbers.example/us";

/// A partner as a configuration lists it.
pub(crate) fn listed(uri: &str, alias: &str, role: Role) -> Listed {
    let (uri, alias) = (PartnerUri::parse(uri).unwrap(), Alias::parse(alias).unwrap());
    Listed { uri, alias, role, evaluations_per_day: None }
}

fn partners() -> Vec<Listed> {
    let covered = |number: &str, domain: &str| {
        Role::Authority(Coverage::new(&[number.into()], &[domain.into()]).unwrap())
    };
    let mut partners = vec![
        listed(ADMIN, "admin", Role::Admin),
        listed(PEER, "peer", Role::Peer),
        listed(NUMBERS, "us", covered("+1", "mail.example")),
        listed("spiffe://numbers.example/uk", "uk", covered("+44", "post.example")),
    ];
    for name in PROVIDERS.into_iter().chain(["stranger.example"]) {
        let (alias, role) = (name.replace('.', "-"), Role::Ap(provider(name)));
        partners.push(listed(&format!("spiffe://{name}/ap"), &alias, role));
    }
    partners
}

impl Served<'_> {
    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.running.address.port())
    }

    /// A connection, with a certificate or without.
    pub(crate) async fn channel(
        &self,
        identity: Option<Identity>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.scene.authority.pem));
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Endpoint::from_shared(self.url())?.tls_config(tls)?.connect().await
    }

    /// A partner with a certificate of this URI.
    pub(crate) async fn certified(&self, uri: &str) -> Partner {
        let identity = self.scene.authority.partner(&[uri]);
        Partner::new(self.channel(Some(identity)).await.unwrap())
    }

    /// An application provider.
    pub(crate) async fn ap(&self, name: &str) -> Partner {
        self.certified(&format!("spiffe://{name}/ap")).await
    }

    /// What anybody finds now, by a client that knows nothing yet.
    pub(crate) async fn lookup(&self, sii: &Sii) -> Vec<Found> {
        let identity = self.scene.directory.keyring.identity().verifying_key();
        let mut options = ClientOptions::new(self.url(), identity);
        options.ca_pem = Some(self.scene.authority.pem.clone().into());
        options.clock = self.scene.clock();
        let client = Client::connect(options, Arc::new(MemoryState::new())).await.unwrap();
        let answer = client.lookup(sii).await.unwrap();
        assert_eq!(answer.damaged, 0);
        answer.mappings.clone()
    }

    /// Users and providers that anybody finds now, in order.
    pub(crate) async fn found(&self, sii: &Sii) -> Vec<String> {
        let name =
            |found: &Found| format!("{}@{}", found.ssi.user().as_str(), found.ssi.provider());
        let mut found: Vec<_> = self.lookup(sii).await.iter().map(name).collect();
        found.sort();
        found
    }

    /// A claim token of this directory, by way of a code.
    pub(crate) async fn token(&self, partner: &mut Partner, sii: &Sii) -> proto::Proof {
        let start = proto::StartVerificationRequest { sii: sii.as_str().into() };
        partner.start_verification(start).await.unwrap();
        let code = self.scene.outbox.code();
        let finish = proto::FinishVerificationRequest { sii: sii.as_str().into(), code };
        let token = partner.finish_verification(finish).await.unwrap().into_inner().token;
        proof(token)
    }

    /// Claims as everybody should.
    pub(crate) async fn claimed(&self, sii: &Sii, provider: &str, user: &str) {
        let mut partner = self.ap(provider).await;
        let proof = self.token(&mut partner, sii).await;
        partner.claim(claim(sii, provider, user, proof)).await.unwrap();
    }

    /// Registry and buckets agree, and there are so many mappings.
    pub(crate) async fn is_clean(&self, mappings: u64) {
        let Directory { generations, keyring, .. } = &self.scene.directory;
        let found = verify_directory(&**generations, keyring.clone(), |_| {}).await.unwrap();
        assert_eq!((found.mappings, found.faulty), (mappings, 0));
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }

    /// Ends at once, as a killed process does.
    #[allow(dead_code, reason = "shared with tests that stop theirs")]
    pub(crate) async fn kill(self) {
        self.running.kill().await;
    }
}

pub(crate) fn signer(provider: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(provider.as_bytes()).as_bytes())
}

pub(crate) fn provider(name: &str) -> Provider {
    Provider::parse(name).unwrap()
}

pub(crate) fn sii(text: &str) -> Sii {
    Sii::from_canonical(text).unwrap()
}

pub(crate) fn proof(token: String) -> proto::Proof {
    proto::Proof { proof: Some(proto::proof::Proof::Token(token)) }
}

/// The signature of a provider's own key over a mapping.
pub(crate) fn signature(
    sii: &Sii,
    (provider_, user): (&str, &str),
    audience: Audience,
    (ttl_s, verified_until): (u32, u32),
) -> Vec<u8> {
    let ssi = Ssi::new(provider(provider_), User::parse(user).unwrap()).unwrap();
    let mapping = Mapping { ssi, audience, default_since: 0, verified_until, ttl_s };
    SignedMapping::sign(sii, mapping, &signer(provider_)).signature.to_vec()
}

/// A claim, signed by its provider, verified until a day later.
pub(crate) fn claim(
    sii: &Sii,
    provider: &str,
    user: &str,
    proof: proto::Proof,
) -> proto::ClaimRequest {
    claim_until(sii, provider, user, proof, NOW_S + 86_400)
}

pub(crate) fn claim_until(
    sii: &Sii,
    provider: &str,
    user: &str,
    proof: proto::Proof,
    until_s: u64,
) -> proto::ClaimRequest {
    let until = u32::try_from(until_s).unwrap();
    proto::ClaimRequest {
        sii: sii.as_str().into(),
        user: user.into(),
        audience: proto::Audience::Personal.into(),
        ttl_s: 3600,
        verified_until_s: until,
        signature: signature(sii, (provider, user), Audience::Personal, (3600, until)).into(),
        proof: Some(proof),
        circle_secret: Vec::new().into(),
    }
}

/// The same claim under a circle's secret.
pub(crate) fn in_circle(claim: proto::ClaimRequest, secret: &Secret<32>) -> proto::ClaimRequest {
    proto::ClaimRequest { circle_secret: secret.expose().to_vec().into(), ..claim }
}

/// Code and reason of a refusal.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.unwrap_err();
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no reason: {status}"));
    assert_eq!(info.domain, blindbook::server::ERROR_DOMAIN);
    (status.code(), info.reason.clone())
}

/// The reason of a refusal.
#[track_caller]
pub(crate) fn reason<T: std::fmt::Debug>(outcome: Result<T, Status>) -> String {
    refused(outcome).1
}
