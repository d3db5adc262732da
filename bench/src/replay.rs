//! `longhaul-bench replay`.

use std::io::IsTerminal;

use anyhow::{Context, ensure};
use serde_json::json;

use crate::audience::{Audience, Watch};
use crate::cli::{Replay, duration};
use crate::job::Load;
use crate::live::Live;
use crate::outside::syscalls::SystemCalls;
use crate::report::{self, Report};
use crate::run::{self, Interrupted, Run};
use crate::trace;
use crate::view::{Lines, View};

/// Runs the subcommand. `None`: the user gave up while connections were made.
///
/// # Errors
/// A trace that is none, a gateway or a generator that fails.
pub fn run(args: &Replay, interrupted: &Interrupted) -> anyhow::Result<Option<Report>> {
    let trace = trace::load(&args.trace)
        .with_context(|| format!("reading the trace {}", args.trace.display()))?;
    let end_ms = trace.rows.last().map_or(0, |row| row.t_ms);
    let from = duration(args.from);
    ensure!(
        from.as_millis() as u64 <= end_ms,
        "--from {} is behind the trace's end, {} s",
        args.from,
        end_ms / 1_000
    );
    let audience = audience(args, trace.ids.len() as u32);
    drop(trace);
    let run = Run {
        command: "replay",
        parameters: json!({
            "trace": args.trace.file_name().map(|name| name.to_string_lossy()),
            "speed": args.speed, "from": args.from, "vehicles": audience.vehicles,
            "watches": summary(&audience), "seed": args.generator.seed,
            "pace_us": args.generator.pace_us,
        }),
        load: Load::Replay {
            trace: args.trace.clone(),
            speed: args.speed,
            from,
            length: args.seconds.map(duration),
        },
        audience,
    };
    let mut gateway = run::gateway(
        &args.gateway,
        run.connections(),
        Some(run::ALL_AT_ONCE.to_owned()),
    )?;
    gateway.control = args.outside.control.or_known(gateway.control);
    let mut view: Box<dyn View> = if args.live && std::io::stdout().is_terminal() {
        Box::new(Live::new()?)
    } else {
        Box::new(Lines::new())
    };
    let result = run.drive(&mut gateway, &args.generator, view.as_mut(), interrupted);
    // Restores the terminal before anything is printed.
    drop(view);
    let mut report = result?;
    if let Some(report) = report.as_mut().filter(|_| args.outside.syscalls) {
        let calls = SystemCalls::under(&run, &mut gateway, &args.generator, interrupted);
        report.count(calls);
    }
    if let (Some(report), Some(path)) = (&report, &args.result.json) {
        report::write_json(path, report)?;
    }
    Ok(report)
}

fn audience(args: &Replay, vehicles: u32) -> Audience {
    let (dashboards, watch_all) = if args.live || !args.mix.is_empty() {
        (0, 0)
    } else {
        (200, 1)
    };
    let mut audience = Audience::new(
        vehicles,
        args.dashboards.unwrap_or(dashboards),
        args.watch,
        args.watch_all.unwrap_or(watch_all),
        args.generator.seed,
    );
    audience.watches.extend(&args.mix);
    if args.live && audience.watches.is_empty() {
        audience.watches = vec![Watch::Count(50), Watch::Count(200), Watch::All];
    }
    audience
}

/// "200 × 50, 1 × all"
fn summary(audience: &Audience) -> String {
    let parts = audience.watches.chunk_by(|a, b| a == b);
    parts
        .map(|same| format!("{} × {}", same.len(), same[0]))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn dashboards_follow_the_arguments() {
        let cases = [
            ("", "200 × 50, 1 × all"),
            (" --live", "1 × 50, 1 × 200, 1 × all"),
            (" --dashboards 3 --watch 7 --watch-all 0", "3 × 7"),
            (" --mix 5,all,all", "1 × 5, 2 × all"),
            (" --live --dashboards 2", "2 × 50"),
        ];
        for (arguments, expected) in cases {
            let line = format!("longhaul-bench replay --spawn --trace t{arguments}");
            let Command::Replay(args) = Cli::parse_from(line.split(' ')).command else {
                panic!()
            };
            assert_eq!(summary(&audience(&args, 1_000)), expected, "{arguments}");
        }
    }
}
