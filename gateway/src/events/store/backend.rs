//! The file, as the library sees it.
//!
//! [`Disk`] is the file itself, and can be cut off: a handle that has failed can never write again, whatever is
//! dropped when. [`Overlay`] shows the file as it is and keeps what is written to itself, so that a store whose disk
//! takes nothing any more can still be opened and read.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use redb::StorageBackend;

#[cfg(test)]
use super::faults::Faults;

/// The file itself.
#[derive(Debug, Clone)]
pub struct Disk {
    pub file: Arc<File>,
    cut_off: Arc<AtomicBool>,
    #[cfg(test)]
    pub faults: Option<Arc<Faults>>,
}

impl Disk {
    pub fn new(file: File) -> Disk {
        Disk {
            file: Arc::new(file),
            cut_off: Arc::default(),
            #[cfg(test)]
            faults: None,
        }
    }

    /// From now on nothing is written through this or its clones.
    pub fn cut_off(&self) {
        self.cut_off.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.cut_off.load(Ordering::Acquire) {
            return Err(io::Error::other("this use of the file has ended"));
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    /// The library grows the file by whole pages and insists on them. Part of a page at the end is none.
    fn len(&self) -> io::Result<u64> {
        whole_pages(&self.file)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.set_len(len)?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.sync()?;
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            faults.write(offset, data)?;
        }
        self.file.write_all_at(data, offset)
    }
}

const PAGE: usize = 4096;
const PAGE_U64: u64 = PAGE as u64;

fn whole_pages(file: &File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    Ok(len - len % PAGE_U64)
}

/// The file as it is, and what was written over it, in memory. Opening writes a page or two, closing some more.
#[derive(Debug)]
pub struct Overlay {
    file: Arc<File>,
    len: AtomicU64,
    pages: Mutex<HashMap<u64, Box<[u8; PAGE]>>>,
}

impl Overlay {
    pub fn new(file: Arc<File>) -> io::Result<Overlay> {
        Ok(Overlay {
            len: AtomicU64::new(whole_pages(&file)?),
            file,
            pages: Mutex::default(),
        })
    }

    /// What the file has there, and zeros behind its end.
    fn below(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            match self.file.read_at(out, offset) {
                Ok(0) => {
                    out.fill(0);
                    break;
                }
                Ok(read) => {
                    out = &mut out[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Each page that a range touches: its number, the part of the page, and the part of the range.
fn touched(
    offset: u64,
    length: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= length {
            return None;
        }
        let position = offset + at as u64;
        let start = (position % PAGE_U64) as usize;
        let taken = (PAGE - start).min(length - at);
        let part = (position / PAGE_U64, start..start + taken, at..at + taken);
        at += taken;
        Some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Ordering::Acquire))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.below(offset, out)?;
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.is_empty() {
            return Ok(());
        }
        for (number, within, part) in touched(offset, out.len()) {
            if let Some(page) = pages.get(&number) {
                out[part].copy_from_slice(&page[within]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, within, part) in touched(offset, data.len()) {
            let page = match pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(place) => {
                    let mut page = Box::new([0; PAGE]);
                    self.below(number * PAGE_U64, page.as_mut_slice())?;
                    place.insert(page)
                }
            };
            page[within].copy_from_slice(&data[part]);
        }
        Ok(())
    }
}
