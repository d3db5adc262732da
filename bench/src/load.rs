//! The generator's loop: one thread that sends what is due, reads what came, and sleeps the rest of its pace.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;

use crate::checker::{Epoch, Phase};
use crate::clients::Clients;
use crate::clock::now_ns;
use crate::dialect::Dialect;
use crate::frames::{self, Opcode};
use crate::job::{
    DashboardProgress, Done, Job, Load, LoadTask, Notice, Order, Percentiles, Progress, Ready,
    add_pairs, pairs, tell,
};
use crate::mixed::fleet;
use crate::pool::{OPENING_MAX, Pool};
use crate::position::PositionFrame;
use crate::schedule::{Plan, Synthetic};
use crate::timeline::{Excerpt, Timeline};
use crate::token::{Mint, Role};
use crate::trace;
use crate::usage::own_cpu_us;

/// Updates that are sent before incoming frames get their turn.
pub const SENDS_PER_TURN_MAX: usize = 2_048;
/// A run is over when nothing came for so long after the last send.
pub const QUIET_NS: u64 = 2_000_000_000;
/// How long a connection may take to become ready.
pub const SETUP_NS: u64 = 30_000_000_000;
/// How long to wait for names after all else is ready: a gateway may give them with the first position.
const NAMES_NS: u64 = 5_000_000_000;
/// From the end of a load to the pings that follow it.
pub const BEFORE_CONFIRM: Duration = Duration::from_millis(60);
/// How long vehicles wait for the answer to their last ping.
pub const CONFIRM_NS: u64 = 10_000_000_000;
/// Above this rate of deliveries, latency is sampled.
const UNSAMPLED_PER_SECOND_MAX: f64 = 500_000.0;
const SAMPLE_EVERY: u32 = 16;
/// Dashboards that are reported one by one while the run goes on.
const WATCHED_CLOSELY: usize = 8;

/// Runs a [`LoadTask`] in this process.
///
/// # Errors
/// Connections that do not become ready, or a main process that is gone.
pub fn run(job: &Job, task: &LoadTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    match task.load {
        Load::Fanout {
            vehicles,
            rate,
            seconds,
        } => Engine::run(job, task, &Synthetic::new(vehicles, rate, seconds)?, orders),
        Load::Replay {
            ref trace,
            speed,
            from,
            length,
        } => {
            let excerpt = Excerpt {
                speed,
                from,
                length,
            };
            Engine::run(
                job,
                task,
                &Timeline::new(trace::load(trace)?, excerpt),
                orders,
            )
        }
        Load::Day(ref day) => fleet::run(job, task, day, orders),
    }
}

/// One in how many latencies is recorded at so many deliveries a second.
pub fn sample_every(deliveries_per_second: f64) -> u32 {
    if deliveries_per_second > UNSAMPLED_PER_SECOND_MAX {
        SAMPLE_EVERY
    } else {
        1
    }
}

struct Engine<'a, P> {
    job: &'a Job,
    task: &'a LoadTask,
    plan: &'a P,
    clients: Clients<'a, P>,
    pool: Pool,
    frame: PositionFrame,
    rng: fastrand::Rng,
    /// Updates per vehicle of this process.
    sent: Vec<u32>,
    inbound: u64,
    matches: u64,
    watchers: Vec<u32>,
    closely: Vec<DashboardProgress>,
    late_us: Histogram<u64>,
    blocked: u64,
}

impl<'a, P: Plan> Engine<'a, P> {
    fn run(
        job: &'a Job,
        task: &'a LoadTask,
        plan: &'a P,
        orders: &Receiver<Order>,
    ) -> anyhow::Result<()> {
        let mut engine = Self::new(job, task, plan)?;
        engine.connect()?;
        let Some(epoch) = engine.await_start(orders)? else {
            return Ok(());
        };
        let done = engine.drive(epoch, orders)?;
        tell(&Notice::Done(Box::new(done)))
    }

