//! `longhaul-bench idle`: what a quiet connection costs, in the gateway and in the kernel.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::audience::{Audience, Watch};
use crate::cli::{GeneratorArgs, Idle, IdleRole, duration};
use crate::crew::{BareListener, CONNECTIONS_PER_PROCESS, Crew};
use crate::dialect::Dialect;
use crate::gateway::Gateway;
use crate::job::{HoldTask, Job, Load, Notice, Order, Ready, Task};
use crate::metrics::Metrics;
use crate::report::{Report, grouped, write_json};
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::token::Role;
use crate::usage::{self, Resident, Slab};
use crate::view::Lines;

/// How long the kernel may take to free what a run left behind.
const RELEASE_MAX: Duration = Duration::from_secs(60);
/// How long the kernel's memory may take to become steady after the last connection.
const SETTLE_MAX: Duration = Duration::from_secs(75);
/// Steady: it changed by less than this many bytes per connection from one look to the next, three times.
const STEADY_BYTES: u64 = 8;
const LOOK: Duration = Duration::from_secs(1);
const PINGS: &str = "longhaul_pings_out_total";

/// The result of `idle`.
#[derive(Debug, Serialize)]
pub struct IdleReport {
    /// `idle`.
    pub command: &'static str,
    /// What was asked for.
    pub parameters: Value,
    /// What the connections were.
    pub role: String,
    /// What each dashboard watched.
    pub watch: Option<String>,
    /// Of how many vehicles.
    pub universe: Option<u32>,
    /// How many there were.
    pub connections: usize,
    /// How many could not be made.
    pub failed: usize,
    /// Connections that the gateway ended while they were held.
    pub dropped: usize,
    /// Why, the first few.
    pub reasons: Vec<String>,
    /// Until the last was ready.
    pub seconds_to_connect: f64,
    /// The gateway's CPU time for each, from `connect` to the first position or subscription.
    pub gateway_cpu_us_per_connect: Option<f64>,
    /// While they were made, second by second.
    pub ramp: Vec<RampSecond>,
    /// All of it.
    pub gateway_rss_bytes: Option<u64>,
    /// The baseline after a warm-up.
    pub gateway_rss_bytes_before: Option<u64>,
    /// Over the baseline after a warm-up.
    pub gateway_rss_bytes_per_connection: Option<f64>,
    /// The same, of heap and stacks only.
    pub gateway_rss_anon_bytes_per_connection: Option<f64>,
    /// Over the gateway as it was before its first connection.
    pub gateway_rss_bytes_per_connection_cold: Option<f64>,
    /// Slab, of both ends.
    pub kernel_bytes_per_connection: f64,
    /// The same, of sockets against a listener that only accepts.
    pub kernel_bytes_per_connection_bare: Option<f64>,
    /// The difference.
    pub kernel_bytes_over_bare: Option<f64>,
    /// The same difference without caches of files, which other processes on the machine disturb.
    pub kernel_unreclaimable_bytes_over_bare: Option<f64>,
    /// Of one core, while they were idle.
    pub gateway_cpu_percent: Option<f64>,
    /// Pings that the gateway sent meanwhile, by its metrics.
    pub heartbeats_per_second: Option<f64>,
    /// How many the gateway had.
    pub shards: Option<usize>,
    /// From the last connection to the measurement.
    pub settle_seconds: f64,
    /// The load beside them, if there was one.
    pub beside: Option<Report>,
}

/// A moment while connections are made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RampSecond {
    /// Since the first `connect`, or nearly.
    pub seconds: f64,
    /// Connections that are ready.
    pub connections: usize,
    /// The gateway's resident memory.
    pub gateway_rss_bytes: Option<u64>,
}

