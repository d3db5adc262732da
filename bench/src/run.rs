//! One load against one gateway, seen from the main process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use crate::audience::Audience;
use crate::checker::Epoch;
use crate::cli::{GatewayArgs, GeneratorArgs};
use crate::clock::{now_ns, wall_ms};
use crate::crew::{CONNECTIONS_PER_PROCESS, Crew};
use crate::gateway::{Gateway, Spawn};
use crate::job::{Done, Job, Load, LoadTask, Notice, Order, Progress, Task};
use crate::report::{Report, Setting};
use crate::usage;
use crate::view::{Moment, View, merge};

/// From the order to start until the start, so that all processes are ready for it.
const LEAD: Duration = Duration::from_millis(300);
/// Long enough for the kernel's ticks of 10 ms to show a gateway that uses a hundredth of a core.
const CPU_WINDOW: Duration = Duration::from_secs(5);
const CPU_SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// Connections per shard of a spawned gateway: its descriptor table, and room for an uneven spread.
const CONNECTIONS_PER_SHARD: usize = 16_000;

/// Set by Ctrl-C and SIGTERM.
pub type Interrupted = Arc<AtomicBool>;

/// Reacts to Ctrl-C and SIGTERM from now on.
///
/// # Errors
/// Another handler is installed already.
pub fn watch_signals() -> anyhow::Result<Interrupted> {
    let flag = Interrupted::default();
    let set = Arc::clone(&flag);
    ctrlc::set_handler(move || set.store(true, Ordering::Relaxed))?;
    Ok(flag)
}

/// The gateway that the arguments name, started if they say so, with room for `connections`.
///
/// # Errors
/// It cannot be started or found.
pub fn gateway(
    args: &GatewayArgs,
    connections: usize,
    config: Option<String>,
) -> anyhow::Result<Gateway> {
    if let (Some(url), Some(key)) = (&args.url, &args.key) {
        return Gateway::at(url, key, args.pid);
    }
    let shards = match args.shards {
        Some(shards) => usize::from(shards),
        None => connections.div_ceil(CONNECTIONS_PER_SHARD).max(1),
    };
    Gateway::spawn(&Spawn {
        binary: args.gateway.clone(),
        shards,
        config,
        arguments: args.gateway_arg.clone(),
    })
}

/// Which core each generator process runs on: those that the gateway's shards leave free, if there are any.
pub fn cores(processes: usize, shards: Option<usize>, pin: bool) -> Vec<Option<usize>> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let free: Vec<usize> = (shards.unwrap_or(all)..all).collect();
    (0..processes)
        .map(|process| {
            if free.is_empty() || !pin {
                None
            } else {
                Some(free[process % free.len()])
            }
        })
        .collect()
}

/// What is to be run.
pub struct Run {
    /// `fanout` or `replay`.
    pub command: &'static str,
    /// Its arguments, for the report.
    pub parameters: Value,
    /// What is sent.
    pub load: Load,
    /// Who watches.
    pub audience: Audience,
}

impl Run {
    /// How many connections it makes.
    pub fn connections(&self) -> usize {
        self.audience.vehicles as usize + self.audience.dashboards()
    }

    fn jobs(&self, gateway: &Gateway, args: &GeneratorArgs, progress: Duration) -> Vec<Job> {
        let fewest = self.connections().div_ceil(CONNECTIONS_PER_PROCESS).max(1);
        let processes = args.processes.map_or(fewest, usize::from).max(fewest);
        let task = LoadTask {
            load: self.load.clone(),
            audience: self.audience.clone(),
            pace: Duration::from_micros(args.pace_us),
            progress,
        };
        cores(processes, gateway.shards, !args.no_pin)
            .into_iter()
            .enumerate()
            .map(|(process, core)| Job {
                target: gateway.target,
                host: gateway.host.clone(),
                path: gateway.path.clone(),
                key: gateway.key.clone(),
                process,
                processes,
                core,
                task: Task::Load(task.clone()),
            })
            .collect()
    }

    /// Runs it.
    ///
    /// # Errors
    /// The gateway or a generator process fails; not what the checker finds, which is in the report.
    pub fn drive(
        self,
        gateway: &mut Gateway,
        args: &GeneratorArgs,
        view: &mut dyn View,
        interrupted: &Interrupted,
    ) -> anyhow::Result<Option<Report>> {
        let mut crew = Crew::start(&self.jobs(gateway, args, view.interval()))?;
        let mut desk = Desk {
            run: &self,
            gateway,
            view,
            interrupted,
            cpu: Vec::new(),
        };
        let Some(names_missing) = desk.await_ready(&mut crew)? else {
            return Ok(None);
        };
        desk.sample_cpu();
        let start_ns = now_ns() + LEAD.as_nanos() as u64;
        let epoch = Epoch {
            start_ns,
            wall_ms: wall_ms() + LEAD.as_millis() as u64,
        };
        crew.order(Order::Start(epoch))?;
        let (done, quit) = desk.await_done(&mut crew)?;
        let end_ns = done
            .iter()
            .map(|part| part.settled_ns)
            .max()
            .unwrap_or(start_ns);
        let setting = Setting {
            command: self.command,
            parameters: self.parameters.clone(),
            watchers: self.audience.watchers(),
            shards: desk.gateway.shards,
            start_ns,
            gateway_cpu_us: desk.cpu_between(start_ns, end_ns),
            gateway_rss_bytes: desk.resident(),
            names_missing,
            interrupted: quit,
        };
        Ok(Some(Report::new(setting, &done)?))
    }
}