    fn new(job: &'a Job, task: &'a LoadTask, plan: &'a P) -> anyhow::Result<Self> {
        let LoadTask { audience, .. } = task;
        let watchers = audience.watchers(task.share.dashboards.clone());
        let last_due_ns = (0..plan.vehicles())
            .filter_map(|v| {
                plan.planned(v)
                    .checked_sub(1)
                    .map(|_| plan.due_ns(v, plan.planned(v)))
            })
            .max();
        let seconds = last_due_ns.unwrap_or(0) as f64 / 1e9 + 0.001;
        let deliveries: u64 = watchers
            .iter()
            .zip(0..)
            .map(|(&count, vehicle)| u64::from(count) * u64::from(plan.planned(vehicle)))
            .sum();
        let sample_every = sample_every(deliveries as f64 / job.processes as f64 / seconds);
        let mut clients = Clients::new(
            plan,
            audience,
            &task.share,
            job.process,
            job.processes,
            sample_every,
        )?;
        clients.speak(job.dialect)?;
        let connections = clients.vehicles.len() + clients.dashboards.len();
        let closely = clients
            .dashboards
            .iter()
            .take(WATCHED_CLOSELY)
            .map(|&dashboard| {
                let watch = audience.watches[dashboard];
                DashboardProgress {
                    dashboard,
                    watch,
                    matches: 0,
                    delivered: 0,
                }
            });
        let mut pool = Pool::new(
            job.target,
            job.dialect.handshake(&job.host, &job.path),
            job.process * connections,
        )?;
        pool.receive_buffer_bytes = task.share.receive_buffer_bytes;
        pool.secure = job.secure()?;
        Ok(Self {
            job,
            task,
            plan,
            pool,
            frame: PositionFrame::new(!task.masked)?,
            rng: fastrand::Rng::with_seed(audience.seed),
            sent: vec![0; clients.vehicles.len()],
            closely: closely.collect(),
            clients,
            inbound: 0,
            matches: 0,
            watchers,
            late_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            blocked: 0,
        })
    }

    /// Connects all vehicles, then all dashboards, and waits until each has what it needs.
    fn connect(&mut self) -> anyhow::Result<()> {
        let began = now_ns();
        let mint = match self.job.dialect {
            Dialect::Longhaul => Some(Mint::from_file(&self.job.key)?),
            _ => None,
        };
        let token = |subject: &str, role| match &mint {
            Some(mint) => mint.token(subject, role),
            None => Ok(String::new()),
        };
        let vehicles = self.clients.vehicles.len();
        let of = vehicles + self.clients.dashboards.len();
        let mut told = began;
        for upto in [vehicles, of] {
            let mut opened = self.clients.ready;
            let mut moved = now_ns();
            while self.clients.ready < upto {
                let before = self.clients.ready;
                while opened < upto && opened - self.clients.ready < OPENING_MAX {
                    let token = match opened.checked_sub(vehicles) {
                        None => {
                            let vehicle = self.clients.vehicles[opened];
                            token(&self.plan.id(vehicle), Role::Vehicle)?
                        }
                        Some(at) => {
                            let dashboard = self.clients.dashboards[at];
                            token(&format!("dashboard-{dashboard}"), Role::Dashboard)?
                        }
                    };
                    self.pool.open(&token, &mut self.clients);
                    opened += 1;
                }
                self.pool
                    .turn(Duration::from_millis(20), &mut self.clients)?;
                let now = now_ns();
                if self.clients.ready > before {
                    moved = now;
                }
                if self.clients.closed > 0 || self.clients.errors > 0 {
                    bail!("connecting failed: {}", self.clients.reasons.join("; "));
                }
                if now - moved > SETUP_NS {
                    bail!(
                        "{} of {of} connections are ready and nothing happens any more",
                        self.clients.ready
                    );
                }
                if now - told > 250_000_000 {
                    told = now;
                    tell(&Notice::Connecting {
                        ready: self.clients.ready,
                        of,
                    })?;
                }
            }
        }
        let names_expected = self.clients.names_expected();
        let waiting = now_ns();
        while self.clients.named < names_expected && now_ns() - waiting < NAMES_NS {
            self.pool
                .turn(Duration::from_millis(20), &mut self.clients)?;
        }
        tell(&Notice::Ready(Ready {
            connected: self.clients.ready,
            failed: 0,
            reasons: Vec::new(),
            seconds: (now_ns() - began) as f64 / 1e9,
            names_missing: names_expected - self.clients.named,
        }))
    }

