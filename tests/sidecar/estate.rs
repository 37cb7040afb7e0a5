//! Directories with people in them, their servers, and a sidecar in front.

use std::{io::Cursor, net::SocketAddr, sync::Arc, time::Duration};

use blindbook::{
    client::{ClientOptions, MemoryState},
    identifier::Provider,
    keyring::{self, Keyring},
    registry::{self, Input, LoadOptions, Progress},
    server::{Call, Clock, Server, ServerError, ServerOptions, Transcript},
    sidecar::{DirectoryOptions, Listen, Listener, Route, Sidecar, SidecarError, SidecarOptions},
    store::MemoryGenerations,
    wire::proto::{
        Audience, ResolveManyRequest, ResolveRequest, ResolveResponse, ResolvedMapping,
        resolve_many_result::Outcome, sidecar_service_client::SidecarServiceClient,
    },
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

/// Longer than anything here should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const PEOPLE: &str = "sii,user,audience,default\n\
    +14155550100,alice,personal,true\n\
    +14155550101,bob,personal,\n\
    +14155550102,carol.shop,business,\n\
    +14155550102,carol,personal,true\n\
    +14155550102,carol.work,business,\n\
    dave@example.com,dave,personal,\n\
    acct:eve@host.example,eve,personal,\n";

/// A directory in memory with a server of its own.
pub(crate) struct Dp {
    keyring: Arc<Keyring>,
    generations: Arc<MemoryGenerations>,
    pub(crate) transcript: Arc<Transcript>,
    folder: TempDir,
}

impl Dp {
    /// With the people of a CSV, all users of wa.example.
    pub(crate) async fn with(people: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        keyring::generate(&keys, &mut rand::rng()).unwrap();
        let dp = Self {
            keyring: Arc::new(Keyring::load(&keys).unwrap()),
            generations: Arc::default(),
            transcript: Arc::default(),
            folder,
        };
        dp.load("wa.example", 1, people).await;
        dp
    }

    /// Loads more people, of another provider.
    pub(crate) async fn load(&self, provider: &str, key: u8, people: &str) {
        let provider = Provider::parse(provider).unwrap();
        let key = SigningKey::from_bytes(&[key; 32]);
        let spill = self.folder.path().join("spill");
        let options =
            LoadOptions { strict: true, ..LoadOptions::new(provider, key, spill, 1_800_000_000) };
        let input = Input::stream("people.csv", Cursor::new(people.to_owned()));
        let (generations, keyring) = (self.generations.clone(), self.keyring.clone());
        let progress = Arc::new(Progress::default());
        registry::load(generations, keyring, options, vec![input], progress).await.unwrap();
    }

    pub(crate) fn identity(&self) -> VerifyingKey {
        self.keyring.identity().verifying_key()
    }

    /// Serves on a port of its own.
    pub(crate) async fn serve(&self) -> DpServer {
        self.serve_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub(crate) async fn serve_at(&self, address: SocketAddr) -> DpServer {
        let options = ServerOptions::default();
        let (generations, keyring) = (self.generations.clone(), self.keyring.clone());
        let server = Server::open(generations, keyring, options, Clock::system()).await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = server.record(self.transcript.clone());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        DpServer { address, stop, task }
    }

    /// How a sidecar reaches it there.
    pub(crate) fn options(&self, name: &str, address: SocketAddr) -> DirectoryOptions {
        let client = ClientOptions::new(format!("http://{address}"), self.identity());
        let state = Arc::new(MemoryState::new());
        DirectoryOptions { name: name.into(), client, state, serves: Route::all() }
    }

    /// What was asked of it so far, parameters and providers aside.
    pub(crate) fn lookups(&self) -> Vec<Call> {
        let asks = |call: &Call| call.path.ends_with("Evaluate") || call.path.ends_with("Buckets");
        self.transcript.calls().into_iter().filter(asks).collect()
    }
}

/// A running server of a directory.
pub(crate) struct DpServer {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl DpServer {
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}

/// A running sidecar.
pub(crate) struct Beside {
    pub(crate) place: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), SidecarError>>,
}

impl Beside {
    /// On a loopback port.
    pub(crate) async fn start(options: SidecarOptions) -> Self {
        Self::at("127.0.0.1:0", options).await
    }

    pub(crate) async fn at(place: &str, options: SidecarOptions) -> Self {
        let listen: Listen = place.parse().unwrap();
        let listener = Listener::bind(&listen).await.unwrap();
        let place = listener.place().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(Sidecar::open(options).unwrap().run(listener, async {
            let _ = stopped.await;
        }));
        Self { place, stop, task }
    }

    /// A sidecar of one directory, ready.
    pub(crate) async fn of(options: DirectoryOptions) -> Self {
        let beside = Self::start(us(vec![options])).await;
        beside.ready().await;
        beside
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.place.parse().unwrap()
    }

    pub(crate) async fn channel(&self) -> Channel {
        let uri = match self.place.strip_prefix("unix:") {
            Some(_) => self.place.clone(),
            None => format!("http://{}", self.place),
        };
        Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> Asker {
        Asker(SidecarServiceClient::new(self.channel().await))
    }

    /// What its health says now.
    pub(crate) async fn status(&self) -> ServingStatus {
        let mut health = HealthClient::new(self.channel().await);
        let service = "blindbook.v1.SidecarService".to_owned();
        health.check(HealthCheckRequest { service }).await.unwrap().into_inner().status()
    }

    /// Waits until its health says that it serves.
    pub(crate) async fn ready(&self) {
        let mut health = HealthClient::new(self.channel().await);
        let request = HealthCheckRequest { service: String::new() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        let ready = async {
            while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
        };
        timeout(PATIENCE, ready).await.expect("ready in time");
    }

    /// Tells it to stop; [`Stopping::end`] waits for it.
    pub(crate) fn begin_to_stop(self) -> Stopping {
        let _ = self.stop.send(());
        Stopping(self.task)
    }

    /// Waits until it ends of itself.
    pub(crate) async fn ends(self) -> Result<(), SidecarError> {
        timeout(PATIENCE, self.task).await.expect("an end in time").unwrap()
    }
}

pub(crate) struct Stopping(JoinHandle<Result<(), SidecarError>>);

impl Stopping {
    pub(crate) async fn end(self) {
        timeout(PATIENCE, self.0).await.expect("an end in time").unwrap().unwrap();
    }
}

/// The defaults, in the United States.
pub(crate) fn us(directories: Vec<DirectoryOptions>) -> SidecarOptions {
    SidecarOptions { region: Some("US".parse().unwrap()), ..SidecarOptions::new(directories) }
}

/// A backend's client.
pub(crate) struct Asker(pub(crate) SidecarServiceClient<Channel>);

impl Asker {
    pub(crate) async fn resolve(
        &mut self,
        request: ResolveRequest,
    ) -> Result<ResolveResponse, Status> {
        Ok(self.0.resolve(request).await?.into_inner())
    }

    /// The mappings of one identifier, wherever the routes lead.
    pub(crate) async fn users(&mut self, sii: &str) -> Vec<String> {
        users(&self.resolve(ask(sii)).await.unwrap().mappings)
    }

    pub(crate) async fn many(
        &mut self,
        request: ResolveManyRequest,
    ) -> Result<Vec<Outcome>, Status> {
        let results = self.0.resolve_many(request).await?.into_inner().results;
        Ok(results.into_iter().map(|result| result.outcome.unwrap()).collect())
    }
}

pub(crate) fn ask(sii: &str) -> ResolveRequest {
    ResolveRequest { sii: sii.into(), ..ResolveRequest::default() }
}

pub(crate) fn ask_for(sii: &str, audience: Audience) -> ResolveRequest {
    ResolveRequest { audience: audience.into(), ..ask(sii) }
}

pub(crate) fn ask_at(sii: &str, directory: &str) -> ResolveRequest {
    ResolveRequest { directory: directory.into(), ..ask(sii) }
}

pub(crate) fn ask_many(siis: &[&str]) -> ResolveManyRequest {
    let siis = siis.iter().map(ToString::to_string).collect();
    ResolveManyRequest { siis, ..ResolveManyRequest::default() }
}

pub(crate) fn users(mappings: &[ResolvedMapping]) -> Vec<String> {
    mappings.iter().map(|found| format!("{}@{}", found.user, found.provider)).collect()
}

/// What a status is about, for programs.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "blindbook");
    info.reason.clone()
}

/// Which field of a request is at fault.
pub(crate) fn field(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().expect("a BadRequest").field_violations[0].field.clone()
}
