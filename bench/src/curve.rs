//! `longhaul-bench curve`: whether a connection and a message cost the same beside a thousand others and beside a hundred
//! thousand. Each number of connections is a run of [`idle`] with a gateway of its own; [`report`] is the table.

mod report;

use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::checks;
use crate::cli::{Curve, IdleRole};
use crate::idle;
use crate::report::{grouped, write_json};
use crate::run::{self, Interrupted};
use crate::schedule::Synthetic;
use report::CurveReport;

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails at the first number already, or the user gave
/// up before there was anything to show.
pub fn run(args: &Curve, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    ensure!(
        args.gateway.spawn,
        "`curve` starts the gateway itself (--spawn): each number of connections has one of its own"
    );
    if args.rate > 0 {
        Synthetic::new(args.vehicles, args.rate, args.load_seconds)?;
    }
    let report = measure(&with_shards(args)?, interrupted)?;
    report.print();
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(checks::exit_code(&report.failures, false))
}

/// All gateways have as many shards as the greatest number of connections takes: each shard has a tick of its own, so more of
/// them cost more for the same load.
fn with_shards(args: &Curve) -> anyhow::Result<Curve> {
    let mut args = args.clone();
    if args.gateway.shards.is_none() {
        let held = args.connections.iter().copied().max().unwrap_or(0);
        let beside = match args.rate {
            0 => 0,
            _ => args.vehicles as usize + args.dashboards as usize,
        };
        let shards = run::shards(held as usize + beside);
        args.gateway.shards =
            Some(u16::try_from(shards).context("more shards than a gateway can have")?);
    }
    Ok(args)
}

/// All runs in turn, the smallest first. One that fails ends them, and what was measured before is kept.
fn measure(args: &Curve, interrupted: &Interrupted) -> anyhow::Result<CurveReport> {
    let mut sizes = args.connections.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let (mut runs, mut failures) = (Vec::new(), Vec::new());
    for &connections in &sizes {
        eprintln!("\n{} connections", grouped(u64::from(connections)));
        match idle::measure(&args.idle(connections), interrupted) {
            Ok(report) => runs.push(report),
            Err(error) if runs.is_empty() => return Err(error),
            Err(error) => {
                let connections = grouped(u64::from(connections));
                failures.push(format!("{connections} connections: {error:#}"));
                break;
            }
        }
    }
    let is_dashboard = args.role == IdleRole::Dashboard;
    let watched = is_dashboard || args.rate > 0;
    let parameters = json!({
        "connections": sizes, "shards": args.gateway.shards, "role": format!("{:?}", args.role).to_lowercase(),
        "watch": watched.then(|| args.watch.to_string()), "universe": is_dashboard.then_some(args.universe),
        "rate": args.rate, "vehicles": args.vehicles, "dashboards": args.dashboards,
        "load_seconds": args.load_seconds, "settle": args.settle, "seconds": args.seconds,
        "quiet_after_ms": args.quiet_after_ms, "heartbeat_ms": args.heartbeat_ms, "seed": args.seed,
    });
    Ok(CurveReport::new(parameters, runs, failures))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn gateways_of_a_curve_are_alike() {
        let shards = |arguments: &str| {
            let line = format!("longhaul-bench curve --spawn {arguments}");
            let Command::Curve(args) = Cli::parse_from(line.split_whitespace()).command else {
                panic!("it is another subcommand");
            };
            with_shards(&args).unwrap().gateway.shards
        };
        // 16,000 connections a shard, and 10,200 of the load.
        for (arguments, expected) in [
            ("", 7),
            ("--connections 100,1000", 1),
            ("--connections 6000", 2),
            ("--connections 6000 --rate 0", 1),
            ("--connections 100 --shards 3", 3),
        ] {
            assert_eq!(shards(arguments), Some(expected), "{arguments}");
        }
    }
}
