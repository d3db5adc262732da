//! The generator process of `mixed`: one thread that lets a fleet live its day, and checks what every dashboard gets.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;

use super::curve::HOURS;
use super::day::Day;
use super::hours::{Hour, Lived};
use super::ledger::Ledger;
use super::presence::State;
use super::traffic::{TURN, Traffic};
use crate::checker::{Epoch, Phase};
use crate::clock::now_ns;
use crate::frames::{self, Opcode};
use crate::job::{
    Done, Job, LoadTask, Notice, Order, Percentiles, Progress, add_pairs, pairs, tell,
};
use crate::load::{BEFORE_CONFIRM, CONFIRM_NS, QUIET_NS, SENDS_PER_TURN_MAX, sample_every};
use crate::position::PositionFrame;
use crate::schedule::{Plan, Synthetic};
use crate::storm::herd::Round;
use crate::usage::own_cpu_us;

/// Lets a fleet live its day in this process.
///
/// # Errors
/// Connections that do not become ready, or a main process that is gone.
pub fn run(job: &Job, task: &LoadTask, day: &Day, orders: &Receiver<Order>) -> anyhow::Result<()> {
    ensure!(job.processes == 1, "a day is lived in one process");
    let slots = Synthetic::new(day.vehicles, day.rate, day.total_seconds())?;
    let ledger = Ledger::new(slots);
    let mut fleet = Fleet::new(job, task, day, &ledger)?;
    fleet.traffic.connect()?;
    let epoch = loop {
        match orders.try_recv() {
            Ok(Order::Start(epoch)) => break epoch,
            Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
            Ok(Order::Phase) | Err(TryRecvError::Empty) => fleet.traffic.attend(TURN)?,
        }
    };
    let done = fleet.live(epoch, orders)?;
    tell(&Notice::Done(Box::new(done)))
}

struct Fleet<'a> {
    task: &'a LoadTask,
    day: &'a Day,
    ledger: &'a Ledger,
    traffic: Traffic<'a>,
    /// The next slot of the schedule.
    slot: u64,
    frame: PositionFrame,
    rng: fastrand::Rng,
    /// Updates, times the dashboards that are owed them.
    matches: u64,
    hours: Vec<Hour>,
    hour: Hour,
    delivered_before: u64,
    late_us: Histogram<u64>,
    blocked: u64,
}

impl<'a> Fleet<'a> {
    fn new(
        job: &Job,
        task: &'a LoadTask,
        day: &'a Day,
        ledger: &'a Ledger,
    ) -> anyhow::Result<Self> {
        let watchers = task.audience.watchers(task.share.dashboards.clone());
        let watchers: u64 = watchers.into_iter().map(u64::from).sum();
        let deliveries = watchers as f64 / f64::from(day.vehicles) * f64::from(day.rate);
        Ok(Self {
            task,
            day,
            ledger,
            traffic: Traffic::new(job, task, day, ledger, sample_every(deliveries))?,
            slot: 0,
            frame: PositionFrame::new(!task.masked)?,
            rng: fastrand::Rng::with_seed(day.seed),
            matches: 0,
            hours: Vec::new(),
            hour: Hour::default(),
            delivered_before: 0,
            late_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            blocked: 0,
        })
    }

