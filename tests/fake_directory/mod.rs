// A small directory behind a real gRPC server, in this process: honest unless
// a test gives it a lie to tell. It writes down every call.
//
// Plain comments at the top: the SDK's example includes this file.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use blindbook::{
    bucket::{
        Audience, BUCKET_ENTRIES, Bucket, BucketNumber, Circle, DirectoryId, Entry, EntryKeys,
        Mapping, Placement, PrefixBits, SignedMapping, circle::oprf_input,
    },
    epoch::Epoch,
    identifier::{Provider, Sii, Ssi, User},
    oprf::ServerKey,
    secret::Secret,
    wire::{
        self, EpochKey, Evaluate, Evaluation, Fetch, Parameters, ProviderList, SignedBody,
        bucket_to_proto,
        proto::{
            self, EvaluateRequest, EvaluateResponse, FetchBucketsRequest, FetchBucketsResponse,
            GetParametersRequest, GetParametersResponse, ListProvidersRequest,
            ListProvidersResponse,
            discovery_service_server::{DiscoveryService, DiscoveryServiceServer},
            registry_service_server::{RegistryService, RegistryServiceServer},
        },
    },
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::{
    Iter,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    transport::{Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// When all tests take place.
pub(crate) const NOW_S: u64 = 1_800_000_000;

pub(crate) fn bits(bits: u32) -> PrefixBits {
    PrefixBits::new(bits).unwrap()
}

pub(crate) fn sii(canonical: &str) -> Sii {
    Sii::from_canonical(canonical).unwrap()
}

pub(crate) fn provider(name: &str) -> Provider {
    Provider::parse(name).unwrap()
}

pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// A refusal by a server that takes no more, for this reason.
pub(crate) fn exhausted(reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, wire::ERROR_DOMAIN, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, "ask again later", details)
}

/// One bucket as the directory keeps it.
struct Kept {
    version: u64,
    epoch: Epoch,
    entries: Vec<Entry>,
}

/// The directory itself.
pub(crate) struct World {
    pub(crate) identity: SigningKey,
    pub(crate) epochs: BTreeMap<Epoch, ServerKey>,
    pub(crate) parameters: Parameters,
    pub(crate) list: ProviderList,
    buckets: BTreeMap<u32, Kept>,
    /// Which bucket changed to which version, in order.
    pub(crate) log: watch::Sender<Vec<(u32, u64)>>,
    /// How much of the log's beginning is gone.
    pub(crate) log_begins: usize,
    /// After how many messages the next watches end.
    pub(crate) cuts: VecDeque<usize>,
}

impl World {
    /// An empty directory of one epoch, with the provider wa.example, whose
    /// key is of seed 50.
    pub(crate) fn new(prefix_bits: PrefixBits) -> Self {
        let identity = signing_key(7);
        let directory = DirectoryId::of(&identity.verifying_key());
        let parameters = Parameters {
            directory,
            serial: 10,
            not_before_s: NOW_S - 1000,
            not_after_s: NOW_S + 7 * 86_400,
            prefix_bits,
            epochs: Vec::new(),
            refresh_period_s: 86_400,
            pir: None,
            regions: Vec::new(),
        };
        let providers = vec![wire::Provider {
            name: provider("wa.example"),
            key: signing_key(50).verifying_key(),
            successions: Vec::new(),
        }];
        let list = ProviderList { directory, serial: 20, providers };
        let buckets = prefix_bits.numbers().map(|number| {
            let entries = (0..BUCKET_ENTRIES).map(|_| Entry::random(&mut rand::rng())).collect();
            (number.get(), Kept { version: 1, epoch: Epoch::FIRST, entries })
        });
        let buckets = buckets.collect();
        let mut world = Self {
            identity,
            epochs: BTreeMap::new(),
            parameters,
            list,
            buckets,
            log: watch::Sender::default(),
            log_begins: 0,
            cuts: VecDeque::new(),
        };
        world.add_epoch(1);
        world
    }

    pub(crate) fn directory(&self) -> DirectoryId {
        self.parameters.directory
    }

    /// Adds an epoch with a key of its own and names it in the parameters.
    pub(crate) fn add_epoch(&mut self, number: u8) -> Epoch {
        let epoch = Epoch::new(number.into()).unwrap();
        let key = ServerKey::derive(&Secret::new([number; 32]), b"fake directory").unwrap();
        self.parameters.epochs.push(EpochKey { epoch, key: key.public_key() });
        self.epochs.insert(epoch, key);
        epoch
    }

    /// Forgets an epoch's key and its place in the parameters.
    pub(crate) fn remove_epoch(&mut self, epoch: Epoch) {
        self.parameters.epochs.retain(|known| known.epoch != epoch);
        self.epochs.remove(&epoch);
    }

    fn keys(&self, sii: &Sii, circle: Option<&Circle>, epoch: Epoch) -> EntryKeys {
        let input = oprf_input(sii, circle);
        let outputs = self.epochs[&epoch].evaluate_many(&[input.as_slice()]).unwrap();
        EntryKeys::of(outputs[0].expose())
    }

    /// A new version of a bucket, told to whoever watches.
    fn change(&mut self, number: u32) -> &mut Kept {
        let kept = self.buckets.get_mut(&number).unwrap();
        kept.version += 1;
        self.log.send_modify(|log| log.push((number, kept.version)));
        kept
    }

    /// Changes an identifier's bucket, in nothing that belongs to it.
    pub(crate) fn touch(&mut self, sii: &Sii) {
        let number = self.number_of(sii);
        self.change(number);
    }

    pub(crate) fn number_of(&self, sii: &Sii) -> u32 {
        Placement::of(sii).bucket(self.parameters.prefix_bits).get()
    }

    /// Seals a mapping as the n-th of an identifier, under its bucket's epoch.
    pub(crate) fn put(&mut self, sii: &Sii, n: u32, mapping: &SignedMapping) {
        self.put_in(sii, None, n, mapping);
    }

    /// The same, in a circle.
    pub(crate) fn put_in(
        &mut self,
        sii: &Sii,
        circle: Option<&Circle>,
        n: u32,
        mapping: &SignedMapping,
    ) {
        let number = self.number_of(sii);
        let epoch = self.buckets[&number].epoch;
        let entry = self
            .keys(sii, circle, epoch)
            .seal(&self.directory(), epoch, n, mapping, &mut rand::rng())
            .unwrap();
        // Spread, so that few entries of a test meet; n keeps an identifier's apart.
        let spread = 29 * n as usize + if circle.is_some() { 128 } else { 0 };
        let slot = (usize::from(Placement::of(sii).expose()[31]) + spread) % BUCKET_ENTRIES;
        self.change(number).entries[slot] = entry;
    }

    /// The same, with a fresh mapping signed by wa.example.
    pub(crate) fn put_user(&mut self, sii: &Sii, n: u32, user: &str, default_since: u32) {
        let mapping = mapping("wa.example", user, default_since);
        self.put(sii, n, &SignedMapping::sign(sii, mapping, &signing_key(50)));
    }

    /// Flips a bit in every ciphertext of an identifier's bucket: tags stay.
    pub(crate) fn damage(&mut self, sii: &Sii) {
        let number = self.number_of(sii);
        for entry in &mut self.change(number).entries {
            let mut bytes = *entry.as_bytes();
            bytes[100] ^= 1;
            *entry = Entry::from_bytes(bytes);
        }
    }

    /// Moves on to epoch 2: epoch 1 is gone, and all of its entries with it.
    pub(crate) fn rotate(&mut self) {
        let second = self.add_epoch(2);
        self.remove_epoch(Epoch::FIRST);
        self.parameters.serial += 1;
        for number in self.parameters.prefix_bits.numbers() {
            self.change(number.get()).epoch = second;
        }
    }

    /// Dates an identifier's bucket to another epoch.
    pub(crate) fn move_bucket(&mut self, sii: &Sii, epoch: Epoch) {
        let number = self.number_of(sii);
        self.change(number).epoch = epoch;
    }

    /// A bucket, signed, with another version or content if so wished.
    pub(crate) fn bucket(&self, number: u32, alter: impl FnOnce(&mut u64, &mut Vec<u8>)) -> Bucket {
        let kept = &self.buckets[&number];
        let mut version = kept.version;
        let mut entries: Vec<u8> = kept.entries.iter().flat_map(|e| *e.as_bytes()).collect();
        alter(&mut version, &mut entries);
        let bits = self.parameters.prefix_bits;
        Bucket::sign(
            kept.epoch,
            bits,
            BucketNumber::new(number, bits).unwrap(),
            version,
            entries.into(),
            &self.directory(),
            &self.identity,
        )
        .unwrap()
    }

    /// Evaluates a batch under one of the keys there are, labelled as asked.
    pub(crate) fn evaluate(&self, key: Epoch, label: Epoch, elements: &[u8]) -> Evaluation {
        let (evaluated, proof) =
            self.epochs[&key].blind_evaluate_batch(elements, &mut rand::rng()).unwrap();
        Evaluation { epoch: label, evaluated_elements: evaluated.into(), proof }
    }

    fn is_current(&self, epoch: Epoch) -> Result<(), Status> {
        if self.epochs.contains_key(&epoch) {
            Ok(())
        } else {
            Err(Status::failed_precondition("epoch"))
        }
    }

    fn answer_evaluate(&self, request: EvaluateRequest) -> Result<EvaluateResponse, Status> {
        let request = Evaluate::try_from(request).map_err(refuse)?;
        self.is_current(request.epoch)?;
        let evaluate = |epoch: &Epoch| self.evaluate(*epoch, *epoch, &request.blinded_elements);
        Ok(Evaluation::response(self.epochs.keys().map(evaluate).collect()))
    }

    /// An answer of chance, of the right length: a row in which nothing opens.
    fn answer_query(
        &self,
        request: proto::QueryPirRequest,
    ) -> Result<proto::QueryPirResponse, Status> {
        let request = wire::QueryPir::try_from(request).map_err(refuse)?;
        self.is_current(request.epoch)?;
        let shape = self.parameters.pir.ok_or_else(|| Status::failed_precondition("none"))?;
        let answer = (0..shape.answer_bytes()).map(|_| rand::random::<u8>()).collect::<Vec<_>>();
        Ok(proto::QueryPirResponse { answer: answer.into() })
    }

    fn answer_fetch(&self, request: FetchBucketsRequest) -> Result<Buckets, Status> {
        let request = Fetch::try_from(request).map_err(refuse)?;
        self.is_current(request.epoch)?;
        if request.directory_prefix_bits != self.parameters.prefix_bits {
            return Err(Status::failed_precondition("prefix_bits"));
        }
        let buckets = request.numbers().map(|number| self.bucket(number.get(), |_, _| {}));
        Ok(buckets.map(|bucket| Ok(bucket_to_proto(&bucket))).collect())
    }
}

fn refuse(error: wire::WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// A mapping of wa.example's kind.
pub(crate) fn mapping(provider_name: &str, user: &str, default_since: u32) -> Mapping {
    Mapping {
        ssi: Ssi::new(provider(provider_name), User::parse(user).unwrap()).unwrap(),
        audience: Audience::Personal,
        default_since,
        verified_until: 0,
        ttl_s: 86_400,
    }
}

pub(crate) type Buckets = Vec<Result<FetchBucketsResponse, Status>>;

/// A call as it arrived.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Call {
    Parameters,
    Providers,
    Evaluate(EvaluateRequest),
    Fetch(FetchBucketsRequest),
    Watch(proto::WatchInvalidationsRequest),
    Query(proto::QueryPirRequest),
}

impl Call {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Parameters => "GetParameters",
            Self::Providers => "ListProviders",
            Self::Evaluate(_) => "Evaluate",
            Self::Fetch(_) => "FetchBuckets",
            Self::Watch(_) => "WatchInvalidations",
            Self::Query(_) => "QueryPir",
        }
    }
}

