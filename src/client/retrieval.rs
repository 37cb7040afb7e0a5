//! A lookup that tells nothing but the partition: the row of a bucket's entries
//! by private information retrieval, beside the evaluation, in one round trip.
//!
//! The query has the same length for every row, is made under a secret of its
//! own, and goes out whatever is found. What comes back is no bucket: it has no
//! signature and no version, so that neither an old row nor a row of nonsense can
//! be told from one that holds no mapping. What opens is signed as ever.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    Answer, ClientError,
    blocking::blocking,
    cache::{Aside, Entry, Key, Outcome},
    connect::{Stub, pause},
    directory::View,
    exchange::{Failed, OutputsByEpoch, Stale, both, finalize},
    lookup::Lookups,
    marks::Mark,
    options::Mode,
    question::{Asked, Blinded, Question},
    state::{Part, Parts},
};
use crate::{
    bucket::{ENTRY_BYTES, Entry as Sealed, EntryKeys, Opened, PARTITION_BUCKET_BITS, PrefixBits},
    epoch::Epoch,
    identifier::Sii,
    pir::{self, Public, Shape},
    secret::Secret,
    wire::{QueryPir, pir_row, pir_seed, proto},
};

/// Queries of one caller under way at once: as many as share a pass.
const AT_ONCE: usize = 4;

/// How a lookup is hidden.
pub(super) enum Way {
    /// Among the people of a bucket.
    Bucket,
    /// Among the people of a partition.
    Retrieval,
}

/// Whether the directory has ever offered retrieval: it cannot take that back
/// unnoticed.
pub(super) struct Offer {
    made: tokio::sync::Mutex<bool>,
    parts: Parts,
}

impl Offer {
    pub(super) async fn load(parts: &Parts) -> Result<Self, ClientError> {
        let made = match parts.load(Part::Retrieval).await?.as_deref() {
            Some([]) => true,
            Some(_) => return Err(ClientError::StateDamaged(Part::Retrieval)),
            None => false,
        };
        Ok(Self { made: tokio::sync::Mutex::new(made), parts: parts.clone() })
    }

    /// It is made; returns once the state holds that.
    async fn note(&self) -> Result<(), ClientError> {
        let mut made = self.made.lock().await;
        if !*made {
            let parts = self.parts.clone();
            blocking(move || parts.store(Part::Retrieval, &[])).await?;
            *made = true;
        }
        Ok(())
    }
}

/// What queries are made with: the same for all of one directory and shape.
#[derive(Default)]
pub(super) struct PublicParts(Mutex<Option<Arc<Public>>>);

impl PublicParts {
    /// Expands, or has it still. Computes.
    fn of(&self, seed: &[u8; 32], shape: Shape) -> Arc<Public> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_ref().filter(|public| public.shape() == shape) {
            Some(public) => Arc::clone(public),
            None => Arc::clone(known.insert(Arc::new(Public::expand(seed, shape)))),
        }
    }
}

/// A query that was made under one view.
struct Queried {
    asked: pir::Asked,
    shape: Shape,
    request: proto::QueryPirRequest,
    evaluate: Option<proto::EvaluateRequest>,
}

/// What came of it.
struct Retrieved {
    outputs: OutputsByEpoch,
    answer: Bytes,
    mark: Arc<Mark>,
    /// The version that the answer counts as.
    version: u64,
}

impl Lookups {
    /// How single lookups are hidden now.
    pub(super) async fn way(&self) -> Result<Way, ClientError> {
        let offered = match self.mode {
            Some(Mode::Bucket) => return Ok(Way::Bucket),
            _ => self.directory.view().await?.parameters.pir.is_some(),
        };
        if offered {
            self.offer.note().await?;
            return Ok(Way::Retrieval);
        }
        match self.not_offered().await {
            Some(error) => Err(error),
            None => Ok(Way::Bucket),
        }
    }

    /// What it means that no retrieval is offered; nothing, if none is wanted.
    async fn not_offered(&self) -> Option<ClientError> {
        match self.mode {
            Some(Mode::Pir) => Some(ClientError::NoRetrieval),
            None if *self.offer.made.lock().await => Some(ClientError::RetrievalWithdrawn),
            Some(Mode::Bucket) | None => None,
        }
    }

