//! The spent tokens on disk: one database per day, which goes as a whole, and a
//! journal of what is not in it yet.
//!
//! ```text
//! DATA/spent/NNNNN          the database of a day
//! DATA/spent/NNNNN.journal  the newest of its tokens
//! DATA/spent/NNNNN.whole    both were made to their end
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::{
    blocking,
    durable::{self, Database, disk},
    group::{self, Patience},
    journal::{Entry, Journal},
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

/// What is known of a day's tokens.
#[derive(Clone)]
struct Known {
    database: Database,
    /// What stands in the journal and not in the database.
    newest: Arc<RwLock<HashMap<[u8; 16], [u8; 32]>>>,
}

impl Known {
    fn request(&self, name: &[u8; 16]) -> Result<Option<[u8; 32]>, StoreError> {
        // This order: the database has it before it is gone from here.
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        if newest.is_some() {
            self.database.usable()?;
            return Ok(newest);
        }
        let found = self.database.get(name)?;
        found.map(|request| request.as_ref().try_into().map_err(|_| MALFORMED)).transpose()
    }

    /// Puts tokens into the database, durably.
    fn store<'a>(&self, tokens: impl IntoIterator<Item = &'a Entry>) -> Result<(), StoreError> {
        let (mut batch, mut bytes) = (::sled::Batch::default(), 0);
        for (name, request) in tokens {
            batch.insert(name, request);
            bytes += name.len() + request.len();
        }
        self.database.apply(batch, bytes)?;
        self.database.sync()
    }

    /// Makes the journal's tokens the database's.
    fn settle(&self, journal: &mut Journal) -> Result<(), StoreError> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        let tokens: Vec<Entry> = newest.iter().map(|(name, request)| (*name, *request)).collect();
        drop(newest);
        self.store(&tokens)?;
        journal.rewind();
        self.newest.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Remembers tokens, durably.
    fn write(&self, journal: &mut Journal, new: &[Entry]) -> Result<(), StoreError> {
        self.database.usable()?;
        if !Journal::holds(new.len()) {
            return self.store(new);
        }
        let append = |journal: &mut Journal| self.database.failing(journal.append(new));
        let written = append(journal)? || {
            self.settle(journal)?;
            append(journal)?
        };
        if !written {
            return self.store(new);
        }
        self.newest.write().unwrap_or_else(PoisonError::into_inner).extend(new.iter().copied());
        Ok(())
    }
}

/// The tokens of one day, and the way to the thread that writes them, which ends
/// with the last who could ask it.
struct OfDay {
    known: Known,
    requests: mpsc::Sender<Request>,
}

impl OfDay {
    fn open(folder: &Path, day: u32) -> Result<Self, StoreError> {
        let (path, whole) = (path_of(folder, day), whole_of(folder, day));
        let journal = journal_of(folder, day);
        if !whole.is_file() {
            // Nothing in them was acknowledged.
            remove_file(&journal)?;
            durable::remove_dir(&path)?;
        }
        durable::create_dir(&path)?;
        let database = Database::open(&path, CACHE_BYTES)?;
        let known = Known { database, newest: Arc::default() };
        let (mut journal, newest) = Journal::open(&journal, folder)?;
        if !whole.is_file() {
            fs::File::create(&whole).and_then(|file| file.sync_all()).map_err(disk)?;
            durable::sync_dir(folder)?;
        }
        known.database.set_live();
        if !newest.is_empty() {
            known.store(&newest)?;
        }
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        let writer = known.clone();
        thread::Builder::new()
            .name("store-spent".into())
            .spawn(move || {
                group::run(waiting, Patience::of_crowds, |group| {
                    spend(&writer, &mut journal, group)
                });
            })
            .map_err(|error| StoreError::Open(error.to_string()))?;
        Ok(Self { known, requests })
    }

