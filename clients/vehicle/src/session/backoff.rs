//! How long to wait before trying again.

use std::time::Duration;

use thiserror::Error;

/// The longest time that makes sense between two attempts: a vehicle that is back in reach should not wait for hours.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Bounds that are no backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a backoff from {min:?} to {max:?}: the first bound must be at least 1 ms and not over the second, and the second at most {LONGEST:?}"
)]
pub struct BackoffError {
    min: Duration,
    max: Duration,
}

/// Exponential backoff with full jitter: any time up to a bound that doubles with each failure.
///
/// Full jitter, so that vehicles that were cut off together do not come back together.
///
/// ```
/// use std::time::Duration;
/// use longhaul_vehicle::Backoff;
///
/// let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60))?;
/// assert_eq!(backoff.bound(3), Duration::from_secs(4));
/// # Ok::<(), longhaul_vehicle::BackoffError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// `min` bounds the wait after the first failure, `max` every wait.
    ///
    /// # Errors
    /// The bounds are not 1 ms <= `min` <= `max` <= one hour.
    pub const fn new(min: Duration, max: Duration) -> Result<Self, BackoffError> {
        let (low, high) = (min.as_millis(), max.as_millis());
        if low == 0 || min.as_nanos() > max.as_nanos() || high > LONGEST.as_millis() {
            return Err(BackoffError { min, max });
        }
        Ok(Self { min, max })
    }

    /// The longest wait after `failures` in a row.
    pub fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }

    /// How long to wait after `failures` in a row.
    pub fn wait(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        self.bound(failures).mul_f64(rng.f64())
    }

    /// How long to wait where trying again is unlikely to help: between half of the highest bound and all of it.
    pub fn long_wait(&self, rng: &mut fastrand::Rng) -> Duration {
        self.max.mul_f64(0.5 + rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_bound_doubles_up_to_the_highest() {
        let backoff = Backoff::new(MS(100), MS(2_000)).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        for (failures, bound) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (4, 800),
            (6, 2_000),
            (u32::MAX, 2_000),
        ] {
            assert_eq!(backoff.bound(failures), MS(bound));
            let waits: Vec<_> = (0..1_000)
                .map(|_| backoff.wait(failures, &mut rng))
                .collect();
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*most <= MS(bound) && *most > MS(bound).mul_f64(0.9));
            assert!(
                *least < MS(bound).mul_f64(0.1),
                "the whole range, from 0 on"
            );
        }
        for _ in 0..100 {
            assert!(backoff.long_wait(&mut rng) >= MS(1_000));
            assert!(backoff.long_wait(&mut rng) <= MS(2_000));
        }
    }

    #[test]
    fn bounds_are_checked() {
        for (min, max) in [
            (MS(0), MS(5)),
            (MS(6), MS(5)),
            (MS(1), LONGEST + MS(1)),
            (Duration::from_micros(9), MS(1)),
        ] {
            assert!(Backoff::new(min, max).is_err(), "{min:?} {max:?}");
        }
        assert!(Backoff::new(MS(1), LONGEST).is_ok());
    }
}
