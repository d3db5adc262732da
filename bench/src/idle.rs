//! `longhaul-bench idle`: what a quiet connection costs, in the gateway and in the kernel.
//!
//! The course of it is here. [`crews`] are the processes that hold the connections, [`kernel`] what the kernel holds for
//! them, [`report`] what came of it.

mod crews;
mod kernel;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use crate::audience::Audience;
use crate::checks;
use crate::cli::{GeneratorArgs, Idle, IdleRole, duration};
use crate::crew::Crew;
use crate::gateway::Gateway;
use crate::job::{Load, Order};
use crate::metrics::Metrics;
use crate::outside::agreement::Witness;
use crate::outside::syscalls::SystemCalls;
use crate::outside::{Look, Outside};
use crate::report::write_json;
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::token::Role;
use crate::usage::{self, Resident};
use crate::view::Lines;
use crews::Target;
use kernel::{Kernel, RELEASE_MAX, SETTLE_MAX};
use report::RampSecond;

pub use crews::await_held;
pub use report::IdleReport;

const LOOK: Duration = Duration::from_secs(1);
const PINGS: &str = "longhaul_pings_out_total";

/// Runs the subcommand.
///
/// # Errors
/// A gateway or a generator that fails, or the user gave up.
pub fn run(args: &Idle, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    let report = measure(args, interrupted)?;
    report.print();
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(checks::exit_code(&report.failures, false))
}

/// Holds the connections, and measures.
///
/// # Errors
/// As [`run`].
pub fn measure(args: &Idle, interrupted: &Interrupted) -> anyhow::Result<IdleReport> {
    let bench = Bench { args, interrupted };
    let bare = if args.bare { Some(bench.bare()?) } else { None };
    bench.gateway(bare)
}

struct Bench<'a> {
    args: &'a Idle,
    interrupted: &'a Interrupted,
}

