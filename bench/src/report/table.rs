//! The table that people see of a load.

use super::{Report, grouped, milliseconds};
use crate::out::out;
use crate::outside::agreement;

impl Report {
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
        let row = |name: &str, value: String| out!("  {name:<18} {value}");
        out!(
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
        if let Some(outside) = &self.gateway_outside {
            row("  from outside", outside.line(Some(self.inbound)));
        }
        if !self.agreement.is_empty() {
            row("  its own metrics", agreement::line(&self.agreement));
        }
        if let Some(calls) = &self.system_calls {
            row("  system calls", calls.line());
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
        for reason in self.reasons.iter().chain(&self.failures) {
            out!("  ! {reason}");
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
