//! Records between the passes of a load, in temporary files by placement:
//! sealed under a key that only this process ever holds, bounded in memory,
//! removed at the end, and at the next start if the end never came. What fits
//! the write buffers stays there, so that a small load needs no file.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use rand::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    error::LoadError,
    records::Record,
    report::At,
    spilled::{Fields, RECORD_BYTES, Reader, Spilled},
};
use crate::secret::Secret;

/// Every file fans out into so many.
const FAN: u32 = 256;

/// Bits that one fan tells apart.
const FAN_BITS: u32 = 8;

/// A file that covers so many bits is not split further: it holds one bucket
/// of the largest directory there can be.
const MOST_BITS: u32 = 32;

const GCM_TAG_BYTES: usize = 16;

/// What the run folders of this module are called; nothing else is removed.
const RUN: &str = "run-";

/// One file and what was not yet written to it: all records whose placements
/// share a prefix.
pub(super) struct Leaf {
    /// The prefix, in its lowest bits.
    pub(super) prefix: u32,
    /// Bits of the prefix.
    pub(super) bits: u32,
    /// How many records it holds.
    pub(super) records: u64,
    bytes: u64,
    frames: u64,
    file: u32,
    kept: Vec<Zeroizing<Vec<u8>>>,
}

/// The temporary files of one load.
pub(super) struct Spill {
    folder: PathBuf,
    cipher: Aes256Gcm,
    buffer_bytes: usize,
    files: AtomicU32,
}

