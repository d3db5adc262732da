//! A shard: one pinned thread with its own io_uring, its own connections, no locks, no task per connection.
//!
//! ```text
//! sockets ─► ring ─► websocket ─► session ─► fleet ─► filters ─► outbound ─► ring ─► sockets
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`ring`] | all I/O and its `unsafe`: multishot accept and receive, provided buffers, sends |
//! | [`pace`] | when to tick: sleep when quiet, tick at a pace when busy |
//! | `collect` | step 1: completions to connections, and what is armed next |
//! | `handshake`, `dialogue`, `subscribe` | bytes to messages, messages to table writes and filters |
//! | [`exchange`], [`inbox`], [`dirty`] | step 2: vehicle numbers from shard to shard |
//! | `outbound` | steps 3 and 4: one frame for all who get the same, the rest pends |
//! | `ending` | how a connection ends |
//! | `sweep` | heartbeats and time-outs, a slice of the slab per tick |
//! | [`connection`], [`slab`], [`frame`], [`clock`] | the nouns |
//!
//! [`Core`] holds the state and the rules; what of it needs the ring is given the ring. [`Shard`] ties them together.

pub mod clock;
mod collect;
pub mod connection;
mod dialogue;
pub mod dirty;
mod ending;
pub mod exchange;
pub mod frame;
mod handshake;
pub mod inbox;
mod listener;
mod outbound;
pub mod pace;
pub mod ring;
mod slab;
mod subscribe;
mod sweep;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use longhaul_codec::Encoder;
use longhaul_filter_engine::Engine;

use self::{
    clock::Now,
    connection::Connection,
    dirty::Dirty,
    exchange::{Exchange, Seen},
    listener::Listener,
    outbound::Outbound,
    ring::{Completion, Key, Ring, RingConfig, RingError, sys::Doorbell},
    slab::Slab,
    sweep::Sweep,
};
use crate::{
    config, fleet::Fleet, limits::Limits, metrics::ShardMetrics, session::token::Verifier,
    websocket::AssemblyLimits,
};

/// What a shard is told at its start; the same for all shards but for its number.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The kernel's queue of connections to accept.
    pub backlog: u32,
    /// Length of a tick, in microseconds.
    pub pace_us: u32,
    /// The longest pause after a tick that sent many frames, in microseconds.
    pub gather_us_max: u32,
    /// Receive buffers.
    pub ring: RingConfig,
    /// Timeouts.
    pub connection: config::Connection,
    /// Bounds.
    pub limits: Limits,
    /// Connections at most, given the descriptor limit.
    pub connections_max: usize,
    /// Seconds by which a token's end may be off (auth.leeway_s).
    pub leeway_s: u64,
    /// This node's name, for `Welcome`.
    pub node: Arc<str>,
    /// Serve `/echo`, without tokens.
    pub echo: bool,
}

/// What all shards share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Vehicles, positions, interest.
    pub fleet: Arc<Fleet>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// Every shard's inbox, by number.
    pub inboxes: Arc<[Arc<inbox::Inbox>]>,
}

/// Why a shard could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// No ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The ring failed under way.
    #[error("io_uring_enter failed: {0}")]
    Enter(io::Error),
    /// No listener.
    #[error("cannot listen on {address} (server.listen): {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// No descriptor for the doorbell.
    #[error("cannot listen to the shard's doorbell: {0}")]
    Doorbell(io::Error),
    /// No descriptor table of its own.
    #[error("cannot give the shard a descriptor table of its own (unshare CLONE_FILES): {0}")]
    Unshare(io::Error),
}

/// What a tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticked {
    /// Completions, letters, and connections left to flush: 0 is an empty tick.
    pub handled: usize,
    /// Frames handed to the kernel.
    pub sends: usize,
}

/// A shard on its ring.
#[derive(Debug)]
pub struct Shard {
    core: Core,
    ring: Ring,
    listener: Option<Listener>,
    completions: Vec<Completion>,
    /// When to try accepting again after the kernel said no (the shard's clock, ms).
    accept_again_ms: Option<u64>,
}

