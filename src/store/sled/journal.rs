//! A file in front of a day's database: what was just spent. One write and one
//! sync for a group, where the database's own log would cost many times the
//! processor; what fills the file goes into the database at once.
//!
//! ```text
//! frame = u32 count | count * (name 16 | request 32) | BLAKE3 of these [..16]
//! ```
//!
//! A frame is there whole or not at all. Once all frames are in the database
//! writing begins again at the front, over them; whatever is still read of old
//! ones says what the database says, too.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use super::durable::{disk, sync_dir};
use crate::store::StoreError;

/// The name of a token, and the request that it paid.
pub(super) type Entry = ([u8; 16], [u8; 32]);

/// Made at once, so that a sync has no new length to write: room for 2,700
/// tokens in frames of 60.
const BYTES: usize = 128 << 10;

const COUNT_BYTES: usize = 4;
const ENTRY_BYTES: usize = 48;
const CHECK_BYTES: usize = 16;

fn check(frame: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    let hash = blake3::derive_key("blindbook v1 spent tokens journal", frame);
    check.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    check
}

pub(super) struct Journal {
    file: File,
    /// Where the next frame begins.
    end: usize,
}

impl Journal {
    /// Opens the journal, or makes one, durably; gives what its frames hold.
    pub(super) fn open(path: &Path, folder: &Path) -> Result<(Self, Vec<Entry>), StoreError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(disk)?;
        let mut bytes = vec![0; BYTES];
        let length = usize::try_from(file.metadata().map_err(disk)?.len()).unwrap_or(BYTES);
        if length < BYTES {
            // Its making did not end, and nothing was acknowledged.
            file.write_all_at(&bytes, 0).map_err(disk)?;
            file.sync_all().map_err(disk)?;
            sync_dir(folder)?;
        } else {
            file.read_exact_at(&mut bytes, 0).map_err(disk)?;
        }
        Ok((Self { file, end: 0 }, frames(&bytes)))
    }

    /// Whether it ever has room for a frame of so many.
    pub(super) const fn holds(count: usize) -> bool {
        count <= (BYTES - COUNT_BYTES - CHECK_BYTES) / ENTRY_BYTES
    }

    /// Writes a frame. `false` if there is no room for it: [`Self::rewind`].
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<bool, StoreError> {
        let Ok(count) = u32::try_from(entries.len()) else { return Ok(false) };
        if !Self::holds(entries.len()) {
            return Ok(false);
        }
        let mut frame = Vec::with_capacity(COUNT_BYTES + entries.len() * ENTRY_BYTES + CHECK_BYTES);
        frame.extend(count.to_be_bytes());
        for (name, request) in entries {
            frame.extend(name);
            frame.extend(request);
        }
        frame.extend(check(&frame));
        if BYTES - self.end < frame.len() {
            return Ok(false);
        }
        self.file.write_all_at(&frame, self.end as u64).map_err(disk)?;
        self.file.sync_data().map_err(disk)?;
        self.end += frame.len();
        Ok(true)
    }

    /// Begins again at the front: all frames are in the database, durably.
    pub(super) const fn rewind(&mut self) {
        self.end = 0;
    }
}

/// What whole frames hold, from the front to the first that is none.
fn frames(bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((held, after)) = frame(rest) {
        for entry in held.as_chunks::<ENTRY_BYTES>().0 {
            if let Some((name, request)) = entry.split_first_chunk()
                && let Ok(request) = request.try_into()
            {
                entries.push((*name, request));
            }
        }
        rest = after;
    }
    entries
}

/// The entries of the frame in front, and what comes after it.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let count = usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()?;
    let length = COUNT_BYTES.checked_add(count.checked_mul(ENTRY_BYTES)?)?;
    let (checked, rest) = bytes.split_at_checked(length)?;
    let (told, rest) = rest.split_first_chunk()?;
    // Zeros are no frame.
    if count == 0 || *told != check(checked) {
        return None;
    }
    Some((checked.get(COUNT_BYTES..)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(from: u8, to: u8) -> Vec<Entry> {
        (from..to).map(|n| ([n; 16], [n; 32])).collect()
    }

    fn open(folder: &Path) -> (Journal, Vec<Entry>) {
        Journal::open(&folder.join("7.journal"), folder).unwrap()
    }

    #[test]
    fn whole_frames_are_read_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, found) = open(folder.path());
        assert_eq!(found, []);
        assert!(journal.append(&entries(1, 4)).unwrap());
        assert!(journal.append(&entries(4, 9)).unwrap());
        assert_eq!(open(folder.path()).1, entries(1, 9));

        // A bit of the second frame: the first alone is left, as after a crash
        // that kept half a write.
        let second = COUNT_BYTES + 3 * ENTRY_BYTES + CHECK_BYTES;
        for at in [second, second + COUNT_BYTES, journal.end - 1] {
            let mut byte = [0];
            journal.file.read_exact_at(&mut byte, at as u64).unwrap();
            journal.file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
            assert_eq!(open(folder.path()).1, entries(1, 4), "{at}");
            journal.file.write_all_at(&byte, at as u64).unwrap();
        }
        assert_eq!(open(folder.path()).1, entries(1, 9));

        // Over old frames: the new one, and old ones if they happen to fit.
        journal.rewind();
        assert!(journal.append(&entries(20, 23)).unwrap());
        assert_eq!(open(folder.path()).1, [entries(20, 23), entries(4, 9)].concat());
        journal.rewind();
        assert!(journal.append(&entries(30, 32)).unwrap());
        assert_eq!(open(folder.path()).1, entries(30, 32));
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path());
        let frame = entries(0, 200);
        let mut written = 0;
        while journal.append(&frame).unwrap() {
            written += frame.len();
        }
        assert!(written > 2_000, "{written}");
        assert_eq!(open(folder.path()).1.len(), written);
        assert_eq!(journal.file.metadata().unwrap().len(), BYTES as u64);
        assert!(!journal.append(&entries(0, 200).repeat(14)).unwrap());
        assert_eq!(open(folder.path()).1.len(), written);
        journal.rewind();
        let most = (1..BYTES).rfind(|count| Journal::holds(*count)).unwrap();
        assert!(journal.append(&vec![([1; 16], [1; 32]); most]).unwrap());
        // One whose making did not end is made anew.
        journal.file.set_len(100).unwrap();
        assert_eq!(open(folder.path()).1, []);
    }
}
