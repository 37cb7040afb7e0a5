//! Directory files, CSV and JSONL, as an operator's export tool writes them.
//!
//! Input: one byte that chooses the file's name and region, then its bytes, which
//! are loaded into a directory in memory. Every line is accounted for, loading
//! twice changes nothing, line ends mean nothing, and what is left when the
//! refused lines are taken out is loaded in strict mode.

#![no_main]

use std::{
    io::Cursor,
    num::NonZeroUsize,
    sync::{Arc, LazyLock},
};

use blindbook::{
    identifier::Provider,
    keyring::{self, Keyring},
    registry::{self, Input, LoadError, LoadOptions, LoadReport, Progress},
    store::{Generations, MemoryGenerations},
};
use libfuzzer_sys::{Corpus, fuzz_target};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const NAMES: [&str; 4] = ["people.csv", "people.jsonl", "-", "people.txt"];

/// Enough for every kind of line; each load seals what it reads.
const MOST_BYTES: usize = 8192;

struct Keys {
    runtime: Runtime,
    keyring: Arc<Keyring>,
    options: LoadOptions,
    _folder: TempDir,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let keys = folder.path().join("keys");
    keyring::generate(&keys, &mut rand::rng()).expect("keys are made");
    let provider_key =
        keyring::provider_key(&keys.join(keyring::files::PROVIDER)).expect("a key of the provider");
    let provider = Provider::parse("wa.example").expect("a provider");
    let spill = folder.path().join("spill");
    let mut options = LoadOptions::new(provider, provider_key, spill, 1_800_000_000);
    options.threads = NonZeroUsize::MIN;
    options.memory_bytes = 1 << 20;
    Keys {
        runtime: Builder::new_current_thread().build().expect("a runtime starts"),
        keyring: Arc::new(Keyring::load(&keys).expect("keys are loaded")),
        options,
        _folder: folder,
    }
});

struct Directory {
    name: &'static str,
    options: LoadOptions,
    generations: Arc<dyn Generations>,
}

impl Directory {
    fn new(choice: u8) -> Self {
        let name = NAMES[usize::from(choice) % NAMES.len()];
        let region = (choice & 0x80 == 0).then(|| "US".parse().expect("a region"));
        let options = LoadOptions { region, ..KEYS.options.clone() };
        Self { name, options, generations: Arc::new(MemoryGenerations::default()) }
    }

    fn load(&self, text: &[u8], strict: bool) -> Result<LoadReport, LoadError> {
        let input = Input::stream(self.name, Cursor::new(text.to_vec()));
        KEYS.runtime.block_on(registry::load(
            Arc::clone(&self.generations),
            Arc::clone(&KEYS.keyring),
            LoadOptions { strict, ..self.options.clone() },
            vec![input],
            Arc::new(Progress::default()),
        ))
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((choice, text)) = data.split_first() else { return Corpus::Reject };
    if text.len() > MOST_BYTES {
        return Corpus::Reject;
    }
    let directory = Directory::new(*choice);
    let report = match directory.load(text, false) {
        Ok(report) => report,
        Err(LoadError::Header { .. }) => {
            assert!(matches!(directory.load(text, true), Err(LoadError::Header { .. })));
            return Corpus::Keep;
        }
        Err(error) => panic!("{error}"),
    };
    accounts_for_every_line(&report, text);

    let again = directory.load(text, false).expect("was loaded before");
    assert_eq!((again.added, again.changed), (0, 0), "loading twice changed something");
    assert_eq!(again.unchanged, report.added);
    assert_eq!(again.bad, report.bad);

    if !text.contains(&b'\r') {
        let returns = text.iter().flat_map(|byte| match byte {
            b'\n' => b"\r\n".to_vec(),
            byte => vec![*byte],
        });
        let returns = Directory::new(*choice).load(&returns.collect::<Vec<u8>>(), false);
        assert_eq!(returns.expect("CRLF is a line end"), report);
    }

    let strict = Directory::new(*choice).load(text, true);
    assert_eq!(strict.is_ok(), report.bad.total == 0, "strict mode judges otherwise");
    let good = Directory::new(*choice).load(&without_bad_lines(&report, text), true);
    assert_eq!(good.expect("no bad line is left").added, report.added);
    Corpus::Keep
});

fn accounts_for_every_line(report: &LoadReport, text: &[u8]) {
    let most = text.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    assert!(report.lines <= most);
    let accounted = report.added + report.superseded + report.bad.total;
    assert_eq!(report.lines, accounted, "a line is unaccounted for");
    assert_eq!((report.changed, report.unchanged), (0, 0), "the directory was empty");
    assert_eq!(report.bad.listed.len() as u64, report.bad.total);
    assert!(report.bad.listed.is_sorted_by(|one, next| one.line < next.line));
    for bad in &report.bad.listed {
        assert!((1..=most).contains(&bad.line));
        assert!(!bad.reason.to_string().is_empty());
    }
}

/// The file with each refused line made blank, so that the others keep their
/// numbers.
fn without_bad_lines(report: &LoadReport, text: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for bad in &report.bad.listed {
        lines[usize::try_from(bad.line).expect("a small number") - 1] = b"";
    }
    lines.join(&b'\n')
}
