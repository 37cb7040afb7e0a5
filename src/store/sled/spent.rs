//! The spent tokens on disk: one database per day, which goes as a whole, and
//! two journals of what is not in it yet. While one is written, what filled the
//! other goes into the database, and nobody waits for that.
//!
//! ```text
//! DATA/spent/NNNNN            the database of a day
//! DATA/spent/NNNNN.journal    the newest of its tokens, and those before them,
//! DATA/spent/NNNNN.journal-2  or the other way round
//! DATA/spent/NNNNN.whole      all three were made to their end
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs, mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        mpsc as threads,
    },
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

/// Tokens that go into the database at a time: meanwhile sled lets nobody read,
/// in any database of the process.
const BATCH: usize = 64;

/// What no journal holds goes in at once: a request has spent all of its tokens or
/// none, also after a crash.
const WHOLE: usize = usize::MAX;

/// Tokens to spend, all of them or none.
struct Request {
    names: Vec<[u8; 16]>,
    pays: [u8; 32],
    reply: oneshot::Sender<Result<Spent, StoreError>>,
}

/// What stands in the journals and not, for certain, in the database.
#[derive(Default)]
struct Newest {
    /// In the journal that is written.
    filling: HashMap<[u8; 16], [u8; 32]>,
    /// In the other.
    settling: Arc<HashMap<[u8; 16], [u8; 32]>>,
}

/// What is known of a day's tokens.
#[derive(Clone)]
struct Known {
    database: Database,
    newest: Arc<RwLock<Newest>>,
}

impl Known {
    fn newest(&self) -> RwLockReadGuard<'_, Newest> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest_mut(&self) -> RwLockWriteGuard<'_, Newest> {
        self.newest.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, name: &[u8; 16]) -> Result<Option<[u8; 32]>, StoreError> {
        // This order: the database has it before it is gone from here.
        let newest = self.newest();
        let found = newest.filling.get(name).or_else(|| newest.settling.get(name)).copied();
        drop(newest);
        if found.is_some() {
            self.database.usable()?;
            return Ok(found);
        }
        let found = self.database.get(name)?;
        found.map(|request| request.as_ref().try_into().map_err(|_| MALFORMED)).transpose()
    }

    /// Puts tokens into the database, durably, so many at a time: after a crash those
    /// are there together or not at all.
    fn store(&self, mut tokens: Vec<Entry>, at_once: usize) -> Result<(), StoreError> {
        // Neighbours share a page.
        tokens.sort_unstable();
        for tokens in tokens.chunks(at_once) {
            let (mut batch, mut bytes) = (::sled::Batch::default(), 0);
            for (name, request) in tokens {
                batch.insert(name, request);
                bytes += name.len() + request.len();
            }
            self.database.apply(batch, bytes)?;
        }
        self.database.sync()
    }

    /// Makes the tokens of full journals the database's, one journal after the
    /// other, until there are no more. A fault is the database's, and remembered
    /// there.
    fn settle(&self, full: &threads::Receiver<Journal>, settled: &threads::Sender<Journal>) {
        for mut journal in full {
            let tokens = self.newest().settling.clone();
            if self
                .store(tokens.iter().map(|(name, pays)| (*name, *pays)).collect(), BATCH)
                .is_err()
            {
                return;
            }
            self.newest_mut().settling = Arc::default();
            journal.rewind();
            if settled.send(journal).is_err() {
                return;
            }
        }
    }
}

/// What a day's writer writes to: a journal, and the way in which a full one is
/// exchanged for one that is settled.
struct Writer {
    known: Known,
    journal: Journal,
    full: threads::Sender<Journal>,
    settled: threads::Receiver<Journal>,
}

impl Writer {
    /// Writes to `journal`, then to `other`: with the ends of the way for who
    /// settles.
    fn new(
        known: Known,
        journal: Journal,
        other: Journal,
    ) -> (Self, threads::Receiver<Journal>, threads::Sender<Journal>) {
        let (full, filled) = threads::channel();
        let (settle, settled) = threads::channel();
        let _ = settle.send(other);
        (Self { known, journal, full, settled }, filled, settle)
    }

    /// Remembers tokens, durably.
    fn write(&mut self, new: Vec<Entry>) -> Result<(), StoreError> {
        self.known.database.usable()?;
        if !Journal::holds(new.len()) {
            return self.known.store(new, WHOLE);
        }
        let written = self.append(&new)? || {
            self.turn()?;
            self.append(&new)?
        };
        if !written {
            return self.known.store(new, WHOLE);
        }
        self.known.newest_mut().filling.extend(new);
        Ok(())
    }

    fn append(&mut self, new: &[Entry]) -> Result<bool, StoreError> {
        self.known.database.failing(self.journal.append(new))
    }

    /// Takes the other journal, once it is settled, and has this one settled.
    fn turn(&mut self) -> Result<(), StoreError> {
        let stopped = || StoreError::Disk("the thread that settles tokens has stopped".into());
        let other = self.settled.recv().map_err(|_| stopped())?;
        let full = mem::replace(&mut self.journal, other);
        let mut newest = self.known.newest_mut();
        newest.settling = Arc::new(mem::take(&mut newest.filling));
        drop(newest);
        self.full.send(full).map_err(|_| stopped())
    }

