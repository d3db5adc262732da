//! What one dashboard got of the log, checked one by one: nothing is missing, nothing is out of order, and what comes
//! twice says so. Knows no socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Distinct events.
    pub events: u64,
    /// Events that had come before, and said so.
    pub redelivered: u64,
    /// Events that had come before, and did not say so.
    pub duplicates: u64,
    /// Numbers of the log that were skipped. A dashboard of the whole fleet gets all of them.
    pub holes: u64,
    /// Events that are not the next of their vehicle.
    pub misplaced: u64,
    /// The last number.
    pub sequence: u64,
    /// By vehicle: the first message id, and how many there were.
    pub vehicles: BTreeMap<u32, (u64, u64)>,
}

impl Journal {
    /// One that begins behind `sequence`; none: with whatever comes first.
    pub fn behind(sequence: Option<u64>) -> Self {
        Self {
            sequence: sequence.unwrap_or(0),
            ..Self::default()
        }
    }

    /// An event.
    pub fn take(&mut self, vehicle: u32, message_id: u64, sequence: u64, redelivered: bool) {
        if sequence <= self.sequence {
            if redelivered {
                self.redelivered += 1;
            } else {
                self.duplicates += 1;
            }
            return;
        }
        if self.sequence > 0 {
            self.holes += sequence - self.sequence - 1;
        }
        self.sequence = sequence;
        self.events += 1;
        let (first, count) = self.vehicles.entry(vehicle).or_insert((message_id, 0));
        self.misplaced += u64::from(message_id != *first + *count);
        *count += 1;
    }

    /// The whole of what came before and now, of a dashboard that went on where it was.
    pub fn behind_all_of(&self, before: &Self) -> Self {
        let mut whole = Self {
            events: self.events + before.events,
            redelivered: self.redelivered + before.redelivered,
            duplicates: self.duplicates + before.duplicates,
            holes: self.holes + before.holes,
            misplaced: self.misplaced + before.misplaced,
            sequence: self.sequence,
            vehicles: before.vehicles.clone(),
        };
        for (&vehicle, &(first, count)) in &self.vehicles {
            let (began, known) = whole.vehicles.entry(vehicle).or_insert((first, 0));
            whole.misplaced += u64::from(first != *began + *known);
            *known += count;
        }
        whole
    }

    /// Whether it is exactly what the vehicles `published`: per vehicle the first id, and how many.
    pub fn is_exactly(&self, published: &BTreeMap<u32, (u64, u64)>) -> bool {
        (self.duplicates, self.holes, self.misplaced) == (0, 0, 0) && self.vehicles == *published
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(events: &[(u32, u64, u64, bool)]) -> Journal {
        let mut journal = Journal::behind(Some(10));
        for &(vehicle, message_id, sequence, redelivered) in events {
            journal.take(vehicle, message_id, sequence, redelivered);
        }
        journal
    }

    #[test]
    fn what_came_in_order_is_exact() {
        let published = BTreeMap::from([(1, (500, 2)), (2, (700, 1))]);
        let all = [
            (1, 500, 11, false),
            (2, 700, 12, false),
            (2, 700, 12, true),
            (1, 501, 13, false),
        ];
        let right = journal(&all);
        assert_eq!((right.events, right.redelivered), (3, 1));
        assert!(right.is_exactly(&published));
        assert!(!journal(&all[..3]).is_exactly(&published));
    }

    #[test]
    fn two_parts_are_a_whole_without_a_gap() {
        let published = BTreeMap::from([(1, (500, 3)), (2, (700, 1))]);
        let before = journal(&[(1, 500, 11, false), (1, 501, 12, false)]);
        let mut after = Journal::behind(Some(12));
        after.take(1, 502, 13, false);
        after.take(2, 700, 14, false);
        assert!(after.behind_all_of(&before).is_exactly(&published));
        let mut gap = Journal::behind(Some(12));
        gap.take(1, 503, 13, false);
        assert_eq!(gap.behind_all_of(&before).misplaced, 1);
    }

    #[test]
    fn every_fault_is_seen() {
        let twice = journal(&[(1, 500, 11, false), (1, 500, 11, false)]);
        let hole = journal(&[(1, 500, 12, false)]);
        let misplaced = journal(&[(1, 500, 11, false), (1, 502, 12, false)]);
        assert_eq!(
            (twice.duplicates, hole.holes, misplaced.misplaced),
            (1, 1, 1)
        );
        for (wrong, count) in [(twice, 1), (hole, 1), (misplaced, 2)] {
            assert!(!wrong.is_exactly(&BTreeMap::from([(1, (500, count))])));
        }
    }
}