    fn live(&mut self, epoch: Epoch, orders: &Receiver<Order>) -> anyhow::Result<Done> {
        let clients = &mut self.traffic.presence.clients;
        clients.checker.begin(epoch);
        clients.resumptions.begin(now_ns());
        let cpu_before = own_cpu_us();
        let mut cpu_sending = None;
        let (mut sent_ns, mut received_ns) = (epoch.start_ns, epoch.start_ns);
        let mut next_progress = epoch.start_ns + self.task.progress.as_nanos() as u64 / 2;
        let mut stopped = false;
        loop {
            let turn = now_ns();
            self.traffic.presence.clients.resumptions.at(turn);
            let elapsed_ns = turn.saturating_sub(epoch.start_ns);
            if !stopped {
                self.traffic.happen(elapsed_ns);
                self.end_hours(elapsed_ns);
            }
            let more = !stopped && self.send_due(epoch, turn);
            // With few updates all can be received before the day is over.
            let is_over = stopped || elapsed_ns >= self.day.at_ns(HOURS as f64);
            let before = self.traffic.presence.clients.checker.counts.delivered;
            self.traffic.attend(Duration::ZERO)?;
            let counts = &self.traffic.presence.clients.checker.counts;
            if counts.delivered != before {
                received_ns = now_ns();
            }
            if more {
                sent_ns = turn;
            } else {
                cpu_sending.get_or_insert_with(|| own_cpu_us() - cpu_before);
                let quiet_ns = turn.saturating_sub(sent_ns.max(received_ns));
                // The last hour ends with what was sent in it.
                let complete = counts.delivered + counts.conflated >= self.matches;
                let settled = complete && !self.traffic.is_on_the_way();
                if is_over && (settled || quiet_ns > QUIET_NS) {
                    break;
                }
            }
            match orders.try_recv() {
                Ok(Order::Start(_) | Order::Phase) | Err(TryRecvError::Empty) => {}
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => stopped = true,
            }
            if turn >= next_progress {
                next_progress += self.task.progress.as_nanos() as u64;
                self.tell_progress(epoch, turn, cpu_before)?;
            }
            let spent = Duration::from_nanos(now_ns() - turn);
            std::thread::sleep(self.task.pace.saturating_sub(spent));
        }
        self.end_hour();
        self.tell_progress(epoch, now_ns(), cpu_before)?;
        let settled_ns = now_ns();
        tell(&Notice::Settled)?;
        // The main process looks at the gateway now, before the pings below cost some CPU time.
        std::thread::sleep(BEFORE_CONFIRM);
        let stranded = self.traffic.stranded();
        let unconfirmed = self.confirm()?;
        let cpu_us = cpu_sending.unwrap_or_else(|| own_cpu_us() - cpu_before);
        self.conclude(
            Done {
                unconfirmed,
                sent_ns,
                received_ns,
                settled_ns,
                cpu_us,
                ..Done::default()
            },
            stranded,
        )
    }

    /// Sends what is due of those who are on the road, up to a bound. False if nothing is left to send.
    fn send_due(&mut self, epoch: Epoch, mut now: u64) -> bool {
        let mut sends = 0;
        while let Some(slot) = self.ledger.slots().update(self.slot) {
            let due_ns = epoch.start_ns + slot.due_ns;
            if due_ns > now || sends == SENDS_PER_TURN_MAX {
                return true;
            }
            self.slot += 1;
            let id = slot.vehicle as usize;
            if !self.traffic.presence.wanted[id] {
                continue;
            }
            if self.traffic.presence.states[id] != State::Live {
                self.hour.withheld += 1;
                continue;
            }
            let slots = self.ledger.slots();
            let fix = slots.fix(slot.vehicle, slot.sequence, epoch.wall_ms);
            let frame = self.frame.patch(&fix, &mut self.rng);
            let Some(at_once) = self
                .traffic
                .pool
                .send(id, frame, &mut self.traffic.presence)
            else {
                continue;
            };
            self.ledger.note(&slot);
            self.hour.inbound += 1;
            self.matches += self.traffic.presence.watchers(slot.vehicle);
            sends += 1;
            if sends % 32 == 0 {
                now = now_ns();
            }
            if at_once {
                self.late_us.saturating_record((now - due_ns) / 1_000);
            } else {
                self.blocked += 1;
            }
        }
        false
    }

    /// Ends the hours that are over, but for the last: it ends with what was sent in it.
    fn end_hours(&mut self, elapsed_ns: u64) {
        while self.hours.len() < HOURS && elapsed_ns >= self.day.at_ns(self.hours.len() as f64) {
            self.end_hour();
        }
    }