/// What may be done to an honest answer.
type Lie<T> = Box<dyn FnMut(&World, Result<T, Status>) -> Result<T, Status> + Send>;

fn honest<T>() -> Lie<T> {
    Box::new(|_, answer| answer)
}

pub(crate) type Told = Vec<Result<proto::WatchInvalidationsResponse, Status>>;

/// What a watch is told instead of the truth, and then the stream ends.
type WatchLie = Box<
    dyn FnMut(&World, &proto::WatchInvalidationsRequest) -> Option<Result<Told, Status>> + Send,
>;

pub(crate) struct Lies {
    pub(crate) watch: WatchLie,
    pub(crate) parameters: Lie<SignedBody>,
    pub(crate) providers: Lie<SignedBody>,
    pub(crate) evaluate: Lie<EvaluateResponse>,
    pub(crate) fetch: Lie<Buckets>,
    pub(crate) row: Lie<proto::QueryPirResponse>,
}

impl Default for Lies {
    fn default() -> Self {
        Self {
            watch: Box::new(|_, _| None),
            parameters: honest(),
            providers: honest(),
            evaluate: honest(),
            fetch: honest(),
            row: honest(),
        }
    }
}

struct Fake {
    world: Mutex<World>,
    lies: Mutex<Lies>,
    calls: Mutex<Vec<Call>>,
}

