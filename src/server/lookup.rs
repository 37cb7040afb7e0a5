//! The lookup path: evaluates blinded batches, streams buckets, hands out what
//! is published. It learns prefixes and blinded elements and nothing else, does
//! the same work for a hit and a miss, and logs no part of a request.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    ServerOptions,
    cache::Cache,
    evaluate::{Evaluator, EvaluatorError},
    pir::{Pir, PirError},
    published::Published,
    quota::{Payer, QuotaError, Quotas},
};
use crate::{
    access::quota::Counted,
    bucket::{BUCKET_BYTES, BucketNumber},
    epoch::Epoch,
    keyring::Keyring,
    oprf::{OprfError, ServerKey},
    store::{Store, StoreError},
    wire::{
        ELEMENT_BYTES, Evaluate, Evaluation, Fetch, QueryPir, WireError, bucket_to_proto,
        proto::{
            EvaluateRequest, EvaluateResponse, FetchBucketsRequest, FetchBucketsResponse,
            GetParametersRequest, GetParametersResponse, ListProvidersRequest,
            ListProvidersResponse, QueryPirRequest, QueryPirResponse,
            discovery_service_server::DiscoveryService,
        },
    },
};

/// Why a lookup was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    // The peer's fault.
    /// The request breaks a rule.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An element is not one.
    #[error(transparent)]
    Oprf(#[from] OprfError),
    /// It is not paid for.
    #[error(transparent)]
    Quota(#[from] QuotaError),

    // The peer knows an older directory.
    /// The epoch is not active, or no longer.
    #[error("the epoch is not active: fetch the parameters again")]
    Epoch,
    /// The directory has other prefix bits.
    #[error("the directory has other prefix bits: fetch the parameters again")]
    PrefixBits,
    /// The directory answers no queries for rows, or no longer.
    #[error("the directory offers no private information retrieval: fetch the parameters again")]
    NoPir,

    /// A query for a row was not answered.
    #[error(transparent)]
    Pir(#[from] PirError),

    // Ours.
    /// More evaluations than the server can do.
    #[error("too many evaluations wait")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A loaded directory has every bucket; this one lacks some.
    #[error("the directory lacks a bucket that it must have")]
    NoBucket,
    /// The evaluation did not end.
    #[error("the server could not evaluate the batch")]
    Evaluation,
    /// The server has signed nothing yet.
    #[error("the server has not published its parameters yet: ask again later")]
    NothingPublished,
}

impl From<EvaluatorError> for LookupError {
    fn from(error: EvaluatorError) -> Self {
        match error {
            EvaluatorError::Busy => Self::Busy,
            EvaluatorError::Stopped => Self::Evaluation,
        }
    }
}

/// A batch of more counts as several in the queue: what waits in it is bounded by
/// the time that it takes.
const ELEMENTS_IN_QUEUE: usize = 128;

/// Serves lookups over one generation of a directory. Clones share everything.
#[derive(Clone)]
pub struct Lookup(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    /// Ascending; the last is the newest.
    active: Vec<Epoch>,
    cache: Cache,
    evaluator: Evaluator,
    published: Arc<Published>,
    quotas: Quotas,
    pir: Option<Pir>,
}

impl Lookup {
    pub(super) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        active: Vec<Epoch>,
        published: Arc<Published>,
        quotas: Quotas,
        pir: Option<Pir>,
        options: &ServerOptions,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            store,
            keyring,
            active,
            cache: Cache::new(options.cache_bytes),
            evaluator: Evaluator::new(options.threads(), options.queued_per_thread)?,
            published,
            quotas,
            pir,
        })))
    }

    /// Private information retrieval, if it is offered.
    pub(super) fn pir(&self) -> Option<&Pir> {
        self.0.pir.as_ref()
    }

    pub(super) fn quotas(&self) -> &Quotas {
        &self.0.quotas
    }

    /// Whether evaluations are refused now.
    pub(super) fn is_full(&self) -> bool {
        self.0.evaluator.is_full()
    }

    /// A bucket was committed: from here on every answer has its new content.
    /// To be called after the commit and before it is acknowledged.
    pub fn changed(&self, number: BucketNumber) {
        self.0.cache.remove(number);
    }
}

impl Inner {
    fn check_epoch(&self, epoch: Epoch) -> Result<(), LookupError> {
        if self.active.contains(&epoch) { Ok(()) } else { Err(LookupError::Epoch) }
    }

