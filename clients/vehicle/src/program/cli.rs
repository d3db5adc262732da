//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum, value_parser};
use longhaul_vehicle::{Config, QueueConfig, Token, TokenSource, Trust, WhenFull};

/// A vehicle's connection to a Longhaul gateway: JSON lines in, JSON lines out
#[derive(Debug, Parser)]
#[command(name = "longhaul-vehicle", version)]
pub(crate) struct Cli {
    /// The gateway: ws://HOST:PORT/v1 or wss://HOST/v1
    #[arg(long, value_name = "URL", env = "LONGHAUL_URL")]
    pub(crate) url: String,

    /// Read the token from this file, anew each time that one is needed; left out: from LONGHAUL_TOKEN
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Keep events that the gateway does not have yet in this file; it is made if there is none
    #[arg(long, value_name = "FILE", default_value = "longhaul-vehicle.queue")]
    pub(crate) queue: PathBuf,

    /// Keep at most so many events
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = value_parser!(u32).range(2..=10_000_000))]
    pub(crate) queue_events_max: u32,

    /// Keep at most so many bytes of events, on the disk and in memory
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = value_parser!(u32).range(1_024..=1 << 30))]
    pub(crate) queue_bytes_max: u32,

    /// What to do with an event that the queue has no room for
    #[arg(long, value_name = "WHAT", default_value = "reject")]
    pub(crate) when_full: Full,

    /// Trust the certificate authorities in this PEM file in place of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// After the end of standard input, wait so long for the gateway to have every event
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) linger: u32,

    /// Log level, or levels per module
    #[arg(
        long,
        value_name = "FILTER",
        env = "LONGHAUL_LOG",
        default_value = "info"
    )]
    pub(crate) log: String,
}

/// The choices of `--when-full`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Full {
    /// Refuse it, with an error line
    Reject,
    /// Drop the oldest ones, with a line for each
    DropOldest,
}

impl Cli {
    /// The library's settings.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let queue = QueueConfig {
            events_max: self.queue_events_max as usize,
            bytes_max: self.queue_bytes_max as usize,
            when_full: match self.when_full {
                Full::Reject => WhenFull::Reject,
                Full::DropOldest => WhenFull::DropOldest,
            },
            ..QueueConfig::new(&self.queue)
        };
        let mut config = Config::new(&self.url, self.tokens()?, queue)?;
        if let Some(file) = &self.ca {
            config.trust = Trust::File(file.clone());
        }
        Ok(config)
    }

    /// How long to wait at the end.
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_secs(self.linger.into())
    }

    fn tokens(&self) -> anyhow::Result<TokenSource> {
        let Some(file) = self.token_file.clone() else {
            let text = std::env::var("LONGHAUL_TOKEN")
                .context("no token: give --token-file FILE, or set LONGHAUL_TOKEN")?;
            let token = Token::new(&text).context("LONGHAUL_TOKEN")?;
            return Ok(TokenSource::fixed(token));
        };
        Ok(TokenSource::new(move || {
            let file = file.clone();
            async move {
                let shown = file.display().to_string();
                let read = move || std::fs::read_to_string(&file);
                let text = tokio::task::spawn_blocking(read)
                    .await
                    .map_err(|error| error.to_string())?
                    .map_err(|error| format!("{shown}: {error}"))?;
                Token::new(&text).map_err(|error| format!("{shown}: {error}"))
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
