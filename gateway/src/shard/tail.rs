//! The newest events of the fleets that somebody here wants, in memory: a dashboard that catches up finds the last
//! stretch here, and meets the live ones without a gap.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use longhaul_filter_engine::FleetId;

use super::ring::Key;
use crate::{
    events::{Committed, Logged},
    limits::{TAIL_BYTES_MAX, TAIL_EVENTS_MAX},
};

/// The end of one fleet's log.
#[derive(Debug)]
pub struct Tail {
    /// The newest event that this shard knows of.
    through: u64,
    /// Those just before it, without a hole.
    events: VecDeque<Arc<Logged>>,
    bytes: usize,
    /// Dashboards that want events of this fleet.
    readers: HashSet<Key>,
}

/// What new events are to those who were up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The next ones.
    Next,
    /// There is a hole behind this one.
    Missed(u64),
}

impl Tail {
    /// A log that ends at `through`.
    pub fn new(through: u64) -> Tail {
        Tail {
            through,
            events: VecDeque::new(),
            bytes: 0,
            readers: HashSet::new(),
        }
    }

    /// Dashboards that want events of this fleet.
    pub fn readers(&self) -> impl Iterator<Item = &Key> {
        self.readers.iter()
    }

    /// One of them does not any more.
    pub fn leave(&mut self, reader: Key) {
        self.readers.remove(&reader);
    }

    /// Where it ends.
    pub fn through(&self) -> u64 {
        self.through
    }

    /// Takes what became durable. `fresh` gets those that are new here.
    pub fn take(&mut self, committed: &Committed, fresh: &mut Vec<Arc<Logged>>) -> Followed {
        let before = self.through;
        fresh.extend(
            committed
                .events
                .iter()
                .filter(|logged| logged.sequence > before)
                .map(Arc::clone),
        );
        // Of a letter without events, all is missed that lies between.
        let begins = fresh
            .first()
            .map_or(committed.through + 1, |logged| logged.sequence);
        let followed = if begins > before + 1 {
            self.events = VecDeque::new();
            self.bytes = 0;
            Followed::Missed(before)
        } else {
            Followed::Next
        };
        for logged in fresh.iter() {
            self.bytes += logged.bytes();
            self.events.push_back(Arc::clone(logged));
        }
        while self.events.len() > TAIL_EVENTS_MAX || self.bytes > TAIL_BYTES_MAX {
            match self.events.pop_front() {
                Some(gone) => self.bytes -= gone.bytes(),
                None => break,
            }
        }
        self.through = before.max(committed.through);
        followed
    }

    /// The events from `next` on, if they are all here.
    pub fn from(
        &self,
        next: u64,
    ) -> Option<std::iter::Skip<std::collections::vec_deque::Iter<'_, Arc<Logged>>>> {
        let first = self.events.front()?.sequence;
        let skip = usize::try_from(next.checked_sub(first)?).ok()?;
        Some(self.events.iter().skip(skip))
    }
}

/// The tails of one shard.
#[derive(Debug, Default)]
pub struct Tails(HashMap<FleetId, Tail>);

impl Tails {
    /// A fleet's, if somebody here wants its events.
    pub fn get(&self, fleet: FleetId) -> Option<&Tail> {
        self.0.get(&fleet)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, fleet: FleetId) -> Option<&mut Tail> {
        self.0.get_mut(&fleet)
    }

    /// Somebody wants a fleet's events, whose log ends at `through`. To be called when the log's thread has been told.
    pub fn begin(&mut self, fleet: FleetId, through: u64, reader: Key) {
        let tail = self.0.entry(fleet).or_insert_with(|| Tail::new(through));
        tail.readers.insert(reader);
    }

    /// The logs end there, and what is in them is nobody's news: they were opened just now.
    pub fn catch_up(&mut self, last: impl Fn(FleetId) -> u64) {
        for (fleet, tail) in &mut self.0 {
            tail.through = tail.through.max(last(*fleet));
        }
    }

    /// Dashboards that want events, of all fleets.
    pub fn all_readers(&self) -> Vec<Key> {
        self.0.values().flat_map(Tail::readers).copied().collect()
    }

    /// Nobody does any more.
    pub fn end(&mut self, fleet: FleetId) {
        self.0.remove(&fleet);
    }
}

#[cfg(test)]
mod tests {
    use longhaul_codec::Event;
    use longhaul_filter_engine::VehicleIndex;

    use super::*;

    fn committed(range: std::ops::RangeInclusive<u64>, through: u64) -> Committed {
        let logged =
            |sequence| Arc::new(Logged::new(Event::default(), VehicleIndex(1), sequence, 7));
        Committed {
            fleet: FleetId(0),
            through,
            events: range.map(logged).collect(),
        }
    }

    fn take(tail: &mut Tail, committed: &Committed) -> (Followed, Vec<u64>) {
        let mut fresh = Vec::new();
        let followed = tail.take(committed, &mut fresh);
        (
            followed,
            fresh.iter().map(|logged| logged.sequence).collect(),
        )
    }

    fn from(tail: &Tail, next: u64) -> Option<Vec<u64>> {
        Some(tail.from(next)?.map(|logged| logged.sequence).collect())
    }

    #[test]
    fn what_follows_is_kept_and_what_was_known_is_not_new() {
        let mut tail = Tail::new(10);
        assert_eq!(from(&tail, 10), None);
        assert_eq!(
            take(&mut tail, &committed(9..=12, 12)),
            (Followed::Next, vec![11, 12])
        );
        assert_eq!(
            take(&mut tail, &committed(11..=12, 12)),
            (Followed::Next, vec![])
        );
        assert_eq!(from(&tail, 11), Some(vec![11, 12]));
        assert_eq!(from(&tail, 12), Some(vec![12]));
        assert_eq!(from(&tail, 10), None, "older than what is here");
    }

    #[test]
    fn a_hole_is_seen() {
        let mut tail = Tail::new(10);
        take(&mut tail, &committed(11..=12, 12));
        assert_eq!(
            take(&mut tail, &committed(15..=16, 16)),
            (Followed::Missed(12), vec![15, 16])
        );
        assert_eq!(from(&tail, 13), None);
        assert_eq!(from(&tail, 15), Some(vec![15, 16]));
        let empty = Committed {
            fleet: FleetId(0),
            through: 20,
            events: Vec::new(),
        };
        assert_eq!(take(&mut tail, &empty), (Followed::Missed(16), vec![]));
        assert_eq!(tail.through(), 20);
        assert_eq!(take(&mut tail, &empty), (Followed::Next, vec![]), "known");
    }

    #[test]
    fn it_is_bounded() {
        let mut tail = Tail::new(0);
        let many = TAIL_EVENTS_MAX as u64 + 10;
        take(&mut tail, &committed(1..=many, many));
        assert_eq!(from(&tail, 1), None);
        assert_eq!(
            from(&tail, 11).map(|events| events.len()),
            Some(TAIL_EVENTS_MAX)
        );
    }
}
