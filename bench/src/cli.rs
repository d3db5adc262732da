//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::audience::Watch;
use crate::peers::Peers;
use crate::token::Role;

mod after;
mod curve;
mod outside;

pub use after::{Calibrate, CompareArgs, PageArgs, PlanArgs};
pub use curve::Curve;
pub use outside::OutsideArgs;

/// Load generator and correctness checker for the Longhaul gateway.
#[derive(Debug, Parser)]
#[command(name = "longhaul-bench", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// See each.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay a trace with one WebSocket per vehicle, and check every delivery.
    Replay(Replay),
    /// Send updates of synthetic vehicles at a fixed rate, and check every delivery.
    Fanout(Fanout),
    /// Hold idle connections, and measure what they cost.
    Idle(Idle),
    /// Hold more and more connections, and see whether each costs the same.
    Curve(Curve),
    /// Stop some dashboards' processes, and see what they cost the others and the gateway.
    Slow(Slow),
    /// Connect many vehicles at once, several times, beside a load that must not notice.
    Storm(Storm),
    /// Let a fleet's clients come, go and misbehave, and see whether the gateway forgets them.
    Churn(Churn),
    /// Attack the gateway in every way that it knows bounds for, beside good clients that must not notice.
    Attack(Attack),
    /// Publish events that must arrive: how fast, how late, really on the disk, and replayed after a night.
    Events(Events),
    /// What TLS costs: memory of idle connections, and handshakes, beside plain rustls.
    Tls(Tls),
    /// Measure what one of each thing costs on this machine, for `plan`.
    Calibrate(Calibrate),
    /// Say how many nodes a fleet takes, and what each must have, term by term.
    Plan(PlanArgs),
    /// Make one page of results, with plots, that needs nothing but a browser.
    Report(PageArgs),
    /// Show two results, or two sets of repeated runs, with ratios, and say which differences exceed the runs' noise.
    Compare(CompareArgs),
    /// Measure the gateway beside the servers that a user would pick instead.
    Peers(Peers),
    /// A generator process (started by the others).
    #[command(hide = true)]
    Worker,
    /// A listener that only accepts (started by `idle`).
    #[command(hide = true)]
    Accept,
}

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

