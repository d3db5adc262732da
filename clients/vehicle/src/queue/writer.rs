//! The thread that writes. While it waits for one fsync, further events gather, and the next fsync is for all of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use longhaul_codec::{Encoder, Event, Message};
use tokio::sync::{mpsc, oneshot};

use super::index::{Dropped, Index};
use super::store::{Changes, Store};
use super::{OnDropped, PublishError};

/// Events of one fsync.
const BATCH_MAX: usize = 512;
/// How long an acknowledged event may stay in the file. It costs nothing but a second sending after a kill, and each
/// removal on its own would cost an fsync, of which flash bears a limited number.
const REMOVE_WITHIN: Duration = Duration::from_millis(250);
/// A broken file is tried again this often, if nobody asks.
const MEND_EVERY: Duration = Duration::from_secs(5);
/// An encoder's buffer beyond this is given back.
const ENCODER_BYTES: usize = 256 << 10;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Job {
    Publish {
        event: Event,
        reply: oneshot::Sender<Result<u64, PublishError>>,
    },
    /// The index is ahead of the file.
    Tidy,
    Close,
}

/// A caller that waits.
type Waiting = (u64, oneshot::Sender<Result<u64, PublishError>>);

pub(super) struct Writer {
    store: Store,
    index: Arc<Mutex<Index>>,
    on_dropped: OnDropped,
    encoder: Encoder,
    wrote_at: Instant,
    /// Jobs that found no room beside the others of their commit.
    carried: Vec<Job>,
}

impl Writer {
    pub(super) fn new(store: Store, index: Arc<Mutex<Index>>, on_dropped: OnDropped) -> Self {
        Self {
            store,
            index,
            on_dropped,
            encoder: Encoder::new(),
            wrote_at: Instant::now(),
            carried: Vec::new(),
        }
    }

    /// Until [`Job::Close`], or until nobody is there to give jobs.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>, on_written: impl Fn(usize)) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
        else {
            return tracing::error!("no timer for the queue: events are refused");
        };
        let mut open = true;
        while open {
            let mut batch = std::mem::take(&mut self.carried);
            if batch.is_empty() {
                let next = runtime.block_on(async {
                    match self.tidy_at() {
                        Some(at) => tokio::time::timeout_at(at.into(), jobs.recv()).await.ok(),
                        None => Some(jobs.recv().await),
                    }
                });
                match next {
                    None => {} // it is time to tidy up
                    Some(None) => open = false,
                    Some(Some(job)) => batch.push(job),
                }
            }
            while batch.len() < BATCH_MAX
                && let Ok(job) = jobs.try_recv()
            {
                batch.push(job);
            }
            open &= !batch.iter().any(|job| matches!(job, Job::Close));
            batch.retain(|job| matches!(job, Job::Publish { .. }));
            let due = !open || self.tidy_at().is_some_and(|at| Instant::now() >= at);
            if !batch.is_empty() || due {
                match self.write(batch) {
                    0 => {}
                    written => on_written(written),
                }
            }
        }
        // Whoever still waits in the channel is told by its end.
    }

    /// When to write although nobody has published.
    fn tidy_at(&self) -> Option<Instant> {
        if self.store.is_broken() {
            return Some(self.wrote_at + MEND_EVERY);
        }
        let ahead = self.index().is_ahead();
        ahead.then_some(self.wrote_at + REMOVE_WITHIN)
    }

    /// One commit. Gives how many events it has written.
    fn write(&mut self, batch: Vec<Job>) -> usize {
        self.wrote_at = Instant::now();
        if self.store.is_broken() {
            match self.store.reopen() {
                Ok(found) => self.index().reload(found),
                Err(error) => {
                    fail(batch.into_iter().filter_map(waiting), &error.to_string());
                    return 0;
                }
            }
        }
        let (changes, callers, dropped) = self.plan(batch);
        match self.store.commit(&changes) {
            Ok(()) => {
                let written = changes.insert.len();
                let mut index = self.index();
                index.forgotten(&changes.remove);
                if let Some(owner) = &changes.owner {
                    index.owner_written(owner);
                }
                index.written(changes.insert);
                drop(index);
                if !dropped.is_empty() {
                    let ids: Vec<u64> = dropped.iter().map(|(id, _)| *id).collect();
                    (self.on_dropped)(&ids);
                }
                for (id, reply) in callers {
                    // Who has gone away in the meantime has published all the same.
                    let _ = reply.send(Ok(id));
                }
                written
            }
            Err(why) => {
                tracing::error!("the queue could not be written, which is tried again: {why}");
                self.index().restore(dropped);
                fail(callers.into_iter().map(|(_, reply)| reply), &why);
                0
            }
        }
    }

    /// Numbers the events and finds room for them.
    fn plan(&mut self, batch: Vec<Job>) -> (Changes, Vec<Waiting>, Dropped) {
        let (mut insert, mut callers, mut dropped) = (Vec::new(), Vec::new(), Dropped::new());
        let index = Arc::clone(&self.index);
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs = batch.into_iter();
        for job in jobs.by_ref() {
            let Job::Publish { mut event, reply } = job else {
                continue;
            };
            event.message_id = index.next_id(now_us());
            let id = event.message_id;
            let message = Message::Event(event);
            let bytes = Bytes::copy_from_slice(self.encoder.message(&message).payload());
            match index.admit(bytes.len()) {
                Ok(gone) => {
                    dropped.extend(gone);
                    insert.push((id, bytes));
                    callers.push((id, reply));
                }
                // The next commit may drop what this one writes.
                Err(PublishError::Full { .. }) if index.drops_oldest() && !insert.is_empty() => {
                    if let Message::Event(event) = message {
                        self.carried.push(Job::Publish { event, reply });
                    }
                    break;
                }
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        self.carried.extend(jobs);
        self.encoder.shrink(ENCODER_BYTES);
        let changes = Changes {
            insert,
            remove: index.removed(),
            last_id: index.last_id(),
            owner: index.new_owner(),
        };
        (changes, callers, dropped)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting(job: Job) -> Option<oneshot::Sender<Result<u64, PublishError>>> {
    match job {
        Job::Publish { reply, .. } => Some(reply),
        Job::Tidy | Job::Close => None,
    }
}

fn fail(callers: impl Iterator<Item = oneshot::Sender<Result<u64, PublishError>>>, why: &str) {
    for reply in callers {
        let _ = reply.send(Err(PublishError::Storage(why.to_owned())));
    }
}

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}