/// Runs the subcommand.
///
/// # Errors
/// A gateway or a generator that fails, or the user gave up.
pub fn run(args: &Idle, interrupted: &Interrupted) -> anyhow::Result<ExitCode> {
    let report = measure(args, interrupted)?;
    print(&report);
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    let beside_passed = report.beside.as_ref().is_none_or(|load| load.passed);
    let all = report.failed == 0 && report.dropped == 0 && beside_passed;
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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
    /// What a connection to a listener that only accepts costs the kernel.
    fn bare(&self) -> anyhow::Result<Kernel> {
        let connections = self.args.connections as usize;
        let processes = connections.div_ceil(CONNECTIONS_PER_PROCESS).max(1);
        let listeners = (0..processes)
            .map(|_| BareListener::start())
            .collect::<Result<Vec<_>, _>>()?;
        let before = self.steady_slab(RELEASE_MAX)?;
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.port).collect();
        let jobs = self.jobs(None, |process| Target::Bare(ports[process]));
        let mut crew = Crew::start(&jobs)?;
        let ready = self.await_ready(&mut crew, "bare sockets", |_| {})?;
        let after = self.steady_slab(SETTLE_MAX)?;
        let kernel = Kernel::each(before, after, ready.connected);
        eprintln!(
            "bare sockets: {:.0} bytes of kernel memory each, both ends",
            kernel.total
        );
        crew.order(Order::Stop)?;
        await_held(&mut crew)?;
        drop((crew, listeners));
        self.steady_slab(RELEASE_MAX)?;
        Ok(kernel)
    }

    fn gateway(&self, bare: Option<Kernel>) -> anyhow::Result<IdleReport> {
        let args = self.args;
        let mut config = format!(
            "{}[connection]\nquiet_after_ms = {}\n",
            run::ALL_AT_ONCE,
            args.quiet_after_ms
        );
        if let Some(ms) = args.heartbeat_ms {
            config.push_str(&format!("heartbeat_ms = {ms}\n"));
        }
        let load = self.load()?;
        let connections = args.connections as usize + load.as_ref().map_or(0, Run::connections);
        let mut gateway = run::gateway(&args.gateway, connections, Some(config))?;
        let cold = self.resident(&gateway)?;
        self.warm_up(&gateway)?;
        let slab_before = self.steady_slab(RELEASE_MAX)?;
        let warm = self.resident(&gateway)?;
        let role = Role::from(args.role);
        let load_parameters = load.as_ref().map(|load| load.parameters.clone());
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
        let (gateway_cpu_percent, heartbeats_per_second) = self.idleness(&gateway)?;
        let beside = match load {
            None => None,
            Some(load) => load.drive(
                &mut gateway,
                &GeneratorArgs::default(),
                &mut Lines::new(),
                self.interrupted,
            )?,
        };
        crew.order(Order::Stop)?;
        let (dropped, mut reasons) = await_held(&mut crew)?;
        reasons.extend(ready.reasons);
        let count = ready.connected.max(1) as f64;
        let each = |now: Option<Resident>, then: Option<Resident>, of: fn(Resident) -> u64| {
            Some((of(now?) as f64 - of(then?) as f64) / count)
        };
        let kernel = Kernel::each(slab_before, slab_after, ready.connected);
        let is_dashboard = args.role == IdleRole::Dashboard;
        Ok(IdleReport {
            command: "idle",
            parameters: json!({
                "connections": args.connections, "role": format!("{role:?}").to_lowercase(),
                "watch": is_dashboard.then(|| args.watch.to_string()),
                "universe": is_dashboard.then_some(args.universe),
                "quiet_after_ms": args.quiet_after_ms, "heartbeat_ms": args.heartbeat_ms,
                "seed": args.seed, "beside": load_parameters,
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
            gateway_cpu_percent,
            heartbeats_per_second,
            shards: gateway.shards,
            settle_seconds,
            beside,
        })
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

    /// The number of the first that is held: those before have the load's ids and source addresses.
    fn first(&self) -> u32 {
        if self.args.rate == 0 {
            return 0;
        }
        self.args.vehicles + self.args.dashboards
    }

    /// One connection, opened and closed; a dashboard subscribes to every vehicle there is by id, so that the names
    /// that all share are not counted as the connections'.
    fn warm_up(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let mut job = self.job(
            0,
            1,
            Some(Role::from(self.args.role)),
            &Target::Gateway(gateway),
        );
        if let Task::Hold(task) = &mut job.task {
            task.connections = 1;
            task.watch = Watch::Count(self.args.universe);
        }
        let mut crew = Crew::start(&[job])?;
        let ready = self.await_ready(&mut crew, "warm-up", |_| {})?;
        if ready.failed > 0 {
            bail!("the first connection failed: {}", ready.reasons.join("; "));
        }
        self.sleep(Duration::from_millis(500))?;
        crew.order(Order::Stop)?;
        await_held(&mut crew)?;
        drop(crew);
        self.sleep(Duration::from_secs(1))
    }

    fn jobs<'t>(&self, role: Option<Role>, target: impl Fn(usize) -> Target<'t>) -> Vec<Job> {
        let processes = (self.args.connections as usize)
            .div_ceil(CONNECTIONS_PER_PROCESS)
            .max(1);
        (0..processes)
            .map(|process| self.job(process, processes, role, &target(process)))
            .collect()
    }

    fn job(
        &self,
        process: usize,
        processes: usize,
        role: Option<Role>,
        target: &Target<'_>,
    ) -> Job {
        let share = |upto: usize| (self.args.connections as usize * upto / processes) as u32;
        let (first, end) = (share(process), share(process + 1));
        let task = HoldTask {
            first: self.first() + first,
            connections: end - first,
            role,
            watch: self.args.watch,
            universe: self.args.universe,
            seed: self.args.seed,
        };
        let certificate = match target {
            Target::Bare(_) => None,
            Target::Gateway(gateway) => gateway.certificate.clone(),
        };
        let (target, host, path, key) = match target {
            Target::Bare(port) => {
                let target = ([127, 0, 0, 1], *port).into();
                (
                    target,
                    String::new(),
                    String::new(),
                    std::path::PathBuf::new(),
                )
            }
            Target::Gateway(gateway) => (
                gateway.target,
                gateway.host.clone(),
                gateway.path.clone(),
                gateway.key.clone(),
            ),
        };
        Job {
            dialect: Dialect::Longhaul,
            target,
            host,
            path,
            key,
            certificate,
            process,
            processes,
            core: None,
            task: Task::Hold(task),
        }
    }

    /// All processes' connections, made. `look` is told once a second, and at the end, how many there are.
    fn await_ready(
        &self,
        crew: &mut Crew,
        what: &str,
        mut look: impl FnMut(usize),
    ) -> anyhow::Result<Ready> {
        let mut sum = Ready::default();
        let mut waiting = crew.len();
        let mut connected = vec![0; crew.len()];
        let mut shown = Instant::now();
        while waiting > 0 {
            match crew.notice(Duration::from_millis(100))? {
                Some((process, Notice::Connecting { ready, .. })) => connected[process] = ready,
                Some((process, Notice::Ready(ready))) => {
                    connected[process] = ready.connected;
                    sum.connected += ready.connected;
                    sum.failed += ready.failed;
                    sum.seconds = sum.seconds.max(ready.seconds);
                    sum.reasons.extend(ready.reasons);
                    waiting -= 1;
                }
                _ => {}
            }
            if waiting == 0 || shown.elapsed() > Duration::from_secs(1) {
                shown = Instant::now();
                let connected = connected.iter().sum::<usize>();
                eprintln!("{what}: {} ready", grouped(connected as u64));
                look(connected);
            }
            self.check()?;
        }
        Ok(sum)
    }

    /// The kernel's slab memory once it no longer changes (or after `longest`).
    fn steady_slab(&self, longest: Duration) -> anyhow::Result<Slab> {
        eprintln!("waiting until the kernel's memory is steady");
        let longest = self
            .args
            .settle
            .map_or(longest, |seconds| longest.min(duration(seconds)));
        let began = Instant::now();
        let steady_bytes = STEADY_BYTES * u64::from(self.args.connections.max(1_000));
        let mut last = usage::slab()?;
        let mut steady = 0;
        while steady < 3 && began.elapsed() < longest {
            self.sleep(LOOK)?;
            let now = usage::slab()?;
            steady = if now.unreclaimable.abs_diff(last.unreclaimable) < steady_bytes {
                steady + 1
            } else {
                0
            };
            last = now;
        }
        Ok(last)
    }

    fn resident(&self, gateway: &Gateway) -> anyhow::Result<Option<Resident>> {
        gateway.pid.map(usage::resident).transpose()
    }

    /// The gateway's CPU in percent of a core, and its pings a second, while nothing happens.
    fn idleness(&self, gateway: &Gateway) -> anyhow::Result<(Option<f64>, Option<f64>)> {
        let pings = || -> anyhow::Result<Option<f64>> {
            let metrics = gateway.control.map(Metrics::scrape).transpose()?;
            Ok(metrics.map(|metrics| metrics.value(PINGS)))
        };
        let pings_before = pings()?;
        let (began, before) = (Instant::now(), cpu_us(gateway)?);
        self.sleep(duration(self.args.seconds))?;
        let after = cpu_us(gateway).context("the gateway ended while it was idle")?;
        let seconds = began.elapsed().as_secs_f64().max(1e-6);
        let used = after.zip(before).map(|(after, before)| after - before);
        let sent = pings()?.zip(pings_before).map(|(now, then)| now - then);
        Ok((
            used.map(|us| us as f64 / seconds / 1e4),
            sent.map(|pings| pings / seconds),
        ))
    }

    fn sleep(&self, time: Duration) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.check()?;
            std::thread::sleep(Duration::from_millis(50).min(time - began.elapsed().min(time)));
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("ended by the user");
        }
        Ok(())
    }
}

