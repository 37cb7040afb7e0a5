//! A directory under test, and the oracle: it opens the directory as a client
//! would, and verifies what a client verifies.

use std::{collections::BTreeMap, fs, io::Cursor, path::Path, sync::Arc};

use blindbook::{
    bucket::{Audience, Bucket, BucketNumber, EntryKeys, Placement, PrefixBits},
    identifier::{Provider, Sii},
    keyring::{self, Keyring},
    registry::{self, Input, LoadError, LoadOptions, LoadReport, Progress},
    store::{Generations, MemoryGenerations, SledGenerations, SledOptions, StoredRows},
};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

pub(crate) const NOW_S: u64 = 1_800_000_000;

pub(crate) struct Directory {
    pub(crate) keys: TempDir,
    pub(crate) data: TempDir,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) generations: Arc<dyn Generations>,
    pub(crate) options: LoadOptions,
}

/// A mapping as a client sees it: provider, user, audience, default since, TTL.
pub(crate) type Seen = (String, String, Audience, u32, u32);

impl Directory {
    pub(crate) fn memory() -> Self {
        Self::on(Arc::new(MemoryGenerations::default()), tempfile::tempdir().unwrap())
    }

    pub(crate) async fn sled() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = SledOptions::default();
        let generations = SledGenerations::open(data.path().join("store"), options).await.unwrap();
        Self::on(Arc::new(generations), data)
    }

    fn on(generations: Arc<dyn Generations>, data: TempDir) -> Self {
        let keys = tempfile::tempdir().unwrap();
        keyring::generate(keys.path(), &mut rand::rng()).unwrap();
        let keyring = Arc::new(Keyring::load(keys.path()).unwrap());
        let signer = keyring::provider_key(&keys.path().join(keyring::files::PROVIDER)).unwrap();
        let spill = data.path().join("spill");
        let mut options = LoadOptions::new(provider("wa.example"), signer, spill, NOW_S);
        options.region = Some("US".parse().unwrap());
        Self { keys, data, keyring, generations, options }
    }

    /// The same directory through another door.
    pub(crate) fn through(&self, generations: Arc<dyn Generations>) -> Self {
        Self {
            keys: tempfile::tempdir().unwrap(),
            data: tempfile::tempdir().unwrap(),
            keyring: Arc::clone(&self.keyring),
            generations,
            options: self.options.clone(),
        }
    }

    /// The same directory, loaded by another provider.
    pub(crate) fn of(&self, name: &str) -> Self {
        let mut directory = self.through(Arc::clone(&self.generations));
        directory.options.provider = provider(name);
        directory.options.provider_key = signer(name);
        directory
    }

    pub(crate) async fn load(&self, text: &str) -> Result<LoadReport, LoadError> {
        self.load_with(self.options.clone(), text).await
    }

    pub(crate) async fn load_strictly(&self, text: &str) -> Result<LoadReport, LoadError> {
        self.load_with(LoadOptions { strict: true, ..self.options.clone() }, text).await
    }

    pub(crate) async fn load_with(
        &self,
        options: LoadOptions,
        text: &str,
    ) -> Result<LoadReport, LoadError> {
        let input = Input::stream("people.csv", Cursor::new(text.to_owned()));
        self.load_inputs(options, vec![input]).await
    }

    pub(crate) async fn load_inputs(
        &self,
        options: LoadOptions,
        inputs: Vec<Input>,
    ) -> Result<LoadReport, LoadError> {
        let generations = Arc::clone(&self.generations);
        let keyring = Arc::clone(&self.keyring);
        registry::load(generations, keyring, options, inputs, Arc::new(Progress::default())).await
    }

    /// Adds the seed of another epoch and reads the keys again.
    pub(crate) fn add_epoch(&mut self, epoch: u32) {
        let line = format!("blindbook-v1-oprf-seed {:064x}\n", epoch * 17);
        let path = self.keys.path().join(format!("oprf-{epoch}.seed"));
        fs::write(&path, line).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        self.keyring = Arc::new(Keyring::load(self.keys.path()).unwrap());
    }

    pub(crate) fn remove_epoch(&mut self, epoch: u32) {
        fs::remove_file(self.keys.path().join(format!("oprf-{epoch}.seed"))).unwrap();
        self.keyring = Arc::new(Keyring::load(self.keys.path()).unwrap());
    }

    /// Every bucket with its rows; each must be there and signed.
    pub(crate) async fn buckets(&self) -> BTreeMap<BucketNumber, (Bucket, StoredRows)> {
        let store = self.generations.current().await.unwrap().unwrap();
        let identity = self.keyring.identity().verifying_key();
        let mut buckets = BTreeMap::new();
        for number in store.prefix_bits().numbers() {
            let bucket = store.bucket(number).await.unwrap().expect("every bucket is there");
            bucket.verify(self.keyring.directory(), &identity).unwrap();
            assert_eq!(bucket.prefix_bits, store.prefix_bits());
            let rows = store.rows(number).await.unwrap();
            assert_eq!(rows.version, bucket.version);
            buckets.insert(number, (bucket, rows));
        }
        buckets
    }

    /// All metadata.
    pub(crate) async fn meta(&self) -> Vec<(String, Vec<u8>)> {
        self.generations.meta_list("").await.unwrap()
    }

    pub(crate) async fn bits(&self) -> PrefixBits {
        self.generations.current().await.unwrap().unwrap().prefix_bits()
    }

    pub(crate) async fn find(&self, sii: &str) -> Vec<Seen> {
        self.find_all(&[sii]).await.remove(0)
    }

    /// What a client finds under each identifier, everything verified.
    pub(crate) async fn find_all(&self, siis: &[impl AsRef<str>]) -> Vec<Vec<Seen>> {
        let buckets = self.buckets().await;
        let bits = self.bits().await;
        let keys: BTreeMap<_, _> =
            registry::providers(&*self.generations).await.unwrap().into_iter().collect();
        let siis: Vec<_> =
            siis.iter().map(|sii| Sii::from_canonical(sii.as_ref()).unwrap()).collect();
        let mut outputs = BTreeMap::new();
        for (epoch, key) in self.keyring.epochs() {
            let evaluated = key.evaluate_many(&siis).unwrap();
            outputs.insert(epoch, evaluated);
        }
        let mut found = Vec::new();
        for (at, sii) in siis.iter().enumerate() {
            let (bucket, _) = &buckets[&Placement::of(sii).bucket(bits)];
            let y = outputs[&bucket.epoch][at].expose();
            let opened =
                EntryKeys::of(y).open_all(self.keyring.directory(), bucket.epoch, &bucket.iter());
            assert_eq!(opened.damaged, 0);
            let seen = opened.mappings.into_iter().map(|signed| {
                let ssi = &signed.mapping.ssi;
                signed.verify(sii, &keys[ssi.provider()]).unwrap();
                assert_eq!(signed.mapping.verified_until, 0);
                (
                    ssi.provider().as_str().to_owned(),
                    ssi.user().as_str().to_owned(),
                    signed.mapping.audience,
                    signed.mapping.default_since,
                    signed.mapping.ttl_s,
                )
            });
            found.push(seen.collect());
        }
        found
    }
}

