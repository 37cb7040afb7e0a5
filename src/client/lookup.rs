//! A lookup: both requests at once, everything that came verified, and only
//! then what was found.
//!
//! Whatever is found or not, the same requests go out, at the same moments,
//! and the same is stored: a batch is opened beside the next one, never before
//! it, and nothing in an answer causes a request but the one retry of a
//! changed epoch.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use rand::seq::SliceRandom as _;
use tokio::{task::JoinHandle, time::timeout_at};
use tonic::{Code, Status};

use super::{
    Answer, ClientError, Clock, Fault,
    blocking::blocking,
    cache::{Aside, Cache, Entry, Key, Outcome, Outputs},
    connect::{Pool, Stub, pause},
    decoys::{Decoy, SharedDecoys},
    directory::{Directory, View},
    error::is_transport,
    marks::Mark,
    question::{Asked, Blinded, Question, Requests, batches, sent_bits},
    versions::{Seen, Versions},
};
use crate::{
    bucket::{Bucket, BucketNumber, Circle, EntryKeys, PrefixBits},
    epoch::Epoch,
    identifier::Sii,
    oprf::OprfError,
    secret::Secret,
    wire::{Evaluation, WireError, bucket_from_proto, proto},
};

/// Everything that a lookup needs; one for all clones of a client.
pub(super) struct Lookups {
    pub(super) pool: Arc<Pool>,
    pub(super) directory: Arc<Directory>,
    pub(super) versions: Arc<Versions>,
    pub(super) decoys: SharedDecoys,
    pub(super) cache: Arc<Cache>,
    pub(super) circle: Option<Circle>,
    pub(super) pinned: PrefixBits,
    pub(super) clock: Clock,
}

/// When the network is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Once in the refresh period.
    Due,
    /// Now.
    Now,
}

type Results = Vec<(usize, Outcome)>;

/// A batch that was answered: what it holds is being opened, or it is a lie.
/// After a lie the remaining batches go out all the same: what follows an
/// answer depends on none.
type Asking = Result<JoinHandle<Results>, ClientError>;

/// Why an exchange failed.
enum Failed {
    /// The server answers under, or wants, other parameters than ours.
    Stale(Stale),
    /// A call failed.
    Call {
        status: Status,
        /// Whether a part of an answer had come.
        answered: bool,
    },
    /// The server lied, or we failed.
    Wrong(ClientError),
}

enum Stale {
    Refused,
    Unknown(Epoch),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Wrong(error)
    }
}

impl Failed {
    fn call(status: Status, answered: bool) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::Stale(Stale::Refused),
            _ => Self::Call { status, answered },
        }
    }

    /// Whether nothing came, for want of a connection.
    fn is_silent(&self) -> bool {
        matches!(self, Self::Call { status, answered: false } if is_transport(status))
    }
}

/// What an exchange brought, verified.
struct Exchanged {
    /// The right bucket for each prefix.
    buckets: Vec<Bucket>,
    /// Their marks, taken before they were asked for.
    marks: Vec<Arc<Mark>>,
    /// Of each lookup, by epoch.
    outputs: OutputsByEpoch,
}

type OutputsByEpoch = Vec<(Epoch, Vec<Outputs>)>;

/// The verified buckets of an answer.
struct Fetched {
    /// What was seen of every one.
    shown: Vec<(BucketNumber, Seen)>,
    /// The right one for each prefix.
    buckets: Vec<Bucket>,
    epochs: BTreeSet<Epoch>,
}

impl Lookups {
    /// What the cache answers; nothing when the time of an answer has ended.
    pub(super) fn cached(&self, sii: &Sii, now_s: u64) -> Option<Outcome> {
        let period_s = self.directory.refresh_period_s();
        self.cache.get(sii.as_bytes(), now_s, period_s)?.outcome(now_s)
    }

    pub(super) async fn many(&self, siis: &[Sii], when: When) -> Result<Vec<Outcome>, ClientError> {
        let now_s = self.clock.now_s();
        let mut places: HashMap<&Sii, usize> = HashMap::with_capacity(siis.len());
        let mut results: Vec<Option<Outcome>> = Vec::with_capacity(siis.len());
        let mut asked = Vec::new();
        let place_of: Vec<usize> = siis
            .iter()
            .map(|sii| {
                *places.entry(sii).or_insert_with(|| {
                    let place = results.len();
                    let cached = match when {
                        When::Due => self.cached(sii, now_s),
                        When::Now => None,
                    };
                    if cached.is_none() {
                        asked.push(Asked::Contact(place, sii.clone()));
                    }
                    results.push(cached);
                    place
                })
            })
            .collect();
        if !asked.is_empty() {
            for (place, result) in self.ask_all(asked, when, now_s).await? {
                if let Some(slot) = results.get_mut(place) {
                    *slot = Some(result);
                }
            }
        }
        let result = |place: usize| results.get(place).cloned().flatten();
        place_of.into_iter().map(|place| result(place).ok_or(ClientError::Computation)).collect()
    }

