//! The events under way: at most a window of them, in order, and from the refused one again after a refusal.
//!
//! The gateway takes no later event of a connection until a refused one has come again (docs/delivery.md), so what was
//! sent behind it is as good as not sent: go-back-N. An event leaves the queue by its `Ack` or a permanent refusal only.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::backoff::Backoff;

/// What is under way on one connection.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    retry: Backoff,
    /// Without an answer for this long, the connection is no good: events are answered in the time of an fsync.
    answer_within: Duration,
    /// Sent and not answered, in order.
    in_flight: VecDeque<u64>,
    /// Answered behind the first one in flight. The gateway knows a window of an event's successors and no more, so one
    /// that was lost on the way, for example to a rate, must not fall further behind.
    passed: usize,
    /// The last event that does not have to be sent (again) on this connection.
    sent_to: u64,
    /// Refused for now, and when to send it again.
    refused: Option<(u64, Instant)>,
    /// Refusals in a row.
    refusals: u32,
    /// When the first one in flight was sent, or something was answered since.
    waiting_since: Option<Instant>,
}

impl Window {
    pub(crate) fn new(size: usize, retry: Backoff, answer_within: Duration) -> Self {
        Self {
            // A gateway that names no window takes one at a time.
            size: size.max(1),
            retry,
            answer_within,
            in_flight: VecDeque::new(),
            passed: 0,
            sent_to: 0,
            refused: None,
            refusals: 0,
            waiting_since: None,
        }
    }

    /// Whether one more may be sent now, and behind which.
    pub(crate) fn may_send_after(&self, now: Instant) -> Option<u64> {
        let held = self.refused.is_some_and(|(_, until)| now < until);
        (!held && self.in_flight.len() + self.passed < self.size).then_some(self.sent_to)
    }

    /// The event that comes behind the one that [`Window::may_send_after`] named was sent.
    pub(crate) fn sent(&mut self, id: u64, now: Instant) {
        self.refused = None;
        self.sent_to = id;
        self.in_flight.push_back(id);
        self.waiting_since.get_or_insert(now);
    }

    /// An event was taken.
    pub(crate) fn acked(&mut self, id: u64, now: Instant) {
        self.refusals = 0;
        self.answered(id, now);
        if self.refused.is_some_and(|(refused, _)| refused == id) {
            // It was taken after all, by an earlier sending: what comes behind it may go.
            self.refused = None;
            self.sent_to = self.sent_to.max(id);
        }
    }

    /// An event will never be taken.
    pub(crate) fn refused_for_good(&mut self, id: u64, now: Instant) {
        self.answered(id, now);
    }

    /// An event was not taken this time. Those behind it are not taken either: all of them again, a little later.
    /// Answers for what is not in flight any more come from before an earlier refusal, and change nothing.
    pub(crate) fn refused_for_now(&mut self, id: u64, now: Instant, rng: &mut fastrand::Rng) {
        if !self.in_flight.contains(&id) {
            return;
        }
        self.refusals = self.refusals.saturating_add(1);
        self.in_flight.retain(|sent| *sent < id);
        if self.in_flight.is_empty() {
            self.passed = 0;
        }
        self.waiting_since = (!self.in_flight.is_empty()).then_some(now);
        self.sent_to = id - 1;
        self.refused = Some((id, now + self.retry.wait(self.refusals, rng)));
    }

    /// The last event that the gateway may be waiting for: up to it nothing may be dropped from the queue, since the
    /// gateway would wait for it on this connection for ever.
    pub(crate) fn held_to(&self) -> u64 {
        self.refused.map_or(self.sent_to, |(id, _)| id)
    }

    /// When to look again.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let retry = self
            .refused
            .map(|(_, until)| until)
            .filter(|until| *until > now);
        let stuck = self.waiting_since.map(|since| since + self.answer_within);
        retry.into_iter().chain(stuck).min()
    }

    /// Whether the gateway owes an answer for too long.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        self.waiting_since
            .is_some_and(|since| now >= since + self.answer_within)
    }

    fn answered(&mut self, id: u64, now: Instant) {
        if let Ok(at) = self.in_flight.binary_search(&id) {
            self.in_flight.remove(at);
            self.passed = if at == 0 { 0 } else { self.passed + 1 };
            self.waiting_since = (!self.in_flight.is_empty()).then_some(now);
        }
    }
}

#[cfg(test)]
mod tests;