impl Drop for Spill {
    fn drop(&mut self) {
        // The next load removes what stays: it is sealed, and its key is gone.
        let _ = fs::remove_dir_all(&self.folder);
        if let Some(folder) = self.folder.parent() {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Spill {
    /// Makes a folder for this load and removes what earlier ones left.
    pub(super) fn create(
        folder: &Path,
        buffer_bytes: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, LoadError> {
        let fail = |error| LoadError::Spill { path: folder.into(), error };
        private_folder(folder).map_err(fail)?;
        for left in fs::read_dir(folder).map_err(fail)? {
            let left = left.map_err(fail)?;
            if left.file_name().to_str().is_some_and(|name| name.starts_with(RUN)) {
                fs::remove_dir_all(left.path()).map_err(fail)?;
            }
        }
        let run = folder.join(format!("{RUN}{:016x}", rng.next_u64()));
        private_folder(&run).map_err(fail)?;
        Ok(Self {
            folder: run,
            cipher: Aes256Gcm::new(Secret::<32>::random(rng).expose().into()),
            buffer_bytes,
            files: AtomicU32::new(0),
        })
    }

    /// Files for all records whose placements begin with this prefix.
    pub(super) fn fan(&self, prefix: u32, bits: u32) -> Fan<'_> {
        let leaves = (0..FAN).map(|child| {
            Mutex::new(Leaf {
                prefix: prefix.checked_shl(FAN_BITS).unwrap_or(0) | child,
                bits: bits + FAN_BITS,
                records: 0,
                bytes: 0,
                frames: 0,
                file: self.files.fetch_add(1, Ordering::Relaxed),
                kept: Vec::new(),
            })
        });
        Fan { spill: self, bits: bits + FAN_BITS, leaves: leaves.collect() }
    }

    /// Splits files that are longer than `most_bytes` until none is.
    pub(super) fn split(&self, leaves: Vec<Leaf>, most_bytes: u64) -> Result<Vec<Leaf>, LoadError> {
        let mut split = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            if leaf.bytes <= most_bytes || leaf.bits >= MOST_BITS {
                split.push(leaf);
                continue;
            }
            let fan = self.fan(leaf.prefix, leaf.bits);
            let mut writer = fan.writer();
            self.read(&leaf, |record| writer.push(&record))?;
            writer.finish()?;
            if leaf.frames > 0 {
                fs::remove_file(self.path(leaf.file)).map_err(|error| self.fail(error))?;
            }
            split.extend(self.split(fan.into_leaves(), most_bytes)?);
        }
        Ok(split)
    }

    /// Reads a file's records, in any order.
    pub(super) fn read(
        &self,
        leaf: &Leaf,
        mut each: impl FnMut(Spilled) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let altered = || LoadError::SpillAltered(self.folder.clone());
        let mut records = 0;
        let mut read = |text: &[u8]| {
            let mut reader = Reader(text);
            while !reader.0.is_empty() {
                each(reader.record().ok_or_else(altered)?)?;
                records += 1;
            }
            Ok(())
        };
        leaf.kept.iter().try_for_each(|text| read(text))?;
        if leaf.frames > 0 {
            self.read_frames(leaf, read)?;
        }
        if records == leaf.records { Ok(()) } else { Err(altered()) }
    }

    fn read_frames(
        &self,
        leaf: &Leaf,
        mut read: impl FnMut(&[u8]) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        let altered = || LoadError::SpillAltered(self.folder.clone());
        let file = File::open(self.path(leaf.file)).map_err(|error| self.fail(error))?;
        let mut file = BufReader::with_capacity(self.buffer_bytes, file);
        let mut frame = Zeroizing::new(Vec::new());
        for index in 0..leaf.frames {
            let mut length = [0; 4];
            file.read_exact(&mut length).map_err(|error| self.fail(error))?;
            let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| altered())?;
            if !(GCM_TAG_BYTES..=self.buffer_bytes + RECORD_BYTES + GCM_TAG_BYTES).contains(&length)
            {
                return Err(altered());
            }
            frame.zeroize();
            frame.resize(length, 0);
            file.read_exact(&mut frame).map_err(|error| self.fail(error))?;
            let (text, tag) = frame.split_last_chunk_mut::<GCM_TAG_BYTES>().ok_or_else(altered)?;
            self.cipher
                .decrypt_inout_detached(
                    &nonce(leaf.file, index).into(),
                    &aad(leaf),
                    InOutBuf::from(&mut *text),
                    (&*tag).into(),
                )
                .map_err(|_| altered())?;
            read(text)?;
        }
        Ok(())
    }

    fn path(&self, file: u32) -> PathBuf {
        self.folder.join(file.to_string())
    }

    fn fail(&self, error: io::Error) -> LoadError {
        LoadError::Spill { path: self.folder.clone(), error }
    }

    /// Seals a buffer and appends it to a file. The file is opened each time:
    /// open files are few on some systems, and buffers are large.
    fn append(&self, leaf: &mut Leaf, buffer: &mut Vec<u8>, records: u64) -> Result<(), LoadError> {
        let tag = self
            .cipher
            .encrypt_inout_detached(
                &nonce(leaf.file, leaf.frames).into(),
                &aad(leaf),
                InOutBuf::from(buffer.as_mut_slice()),
            )
            .map_err(|_| LoadError::SpillAltered(self.folder.clone()))?;
        buffer.extend_from_slice(&tag);
        let length = u32::try_from(buffer.len())
            .map_err(|_| LoadError::SpillAltered(self.folder.clone()))?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options
            .open(self.path(leaf.file))
            .and_then(|mut file| {
                file.write_all(&length.to_be_bytes())?;
                file.write_all(buffer)
            })
            .map_err(|error| self.fail(error))?;
        leaf.frames += 1;
        leaf.records += records;
        leaf.bytes += u64::from(length);
        buffer.clear();
        Ok(())
    }
}

/// The 256 files beneath one prefix, to be filled by any number of writers.
pub(super) struct Fan<'a> {
    spill: &'a Spill,
    bits: u32,
    leaves: Vec<Mutex<Leaf>>,
}

impl Fan<'_> {
    pub(super) fn writer(&self) -> FanWriter<'_> {
        FanWriter {
            fan: self,
            buffers: (0..FAN).map(|_| (Zeroizing::new(Vec::new()), 0)).collect(),
        }
    }

    /// The files, ascending by prefix. Every writer must have finished.
    pub(super) fn into_leaves(self) -> Vec<Leaf> {
        let leaves = self.leaves.into_iter();
        leaves.map(|leaf| leaf.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }
}

/// One thread's buffers for the files of a fan.
pub(super) struct FanWriter<'a> {
    fan: &'a Fan<'a>,
    buffers: Vec<(Zeroizing<Vec<u8>>, u64)>,
}

