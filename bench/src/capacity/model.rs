//! The model: counts of what happens on a node, times what each costs. Pure.
//!
//! A region has so many nodes that each of them stays below its capacity less the headroom, also when the spares are gone.
//! Clients are taken to be spread evenly over regions and nodes, and what dashboards watch to be drawn evenly from what
//! they may see.

use anyhow::{bail, ensure};
use serde::Serialize;

use super::coefficients::{Coefficients, Key};
use crate::audience::Watch;

/// More nodes of a region than anybody has: a fleet that takes more is a mistake in the arguments.
const NODES_MAX: u64 = 100_000;
/// A gateway's process has no more (`SHARDS_MAX` of the gateway); further cores serve the kernel and are not counted.
pub const SHARDS_MAX: u32 = 64;
/// The gateway's default `server.pace_us`: what changes in a tick goes out in one frame.
const TICK_SECONDS: f64 = 0.001;
/// The gateway's default `connection.heartbeat_ms`; pings come between half of it and all of it.
const HEARTBEAT_SECONDS: f64 = 30.0 * 0.75;
/// The gateway's default `limits.accepts_per_second_max`, of each shard.
const ACCEPTS_PER_SECOND: f64 = 5_000.0;
/// Ethernet with preamble and gap (38), IPv6 (40), TCP with timestamps (32): of each packet, an ACK's too.
const PACKET_BYTES: f64 = 110.0;
/// What fits into a packet besides.
const SEGMENT_BYTES: f64 = 1_428.0;
/// RFC 8446 §5.2: header, content type, tag.
const RECORD_BYTES: f64 = 22.0;
/// RFC 6455 §5.2, empty: from the gateway, and masked.
const PING_BYTES: f64 = 2.0;
const PONG_BYTES: f64 = 6.0;

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

/// What `fleet` takes of nodes of this kind.
///
/// # Errors
/// No number of such nodes holds it, or TLS is wanted and was not measured.
pub fn plan(fleet: &Fleet, kind: &NodeKind, coefficients: &Coefficients) -> anyhow::Result<Plan> {
    ensure!(
        !fleet.tls || coefficients.know_tls(),
        "TLS is not among the coefficients: measure without --quick, or plan with --no-tls"
    );
    let region = Region::new(fleet, kind, coefficients);
    // All counts up to those with the spares must fit: with more nodes, more crosses between them.
    let carries = |nodes: u64| (nodes..=nodes + kind.spares).all(|nodes| region.fits(nodes));
    let Some(needed) = fewest(carries) else {
        bail!(
            "more than {NODES_MAX} nodes of this kind in each region: a node of {} cores, {:.0} GiB and {:.1} Gbit/s with \
             {:.0} % kept free is too small, or the fleet is a mistake",
            kind.cores,
            kind.memory_bytes / (1u64 << 30) as f64,
            kind.nic_bits_per_second / 1e9,
            kind.headroom * 100.0
        );
    };
    let terms = region.terms(needed);
    let uses = uses(&terms, kind);
    let bound_by = uses
        .iter()
        .max_by(|a, b| a.share().total_cmp(&b.share()))
        .map_or(Bound::Memory, |most| most.of);
    Ok(Plan {
        vehicles_per_region: region.vehicles.ceil() as u64,
        dashboards_per_region: region.dashboards.ceil() as u64,
        nodes_needed: needed,
        nodes: needed + kind.spares,
        bound_by,
        uses,
        terms,
        connections_per_node: (region.vehicles + region.dashboards) / needed as f64,
        backplane: region.backplane(needed + kind.spares),
        seconds_to_reconnect: region.seconds_to_reconnect(needed),
    })
}

/// The fewest nodes that carry it, of which there are [`NODES_MAX`] at most. Steps of a fiftieth, and then one by one in the
/// step that was one too far: the same steps for every fleet, so that a greater one never gets fewer.
fn fewest(carries: impl Fn(u64) -> bool) -> Option<u64> {
    let mut before = 0;
    let mut nodes = 1;
    while nodes <= NODES_MAX {
        if carries(nodes) {
            return (before + 1..=nodes).find(|&nodes| carries(nodes));
        }
        before = nodes;
        nodes += (nodes / 50).max(1);
    }
    None
}

/// One region.
struct Region<'a> {
    fleet: &'a Fleet,
    kind: &'a NodeKind,
    coefficients: &'a Coefficients,
    vehicles: f64,
    dashboards: f64,
    /// Vehicles that a dashboard watches here, and in other regions.
    watched_here: f64,
    watched_away: f64,
    vehicles_away: f64,
}

/// How many of `all` at least one of `watchers` watches, if each draws `each` of them.
fn distinct(all: f64, watchers: f64, each: f64) -> f64 {
    if all <= 0.0 {
        return 0.0;
    }
    if watchers < 1.0 {
        // One watcher on some nodes and none on others.
        return watchers * each;
    }
    all * (1.0 - (1.0 - each / all).max(0.0).powf(watchers))
}