/// `slow`.
#[derive(Debug, Args)]
pub struct Slow {
    /// Dashboards that will hang.
    #[arg(long, default_value_t = 500)]
    pub stalled: u32,
    /// Dashboards that go on reading.
    #[arg(long, default_value_t = 500)]
    pub healthy: u32,
    /// Vehicles, one connection each.
    #[arg(long, default_value_t = 1_000)]
    pub vehicles: u32,
    /// Updates a second, of all vehicles together.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u32,
    /// How many vehicles each healthy dashboard watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// How many vehicles each hanging dashboard watches, or "all": enough to fill its socket soon.
    #[arg(long, default_value = "all")]
    pub stalled_watch: Watch,
    /// How often each hanging dashboard wants positions, at most, so that it costs little while it still reads.
    #[arg(long, default_value_t = 250)]
    pub stalled_min_interval_ms: u32,
    /// Receive buffer of each hanging dashboard's socket: small, so that it fills soon.
    #[arg(long, default_value_t = 4_096)]
    pub stalled_receive_buffer: usize,
    /// Seconds for which everybody reads.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub quiet_seconds: f64,
    /// Seconds of a first stall, too short to be evicted; 0: none.
    #[arg(long, default_value_t = 5.0, value_parser = not_negative)]
    pub short_stall: f64,
    /// Seconds of the second stall, at most: it ends when all that hang have been evicted.
    #[arg(long, default_value_t = 45.0, value_parser = positive)]
    pub stall_seconds: f64,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Its metrics.
    #[command(flatten)]
    pub control: ControlArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `attack`.
#[derive(Debug, Args)]
pub struct Attack {
    /// Good vehicles, one connection each.
    #[arg(long, default_value_t = 950)]
    pub vehicles: u32,
    /// Updates a second, of all of them together.
    #[arg(long, default_value_t = 2_000)]
    pub rate: u32,
    /// Good dashboards.
    #[arg(long, default_value_t = 50)]
    pub dashboards: u32,
    /// How many vehicles each of them watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// Seconds before the first attack.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub quiet_seconds: f64,
    /// Seconds of each attack.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub seconds: f64,
    /// Only attacks whose names contain this (repeatable).
    #[arg(long)]
    pub only: Vec<String>,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Its metrics.
    #[command(flatten)]
    pub control: ControlArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `storm`.
#[derive(Debug, Args)]
pub struct Storm {
    /// Vehicles that connect at once.
    #[arg(long, default_value_t = 10_000)]
    pub connections: u32,
    /// How often they all drop and come back, the first time included.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Vehicles that are there before, one connection each.
    #[arg(long, default_value_t = 500)]
    pub vehicles: u32,
    /// Updates a second, of all of these together.
    #[arg(long, default_value_t = 5_000)]
    pub rate: u32,
    /// Dashboards that are there before.
    #[arg(long, default_value_t = 100)]
    pub dashboards: u32,
    /// How many vehicles each dashboard watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// Seconds before the storm.
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub quiet_seconds: f64,
    /// Seconds after which a round is given up.
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    pub round_seconds: f64,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
}

/// `churn`.
#[derive(Debug, Args)]
pub struct Churn {
    /// For how long.
    #[arg(long, default_value_t = 60.0, value_parser = positive)]
    pub seconds: f64,
    /// Vehicles. Each may be connected twice for a while.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub vehicles: u32,
    /// Dashboards.
    #[arg(long, default_value_t = 100)]
    pub dashboards: u32,
    /// Seed of what each client does.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Which gateway.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Its metrics.
    #[command(flatten)]
    pub control: ControlArgs,
    /// What to do with the result.
    #[command(flatten)]
    pub result: ResultArgs,
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

/// Which gateway is tested.
#[derive(Clone, Debug, Args)]
pub struct GatewayArgs {
    /// Start the gateway, and stop it after.
    #[arg(long, conflicts_with = "url", required_unless_present = "url")]
    pub spawn: bool,
    /// A running gateway: ws://HOST:PORT[/v1].
    #[arg(long, requires = "key")]
    pub url: Option<String>,
    /// The running gateway's HS256 key file.
    #[arg(long, conflicts_with = "spawn")]
    pub key: Option<PathBuf>,
    /// The running gateway's process id, for its CPU and memory.
    #[arg(long, conflicts_with = "spawn")]
    pub pid: Option<u32>,
    /// The gateway binary to start [default: longhaul, beside this binary].
    #[arg(long, conflicts_with = "url")]
    pub gateway: Option<PathBuf>,
    /// Shards of the gateway to start [default: as few as hold the connections].
    #[arg(long, conflicts_with = "url", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub shards: Option<u16>,
    /// Start it with TLS, and connect over TLS.
    #[arg(long, conflicts_with = "url")]
    pub tls: bool,
    /// A further argument for the gateway to start (repeatable).
    #[arg(long, conflicts_with = "url", allow_hyphen_values = true)]
    pub gateway_arg: Vec<String>,
}

/// Where the tested gateway's metrics are.
#[derive(Clone, Debug, Default, Args)]
pub struct ControlArgs {
    /// The running gateway's control listener.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "spawn", value_parser = address)]
    pub control: Option<SocketAddr>,
}

impl ControlArgs {
    /// The control listener of a gateway that may be `known` because we started it.
    pub fn or_known(&self, known: Option<SocketAddr>) -> Option<SocketAddr> {
        self.control.or(known)
    }
}

impl Default for GeneratorArgs {
    fn default() -> Self {
        Self {
            processes: None,
            pace_us: PACE_US,
            no_pin: false,
            mask: false,
            seed: 1,
        }
    }
}

/// Shortest time between two turns of a generator's loop, in microseconds, unless said otherwise.
const PACE_US: u64 = 200;

/// How the load is made.
#[derive(Clone, Debug, Args)]
pub struct GeneratorArgs {
    /// Generator processes [default: as few as hold the connections].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub processes: Option<u16>,
    /// Shortest time between two turns of a generator's loop: longer is cheaper, and adds to the latency seen.
    #[arg(long, default_value_t = PACE_US)]
    pub pace_us: u64,
    /// Let the kernel choose the generator's core.
    #[arg(long)]
    pub no_pin: bool,
    /// Mask what synthetic vehicles send with random keys, as real clients do; otherwise with zeros.
    #[arg(long)]
    pub mask: bool,
    /// Seed of what dashboards watch.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What becomes of the result.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// Write the result as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// End with success even if deliveries were lost or wrong.
    #[arg(long)]
    pub no_check: bool,
}

/// A day, the longest that anything here takes.
const SECONDS_MAX: f64 = 86_400.0;

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("\"{text}\" is no HOST:PORT: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("\"{text}\" has no address"))
}

/// For arguments that must be more than 0.
pub fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|value| {
        if value > 0.0 {
            Ok(value)
        } else {
            Err("it must be more than 0".to_owned())
        }
    })
}

/// For arguments that must not be less than 0.
pub fn not_negative(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("\"{text}\" is no number"))?;
    if (0.0..=SECONDS_MAX).contains(&value) {
        Ok(value)
    } else {
        Err(format!("it must be from 0 to {SECONDS_MAX}"))
    }
}

/// Seconds as a duration; they have been checked to be in range.
pub fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_gateway_must_be_named() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("longhaul-bench fanout --spawn").is_ok());
        assert!(parse("longhaul-bench fanout --url ws://h:1 --key k").is_ok());
        assert!(
            parse("longhaul-bench slow --url ws://h:1 --key k --control 127.0.0.1:9401").is_ok()
        );
        for wrong in [
            "longhaul-bench fanout",
            "longhaul-bench fanout --url ws://h:1",
            "longhaul-bench fanout --spawn --url ws://h:1 --key k",
            "longhaul-bench fanout --spawn --seconds -1",
            "longhaul-bench fanout --spawn --seconds NaN",
            "longhaul-bench replay --spawn",
            "longhaul-bench fanout --spawn --watch some",
            "longhaul-bench churn --spawn --control 127.0.0.1:1",
            "longhaul-bench churn --url ws://h:1 --key k --control nowhere",
            "longhaul-bench storm --spawn --rounds 0",
            "longhaul-bench plan --vehicles 10",
            "longhaul-bench plan --vehicles 0 --interval 5s",
            "longhaul-bench plan --vehicles 10 --interval 0s",
            "longhaul-bench plan --vehicles 10 --interval 5",
            "longhaul-bench plan --vehicles 10 --interval 5s --headroom 96%",
            "longhaul-bench plan --vehicles 10 --interval 5s --away 101%",
            "longhaul-bench plan --vehicles 10 --interval 5s --away NaN",
            "longhaul-bench calibrate",
            "longhaul-bench calibrate --json c.json --connections 20000",
            "longhaul-bench report r.json",
            "longhaul-bench report --html p.html",
            "longhaul-bench compare a.json",
            "longhaul-bench compare a.json b.json c.json",
            "longhaul-bench compare --a a.json",
            "longhaul-bench compare x.json y.json --a a.json --b b.json",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
