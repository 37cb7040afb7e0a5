//! A made-up directory in a folder of its own, which is removed with it: keys,
//! certificates, and a file of people.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use blindbook::{
    identifier::Provider,
    keyring::{self, Keyring},
};
use ed25519_dalek::SigningKey;
use tempfile::TempDir;

use super::{
    super::{dev_tls::DevTls, progress, sample},
    step,
};

/// Whose users the people are.
const PROVIDER: &str = "chat.example";

/// Everything that a load and a server need.
pub(super) struct Directory {
    folder: TempDir,
    pub(super) keyring: Arc<Keyring>,
    pub(super) provider: Provider,
    pub(super) tls: DevTls,
    /// The CSV.
    pub(super) people: PathBuf,
    pub(super) records: usize,
}

/// One line of the CSV.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) sii: String,
    pub(super) user: String,
}

impl Directory {
    /// Makes keys and people, beneath `parent` or the system's temporary
    /// folder.
    pub(super) fn make(parent: Option<&Path>, records: usize) -> anyhow::Result<Self> {
        step("making up people")?;
        let builder = {
            let mut builder = tempfile::Builder::new();
            builder.prefix("blindbook-bench-");
            builder
        };
        let folder = match parent {
            Some(parent) => builder
                .tempdir_in(parent)
                .with_context(|| format!("cannot make a folder in {}", parent.display()))?,
            None => builder.tempdir().context("cannot make a temporary folder")?,
        };
        let keys = folder.path().join("keys");
        keyring::generate(&keys, &mut rand::rng())?;
        let people = folder.path().join("people.csv");
        let bar = progress::bar("making up people", records as u64);
        sample::write_csv(&people, records, |done| bar.set_position(done))?;
        bar.finish_and_clear();
        Ok(Self {
            keyring: Arc::new(Keyring::load(&keys)?),
            provider: Provider::parse(PROVIDER)?,
            tls: DevTls::generate().context("cannot make certificates")?,
            folder,
            people,
            records,
        })
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The provider's key, which signs the mappings.
    pub(super) fn provider_key(&self) -> anyhow::Result<SigningKey> {
        Ok(keyring::provider_key(&self.path("keys").join(keyring::files::PROVIDER))?)
    }

    /// Up to `count` of the people, evenly spread over the file.
    pub(super) fn sample(&self, count: usize) -> io::Result<Vec<Person>> {
        let stride = self.records.div_ceil(count.max(1));
        let mut people = Vec::with_capacity(count.min(self.records));
        for (n, line) in BufReader::new(File::open(&self.people)?).lines().skip(1).enumerate() {
            let line = line?;
            if n % stride == 0
                && let Some((sii, user)) = line.split_once(',')
            {
                people.push(Person { sii: sii.to_owned(), user: user.to_owned() });
            }
        }
        Ok(people)
    }
}
