//! What dashboards get after their process was stopped (SIGSTOP) and goes on: first the backlog that had piled up in
//! socket buffers, then messages that the gateway made since. Those must hold each vehicle's newest position and skip
//! everything in between (conflation).

use serde::{Deserialize, Serialize};

use crate::checker::Counts;
use crate::clock::wall_ms;

/// A gap between two looks at the clock from which on this process counts as having been stopped: far longer than a
/// busy machine holds a process up.
const GAP_NS: u64 = 1_000_000_000;

/// What followed one stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// For how long nothing was read.
    pub stopped_ms: u64,
    /// Updates from messages that the gateway had made before.
    pub backlog: u64,
    /// Dashboards that got a message that the gateway made after.
    pub fresh: u64,
    /// Updates in the first such message of each.
    pub fresh_updates: u64,
    /// Updates that these first messages skipped.
    pub skipped: u64,
    /// How old the oldest position in them was when the gateway made the message.
    pub age_ms_max: u64,
}

impl Resumed {
    /// Adds what another process counted.
    pub fn add(&mut self, other: &Self) {
        self.stopped_ms = self.stopped_ms.max(other.stopped_ms);
        self.backlog += other.backlog;
        self.fresh += other.fresh;
        self.fresh_updates += other.fresh_updates;
        self.skipped += other.skipped;
        self.age_ms_max = self.age_ms_max.max(other.age_ms_max);
    }
}

/// Notices stops, and counts what follows each.
pub struct Resumptions {
    last_ns: u64,
    resumed_ms: u64,
    /// Per dashboard: nothing fresh came since the last stop.
    awaiting: Vec<bool>,
    found: Vec<Resumed>,
}

impl Resumptions {
    /// Of a process with so many dashboards.
    pub fn new(dashboards: usize) -> Self {
        Self {
            last_ns: u64::MAX,
            resumed_ms: 0,
            awaiting: vec![false; dashboards],
            found: Vec::new(),
        }
    }

    /// The run begins. What was before, waiting for others included, is no stop.
    pub fn begin(&mut self, now_ns: u64) {
        self.last_ns = now_ns;
        self.awaiting.fill(false);
        self.found.clear();
    }

    /// It is `now_ns`. To be called before anything that was read is looked at.
    #[inline]
    pub fn at(&mut self, now_ns: u64) {
        let gap_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        if gap_ns > GAP_NS {
            self.resumed(gap_ns, wall_ms());
        }
    }

    fn resumed(&mut self, gap_ns: u64, wall_ms: u64) {
        self.resumed_ms = wall_ms;
        self.awaiting.fill(true);
        self.found.push(Resumed {
            stopped_ms: gap_ns / 1_000_000,
            ..Resumed::default()
        });
    }

    /// Whether the next `Positions` of `dashboard` belongs to what is counted here.
    #[inline]
    pub fn awaits(&self, dashboard: usize) -> bool {
        self.awaiting[dashboard]
    }

    /// `dashboard` took a `Positions` that the gateway made at `encoded_ms` and whose oldest fix is of `oldest_ms`; the
    /// checker's counts before and after it.
    pub fn took(
        &mut self,
        dashboard: usize,
        encoded_ms: u64,
        oldest_ms: Option<u64>,
        before: &Counts,
        after: &Counts,
    ) {
        let Some(found) = self.found.last_mut() else {
            return;
        };
        let updates = after.delivered - before.delivered;
        if encoded_ms < self.resumed_ms {
            found.backlog += updates;
            return;
        }
        self.awaiting[dashboard] = false;
        found.fresh += 1;
        found.fresh_updates += updates;
        found.skipped += after.conflated.saturating_sub(before.conflated);
        let age_ms = oldest_ms.map_or(0, |oldest| encoded_ms.saturating_sub(oldest));
        found.age_ms_max = found.age_ms_max.max(age_ms);
    }

    /// What was found, per stop.
    pub fn take(&mut self) -> Vec<Resumed> {
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(delivered: u64, conflated: u64) -> Counts {
        Counts {
            delivered,
            conflated,
            ..Counts::default()
        }
    }

    #[test]
    fn backlog_and_the_first_fresh_message_are_told_apart() {
        let mut resumptions = Resumptions::new(2);
        let start_ns = 7 * GAP_NS;
        resumptions.begin(start_ns);
        resumptions.at(start_ns + GAP_NS / 2);
        assert!(!resumptions.awaits(0));
        resumptions.resumed(5_000_000_000, 100_000);
        assert!(resumptions.awaits(0) && resumptions.awaits(1));
        resumptions.took(0, 95_000, Some(94_990), &counts(0, 0), &counts(7, 2));
        resumptions.took(0, 100_010, Some(99_990), &counts(7, 2), &counts(9, 52));
        assert!(!resumptions.awaits(0) && resumptions.awaits(1));
        let expected = Resumed {
            stopped_ms: 5_000,
            backlog: 7,
            fresh: 1,
            fresh_updates: 2,
            skipped: 50,
            age_ms_max: 20,
        };
        assert_eq!(resumptions.take(), vec![expected]);
    }

    #[test]
    fn a_gap_in_time_is_a_stop() {
        let mut resumptions = Resumptions::new(1);
        resumptions.at(1);
        let start_ns = 7 * GAP_NS;
        resumptions.begin(start_ns);
        resumptions.at(start_ns + GAP_NS);
        assert!(!resumptions.awaits(0));
        resumptions.at(start_ns + 3 * GAP_NS);
        assert!(resumptions.awaits(0));
        assert_eq!(resumptions.take()[0].stopped_ms, 2_000);
    }
}
