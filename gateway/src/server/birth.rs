//! How the shards come up: executors first, then descriptor tables, then rings and listeners. Every glommio executor and
//! every doorbell must exist before any shard unshares its descriptor table, because other threads write to their eventfds
//! by number.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use glommio::{LocalExecutorBuilder, Placement};
use rustix::thread::CpuSet;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Notice, drain::Shards, reload::Reloader, signals};
use crate::{
    config::Config,
    control::Health,
    metrics::Metrics,
    shard::{
        Shard, ShardConfig, ShardError, Shared,
        pace::{self, Report},
        ring::sys,
    },
};

/// Locked memory of glommio's own ring per executor; containers often allow 8 MiB in all.
pub const EXECUTOR_IO_MEMORY: usize = 1 << 20;
/// Entries of glommio's own rings: they carry one doorbell and a few timers.
const EXECUTOR_RING_DEPTH: usize = 128;
/// How long a shard may take to come up.
const START_WITHIN: Duration = Duration::from_secs(20);

/// Holds the port while the shards come up, so that port 0 means the same port for all of them.
pub(super) struct Port {
    pub(super) actual: SocketAddr,
    _held: Socket,
}

impl Port {
    pub(super) fn reserve(listen: SocketAddr) -> anyhow::Result<Port> {
        let why = || format!("cannot bind server.listen = \"{listen}\"");
        let socket = Socket::new(
            Domain::for_address(listen),
            Type::STREAM,
            Some(Protocol::TCP),
        )
        .with_context(why)?;
        socket.set_reuse_address(true).with_context(why)?;
        socket.set_reuse_port(true).with_context(why)?;
        // Bound, but it never listens: the kernel gives it no connection.
        socket.bind(&listen.into()).with_context(why)?;
        let actual = socket
            .local_addr()
            .with_context(why)?
            .as_socket()
            .unwrap_or(listen);
        Ok(Port {
            actual,
            _held: socket,
        })
    }
}

/// The cores that this process may run on: a container or `taskset` may have taken some away. Never empty.
fn allowed_cores() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect();
    if cores.is_empty() { vec![0] } else { cores }
}

impl Shards {
    /// Starts all shards: executors first, then descriptor tables, then rings and listeners.
    pub(super) fn start(
        config: &Config,
        shard_config: &ShardConfig,
        shared: &Shared,
        metrics: &Arc<Metrics>,
        health: &Arc<Health>,
        reloader: Arc<Reloader>,
        (notify, notices): (Sender<Notice>, Receiver<Notice>),
    ) -> anyhow::Result<Shards> {
        let (up_at, up) = channel();
        let cores = allowed_cores();
        let mut gates = Vec::new();
        for number in 0..shared.inboxes.len() {
            let Some(shard_metrics) = metrics.shard(number) else {
                bail!("no counters for shard {number}")
            };
            let placement = if config.server.pin_cores {
                Placement::Fixed(cores[number % cores.len()])
            } else {
                Placement::Unbound
            };
            let (gate, go) = channel();
            gates.push(gate);
            let birth = Birth {
                number,
                config: shard_config.clone(),
                shared: shared.clone(),
                metrics: Arc::clone(metrics),
                report: Report {
                    number,
                    metrics: shard_metrics,
                    health: Arc::clone(health),
                },
                up: up_at.clone(),
                go,
                notify: notify.clone(),
            };
            LocalExecutorBuilder::new(placement)
                .name(&format!("shard-{number}"))
                .io_memory(EXECUTOR_IO_MEMORY)
                .ring_depth(EXECUTOR_RING_DEPTH)
                .spawn(move || birth.live())
                .map_err(|error| {
                    anyhow::anyhow!("cannot start the executor of shard {number}: {error}")
                })?;
        }
        drop(up_at);
        let running = gates.len();
        let all = |step: &str| -> anyhow::Result<()> {
            for _ in 0..running {
                match up.recv_timeout(START_WITHIN) {
                    Ok(Ok(())) => {}
                    Ok(Err((number, error))) => bail!("shard {number} cannot start: {error}"),
                    Err(_) => bail!(
                        "a shard did not come up ({step}); glommio needs io_uring and 512 KiB of locked memory per \
                         shard (RLIMIT_MEMLOCK)"
                    ),
                }
            }
            Ok(())
        };
        all("executor")?;
        for gate in &gates {
            let _ = gate.send(());
        }
        all("ring and listener")?;
        signals::watch(notify)?;
        Ok(Shards {
            notices,
            running,
            inboxes: Arc::clone(&shared.inboxes),
            health: Arc::clone(health),
            reloader,
        })
    }
}

/// What a shard needs to come to life on its thread.
struct Birth {
    number: usize,
    config: ShardConfig,
    shared: Shared,
    metrics: Arc<Metrics>,
    report: Report,
    up: Sender<Result<(), (usize, ShardError)>>,
    go: Receiver<()>,
    notify: Sender<Notice>,
}

impl Birth {
    async fn live(self) {
        let Birth {
            number,
            config,
            shared,
            metrics,
            report,
            up,
            go,
            notify,
        } = self;
        // The executor exists. All of them must, before any descriptor table is unshared.
        let _ = up.send(Ok(()));
        if go.recv().is_err() {
            return;
        }
        let inbox = Arc::clone(&shared.inboxes[number]);
        let shard = sys::unshare_descriptors()
            .map_err(ShardError::Unshare)
            .inspect(|()| metrics.process().own_descriptor_table())
            .and_then(|()| {
                Shard::new(
                    number,
                    config,
                    shared,
                    Arc::clone(&report.metrics),
                    &inbox.doorbell,
                )
            });
        match shard {
            Err(error) => drop(up.send(Err((number, error)))),
            Ok(shard) => {
                report.health.listening(number);
                let _ = up.send(Ok(()));
                let outcome = pace::run(shard, inbox, &report).await;
                if outcome.is_ok() {
                    report.health.ended(number);
                }
                let _ = notify.send(Notice::Ended(number, outcome));
            }
        }
    }
}
