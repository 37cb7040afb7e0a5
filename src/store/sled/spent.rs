//! The spent tokens on disk: one database per day, which goes as a whole.
//!
//! ```text
//! DATA/spent/NNNNN        the database of a day
//! DATA/spent/NNNNN.whole  it was made to its end
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    blocking,
    durable::{self, Database, disk},
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

/// How far a day's database was synced, counted in its commits.
#[derive(Default)]
struct Synced {
    upto: u64,
    /// Somebody syncs just now.
    syncing: bool,
}

/// The database of one day. Those who spend at once share a sync.
struct OfDay {
    database: Database,
    /// Counts the commits; held from the look to the write.
    applied: Mutex<u64>,
    synced: Mutex<Synced>,
    changed: Condvar,
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
        let (applied, synced, changed) = (Mutex::default(), Mutex::default(), Condvar::new());
        Ok(Self { database, applied, synced, changed })
    }

    fn find(&self, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError> {
        let find = |name: &[u8; 16]| {
            let found = self.database.get(name)?;
            found.map(|request| request.as_ref().try_into().map_err(|_| MALFORMED)).transpose()
        };
        judge(names.iter().map(find), request)
    }

    fn spend(&self, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError> {
        let mut applied = lock(&self.applied);
        let outcome = self.find(names, request)?;
        if outcome == Spent::New {
            let mut batch = ::sled::Batch::default();
            for name in names {
                batch.insert(name, request);
            }
            self.database.apply(batch, names.len() * 48)?;
            *applied += 1;
        }
        let mine = *applied;
        drop(applied);
        if outcome != Spent::Other {
            // Also where it was spent before: by somebody who may still wait.
            self.sync(mine)?;
        }
        Ok(outcome)
    }

    /// Returns once the first `mine` commits are durable.
    fn sync(&self, mine: u64) -> Result<(), StoreError> {
        let mut synced = lock(&self.synced);
        while synced.upto < mine {
            if synced.syncing {
                synced = self.changed.wait(synced).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            synced.syncing = true;
            drop(synced);
            let upto = *lock(&self.applied);
            let outcome = self.database.sync();
            synced = lock(&self.synced);
            synced.syncing = false;
            if outcome.is_ok() {
                synced.upto = synced.upto.max(upto);
            }
            self.changed.notify_all();
            outcome?;
        }
        self.database.usable()
    }
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
        blocking(move || inner.day(day)?.spend(&names, &request)).await
    }

    async fn look(
        &self,
        day: u32,
        names: Vec<[u8; 16]>,
        request: [u8; 32],
    ) -> Result<Spent, StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.day(day)?.find(&names, &request)).await
    }

    async fn forget_before(&self, day: u32) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.forget_before(day)).await
    }
}