/// Kernel memory per connection, in bytes, of both ends.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    total: f64,
    unreclaimable: f64,
}

impl Kernel {
    fn each(before: Slab, after: Slab, connections: usize) -> Self {
        let each =
            |before: u64, after: u64| (after as f64 - before as f64) / connections.max(1) as f64;
        Self {
            total: each(before.total, after.total),
            unreclaimable: each(before.unreclaimable, after.unreclaimable),
        }
    }
}

enum Target<'a> {
    Bare(u16),
    Gateway(&'a Gateway),
}

/// The gateway's CPU time so far, if its process is known.
fn cpu_us(gateway: &Gateway) -> anyhow::Result<Option<u64>> {
    gateway.pid.map(usage::cpu_us).transpose()
}

/// Waits for the end of a hold: how many connections were ended by the gateway, and why.
///
/// # Errors
/// A generator process failed.
pub fn await_held(crew: &mut Crew) -> anyhow::Result<(usize, Vec<String>)> {
    let (mut waiting, mut dropped, mut reasons) = (crew.len(), 0, Vec::new());
    while waiting > 0 {
        if let Some((
            _,
            Notice::Held {
                dropped: more,
                reasons: why,
            },
        )) = crew.notice(Duration::from_secs(1))?
        {
            waiting -= 1;
            dropped += more;
            reasons.extend(why);
        }
    }
    Ok((dropped, reasons))
}

