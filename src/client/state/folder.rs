//! A state in a folder: one file per part, for its owner only, replaced whole,
//! held by one client at a time.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Part, State, StateError};
use crate::bucket::DirectoryId;

const LOCK: &str = "lock";

/// A state folder. Files are 0600; a second client is refused while one holds
/// it.
pub struct FolderState {
    path: PathBuf,
    /// Held, and let go by the system when the process ends in any way.
    _lock: File,
    /// One writer at a time: parts of one name share a temporary file.
    writing: Mutex<()>,
}

impl FolderState {
    /// Opens a state folder, and makes it if there is none.
    ///
    /// # Errors
    /// Another client holds it, or the file system refuses.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        create_folder(path).map_err(|error| at(path, error))?;
        let lock_path = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        for_owner(&mut options);
        let lock = options.open(&lock_path).map_err(|error| at(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock, writing: Mutex::new(()) }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.into())),
            Err(TryLockError::Error(error)) => Err(at(&lock_path, error)),
        }
    }

    fn folder(&self, directory: &DirectoryId) -> PathBuf {
        self.path.join(directory.to_string())
    }
}

impl fmt::Debug for FolderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderState").field("path", &self.path).finish_non_exhaustive()
    }
}

impl State for FolderState {
    fn load(&self, directory: &DirectoryId, part: Part) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.folder(directory).join(part.name());
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path, error)),
        }
    }

    fn store(&self, directory: &DirectoryId, part: Part, bytes: &[u8]) -> Result<(), StateError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder(directory);
        if !folder.is_dir() {
            create_folder(&folder)
                .and_then(|()| sync_folder(&self.path))
                .map_err(|error| at(&folder, error))?;
        }
        let path = folder.join(part.name());
        let new = folder.join(format!("{}.new", part.name()));
        replace(&folder, &path, &new, bytes).map_err(|error| {
            // The first error is the one to tell.
            let _ = fs::remove_file(&new);
            at(&path, error)
        })
    }
}

/// Writes beside, syncs, renames, syncs the folder: after any crash the file
/// is the old one or the new one, and after this returns it is the new one.
fn replace(folder: &Path, path: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    // What a crash left is not written into: it may be open to others.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    for_owner(&mut options);
    let mut file = options.open(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(new, path)?;
    sync_folder(folder)
}

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "other systems have no mode"))]
fn for_owner(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Other systems order a rename themselves and open no folders.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn at(path: &Path, error: io::Error) -> StateError {
    StateError::Io { path: path.into(), error: Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: DirectoryId = DirectoryId::from_bytes([1; 16]);

    #[test]
    fn a_folder_in_use_is_refused_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderState::open(folder.path()).unwrap();
        assert!(matches!(FolderState::open(folder.path()), Err(StateError::InUse(_))));
        drop(first);
        assert!(FolderState::open(folder.path()).is_ok());
    }

    #[test]
    fn what_was_stored_is_there_for_the_next_process_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        FolderState::open(&path).unwrap().store(&DIRECTORY, Part::Decoys, b"kept").unwrap();
        let loaded = FolderState::open(&path).unwrap().load(&DIRECTORY, Part::Decoys).unwrap();
        assert_eq!(loaded.as_deref(), Some(b"kept".as_slice()));
        let files = fs::read_dir(path.join(DIRECTORY.to_string())).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, ["decoys"]);
    }

    #[cfg(unix)]
    #[test]
    fn files_and_folders_are_for_their_owner_only_even_over_a_leftover() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("state");
        let state = FolderState::open(&path).unwrap();
        let inner = path.join(DIRECTORY.to_string());
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("decoys.new"), "torn").unwrap();
        fs::set_permissions(inner.join("decoys.new"), fs::Permissions::from_mode(0o666)).unwrap();
        state.store(&DIRECTORY, Part::Decoys, b"secret").unwrap();
        for (path, expected) in
            [(path.clone(), 0o700), (path.join(LOCK), 0o600), (inner.join("decoys"), 0o600)]
        {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, expected);
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = FolderState::open(&file);
        assert!(matches!(refused, Err(StateError::Io { path, .. }) if path == file));
    }
}
