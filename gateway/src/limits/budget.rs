//! The memory that the limits imply for a number of connections, term by term: `longhaul config --budget`.
//!
//! Every figure is a count times a size: counts come from the settings and the limits, sizes from the types themselves.
//! Each term is there twice: as it usually is, for a fleet that reports and dashboards that read, and at most, if
//! everybody misbehaves at once as far as the limits allow. The second is a bound, not a forecast.
//!
//! - `limits/budget/terms.rs`: the terms, each with its reason
//! - `limits/budget/text.rs`: how it is printed

mod terms;
mod text;

use crate::config::Config;

pub use text::print;

/// Connections that a budget is for, if nothing else is asked.
pub const CONNECTIONS: u64 = 1_000_000;
/// One connection of so many is a dashboard, if nothing else is asked.
pub const CONNECTIONS_PER_DASHBOARD: u64 = 50;
/// Assumed: bytes of a vehicle's id.
pub const ID_BYTES: u64 = 12;
/// Assumed: vehicles that a dashboard watches, by id, as no other dashboard does.
pub const WATCHED: u64 = 50;

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Connections, dashboards among them.
    pub connections: u64,
    /// Dashboards.
    pub dashboards: u64,
    /// Shards that they are spread over.
    pub shards: u64,
}

impl Load {
    /// Vehicles that are connected.
    pub fn vehicles(&self) -> u64 {
        self.connections.saturating_sub(self.dashboards)
    }
}

/// Whose memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The gateway's, for every connection.
    Connections,
    /// The gateway's, for vehicles and what is known about them.
    Vehicles,
    /// The gateway's, for dashboards and what they are owed.
    Dashboards,
    /// The gateway's, for what is received, handed on and answered.
    UnderWay,
    /// The kernel's.
    Kernel,
}

/// So many of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    /// How many.
    pub count: u64,
    /// What each weighs, in bytes.
    pub bytes_each: u64,
}

impl Weight {
    /// What they weigh together.
    pub fn bytes(self) -> u64 {
        self.count.saturating_mul(self.bytes_each)
    }
}

/// One line of the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Whose it is.
    pub part: Part,
    /// What it is.
    pub name: &'static str,
    /// As it usually is.
    pub usual: Weight,
    /// What it cannot exceed.
    pub at_most: Weight,
    /// What it is for, and what bounds it.
    pub why: &'static str,
}

/// The terms of a budget.
pub fn draw_up(config: &Config, load: Load) -> Vec<Term> {
    terms::Sheet::new(config, load).filled()
}

/// What the terms of some parts add up to.
pub fn sum(terms: &[Term], of: impl Fn(Part) -> bool, which: impl Fn(&Term) -> Weight) -> u64 {
    terms
        .iter()
        .filter(|term| of(term.part))
        .map(|term| which(term).bytes())
        .fold(0, u64::saturating_add)
}

/// The limits that do not let this load in, each with what it lets in.
pub fn objections(config: &Config, load: Load) -> Vec<(&'static str, u64)> {
    let limits = &config.limits;
    let all_shards = (limits.connections_per_shard_max as u64).saturating_mul(load.shards.max(1));
    [
        (
            "limits.connections_max",
            limits.connections_max,
            load.connections,
        ),
        (
            "limits.connections_per_shard_max",
            all_shards,
            load.connections,
        ),
        (
            "limits.vehicles_max",
            u64::from(limits.vehicles_max),
            load.vehicles(),
        ),
    ]
    .into_iter()
    .filter(|(_, lets_in, asked)| asked > lets_in)
    .map(|(name, lets_in, _)| (name, lets_in))
    .collect()
}

#[cfg(test)]
mod tests;
