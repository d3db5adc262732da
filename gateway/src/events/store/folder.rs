//! The folder that the store is kept in, which is one process's at a time.
//!
//! | name | what |
//! |---|---|
//! | `events.redb` | the store |
//! | `events.redb.new` | a store that is being made; it gets its name when it is complete |
//! | `epoch` | the epoch of the store, in digits, for the case that it cannot be opened any more |
//! | `opening` | there while the store is being opened, see [`Folder::opening`] |
//! | `lock` | locked as long as the process has the folder |
//! | `damaged-<unix ms>` | a store that could not be used, and its epoch |

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::error::StoreError;

const STORE: &str = "events.redb";
const NEW: &str = "events.redb.new";
const EPOCH: &str = "epoch";
const OPENING: &str = "opening";
const LOCK: &str = "lock";
const DAMAGED: &str = "damaged-";
/// How many stores may be set aside in one millisecond, or with a clock that stands still.
const SAME_NAMES_MAX: u64 = 10_000;

/// The folder, as the process that has it uses it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    lock: File,
}

impl Drop for Folder {
    /// Closing would not do: a thread that has unshared its descriptor table since has a copy, which keeps the lock.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Makes the folder if need be, and locks it.
    pub fn open(path: &Path) -> Result<Folder, StoreError> {
        let unusable = |error| StoreError::io(path, error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder {
                path: path.to_owned(),
                lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store's file, if there is one.
    pub fn store(&self) -> io::Result<Option<File>> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(STORE));
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An empty file for a new store, which is not the store before [`Folder::publish`].
    pub fn begin(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(NEW))
    }

    /// Makes the new file the store.
    pub fn publish(&self) -> io::Result<()> {
        fs::rename(self.path.join(NEW), self.path.join(STORE))?;
        self.sync()
    }

    /// The highest epoch that was ever used here, as far as can be told.
    pub fn epoch(&self) -> io::Result<Option<u64>> {
        let mut highest = read_epoch(&self.path);
        for aside in self.set_aside_before()? {
            highest = highest.max(read_epoch(&aside));
        }
        Ok(highest)
    }

    /// The highest epoch of a store that was set aside.
    pub fn lost(&self) -> io::Result<Option<u64>> {
        let aside = self.set_aside_before()?;
        Ok(aside.iter().filter_map(|path| read_epoch(path)).max())
    }

    /// Notes the epoch beside the store.
    pub fn note_epoch(&self, epoch: u64) -> io::Result<()> {
        if read_epoch(&self.path) == Some(epoch) {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        writeln!(file, "{epoch}")?;
        file.as_file().sync_all()?;
        file.persist(self.path.join(EPOCH))
            .map_err(|error| error.error)?;
        self.sync()
    }

    /// Moves the store and its epoch into a folder of their own, and says which. The store goes first: what is left
    /// if the process ends in between is a folder without a store.
    pub fn set_aside(&self, now_ms: u64) -> io::Result<PathBuf> {
        let aside = self.make_aside(now_ms)?;
        for name in [STORE, EPOCH] {
            match fs::rename(self.path.join(name), aside.join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&aside)?.sync_all()?;
        self.sync()?;
        Ok(aside)
    }

    /// Opening begins, and ends when the value is dropped. If the last attempt never ended, reading the store ended
    /// the process, as a damaged page may where panics abort: then `true`, so that the library checks all of it
    /// before it trusts any.
    pub fn opening(&self) -> io::Result<(Opening, bool)> {
        let path = self.path.join(OPENING);
        let unfinished = path.exists();
        File::create(&path)?;
        Ok((Opening { path }, unfinished))
    }

    fn make_aside(&self, now_ms: u64) -> io::Result<PathBuf> {
        for ms in now_ms..now_ms.saturating_add(SAME_NAMES_MAX) {
            let aside = self.path.join(format!("{DAMAGED}{ms}"));
            match DirBuilder::new().mode(0o700).create(&aside) {
                Ok(()) => return Ok(aside),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(ErrorKind::AlreadyExists))
    }

    fn set_aside_before(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DAMAGED) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The store is being opened.
#[derive(Debug)]
pub struct Opening {
    path: PathBuf,
}

impl Drop for Opening {
    fn drop(&mut self) {
        // If it stays, the next start checks the store, which costs time only.
        let _ = fs::remove_file(&self.path);
    }
}

fn read_epoch(folder: &Path) -> Option<u64> {
    fs::read_to_string(folder.join(EPOCH))
        .ok()?
        .trim()
        .parse()
        .ok()
}
