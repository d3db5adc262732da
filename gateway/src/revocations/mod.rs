//! Keeps the list of revocations: where it comes from, where it is kept, and who is told.
//!
//! It has two sources: a file that the operator writes (`auth.revocations`), and calls to the control plane, which are
//! kept in the state folder. Both files are watched, so that a process hears of what another one was told: during a
//! rolling restart, there are two.
//!
//! What is in force is a snapshot in [`Trust`], which every upgrade is held against. When an entry is added, the snapshot
//! is exchanged *first*, and *then* every shard gets a letter with what is new. A shard lets somebody in within one step
//! of its own. So whoever it let in by the old snapshot is there when it takes the letter.
//!
//! - `revocations/load.rs`: what there is at the start
//! - `revocations/source.rs`: a watched file
//! - `session/revocation.rs`: what an entry means
//! - `shard/purge.rs`: how a shard closes those who are hit
#![forbid(unsafe_code)]

mod load;
mod source;

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

pub use self::load::{Loaded, RevocationsError, load};
use self::source::Source;
use crate::{
    audit::unix_ms,
    limits::PURGES_OWED_MAX,
    metrics::RevocationMetrics,
    session::{
        close,
        revocation::{Entry, Revocation, Revocations, Whom},
        trust::Trust,
    },
    shard::{
        inbox::{Inbox, Letter},
        purge::Purge,
    },
    state::Folder,
};

/// The file in the state folder.
const KEPT: &str = "revocations.jsonl";
/// How often the files are looked at. A file counts once it is the same twice, so that nobody reads half a copy.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long to wait for room in a shard's inbox before the letter waits for the next look.
const POST_WITHIN: Duration = Duration::from_millis(100);

/// Why a call was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no room.
    #[error(
        "there are as many revocations as there may be (limits.revocations_max = {0}); remove some"
    )]
    Full(usize),
    /// It could not be written, and is not in force.
    #[error("it could not be kept in the state folder, and is not in force: {0}")]
    Write(#[from] io::Error),
    /// There is none.
    #[error("there is no such entry")]
    Unknown,
    /// Who may do more has made it.
    #[error("an operator of the whole node has made this entry, and your token is for one fleet")]
    NodeWide,
    /// It is the operator's file's.
    #[error("this entry stands in the file of auth.revocations; remove it there")]
    InFile,
}

/// The keeper, shared by its thread and the control plane.
#[derive(Debug)]
pub struct Keeper {
    trust: Arc<Trust>,
    inboxes: Arc<[Arc<Inbox>]>,
    folder: Option<Arc<Folder>>,
    max: usize,
    metrics: Arc<RevocationMetrics>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    watched: Option<Source>,
    kept: Source,
    /// Letters that found a shard's inbox full.
    owed: VecDeque<(usize, Arc<Purge>)>,
}

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The operator's file.
    File,
    /// A call.
    Call,
}

/// The running thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    _stop: Sender<()>,
}

impl Keeper {
    /// Puts the list in force.
    pub fn new(
        loaded: Loaded,
        trust: Arc<Trust>,
        inboxes: Arc<[Arc<Inbox>]>,
        metrics: Arc<RevocationMetrics>,
    ) -> Arc<Keeper> {
        let keeper = Arc::new(Keeper {
            trust,
            inboxes,
            folder: loaded.folder,
            max: loaded.max,
            metrics,
            inner: Mutex::new(Inner {
                watched: loaded.watched,
                kept: loaded.kept,
                owed: VecDeque::new(),
            }),
        });
        keeper.put_in_force(&mut keeper.lock());
        keeper
    }