impl Bench<'_> {
    fn gateway(&self, bare: Option<Kernel>) -> anyhow::Result<IdleReport> {
        let args = self.args;
        let load = self.load()?;
        let mut gateway = self.start(&load)?;
        let cold = self.resident(&gateway)?;
        self.warm_up(&gateway)?;
        let slab_before = self.steady_slab(RELEASE_MAX)?;
        let warm = self.resident(&gateway)?;
        let mut witness = Witness::before(&gateway)?;
        let role = Role::from(args.role);
        let (began, cpu_before) = (Instant::now(), cpu_us(&gateway)?);
        let mut ramp = Vec::new();
        let mut crew = Crew::start(&self.jobs(Some(role), |_| Target::Gateway(&gateway)))?;
        let ready = self.await_ready(&mut crew, "connections", |connections| {
            ramp.push(RampSecond {
                seconds: began.elapsed().as_secs_f64(),
                connections,
                gateway_rss_bytes: self.resident(&gateway).ok().flatten().map(|rss| rss.total),
            });
        })?;
        let cpu_connecting = cpu_us(&gateway)?
            .zip(cpu_before)
            .map(|(now, then)| now - then);
        let settling = Instant::now();
        let slab_after = match args.settle {
            Some(seconds) => {
                self.sleep(duration(seconds))?;
                usage::slab()?
            }
            None => {
                self.sleep(Duration::from_millis(args.quiet_after_ms) + Duration::from_secs(3))?;
                self.steady_slab(SETTLE_MAX)?
            }
        };
        let settle_seconds = settling.elapsed().as_secs_f64();
        let held = self.resident(&gateway)?;
        if let Some(witness) = &mut witness {
            witness.connected(ready.connected)?;
        }
        let rest = self.rest(&gateway)?;
        let agreement = witness.map_or(Ok(Vec::new()), |witness| witness.end(None))?;
        let syscalls = args.outside.syscalls;
        let system_calls = syscalls.then(|| SystemCalls::at_rest(gateway.pid));
        let beside = match &load {
            None => None,
            Some(load) => load.drive(
                &mut gateway,
                &GeneratorArgs::default(),
                &mut Lines::new(),
                self.interrupted,
            )?,
        };
        // A load that was cut short is not the one that was asked for.
        self.check()?;
        crew.order(Order::Stop)?;
        let (dropped, mut reasons) = await_held(&mut crew)?;
        reasons.extend(ready.reasons);
        let count = ready.connected.max(1) as f64;
        let each = |now: Option<Resident>, then: Option<Resident>, of: fn(Resident) -> u64| {
            Some((of(now?) as f64 - of(then?) as f64) / count)
        };
        let kernel = Kernel::each(slab_before, slab_after, ready.connected);
        let is_dashboard = args.role == IdleRole::Dashboard;
        let report = IdleReport {
            command: "idle",
            parameters: json!({
                "connections": args.connections, "role": format!("{role:?}").to_lowercase(),
                "watch": is_dashboard.then(|| args.watch.to_string()),
                "universe": is_dashboard.then_some(args.universe),
                "quiet_after_ms": args.quiet_after_ms, "heartbeat_ms": args.heartbeat_ms,
                "seed": args.seed, "beside": load.as_ref().map(|load| &load.parameters),
            }),
            role: format!("{role:?}").to_lowercase(),
            watch: is_dashboard.then(|| args.watch.to_string()),
            universe: is_dashboard.then_some(args.universe),
            connections: ready.connected,
            failed: ready.failed,
            dropped,
            reasons,
            seconds_to_connect: ready.seconds,
            gateway_cpu_us_per_connect: cpu_connecting.map(|us| us as f64 / count),
            ramp,
            gateway_rss_bytes: held.map(|memory| memory.total),
            gateway_rss_bytes_before: warm.map(|memory| memory.total),
            gateway_rss_bytes_per_connection: each(held, warm, |memory| memory.total),
            gateway_rss_anon_bytes_per_connection: each(held, warm, |memory| memory.anonymous),
            gateway_rss_bytes_per_connection_cold: each(held, cold, |memory| memory.total),
            kernel_bytes_per_connection: kernel.total,
            kernel_bytes_per_connection_bare: bare.map(|bare| bare.total),
            kernel_bytes_over_bare: bare.map(|bare| kernel.total - bare.total),
            kernel_unreclaimable_bytes_over_bare: bare
                .map(|bare| kernel.unreclaimable - bare.unreclaimable),
            gateway_cpu_percent: rest.cpu_percent,
            heartbeats_per_second: rest.heartbeats_per_second,
            gateway_outside: rest.outside,
            system_calls,
            agreement,
            shards: gateway.shards,
            settle_seconds,
            beside,
            failures: Vec::new(),
        };
        Ok(report.checked())
    }

    /// The gateway that the arguments name, with room for those that are held and for the `load` beside them.
    fn start(&self, load: &Option<Run>) -> anyhow::Result<Gateway> {
        let args = self.args;
        let mut config = format!(
            "{}[connection]\nquiet_after_ms = {}\n",
            run::ALL_AT_ONCE,
            args.quiet_after_ms
        );
        if let Some(ms) = args.heartbeat_ms {
            config.push_str(&format!("heartbeat_ms = {ms}\n"));
        }
        let connections = args.connections as usize + load.as_ref().map_or(0, Run::connections);
        let mut gateway = run::gateway(&args.gateway, connections, Some(config))?;
        gateway.control = args.outside.control.or_known(gateway.control);
        Ok(gateway)
    }

    /// What is sent and watched beside those that are held.
    fn load(&self) -> anyhow::Result<Option<Run>> {
        let Idle {
            rate,
            vehicles,
            dashboards,
            load_seconds: seconds,
            watch,
            seed,
            ..
        } = *self.args;
        if rate == 0 {
            return Ok(None);
        }
        Synthetic::new(vehicles, rate, seconds)?;
        Ok(Some(Run {
            command: "beside idle",
            parameters: json!({
                "vehicles": vehicles, "rate": rate, "dashboards": dashboards, "watch": watch.to_string(),
                "seconds": seconds, "held": self.args.connections, "seed": seed,
            }),
            load: Load::Fanout {
                vehicles,
                rate,
                seconds,
            },
            audience: Audience::new(vehicles, dashboards, watch, 0, seed),
        }))
    }

    fn resident(&self, gateway: &Gateway) -> anyhow::Result<Option<Resident>> {
        gateway.pid.map(usage::resident).transpose()
    }

    /// The gateway while nothing happens.
    fn rest(&self, gateway: &Gateway) -> anyhow::Result<Rest> {
        let pings = || -> anyhow::Result<Option<f64>> {
            let metrics = gateway.control.map(Metrics::scrape).transpose()?;
            Ok(metrics.map(|metrics| metrics.value(PINGS)))
        };
        let pings_before = pings()?;
        let look = gateway.pid.map(Look::at).transpose()?;
        let (began, before) = (Instant::now(), cpu_us(gateway)?);
        self.sleep(duration(self.args.seconds))?;
        let after = cpu_us(gateway).context("the gateway ended while it was idle")?;
        let seconds = began.elapsed().as_secs_f64().max(1e-6);
        let outside = look.map(|look| look.until_now()).transpose()?;
        let used = after.zip(before).map(|(after, before)| after - before);
        let sent = pings()?.zip(pings_before).map(|(now, then)| now - then);
        Ok(Rest {
            cpu_percent: used.map(|us| us as f64 / seconds / 1e4),
            heartbeats_per_second: sent.map(|pings| pings / seconds),
            outside,
        })
    }

    fn sleep(&self, time: Duration) -> anyhow::Result<()> {
        run::sleep(time, self.interrupted)
    }

    fn check(&self) -> anyhow::Result<()> {
        run::check(self.interrupted)
    }
}

/// A gateway while nothing happens.
struct Rest {
    /// Of a core.
    cpu_percent: Option<f64>,
    /// Pings that it sent.
    heartbeats_per_second: Option<f64>,
    outside: Option<Outside>,
}

/// The gateway's CPU time so far, if its process is known.
fn cpu_us(gateway: &Gateway) -> anyhow::Result<Option<u64>> {
    gateway.pid.map(usage::cpu_us).transpose()
}
