//! What becomes due when. Knows no socket and no clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outbox::Outbox;
use crate::schedule::{Plan, ScheduleError, Synthetic};

/// When events are due.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Pace {
    /// Closed loop: as soon as there is room in the window, for so long.
    Window(Duration),
    /// The same, for so many events of all vehicles together.
    Batch(u64),
    /// Open loop: so many a second of all together, evenly spread, for so many seconds.
    Rate(u32, f64),
}

/// The events of one process, in time.
pub struct Course {
    pace: Pace,
    start_ns: u64,
    /// Of all processes.
    all: u32,
    /// This process's.
    vehicles: Vec<u32>,
    /// With [`Pace::Rate`], and how far it is.
    plan: Option<Synthetic>,
    number: u64,
    begun: bool,
    /// Nothing more becomes due.
    pub over: bool,
}

impl Course {
    /// For `vehicles` of `all`, from `start_ns` on.
    ///
    /// # Errors
    /// A rate that no schedule can express.
    pub fn new(
        pace: Pace,
        start_ns: u64,
        all: u32,
        vehicles: Vec<u32>,
    ) -> Result<Self, ScheduleError> {
        let plan = match pace {
            Pace::Rate(rate, seconds) => Some(Synthetic::new(all, rate, seconds)?),
            Pace::Window(_) | Pace::Batch(_) => None,
        };
        Ok(Self {
            pace,
            start_ns,
            all,
            vehicles,
            plan,
            number: 0,
            begun: false,
            over: false,
        })
    }

    /// When an event of the vehicle at `place` was due; none: whenever it was sent.
    pub fn due_ns(&self, place: usize, event: u32) -> Option<u64> {
        let plan = self.plan.as_ref()?;
        Some(self.start_ns + plan.due_ns(self.vehicles[place], event))
    }

    /// Lets become due what is, and notes who has something to send.
    pub fn advance(&mut self, now: u64, outboxes: &mut [Outbox], stirred: &mut Vec<usize>) {
        if self.over || now < self.start_ns {
            return;
        }
        let first = !std::mem::replace(&mut self.begun, true);
        match self.pace {
            Pace::Window(time) if now - self.start_ns >= time.as_nanos() as u64 => {
                self.end(outboxes);
            }
            Pace::Window(_) if first => {
                outboxes.iter_mut().for_each(|outbox| outbox.due = u32::MAX);
                stirred.extend(0..outboxes.len());
            }
            Pace::Window(_) => {}
            Pace::Batch(events) => {
                self.over = true;
                let all = u64::from(self.all);
                for (outbox, &vehicle) in outboxes.iter_mut().zip(&self.vehicles) {
                    let one_more = u64::from(u64::from(vehicle) < events % all);
                    outbox.due = (events / all + one_more) as u32;
                }
                stirred.extend(0..outboxes.len());
            }
            Pace::Rate(..) => self.schedule(now, outboxes, stirred),
        }
    }

    fn schedule(&mut self, now: u64, outboxes: &mut [Outbox], stirred: &mut Vec<usize>) {
        let Some(plan) = &self.plan else { return };
        loop {
            let Some(update) = plan.update(self.number) else {
                self.over = true;
                return;
            };
            if self.start_ns + update.due_ns > now {
                return;
            }
            self.number += 1;
            if let Ok(place) = self.vehicles.binary_search(&update.vehicle) {
                outboxes[place].due = update.sequence;
                stirred.push(place);
            }
        }
    }

    /// Ends it ahead of its time.
    pub fn end(&mut self, outboxes: &mut [Outbox]) {
        self.over = true;
        outboxes.iter_mut().for_each(Outbox::stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(pace: Pace, process: usize, now: u64) -> (Vec<u32>, bool) {
        let vehicles: Vec<u32> = (0..5).skip(process).step_by(2).collect();
        let mut outboxes = vec![Outbox::default(); vehicles.len()];
        let mut stirred = Vec::new();
        let mut course = Course::new(pace, 1_000, 5, vehicles).unwrap();
        course.advance(999, &mut outboxes, &mut stirred);
        assert!(stirred.is_empty(), "it has not begun");
        course.advance(now, &mut outboxes, &mut stirred);
        let dues = outboxes.iter().map(|outbox| outbox.due).collect();
        (dues, course.over)
    }

    #[test]
    fn a_batch_is_shared_out_among_all_vehicles() {
        assert_eq!(dues(Pace::Batch(12), 0, 1_000), (vec![3, 2, 2], true));
        assert_eq!(dues(Pace::Batch(12), 1, 1_000), (vec![3, 2], true));
    }

    #[test]
    fn a_rate_is_spread_over_time() {
        let second = 1_000_000_000;
        let pace = Pace::Rate(10, 2.0);
        assert_eq!(dues(pace, 0, 1_000), (vec![1, 0, 0], false));
        assert_eq!(dues(pace, 1, 1_000 + second), (vec![2, 2], false));
        assert_eq!(dues(pace, 0, 1_000 + 2 * second), (vec![4, 4, 4], true));
        let course = Course::new(pace, 1_000, 5, vec![1, 3]).unwrap();
        let near = |place, event| course.due_ns(place, event).map(|ns| (ns + 500) / 1_000_000);
        assert_eq!((near(0, 1), near(1, 2)), (Some(100), Some(800)));
    }

    #[test]
    fn a_window_is_open_for_its_time() {
        let pace = Pace::Window(Duration::from_nanos(50));
        assert_eq!(dues(pace, 1, 1_049), (vec![u32::MAX; 2], false));
        assert_eq!(dues(pace, 1, 1_050), (vec![0; 2], true));
    }
}
