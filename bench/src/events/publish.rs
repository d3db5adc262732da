//! A generator process of `events`: vehicles that publish with QoS 1, as fast as their window lets them or when it is
//! due, and that wait for every Ack.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use anyhow::bail;
use hdrhistogram::Histogram;
use longhaul_codec::{AckKind, ErrorCode, MessageRef, decode};
use serde::{Deserialize, Serialize};

use super::course::{Course, Pace};
use super::frame::EventFrame;
use super::outbox::Outbox;
use crate::clock::{now_ns, wall_ms};
use crate::connection::{Closed, Incoming};
use crate::handshake::Handshake;
use crate::job::{Job, Notice, Order, Ready, pairs, tell};
use crate::pool::{Handler, OPENING_MAX, Pool};
use crate::token::{Mint, Role};
use crate::usage;

const TURN: Duration = Duration::from_millis(20);
/// How long nothing may happen while connecting, or while Acks are missing.
const QUIET_NS: u64 = 15_000_000_000;
const REASONS_MAX: usize = 6;

/// What one such process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublishTask {
    /// Vehicles of all processes.
    pub vehicles: u32,
    /// How fast.
    pub pace: Pace,
    /// Of each event.
    pub payload_bytes: usize,
    /// How many connections others have, for the choice of source addresses.
    pub offset: usize,
    /// Shortest time between two turns of the loop.
    pub turn: Duration,
    /// Another load's latency is measured meanwhile, which this one is not to make late.
    pub beside: bool,
}

/// What came of it in one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Published {
    /// When the first was due (monotonic clock).
    pub began_ns: u64,
    /// When the last Ack came (monotonic clock).
    pub ended_ns: u64,
    /// Events that were acknowledged.
    pub acked: u64,
    /// Events that were sent, or should have been, and were not acknowledged.
    pub missing: u64,
    /// Refusals that ask for another try.
    pub refused: u64,
    /// From due (closed loop: sent) to the Ack, in microseconds: value and count.
    pub latency: Vec<(u64, u64)>,
    /// The longest.
    pub latency_max_ns: u64,
    /// From due to sent, in microseconds: value and count. Closed loop: none.
    pub late: Vec<(u64, u64)>,
    /// By vehicle: its first message id, and how many were acknowledged.
    pub vehicles: BTreeMap<u32, (u64, u64)>,
    /// Connections that ended, and messages that make no sense.
    pub errors: u64,
    /// The first few of them, and of refusals.
    pub reasons: Vec<String>,
    /// User and system time of this process meanwhile.
    pub cpu_us: u64,
}

/// Id under which a publishing vehicle connects: another name than those that report positions have.
pub fn publisher_id(vehicle: u32) -> String {
    format!("e{:07}", vehicle + 1)
}

/// The vehicle with this id.
pub fn publisher_of(id: &str) -> Option<u32> {
    let number: u32 = id.strip_prefix('e')?.parse().ok()?;
    number.checked_sub(1)
}

/// Connects, publishes when told, and tells what came of it.
///
/// # Errors
/// The main process is gone, or not everybody is connected.
pub fn run(job: &Job, task: &PublishTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    let vehicles: Vec<u32> = (0..task.vehicles)
        .skip(job.process)
        .step_by(job.processes)
        .collect();
    let offset = task.offset + job.process * vehicles.len();
    let handshake = Handshake::new(&job.host, &job.path);
    let mut pool = Pool::new(job.target, handshake, offset)?;
    pool.secure = job.secure()?;
    let mut fleet = Fleet::new(vehicles);
    fleet.connect(&mut pool, &Mint::from_file(&job.key)?)?;
    loop {
        match orders.try_recv() {
            Ok(Order::Start(epoch)) => {
                let vehicles = fleet.vehicles.clone();
                let course = Course::new(task.pace, epoch.start_ns, task.vehicles, vehicles)?;
                fleet.found.began_ns = epoch.start_ns;
                let found = fleet.publish(&mut pool, task, course, orders)?;
                return tell(&Notice::Published(Box::new(found)));
            }
            Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
            Ok(Order::Phase) | Err(TryRecvError::Empty) => {
                pool.turn(Duration::from_millis(5), &mut fleet)?;
            }
        }
    }
}

struct Fleet {
    vehicles: Vec<u32>,
    outboxes: Vec<Outbox>,
    /// Those that may have something to send.
    stirred: Vec<usize>,
    /// Every vehicle's ids begin behind this: ids grow for ever, and nobody has kept a counter.
    before_first: u64,
    welcomed: usize,
    /// Acks that are not counted yet: whose, event, when it was sent, when the Ack came.
    acks: Vec<(usize, u32, u64, u64)>,
    closed: usize,
    found: Published,
}

impl Fleet {
    fn new(vehicles: Vec<u32>) -> Self {
        Self {
            outboxes: vec![Outbox::default(); vehicles.len()],
            stirred: Vec::new(),
            before_first: wall_ms() * 1_000,
            welcomed: 0,
            acks: Vec::new(),
            closed: 0,
            found: Published::default(),
            vehicles,
        }
    }

