//! The result of `attack`.

use serde::Serialize;
use serde_json::Value;

use super::kind::Kind;
use crate::checks::{self, Checks};
use crate::job::Percentiles;
use crate::out::out;
use crate::report::{Outcome, Report, grouped, milliseconds};

/// Under attack, the 99th percentile of the good clients' latency may be so many times what it is without.
const P99_FACTOR_MAX: f64 = 3.0;
/// A shorter one is good enough, whatever it was without.
const P99_GOOD_US: u64 = 5_000;

/// One attack, or all of them at once.
#[derive(Debug, Serialize)]
pub struct Assault {
    pub name: &'static str,
    pub kinds: Vec<Kind>,
    /// Connections that attacked.
    pub connections: u64,
    pub seconds: f64,
    /// Of the good clients, from due to received, meanwhile.
    pub latency_us: Percentiles,
    /// How much the gateway's counters grew, by kind in the order of `kinds`; unknown without its metrics.
    pub counted: Vec<u64>,
    /// Addresses put into the penalty box.
    pub penalties: u64,
    /// Connections that it refused.
    pub kept_out: u64,
    /// The gateway's resident memory at the end of it, if known.
    pub gateway_rss_bytes: Option<u64>,
}

/// The whole result.
#[derive(Debug, Serialize)]
pub struct AttackReport {
    command: &'static str,
    parameters: Value,
    /// Before any attack.
    alone_us: Percentiles,
    assaults: Vec<Assault>,
    gateway_rss_before: Option<u64>,
    gateway_rss_max: Option<u64>,
    /// What `longhaul config --budget` says at most for as many connections as there were, in bytes.
    budget_bytes: Option<u64>,
    good: Report,
    good_disconnected: usize,
    pub failures: Vec<String>,
    passed: bool,
}

/// What was measured.
pub struct Findings {
    pub alone_us: Percentiles,
    pub assaults: Vec<Assault>,
    pub rss_before: Option<u64>,
    pub rss_max: Option<u64>,
    pub budget_bytes: Option<u64>,
    pub good: Report,
    pub good_disconnected: usize,
}

impl AttackReport {
    pub fn new(parameters: Value, found: Findings) -> AttackReport {
        let mut report = AttackReport {
            command: "attack",
            parameters,
            alone_us: found.alone_us,
            assaults: found.assaults,
            gateway_rss_before: found.rss_before,
            gateway_rss_max: found.rss_max,
            budget_bytes: found.budget_bytes,
            good: found.good,
            good_disconnected: found.good_disconnected,
            failures: Vec::new(),
            passed: false,
        };
        report.check();
        report
    }

    fn check(&mut self) {
        let mut checks = Checks::default();
        checks.demand(self.good.passed, || {
            "good clients: see their own result".to_owned()
        });
        checks.demand(self.good_disconnected == 0, || {
            format!("{} good clients were dropped", self.good_disconnected)
        });
        let alone = self.alone_us.p99.max(1);
        for assault in &self.assaults {
            let p99 = assault.latency_us.p99;
            let factor = p99 as f64 / alone as f64;
            checks.demand(factor <= P99_FACTOR_MAX || p99 <= P99_GOOD_US, || {
                format!(
                    "{}: the good clients' p99 is {factor:.1} times as long",
                    assault.name
                )
            });
            checks.demand(assault.connections > 0, || {
                format!("{}: no connection attacked", assault.name)
            });
            for (kind, counted) in assault.kinds.iter().zip(&assault.counted) {
                checks.demand(*counted > 0, || {
                    format!("{}: no counter moved for {}", assault.name, kind.name())
                });
            }
        }
        if let (Some(max), Some(budget)) = (self.gateway_rss_max, self.budget_bytes) {
            checks.demand(max <= budget, || {
                format!("the gateway's memory, {max} bytes, is over its budget of {budget}")
            });
        }
        self.failures = checks.failures;
        self.passed = self.failures.is_empty();
    }
}

impl Outcome for AttackReport {
    fn print(&self) {
        self.good.print();
        out!("\nattack");
        out!("  {:<24} {}", "alone", milliseconds(&self.alone_us));
        let mib = |bytes: Option<u64>| {
            bytes.map_or_else(
                || "?".to_owned(),
                |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0),
            )
        };
        for assault in &self.assaults {
            let counted: u64 = assault.counted.iter().sum();
            out!(
                "  {:<24} {}\n  {:<24} {} attackers, {:.0}/s; counted {}, {} addresses into the box, {} kept out; {} MiB",
                assault.name,
                milliseconds(&assault.latency_us),
                "",
                grouped(assault.connections),
                assault.connections as f64 / assault.seconds,
                grouped(counted),
                grouped(assault.penalties),
                grouped(assault.kept_out),
                mib(assault.gateway_rss_bytes),
            );
        }
        out!(
            "  {:<24} {} MiB before, {} most; budget at most {} MiB",
            "gateway memory",
            mib(self.gateway_rss_before),
            mib(self.gateway_rss_max),
            mib(self.budget_bytes),
        );
        out!(
            "  {:<24} {}",
            "good clients dropped",
            self.good_disconnected
        );
        checks::print(&self.failures);
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}
