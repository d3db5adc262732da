//! How a client is set up.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::session::backoff::Backoff;
use crate::session::pace::Rate;
use crate::token::TokenSource;
use crate::{Endpoint, QueueConfig};

/// Settings that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No URL of a gateway.
    #[error("\"{url}\" is no gateway's URL: {why}")]
    Url {
        /// As it was given, without anything that could be a secret.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Whose certificates a `wss://` gateway may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities.
    #[default]
    System,
    /// Those in this PEM file, and no others. It is read again at every connection.
    File(PathBuf),
}

/// Everything that a client has to know. [`Config::new`] gives what suits most vehicles.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the gateway is.
    pub endpoint: Endpoint,
    /// Who gives tokens.
    pub tokens: TokenSource,
    /// Where events wait.
    pub queue: QueueConfig,
    /// Whom `wss://` trusts.
    pub trust: Trust,
    /// Between connections: 1 s to 60 s.
    pub reconnect: Backoff,
    /// Before a refused event is sent again: 100 ms to 5 s.
    pub retry: Backoff,
    /// A connection that lived this long makes the next backoff begin anew: 30 s.
    pub steady_after: Duration,
    /// For name, TCP, TLS, upgrade and Welcome together: 20 s.
    pub connect_within: Duration,
    /// For the answer to a ping, before the link counts as dead: 10 s.
    pub pong_within: Duration,
    /// For the answer to an event, before the connection counts as useless: 30 s.
    pub ack_within: Duration,
    /// For an answer of [`Config::tokens`]: 30 s.
    pub token_within: Duration,
    /// How long before a token ends the next one is asked for: 60 s, and up to twice that, so that a fleet whose tokens
    /// end together does not ask together. A token that lives for less than ten times that is exchanged accordingly
    /// later.
    pub token_margin: Duration,
    /// How much is sent at most.
    pub rate: Rate,
}

impl Config {
    /// The defaults.
    ///
    /// # Errors
    /// `url` is none of a gateway.
    pub fn new(url: &str, tokens: TokenSource, queue: QueueConfig) -> Result<Self, ConfigError> {
        const fn backoff(min_ms: u64, max_ms: u64) -> Backoff {
            match Backoff::new(Duration::from_millis(min_ms), Duration::from_millis(max_ms)) {
                Ok(backoff) => backoff,
                Err(_) => panic!("the defaults are in range"),
            }
        }
        const RECONNECT: Backoff = backoff(1_000, 60_000);
        const RETRY: Backoff = backoff(100, 5_000);
        Ok(Self {
            endpoint: Endpoint::parse(url)?,
            tokens,
            queue,
            trust: Trust::System,
            reconnect: RECONNECT,
            retry: RETRY,
            steady_after: Duration::from_secs(30),
            connect_within: Duration::from_secs(20),
            pong_within: Duration::from_secs(10),
            ack_within: Duration::from_secs(30),
            token_within: Duration::from_secs(30),
            token_margin: Duration::from_secs(60),
            rate: Rate::default(),
        })
    }
}
