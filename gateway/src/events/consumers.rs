//! Durable consumers: a dashboard that comes back under its consumer's name goes on where it was.
//!
//! A consumer belongs to one user of one fleet. It has one connection at a time; a newer one takes over. Cursors live
//! here; the log's thread writes those that changed now and then, so that a crash costs a repetition and no event.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use longhaul_codec::ResumePoint;
use serde::{Deserialize, Serialize};

use crate::fleet::Holder;

/// How often it is written down that a consumer is in use, where nothing else changes, in milliseconds.
const USED_EVERY_MS: u64 = 3_600_000;

/// One consumer. Its connection writes the cursor, the log's thread reads it.
#[derive(Debug)]
pub struct Consumer {
    /// The fleet's name, the user and the consumer's own name, apart from each other by a NUL, which none of them has.
    key: Box<str>,
    epoch: AtomicU64,
    /// Everything up to here is acknowledged, or was none of its business.
    acked: AtomicU64,
    /// Up to here, something was sent: it may have been seen.
    sent: AtomicU64,
    /// When it was last used, in milliseconds since the Unix epoch.
    used_ms: AtomicU64,
    /// The connection that has it; 0: none.
    holder: AtomicU64,
    changed: AtomicBool,
}

/// What is kept of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which history `acked` counts in.
    pub epoch: u64,
    /// See [`Consumer`].
    pub acked: u64,
    /// See [`Consumer`].
    pub sent: u64,
    /// See [`Consumer`].
    pub used_ms: u64,
}

impl Cursor {
    /// For the log.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        // Into a vector, and of plain numbers: there is nothing that could fail.
        postcard::to_extend(self, Vec::new()).unwrap_or_default()
    }

    /// From the log.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Cursor> {
        postcard::from_bytes(bytes).ok()
    }
}

