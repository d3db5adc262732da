//! The thread that fetches sets of keys. It sleeps until one is due, one grows too old, a token's key is not known, or an
//! operator reloads.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, current, park_timeout};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{KeyKeeper, fetch::fetch};
use crate::metrics::KeyMetrics;

/// It looks at the clock this often at least.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl KeyKeeper {
    /// Starts the thread, if there is something to fetch. It ends with [`KeyKeeper::stop`], or with the process: a fetch
    /// under way is not waited for.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(self: &Arc<Self>, metrics: Arc<KeyMetrics>) -> io::Result<()> {
        let mut ring = self.ring();
        ring.metrics = Some(metrics);
        self.publish(&ring);
        if ring.remotes.is_empty() {
            return Ok(());
        }
        drop(ring);
        let keeper = Arc::clone(self);
        Builder::new()
            .name("longhaul-keys".to_owned())
            .spawn(move || keeper.live())?;
        Ok(())
    }

    /// Has the thread end.
    pub fn stop(&self) {
        self.ring().stopping = true;
        self.hint.wake();
    }

    fn live(&self) {
        let started = Instant::now();
        let now_ms = || started.elapsed().as_millis() as u64;
        self.hint.listen(current());
        loop {
            let wanted = self.hint.take();
            let mut ring = self.ring();
            if ring.stopping {
                return;
            }
            let mut dropped = false;
            for remote in &mut ring.remotes {
                dropped |= remote.drop_stale(unix_s());
                if wanted {
                    remote.schedule.wanted(now_ms());
                }
            }
            if dropped {
                self.publish(&ring);
            }
            let due = |(at, remote): (usize, &super::Remote)| {
                (remote.schedule.next_ms() <= now_ms()).then_some(at)
            };
            let due: Vec<usize> = ring.remotes.iter().enumerate().filter_map(due).collect();
            drop(ring);
            for at in due {
                self.fetch(at, now_ms);
            }
            park_timeout(self.pause(now_ms()));
        }
    }

    /// Fetches one set, and has it take effect.
    fn fetch(&self, at: usize, now_ms: impl Fn() -> u64) {
        let ring = self.ring();
        let Some((url, source)) = ring
            .remotes
            .get(at)
            .map(|remote| (remote.url.clone(), remote.source.clone()))
        else {
            return;
        };
        drop(ring);
        let outcome = fetch(&url, &source, &self.auth.algorithms);
        let mut ring = self.ring();
        let metrics = ring.metrics.clone();
        let Some(remote) = ring.remotes.get_mut(at) else {
            return;
        };
        match outcome {
            Ok(fetched) => {
                remote.take(fetched, unix_s());
                remote.schedule.succeeded(now_ms(), fastrand::f64());
                if let Some(metrics) = metrics {
                    metrics.fetches.inc();
                }
                self.publish(&ring);
            }
            Err(error) => {
                remote.note_failure(&error);
                remote.schedule.failed(now_ms(), fastrand::f64());
                if let Some(metrics) = metrics {
                    metrics.fetches_failed.inc();
                }
            }
        }
    }

    /// Until something is due.
    fn pause(&self, now_ms: u64) -> Duration {
        let ring = self.ring();
        let now_unix = unix_s();
        let of_each = ring.remotes.iter().flat_map(|remote| {
            let fetch = remote.schedule.next_ms().saturating_sub(now_ms);
            let stale = remote
                .stale_unix()
                .map(|at| at.saturating_sub(now_unix).saturating_mul(1_000));
            [Some(fetch), stale].into_iter().flatten()
        });
        of_each
            .min()
            .map_or(LOOK_AGAIN, Duration::from_millis)
            .min(LOOK_AGAIN)
    }
}

fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