    /// Asks the network, in batches that decoys fill up.
    async fn ask_all(
        &self,
        mut asked: Vec<Asked>,
        when: When,
        now_s: u64,
    ) -> Result<Results, ClientError> {
        let depth = self.directory.view().await?.parameters.prefix_bits;
        let sizes = batches(asked.len(), depth, self.pinned)?;
        let room: usize = sizes.iter().sum();
        let free = room - asked.len();
        match when {
            When::Due => {
                let period_s = self.directory.refresh_period_s();
                let is_due =
                    |decoy: &Decoy| self.cache.get(decoy.input.expose(), now_s, period_s).is_none();
                let due = self.decoys.due(free, is_due, &mut rand::rng());
                asked.extend(due.into_iter().map(Asked::Decoy));
            }
            // Contacts are asked out of turn, and so are decoys.
            When::Now => asked.extend(self.decoys.first(free).map(Asked::Decoy)),
        }
        // Over all batches: a decoy is as likely in any of them.
        asked.shuffle(&mut rand::rng());

        let mut opening = Vec::with_capacity(sizes.len());
        for size in sizes {
            let batch: Vec<Asked> = asked.drain(..size.min(asked.len())).collect();
            opening.push(self.ask(batch, now_s).await?);
        }
        let mut results = Vec::new();
        let mut lie = None;
        for opening in opening {
            match opening {
                Ok(opening) => results.extend(opening.await.map_err(|_| ClientError::Computation)?),
                Err(error) => {
                    lie.get_or_insert(error);
                }
            }
        }
        // Stored before it is used, whatever it is.
        self.cache.save().await?;
        lie.map_or(Ok(results), Err)
    }

    /// Asks one batch. Opening what came goes on beside the caller.
    async fn ask(&self, asked: Vec<Asked>, now_s: u64) -> Result<Asking, ClientError> {
        let deadline = self.pool.deadline();
        timeout_at(deadline, self.ask_in_time(asked, now_s))
            .await
            .map_err(|_| ClientError::DeadlineExceeded(self.pool.deadline))?
    }

    /// Whether outputs are asked for depends on what was asked before, and on
    /// nothing that was found: a batch is evaluated whole, or not at all when
    /// the outputs of all of its lookups, decoys too, are known.
    async fn ask_in_time(&self, asked: Vec<Asked>, now_s: u64) -> Result<Asking, ClientError> {
        let question = Arc::new(Question::new(asked));
        let mut view = self.directory.view().await?;
        let mut known = self.known(&question, &view);
        let mut blinded = None;
        let (mut may_reconnect, mut may_refresh) = (true, true);
        loop {
            if known.is_none() && blinded.is_none() {
                blinded = Some(self.blind(&question).await?);
            }
            let requests = question.requests(blinded.as_deref(), &view.parameters, self.pinned)?;
            match self.exchange(blinded.as_ref(), known.as_ref(), &requests, &view).await {
                Ok(exchanged) => {
                    let (cache, circle) = (Arc::clone(&self.cache), self.circle.is_some());
                    return Ok(Ok(tokio::task::spawn_blocking(move || {
                        let (entries, results) = open(&question, exchanged, circle, now_s, &view);
                        cache.keep(entries.into_iter());
                        results
                    })));
                }
                Err(failed) if failed.is_silent() && may_reconnect => {
                    // The same bytes again: who counts them sees one question.
                    may_reconnect = false;
                    pause().await;
                }
                Err(Failed::Stale(stale)) => {
                    let newer =
                        if may_refresh { self.directory.newer_than(&view).await? } else { None };
                    may_refresh = false;
                    view = newer.ok_or_else(|| self.contradiction(&stale, &view))?;
                    known = self.known(&question, &view);
                }
                Err(Failed::Call { status, .. }) => {
                    return Err(ClientError::from_status(&status, self.pool.deadline));
                }
                Err(Failed::Wrong(lie)) if lie.fault() == Fault::Server => return Ok(Err(lie)),
                Err(Failed::Wrong(error)) => return Err(error),
            }
        }
    }

    /// The outputs of a batch under every active epoch, if all are known.
    fn known(&self, question: &Question, view: &View) -> Option<OutputsByEpoch> {
        let epochs: Vec<Epoch> = view.parameters.epochs.iter().map(|known| known.epoch).collect();
        self.cache.outputs(question.inputs(), &epochs)
    }

    async fn blind(&self, question: &Arc<Question>) -> Result<Arc<Blinded>, ClientError> {
        let (question, circle) = (Arc::clone(question), self.circle.clone());
        let blind = move || Blinded::new(&question, circle.as_ref(), &mut rand::rng());
        Ok(Arc::new(blocking(blind).await?))
    }

