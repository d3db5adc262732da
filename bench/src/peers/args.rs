//! The command line of `peers`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::peer::Peer;
use crate::audience::Watch;
use crate::cli::{GeneratorArgs, not_negative, positive};

/// `peers`.
#[derive(Debug, Args)]
pub struct Peers {
    /// Only these servers (repeatable) [default: all].
    #[arg(long, value_enum)]
    pub only: Vec<Peer>,
    /// Vehicles, one connection each.
    #[arg(long, default_value_t = 10_000)]
    pub vehicles: u32,
    /// Updates a second, of all vehicles together.
    #[arg(long, default_value_t = 20_000)]
    pub rate: u32,
    /// Dashboards of the first load; 0: leave it out.
    #[arg(long, default_value_t = 200)]
    pub dashboards: u32,
    /// How many vehicles each of them watches, or "all".
    #[arg(long, default_value = "50")]
    pub watch: Watch,
    /// Dashboards of the second load, which watch all vehicles; 0: leave it out.
    #[arg(long, default_value_t = 10)]
    pub all_dashboards: u32,
    /// Seconds of each load.
    #[arg(long, default_value_t = 10.0, value_parser = positive)]
    pub seconds: f64,
    /// Seconds of the same load before it, by clients of its own, which do not count.
    #[arg(long, default_value_t = 2.0, value_parser = not_negative)]
    pub warm_up: f64,
    /// Idle connections whose memory is measured; 0: leave that part out.
    #[arg(long, default_value_t = 10_000)]
    pub idle: u32,
    /// Seconds from the last of them to the measurement.
    #[arg(long, default_value_t = 5.0, value_parser = not_negative)]
    pub settle: f64,
    /// Go on without servers that are not installed.
    #[arg(long)]
    pub skip_missing: bool,
    /// The gateway binary to start [default: longhaul, beside this binary].
    #[arg(long)]
    pub gateway: Option<PathBuf>,
    /// The NATS server to start [default: nats-server, in the PATH].
    #[arg(long)]
    pub nats_server: Option<PathBuf>,
    /// The folder bench/peers, with what the servers need [default: that of the sources this was built from].
    #[arg(long)]
    pub folder: Option<PathBuf>,
    /// How to generate.
    #[command(flatten)]
    pub generator: GeneratorArgs,
    /// Write the result as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write the table as Markdown, which is printed in any case.
    #[arg(long)]
    pub markdown: Option<PathBuf>,
}

impl Peers {
    /// Which servers to run, in the order of the table.
    pub fn chosen(&self) -> Vec<Peer> {
        Peer::value_variants()
            .iter()
            .copied()
            .filter(|peer| self.only.is_empty() || self.only.contains(peer))
            .collect()
    }
}
