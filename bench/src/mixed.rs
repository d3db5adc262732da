//! `longhaul-bench mixed`: a day of a fleet in a minute. Vehicles drive and park by the hour, lose their connections in
//! tunnels and in an outage of the network, dashboards come for their shifts, events must arrive; and every delivery is
//! checked.
//!
//! [`curve`] and [`day`] say who comes and goes when, [`fleet`] lives it on [`traffic`], [`presence`] and [`ledger`], [`company`] has the
//! events, [`hours`] and [`report`] are what became of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::INTERRUPTED;
use crate::audience::Audience;
use crate::churn;
use crate::cli::Mixed;
use crate::clock::now_ns;
use crate::crew::CONNECTIONS_PER_PROCESS;
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Load, Share};
use crate::metrics::Metrics;
use crate::report::conclude;
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::view::Lines;

mod company;
mod curve;
pub mod day;
pub mod fleet;
pub mod hours;
mod ledger;
mod presence;
mod report;
mod traffic;

use company::Company;
use curve::HOURS;
use day::Day;
use report::{Findings, Look, MixedReport};

const LOOK: Duration = Duration::from_millis(50);
/// So that the samples of CPU time reach beyond the last hour.
const AFTERWARDS: Duration = Duration::from_millis(50);

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Mixed, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    ensure!(
        args.gateway.spawn,
        "`mixed` starts the gateway itself (--spawn): it needs an event log of its own"
    );
    let connections = args.vehicles as usize + args.dashboards as usize;
    ensure!(
        connections <= CONNECTIONS_PER_PROCESS && args.generator.processes.is_none_or(|n| n == 1),
        "{connections} vehicles and dashboards in {} process(es): the fleet is one process, which holds \
         {CONNECTIONS_PER_PROCESS}; use fewer of them, or no --processes",
        args.generator.processes.unwrap_or(1)
    );
    let day = Day {
        vehicles: args.vehicles,
        dashboards: args.dashboards,
        rate: args.rate,
        warm_up: args.warm_up,
        seconds: args.seconds,
        seed: args.generator.seed,
    };
    Synthetic::new(args.vehicles, args.rate, day.total_seconds())?;
    Synthetic::new(args.events_vehicles, args.events_rate, day.total_seconds())
        .context("of the events")?;
    let load = Run {
        command: "the fleet",
        parameters: json!({
            "vehicles": args.vehicles, "rate": args.rate, "dashboards": args.dashboards,
            "seconds": args.seconds, "warm_up": args.warm_up, "events_vehicles": args.events_vehicles,
            "events_rate": args.events_rate, "payload_bytes": args.payload_bytes,
            "seed": args.generator.seed, "pace_us": args.generator.pace_us,
        }),
        audience: Audience {
            vehicles: args.vehicles,
            watches: Day::watches(args.dashboards),
            seed: args.generator.seed,
        },
        load: Load::Day(day.clone()),
    };
    // Outlives the gateway.
    let folder = match &args.directory {
        Some(directory) => TempDir::new_in(directory)
            .with_context(|| format!("making a folder in {}", directory.display()))?,
        None => TempDir::new()?,
    };
    let all = connections + args.events_vehicles as usize + 2;
    let mut gateway = run::gateway(&args.gateway, all, Some(config(folder.path())))?;
    let Some(mut findings) = measure(args, &day, &load, &mut gateway, interrupted)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if let Some(control) = gateway.control {
        eprintln!("everybody is gone");
        findings.after = Some(churn::await_empty(control, f64::INFINITY)?);
    }
    let report = MixedReport::new(&load.parameters, &day, findings)?;
    conclude(&report, &args.result)
}

/// A gateway as it is by default, with an event log there.
fn config(folder: &Path) -> String {
    format!(
        "[events]\ndirectory = {:?}\nfree_bytes_min = 0\n",
        folder.join("events")
    )
}

fn measure(
    args: &Mixed,
    day: &Day,
    load: &Run,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Option<Findings>> {
    let mut view = Lines::new();
    let share = Share::vehicles_and(0..load.audience.dashboards());
    let control = gateway.control;
    let opened = Desk::open(
        load,
        share,
        gateway,
        &args.generator,
        &mut view,
        interrupted,
    )?;
    let Some(mut desk) = opened else {
        return Ok(None);
    };
    let mut company = Company::start(args, desk.gateway, load.connections())?;
    while !company.is_ready() {
        desk.attend(LOOK)?;
        if !desk.is_on() {
            return Ok(None);
        }
        company.hear(Duration::ZERO)?;
    }
    let epoch = desk.start()?;
    company.begin(epoch)?;
    eprintln!("midnight");
    let mut looks = Vec::new();
    for hour in 0..=HOURS {
        let until_ns = epoch.start_ns + day.at_ns(hour as f64);
        while now_ns() < until_ns {
            let left = Duration::from_nanos(until_ns.saturating_sub(now_ns()));
            desk.attend(left.min(LOOK))?;
            company.hear(Duration::ZERO)?;
            if desk.has_quit() {
                return Ok(None);
            }
            ensure!(
                desk.is_on() || now_ns() >= until_ns,
                "the fleet's process ended its day before {hour}:00"
            );
        }
        looks.push(Look {
            at_ns: until_ns,
            rss_bytes: desk.resident(),
            connections: control.and_then(open),
        });
        if hour == company::RETURN_HOUR {
            company.come_back(epoch)?;
        }
    }
    let started = std::time::Instant::now();
    while started.elapsed() < AFTERWARDS && desk.is_on() {
        desk.attend(LOOK)?;
    }
    let cores = looks
        .windows(2)
        .map(|pair| {
            let span_ns = pair[1].at_ns - pair[0].at_ns;
            let us = desk.cpu_between(pair[0].at_ns, pair[1].at_ns)?;
            Some(us as f64 * 1e3 / span_ns.max(1) as f64)
        })
        .collect();
    let (fleet, done) = desk.finish()?;
    let events = company.finish()?;
    let Some(lived) = done.into_iter().find_map(|part| part.lived) else {
        bail!("the fleet's process does not say how its day was");
    };
    Ok(Some(Findings {
        fleet,
        lived: *lived,
        looks,
        cores,
        events,
        after: None,
    }))
}

/// Connections that the gateway says are open.
fn open(control: SocketAddr) -> Option<u64> {
    let metrics = Metrics::scrape(control).ok()?;
    Some(metrics.sum(churn::OPEN) as u64)
}
