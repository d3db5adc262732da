//! How the process goes away: from the first request to the last shard's end.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::bail;

use super::{Notice, reload::Reloader};
use crate::{
    config,
    control::{DrainOrder, Health},
    shard::{
        ShardError,
        inbox::{Inbox, Letter},
        leaving::Plan,
    },
};

/// How long shards may take to end after the window is over or a stop was asked for.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What ended the wait.
enum Heard {
    /// Nothing, in time.
    Time,
    /// A second request: be quick.
    Hurry,
    /// The last shard.
    AllEnded,
}

/// How far the process is with going away, and how long that may take from here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Going {
    /// It still lets clients in.
    Soon(Duration),
    /// It sends them away.
    Now(Duration),
}

/// The shards, as seen by whoever waits for their end.
pub(super) struct Shards {
    pub(super) notices: Receiver<Notice>,
    pub(super) running: usize,
    pub(super) inboxes: Arc<[Arc<Inbox>]>,
    pub(super) health: Arc<Health>,
    pub(super) reloader: Arc<Reloader>,
}

impl Shards {
    /// Waits until the process is asked to go, and goes. `on_drain` is called first, and again when
    /// nobody is let in any more.
    ///
    /// # Errors
    /// A shard failed, or did not end in time: the process must not stay half alive.
    pub(super) fn watch(
        &mut self,
        settings: &config::Drain,
        on_drain: impl Fn(Going),
    ) -> anyhow::Result<()> {
        // Who was asked by the control plane takes the first SIGTERM as a confirmation: a supervisor sends it as a matter
        // of course.
        let mut confirmed = true;
        let order = match self.first_notice() {
            Ok(Notice::Ended(number, outcome)) => return Err(failure(number, outcome)),
            Ok(Notice::Interrupt) => {
                tracing::info!("SIGINT: stopping at once");
                self.health.drain();
                return self.stop();
            }
            Ok(Notice::Terminate) => DrainOrder::default(),
            Ok(Notice::Drain(order)) => {
                confirmed = false;
                order
            }
            Ok(Notice::Reload) | Err(_) => bail!("every shard's thread ended without a word"),
        };
        let (grace, window) = (
            Duration::from_millis(settings.grace_ms),
            Duration::from_millis(settings.window_ms),
        );
        tracing::info!(
            grace_ms = settings.grace_ms,
            window_ms = settings.window_ms,
            "draining: not ready any more; accepting goes on for the grace period, then connections are closed over \
             the window"
        );
        self.health.drain();
        on_drain(Going::Soon(grace + window));
        if let Heard::Hurry = self.wait(grace, &mut confirmed)? {
            return self.stop();
        }
        self.post(&|| {
            Letter::Leave(Arc::new(Plan {
                window_ms: settings.window_ms,
                alternative: order
                    .alternative
                    .clone()
                    .or_else(|| settings.alternative.clone()),
                reason: order.reason.clone(),
            }))
        })?;
        on_drain(Going::Now(window));
        match self.wait(window + STOP_WITHIN, &mut confirmed)? {
            Heard::AllEnded => Ok(()),
            Heard::Hurry => self.stop(),
            Heard::Time => bail!(
                "{} shards did not end within the window and {} s",
                self.running,
                STOP_WITHIN.as_secs()
            ),
        }
    }

    /// Waits for the first notice that is about the process's end.
    fn first_notice(&self) -> Result<Notice, RecvError> {
        loop {
            match self.notices.recv() {
                Ok(Notice::Reload) => self.reloader.on_signal(),
                other => return other,
            }
        }
    }

    /// Closes everybody now.
    fn stop(&mut self) -> anyhow::Result<()> {
        self.post(&|| Letter::Stop)?;
        let by = Instant::now() + STOP_WITHIN;
        loop {
            match self.wait(by.saturating_duration_since(Instant::now()), &mut true)? {
                Heard::AllEnded => return Ok(()),
                Heard::Hurry => {}
                Heard::Time => bail!(
                    "{} shards did not stop in {} s",
                    self.running,
                    STOP_WITHIN.as_secs()
                ),
            }
        }
    }

    /// Waits for as long as this, or until there is a reason to go on.
    fn wait(&mut self, time: Duration, confirmed: &mut bool) -> anyhow::Result<Heard> {
        let by = Instant::now() + time;
        while self.running > 0 {
            match self
                .notices
                .recv_timeout(by.saturating_duration_since(Instant::now()))
            {
                Ok(Notice::Terminate) if !std::mem::replace(confirmed, true) => {}
                Ok(Notice::Terminate | Notice::Interrupt) => {
                    tracing::info!("asked a second time: closing everybody now");
                    return Ok(Heard::Hurry);
                }
                Ok(Notice::Drain(_)) => {}
                Ok(Notice::Reload) => self.reloader.on_signal(),
                Ok(Notice::Ended(_, Ok(()))) => self.running -= 1,
                Ok(Notice::Ended(number, failed)) => return Err(failure(number, failed)),
                Err(RecvTimeoutError::Timeout) => return Ok(Heard::Time),
                Err(RecvTimeoutError::Disconnected) => return Ok(Heard::AllEnded),
            }
        }
        Ok(Heard::AllEnded)
    }

    /// Puts a letter into every inbox.
    fn post(&self, letter: &dyn Fn() -> Letter) -> anyhow::Result<()> {
        let by = Instant::now() + STOP_WITHIN;
        for (number, inbox) in self.inboxes.iter().enumerate() {
            // A full inbox is being emptied.
            while inbox.post(letter()).is_err() {
                if Instant::now() >= by {
                    bail!(
                        "shard {number} has not emptied its inbox for {} s",
                        STOP_WITHIN.as_secs()
                    );
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }
}

fn failure(number: usize, outcome: Result<(), ShardError>) -> anyhow::Error {
    match outcome {
        Err(error) => anyhow::anyhow!("shard {number} failed: {error}"),
        Ok(()) => anyhow::anyhow!("shard {number} ended without being told to"),
    }
}