pub(crate) fn provider(name: &str) -> Provider {
    Provider::parse(name).unwrap()
}

/// A key that belongs to a name, for second providers.
pub(crate) fn signer(name: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(name.as_bytes()).as_bytes())
}

/// A mapping with nothing said but the user.
pub(crate) fn plain(user: &str) -> Seen {
    ("wa.example".into(), user.into(), Audience::Personal, 0, 86_400)
}

pub(crate) fn sii(n: usize) -> String {
    format!("mailto:person-{n}@mail.example")
}

pub(crate) fn siis(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(sii).collect()
}

/// A CSV file of people, each with a user of the same number.
pub(crate) fn people(numbers: impl IntoIterator<Item = usize>) -> String {
    let lines = numbers.into_iter().map(|n| format!("{},user-{n}\n", sii(n)));
    std::iter::once("sii,user\n".to_owned()).chain(lines).collect()
}

/// What a client must find of [`people`].
pub(crate) fn found(numbers: impl IntoIterator<Item = usize>) -> Vec<Vec<Seen>> {
    numbers.into_iter().map(|n| vec![plain(&format!("user-{n}"))]).collect()
}

/// Numbers of people whose placement begins with these bits.
pub(crate) fn placed(prefix: u32, bits: u32) -> impl Iterator<Item = usize> {
    let bits = PrefixBits::new(bits).unwrap();
    (0..).filter(move |n| {
        let placement = Placement::of(&Sii::from_canonical(&sii(*n)).unwrap());
        placement.bucket(bits).get() == prefix
    })
}

/// Whether a folder is empty or not there.
pub(crate) fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut files| files.next().is_none())
}
