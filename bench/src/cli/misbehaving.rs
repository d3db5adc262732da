//! The scenarios in which clients misbehave.

use clap::Args;

use super::common::{ControlArgs, GatewayArgs, GeneratorArgs, ResultArgs, not_negative, positive};
use crate::audience::Watch;

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