fn print(report: &IdleReport) {
    let row = |name: &str, value: String| println!("  {name:<34} {value}");
    let bytes = |value: Option<f64>| {
        value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.0} bytes"))
    };
    println!(
        "\nidle, {} × {}",
        grouped(report.connections as u64),
        report.role
    );
    row(
        "failed, dropped",
        format!("{}, {}", report.failed, report.dropped),
    );
    row(
        "time to connect",
        format!("{:.1} s", report.seconds_to_connect),
    );
    row(
        "gateway CPU per connect",
        report
            .gateway_cpu_us_per_connect
            .map_or_else(|| "unknown".to_owned(), |us| format!("{us:.0} µs")),
    );
    row(
        "gateway memory per connection",
        bytes(report.gateway_rss_bytes_per_connection),
    );
    row(
        "  of it heap",
        bytes(report.gateway_rss_anon_bytes_per_connection),
    );
    row(
        "  without the warm-up",
        bytes(report.gateway_rss_bytes_per_connection_cold),
    );
    row(
        "kernel memory per connection",
        bytes(Some(report.kernel_bytes_per_connection)),
    );
    row(
        "  of a bare socket",
        bytes(report.kernel_bytes_per_connection_bare),
    );
    row("  over a bare socket", bytes(report.kernel_bytes_over_bare));
    row(
        "    without caches of files",
        bytes(report.kernel_unreclaimable_bytes_over_bare),
    );
    let percent = report.gateway_cpu_percent;
    row(
        "gateway CPU",
        percent.map_or_else(|| "unknown".to_owned(), |p| format!("{p:.2} %")),
    );
    for reason in &report.reasons {
        println!("  ! {reason}");
    }
    if let Some(load) = &report.beside {
        load.print();
    }
}
