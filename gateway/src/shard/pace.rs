//! When to tick. Quiet: sleep on the doorbell, which the ring, other shards and the timer ring. Busy: tick at a pace
//! until three ticks in a row were empty; measured, this is several times cheaper than waking per event.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use glommio::timer::sleep;

use super::{Shard, ShardError, clock::Clock, inbox::Inbox};
use crate::{control::Health, metrics::ShardMetrics};

/// Empty ticks before sleeping on the doorbell.
const EMPTY_TICKS_BEFORE_SLEEP: u32 = 3;
/// A batch of this many completions is full: the next tick does not wait for the pace.
const FULL_BATCH: usize = 2_048;
/// The sweep needs a tick now and then even where nothing happens.
const QUIET_TICK: Duration = Duration::from_millis(250);
/// How long connections may take to say goodbye when the shard stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Where a shard reports that it is at work.
#[derive(Debug)]
pub struct Report {
    /// The shard's number.
    pub number: usize,
    /// Its counters.
    pub metrics: Arc<ShardMetrics>,
    /// Its heartbeat.
    pub health: Arc<Health>,
}

impl Report {
    fn tick(&self, handled: usize, busy: Duration, started: Instant) {
        self.metrics.ticks.inc();
        self.metrics.ticks_empty.add(u64::from(handled == 0));
        self.metrics.busy_ns.add(busy.as_nanos() as u64);
        self.health.beat(self.number, started);
    }
}

/// Runs `shard` until it is told to stop.
///
/// # Errors
/// When the ring fails.
pub async fn run(mut shard: Shard, inbox: Arc<Inbox>, report: &Report) -> Result<(), ShardError> {
    let pace = Duration::from_micros(u64::from(shard.core.config.pace_us));
    let clock = Clock::start();
    let bell = inbox.doorbell.listener().map_err(ShardError::Doorbell)?;
    let timer = Arc::clone(&inbox);
    glommio::spawn_local(async move {
        loop {
            sleep(QUIET_TICK).await;
            timer.doorbell.ring();
        }
    })
    .detach();
    let mut stop_by: Option<Instant> = None;
    loop {
        let mut empty = 0;
        while empty < EMPTY_TICKS_BEFORE_SLEEP {
            let started = Instant::now();
            let now = clock.now();
            let handled = shard.tick(now)?;
            let busy = started.elapsed();
            report.tick(handled, busy, started);
            if shard.is_stopping() {
                let by = *stop_by.get_or_insert(started + STOP_WITHIN);
                if shard.is_done() || started >= by {
                    return Ok(());
                }
            }
            empty = if handled == 0 { empty + 1 } else { 0 };
            if handled >= FULL_BATCH || busy >= pace {
                glommio::executor().yield_now().await;
            } else {
                sleep(pace - busy).await;
            }
        }
        if let Some(due) = shard.due_in(clock.now()).filter(|due| *due < QUIET_TICK) {
            let timer = Arc::clone(&inbox);
            glommio::spawn_local(async move {
                sleep(due).await;
                timer.doorbell.ring();
            })
            .detach();
        }
        // An error here could only be a closed descriptor, and the doorbell lives as long as this task.
        let _ = bell.read_at(0, 8).await;
    }
}
