//! What is looked at besides deliveries.

use clap::Args;

use super::ControlArgs;

/// How the gateway is looked at from outside, and what it says of itself.
#[derive(Clone, Debug, Default, Args)]
pub struct OutsideArgs {
    /// Count the gateway's system calls with perf, in some seconds of their own after the measurement.
    #[arg(long)]
    pub syscalls: bool,
    /// Its metrics.
    #[command(flatten)]
    pub control: ControlArgs,
}
