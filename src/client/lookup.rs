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
    Answer, ClientError, Fault, Found,
    blocking::blocking,
    connect::{Pool, Stub, pause},
    decoys::SharedDecoys,
    directory::{Directory, View},
    error::is_transport,
    pins::Trust,
    question::{Asked, Question, Requests, batches, sent_bits},
    versions::{Seen, Versions},
};
use crate::{
    bucket::{Bucket, BucketNumber, EntryKeys, Opened, PrefixBits},
    epoch::Epoch,
    identifier::Sii,
    oprf::{OprfError, Output},
    wire::{Evaluation, WireError, bucket_from_proto},
};

/// Everything that a lookup needs; one for all clones of a client.
pub(super) struct Lookups {
    pub(super) pool: Arc<Pool>,
    pub(super) directory: Arc<Directory>,
    pub(super) versions: Arc<Versions>,
    pub(super) decoys: SharedDecoys,
    pub(super) pinned: PrefixBits,
}

type Results = Vec<(usize, Result<Answer, ClientError>)>;

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

/// The verified buckets of an answer.
struct Fetched {
    /// What was seen of every one.
    shown: Vec<(BucketNumber, Seen)>,
    /// The right one for each prefix.
    buckets: Vec<Bucket>,
    epochs: BTreeSet<Epoch>,
}

impl Lookups {
    pub(super) async fn many(
        &self,
        siis: &[Sii],
    ) -> Result<Vec<Result<Answer, ClientError>>, ClientError> {
        let mut places: HashMap<&Sii, usize> = HashMap::with_capacity(siis.len());
        let mut asked = Vec::with_capacity(siis.len());
        let place_of: Vec<usize> = siis
            .iter()
            .map(|sii| {
                *places.entry(sii).or_insert_with(|| {
                    asked.push(Asked::Contact(asked.len(), sii.clone()));
                    asked.len() - 1
                })
            })
            .collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let contacts = asked.len();

        let depth = self.directory.view().await?.parameters.prefix_bits;
        let sizes = batches(contacts, depth, self.pinned)?;
        let room: usize = sizes.iter().sum();
        asked.extend(self.decoys.first(room - contacts).map(Asked::Decoy));
        // Over all batches: a decoy is as likely in any of them.
        asked.shuffle(&mut rand::rng());

        let mut opening = Vec::with_capacity(sizes.len());
        for size in sizes {
            let batch: Vec<Asked> = asked.drain(..size.min(asked.len())).collect();
            opening.push(self.ask(batch).await?);
        }
        let opening = opening.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut results: Vec<Option<Result<Answer, ClientError>>> = vec![None; contacts];
        for opening in opening {
            for (place, result) in opening.await.map_err(|_| ClientError::Computation)? {
                if let Some(slot) = results.get_mut(place) {
                    *slot = Some(result);
                }
            }
        }
        let result = |place: usize| results.get(place).cloned().flatten();
        place_of.into_iter().map(|place| result(place).ok_or(ClientError::Computation)).collect()
    }

    /// Asks one batch. Opening what came goes on beside the caller.
    async fn ask(&self, asked: Vec<Asked>) -> Result<Asking, ClientError> {
        let deadline = self.pool.deadline();
        timeout_at(deadline, self.ask_in_time(asked))
            .await
            .map_err(|_| ClientError::DeadlineExceeded(self.pool.deadline))?
    }