    fn await_start(&mut self, orders: &Receiver<Order>) -> anyhow::Result<Option<Epoch>> {
        loop {
            match orders.try_recv() {
                Ok(Order::Start(epoch)) => return Ok(Some(epoch)),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Ok(None),
                Ok(Order::Phase) | Err(TryRecvError::Empty) => {
                    self.pool
                        .turn(Duration::from_millis(5), &mut self.clients)?;
                }
            }
        }
    }

    fn drive(&mut self, epoch: Epoch, orders: &Receiver<Order>) -> anyhow::Result<Done> {
        self.clients.checker.begin(epoch);
        self.clients.resumptions.begin(now_ns());
        let expected = self.expected();
        let cpu_before = own_cpu_us();
        let mut cpu_sending = None;
        let mut number = 0;
        let (mut sent_ns, mut received_ns) = (epoch.start_ns, epoch.start_ns);
        // Traces report on whole seconds: progress is told between them, so that a rate never sees two or none.
        let mut next_progress = epoch.start_ns + self.task.progress.as_nanos() as u64 / 2;
        let mut stopped = false;
        let mut phases = Vec::new();
        loop {
            let turn = now_ns();
            self.clients.resumptions.at(turn);
            let more = !stopped && self.send_due(epoch, turn, &mut number);
            let before = self.clients.checker.counts.delivered;
            self.pool.turn(Duration::ZERO, &mut self.clients)?;
            if self.clients.checker.counts.delivered != before {
                received_ns = now_ns();
            }
            if more {
                sent_ns = turn;
            } else {
                cpu_sending.get_or_insert_with(|| own_cpu_us() - cpu_before);
                let counts = &self.clients.checker.counts;
                let wanted = if stopped { self.matches } else { expected };
                let complete = wanted > 0 && counts.delivered + counts.conflated >= wanted;
                if complete || turn.saturating_sub(sent_ns.max(received_ns)) > QUIET_NS {
                    break;
                }
            }
            match orders.try_recv() {
                Ok(Order::Phase) => phases.push(self.end_phase()),
                Ok(Order::Start(_)) | Err(TryRecvError::Empty) => {}
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => stopped = true,
            }
            // Without a single connection left there is nothing to wait for.
            stopped |= self.clients.closed == self.clients.ready;
            if turn >= next_progress {
                next_progress += self.task.progress.as_nanos() as u64;
                self.tell_progress(epoch, turn, cpu_before)?;
            }
            let spent = Duration::from_nanos(now_ns() - turn);
            std::thread::sleep(self.task.pace.saturating_sub(spent));
        }
        self.tell_progress(epoch, now_ns(), cpu_before)?;
        let settled_ns = now_ns();
        tell(&Notice::Settled)?;
        // The main process looks at the gateway now, before the pings below cost some CPU time.
        std::thread::sleep(BEFORE_CONFIRM);
        let unconfirmed = self.confirm()?;
        phases.push(self.end_phase());
        let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        for phase in &phases {
            add_pairs(&mut latency, &phase.latency);
            add_pairs(&mut self.late_us, &phase.late);
        }
        Ok(Done {
            counts: self.clients.checker.counts,
            sent: std::mem::take(&mut self.sent),
            latency: pairs(&latency),
            latency_max_ns: phases
                .iter()
                .map(|phase| phase.latency_max_ns)
                .max()
                .unwrap_or(0),
            phases,
            sample_every: self.clients.checker.sample_every(),
            late: pairs(&self.late_us),
            blocked: self.blocked,
            unconfirmed,
            disconnected: self.clients.closed,
            closes: std::mem::take(&mut self.clients.closes),
            expected: None,
            lived: None,
            resumed: self.clients.resumptions.take(),
            reasons: std::mem::take(&mut self.clients.reasons),
            errors: self.clients.errors,
            sent_ns,
            received_ns,
            settled_ns,
            cpu_us: cpu_sending.unwrap_or_else(|| own_cpu_us() - cpu_before),
        })
    }

