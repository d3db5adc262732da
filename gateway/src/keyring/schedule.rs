//! When a set of keys is fetched next. Pure: time and chance are passed in.

use std::time::Duration;

use crate::limits::{KEY_FETCH_EARLY, KEY_FETCH_RETRY_MAX, KEY_FETCH_RETRY_MIN};

/// The schedule of one set. Times are milliseconds on a clock that never goes back.
#[derive(Debug, Clone)]
pub struct Schedule {
    refresh_ms: u64,
    next_ms: u64,
    tried_ms: Option<u64>,
    failures: u32,
}

impl Schedule {
    /// To be fetched at once, and every `refresh` after that.
    pub fn new(refresh: Duration) -> Schedule {
        Schedule {
            refresh_ms: ms(refresh),
            next_ms: 0,
            tried_ms: None,
            failures: 0,
        }
    }

    /// When the next fetch is due.
    pub fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// It was fetched. `chance`: 0 to 1, so that nodes that started together do not fetch together.
    pub fn succeeded(&mut self, now_ms: u64, chance: f64) {
        self.failures = 0;
        self.tried_ms = Some(now_ms);
        self.next_ms = now_ms + spread(self.refresh_ms, 0.8, chance);
    }

    /// It could not be fetched: the pause doubles, up to its bound.
    pub fn failed(&mut self, now_ms: u64, chance: f64) {
        let longest = ms(KEY_FETCH_RETRY_MAX).min(self.refresh_ms);
        let pause = ms(KEY_FETCH_RETRY_MIN)
            .saturating_mul(1 << self.failures.min(16))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.tried_ms = Some(now_ms);
        self.next_ms = now_ms + spread(pause, 0.5, chance);
    }

    /// A token names a key that is not known: early, but not at once again. A fetch that failed keeps its pause.
    pub fn wanted(&mut self, now_ms: u64) {
        if self.failures == 0 {
            let at = match self.tried_ms {
                Some(tried) => now_ms.max(tried + ms(KEY_FETCH_EARLY)),
                None => now_ms,
            };
            self.next_ms = self.next_ms.min(at);
        }
    }

    /// An operator wants it now.
    pub fn now(&mut self, now_ms: u64) {
        self.failures = 0;
        self.next_ms = now_ms;
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Something between `least` times `pause` and `pause`.
fn spread(pause: u64, least: f64, chance: f64) -> u64 {
    (pause as f64 * (least + (1.0 - least) * chance.clamp(0.0, 1.0))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fetched_again_and_again() {
        let mut schedule = Schedule::new(Duration::from_secs(300));
        assert_eq!(schedule.next_ms(), 0, "at once");
        schedule.succeeded(1_000, 1.0);
        assert_eq!(schedule.next_ms(), 301_000);
        schedule.succeeded(1_000, 0.0);
        assert_eq!(schedule.next_ms(), 241_000);
    }

    #[test]
    fn failures_double_the_pause_up_to_a_minute() {
        let mut schedule = Schedule::new(Duration::from_secs(300));
        let mut pauses = Vec::new();
        for _ in 0..9 {
            schedule.failed(5_000, 1.0);
            pauses.push((schedule.next_ms() - 5_000) / 1_000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.failed(5_000, 0.0);
        assert_eq!(schedule.next_ms(), 35_000, "at least half of it");
        let before = schedule.next_ms();
        schedule.wanted(6_000);
        assert_eq!(schedule.next_ms(), before, "nobody hurries what fails");
        schedule.succeeded(9_000, 1.0);
        schedule.failed(10_000, 1.0);
        assert_eq!(schedule.next_ms(), 11_000, "from the beginning");
        for _ in 0..100 {
            schedule.failed(0, 1.0);
        }
        let mut hurried = Schedule::new(Duration::from_secs(10));
        for _ in 0..9 {
            hurried.failed(0, 1.0);
        }
        assert_eq!(hurried.next_ms(), 10_000, "never rarer than a good one");
    }

    #[test]
    fn an_unknown_key_hurries_it_every_ten_seconds_at_most() {
        let mut schedule = Schedule::new(Duration::from_secs(300));
        schedule.succeeded(1_000, 1.0);
        schedule.wanted(2_000);
        assert_eq!(schedule.next_ms(), 11_000);
        schedule.wanted(3_000);
        assert_eq!(schedule.next_ms(), 11_000, "not put off");
        schedule.succeeded(11_000, 1.0);
        schedule.wanted(100_000);
        assert_eq!(schedule.next_ms(), 100_000, "long enough ago: now");
        schedule.now(50_000);
        assert_eq!(schedule.next_ms(), 50_000);
    }
}
