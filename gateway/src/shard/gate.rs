//! How fast a shard lets connections in, and whether a storm of them is under way. Pure: time is passed in.

use crate::{
    limits::{RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S},
    session::rate::{Bucket, Rate, Verdict},
};

/// Lets a second's worth in at once, then at a rate; the others are told when to come back.
#[derive(Debug)]
pub struct Gate {
    rate: Option<Rate>,
    bucket: Bucket,
    /// When everybody who was turned away will have had a place (the shard's clock, ms): they are spread until then.
    served_by_ms: u64,
    /// How long a place takes, in microseconds.
    place_us: u64,
    /// What does not make a millisecond yet.
    fraction_us: u64,
}

impl Gate {
    /// `per_second` connections; 0: no limit.
    #[must_use]
    pub fn new(per_second: u32) -> Gate {
        Gate {
            rate: Rate::new(per_second, per_second),
            bucket: Bucket::default(),
            served_by_ms: 0,
            place_us: 1_000_000 / u64::from(per_second.max(1)),
            fraction_us: 0,
        }
    }

    /// Whether a connection may come in now. If not: after how many seconds to come back, at the latest. Whoever is
    /// told draws a moment of their own between [`RETRY_AFTER_MIN_S`] and that.
    ///
    /// # Errors
    /// The number of seconds.
    pub fn admit(&mut self, now_ms: u64, now_us: u32) -> Result<(), u32> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let mut after = self.bucket;
        if after.take(1, rate, now_us) == Verdict::Within {
            self.bucket = after;
            return Ok(());
        }
        // Being turned away costs nothing: the bucket stays as it is.
        self.bucket.settle(now_us);
        self.fraction_us += self.place_us;
        self.served_by_ms = self.served_by_ms.max(now_ms) + self.fraction_us / 1_000;
        self.fraction_us %= 1_000;
        let wait_s = (self.served_by_ms - now_ms).div_ceil(1_000);
        // Twice as long as it takes: others will come in the meantime.
        let latest = u32::try_from(wait_s.saturating_mul(2)).unwrap_or(u32::MAX);
        Err(latest.clamp(RETRY_AFTER_MIN_S + 1, RETRY_AFTER_MAX_S))
    }

    /// To be called every half an hour at least.
    pub fn settle(&mut self, now_us: u32) {
        self.bucket.settle(now_us);
    }
}

/// The window over which what is usual is averaged, in seconds.
const USUAL_OVER_S: f64 = 60.0;
/// A storm: this many times as many connections as usual in a second,
const STORM_FACTOR: f64 = 10.0;
/// and at least this many.
const STORM_MIN: f64 = 100.0;
/// It is over when the rate has been below a third of that for this many seconds.
const CALM_S: u32 = 5;

/// Compares the rate of new connections with its own recent past.
#[derive(Debug, Default)]
pub struct Barometer {
    second: u64,
    count: u32,
    usual: f64,
    storm: bool,
    calm_s: u32,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// A storm begins.
    Storm,
    /// It is over.
    Calm,
}

impl Barometer {
    /// Counts `accepted` new connections; to be called in every tick.
    pub fn observe(&mut self, accepted: u32, now_ms: u64) -> Option<Weather> {
        let second = now_ms / 1_000;
        let mut change = None;
        if second != self.second {
            let passed = second - self.second;
            self.second = second;
            change = self.end_second();
            self.count = 0;
            for _ in 1..passed.min(10 * USUAL_OVER_S as u64) {
                change = self.end_second().or(change);
            }
        }
        self.count = self.count.saturating_add(accepted);
        // A storm is seen when it begins, not at the end of its first second.
        if !self.storm && f64::from(self.count) >= self.threshold() {
            self.storm = true;
            self.calm_s = 0;
            change = Some(Weather::Storm);
        }
        change
    }

    fn threshold(&self) -> f64 {
        (self.usual * STORM_FACTOR).max(STORM_MIN)
    }

    fn end_second(&mut self) -> Option<Weather> {
        let count = f64::from(self.count);
        let calm = count * 3.0 < self.threshold();
        self.usual += (count - self.usual) / USUAL_OVER_S;
        self.calm_s = if calm { self.calm_s + 1 } else { 0 };
        if self.storm && self.calm_s >= CALM_S {
            self.storm = false;
            return Some(Weather::Calm);
        }
        None
    }

    /// New connections per second, as usual lately.
    #[must_use]
    pub fn usual(&self) -> f64 {
        self.usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_lets_a_second_in_then_spreads_the_rest() {
        let mut gate = Gate::new(100);
        let now = |ms: u64| (ms, (ms * 1_000) as u32);
        let admit = |gate: &mut Gate, (ms, us)| gate.admit(ms, us);
        let let_in = (0..100)
            .filter(|_| admit(&mut gate, now(5_000)).is_ok())
            .count();
        assert_eq!(let_in, 100);
        // A thousand more take ten seconds to serve.
        let waits: Vec<u32> = (0..1_000)
            .filter_map(|_| admit(&mut gate, now(5_000)).err())
            .collect();
        assert_eq!((waits.len(), waits[0], waits[999]), (1_000, 2, 20));
        assert!(waits.is_sorted());
        assert_eq!(
            admit(&mut gate, now(5_010)),
            Ok(()),
            "who was turned away took no place"
        );
        assert!(admit(&mut gate, now(5_011)).is_err());
        assert_eq!(admit(&mut gate, now(60_000)), Ok(()));
        assert_eq!(
            (0..200)
                .filter(|_| admit(&mut gate, now(60_000)).is_ok())
                .count(),
            99
        );
        assert_eq!(admit(&mut gate, now(60_000)), Err(4), "a fresh queue");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut gate = Gate::new(0);
        assert!((0..100_000).all(|_| gate.admit(0, 0).is_ok()));
    }

    #[test]
    fn a_storm_is_told_from_what_is_usual() {
        let mut barometer = Barometer::default();
        let second = |barometer: &mut Barometer, n: u64, count: u32| {
            (0..10)
                .filter_map(|tenth| barometer.observe(count / 10, n * 1_000 + tenth * 100))
                .collect::<Vec<_>>()
        };
        for n in 0..300 {
            assert_eq!(second(&mut barometer, n, 50), [], "a steady trickle");
        }
        assert!((49.0..51.0).contains(&barometer.usual()));
        assert_eq!(second(&mut barometer, 300, 400), [], "busier, no storm");
        assert_eq!(second(&mut barometer, 301, 2_000), [Weather::Storm], "once");
        assert_eq!(second(&mut barometer, 302, 2_000), []);
        let calm: Vec<_> = (303..330)
            .flat_map(|n| second(&mut barometer, n, 50))
            .collect();
        assert_eq!(calm, [Weather::Calm]);
        // After a long quiet, a few are no storm.
        assert_eq!(second(&mut barometer, 100_000, 90), []);
    }
}