    /// Begins to watch the files.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn watch(self: &Arc<Keeper>) -> io::Result<Watch> {
        let (stop, stopped) = channel::<()>();
        let keeper = Arc::clone(self);
        thread::Builder::new()
            .name("longhaul-revoke".to_owned())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK_EVERY) {
                    keeper.look();
                }
            })?;
        Ok(Watch { _stop: stop })
    }

    /// Whether what calls say survives a restart.
    pub fn is_durable(&self) -> bool {
        self.folder.is_some()
    }

    /// Puts an entry in force, and closes whom it hits. One that is there already is only made stricter. Returns what is in
    /// force, when it is kept, if it can be.
    ///
    /// # Errors
    /// There is no room, or it cannot be written: it is not in force then.
    pub fn add(&self, mut revocation: Revocation) -> Result<Revocation, KeepError> {
        self.change(|entries| {
            let now = unix_ms() / 1_000;
            if let Some(at) = entries
                .iter()
                .position(|other| other.whom == revocation.whom)
            {
                let before = entries.swap_remove(at);
                if before.terms.until.is_none_or(|until| until > now) {
                    let fresh = std::mem::replace(&mut revocation.terms, before.terms);
                    revocation.terms.merge(fresh);
                }
            }
            entries.push(revocation.clone());
            Ok(revocation)
        })
    }

    /// Takes an entry back. `node_wide`: an operator of the whole node asks for it.
    ///
    /// # Errors
    /// There is none that came by a call, it is not the operator's to take back, or it cannot be written: it is in force
    /// then.
    pub fn remove(&self, whom: &Whom, node_wide: bool) -> Result<(), KeepError> {
        let in_file = {
            let inner = self.lock();
            let watched = inner.watched.iter().flat_map(|source| &source.entries);
            watched.into_iter().any(|entry| entry.whom == *whom)
        };
        self.change(|entries| {
            let before = entries.len();
            let mut of_it = entries.iter().filter(|other| other.whom == *whom);
            if !node_wide && of_it.any(|other| other.terms.node_wide) {
                return Err(KeepError::NodeWide);
            }
            entries.retain(|other| other.whom != *whom);
            match (entries.len() < before, in_file) {
                (true, _) => Ok(()),
                (false, true) => Err(KeepError::InFile),
                (false, false) => Err(KeepError::Unknown),
            }
        })
    }

    /// Every entry, sorted, with where it comes from.
    pub fn list(&self) -> Vec<(Revocation, Origin)> {
        let inner = self.lock();
        let watched = inner.watched.iter().flat_map(|source| &source.entries);
        let mut all: Vec<_> = watched
            .map(|entry| (entry.clone(), Origin::File))
            .chain(
                inner
                    .kept
                    .entries
                    .iter()
                    .map(|entry| (entry.clone(), Origin::Call)),
            )
            .collect();
        all.sort_by(|(one, _), (other, _)| one.whom.cmp(&other.whom));
        all
    }

    /// Reads both files now.
    ///
    /// # Errors
    /// What is wrong with one; the list is as it was.
    pub fn reload(&self) -> Result<String, String> {
        let mut inner = self.lock();
        let Inner { watched, kept, .. } = &mut *inner;
        let mut outcome = Ok(());
        for source in watched.iter_mut().chain([kept]) {
            let read = source.reload();
            outcome = outcome.and(read.map_err(|error| {
                let path = source.path().unwrap_or(Path::new(""));
                format!("{}: {error}", path.display())
            }));
        }
        self.put_in_force(&mut inner);
        outcome?;
        Ok(format!(
            "{} entries are in force",
            self.trust.revocations().len()
        ))
    }

    /// Closes connections now, and forgets about it: whoever is closed may come back.
    pub fn evict(&self, whom: Whom) {
        let purge = Purge {
            close: close::EVICTED,
            whom: vec![(whom, u64::MAX)],
        };
        self.tell(&mut self.lock(), Arc::new(purge));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is made on a copy, and put in place whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what came by calls: in the state folder first, with whatever another process has put there.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Revocation>) -> Result<T, KeepError>,
    ) -> Result<T, KeepError> {
        let mut inner = self.lock();
        let turn = self
            .folder
            .as_ref()
            .map(|folder| folder.turn())
            .transpose()?;
        // A file that cannot be read is not written over.
        inner
            .kept
            .reload()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut entries = inner.kept.entries.clone();
        let done = change(&mut entries)?;
        let now = unix_ms() / 1_000;
        entries.retain(|entry| entry.terms.until.is_none_or(|until| until > now));
        let watched = inner
            .watched
            .as_ref()
            .map_or(0, |source| source.entries.len());
        if entries.len() + watched > self.max && entries.len() >= inner.kept.entries.len() {
            self.metrics.limit_hits.inc();
            return Err(KeepError::Full(self.max));
        }
        if let Some(folder) = &self.folder {
            folder.replace(KEPT, &lines(&entries))?;
            inner.kept.reload().map_err(io::Error::other)?;
        } else {
            inner.kept.entries = entries;
        }
        drop(turn);
        self.put_in_force(&mut inner);
        Ok(done)
    }

    /// One look at the files, and at what is over.
    fn look(&self) {
        let mut inner = self.lock();
        let Inner { watched, kept, .. } = &mut *inner;
        let mut changed = false;
        for source in watched.iter_mut().chain([kept]) {
            match source.look() {
                Ok(read) => changed |= read,
                Err(error) => {
                    self.metrics.errors.inc();
                    let path = source.path().unwrap_or(Path::new(""));
                    tracing::error!(
                        %error,
                        "cannot use the list of revoked tokens {}: what it said before stays in force",
                        path.display()
                    );
                }
            }
        }
        let now = unix_ms() / 1_000;
        if changed || self.trust.revocations().has_ended(now) {
            self.put_in_force(&mut inner);
        }
        for (shard, purge) in std::mem::take(&mut inner.owed) {
            self.post(&mut inner, shard, purge);
        }
        let broken = |source: &Source| u64::from(source.is_broken());
        self.metrics
            .broken
            .set(broken(&inner.kept) + inner.watched.as_ref().map_or(0, broken));
    }

    /// Exchanges the snapshot, and then tells every shard what is new.
    fn put_in_force(&self, inner: &mut Inner) {
        let watched = inner.watched.iter().flat_map(|source| &source.entries);
        let entries = watched.chain(&inner.kept.entries).cloned();
        let list = Revocations::new(entries, unix_ms() / 1_000);
        let fresh = list.beyond(&self.trust.revocations());
        self.metrics.entries.set(list.len() as u64);
        self.trust.revoke(list);
        if !fresh.is_empty() {
            let purge = Purge {
                close: close::REVOKED,
                whom: fresh,
            };
            self.tell(inner, Arc::new(purge));
        }
    }

    fn tell(&self, inner: &mut Inner, purge: Arc<Purge>) {
        for shard in 0..self.inboxes.len() {
            self.post(inner, shard, Arc::clone(&purge));
        }
    }

    /// Delivers a letter, or keeps it until there is room.
    fn post(&self, inner: &mut Inner, shard: usize, purge: Arc<Purge>) {
        let by = Instant::now() + POST_WITHIN;
        let inbox = &self.inboxes[shard];
        // Letters stay in order.
        let mut waits = inner.owed.iter().any(|(other, _)| *other == shard);
        while !waits && inbox.post(Letter::Purge(Arc::clone(&purge))).is_err() {
            waits = Instant::now() >= by;
            thread::sleep(Duration::from_millis(1));
        }
        if waits {
            self.metrics.limit_hits.inc();
            if inner.owed.len() < PURGES_OWED_MAX {
                inner.owed.push_back((shard, purge));
            } else {
                tracing::error!(
                    shard,
                    "a shard takes no letters; connections with a revoked token may still be open there"
                );
            }
        }
    }
}

/// As they stand in a file.
fn lines(entries: &[Revocation]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        // Strings and numbers into memory: nothing in it can fail.
        if serde_json::to_writer(&mut out, &Entry::from(entry)).is_ok() {
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests;
