//! What can go wrong with the store, in words for whoever runs the gateway.

use std::{
    any::Any,
    cell::Cell,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// Why the store cannot do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room. Nothing of the batch was written if the store refused it for this by itself.
    #[error(
        "the disk that {path} is on is full{free}: free some space there, or keep events for a shorter time",
        path = path.display(),
        free = free.map(|free| format!(" ({} MiB are free)", free >> 20)).unwrap_or_default()
    )]
    DiskFull {
        /// The store's folder.
        path: PathBuf,
        /// Free bytes, where they are known.
        free: Option<u64>,
    },
    /// The disk, or the rights to the folder.
    #[error("the event log in {path} cannot be used: check the disk, and that this user may write there", path = path.display())]
    Io {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// What is stored is not what was written.
    #[error("the event log in {path} is damaged ({what}): check the disk; it is set aside at the next start if it cannot be opened", path = path.display())]
    Corrupt {
        /// The store's folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// When reading: the first sequence behind the damage, from which reading can go on, if there is one.
        resume: Option<u64>,
    },
    /// It is another release's.
    #[error("the event log in {path} has format {found}, which this release cannot read: use the release that wrote it, or name another folder", path = path.display())]
    Version {
        /// The store's folder.
        path: PathBuf,
        /// The format that was found.
        found: u32,
    },
    /// Another process uses it.
    #[error("the event log in {path} is in use by another process: give each gateway its own folder, or wait until the other one has ended", path = path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
    },
    /// An earlier commit failed, and the store has not been opened again since.
    #[error("the event log in {path} takes nothing since a write failed; it is tried again", path = path.display())]
    Failed {
        /// The store's folder.
        path: PathBuf,
    },
    /// A mistake of the caller. Nothing was written.
    #[error("a batch for the event log is wrong: {what}")]
    Misuse {
        /// Which.
        what: String,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> StoreError {
        if is_full(&source) {
            let path = path.to_owned();
            return StoreError::DiskFull { path, free: None };
        }
        StoreError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// What goes wrong inside, where the folder's name is of no interest.
#[derive(Debug)]
pub enum Trouble {
    /// The library's.
    Redb(Box<redb::Error>),
    /// Found by our own checks.
    Damaged(String),
    /// A mistake of the caller.
    Misuse(String),
    /// Another release's.
    Version(u32),
}

macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Trouble {
            fn from(error: redb::$error) -> Trouble {
                Trouble::Redb(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(
    CommitError,
    DatabaseError,
    SetDurabilityError,
    StorageError,
    TableError,
    TransactionError
);

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Redb(Box::new(redb::Error::Io(error)))
    }
}

impl Trouble {
    pub(super) fn damaged(what: impl Into<String>) -> Trouble {
        Trouble::Damaged(what.into())
    }

    /// Whether the library refuses because something failed before. The first failure says what.
    pub(super) fn is_consequence(&self) -> bool {
        matches!(self, Trouble::Redb(error) if matches!(**error, redb::Error::PreviousIo | redb::Error::DatabaseClosed))
    }

    /// With the folder's name. `InvalidData` and a file that is too short are damage, no matter who noticed.
    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        let corrupt = |what| StoreError::Corrupt {
            path: path.clone(),
            what,
            resume: None,
        };
        match self {
            Trouble::Damaged(what) => corrupt(what),
            Trouble::Misuse(what) => StoreError::Misuse { what },
            Trouble::Version(found) => StoreError::Version { path, found },
            Trouble::Redb(error) => match *error {
                redb::Error::Io(source)
                    if matches!(
                        source.kind(),
                        ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                    ) =>
                {
                    corrupt(source.to_string())
                }
                redb::Error::Io(source) => StoreError::io(&path, source),
                redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                    StoreError::Failed { path }
                }
                redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
                redb::Error::Corrupted(what) => corrupt(what),
                other => corrupt(other.to_string()),
            },
        }
    }
}

thread_local! {
    /// How many [`guarded`] calls this thread is in.
    static GUARDED: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic of this thread, now, is one of the library over a damaged file, which is caught and told as damage.
#[must_use]
pub fn panics_are_damage() -> bool {
    GUARDED.get() > 0
}

struct Guard;

impl Guard {
    fn begin() -> Guard {
        GUARDED.set(GUARDED.get() + 1);
        Guard
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDED.set(GUARDED.get() - 1);
    }
}

/// Does it, and takes a panic for damage: the library checks most of what it reads, and where it does not, a damaged
/// page makes it panic. Where a panic ends the process, see [`super::folder::Folder::opening`].
pub fn guarded<T>(act: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    let _guard = Guard::begin();
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        Err(Trouble::Damaged(format!(
            "reading it failed: {}",
            words(panic.as_ref())
        )))
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}
