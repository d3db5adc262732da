//! `longhaul-bench peers`: the gateway beside what a user would pick instead, all with the same load in the same run.
//!
//! - [`args`]: the command line. [`peer`]: which servers there are, what each needs, and how it is started.
//! - [`idle`]: what quiet connections hold. [`report`]: the table.

mod args;
mod idle;
mod peer;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::json;

use crate::INTERRUPTED;
use crate::audience::{Audience, Watch};
use crate::cli::GeneratorArgs;
use crate::crew::CONNECTIONS_PER_PROCESS;
use crate::gateway::Gateway;
use crate::job::Load;
use crate::out;
use crate::report::{Report, write_json};
use crate::run::{Interrupted, Run};
use crate::schedule::Synthetic;
use crate::usage;
use crate::view::Lines;
pub use args::Peers;
use peer::{Peer, Places};
use report::{Measured, Row, Table};

/// For a server to notice that the clients of its warm-up are gone.
const AFTER_WARM_UP: Duration = Duration::from_millis(500);

/// Runs the subcommand.
///
/// # Errors
/// Arguments that do not fit together, or servers that are not installed.
pub fn run(args: &Peers, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    args.check()?;
    let places = Places::new(args);
    let mut rows = Vec::new();
    let mut chosen = Vec::new();
    for peer in args.chosen() {
        match places.missing(peer) {
            None => chosen.push(peer),
            Some(what) => rows.push(Row::missing(peer, what)),
        }
    }
    if !rows.is_empty() && !args.skip_missing {
        let list: Vec<String> = rows.iter().map(Row::to_string).collect();
        bail!(
            "{}\ninstall what is missing, or leave it out with --skip-missing",
            list.join("\n")
        );
    }
    let bench = Bench {
        args,
        places,
        interrupted,
    };
    for peer in chosen {
        match bench.row(peer)? {
            Some(row) => rows.push(row),
            None => return Ok(ExitCode::from(INTERRUPTED)),
        }
    }
    let table = Table::new(args, rows)?;
    out::text(&table.markdown());
    if let Some(path) = &args.markdown {
        std::fs::write(path, table.markdown())?;
    }
    if let Some(path) = &args.json {
        write_json(path, &table)?;
    }
    Ok(if table.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Bench<'a> {
    args: &'a Peers,
    places: Places,
    interrupted: &'a Interrupted,
}

impl Bench<'_> {
    /// All that is measured of one server; what fails is said in its row. `None`: the user gave up.
    fn row(&self, peer: Peer) -> anyhow::Result<Option<Row>> {
        let args = self.args;
        let mut row = Row::new(peer, self.places.version(peer));
        eprintln!("== {}", row.title());
        let loads = [
            (args.dashboards, args.watch),
            (args.all_dashboards, Watch::All),
        ];
        for (at, (dashboards, watch)) in loads.into_iter().enumerate() {
            if dashboards == 0 {
                continue;
            }
            match self.load(peer, dashboards, watch) {
                Ok(None) => return Ok(None),
                Ok(Some((report, others_percent))) => {
                    let measured = Some(Measured::of(&report, others_percent));
                    match at {
                        0 => row.some = measured,
                        _ => row.all = measured,
                    }
                }
                Err(why) => row.failed(&format!("{dashboards} dashboards of {watch}"), &why),
            }
        }
        if args.idle > 0 {
            match idle::measure(self, peer) {
                Ok(idle) => row.idle = Some(idle),
                Err(why) => row.failed("idle connections", &why),
            }
        }
        Ok(Some(row))
    }

    /// One load against a new server, after a warm-up, and how much of the server's core other programs used meanwhile, in
    /// percent. `None`: the user gave up.
    fn load(
        &self,
        peer: Peer,
        dashboards: u32,
        watch: Watch,
    ) -> anyhow::Result<Option<(Report, Option<f64>)>> {
        eprintln!("-- {peer}: {dashboards} dashboards of {watch}");
        let args = self.args;
        let mut server = self.places.start(peer)?;
        if args.warm_up > 0.0 {
            let run = self.run(dashboards, watch, args.warm_up);
            let mut view = Lines::naming("server");
            let warm = run.drive(&mut server, &self.generator(), &mut view, self.interrupted)?;
            if warm.is_none() {
                return Ok(None);
            }
            std::thread::sleep(AFTER_WARM_UP);
        }
        let run = self.run(dashboards, watch, args.seconds);
        let mut view = Lines::naming("server");
        let before = self.core(&server)?;
        let report = run.drive(&mut server, &self.generator(), &mut view, self.interrupted)?;
        let after = self.core(&server)?;
        let others_percent = before
            .zip(after)
            .map(|(before, after)| after.others(&before));
        Ok(report.map(|report| (report, others_percent)))
    }

    /// How busy the server's core has been, if it has one.
    fn core(&self, server: &Gateway) -> anyhow::Result<Option<Core>> {
        let Some(pid) = server.pid.filter(|_| !self.args.generator.no_pin) else {
            return Ok(None);
        };
        Ok(Some(Core {
            at: Instant::now(),
            busy_us: usage::core_busy_us(peer::CORE)?,
            server_us: usage::family_cpu_us(pid)?,
        }))
    }

    fn run(&self, dashboards: u32, watch: Watch, seconds: f64) -> Run {
        let Peers { vehicles, rate, .. } = *self.args;
        Run {
            command: "peers",
            parameters: json!({}),
            load: Load::Fanout {
                vehicles,
                rate,
                seconds,
            },
            audience: Audience::new(vehicles, dashboards, watch, 0, self.args.generator.seed),
        }
    }

    /// Some servers skip a mask of zeros, which no real client sends.
    fn generator(&self) -> GeneratorArgs {
        GeneratorArgs {
            mask: true,
            ..self.args.generator.clone()
        }
    }
}

/// A core and the server on it, at an instant.
struct Core {
    at: Instant,
    busy_us: u64,
    server_us: u64,
}

impl Core {
    /// What others used since `before`, in percent of the core.
    fn others(&self, before: &Self) -> f64 {
        let busy = self.busy_us.saturating_sub(before.busy_us);
        let others = busy.saturating_sub(self.server_us.saturating_sub(before.server_us));
        let elapsed = (self.at - before.at).as_micros().max(1);
        others as f64 * 100.0 / elapsed as f64
    }
}

impl Peers {
    /// # Errors
    /// What cannot be run.
    fn check(&self) -> anyhow::Result<()> {
        Synthetic::new(self.vehicles, self.rate, self.seconds)?;
        let dashboards = self.dashboards.max(self.all_dashboards);
        let most = (self.vehicles + dashboards).max(self.idle) as usize;
        if most > CONNECTIONS_PER_PROCESS {
            bail!(
                "{most} connections are more than the {CONNECTIONS_PER_PROCESS} that servers of one process can hold \
                 everywhere: ask for fewer vehicles, dashboards or idle connections"
            );
        }
        Ok(())
    }
}
