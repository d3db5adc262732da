//! A day hour by hour, as the process sees it that lives it.

use serde::{Deserialize, Serialize};

use super::presence::Comings;
use crate::checker::Phase;
use crate::storm::herd::Round;

/// One hour.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Hour {
    /// Updates sent.
    pub inbound: u64,
    /// Updates that reached dashboards.
    pub delivered: u64,
    /// Updates that were due and not sent, because their vehicle was still connecting.
    pub withheld: u64,
    /// Vehicles that are connected at the end.
    pub vehicles: usize,
    /// Dashboards that are connected at the end.
    pub dashboards: usize,
    /// Of what arrived, and of what was sent.
    pub phase: Phase,
}

/// What a fleet found in its day.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lived {
    /// Midnight before the day, and each hour that ended.
    pub hours: Vec<Hour>,
    /// Comings and goings.
    pub comings: Comings,
    /// Vehicles that the outage was to drop.
    pub in_outage: usize,
    /// How they came back.
    pub outage: Round,
    /// Clients that should be there in the end and are not.
    pub stranded: usize,
}