/// What the main process keeps while generators work.
struct Desk<'a> {
    run: &'a Run,
    gateway: &'a mut Gateway,
    view: &'a mut dyn View,
    interrupted: &'a Interrupted,
    /// The gateway's CPU time in microseconds, at monotonic nanoseconds.
    cpu: Vec<(u64, u64)>,
}

impl Desk<'_> {
    /// Ids that dashboards have not been given; `None` if the user gave up.
    fn await_ready(&mut self, crew: &mut Crew) -> anyhow::Result<Option<usize>> {
        let of = self.run.connections();
        let mut ready = vec![0; crew.len()];
        let mut names_missing = 0;
        let mut waiting = crew.len();
        self.view.connecting(0, of)?;
        while waiting > 0 {
            match self.notice(crew)? {
                Some((process, Notice::Connecting { ready: now, .. })) => ready[process] = now,
                Some((process, Notice::Ready(now))) => {
                    ready[process] = now.connected;
                    names_missing += now.names_missing;
                    waiting -= 1;
                }
                _ => {}
            }
            self.view.connecting(ready.iter().sum(), of)?;
            if self.quits()? {
                return Ok(None);
            }
        }
        Ok(Some(names_missing))
    }

    /// What each process found, and whether the user ended the run.
    fn await_done(&mut self, crew: &mut Crew) -> anyhow::Result<(Vec<Done>, bool)> {
        let mut done: Vec<Option<Done>> = vec![None; crew.len()];
        let mut latest = vec![Progress::default(); crew.len()];
        let mut sampled = Instant::now();
        let mut quit = false;
        while done.iter().any(Option::is_none) {
            match self.notice(crew)? {
                Some((process, Notice::Progress(progress))) => {
                    latest[process] = progress;
                    // All processes tell at the same instants: one of them is enough as a clock.
                    if process == 0 {
                        self.show(&latest)?;
                    }
                }
                Some((process, Notice::Done(found))) => done[process] = Some(*found),
                _ => {}
            }
            if sampled.elapsed() >= CPU_SAMPLE_EVERY {
                sampled = Instant::now();
                self.sample_cpu();
            }
            if !quit && self.quits()? {
                quit = true;
                crew.order(Order::Stop)?;
            }
        }
        Ok((done.into_iter().flatten().collect(), quit))
    }

    fn notice(&mut self, crew: &Crew) -> anyhow::Result<Option<(usize, Notice)>> {
        let notice = crew.notice(CPU_SAMPLE_EVERY);
        if self.gateway.has_ended() {
            bail!(
                "the gateway ended during the run:\n{}",
                self.gateway.log_tail()
            );
        }
        notice
    }

    fn quits(&mut self) -> anyhow::Result<bool> {
        Ok(self.view.wants_to_quit()? || self.interrupted.load(Ordering::Relaxed))
    }

    fn show(&mut self, latest: &[Progress]) -> anyhow::Result<()> {
        let moment = Moment {
            progress: merge(latest),
            vehicles: self.run.audience.vehicles,
            dashboards: self.run.audience.dashboards(),
            gateway_cores: self.gateway_cores(),
            gateway_rss_bytes: self.resident(),
        };
        self.view.moment(&moment)
    }

    fn sample_cpu(&mut self) {
        // A gateway whose process is not known, or is gone, leaves the figures unknown.
        if let Some(us) = self.gateway.pid.and_then(|pid| usage::cpu_us(pid).ok()) {
            self.cpu.push((now_ns(), us));
        }
    }

    fn resident(&self) -> Option<u64> {
        self.gateway
            .pid
            .and_then(|pid| usage::resident(pid).ok())
            .map(|memory| memory.total)
    }

    /// Cores that the gateway used in the last few seconds.
    fn gateway_cores(&self) -> Option<f64> {
        let &(now, used) = self.cpu.last()?;
        let window = now.saturating_sub(CPU_WINDOW.as_nanos() as u64);
        let &(then, before) = self
            .cpu
            .get(self.cpu.partition_point(|&(ns, _)| ns < window))?;
        (now > then).then(|| (used - before) as f64 * 1_000.0 / (now - then) as f64)
    }

    /// CPU time between two instants, by the samples next after them.
    fn cpu_between(&self, from_ns: u64, to_ns: u64) -> Option<u64> {
        let last = self.cpu.last()?.1;
        let at = |ns| {
            let next = self.cpu.partition_point(|&(sampled, _)| sampled < ns);
            self.cpu.get(next).map_or(last, |&(_, us)| us)
        };
        Some(at(to_ns) - at(from_ns))
    }
}
