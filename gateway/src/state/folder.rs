//! The folder that state is kept in, which the processes of one node on one machine share.
//!
//! | name | what |
//! |---|---|
//! | `positions.snapshot` | what the process that wrote it last knew |
//! | `handover-<instance>-<n>` | from a draining process to the others; whoever takes it removes it |
//! | `groups.json` | groups as operators set them (`state/groups.rs`) |
//! | `revocations.jsonl` | tokens that were revoked by calls (`revocations/`) |
//! | `operator-tokens.jsonl` | tokens that were used for a call (`control/admin/`) |
//! | `instance-<instance>` | locked as long as that process lives |
//! | `lock` | locked for the moment in which names are compared and changed |
//! | `*.refused` | a file that could not be used, set aside |
//! | `tmp-<instance>-*` | a file that is being written |

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

use super::file::{FileError, Header, Writer, read_header};

const SNAPSHOT: &str = "positions.snapshot";
const HANDOVER: &str = "handover-";
const INSTANCE: &str = "instance-";
const TEMPORARY: &str = "tmp-";
const REFUSED: &str = ".refused";
/// How long to wait for another process's turn with the folder, which takes a moment.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// Why state cannot be kept in a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made or written.
    #[error(
        "cannot keep state in {path} (state.directory): name a folder that this user can write, or leave the setting out",
        path = path.display()
    )]
    Unusable {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The system has no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

/// The folder, as one process uses it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    instance: u64,
    lock: File,
    /// Locked until it is closed.
    _alive: File,
}

impl Folder {
    /// Opens the folder, makes it if need be, and removes what dead processes left half written. Call it before any
    /// thread unshares its descriptor table: a copy of a locked descriptor would keep the lock.
    ///
    /// # Errors
    /// It cannot be made or written.
    pub fn open(path: &Path) -> Result<Folder, FolderError> {
        let instance = getrandom::u64()?;
        Self::prepare(path, instance).map_err(|source| FolderError::Unusable {
            path: path.to_owned(),
            source,
        })
    }

