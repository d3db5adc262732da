//! The result of `churn`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::tally::Tally;
use super::{ACCEPTED, CLOSED, OPEN};
use crate::checks::{self, Checks};
use crate::metrics::Metrics;
use crate::out::out;
use crate::report::{Outcome, grouped};

/// What may stay of a whole fleet's life: the allocator's arenas, and what is known of each id for good.
const RSS_GROWTH_BYTES: u64 = 4 << 20;
const RSS_GROWTH_BYTES_PER_ID: u64 = 512;

/// What was found.
pub struct Findings {
    /// What the clients did and met with.
    pub tally: Tally,
    /// Distinct vehicle ids that the gateway heard of.
    pub ids: u32,
    /// The gateway's metrics after the warm-up.
    pub before: Metrics,
    /// After everybody left.
    pub after: Metrics,
    /// Heap and stacks.
    pub rss_before: Option<u64>,
    pub rss_after: Option<u64>,
}

/// The result of `churn`. Counters of the gateway are without the warm-up.
#[derive(Debug, Serialize)]
pub struct ChurnReport {
    command: &'static str,
    parameters: Value,
    accepted: u64,
    closed: u64,
    closed_by_cause: BTreeMap<String, u64>,
    /// Connections that the gateway still counts after all have left.
    open: u64,
    refused_by_reason: BTreeMap<String, u64>,
    messages_by_kind: BTreeMap<String, u64>,
    limit_hits: BTreeMap<String, u64>,
    open_fds_before: u64,
    open_fds_after: u64,
    /// Distinct vehicle ids that the gateway heard of.
    ids: u32,
    gateway_rss_before: Option<u64>,
    gateway_rss_after: Option<u64>,
    rss_growth_bytes_per_id: Option<f64>,
    clients: Tally,
    /// Demands that are not met.
    pub failures: Vec<String>,
    passed: bool,
}

impl ChurnReport {
    /// Puts together what was found.
    pub fn new(parameters: Value, found: Findings) -> Self {
        let Findings {
            tally,
            ids,
            before,
            after,
            rss_before,
            rss_after,
        } = found;
        let growth = rss_before
            .zip(rss_after)
            .map(|(before, after)| after.saturating_sub(before));
        let count = |of: &dyn Fn(&Metrics) -> f64| (of(&after) - of(&before)) as u64;
        let mut report = Self {
            command: "churn",
            parameters,
            accepted: count(&|metrics| metrics.value(ACCEPTED)),
            closed: count(&|metrics| metrics.sum(CLOSED)),
            closed_by_cause: after.grown(&before, CLOSED),
            open: after.sum(OPEN) as u64,
            refused_by_reason: after.grown(&before, "longhaul_upgrades_refused_total"),
            messages_by_kind: after.grown(&before, "longhaul_messages_in_total"),
            limit_hits: after.grown(&before, "longhaul_limit_hits_total"),
            open_fds_before: before.value("process_open_fds") as u64,
            open_fds_after: after.value("process_open_fds") as u64,
            ids,
            gateway_rss_before: rss_before,
            gateway_rss_after: rss_after,
            rss_growth_bytes_per_id: growth.map(|bytes| bytes as f64 / f64::from(ids.max(1))),
            clients: tally,
            failures: Vec::new(),
            passed: false,
        };
        report.check(growth);
        report
    }

    fn check(&mut self, growth: Option<u64>) {
        let mut checks = Checks::default();
        let Self {
            accepted,
            closed,
            open,
            open_fds_before,
            open_fds_after,
            ids,
            ..
        } = *self;
        checks.demand(open == 0, || {
            format!("{open} connections are still open after all clients left")
        });
        checks.demand(accepted == closed + open, || {
            format!("{accepted} accepted, but {closed} closed and {open} open")
        });
        checks.demand(open_fds_before == open_fds_after, || {
            format!("{open_fds_before} descriptors were open before, {open_fds_after} after")
        });
        let bound = RSS_GROWTH_BYTES + RSS_GROWTH_BYTES_PER_ID * u64::from(ids);
        checks.demand(growth.is_none_or(|growth| growth <= bound), || {
            let grown = growth.unwrap_or_default();
            format!("the gateway grew by {grown} bytes, more than {bound}")
        });
        let Tally {
            unparseable,
            unnamed,
            back_in_time,
            ..
        } = self.clients;
        checks.demand(self.clients.faults() == 0, || {
            format!(
                "clients got {unparseable} frames that they could not read, {unnamed} fixes without a name, \
                 {back_in_time} older than one before"
            )
        });
        checks.demand(self.clients.welcomed > 0, || "nobody got in".to_owned());
        self.failures = checks.failures;
        self.passed = self.failures.is_empty();
    }
}

impl Outcome for ChurnReport {
    fn print(&self) {
        let row = |name: &str, value: String| out!("  {name:<22} {value}");
        let Tally {
            connects,
            welcomed,
            acts,
            closes,
            refusals,
            errors,
            odd,
            acks,
            frames,
            updates,
            reasons,
            ..
        } = &self.clients;
        out!("\nchurn: {} connections accepted", grouped(self.accepted));
        row("closed, by cause", list(&self.closed_by_cause));
        row("still open", self.open.to_string());
        row("refused, by reason", list(&self.refused_by_reason));
        row("messages in", list(&self.messages_by_kind));
        row("limits hit", list(&self.limit_hits));
        row(
            "clients",
            format!(
                "{} connects, {} welcomed",
                grouped(*connects),
                grouped(*welcomed)
            ),
        );
        row("  did", list(acts));
        row("  saw close codes", list(closes));
        row("  saw refusals", list(refusals));
        row("  saw errors", list(errors));
        row("  oddities", list(odd));
        row(
            "  got",
            format!(
                "{} acks, {} updates in {} frames",
                grouped(*acks),
                grouped(*updates),
                grouped(*frames)
            ),
        );
        row(
            "descriptors",
            format!(
                "{} before, {} after",
                self.open_fds_before, self.open_fds_after
            ),
        );
        if let (Some(before), Some(after), Some(each)) = (
            self.gateway_rss_before,
            self.gateway_rss_after,
            self.rss_growth_bytes_per_id,
        ) {
            row(
                "gateway memory",
                format!(
                    "{:.1} MiB before, {:.1} after: {each:.0} bytes for each of {} ids",
                    before as f64 / 1_048_576.0,
                    after as f64 / 1_048_576.0,
                    grouped(self.ids.into())
                ),
            );
        }
        for reason in reasons {
            out!("  ! {reason}");
        }
        checks::print(&self.failures);
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}

fn list<K: std::fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(name, &count)| format!("{name} {}", grouped(count)))
        .collect();
    parts.join(", ")
}
