//! The store on disk, on sled: the default of a single server. What it
//! acknowledges survives the end of the process and the loss of power.
//!
//! ```text
//! DATA/lock                              one process at a time
//! DATA/format                            which version of this layout
//! DATA/meta/                             metadata, current generation, partitions
//! DATA/generation-NNNNNN/partition-NNNNN one sled database each
//! DATA/spent/NNNNN                       the tokens spent of one day, likewise,
//!                                        with a journal before it
//! ```

mod commit;
mod durable;
mod generation;
mod group;
mod journal;
mod lock;
mod meta;
mod pages;
mod partition;
mod spent;

use std::{
    ffi::OsStr,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use self::{
    durable::disk,
    generation::SledStore,
    lock::FolderLock,
    meta::{Generation, Meta},
    spent::SharedSpent,
};
use super::{DEFAULT_CHANGE_LOG_ENTRIES, Generations, SpentTokens, Store, StoreError, check};
use crate::bucket::PrefixBits;

const FORMAT: &str = "blindbook store 1\n";

/// How a data folder is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Bytes of pages that sled caches, divided among the partitions (each gets
    /// at least 8 MiB). 128 MiB unless told otherwise. sled counts what it
    /// caches late, so that resident memory may exceed it several times over.
    pub cache_bytes: u64,
    /// Changes that each partition's log keeps at least;
    /// [`DEFAULT_CHANGE_LOG_ENTRIES`] unless told otherwise.
    pub change_log_entries: u64,
    /// Whether commits that wait for the disk are written and synced together, as
    /// they are unless told otherwise. If not, each writes and syncs for itself:
    /// what group commit is measured against.
    pub group_commits: bool,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            change_log_entries: DEFAULT_CHANGE_LOG_ENTRIES,
            group_commits: true,
        }
    }
}

/// A data folder.
#[derive(Clone)]
pub struct SledGenerations(Arc<Inner>);

struct Inner {
    data: PathBuf,
    options: SledOptions,
    meta: Arc<Meta>,
    lock: Arc<FolderLock>,
    stores: Mutex<Stores>,
    spent: Mutex<Option<SharedSpent>>,
}

#[derive(Default)]
struct Stores {
    current: Option<SledStore>,
    staged: Option<SledStore>,
}

impl fmt::Debug for SledGenerations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledGenerations(..)")
    }
}

/// Runs what waits for the disk where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Disk("the storage engine stopped unexpectedly".into())))
}

impl SledGenerations {
    /// Opens a data folder, making it if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Open`] if another process uses the folder, another version
    /// wrote it, or permission lacks; [`StoreError::Damaged`] if parts of it
    /// are missing.
    pub async fn open(
        data: impl Into<PathBuf> + Send,
        options: SledOptions,
    ) -> Result<Self, StoreError> {
        let data = data.into();
        blocking(move || Inner::open(data, options).map(|inner| Self(Arc::new(inner)))).await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    fn open(data: PathBuf, options: SledOptions) -> Result<Self, StoreError> {
        make_data_folder(&data)?;
        let lock = Arc::new(FolderLock::take(&data)?);
        let meta = Arc::new(open_meta(&data)?);
        let current = meta.current()?;
        for (number, path) in generations(&data)? {
            if current.is_none_or(|current| current.number != number) {
                // Staged and never promoted, or replaced and not yet removed.
                durable::remove_dir(&path)?;
                meta.drop_partitions(number)?;
            }
        }
        let current = current.map(|current| {
            SledStore::new(&data, current, options, Arc::clone(&meta), Arc::clone(&lock))
        });
        if let Some(current) = &current {
            if !generation::folder(&data, current.generation().number).is_dir() {
                return Err(StoreError::Damaged("the current generation's folder is missing"));
            }
            current.set_live();
        }
        let stores = Mutex::new(Stores { current, staged: None });
        Ok(Self { data, options, meta, lock, stores, spent: Mutex::default() })
    }

    fn stores(&self) -> MutexGuard<'_, Stores> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spent(&self) -> Result<SharedSpent, StoreError> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        match &*spent {
            Some(open) => Ok(open.clone()),
            None => Ok(spent.insert(SharedSpent::open(&self.data, self.lock.clone())?).clone()),
        }
    }

    fn remove(&self, generation: u64) -> Result<(), StoreError> {
        durable::remove_dir(&generation::folder(&self.data, generation))?;
        self.meta.drop_partitions(generation)
    }

    fn stage(&self, bits: PrefixBits) -> Result<SledStore, StoreError> {
        let mut stores = self.stores();
        if let Some(left) = stores.staged.take() {
            left.retire();
            self.remove(left.generation().number)?;
        }
        let used = [self.meta.current()?, self.meta.staged()?];
        let highest = used.iter().flatten().map(|used| used.number).max().unwrap_or(0);
        let staged = Generation { number: highest + 1, bits };
        self.meta.stage(staged)?;
        durable::create_dir(&generation::folder(&self.data, staged.number))?;
        let store = SledStore::new(
            &self.data,
            staged,
            self.options,
            Arc::clone(&self.meta),
            Arc::clone(&self.lock),
        );
        stores.staged = Some(store.clone());
        Ok(store)
    }

    fn promote(&self) -> Result<SledStore, StoreError> {
        let mut stores = self.stores();
        let staged = stores
            .staged
            .clone()
            .ok_or(StoreError::Misuse("no generation is staged that could be promoted"))?;
        staged.set_live();
        staged.sync_all()?;
        self.meta.promote(staged.generation())?;
        stores.staged = None;
        if let Some(old) = stores.current.replace(staged.clone()) {
            old.retire();
            if let Err(error) = self.remove(old.generation().number) {
                // The next start tries again.
                tracing::error!(%error, "the replaced generation could not be removed");
            }
        }
        Ok(staged)
    }
}