#[tonic::async_trait]
impl DiscoveryService for Fake {
    type FetchBucketsStream = Iter<std::vec::IntoIter<Result<FetchBucketsResponse, Status>>>;

    async fn get_parameters(
        &self,
        _: Request<GetParametersRequest>,
    ) -> Result<Response<GetParametersResponse>, Status> {
        self.calls.lock().unwrap().push(Call::Parameters);
        let world = self.world.lock().unwrap();
        let honest = Ok(world.parameters.sign(&world.identity));
        let answer = (self.lies.lock().unwrap().parameters)(&world, honest)?;
        Ok(Response::new(answer.into()))
    }

    async fn list_providers(
        &self,
        _: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        self.calls.lock().unwrap().push(Call::Providers);
        let world = self.world.lock().unwrap();
        let honest = Ok(world.list.sign(&world.identity));
        let answer = (self.lies.lock().unwrap().providers)(&world, honest)?;
        Ok(Response::new(answer.into()))
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let request = request.into_inner();
        self.calls.lock().unwrap().push(Call::Evaluate(request.clone()));
        let world = self.world.lock().unwrap();
        let honest = world.answer_evaluate(request);
        let answer = (self.lies.lock().unwrap().evaluate)(&world, honest)?;
        Ok(Response::new(answer))
    }

