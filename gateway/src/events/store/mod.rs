//! The durable store under the event log: one file, one writer, any number of readers.
//!
//! | file | what |
//! |---|---|
//! | `batch` | what is to be written at once |
//! | `write` | writes it: names, records, summaries, senders, cursors, commands, one commit |
//! | `block`, `tables` | how records and rows are stored, each with a checksum |
//! | `reader` | reads records from other threads |
//! | `retain` | removes the oldest, a chunk at a time |
//! | `open`, `load` | opens what is there, or sets it aside; reads all of it but the records |
//! | `folder` | names, the lock, the epoch beside the store |
//! | `room` | whether there is room, before anything is written |
//! | `handle`, `backend` | the library's database, on the disk or, when that fails, over it |
//!
//! # Why redb
//!
//! redb 4.5 and fjall 3.1 were read and measured: records of 200 bytes over 10 fleets, one key each, 64 MiB of cache, a
//! virtual disk whose fsync takes next to nothing, two cores. One run each, on a machine that others used
//! as well, so only large differences count. What they do on a broken disk is from their sources.
//!
//! | | fjall | redb, with quick repair |
//! |---|---|---|
//! | batch of 20, p50 / p99 | 0.15 / 0.26 ms | 0.84 / 1.07 ms |
//! | batch of 200, p50 / p99 | 0.70 / 0.92 ms | 1.73 / 1.95 ms |
//! | batch of 2,000, p50 / p99 | 5.7 / 91 ms | 9.2 / 13.9 ms |
//! | the same up to 1 GB of records, p50 / p99 / most | 12 / 157 / 901 ms | 9.8 / 14.6 / 21.9 ms |
//! | records a second, up to 1 GB | 90,000 | 199,000 |
//! | on disk, and memory of the process | 1.4 GB, 161 MB | 1.9 GB, 73 MB |
//! | open after kill -9 with 1 GB | 2.6 s | 1.6 ms (without quick repair 6.6 s) |
//! | removing the oldest half | 4.8 s; the files grow from 1.1 to 1.4 GB, to 1.9 after a compaction | 3.2 s, 25 ms a step at most; the file keeps its size and is used again |
//! | fsyncs a commit | 1 | 2 |
//! | a batch that power tore, its pages written out of order | does not open: checksum mismatch | opens with the batch before |
//! | damage in the middle of a journal | an unknown tag cuts off all that follows, without a word | no journal |
//! | ENOSPC or EIO in a commit | the handle is poisoned; reads go on | the handle is poisoned for reads too, which [`backend::Overlay`] mends |
//! | crates that come with it | about 20 | none |
//!
//! What decided: no acknowledged record may be lost in silence; a start must take no time; and a flush or compaction must
//! not hold up acknowledgements for most of a second. What it costs: a second fsync, which group commit shares, and a
//! file that does not shrink.
//!
//! Records are packed into blocks, so the store itself does better than the table. A release build on the same machine,
//! while others kept its disk busy: most batches, of 20 as of 2,000, take 8 ms, which is probably the two fsyncs; 230,000
//! records a second in batches of 2,000; 1 GB of records takes 1.26 GB; opening it after kill -9 takes 16 ms; a step of removal 16 ms at most; 100,000
//! records are read in 28 ms. `tests/figures.rs` measures again.
//!
//! # What to know
//!
//! - The file keeps its largest size. What is removed leaves room inside, which `room` counts before it refuses.
//! - A damaged page of records is found when it is read: [`StoreError::Corrupt`] says where to go on.
//! - A page tree that is damaged may make the library panic. That is caught, here and in the process's panic hook, and
//!   told as damage. If it happens while opening, the next start checks the whole file and sets it aside.
//! - A read error of the disk makes the next commit fail, as the library trusts its handle no longer.
#![forbid(unsafe_code)]

mod backend;
mod batch;
mod block;
mod error;
#[cfg(test)]
mod faults;
mod folder;
mod handle;
mod load;
mod open;
mod reader;
mod retain;
mod room;
mod tables;
mod write;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::ReadableDatabase;

pub use self::{
    batch::Batch,
    error::{StoreError, panics_are_damage},
    reader::Reader,
    retain::Retained,
};
use self::{
    error::{Trouble, guarded},
    folder::Folder,
    handle::{Handle, Shared},
    load::Loaded,
    retain::Keep,
    room::Room,
    tables::{FleetRow, Meta, SENDERS},
    write::Scratch,
};

