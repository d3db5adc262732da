//! When to tick. Quiet: sleep on the doorbell, which the ring, other shards and the timer ring. Busy: tick at a pace
//! until three ticks in a row were empty; measured, this is several times cheaper than waking per event.
//!
//! Between ticks the whole thread sleeps, with one system call. A timer of glommio's takes several for each of its rings,
//! which was most of what an almost empty tick cost. Nothing else runs on a shard's executor but what rings the doorbell of
//! a quiet shard.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use glommio::timer::sleep;

use super::{Shard, ShardError, Ticked, clock::Clock, inbox::Inbox};
use crate::{control::Health, metrics::ShardMetrics};

/// Empty ticks before sleeping on the doorbell.
const EMPTY_TICKS_BEFORE_SLEEP: u32 = 3;
/// What a send costs, about: TCP's own work, whatever the frame's size.
const SEND_COST: Duration = Duration::from_micros(5);
/// The sweep needs a tick now and then even where nothing happens.
const QUIET_TICK: Duration = Duration::from_millis(250);
/// How long connections may take to say goodbye when the shard stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// How long to gather updates after a tick that sent this much to connections that had something a moment ago: as long as
/// those sends took. Wide fan-out thereby spends at most half of the core on sends, and its frames grow fuller instead of
/// more. What goes to a connection now and then would only come later: a tick that sends nothing else does not wait at all.
fn gather(resent: usize, max: Duration) -> Duration {
    let cost = SEND_COST * u32::try_from(resent).unwrap_or(u32::MAX).min(1 << 20);
    cost.min(max)
}

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
    let gather_max = Duration::from_micros(u64::from(shard.core.config.gather_us_max));
    let clock = Clock::since(shard.core.config.started);
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
            let Ticked { handled, resent } = shard.tick(now)?;
            let busy = started.elapsed();
            report.tick(handled, busy, started);
            if shard.is_done() {
                return Ok(());
            }
            if shard.is_stopping() && started >= *stop_by.get_or_insert(started + STOP_WITHIN) {
                return Ok(());
            }
            empty = if handled == 0 { empty + 1 } else { 0 };
            let pause = pace.saturating_sub(busy).max(gather(resent, gather_max));
            let has_more = handled >= shard.ring.full_batch() || shard.ring.is_behind();
            if pause.is_zero() || has_more {
                glommio::executor().yield_now().await;
            } else {
                std::thread::sleep(pause);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_follows_the_sends_up_to_its_bound() {
        let max = Duration::from_millis(4);
        assert_eq!(
            gather(0, max),
            Duration::ZERO,
            "nothing sent, nothing to gather for"
        );
        assert_eq!(gather(200, max), Duration::from_millis(1));
        assert_eq!(gather(usize::MAX, max), max);
        assert_eq!(gather(200, Duration::ZERO), Duration::ZERO, "turned off");
    }
}
