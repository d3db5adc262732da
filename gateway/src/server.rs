//! Starts the shards and the control plane, watches over them, and stops them.
//!
//! - `server/birth.rs`: how the shards come up, in an order that matters
//! - `server/drain.rs`: how they go
//! - `server/reload.rs`: what SIGHUP reads again
//! - `server/signals.rs`: what the process is told from outside

mod birth;
mod drain;
pub mod reload;
mod signals;

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc::channel},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use anyhow::Context;
use ipnet::IpNet;

pub use self::birth::EXECUTOR_IO_MEMORY;
use self::{
    birth::Port,
    drain::{Going, Shards},
    reload::Reloader,
};
#[cfg(debug_assertions)]
use crate::shard::inbox::Letter;
use crate::{
    audit::{self, Audit},
    config::Config,
    control::{self, Admin, ControlState, DrainOrder, Health, admin::GroupCalls},
    events::{self, EventLog, LogState},
    fleet::Fleet,
    limits,
    metrics::{GroupMetrics, Metrics, PenaltyMetrics},
    revocations::Keeper,
    session::{census::Census, penalty::PenaltyBox, token::IdBounds},
    shard::{ShardConfig, ShardError, Shared, inbox::Inbox, ring::RingConfig},
    startup::Startup,
    state::{self, GroupKeeper, Keeping},
};

/// A shard that has not ticked for this long is not alive; a quiet one ticks four times a second.
const SHARD_STALE_AFTER: Duration = Duration::from_secs(15);

/// What the main thread waits for. It comes through a `std` channel, whose wake-up is a futex: a shard must not wake
/// anybody through a descriptor that was made after it unshared its table.
#[derive(Debug)]
enum Notice {
    /// SIGTERM asks for an end that nobody notices.
    Terminate,
    /// SIGINT asks for an end now.
    Interrupt,
    /// The control plane asks for what SIGTERM does.
    Drain(DrainOrder),
    /// SIGHUP asks for files to be read again.
    Reload,
    /// A shard has ended.
    Ended(usize, Result<(), ShardError>),
}