    fn prepare(path: &Path, instance: u64) -> io::Result<Folder> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = make(&path.join("lock"))?;
        let turn = Turn::wait(&lock)?;
        let alive = make(&path.join(format!("{INSTANCE}{instance:016x}")))?;
        alive.try_lock()?;
        for dead in instances(path)? {
            if dead != instance && !is_alive(path, dead) {
                remove_remains(path, dead)?;
            }
        }
        drop(turn);
        Ok(Folder {
            path: path.to_owned(),
            instance,
            lock,
            _alive: alive,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of this process, random.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// What the names of this process's half-written files begin with; the next process removes those that are left.
    pub fn temporary_prefix(&self) -> String {
        format!("{TEMPORARY}{:016x}-", self.instance)
    }

    /// Keeps the other processes from changing names in the folder until the value is dropped. Take it for a moment
    /// only.
    ///
    /// # Errors
    /// Another process keeps it for too long.
    pub fn turn(&self) -> io::Result<Turn<'_>> {
        Turn::wait(&self.lock)
    }

    /// Writes a file, which has no name yet: see [`Folder::publish`].
    ///
    /// # Errors
    /// When writing fails.
    pub fn write(
        &self,
        header: &Header,
        fill: impl FnOnce(&mut Writer<BufWriter<&mut File>>) -> io::Result<()>,
    ) -> io::Result<Written> {
        let mut file = tempfile::Builder::new()
            .prefix(&self.temporary_prefix())
            .tempfile_in(&self.path)?;
        let mut writer = Writer::begin(
            BufWriter::with_capacity(1 << 16, file.as_file_mut()),
            header,
        )?;
        fill(&mut writer)?;
        let (mut buffered, vehicles) = writer.finish()?;
        buffered.flush()?;
        drop(buffered);
        file.as_file().sync_all()?;
        Ok(Written { file, vehicles })
    }

    /// Makes a written file the snapshot, in place of the one that is there.
    ///
    /// # Errors
    /// When renaming fails. The old one is still there then.
    pub fn publish_snapshot(&self, written: Written) -> io::Result<u64> {
        self.publish(written, SNAPSHOT)
    }

    /// Makes a written file handover number `number` of this process.
    ///
    /// # Errors
    /// When renaming fails.
    pub fn publish_handover(&self, written: Written, number: u32) -> io::Result<u64> {
        self.publish(
            written,
            &format!("{HANDOVER}{:016x}-{number:06}", self.instance),
        )
    }

    /// Writes a file of another kind, in place of the one of that name, if there is one: all of it or nothing, and it
    /// survives a power cut once this returns.
    ///
    /// # Errors
    /// When writing or renaming fails. The old one is still there then.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(&format!("{TEMPORARY}{:016x}-", self.instance))
            .tempfile_in(&self.path)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.path.join(name))
            .map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }

    fn publish(&self, written: Written, name: &str) -> io::Result<u64> {
        written
            .file
            .persist(self.path.join(name))
            .map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()?;
        Ok(written.vehicles)
    }

    /// The snapshot's path.
    pub fn snapshot(&self) -> PathBuf {
        self.path.join(SNAPSHOT)
    }

    /// Whether the snapshot that is there is this process's own, or nobody's.
    pub fn owns_snapshot(&self) -> bool {
        let Ok(file) = File::open(self.snapshot()) else {
            return true;
        };
        match read_header(file) {
            Ok(header) => header.instance == self.instance,
            // Another release of Longhaul took over.
            Err(FileError::Version(_)) => false,
            Err(_) => true,
        }
    }

    /// Whether another process that uses the folder is alive.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn has_company(&self) -> io::Result<bool> {
        let others = instances(&self.path)?;
        Ok(others
            .into_iter()
            .any(|other| other != self.instance && is_alive(&self.path, other)))
    }

    /// The handover files of other processes, in the order in which each wrote them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn handovers_of_others(&self) -> io::Result<Vec<PathBuf>> {
        let mine = format!("{HANDOVER}{:016x}-", self.instance);
        let mut names: Vec<_> = names(&self.path)?
            .filter(|name| name.starts_with(HANDOVER))
            .filter(|name| !name.starts_with(&mine) && !name.ends_with(REFUSED))
            .collect();
        names.sort_unstable();
        Ok(names.iter().map(|name| self.path.join(name)).collect())
    }

    /// The handover files of this process that nobody has taken, also if somebody refused them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn own_handovers(&self) -> io::Result<Vec<PathBuf>> {
        let mine = format!("{HANDOVER}{:016x}-", self.instance);
        Ok(names(&self.path)?
            .filter(|name| name.starts_with(&mine))
            .map(|name| self.path.join(name))
            .collect())
    }

    /// Sets a file aside and says why. Returns whether it is out of the way.
    pub fn refuse(&self, path: &Path, why: &FileError) -> bool {
        let mut aside = path.as_os_str().to_owned();
        aside.push(REFUSED);
        let renamed = fs::rename(path, &aside);
        match &renamed {
            Ok(()) => tracing::error!(
                "cannot use {}: {why}. Nothing was taken from it; it is set aside as {}",
                path.display(),
                Path::new(&aside).display()
            ),
            Err(error) => tracing::error!(
                "cannot use {}: {why}. Nothing was taken from it, and it cannot be set aside ({error}): remove it",
                path.display()
            ),
        }
        renamed.is_ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left, the next process removes.
        let _ = fs::remove_file(self.path.join(format!("{INSTANCE}{:016x}", self.instance)));
    }
}

/// A whole file without a name. It goes away if it is dropped.
#[derive(Debug)]
pub struct Written {
    file: NamedTempFile,
    vehicles: u64,
}

impl Written {
    /// How many vehicles it has.
    pub fn vehicles(&self) -> u64 {
        self.vehicles
    }
}

/// The right to change names in the folder.
#[derive(Debug)]
pub struct Turn<'a>(&'a File);

impl Turn<'_> {
    fn wait(lock: &File) -> io::Result<Turn<'_>> {
        let by = Instant::now() + LOCK_WITHIN;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Turn(lock)),
                Err(TryLockError::WouldBlock) if Instant::now() < by => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        "another process holds the file `lock` in it and does not let go",
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Said aloud, not left to close(2): a shard's descriptor table may have a copy of the descriptor.
        let _ = self.0.unlock();
    }
}

/// Opens a file of this user's alone, and makes it if need be.
fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

fn names(folder: &Path) -> io::Result<impl Iterator<Item = String>> {
    Ok(fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
}

fn instances(folder: &Path) -> io::Result<Vec<u64>> {
    let number = |name: String| u64::from_str_radix(name.strip_prefix(INSTANCE)?, 16).ok();
    Ok(names(folder)?.filter_map(number).collect())
}

fn is_alive(folder: &Path, instance: u64) -> bool {
    // Made and locked under `lock`; so a file that nobody has locked is nobody's.
    File::open(folder.join(format!("{INSTANCE}{instance:016x}")))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Removes what a dead process left, but for its handover files: they still say something.
fn remove_remains(folder: &Path, instance: u64) -> io::Result<()> {
    let half_written = format!("{TEMPORARY}{instance:016x}-");
    for name in names(folder)?.filter(|name| name.starts_with(&half_written)) {
        fs::remove_file(folder.join(OsStr::new(&name)))?;
    }
    fs::remove_file(folder.join(format!("{INSTANCE}{instance:016x}")))
}
