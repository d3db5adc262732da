//! What the user sees while a load runs.

use std::time::{Duration, Instant};

use crate::job::Progress;
use crate::report::{grouped, milliseconds};

/// Rates over less than this are noise: the end of a run comes at any moment.
pub const SPAN_MIN_SECONDS: f64 = 0.3;

/// A moment of a run, all generator processes together.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// Sums, and the worst percentiles.
    pub progress: Progress,
    /// Vehicles of the run.
    pub vehicles: u32,
    /// Dashboards of the run.
    pub dashboards: usize,
    /// Cores that the gateway used in the last seconds.
    pub gateway_cores: Option<f64>,
    /// The gateway's resident memory.
    pub gateway_rss_bytes: Option<u64>,
}

/// Adds up what processes said last.
pub fn merge(parts: &[Progress]) -> Progress {
    let mut sum = Progress::default();
    for part in parts {
        sum.elapsed = sum.elapsed.max(part.elapsed);
        sum.inbound += part.inbound;
        sum.matches += part.matches;
        sum.counts.add(&part.counts);
        sum.latency.p50 = sum.latency.p50.max(part.latency.p50);
        sum.latency.p99 = sum.latency.p99.max(part.latency.p99);
        sum.latency.p999 = sum.latency.p999.max(part.latency.p999);
        sum.latency.max = sum.latency.max.max(part.latency.max);
        sum.late_p99_us = sum.late_p99_us.max(part.late_p99_us);
        sum.cpu_us = sum.cpu_us.max(part.cpu_us);
        sum.dashboards.extend(&part.dashboards);
    }
    sum.dashboards.sort_by_key(|dashboard| dashboard.dashboard);
    sum
}

/// Shows progress.
pub trait View {
    /// While connections are made.
    ///
    /// # Errors
    /// The terminal is gone.
    fn connecting(&mut self, ready: usize, of: usize) -> anyhow::Result<()>;
    /// Once per [`View::interval`].
    ///
    /// # Errors
    /// The terminal is gone.
    fn moment(&mut self, moment: &Moment) -> anyhow::Result<()>;
    /// How often it wants to be told.
    fn interval(&self) -> Duration;
    /// Whether the user asked to end the run. Called often.
    ///
    /// # Errors
    /// The terminal is gone.
    fn wants_to_quit(&mut self) -> anyhow::Result<bool>;
}

/// Plain lines on standard error.
pub struct Lines {
    server: &'static str,
    last: Progress,
    told: Option<Instant>,
}

impl Lines {
    /// A view that has shown nothing yet.
    pub fn new() -> Self {
        Self::naming("gateway")
    }

    /// The same, where the server is no gateway.
    pub fn naming(server: &'static str) -> Self {
        Self {
            server,
            last: Progress::default(),
            told: None,
        }
    }
}

impl View for Lines {
    fn connecting(&mut self, ready: usize, of: usize) -> anyhow::Result<()> {
        if ready == of
            || self
                .told
                .is_none_or(|told| told.elapsed() >= Duration::from_secs(1))
        {
            self.told = Some(Instant::now());
            eprintln!(
                "connected {} of {}",
                grouped(ready as u64),
                grouped(of as u64)
            );
        }
        Ok(())
    }

    fn moment(&mut self, moment: &Moment) -> anyhow::Result<()> {
        let Moment {
            progress,
            gateway_cores,
            ..
        } = moment;
        let span = progress
            .elapsed
            .saturating_sub(self.last.elapsed)
            .as_secs_f64();
        if span < SPAN_MIN_SECONDS {
            return Ok(());
        }
        let rate = |now: u64, before: u64| grouped(((now - before) as f64 / span) as u64);
        let cores = gateway_cores.map_or_else(String::new, |cores| {
            format!("  {} {cores:.2} cores", self.server)
        });
        eprintln!(
            "{:>4.0} s  in {}/s  out {}/s  {}{cores}  generator {:.2} cores",
            progress.elapsed.as_secs_f64(),
            rate(progress.inbound, self.last.inbound),
            rate(progress.counts.delivered, self.last.counts.delivered),
            milliseconds(&progress.latency),
            (progress.cpu_us - self.last.cpu_us) as f64 / 1e6 / span,
        );
        self.last = progress.clone();
        Ok(())
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn wants_to_quit(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }
}