impl<'a> Region<'a> {
    fn new(fleet: &'a Fleet, kind: &'a NodeKind, coefficients: &'a Coefficients) -> Self {
        let regions = f64::from(fleet.regions);
        let vehicles = fleet.vehicles as f64 / regions;
        let dashboards = fleet.dashboards as f64 / regions;
        let vehicles_away = fleet.vehicles as f64 - vehicles;
        let (wanted_here, wanted_away) = match fleet.watch {
            Watch::All => (vehicles, vehicles_away),
            Watch::Count(count) => (
                f64::from(count) * (1.0 - fleet.away),
                f64::from(count) * fleet.away,
            ),
        };
        Self {
            fleet,
            kind,
            coefficients,
            vehicles,
            dashboards,
            watched_here: wanted_here.min(vehicles),
            watched_away: wanted_away.min(vehicles_away),
            vehicles_away,
        }
    }

    fn fits(&self, nodes: u64) -> bool {
        uses(&self.terms(nodes), self.kind)
            .iter()
            .all(|used| used.share() <= 1.0 - self.kind.headroom)
    }

    /// Vehicles of other nodes and of other regions that somebody on one of `nodes` watches.
    fn foreign(&self, nodes: f64) -> (f64, f64) {
        let watchers = self.dashboards / nodes;
        let others = self.vehicles * (1.0 - 1.0 / nodes);
        (
            distinct(others, watchers, self.watched_here * (1.0 - 1.0 / nodes)),
            distinct(self.vehicles_away, watchers, self.watched_away),
        )
    }

    /// Updates a second that each dashboard gets.
    fn updates(&self) -> f64 {
        let apart = self
            .fleet
            .interval_seconds
            .max(self.fleet.min_interval_seconds);
        (self.watched_here + self.watched_away) / apart
    }

    /// Frames a second to each: one whenever something came in the time that frames are apart at least.
    fn frames(&self) -> f64 {
        let apart = self.fleet.min_interval_seconds.max(TICK_SECONDS);
        -(-self.updates() * apart).exp_m1() / apart
    }

    /// Pings a second to each vehicle: fewer, the more it says itself. Dashboards say nothing.
    fn pings(&self) -> f64 {
        (1.0 / HEARTBEAT_SECONDS - 1.0 / self.fleet.interval_seconds).max(0.0)
    }

    /// What one of `nodes` has and does.
    fn terms(&self, nodes: u64) -> Vec<Term> {
        use Key::*;
        let nodes = nodes as f64;
        let (vehicles, dashboards) = (self.vehicles / nodes, self.dashboards / nodes);
        let connections = vehicles + dashboards;
        let shards = f64::from(self.kind.shards());
        let watched = self.watched_here + self.watched_away;
        let (of_nodes, of_regions) = self.foreign(nodes);
        let foreign = of_nodes + of_regions;
        let interval = self.fleet.interval_seconds;
        let (inbound, arriving) = (vehicles / interval, foreign / interval);
        let (frames, updates) = (dashboards * self.frames(), dashboards * self.updates());
        let connects = connections / self.fleet.session_seconds;
        let pings = vehicles * self.pings() + dashboards / HEARTBEAT_SECONDS;
        let record = if self.fleet.tls { RECORD_BYTES } else { 0.0 };
        let packets = frames + updates * self.value(WireBytesPerDelivery) / SEGMENT_BYTES;

        let mut terms = Vec::new();
        let mut term = |part, name, count: f64, plus: f64, by: &[Key]| {
            let each = plus + by.iter().map(|&key| self.value(key)).sum::<f64>();
            terms.push(Term {
                part,
                name,
                count,
                each,
                by: by.to_vec(),
            });
        };
        let part = Part::GatewayMemory;
        term(part, "the process", 1.0, 0.0, &[GatewayBytes]);
        term(part, "shards", shards, 0.0, &[GatewayBytesPerShard]);
        term(part, "vehicles", vehicles, 0.0, &[GatewayBytesPerVehicle]);
        term(
            part,
            "dashboards",
            dashboards,
            0.0,
            &[GatewayBytesPerDashboard],
        );
        term(
            part,
            "vehicles in filters",
            dashboards * watched,
            0.0,
            &[GatewayBytesPerWatched],
        );
        term(
            part,
            "vehicles of other nodes, at most",
            foreign,
            0.0,
            &[GatewayBytesPerVehicle],
        );
        if self.fleet.tls {
            term(
                part,
                "TLS sessions",
                connections,
                0.0,
                &[TlsBytesPerConnection],
            );
        }
        term(
            Part::KernelMemory,
            "sockets",
            connections,
            0.0,
            &[KernelBytesPerConnection],
        );
        let part = Part::Cpu;
        term(part, "shards awake", shards, 0.0, &[CpuUsPerShardSecond]);
        term(
            part,
            "updates from vehicles",
            inbound,
            0.0,
            &[CpuUsPerInbound],
        );
        term(
            part,
            "updates from the backplane, at most",
            arriving,
            0.0,
            &[CpuUsPerInbound],
        );
        term(part, "frames to dashboards", frames, 0.0, &[CpuUsPerFrame]);
        term(part, "updates in them", updates, 0.0, &[CpuUsPerDelivery]);
        term(part, "pings and pongs", pings, 0.0, &[CpuUsPerHeartbeat]);
        let handshake: &[Key] = if self.fleet.tls {
            &[CpuUsPerConnect, TlsCpuUsPerHandshake]
        } else {
            &[CpuUsPerConnect]
        };
        term(part, "new connections", connects, 0.0, handshake);
        let part = Part::Received;
        term(
            part,
            "updates from vehicles",
            inbound,
            PACKET_BYTES + record,
            &[WireBytesPerInbound],
        );
        term(
            part,
            "ACKs of packets to dashboards",
            packets,
            PACKET_BYTES,
            &[],
        );
        term(
            part,
            "pongs",
            pings,
            PONG_BYTES + PACKET_BYTES + record,
            &[],
        );
        term(
            part,
            "updates from the backplane",
            arriving,
            0.0,
            &[WireBytesPerDelivery],
        );
        let part = Part::Sent;
        term(
            part,
            "frames to dashboards",
            frames,
            record,
            &[WireBytesPerFrame],
        );
        term(part, "packets that they take", packets, PACKET_BYTES, &[]);
        term(
            part,
            "updates in them",
            updates,
            0.0,
            &[WireBytesPerDelivery],
        );
        term(
            part,
            "ACKs of updates from vehicles",
            inbound,
            PACKET_BYTES,
            &[],
        );
        term(
            part,
            "pings",
            pings,
            PING_BYTES + PACKET_BYTES + record,
            &[],
        );
        let published = self.published(nodes) / nodes;
        term(
            part,
            "updates to the backplane",
            published,
            0.0,
            &[WireBytesPerDelivery],
        );
        terms
    }

