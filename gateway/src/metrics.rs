//! What the gateway counts. Each shard has a block of single-writer counters of its own; a scrape sums them.
//!
//! Adding one is adding a line to the table in `metrics/shard.rs`.
//!
//! - `metrics/cell.rs`: a counter and a gauge that cost their one writer a plain store
//! - `metrics/family.rs`: the macro that turns the table into the struct and the scrape
//! - `metrics/shard.rs`: the table
//! - `metrics/state.rs`: a table of the same kind, for the keeper of state
//! - `metrics/log.rs`: another one, for the event log
//! - `metrics/keys.rs`: another one, for keys
//! - `metrics/audit.rs`: another one, for the audit log
//! - `metrics/revocations.rs`: another one, for the keeper of revocations
//! - `metrics/census.rs`: who is connected
//! - `metrics/groups.rs`: how many groups there are
//! - `metrics/penalty.rs`: who is kept out
//! - `metrics/process.rs`: CPU, memory and descriptors of the process, read when scraped
#![forbid(unsafe_code)]

use std::slice;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod audit;
mod cell;
mod census;
mod family;
mod groups;
mod keys;
mod log;
mod penalty;
mod process;
mod revocations;
mod shard;
mod state;

use census::CensusMetrics;

use crate::session::census::Census;

pub use audit::AuditMetrics;
pub use cell::{Counter, Gauge};
pub use groups::GroupMetrics;
pub use keys::KeyMetrics;
pub use log::LogMetrics;
pub use penalty::PenaltyMetrics;
pub use process::ProcessMetrics;
pub use revocations::RevocationMetrics;
pub use shard::ShardMetrics;
pub use state::StateMetrics;

/// Every metric of this process.
#[derive(Debug)]
pub struct Metrics {
    shards: Vec<Arc<ShardMetrics>>,
    state: Arc<StateMetrics>,
    log: Arc<LogMetrics>,
    keys: Arc<KeyMetrics>,
    audit: Arc<AuditMetrics>,
    revocations: Arc<RevocationMetrics>,
    process: Arc<ProcessMetrics>,
}

impl Metrics {
    /// Zeroes for this many shards.
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            shards: (0..shards)
                .map(|_| Arc::new(ShardMetrics::default()))
                .collect(),
            state: Arc::new(StateMetrics::default()),
            log: Arc::new(LogMetrics::default()),
            keys: Arc::new(KeyMetrics::default()),
            audit: Arc::new(AuditMetrics::default()),
            revocations: Arc::new(RevocationMetrics::default()),
            process: Arc::new(ProcessMetrics::default()),
        })
    }

    /// The counters of one shard, for that shard's thread alone to write. None: there is no such shard.
    pub fn shard(&self, index: usize) -> Option<Arc<ShardMetrics>> {
        self.shards.get(index).cloned()
    }

    /// The counters of the keeper of state, for it alone to write.
    pub fn state(&self) -> Arc<StateMetrics> {
        Arc::clone(&self.state)
    }

    /// The counters of the event log, for its thread alone to write.
    pub fn log(&self) -> Arc<LogMetrics> {
        Arc::clone(&self.log)
    }

    /// The counters of the audit log, for its thread alone to write.
    pub fn audit(&self) -> Arc<AuditMetrics> {
        Arc::clone(&self.audit)
    }

    /// The counters of the keeper of keys, for it alone to write.
    pub fn keys(&self) -> Arc<KeyMetrics> {
        Arc::clone(&self.keys)
    }

    /// The counters of the keeper of revocations, for it alone to write.
    pub fn revocations(&self) -> Arc<RevocationMetrics> {
        Arc::clone(&self.revocations)
    }

    /// The process's own metrics; a shard with its own descriptor table says so here.
    pub fn process(&self) -> &ProcessMetrics {
        &self.process
    }

    /// What `/metrics` encodes. More collectors may be registered with it.
    pub fn registry(self: &Arc<Self>, census: &Arc<Census>) -> Registry {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("longhaul_build", "Which Longhaul this is", build);
        registry.register_collector(Box::new(Arc::clone(self)));
        registry.register_collector(Box::new(CensusMetrics(Arc::clone(census))));
        registry
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        ShardMetrics::encode(&self.shards, &mut encoder)?;
        StateMetrics::encode(slice::from_ref(&self.state), &mut encoder)?;
        LogMetrics::encode(slice::from_ref(&self.log), &mut encoder)?;
        KeyMetrics::encode(slice::from_ref(&self.keys), &mut encoder)?;
        AuditMetrics::encode(slice::from_ref(&self.audit), &mut encoder)?;
        RevocationMetrics::encode(slice::from_ref(&self.revocations), &mut encoder)?;
        self.process.encode(&mut encoder)
    }
}