    fn connect(&mut self, pool: &mut Pool, mint: &Mint) -> anyhow::Result<()> {
        let of = self.vehicles.len();
        let (began, mut moved, mut opened) = (now_ns(), now_ns(), 0);
        while self.welcomed < of {
            let before = self.welcomed;
            while opened < of && opened - self.welcomed < OPENING_MAX {
                let token = mint.token(&publisher_id(self.vehicles[opened]), Role::Vehicle)?;
                pool.open(&token, self);
                opened += 1;
            }
            pool.turn(TURN, self)?;
            if self.welcomed > before {
                moved = now_ns();
            }
            if self.found.errors > 0 || now_ns() - moved > QUIET_NS {
                let reasons = self.found.reasons.join("; ");
                bail!(
                    "{} of {of} vehicles are connected: {reasons}",
                    self.welcomed
                );
            }
        }
        tell(&Notice::Ready(Ready {
            connected: of,
            seconds: (now_ns() - began) as f64 / 1e9,
            ..Ready::default()
        }))
    }

    fn publish(
        &mut self,
        pool: &mut Pool,
        task: &PublishTask,
        mut course: Course,
        orders: &Receiver<Order>,
    ) -> anyhow::Result<Published> {
        let mut frame = EventFrame::new(task.payload_bytes, wall_ms())?;
        let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let mut late = latency.clone();
        let cpu_before = usage::own_cpu_us();
        let mut moved = self.found.began_ns;
        let mut out = Vec::new();
        loop {
            let turn = now_ns();
            course.advance(turn, &mut self.outboxes, &mut self.stirred);
            for id in std::mem::take(&mut self.stirred) {
                out.clear();
                while let Some(event) = self.outboxes[id].send(turn) {
                    frame.write(self.before_first + u64::from(event), &mut out);
                    if let Some(due_ns) = course.due_ns(id, event) {
                        late.saturating_record(turn.saturating_sub(due_ns) / 1_000);
                    }
                }
                if !out.is_empty() {
                    pool.send(id, &out, self);
                }
                if self.outboxes[id].is_held() {
                    self.stirred.push(id);
                }
            }
            pool.turn(Duration::ZERO, self)?;
            for (id, event, sent_ns, acked_ns) in std::mem::take(&mut self.acks) {
                let since_ns = course.due_ns(id, event).unwrap_or(sent_ns);
                let took_ns = acked_ns.saturating_sub(since_ns);
                latency.saturating_record(took_ns / 1_000);
                self.found.latency_max_ns = self.found.latency_max_ns.max(took_ns);
                self.found.acked += 1;
                self.found.ended_ns = acked_ns;
                moved = acked_ns;
            }
            match orders.try_recv() {
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => course.end(&mut self.outboxes),
                _ => {}
            }
            let done = course.over && self.outboxes.iter().all(Outbox::is_done);
            if done || turn.saturating_sub(moved) > QUIET_NS || self.closed == self.vehicles.len() {
                break;
            }
            let spent = Duration::from_nanos(now_ns() - turn);
            std::thread::sleep(task.turn.saturating_sub(spent));
        }
        for (outbox, &vehicle) in self.outboxes.iter().zip(&self.vehicles) {
            let acked = u64::from(outbox.acked);
            self.found.missing += u64::from(outbox.due).saturating_sub(acked);
            if acked > 0 {
                let first = self.before_first + 1;
                self.found.vehicles.insert(vehicle, (first, acked));
            }
        }
        self.found.latency = pairs(&latency);
        self.found.late = pairs(&late);
        self.found.cpu_us = usage::own_cpu_us() - cpu_before;
        Ok(std::mem::take(&mut self.found))
    }

    fn note(&mut self, reason: String) {
        let reasons = &mut self.found.reasons;
        if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    fn complain(&mut self, reason: String) {
        self.found.errors += 1;
        self.note(reason);
    }

    fn message(&mut self, id: usize, message: MessageRef<'_>, now: u64) {
        let event = |message_id: u64| message_id.saturating_sub(self.before_first) as u32;
        match message {
            MessageRef::Ack(ack) if ack.kind() == AckKind::Event.into() => {
                let event = event(ack.id());
                match self.outboxes[id].ack(event) {
                    Some(sent_ns) => self.acks.push((id, event, sent_ns, now)),
                    None => self.complain(format!("an Ack of {event} that was not its turn")),
                }
                self.stirred.push(id);
            }
            MessageRef::Error(error) => {
                let (code, says) = (error.code(), error.message().to_owned());
                let again =
                    code == ErrorCode::NotDurable.into() || code == ErrorCode::LimitReached.into();
                let event = event(error.id());
                if again && self.outboxes[id].refused(event, now) {
                    self.found.refused += 1;
                    self.stirred.push(id);
                    self.note(format!("refused: {says}"));
                } else {
                    self.complain(format!("{code:?}: {says}"));
                }
            }
            MessageRef::Welcome(welcome) => {
                self.welcomed += 1;
                self.outboxes[id].window = welcome.event_window() as usize;
                if welcome.epoch() == 0 {
                    self.complain("the gateway has no event log".to_owned());
                }
            }
            MessageRef::Drain(_) => {}
            other => self.complain(format!("an unexpected message: {other:?}")),
        }
    }
}

impl Handler for Fleet {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, now_ns: u64, _reply: &mut Vec<u8>) {
        if let Incoming::Message { message, .. } = incoming {
            match decode(message) {
                Ok(message) => self.message(id, message, now_ns),
                Err(error) => self.complain(format!("a message does not decode: {error}")),
            }
        }
    }

    fn closed(&mut self, _id: usize, why: Closed) {
        self.closed += 1;
        self.complain(why.to_string());
    }
}
