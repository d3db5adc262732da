//! Whether there is room for a batch, found out before anything is written.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use super::{error::StoreError, handle::Handle};

/// How long a look at the file system holds.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How much may be written until it is looked at again, in bytes, and in parts of the reserve.
const LOOK_EVERY_BYTES: u64 = 8 << 20;
const LOOK_EVERY_PARTS: u64 = 8;
/// What must be free for a store to be opened again after a failure, whatever the setting, in bytes.
const REOPEN_BYTES_MIN: u64 = 4 << 20;
/// What pages that are not quite full, the trees over them, and what is not counted may take of the file, in parts of
/// what is counted and in bytes. On the high side: room that is not there would be taken from the reserve.
const OVERHEAD_PARTS: u64 = 4;
const OVERHEAD_BYTES: u64 = 4 << 20;
/// How much larger than a batch the room inside the file has to be, for everything that is copied with it.
const BATCH_FACTOR: u64 = 4;

/// Free bytes of the file system that a path is on, for a user without privileges.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What was seen when the file system was looked at last.
#[derive(Debug)]
pub struct Room {
    free_bytes_min: u64,
    looked: Option<(Instant, u64)>,
    written: u64,
}

impl Room {
    pub fn new(free_bytes_min: u64) -> Room {
        Room {
            free_bytes_min,
            looked: None,
            written: 0,
        }
    }

    /// Whether a batch of about `batch` bytes may be written. Where the file system has too little left, the file may
    /// still have: it keeps the pages of what was removed. `used`: how much of the file is records and senders.
    pub fn check(
        &mut self,
        folder: &Path,
        handle: &Handle,
        used: u64,
        batch: u64,
    ) -> Result<(), StoreError> {
        if self.free_bytes_min == 0 {
            return Ok(());
        }
        self.written += batch;
        let free = self.look(folder)?;
        if free >= self.free_bytes_min {
            return Ok(());
        }
        let (inside, all) = inside(folder, handle, used)?;
        // What is free inside is not always of a size that fits, so some of the reserve may go. When half of it has,
        // the file has to be half empty.
        let needed = if free >= self.free_bytes_min / 2 {
            batch.saturating_mul(BATCH_FACTOR)
        } else {
            all / 2
        };
        if inside > needed {
            return Ok(());
        }
        Err(full(folder, free))
    }

    /// Whether it makes sense to open the store again.
    pub fn check_reopen(&mut self, folder: &Path) -> Result<(), StoreError> {
        self.looked = None;
        let free = self.look(folder)?;
        if free >= self.free_bytes_min.max(REOPEN_BYTES_MIN) {
            return Ok(());
        }
        Err(full(folder, free))
    }

    fn look(&mut self, folder: &Path) -> Result<u64, StoreError> {
        let look_every_bytes = LOOK_EVERY_BYTES.min(self.free_bytes_min / LOOK_EVERY_PARTS);
        match self.looked {
            Some((at, free)) if at.elapsed() < LOOK_EVERY && self.written < look_every_bytes => {
                Ok(free)
            }
            _ => {
                let free = free_bytes(folder).map_err(|error| StoreError::io(folder, error))?;
                self.looked = Some((Instant::now(), free));
                self.written = 0;
                Ok(free)
            }
        }
    }
}

/// How much of the file's blocks is probably free, and how much they are together.
fn inside(folder: &Path, handle: &Handle, used: u64) -> Result<(u64, u64), StoreError> {
    /// What `st_blocks` counts in.
    const BLOCK_BYTES: u64 = 512;
    let metadata = handle
        .disk
        .file
        .metadata()
        .map_err(|error| StoreError::io(folder, error))?;
    let taken = used + used / OVERHEAD_PARTS + OVERHEAD_BYTES;
    let all = metadata.blocks() * BLOCK_BYTES;
    Ok((all.saturating_sub(taken), all))
}

fn full(folder: &Path, free: u64) -> StoreError {
    StoreError::DiskFull {
        path: folder.to_owned(),
        free: Some(free),
    }
}