impl Consumer {
    /// Where it is.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch.load(Ordering::Acquire),
            acked: self.acked.load(Ordering::Acquire),
            sent: self.sent.load(Ordering::Acquire),
            used_ms: self.used_ms.load(Ordering::Relaxed),
        }
    }

    /// Whether this connection still has it.
    #[must_use]
    pub fn is_held_by(&self, holder: Holder) -> bool {
        self.holder.load(Ordering::Acquire) == holder.0.get()
    }

    /// Everything up to `sequence` is done with, says its connection. In another history than before, it begins there.
    pub fn ack(&self, by: Holder, epoch: u64, sequence: u64, now_ms: u64) {
        if !self.is_held_by(by) {
            return;
        }
        if self.epoch.load(Ordering::Acquire) != epoch {
            return self.begin(ResumePoint { epoch, sequence });
        }
        let before = self.acked.fetch_max(sequence, Ordering::AcqRel);
        let used_ms = self.used_ms.swap(now_ms, Ordering::Relaxed);
        if before < sequence || now_ms.saturating_sub(used_ms) >= USED_EVERY_MS {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Something up to `sequence` was sent to its connection.
    pub fn sent(&self, to: Holder, epoch: u64, sequence: u64) {
        if self.is_held_by(to)
            && self.epoch.load(Ordering::Acquire) == epoch
            && self.sent.fetch_max(sequence, Ordering::AcqRel) < sequence
        {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Begins at `at` in a history.
    pub fn begin(&self, at: ResumePoint) {
        self.epoch.store(at.epoch, Ordering::Release);
        self.acked.store(at.sequence, Ordering::Release);
        self.sent.store(at.sequence, Ordering::Release);
        self.changed.store(true, Ordering::Release);
    }

    /// A connection lets go of it, if it still has it.
    pub fn release(&self, holder: Holder, now_ms: u64) {
        let held =
            self.holder
                .compare_exchange(holder.0.get(), 0, Ordering::AcqRel, Ordering::Relaxed);
        if held.is_ok() {
            self.used_ms.store(now_ms, Ordering::Relaxed);
            self.changed.store(true, Ordering::Release);
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Consumers {
    inner: Mutex<Inner>,
    max: usize,
    per_user_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    by_key: HashMap<Box<str>, Arc<Consumer>>,
    /// By fleet and user: how many.
    of_user: HashMap<Box<str>, usize>,
}

impl Inner {
    fn room(&self, key: &str, max: usize, per_user_max: usize) -> Result<(), TooMany> {
        if self.by_key.contains_key(key) {
            return Ok(());
        }
        if self.by_key.len() >= max {
            return Err(TooMany::OnNode(max));
        }
        match self.of_user.get(user_of(key)) {
            Some(count) if *count >= per_user_max => Err(TooMany::OfUser(per_user_max)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, key: &str, consumer: Arc<Consumer>) {
        *self.of_user.entry(user_of(key).into()).or_default() += 1;
        self.by_key.insert(key.into(), consumer);
    }
}

/// The part of a key that says whose it is.
fn user_of(key: &str) -> &str {
    key.rsplit_once('\0').map_or(key, |(user, _)| user)
}

/// A consumer that a connection has now.
#[derive(Debug)]
pub struct Attached {
    /// The consumer.
    pub consumer: Arc<Consumer>,
    /// It did not exist: its caller says where it begins.
    pub is_new: bool,
}

/// There are as many as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Of all users.
    #[error(
        "this node keeps {0} durable consumers, its limit (limits.consumers_max): use a name that exists, or resume from \
         a sequence that you keep"
    )]
    OnNode(usize),
    /// Of this user.
    #[error(
        "you have {0} durable consumers, the limit of a user (limits.consumers_per_user_max): use a name that exists, or \
         resume from a sequence that you keep"
    )]
    OfUser(usize),
}

impl Consumers {
    /// None yet.
    #[must_use]
    pub fn new(max: usize, per_user_max: usize) -> Consumers {
        Consumers {
            inner: Mutex::default(),
            max,
            per_user_max,
        }
    }

    /// Whether there is, or may be, a consumer of this key.
    ///
    /// # Errors
    /// There are too many.
    pub fn has_room(&self, key: &str) -> Result<(), TooMany> {
        self.lock().room(key, self.max, self.per_user_max)
    }

    /// What a consumer is called in the log.
    #[must_use]
    pub fn key(fleet: &str, user: &str, name: &str) -> Box<str> {
        format!("{fleet}\0{user}\0{name}").into()
    }

    /// Gives `holder` the consumer of this key; a new one is made. Whoever had it finds out by
    /// [`Consumer::is_held_by`].
    ///
    /// # Errors
    /// There are too many.
    pub fn attach(&self, key: Box<str>, holder: Holder, now_ms: u64) -> Result<Attached, TooMany> {
        let mut inner = self.lock();
        if let Some(consumer) = inner.by_key.get(&key) {
            consumer.holder.store(holder.0.get(), Ordering::Release);
            consumer.used_ms.store(now_ms, Ordering::Relaxed);
            consumer.changed.store(true, Ordering::Release);
            return Ok(Attached {
                consumer: Arc::clone(consumer),
                is_new: false,
            });
        }
        inner.room(&key, self.max, self.per_user_max)?;
        let consumer = made(&key, holder.0.get(), None, now_ms);
        inner.add(&key, Arc::clone(&consumer));
        Ok(Attached {
            consumer,
            is_new: true,
        })
    }

    /// Puts back what the log has kept.
    pub fn restore(&self, key: &str, cursor: Cursor) {
        let mut inner = self.lock();
        if !inner.by_key.contains_key(key) {
            inner.add(key, made(key, 0, Some(cursor), cursor.used_ms));
        }
    }

    /// What changed since the last call, for the log. One that cannot be written is handed to
    /// [`Consumers::not_written`].
    #[must_use]
    pub fn take_changed(&self) -> Vec<(Box<str>, Cursor)> {
        self.lock()
            .by_key
            .values()
            .filter(|consumer| consumer.changed.swap(false, Ordering::AcqRel))
            .map(|consumer| (consumer.key.clone(), consumer.cursor()))
            .collect()
    }

    /// These have to be written again.
    pub fn not_written(&self, keys: impl Iterator<Item = Box<str>>) {
        let inner = self.lock();
        for key in keys {
            if let Some(consumer) = inner.by_key.get(&key) {
                consumer.changed.store(true, Ordering::Release);
            }
        }
    }

    /// Takes out those that nobody has and nobody has used since `before_ms`.
    #[must_use]
    pub fn expire(&self, before_ms: u64) -> Vec<Box<str>> {
        let mut inner = self.lock();
        let mut expired = Vec::new();
        inner.by_key.retain(|key, consumer| {
            let unused = consumer.holder.load(Ordering::Acquire) == 0
                && consumer.used_ms.load(Ordering::Relaxed) < before_ms;
            if unused {
                expired.push(key.clone());
            }
            !unused
        });
        for key in &expired {
            if let Some(count) = inner.of_user.get_mut(user_of(key)) {
                *count -= 1;
                if *count == 0 {
                    inner.of_user.remove(user_of(key));
                }
            }
        }
        expired
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can panic half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made(key: &str, holder: u64, cursor: Option<Cursor>, used_ms: u64) -> Arc<Consumer> {
    let Cursor {
        epoch, acked, sent, ..
    } = cursor.unwrap_or(Cursor {
        epoch: 0,
        acked: 0,
        sent: 0,
        used_ms,
    });
    Arc::new(Consumer {
        key: key.into(),
        epoch: AtomicU64::new(epoch),
        acked: AtomicU64::new(acked),
        sent: AtomicU64::new(sent),
        used_ms: AtomicU64::new(used_ms),
        holder: AtomicU64::new(holder),
        changed: AtomicBool::new(cursor.is_none()),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn holder(number: u64) -> Holder {
        Holder(NonZeroU64::new(number).expect("not 0"))
    }

    #[test]
    fn a_newer_connection_takes_over_and_finds_the_cursor() {
        let consumers = Consumers::new(3, 2);
        let key = Consumers::key("north", "ada", "desk");
        let first = consumers
            .attach(key.clone(), holder(1), 10)
            .expect("there is room");
        assert!(first.is_new && first.consumer.is_held_by(holder(1)));
        first.consumer.begin(ResumePoint {
            epoch: 7,
            sequence: 100,
        });
        first.consumer.sent(holder(1), 7, 105);
        first.consumer.ack(holder(1), 7, 103, 20);
        first.consumer.ack(holder(1), 7, 102, 30);
        let second = consumers
            .attach(key.clone(), holder(2), 40)
            .expect("it exists");
        assert!(!second.is_new && !first.consumer.is_held_by(holder(1)));
        first.consumer.release(holder(1), 50);
        first.consumer.ack(holder(1), 7, 500, 50);
        first.consumer.sent(holder(1), 7, 500);
        assert!(
            second.consumer.is_held_by(holder(2)),
            "not its own any more"
        );
        let cursor = second.consumer.cursor();
        assert_eq!((cursor.epoch, cursor.acked, cursor.sent), (7, 103, 105));
        second.consumer.ack(holder(2), 8, 3, 60);
        let cursor = second.consumer.cursor();
        assert_eq!((cursor.epoch, cursor.acked), (8, 3), "another history");
    }

    #[test]
    fn there_are_only_so_many_of_one_user_and_of_all() {
        let consumers = Consumers::new(3, 2);
        let key = |user, name| Consumers::key("north", user, name);
        let attach = |user, name| {
            let attached = consumers.attach(key(user, name), holder(1), 0);
            attached.map(|attached| attached.is_new)
        };
        assert_eq!(attach("ada", "a"), Ok(true));
        assert_eq!(attach("ada", "b"), Ok(true));
        assert_eq!(attach("ada", "c"), Err(TooMany::OfUser(2)));
        assert_eq!(attach("ada", "b"), Ok(false), "one that exists");
        assert_eq!(attach("bob", "a"), Ok(true));
        assert_eq!(attach("eve", "a"), Err(TooMany::OnNode(3)));
        assert_eq!(
            consumers.has_room(&key("eve", "a")),
            Err(TooMany::OnNode(3))
        );
        for consumer in consumers.lock().by_key.values() {
            consumer.release(holder(1), 0);
        }
        assert_eq!(consumers.expire(1).len(), 3);
        assert_eq!(attach("ada", "c"), Ok(true));
    }

    #[test]
    fn what_changed_is_written_once_and_what_is_unused_goes() {
        let consumers = Consumers::new(9, 9);
        let key = Consumers::key("north", "ada", "desk");
        let kept = Cursor {
            epoch: 7,
            acked: 5,
            sent: 6,
            used_ms: 100,
        };
        assert_eq!(Cursor::read(&kept.write()), Some(kept));
        consumers.restore(&key, kept);
        assert!(consumers.take_changed().is_empty(), "nothing is new");
        let attached = consumers
            .attach(key.clone(), holder(1), 150)
            .expect("it exists");
        attached.consumer.ack(holder(1), 7, 6, 200);
        let changed = consumers.take_changed();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].1.acked, 6);
        consumers.not_written(changed.into_iter().map(|(key, _)| key));
        assert_eq!(consumers.take_changed().len(), 1, "a write failed");
        assert!(consumers.take_changed().is_empty());
        attached.consumer.ack(holder(1), 7, 6, 300);
        assert!(consumers.take_changed().is_empty(), "nothing new");
        attached.consumer.ack(holder(1), 7, 6, 300 + USED_EVERY_MS);
        assert_eq!(consumers.take_changed().len(), 1, "it is in use");
        assert!(
            consumers.expire(u64::MAX).is_empty(),
            "somebody is connected"
        );
        let left = 400 + USED_EVERY_MS;
        attached.consumer.release(holder(1), left);
        assert!(consumers.expire(left).is_empty());
        assert_eq!(consumers.expire(left + 1), [key]);
        assert_eq!(consumers.len(), 0);
    }
}
