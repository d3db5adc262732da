//! What a dashboard with delivery `every` is owed: each position, in order per vehicle, up to a number of bytes. Beyond,
//! the oldest is dropped and counted, and the dashboard is told.

use std::collections::{HashMap, VecDeque};

use longhaul_codec::Fix;
use longhaul_filter_engine::{VehicleIndex, VehicleSet};
use roaring::RoaringBitmap;

/// Memory of one waiting position.
const FIX_BYTES: usize = size_of::<Fix>();

/// Positions that wait for one dashboard.
#[derive(Debug, Default)]
pub struct Every {
    queue: VecDeque<Fix>,
    /// The time of the last position of each vehicle that was queued or sent. A snapshot reads the table while newer
    /// positions are on their way, and a vehicle may change its shard: this keeps both in order.
    last: HashMap<u32, u64>,
    /// Positions dropped since the dashboard was last told.
    dropped: u64,
    /// Vehicles whose newest position was dropped: the last one is to arrive, whatever becomes of the others.
    owed: RoaringBitmap,
}

/// What a position from the table is to a dashboard that wants each one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing: it was queued or sent.
    None,
    /// The first of its vehicle.
    First,
    /// Newer than others of its vehicle, which may still wait.
    Newer,
}

impl Every {
    /// Queues a position. Returns how many had to be dropped for it.
    pub fn push(&mut self, fix: Fix, bytes_max: usize) -> u64 {
        if !self.advance(&fix) {
            return 0;
        }
        self.queue.push_back(fix);
        let before = self.dropped;
        while self.queue.len() * FIX_BYTES > bytes_max
            && let Some(dropped) = self.queue.pop_front()
        {
            self.dropped += 1;
            if self.last.get(&dropped.vehicle) == Some(&dropped.time_ms) {
                // It was the oldest that waited and is its vehicle's newest: nothing else of it waits.
                self.last.remove(&dropped.vehicle);
                self.owed.insert(dropped.vehicle);
            }
        }
        self.dropped - before
    }

    /// What a position that the table has is.
    pub fn news(&self, fix: &Fix) -> News {
        match self.last.get(&fix.vehicle) {
            None => News::First,
            Some(last) if fix.time_ms > *last => News::Newer,
            Some(_) => News::None,
        }
    }

    /// Vehicles whose last position has to be read from the table again.
    pub fn take_owed(&mut self) -> RoaringBitmap {
        std::mem::take(&mut self.owed)
    }

    /// Vehicles of which something waits.
    pub fn waiting(&self) -> RoaringBitmap {
        let queued: RoaringBitmap = self.queue.iter().map(|fix| fix.vehicle).collect();
        queued | &self.owed
    }

    /// Whether this is a vehicle's newest position yet: then it is taken for queued or sent.
    pub fn advance(&mut self, fix: &Fix) -> bool {
        let last = self.last.entry(fix.vehicle).or_default();
        if fix.time_ms <= *last {
            return false;
        }
        *last = fix.time_ms;
        true
    }

    /// Takes the oldest.
    pub fn take(&mut self, count: usize, into: &mut Vec<Fix>) {
        let count = count.min(self.queue.len());
        into.extend(self.queue.drain(..count));
        if self.queue.is_empty() {
            // An idle dashboard keeps no room.
            self.queue = VecDeque::new();
        }
    }

    /// How many positions were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.owed.is_empty() && self.dropped == 0
    }

    /// Forgets the vehicles that are no longer watched. One that is watched again begins with a new snapshot.
    pub fn retain(&mut self, watched: &VehicleSet) {
        self.queue
            .retain(|fix| watched.contains(VehicleIndex(fix.vehicle)));
        self.last
            .retain(|vehicle, _| watched.contains(VehicleIndex(*vehicle)));
        self.last.shrink_to_fit();
        if let VehicleSet::Some(watched) = watched {
            self.owed &= watched;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(vehicle: u32, time_ms: u64) -> Fix {
        Fix {
            vehicle,
            time_ms,
            ..Fix::default()
        }
    }

    fn taken(every: &mut Every, count: usize) -> Vec<(u32, u64)> {
        let mut fixes = Vec::new();
        every.take(count, &mut fixes);
        fixes.iter().map(|fix| (fix.vehicle, fix.time_ms)).collect()
    }

    #[test]
    fn each_comes_once_and_in_order() {
        let mut every = Every::default();
        for (vehicle, time_ms) in [(1, 10), (2, 5), (1, 11), (1, 11), (1, 9), (2, 6)] {
            every.push(fix(vehicle, time_ms), 1_000);
        }
        assert_eq!(taken(&mut every, 3), [(1, 10), (2, 5), (1, 11)]);
        assert!(
            !every.advance(&fix(1, 11)),
            "a snapshot that is no newer adds nothing"
        );
        assert!(every.advance(&fix(1, 12)));
        every.push(fix(1, 12), 1_000);
        assert_eq!(taken(&mut every, 9), [(2, 6)]);
        assert!(every.is_empty());
    }

    #[test]
    fn beyond_its_bytes_the_oldest_is_dropped_and_counted() {
        let mut every = Every::default();
        let dropped: u64 = (1..=10).map(|n| every.push(fix(1, n), 3 * FIX_BYTES)).sum();
        assert_eq!(
            (dropped, every.take_dropped(), every.take_dropped()),
            (7, 7, 0)
        );
        assert_eq!(taken(&mut every, 9), [(1, 8), (1, 9), (1, 10)]);
    }

    /// A quiet vehicle's last position must not be lost to a busy one.
    #[test]
    fn the_last_one_of_a_vehicle_is_owed_when_it_is_dropped() {
        let mut every = Every::default();
        every.push(fix(7, 1), 3 * FIX_BYTES);
        for n in 1..=4 {
            every.push(fix(1, n), 3 * FIX_BYTES);
        }
        assert_eq!(every.take_dropped(), 2);
        assert_eq!(every.waiting(), [1, 7].into_iter().collect());
        assert_eq!(every.take_owed(), [7].into_iter().collect(), "and not 1");
        assert_eq!(every.news(&fix(7, 1)), News::First);
        assert_eq!(every.news(&fix(1, 4)), News::None);
        assert_eq!(every.news(&fix(1, 5)), News::Newer);
        assert_eq!(taken(&mut every, 9), [(1, 2), (1, 3), (1, 4)]);
        assert!(every.is_empty());
    }

    #[test]
    fn what_is_no_longer_watched_is_forgotten() {
        let mut every = Every::default();
        every.push(fix(1, 10), 1_000);
        every.push(fix(2, 10), 1_000);
        every.retain(&VehicleSet::Some([2].into_iter().collect()));
        assert_eq!(taken(&mut every, 9), [(2, 10)]);
        assert!(every.advance(&fix(1, 10)) && !every.advance(&fix(2, 10)));
    }
}
