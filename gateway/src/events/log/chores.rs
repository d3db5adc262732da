//! What is to be done now and then: cursors are written, what is old goes.

use std::time::{Duration, Instant};

use super::{Writer, unix_ms};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// When what is due.
#[derive(Debug)]
pub(super) struct Chores {
    next: Instant,
}

impl Chores {
    pub(super) fn new() -> Chores {
        Chores {
            next: Instant::now() + EVERY,
        }
    }
}

impl Writer {
    /// Does what is due; all of it if the log is about to be closed. What is to be written goes into the batch at hand.
    pub(super) fn chores(&mut self, closing: bool) {
        if Instant::now() < self.chores.next && !closing {
            return;
        }
        self.chores.next = Instant::now() + EVERY;
        if !self.broken {
            // Where the disk is full, this is what helps.
            self.retain();
        }
        if self.retry_at.is_none() {
            self.write_cursors();
        }
    }

    fn write_cursors(&mut self) {
        let consumers = &self.setting.log.consumers;
        let unused_since = unix_ms().saturating_sub(self.setting.events.consumer_expires_ms);
        for key in consumers.expire(unused_since) {
            self.batch.cursor(key.as_bytes(), None);
        }
        for (key, cursor) in consumers.take_changed() {
            self.batch.cursor(key.as_bytes(), Some(&cursor.write()));
        }
        self.setting.metrics.consumers.set(consumers.len() as u64);
    }

    /// Removes what is too old, and what is too much.
    fn retain(&mut self) {
        let older_than_ms = unix_ms().saturating_sub(self.setting.events.retain_ms);
        let places: Vec<_> = self
            .places
            .iter()
            .filter(|(_, place)| place.known)
            .map(|(fleet, place)| (*fleet, place.number))
            .collect();
        for (fleet, number) in places {
            let bytes_max = self.setting.events.retain_bytes;
            match self.store.retain(number, older_than_ms, bytes_max) {
                Ok(retained) => {
                    let removed = retained.first.saturating_sub(self.setting.log.first(fleet));
                    self.setting.metrics.removed.add(removed);
                    self.setting.log.set_first(fleet, retained.first);
                    if retained.more {
                        // A step at a time, so that no event waits for it.
                        self.chores.next = Instant::now();
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "cannot remove old events");
                    return;
                }
            }
        }
    }
}
