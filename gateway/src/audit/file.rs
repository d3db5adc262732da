//! The file of the audit log.
//!
//! Rotated by hand and not by a crate: those that there are rotate by size or by age and not by both, swallow what goes
//! wrong when they open the next file, and cannot be told that somebody else has moved the file away.
//!
//! Two processes write one file during a rolling restart. Lines are appended whole (`O_APPEND`), old files are named
//! by the time at which they were set aside, and by whom, and not by a number, and who finds another file under the name than the one
//! that it has open goes on with that.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// When a file is set aside, and how many of those are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Bytes of a file at most, rounded up to a batch of lines.
    pub bytes_max: u64,
    /// The longest time that a file is written to.
    pub age_max: Option<Duration>,
    /// Files that were set aside and are kept.
    pub keep: usize,
}

/// The open file.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    rules: Rules,
    /// None until the first line: a shard that unshares its descriptor table must not keep a copy, which would hold the
    /// disk space of a file that was removed.
    open: Option<Open>,
    /// The last line in it is cut short: what is written next begins on a line of its own.
    torn: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    bytes: u64,
    since: SystemTime,
    /// A file that can be set aside, not a device or a pipe.
    regular: bool,
}

/// What came of an attempt to write.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes that are in the file, whole lines only.
    pub bytes: usize,
    /// What stopped it.
    pub failed: Option<io::Error>,
}

impl AuditFile {
    /// Sees whether the file can be appended to, and makes it with mode 0600 if there is none.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn open(path: &Path, rules: Rules) -> io::Result<AuditFile> {
        drop(Open::at(path)?);
        Ok(AuditFile {
            path: path.to_owned(),
            rules,
            open: None,
            torn: false,
        })
    }

    /// Opens the file under the name anew. The one that is open stays if that fails.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.open = Some(Open::at(&self.path)?);
        self.torn = false;
        Ok(())
    }

    /// Follows the name if there is another file under it, or none.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn follow(&mut self) -> io::Result<()> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        match fs::metadata(&self.path) {
            Ok(found) if id(&found) == open.id => Ok(()),
            Ok(_) => self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen(),
            Err(error) => Err(error),
        }
    }

    /// Appends these lines, of which each ends in a line break.
    pub fn append(&mut self, lines: &[u8]) -> Written {
        if self.open.is_none()
            && let Err(error) = self.reopen()
        {
            return stopped(0, error);
        }
        let Some(open) = &mut self.open else {
            return stopped(0, io::ErrorKind::NotFound.into());
        };
        if self.torn {
            match open.file.write(b"\n") {
                Ok(1) => self.torn = false,
                Ok(_) => return stopped(0, io::ErrorKind::WriteZero.into()),
                Err(error) => return stopped(0, error),
            }
        }
        let mut done = 0;
        while done < lines.len() {
            match open.file.write(&lines[done..]) {
                Ok(0) => {
                    return cut(&mut self.torn, lines, done, io::ErrorKind::WriteZero.into());
                }
                Ok(count) => {
                    done += count;
                    open.bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return cut(&mut self.torn, lines, done, error),
            }
        }
        Written {
            bytes: done,
            failed: None,
        }
    }

    /// Sets the file aside if it is large or old enough. Returns whether it was.
    ///
    /// # Errors
    /// What the operating system said; it is written on then.
    pub fn rotate(&mut self, now: SystemTime) -> io::Result<bool> {
        let Some(open) = &self.open else {
            return Ok(false);
        };
        let old = |age_max| {
            now.duration_since(open.since)
                .is_ok_and(|age| age >= age_max)
        };
        let due = open.bytes >= self.rules.bytes_max || self.rules.age_max.is_some_and(old);
        if !due || open.bytes == 0 || !open.regular {
            return Ok(false);
        }
        if fs::metadata(&self.path).is_ok_and(|found| id(&found) != open.id) {
            // The other process was first.
            self.reopen()?;
            return Ok(false);
        }
        let mut at = now;
        let mut aside = self.aside(at);
        while aside.exists() {
            at += Duration::from_millis(1);
            aside = self.aside(at);
        }
        fs::rename(&self.path, &aside)?;
        let reopened = self.reopen();
        self.prune();
        reopened.map(|()| true)
    }

    fn aside(&self, at: SystemTime) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".");
        name.push(stamp(at));
        // Two processes may be at it in the same moment, and must not take each other's file.
        name.push(format!("-{}", std::process::id()));
        name.into()
    }

    /// Removes the oldest of those that were set aside.
    fn prune(&self) {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let names = fs::read_dir(folder).into_iter().flatten();
        let mut set_aside: Vec<_> = names
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.strip_prefix(&prefix).is_some_and(is_stamp))
            .collect();
        set_aside.sort_unstable();
        let surplus = set_aside.len().saturating_sub(self.rules.keep);
        for name in &set_aside[..surplus] {
            if let Err(error) = fs::remove_file(folder.join(name)) {
                tracing::warn!(%error, name, "cannot remove an old audit log");
            }
        }
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let found = file.metadata()?;
        Ok(Open {
            id: id(&found),
            bytes: found.len(),
            since: found
                .created()
                .or_else(|_| found.modified())
                .unwrap_or(SystemTime::now()),
            regular: found.is_file(),
            file,
        })
    }
}

fn id(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// A line that is not whole is written again.
fn cut(torn: &mut bool, lines: &[u8], done: usize, error: io::Error) -> Written {
    let whole = memchr::memrchr(b'\n', &lines[..done]).map_or(0, |at| at + 1);
    *torn |= whole != done;
    stopped(whole, error)
}

fn stopped(bytes: usize, error: io::Error) -> Written {
    Written {
        bytes,
        failed: Some(error),
    }
}

/// Sorts as time does: 20261122T045512.123Z. The process's id follows in a name.
fn stamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at)
        .to_string()
        .replace(['-', ':'], "")
}

fn is_stamp(text: &str) -> bool {
    let (text, process) = text.split_once('-').unwrap_or((text, "0"));
    !process.is_empty()
        && process.bytes().all(|byte| byte.is_ascii_digit())
        && text.len() == stamp(SystemTime::UNIX_EPOCH).len()
        && text.ends_with('Z')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"TZ.".contains(&byte))
}