    /// What it means when the server does not stand by its own parameters.
    fn contradiction(&self, stale: &Stale, view: &View) -> ClientError {
        let wanted = view.parameters.prefix_bits;
        match stale {
            Stale::Unknown(epoch) => ClientError::EpochUnknown { epoch: *epoch },
            Stale::Refused if sent_bits(wanted, self.pinned) < wanted => {
                ClientError::MorePrefixBitsDemanded { pinned: self.pinned, wanted }
            }
            Stale::Refused => ClientError::ParametersContradicted,
        }
    }

    /// One round trip and all checks that do not depend on what is found.
    /// Elements that were blinded are sent even if their outputs have become
    /// known.
    async fn exchange(
        &self,
        blinded: Option<&Arc<Blinded>>,
        known: Option<&OutputsByEpoch>,
        requests: &Requests,
        view: &Arc<View>,
    ) -> Result<Exchanged, Failed> {
        let depth = view.parameters.prefix_bits;
        let before = self.versions.before(depth, &requests.numbers);
        let right = requests.right.iter().filter_map(|at| requests.numbers.get(*at).copied());
        let marks = self.cache.marks(depth, right);
        let stub = self.pool.stub()?;
        let named = |epoch: &&Epoch| view.parameters.key(**epoch).is_some();
        let (fetched, outputs) =
            if let (Some(evaluate), Some(blinded)) = (&requests.evaluate, blinded) {
                // Each is awaited to its end, whatever becomes of the other.
                let (evaluated, fetched) = tokio::join!(
                    self.evaluate(stub.clone(), blinded.elements(), evaluate),
                    self.fetch(stub, requests, view, &before),
                );
                let (evaluations, fetched) = both(evaluated, fetched)?;
                let evaluated: BTreeSet<Epoch> = evaluations.iter().map(|of| of.epoch).collect();
                if let Some(epoch) = evaluated.union(&fetched.epochs).find(|epoch| !named(epoch)) {
                    return Err(Failed::Stale(Stale::Unknown(*epoch)));
                }
                if let Some(epoch) = fetched.epochs.difference(&evaluated).next() {
                    return Err(ClientError::EpochNotEvaluated { epoch: *epoch }.into());
                }
                let (blinded, view) = (Arc::clone(blinded), Arc::clone(view));
                (fetched, blocking(move || finalize(&blinded, evaluations, &view)).await?)
            } else {
                let fetched = self.fetch(stub, requests, view, &before).await?;
                if let Some(epoch) = fetched.epochs.iter().find(|epoch| !named(epoch)) {
                    return Err(Failed::Stale(Stale::Unknown(*epoch)));
                }
                (fetched, known.cloned().unwrap_or_default())
            };
        self.versions.raise(depth, fetched.shown).await?;
        Ok(Exchanged { buckets: fetched.buckets, marks, outputs })
    }

    async fn evaluate(
        &self,
        mut stub: Stub,
        elements: usize,
        request: &proto::EvaluateRequest,
    ) -> Result<Vec<Evaluation>, Failed> {
        let response = stub
            .evaluate(self.pool.request(request.clone()))
            .await
            .map_err(|status| Failed::call(status, false))?
            .into_inner();
        let evaluations = Evaluation::check(response, elements).map_err(|error| match error {
            WireError::Length { field: "evaluations.evaluated_elements", .. } => {
                ClientError::ElementCount
            }
            error => ClientError::EvaluationMalformed(error),
        })?;
        Ok(evaluations)
    }

    /// Verifies each bucket as it comes and keeps the right ones: memory is
    /// bounded by the lookups, not by how many buckets lie beneath a prefix.
    async fn fetch(
        &self,
        mut stub: Stub,
        requests: &Requests,
        view: &View,
        before: &[Option<Seen>],
    ) -> Result<Fetched, Failed> {
        let expected = requests.numbers.len();
        let mut stream = stub
            .fetch_buckets(self.pool.request(requests.fetch.clone()))
            .await
            .map_err(|status| Failed::call(status, false))?
            .into_inner();
        let mut right = requests.right.iter().copied().peekable();
        let mut fetched = Fetched {
            shown: Vec::with_capacity(expected),
            buckets: Vec::with_capacity(requests.right.len()),
            epochs: BTreeSet::new(),
        };
        for (got, (number, before)) in requests.numbers.iter().zip(before).enumerate() {
            let message = stream
                .message()
                .await
                .map_err(|status| Failed::call(status, got > 0))?
                .ok_or(ClientError::TooFewBuckets { expected, got })?;
            let bucket = bucket_from_proto(message, view.parameters.prefix_bits)
                .map_err(ClientError::BucketMalformed)?;
            if bucket.number != *number {
                return Err(ClientError::BucketSwapped.into());
            }
            self.directory.verify(&bucket).map_err(|_| ClientError::BucketForged)?;
            fetched.shown.push((*number, Seen::check(&bucket, *before)?));
            fetched.epochs.insert(bucket.epoch);
            if right.next_if_eq(&got).is_some() {
                fetched.buckets.push(bucket);
            }
            // Verifying takes some 50 us: others get their turn.
            tokio::task::consume_budget().await;
        }
        match stream.message().await {
            Ok(None) => Ok(fetched),
            Ok(Some(_)) => Err(ClientError::TooManyBuckets { expected }.into()),
            Err(status) => Err(Failed::call(status, true)),
        }
    }
}

