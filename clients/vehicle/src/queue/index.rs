//! What is in the queue, in memory. Pure: the bounds, the numbers, and what to send next.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::store::Found;
use super::{PublishError, QueueConfig, WhenFull};

/// Events that made room for a newer one.
pub(super) type Dropped = Vec<(u64, Bytes)>;

/// The queue's events, and what the file does not know yet.
#[derive(Debug)]
pub(super) struct Index {
    events_max: usize,
    bytes_max: usize,
    when_full: WhenFull,
    events: BTreeMap<u64, Bytes>,
    bytes: usize,
    /// Admitted, and not written yet.
    reserved: (usize, usize),
    last_id: u64,
    /// Nothing up to this one is dropped.
    held_to: u64,
    /// Gone here, and still in the file.
    removed: BTreeSet<u64>,
    owner: Option<String>,
    owner_is_new: bool,
}

impl Index {
    pub(super) fn new(config: &QueueConfig, found: Found) -> Self {
        let mut index = Self {
            events_max: config.events_max,
            bytes_max: config.bytes_max,
            when_full: config.when_full,
            events: BTreeMap::new(),
            bytes: 0,
            reserved: (0, 0),
            last_id: 0,
            held_to: 0,
            removed: BTreeSet::new(),
            owner: None,
            owner_is_new: false,
        };
        index.reload(found);
        index
    }

    /// Begins again with what the file has. What was removed here stays removed.
    pub(super) fn reload(&mut self, found: Found) {
        self.events = found.events;
        for id in &self.removed {
            self.events.remove(id);
        }
        self.bytes = self.events.values().map(Bytes::len).sum();
        self.reserved = (0, 0);
        self.last_id = self.last_id.max(found.last_id);
        self.owner = self.owner.take().or(found.owner);
    }

    /// The number of the next event. It is above all earlier ones also if the clock was set back, and if the file was
    /// lost as long as the clock was not.
    pub(super) fn next_id(&mut self, now_us: u64) -> u64 {
        self.last_id = self.last_id.saturating_add(1).max(now_us);
        self.last_id
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Makes room for one more event, and keeps it free. Gives what was dropped for it: from here on that is not sent,
    /// and [`Index::restore`] brings it back if the new event could not be written.
    pub(super) fn admit(&mut self, bytes: usize) -> Result<Dropped, PublishError> {
        if bytes > self.bytes_max {
            let max = self.bytes_max;
            return Err(PublishError::TooLarge { bytes, max });
        }
        let over = |events: usize, held: usize| {
            events + self.reserved.0 + 1 > self.events_max
                || held + self.reserved.1 + bytes > self.bytes_max
        };
        let full = || PublishError::Full {
            events: self.events.len(),
            bytes: self.bytes,
        };
        let (mut events, mut held, mut dropped) = (self.events.len(), self.bytes, Vec::new());
        let mut oldest = self.events.range(self.held_to.saturating_add(1)..);
        while over(events, held) {
            let next = match self.when_full {
                WhenFull::Reject => None,
                WhenFull::DropOldest => oldest.next(),
            };
            let Some((id, event)) = next else {
                return Err(full());
            };
            dropped.push((*id, event.clone()));
            (events, held) = (events - 1, held - event.len());
        }
        for (id, _) in &dropped {
            self.remove(*id);
        }
        self.reserved = (self.reserved.0 + 1, self.reserved.1 + bytes);
        Ok(dropped)
    }

    /// These events are in the file, and what was admitted is settled.
    pub(super) fn written(&mut self, events: impl IntoIterator<Item = (u64, Bytes)>) {
        self.reserved = (0, 0);
        for (id, event) in events {
            self.bytes += event.len();
            self.events.insert(id, event);
        }
    }

    /// These were dropped in vain.
    pub(super) fn restore(&mut self, dropped: Dropped) {
        for (id, _) in &dropped {
            self.removed.remove(id);
        }
        self.written(dropped);
    }

    /// An event is gone. True if it was there.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(event) = self.events.remove(&id) else {
            return false;
        };
        self.bytes -= event.len();
        self.removed.insert(id);
        true
    }

    /// What is to be taken out of the file.
    pub(super) fn removed(&self) -> Vec<u64> {
        self.removed.iter().copied().collect()
    }

    /// It was taken out of the file.
    pub(super) fn forgotten(&mut self, ids: &[u64]) {
        for id in ids {
            self.removed.remove(id);
        }
    }

    /// Whether the file should be told of something, if only by and by.
    pub(super) fn is_ahead(&self) -> bool {
        !self.removed.is_empty() || self.owner_is_new
    }

    pub(super) fn drops_oldest(&self) -> bool {
        self.when_full == WhenFull::DropOldest
    }

    pub(super) fn next_after(&self, after: u64) -> Option<(u64, Bytes)> {
        let mut behind = self.events.range(after.checked_add(1)?..);
        behind.next().map(|(id, event)| (*id, event.clone()))
    }

    pub(super) fn hold_to(&mut self, id: u64) {
        self.held_to = id;
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.events.len(), self.bytes)
    }

    /// See [`super::Queue::belongs_to`].
    pub(super) fn belongs_to(&mut self, fleet: &str, vehicle: &str) -> Result<(), String> {
        let me = format!("{vehicle} of fleet {fleet}");
        match &self.owner {
            // An empty queue has nothing that could come from the wrong vehicle, and numbers only grow.
            Some(owner) if *owner != me && !self.events.is_empty() => Err(format!(
                "the queue has events of {owner}, and the token is for {me}: use that vehicle's token, or another queue"
            )),
            Some(owner) if *owner == me => Ok(()),
            _ => {
                self.owner = Some(me);
                self.owner_is_new = true;
                Ok(())
            }
        }
    }

    /// The owner, if the file does not know it.
    pub(super) fn new_owner(&self) -> Option<String> {
        self.owner.clone().filter(|_| self.owner_is_new)
    }

    /// The file knows this owner.
    pub(super) fn owner_written(&mut self, owner: &str) {
        if self.owner.as_deref() == Some(owner) {
            self.owner_is_new = false;
        }
    }
}
