//! `longhaul-bench events`: events that must arrive. How many a second become durable, how long an Ack takes, whether
//! fsync is really called, and what it costs the others when dashboards come back after a night; beside what the disk
//! itself costs.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::INTERRUPTED;
use crate::cli::{Events, duration};
use crate::gateway::Gateway;
use crate::report::conclude;
use crate::run::{self, Interrupted};
use crate::schedule::Synthetic;

pub mod consume;
pub mod course;
mod floor;
mod frame;
pub mod journal;
mod night;
mod outbox;
pub mod publish;
mod report;
mod strace;
mod stretch;

use course::Pace;
use floor::Floor;
use report::{EventsReport, Findings, Floors, Traced};
use strace::Strace;
use stretch::{Company, Stretch};

/// How long publishing goes on before anything is measured: caches fill, and the log's file gets its first size.
const WARM_UP: Duration = Duration::from_secs(2);
/// What the log keeps of an event beside its payload, about: sender, topic, numbers.
const RECORD_BYTES_BESIDE: usize = 32;
/// `f_type` of a file system in memory: statfs(2), TMPFS_MAGIC.
const TMPFS: i64 = 0x0102_1994;

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Events, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    ensure!(
        args.gateway.spawn,
        "`events` starts the gateway itself (--spawn): the event log has to be in the folder that is measured"
    );
    Synthetic::new(args.vehicles, args.rate, args.seconds)?;
    // Outlives the gateway.
    let folder = match &args.directory {
        Some(directory) => TempDir::new_in(directory)
            .with_context(|| format!("making a folder in {}", directory.display()))?,
        None => TempDir::new()?,
    };
    let connections = args.vehicles as usize + args.positions_vehicles as usize + 3;
    let mut gateway = run::gateway(&args.gateway, connections, Some(config(folder.path())))?;
    let parameters = json!({
        "shards": gateway.shards, "vehicles": args.vehicles, "rate": args.rate, "seconds": args.seconds,
        "payload_bytes": args.payload_bytes, "night_events": args.night_events,
        "positions_vehicles": args.positions_vehicles, "positions_rate": args.positions_rate,
        "quiet_seconds": args.quiet_seconds, "directory": &args.directory, "seed": args.generator.seed,
        "pace_us": args.generator.pace_us,
    });
    let found = measure(args, folder.path(), &parameters, &mut gateway, interrupted)?;
    let Some(found) = found else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    drop(gateway);
    conclude(&EventsReport::new(parameters, found), &args.result)
}

/// A gateway with an event log there, and without rates: a vehicle here stands for many.
fn config(folder: &Path) -> String {
    format!(
        "{}messages_per_second_max = 0\nbytes_per_second_max = 0\n[events]\ndirectory = {:?}\nfree_bytes_min = 0\n",
        run::ALL_AT_ONCE,
        folder.join("events")
    )
}

fn measure(
    args: &Events,
    folder: &Path,
    parameters: &serde_json::Value,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Option<Findings>> {
    let stretch = |says: &str, pace, gateway: &mut Gateway| {
        eprintln!("{says}");
        Stretch::run(args, pace, Company::Alone(gateway, interrupted))
    };
    let Some(warm_up) = stretch("warm-up", Pace::Window(WARM_UP), gateway)? else {
        return Ok(None);
    };
    let one = args.payload_bytes + RECORD_BYTES_BESIDE;
    let batch = (one as f64 * warm_up.cost.events_per_commit.max(1.0)) as usize;
    let floors = || -> anyhow::Result<Floors> {
        eprintln!("floor");
        let time = duration(args.floor_seconds);
        Ok(Floors {
            one: Floor::measure(folder, args.payload_bytes, time)?,
            batch: Floor::measure(folder, batch, time)?,
        })
    };
    let floor_before = floors()?;
    let time = duration(args.seconds);
    let Some(throughput) = stretch("throughput", Pace::Window(time), gateway)? else {
        return Ok(None);
    };
    let pace = Pace::Rate(args.rate, args.seconds);
    let Some(latency) = stretch("latency", pace, gateway)? else {
        return Ok(None);
    };
    let mut traced = None;
    if args.strace {
        let pid = gateway.pid.context("the gateway's process is not known")?;
        let strace = Strace::attach(pid)?;
        let pace = Pace::Rate(args.rate, args.strace_seconds);
        let Some(under) = stretch("strace", pace, gateway)? else {
            return Ok(None);
        };
        let calls = strace.detach()?;
        let commits = under.cost.commits;
        traced = Some(Traced {
            calls,
            commits,
            syncs_per_commit: calls.syncs as f64 / commits.max(1) as f64,
            events: under.cost.logged,
        });
    }
    let Some(night) = night::run(args, parameters, gateway, interrupted)? else {
        return Ok(None);
    };
    Ok(Some(Findings {
        in_memory: rustix::fs::statfs(folder)?.f_type as i64 == TMPFS,
        floor_before,
        floor_after: floors()?,
        throughput,
        latency,
        traced,
        night,
    }))
}
