//! What a plan is asked for, and what it answers: counts, times what each costs.

use serde::Serialize;

use super::coefficients::Key;
use crate::audience::Watch;

/// A gateway's process has no more (`SHARDS_MAX` of the gateway); further cores serve the kernel and are not counted.
pub const SHARDS_MAX: u32 = 64;
/// Who is there, and what they do.
#[derive(Clone, Debug, Serialize)]
pub struct Fleet {
    pub vehicles: u64,
    /// Of a vehicle's reports.
    pub interval_seconds: f64,
    pub dashboards: u64,
    /// Vehicles that each dashboard watches.
    #[serde(serialize_with = "as_text")]
    pub watch: Watch,
    /// Of frames to a dashboard; 0: as soon as something changes.
    pub min_interval_seconds: f64,
    /// Share of watched vehicles that connect in other regions.
    pub away: f64,
    /// How long a connection lasts.
    pub session_seconds: f64,
    pub regions: u32,
    pub tls: bool,
}

fn as_text<S: serde::Serializer>(watch: &Watch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(watch)
}

/// What is bought.
#[derive(Clone, Debug, Serialize)]
pub struct NodeKind {
    pub cores: u32,
    pub memory_bytes: f64,
    /// Each way.
    pub nic_bits_per_second: f64,
    /// Share of each that stays free.
    pub headroom: f64,
    /// Nodes of a region that may be away at the same time.
    pub spares: u64,
}

impl NodeKind {
    /// One for each core.
    pub fn shards(&self) -> u32 {
        self.cores.min(SHARDS_MAX)
    }
}

/// What of a node is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    GatewayMemory,
    KernelMemory,
    Cpu,
    /// From the network.
    Received,
    /// To the network.
    Sent,
}

/// So many of something, each at so much.
#[derive(Clone, Debug, Serialize)]
pub struct Term {
    pub part: Part,
    pub name: &'static str,
    /// Of a node; of what happens, a second.
    pub count: f64,
    /// Bytes, or microseconds of CPU.
    pub each: f64,
    /// Coefficients that `each` is made of.
    pub by: Vec<Key>,
}

impl Term {
    /// Bytes, or microseconds of CPU a second, or bytes a second.
    pub fn total(&self) -> f64 {
        self.count * self.each
    }
}

/// What of a node's kind is used up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    Memory,
    Cores,
    NicIn,
    NicOut,
}

/// Used and there.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Use {
    pub of: Bound,
    /// Bytes, cores, or bits a second.
    pub used: f64,
    pub has: f64,
}

impl Use {
    /// Of all that is there.
    pub fn share(&self) -> f64 {
        self.used / self.has
    }
}

/// Between the nodes of a region, and between regions. From the wire format, not measured: this version has no backplane.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Backplane {
    /// Positions a second that the region's nodes publish, because another node watches them.
    pub published_per_second: f64,
    /// Positions a second that they receive, each as often as nodes watch it.
    pub received_per_second: f64,
    /// Positions a second from other regions, once each.
    pub from_regions_per_second: f64,
    /// Bits a second of each of these.
    pub published_bits_per_second: f64,
    pub received_bits_per_second: f64,
    pub from_regions_bits_per_second: f64,
}

/// The answer, for one region; all are alike.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub vehicles_per_region: u64,
    pub dashboards_per_region: u64,
    /// That carry the region when the spares are away.
    pub nodes_needed: u64,
    /// With the spares.
    pub nodes: u64,
    pub bound_by: Bound,
    /// Of each node when the spares are away.
    pub uses: Vec<Use>,
    pub terms: Vec<Term>,
    pub connections_per_node: f64,
    /// With all nodes there.
    pub backplane: Backplane,
    /// Until all clients of a lost node are back at the others, which take `limits.accepts_per_second_max`, and what the
    /// headroom has of CPU; none if there is no other.
    pub seconds_to_reconnect: Option<f64>,
}
