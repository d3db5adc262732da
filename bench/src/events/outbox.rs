//! One vehicle's events with QoS 1: which are due, under way, acknowledged. Knows no socket and no clock.
//!
//! Events count from 1 here; on the wire the vehicle's first message id is added. Without a refusal they go out once
//! each, in order, at most a window of them unanswered. Behind a refused one all others are refused as well, so a vehicle
//! waits until nothing is under way, and begins again at the one that was refused first (go-back-N).

use std::collections::VecDeque;

/// How long a vehicle keeps still after a refusal.
const BACKOFF_NS: u64 = 20_000_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// How many may be under way.
    pub window: usize,
    /// Those up to here are due.
    pub due: u32,
    /// Those up to here are acknowledged.
    pub acked: u32,
    sent: u32,
    /// Sent and not answered, and when they were sent.
    under_way: VecDeque<(u32, u64)>,
    /// Where to begin again, and not before when.
    back: Option<(u32, u64)>,
}

impl Outbox {
    /// The next one to send, if one may be sent now.
    pub fn send(&mut self, now_ns: u64) -> Option<u32> {
        if let Some((first, not_before_ns)) = self.back {
            if !self.under_way.is_empty() || now_ns < not_before_ns {
                return None;
            }
            self.back = None;
            self.sent = first - 1;
        }
        if self.sent >= self.due || self.under_way.len() >= self.window {
            return None;
        }
        self.sent += 1;
        self.under_way.push_back((self.sent, now_ns));
        Some(self.sent)
    }

    /// An Ack: when its event was sent. `None`: no event waits for it, or an earlier one has none yet.
    pub fn ack(&mut self, event: u32) -> Option<u64> {
        let sent_ns = self.answered(event)?;
        if event != self.acked + 1 {
            return None;
        }
        self.acked = event;
        Some(sent_ns)
    }

    /// A refusal that may be over soon. False: no event waits for it.
    pub fn refused(&mut self, event: u32, now_ns: u64) -> bool {
        let first = self.back.map_or(event, |(first, _)| first.min(event));
        self.back = Some((first, now_ns + BACKOFF_NS));
        self.answered(event).is_some()
    }

    fn answered(&mut self, event: u32) -> Option<u64> {
        let at = self.under_way.iter().position(|&(sent, _)| sent == event)?;
        self.under_way.remove(at).map(|(_, sent_ns)| sent_ns)
    }

    /// Nothing more is due than what was sent.
    pub fn stop(&mut self) {
        self.due = self.back.map_or(self.sent, |(first, _)| first - 1);
        self.back = None;
    }

    /// Whether a refusal makes it wait.
    pub fn is_held(&self) -> bool {
        self.back.is_some()
    }

    /// Whether everything that is due is acknowledged.
    pub fn is_done(&self) -> bool {
        self.acked >= self.due && self.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(window: usize, due: u32) -> Outbox {
        Outbox {
            window,
            due,
            ..Outbox::default()
        }
    }

    #[test]
    fn a_window_is_sent_and_each_ack_makes_room() {
        let mut outbox = outbox(2, 3);
        assert_eq!((outbox.send(5), outbox.send(6)), (Some(1), Some(2)));
        assert_eq!(outbox.send(7), None, "two are under way");
        assert_eq!(outbox.ack(1), Some(5));
        assert_eq!((outbox.send(8), outbox.send(9)), (Some(3), None));
        assert_eq!(outbox.ack(7), None, "never sent");
        assert_eq!(outbox.ack(3), None, "ahead of one before it");
        assert_eq!(outbox.ack(2), Some(6));
        assert!(!outbox.is_done());
    }

    #[test]
    fn behind_a_refusal_it_begins_again_there() {
        let mut outbox = outbox(4, 4);
        while outbox.send(0).is_some() {}
        assert_eq!(outbox.ack(1), Some(0));
        // The log's answers and the shard's need not come in order.
        assert!(outbox.refused(4, 10) && outbox.refused(2, 10));
        assert_eq!(outbox.send(10 + BACKOFF_NS), None, "one is under way");
        assert!(outbox.refused(3, 10) && outbox.is_held());
        assert_eq!(outbox.send(9 + BACKOFF_NS), None, "too soon");
        let again: Vec<u32> = std::iter::from_fn(|| outbox.send(10 + BACKOFF_NS)).collect();
        assert_eq!(again, [2, 3, 4]);
        for event in again {
            assert!(outbox.ack(event).is_some());
        }
        assert!(outbox.is_done());
    }

    #[test]
    fn when_it_stops_it_waits_for_what_is_under_way() {
        let mut outbox = outbox(4, u32::MAX);
        while outbox.send(0).is_some() {}
        outbox.stop();
        assert_eq!((outbox.due, outbox.is_done()), (4, false));
        outbox.refused(2, 0);
        outbox.stop();
        assert_eq!(outbox.due, 1);
        for event in [1, 3, 4] {
            outbox.ack(event);
        }
        assert!(outbox.is_done());
    }
}
