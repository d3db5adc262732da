//! `longhaul-bench attack`: good clients beside attackers that they must not notice.
//!
//! - `attack/kind.rs`: the attacks, their rates, and the counters that they must move
//! - `attack/siege.rs`: a thread that attacks
//! - `attack/report.rs`: what came of it

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::INTERRUPTED;
use crate::audience::Audience;
use crate::checker::phase_percentiles;
use crate::cli::{Attack, duration};
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Load, Order, Share};
use crate::metrics::Metrics;
use crate::report::conclude;
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::usage;
use crate::view::Lines;

mod kind;
mod report;
mod siege;

use kind::Kind;
use report::{Assault, AttackReport, Findings};
use siege::Siege;

/// Between two attacks: what one left behind is not the next one's.
const REST: Duration = Duration::from_secs(2);
/// A gateway whose time-outs are short enough to be seen, and whose penalty box knows this machine's addresses as well.
const CONFIG: &str =
    "[connection]\nhandshake_timeout_ms = 2000\nmessage_timeout_ms = 2000\n[abuse]\nexempt = []\n";
/// Attackers that are connected at one time, at most: for the budget.
const ATTACKERS_MAX: usize = 6_000;
/// Looks at the gateway's memory.
const LOOK: Duration = Duration::from_millis(250);

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Attack, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    let waves = waves(args);
    let phases = args.quiet_seconds + waves.len() as f64 * (args.seconds + REST.as_secs_f64());
    // The load is told to stop when all phases are over; this is only the most that it could take.
    let seconds = phases + 120.0;
    Synthetic::new(args.vehicles, args.rate, seconds)?;
    let seed = args.generator.seed;
    let load = Run {
        command: "attack",
        parameters: json!({
            "vehicles": args.vehicles, "dashboards": args.dashboards, "rate": args.rate,
            "watch": args.watch.to_string(), "quiet_seconds": args.quiet_seconds, "seconds": args.seconds, "seed": seed,
        }),
        load: Load::Fanout {
            vehicles: args.vehicles,
            rate: args.rate,
            seconds,
        },
        audience: Audience::new(args.vehicles, args.dashboards, args.watch, 0, seed),
    };
    let connections = load.connections();
    let mut gateway = run::gateway(&args.gateway, connections, Some(CONFIG.to_owned()))?;
    gateway.control = args.control.or_known(gateway.control);
    let Some(mut findings) = measure(args, &waves, &load, &mut gateway, interrupted)? else {
        return Ok(ExitCode::from(INTERRUPTED));
    };
    findings.budget_bytes = budget(args, connections + ATTACKERS_MAX).ok();
    let report = AttackReport::new(load.parameters.clone(), findings);
    conclude(&report, &args.result)
}

/// One attack after the other, then all at once.
fn waves(args: &Attack) -> Vec<(&'static str, Vec<Kind>)> {
    let named = |kind: &Kind| {
        args.only.is_empty()
            || args
                .only
                .iter()
                .any(|only| kind.name().contains(only.as_str()))
    };
    let kinds: Vec<Kind> = kind::ALL.into_iter().filter(named).collect();
    let mut waves: Vec<_> = kinds
        .iter()
        .map(|kind| (kind.name(), vec![*kind]))
        .collect();
    if kinds.len() > 1 {
        waves.push(("all at once", kinds));
    }
    waves
}

