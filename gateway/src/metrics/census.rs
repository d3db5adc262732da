//! Who is connected, apart from how many connections that takes.
#![forbid(unsafe_code)]

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode_one;
use crate::session::census::Census;

/// The census, as `/metrics` shows it.
#[derive(Debug)]
pub struct CensusMetrics(pub Arc<Census>);

impl Collector for CensusMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let users = ConstGauge::new(self.0.identities());
        encode_one(
            &mut encoder,
            "longhaul_dashboard_users",
            "Users with a dashboard that is open, however many tabs and devices they have it open on",
            &users,
        )
    }
}
