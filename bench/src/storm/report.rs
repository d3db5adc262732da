//! The result of `storm`.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use super::herd::Round;
use crate::checker::{Phase, phase_percentiles};
use crate::checks::{self, Checks};
use crate::job::{Percentiles, add_pairs};
use crate::out::out;
use crate::report::{Outcome, Report, grouped, milliseconds};

/// How much longer the existing connections' deliveries may take during the storm, at the 99th percentile.
const LATENCY_RATIO_MAX: f64 = 3.0;
/// A quiet 99th percentile below this counts as this: below it, the ratio would measure the machine's scheduler.
const QUIET_P99_US_MIN: u64 = 2_000;

/// What was measured.
pub struct Findings {
    /// What the existing connections got.
    pub existing: Report,
    /// Their latencies, per process and phase: quiet, storm.
    pub phases: Vec<Vec<Phase>>,
    /// Per round: what each process found, and the gateway's CPU time.
    pub rounds: Vec<(Vec<Round>, Option<u64>)>,
}

/// One round, all processes together.
#[derive(Debug, Serialize)]
pub struct RoundReport {
    pub connected: usize,
    /// From the first `connect` until everybody was welcomed.
    seconds: f64,
    connections_per_second: f64,
    attempts: u64,
    refused_503: u64,
    refused_other: u64,
    connect_errors: u64,
    /// Connections that had been welcomed and ended.
    lost: u64,
    /// From `connect` to 101, of attempts that succeeded.
    upgrade_us: Percentiles,
    /// From the beginning of the round to `Welcome`, all attempts and waits included.
    back_us: Percentiles,
    /// What the existing load takes included.
    gateway_cpu_seconds: Option<f64>,
    connections_per_core_second: Option<f64>,
    reasons: Vec<String>,
}

impl RoundReport {
    /// Puts together what the processes found. `cpu_us`: the gateway's CPU time meanwhile.
    ///
    /// # Errors
    /// A histogram cannot be made (never, with these bounds).
    pub fn new(parts: &[Round], cpu_us: Option<u64>) -> anyhow::Result<Self> {
        let began_ns = parts.iter().map(|part| part.began_ns).min().unwrap_or(0);
        let ended_ns = parts.iter().map(|part| part.ended_ns).max().unwrap_or(0);
        let seconds = (ended_ns.saturating_sub(began_ns) as f64 / 1e9).max(1e-3);
        let sum = |value: fn(&Round) -> u64| parts.iter().map(value).sum::<u64>();
        let connected: usize = parts.iter().map(|part| part.connected).sum();
        let gateway_cpu_seconds = cpu_us.map(|us| us as f64 / 1e6);
        Ok(Self {
            connected,
            seconds,
            connections_per_second: connected as f64 / seconds,
            attempts: sum(|part| part.attempts),
            refused_503: sum(|part| part.refused_503),
            refused_other: sum(|part| part.refused_other),
            connect_errors: sum(|part| part.connect_errors),
            lost: sum(|part| part.lost),
            upgrade_us: percentiles(parts, |part| &part.upgrade_us)?,
            back_us: percentiles(parts, |part| &part.back_us)?,
            gateway_cpu_seconds,
            connections_per_core_second: gateway_cpu_seconds
                .filter(|&cpu| cpu > 0.0)
                .map(|cpu| connected as f64 / cpu),
            reasons: parts.iter().flat_map(|part| part.reasons.clone()).collect(),
        })
    }

    /// The rows for people.
    pub fn print(&self, what: &str) {
        let row = |name: &str, value: String| out!("    {name:<20} {value}");
        out!(
            "  {what}: {} connected in {:.2} s, {}/s",
            grouped(self.connected as u64),
            self.seconds,
            grouped(self.connections_per_second as u64)
        );
        row(
            "attempts",
            format!(
                "{}; 503 {}, other status {}, errors {}, lost {}",
                grouped(self.attempts),
                grouped(self.refused_503),
                grouped(self.refused_other),
                grouped(self.connect_errors),
                grouped(self.lost)
            ),
        );
        row("upgrade", milliseconds(&self.upgrade_us));
        row("until welcomed", milliseconds(&self.back_us));
        if let (Some(cpu), Some(each)) =
            (self.gateway_cpu_seconds, self.connections_per_core_second)
        {
            row(
                "gateway CPU",
                format!(
                    "{cpu:.2} s, {} connections per core-second",
                    grouped(each as u64)
                ),
            );
        }
        for reason in &self.reasons {
            out!("    ! {reason}");
        }
    }
}