/// Writes one metric without labels.
fn encode_one(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> std::fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prometheus_client::encoding::text::encode;

    use super::*;

    fn census() -> Arc<Census> {
        let config = crate::config::Config::defaults().expect("defaults are good");
        Arc::new(Census::new(&config.limits))
    }

    fn scrape(metrics: &Arc<Metrics>) -> String {
        let mut text = String::new();
        encode(&mut text, &metrics.registry(&census())).expect("a String takes any text");
        text
    }

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn a_scrape_sums_the_shards() {
        let metrics = Metrics::new(3);
        for (index, accepted) in [5, 7, 11].into_iter().enumerate() {
            let shard = metrics.shard(index).expect("a shard");
            shard.connections_accepted.add(accepted);
            shard.connections_open_vehicle.add(accepted);
            shard.connections_open_vehicle.sub(2);
            shard.closed_by_peer.inc();
            shard.busy_ns.add(1_500_000_000);
        }
        assert!(metrics.shard(3).is_none());
        let text = scrape(&metrics);
        assert_eq!(
            value(&text, "longhaul_connections_accepted_total"),
            Some(23.0),
            "{text}"
        );
        assert_eq!(
            value(&text, "longhaul_connections_open{role=\"vehicle\"}"),
            Some(17.0),
            "{text}"
        );
        assert_eq!(
            value(&text, "longhaul_connections_open{role=\"dashboard\"}"),
            Some(0.0),
            "{text}"
        );
        assert_eq!(
            value(&text, "longhaul_connections_closed_total{cause=\"peer\"}"),
            Some(3.0),
            "{text}"
        );
        assert_eq!(
            value(&text, "longhaul_shard_busy_seconds_total{shard=\"2\"}"),
            Some(1.5),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_process_and_the_build_are_described() {
        let text = scrape(&Metrics::new(1));
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            value(
                &text,
                &format!("longhaul_build_info{{version=\"{version}\"}}")
            ),
            Some(1.0),
            "{text}"
        );
        for series in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
            "process_threads",
        ] {
            assert!(
                value(&text, series).is_some_and(|value| value > 0.0),
                "{series}\n{text}"
            );
        }
        assert!(
            value(&text, "process_cpu_seconds_total").is_some_and(|seconds| seconds >= 0.0),
            "{text}"
        );
        // A plausible date: this was written in 2026.
        assert!(
            value(&text, "process_start_time_seconds").is_some_and(|unix| unix > 1.7e9),
            "{text}"
        );
    }

    #[test]
    fn names_are_unique_and_of_the_standard_form() {
        let text = scrape(&Metrics::new(2));
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let unique: HashSet<_> = names.iter().collect();
        assert_eq!(names.len(), unique.len(), "{names:?}");
        for name in names {
            assert!(
                name.starts_with("longhaul_") || name.starts_with("process_"),
                "{name}"
            );
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert!(!name.ends_with("_total"), "the encoder adds it: {name}");
        }
        let series: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            series.len(),
            series.iter().collect::<HashSet<_>>().len(),
            "{text}"
        );
    }
}
