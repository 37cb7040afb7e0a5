//! Signs what the directory says about itself: the parameters and the list of
//! providers. One set for all clients; a serial never falls, not even when an
//! old data folder is put back; nothing is handed out before its serial is
//! durable.

use std::{convert::Infallible, sync::Arc, time::Duration};

use super::{Clock, ServerError, ServerOptions, health::Health, published::Published};
use crate::{
    bucket::PrefixBits,
    epoch::Epoch,
    keyring::Keyring,
    oprf::ServerKey,
    pir::Shape,
    registry,
    store::Generations,
    wire::{EpochKey, Parameters, ProviderList, pir_shape},
};

/// Where the last signed sets are remembered.
const PARAMETERS_META: &str = "published/parameters";
const PROVIDERS_META: &str = "published/providers";

/// Parameters are valid this long before they are made: clocks differ.
const SKEW_S: u64 = 300;

/// Longest time between two looks at what there is to publish.
const MAX_PERIOD_S: u64 = 60;

/// What is remembered of a signed set. Signatures are deterministic, so the
/// same set can be signed again after a restart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Record {
    serial: u64,
    issued_s: u64,
    /// Hash of the content without serial and times.
    content: [u8; 32],
}

impl Record {
    fn to_bytes(self) -> Vec<u8> {
        [&self.serial.to_be_bytes()[..], &self.issued_s.to_be_bytes(), &self.content].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (serial, rest) = bytes.split_first_chunk()?;
        let (issued_s, content) = rest.split_first_chunk()?;
        Some(Self {
            serial: u64::from_be_bytes(*serial),
            issued_s: u64::from_be_bytes(*issued_s),
            content: content.try_into().ok()?,
        })
    }
}

/// Publishes for one directory.
pub(super) struct Publisher {
    generations: Arc<dyn Generations>,
    keyring: Arc<Keyring>,
    prefix_bits: PrefixBits,
    /// Ascending.
    active: Vec<Epoch>,
    refresh_period_s: u32,
    regions: Vec<String>,
    pir: Option<Shape>,
    lifetime_s: u64,
    clock: Clock,
    published: Arc<Published>,
    turn: tokio::sync::Mutex<()>,
}

