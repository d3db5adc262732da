//! One load against one gateway: which gateway, and which processes make what of the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::Value;

use crate::audience::Audience;
use crate::cli::{GatewayArgs, GeneratorArgs};
use crate::crew::CONNECTIONS_PER_PROCESS;
use crate::desk::Desk;
use crate::gateway::{Gateway, Spawn};
use crate::job::{Job, Load, LoadTask, Share, Task};
use crate::outside::agreement::{Traffic, Witness};
use crate::report::Report;
use crate::view::View;

/// Connections per shard of a spawned gateway: its descriptor table, and room for an uneven spread.
const CONNECTIONS_PER_SHARD: usize = 16_000;
/// As many as a gateway may have.
const SHARDS_MAX: usize = 64;

/// How often it is looked whether the user has had enough.
const LOOK: Duration = Duration::from_millis(50);

/// Set by Ctrl-C and SIGTERM.
pub type Interrupted = Arc<AtomicBool>;

/// Reacts to Ctrl-C and SIGTERM from now on.
///
/// # Errors
/// Another handler is installed already.
pub fn watch_signals() -> anyhow::Result<Interrupted> {
    let flag = Interrupted::default();
    let set = Arc::clone(&flag);
    ctrlc::set_handler(move || set.store(true, Ordering::Relaxed))?;
    Ok(flag)
}

/// The user gave up before there was anything to report.
#[derive(Debug, thiserror::Error)]
#[error("ended by the user")]
pub struct EndedByUser;

/// Whether the user wants it to go on.
///
/// # Errors
/// Not any more: [`EndedByUser`].
pub fn check(interrupted: &Interrupted) -> anyhow::Result<()> {
    ensure!(!interrupted.load(Ordering::Relaxed), EndedByUser);
    Ok(())
}

/// Waits.
///
/// # Errors
/// The user does not want it to go on.
pub fn sleep(time: Duration, interrupted: &Interrupted) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        check(interrupted)?;
        std::thread::sleep(LOOK.min(time.saturating_sub(began.elapsed())));
    }
    Ok(())
}

/// Settings of a gateway whose clients all connect at the beginning and do not come back: it turns nobody away for coming
/// too fast. What that limit does is measured by `storm`.
pub const ALL_AT_ONCE: &str = "[limits]\naccepts_per_second_max = 0\n";

/// The gateway that the arguments name, started if they say so, with room for `connections`.
///
/// # Errors
/// It cannot be started or found.
pub fn gateway(
    args: &GatewayArgs,
    connections: usize,
    config: Option<String>,
) -> anyhow::Result<Gateway> {
    if let (Some(url), Some(key)) = (&args.url, &args.key) {
        return Gateway::at(url, key, args.pid);
    }
    let shards = match args.shards {
        Some(shards) => usize::from(shards),
        None => shards(connections),
    };
    Gateway::spawn(&Spawn {
        binary: args.gateway.clone(),
        shards,
        config,
        tls: args.tls,
        arguments: args.gateway_arg.clone(),
    })
}

/// How many shards hold so many connections.
pub fn shards(connections: usize) -> usize {
    connections
        .div_ceil(CONNECTIONS_PER_SHARD)
        .clamp(1, SHARDS_MAX)
}

/// Which core each generator process runs on: those that the gateway's shards leave free, if there are any.
pub fn cores(processes: usize, shards: Option<usize>, pin: bool) -> Vec<Option<usize>> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let free: Vec<usize> = (shards.unwrap_or(all)..all).collect();
    (0..processes)
        .map(|process| {
            if free.is_empty() || !pin {
                None
            } else {
                Some(free[process % free.len()])
            }
        })
        .collect()
}

/// What is to be run.
#[derive(Clone)]
pub struct Run {
    /// `fanout` or `replay`.
    pub command: &'static str,
    /// Its arguments, for the report.
    pub parameters: Value,
    /// What is sent.
    pub load: Load,
    /// Who watches.
    pub audience: Audience,
}

impl Run {
    /// How many connections it makes.
    pub fn connections(&self) -> usize {
        self.audience.vehicles as usize + self.audience.dashboards()
    }

    /// The jobs of the processes that have `share` between them.
    pub fn jobs(
        &self,
        gateway: &Gateway,
        args: &GeneratorArgs,
        share: &Share,
        progress: Duration,
    ) -> Vec<Job> {
        let vehicles = if share.vehicles {
            self.audience.vehicles
        } else {
            0
        };
        let connections = vehicles as usize + share.dashboards.len();
        let fewest = connections.div_ceil(CONNECTIONS_PER_PROCESS).max(1);
        let processes = args.processes.map_or(fewest, usize::from).max(fewest);
        let task = LoadTask {
            load: self.load.clone(),
            audience: self.audience.clone(),
            share: share.clone(),
            // A replay is small enough for it.
            masked: args.mask || matches!(self.load, Load::Replay { .. }),
            pace: Duration::from_micros(args.pace_us),
            progress,
        };
        cores(processes, gateway.shards, !args.no_pin)
            .into_iter()
            .enumerate()
            .map(|(process, core)| {
                let task = Task::Load(task.clone());
                Job::at(gateway, (process, processes), core, task)
            })
            .collect()
    }

    /// Runs it. If it is known where the gateway's metrics are, they must agree with what is seen here.
    ///
    /// # Errors
    /// The gateway or a generator process fails; not what the checker finds, which is in the report.
    pub fn drive(
        &self,
        gateway: &mut Gateway,
        args: &GeneratorArgs,
        view: &mut dyn View,
        interrupted: &Interrupted,
    ) -> anyhow::Result<Option<Report>> {
        let share = Share::vehicles_and(0..self.audience.dashboards());
        let mut witness = Witness::before(gateway)?;
        let Some(mut desk) = Desk::open(self, share, gateway, args, view, interrupted)? else {
            return Ok(None);
        };
        if let Some(witness) = &mut witness {
            witness.connected(self.connections())?;
        }
        desk.start()?;
        let (mut report, _) = desk.finish()?;
        if let Some(witness) = witness {
            // If connections were lost, nobody knows how much of what was on its way the other side has counted.
            let traffic = (report.disconnected == 0 && report.unconfirmed == 0).then(|| Traffic {
                sent: report.inbound,
                received: report.received(),
            });
            report.agree(witness.end(traffic));
        }
        Ok(Some(report))
    }
}