impl FanWriter<'_> {
    /// Adds what a line says.
    pub(super) fn push_line(&mut self, record: &Record, at: At) -> Result<(), LoadError> {
        self.put(&Fields::of_line(record, at))
    }

    /// Adds a record that was spilled before.
    fn push(&mut self, record: &Spilled) -> Result<(), LoadError> {
        self.put(&Fields::of_spilled(record))
    }

    fn put(&mut self, fields: &Fields<'_>) -> Result<(), LoadError> {
        let spill = self.fan.spill;
        let child = (fields.leading.get() >> (MOST_BITS - self.fan.bits)) % FAN;
        let lost = || LoadError::SpillAltered(spill.folder.clone());
        let child = usize::try_from(child).map_err(|_| lost())?;
        let (buffer, records) = self.buffers.get_mut(child).ok_or_else(lost)?;
        if buffer.capacity() == 0 {
            // For good, so that no copy is left behind by growing.
            buffer.reserve_exact(spill.buffer_bytes + RECORD_BYTES + GCM_TAG_BYTES);
        }
        fields.write(buffer).ok_or_else(lost)?;
        *records += 1;
        if buffer.len() >= spill.buffer_bytes {
            self.fan.flush(child, buffer, records)?;
        }
        Ok(())
    }

    /// Leaves what the buffers still hold with their files, in memory: less
    /// than a buffer each.
    pub(super) fn keep(self) {
        for ((buffer, records), leaf) in self.buffers.into_iter().zip(&self.fan.leaves) {
            if records > 0 {
                let mut leaf = leaf.lock().unwrap_or_else(PoisonError::into_inner);
                leaf.records += records;
                leaf.bytes += u64::try_from(buffer.len()).unwrap_or(0);
                leaf.kept.push(buffer);
            }
        }
    }

    /// Writes what the buffers still hold.
    fn finish(mut self) -> Result<(), LoadError> {
        for (child, (buffer, records)) in self.buffers.iter_mut().enumerate() {
            if *records > 0 {
                self.fan.flush(child, buffer, records)?;
            }
        }
        Ok(())
    }
}

impl Fan<'_> {
    fn flush(
        &self,
        child: usize,
        buffer: &mut Vec<u8>,
        records: &mut u64,
    ) -> Result<(), LoadError> {
        let leaf = self
            .leaves
            .get(child)
            .ok_or_else(|| LoadError::SpillAltered(self.spill.folder.clone()))?;
        let mut leaf = leaf.lock().unwrap_or_else(PoisonError::into_inner);
        self.spill.append(&mut leaf, buffer, std::mem::take(records))
    }
}

/// No two frames of a load share a nonce: files and frames are counted.
fn nonce(file: u32, frame: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let parts = file.to_be_bytes().into_iter().chain(frame.to_be_bytes());
    for (to, from) in nonce.iter_mut().zip(parts) {
        *to = from;
    }
    nonce
}