impl Publisher {
    pub(super) fn new(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        prefix_bits: PrefixBits,
        active: Vec<Epoch>,
        options: &ServerOptions,
        clock: Clock,
        published: Arc<Published>,
    ) -> Self {
        Self {
            generations,
            keyring,
            prefix_bits,
            active,
            refresh_period_s: options.refresh_period_s,
            regions: options.regions.clone(),
            pir: options.pir.as_ref().map(|_| pir_shape(prefix_bits)),
            lifetime_s: options.parameters_lifetime_s,
            clock,
            published,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Publishes what is there now; signs anew what changed, or has lived half
    /// its life.
    pub(super) async fn refresh(&self) -> Result<(), ServerError> {
        // Two at once would give one serial to two sets.
        let _turn = self.turn.lock().await;
        let now_s = self.clock.now_s();
        let parameters = self.parameters(now_s).await?;
        let providers = self.providers(now_s).await?;
        let identity = self.keyring.identity();
        self.published.replace(parameters.sign(identity), providers.sign(identity));
        Ok(())
    }

    /// Refreshes for ever. Readiness falls while nothing valid can be published.
    pub(super) async fn keep(&self, health: &Health) -> Infallible {
        let period = Duration::from_secs((self.lifetime_s / 16).clamp(1, MAX_PERIOD_S));
        let mut valid_until_s = self.clock.now_s().saturating_add(self.lifetime_s / 2);
        loop {
            tokio::time::sleep(period).await;
            match self.refresh().await {
                // What was refreshed has at least half its life before it.
                Ok(()) => valid_until_s = self.clock.now_s().saturating_add(self.lifetime_s / 2),
                Err(error) => tracing::error!(%error, "nothing could be published"),
            }
            health.set(self.clock.now_s() < valid_until_s).await;
        }
    }

    async fn parameters(&self, now_s: u64) -> Result<Parameters, ServerError> {
        let key = |(epoch, key): (Epoch, &ServerKey)| EpochKey { epoch, key: key.public_key() };
        let active = self.keyring.epochs().filter(|(epoch, _)| self.active.contains(epoch));
        let mut parameters = Parameters {
            directory: *self.keyring.directory(),
            serial: 0,
            not_before_s: 0,
            not_after_s: self.lifetime_s,
            prefix_bits: self.prefix_bits,
            epochs: active.map(key).collect(),
            refresh_period_s: self.refresh_period_s,
            regions: self.regions.clone(),
            pir: self.pir,
        };
        let content = blake3::hash(&parameters.sign(self.keyring.identity()).body);
        let lives = |record: &Record| {
            let age_s = now_s.checked_sub(record.issued_s);
            age_s.is_some_and(|age_s| age_s < self.lifetime_s / 2)
        };
        let record = self.issue(PARAMETERS_META, *content.as_bytes(), now_s, lives).await?;
        parameters.serial = record.serial;
        parameters.not_before_s = record.issued_s.saturating_sub(SKEW_S);
        parameters.not_after_s = record.issued_s.saturating_add(self.lifetime_s);
        Ok(parameters)
    }

    async fn providers(&self, now_s: u64) -> Result<ProviderList, ServerError> {
        let mut providers = registry::listed_providers(self.generations.as_ref()).await?;
        providers.sort_by(|one, next| one.name.cmp(&next.name));
        let directory = *self.keyring.directory();
        let mut list = ProviderList { directory, serial: 0, providers };
        let content = blake3::hash(&list.sign(self.keyring.identity()).body);
        let record = self.issue(PROVIDERS_META, *content.as_bytes(), now_s, |_| true).await?;
        list.serial = record.serial;
        Ok(list)
    }

    /// The record of a set with this content: the last one while it holds, or
    /// a new one, durable before it is returned.
    async fn issue(
        &self,
        key: &'static str,
        content: [u8; 32],
        now_s: u64,
        holds: impl FnOnce(&Record) -> bool,
    ) -> Result<Record, ServerError> {
        let last = match self.generations.meta_get(key).await? {
            Some(bytes) => Some(Record::from_bytes(&bytes).ok_or(ServerError::Published)?),
            None => None,
        };
        if let Some(last) = last.filter(|last| last.content == content && holds(last)) {
            return Ok(last);
        }
        // The time is a floor: a data folder restored from a backup does not
        // know how far the serial had come.
        let serial = last.map_or(1, |last| last.serial.saturating_add(1)).max(now_s);
        let record = Record { serial, issued_s: now_s, content };
        self.generations.meta_put(key, record.to_bytes()).await?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{
        store::{MemoryGenerations, StoreError},
        wire::{SignedBody, proto},
    };

    struct Scene {
        generations: Arc<MemoryGenerations>,
        keyring: Arc<Keyring>,
        now_s: Arc<AtomicU64>,
    }

    impl Scene {
        fn new() -> Self {
            let keys = tempfile::tempdir().unwrap();
            crate::keyring::generate(keys.path(), &mut rand::rng()).unwrap();
            Self {
                generations: Arc::default(),
                keyring: Arc::new(Keyring::load(keys.path()).unwrap()),
                now_s: Arc::new(AtomicU64::new(1_000_000)),
            }
        }

        fn publisher(&self, bits: u32) -> Publisher {
            let now_s = self.now_s.clone();
            Publisher::new(
                self.generations.clone(),
                self.keyring.clone(),
                PrefixBits::new(bits).unwrap(),
                vec![self.keyring.newest()],
                &ServerOptions::default(),
                Clock::new(move || now_s.load(Ordering::SeqCst)),
                Arc::default(),
            )
        }

        async fn published(&self, bits: u32) -> (Parameters, ProviderList) {
            let publisher = self.publisher(bits);
            publisher.refresh().await.unwrap();
            let identity = self.keyring.identity().verifying_key();
            let parameters: SignedBody =
                publisher.published.parameters().unwrap().try_into().unwrap();
            let providers: proto::ListProvidersResponse = publisher.published.providers().unwrap();
            (
                Parameters::verify(&parameters, &identity).unwrap(),
                ProviderList::verify(&providers.try_into().unwrap(), &identity).unwrap(),
            )
        }

        fn wait(&self, seconds: u64) {
            self.now_s.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_restart_publishes_the_same_set_and_half_a_life_later_a_new_one() {
        let scene = Scene::new();
        let first = scene.published(4).await;
        assert_eq!(first.0.not_before_s, 1_000_000 - SKEW_S);
        assert_eq!(first.0.not_after_s, 1_000_000 + 7 * 86_400);
        scene.wait(3 * 86_400);
        assert_eq!(scene.published(4).await, first);
        scene.wait(86_400);
        let later = scene.published(4).await;
        assert!(later.0.serial > first.0.serial);
        assert_eq!(later.0.not_after_s, 1_000_000 + 11 * 86_400);
        assert_eq!(later.1, first.1);
    }

    #[tokio::test]
    async fn changed_content_gets_a_greater_serial_at_once() {
        let scene = Scene::new();
        let first = scene.published(4).await;
        let split = scene.published(5).await;
        assert_eq!(split.0.serial, first.0.serial + 1);
        assert_eq!(split.1.serial, first.1.serial);
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]).verifying_key();
        for name in ["wa.example", "sg.example"] {
            let meta = format!("provider/{name}");
            scene.generations.meta_put(&meta, key.to_bytes().to_vec()).await.unwrap();
        }
        let listed = scene.published(5).await;
        assert_eq!(listed.0, split.0);
        assert_eq!(listed.1.serial, split.1.serial + 1);
        let names: Vec<_> = listed.1.providers.iter().map(|known| known.name.as_str()).collect();
        assert_eq!(names, ["sg.example", "wa.example"]);
    }

    #[tokio::test]
    async fn a_serial_does_not_fall_with_the_clock_nor_with_a_restored_folder() {
        let scene = Scene::new();
        let first = scene.published(4).await;
        scene.now_s.store(10, Ordering::SeqCst);
        let back = scene.published(4).await;
        assert_eq!(back.0.serial, first.0.serial + 1);
        assert!(back.0.not_before_s <= 10);

        let restored = Scene { generations: Arc::default(), ..scene };
        restored.now_s.store(1_000_060, Ordering::SeqCst);
        assert!(restored.published(4).await.0.serial > back.0.serial);
    }

    #[tokio::test]
    async fn a_damaged_record_or_provider_is_an_error_and_nothing_is_published() {
        let scene = Scene::new();
        scene.generations.meta_put(PARAMETERS_META, vec![0; 47]).await.unwrap();
        let publisher = scene.publisher(4);
        assert!(matches!(publisher.refresh().await, Err(ServerError::Published)));
        let scene = Scene::new();
        scene.generations.meta_put("provider/wa.example", vec![0; 31]).await.unwrap();
        let publisher = scene.publisher(4);
        assert!(matches!(
            publisher.refresh().await,
            Err(ServerError::Store(StoreError::Damaged(_)))
        ));
        assert!(publisher.published.parameters().is_none());
    }
}
