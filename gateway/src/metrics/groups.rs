//! How many groups of vehicles there are.
#![forbid(unsafe_code)]

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::gauge::ConstGauge;

use super::encode_one;
use crate::fleet::Fleet;

/// The groups, as `/metrics` shows them.
#[derive(Debug)]
pub struct GroupMetrics(pub Arc<Fleet>);

impl Collector for GroupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let (groups, memberships) = self.0.groups.counts();
        encode_one(
            &mut encoder,
            "longhaul_groups",
            "Groups of vehicles that have members or are asked for",
            &ConstGauge::new(groups),
        )?;
        encode_one(
            &mut encoder,
            "longhaul_group_memberships",
            "Vehicles in groups, by token and by operator",
            &ConstGauge::new(memberships),
        )
    }
}
