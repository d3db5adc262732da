//! A shard: one pinned thread with its own io_uring, its own connections, no locks, no task per connection.
//!
//! ```text
//! sockets ─► ring ─► websocket ─► session ─► fleet ─► filters ─► outbound ─► ring ─► sockets
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`ring`] | all I/O and its `unsafe`: accepts, multishot receive, provided buffers, sends |
//! | [`pace`] | when to tick: sleep when quiet, tick at a pace when busy |
//! | `collect` | step 1: completions to connections, and what is armed next |
//! | `bulk` | peers that send more than a tick has room for |
//! | `secure` | TLS, where there is any: bytes off the wire to bytes, frames to bytes for the wire |
//! | `handshake`, `allowance`, `dialogue`, `subscribe`, `watch` | bytes to messages, messages to table writes and filters |
//! | [`exchange`], [`inbox`], [`dirty`] | step 2: vehicle numbers from shard to shard |
//! | `route`, `flush` | steps 3 and 4: one frame for all who get the same, the rest pends |
//! | `grants`, `access`, `bounds` | what a token lets its bearer see, do and publish |
//! | `regrants` | what becomes of that when a group changes, or an entry ends |
//! | `publish`, `feeds`, `deliver` | events: from vehicles to the log; who gets which from where; from the log to them |
//! | `orders` | commands: from dashboards to vehicles, and the results back |
//! | `outbound` | what is to be said, as frames |
//! | `entrance`, `gate` | how many new connections come in, and whether a storm of them is under way |
//! | `preface`, `offence` | whom a load balancer's connections are for; what is held against an address |
//! | `ending`, [`leaving`] | how a connection ends, and how all of them do |
//! | [`purge`], [`passes`] | closing connections whose token was revoked |
//! | `witness` | what the audit log is told |
//! | `sweep`, `stalls` | heartbeats and time-outs, a slice of the slab per tick |
//! | `renewal`, `deadlines` | fresh tokens in place; when a token ends, to a quarter of a second |
//! | [`connection`], [`slab`], [`frame`], [`clock`], `every`, `extras`, `feed`, `tail` | the nouns |
//! | [`footprint`] | what the nouns weigh, for the memory budget |
//!
//! [`Core`] holds the state and the rules; what of it needs the ring is given the ring. [`Shard`] ties them together.

mod access;
mod allowance;
mod bounds;
mod bulk;
pub mod clock;
mod collect;
pub mod connection;
mod deadlines;
mod deliver;
mod dialogue;
pub mod dirty;
mod ending;
mod entrance;
mod every;
pub mod exchange;
mod extras;
mod feed;
mod feeds;
mod flush;
pub mod footprint;
pub mod frame;
mod gate;
mod grants;
mod handshake;
pub mod inbox;
pub mod leaving;
mod listener;
mod offence;
mod orders;
mod outbound;
pub mod pace;
pub mod passes;
mod preface;
mod publish;
pub mod purge;
mod regrants;
mod renewal;
pub mod ring;
mod route;
mod secure;
mod slab;
mod stalls;
mod subscribe;
mod sweep;
mod tail;
mod watch;
mod witness;

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use longhaul_codec::Encoder;
use longhaul_filter_engine::Engine;

use self::{
    bulk::Bulk,
    clock::Now,
    connection::Connection,
    deadlines::Deadlines,
    exchange::{Exchange, Outbox, Routed, Seen},
    extras::Extras,
    flush::Held,
    gate::{Barometer, Gate},
    inbox::Letter,
    listener::Listener,
    offence::PenaltyLog,
    outbound::Outbound,
    passes::Passes,
    preface::Clients,
    publish::Publishers,
    purge::Purging,
    regrants::Regrants,
    ring::{Completion, Key, Ring, RingConfig, RingError, sys::Doorbell},
    secure::Sessions,
    slab::Slab,
    stalls::Stalls,
    sweep::Sweep,
    tail::Tails,
};
use crate::{
    audit::Audit,
    config,
    events::EventLog,
    fleet::Fleet,
    limits::{Limits, REFUSALS_IN_FLIGHT_MAX, UPGRADES_PER_TICK_MAX},
    metrics::ShardMetrics,
    session::{
        census::{Census, Counted},
        grants::Grants,
        penalty::PenaltyBox,
        rate::Rate,
        trust::Trust,
    },
    transport::Certificates,
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
    /// How long before a token's end its peer is told, in seconds (auth.warn_before_s).
    pub warn_before_s: u16,
    /// How long a dashboard may take to acknowledge an event, in milliseconds (events.ack_wait_ms).
    pub ack_wait_ms: u64,
    /// This node's name, for `Welcome`.
    pub node: Arc<str>,
    /// Serve `/echo`, without tokens.
    pub echo: bool,
    /// When the shards' clocks were at zero.
    pub started: Instant,
    /// Load balancers, whose connections say whom they are for (server.proxy_protocol).
    pub balancers: Arc<[IpNet]>,
    /// Web pages that may connect (server.origins); empty: any.
    pub origins: Arc<[String]>,
}