/// What two calls that went out at once brought, or why they failed.
fn both<A, B>(evaluated: Result<A, Failed>, fetched: Result<B, Failed>) -> Result<(A, B), Failed> {
    match (evaluated, fetched) {
        (Ok(evaluations), Ok(fetched)) => Ok((evaluations, fetched)),
        (Err(stale @ Failed::Stale(_)), _) | (_, Err(stale @ Failed::Stale(_))) => Err(stale),
        // Silent only if both are.
        (Err(failed), Err(also)) => Err(if failed.is_silent() { also } else { failed }),
        (Err(Failed::Call { status, .. }), Ok(_)) | (Ok(_), Err(Failed::Call { status, .. })) => {
            Err(Failed::Call { status, answered: true })
        }
        (Err(failed), Ok(_)) | (Ok(_), Err(failed)) => Err(failed),
    }
}

/// Verifies the proof of every epoch that was evaluated.
fn finalize(
    blinded: &Blinded,
    evaluations: Vec<Evaluation>,
    view: &View,
) -> Result<OutputsByEpoch, ClientError> {
    let outputs = evaluations.into_iter().map(|Evaluation { epoch, evaluated_elements, proof }| {
        let key = view.parameters.key(epoch).ok_or(ClientError::EpochUnknown { epoch })?;
        let outputs = blinded.batch().finalize(&evaluated_elements, &proof, key);
        let outputs = outputs.map_err(|fault| match fault {
            OprfError::InvalidProof => ClientError::ProofInvalid { epoch },
            fault => ClientError::EvaluationInvalid { epoch, fault },
        })?;
        Ok((epoch, blinded.outputs(&outputs).ok_or(ClientError::Computation)?))
    });
    outputs.collect()
}

/// Opens what was found, each lookup in its own bucket under the outputs of
/// that bucket's epoch.
fn open(
    question: &Question,
    exchanged: Exchanged,
    circle: bool,
    asked_at_s: u64,
    view: &View,
) -> (Vec<Arc<Entry>>, Results) {
    let Exchanged { buckets, marks, outputs } = exchanged;
    let mut by_epoch: Vec<_> =
        outputs.into_iter().map(|(epoch, outputs)| (epoch, outputs.into_iter())).collect();
    let (mut entries, mut results) = (Vec::new(), Vec::new());
    for (((asked, placement), bucket), mark) in question.asked().zip(&buckets).zip(marks) {
        let outputs: Vec<(Epoch, Outputs)> = by_epoch
            .iter_mut()
            .filter_map(|(epoch, outputs)| Some((*epoch, outputs.next()?)))
            .collect();
        let outcome = match asked {
            Asked::Contact(_, sii) => {
                let of_epoch = outputs.iter().find(|(epoch, _)| *epoch == bucket.epoch);
                let Some((_, of_epoch)) = of_epoch else { continue };
                Some(answer(sii, bucket, of_epoch, circle, asked_at_s, view).map(Arc::new))
            }
            Asked::Decoy(_) => None,
        };
        let entry = Arc::new(Entry {
            key: Key::of(asked.input()),
            placement: placement.clone(),
            asked_at_s,
            bits: bucket.prefix_bits,
            version: bucket.version,
            mark,
            outputs,
            outcome,
            aside: Aside::default(),
        });
        if let (Asked::Contact(place, _), Some(outcome)) = (asked, entry.outcome(asked_at_s)) {
            results.push((*place, outcome));
        }
        if asked.is_asked_again() {
            entries.push(entry);
        }
    }
    (entries, results)
}

/// Opens the mappings of one identifier, with and without circle, and verifies
/// them.
fn answer(
    sii: &Sii,
    bucket: &Bucket,
    outputs: &Outputs,
    circle: bool,
    asked_at_s: u64,
    view: &View,
) -> Result<Answer, ClientError> {
    let open = |output: &Secret<64>| {
        let directory = &view.parameters.directory;
        EntryKeys::of(output.expose()).open_all(directory, bucket.epoch, &bucket.iter())
    };
    let of_circle = outputs.circle.as_ref().filter(|_| circle).map(open).unwrap_or_default();
    Answer::verify(sii, open(&outputs.open), of_circle, asked_at_s, view)
}
