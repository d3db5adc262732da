//! The commands of one vehicle, in order, and how far they are delivered.

use std::collections::VecDeque;

use crate::{fleet::Holder, limits::COMMANDS_IN_FLIGHT_MAX};

/// Commands that wait for one vehicle. It is there as long as there are any.
#[derive(Debug, Default)]
pub struct Line {
    /// The vehicle's connection, as far as is known.
    at: Option<Holder>,
    /// Numbers, in the order in which they were taken.
    waiting: VecDeque<u64>,
    /// How many of the first were sent to that connection. Whichever of them ends, the others are the first still.
    in_flight: usize,
}

impl Line {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next number at the end.
    pub fn push(&mut self, number: u64) {
        self.waiting.push_back(number);
    }

    /// The vehicle is at this connection. To another one than before, everything has to go again.
    pub fn move_to(&mut self, at: Holder) {
        if self.at != Some(at) {
            self.at = Some(at);
            self.in_flight = 0;
        }
    }

    /// That connection is gone. Of one that the vehicle has left already, this is no news.
    pub fn lose(&mut self, at: Holder) {
        if self.at == Some(at) {
            self.at = None;
            self.in_flight = 0;
        }
    }

    /// A command waits no longer.
    pub fn remove(&mut self, number: u64) {
        if let Some(place) = self.waiting.iter().position(|&other| other == number) {
            self.waiting.remove(place);
            self.in_flight -= usize::from(place < self.in_flight);
        }
    }

    /// The next one to be sent now, and to where.
    pub fn next(&mut self) -> Option<(u64, Holder)> {
        let at = self.at?;
        if self.in_flight >= COMMANDS_IN_FLIGHT_MAX {
            return None;
        }
        let number = *self.waiting.get(self.in_flight)?;
        self.in_flight += 1;
        Some((number, at))
    }
}
