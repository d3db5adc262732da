//! The library's database, opened on the disk or over it.

use std::{
    fs::File,
    ops::Deref,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use redb::{Builder, Database, ReadableDatabase};

use super::{
    StoreOptions,
    backend::{Disk, Overlay},
    error::{Trouble, guarded},
    tables,
};

/// What the overlay may keep in memory, in bytes: it serves readers for as long as the disk is out of order.
const OVERLAY_CACHE_BYTES_MAX: usize = 16 << 20;

/// An open database.
#[derive(Debug)]
pub struct Handle {
    pub database: Closing,
    pub disk: Disk,
    /// Which one it is, of those that one process opened.
    pub generation: u64,
}

/// A database whose closing, which writes, may stumble over a damaged file as everything else may.
#[derive(Debug)]
pub struct Closing(Option<Database>);

impl Deref for Closing {
    type Target = Database;

    fn deref(&self) -> &Database {
        match &self.0 {
            Some(database) => database,
            // It is taken out when this is dropped, and not before.
            None => unreachable!("a database that is closed is not used"),
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let database = self.0.take();
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

impl Handle {
    /// Opens the store's file. `check`: reads and compares all of it first, which takes seconds a gigabyte.
    pub fn open(
        file: File,
        options: &StoreOptions,
        generation: u64,
        check: bool,
    ) -> Result<Handle, Trouble> {
        if file.metadata()?.len() == 0 {
            // The library would take it for a new one.
            return Err(Trouble::damaged("its file is empty"));
        }
        let disk = disk(file, options);
        let backend = disk.clone();
        let database = guarded(|| {
            let mut builder = builder(options.cache_bytes);
            builder.set_check_integrity_on_open(check);
            Ok(builder.create_with_backend(backend)?)
        })?;
        Ok(Handle {
            database: Closing(Some(database)),
            disk,
            generation,
        })
    }

    /// Opens it for reading, on a disk that takes nothing.
    pub fn over(disk: &Disk, options: &StoreOptions, generation: u64) -> Result<Handle, Trouble> {
        let backend = Overlay::new(disk.file.clone())?;
        let cache = options.cache_bytes.min(OVERLAY_CACHE_BYTES_MAX);
        let database = guarded(|| Ok(builder(cache).create_with_backend(backend)?))?;
        Ok(Handle {
            database: Closing(Some(database)),
            disk: disk.clone(),
            generation,
        })
    }

    /// Begins a write. Each one leaves the file so that it can be opened at once, however the process ends.
    pub fn write(&self) -> Result<redb::WriteTransaction, Trouble> {
        let mut txn = self.database.begin_write()?;
        txn.set_quick_repair(true);
        Ok(txn)
    }

    /// Writes a row that is not the one before, and waits for it. What an earlier process, or an earlier attempt, wrote
    /// without learning that the disk has it is on the disk after this.
    pub fn prove(&self) -> Result<(), Trouble> {
        guarded(|| {
            let mut meta = tables::meta(&self.database.begin_read()?)?;
            meta.openings += 1;
            let txn = self.write()?;
            tables::put_meta(&txn, &meta)?;
            txn.commit()?;
            Ok(())
        })
    }
}

/// Fills an empty file.
pub fn create(file: File, options: &StoreOptions, epoch: u64) -> Result<(), Trouble> {
    let database = builder(options.cache_bytes).create_with_backend(disk(file, options))?;
    let mut txn = database.begin_write()?;
    txn.set_quick_repair(true);
    tables::create(&txn, epoch)?;
    txn.commit()?;
    Ok(())
}

fn disk(file: File, options: &StoreOptions) -> Disk {
    #[cfg_attr(not(test), expect(unused_mut, reason = "tests break it"))]
    let mut disk = Disk::new(file);
    #[cfg(test)]
    disk.faults.clone_from(&options.faults);
    let _ = options;
    disk
}

fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    builder
}

/// The handle that is in use, for the writer and all readers. `None` only if not even reading works.
#[derive(Debug, Default)]
pub struct Shared {
    current: RwLock<Option<Handle>>,
}

impl Shared {
    pub fn new(handle: Handle) -> Arc<Shared> {
        Arc::new(Shared {
            current: RwLock::new(Some(handle)),
        })
    }

    pub fn current(&self) -> RwLockReadGuard<'_, Option<Handle>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody reads.
    pub fn change(&self) -> RwLockWriteGuard<'_, Option<Handle>> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}