/// A shard's state and rules.
#[derive(Debug)]
pub struct Core {
    config: ShardConfig,
    fleet: Arc<Fleet>,
    verifier: Arc<Verifier>,
    metrics: Arc<ShardMetrics>,
    connections: Slab<Connection>,
    engine: Engine,
    /// Vehicles of this shard that reported in this tick.
    changed: Dirty,
    /// Vehicles, of all shards, that somebody here watches and that changed.
    routed: Dirty,
    seen: Seen,
    exchange: Exchange,
    outbound: Outbound,
    sweep: Sweep,
    /// Connections with something to send or to end.
    flushable: Vec<Key>,
    /// For what JSON clients say. `None` only while it is in use.
    transcoder: Option<Encoder>,
    assembly: AssemblyLimits,
    echo_assembly: AssemblyLimits,
    stopping: bool,
}

impl Shard {
    /// A shard that listens. Call it on the shard's own thread: the ring belongs to the thread that makes it.
    ///
    /// # Errors
    /// Says what is missing: io_uring, an address, a descriptor.
    pub fn new(
        number: usize,
        config: ShardConfig,
        shared: Shared,
        metrics: Arc<ShardMetrics>,
        doorbell: &Doorbell,
    ) -> Result<Shard, ShardError> {
        let mut ring = Ring::new(config.ring, doorbell.fd())?;
        let listener = Listener::bind(&config).map_err(|error| ShardError::Listen {
            address: config.listen,
            error,
        })?;
        ring.accept(listener.fd());
        let limits = &config.limits;
        let core = Core {
            fleet: shared.fleet,
            verifier: shared.verifier,
            metrics,
            connections: Slab::new(config.connections_max),
            engine: Engine::new(),
            changed: Dirty::default(),
            routed: Dirty::default(),
            seen: Seen::default(),
            exchange: Exchange::new(number, shared.inboxes),
            outbound: Outbound::default(),
            sweep: Sweep::default(),
            flushable: Vec::new(),
            transcoder: Some(Encoder::new()),
            assembly: AssemblyLimits {
                message_bytes_max: limits.message_bytes_max,
                frames_per_message_max: limits.frames_per_message_max as u32,
            },
            echo_assembly: AssemblyLimits {
                message_bytes_max: limits.echo_message_bytes_max,
                frames_per_message_max: limits.echo_frames_per_message_max as u32,
            },
            stopping: false,
            config,
        };
        Ok(Shard {
            core,
            ring,
            listener: Some(listener),
            completions: Vec::new(),
            accept_again_ms: None,
        })
    }

    /// One tick.
    ///
    /// # Errors
    /// When the ring fails, which no shard survives.
    pub fn tick(&mut self, now: Now) -> Result<Ticked, ShardError> {
        let collected = self.collect(now)?;
        let exchanged = self.core.exchange();
        self.core.route(&mut self.ring, now);
        self.core.flush(&mut self.ring, now);
        self.submit()?;
        Ok(Ticked {
            handled: collected + exchanged + self.core.flushable.len(),
            sends: self.ring.take_sends(),
        })
    }

    fn submit(&mut self) -> Result<(), ShardError> {
        if self.ring.has_submissions() {
            self.ring.submit().map_err(ShardError::Enter)?;
        }
        Ok(())
    }

    /// When a held dashboard's interval ends, if one is held.
    pub fn due_in(&self, now: Now) -> Option<Duration> {
        self.core
            .outbound
            .due_ms()
            .map(|due| Duration::from_millis(due.saturating_sub(now.mono_ms)))
    }

    /// Whether a stop was asked for and everybody is gone.
    pub fn is_done(&self) -> bool {
        self.core.stopping && self.core.connections.len() == 0
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.core.stopping
    }
}

impl Core {
    /// Step 2. Returns how much travelled.
    fn exchange(&mut self) -> usize {
        let exchanged = self.exchange.run(
            &self.fleet,
            &mut self.changed,
            &mut self.routed,
            &mut self.seen,
        );
        let metrics = &self.metrics;
        metrics.exchanged_out.add(exchanged.sent);
        metrics.exchanged_in.add(exchanged.taken);
        metrics.inbox_full.add(exchanged.refused);
        if exchanged.stop {
            self.stop();
        }
        (exchanged.sent + exchanged.taken + exchanged.refused) as usize
    }
}