    fn find(&self, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError> {
        judge(names.iter().map(|name| self.known.request(name)), request)
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

/// Spends the tokens of a group, each request after those before it, and makes
/// all of it durable before anyone hears of it; gives how long that took.
fn spend(known: &Known, journal: &mut Journal, group: Vec<Request>) -> Duration {
    let mut new: HashMap<[u8; 16], [u8; 32]> = HashMap::new();
    let mut outcomes = Vec::with_capacity(group.len());
    for Request { names, pays, reply } in group {
        let find = |name: &[u8; 16]| match new.get(name) {
            Some(pays) => Ok(Some(*pays)),
            None => known.request(name),
        };
        let outcome = judge(names.iter().map(find), &pays);
        if matches!(outcome, Ok(Spent::New)) {
            new.extend(names.into_iter().map(|name| (name, pays)));
        }
        outcomes.push((reply, outcome));
    }
    let new: Vec<Entry> = new.into_iter().collect();
    let begun = Instant::now();
    let written = if new.is_empty() { Ok(()) } else { known.write(journal, &new) };
    let writing = begun.elapsed();
    for (reply, outcome) in outcomes {
        // Refused for what is not durable now is no refusal, either.
        let outcome = outcome.and_then(|outcome| written.clone().map(|()| outcome));
        // A caller that went away needs no answer.
        let _ = reply.send(outcome);
    }
    writing
}

fn path_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(day.to_string())
}

fn journal_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(format!("{day}.journal"))
}

fn whole_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(format!("{day}.whole"))
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk(error)),
        _ => Ok(()),
    }
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
                remove_file(&whole_of(&self.folder, old))?;
                remove_file(&journal_of(&self.folder, old))?;
                durable::remove_dir(&path_of(&self.folder, old))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(data: &Path) -> SharedSpent {
        SharedSpent::open(data, Arc::new(FolderLock::take(data).unwrap())).unwrap()
    }

    fn name(n: u32) -> [u8; 16] {
        *blake3::hash(&n.to_be_bytes()).as_bytes().first_chunk().unwrap()
    }

    /// More than the journal holds, by many at once and in one request, and what
    /// is known of it then and after each opening.
    #[tokio::test(flavor = "multi_thread")]
    async fn tokens_pass_from_the_journal_to_the_database() {
        const ALONE: u32 = 6_000;
        const ALL: u32 = ALONE + 3_000;
        let folder = tempfile::tempdir().unwrap();
        let spent = open(folder.path());
        let tasks: Vec<_> = (0..100)
            .map(|task| {
                let spent = spent.clone();
                tokio::spawn(async move {
                    for n in (task..ALONE).step_by(100) {
                        let outcome = spent.spend(7, vec![name(n)], [1; 32]).await.unwrap();
                        assert_eq!(outcome, Spent::New, "{n}");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let many: Vec<_> = (ALONE..ALL).map(name).collect();
        assert_eq!(spent.spend(7, many.clone(), [1; 32]).await.unwrap(), Spent::New);
        let known = |spent: &SharedSpent| {
            for n in 0..ALL {
                assert_eq!(spent.look(7, &[name(n)], &[1; 32]).unwrap(), Spent::Again, "{n}");
                assert_eq!(spent.look(7, &[name(n)], &[2; 32]).unwrap(), Spent::Other, "{n}");
            }
            assert_eq!(spent.look(7, &many, &[1; 32]).unwrap(), Spent::Again);
            assert_eq!(spent.look(7, &[name(ALL)], &[1; 32]).unwrap(), Spent::New);
        };
        known(&spent);
        let newest =
            |spent: &SharedSpent| spent.0.day(7).unwrap().known.newest.read().unwrap().len();
        assert!((1..3_000).contains(&newest(&spent)), "{}", newest(&spent));
        drop(spent);
        let spent = open(folder.path());
        known(&spent);
        assert_eq!(newest(&spent), 0);
        assert_eq!(spent.spend(7, vec![name(ALL)], [3; 32]).await.unwrap(), Spent::New);
        assert_eq!(newest(&spent), 1);

        // A forgotten day leaves nothing.
        spent.forget_before(8).await.unwrap();
        let left: Vec<_> = fs::read_dir(folder.path().join("spent")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(spent.look(7, &[name(0)], &[2; 32]).unwrap(), Spent::New);
    }
}
