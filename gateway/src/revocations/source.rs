//! A file of entries that is watched: one JSON object a line, or one JSON array.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    limits::REVOCATION_FILE_BYTES_MAX,
    session::{
        revocation::{Entry, EntryError, Revocation},
        token::IdBounds,
    },
};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is too large.
    #[error("it has more than {REVOCATION_FILE_BYTES_MAX} bytes")]
    TooLarge,
    /// It has too many entries.
    #[error("it has more entries than limits.revocations_max = {0}")]
    TooMany(usize),
    /// It is no JSON of entries.
    #[error("line {line}: {source}")]
    Json {
        /// Which, from 1 on.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// An entry means nothing.
    #[error("entry {entry}: {source}")]
    Entry {
        /// Which, from 1 on.
        entry: usize,
        /// What is wrong.
        source: EntryError,
    },
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &fs::Metadata) -> Stamp {
        Stamp {
            inode: found.ino(),
            bytes: found.len(),
            // Of the inode: that of the content can be set to anything.
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// A watched file.
#[derive(Debug)]
pub struct Source {
    /// None: a list that is in memory only.
    path: Option<PathBuf>,
    /// No file is no entry.
    optional: bool,
    bounds: IdBounds,
    max: usize,
    /// What it said when it could last be used.
    pub entries: Vec<Revocation>,
    /// How the file was when it was last read, with what came of it.
    read: Option<Stamp>,
    broken: bool,
    /// How the file was at the last look.
    seen: Option<Stamp>,
}

impl Source {
    /// A list in memory.
    pub fn none(bounds: IdBounds, max: usize) -> Source {
        Source {
            path: None,
            optional: true,
            bounds,
            max,
            entries: Vec::new(),
            read: None,
            broken: false,
            seen: None,
        }
    }

    /// A file that must be there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path, bounds: IdBounds, max: usize) -> Result<Source, SourceError> {
        let mut source = Source {
            path: Some(path.to_owned()),
            optional: false,
            ..Source::none(bounds, max)
        };
        source.reload()?;
        Ok(source)
    }

    /// A file that need not be there.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_if_any(path: &Path, bounds: IdBounds, max: usize) -> Result<Source, SourceError> {
        let mut source = Source {
            path: Some(path.to_owned()),
            ..Source::none(bounds, max)
        };
        source.reload()?;
        Ok(source)
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether the file cannot be used, so that what it said before counts.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Reads the file if it has changed and was the same at two looks. Returns whether it did.
    ///
    /// # Errors
    /// What is wrong with it, once for each state of the file; what it said before stays.
    pub fn look(&mut self) -> Result<bool, SourceError> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        let now = fs::metadata(path).ok().map(|found| Stamp::of(&found));
        let settled = std::mem::replace(&mut self.seen, now) == now;
        if !settled || now == self.read {
            return Ok(false);
        }
        let outcome = self.reload();
        if outcome.is_err() {
            // Said once; it is read again when it changes again.
            (self.read, self.seen) = (now, now);
        }
        outcome.map(|()| true)
    }

    /// Reads the file now.
    ///
    /// # Errors
    /// What is wrong with it; what it said before stays.
    pub fn reload(&mut self) -> Result<(), SourceError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let read = match File::open(path) {
            Ok(file) => {
                self.read = file.metadata().ok().map(|found| Stamp::of(&found));
                read_all(file).and_then(|text| parse(&text, self.bounds, self.max))
            }
            Err(error) => {
                self.read = None;
                match error.kind() {
                    io::ErrorKind::NotFound if self.optional => Ok(Vec::new()),
                    _ => Err(error.into()),
                }
            }
        };
        self.seen = self.read;
        self.broken = read.is_err();
        self.entries = read?;
        Ok(())
    }
}

fn read_all(file: File) -> Result<Vec<u8>, SourceError> {
    let mut content = Vec::new();
    file.take(REVOCATION_FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > REVOCATION_FILE_BYTES_MAX {
        return Err(SourceError::TooLarge);
    }
    Ok(content)
}

fn parse(content: &[u8], bounds: IdBounds, max: usize) -> Result<Vec<Revocation>, SourceError> {
    let text = content.trim_ascii_start();
    let entries: Vec<Entry> = if text.first() == Some(&b'[') {
        serde_json::from_slice(text).map_err(|source| SourceError::Json {
            line: source.line(),
            source,
        })?
    } else {
        let lines = content.split(|&byte| byte == b'\n').enumerate();
        lines
            .filter(|(_, line)| !line.trim_ascii().is_empty())
            .map(|(at, line)| {
                serde_json::from_slice(line).map_err(|source| SourceError::Json {
                    line: at + 1,
                    source,
                })
            })
            .collect::<Result<_, _>>()?
    };
    if entries.len() > max {
        return Err(SourceError::TooMany(max));
    }
    let read = |(at, entry): (usize, Entry)| {
        entry
            .read(None, bounds)
            .map_err(|source| SourceError::Entry {
                entry: at + 1,
                source,
            })
    };
    entries.into_iter().enumerate().map(read).collect()
}
