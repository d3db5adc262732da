//! What other processes left or hand over: at the start, before anybody can connect, and later.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    apply::{Expected, Rules, Taken, apply},
    file::{Checked, FileError, Header, Kind},
    folder::Folder,
};
use crate::{fleet::Fleet, limits::Limits, metrics::StateMetrics};

/// What a keeper works with.
#[derive(Debug)]
pub struct Keeping {
    /// Where files are.
    pub folder: Arc<Folder>,
    /// What is kept.
    pub fleet: Arc<Fleet>,
    /// What there is room for.
    pub limits: Limits,
    /// How often a snapshot is written.
    pub snapshot_every: Duration,
    /// What is counted.
    pub metrics: Arc<StateMetrics>,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) unix_ms: u64,
}

impl Now {
    pub(super) fn read() -> Now {
        Now {
            at: Instant::now(),
            unix_ms: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64),
        }
    }
}

/// Puts what earlier and draining processes left into the empty tables. Nobody may be connected yet.
pub fn load(keeping: Keeping) -> Loaded {
    load_at(keeping, Now::read())
}

pub(super) fn load_at(keeping: Keeping, now: Now) -> Loaded {
    let mut loaded = Loaded {
        taken: Taken::default(),
        inner: Inner {
            keeping,
            assumed_since_ms: 0,
            expected: Vec::new(),
            set_aside: HashSet::new(),
        },
    };
    let (inner, taken) = (&mut loaded.inner, &mut loaded.taken);
    inner.take_all(now, true, taken);
    inner.keeping.metrics.restored.set(taken.positions);
    let registry = &inner.keeping.fleet.registry;
    let known: u32 = (0..registry.fleets())
        .map(|fleet| registry.fleet_size(FleetId(fleet)))
        .sum();
    tracing::info!(
        folder = %inner.keeping.folder.path().display(),
        vehicles = known,
        skipped = taken.skipped,
        "state restored"
    );
    loaded
}

/// The tables have what was left for them.
#[derive(Debug)]
pub struct Loaded {
    /// What was found.
    pub(super) taken: Taken,
    pub(super) inner: Inner,
}

/// What loading and keeping have in common.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) keeping: Keeping,
    /// See [`Rules::assumed_since_ms`].
    assumed_since_ms: u64,
    /// Whom to give up, and when.
    pub(super) expected: Vec<(Instant, Expected)>,
    /// Files that are done with and could not be put away.
    pub(super) set_aside: HashSet<PathBuf>,
}

impl Inner {
    /// Takes what others left, and tells nobody: there are no shards yet, or no more.
    pub(super) fn take_all(&mut self, now: Now, snapshot: bool, taken: &mut Taken) {
        for (path, file) in self.open_all(snapshot) {
            self.take(&path, file, now, taken, &|_, _, _| {});
        }
    }

    /// Opens all files under one lock: what a process that is about to end writes and removes, it does under the same.
    fn open_all(&self, snapshot: bool) -> Vec<(PathBuf, io::Result<File>)> {
        let folder = &self.keeping.folder;
        let turn = folder.turn();
        if let Err(error) = &turn {
            tracing::warn!(
                "reading {} without its lock: {error}",
                folder.path().display()
            );
        }
        let handovers = folder.handovers_of_others().unwrap_or_else(|error| {
            tracing::error!("cannot list {}: {error}", folder.path().display());
            Vec::new()
        });
        let snapshot = snapshot.then(|| folder.snapshot());
        snapshot
            .into_iter()
            .chain(handovers)
            .filter(|path| !self.set_aside.contains(path))
            .map(|path| {
                let file = File::open(&path);
                (path, file)
            })
            .collect()
    }

    /// Takes a file and, if it is a handover, removes it. Returns whether it says who was connected.
    pub(super) fn take(
        &mut self,
        path: &Path,
        file: io::Result<File>,
        now: Now,
        total: &mut Taken,
        announce: &impl Fn(FleetId, &[VehicleIndex], &[VehicleIndex]),
    ) -> bool {
        let checked = match file.map_err(FileError::Io).and_then(Checked::check) {
            // There is no snapshot yet, or another process was faster.
            Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => return false,
            // Nothing is wrong with the file.
            Err(FileError::Io(error)) => {
                tracing::error!(
                    "cannot read {}: {error}; it is left where it is",
                    path.display()
                );
                self.set_aside.insert(path.to_owned());
                return false;
            }
            Err(why) => {
                self.refuse(path, &why);
                return false;
            }
            Ok(checked) => checked,
        };
        let Header {
            kind,
            written_ms,
            expect_until_ms,
            ..
        } = checked.header;
        let Keeping {
            fleet,
            limits,
            metrics,
            ..
        } = &self.keeping;
        let rules = Rules {
            now_ms: now.unix_ms,
            expect: expect_until_ms > now.unix_ms,
            assumed_since_ms: self.assumed_since_ms,
        };
        let (taken, expected) = match apply(checked, rules, fleet, limits, announce) {
            Ok(done) => done,
            Err(why) => {
                self.refuse(path, &why);
                return false;
            }
        };
        metrics.skipped.add(taken.skipped);
        if taken.skipped > 0 && total.skipped == 0 {
            tracing::warn!(
                "{} has {} vehicles that this node has no room for; see limits.vehicles_max, limits.fleets_max and the \
                 limits on ids",
                path.display(),
                taken.skipped
            );
        }
        total.vehicles += taken.vehicles;
        total.positions += taken.positions;
        total.skipped += taken.skipped;
        match kind {
            Kind::Snapshot => self.assumed_since_ms = written_ms,
            Kind::Handover => {
                metrics.handover_positions.add(taken.positions);
                let come_within = expect_until_ms.saturating_sub(now.unix_ms);
                if !expected.is_empty() {
                    self.expected
                        .push((now.at + Duration::from_millis(come_within), expected));
                }
                self.remove(path);
            }
        }
        expect_until_ms != 0
    }

    fn refuse(&mut self, path: &Path, why: &FileError) {
        self.keeping.metrics.files_refused.inc();
        if !self.keeping.folder.refuse(path, why) {
            self.set_aside.insert(path.to_owned());
        }
    }

    pub(super) fn remove(&mut self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::error!(
                    "cannot remove {}, which is done with: {error}",
                    path.display()
                );
                self.set_aside.insert(path.to_owned());
            }
            _ => {}
        }
    }
}
