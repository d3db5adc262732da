//! The program around the library.
//!
//! | file | what |
//! |---|---|
//! | `cli` | its flags |
//! | `input` | what a line on standard input means |
//! | `output` | lines on standard output |
//! | `run` | from one to the other |

pub(crate) mod cli;
mod input;
mod output;
mod run;

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// Everything that was published is at the gateway.
const ALL_ACKED: u8 = 0;
/// It did not start.
const FAILED: u8 = 1;
/// Events are left in the queue, for the next run. 2 is for wrong flags.
const EVENTS_LEFT: u8 = 3;
/// It stopped for good: another program has this vehicle's connection, or the queue is another vehicle's. To start it
/// again would not help.
const STOPPED: u8 = 4;

/// Runs, and says how it ended.
pub(crate) fn main(cli: cli::Cli) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&cli.log))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run::run(cli)));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("longhaul-vehicle: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