    fn value(&self, key: Key) -> f64 {
        self.coefficients.value(key)
    }

    /// Positions a second that another node or region wants.
    fn published(&self, nodes: f64) -> f64 {
        let elsewhere = self.dashboards * (1.0 - 1.0 / nodes);
        let of_nodes = distinct(self.vehicles, elsewhere, self.watched_here);
        // Other regions' dashboards watch as this one's do: evenly what is away from them.
        let regions = f64::from(self.fleet.regions) - 1.0;
        let of_regions = if regions > 0.0 {
            distinct(
                self.vehicles,
                self.dashboards * regions,
                self.watched_away / regions,
            )
        } else {
            0.0
        };
        (of_nodes + of_regions).min(self.vehicles) / self.fleet.interval_seconds
    }

    fn backplane(&self, nodes: u64) -> Backplane {
        let nodes = nodes as f64;
        let interval = self.fleet.interval_seconds;
        let published = self.published(nodes);
        let (of_nodes, of_regions) = self.foreign(nodes);
        let received = nodes * (of_nodes + of_regions) / interval;
        let from_regions =
            distinct(self.vehicles_away, self.dashboards, self.watched_away) / interval;
        let bits = |positions: f64| positions * self.value(Key::WireBytesPerDelivery) * 8.0;
        Backplane {
            published_per_second: published,
            received_per_second: received,
            from_regions_per_second: from_regions,
            published_bits_per_second: bits(published),
            received_bits_per_second: bits(received),
            from_regions_bits_per_second: bits(from_regions),
        }
    }

    /// The others are those that carry the region, less one if there is no spare.
    fn seconds_to_reconnect(&self, needed: u64) -> Option<f64> {
        let all = needed + self.kind.spares;
        let others = (all - 1) as f64;
        if others == 0.0 {
            return None;
        }
        let each = (self.vehicles + self.dashboards) / all as f64 / others;
        let shards = f64::from(self.kind.shards());
        let mut cost = self.value(Key::CpuUsPerConnect);
        if self.fleet.tls {
            cost += self.value(Key::TlsCpuUsPerHandshake);
        }
        let free = f64::from(self.kind.cores) * self.kind.headroom.max(0.01) * 1e6;
        Some((each / (ACCEPTS_PER_SECOND * shards)).max(each * cost / free))
    }
}

fn uses(terms: &[Term], kind: &NodeKind) -> Vec<Use> {
    let sum = |parts: &[Part]| -> f64 {
        terms
            .iter()
            .filter(|term| parts.contains(&term.part))
            .map(Term::total)
            .sum()
    };
    let nic = kind.nic_bits_per_second;
    vec![
        Use {
            of: Bound::Memory,
            used: sum(&[Part::GatewayMemory, Part::KernelMemory]),
            has: kind.memory_bytes,
        },
        Use {
            of: Bound::Cores,
            used: sum(&[Part::Cpu]) / 1e6,
            has: f64::from(kind.shards()),
        },
        Use {
            of: Bound::NicIn,
            used: sum(&[Part::Received]) * 8.0,
            has: nic,
        },
        Use {
            of: Bound::NicOut,
            used: sum(&[Part::Sent]) * 8.0,
            has: nic,
        },
    ]
}