    async fn query_pir(
        &self,
        request: Request<proto::QueryPirRequest>,
    ) -> Result<Response<proto::QueryPirResponse>, Status> {
        let request = request.into_inner();
        self.calls.lock().unwrap().push(Call::Query(request.clone()));
        let world = self.world.lock().unwrap();
        let honest = world.answer_query(request);
        let answer = (self.lies.lock().unwrap().row)(&world, honest)?;
        Ok(Response::new(answer))
    }

    async fn fetch_buckets(
        &self,
        request: Request<FetchBucketsRequest>,
    ) -> Result<Response<Self::FetchBucketsStream>, Status> {
        let request = request.into_inner();
        self.calls.lock().unwrap().push(Call::Fetch(request.clone()));
        let world = self.world.lock().unwrap();
        let honest = world.answer_fetch(request);
        let answer = (self.lies.lock().unwrap().fetch)(&world, honest)?;
        Ok(Response::new(tokio_stream::iter(answer)))
    }
}

/// Both services of one server.
#[derive(Clone)]
struct Both {
    discovery: DiscoveryServiceServer<Fake>,
    registry: RegistryServiceServer<Fake>,
}

impl Service<http::Request<Body>> for Both {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/blindbook.v1.RegistryService/") {
            self.registry.call(request)
        } else {
            self.discovery.call(request)
        }
    }
}

/// Every how many messages hold a checkpoint, the first included.
const CHECKPOINT_EVERY: usize = 3;

impl World {
    fn checkpoint(&self, sequence: usize) -> wire::Checkpoint {
        let bits = self.parameters.prefix_bits;
        let sequences = vec![sequence as u64; bits.partitions() as usize];
        wire::Checkpoint::new(bits, sequences).unwrap()
    }

    /// What a watch is told at once, and where in the log it goes on.
    fn begin(
        &self,
        watch: &wire::Watch,
    ) -> (proto::WatchInvalidationsResponse, usize, watch::Receiver<Vec<(u32, u64)>>) {
        let log = self.log.subscribe();
        let length = log.borrow().len();
        let from = watch.checkpoint.as_ref().map(|from| {
            let sequence = usize::try_from(from.sequences()[0]).unwrap();
            (from.prefix_bits() == self.parameters.prefix_bits
                && (self.log_begins..=length).contains(&sequence))
            .then_some(sequence)
        });
        let at = from.flatten().unwrap_or(length);
        let first = wire::Invalidations {
            everything: from == Some(None),
            changed: Vec::new(),
            checkpoint: Some(self.checkpoint(at)),
        };
        (first.into(), at, log)
    }
}

#[tonic::async_trait]
impl RegistryService for Fake {
    type ClaimManyStream = Iter<std::vec::IntoIter<Result<proto::ClaimManyResponse, Status>>>;
    type WatchInvalidationsStream =
        ReceiverStream<Result<proto::WatchInvalidationsResponse, Status>>;

