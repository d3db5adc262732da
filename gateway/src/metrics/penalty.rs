//! Who is in the penalty box.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode_one;
use crate::session::penalty::PenaltyBox;

/// The penalty box, as `/metrics` shows it.
#[derive(Debug)]
pub struct PenaltyMetrics {
    /// The box.
    pub penalties: Arc<PenaltyBox>,
    /// When the shards' clocks were at zero.
    pub started: Instant,
}

impl Collector for PenaltyMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let addresses = ConstGauge::new(self.penalties.count(now_ms));
        encode_one(
            &mut encoder,
            "longhaul_penalty_addresses",
            "Addresses that are in the penalty box: their new connections are refused for a while",
            &addresses,
        )
    }
}
