//! A generator process of `events`: two dashboards that go home in the evening and come back in the morning. One has a
//! durable consumer's name; the other keeps the epoch and the number of the last event that it has dealt with.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use anyhow::bail;
use longhaul_codec::{
    AckKind, Encoder, EventAck, Message, MessageRef, ResumePoint, Subscribe, decode,
};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::publish::publisher_of;
use crate::clock::now_ns;
use crate::connection::{Closed, Incoming};
use crate::frames::{self, Opcode};
use crate::handshake::Handshake;
use crate::job::{Job, Notice, Order, Ready, tell};
use crate::pool::{Handler, Pool};
use crate::token::{Mint, Role};

/// How they are called in a report, in the order of their connections.
pub const NAMES: [&str; 2] = ["consumer", "resume"];
const TURN: Duration = Duration::from_millis(5);
/// How long nothing may come before the rest is given up.
const QUIET_NS: u64 = 15_000_000_000;
const REASONS_MAX: usize = 6;

/// What such a process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConsumeTask {
    /// Events of the evening: when both have them, they leave.
    pub evening: u64,
    /// Events from then on.
    pub night: u64,
    /// How many connections others have, for the choice of source addresses.
    pub offset: usize,
}

/// What one of them got in the morning.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Morning {
    /// All that came.
    pub journal: Journal,
    /// What had come in the evening.
    pub evening: Journal,
    /// When it asked for events (monotonic clock).
    pub asked_ns: u64,
    /// When the last distinct event came (monotonic clock).
    pub ended_ns: u64,
    /// Acknowledgements that it sent.
    pub acks: u64,
}

/// What they found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Consumed {
    /// In the order of [`NAMES`].
    pub mornings: Vec<Morning>,
    /// Ends of connections, errors, gaps, messages that make no sense.
    pub errors: u64,
    /// The first few.
    pub reasons: Vec<String>,
}

/// Watches in the evening, leaves, comes back when told, and tells what came.
///
/// # Errors
/// The main process is gone, or the evening fails.
pub fn run(job: &Job, task: &ConsumeTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    let handshake = Handshake::new(&job.host, &job.path);
    let mut pool = Pool::new(job.target, handshake, task.offset)?;
    pool.secure = job.secure()?;
    let mint = Mint::from_file(&job.key)?;
    let mut desks = Desks::default();
    desks.come(&mut pool, &mint)?;
    desks.until(&mut pool, |desk| desk.watches);
    if desks.found.errors > 0 || !desks.desks.iter().all(|desk| desk.watches) {
        bail!("watching events failed: {}", desks.found.reasons.join("; "));
    }
    tell(&Notice::Ready(Ready::default()))?;
    desks.until(&mut pool, |desk| {
        desk.morning.journal.events >= task.evening
    });
    desks.leave(&mut pool);
    tell(&Notice::Left)?;
    loop {
        match orders.try_recv() {
            Ok(Order::Start(_)) => break,
            Ok(Order::Phase) | Err(TryRecvError::Empty) => std::thread::sleep(TURN),
            Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
        }
    }
    desks.come(&mut pool, &mint)?;
    let all = task.evening + task.night;
    desks.until(&mut pool, |desk| {
        let Morning {
            journal, evening, ..
        } = &desk.morning;
        evening.events + journal.events >= all
    });
    desks.leave(&mut pool);
    let mut found = desks.found;
    found.mornings = desks.desks.into_iter().map(|desk| desk.morning).collect();
    tell(&Notice::Consumed(Box::new(found)))
}

#[derive(Default)]
struct Desk {
    watches: bool,
    gone: bool,
    epoch: u64,
    window: usize,
    /// Events since the last acknowledgement.
    owed: usize,
    names: HashMap<u32, u32>,
    morning: Morning,
}

#[derive(Default)]
struct Desks {
    desks: Vec<Desk>,
    encoder: Encoder,
    /// Ends are no fault now.
    leaving: bool,
    found: Consumed,
}

impl Desks {
    /// Connects both. What they had dealt with before is where they begin; a journal begins anew.
    fn come(&mut self, pool: &mut Pool, mint: &Mint) -> anyhow::Result<()> {
        self.leaving = false;
        let before = std::mem::take(&mut self.desks);
        let mut before = before.into_iter();
        pool.reserve(NAMES.len());
        for (id, name) in NAMES.iter().enumerate() {
            let (epoch, evening) = before
                .next()
                .map_or((0, None), |desk| (desk.epoch, Some(desk.morning.journal)));
            let last = evening.as_ref().map(|evening| evening.sequence);
            self.desks.push(Desk {
                epoch,
                morning: Morning {
                    journal: Journal::behind(last),
                    evening: evening.unwrap_or_default(),
                    ..Morning::default()
                },
                ..Desk::default()
            });
            pool.reopen(id, &mint.token(name, Role::Dashboard)?, self);
        }
        Ok(())
    }

