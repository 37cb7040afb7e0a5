//! What a process and a folder take: resident memory as the system counts it,
//! where it tells, and allocated bytes on disk.

use std::{fs, io, path::Path};

use serde::Serialize;

/// Resident memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// Now.
    pub(super) resident_bytes: u64,
    /// The most since the process began, or since [`reset_peak`].
    pub(super) peak_bytes: u64,
}

/// What this process takes now; `None` where the system does not tell.
pub(super) fn now() -> Option<Memory> {
    of(std::process::id())
}

/// What a process of this user takes now; `None` where the system does not
/// tell.
pub(super) fn of(process: u32) -> Option<Memory> {
    parse(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
}

/// Lets this process's peak be counted from now. Where the system does not allow it, the
/// peak stays the process's.
pub(super) fn reset_peak() {
    // proc(5), clear_refs: 5 resets the peak resident set size.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn parse(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory { resident_bytes: field("VmRSS:")?, peak_bytes: field("VmHWM:")? })
}

/// Bytes that a folder's files take on disk.
pub(super) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += allocated(&metadata);
            }
        }
    }
    Ok(bytes)
}

/// An engine may reserve more than it fills, and a sparse file takes less than
/// its length.
#[cfg(unix)]
fn allocated(metadata: &fs::Metadata) -> u64 {
    // stat(2) counts in units of 512 bytes, whatever the file system's blocks.
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_and_its_peak_are_read_from_the_status_text() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t   300 kB\nVmRSS:\t   200 kB\n";
        let memory = Memory { resident_bytes: 200 * 1024, peak_bytes: 300 * 1024 };
        assert_eq!(parse(status), Some(memory));
        assert_eq!(parse("VmHWM:\t 300 kB\n"), None);
        assert_eq!(parse("VmHWM:\t 300 kB\nVmRSS:\t many kB\n"), None);
    }

    #[test]
    fn the_files_of_all_folders_below_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("one"), vec![1; 10_000]).unwrap();
        let one = disk_bytes(folder.path()).unwrap();
        fs::write(folder.path().join("a/b/two"), vec![2; 10_000]).unwrap();
        assert_eq!(disk_bytes(folder.path()).unwrap(), 2 * one);
        assert!(one >= 10_000);
        assert!(disk_bytes(&folder.path().join("none")).is_err());
    }
}
