//! The result of a load: computed from what the generator processes found, as JSON and as a table.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use crate::checker::Counts;
use crate::checks;
use crate::cli::ResultArgs;
use crate::job::{Done, Percentiles, add_pairs};
use crate::provenance::Provenance;
use crate::seconds::{LatencyLog, Second, Seconds};

/// Share of a core above which the generator is the limit.
const GENERATOR_CPU_PERCENT_MAX: f64 = 95.0;
/// Lateness of sends above which the generator is the limit.
const GENERATOR_LATE_US_MAX: u64 = 100_000;

/// What is known besides what the generators found.
pub struct Setting {
    /// `fanout` or `replay`.
    pub command: &'static str,
    /// Its arguments.
    pub parameters: Value,
    /// Per vehicle, how many dashboards watch it.
    pub watchers: Vec<u32>,
    /// Shards of the gateway.
    pub shards: Option<usize>,
    /// When sending began.
    pub start_ns: u64,
    /// Gateway CPU between the start and the end.
    pub gateway_cpu_us: Option<u64>,
    /// Gateway memory at the end.
    pub gateway_rss_bytes: Option<u64>,
    /// Ids that dashboards had not been given when sending began.
    pub names_missing: usize,
    /// The user ended the run.
    pub interrupted: bool,
    /// It second by second.
    pub seconds: Seconds,
}

/// The result of `fanout` or `replay`.
#[derive(Debug, Serialize)]
pub struct Report {
    command: &'static str,
    parameters: Value,
    /// Updates sent.
    pub inbound: u64,
    /// Updates sent, times the dashboards that watch the vehicle.
    pub expected: u64,
    /// Distinct updates that reached a dashboard that watches the vehicle.
    pub delivered: u64,
    /// `expected - delivered`.
    pub lost: u64,
    /// The part of `lost` where a newer update of the vehicle reached the dashboard.
    pub conflated: u64,
    /// Updates that a filter does not allow.
    pub wrong: u64,
    /// Updates delivered twice.
    pub duplicates: u64,
    /// Updates that came after a newer one.
    pub out_of_order: u64,
    /// Updates that are not what was sent.
    pub corrupted: u64,
    unnamed: u64,
    snapshot: u64,
    /// Frames received.
    pub frames: u64,
    /// Bytes received.
    pub bytes_out: u64,
    /// User and system time, in microseconds.
    pub gateway_cpu_us_per_inbound: Option<f64>,
    /// The same time by another count.
    pub gateway_cpu_us_per_delivery: Option<f64>,
    /// Of one core.
    pub gateway_cpu_percent: Option<f64>,
    gateway_rss_bytes: Option<u64>,
    /// From due to received.
    pub latency_us: Percentiles,
    /// One in how many deliveries is in the percentiles; `max` is of all.
    latency_sampled_one_in: u32,
    /// From the start of sending to the last update sent or received.
    pub seconds: f64,
    shards: Option<usize>,
    /// From due to sent, without sends that the gateway held up.
    pub send_late_us: Percentiles,
    /// Sends that the gateway held up by not reading.
    sends_blocked: u64,
    /// Vehicles of which it is not known whether the gateway read all that they sent.
    pub unconfirmed: usize,
    /// Connections that ended during the run.
    pub disconnected: usize,
    /// `Error` messages, and messages that make no sense.
    pub errors: u64,
    /// Why connections ended and what errors said, the first few.
    pub reasons: Vec<String>,
    names_missing: usize,
    generator_processes: usize,
    /// Of the busiest process, while sending.
    pub generator_cpu_percent: f64,
    /// The generator could not keep its own schedule: latencies are its, not the gateway's.
    pub generator_limited: bool,
    interrupted: bool,
    /// Nothing wrong, nothing twice, nothing out of order, nothing lost but to newer updates.
    pub passed: bool,
    timeline: Vec<Second>,
    latency: LatencyLog,
}

