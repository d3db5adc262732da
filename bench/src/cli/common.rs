//! What several subcommands take: which gateway, how to generate, what to do with the result; and how numbers are read.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

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

/// Where something listens.
///
/// # Errors
/// It is no `HOST:PORT`, or has no address.
pub fn address(text: &str) -> Result<SocketAddr, String> {
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