    /// Looks many up, each by a query of its own.
    pub(super) async fn retrieve_many(
        self: &Arc<Self>,
        siis: Vec<(usize, Sii)>,
        now_s: u64,
    ) -> Result<Vec<(usize, Outcome)>, ClientError> {
        let mut results = Vec::with_capacity(siis.len());
        let mut siis = siis.into_iter();
        let mut failed = None;
        let mut tasks: JoinSet<(usize, Result<Outcome, ClientError>)> = JoinSet::new();
        loop {
            // Whatever becomes of one, the others are asked for all the same.
            while tasks.len() < AT_ONCE
                && let Some((place, sii)) = siis.next()
            {
                let this = Arc::clone(self);
                tasks.spawn(async move { (place, this.retrieve(&sii, now_s).await) });
            }
            let Some(ended) = tasks.join_next().await else { break };
            match ended.map_err(|_| ClientError::Computation)? {
                (place, Ok(outcome)) => results.push((place, outcome)),
                (_, Err(error)) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(results), Err)
    }

    /// Looks one up.
    pub(super) async fn retrieve(&self, sii: &Sii, now_s: u64) -> Result<Outcome, ClientError> {
        let asked = self.in_time(&self.queries, self.retrieve_in_time(sii, now_s)).await;
        // Stored before it is used, whatever it is.
        self.cache.save().await?;
        asked
    }

    async fn retrieve_in_time(&self, sii: &Sii, now_s: u64) -> Result<Outcome, ClientError> {
        let question = Arc::new(Question::new(vec![Asked::Contact(0, sii.clone())]));
        let mut view = self.directory.view().await?;
        let mut known = self.known(&question, &view);
        let (mut blinded, mut queried) = (None, None);
        let (mut may_reconnect, mut may_refresh) = (true, true);
        loop {
            if known.is_none() && blinded.is_none() {
                blinded = Some(self.blind(&question).await?);
            }
            let current = match queried.take() {
                Some(queried) => queried,
                None => self.query(&question, blinded.as_ref(), &view).await?,
            };
            let exchange =
                self.exchange_row(&question, blinded.as_ref(), known.as_ref(), &current, &view);
            match exchange.await {
                Ok(retrieved) => {
                    let (asked, circle) = (current.asked, self.circle.is_some());
                    let read = move || read(&question, &asked, retrieved, circle, now_s, &view);
                    let entry = Arc::new(blocking(read).await?);
                    let outcome = entry.outcome(now_s).ok_or(ClientError::Computation)?;
                    self.cache.keep(std::iter::once(entry));
                    return Ok(outcome);
                }
                Err(failed) if failed.is_silent() && may_reconnect => {
                    // The same bytes again: who counts them sees one question.
                    may_reconnect = false;
                    queried = Some(current);
                    pause().await;
                }
                Err(Failed::Stale(stale)) => {
                    // Another epoch or shape is another query, under another secret.
                    let newer =
                        if may_refresh { self.directory.newer_than(&view).await? } else { None };
                    may_refresh = false;
                    view = newer.ok_or_else(|| self.contradiction(&stale, &view))?;
                    known = self.known(&question, &view);
                }
                Err(Failed::Call { status, .. }) => {
                    return Err(ClientError::from_status(&status, self.pool.deadline));
                }
                Err(Failed::Wrong(error)) => return Err(error),
            }
        }
    }

    /// The requests under a view, and what pays for them.
    async fn query(
        &self,
        question: &Question,
        blinded: Option<&Arc<Blinded>>,
        view: &View,
    ) -> Result<Queried, ClientError> {
        let parameters = &view.parameters;
        let Some(shape) = parameters.pir else {
            return Err(self.not_offered().await.unwrap_or(ClientError::NoRetrieval));
        };
        let bits = parameters.prefix_bits;
        let told = bits.get().saturating_sub(PARTITION_BUCKET_BITS);
        if told > self.pinned.get() {
            // The partition is so many bits of the placement.
            let wanted = PrefixBits::new(told.into()).unwrap_or(bits);
            return Err(ClientError::MorePrefixBitsDemanded { pinned: self.pinned, wanted });
        }
        let placement = question.placement().ok_or(ClientError::Computation)?;
        let (partition, row) = pir_row(placement.bucket(bits), bits);
        let epoch = parameters.newest().ok_or(ClientError::ParametersContradicted)?.epoch;
        let (seed, public) = (pir_seed(&parameters.directory), Arc::clone(&self.public));
        let ask = move || {
            let public = public.of(&seed, shape);
            pir::Asked::new(&public, row, &mut rand::rng()).map_err(|_| ClientError::Computation)
        };
        let asked = blocking(ask).await?;
        let mut evaluate = blinded.map(|blinded| blinded.request(epoch));
        let mut tokens = Bytes::new();
        if let Some(wallet) = &self.wallet {
            if let Some(evaluate) = &mut evaluate {
                evaluate.tokens = wallet.take(question.tokens()).await?;
            }
            tokens = wallet.take(1).await?;
        }
        let query = Bytes::copy_from_slice(asked.query());
        let directory_prefix_bits = bits;
        let request = QueryPir { epoch, directory_prefix_bits, partition, query, tokens }.into();
        Ok(Queried { asked, shape, request, evaluate })
    }

    /// One round trip and all checks that do not depend on what is found.
    async fn exchange_row(
        &self,
        question: &Question,
        blinded: Option<&Arc<Blinded>>,
        known: Option<&OutputsByEpoch>,
        queried: &Queried,
        view: &Arc<View>,
    ) -> Result<Retrieved, Failed> {
        let depth = view.parameters.prefix_bits;
        let number = question.placement().map(|placement| placement.bucket(depth));
        let mark = self.cache.marks(depth, number.into_iter()).pop();
        let mark = mark.ok_or(ClientError::Computation)?;
        let version = mark.settled();
        let stub = self.pool.stub()?;
        let row = self.row(stub.clone(), queried);
        let (outputs, answer) =
            if let (Some(evaluate), Some(blinded)) = (&queried.evaluate, blinded) {
                // Each is awaited to its end, whatever becomes of the other.
                let evaluation = self.evaluate(stub, blinded.elements(), evaluate);
                let (evaluated, row) = tokio::join!(evaluation, row);
                let (evaluations, answer) = both(evaluated, row)?;
                let evaluated: BTreeSet<Epoch> = evaluations.iter().map(|of| of.epoch).collect();
                let named: BTreeSet<Epoch> =
                    view.parameters.epochs.iter().map(|known| known.epoch).collect();
                if let Some(epoch) = evaluated.difference(&named).next() {
                    return Err(Failed::Stale(Stale::Unknown(*epoch)));
                }
                // The row does not say under which it is sealed.
                if let Some(epoch) = named.difference(&evaluated).next() {
                    return Err(ClientError::EpochNotEvaluated { epoch: *epoch }.into());
                }
                let (blinded, view) = (Arc::clone(blinded), Arc::clone(view));
                (blocking(move || finalize(&blinded, evaluations, &view)).await?, answer)
            } else {
                (known.cloned().unwrap_or_default(), row.await?)
            };
        Ok(Retrieved { outputs, answer, mark, version })
    }

    async fn row(&self, stub: Stub, queried: &Queried) -> Result<Bytes, Failed> {
        // The answer, and a few bytes around it.
        let mut stub = stub.max_decoding_message_size(queried.shape.answer_bytes() + 64);
        let response = stub
            .query_pir(self.pool.request(queried.request.clone()))
            .await
            .map_err(|status| Failed::call(status, false))?;
        Ok(response.into_inner().answer)
    }
}

/// Reads the row and opens what is in it for this lookup, under each epoch.
fn read(
    question: &Question,
    asked: &pir::Asked,
    retrieved: Retrieved,
    circle: bool,
    asked_at_s: u64,
    view: &View,
) -> Result<Entry, ClientError> {
    let Retrieved { outputs, answer, mark, version } = retrieved;
    let row = asked.decode(&answer).map_err(|_| ClientError::RowMalformed)?;
    let (entries, _) = row.as_chunks::<ENTRY_BYTES>();
    let entries = entries.iter().copied().map(Sealed::from_bytes);
    let first = |(epoch, outputs): (Epoch, Vec<_>)| Some((epoch, outputs.into_iter().next()?));
    let outputs: Vec<_> = outputs.into_iter().filter_map(first).collect();
    let directory = &view.parameters.directory;
    let open = |epoch: Epoch, output: &Secret<64>| {
        EntryKeys::of(output.expose()).open_all(directory, epoch, &entries)
    };
    let (mut opened, mut of_circle) = (Opened::default(), Opened::default());
    for (epoch, outputs) in &outputs {
        join(&mut opened, open(*epoch, &outputs.open));
        if let Some(output) = outputs.circle.as_ref().filter(|_| circle) {
            join(&mut of_circle, open(*epoch, output));
        }
    }
    let (Some((Asked::Contact(_, sii), placement)), None) =
        (question.asked().next(), question.asked().nth(1))
    else {
        return Err(ClientError::Computation);
    };
    let answer = Answer::verify(sii, opened, of_circle, asked_at_s, view);
    Ok(Entry {
        key: Key::of(sii.as_bytes()),
        placement: placement.clone(),
        asked_at_s,
        bits: view.parameters.prefix_bits,
        version,
        mark,
        outputs,
        outcome: Some(answer.map(Arc::new)),
        aside: Aside::default(),
    })
}

fn join(all: &mut Opened, more: Opened) {
    all.mappings.extend(more.mappings);
    all.damaged += more.damaged;
}