#[cfg(test)]
mod tests;

/// How the store is to be kept.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What the library may keep of the file in memory, in bytes.
    pub cache_bytes: usize,
    /// A commit is refused if the file system has less than this left, in bytes, and the file has no room inside.
    /// 0: it is not looked at, and only the system's refusal counts.
    pub free_bytes_min: u64,
    #[cfg(test)]
    pub(crate) faults: Option<Arc<faults::Faults>>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 64 << 20,
            free_bytes_min: 256 << 20,
            #[cfg(test)]
            faults: None,
        }
    }
}

/// The number of a fleet in a store, given by the caller in [`Batch::fleet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogFleet(pub u32);

/// What a store held when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sequences count within an epoch. A new one begins with an empty store.
    pub epoch: u64,
    /// Where a store that could not be used has been moved to just now.
    pub set_aside: Option<PathBuf>,
    /// The epoch of the store that was last set aside, now or earlier.
    pub lost: Option<u64>,
    /// Every fleet that ever had a record.
    pub fleets: Vec<RecoveredFleet>,
    /// All cursors: key and value.
    pub cursors: Vec<(Vec<u8>, Vec<u8>)>,
    /// All commands: key and value.
    pub commands: Vec<(Vec<u8>, Vec<u8>)>,
}

/// One fleet of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredFleet {
    /// As it was given.
    pub number: LogFleet,
    /// As it was given.
    pub name: String,
    /// The first sequence that is kept; one more than `last` if there is none.
    pub first: u64,
    /// The highest sequence that was ever written.
    pub last: u64,
    /// What its records take of the disk.
    pub bytes: u64,
}

/// One store a folder; blocking; exactly one writer, which has this, and any number of [`Reader`]s on other threads.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    path: Arc<PathBuf>,
    folder: Folder,
    options: StoreOptions,
    rows: HashMap<u32, FleetRow>,
    meta: Meta,
    room: Room,
    scratch: Scratch,
    generation: u64,
    failed: bool,
}

impl Store {
    /// Opens or creates `directory`, for this process alone. A store that cannot be used is moved aside, never
    /// deleted, and a new one with a new epoch begins: [`Recovered::set_aside`].
    ///
    /// # Errors
    /// The folder is in use or cannot be written, or the disk is full or broken.
    pub fn open(
        directory: &Path,
        options: StoreOptions,
        now_ms: u64,
    ) -> Result<(Store, Recovered), StoreError> {
        let folder = Folder::open(directory)?;
        let generation = 0;
        let (handle, loaded) = open::open(&folder, &options, generation, now_ms)?;
        let store = Store {
            shared: Shared::new(handle),
            path: Arc::new(directory.to_owned()),
            folder,
            room: Room::new(options.free_bytes_min),
            options,
            rows: loaded.rows,
            meta: loaded.meta,
            scratch: Scratch::default(),
            generation,
            failed: false,
        };
        Ok((store, loaded.recovered))
    }

