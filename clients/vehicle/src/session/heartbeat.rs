//! Whether a quiet link is still one. A vehicle that does everything right hears nothing, and TCP alone notices a dead
//! link after many minutes: so it asks (docs/protocol.md, "Heartbeats").

use std::time::{Duration, Instant};

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing before this moment.
    Quiet(Instant),
    /// Send a ping, and ask again.
    Ping,
    /// The ping was not answered: there is no link.
    Dead,
}

/// Watches one link.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    ask_after: Duration,
    answer_within: Duration,
    heard_at: Instant,
    asked_at: Option<Instant>,
}

impl Heartbeat {
    /// `heartbeat` is the gateway's: it pings a quiet vehicle that often, so silence for half as long again is odd.
    pub(crate) fn new(heartbeat: Duration, answer_within: Duration, now: Instant) -> Self {
        // A gateway that names no heartbeat, or an absurd one, is asked at a bearable pace.
        let heartbeat = heartbeat.clamp(Duration::from_millis(100), Duration::from_secs(600));
        Self {
            ask_after: heartbeat.mul_f64(1.5),
            answer_within,
            heard_at: now,
            asked_at: None,
        }
    }

    /// Anything came from the gateway.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.asked_at = None;
    }

    /// What to do. After [`Beat::Ping`] it counts as sent.
    pub(crate) fn poll(&mut self, now: Instant) -> Beat {
        match self.asked_at {
            Some(asked) if now >= asked + self.answer_within => Beat::Dead,
            Some(asked) => Beat::Quiet(asked + self.answer_within),
            None if now >= self.heard_at + self.ask_after => {
                self.asked_at = Some(now);
                Beat::Ping
            }
            None => Beat::Quiet(self.heard_at + self.ask_after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_and_then_believed() {
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        let mut heartbeat = Heartbeat::new(30 * second, 10 * second, begin);
        assert_eq!(heartbeat.poll(begin), Beat::Quiet(begin + 45 * second));
        heartbeat.heard(begin + 20 * second);
        let due = begin + 65 * second;
        assert_eq!(heartbeat.poll(due - second), Beat::Quiet(due));
        assert_eq!(heartbeat.poll(due), Beat::Ping);
        assert_eq!(heartbeat.poll(due), Beat::Quiet(due + 10 * second));
        heartbeat.heard(due + 9 * second);
        assert_eq!(
            heartbeat.poll(due + 10 * second),
            Beat::Quiet(due + 54 * second)
        );
        assert_eq!(heartbeat.poll(due + 54 * second), Beat::Ping);
        assert_eq!(heartbeat.poll(due + 64 * second), Beat::Dead);
    }

    #[test]
    fn an_absurd_heartbeat_is_bounded() {
        let begin = Instant::now();
        let within = Duration::from_secs(5);
        let mut none = Heartbeat::new(Duration::ZERO, within, begin);
        assert_eq!(
            none.poll(begin),
            Beat::Quiet(begin + Duration::from_millis(150))
        );
        let mut endless = Heartbeat::new(Duration::MAX, within, begin);
        assert_eq!(
            endless.poll(begin),
            Beat::Quiet(begin + Duration::from_secs(900))
        );
    }
}
