//! The course of a client: from one connection to the next.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::rules::{Ended, Verdict, verdict};

/// What to do after an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Come back after this time. Zero: now.
    Back { wait: Duration, token: Want },
    /// Never come back.
    Stop,
}

/// Which token to come back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// The one that there is.
    Same,
    /// Ask for one; the same one may come again.
    Asked,
    /// Ask for one, and do not come with the one that there is.
    Other,
}

/// Counts failures, and decides when and how to come back.
#[derive(Debug)]
pub(crate) struct Course {
    backoff: Backoff,
    /// A connection that lived this long was a good one.
    steady_after: Duration,
    failures: u32,
    connected_at: Option<Instant>,
    /// A token was asked for because one was refused, and no good connection has come of it yet.
    asked_again: bool,
}

impl Course {
    pub(crate) fn new(backoff: Backoff, steady_after: Duration) -> Self {
        Self {
            backoff,
            steady_after,
            failures: 0,
            connected_at: None,
            asked_again: false,
        }
    }

    /// The number of the attempt that comes next, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.failures.saturating_add(1)
    }

    /// There is a connection. That alone forgives nothing: a gateway that lets everybody in and then falls over would
    /// be called as often as it falls.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.settle(now);
        self.connected_at = Some(now);
    }

    /// A connection, or an attempt, has ended: what next?
    pub(crate) fn ended(&mut self, ended: &Ended, now: Instant, rng: &mut fastrand::Rng) -> Step {
        self.settle(now);
        self.connected_at = None;
        let (wait, token) = match verdict(ended) {
            Verdict::TakenOver => return Step::Stop,
            Verdict::After(exactly) => (exactly, Want::Same),
            Verdict::Back => (self.fail(rng), Want::Same),
            Verdict::BackSlowly => {
                self.failures = self.failures.saturating_add(1);
                (self.backoff.long_wait(rng), Want::Same)
            }
            Verdict::NewToken { spent } => {
                let token = if spent { Want::Other } else { Want::Asked };
                if self.asked_again {
                    (self.fail(rng), token)
                } else {
                    self.asked_again = true;
                    (Duration::ZERO, token)
                }
            }
        };
        Step::Back { wait, token }
    }

    fn fail(&mut self, rng: &mut fastrand::Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.wait(self.failures, rng)
    }

    /// Forgives what was before a connection that has lived for a while.
    fn settle(&mut self, now: Instant) {
        let steady = |at: Instant| now.saturating_duration_since(at) >= self.steady_after;
        if self.connected_at.is_some_and(steady) {
            self.failures = 0;
            self.asked_again = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Test {
        course: Course,
        now: Instant,
        rng: fastrand::Rng,
    }

    impl Test {
        fn new() -> Self {
            let backoff = Backoff::new(SECOND, 60 * SECOND).unwrap();
            Self {
                course: Course::new(backoff, 30 * SECOND),
                now: Instant::now(),
                rng: fastrand::Rng::with_seed(7),
            }
        }

        fn ended(&mut self, ended: Ended) -> Step {
            self.course.ended(&ended, self.now, &mut self.rng)
        }

        fn lived(&mut self, seconds: u32, ended: Ended) -> Step {
            self.course.connected(self.now);
            self.now += seconds * SECOND;
            self.ended(ended)
        }
    }

    fn lost() -> Ended {
        Ended::Lost("cable".to_owned())
    }

    fn closed(code: u16) -> Ended {
        let reason = String::new();
        Ended::Closed { code, reason }
    }

    fn refused(status: u16, retry_after: Option<Duration>) -> Ended {
        let body = String::new();
        Ended::Refused {
            status,
            retry_after,
            body,
        }
    }

    fn wait_of(step: Step) -> Duration {
        let Step::Back { wait, .. } = step else {
            panic!("it stops")
        };
        wait
    }

    #[test]
    fn a_short_connection_does_not_reset_the_backoff() {
        let mut test = Test::new();
        for _ in 0..5 {
            test.ended(lost());
        }
        assert_eq!(test.course.attempt(), 6);
        test.lived(29, lost());
        assert_eq!(test.course.attempt(), 7);
        assert!(wait_of(test.lived(30, lost())) <= SECOND, "as the first");
        assert_eq!(test.course.attempt(), 2);
    }

    #[test]
    fn a_named_time_is_kept_and_is_no_failure() {
        let mut test = Test::new();
        let step = test.ended(refused(503, Some(11 * SECOND)));
        let (wait, token) = (11 * SECOND, Want::Same);
        assert_eq!(step, Step::Back { wait, token });
        assert_eq!(test.course.attempt(), 1);
    }

    #[test]
    fn a_refused_token_is_asked_for_once_more_and_then_with_backoff() {
        let mut test = Test::new();
        let (wait, token) = (Duration::ZERO, Want::Asked);
        let at_once = Step::Back { wait, token };
        assert_eq!(test.ended(refused(401, None)), at_once);
        for _ in 0..3 {
            let step = test.ended(refused(401, None));
            assert!(wait_of(step) > Duration::ZERO);
            assert!(matches!(step, Step::Back { token, .. } if token == Want::Asked));
        }
        // A connection that lived makes up for it.
        let step = test.lived(40, closed(4501));
        let (wait, token) = (Duration::ZERO, Want::Other);
        assert_eq!(step, Step::Back { wait, token });
    }

    #[test]
    fn a_takeover_is_the_end() {
        let mut test = Test::new();
        assert_eq!(test.lived(5, closed(4502)), Step::Stop);
    }

    #[test]
    fn what_will_not_help_soon_is_tried_late() {
        let mut test = Test::new();
        assert!(wait_of(test.ended(refused(404, None))) >= 30 * SECOND);
        assert!(wait_of(test.lived(40, closed(1009))) >= 30 * SECOND);
    }
}
