//! The result of `slow`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::Eviction;
use crate::checker::{Counts, Phase, phase_percentiles};
use crate::checks::{self, Checks};
use crate::job::{Done, Percentiles};
use crate::out::out;
use crate::report::{Outcome, Report, grouped, milliseconds};
use crate::resume::Resumed;

/// What one hanging dashboard may cost the gateway.
const RSS_BYTES_PER_STALLED_MAX: f64 = 65_536.0;
/// As much may grow for reasons of the healthy load: the gateway's memory is counted in pages and arenas.
const RSS_SLACK_BYTES: f64 = (1 << 20) as f64;

/// What was measured.
pub struct Findings {
    /// What the healthy dashboards got.
    pub healthy: Report,
    /// Their latencies, per process and phase.
    pub phases: Vec<Vec<Phase>>,
    /// How long the first stall was, if there was one.
    pub short_stall: Option<Duration>,
    /// What each process of hanging dashboards found.
    pub stalled: Vec<Done>,
    pub(super) eviction: Eviction,
    pub rss_before: Option<u64>,
    pub rss_max: Option<u64>,
    pub rss_after: Option<u64>,
}

/// The result of `slow`.
#[derive(Debug, Serialize)]
pub struct SlowReport {
    command: &'static str,
    parameters: Value,
    stalled: u32,
    /// Connections that the gateway closed as slow consumers while they hung, by its metrics.
    evicted: Option<u64>,
    seconds_to_first_evicted: Option<f64>,
    /// From the stop to the last eviction, if all were evicted.
    seconds_to_evict: Option<f64>,
    /// Heap and stacks, at the end of the time in which all read.
    gateway_rss_before: Option<u64>,
    /// The most while dashboards hung.
    gateway_rss_max: Option<u64>,
    gateway_rss_after: Option<u64>,
    rss_growth_bytes_per_stalled: Option<f64>,
    /// From due to received, of the healthy: while all read, and while others hung (short stall included).
    healthy_latency_quiet_us: Percentiles,
    healthy_latency_stall_us: Percentiles,
    healthy: Report,
    /// What the hanging dashboards got in all.
    stalled_counts: Counts,
    /// How the gateway ended them, by close code; 1006: without a close frame.
    stalled_closes: BTreeMap<u16, u64>,
    /// What came after the short stall; none if there was none.
    resumed: Option<Resumed>,
    /// Messages to hanging dashboards that make no sense, and `Error` messages.
    stalled_errors: u64,
    reasons: Vec<String>,
    /// Demands that are not met.
    pub failures: Vec<String>,
    passed: bool,
}

/// A gateway on its defaults has evicted whoever hangs by then.
const EVICTED_WITHIN_SECONDS: f64 = 30.0;