/// Runs the gateway until it is told to stop (SIGTERM, SIGINT) or a shard ends.
///
/// # Errors
/// When something is missing at the start, or a shard fails: the process must not stay half alive.
pub fn run(startup: Startup) -> anyhow::Result<()> {
    let config = &startup.config;
    let descriptors =
        limits::raise_descriptor_limit().context("cannot raise the descriptor limit")?;
    let count = shard_count(config);
    let address = Port::reserve(config.server.listen)?;
    let metrics = Metrics::new(count);
    let inboxes: Arc<[Arc<Inbox>]> = (0..count)
        .map(|_| Inbox::new(config.limits.inbox_batches_max))
        .collect::<Result<_, _>>()
        .context("cannot make a doorbell (eventfd)")?;
    let configured = &config.events.directory;
    let at_first = if configured.is_some() {
        LogState::Opening
    } else {
        LogState::Off
    };
    let (events, inlets) = EventLog::new(&config.limits, at_first);
    let (audit, audit_log) = Audit::start(
        &config.audit,
        &config.limits,
        &config.node_name(),
        metrics.audit(),
    )?;
    let shared = Shared {
        fleet: Fleet::new(&config.limits),
        census: Arc::new(Census::new(&config.limits)),
        trust: Arc::clone(&startup.trust),
        certificates: startup.certificates.clone(),
        penalties: Arc::new(PenaltyBox::new(&config.abuse, balancers(config))),
        events: Arc::clone(&events),
        audit: Arc::clone(&audit),
        inboxes: Arc::clone(&inboxes),
    };
    let echo = startup.echo();
    let revocations = Keeper::new(
        startup.revocations,
        Arc::clone(&startup.trust),
        Arc::clone(&inboxes),
        metrics.revocations(),
    );
    let mut reloader = Reloader::new(Arc::clone(&audit))
        .part("audit log", {
            let audit = Arc::clone(&audit);
            move || audit.reopen()
        })
        .part("keys", {
            let keys = Arc::clone(&startup.keys);
            move || {
                let done = keys.reload();
                done.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
            }
        })
        .part("revocations", {
            let revocations = Arc::clone(&revocations);
            move || revocations.reload()
        });
    if let Some(certificates) = startup.certificates.clone() {
        reloader = reloader.part("certificates", move || {
            certificates
                .reload()
                .map(|()| "new handshakes go by them".to_owned())
                .map_err(|error| error.to_string())
        });
    }
    let reloader = Arc::new(reloader);
    let loaded = startup.state.as_ref().map(|folder| {
        state::load(Keeping {
            folder: Arc::clone(folder),
            fleet: Arc::clone(&shared.fleet),
            limits: config.limits.clone(),
            snapshot_every: Duration::from_millis(config.state.snapshot_every_ms),
            metrics: metrics.state(),
        })
    });
    let groups = Arc::new(GroupKeeper::load(
        Arc::clone(&shared.fleet),
        Arc::clone(&inboxes),
        startup.state.clone(),
    ));
    // Behind the state: fleets and vehicles keep the indexes that they were given there.
    let event_log = configured
        .as_ref()
        .map(|directory| {
            events::log::start(
                events::log::Setting {
                    directory: directory.clone(),
                    events: config.events.clone(),
                    commands: events::commands::Bounds::new(&config.limits),
                    log: events,
                    fleet: Arc::clone(&shared.fleet),
                    inboxes: Arc::clone(&inboxes),
                    metrics: metrics.log(),
                },
                inlets,
            )
        })
        .transpose()
        .context("cannot start the event log (events.directory)")?;
    let shard_config = shard_config(config, address.actual, descriptors, echo);
    let health = Health::new(count, SHARD_STALE_AFTER, Instant::now());
    let (notify, notices) = channel();
    let mut registry = metrics.registry(&shared.census);
    let penalties = PenaltyMetrics {
        penalties: Arc::clone(&shared.penalties),
        started: shard_config.started,
    };
    registry.register_collector(Box::new(penalties));
    registry.register_collector(Box::new(GroupMetrics(Arc::clone(&shared.fleet))));
    let control_state = ControlState {
        groups: GroupCalls {
            fleet: Arc::clone(&shared.fleet),
            keeper: Arc::clone(&groups),
        },
        node: config.node_name(),
        health: Arc::clone(&health),
        registry,
        drain: Box::new({
            let (notify, health) = (notify.clone(), Arc::clone(&health));
            move |order| !health.is_draining() && notify.send(Notice::Drain(order)).is_ok()
        }),
        reload: Box::new({
            let reloader = Arc::clone(&reloader);
            move || reloader.reload()
        }),
        admin: Admin::new(
            Arc::clone(&startup.trust),
            audit,
            Arc::clone(&revocations),
            IdBounds::new(&config.limits),
            config.auth.leeway_s,
            audit::unix_ms() / 1_000,
        )
        .keeping(startup.state.clone()),
        drain_needs_token: config.control.require_token
            || !config.control.listen.ip().is_loopback(),
        #[cfg(debug_assertions)]
        panic: Box::new({
            let inboxes = Arc::clone(&inboxes);
            move |shard| {
                inboxes
                    .get(shard)
                    .is_some_and(|inbox| inbox.post(Letter::Panic).is_ok())
            }
        }),
    };
    let control = control::spawn(config.control.listen, Arc::new(control_state))?;
    startup
        .keys
        .start(metrics.keys())
        .context("cannot start the thread that fetches keys")?;
    let mut shards = Shards::start(
        config,
        &shard_config,
        &shared,
        &metrics,
        &health,
        reloader,
        (notify, notices),
    )?;
    drop(address);
    let watch = revocations
        .watch()
        .context("cannot start the thread that watches revocations")?;
    let announce = state::announcer(Arc::clone(&shared.fleet), Arc::clone(&inboxes));
    let keeper = loaded
        .map(|loaded| loaded.start(announce, move || groups.look()))
        .transpose()
        .context("cannot start the thread that keeps state")?;
    tracing::info!(
        listen = %shard_config.listen,
        control = %control.address(),
        shards = count,
        connections_per_shard = shard_config.connections_max,
        "longhaul is ready"
    );
    let outcome = shards.watch(&config.drain, |step| match step {
        Going::Soon(within) | Going::Now(within) => {
            if let Some(keeper) = &keeper {
                keeper.drain(within);
            }
            if let (Going::Now(_), Some(event_log)) = (step, &event_log) {
                // Whoever leaves goes to a process that needs it.
                event_log.close();
            }
        }
    });
    drop(watch);
    if let Some(event_log) = event_log {
        event_log.stop();
    }
    if let Some(keeper) = keeper {
        keeper.stop();
    }
    startup.keys.stop();
    control.stop();
    if let Some(audit_log) = audit_log {
        audit_log.stop();
    }
    outcome
}

/// How many shards these settings ask for on this machine.
pub fn shard_count(config: &Config) -> usize {
    match usize::from(config.server.shards) {
        0 => available_parallelism()
            .map_or(1, usize::from)
            .min(limits::SHARDS_MAX),
        shards => shards,
    }
}

fn shard_config(config: &Config, listen: SocketAddr, descriptors: u64, echo: bool) -> ShardConfig {
    ShardConfig {
        listen,
        backlog: config.server.backlog,
        pace_us: config.server.pace_us,
        gather_us_max: config.server.gather_us_max,
        ring: RingConfig {
            buffers: config.receive.buffers as u16,
            buffer_bytes: config.receive.buffer_bytes as usize,
            collect_max: config.receive.completions_per_tick_max as usize,
        },
        connection: config.connection.clone(),
        connections_max: config.limits.connections_per_shard(descriptors),
        limits: config.limits.clone(),
        leeway_s: config.auth.leeway_s,
        warn_before_s: config.auth.warn_before_s,
        ack_wait_ms: config.events.ack_wait_ms,
        node: config.node_name().into(),
        echo,
        started: Instant::now(),
        balancers: balancers(config).into(),
        origins: config.server.origins.as_slice().into(),
    }
}

/// The networks that load balancers connect from.
fn balancers(config: &Config) -> &[IpNet] {
    let proxy_protocol = config.server.proxy_protocol.as_ref();
    proxy_protocol.map_or(&[], |proxy| proxy.from.as_slice())
}