    /// The batch under every active epoch, ascending.
    fn evaluate(&self, blinded: &[u8]) -> Result<Vec<Evaluation>, LookupError> {
        let evaluate = |(epoch, key): (Epoch, &ServerKey)| {
            let (evaluated, proof) = key.blind_evaluate_batch(blinded, &mut rand::rng())?;
            Ok(Evaluation { epoch, evaluated_elements: evaluated.into(), proof })
        };
        self.keyring
            .epochs()
            .filter(|(epoch, _)| self.active.contains(epoch))
            .map(evaluate)
            .collect()
    }

    /// Evaluates what is paid for. What is not evaluated costs nothing, and what
    /// tokens pay for is answered once they are spent.
    async fn evaluate_paid(
        self: Arc<Self>,
        payer: &Payer,
        request: Evaluate,
    ) -> Result<Vec<Evaluation>, LookupError> {
        let elements = request.blinded_elements.len() / ELEMENT_BYTES;
        let paid = self.quotas.pay(payer, &request.tokens, Counted::Elements, elements).await?;
        let mut paid = self.quotas.returning(paid);
        let inner = self.clone();
        let size = elements.div_ceil(ELEMENTS_IN_QUEUE);
        // Whoever gives up while the work waits drops it, and is given back what
        // it cost; once it is begun nothing is.
        let work = move || {
            let epoch = request.epoch.get().to_be_bytes();
            paid.verify(&request.tokens, &[&epoch, &request.blinded_elements])?;
            let evaluated = inner.evaluate(&request.blinded_elements)?;
            Ok((evaluated, paid.keep()))
        };
        let evaluated = self.evaluator.run(size, work).await.map_err(LookupError::from);
        let (evaluations, paid) = evaluated.flatten()?;
        self.quotas.spend(paid).await?;
        Ok(evaluations)
    }

    /// Answers a query that is paid for, as [`Self::evaluate_paid`] evaluates.
    async fn query_paid(
        &self,
        pir: &Pir,
        payer: &Payer,
        request: QueryPir,
    ) -> Result<Bytes, LookupError> {
        let QueryPir { epoch, directory_prefix_bits, partition, query, tokens } = request;
        let paid = self.quotas.pay(payer, &tokens, Counted::Queries, 1).await?;
        let mut paid = self.quotas.returning(paid);
        if !tokens.is_empty() {
            let query = query.clone();
            let verify = move || {
                let (epoch, bits) = (epoch.get().to_be_bytes(), [directory_prefix_bits.get()]);
                // No evaluation is asked for in so many parts.
                let asked: [&[u8]; 5] = [b"query", &epoch, &bits, &partition.to_be_bytes(), &query];
                paid.verify(&tokens, &asked).map(|()| paid)
            };
            let verified = tokio::task::spawn_blocking(verify).await;
            paid = verified.map_err(|_| LookupError::Evaluation)??;
        }
        let (answer, paid) = pir.answer(partition, query, paid).await?;
        self.quotas.spend(paid).await?;
        Ok(answer)
    }

    async fn load(
        self: Arc<Self>,
        number: BucketNumber,
    ) -> Result<FetchBucketsResponse, LookupError> {
        let read = async {
            let bucket = self.store.bucket(number).await?.ok_or(LookupError::NoBucket)?;
            Ok(bucket_to_proto(&bucket))
        };
        self.cache.load(number, read).await.inspect_err(|error| {
            // Neither variant says which bucket.
            tracing::error!(%error, "a bucket could not be read");
        })
    }
}

fn payer<T>(request: &Request<T>) -> Payer {
    // A request without a payer did not come through the gate.
    request.extensions().get::<Payer>().cloned().unwrap_or(Payer::Anonymous)
}

#[tonic::async_trait]
impl DiscoveryService for Lookup {
    async fn get_parameters(
        &self,
        _: Request<GetParametersRequest>,
    ) -> Result<Response<GetParametersResponse>, Status> {
        let parameters = self.0.published.parameters().ok_or(LookupError::NothingPublished)?;
        Ok(Response::new(parameters))
    }

