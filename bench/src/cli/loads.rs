//! The scenarios in which everybody behaves.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::OutsideArgs;
use super::common::{GatewayArgs, GeneratorArgs, ResultArgs, not_negative, positive};
use crate::audience::Watch;
use crate::token::Role;

/// `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// CSV file, plain or gzip: t_ms,vehicle,lat,lon,speed_mps,heading_deg.
    #[arg(long)]
    pub trace: PathBuf,
    /// How much faster than real time.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub speed: f64,
    /// Begin at this second of the trace.
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub from: f64,
    /// End after this many seconds.
    #[arg(long, value_parser = positive)]
    pub seconds: Option<f64>,
    /// Dashboards that watch some vehicles [default: 200, with --live 0].
    #[arg(long)]
    pub dashboards: Option<u32>,
    /// How many vehicles each of them watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// Further dashboards that watch all vehicles [default: 1, with --live 0].
    #[arg(long)]
    pub watch_all: Option<u32>,
    /// Further dashboards, by what each watches [default with --live: 50,200,all].
    #[arg(long, value_delimiter = ',')]
    pub mix: Vec<Watch>,
    /// Show a live view (plain lines if standard output is no terminal).
    #[arg(long)]
    pub live: bool,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// What else is looked at.
    #[command(flatten)]
    pub outside: OutsideArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `fanout`.
#[derive(Debug, Args)]
pub struct Fanout {
    /// Vehicles, one connection each.
    #[arg(long, default_value_t = 1_000)]
    pub vehicles: u32,
    /// Updates a second, of all vehicles together.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u32,
    /// Dashboards. 0: nobody watches.
    #[arg(long, default_value_t = 100)]
    pub dashboards: u32,
    /// How many vehicles each dashboard watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// For how long.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// What else is looked at.
    #[command(flatten)]
    pub outside: OutsideArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `idle`.
#[derive(Debug, Args)]
pub struct Idle {
    /// How many connections.
    #[arg(long, default_value_t = 15_000)]
    pub connections: u32,
    /// What they are.
    #[arg(long, default_value = "vehicle")]
    pub role: IdleRole,
    /// How many vehicles each dashboard watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// How many vehicles dashboards choose from.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub universe: u32,
    /// Also hold as many sockets against a listener that only accepts, for the kernel's floor.
    #[arg(long)]
    pub bare: bool,
    /// Then, while they are held, updates a second of other vehicles to dashboards among them; 0: none.
    #[arg(long, default_value_t = 0)]
    pub rate: u32,
    /// Those vehicles.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub vehicles: u32,
    /// Dashboards that watch them, each as many as --watch says.
    #[arg(long, default_value_t = 200)]
    pub dashboards: u32,
    /// Seconds of it.
    #[arg(long, default_value_t = 20.0, value_parser = positive)]
    pub load_seconds: f64,
    /// Seconds from the last connection to the measurement, and at most before the first [default: until the kernel's
    /// memory is steady].
    #[arg(long, value_parser = not_negative)]
    pub settle: Option<f64>,
    /// Seconds of idleness over which CPU is measured.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub seconds: f64,
    /// When a spawned gateway takes a connection for quiet.
    #[arg(long, default_value_t = 3_000)]
    pub quiet_after_ms: u64,
    /// When a spawned gateway sends a silent connection a ping [default: the gateway's].
    #[arg(long)]
    pub heartbeat_ms: Option<u64>,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// What else is looked at.
    #[command(flatten)]
    pub outside: OutsideArgs,
    /// Seed of what dashboards watch.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Who is held idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdleRole {
    /// Reports once.
    Vehicle,
    /// Subscribes once.
    Dashboard,
}

impl From<IdleRole> for Role {
    fn from(role: IdleRole) -> Self {
        match role {
            IdleRole::Vehicle => Self::Vehicle,
            IdleRole::Dashboard => Self::Dashboard,
        }
    }
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Vehicles that publish events, one connection each.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub vehicles: u32,
    /// Events a second of all together, where latency is measured.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Seconds for which throughput is measured, and as many for latency.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
    /// Seconds of each bare loop of append and fdatasync.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    pub floor_seconds: f64,
    /// Payload of each event.
    #[arg(long, default_value_t = 200)]
    pub payload_bytes: usize,
    /// A folder on the disk that is measured, in which the event log gets one for this run [default: that of temporary
    /// files].
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// Events that two dashboards miss while they are away.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub night_events: u64,
    /// Vehicles that report positions meanwhile.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub positions_vehicles: u32,
    /// Positions a second, of all of these together.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub positions_rate: u32,
    /// Seconds for which there are only positions, before that night.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub quiet_seconds: f64,
    /// Count the log's calls of fsync with strace.
    #[arg(long)]
    pub strace: bool,
    /// For so many seconds.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub strace_seconds: f64,
    /// Which gateway. It is started here (--spawn), because its event log is the folder's.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `mixed`.
#[derive(Debug, Args)]
pub struct Mixed {
    /// Vehicles of the fleet, one connection each while they are on the road.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub vehicles: u32,
    /// Updates a second when all of them are on the road; at other hours fewer.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// Dashboards of all shifts: six of ten watch 50 vehicles, three 200, one all.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub dashboards: u32,
    /// Seconds that the day takes.
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    pub seconds: f64,
    /// Seconds of midnight before the day, which are in no hour.
    #[arg(long, default_value_t = 2.0, value_parser = not_negative)]
    pub warm_up: f64,
    /// Further vehicles, that publish events.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub events_vehicles: u32,
    /// Events a second of all of these together.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub events_rate: u32,
    /// Payload of each event.
    #[arg(long, default_value_t = 200)]
    pub payload_bytes: usize,
    /// A folder in which the event log gets one for this run [default: that of temporary files].
    #[arg(long)]
    pub directory: Option<PathBuf>,
    /// Which gateway. It is started here (--spawn), because it needs an event log.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `tls`.
#[derive(Debug, Args)]
pub struct Tls {
    /// How many idle connections; 0: leave that part out.
    #[arg(long, default_value_t = 15_000)]
    pub connections: u32,
    /// Seconds of handshakes of each kind; 0: leave that part out.
    #[arg(long, default_value_t = 10.0, value_parser = not_negative)]
    pub seconds: f64,
    /// Clients that make handshakes at the same time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub clients: u16,
    /// Seconds from the last idle connection to the measurement [default: until the kernel's memory is steady].
    #[arg(long, value_parser = not_negative)]
    pub settle: Option<f64>,
    /// The gateway binary to start [default: longhaul, beside this binary].
    #[arg(long)]
    pub gateway: Option<PathBuf>,
    /// Write the result as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}
