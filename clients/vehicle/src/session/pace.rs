//! Keeps a connection within the gateway's rates. What is over them is not taken and not answered (docs/protocol.md,
//! "How much you may send"), and a full queue would run into them at every reconnect.

use std::time::{Duration, Instant};

/// How much one connection may send.
///
/// The defaults are below the gateway's own (100 messages and 262,144 bytes a second, 1,000 and 2,097,152 at once), so
/// that pongs, close frames and frame headers fit in as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Messages a second.
    pub messages_per_second: u32,
    /// Messages at once.
    pub messages_burst: u32,
    /// Bytes a second.
    pub bytes_per_second: u32,
    /// Bytes at once; at least as many as the longest message has.
    pub bytes_burst: u32,
}

impl Default for Rate {
    fn default() -> Self {
        Self {
            messages_per_second: 80,
            messages_burst: 800,
            bytes_per_second: 200_000,
            bytes_burst: 1_600_000,
        }
    }
}

/// What a connection has left. A new connection begins with a full burst, as it does at the gateway.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    messages: f64,
    bytes: f64,
    filled_at: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            messages: rate.messages_burst.into(),
            bytes: rate.bytes_burst.into(),
            filled_at: now,
        }
    }

    /// Whether a message of so many bytes may go now; if so, it counts as sent. If not: when to ask again.
    pub(crate) fn take(&mut self, bytes: usize, now: Instant) -> Result<(), Instant> {
        self.fill(now);
        // One that is longer than the whole burst has to wait for no more than all of it.
        let bytes = (bytes as f64).min(self.rate.bytes_burst.into());
        let short = |need: f64, have: f64, per_second: u32| {
            ((need - have) / f64::from(per_second.max(1))).max(0.0)
        };
        let wait = short(1.0, self.messages, self.rate.messages_per_second).max(short(
            bytes,
            self.bytes,
            self.rate.bytes_per_second,
        ));
        if wait > 0.0 {
            // A little more, so that rounding does not ask twice.
            return Err(now + Duration::from_secs_f64(wait) + Duration::from_millis(1));
        }
        self.messages -= 1.0;
        self.bytes -= bytes;
        Ok(())
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        let fill = |have: f64, per_second: u32, burst: u32| {
            (have + passed * f64::from(per_second)).min(burst.into())
        };
        self.messages = fill(
            self.messages,
            self.rate.messages_per_second,
            self.rate.messages_burst,
        );
        self.bytes = fill(
            self.bytes,
            self.rate.bytes_per_second,
            self.rate.bytes_burst,
        );
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        messages_per_second: 10,
        messages_burst: 20,
        bytes_per_second: 1_000,
        bytes_burst: 5_000,
    };

    #[test]
    fn never_more_than_the_burst_and_the_rate() {
        let begin = Instant::now();
        let mut pace = Pace::new(RATE, begin);
        let (mut now, mut sent) = (begin, 0);
        while now < begin + Duration::from_secs(10) {
            match pace.take(1, now) {
                Ok(()) => sent += 1,
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        assert!((115..=120).contains(&sent), "{sent}");
    }

    #[test]
    fn bytes_count_as_well() {
        let now = Instant::now();
        let mut pace = Pace::new(RATE, now);
        assert!(pace.take(4_500, now).is_ok());
        let again = pace.take(1_500, now).unwrap_err();
        assert!(again > now + Duration::from_millis(990));
        assert!(again < now + Duration::from_millis(1_010));
        assert!(pace.take(1_500, again).is_ok());
        // Longer than the burst: all of it, and not for ever.
        let full = now + Duration::from_secs(60);
        assert!(pace.take(1_000_000, full).is_ok());
    }
}
