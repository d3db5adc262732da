//! What the main process does while a load runs: hears its generators, shows progress, measures the gateway.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::checker::Epoch;
use crate::cli::GeneratorArgs;
use crate::clock::{now_ns, wall_ms};
use crate::crew::Crew;
use crate::gateway::Gateway;
use crate::job::{Done, Notice, Order, Progress, Share};
use crate::outside::{Look, Outside};
use crate::report::{Report, Setting};
use crate::run::{Interrupted, Run};
use crate::seconds::Seconds;
use crate::usage;
use crate::view::{Moment, View, merge};

/// From the order to start until the start, so that all processes are ready for it.
const LEAD: Duration = Duration::from_millis(300);
/// Long enough for the kernel's ticks of 10 ms to show a gateway that uses a hundredth of a core.
const CPU_WINDOW: Duration = Duration::from_secs(5);
const CPU_SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A load that runs.
pub struct Desk<'a> {
    run: &'a Run,
    share: Share,
    /// The gateway that it runs against.
    pub gateway: &'a mut Gateway,
    view: &'a mut dyn View,
    interrupted: &'a Interrupted,
    crew: Crew,
    names_missing: usize,
    start_ns: u64,
    /// The gateway's CPU time in microseconds, at monotonic nanoseconds.
    cpu: Vec<(u64, u64)>,
    sampled: Instant,
    latest: Vec<Progress>,
    seconds: Seconds,
    /// The gateway when the load began.
    began: Option<Look>,
    /// What it cost from there until all was received.
    outside: Option<Outside>,
    /// Processes that have received everything.
    settled: usize,
    done: Vec<Option<Done>>,
    quit: bool,
}

impl<'a> Desk<'a> {
    /// Starts the generators that have `share` of `run`, and waits until all of it is connected. `None` if the user gave
    /// up.
    ///
    /// # Errors
    /// The gateway or a generator process fails.
    pub fn open(
        run: &'a Run,
        share: Share,
        gateway: &'a mut Gateway,
        args: &GeneratorArgs,
        view: &'a mut dyn View,
        interrupted: &'a Interrupted,
    ) -> anyhow::Result<Option<Self>> {
        let crew = Crew::start(&run.jobs(gateway, args, &share, view.interval()))?;
        let mut desk = Self {
            run,
            share,
            gateway,
            view,
            interrupted,
            names_missing: 0,
            start_ns: 0,
            cpu: Vec::new(),
            sampled: Instant::now(),
            latest: vec![Progress::default(); crew.len()],
            seconds: Seconds::new()?,
            began: None,
            outside: None,
            settled: 0,
            done: vec![None; crew.len()],
            quit: false,
            crew,
        };
        let Some(names_missing) = desk.await_ready()? else {
            return Ok(None);
        };
        desk.names_missing = names_missing;
        Ok(Some(desk))
    }

    /// Lets the load begin.
    ///
    /// # Errors
    /// A generator process is gone.
    pub fn start(&mut self) -> anyhow::Result<Epoch> {
        self.sample_cpu();
        self.began = self.gateway.pid.and_then(|pid| Look::at(pid).ok());
        let epoch = Epoch {
            start_ns: now_ns() + LEAD.as_nanos() as u64,
            wall_ms: wall_ms() + LEAD.as_millis() as u64,
        };
        self.start_ns = epoch.start_ns;
        self.seconds.begin(self.cpu.last().copied());
        self.crew.order(Order::Start(epoch))?;
        Ok(epoch)
    }

    /// Tells the load's generators.
    ///
    /// # Errors
    /// One of them is gone.
    pub fn order(&mut self, order: Order) -> anyhow::Result<()> {
        self.crew.order(order)
    }

    /// Attends to the load for this long, or until it ends or the user does not want it any more.
    ///
    /// # Errors
    /// The gateway or a generator process fails.
    pub fn attend(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until && self.is_on() {
            self.turn()?;
        }
        Ok(())
    }

    /// Whether there is still something to attend to.
    pub fn is_on(&self) -> bool {
        !self.quit && self.done.iter().any(Option::is_none)
    }

    /// Whether the user does not want it any more.
    pub fn has_quit(&self) -> bool {
        self.quit
    }

