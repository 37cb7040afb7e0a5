//! The directories: which are known, and the patience with those that are not.

use std::{
    convert::Infallible,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::time::sleep;

use super::{DirectoryOptions, Route, SidecarError, health::Health, source::Source};
use crate::{
    client::{ClientError, Fault},
    identifier::Sii,
};

/// How often the schedule of a known directory is looked at. It alone says
/// when its parameters are fetched.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// One directory.
pub(super) struct Directory {
    pub(super) name: Box<str>,
    serves: Vec<Route>,
    slot: RwLock<Slot>,
    /// Whether its parameters hold now.
    known: AtomicBool,
}

enum Slot {
    /// Not reached yet, and why not.
    Awaited(Option<ClientError>),
    Met(Source),
}

impl Directory {
    fn new(options: &DirectoryOptions) -> Self {
        Self {
            name: options.name.as_str().into(),
            serves: options.serves.clone(),
            slot: RwLock::new(Slot::Awaited(None)),
            known: AtomicBool::new(false),
        }
    }

    /// Its client, or why there is none.
    pub(super) fn source(&self) -> Result<Source, Option<ClientError>> {
        match &*self.slot.read().unwrap_or_else(PoisonError::into_inner) {
            Slot::Met(source) => Ok(source.clone()),
            Slot::Awaited(error) => Err(error.clone()),
        }
    }

    fn put(&self, slot: Slot) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = slot;
    }
}

/// All directories, in the order in which their routes are tried.
pub(super) struct Directories(Vec<Arc<Directory>>);

impl Directories {
    pub(super) fn new(options: &[DirectoryOptions]) -> Self {
        Self(options.iter().map(|options| Arc::new(Directory::new(options))).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Directory>> {
        self.0.iter()
    }

    /// The directory of this name.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Directory>> {
        self.0.iter().find(|directory| *directory.name == *name)
    }

    /// The one directory that is asked for an identifier.
    pub(super) fn of(&self, sii: &Sii) -> Option<&Arc<Directory>> {
        self.0.iter().find(|directory| directory.serves.iter().any(|route| route.takes(sii)))
    }

    fn are_known(&self) -> bool {
        self.0.iter().all(|directory| directory.known.load(Ordering::Acquire))
    }

    async fn tell(&self, directory: &Directory, known: bool, health: &Health) {
        directory.known.store(known, Ordering::Release);
        health.look(|| self.are_known()).await;
    }
}

/// Meets a directory, however long that takes, and keeps to its schedule, so
/// that no lookup has to fetch what is due. Ends only with a fault that no
/// patience mends.
pub(super) async fn keep(
    directory: Arc<Directory>,
    options: DirectoryOptions,
    all: Arc<Directories>,
    health: Arc<Health>,
) -> Result<Infallible, SidecarError> {
    let name = &*directory.name;
    let mut pauses = Pauses::default();
    let source = loop {
        match Source::connect(options.client.clone(), options.state.clone()).await {
            Ok(source) => break source,
            Err(error) if matches!(error.fault(), Fault::Caller | Fault::Ours) => {
                return Err(SidecarError::Directory { name: name.into(), error });
            }
            Err(error) => {
                if pauses.is_first() {
                    tracing::warn!(directory = name, %error, "the directory cannot be asked yet");
                }
                directory.put(Slot::Awaited(Some(error)));
            }
        }
        sleep(pauses.next()).await;
    };
    directory.put(Slot::Met(source.clone()));
    all.tell(&directory, true, &health).await;
    tracing::info!(directory = name, "the directory is known");
    tokio::select! {
        never = source.follow() => match never {},
        never = look(&directory, &source, &all, &health) => match never {},
    }
}

/// Looks at a known directory's schedule again and again.
async fn look(
    directory: &Directory,
    source: &Source,
    all: &Directories,
    health: &Health,
) -> Infallible {
    let name = &*directory.name;
    let mut pauses = Pauses::default();
    loop {
        let failed = !pauses.is_first();
        sleep(if failed { pauses.next() } else { jittered(LOOK_EVERY) }).await;
        match source.check().await {
            Ok(()) => {
                if failed {
                    tracing::info!(directory = name, "the directory is known again");
                }
                pauses = Pauses::default();
                all.tell(directory, true, health).await;
            }
            Err(error) => {
                if !failed {
                    tracing::warn!(directory = name, %error, "the directory is not known any more");
                    pauses.next();
                }
                all.tell(directory, false, health).await;
            }
        }
    }
}

/// Longer and longer pauses, no two sidecars' the same.
#[derive(Default)]
struct Pauses(u32);

impl Pauses {
    const fn is_first(&self) -> bool {
        self.0 == 0
    }

    fn next(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.0)).min(LONGEST_PAUSE);
        self.0 = self.0.saturating_add(1);
        jittered(pause)
    }
}

/// Half of it to all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_longest_and_stay_there() {
        let mut pauses = Pauses::default();
        assert!(pauses.is_first());
        let mut longest = FIRST_PAUSE;
        for _ in 0..100 {
            let pause = pauses.next();
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
        assert!(!pauses.is_first());
    }
}
