//! What is written to standard error while running: text on a terminal, JSON otherwise.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter has a syntax error.
    #[error(
        "log.filter = \"{filter}\" is neither a level such as info nor a list of MODULE=LEVEL: {reason}"
    )]
    Filter {
        /// The setting.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else in this process logs already.
    #[error("cannot start logging")]
    Taken(#[from] TryInitError),
}

/// Starts logging for the whole process.
///
/// # Errors
/// The filter has a syntax error, or logging was started before.
pub fn start(settings: &Log) -> Result<(), LoggingError> {
    let filter = filter(settings)?;
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(terminal);
    if in_text(settings.format, terminal) {
        builder.finish().try_init()?;
    } else {
        builder.json().flatten_event(true).finish().try_init()?;
    }
    Ok(())
}

/// Reads the filter.
///
/// # Errors
/// It has a syntax error.
pub fn filter(settings: &Log) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(&settings.filter).map_err(|error| LoggingError::Filter {
        filter: settings.filter.clone(),
        reason: error.to_string(),
    })
}

fn in_text(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_follows_the_terminal_unless_it_is_set() {
        for (format, terminal, text) in [
            (LogFormat::Auto, true, true),
            (LogFormat::Auto, false, false),
            (LogFormat::Text, false, true),
            (LogFormat::Json, true, false),
        ] {
            assert_eq!(in_text(format, terminal), text, "{format:?} {terminal}");
        }
    }
}