    fn end_hour(&mut self) {
        let late = pairs(&self.late_us);
        self.late_us.reset();
        let there = |state: &&State| **state != State::Away && **state != State::Connecting;
        let (vehicles, dashboards) = self
            .traffic
            .presence
            .states
            .split_at(self.traffic.presence.clients.vehicles.len());
        let checker = &mut self.traffic.presence.clients.checker;
        let delivered = checker.counts.delivered;
        self.hours.push(Hour {
            delivered: delivered - std::mem::replace(&mut self.delivered_before, delivered),
            vehicles: vehicles.iter().filter(there).count(),
            dashboards: dashboards.iter().filter(there).count(),
            phase: Phase {
                late,
                ..checker.end_phase()
            },
            ..std::mem::take(&mut self.hour)
        });
    }

    fn tell_progress(&mut self, epoch: Epoch, now: u64, cpu_before: u64) -> anyhow::Result<()> {
        let checker = &mut self.traffic.presence.clients.checker;
        let window = checker.end_window();
        // The checker's own begins anew with each hour.
        let mut recent = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        add_pairs(&mut recent, &window);
        tell(&Notice::Progress(Progress {
            elapsed: Duration::from_nanos(now.saturating_sub(epoch.start_ns)),
            inbound: self.ledger.sends(),
            matches: self.matches,
            counts: checker.counts,
            latency: Percentiles::of(&recent, recent.max() * 1_000),
            window,
            late_p99_us: self.late_us.value_at_quantile(0.99),
            cpu_us: own_cpu_us() - cpu_before,
            dashboards: Vec::new(),
        }))
    }

    /// Every vehicle that is there sends a ping: its pong says that the gateway has read all that was sent before it. How
    /// many pongs did not come, now or earlier in the day.
    fn confirm(&mut self) -> anyhow::Result<usize> {
        let vehicles = self.traffic.presence.clients.vehicles.len();
        let there: Vec<usize> = (0..vehicles)
            .filter(|&id| self.traffic.presence.states[id] == State::Live)
            .collect();
        let mut ping = Vec::new();
        frames::write(&mut ping, Opcode::Ping, b"end", [0; 4]);
        for &id in &there {
            self.traffic
                .pool
                .send(id, &ping, &mut self.traffic.presence);
        }
        let began = now_ns();
        while self.traffic.presence.clients.pongs < there.len() && now_ns() - began < CONFIRM_NS {
            self.traffic.pool.turn(TURN, &mut self.traffic.presence)?;
        }
        self.traffic.presence.clients.finish();
        let unanswered = self.traffic.presence.comings.unanswered as usize;
        Ok(there
            .len()
            .saturating_sub(self.traffic.presence.clients.pongs)
            + unanswered)
    }

    fn conclude(&mut self, done: Done, stranded: usize) -> anyhow::Result<Done> {
        let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        let mut late = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        let mut latency_max_ns = 0;
        // Without the midnight before the day.
        for Hour { phase, .. } in self.hours.iter().skip(1) {
            add_pairs(&mut latency, &phase.latency);
            add_pairs(&mut late, &phase.late);
            latency_max_ns = latency_max_ns.max(phase.latency_max_ns);
        }
        let in_outage = self.traffic.in_outage();
        let presence = &mut self.traffic.presence;
        let outage = Round {
            upgrade_us: pairs(&presence.upgrade_us),
            back_us: pairs(&presence.back_us),
            ..std::mem::take(&mut presence.outage)
        };
        let lived = Lived {
            hours: std::mem::take(&mut self.hours),
            comings: std::mem::take(&mut presence.comings),
            in_outage,
            outage,
            stranded,
        };
        let clients = &mut presence.clients;
        Ok(Done {
            counts: clients.checker.counts,
            sent: self.ledger.counts(),
            expected: Some(self.matches),
            latency: pairs(&latency),
            latency_max_ns,
            sample_every: clients.checker.sample_every(),
            late: pairs(&late),
            blocked: self.blocked,
            disconnected: clients.closed,
            closes: std::mem::take(&mut clients.closes),
            reasons: std::mem::take(&mut clients.reasons),
            errors: clients.errors,
            lived: Some(Box::new(lived)),
            ..done
        })
    }
}