/// What all shards share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Vehicles, positions, interest.
    pub fleet: Arc<Fleet>,
    /// How many there are.
    pub census: Arc<Census>,
    /// Who may be here.
    pub trust: Arc<Trust>,
    /// What TLS handshakes go by; `None`: connections are plain.
    pub certificates: Option<Arc<Certificates>>,
    /// Who is kept out for a while.
    pub penalties: Arc<PenaltyBox>,
    /// Events that must arrive.
    pub events: Arc<EventLog>,
    /// Who got in, who did not, who did what.
    pub audit: Arc<Audit>,
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
    /// Frames handed to the kernel for connections that had one a moment ago.
    pub resent: usize,
}

/// A shard on its ring.
#[derive(Debug)]
pub struct Shard {
    core: Core,
    ring: Ring,
    listener: Option<Listener>,
    completions: Vec<Completion>,
    /// Accepts that the ring has in hand.
    accepting: u32,
    /// When to try accepting again after the kernel said no (the shard's clock, ms).
    accept_again_ms: Option<u64>,
    /// A shard that leaves listens until this moment at the latest (the shard's clock, ms).
    listen_until_ms: Option<u64>,
}

/// A shard's state and rules.
#[derive(Debug)]
pub struct Core {
    config: ShardConfig,
    /// The tick's time.
    now: Now,
    fleet: Arc<Fleet>,
    census: Arc<Census>,
    trust: Arc<Trust>,
    penalties: Arc<PenaltyBox>,
    penalty_log: PenaltyLog,
    events: Arc<EventLog>,
    audit: Arc<Audit>,
    metrics: Arc<ShardMetrics>,
    connections: Slab<Connection>,
    bulk: Bulk,
    sessions: Sessions,
    /// Addresses that are counted, by slot; empty if none are.
    addresses: Vec<Counted>,
    /// What of each connection's token matters once it is in, by slot.
    passes: Passes,
    purging: Purging,
    clients: Clients,
    engine: Engine,
    /// What vehicles of this shard did in this tick.
    out: Outbox,
    /// What vehicles of all shards did, as far as somebody here watches them.
    routed: Routed,
    seen: Seen,
    exchange: Exchange,
    extras: Extras,
    publishers: Publishers,
    tails: Tails,
    /// Dashboards that may have room for events of the log.
    behind: Vec<Key>,
    /// The log has to hear of those who are connected, from this slot on.
    announcing: Option<u32>,
    /// The number of the next request for old events.
    next_ticket: u64,
    /// Bytes of events that this tick may still send to those.
    replay_bytes_left: usize,
    outbound: Outbound,
    held: Held,
    regrants: Regrants,
    /// What vehicles may publish that may not publish everything.
    publish_bounds: HashMap<Key, Grants>,
    sweep: Sweep,
    deadlines: Deadlines,
    stalls: Stalls,
    gate: Gate,
    barometer: Barometer,
    /// Connections accepted in this tick.
    accepted: u32,
    /// Connections that are being told that they cannot come in, and are in no census.
    refusing: usize,
    /// Connections whose upgrade request waits to be decided on.
    upgrades: VecDeque<Key>,
    /// How many more are decided on in this tick.
    upgrades_left: usize,
    /// Connections with something to send or to end.
    flushable: Vec<Key>,
    /// How many of those, at the front, the last tick could not serve to the end.
    leftovers: usize,
    /// Sends of this tick to connections that were sent something in the same 10 ms.
    resent: usize,
    /// For what JSON clients say. `None` only while it is in use.
    transcoder: Option<Encoder>,
    assembly: AssemblyLimits,
    echo_assembly: AssemblyLimits,
    messages_rate: Option<Rate>,
    bytes_rate: Option<Rate>,
    leaving: Option<leaving::Leaving>,
    /// It is to go away, sooner or later.
    going: bool,
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
        let ring = Ring::new(config.ring, doorbell.fd())?;
        let listener = Listener::bind(&config).map_err(|error| ShardError::Listen {
            address: config.listen,
            error,
        })?;
        let limits = &config.limits;
        let core = Core {
            now: Now::default(),
            fleet: shared.fleet,
            census: shared.census,
            trust: shared.trust,
            penalties: shared.penalties,
            penalty_log: PenaltyLog::default(),
            events: shared.events,
            audit: shared.audit,
            metrics,
            connections: Slab::new(config.connections_max + REFUSALS_IN_FLIGHT_MAX),
            bulk: Bulk::new(),
            sessions: Sessions::new(shared.certificates),
            addresses: Vec::new(),
            passes: Passes::default(),
            purging: Purging::default(),
            clients: Clients::default(),
            engine: Engine::new(),
            out: Outbox::default(),
            routed: Routed::default(),
            seen: Seen::default(),
            exchange: Exchange::new(number, shared.inboxes),
            extras: Extras::new(number),
            publishers: Publishers::default(),
            tails: Tails::default(),
            behind: Vec::new(),
            announcing: None,
            next_ticket: 0,
            replay_bytes_left: 0,
            outbound: Outbound::default(),
            held: Held::default(),
            regrants: Regrants::default(),
            publish_bounds: HashMap::new(),
            sweep: Sweep::default(),
            deadlines: Deadlines::default(),
            stalls: Stalls::default(),
            gate: Gate::new(limits.accepts_per_second_max),
            barometer: Barometer::default(),
            accepted: 0,
            refusing: 0,
            upgrades: VecDeque::new(),
            upgrades_left: UPGRADES_PER_TICK_MAX,
            flushable: Vec::new(),
            leftovers: 0,
            resent: 0,
            transcoder: Some(Encoder::new()),
            assembly: AssemblyLimits {
                message_bytes_max: limits.message_bytes_max,
                frames_per_message_max: limits.frames_per_message_max as u32,
            },
            echo_assembly: AssemblyLimits {
                message_bytes_max: limits.echo_message_bytes_max,
                frames_per_message_max: limits.echo_frames_per_message_max as u32,
            },
            messages_rate: Rate::new(limits.messages_per_second_max, limits.messages_burst),
            bytes_rate: Rate::new(limits.bytes_per_second_max, limits.bytes_burst),
            leaving: None,
            going: false,
            stopping: false,
            config,
        };
        Ok(Shard {
            core,
            ring,
            listener: Some(listener),
            completions: Vec::new(),
            accepting: 0,
            accept_again_ms: None,
            listen_until_ms: None,
        })
    }

    /// One tick.
    ///
    /// # Errors
    /// When the ring fails, which no shard survives.
    pub fn tick(&mut self, now: Now) -> Result<Ticked, ShardError> {
        let collected = self.collect(now)?;
        let exchanged = self.core.exchange();
        self.core.go_on_leaving();
        // Behind the letters and ahead of routing: who has left a group is sent to nobody any more.
        self.core.go_on_regranting(now);
        self.core.route(&mut self.ring, now);
        self.core.flush(&mut self.ring, now);
        self.submit()?;
        Ok(Ticked {
            handled: collected + exchanged + self.core.waiting(),
            resent: std::mem::take(&mut self.core.resent),
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
            .held
            .due_ms()
            .map(|due| Duration::from_millis(due.saturating_sub(now.mono_ms)))
    }

    /// Whether it is to end and everybody is gone.
    pub fn is_done(&self) -> bool {
        self.core.is_leaving()
            && self.listener.is_none()
            && self.accepting == 0
            && self.core.connections.len() == 0
    }

    /// Whether a stop was asked for.
    pub fn is_stopping(&self) -> bool {
        self.core.stopping
    }
}

impl Core {
    /// Connections that this tick has left something to do for.
    fn waiting(&self) -> usize {
        self.flushable.len()
            + self.upgrades.len()
            + usize::from(self.bulk.waiting() > 0)
            + self.sessions.waiting()
            + self.regrants.waiting()
    }

    /// Step 2. Returns how much travelled.
    fn exchange(&mut self) -> usize {
        self.hand_to_log();
        self.hand_over_news();
        let mut asked = Vec::new();
        let exchanged = self.exchange.run(
            &self.fleet,
            &mut self.out,
            &mut self.routed,
            &mut self.seen,
            |what| asked.push(what),
        );
        let metrics = &self.metrics;
        metrics.exchanged_out.add(exchanged.sent);
        metrics.exchanged_in.add(exchanged.taken);
        metrics.inbox_full.add(exchanged.refused);
        metrics.every_dropped.add(exchanged.dropped);
        metrics.events_dropped.add(exchanged.events_dropped);
        metrics.limit_hit_taken_over.add(exchanged.forgotten);
        let count = asked.len();
        for what in asked {
            match what {
                Letter::TakenOver(key, vehicle) => self.taken_over(key, vehicle),
                Letter::Published(verdicts) => self.published(verdicts),
                Letter::Replayed(key, replayed) => self.replayed(key, *replayed),
                Letter::Say(key, message) => self.say(key, &message),
                Letter::Deliver(key, vehicle, expires_ms, command) => {
                    self.deliver_command(key, vehicle, expires_ms, &command, self.now);
                }
                Letter::Tell(key, number, result) => self.tell_result(key, number, *result),
                Letter::NewEpoch => self.new_epoch(),
                Letter::LogOpen { first } => self.log_opened(first),
                Letter::Several(_) => {}
                Letter::Purge(purge) => self.purge(purge),
                Letter::Leave(plan) => self.leave(plan),
                Letter::Stop => self.stop(),
                #[cfg(debug_assertions)]
                Letter::Panic => panic!("a test asked for it"),
                // The exchange has dealt with these itself.
                Letter::Dirty(..)
                | Letter::Presence(..)
                | Letter::Every(_)
                | Letter::Events(_)
                | Letter::Committed(_) => {}
            }
        }
        let purges = self.go_on_purging();
        let more = purges || self.announcing.is_some() || !self.out.command_news.is_empty();
        (exchanged.sent + exchanged.taken + exchanged.refused) as usize + count + usize::from(more)
    }
}