fn aad(leaf: &Leaf) -> Vec<u8> {
    [b"blindbook v1 spill".as_slice(), &leaf.prefix.to_be_bytes(), &leaf.bits.to_be_bytes()]
        .concat()
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::Audience,
        identifier::{Sii, User},
    };

    fn record(n: u64) -> Record {
        Record {
            sii: Sii::from_canonical(&format!("mailto:canary-{n}@mail.example")).unwrap(),
            user: User::parse(&format!("canary-user-{n}")).unwrap(),
            audience: if n.is_multiple_of(2) { Audience::Business } else { Audience::Personal },
            default: n.is_multiple_of(3),
            ttl_s: u32::try_from(n).unwrap(),
        }
    }

    fn filled(folder: &Path, records: u64) -> (Spill, Vec<Leaf>) {
        let spill = Spill::create(folder, 512, &mut rand::rng()).unwrap();
        let fan = spill.fan(0, 0);
        std::thread::scope(|scope| {
            for half in 0..2 {
                let mut writer = fan.writer();
                scope.spawn(move || {
                    for n in (0..records).filter(|n| n % 2 == half) {
                        writer.push_line(&record(n), At { file: 7, line: n }).unwrap();
                    }
                    writer.keep();
                });
            }
        });
        let leaves = fan.into_leaves();
        (spill, leaves)
    }

    fn all(spill: &Spill, leaves: &[Leaf]) -> Vec<Spilled> {
        let mut all = Vec::new();
        for leaf in leaves {
            spill
                .read(leaf, |spilled| {
                    let prefix = spilled.leading.get() >> (32 - leaf.bits);
                    assert!(prefix == leaf.prefix, "a record lies in another's file");
                    all.push(spilled);
                    Ok(())
                })
                .unwrap();
        }
        all.sort_unstable_by_key(|spilled| spilled.at);
        all
    }

    #[test]
    fn records_come_back_from_the_file_of_their_placement() {
        let folder = tempfile::tempdir().unwrap();
        let (spill, leaves) = filled(folder.path(), 5000);
        let all = all(&spill, &leaves);
        assert_eq!(all.len(), 5000);
        for (spilled, n) in all.into_iter().zip(0..) {
            let record = record(n);
            assert_eq!(spilled.at, At { file: 7, line: n });
            assert_eq!(spilled.sii, record.sii);
            assert_eq!(&**spilled.user, record.user.as_str());
            assert_eq!(
                (spilled.audience, spilled.default, spilled.ttl_s),
                (record.audience, record.default, record.ttl_s)
            );
        }
    }

    #[test]
    fn splitting_keeps_every_record_and_covers_every_placement_once() {
        let folder = tempfile::tempdir().unwrap();
        let (spill, leaves) = filled(folder.path(), 3000);
        let before = all(&spill, &leaves);
        let most = leaves.iter().map(|leaf| leaf.bytes).max().unwrap() - 1;
        let split = spill.split(leaves, most).unwrap();
        assert!(split.len() > 256 && split.iter().all(|leaf| leaf.bytes <= most));
        assert!(all(&spill, &split) == before);
        let mut next = 0_u64;
        for leaf in &split {
            assert_eq!(u64::from(leaf.prefix) << (32 - leaf.bits), next);
            next += 1 << (32 - leaf.bits);
        }
        assert_eq!(next, 1 << 32);
    }

    #[test]
    fn a_file_of_one_placement_is_split_no_further_than_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::create(folder.path(), 512, &mut rand::rng()).unwrap();
        let fan = spill.fan(0, 0);
        let mut writer = fan.writer();
        for line in 0..100 {
            writer.push_line(&record(1), At { file: 0, line }).unwrap();
        }
        writer.finish().unwrap();
        let split = spill.split(fan.into_leaves(), 1).unwrap();
        assert_eq!(split.iter().map(|leaf| leaf.bits).max(), Some(32));
        assert_eq!(all(&spill, &split).len(), 100);
    }

    #[test]
    fn nothing_readable_lies_on_disk_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let spill_folder = folder.path().join("spill");
        let left = spill_folder.join("run-0123");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("1"), "left").unwrap();
        fs::write(spill_folder.join("other"), "not ours").unwrap();
        let (spill, leaves) = filled(&spill_folder, 10_000);
        assert!(!left.exists());
        let mut files = 0;
        for file in fs::read_dir(&spill.folder).unwrap() {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"canary"));
            files += 1;
        }
        assert_eq!(files, leaves.iter().filter(|leaf| leaf.frames > 0).count());
        drop(spill);
        let names: Vec<_> =
            fs::read_dir(&spill_folder).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, ["other"]);
    }

    #[test]
    fn an_altered_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (spill, leaves) = filled(folder.path(), 10_000);
        let leaf = leaves.iter().find(|leaf| leaf.frames > 0).unwrap();
        let path = spill.path(leaf.file);
        let good = fs::read(&path).unwrap();
        for offset in [0, 3, 4, good.len() - 1] {
            let mut bad = good.clone();
            bad[offset] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(spill.read(leaf, |_| Ok(())).is_err(), "{offset}");
        }
        fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(spill.read(leaf, |_| Ok(())).is_err());
    }
}