    fn end_phase(&mut self) -> Phase {
        let late = pairs(&self.late_us);
        self.late_us.reset();
        Phase {
            late,
            ..self.clients.checker.end_phase()
        }
    }

    /// Updates that this process's dashboards should get in all.
    fn expected(&self) -> u64 {
        use crate::audience::Filter;
        let planned = |vehicle| u64::from(self.plan.planned(vehicle));
        let everything: u64 = (0..self.plan.vehicles()).map(planned).sum();
        self.clients
            .dashboards
            .iter()
            .map(|&dashboard| match self.task.audience.filter(dashboard) {
                Filter::All => everything,
                Filter::Some(vehicles) => vehicles.into_iter().map(planned).sum(),
            })
            .sum()
    }

    /// Sends what is due, up to a bound. False if nothing is left to send.
    fn send_due(&mut self, epoch: Epoch, mut now: u64, number: &mut u64) -> bool {
        let (process, processes) = (self.job.process as u32, self.job.processes as u32);
        let mut sends = 0;
        while let Some(update) = self.plan.update(*number) {
            let due_ns = epoch.start_ns + update.due_ns;
            if due_ns > now || sends == SENDS_PER_TURN_MAX {
                return true;
            }
            *number += 1;
            if !self.task.share.vehicles || update.vehicle % processes != process {
                continue;
            }
            let id = (update.vehicle / processes) as usize;
            let mut fix = self
                .plan
                .fix(update.vehicle, update.sequence, epoch.wall_ms);
            let frame = match self.clients.speech() {
                None => self.frame.patch(&fix, &mut self.rng),
                Some(speech) => {
                    fix.vehicle = update.vehicle;
                    let vehicle = self.plan.id(update.vehicle);
                    let wrap = |message: &[u8], body: &mut Vec<u8>| {
                        speech.report(&vehicle, message, body);
                    };
                    self.frame.wrapped(&fix, &mut self.rng, wrap)
                }
            };
            let Some(at_once) = self.pool.send(id, frame, &mut self.clients) else {
                continue;
            };
            sends += 1;
            if sends % 32 == 0 {
                now = now_ns();
            }
            self.inbound += 1;
            self.sent[id] = update.sequence;
            self.matches += u64::from(self.watchers[update.vehicle as usize]);
            for (at, dashboard) in self.closely.iter_mut().enumerate() {
                dashboard.matches += u64::from(self.clients.checker.watches(at, update.vehicle));
            }
            if at_once {
                self.late_us.saturating_record((now - due_ns) / 1_000);
            } else {
                self.blocked += 1;
            }
        }
        false
    }

    fn tell_progress(&mut self, epoch: Epoch, now: u64, cpu_before: u64) -> anyhow::Result<()> {
        let window = self.clients.checker.end_window();
        let checker = &self.clients.checker;
        for (at, dashboard) in self.closely.iter_mut().enumerate() {
            dashboard.delivered = checker.delivered[at];
        }
        tell(&Notice::Progress(Progress {
            elapsed: Duration::from_nanos(now.saturating_sub(epoch.start_ns)),
            inbound: self.inbound,
            matches: self.matches,
            counts: checker.counts,
            latency: Percentiles::of(&checker.latency_us, checker.latency_max_ns),
            window,
            late_p99_us: self.late_us.value_at_quantile(0.99),
            cpu_us: own_cpu_us() - cpu_before,
            dashboards: self.closely.clone(),
        }))
    }

    /// Every vehicle sends a ping: its pong says that the gateway has read all that was sent before it. How many pongs
    /// did not come.
    fn confirm(&mut self) -> anyhow::Result<usize> {
        let mut ping = Vec::new();
        frames::write(&mut ping, Opcode::Ping, b"end", [0; 4]);
        for id in 0..self.clients.vehicles.len() {
            self.pool.send(id, &ping, &mut self.clients);
        }
        let began = now_ns();
        let vehicles = self.clients.vehicles.len();
        while self.clients.pongs + self.clients.closed_vehicles < vehicles
            && now_ns() - began < CONFIRM_NS
        {
            self.pool
                .turn(Duration::from_millis(20), &mut self.clients)?;
        }
        self.clients.finish();
        Ok(vehicles.saturating_sub(self.clients.pongs))
    }
}
