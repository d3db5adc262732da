//! What a dashboard is owed of events: what waits for its socket, what it has not acknowledged, and how far it is. Pure:
//! numbers and references in, events to send out.
//!
//! The log is the queue. A dashboard that keeps up gets each event as it becomes durable; one that does not gets none
//! for a while, and what it missed comes from the log, when it has room. So whatever it watches, its memory is bounded,
//! and nothing is lost.

use std::{collections::VecDeque, sync::Arc};

use longhaul_codec::EventRange;

use crate::{
    events::{Logged, consumers::Consumer, replay::TopicFilter},
    fleet::Holder,
};

/// How far a dashboard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has caught up: new events come to it as they become durable.
    Live,
    /// It has to look at this event of the log next.
    Behind(u64),
    /// The same, and somebody reads it from the disk.
    Reading(Reading),
}

/// A request for old events that is under way. What is asked for in between makes the answer useless: it knows the
/// filter of its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// From this event on.
    pub from: u64,
    /// The request's own number; no other one of this shard has it.
    pub ticket: u64,
    /// Since when (the shard's clock, ms).
    pub since_ms: u64,
}

/// How long an answer may take before it is taken to be lost.
const READ_WITHIN_MS: u64 = 10_000;
/// How long after a gap was told the cursor stays before it, so that whoever loses its connection then is told again.
const GAP_SETTLES_MS: u64 = 5_000;
/// Gaps that wait to be told; further ones become one with the last.
const GAPS_MAX: usize = 16;

/// Bounds of one dashboard.
#[derive(Debug, Clone, Copy)]
pub struct FeedLimits {
    /// Events that it may have without an acknowledgement.
    pub window: usize,
    /// Bytes that wait for its socket.
    pub bytes_max: usize,
}

/// A dashboard's events.
#[derive(Debug)]
pub struct Feed {
    /// Which ones.
    pub topics: TopicFilter,
    /// It acknowledges, and gets each one at least once.
    pub acknowledged: bool,
    /// See [`Progress`].
    pub progress: Progress,
    /// The durable consumer whose cursor it moves.
    pub consumer: Option<Hold>,
    queue: VecDeque<Arc<Logged>>,
    /// How many of them are in the log.
    logged: usize,
    bytes: usize,
    /// Everything up to here was looked at.
    through: u64,
    /// Sent and not acknowledged, oldest first.
    in_flight: VecDeque<u64>,
    /// Since when nothing of that was acknowledged (the shard's clock, ms).
    waiting_since_ms: u64,
    acked: u64,
    /// The highest one that was ever sent, by this connection or, as far as is known, by an earlier one.
    sent: u64,
    /// Events that did not fit, to be told.
    dropped: u64,
    /// Events that are gone, to be told.
    gaps: Vec<EventRange>,
    /// When that was last told (the shard's clock, ms).
    gap_told_ms: Option<u64>,
}

/// A consumer, as a connection has it.
#[derive(Debug, Clone)]
pub struct Hold {
    /// Which.
    pub consumer: Arc<Consumer>,
    /// The connection.
    pub me: Holder,
    /// Which history this connection's sequences count in.
    pub epoch: u64,
}

/// An event to send.
#[derive(Debug, Clone)]
pub struct Due {
    /// The event.
    pub logged: Arc<Logged>,
    /// It may have been sent before.
    pub again: bool,
}

/// Why an acknowledgement was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAck {
    /// It is ahead of what was sent.
    NotSent(u64),
}

impl Feed {
    /// One that begins behind event `at`, of which those up to `sent` may have been sent before.
    pub fn new(topics: TopicFilter, acknowledged: bool, at: u64, sent: u64) -> Feed {
        Feed {
            topics,
            acknowledged,
            progress: if acknowledged {
                Progress::Behind(at + 1)
            } else {
                Progress::Live
            },
            consumer: None,
            queue: VecDeque::new(),
            logged: 0,
            bytes: 0,
            in_flight: VecDeque::new(),
            waiting_since_ms: 0,
            acked: at,
            sent: sent.max(at),
            through: at,
            dropped: 0,
            gaps: Vec::new(),
            gap_told_ms: None,
        }
    }

