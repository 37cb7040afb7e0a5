//! The spent tokens on disk: one database per day, which goes as a whole.
//!
//! ```text
//! DATA/spent/NNNNN        the database of a day
//! DATA/spent/NNNNN.whole  it was made to its end
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{
    blocking,
    durable::{self, Database, disk},
    group,
    lock::FolderLock,
};
use crate::store::{
    StoreError,
    spent::{Spent, SpentTokens, judge},
};

const CACHE_BYTES: u64 = 8 << 20;

const MALFORMED: StoreError = StoreError::Damaged("the record of a spent token is malformed");

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that may wait before callers wait.
const MAX_WAITING: usize = 256;

/// Tokens to spend, all of them or none.
struct Request {
    names: Vec<[u8; 16]>,
    pays: [u8; 32],
    reply: oneshot::Sender<Result<Spent, StoreError>>,
}

/// The database of one day, and the way to the thread that writes it, which ends
/// with the last who could ask it.
struct OfDay {
    database: Database,
    requests: mpsc::Sender<Request>,
}

impl OfDay {
    fn open(folder: &Path, day: u32) -> Result<Self, StoreError> {
        let (path, whole) = (path_of(folder, day), whole_of(folder, day));
        if !whole.is_file() {
            // Nothing in it was acknowledged.
            durable::remove_dir(&path)?;
        }
        durable::create_dir(&path)?;
        let database = Database::open(&path, CACHE_BYTES)?;
        if !whole.is_file() {
            fs::File::create(&whole).and_then(|file| file.sync_all()).map_err(disk)?;
            durable::sync_dir(folder)?;
        }
        database.set_live();
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        let written = database.clone();
        thread::Builder::new()
            .name("store-spent".into())
            .spawn(move || group::run(waiting, |group| spend(&written, group)))
            .map_err(|error| StoreError::Open(error.to_string()))?;
        Ok(Self { database, requests })
    }

    fn find(&self, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError> {
        judge(names.iter().map(|name| remembered(&self.database, name)), request)
    }

    /// Hands tokens over to be spent; a caller that goes away does not stop it.
    async fn spend(&self, names: Vec<[u8; 16]>, request: [u8; 32]) -> Result<Spent, StoreError> {
        let stopped = || StoreError::Disk("the thread that spends tokens has stopped".into());
        let (reply, outcome) = oneshot::channel();
        let request = Request { names, pays: request, reply };
        self.requests.send(request).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
}

fn remembered(database: &Database, name: &[u8; 16]) -> Result<Option<[u8; 32]>, StoreError> {
    let found = database.get(name)?;
    found.map(|request| request.as_ref().try_into().map_err(|_| MALFORMED)).transpose()
}

/// Spends the tokens of a group, each request after those before it, and makes
/// all of it durable before anyone hears of it; gives how long the sync took.
fn spend(database: &Database, group: Vec<Request>) -> Duration {
    let mut new: HashMap<[u8; 16], [u8; 32]> = HashMap::new();
    let mut outcomes = Vec::with_capacity(group.len());
    for Request { names, pays, reply } in group {
        let find = |name: &[u8; 16]| match new.get(name) {
            Some(pays) => Ok(Some(*pays)),
            None => remembered(database, name),
        };
        let outcome = judge(names.iter().map(find), &pays);
        if matches!(outcome, Ok(Spent::New)) {
            new.extend(names.into_iter().map(|name| (name, pays)));
        }
        outcomes.push((reply, outcome));
    }
    let mut batch = ::sled::Batch::default();
    for (name, pays) in &new {
        batch.insert(name, pays);
    }
    let mut syncing = Duration::ZERO;
    let mut applied = Ok(());
    if !new.is_empty() {
        applied = database.apply(batch, new.len() * 48);
        let begun = Instant::now();
        applied = applied.and_then(|()| database.sync());
        syncing = begun.elapsed();
    }
    for (reply, outcome) in outcomes {
        // Refused for what is not durable now is no refusal, either.
        let outcome = outcome.and_then(|outcome| applied.clone().map(|()| outcome));
        // A caller that went away needs no answer.
        let _ = reply.send(outcome);
    }
    syncing
}

fn path_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(day.to_string())
}

fn whole_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(format!("{day}.whole"))
}

/// The spent tokens of a data folder.
pub(super) struct SledSpent {
    folder: PathBuf,
    days: Mutex<BTreeMap<u32, Arc<OfDay>>>,
    _lock: Arc<FolderLock>,
}

/// As it is shared.
#[derive(Clone)]
pub(super) struct SharedSpent(Arc<SledSpent>);

impl SharedSpent {
    pub(super) fn open(data: &Path, lock: Arc<FolderLock>) -> Result<Self, StoreError> {
        let folder = data.join("spent");
        durable::create_dir(&folder)?;
        Ok(Self(Arc::new(SledSpent { folder, days: Mutex::default(), _lock: lock })))
    }
}

impl SledSpent {
    fn opened(&self, day: u32) -> Option<Arc<OfDay>> {
        // While another one is opened, whoever asks waits elsewhere.
        self.days.try_lock().ok()?.get(&day).map(Arc::clone)
    }

    fn day(&self, day: u32) -> Result<Arc<OfDay>, StoreError> {
        let mut days = lock(&self.days);
        if let Some(open) = days.get(&day) {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(OfDay::open(&self.folder, day)?);
        days.insert(day, Arc::clone(&open));
        Ok(open)
    }

    fn forget_before(&self, day: u32) -> Result<(), StoreError> {
        let mut days = lock(&self.days);
        *days = days.split_off(&day);
        for entry in fs::read_dir(&self.folder).map_err(disk)? {
            let name = entry.map_err(disk)?.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            if let Some(old) = number.filter(|number| *number < day) {
                // Without its mark the rest is nothing.
                match fs::remove_file(whole_of(&self.folder, old)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(disk(error));
                    }
                    _ => durable::remove_dir(&path_of(&self.folder, old))?,
                }
            }
        }
        durable::sync_dir(&self.folder)
    }
}

#[async_trait]
impl SpentTokens for SharedSpent {
    async fn spend(
        &self,
        day: u32,
        names: Vec<[u8; 16]>,
        request: [u8; 32],
    ) -> Result<Spent, StoreError> {
        let inner = Arc::clone(&self.0);
        let of_day = match inner.opened(day) {
            Some(of_day) => of_day,
            None => blocking(move || inner.day(day)).await?,
        };
        of_day.spend(names, request).await
    }

    fn look(&self, day: u32, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError> {
        self.0.day(day)?.find(names, request)
    }

    async fn forget_before(&self, day: u32) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.forget_before(day)).await
    }
}
