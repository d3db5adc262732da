//! What `idle` found, and how it is shown.

use serde::Serialize;
use serde_json::Value;

use crate::checks::Checks;
use crate::out::out;
use crate::outside::Outside;
use crate::outside::agreement::{self, Pair};
use crate::outside::syscalls::SystemCalls;
use crate::report::{Report, grouped};

/// The result of `idle`.
#[derive(Debug, Serialize)]
pub struct IdleReport {
    /// `idle`.
    pub command: &'static str,
    /// What was asked for.
    pub parameters: Value,
    /// What the connections were.
    pub role: String,
    /// What each dashboard watched.
    pub watch: Option<String>,
    /// Of how many vehicles.
    pub universe: Option<u32>,
    /// How many there were.
    pub connections: usize,
    /// How many could not be made.
    pub failed: usize,
    /// Connections that the gateway ended while they were held.
    pub dropped: usize,
    /// Why, the first few.
    pub reasons: Vec<String>,
    /// Until the last was ready.
    pub seconds_to_connect: f64,
    /// The gateway's CPU time for each, from `connect` to the first position or subscription.
    pub gateway_cpu_us_per_connect: Option<f64>,
    /// While they were made, second by second.
    pub ramp: Vec<RampSecond>,
    /// All of it.
    pub gateway_rss_bytes: Option<u64>,
    /// The baseline after a warm-up.
    pub gateway_rss_bytes_before: Option<u64>,
    /// Over the baseline after a warm-up.
    pub gateway_rss_bytes_per_connection: Option<f64>,
    /// The same, of heap and stacks only.
    pub gateway_rss_anon_bytes_per_connection: Option<f64>,
    /// Over the gateway as it was before its first connection.
    pub gateway_rss_bytes_per_connection_cold: Option<f64>,
    /// Slab, of both ends.
    pub kernel_bytes_per_connection: f64,
    /// The same, of sockets against a listener that only accepts.
    pub kernel_bytes_per_connection_bare: Option<f64>,
    /// The difference.
    pub kernel_bytes_over_bare: Option<f64>,
    /// The same difference without caches of files, which other processes on the machine disturb.
    pub kernel_unreclaimable_bytes_over_bare: Option<f64>,
    /// Of one core, while they were idle.
    pub gateway_cpu_percent: Option<f64>,
    /// Pings that the gateway sent meanwhile, by its metrics.
    pub heartbeats_per_second: Option<f64>,
    /// The gateway's process and the kernel, while they were idle.
    pub gateway_outside: Option<Outside>,
    /// System calls of the gateway at rest, if they were asked for.
    pub system_calls: Option<SystemCalls>,
    /// What was seen from outside while they were held, and what the gateway says of itself; empty if it was not asked.
    pub agreement: Vec<Pair>,
    /// How many the gateway had.
    pub shards: Option<usize>,
    /// From the last connection to the measurement.
    pub settle_seconds: f64,
    /// The load beside them, if there was one.
    pub beside: Option<Report>,
    /// Demands that are not met.
    pub failures: Vec<String>,
}

/// A moment while connections are made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RampSecond {
    /// Since the first `connect`, or nearly.
    pub seconds: f64,
    /// Connections that are ready.
    pub connections: usize,
    /// The gateway's resident memory.
    pub gateway_rss_bytes: Option<u64>,
}

impl IdleReport {
    /// Notes the demands that are not met.
    pub fn checked(mut self) -> Self {
        let mut checks = Checks::default();
        checks.demand(self.failed == 0, || {
            format!("{} connections could not be made", self.failed)
        });
        checks.demand(self.dropped == 0, || {
            format!("{} connections were ended by the gateway", self.dropped)
        });
        checks.demand(self.beside.as_ref().is_none_or(|load| load.passed), || {
            "the load beside them failed".to_owned()
        });
        let apart = self.agreement.iter().filter_map(Pair::failure);
        checks.failures.extend(apart);
        self.failures.extend(checks.failures);
        self
    }

    /// The table for people.
    pub fn print(&self) {
        let row = |name: &str, value: String| out!("  {name:<34} {value}");
        let bytes = |value: Option<f64>| {
            value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.0} bytes"))
        };
        out!(
            "\nidle, {} × {}",
            grouped(self.connections as u64),
            self.role
        );
        row(
            "failed, dropped",
            format!("{}, {}", self.failed, self.dropped),
        );
        row(
            "time to connect",
            format!("{:.1} s", self.seconds_to_connect),
        );
        row(
            "gateway CPU per connect",
            self.gateway_cpu_us_per_connect
                .map_or_else(|| "unknown".to_owned(), |us| format!("{us:.0} µs")),
        );
        row(
            "gateway memory per connection",
            bytes(self.gateway_rss_bytes_per_connection),
        );
        row(
            "  of it heap",
            bytes(self.gateway_rss_anon_bytes_per_connection),
        );
        row(
            "  without the warm-up",
            bytes(self.gateway_rss_bytes_per_connection_cold),
        );
        row(
            "kernel memory per connection",
            bytes(Some(self.kernel_bytes_per_connection)),
        );
        row(
            "  of a bare socket",
            bytes(self.kernel_bytes_per_connection_bare),
        );
        row("  over a bare socket", bytes(self.kernel_bytes_over_bare));
        row(
            "    without caches of files",
            bytes(self.kernel_unreclaimable_bytes_over_bare),
        );
        let percent = self.gateway_cpu_percent;
        row(
            "gateway CPU",
            percent.map_or_else(|| "unknown".to_owned(), |p| format!("{p:.2} %")),
        );
        if let Some(outside) = &self.gateway_outside {
            row("  from outside", outside.line(None));
        }
        if !self.agreement.is_empty() {
            row("  its own metrics", agreement::line(&self.agreement));
        }
        if let Some(calls) = &self.system_calls {
            row("  system calls", calls.line());
        }
        for reason in self.reasons.iter().chain(&self.failures) {
            out!("  ! {reason}");
        }
        if let Some(load) = &self.beside {
            load.print();
        }
    }
}