    /// How many more events of the log it can take now.
    pub fn room(&self, limits: FeedLimits) -> usize {
        if self.bytes >= limits.bytes_max {
            return 0;
        }
        limits
            .window
            .saturating_sub(self.in_flight.len() + self.logged)
    }

    /// Bytes that it can take now.
    pub fn bytes_left(&self, limits: FeedLimits) -> usize {
        limits.bytes_max.saturating_sub(self.bytes)
    }

    /// An event that became durable just now, or one that is in no log. Whose vehicle it watches. Returns whether there
    /// is something to send, and how many were dropped.
    pub fn offer(&mut self, logged: &Arc<Logged>, limits: FeedLimits) -> (bool, u64) {
        if !self.topics.takes(logged.topic()) {
            return (false, 0);
        }
        let before = self.dropped;
        if logged.sequence == 0 {
            if self.bytes + logged.bytes() <= limits.bytes_max {
                self.push(Arc::clone(logged));
            } else {
                self.dropped += 1;
            }
        } else if !self.acknowledged {
            self.push(Arc::clone(logged));
            while self.bytes > limits.bytes_max && self.queue.len() > 1 {
                self.pop();
                self.dropped += 1;
            }
        } else if self.progress == Progress::Live && logged.sequence > self.through {
            if self.room(limits) > 0 {
                self.through = logged.sequence;
                self.push(Arc::clone(logged));
            } else {
                self.stop_at(logged.sequence);
            }
        }
        (self.is_ready(), self.dropped - before)
    }

    /// An event that was asked for: within [`Feed::room`].
    pub fn push(&mut self, logged: Arc<Logged>) {
        self.bytes += logged.bytes();
        self.logged += usize::from(logged.sequence > 0);
        self.queue.push_back(logged);
    }

    fn pop(&mut self) -> Option<Arc<Logged>> {
        let logged = self.queue.pop_front()?;
        self.bytes -= logged.bytes();
        self.logged -= usize::from(logged.sequence > 0);
        if self.queue.is_empty() {
            // An idle dashboard keeps no room.
            self.queue = VecDeque::new();
        }
        Some(logged)
    }

    /// These will never come.
    pub fn missing(&mut self, range: EventRange) {
        let is_full = self.gaps.len() >= GAPS_MAX;
        match self.gaps.last_mut() {
            // One message says what belongs together.
            Some(last)
                if last.epoch == range.epoch
                    && (is_full || last.last.saturating_add(1) >= range.first) =>
            {
                last.last = last.last.max(range.last);
            }
            _ => self.gaps.push(range),
        }
    }

    /// Whether there is something to send.
    pub fn is_ready(&self) -> bool {
        !self.queue.is_empty() || !self.gaps.is_empty() || self.dropped > 0
    }

    /// Takes what is to be told ahead of the events: what is gone, and how many were dropped.
    pub fn take_news(&mut self, now_ms: u64) -> (Vec<EventRange>, u64) {
        if !self.gaps.is_empty() {
            self.gap_told_ms = Some(now_ms);
        }
        (
            std::mem::take(&mut self.gaps),
            std::mem::take(&mut self.dropped),
        )
    }

    /// Everything up to here was looked at; what follows comes next, from the log or live.
    pub fn looked(&mut self, through: u64) {
        self.through = self.through.max(through);
        self.progress = Progress::Behind(self.through + 1);
    }

    /// It has no room for this one, and is to look at it next.
    pub fn stop_at(&mut self, next: u64) {
        self.through = next.saturating_sub(1);
        self.progress = Progress::Behind(next);
    }

    /// It has caught up with a log that ends at `through`.
    pub fn live(&mut self, through: u64) {
        self.through = self.through.max(through);
        self.progress = Progress::Live;
    }

    /// The filter has changed: what is being read was asked for with the old one. Drops what it does not want any more.
    pub fn refilter(&mut self, wants: impl Fn(&Logged) -> bool) {
        if let Progress::Reading(Reading { from, .. }) = self.progress {
            self.progress = Progress::Behind(from);
        }
        let queue = std::mem::take(&mut self.queue);
        (self.logged, self.bytes) = (0, 0);
        for logged in queue {
            if wants(&logged) && self.topics.takes(logged.topic()) {
                self.push(logged);
            }
        }
    }

