//! Is this process alive, and should clients be sent here? Shards report; `/healthz` and `/readyz` read.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the shards of this process report about themselves.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    stale_after: Duration,
    draining: AtomicBool,
    shards: Box<[ShardHealth]>,
}

/// One shard's report, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ShardHealth {
    listening: AtomicBool,
    ended: AtomicBool,
    /// Milliseconds from the process's start to the last beat.
    beat_ms: AtomicU64,
}

/// Why the answer is no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwell {
    /// A shard stopped reporting.
    #[error("shard {shard} has not reported for {seconds} s")]
    Silent {
        /// Which one.
        shard: usize,
        /// For how long.
        seconds: u64,
    },
    /// A shard does not listen yet.
    #[error("shard {0} is not listening yet")]
    Starting(usize),
    /// The node is going away.
    #[error("the node is draining: send new connections elsewhere")]
    Draining,
}

impl Health {
    /// For this many shards, of which each reports more often than `stale_after`.
    pub fn new(shards: usize, stale_after: Duration, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            started: now,
            stale_after,
            draining: AtomicBool::new(false),
            shards: (0..shards).map(|_| ShardHealth::default()).collect(),
        })
    }

    /// A shard reports that it is at work. Cheap enough for every tick.
    pub fn beat(&self, shard: usize, now: Instant) {
        if let Some(report) = self.shards.get(shard) {
            report.beat_ms.store(self.milliseconds(now), Relaxed);
        }
    }

    /// A shard reports that its listener accepts connections.
    pub fn listening(&self, shard: usize) {
        if let Some(report) = self.shards.get(shard) {
            report.listening.store(true, Relaxed);
        }
    }

    /// A shard has ended as it was asked to, and reports no more: the others may take longer.
    pub fn ended(&self, shard: usize) {
        if let Some(report) = self.shards.get(shard) {
            report.ended.store(true, Relaxed);
        }
    }

    /// The node is going away: from now on it is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    /// Whether the node is going away.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Whether every shard reported lately.
    ///
    /// # Errors
    /// The first shard that did not.
    pub fn alive(&self, now: Instant) -> Result<(), Unwell> {
        let now_ms = self.milliseconds(now);
        for (shard, report) in self.shards.iter().enumerate() {
            if report.ended.load(Relaxed) {
                continue;
            }
            let silent = Duration::from_millis(now_ms.saturating_sub(report.beat_ms.load(Relaxed)));
            if silent > self.stale_after {
                return Err(Unwell::Silent {
                    shard,
                    seconds: silent.as_secs(),
                });
            }
        }
        Ok(())
    }

    /// Whether clients should be sent here: alive, listening on every shard, and not draining.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn ready(&self, now: Instant) -> Result<(), Unwell> {
        if self.draining.load(Relaxed) {
            return Err(Unwell::Draining);
        }
        self.alive(now)?;
        match self
            .shards
            .iter()
            .position(|report| !report.listening.load(Relaxed))
        {
            Some(shard) => Err(Unwell::Starting(shard)),
            None => Ok(()),
        }
    }

    fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_once_all_shards_listen_and_until_it_drains() {
        let start = Instant::now();
        let health = Health::new(2, Duration::from_secs(10), start);
        assert_eq!(health.ready(start), Err(Unwell::Starting(0)));
        health.listening(0);
        assert_eq!(health.ready(start), Err(Unwell::Starting(1)));
        health.listening(1);
        health.listening(2);
        assert_eq!(health.ready(start), Ok(()));
        health.drain();
        assert_eq!(health.ready(start), Err(Unwell::Draining));
        assert_eq!(health.alive(start), Ok(()));
    }

    #[test]
    fn a_silent_shard_is_named() {
        let start = Instant::now();
        let health = Health::new(2, Duration::from_secs(10), start);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(health.alive(later(10)), Ok(()));
        assert_eq!(
            health.alive(later(11)),
            Err(Unwell::Silent {
                shard: 0,
                seconds: 11
            })
        );
        health.beat(0, later(11));
        assert_eq!(
            health.alive(later(12)),
            Err(Unwell::Silent {
                shard: 1,
                seconds: 12
            })
        );
        health.beat(1, later(12));
        assert_eq!(health.alive(later(21)), Ok(()));
        assert_eq!(
            health.ready(later(22)),
            Err(Unwell::Silent {
                shard: 0,
                seconds: 11
            })
        );
        health.ended(0);
        assert_eq!(
            health.alive(later(22)),
            Ok(()),
            "one that has ended is not sick"
        );
    }
}
