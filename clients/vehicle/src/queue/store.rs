//! The queue's file: a redb database.
//!
//! redb, because it is one file without background threads or a log beside it, is copy-on-write with a checksum on
//! every page, and is well kept. A commit is one write of the changed pages and one fsync; one that was cut off is not
//! there. After a kill it is repaired when it is opened, by walking the pages that the last good commit reaches. We ask
//! for that check at every opening, since a queue is small, and since flash that lies about its writes is common:
//! damage is then found here and not in the middle of a drive. redb locks the file, so a second process is told.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use longhaul_codec::{MessageRef, decode};
use redb::{Builder, Database, DatabaseError, ReadableTable, StorageError, TableDefinition};

use super::QueueError;

/// An event's number, and the message as it is sent.
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");

/// The highest number that was ever given out; it stays when the queue is empty.
const LAST_ID: &str = "last id";
const FORMAT: &str = "format";
const FORMAT_NOW: u64 = 1;
const OWNER: &str = "owner";

/// Pages of the file that are held in memory. Events are held by the index already.
const CACHE_BYTES: usize = 256 << 10;

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) events: BTreeMap<u64, Bytes>,
    pub(super) last_id: u64,
    pub(super) owner: Option<String>,
    pub(super) moved_aside: Option<PathBuf>,
}

/// One commit.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) insert: Vec<(u64, Bytes)>,
    pub(super) remove: Vec<u64>,
    pub(super) last_id: u64,
    pub(super) owner: Option<String>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Store {
    file: PathBuf,
    /// None after a failed write, until it could be opened again.
    database: Option<Database>,
}

/// Why a file was not opened.
enum Failure {
    InUse,
    /// It is not, or no longer, a queue.
    Corrupt(String),
    Other(String),
}

impl Store {
    /// Opens the file, or makes it. One that is damaged is moved aside, and a new one is made.
    pub(super) fn open(file: &Path) -> Result<(Self, Found), QueueError> {
        let mut moved_aside = None;
        let (database, mut found) = match open(file) {
            Err(Failure::Corrupt(why)) => {
                let aside = move_aside(file).map_err(|error| storage(file, error))?;
                tracing::error!(
                    queue = %file.display(),
                    moved_to = %aside.display(),
                    "the queue is damaged: {why}. A new one is begun; what was in it is in the file that was moved"
                );
                moved_aside = Some(aside);
                open(file)
            }
            opened => opened,
        }
        .map_err(|failure| match failure {
            Failure::InUse => QueueError::InUse(file.to_owned()),
            Failure::Corrupt(why) | Failure::Other(why) => storage(file, why),
        })?;
        found.moved_aside = moved_aside;
        let store = Self {
            file: file.to_owned(),
            database: Some(database),
        };
        Ok((store, found))
    }

    /// Whether the file has to be opened again before it takes anything.
    pub(super) fn is_broken(&self) -> bool {
        self.database.is_none()
    }

    /// Opens the file again after a failed write: redb refuses everything from then on.
    pub(super) fn reopen(&mut self) -> Result<Found, QueueError> {
        self.database = None;
        let (store, found) = Self::open(&self.file)?;
        *self = store;
        Ok(found)
    }

    /// Makes all changes durable, or none. When this returns, they survive a power cut.
    pub(super) fn commit(&mut self, changes: &Changes) -> Result<(), String> {
        let Some(database) = &self.database else {
            return Err("it is not open".to_owned());
        };
        let done = write(database, changes);
        if done.is_err() {
            self.database = None;
        }
        done.map_err(|error| error.to_string())
    }
}

fn write(database: &Database, changes: &Changes) -> Result<(), redb::Error> {
    // Durability::Immediate is the default: commit returns behind the fsync.
    let transaction = database.begin_write()?;
    {
        let mut events = transaction.open_table(EVENTS)?;
        for (id, event) in &changes.insert {
            events.insert(id, event.as_ref())?;
        }
        for id in &changes.remove {
            events.remove(id)?;
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(LAST_ID, changes.last_id)?;
        if let Some(owner) = &changes.owner {
            transaction
                .open_table(TEXTS)?
                .insert(OWNER, owner.as_str())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

fn open(file: &Path) -> Result<(Database, Found), Failure> {
    // The library returns an error for every damage that it looks for. Should it ever panic over another one, that is
    // damage as well.
    catch_unwind(AssertUnwindSafe(|| open_unguarded(file)))
        .unwrap_or_else(|_| Err(Failure::Corrupt("its reader gave up".to_owned())))
}

fn open_unguarded(file: &Path) -> Result<(Database, Found), Failure> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(true);
    let database = builder.create(file)?;
    let found = read(&database).map_err(Failure::from)?;
    // Else a power cut may leave a new file without its name.
    sync_folder(file).map_err(|error| Failure::Other(error.to_string()))?;
    Ok((database, found))
}

fn read(database: &Database) -> Result<Found, redb::Error> {
    let transaction = database.begin_write()?;
    let mut found = Found::default();
    {
        let events = transaction.open_table(EVENTS)?;
        for entry in events.iter()? {
            let (id, event) = entry?;
            let (id, event) = (id.value(), Bytes::copy_from_slice(event.value()));
            check(id, &event).map_err(StorageError::Corrupted)?;
            found.last_id = found.last_id.max(id);
            found.events.insert(id, event);
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        let number = |name| {
            numbers
                .get(name)
                .map(|found| found.map(|kept| kept.value()))
        };
        let (format, last_id) = (number(FORMAT)?, number(LAST_ID)?);
        found.last_id = found.last_id.max(last_id.unwrap_or(0));
        match format {
            Some(FORMAT_NOW) => {}
            None => drop(numbers.insert(FORMAT, FORMAT_NOW)?),
            Some(other) => {
                let why = format!("format {other} is of another version of this program");
                return Err(StorageError::Io(io::Error::other(why)).into());
            }
        }
        let texts = transaction.open_table(TEXTS)?;
        found.owner = texts.get(OWNER)?.map(|owner| owner.value().to_owned());
    }
    transaction.commit()?;
    Ok(found)
}

fn check(id: u64, event: &[u8]) -> Result<(), String> {
    match decode(event) {
        Ok(MessageRef::Event(event)) if event.message_id() == id => Ok(()),
        Ok(other) => Err(format!("event {id} is {} in the file", other.name())),
        Err(error) => Err(format!("event {id}: {error}")),
    }
}

fn move_aside(file: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut name = file.as_os_str().to_owned();
    name.push(format!(
        ".corrupt-{}",
        now.map_or(0, |since| since.as_millis())
    ));
    let aside = PathBuf::from(name);
    fs::rename(file, &aside)?;
    sync_folder(file)?;
    Ok(aside)
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

fn storage(file: &Path, why: impl ToString) -> QueueError {
    QueueError::Storage {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => Self::InUse,
            DatabaseError::Storage(StorageError::Corrupted(why)) => Self::Corrupt(why),
            DatabaseError::Storage(StorageError::Io(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                ) =>
            {
                Self::Corrupt(error.to_string())
            }
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(why) => Self::Corrupt(why),
            redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Corrupt(error.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}