    /// Takes what comes, and acknowledges it, until `done` holds for both or nothing comes any more.
    fn until(&mut self, pool: &mut Pool, done: impl Fn(&Desk) -> bool) {
        let mut moved = now_ns();
        let mut seen = 0;
        while !self.desks.iter().all(|desk| done(desk) || desk.gone) {
            if pool.turn(TURN, self).is_err() || now_ns() - moved > QUIET_NS {
                self.complain("nothing comes any more".to_owned());
                return;
            }
            for id in 0..self.desks.len() {
                // Half a window keeps the other half on its way.
                self.acknowledge(pool, id, self.desks[id].window / 2);
            }
            let events = self
                .desks
                .iter()
                .map(|desk| desk.morning.journal.events)
                .sum();
            if events != std::mem::replace(&mut seen, events) {
                moved = now_ns();
            } else {
                for id in 0..self.desks.len() {
                    self.acknowledge(pool, id, 0);
                }
            }
        }
    }

    fn acknowledge(&mut self, pool: &mut Pool, id: usize, above: usize) {
        let desk = &mut self.desks[id];
        if desk.owed <= above {
            return;
        }
        desk.owed = 0;
        desk.morning.acks += 1;
        let (epoch, sequence) = (desk.epoch, desk.morning.journal.sequence);
        self.send(pool, id, &EventAck { epoch, sequence }.into());
    }

    fn send(&mut self, pool: &mut Pool, id: usize, message: &Message) {
        let mut frame = Vec::new();
        let encoded = self.encoder.message(message);
        frames::write(&mut frame, Opcode::Binary, encoded.payload(), [0; 4]);
        pool.send(id, &frame, self);
    }

    /// Both acknowledge what they have, and say good-bye.
    fn leave(&mut self, pool: &mut Pool) {
        self.leaving = true;
        let mut close = Vec::new();
        frames::write(&mut close, Opcode::Close, &1_000_u16.to_be_bytes(), [0; 4]);
        for id in 0..self.desks.len() {
            self.acknowledge(pool, id, 0);
            pool.send(id, &close, self);
        }
        let began = now_ns();
        while self.desks.iter().any(|desk| !desk.gone) && now_ns() - began < QUIET_NS {
            if pool.turn(TURN, self).is_err() {
                return;
            }
        }
    }

    fn complain(&mut self, reason: String) {
        self.found.errors += 1;
        let reasons = &mut self.found.reasons;
        if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }

    fn message(&mut self, id: usize, message: MessageRef<'_>, now: u64, reply: &mut Vec<u8>) {
        let desk = &mut self.desks[id];
        match message {
            MessageRef::Event(event) => {
                let Some(&vehicle) = desk.names.get(&event.vehicle()) else {
                    return self.complain("an event of a vehicle without a name".to_owned());
                };
                let morning = &mut desk.morning;
                let before = morning.journal.events;
                let (message_id, sequence) = (event.message_id(), event.sequence());
                morning
                    .journal
                    .take(vehicle, message_id, sequence, event.redelivered());
                desk.owed += 1;
                if morning.journal.events > before {
                    morning.ended_ns = now;
                }
            }
            MessageRef::Names(names) => {
                let publishers = names.vehicles().iter().zip(names.ids().iter());
                desk.names
                    .extend(publishers.filter_map(|(index, id)| Some((index, publisher_of(id)?))));
            }
            MessageRef::Welcome(welcome) => {
                let resume = (desk.epoch != 0 && id == 1).then_some(ResumePoint {
                    epoch: desk.epoch,
                    sequence: desk.morning.journal.sequence,
                });
                desk.epoch = welcome.epoch();
                desk.window = welcome.event_window() as usize;
                desk.morning.asked_ns = now;
                let wanted = Subscribe {
                    request: 1,
                    whole_fleet: true,
                    topics: vec!["events".to_owned()],
                    qos: 1,
                    consumer: (id == 0).then(|| "night".to_owned()),
                    resume,
                    ..Subscribe::default()
                };
                let encoded = self.encoder.message(&wanted.into());
                frames::write(reply, Opcode::Binary, encoded.payload(), [0; 4]);
            }
            MessageRef::Ack(ack) if ack.kind() == AckKind::Subscribe.into() => desk.watches = true,
            MessageRef::Error(error) => {
                let (code, says) = (error.code(), error.message().to_owned());
                self.complain(format!("{code:?}: {says}"));
            }
            MessageRef::Ack(_) | MessageRef::Drain(_) => {}
            other => self.complain(format!("an unexpected message: {other:?}")),
        }
    }
}

impl Handler for Desks {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, now_ns: u64, reply: &mut Vec<u8>) {
        if let Incoming::Message { message, .. } = incoming {
            match decode(message) {
                Ok(message) => self.message(id, message, now_ns, reply),
                Err(error) => self.complain(format!("a message does not decode: {error}")),
            }
        }
    }

    fn closed(&mut self, id: usize, why: Closed) {
        self.desks[id].gone = true;
        if !self.leaving {
            self.complain(why.to_string());
        }
    }
}