    /// Waits for the end of the load: the report, and what each process found.
    ///
    /// # Errors
    /// The gateway or a generator process fails.
    pub fn finish(mut self) -> anyhow::Result<(Report, Vec<Done>)> {
        while self.done.iter().any(Option::is_none) {
            self.turn()?;
        }
        let done: Vec<Done> = self.done.iter_mut().filter_map(Option::take).collect();
        let end_ns = done
            .iter()
            .map(|part| part.settled_ns)
            .max()
            .unwrap_or(self.start_ns);
        let setting = Setting {
            command: self.run.command,
            parameters: self.run.parameters.clone(),
            watchers: self.run.audience.watchers(self.share.dashboards.clone()),
            shards: self.gateway.shards,
            start_ns: self.start_ns,
            gateway_cpu_us: self.cpu_between(self.start_ns, end_ns),
            gateway_rss_bytes: self.resident(),
            gateway_outside: self.outside,
            names_missing: self.names_missing,
            interrupted: self.quit,
            seconds: self.seconds,
        };
        Ok((Report::new(setting, &done)?, done))
    }

    /// Ids that dashboards have not been given; `None` if the user gave up.
    fn await_ready(&mut self) -> anyhow::Result<Option<usize>> {
        let of = self.connections();
        let mut ready = vec![0; self.crew.len()];
        let mut names_missing = 0;
        let mut waiting = self.crew.len();
        self.view.connecting(0, of)?;
        while waiting > 0 {
            match self.notice()? {
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

    fn connections(&self) -> usize {
        self.run.audience.vehicles as usize + self.share.dashboards.len()
    }

    /// Waits a little for what a generator says, and does what is due besides.
    fn turn(&mut self) -> anyhow::Result<()> {
        match self.notice()? {
            Some((process, Notice::Progress(progress))) => {
                self.seconds.latencies(&progress.window);
                self.latest[process] = progress;
                // All processes tell at the same instants: one of them is enough as a clock.
                if process == 0 {
                    self.show()?;
                }
            }
            Some((_, Notice::Settled)) => {
                self.settled += 1;
                if self.settled == self.crew.len() {
                    let began = self.began.as_ref();
                    self.outside = began.and_then(|began| began.until_now().ok());
                }
            }
            Some((process, Notice::Done(found))) => self.done[process] = Some(*found),
            _ => {}
        }
        if self.sampled.elapsed() >= CPU_SAMPLE_EVERY {
            self.sampled = Instant::now();
            self.sample_cpu();
        }
        if !self.quit && self.quits()? {
            self.quit = true;
            self.crew.order(Order::Stop)?;
        }
        Ok(())
    }

    fn notice(&mut self) -> anyhow::Result<Option<(usize, Notice)>> {
        let notice = self.crew.notice(CPU_SAMPLE_EVERY);
        if self.gateway.has_ended() {
            bail!(
                "the server ended during the run:\n{}",
                self.gateway.log_tail()
            );
        }
        notice
    }

    fn quits(&mut self) -> anyhow::Result<bool> {
        Ok(self.view.wants_to_quit()? || self.interrupted.load(Ordering::Relaxed))
    }

    fn show(&mut self) -> anyhow::Result<()> {
        let progress = merge(&self.latest);
        let rss_bytes = self.resident();
        self.sample_cpu();
        self.seconds
            .end(&progress, self.cpu.last().copied(), rss_bytes);
        let moment = Moment {
            progress,
            vehicles: self.run.audience.vehicles,
            dashboards: self.share.dashboards.len(),
            gateway_cores: self.gateway_cores(),
            gateway_rss_bytes: rss_bytes,
        };
        self.view.moment(&moment)
    }

    fn sample_cpu(&mut self) {
        // A gateway whose process is not known, or is gone, leaves the figures unknown.
        if let Some(us) = self
            .gateway
            .pid
            .and_then(|pid| usage::family_cpu_us(pid).ok())
        {
            self.cpu.push((now_ns(), us));
        }
    }

    /// The gateway's resident memory, if its process is known.
    pub fn resident(&self) -> Option<u64> {
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
    pub fn cpu_between(&self, from_ns: u64, to_ns: u64) -> Option<u64> {
        let last = self.cpu.last()?.1;
        let at = |ns| {
            let next = self.cpu.partition_point(|&(sampled, _)| sampled < ns);
            self.cpu.get(next).map_or(last, |&(_, us)| us)
        };
        Some(at(to_ns) - at(from_ns))
    }
}
