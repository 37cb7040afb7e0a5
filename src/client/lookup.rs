//! A lookup: the cache first, then batches to the network, everything that came
//! verified, and only then what was found.
//!
//! Whatever is found or not, the same requests go out, at the same moments,
//! and the same is stored: a batch is opened beside the next one, never before
//! it, and nothing in an answer causes a request but the one retry of a
//! changed epoch.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use rand::seq::SliceRandom as _;
use tokio::{task::JoinHandle, time::timeout_at};

use super::{
    Answer, ClientError, Clock, Fault,
    blocking::blocking,
    cache::{Aside, Cache, Entry, Key, Outcome, Outputs},
    connect::{Pool, pause},
    decoys::{Decoy, SharedDecoys},
    directory::{Directory, View},
    exchange::{Exchanged, Failed, OutputsByEpoch},
    options::Mode,
    question::{Asked, Blinded, Question, batches},
    retrieval::{Offer, PublicParts, Way},
    throttle::Throttle,
    tokens::Wallet,
    versions::Versions,
};
use crate::{
    bucket::{Bucket, Circle, EntryKeys, PrefixBits},
    epoch::Epoch,
    identifier::Sii,
    secret::Secret,
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
    /// What pays for evaluations, where they cost something.
    pub(super) wallet: Option<Wallet>,
    /// How lookups are hidden, if the caller says.
    pub(super) mode: Option<Mode>,
    pub(super) offer: Offer,
    pub(super) public: Arc<PublicParts>,
    /// Of batches, and of queries for rows: a directory may have room for one and
    /// not the other.
    pub(super) evaluations: Throttle,
    pub(super) queries: Throttle,
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

impl Lookups {
    /// What the cache answers; nothing when the time of an answer has ended.
    pub(super) fn cached(&self, sii: &Sii, now_s: u64) -> Option<Outcome> {
        let period_s = self.directory.refresh_period_s();
        self.cache.get(sii.as_bytes(), now_s, period_s)?.outcome(now_s)
    }

    pub(super) async fn many(
        self: &Arc<Self>,
        siis: &[Sii],
        when: When,
        way: Way,
    ) -> Result<Vec<Outcome>, ClientError> {
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
                        asked.push((place, sii.clone()));
                    }
                    results.push(cached);
                    place
                })
            })
            .collect();
        if !asked.is_empty() {
            let answered = match way {
                Way::Retrieval => self.retrieve_many(asked, now_s).await?,
                Way::Bucket => {
                    let contacts = asked.into_iter();
                    let asked = contacts.map(|(place, sii)| Asked::Contact(place, sii)).collect();
                    self.ask_all(asked, when, now_s).await?
                }
            };
            for (place, result) in answered {
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
        self.in_time(&self.evaluations, self.ask_in_time(asked, now_s)).await
    }

    /// Asks, unless it is kept back, and only until the deadline.
    pub(super) async fn in_time<T>(
        &self,
        throttle: &Throttle,
        asking: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        if !throttle.admits() {
            return Err(ClientError::Overloaded);
        }
        let asked = timeout_at(self.pool.deadline(), asking)
            .await
            .map_err(|_| ClientError::DeadlineExceeded(self.pool.deadline))?;
        match &asked {
            Ok(_) => throttle.answered(),
            Err(ClientError::Overloaded) => throttle.refused(),
            Err(_) => {}
        }
        asked
    }

    /// Whether outputs are asked for depends on what was asked before, and on
    /// nothing that was found: a batch is evaluated whole, or not at all when
    /// the outputs of all of its lookups, decoys too, are known.
    async fn ask_in_time(&self, asked: Vec<Asked>, now_s: u64) -> Result<Asking, ClientError> {
        let question = Arc::new(Question::new(asked));
        let mut view = self.directory.view().await?;
        let mut known = self.known(&question, &view);
        let (mut blinded, mut tokens) = (None, Bytes::new());
        let (mut may_reconnect, mut may_refresh) = (true, true);
        loop {
            if known.is_none() && blinded.is_none() {
                blinded = Some(self.blind(&question).await?);
            }
            let mut requests =
                question.requests(blinded.as_deref(), &view.parameters, self.pinned)?;
            if let (Some(evaluate), Some(wallet)) = (&mut requests.evaluate, &self.wallet) {
                if tokens.is_empty() {
                    tokens = wallet.take(question.tokens()).await?;
                }
                evaluate.tokens = tokens.clone();
            }
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
                    // The epoch changes the request, and they may have paid this one.
                    tokens = Bytes::new();
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
    pub(super) fn known(&self, question: &Question, view: &View) -> Option<OutputsByEpoch> {
        let epochs: Vec<Epoch> = view.parameters.epochs.iter().map(|known| known.epoch).collect();
        self.cache.outputs(question.inputs(), &epochs)
    }

    pub(super) async fn blind(
        &self,
        question: &Arc<Question>,
    ) -> Result<Arc<Blinded>, ClientError> {
        let (question, circle) = (Arc::clone(question), self.circle.clone());
        let blind = move || Blinded::new(&question, circle.as_ref(), &mut rand::rng());
        Ok(Arc::new(blocking(blind).await?))
    }
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
