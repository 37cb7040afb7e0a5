//! Power loss, simulated: a library preloaded into the process under test
//! remembers what each sync made durable, and [`after_power_loss`] lays out a
//! folder that holds that alone, or that and some of what was written since.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

/// What the kernel writes back as a whole.
const PAGE: usize = 4096;

/// Builds the library. A machine without a C compiler fails the test.
pub(crate) fn build_shim(into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/power_loss.c");
    let library = into.join("libpower_loss.so");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .status()
        .unwrap_or_else(|error| panic!("the C compiler {compiler} does not start: {error}"));
    assert!(built.success(), "the power-loss library does not build");
    library
}

/// The name under which the library remembers a file or folder.
fn id(path: &Path) -> String {
    let about = path.symlink_metadata().unwrap();
    let born = about.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
    format!("{}-{}-{}", about.ino(), born.as_secs(), born.subsec_nanos())
}

/// What of the writes since the last sync is on the disk all the same.
pub(crate) enum Later {
    Nothing,
    /// Each page with even chance, by this seed.
    Some(u64),
}

/// Lays out in `to` what a power loss leaves of `data`.
pub(crate) fn after_power_loss(data: &Path, shadow: &Path, later: &Later, to: &Path) {
    let mut live = HashMap::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                live.insert(id(&path), path);
            }
        }
    }
    let mut rng = match later {
        Later::Nothing => None,
        Later::Some(seed) => Some(SmallRng::seed_from_u64(*seed)),
    };
    folder(&id(data), shadow, &live, &mut rng, to);
}

fn folder(
    id: &str,
    shadow: &Path,
    live: &HashMap<String, PathBuf>,
    rng: &mut Option<SmallRng>,
    to: &Path,
) {
    fs::create_dir(to).unwrap();
    // A folder that was never synced is empty.
    let names = fs::read_to_string(shadow.join(id)).unwrap_or_default();
    for line in names.lines() {
        let [id, kind, name] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
            panic!("the library wrote {line:?}");
        };
        let path = to.join(name);
        if kind == "d" {
            folder(id, shadow, live, rng, &path);
            continue;
        }
        // A file that was never synced has a name and no content.
        let mut content = fs::read(shadow.join(id)).unwrap_or_default();
        if let (Some(rng), Some(live)) = (rng.as_mut(), live.get(id)) {
            mix(&mut content, &fs::read(live).unwrap(), rng);
        }
        fs::write(path, content).unwrap();
    }
}

fn mix(synced: &mut Vec<u8>, live: &[u8], rng: &mut SmallRng) {
    if rng.random() {
        synced.resize(live.len(), 0);
    }
    let pages = synced.chunks_mut(PAGE).zip(live.chunks(PAGE));
    for (page, live) in pages {
        let common = page.len().min(live.len());
        if rng.random() {
            page[..common].copy_from_slice(&live[..common]);
        }
    }
}