fn measure(
    args: &Attack,
    waves: &[(&'static str, Vec<Kind>)],
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
    desk.start()?;
    // What happens while everybody warms up is nobody's.
    desk.attend(REST)?;
    desk.order(Order::Phase)?;
    eprintln!("good clients alone");
    desk.attend(duration(args.quiet_seconds))?;
    let rss_before = resident(&desk);
    let mut rss_max = rss_before;
    let mut assaults = Vec::new();
    let mut wave_number = 0;
    for (name, kinds) in waves {
        if !desk.is_on() {
            break;
        }
        eprintln!("{name}");
        let before = scrape(&desk)?;
        desk.order(Order::Phase)?;
        let sieges: Vec<Siege> = kinds
            .iter()
            .map(|kind| {
                wave_number += 1;
                Siege::begin(*kind, wave_number, desk.gateway)
            })
            .collect::<anyhow::Result<_>>()?;
        let mut left = duration(args.seconds);
        while !left.is_zero() && desk.is_on() {
            let look = left.min(LOOK);
            desk.attend(look)?;
            left -= look;
            rss_max = rss_max.max(resident(&desk));
        }
        let mut connections = 0;
        for siege in sieges {
            connections += siege.end()?;
        }
        desk.order(Order::Phase)?;
        let gateway_rss_bytes = resident(&desk);
        // What only a time-out ends is counted when it does.
        desk.attend(REST)?;
        let after = scrape(&desk)?;
        let grown = |series: &str| match (&before, &after) {
            (Some(before), Some(after)) => (after.value(series) - before.value(series)) as u64,
            _ => 0,
        };
        let moved = |kind: &Kind| kind.counters().iter().map(|series| grown(series)).sum();
        assaults.push(Assault {
            name,
            connections,
            seconds: args.seconds,
            latency_us: Default::default(),
            counted: after
                .as_ref()
                .map_or_else(Vec::new, |_| kinds.iter().map(moved).collect()),
            penalties: grown("longhaul_penalties_total"),
            kept_out: grown("longhaul_penalty_refused_total"),
            gateway_rss_bytes,
            kinds: kinds.clone(),
        });
    }
    desk.order(Order::Stop)?;
    let (good, done) = desk.finish()?;
    let good_disconnected = done.iter().map(|part| part.disconnected).sum();
    let phases: Vec<_> = done.into_iter().map(|part| part.phases).collect();
    // Phases: warming up, alone, then each attack and the rest behind it.
    for (at, assault) in assaults.iter_mut().enumerate() {
        assault.latency_us = phase_percentiles(&phases, &[2 + 2 * at])?;
    }
    Ok(Some(Findings {
        alone_us: phase_percentiles(&phases, &[1])?,
        assaults,
        rss_before,
        rss_max,
        budget_bytes: None,
        good,
        good_disconnected,
    }))
}

fn resident(desk: &Desk<'_>) -> Option<u64> {
    Some(usage::resident(desk.gateway.pid?).ok()?.total)
}

fn scrape(desk: &Desk<'_>) -> anyhow::Result<Option<Metrics>> {
    desk.gateway.control.map(Metrics::scrape).transpose()
}

/// What the gateway that was started says that it may need at most, in bytes.
fn budget(args: &Attack, connections: usize) -> anyhow::Result<u64> {
    let binary = match &args.gateway.gateway {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("longhaul"),
    };
    let said = Command::new(binary)
        .args(["config", "--budget", &connections.to_string()])
        .output()?;
    at_most(&String::from_utf8(said.stdout)?)
}

/// The line "  the gateway   270.0 MB   9.9 TB": its last figure.
fn at_most(budget: &str) -> anyhow::Result<u64> {
    let line = budget
        .lines()
        .find(|line| line.trim_start().starts_with("the gateway "))
        .context("no line of the gateway's")?;
    let mut words = line.split_whitespace().rev();
    let (unit, figure) = (
        words.next().context("a unit")?,
        words.next().context("a figure")?,
    );
    let factor = match unit {
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => anyhow::bail!("an unknown unit {unit}"),
    };
    Ok((figure.replace(',', "").parse::<f64>()? * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_as_it_is_printed() {
        let text =
            "  the gateway                  270.0 MB     9.9 TB\n  the kernel   4.9 GB  5.0 GB\n";
        assert_eq!(at_most(text).unwrap(), 9_900_000_000_000);
        assert!(at_most("nothing").is_err());
    }
}
