//! The result of a load: computed from what the generator processes found, as JSON and as a [`table`].

mod table;

use std::fmt::Write as _;
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
use crate::outside::Outside;
use crate::outside::agreement::Pair;
use crate::outside::syscalls::SystemCalls;
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
    /// What it cost from the order to start until all was received.
    pub gateway_outside: Option<Outside>,
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
    /// The gateway's process and the kernel, from the order to start until all was received.
    gateway_outside: Option<Outside>,
    /// System calls of the gateway, if they were asked for.
    system_calls: Option<SystemCalls>,
    /// What was seen from outside, and what the gateway says of itself; empty if it was not asked.
    agreement: Vec<Pair>,
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
    /// Demands beside those of deliveries that are not met.
    pub failures: Vec<String>,
    /// Nothing wrong, nothing twice, nothing out of order, nothing lost but to newer updates, and no failures.
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
            gateway_outside: context.gateway_outside,
            system_calls: None,
            agreement: Vec::new(),
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
            failures: Vec::new(),
            passed: faults == 0 && lost <= counts.conflated,
            timeline,
            latency: latency_log,
        })
    }

    /// Adds what the gateway says of itself beside what was seen from outside; or why it does not.
    pub fn agree(&mut self, pairs: anyhow::Result<Vec<Pair>>) {
        match pairs {
            Ok(pairs) => {
                self.failures.extend(pairs.iter().filter_map(Pair::failure));
                self.agreement = pairs;
            }
            Err(error) => self.failures.push(format!("{error:#}")),
        }
        self.passed &= self.failures.is_empty();
    }

    /// All updates that dashboards received, whatever was right about them. `None`: some are counted twice.
    pub fn received(&self) -> Option<u64> {
        let all = self.delivered + self.snapshot + self.wrong + self.duplicates + self.corrupted;
        (self.unnamed == 0).then_some(all)
    }

    /// Adds how many system calls the gateway makes under this load.
    pub fn count(&mut self, calls: SystemCalls) {
        self.system_calls = Some(calls);
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
