//! The thread of the audit log. It looks at the queue twenty times a second, so that nobody who records has to wake it:
//! a storm of connections costs a shard a push each and no system call.

use std::{
    io,
    sync::{
        Arc,
        atomic::Ordering::Relaxed,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{Audit, act::Omission, file::AuditFile, unix_ms};
use crate::metrics::AuditMetrics;

/// How often the queue is looked at.
const STEP: Duration = Duration::from_millis(50);
/// How often a failure is tried again, the name is compared with the file, and omissions are told.
const CHORES_EVERY: Duration = Duration::from_secs(1);
/// How often a failure is said.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// Lines are written in batches of this many bytes, and a line.
pub(super) const BATCH_BYTES: usize = 65_536;
/// How long the last lines may take.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// What is written here waits for nobody; shards do (`setpriority`).
const NICE: i32 = 5;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Open the file anew.
    Reopen(Sender<Result<(), String>>),
    /// Write what there is, and end.
    Stop,
}

/// The running thread.
#[derive(Debug)]
pub struct Handle {
    orders: Sender<Order>,
    ended: Receiver<()>,
}

impl Handle {
    /// Writes what there is, and waits for that. Call it when nobody records any more.
    pub fn stop(self) {
        let _ = self.orders.send(Order::Stop);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(STOP_WITHIN) {
            tracing::error!(
                "the last lines of the audit log were not written within {} s",
                STOP_WITHIN.as_secs()
            );
        }
    }
}

pub(super) struct Writer {
    audit: Arc<Audit>,
    file: AuditFile,
    node: Box<str>,
    metrics: Arc<AuditMetrics>,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    /// How many of [`super::Lost`] have been told.
    told_dropped: u64,
    told_refusals: u64,
    told_repeats: u64,
    failing: bool,
    chores_at: Instant,
    complained: Option<Instant>,
}

impl Writer {
    pub fn new(
        audit: Arc<Audit>,
        file: AuditFile,
        node: Box<str>,
        metrics: Arc<AuditMetrics>,
    ) -> Writer {
        metrics.writable.set(1);
        Writer {
            audit,
            file,
            node,
            metrics,
            lines: Vec::new(),
            told_dropped: 0,
            told_refusals: 0,
            told_repeats: 0,
            failing: false,
            chores_at: Instant::now() + CHORES_EVERY,
            complained: None,
        }
    }

    pub fn start(mut self, orders: Receiver<Order>) -> io::Result<Handle> {
        let (done, ended) = channel();
        let to_self = match &self.audit.on {
            Some(on) => on.orders.clone(),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        thread::Builder::new()
            .name("longhaul-audit".to_owned())
            .spawn(move || {
                // Linux counts this for the thread. A refusal costs nothing but some latency.
                let _ = rustix::process::setpriority_process(None, NICE);
                self.run(&orders);
                let _ = done.send(());
            })?;
        Ok(Handle {
            orders: to_self,
            ended,
        })
    }

    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(STEP) {
                Ok(Order::Reopen(reply)) => {
                    self.write_all();
                    let reopened = self.file.reopen();
                    let said = reopened.as_ref().map(|_| ()).map_err(ToString::to_string);
                    if let Err(error) = reopened {
                        self.failed(&error);
                    }
                    let _ = reply.send(said);
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.do_chores();
                    self.write_all();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.chores_at <= Instant::now() {
                self.chores_at = Instant::now() + CHORES_EVERY;
                self.do_chores();
            }
            // What failed is tried again with the chores.
            if !self.failing {
                self.write_all();
            }
        }
    }

    /// What is done now and then.
    fn do_chores(&mut self) {
        self.failing = false;
        if let Err(error) = self.file.follow() {
            self.failed(&error);
        }
        let Some(on) = &self.audit.on else { return };
        let (dropped, refusals, repeats) = (
            on.lost.dropped.load(Relaxed),
            on.lost.refusals.load(Relaxed),
            on.lost.repeats.load(Relaxed),
        );
        self.metrics
            .dropped
            .add(dropped - self.metrics.dropped.get());
        self.metrics
            .refusals_left_out
            .add(refusals - self.metrics.refusals_left_out.get());
        self.metrics
            .repeats_left_out
            .add(repeats - self.metrics.repeats_left_out.get());
        if self.lines.len() < BATCH_BYTES {
            let now = unix_ms();
            if dropped > self.told_dropped {
                let count = dropped - self.told_dropped;
                Omission::dropped(now, &self.node, count).write(&mut self.lines);
                self.told_dropped = dropped;
            }
            if refusals > self.told_refusals {
                let count = refusals - self.told_refusals;
                Omission::refusals(now, &self.node, count).write(&mut self.lines);
                self.told_refusals = refusals;
            }
            if repeats > self.told_repeats {
                let count = repeats - self.told_repeats;
                Omission::repeats(now, &self.node, count).write(&mut self.lines);
                self.told_repeats = repeats;
            }
        }
        self.rotate();
    }

    /// Writes what waits, in batches, until there is nothing or it fails.
    fn write_all(&mut self) {
        loop {
            self.take_batch();
            if self.lines.is_empty() || !self.write_batch() {
                return;
            }
            self.rotate();
        }
    }

    /// A file that cannot be set aside is written on.
    fn rotate(&mut self) {
        match self.file.rotate(SystemTime::now()) {
            Ok(rotated) => self.metrics.rotations.add(u64::from(rotated)),
            Err(error) => self.complain(&error),
        }
    }

    fn take_batch(&mut self) {
        let Some(on) = &self.audit.on else { return };
        while self.lines.len() < BATCH_BYTES
            && let Some(act) = on.queue.pop()
        {
            act.write(&self.node, &mut self.lines);
            self.metrics.acts.inc();
        }
        self.metrics.waiting.set(on.queue.len() as u64);
    }

    /// Returns whether all of it is in the file.
    fn write_batch(&mut self) -> bool {
        let written = self.file.append(&self.lines);
        self.lines.drain(..written.bytes);
        match written.failed {
            Some(error) => {
                self.failed(&error);
                false
            }
            None => {
                self.metrics.writable.set(1);
                if self.complained.take().is_some() {
                    tracing::info!("the audit log can be written again");
                }
                true
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.failing = true;
        self.metrics.writable.set(0);
        self.complain(error);
    }

    fn complain(&mut self, error: &io::Error) {
        self.metrics.errors.inc();
        if self
            .complained
            .is_none_or(|said| said.elapsed() >= COMPLAIN_EVERY)
        {
            self.complained = Some(Instant::now());
            tracing::error!(
                %error,
                "the audit log cannot be written (audit.file): make room, or mend what the error says; acts wait in \
                 memory as far as there is room (limits.audit_queue_max), then they are counted and lost"
            );
        }
    }
}
