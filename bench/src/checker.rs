//! Checks every delivered update: is it allowed, known, intact, new, in order, and how late?

use hdrhistogram::Histogram;
use longhaul_codec::Fix;
use serde::{Deserialize, Serialize};

use crate::audience::{Audience, Filter};
use crate::job::{Percentiles, add_pairs, pairs};
use crate::schedule::{Identity, Plan};
use crate::seen::{Arrival, Table};

mod watching;

use watching::Watching;

/// What was delivered and how. Everything but `delivered`, `conflated`, `snapshot`, `frames` and `bytes` must stay 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Distinct vehicle updates that reached a dashboard that watches them.
    pub delivered: u64,
    /// Updates that were skipped because a newer one of the same vehicle was delivered.
    pub conflated: u64,
    /// Last known positions from before the run, or from outside of the time in which the dashboard watches.
    pub snapshot: u64,
    /// Updates that the filter does not allow.
    pub wrong: u64,
    /// Updates delivered more than once.
    pub duplicates: u64,
    /// Updates that came after a newer one of the same vehicle.
    pub out_of_order: u64,
    /// Updates that nobody sent, or that differ from what was sent.
    pub corrupted: u64,
    /// Updates whose index had not been given an id on this connection.
    pub unnamed: u64,
    /// `Positions` messages.
    pub frames: u64,
    /// Their bytes, WebSocket headers included.
    pub bytes: u64,
}

impl Counts {
    /// Adds what another process counted.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.conflated += other.conflated;
        self.snapshot += other.snapshot;
        self.wrong += other.wrong;
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.corrupted += other.corrupted;
        self.unnamed += other.unnamed;
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// When the run began, on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Monotonic clock, nanoseconds.
    pub start_ns: u64,
    /// Wall clock, milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

/// How soon things happened in a part of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// From due to received: microseconds and count.
    pub latency: Vec<(u64, u64)>,
    /// The longest, in nanoseconds.
    pub latency_max_ns: u64,
    /// From due to sent, in microseconds: how late the generator itself was.
    pub late: Vec<(u64, u64)>,
}

/// The latencies of some phases, all processes together.
///
/// # Errors
/// A histogram cannot be made (never, with these bounds).
pub fn phase_percentiles(
    processes: &[Vec<Phase>],
    phases: &[usize],
) -> anyhow::Result<Percentiles> {
    let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let mut max_ns = 0;
    for process in processes {
        for phase in phases.iter().filter_map(|&phase| process.get(phase)) {
            add_pairs(&mut latency, &phase.latency);
            max_ns = max_ns.max(phase.latency_max_ns);
        }
    }
    Ok(Percentiles::of(&latency, max_ns))
}

const NO_VEHICLE: u32 = u32::MAX;
/// Gateway indexes are dense; one beyond this is a fault, not a reason to allocate.
const INDEX_MAX: u32 = 64 << 20;

/// The checker of one process's dashboards.
pub struct Checker {
    /// What has been found so far.
    pub counts: Counts,
    /// Microseconds from due to received, of every `sample_every`-th update of this phase.
    pub latency_us: Histogram<u64>,
    /// The same, since they were last told.
    window_us: Histogram<u64>,
    /// The longest of this phase, not only of the sampled ones.
    pub latency_max_ns: u64,
    /// Per dashboard of this process: distinct updates delivered.
    pub delivered: Vec<u64>,
    /// Per dashboard: those, and updates that were skipped because a newer one came.
    pub accounted: Vec<u64>,
    epoch: Epoch,
    tables: Vec<Table>,
    watching: Vec<Watching>,
    by_index: Vec<u32>,
    sample_every: u32,
    until_sample: u32,
}

impl Checker {
    /// For the dashboards `mine` of `audience`. Every `sample_every`-th update's latency is recorded.
    ///
    /// # Errors
    /// The histogram cannot be made (never, with these bounds).
    pub fn new(audience: &Audience, mine: &[usize], sample_every: u32) -> anyhow::Result<Self> {
        let tables = mine
            .iter()
            .map(|&dashboard| match audience.filter(dashboard) {
                Filter::All => Table::all(audience.vehicles),
                Filter::Some(vehicles) => Table::some(&vehicles, audience.vehicles),
            })
            .collect();
        Ok(Self {
            counts: Counts::default(),
            latency_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            window_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            latency_max_ns: 0,
            delivered: vec![0; mine.len()],
            accounted: vec![0; mine.len()],
            watching: vec![Watching::ALWAYS; mine.len()],
            epoch: Epoch {
                start_ns: u64::MAX,
                wall_ms: u64::MAX,
            },
            tables,
            by_index: Vec::new(),
            sample_every: sample_every.max(1),
            until_sample: 1,
        })
    }

