//! The result of `events`.

use serde::Serialize;
use serde_json::Value;

use super::floor::Floor;
use super::night::Night;
use super::strace::Calls;
use super::stretch::Stretch;
use crate::checks::{self, Checks};
use crate::out::out;
use crate::report::{Outcome, grouped, milliseconds};

/// What one node has to make durable, in events a second.
const PER_SECOND_MIN: f64 = 20_000.0;
/// How long an Ack may take at the 99th percentile, at the rate of the arguments.
const LATENCY_P99_US_MAX: u64 = 20_000;

/// What the disk costs, without the gateway.
#[derive(Debug, Serialize)]
pub struct Floors {
    /// Appends of one event.
    pub one: Floor,
    /// Appends of as many bytes as a durable write of the throughput run's warm-up had.
    pub batch: Floor,
}

/// A time under strace.
#[derive(Debug, Serialize)]
pub struct Traced {
    pub calls: Calls,
    /// Durable writes in the same time, by the gateway's metrics.
    pub commits: u64,
    pub syncs_per_commit: f64,
    pub events: u64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// The folder is in memory, where fsync does nothing.
    pub in_memory: bool,
    pub floor_before: Floors,
    pub floor_after: Floors,
    /// Closed loop.
    pub throughput: Stretch,
    /// Open loop.
    pub latency: Stretch,
    /// None without `--strace`.
    pub traced: Option<Traced>,
    pub night: Night,
}

/// The result of `events`.
#[derive(Debug, Serialize)]
pub struct EventsReport {
    command: &'static str,
    parameters: Value,
    #[serde(flatten)]
    found: Findings,
    /// Demands that are not met.
    failures: Vec<String>,
    passed: bool,
}

impl EventsReport {
    /// Checks what was found.
    pub fn new(parameters: Value, found: Findings) -> Self {
        let mut checks = Checks::default();
        check(&found, &mut checks);
        Self {
            command: "events",
            parameters,
            found,
            passed: checks.failures.is_empty(),
            failures: checks.failures,
        }
    }
}

fn check(found: &Findings, checks: &mut Checks) {
    let Findings {
        in_memory,
        throughput,
        latency,
        traced,
        night,
        ..
    } = found;
    checks.demand(!in_memory, || {
        "the folder is in memory: this says nothing of a disk; name another with --directory"
            .to_owned()
    });
    for (name, stretch) in [
        ("throughput", throughput),
        ("latency", latency),
        ("the night", &night.published),
    ] {
        let Stretch {
            missing, errors, ..
        } = *stretch;
        checks.demand((missing, errors) == (0, 0), || {
            format!("{name}: {missing} events without an Ack, {errors} errors")
        });
    }
    let rate = throughput.acked_per_second;
    checks.demand(rate >= PER_SECOND_MIN, || {
        format!("{rate:.0} durable events a second, fewer than {PER_SECOND_MIN:.0}")
    });
    let p99 = latency.latency_us.p99;
    checks.demand(p99 < LATENCY_P99_US_MAX, || {
        format!("an Ack's p99 is {p99} µs, not below {LATENCY_P99_US_MAX} µs")
    });
    if let Some(traced) = traced {
        let Traced { calls, commits, .. } = *traced;
        checks.demand(commits > 0 && calls.syncs >= commits, || {
            format!(
                "{} calls of fsync for {commits} durable writes",
                calls.syncs
            )
        });
    }
    for morning in &night.mornings {
        checks.demand(morning.exact, || {
            format!(
                "{}: {} events, {} duplicates, {} holes, {} misplaced: not what was published",
                morning.by, morning.events, morning.duplicates, morning.holes, morning.misplaced
            )
        });
    }
    checks.demand(night.mornings.len() == 2 && night.errors == 0, || {
        format!("{} errors of the dashboards that were away", night.errors)
    });
    checks.demand(night.positions.passed, || {
        "the positions beside: see their own result".to_owned()
    });
}

fn row(name: &str, value: String) {
    out!("  {name:<22} {value}");
}

fn print_stretch(stretch: &Stretch) {
    let cost = &stretch.cost;
    row(
        "acknowledged",
        format!(
            "{} in {:.1} s, {}/s; missing {}, refused {}",
            grouped(stretch.acked),
            stretch.seconds,
            grouped(stretch.acked_per_second as u64),
            stretch.missing,
            stretch.refused
        ),
    );
    row("until the Ack", milliseconds(&stretch.latency_us));
    row(
        "durable writes",
        format!(
            "{} of {:.1} events, {:.2} ms each, under way {:.0} % of the time",
            grouped(cost.commits),
            cost.events_per_commit,
            cost.commit_ms_mean,
            cost.committing * 100.0
        ),
    );
    row(
        "gateway, per event",
        format!(
            "{:.1} µs of CPU, {:.1} of them the log's thread; {:.0} bytes to the disk",
            cost.cpu_us_per_event, cost.log_cpu_us_per_event, cost.disk_bytes_per_event
        ),
    );
    row(
        "generator",
        format!(
            "{:.0} % of a core, sends late p99 {:.1} ms",
            stretch.generator_cpu_percent,
            stretch.send_late_us.p99 as f64 / 1_000.0
        ),
    );
    for reason in &stretch.reasons {
        out!("  ! {reason}");
    }
}

fn print_floors(floors: &Floors) {
    row("one event", floors.one.line());
    row("a batch", floors.batch.line());
}

fn print_night(night: &Night) {
    out!("\nnight, as fast as the windows let them");
    print_stretch(&night.published);
    out!("\nmorning");
    for morning in &night.mornings {
        let verdict = if morning.exact { "exact" } else { "WRONG" };
        row(
            morning.by,
            format!(
                "{} events in {:.2} s, {}/s, {verdict}; redelivered {}, acks {}",
                grouped(morning.events),
                morning.seconds,
                grouped(morning.events_per_second as u64),
                morning.redelivered,
                grouped(morning.acks)
            ),
        );
    }
    let cpu = night
        .gateway_cpu_us_per_replayed
        .map_or_else(String::new, |us| format!(", {us:.1} µs of CPU each"));
    let rate = grouped(night.replayed_per_second as u64);
    row("both", format!("{rate} events/s{cpu}"));
    row("positions, quiet", milliseconds(&night.positions_quiet_us));
    row("positions, night", milliseconds(&night.positions_night_us));
    row(
        "positions, morning",
        milliseconds(&night.positions_replay_us),
    );
    for reason in &night.reasons {
        out!("  ! {reason}");
    }
}

impl Outcome for EventsReport {
    fn print(&self) {
        let found = &self.found;
        found.night.positions.print();
        out!("\nfloor, before: append and fdatasync in the log's folder, nothing else");
        print_floors(&found.floor_before);
        out!("\nthroughput, as fast as the windows let them");
        print_stretch(&found.throughput);
        out!("\nlatency, at {} events/s", self.parameters["rate"]);
        print_stretch(&found.latency);
        if let Some(traced) = &found.traced {
            out!("\nstrace on the log's thread, at the same rate");
            row(
                "fsync and fdatasync",
                format!(
                    "{} for {} durable writes of {} events: {:.2} each",
                    grouped(traced.calls.syncs),
                    grouped(traced.commits),
                    grouped(traced.events),
                    traced.syncs_per_commit
                ),
            );
            row("writes", grouped(traced.calls.writes));
        }
        print_night(&found.night);
        out!("\nfloor, after");
        print_floors(&found.floor_after);
        out!("\nevents");
        checks::print(&self.failures);
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}
