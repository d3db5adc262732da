//! `curve`.

use std::path::PathBuf;

use clap::Args;

use super::outside::OutsideArgs;
use super::{GatewayArgs, Idle, IdleRole, not_negative, positive};
use crate::audience::Watch;

/// `curve`.
#[derive(Clone, Debug, Args)]
pub struct Curve {
    /// How many connections, each number with a gateway of its own.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: Vec<u32>,
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
    /// Updates a second beside those that are held, the same beside each number of them; 0: none.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u32,
    /// Vehicles that send them.
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
    /// When the gateway takes a connection for quiet.
    #[arg(long, default_value_t = 3_000)]
    pub quiet_after_ms: u64,
    /// When the gateway sends a silent connection a ping [default: the gateway's].
    #[arg(long)]
    pub heartbeat_ms: Option<u64>,
    /// Which gateway. It is started here (--spawn), one for each number of connections.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Seed of what dashboards watch.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl Curve {
    /// The run with so many connections.
    pub fn idle(&self, connections: u32) -> Idle {
        Idle {
            connections,
            role: self.role,
            watch: self.watch,
            universe: self.universe,
            bare: self.bare,
            rate: self.rate,
            vehicles: self.vehicles,
            dashboards: self.dashboards,
            load_seconds: self.load_seconds,
            settle: self.settle,
            seconds: self.seconds,
            quiet_after_ms: self.quiet_after_ms,
            heartbeat_ms: self.heartbeat_ms,
            gateway: self.gateway.clone(),
            outside: OutsideArgs::default(),
            seed: self.seed,
            json: None,
        }
    }
}
