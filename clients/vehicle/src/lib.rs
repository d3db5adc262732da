//! The vehicle's side of a Longhaul gateway: where the vehicle is, what happens to it, what it is told to do.
//!
//! A [`Vehicle`] keeps one connection to a gateway for as long as the program runs. A map of the crate:
//!
//! - [`Vehicle`]: report positions, publish events, answer commands, close
//! - [`Config`], [`QueueConfig`], [`TokenSource`]: how it is set up
//! - [`Event`]: what is published; [`Notice`]: what became of it
//! - [`State`], [`Counters`]: how it is doing
//! - `session`: every decision, without I/O: what an end means, which event is next, whether a link is dead
//! - `queue`: events on the disk
//! - `link`: sockets, and nothing that has to be thought about
//!
//! ```no_run
//! use longhaul_vehicle::{Config, Event, Fix, QueueConfig, Token, TokenSource, Vehicle};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let tokens = TokenSource::fixed(Token::new(&std::fs::read_to_string("truck-1.token")?)?);
//! let config = Config::new("wss://gateway.example/v1", tokens, QueueConfig::new("truck-1.queue"))?;
//! let (vehicle, mut commands) = Vehicle::start(config)?;
//!
//! vehicle.report(Fix { lat_e7: 525_200_000, lon_e7: 134_050_000, ..Fix::default() })?;
//! let id = vehicle.publish(Event::new("door").text("open")).await?;
//! println!("event {id} is safe, whatever happens");
//!
//! while let Some(command) = commands.recv().await {
//!     println!("told to {}", command.name);
//!     vehicle.answer(longhaul_vehicle::CommandResult {
//!         command_id: command.command_id,
//!         ..Default::default()
//!     })?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//!
//! | what | promise |
//! |---|---|
//! | positions | the newest one, at most once; offline and on a slow link older ones make room |
//! | events by [`Vehicle::publish`] | on the disk when it returns; at the gateway at least once, in order, with their own times |
//! | events by [`Vehicle::send`] | at most once, if there is a connection |
//! | commands | handed out once while this program runs; answered again from memory when they come again |
#![forbid(unsafe_code)]

mod config;
mod endpoint;
mod event;
mod link;
mod queue;
mod session;
mod shared;
mod status;
mod token;
mod vehicle;

pub use config::{Config, ConfigError, Trust};
pub use endpoint::Endpoint;
pub use event::{Event, EventError};
pub use longhaul_codec::{Command, CommandResult, CommandStatus, ErrorCode, Fix, FixError};
pub use queue::{Opened, PublishError, QueueConfig, QueueError, WhenFull};
pub use session::backoff::{Backoff, BackoffError};
pub use session::commands::AnswerError;
pub use session::pace::Rate;
pub use status::{Counters, Notice, State, StopReason};
pub use token::{Token, TokenError, TokenSource};
pub use vehicle::{Pending, Vehicle};

/// So that the example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
