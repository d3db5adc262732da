//! Reads records while others are written.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use redb::{ReadOnlyTable, ReadableDatabase};

use super::{
    LogFleet, StoreError, block,
    error::{Trouble, guarded},
    handle::{Handle, Shared},
    tables::{self, FLEETS, FleetRow, LOG},
};

/// How long a reader that met a failed write waits for the store to become readable again, which takes milliseconds.
const CHANGE_WITHIN: Duration = Duration::from_secs(2);
/// How often it looks.
const CHANGE_STEP: Duration = Duration::from_millis(2);

/// Reads what is stored, from any thread.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) path: Arc<PathBuf>,
}

/// How far a read went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOutcome {
    /// The first sequence of the fleet that is kept; one more than the highest if there is none. If it is greater than
    /// what was asked for, there is a gap.
    pub first: u64,
    /// The last sequence that was given. If nothing was given: the one before the first that could have been.
    pub last: u64,
}

/// What is to be read, and what has been so far.
#[derive(Debug)]
struct Progress {
    next: u64,
    through: u64,
    records_left: usize,
    bytes_left: usize,
}

/// What takes the records of a read: sequence, when it was received in milliseconds since the Unix epoch, and its bytes.
pub type Each<'a> = &'a mut dyn FnMut(u64, u64, &[u8]) -> ControlFlow<()>;

impl Reader {
    /// Records from `from` up to and including `through`, in order, at most `records_max` and about `bytes_max` bytes,
    /// but at least one, each given to `each(sequence, received_ms, bytes)`, which may stop early. It must not wait for
    /// the thread that writes: a store that is being opened again waits for its readers.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] says where to go on if records in between are damaged; those before were given.
    pub fn read(
        &self,
        fleet: LogFleet,
        from: u64,
        through: u64,
        records_max: usize,
        bytes_max: usize,
        each: Each<'_>,
    ) -> Result<ReadOutcome, StoreError> {
        let mut progress = Progress {
            next: from.max(1),
            through,
            records_left: records_max.max(1),
            bytes_left: bytes_max,
        };
        let deadline = Instant::now() + CHANGE_WITHIN;
        loop {
            let current = self.shared.current();
            let Some(handle) = &*current else {
                return Err(self.failed());
            };
            let generation = handle.generation;
            match pass(handle, fleet.0, &mut progress, each) {
                Ok(outcome) => return Ok(outcome),
                // A write has failed, and whoever writes is about to put something readable in its place.
                Err(trouble) if trouble.is_consequence() && Instant::now() < deadline => {
                    drop(current);
                    self.wait_for_change(generation, deadline);
                }
                Err(trouble) => {
                    let resume = behind(handle, fleet.0, progress.next);
                    return Err(match trouble.at(&self.path) {
                        StoreError::Corrupt { path, what, .. } => {
                            StoreError::Corrupt { path, what, resume }
                        }
                        other => other,
                    });
                }
            }
        }
    }

    fn wait_for_change(&self, generation: u64, deadline: Instant) {
        let same = || {
            let current = self.shared.current();
            current
                .as_ref()
                .is_some_and(|handle| handle.generation == generation)
        };
        while same() && Instant::now() < deadline {
            thread::sleep(CHANGE_STEP);
        }
    }

    fn failed(&self) -> StoreError {
        StoreError::Failed {
            path: self.path.to_path_buf(),
        }
    }
}

type Log = ReadOnlyTable<(u32, u64), &'static [u8]>;

/// The log and the fleet's summary, as of now. `None`: there is no such fleet.
fn begin(handle: &Handle, fleet: u32) -> Result<Option<(Log, FleetRow)>, Trouble> {
    let txn = handle.database.begin_read()?;
    let fleets = txn.open_table(FLEETS)?;
    let Some(sealed) = fleets.get(fleet)? else {
        return Ok(None);
    };
    let row = tables::decode("fleets", &fleet, sealed.value())?;
    Ok(Some((txn.open_table(LOG)?, row)))
}

fn pass(
    handle: &Handle,
    fleet: u32,
    progress: &mut Progress,
    each: Each<'_>,
) -> Result<ReadOutcome, Trouble> {
    let Some((log, row)) = guarded(|| begin(handle, fleet))? else {
        return Ok(ReadOutcome { first: 1, last: 0 });
    };
    progress.next = progress.next.max(row.first);
    let through = progress.through.min(row.last);
    let outcome = |progress: &Progress| ReadOutcome {
        first: row.first,
        last: progress.next - 1,
    };
    if progress.next > through {
        return Ok(outcome(progress));
    }
    let begins = guarded(|| {
        let mut before = log.range((fleet, row.first)..=(fleet, progress.next))?;
        let block = before.next_back().transpose()?;
        block
            .map(|(key, _)| key.value().1)
            .ok_or_else(|| Trouble::damaged("records are missing"))
    })?;
    let mut blocks = guarded(|| Ok(log.range((fleet, begins)..=(fleet, through))?))?;
    let mut expected = begins;
    while let Some((key, block)) = guarded(|| Ok(blocks.next().transpose()?))? {
        let first = key.value().1;
        if first != expected {
            return Err(Trouble::damaged(format!(
                "the records from {expected} to {} are missing",
                first - 1
            )));
        }
        for record in block::records(fleet, first, block.value())? {
            let (sequence, received_ms, bytes) = record?;
            expected = sequence + 1;
            if sequence < progress.next {
                continue;
            }
            if sequence > through {
                return Ok(outcome(progress));
            }
            progress.next = sequence + 1;
            progress.records_left -= 1;
            progress.bytes_left = progress.bytes_left.saturating_sub(bytes.len());
            let flow = each(sequence, received_ms, bytes);
            if flow.is_break() || progress.records_left == 0 || progress.bytes_left == 0 {
                return Ok(outcome(progress));
            }
        }
    }
    if progress.next <= through {
        return Err(Trouble::damaged(format!(
            "the records from {} to {through} are missing",
            progress.next
        )));
    }
    Ok(outcome(progress))
}

/// Where the first block behind a damaged one begins.
fn behind(handle: &Handle, fleet: u32, at: u64) -> Option<u64> {
    guarded(|| {
        let Some((log, _)) = begin(handle, fleet)? else {
            return Ok(None);
        };
        let mut after = log.range((fleet, at.saturating_add(1))..=(fleet, u64::MAX))?;
        Ok(after.next().transpose()?.map(|(key, _)| key.value().1))
    })
    .unwrap_or(None)
}
