//! `longhaul-bench storm`: a fleet that comes back all at once, beside connections that must not notice.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;

use crate::INTERRUPTED;
use crate::audience::Audience;
use crate::cli::{Storm, duration};
use crate::crew::{CONNECTIONS_PER_PROCESS, Crew};
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Job, Load, Notice, Order, Share, Task};
use crate::report::conclude;
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::view::Lines;

pub mod backoff;
pub mod herd;
pub mod report;

use herd::{Round, StormTask};
use report::{Findings, StormReport};

/// How often it is looked whether a round is over.
const LOOK: Duration = Duration::from_millis(20);
/// From the end of a round to the next, so that the gateway's CPU time can be told apart.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Storm, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    // The load is told to stop after the last round; this is only the most that it could take.
    let seconds = args.quiet_seconds + f64::from(args.rounds) * (args.round_seconds + 1.0) + 60.0;
    Synthetic::new(args.vehicles, args.rate, seconds)?;
    let load = Run {
        command: "storm",
        parameters: json!({
            "connections": args.connections, "rounds": args.rounds, "vehicles": args.vehicles,
            "rate": args.rate, "dashboards": args.dashboards, "watch": args.watch.to_string(),
            "quiet_seconds": args.quiet_seconds, "seed": args.generator.seed,
        }),
        load: Load::Fanout {
            vehicles: args.vehicles,
            rate: args.rate,
            seconds,
        },
        audience: Audience::new(
            args.vehicles,
            args.dashboards,
            args.watch,
            0,
            args.generator.seed,
        ),
    };
    let connections = load.connections() + args.connections as usize;
    let mut gateway = run::gateway(&args.gateway, connections, None)?;
    let Some(findings) = measure(args, &load, &mut gateway, interrupted)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let report = StormReport::new(load.parameters.clone(), args.connections, findings)?;
    conclude(&report, &args.result)
}

fn measure(
    args: &Storm,
    load: &Run,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Option<Findings>> {
    let mut view = Lines::new();
    let share = Share::vehicles_and(0..load.audience.dashboards());
    let Some(mut desk) = Desk::open(
        load,
        share,
        gateway,
        &args.generator,
        &mut view,
        interrupted,
    )?
    else {
        return Ok(None);
    };
    let mut herds = Crew::start(&jobs(args, load, desk.gateway))?;
    let mut waiting = herds.len();
    while waiting > 0 {
        waiting -= usize::from(matches!(herds.notice(LOOK)?, Some((_, Notice::Ready(_)))));
    }
    let epoch = desk.start()?;
    eprintln!("quiet");
    desk.attend(duration(args.quiet_seconds))?;
    desk.order(Order::Phase)?;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        if !desk.is_on() {
            break;
        }
        eprintln!("round {number}: {} connections at once", args.connections);
        herds.order(Order::Start(epoch))?;
        let parts = await_round(args, &mut desk, &mut herds)?;
        // The samples of CPU time must reach beyond the round's end.
        desk.attend(PAUSE)?;
        let began_ns = parts.iter().map(|part| part.began_ns).min();
        let ended_ns = parts.iter().map(|part| part.ended_ns).max();
        let cpu_us = began_ns
            .zip(ended_ns)
            .and_then(|(began, ended)| desk.cpu_between(began, ended));
        rounds.push((parts, cpu_us));
    }
    desk.order(Order::Stop)?;
    let (existing, done) = desk.finish()?;
    Ok(Some(Findings {
        existing,
        phases: done.into_iter().map(|part| part.phases).collect(),
        rounds,
    }))
}

/// What each process says of the round that it is in.
fn await_round(args: &Storm, desk: &mut Desk<'_>, herds: &mut Crew) -> anyhow::Result<Vec<Round>> {
    let began = Instant::now();
    let longest = duration(args.round_seconds) + Duration::from_secs(10);
    let mut parts = Vec::new();
    while parts.len() < herds.len() {
        desk.attend(LOOK)?;
        while let Some((_, notice)) = herds.notice(Duration::ZERO)? {
            if let Notice::Round(round) = notice {
                parts.push(*round);
            }
        }
        if !desk.is_on() {
            bail!("the load ended during a storm");
        }
        if began.elapsed() > longest {
            bail!("a generator process does not end its round");
        }
    }
    Ok(parts)
}

fn jobs(args: &Storm, load: &Run, gateway: &Gateway) -> Vec<Job> {
    let processes = (args.connections as usize)
        .div_ceil(CONNECTIONS_PER_PROCESS)
        .max(1);
    let share = |upto: usize| (args.connections as usize * upto / processes) as u32;
    run::cores(processes, gateway.shards, !args.generator.no_pin)
        .into_iter()
        .enumerate()
        .map(|(process, core)| {
            let task = Task::Storm(StormTask {
                first: share(process),
                connections: share(process + 1) - share(process),
                offset: load.connections() + share(process) as usize,
                round: duration(args.round_seconds),
                seed: args.generator.seed,
            });
            Job::at(gateway, (process, processes), core, task)
        })
        .collect()
}
