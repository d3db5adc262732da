//! One reading of the clocks per tick, passed down: nothing below the tick asks what time it is.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A moment, as a tick sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since the node started; never goes back.
    pub mono_ms: u64,
    /// The same in microseconds, modulo 2^32.
    pub mono_us: u32,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Now {
    /// For a connection's idle time: 10 ms units, wrapping after 497 days.
    #[must_use]
    pub fn stamp(self) -> Stamp {
        Stamp((self.mono_ms / 10) as u32)
    }
}

/// A moment in 4 bytes, precise to 10 ms; only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u32);

impl Stamp {
    /// Milliseconds from `earlier` to `self`.
    #[must_use]
    pub fn ms_since(self, earlier: Stamp) -> u64 {
        u64::from(self.0.wrapping_sub(earlier.0)) * 10
    }
}

/// Where [`Now`] comes from.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Zero at `start`. All shards have the same, so that what they share can be dated.
    #[must_use]
    pub fn since(start: Instant) -> Clock {
        Clock { start }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let elapsed = self.start.elapsed();
        Now {
            mono_ms: elapsed.as_millis() as u64,
            mono_us: elapsed.as_micros() as u32,
            unix_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_wrap_without_a_jump() {
        let at = |mono_ms| {
            Now {
                mono_ms,
                ..Now::default()
            }
            .stamp()
        };
        assert_eq!(at(25_000).ms_since(at(5_000)), 20_000);
        let wrap = u64::from(u32::MAX) * 10;
        assert_eq!(at(wrap + 90).ms_since(at(wrap - 10)), 100);
    }
}
