//! When a client that was not let in tries again.

use std::time::Duration;

/// Exponential backoff with full jitter: any time up to a bound that doubles with each failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Bound after the first failure.
    pub min: Duration,
    /// Highest bound.
    pub max: Duration,
}

impl Backoff {
    /// How long to wait after `failures` in a row.
    pub fn wait(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let bound = self.min.saturating_mul(1 << doublings).min(self.max);
        bound.mul_f64(rng.f64())
    }
}

/// How long to wait after a 503 that named a `Retry-After`: at least that, and up to a second more, so that those who
/// were refused together do not come back together.
pub fn after(retry_after: u32, rng: &mut fastrand::Rng) -> Duration {
    Duration::from_secs(retry_after.into()) + Duration::from_secs(1).mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_highest() {
        let backoff = Backoff {
            min: Duration::from_millis(100),
            max: Duration::from_secs(2),
        };
        let mut rng = fastrand::Rng::with_seed(1);
        for (failures, bound_ms) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (4, 800),
            (6, 2_000),
            (99, 2_000),
        ] {
            let longest = (0..1_000).map(|_| backoff.wait(failures, &mut rng)).max();
            let bound = Duration::from_millis(bound_ms);
            assert!(longest <= Some(bound) && longest > Some(bound.mul_f64(0.9)));
        }
    }

    #[test]
    fn a_named_time_is_kept() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let wait = after(3, &mut rng);
            assert!(wait >= Duration::from_secs(3) && wait <= Duration::from_secs(4));
        }
    }
}
