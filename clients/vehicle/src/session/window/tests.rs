use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

fn window(size: usize) -> Window {
    Window::new(size, Backoff::new(RETRY.0, RETRY.1).unwrap(), ANSWER_WITHIN)
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(3)
}

/// Sends ids from the queue as long as it may.
fn send(window: &mut Window, queue: &BTreeSet<u64>, now: Instant) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(after) = window.may_send_after(now) {
        let Some(&id) = queue.range(after + 1..).next() else {
            break;
        };
        window.sent(id, now);
        sent.push(id);
    }
    sent
}

#[test]
fn at_most_a_window_and_each_answer_makes_room() {
    let now = Instant::now();
    let queue: BTreeSet<u64> = (1..=9).map(|n| n * 10).collect();
    let mut window = window(3);
    assert_eq!(send(&mut window, &queue, now), [10, 20, 30]);
    window.acked(10, now);
    assert_eq!(send(&mut window, &queue, now), [40]);
    window.refused_for_good(30, now);
    window.acked(20, now);
    assert_eq!(send(&mut window, &queue, now), [50, 60]);
}

#[test]
fn one_that_is_never_answered_does_not_fall_behind() {
    let now = Instant::now();
    let queue: BTreeSet<u64> = (1..=20).collect();
    let mut window = window(4);
    assert_eq!(send(&mut window, &queue, now), [1, 2, 3, 4]);
    for id in 2..=4 {
        window.acked(id, now);
    }
    assert!(send(&mut window, &queue, now).is_empty(), "1 was lost");
    assert!(window.is_stuck(now + ANSWER_WITHIN));
    window.acked(1, now);
    assert_eq!(send(&mut window, &queue, now), [5, 6, 7, 8]);
}

#[test]
fn a_window_of_zero_is_one() {
    let now = Instant::now();
    let mut window = window(0);
    assert_eq!(send(&mut window, &(1..=3).collect(), now), [1]);
}

#[test]
fn a_refusal_goes_back_to_the_refused_one() {
    let (now, mut rng) = (Instant::now(), rng());
    let queue: BTreeSet<u64> = (1..=9).collect();
    let mut window = window(4);
    assert_eq!(send(&mut window, &queue, now), [1, 2, 3, 4]);
    window.refused_for_now(2, now, &mut rng);
    assert_eq!(window.held_to(), 2, "the gateway waits for it");
    // What was sent behind it is refused as well, which is no news.
    window.refused_for_now(3, now, &mut rng);
    window.refused_for_now(4, now, &mut rng);
    window.acked(1, now);
    let retry = window.wake_at(now).expect("it tries again");
    assert!(retry <= now + RETRY.0, "the first wait is a short one");
    assert_eq!(send(&mut window, &queue, retry), [2, 3, 4, 5]);
    assert_eq!(window.held_to(), 5);
}

#[test]
fn waits_grow_until_something_is_taken() {
    let (mut now, mut rng) = (Instant::now(), rng());
    let mut window = window(4);
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        assert_eq!(send(&mut window, &(1..=1).collect(), now), [1]);
        window.refused_for_now(1, now, &mut rng);
        let retry = window.wake_at(now).unwrap_or(now);
        assert!(window.may_send_after(now).is_none() || retry == now);
        longest = longest.max(retry - now);
        now = retry;
    }
    assert!(longest > RETRY.1.mul_f64(0.8) && longest <= RETRY.1);
    send(&mut window, &(1..=1).collect(), now);
    window.acked(1, now);
    send(&mut window, &(2..=2).collect(), now);
    window.refused_for_now(2, now, &mut rng);
    assert!(window.wake_at(now).unwrap_or(now) <= now + RETRY.0);
}

#[test]
fn a_gateway_that_owes_an_answer_is_noticed() {
    let now = Instant::now();
    let mut window = window(4);
    assert!(!window.is_stuck(now + 10 * ANSWER_WITHIN), "nothing is due");
    send(&mut window, &(1..=2).collect(), now);
    let later = now + ANSWER_WITHIN / 2;
    window.acked(1, later);
    assert!(!window.is_stuck(now + ANSWER_WITHIN), "there was an answer");
    assert_eq!(window.wake_at(later), Some(later + ANSWER_WITHIN));
    assert!(window.is_stuck(later + ANSWER_WITHIN));
    window.acked(2, later);
    assert!(!window.is_stuck(later + ANSWER_WITHIN));
}

/// A gateway by the book: takes ids in order, and refuses everything behind a refused one until that comes again.
#[derive(Default)]
struct Gateway {
    taken: Vec<u64>,
    refused: Option<u64>,
}

impl Gateway {
    /// True: acknowledged.
    fn event(&mut self, id: u64, disk_is_full: bool) -> bool {
        if self.taken.last().is_some_and(|last| id <= *last) {
            return true;
        }
        if disk_is_full || self.refused.is_some_and(|refused| id > refused) {
            self.refused.get_or_insert(id);
            return false;
        }
        self.refused = None;
        self.taken.push(id);
        true
    }
}

proptest! {
    /// Whatever is refused and however late answers come: everything arrives, once and in order.
    #[test]
    fn everything_arrives_in_order(size in 1..8usize, seed in any::<u64>(), count in 1..60u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let mut queue: BTreeSet<u64> = (1..=count).map(|n| n * 3).collect();
        let mut window = window(size);
        let mut gateway = Gateway::default();
        let mut answers: VecDeque<(u64, bool)> = VecDeque::new();
        for _ in 0..100_000 {
            if queue.is_empty() {
                break;
            }
            for id in send(&mut window, &queue, now) {
                answers.push_back((id, gateway.event(id, rng.u8(..) < 40)));
            }
            for _ in 0..rng.usize(0..4) {
                match answers.pop_front() {
                    Some((id, true)) => {
                        queue.remove(&id);
                        window.acked(id, now);
                    }
                    Some((id, false)) => window.refused_for_now(id, now, &mut rng),
                    None => {}
                }
            }
            if answers.is_empty() {
                now = window.wake_at(now).unwrap_or(now).max(now);
            }
        }
        prop_assert!(queue.is_empty(), "{queue:?} {window:?}");
        prop_assert_eq!(gateway.taken, (1..=count).map(|n| n * 3).collect::<Vec<_>>());
    }
}
