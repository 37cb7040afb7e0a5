//! One exchange: the requests of a batch, and all checks of what comes that do
//! not depend on what is found.

use std::{collections::BTreeSet, sync::Arc};

use tonic::{Code, Status};

use super::{
    ClientError,
    blocking::blocking,
    cache::Outputs,
    connect::Stub,
    directory::View,
    error::is_transport,
    lookup::Lookups,
    marks::Mark,
    question::{Blinded, Requests, sent_bits},
    versions::Seen,
};
use crate::{
    bucket::{Bucket, BucketNumber},
    epoch::Epoch,
    oprf::OprfError,
    wire::{Evaluation, WireError, bucket_from_proto, proto},
};

/// Why an exchange failed.
pub(super) enum Failed {
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

pub(super) enum Stale {
    Refused,
    Unknown(Epoch),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Wrong(error)
    }
}

impl Failed {
    pub(super) fn call(status: Status, answered: bool) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::Stale(Stale::Refused),
            _ => Self::Call { status, answered },
        }
    }

    /// Whether nothing came, for want of a connection.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self, Self::Call { status, answered: false } if is_transport(status))
    }
}

/// What an exchange brought, verified.
pub(super) struct Exchanged {
    /// The right bucket for each prefix.
    pub(super) buckets: Vec<Bucket>,
    /// Their marks, taken before they were asked for.
    pub(super) marks: Vec<Arc<Mark>>,
    /// Of each lookup, by epoch.
    pub(super) outputs: OutputsByEpoch,
}

pub(super) type OutputsByEpoch = Vec<(Epoch, Vec<Outputs>)>;

/// The verified buckets of an answer.
struct Fetched {
    /// What was seen of every one.
    shown: Vec<(BucketNumber, Seen)>,
    /// The right one for each prefix.
    buckets: Vec<Bucket>,
    epochs: BTreeSet<Epoch>,
}

impl Lookups {
    /// What it means when the server does not stand by its own parameters.
    pub(super) fn contradiction(&self, stale: &Stale, view: &View) -> ClientError {
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
    pub(super) async fn exchange(
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

    pub(super) async fn evaluate(
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
pub(super) fn both<A, B>(
    evaluated: Result<A, Failed>,
    fetched: Result<B, Failed>,
) -> Result<(A, B), Failed> {
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
pub(super) fn finalize(
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