/// The result of `storm`.
#[derive(Debug, Serialize)]
pub struct StormReport {
    command: &'static str,
    parameters: Value,
    connections: u32,
    rounds: Vec<RoundReport>,
    everyone_connected: bool,
    /// Connections from before the storm that ended.
    existing_lost: usize,
    existing_latency_quiet_us: Percentiles,
    existing_latency_storm_us: Percentiles,
    /// From due to sent, in the storm: what of the latency is the generator's own, which shares the machine with it.
    existing_send_late_storm_us: Percentiles,
    /// Of the 99th percentiles, storm to quiet, where less than 2 ms counts as 2 ms.
    latency_p99_ratio: f64,
    existing: Report,
    /// Demands that are not met.
    pub failures: Vec<String>,
    passed: bool,
}

impl StormReport {
    /// Puts together what was found.
    ///
    /// # Errors
    /// A histogram cannot be made (never, with these bounds).
    pub fn new(parameters: Value, connections: u32, found: Findings) -> anyhow::Result<Self> {
        let rounds = found
            .rounds
            .iter()
            .map(|(parts, cpu_us)| RoundReport::new(parts, *cpu_us))
            .collect::<Result<Vec<_>, _>>()?;
        let quiet = phase_percentiles(&found.phases, &[0])?;
        let storm = phase_percentiles(&found.phases, &[1])?;
        let mut report = Self {
            command: "storm",
            parameters,
            connections,
            everyone_connected: rounds
                .iter()
                .all(|round| round.connected == connections as usize),
            rounds,
            existing_lost: found.existing.disconnected,
            existing_latency_quiet_us: quiet,
            existing_latency_storm_us: storm,
            existing_send_late_storm_us: lateness(&found.phases, 1)?,
            latency_p99_ratio: storm.p99 as f64 / quiet.p99.max(QUIET_P99_US_MIN) as f64,
            existing: found.existing,
            failures: Vec::new(),
            passed: false,
        };
        report.check();
        Ok(report)
    }

    fn check(&mut self) {
        let mut checks = Checks::default();
        checks.demand(self.everyone_connected, || {
            "not everybody was connected in every round".to_owned()
        });
        checks.demand(self.existing.passed, || {
            "existing connections: see their own result".to_owned()
        });
        let ratio = self.latency_p99_ratio;
        checks.demand(ratio <= LATENCY_RATIO_MAX, || {
            format!("existing connections' p99 is {ratio:.1} times as long during the storm")
        });
        self.failures = checks.failures;
        self.passed = self.failures.is_empty();
    }
}

impl Outcome for StormReport {
    fn print(&self) {
        self.existing.print();
        out!(
            "\nstorm, {} connections at once",
            grouped(self.connections.into())
        );
        for (round, number) in self.rounds.iter().zip(1..) {
            round.print(&format!("round {number}"));
        }
        let row = |name: &str, value: String| out!("  {name:<22} {value}");
        row("existing lost", self.existing_lost.to_string());
        row(
            "existing, quiet",
            milliseconds(&self.existing_latency_quiet_us),
        );
        row(
            "existing, storm",
            milliseconds(&self.existing_latency_storm_us),
        );
        let late = milliseconds(&self.existing_send_late_storm_us);
        row("  sent late by", late);
        row(
            "p99, storm to quiet",
            format!(
                "{:.2} (quiet as at least {} ms)",
                self.latency_p99_ratio,
                QUIET_P99_US_MIN / 1_000
            ),
        );
        checks::print(&self.failures);
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}

fn lateness(processes: &[Vec<Phase>], phase: usize) -> anyhow::Result<Percentiles> {
    let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    for found in processes.iter().filter_map(|phases| phases.get(phase)) {
        add_pairs(&mut histogram, &found.late);
    }
    let max_ns = histogram.max() * 1_000;
    Ok(Percentiles::of(&histogram, max_ns))
}

fn percentiles(parts: &[Round], of: fn(&Round) -> &Vec<(u64, u64)>) -> anyhow::Result<Percentiles> {
    let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    for part in parts {
        add_pairs(&mut histogram, of(part));
    }
    let max_ns = histogram.max() * 1_000;
    Ok(Percentiles::of(&histogram, max_ns))
}
