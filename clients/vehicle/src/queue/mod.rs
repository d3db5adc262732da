//! The durable queue: an event that `publish` has returned for survives a kill and a power cut, until the gateway has
//! it.
//!
//! | file | what |
//! |---|---|
//! | `store` | the file |
//! | `index` | what is in it, in memory: bounds, numbers, what to send next |
//! | `writer` | the thread that writes: many events, one fsync |
//! | `error` | what can go wrong |
//!
//! Events are written as the very bytes that go to the gateway, under their number. They are also held in memory, so
//! sending never waits for a disk that is busy with fsync; the bound in bytes is therefore one of memory as well.

mod error;
mod index;
mod store;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use longhaul_codec::Event;
use tokio::sync::{mpsc, oneshot};

use index::Index;
use store::Store;
use writer::{Job, Writer};

pub use error::{PublishError, QueueError};

/// How many jobs may wait for the writer before a caller waits as well.
const JOBS_MAX: usize = 1_024;

/// Where events wait, and how many may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// The file; it is made if there is none, in a folder that must be there. One vehicle, one file.
    pub file: PathBuf,
    /// At most this many events, from 2.
    pub events_max: usize,
    /// At most this many bytes of events as they are sent: on the disk, where the file takes up to about three times
    /// as much, and in memory.
    pub bytes_max: usize,
    /// What to do with one more.
    pub when_full: WhenFull,
}

impl QueueConfig {
    /// 10,000 events, 16 MiB of them, and a full queue refuses.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            events_max: 10_000,
            bytes_max: 16 << 20,
            when_full: WhenFull::Reject,
        }
    }
}

/// What a full queue does with a new event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Refuses it: [`PublishError::Full`].
    #[default]
    Reject,
    /// Drops the oldest ones, counts and reports them. One that is under way to the gateway stays.
    DropOldest,
}

/// What was found when the queue was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Events left over from before.
    pub events: usize,
    /// The queue's file could not be read and is here now; a new one was begun.
    pub moved_aside: Option<PathBuf>,
}

/// What the writer tells about events that left the queue on its own accord.
pub(crate) type OnDropped = Box<dyn Fn(&[u64]) + Send>;

/// A handle to the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    index: Arc<Mutex<Index>>,
    jobs: mpsc::Sender<Job>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Queue {
    /// Opens the queue and starts its thread. `on_dropped` is called with what a full queue dropped, `on_written` with
    /// how many were written.
    ///
    /// # Errors
    /// Another process has it, or it cannot be read or made.
    pub(crate) fn open(
        config: &QueueConfig,
        on_dropped: OnDropped,
        on_written: impl Fn(usize) + Send + 'static,
    ) -> Result<(Self, Opened), QueueError> {
        if config.events_max < 2 || config.bytes_max == 0 {
            return Err(QueueError::Bounds);
        }
        let (store, found) = Store::open(&config.file)?;
        let opened = Opened {
            events: found.events.len(),
            moved_aside: found.moved_aside.clone(),
        };
        let index = Arc::new(Mutex::new(Index::new(config, found)));
        let (jobs, orders) = mpsc::channel(JOBS_MAX);
        let (done, ended) = oneshot::channel();
        let writer = Writer::new(store, Arc::clone(&index), on_dropped);
        std::thread::Builder::new()
            .name("longhaul-queue".to_owned())
            .spawn(move || {
                writer.run(orders, on_written);
                let _ = done.send(());
            })
            .map_err(|error| QueueError::Thread(error.to_string()))?;
        let ended = Mutex::new(Some(ended));
        Ok((Self { index, jobs, ended }, opened))
    }

    /// Hands an event over. The answer comes when it is durable. Events are numbered in the order of these calls.
    ///
    /// # Errors
    /// The queue was closed.
    pub(crate) async fn submit(
        &self,
        event: Event,
    ) -> Result<oneshot::Receiver<Result<u64, PublishError>>, PublishError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Publish { event, reply };
        self.jobs
            .send(job)
            .await
            .map_err(|_| PublishError::Closed)?;
        Ok(answer)
    }

    /// The gateway has it, or will never take it. True if it was there.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut index = self.index();
        let was_there = index.remove(id);
        self.tell(index);
        was_there
    }

    /// The event behind `after`, to be sent: it is not dropped from here on.
    pub(crate) fn next_after(&self, after: u64) -> Option<(u64, Bytes)> {
        let mut index = self.index();
        let next = index.next_after(after)?;
        index.hold_to(next.0);
        Some(next)
    }

    /// Events up to this one may be on their way, and none of them is dropped. Those behind it may be.
    pub(crate) fn hold_to(&self, id: u64) {
        self.index().hold_to(id);
    }

    /// Whose events these are, by fleet and vehicle; it is noted if nobody's yet.
    ///
    /// # Errors
    /// Somebody else's.
    pub(crate) fn belongs_to(&self, fleet: &str, vehicle: &str) -> Result<(), String> {
        let mut index = self.index();
        let yes = index.belongs_to(fleet, vehicle);
        self.tell(index);
        yes
    }

    /// How many events there are, and bytes of them.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.index().size()
    }

    /// Writes what is left to write, and gives the file free.
    pub(crate) async fn close(&self) {
        let _ = self.jobs.send(Job::Close).await;
        let ended = self
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(ended) = ended {
            let _ = ended.await;
        }
    }

    /// Lets the writer know that there is something for the file, if it sleeps.
    fn tell(&self, index: MutexGuard<'_, Index>) {
        let ahead = index.is_ahead();
        drop(index);
        if ahead {
            // A full channel wakes it as well.
            let _ = self.jobs.try_send(Job::Tidy);
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