    async fn ask_in_time(&self, asked: Vec<Asked>) -> Result<Asking, ClientError> {
        let question = blocking(move || Question::blind(asked, &mut rand::rng())).await?;
        let question = Arc::new(question);
        let mut view = self.directory.view().await?;
        let (mut may_reconnect, mut may_refresh) = (true, true);
        loop {
            let requests = question.requests(&view.parameters, self.pinned)?;
            match self.exchange(&question, &requests, &view).await {
                Ok((buckets, outputs)) => {
                    return Ok(Ok(tokio::task::spawn_blocking(move || {
                        open(&question, &buckets, &outputs, &view)
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
                }
                Err(Failed::Call { status, .. }) => {
                    return Err(ClientError::from_status(&status, self.pool.deadline));
                }
                Err(Failed::Wrong(lie)) if lie.fault() == Fault::Server => return Ok(Err(lie)),
                Err(Failed::Wrong(error)) => return Err(error),
            }
        }
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
    async fn exchange(
        &self,
        question: &Arc<Question>,
        requests: &Requests,
        view: &Arc<View>,
    ) -> Result<(Vec<Bucket>, Vec<(Epoch, Vec<Output>)>), Failed> {
        let depth = view.parameters.prefix_bits;
        let before = self.versions.before(depth, &requests.numbers);
        let stub = self.pool.stub()?;
        // Each is awaited to its end, whatever becomes of the other.
        let (evaluated, fetched) = tokio::join!(
            self.evaluate(stub.clone(), question.elements(), requests),
            self.fetch(stub, requests, view, &before),
        );
        let (evaluations, fetched) = match (evaluated, fetched) {
            (Ok(evaluations), Ok(fetched)) => (evaluations, fetched),
            (Err(stale @ Failed::Stale(_)), _) | (_, Err(stale @ Failed::Stale(_))) => {
                return Err(stale);
            }
            (Err(failed), Err(also)) => {
                // Silent only if both are.
                return Err(if failed.is_silent() { also } else { failed });
            }
            (Err(Failed::Call { status, .. }), Ok(_))
            | (Ok(_), Err(Failed::Call { status, .. })) => {
                return Err(Failed::Call { status, answered: true });
            }
            (Err(failed), Ok(_)) | (Ok(_), Err(failed)) => return Err(failed),
        };
        let named = |epoch: &Epoch| view.parameters.key(*epoch).is_some();
        let evaluated: BTreeSet<Epoch> = evaluations.iter().map(|of| of.epoch).collect();
        if let Some(epoch) = evaluated.union(&fetched.epochs).find(|epoch| !named(epoch)) {
            return Err(Failed::Stale(Stale::Unknown(*epoch)));
        }
        if let Some(epoch) = fetched.epochs.difference(&evaluated).next() {
            return Err(ClientError::EpochNotEvaluated { epoch: *epoch }.into());
        }
        let (question, view) = (Arc::clone(question), Arc::clone(view));
        let outputs = blocking(move || finalize(&question, evaluations, &view)).await?;
        self.versions.raise(depth, fetched.shown).await?;
        Ok((fetched.buckets, outputs))
    }

    async fn evaluate(
        &self,
        mut stub: Stub,
        elements: usize,
        requests: &Requests,
    ) -> Result<Vec<Evaluation>, Failed> {
        let response = stub
            .evaluate(self.pool.request(requests.evaluate.clone()))
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

/// Verifies the proof of every epoch that was evaluated.
fn finalize(
    question: &Question,
    evaluations: Vec<Evaluation>,
    view: &View,
) -> Result<Vec<(Epoch, Vec<Output>)>, ClientError> {
    let outputs = evaluations.into_iter().map(|Evaluation { epoch, evaluated_elements, proof }| {
        let key = view.parameters.key(epoch).ok_or(ClientError::EpochUnknown { epoch })?;
        let outputs = question.batch().finalize(&evaluated_elements, &proof, key);
        let outputs = outputs.map_err(|fault| match fault {
            OprfError::InvalidProof => ClientError::ProofInvalid { epoch },
            fault => ClientError::EvaluationInvalid { epoch, fault },
        })?;
        Ok((epoch, outputs))
    });
    outputs.collect()
}

/// Opens what was found, each lookup in its own bucket under the output of
/// that bucket's epoch.
fn open(
    question: &Question,
    buckets: &[Bucket],
    outputs: &[(Epoch, Vec<Output>)],
    view: &View,
) -> Results {
    let outputs_of = |bucket: &Bucket| {
        outputs.iter().find(|(epoch, _)| *epoch == bucket.epoch).map(|(_, all)| all.as_slice())
    };
    let answered = question.answered(outputs_of, buckets);
    answered
        .filter_map(|(asked, bucket, output)| match asked {
            Asked::Contact(place, sii) => {
                let opened = EntryKeys::of(output.expose()).open_all(
                    &view.parameters.directory,
                    bucket.epoch,
                    &bucket.iter(),
                );
                Some((*place, answer(sii, opened, view)))
            }
            Asked::Decoy(_) => None,
        })
        .collect()
}

fn answer(sii: &Sii, opened: Opened, view: &View) -> Result<Answer, ClientError> {
    for signed in &opened.mappings {
        let provider = signed.mapping.ssi.provider();
        match view.trust.get(provider) {
            Some(Trust::Key(key)) => signed.verify(sii, key).map_err(|fault| {
                ClientError::MappingForged { provider: provider.clone(), fault }
            })?,
            Some(Trust::Changed) => {
                return Err(ClientError::ProviderKeyChanged { provider: provider.clone() });
            }
            None => return Err(ClientError::ProviderUnknown { provider: provider.clone() }),
        }
    }
    // The greatest time, and of equal ones the lowest n.
    let since = opened.mappings.iter().map(|signed| signed.mapping.default_since);
    let latest = since.clone().max();
    let default = since.clone().position(|since| Some(since) == latest);
    let mappings = opened.mappings.into_iter().enumerate().map(|(n, signed)| Found {
        ssi: signed.mapping.ssi,
        audience: signed.mapping.audience,
        default: Some(n) == default,
        ttl_s: signed.mapping.ttl_s,
        verified_until_s: signed.mapping.verified_until,
    });
    Ok(Answer { sii: sii.clone(), mappings: mappings.collect(), damaged: opened.damaged })
}