impl Report {
    /// Puts together what the processes found, in their order.
    ///
    /// # Errors
    /// A histogram cannot be made (never, with these bounds).
    pub fn new(context: Setting, done: &[Done]) -> anyhow::Result<Self> {
        let mut counts = Counts::default();
        let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let mut late = latency.clone();
        let (mut inbound, mut expected) = (0, 0);
        for (process, part) in done.iter().enumerate() {
            counts.add(&part.counts);
            add_pairs(&mut latency, &part.latency);
            add_pairs(&mut late, &part.late);
            let vehicles = (process..).step_by(done.len());
            let mut owed = 0;
            for (&sent, vehicle) in part.sent.iter().zip(vehicles) {
                inbound += u64::from(sent);
                let watchers = context.watchers.get(vehicle).copied().unwrap_or(0);
                owed += u64::from(sent) * u64::from(watchers);
            }
            expected += part.expected.unwrap_or(owed);
        }
        let max = |value: fn(&Done) -> u64| done.iter().map(value).max().unwrap_or(0);
        let seconds_until =
            |end_ns: u64| (end_ns.saturating_sub(context.start_ns) as f64 / 1e9).max(1e-3);
        let seconds = seconds_until(max(|part| part.sent_ns.max(part.received_ns)));
        let generator_cpu_percent =
            max(|part| part.cpu_us) as f64 / seconds_until(max(|part| part.sent_ns)) / 1e4;
        let send_late_us = Percentiles::of(&late, late.max() * 1_000);
        let per = |count: u64| {
            context
                .gateway_cpu_us
                .filter(|_| count > 0)
                .map(|us| us as f64 / count as f64)
        };
        let (timeline, latency_log) = context.seconds.finish(&latency);
        let lost = expected.saturating_sub(counts.delivered);
        let errors = done.iter().map(|part| part.errors).sum::<u64>();
        let disconnected = done.iter().map(|part| part.disconnected).sum::<usize>();
        let unconfirmed = done.iter().map(|part| part.unconfirmed).sum::<usize>();
        let faults = counts.wrong
            + counts.duplicates
            + counts.out_of_order
            + counts.corrupted
            + counts.unnamed
            + errors
            + (disconnected + unconfirmed) as u64;
        Ok(Self {
            command: context.command,
            parameters: context.parameters,
            inbound,
            expected,
            delivered: counts.delivered,
            lost,
            conflated: counts.conflated,
            wrong: counts.wrong,
            duplicates: counts.duplicates,
            out_of_order: counts.out_of_order,
            corrupted: counts.corrupted,
            unnamed: counts.unnamed,
            snapshot: counts.snapshot,
            frames: counts.frames,
            bytes_out: counts.bytes,
            gateway_cpu_us_per_inbound: per(inbound),
            gateway_cpu_us_per_delivery: per(counts.delivered),
            gateway_cpu_percent: context.gateway_cpu_us.map(|us| us as f64 / seconds / 1e4),
            gateway_rss_bytes: context.gateway_rss_bytes,
            latency_us: Percentiles::of(&latency, max(|part| part.latency_max_ns)),
            latency_sampled_one_in: done.iter().map(|part| part.sample_every).max().unwrap_or(1),
            seconds,
            shards: context.shards,
            send_late_us,
            sends_blocked: done.iter().map(|part| part.blocked).sum(),
            unconfirmed,
            disconnected,
            errors,
            reasons: done
                .iter()
                .flat_map(|part| part.reasons.clone())
                .take(16)
                .collect(),
            names_missing: context.names_missing,
            generator_processes: done.len(),
            generator_cpu_percent,
            generator_limited: generator_cpu_percent > GENERATOR_CPU_PERCENT_MAX
                || send_late_us.p99 > GENERATOR_LATE_US_MAX,
            interrupted: context.interrupted,
            passed: faults == 0 && lost <= counts.conflated,
            timeline,
            latency: latency_log,
        })
    }