    async fn watch_invalidations(
        &self,
        request: Request<proto::WatchInvalidationsRequest>,
    ) -> Result<Response<Self::WatchInvalidationsStream>, Status> {
        let request = request.into_inner();
        self.calls.lock().unwrap().push(Call::Watch(request.clone()));
        let (tell, told) = mpsc::channel(1);
        let mut world = self.world.lock().unwrap();
        let lie = (self.lies.lock().unwrap().watch)(&world, &request);
        if let Some(lie) = lie {
            let messages = lie?;
            tokio::spawn(async move {
                for message in messages {
                    if tell.send(message).await.is_err() {
                        break;
                    }
                }
            });
            return Ok(Response::new(ReceiverStream::new(told)));
        }
        let watch = wire::Watch::try_from(request).map_err(refuse)?;
        let cut = world.cuts.pop_front().unwrap_or(usize::MAX);
        let bits = world.parameters.prefix_bits;
        let (first, mut at, mut log) = world.begin(&watch);
        let checkpoint = world.checkpoint(0);
        tokio::spawn(async move {
            let mut message = first;
            for sent in 1.. {
                if sent > cut || tell.send(Ok(message)).await.is_err() {
                    break;
                }
                let next = tokio::select! {
                    next = log.wait_for(|log| log.len() > at) => next.map(|log| log[at]),
                    () = tell.closed() => break,
                };
                let Ok((number, version)) = next else { break };
                at += 1;
                let number = BucketNumber::new(number, bits).unwrap();
                let sequences = vec![at as u64; checkpoint.sequences().len()];
                let here = wire::Checkpoint::new(bits, sequences).unwrap();
                message = wire::Invalidations {
                    everything: false,
                    changed: vec![wire::Invalidation { number, version }],
                    checkpoint: (sent % CHECKPOINT_EVERY == 0).then_some(here),
                }
                .into();
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn start_verification(
        &self,
        _: Request<proto::StartVerificationRequest>,
    ) -> Result<Response<proto::StartVerificationResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn finish_verification(
        &self,
        _: Request<proto::FinishVerificationRequest>,
    ) -> Result<Response<proto::FinishVerificationResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn start_challenge(
        &self,
        _: Request<proto::StartChallengeRequest>,
    ) -> Result<Response<proto::StartChallengeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn claim(
        &self,
        _: Request<proto::ClaimRequest>,
    ) -> Result<Response<proto::ClaimResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn claim_many(
        &self,
        _: Request<Streaming<proto::ClaimManyRequest>>,
    ) -> Result<Response<Self::ClaimManyStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_preferences(
        &self,
        _: Request<proto::SetPreferencesRequest>,
    ) -> Result<Response<proto::SetPreferencesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn release(
        &self,
        _: Request<proto::ReleaseRequest>,
    ) -> Result<Response<proto::ReleaseResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn port(
        &self,
        _: Request<proto::PortRequest>,
    ) -> Result<Response<proto::PortResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list(
        &self,
        _: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// The running server; it ends with this value.
pub(crate) struct Running {
    fake: Arc<Fake>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn start(world: World) -> Self {
        Self::serve(world, Server::builder()).await
    }

    pub(crate) async fn start_tls(world: World, tls: ServerTlsConfig) -> Self {
        Self::serve(world, Server::builder().tls_config(tls).unwrap()).await
    }

    async fn serve(world: World, server: Server) -> Self {
        let fake = Arc::new(Fake {
            world: Mutex::new(world),
            lies: Mutex::default(),
            calls: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let discovery = DiscoveryServiceServer::from_arc(Arc::clone(&fake));
        let registry = RegistryServiceServer::from_arc(Arc::clone(&fake));
        let serving = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let both = Both { discovery, registry };
            server.serve_with_incoming(both, incoming).await.unwrap();
        });
        Self { fake, address, serving }
    }

    /// With alice of wa.example under +14155550100.
    pub(crate) async fn example() -> Self {
        let mut world = World::new(bits(4));
        world.parameters.not_before_s = 0;
        world.parameters.not_after_s = u64::from(u32::MAX);
        world.put_user(&sii("tel:+14155550100"), 0, "alice", 1);
        Self::start(world).await
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn identity(&self) -> VerifyingKey {
        self.world().identity.verifying_key()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.fake.world.lock().unwrap()
    }

    pub(crate) fn lies(&self) -> MutexGuard<'_, Lies> {
        self.fake.lies.lock().unwrap()
    }

    pub(crate) fn be_honest(&self) {
        *self.lies() = Lies::default();
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.fake.calls.lock().unwrap().clone()
    }

    /// The calls since they were last taken, by name, sorted: two that go out
    /// at once arrive in any order.
    pub(crate) fn take_names(&self) -> Vec<&'static str> {
        let calls = std::mem::take(&mut *self.fake.calls.lock().unwrap());
        let mut names: Vec<_> = calls.iter().map(Call::name).collect();
        names.sort_unstable();
        names
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
