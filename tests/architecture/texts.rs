//! What no committed text may hold, and how long a source file may grow.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Longer files need a line in [`LONG_FILES`].
pub(crate) const MOST_LINES: usize = 600;

/// Source files above [`MOST_LINES`], each with the reason why it is not two.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];

/// Folders that builds and tools write.
const UNCOMMITTED: &[&str] = &[
    ".git",
    "target",
    ".ci/tools",
    "fuzz/target",
    "fuzz/corpus",
    "fuzz/artifacts",
    "fuzz/coverage",
    "tests/node/node_modules",
];

/// Folders of a machine, and hosts of package registries and their mirrors: a
/// text that holds one works in one place only. Written in parts, so that this
/// file does not hold them.
const FORBIDDEN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("arti", "factory"),
    concat!("registry.", "npmjs.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("files.", "pythonhosted.org"),
    concat!("py", "pi.org"),
    concat!("deb.", "debian.org"),
];

/// The package's folder: where Cargo runs the test, not where it was built, which
/// differs when checkouts share a target directory.
pub(crate) fn root() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), Into::into)
}

/// All committed files, relative to the package; without git, all files that no
/// build or tool wrote.
pub(crate) fn committed() -> io::Result<Vec<PathBuf>> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output();
    let mut files: Vec<PathBuf> = match listed {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => {
            String::from_utf8_lossy(&output.stdout)
                .split('\0')
                .filter(|name| !name.is_empty())
                .map(PathBuf::from)
                .collect()
        }
        _ => walk(Path::new(""))?,
    };
    files.retain(|file| root().join(file).is_file());
    files.sort();
    Ok(files)
}

/// All files beneath a folder of the package, but for those of builds and tools.
pub(crate) fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join(folder))? {
        let entry = entry?;
        let name = folder.join(entry.file_name());
        if UNCOMMITTED.iter().any(|folder| name == Path::new(folder)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            files.extend(walk(&name)?);
        } else {
            files.push(name);
        }
    }
    Ok(files)
}

/// The lines of a text that hold what none may hold.
pub(crate) fn machine_lines(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for forbidden in FORBIDDEN {
            if line.match_indices(forbidden).any(|(at, _)| stands_alone(line, at, forbidden)) {
                found.push((number + 1, *forbidden));
            }
        }
    }
    found
}

/// A folder is absolute only where no name stands before it: `a/b/` is not `/b/`.
fn stands_alone(line: &str, at: usize, forbidden: &str) -> bool {
    let before = line[..at].chars().next_back();
    !forbidden.starts_with('/')
        || !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '~'))
}