impl SlowReport {
    /// Puts together what was found.
    ///
    /// # Errors
    /// A histogram cannot be made (never, with these bounds).
    pub fn new(parameters: Value, stalled: u32, found: Findings) -> anyhow::Result<Self> {
        // Phases: all read; if there was a short stall, it and the recovery; the stall; after.
        let stalls: &[usize] = if found.short_stall.is_some() {
            &[1, 3]
        } else {
            &[1]
        };
        let mut stalled_counts = Counts::default();
        let mut stalled_closes = BTreeMap::new();
        let mut reasons = Vec::new();
        let mut resumed: Option<Resumed> = None;
        for part in &found.stalled {
            stalled_counts.add(&part.counts);
            for (&code, count) in &part.closes {
                *stalled_closes.entry(code).or_default() += count;
            }
            reasons.extend(part.reasons.clone());
            if let Some(found) = found
                .short_stall
                .and_then(|stall| after(stall, &part.resumed))
            {
                resumed.get_or_insert_default().add(found);
            }
        }
        let growth = found
            .rss_before
            .zip(found.rss_max)
            .map(|(before, max)| max.saturating_sub(before) as f64);
        let long = parameters["stall_seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds >= EVICTED_WITHIN_SECONDS);
        let mut report = Self {
            command: "slow",
            parameters,
            stalled,
            evicted: found.eviction.evicted,
            seconds_to_first_evicted: found.eviction.first_seconds,
            seconds_to_evict: found.eviction.all_seconds,
            gateway_rss_before: found.rss_before,
            gateway_rss_max: found.rss_max,
            gateway_rss_after: found.rss_after,
            rss_growth_bytes_per_stalled: growth.map(|bytes| bytes / f64::from(stalled.max(1))),
            healthy_latency_quiet_us: phase_percentiles(&found.phases, &[0])?,
            healthy_latency_stall_us: phase_percentiles(&found.phases, stalls)?,
            healthy: found.healthy,
            stalled_counts,
            stalled_closes,
            resumed,
            stalled_errors: found.stalled.iter().map(|part| part.errors).sum(),
            reasons,
            failures: Vec::new(),
            passed: false,
        };
        report.check(growth, long);
        Ok(report)
    }

    fn check(&mut self, growth: Option<f64>, long: bool) {
        let mut checks = Checks::default();
        if long {
            // Without its control plane, who is to say?
            let evicted = self.evicted.unwrap_or(u64::from(self.stalled));
            checks.demand(evicted >= u64::from(self.stalled), || {
                format!(
                    "{evicted} of {} hanging dashboards were evicted",
                    self.stalled
                )
            });
            let told = self.stalled_closes.get(&4008).copied().unwrap_or(0);
            checks.demand(told >= u64::from(self.stalled), || {
                format!(
                    "{told} of {} hanging dashboards learnt why (4008)",
                    self.stalled
                )
            });
        }
        checks.demand(self.healthy.passed, || {
            "healthy dashboards: see their own result".to_owned()
        });
        let Counts {
            wrong,
            duplicates,
            out_of_order,
            corrupted,
            unnamed,
            ..
        } = self.stalled_counts;
        let faults = wrong + duplicates + out_of_order + corrupted + unnamed + self.stalled_errors;
        checks.demand(faults == 0, || {
            format!("{faults} faults in what hanging dashboards got")
        });
        if let (Some(growth), Some(each)) = (growth, self.rss_growth_bytes_per_stalled) {
            let bound = RSS_BYTES_PER_STALLED_MAX * f64::from(self.stalled) + RSS_SLACK_BYTES;
            checks.demand(growth <= bound, || {
                format!("the gateway grew by {each:.0} bytes per hanging dashboard")
            });
        }
        if let Some(resumed) = &self.resumed {
            checks.demand(resumed.skipped > 0, || {
                "nothing was conflated while dashboards hung".to_owned()
            });
        }
        self.failures = checks.failures;
        self.passed = self.failures.is_empty();
    }
}

impl Outcome for SlowReport {
    fn print(&self) {
        self.healthy.print();
        let row = |name: &str, value: String| out!("  {name:<22} {value}");
        let seconds = |value: Option<f64>| {
            value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} s"))
        };
        let mib = |value: Option<u64>| {
            value.map_or_else(
                || "unknown".to_owned(),
                |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0),
            )
        };
        out!(
            "\nslow, {} dashboards that hang",
            grouped(self.stalled.into())
        );
        row(
            "evicted",
            format!(
                "{}, first after {}, all after {}",
                self.evicted.map_or_else(|| "unknown".to_owned(), grouped),
                seconds(self.seconds_to_first_evicted),
                seconds(self.seconds_to_evict)
            ),
        );
        row("close codes", format!("{:?}", self.stalled_closes));
        row(
            "gateway memory",
            format!(
                "{} MiB before, {} most, {} after",
                mib(self.gateway_rss_before),
                mib(self.gateway_rss_max),
                mib(self.gateway_rss_after)
            ),
        );
        if let Some(each) = self.rss_growth_bytes_per_stalled {
            row("  per hanging", format!("{each:.0} bytes"));
        }
        let quiet = milliseconds(&self.healthy_latency_quiet_us);
        row("healthy, all read", quiet);
        let stall = milliseconds(&self.healthy_latency_stall_us);
        row("healthy, others hang", stall);
        if let Some(resumed) = &self.resumed {
            row(
                "after the short stall",
                format!(
                    "{} updates of backlog; then {} dashboards got {} updates at once that skipped {}, none older than {} ms",
                    grouped(resumed.backlog),
                    grouped(resumed.fresh),
                    grouped(resumed.fresh_updates),
                    grouped(resumed.skipped),
                    grouped(resumed.age_ms_max)
                ),
            );
        }
        let Counts {
            wrong,
            duplicates,
            out_of_order,
            ..
        } = self.stalled_counts;
        row(
            "hanging got",
            format!(
                "{} updates, wrong {wrong}, duplicates {duplicates}, out of order {out_of_order}",
                grouped(self.stalled_counts.delivered)
            ),
        );
        checks::print(&self.failures);
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}

/// What followed a stall of this length: a machine that is very busy may hold a process up for shorter times besides.
fn after(stall: Duration, resumed: &[Resumed]) -> Option<&Resumed> {
    let shortest_ms = stall.as_millis() as u64 * 9 / 10;
    resumed.iter().find(|found| found.stopped_ms >= shortest_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hiccup_is_not_taken_for_the_stall() {
        let of = |stopped_ms| Resumed {
            stopped_ms,
            ..Resumed::default()
        };
        let resumed = [of(1_200), of(4_990), of(20_000)];
        let stall = Duration::from_secs(5);
        assert_eq!(after(stall, &resumed), Some(&resumed[1]));
        assert_eq!(after(stall, &resumed[..1]), None);
    }
}