fn make_data_folder(data: &Path) -> Result<(), StoreError> {
    let made = !data.exists();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| StoreError::Open(error.to_string()))?;
    match data.canonicalize().map_err(disk)?.parent() {
        Some(parent) if made => durable::sync_dir(parent),
        _ => Ok(()),
    }
}

/// The folders of generations, by their numbers.
fn generations(data: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data).map_err(disk)? {
        let path = entry.map_err(disk)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if let Some(Ok(number)) = name.strip_prefix("generation-").map(str::parse) {
            found.push((number, path));
        }
    }
    Ok(found)
}

/// The metadata is made before the format is recorded: without that record
/// nothing was acknowledged yet.
fn open_meta(data: &Path) -> Result<Meta, StoreError> {
    let path = data.join("meta");
    let record = data.join("format");
    match fs::read_to_string(&record) {
        Ok(format) if format == FORMAT => {
            if path.join("db").is_file() {
                Meta::open(&path)
            } else {
                Err(StoreError::Damaged("the metadata's files are missing"))
            }
        }
        Ok(_) => Err(StoreError::Open("another version of the store wrote it".into())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Open(error.to_string()))
        }
        Err(_) if !generations(data)?.is_empty() => {
            Err(StoreError::Damaged("the record of the folder's format is missing"))
        }
        Err(_) => {
            durable::remove_dir(&path)?;
            durable::create_dir(&path)?;
            let meta = Meta::open(&path)?;
            let new = data.join("format.new");
            let mut file = fs::File::create(&new).map_err(disk)?;
            file.write_all(FORMAT.as_bytes()).and_then(|()| file.sync_all()).map_err(disk)?;
            fs::rename(&new, &record).map_err(disk)?;
            durable::sync_dir(data)?;
            Ok(meta)
        }
    }
}

#[async_trait]
impl Generations for SledGenerations {
    async fn current(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        // Its lock is held while a generation is promoted.
        let current = self.with(|inner| Ok(inner.stores().current.clone())).await?;
        Ok(current.map(|store| Arc::new(store) as Arc<dyn Store>))
    }

    async fn stage(&self, bits: PrefixBits) -> Result<Arc<dyn Store>, StoreError> {
        self.with(move |inner| Ok(Arc::new(inner.stage(bits)?) as Arc<dyn Store>)).await
    }

    async fn promote(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.with(|inner| Ok(Arc::new(inner.promote()?) as Arc<dyn Store>)).await
    }

    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check::meta_key(key)?;
        let key = key.to_owned();
        self.with(move |inner| inner.meta.get(&key)).await
    }

    async fn meta_put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        check::meta(key, &value)?;
        let key = key.to_owned();
        self.with(move |inner| inner.meta.put(&key, &value)).await
    }

    async fn meta_remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        keys.iter().try_for_each(|key| check::meta_key(key))?;
        self.with(move |inner| inner.meta.remove(&keys)).await
    }

    async fn meta_list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = prefix.to_owned();
        self.with(move |inner| inner.meta.list(&prefix)).await
    }

    async fn spent_tokens(&self) -> Result<Arc<dyn SpentTokens>, StoreError> {
        self.with(|inner| Ok(Arc::new(inner.spent()?) as Arc<dyn SpentTokens>)).await
    }
}