    /// All of the batch or nothing, and on the disk when this returns.
    ///
    /// # Errors
    /// [`StoreError::Misuse`], and [`StoreError::DiskFull`] while [`Store::is_failed`] stays false: nothing was
    /// written, and the next commit is a new attempt. After any other error nothing of the batch may be assumed either
    /// way, and every further commit is refused with [`StoreError::Failed`] until [`Store::reopen`] succeeds.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.check_usable()?;
        if batch.is_empty() {
            return Ok(());
        }
        self.scratch
            .arrange(batch, &self.rows)
            .map_err(|trouble| trouble.at(&self.path))?;
        let used = self.used_bytes();
        let written = {
            let current = self.shared.current();
            let handle = current.as_ref().ok_or_else(|| self.failure())?;
            self.room
                .check(self.folder.path(), handle, used, batch.len())?;
            guarded(|| self.scratch.write(handle, batch, &self.rows, self.meta))
        };
        match written {
            Ok(changed) => {
                self.rows.extend(changed.rows);
                self.meta = changed.meta;
                Ok(())
            }
            Err(trouble) => Err(self.fail(trouble)),
        }
    }

    /// After a failed commit: opens the store again, so that what is on the disk counts, and tells it as
    /// [`Store::open`] does. Without a failure before it only tells.
    ///
    /// # Errors
    /// The disk is still full, or broken. Readers go on with what was there.
    pub fn reopen(&mut self, now_ms: u64) -> Result<Recovered, StoreError> {
        let loaded = if self.failed {
            self.room.check_reopen(self.folder.path())?;
            self.open_again(now_ms)?
        } else {
            let current = self.shared.current();
            let handle = current.as_ref().ok_or_else(|| self.failure())?;
            load::load(handle).map_err(|trouble| trouble.at(&self.path))?
        };
        self.rows = loaded.rows;
        self.meta = loaded.meta;
        self.failed = false;
        Ok(loaded.recovered)
    }

    /// Whether an earlier commit has failed, so that the store has to be opened again.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// For other threads. It survives [`Store::reopen`], and ends with the store.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.shared.clone(),
            path: self.path.clone(),
        }
    }

    /// What is kept about a vehicle that sends.
    ///
    /// # Errors
    /// The disk is broken, or what it holds is damaged.
    pub fn sender(&self, fleet: LogFleet, vehicle: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let current = self.shared.current();
        let handle = current.as_ref().ok_or_else(|| self.failure())?;
        guarded(|| {
            let key = (fleet.0, vehicle);
            let table = handle.database.begin_read()?.open_table(SENDERS)?;
            let Some(sealed) = table.get(key)? else {
                return Ok(None);
            };
            Ok(Some(
                tables::unseal("senders", &key, sealed.value())?.to_vec(),
            ))
        })
        .map_err(|trouble| trouble.at(&self.path))
    }

    /// Removes the oldest records of a fleet: those received before `older_than_ms`, and the oldest beyond `bytes_max`.
    /// One chunk of some thousand records a call, and only if all of it is over age, or as much as `bytes_max` is left
    /// without it. The highest sequence stays known when every record is gone.
    ///
    /// # Errors
    /// As [`Store::commit`]; it works on a disk that a commit is refused for.
    pub fn retain(
        &mut self,
        fleet: LogFleet,
        older_than_ms: u64,
        bytes_max: u64,
    ) -> Result<Retained, StoreError> {
        self.check_usable()?;
        let Some(row) = self.rows.get_mut(&fleet.0) else {
            return Ok(Retained {
                first: 1,
                ..Retained::default()
            });
        };
        let keep = Keep {
            older_than_ms,
            bytes_max,
        };
        let stepped = match &*self.shared.current() {
            Some(handle) => guarded(|| retain::step(handle, fleet.0, row, keep)),
            None => Err(Trouble::Redb(Box::new(redb::Error::PreviousIo))),
        };
        stepped.map_err(|trouble| self.fail(trouble))
    }

    /// Free bytes of the file system that the directory is on.
    ///
    /// # Errors
    /// As the system gives them.
    pub fn free_bytes(&self) -> io::Result<u64> {
        room::free_bytes(self.folder.path())
    }

    fn check_usable(&self) -> Result<(), StoreError> {
        if self.failed {
            return Err(self.failure());
        }
        Ok(())
    }

    fn failure(&self) -> StoreError {
        StoreError::Failed {
            path: self.path.to_path_buf(),
        }
    }

    /// What of the file is in use, as far as it is counted. Senders come in any order, so their pages are half full.
    fn used_bytes(&self) -> u64 {
        let records: u64 = self.rows.values().map(|row| row.bytes).sum();
        records + 2 * self.meta.sender_bytes
    }

    /// Nothing is written through the failed handle again, and readers get one that needs no working disk but reads.
    fn fail(&mut self, trouble: Trouble) -> StoreError {
        self.failed = true;
        let mut current = self.shared.change();
        if let Some(handle) = current.take() {
            handle.disk.cut_off();
            self.generation += 1;
            *current = Handle::over(&handle.disk, &self.options, self.generation).ok();
        }
        drop(current);
        trouble.at(&self.path)
    }

    fn open_again(&mut self, now_ms: u64) -> Result<Loaded, StoreError> {
        let mut current = self.shared.change();
        self.generation += 1;
        match open::open(&self.folder, &self.options, self.generation, now_ms) {
            Ok((handle, loaded)) => {
                *current = Some(handle);
                Ok(loaded)
            }
            Err(error) => {
                // The attempt may have written, so a view from before it may no longer hold.
                if let Some(disk) = current.as_ref().map(|handle| handle.disk.clone())
                    && let Ok(over) = Handle::over(&disk, &self.options, self.generation)
                {
                    *current = Some(over);
                }
                Err(error)
            }
        }
    }
}

impl Drop for Store {
    /// Readers may live on, but the folder's lock does not.
    fn drop(&mut self) {
        *self.shared.change() = None;
    }
}