    /// The table for people.
    pub fn print(&self) {
        let per_second = |count: u64| {
            format!(
                "{} ({}/s)",
                grouped(count),
                grouped((count as f64 / self.seconds) as u64)
            )
        };
        let optional = |value: Option<f64>, unit: &str| {
            value.map_or_else(
                || "unknown".to_owned(),
                |value| format!("{value:.3} {unit}"),
            )
        };
        let row = |name: &str, value: String| println!("  {name:<18} {value}");
        println!(
            "\n{} over {:.1} s: {}",
            self.command,
            self.seconds,
            self.verdict()
        );
        row("inbound", per_second(self.inbound));
        row("expected", grouped(self.expected));
        row("delivered", per_second(self.delivered));
        row(
            "lost",
            format!(
                "{} (conflated {})",
                grouped(self.lost),
                grouped(self.conflated)
            ),
        );
        row("wrong", grouped(self.wrong));
        row("duplicates", grouped(self.duplicates));
        row("out of order", grouped(self.out_of_order));
        for (name, count) in [
            ("corrupted", self.corrupted),
            ("unnamed", self.unnamed),
            ("errors", self.errors),
            ("disconnected", self.disconnected as u64),
            ("unconfirmed", self.unconfirmed as u64),
            ("names missing", self.names_missing as u64),
            ("sends blocked", self.sends_blocked),
        ] {
            if count > 0 {
                row(name, grouped(count));
            }
        }
        let updates_per_frame = self.delivered as f64 / self.frames.max(1) as f64;
        row(
            "frames",
            format!(
                "{}, {updates_per_frame:.1} updates each",
                per_second(self.frames)
            ),
        );
        row("bytes out", per_second(self.bytes_out));
        row(
            "latency",
            format!(
                "{} (from due to received{})",
                milliseconds(&self.latency_us),
                self.sampling()
            ),
        );
        let cpu = self.gateway_cpu_percent.map(|percent| percent / 100.0);
        row("gateway CPU", optional(cpu, "cores"));
        row(
            "  per inbound",
            optional(self.gateway_cpu_us_per_inbound, "µs"),
        );
        row(
            "  per delivery",
            optional(self.gateway_cpu_us_per_delivery, "µs"),
        );
        if let Some(bytes) = self.gateway_rss_bytes {
            row(
                "gateway memory",
                format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
            );
        }
        let limited = if self.generator_limited {
            ", it was the limit"
        } else {
            ""
        };
        row(
            "generator",
            format!(
                "{} process(es), busiest {:.0} % of a core, sends late p99 {:.1} ms{limited}",
                self.generator_processes,
                self.generator_cpu_percent,
                self.send_late_us.p99 as f64 / 1_000.0
            ),
        );
        for reason in &self.reasons {
            println!("  ! {reason}");
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.passed, self.interrupted) {
            (true, false) => "passed",
            (true, true) => "passed, up to where it was ended",
            (false, _) => "FAILED",
        }
    }

    fn sampling(&self) -> String {
        match self.latency_sampled_one_in {
            0 | 1 => String::new(),
            some => format!(", 1 in {some}"),
        }
    }
}

/// The result of a subcommand that measures and then checks what it found.
pub trait Outcome: Serialize {
    /// The table for people.
    fn print(&self);
    /// Demands that are not met.
    fn failures(&self) -> &[String];
}

/// Shows a result, and writes it if the arguments say so: how the process ends.
///
/// # Errors
/// The file cannot be written.
pub fn conclude(outcome: &impl Outcome, args: &ResultArgs) -> anyhow::Result<ExitCode> {
    outcome.print();
    if let Some(path) = &args.json {
        write_json(path, outcome)?;
    }
    Ok(checks::exit_code(outcome.failures(), args.no_check))
}

/// A result, and where it is from.
#[derive(Serialize)]
struct Stamped<'a, R> {
    #[serde(flatten)]
    result: &'a R,
    provenance: Provenance,
}

/// Writes any result as JSON, with where it is from.
///
/// # Errors
/// The file cannot be written.
pub fn write_json(path: &Path, report: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(&Stamped {
        result: report,
        provenance: Provenance::now(),
    })?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Adds a line to a text.
pub fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(line);
    text.push('\n');
}

/// Writes a text to standard output, of which whoever reads it may have had enough (`| head`).
///
/// # Errors
/// Standard output cannot be written for another reason.
pub fn say(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to standard output")
        }
        _ => Ok(()),
    }
}

/// 1234567 as 1,234,567.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Percentiles in milliseconds.
pub fn milliseconds(latency: &Percentiles) -> String {
    let ms = |us: u64| us as f64 / 1_000.0;
    let Percentiles {
        p50,
        p99,
        p999,
        max,
    } = *latency;
    format!(
        "p50 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
        ms(p50),
        ms(p99),
        ms(p999),
        ms(max)
    )
}

#[cfg(test)]
mod tests;
