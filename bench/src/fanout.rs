//! `longhaul-bench fanout`.

use serde_json::json;

use crate::audience::Audience;
use crate::cli::Fanout;
use crate::job::Load;
use crate::outside::syscalls::SystemCalls;
use crate::report::{self, Report};
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::view::Lines;

/// Runs the subcommand. `None`: the user gave up while connections were made.
///
/// # Errors
/// Arguments that do not fit together, a gateway or a generator that fails.
pub fn run(args: &Fanout, interrupted: &Interrupted) -> anyhow::Result<Option<Report>> {
    let Fanout {
        vehicles,
        rate,
        dashboards,
        watch,
        seconds,
        ..
    } = *args;
    // Checked here, before anything is started.
    Synthetic::new(vehicles, rate, seconds)?;
    let run = Run {
        command: "fanout",
        parameters: json!({
            "vehicles": vehicles, "rate": rate, "dashboards": dashboards,
            "watch": watch.to_string(), "seconds": seconds,
            "seed": args.generator.seed, "pace_us": args.generator.pace_us,
        }),
        load: Load::Fanout {
            vehicles,
            rate,
            seconds,
        },
        audience: Audience::new(vehicles, dashboards, watch, 0, args.generator.seed),
    };
    let mut gateway = run::gateway(
        &args.gateway,
        run.connections(),
        Some(run::ALL_AT_ONCE.to_owned()),
    )?;
    gateway.control = args.outside.control.or_known(gateway.control);
    let mut report = run.drive(
        &mut gateway,
        &args.generator,
        &mut Lines::new(),
        interrupted,
    )?;
    if let Some(report) = report.as_mut().filter(|_| args.outside.syscalls) {
        let calls = SystemCalls::under(&run, &mut gateway, &args.generator, interrupted);
        report.count(calls);
    }
    if let (Some(report), Some(path)) = (&report, &args.result.json) {
        report::write_json(path, report)?;
    }
    Ok(report)
}
