//! How much a peer may send: a token bucket in four bytes.
//!
//! It is the generic cell rate algorithm (ITU-T I.371, annex A): instead of counting tokens, a bucket holds the moment
//! at which it would be full again, so that nothing has to be refilled. Time is in microseconds modulo 2^32, which
//! wraps every 71 minutes (the `governor` crate has the same
//! algorithm with an atomic of 8 bytes and a clock of its own, which a connection with one owner and two buckets has no
//! use for); [`Bucket::settle`] keeps an idle bucket from being taken for one in debt after half of that.

/// What a limit allows.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Microseconds that one unit costs, times 2^20.
    unit_cost: u64,
    /// Microseconds' worth of units that may come at once.
    burst_us: u32,
}

/// What a message does to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the limit.
    Within,
    /// Over the burst.
    Over,
    /// Over twice the burst: the sender was told and has gone on.
    FarOver,
}

/// How far a sender is ahead of its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket(u32);

const FRACTION_BITS: u32 = 20;
/// More debt than this is not remembered; it is far over any burst.
const DEBT_MAX_US: u32 = i32::MAX as u32;

impl Rate {
    /// `per_second` units, and `burst` of them at once. `None` for a rate of 0: no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Rate> {
        let unit_cost = (1_000_000u64 << FRACTION_BITS).checked_div(u64::from(per_second))?;
        let burst_us = (u64::from(burst) * unit_cost) >> FRACTION_BITS;
        Some(Rate {
            unit_cost,
            // Twice the burst must fit beside the debt's sign.
            burst_us: u32::try_from(burst_us).map_or(DEBT_MAX_US / 4, |us| us.min(DEBT_MAX_US / 4)),
        })
    }
}

impl Bucket {
    /// A bucket that is full at `now_us`.
    #[must_use]
    pub fn full(now_us: u32) -> Bucket {
        Bucket(now_us)
    }

    /// Takes `units`, be they there or not: who goes on gets deeper into debt.
    #[inline]
    pub fn take(&mut self, units: u32, rate: Rate, now_us: u32) -> Verdict {
        let cost = (u64::from(units) * rate.unit_cost) >> FRACTION_BITS;
        let cost = u32::try_from(cost).unwrap_or(DEBT_MAX_US);
        let debt = self
            .debt_us(now_us)
            .saturating_add(cost)
            .min(rate.burst_us * 3);
        self.0 = now_us.wrapping_add(debt);
        if debt <= rate.burst_us {
            Verdict::Within
        } else if debt <= rate.burst_us * 2 {
            Verdict::Over
        } else {
            Verdict::FarOver
        }
    }

    /// Microseconds until it would be full.
    #[inline]
    #[must_use]
    pub fn debt_us(self, now_us: u32) -> u32 {
        let ahead = self.0.wrapping_sub(now_us);
        if ahead > DEBT_MAX_US { 0 } else { ahead }
    }

    /// To be called every half an hour at least.
    pub fn settle(&mut self, now_us: u32) {
        self.0 = now_us.wrapping_add(self.debt_us(now_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten a second, five at once.
    fn ten() -> Rate {
        Rate::new(10, 5).expect("not 0")
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let mut bucket = Bucket::full(1_000);
        let mut take = |now_us| bucket.take(1, ten(), now_us);
        for n in 1..=5 {
            assert_eq!(take(1_000), Verdict::Within, "{n} of the burst");
        }
        for n in 6..=10 {
            assert_eq!(take(1_000), Verdict::Over, "{n}");
        }
        assert_eq!(take(1_000), Verdict::FarOver);
        // Two seconds later it is full again, and ten a second go on for as long as one likes.
        for n in 0..1_000 {
            assert_eq!(take(2_001_000 + n * 100_000), Verdict::Within, "{n}");
        }
    }

    #[test]
    fn debt_is_forgiven_in_time_and_never_grows_without_end() {
        let mut bucket = Bucket::full(0);
        for _ in 0..1_000_000 {
            bucket.take(1, ten(), 0);
        }
        assert_eq!(bucket.debt_us(0), 1_500_000, "three bursts");
        assert_eq!(bucket.take(1, ten(), 1_100_000), Verdict::Within);
    }

    #[test]
    fn time_wraps_without_a_jump() {
        let near = u32::MAX - 50_000;
        let mut bucket = Bucket::full(near);
        for _ in 0..5 {
            assert_eq!(bucket.take(1, ten(), near), Verdict::Within);
        }
        assert_eq!(bucket.take(1, ten(), near), Verdict::Over);
        assert_eq!(
            bucket.take(1, ten(), near.wrapping_add(300_000)),
            Verdict::Within
        );
        // Idle for over an hour, looked at by the sweep now and then.
        let mut now = near;
        for _ in 0..4 {
            now = now.wrapping_add(1_000_000_000);
            bucket.settle(now);
            assert_eq!(bucket.debt_us(now), 0);
        }
    }

    #[test]
    fn small_units_add_up_exactly_enough() {
        let rate = Rate::new(1 << 20, 1 << 20).expect("a second's worth of bytes");
        let mut bucket = Bucket::full(0);
        let taken = (0..u32::MAX)
            .take_while(|_| bucket.take(100, rate, 0) == Verdict::Within)
            .count();
        assert!(
            (10_485..=11_100).contains(&taken),
            "{taken} times 100 bytes"
        );
        assert!(Rate::new(0, 9).is_none(), "no limit");
    }
}
