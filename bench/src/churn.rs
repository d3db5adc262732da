//! `longhaul-bench churn`: an hour of a fleet's life in a minute, and whether the gateway has forgotten it afterwards.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use crate::cli::{Churn, duration};
use crate::crew::{CONNECTIONS_PER_PROCESS, Crew};
use crate::gateway::Gateway;
use crate::job::{Job, Notice, Task};
use crate::metrics::Metrics;
use crate::report::conclude;
use crate::run::{self, Interrupted};
use crate::usage;

pub mod crowd;
mod hearing;
mod life;
mod report;
pub mod tally;

use crowd::ChurnTask;
use report::{ChurnReport, Findings};
use tally::Tally;

const LOOK: Duration = Duration::from_millis(100);
const DESCRIPTORS: &str = "process_open_fds";
/// How long the gateway may take to end what nobody holds any more: its close handshakes have a limit of their own.
const FORGET_MAX: Duration = Duration::from_secs(30);
/// One vehicle and one dashboard, so that what the gateway sets up once is not counted as the fleet's.
const WARM_UP: Duration = Duration::from_secs(2);

pub(crate) const ACCEPTED: &str = "longhaul_connections_accepted_total";
pub(crate) const CLOSED: &str = "longhaul_connections_closed_total";
pub(crate) const OPEN: &str = "longhaul_connections_open";

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Churn, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    let task = ChurnTask {
        vehicles: args.vehicles,
        dashboards: args.dashboards,
        time: duration(args.seconds),
        seed: args.seed,
    };
    ensure!(
        task.connections() <= CONNECTIONS_PER_PROCESS,
        "{} connections (each vehicle may have two) are more than one process holds, {CONNECTIONS_PER_PROCESS}",
        task.connections()
    );
    let mut gateway = run::gateway(
        &args.gateway,
        task.connections(),
        Some(run::ALL_AT_ONCE.to_owned()),
    )?;
    gateway.control = args.control.or_known(gateway.control);
    let findings = measure(&task, &mut gateway, interrupted)?;
    let parameters = json!({
        "seconds": args.seconds, "vehicles": args.vehicles, "dashboards": args.dashboards,
        "seed": args.seed, "shards": gateway.shards,
    });
    let report = ChurnReport::new(parameters, findings);
    conclude(&report, &args.result)
}

fn measure(
    task: &ChurnTask,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Findings> {
    let control = gateway
        .control
        .context("the gateway's metrics are needed: name its control listener with --control")?;
    let warm_up = ChurnTask {
        vehicles: 1,
        dashboards: 1,
        time: WARM_UP,
        ..*task
    };
    live(&warm_up, gateway, interrupted)?;
    let before = await_empty(control, f64::INFINITY)?;
    let rss_before = resident(gateway);
    eprintln!(
        "{} vehicles and {} dashboards come and go for {} s",
        task.vehicles,
        task.dashboards,
        task.time.as_secs_f64()
    );
    let tally = live(task, gateway, interrupted)?;
    let after = await_empty(control, before.value(DESCRIPTORS))?;
    Ok(Findings {
        tally,
        ids: task.ids(),
        before,
        after,
        rss_before,
        rss_after: resident(gateway),
    })
}

/// Lets a crowd live its time.
fn live(
    task: &ChurnTask,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Tally> {
    let core = run::cores(1, gateway.shards, true).first().copied();
    let mut crew = Crew::start(&[Job::at(
        gateway,
        (0, 1),
        core.flatten(),
        Task::Churn(task.clone()),
    )])?;
    let mut told = false;
    loop {
        match crew.notice(LOOK)? {
            Some((_, Notice::Churned(tally))) => return Ok(*tally),
            _ if gateway.has_ended() => bail!("the gateway ended:\n{}", gateway.log_tail()),
            _ => {}
        }
        if interrupted.load(Ordering::Relaxed) && !told {
            told = true;
            crew.dismiss();
        }
    }
}

/// The gateway's metrics once it has no connection left and no more than so many descriptors, or after [`FORGET_MAX`]. A
/// connection that has ended keeps its descriptor until the peer has ended its half, for two seconds at most.
pub(crate) fn await_empty(control: SocketAddr, descriptors: f64) -> anyhow::Result<Metrics> {
    let began = Instant::now();
    loop {
        let metrics = Metrics::scrape(control)?;
        let is_forgotten = is_empty(&metrics) && metrics.value(DESCRIPTORS) <= descriptors;
        if is_forgotten || began.elapsed() > FORGET_MAX {
            return Ok(metrics);
        }
        std::thread::sleep(LOOK);
    }
}

/// Nothing is open, and all that was accepted is accounted for.
pub(crate) fn is_empty(metrics: &Metrics) -> bool {
    metrics.sum(OPEN) == 0.0 && metrics.value(ACCEPTED) == metrics.sum(CLOSED)
}

/// Heap and stacks of the gateway, if its process is known.
fn resident(gateway: &Gateway) -> Option<u64> {
    Some(usage::resident(gateway.pid?).ok()?.anonymous)
}