    /// The run begins. Updates received before it are snapshots.
    pub fn begin(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// `dashboard` is owed what is sent from now on, after so many sends of the run (`u64::MAX`: nothing yet). What it gets
    /// of before is a snapshot.
    pub fn watch_from(&mut self, dashboard: usize, sends: u64) {
        self.watching[dashboard] = Watching {
            since: sends,
            until: u64::MAX,
        };
    }

    /// `dashboard` is owed nothing that is sent from now on, after so many sends of the run.
    pub fn watch_until(&mut self, dashboard: usize, sends: u64) {
        self.watching[dashboard].until = sends;
    }

    /// Latencies up to here, from the last such call on.
    pub fn end_phase(&mut self) -> Phase {
        let phase = Phase {
            latency: pairs(&self.latency_us),
            latency_max_ns: std::mem::take(&mut self.latency_max_ns),
            late: Vec::new(),
        };
        self.latency_us.reset();
        phase
    }

    /// Latencies since the last such call: microseconds and count.
    pub fn end_window(&mut self) -> Vec<(u64, u64)> {
        let window = pairs(&self.window_us);
        self.window_us.reset();
        window
    }

    /// The gateway told a dashboard that `index` stands for `vehicle`. True if it is new to that dashboard and watched.
    ///
    /// # Errors
    /// The index is out of range, or stood for another vehicle before.
    pub fn name(&mut self, dashboard: usize, index: u32, vehicle: u32) -> Result<bool, NameError> {
        if index > INDEX_MAX {
            return Err(NameError::Range(index));
        }
        let at = index as usize;
        if at >= self.by_index.len() {
            self.by_index.resize(at + 1, NO_VEHICLE);
        }
        let known = self.by_index[at];
        if known != NO_VEHICLE && known != vehicle {
            return Err(NameError::Moved {
                index,
                was: known,
                now: vehicle,
            });
        }
        self.by_index[at] = vehicle;
        Ok(self.tables[dashboard]
            .get(vehicle)
            .is_some_and(crate::seen::Seen::name))
    }

    /// One `Positions` message of `bytes` bytes, received at `now_ns`.
    pub fn positions(
        &mut self,
        plan: &impl Plan,
        dashboard: usize,
        fixes: impl Iterator<Item = Fix>,
        bytes: usize,
        now_ns: u64,
    ) {
        self.counts.frames += 1;
        self.counts.bytes += bytes as u64;
        let before = self.counts;
        for fix in fixes {
            self.update(plan, dashboard, &fix, now_ns);
        }
        let after = &self.counts;
        self.delivered[dashboard] += after.delivered - before.delivered;
        // One that comes late was counted as conflated before: the sum never falls.
        self.accounted[dashboard] +=
            (after.delivered + after.conflated) - (before.delivered + before.conflated);
    }

    #[inline]
    fn update(&mut self, plan: &impl Plan, dashboard: usize, fix: &Fix, now_ns: u64) {
        let vehicle = self
            .by_index
            .get(fix.vehicle as usize)
            .copied()
            .unwrap_or(NO_VEHICLE);
        if vehicle == NO_VEHICLE {
            self.counts.unnamed += 1;
            return;
        }
        let Some(seen) = self.tables[dashboard].get(vehicle) else {
            self.counts.wrong += 1;
            return;
        };
        if !seen.is_named() {
            self.counts.unnamed += 1;
            seen.name();
        }
        let sequence = match plan.identify(vehicle, seen.last(), fix, self.epoch.wall_ms) {
            Identity::Sequence(sequence) => sequence,
            Identity::BeforeRun => {
                self.counts.snapshot += 1;
                return;
            }
            Identity::Unknown => {
                self.counts.corrupted += 1;
                return;
            }
        };
        let (behind, upto) = self.watching[dashboard].owed(plan, vehicle);
        let is_owed = sequence > behind && sequence <= upto;
        let last = seen.last();
        match seen.arrive(sequence) {
            Arrival::New { skipped } => {
                let owed = (sequence - 1).min(upto).saturating_sub(last.max(behind));
                self.counts.conflated += u64::from(skipped.min(owed));
                if !is_owed {
                    self.counts.snapshot += 1;
                    return;
                }
                self.counts.delivered += 1;
            }
            Arrival::Late => {
                self.counts.out_of_order += 1;
                if !is_owed {
                    return;
                }
                self.counts.delivered += 1;
                self.counts.conflated = self.counts.conflated.saturating_sub(1);
            }
            Arrival::Duplicate => {
                self.counts.duplicates += 1;
                return;
            }
        }
        let due_ns = self.epoch.start_ns + plan.due_ns(vehicle, sequence);
        let latency_ns = now_ns.saturating_sub(due_ns);
        self.latency_max_ns = self.latency_max_ns.max(latency_ns);
        self.until_sample -= 1;
        if self.until_sample == 0 {
            self.until_sample = self.sample_every;
            self.latency_us.saturating_record(latency_ns / 1_000);
            self.window_us.saturating_record(latency_ns / 1_000);
        }
    }

    /// One in how many latencies is recorded.
    pub fn sample_every(&self) -> u32 {
        self.sample_every
    }

    /// Whether `dashboard` watches `vehicle`.
    pub fn watches(&mut self, dashboard: usize, vehicle: u32) -> bool {
        self.tables[dashboard].get(vehicle).is_some()
    }
}

/// A `Names` message that contradicts itself or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Indexes are dense.
    #[error("index {0} is far beyond any fleet")]
    Range(u32),
    /// An index stands for one vehicle as long as the gateway runs.
    #[error("index {index} stood for vehicle number {was} and now for {now}")]
    Moved {
        /// The index.
        index: u32,
        /// The vehicle that it stood for.
        was: u32,
        /// The vehicle that it is now said to stand for.
        now: u32,
    },
}

#[cfg(test)]
mod tests;