    async fn list_providers(
        &self,
        _: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        let providers = self.0.published.providers().ok_or(LookupError::NothingPublished)?;
        Ok(Response::new(providers))
    }

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        let payer = payer(&request);
        let request = Evaluate::try_from(request.into_inner()).map_err(LookupError::from)?;
        self.0.check_epoch(request.epoch)?;
        let evaluations = self.0.clone().evaluate_paid(&payer, request).await?;
        Ok(Response::new(Evaluation::response(evaluations)))
    }

    async fn query_pir(
        &self,
        request: Request<QueryPirRequest>,
    ) -> Result<Response<QueryPirResponse>, Status> {
        let payer = payer(&request);
        let request = QueryPir::try_from(request.into_inner()).map_err(LookupError::from)?;
        // Rows do not say under which epoch they are sealed: who does not know the
        // newest would take what is sealed under it for nobody.
        if self.0.active.last() != Some(&request.epoch) {
            return Err(LookupError::Epoch.into());
        }
        let pir = self.0.pir.as_ref().ok_or(LookupError::NoPir)?;
        if request.directory_prefix_bits != self.0.store.prefix_bits() {
            return Err(LookupError::PrefixBits.into());
        }
        let answer = self.0.query_paid(pir, &payer, request).await?;
        Ok(Response::new(QueryPirResponse { answer }))
    }

    type FetchBucketsStream = Buckets;

    async fn fetch_buckets(
        &self,
        request: Request<FetchBucketsRequest>,
    ) -> Result<Response<Buckets>, Status> {
        let payer = payer(&request);
        let request = Fetch::try_from(request.into_inner()).map_err(LookupError::from)?;
        self.0.check_epoch(request.epoch)?;
        if request.directory_prefix_bits != self.0.store.prefix_bits() {
            return Err(LookupError::PrefixBits.into());
        }
        let buckets = request.buckets_per_prefix() * request.prefixes.len() as u64;
        let bytes = buckets * BUCKET_BYTES as u64;
        self.0.quotas.pay_bytes(&payer, bytes).await.map_err(LookupError::from)?;
        Ok(Response::new(Buckets { inner: self.0.clone(), request, next: 0, loading: None }))
    }
}

type Loading = Pin<Box<dyn Future<Output = Result<FetchBucketsResponse, LookupError>> + Send>>;

/// The buckets of one request, in its order. Each is read when the peer has
/// taken the one before, so that a slow peer costs the memory of one.
pub struct Buckets {
    inner: Arc<Inner>,
    request: Fetch,
    next: u64,
    loading: Option<Loading>,
}

/// The `n`th bucket of an answer, `None` after the last.
fn nth(request: &Fetch, n: u64) -> Option<BucketNumber> {
    let each = request.buckets_per_prefix();
    let prefix = request.prefixes.get(usize::try_from(n / each).ok()?)?;
    let deep = request.directory_prefix_bits;
    let (first, _) = prefix.beneath(request.prefix_bits, deep)?;
    let number = u64::from(first.get()) + n % each;
    BucketNumber::new(u32::try_from(number).ok()?, deep).ok()
}

impl Stream for Buckets {
    type Item = Result<FetchBucketsResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let loaded = if let Some(loading) = &mut this.loading {
            ready!(loading.as_mut().poll(cx))
        } else {
            let Some(number) = nth(&this.request, this.next) else { return Poll::Ready(None) };
            if let Some(bucket) = this.inner.cache.get(number) {
                Ok(bucket)
            } else {
                let loading = this.loading.insert(Box::pin(this.inner.clone().load(number)));
                ready!(loading.as_mut().poll(cx))
            }
        };
        this.loading = None;
        // After a failure the stream is over.
        this.next = if loaded.is_ok() { this.next + 1 } else { u64::MAX };
        Poll::Ready(Some(loaded.map_err(Status::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::PrefixBits;

    #[test]
    fn the_nth_bucket_is_that_of_the_requests_own_order() {
        let bits = |bits| PrefixBits::new(bits).unwrap();
        for (deep, shallow) in [(4, 4), (4, 2), (3, 0), (32, 32), (32, 24)] {
            let request = Fetch {
                epoch: Epoch::FIRST,
                directory_prefix_bits: bits(deep),
                prefix_bits: bits(shallow),
                prefixes: [0, 1, 0, 3]
                    .map(|n| BucketNumber::new(n % (1 << shallow.min(2)), bits(shallow)).unwrap())
                    .to_vec(),
            };
            let all: Vec<_> = (0..).map_while(|n| nth(&request, n)).collect();
            assert_eq!(all, request.numbers().collect::<Vec<_>>());
            assert_eq!(nth(&request, u64::MAX), None);
        }
    }
}
