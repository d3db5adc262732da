//! What is to be done now and then: cursors are written, what is old goes.

use std::time::{Duration, Instant};

use super::{Writer, unix_ms};

/// How often.
const EVERY: Duration = Duration::from_secs(1);

/// How long after the start no consumer expires.
const EXPIRE_AFTER: Duration = Duration::from_secs(3_600);

/// When what is due.
#[derive(Debug)]
pub(super) struct Chores {
    next: Instant,
    /// Nothing expires before that: after a start, everybody has to come back first.
    expire_from: Instant,
    /// Cursors in the batch at hand.
    cursors: Vec<Box<str>>,
}

impl Chores {
    pub(super) fn new() -> Chores {
        Chores {
            next: Instant::now() + EVERY,
            expire_from: Instant::now() + EXPIRE_AFTER,
            cursors: Vec::new(),
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
        let metrics = &self.setting.metrics;
        metrics.pending.set(self.setting.log.pending() as u64);
        if let Ok(free_bytes) = self.store.free_bytes() {
            metrics.free_bytes.set(free_bytes);
        }
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
        if Instant::now() >= self.chores.expire_from {
            let unused_since = unix_ms().saturating_sub(self.setting.events.consumer_expires_ms);
            for key in consumers.expire(unused_since) {
                self.batch.cursor(key.as_bytes(), None);
            }
        }
        for (key, cursor) in consumers.take_changed() {
            self.batch.cursor(key.as_bytes(), Some(&cursor.write()));
            self.chores.cursors.push(key);
        }
        self.setting.metrics.consumers.set(consumers.len() as u64);
    }

    /// What became of the cursors in the batch at hand.
    pub(super) fn cursors_written(&mut self, written: bool) {
        let cursors = self.chores.cursors.drain(..);
        if !written {
            self.setting.log.consumers.not_written(cursors);
        }
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
                    // The batch at hand finds out for itself; a quiet log has none.
                    self.setting.metrics.errors.inc();
                    self.stop_writing(&error);
                    return;
                }
            }
        }
    }
}