    /// Spends the tokens of a group, each request after those before it, and makes
    /// all of it durable before anyone hears of it; gives how long that took.
    fn spend(&mut self, group: Vec<Request>) -> Duration {
        let mut new: HashMap<[u8; 16], [u8; 32]> = HashMap::new();
        let mut outcomes = Vec::with_capacity(group.len());
        for Request { names, pays, reply } in group {
            let find = |name: &[u8; 16]| match new.get(name) {
                Some(pays) => Ok(Some(*pays)),
                None => self.known.request(name),
            };
            let outcome = judge(names.iter().map(find), &pays);
            if matches!(outcome, Ok(Spent::New)) {
                new.extend(names.into_iter().map(|name| (name, pays)));
            }
            outcomes.push((reply, outcome));
        }
        let begun = Instant::now();
        let written = if new.is_empty() { Ok(()) } else { self.write(new.into_iter().collect()) };
        let writing = begun.elapsed();
        for (reply, outcome) in outcomes {
            // Refused for what is not durable now is no refusal, either.
            let outcome = outcome.and_then(|outcome| written.clone().map(|()| outcome));
            // A caller that went away needs no answer.
            let _ = reply.send(outcome);
        }
        writing
    }
}

/// The tokens of one day, and the way to the thread that writes them, which ends
/// with the last who could ask it, and the one that settles them with it.
struct OfDay {
    known: Known,
    requests: mpsc::Sender<Request>,
}

impl OfDay {
    fn open(folder: &Path, day: u32) -> Result<Self, StoreError> {
        let (path, whole) = (path_of(folder, day), whole_of(folder, day));
        let journals = journals_of(folder, day);
        if !whole.is_file() {
            // Nothing in them was acknowledged.
            journals.iter().try_for_each(|journal| remove_file(journal))?;
            durable::remove_dir(&path)?;
        }
        durable::create_dir(&path)?;
        let known = Known { database: Database::open(&path, CACHE_BYTES)?, newest: Arc::default() };
        let [first, second] = journals.map(|path| Journal::open(&path, folder));
        let ((journal, mut newest), (other, older)) = (first?, second?);
        newest.extend(older);
        if !whole.is_file() {
            fs::File::create(&whole).and_then(|file| file.sync_all()).map_err(disk)?;
            durable::sync_dir(folder)?;
        }
        known.database.set_live();
        if !newest.is_empty() {
            known.store(newest, BATCH)?;
        }
        let (mut writer, filled, settle) = Writer::new(known.clone(), journal, other);
        let settler = known.clone();
        spawn("settle-spent", move || settler.settle(&filled, &settle))?;
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        spawn("store-spent", move || {
            group::run(waiting, Patience::of_crowds, |group| writer.spend(group));
        })?;
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

fn path_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(day.to_string())
}

fn journals_of(folder: &Path, day: u32) -> [PathBuf; 2] {
    ["journal", "journal-2"].map(|journal| folder.join(format!("{day}.{journal}")))
}

fn whole_of(folder: &Path, day: u32) -> PathBuf {
    folder.join(format!("{day}.whole"))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(|error| StoreError::Open(error.to_string()))
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
                journals_of(&self.folder, old).iter().try_for_each(|path| remove_file(path))?;
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
        let newest = |spent: &SharedSpent| {
            let of_day = spent.0.day(7).unwrap();
            let newest = of_day.known.newest();
            [newest.filling.len(), newest.settling.len()]
        };
        let [filling, settling] = newest(&spent);
        assert!((1..3_000).contains(&filling) && settling < 3_000, "{filling}, {settling}");
        drop(spent);
        let spent = open(folder.path());
        known(&spent);
        assert_eq!(newest(&spent), [0, 0]);
        assert_eq!(spent.spend(7, vec![name(ALL)], [3; 32]).await.unwrap(), Spent::New);
        assert_eq!(newest(&spent), [1, 0]);

        // A forgotten day leaves nothing.
        spent.forget_before(8).await.unwrap();
        let left: Vec<_> = fs::read_dir(folder.path().join("spent")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(spent.look(7, &[name(0)], &[2; 32]).unwrap(), Spent::New);
    }

    #[test]
    fn writing_goes_on_while_a_full_journal_waits_to_be_settled() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("7"), CACHE_BYTES).unwrap();
        let known = Known { database, newest: Arc::default() };
        let journals = || {
            journals_of(folder.path(), 7).map(|path| Journal::open(&path, folder.path()).unwrap())
        };
        let [(first, _), (second, _)] = journals();
        let (mut writer, filled, settle) = Writer::new(known.clone(), first, second);
        let mut next = 0;
        let mut spend = |writer: &mut Writer| {
            let new = (next..next + 50).map(|n| (name(n), [1; 32])).collect();
            writer.write(new)?;
            next += 50;
            Ok::<_, StoreError>(next)
        };
        let is_known = |n| known.request(&name(n)).unwrap() == Some([1; 32]);
        while known.newest().settling.is_empty() {
            spend(&mut writer).unwrap();
        }
        // Nobody settles, and both journals hold all of it.
        let mut all = 0;
        for _ in 0..20 {
            all = spend(&mut writer).unwrap();
        }
        assert!((0..all).all(is_known));
        assert_eq!(known.database.get(&name(0)).unwrap(), None);
        let written: usize = journals().iter().map(|(_, newest)| newest.len()).sum();
        assert_eq!(u32::try_from(written), Ok(all));

        // Both are full: what comes then waits until one is settled.
        let settler = known.clone();
        let settling = thread::spawn(move || settler.settle(&filled, &settle));
        let until = 10 * all;
        while all < until {
            all = spend(&mut writer).unwrap();
        }
        assert!((0..all).all(is_known));
        assert!(known.database.get(&name(0)).unwrap().is_some());
        // Without a settler it ends with a fault, and does not wait for ever.
        (writer.full, writer.settled) = (threads::channel().0, threads::channel().1);
        settling.join().unwrap();
        let fault = loop {
            if let Err(fault) = spend(&mut writer) {
                break fault;
            }
        };
        assert!(matches!(fault, StoreError::Disk(_)), "{fault}");
    }
}