    /// An answer that does not come is asked for again.
    pub fn give_up_reading(&mut self, now_ms: u64) {
        if let Progress::Reading(Reading { from, since_ms, .. }) = self.progress
            && now_ms.saturating_sub(since_ms) >= READ_WITHIN_MS
        {
            self.progress = Progress::Behind(from);
        }
    }

    /// Takes events to send, up to `bytes_max` beyond the first.
    pub fn take(&mut self, bytes_max: usize, now_ms: u64, into: &mut Vec<Due>) {
        let mut bytes = 0;
        while bytes < bytes_max
            && let Some(logged) = self.pop()
        {
            bytes += logged.bytes();
            let sequence = logged.sequence;
            let again = sequence > 0 && self.acknowledged && sequence <= self.sent;
            if sequence > 0 && self.acknowledged {
                if self.in_flight.is_empty() {
                    self.waiting_since_ms = now_ms;
                }
                self.in_flight.push_back(sequence);
            }
            self.sent = self.sent.max(sequence);
            into.push(Due { logged, again });
        }
        if let Some(hold) = &self.consumer {
            hold.consumer.sent(hold.me, hold.epoch, self.sent);
        }
    }

    /// Whether another connection has its consumer now.
    pub fn is_taken_over(&self) -> bool {
        self.consumer
            .as_ref()
            .is_some_and(|hold| !hold.consumer.is_held_by(hold.me))
    }

    /// Everything up to `sequence` is done with. Returns how many events that were.
    ///
    /// # Errors
    /// It was not sent yet.
    pub fn ack(&mut self, sequence: u64, now_ms: u64, unix_ms: u64) -> Result<usize, BadAck> {
        if sequence > self.sent {
            return Err(BadAck::NotSent(self.sent));
        }
        let before = self.in_flight.len();
        while self
            .in_flight
            .front()
            .is_some_and(|front| *front <= sequence)
        {
            self.in_flight.pop_front();
        }
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
        self.waiting_since_ms = now_ms;
        self.acked = self.acked.max(sequence);
        if let Some(hold) = &self.consumer {
            hold.consumer.ack(hold.me, hold.epoch, self.acked, unix_ms);
        }
        Ok(before - self.in_flight.len())
    }

    /// Nothing waits and nothing is in flight: everything up to `through`, where it is live, is none of its business. Not
    /// while a gap may not have been heard: whoever loses its connection then is to be told again.
    pub fn settle(&mut self, through: u64, now_ms: u64, unix_ms: u64) {
        let gap_is_heard = self.gaps.is_empty()
            && self
                .gap_told_ms
                .is_none_or(|told| now_ms.saturating_sub(told) >= GAP_SETTLES_MS);
        let is_idle = self.in_flight.is_empty() && self.logged == 0;
        if self.progress == Progress::Live && is_idle && gap_is_heard {
            self.acked = self.acked.max(through);
            self.sent = self.sent.max(through);
            if let Some(hold) = &self.consumer {
                hold.consumer.ack(hold.me, hold.epoch, self.acked, unix_ms);
            }
        }
    }

    /// Whether an acknowledgement is overdue.
    pub fn is_overdue(&self, now_ms: u64, wait_ms: u64) -> bool {
        !self.in_flight.is_empty() && now_ms.saturating_sub(self.waiting_since_ms) >= wait_ms
    }

    /// Goes back to the first event that is not acknowledged.
    pub fn go_back(&mut self) {
        self.in_flight = VecDeque::new();
        let passing: Vec<_> = self
            .queue
            .drain(..)
            .filter(|logged| logged.sequence == 0)
            .collect();
        (self.logged, self.bytes) = (0, 0);
        for logged in passing {
            self.push(logged);
        }
        self.through = self.acked;
        self.progress = Progress::Behind(self.acked + 1);
    }

    /// A dashboard that was live has missed what came behind `through`.
    pub fn missed(&mut self, through: u64) {
        if self.acknowledged && self.progress == Progress::Live {
            self.looked(through);
        }
    }
}

#[cfg(test)]
mod tests;
