//! A generator process of `storm`: vehicles that all connect at once, and do so again when told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use hdrhistogram::Histogram;
use longhaul_codec::{MessageRef, decode};
use serde::{Deserialize, Serialize};

use super::backoff::{self, Backoff};
use crate::clock::now_ns;
use crate::connection::{Closed, Incoming};
use crate::handshake::{Handshake, Refusal};
use crate::job::{Job, Notice, Order, Ready, pairs, tell};
use crate::pool::{Handler, Pool};
use crate::token::{Mint, Role};

/// Connections that are opened before answers get their turn.
const OPENS_PER_TURN: usize = 256;
const TURN: Duration = Duration::from_millis(5);
const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(250),
    max: Duration::from_secs(8),
};
/// How long an attempt may take: more than the gateway gives an upgrade, and several retransmissions of a SYN.
const ATTEMPT_NS: u64 = 15_000_000_000;
const REASONS_MAX: usize = 6;

/// What one such process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StormTask {
    /// Number of its first vehicle, among all processes.
    pub first: u32,
    /// How many connections.
    pub connections: u32,
    /// How many connections others have before its first, for the choice of source addresses.
    pub offset: usize,
    /// For how long a round may go on.
    pub round: Duration,
    /// Seed of all waits.
    pub seed: u64,
}

/// What came of one round in one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// When the first began to connect (monotonic clock).
    pub began_ns: u64,
    /// When the last was connected, or the round was given up (monotonic clock).
    pub ended_ns: u64,
    /// Connections at the end.
    pub connected: usize,
    /// How often somebody tried to connect.
    pub attempts: u64,
    /// Attempts that were answered with 503.
    pub refused_503: u64,
    /// Attempts that were answered with another status.
    pub refused_other: u64,
    /// Attempts that ended otherwise.
    pub connect_errors: u64,
    /// Connections that had been welcomed and ended.
    pub lost: u64,
    /// From `connect` to 101, of attempts that succeeded, in microseconds: value and count.
    pub upgrade_us: Vec<(u64, u64)>,
    /// From the beginning of the round to `Welcome`, all attempts and waits included, in microseconds.
    pub back_us: Vec<(u64, u64)>,
    /// Why attempts failed, the first few.
    pub reasons: Vec<String>,
}

/// Runs a [`StormTask`] in this process: one round per [`Order::Start`].
///
/// # Errors
/// epoll failed, or the main process is gone.
pub fn run(job: &Job, task: &StormTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    let mint = Mint::from_file(&job.key)?;
    let tokens = (task.first..task.first + task.connections)
        .map(|number| mint.token(&format!("storm-{number:07}"), Role::Vehicle))
        .collect::<Result<Vec<_>, _>>()?;
    let handshake = Handshake::new(&job.host, &job.path);
    let mut pool = Pool::new(job.target, handshake, task.offset)?;
    pool.secure = job.secure()?;
    pool.reserve(tokens.len());
    let mut herd = Herd::new(tokens.len(), task.seed ^ u64::from(task.first))?;
    tell(&Notice::Ready(Ready::default()))?;
    loop {
        match orders.try_recv() {
            Ok(Order::Start(_)) => {
                let round = herd.round(&mut pool, &tokens, task.round)?;
                tell(&Notice::Round(Box::new(round)))?;
            }
            Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
            Ok(Order::Phase) | Err(TryRecvError::Empty) => {
                pool.turn(TURN, &mut herd)?;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Connecting,
    Welcomed,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    state: State,
    /// When the attempt began.
    since_ns: u64,
    /// In a row.
    failures: u32,
}

struct Herd {
    clients: Vec<Client>,
    /// Who tries again, and when.
    again: BinaryHeap<Reverse<(u64, usize)>>,
    welcomed: usize,
    upgrade_us: Histogram<u64>,
    back_us: Histogram<u64>,
    found: Round,
    rng: fastrand::Rng,
}

impl Herd {
    fn new(clients: usize, seed: u64) -> anyhow::Result<Self> {
        let client = Client {
            state: State::Waiting,
            since_ns: 0,
            failures: 0,
        };
        Ok(Self {
            clients: vec![client; clients],
            again: BinaryHeap::with_capacity(clients),
            welcomed: 0,
            upgrade_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            back_us: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            found: Round::default(),
            rng: fastrand::Rng::with_seed(seed),
        })
    }

    /// Drops everybody abruptly, and brings everybody back.
    fn round(
        &mut self,
        pool: &mut Pool,
        tokens: &[String],
        longest: Duration,
    ) -> anyhow::Result<Round> {
        let everybody = self.clients.len();
        for id in 0..everybody {
            pool.reset(id);
        }
        let began_ns = now_ns();
        self.begin(began_ns);
        let mut next_look_ns = began_ns + 1_000_000_000;
        let mut now = began_ns;
        while self.welcomed < everybody && now - began_ns < longest.as_nanos() as u64 {
            let mut opened = 0;
            while opened < OPENS_PER_TURN
                && let Some(&Reverse((due_ns, id))) = self.again.peek()
                && due_ns <= now
            {
                self.again.pop();
                opened += 1;
                self.found.attempts += 1;
                self.clients[id].state = State::Connecting;
                self.clients[id].since_ns = now_ns();
                pool.reopen(id, &tokens[id], self);
            }
            let timeout = if opened == 0 { TURN } else { Duration::ZERO };
            pool.turn(timeout, self)?;
            now = now_ns();
            if now >= next_look_ns {
                next_look_ns = now + 1_000_000_000;
                self.give_up_attempts(pool, now);
            }
        }
        Ok(self.end(now))
    }

    fn begin(&mut self, now: u64) {
        self.again.clear();
        self.welcomed = 0;
        self.upgrade_us.reset();
        self.back_us.reset();
        // What was lost between the rounds belongs to the next.
        let lost = self.found.lost;
        self.found = Round {
            began_ns: now,
            lost,
            ..Round::default()
        };
        for (id, client) in self.clients.iter_mut().enumerate() {
            client.state = State::Waiting;
            client.failures = 0;
            self.again.push(Reverse((now, id)));
        }
    }

    fn end(&mut self, now: u64) -> Round {
        let found = std::mem::take(&mut self.found);
        Round {
            ended_ns: now,
            connected: self.welcomed,
            upgrade_us: pairs(&self.upgrade_us),
            back_us: pairs(&self.back_us),
            ..found
        }
    }

    fn give_up_attempts(&mut self, pool: &mut Pool, now: u64) {
        for id in 0..self.clients.len() {
            let client = self.clients[id];
            if client.state == State::Connecting && now - client.since_ns > ATTEMPT_NS {
                pool.reset(id);
                self.failed(id, "no answer to the upgrade".to_owned());
            }
        }
    }

    /// An attempt failed that nothing more is known of.
    fn failed(&mut self, id: usize, reason: String) {
        self.found.connect_errors += 1;
        self.note(reason);
        self.clients[id].failures += 1;
        let wait = BACKOFF.wait(self.clients[id].failures, &mut self.rng);
        self.try_again(id, wait);
    }

    fn try_again(&mut self, id: usize, wait: Duration) {
        self.clients[id].state = State::Waiting;
        self.again
            .push(Reverse((now_ns() + wait.as_nanos() as u64, id)));
    }

    fn note(&mut self, reason: String) {
        let reasons = &mut self.found.reasons;
        if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
}

impl Handler for Herd {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, now_ns: u64, _reply: &mut Vec<u8>) {
        let client = &mut self.clients[id];
        match incoming {
            Incoming::Upgraded => {
                let us = now_ns.saturating_sub(client.since_ns) / 1_000;
                self.upgrade_us.saturating_record(us);
            }
            Incoming::Pong => {}
            Incoming::Message { message, .. } => match decode(message) {
                Ok(MessageRef::Welcome(_)) if client.state == State::Connecting => {
                    client.state = State::Welcomed;
                    client.failures = 0;
                    self.welcomed += 1;
                    let us = now_ns.saturating_sub(self.found.began_ns) / 1_000;
                    self.back_us.saturating_record(us);
                }
                Ok(MessageRef::Error(error)) => {
                    self.note(format!("{:?}: {}", error.code(), error.message()));
                }
                Ok(_) => {}
                Err(error) => self.note(format!("a message does not decode: {error}")),
            },
        }
    }

    fn closed(&mut self, id: usize, why: Closed) {
        if self.clients[id].state == State::Welcomed {
            self.welcomed -= 1;
            self.found.lost += 1;
            self.note(why.to_string());
            let wait = BACKOFF.wait(1, &mut self.rng);
            self.try_again(id, wait);
            return;
        }
        match why {
            Closed::Refused(Refusal::Status {
                status: 503,
                retry_after,
                ref reason,
            }) => {
                self.found.refused_503 += 1;
                self.note(format!("503: {reason}"));
                let wait = backoff::after(retry_after.unwrap_or(1), &mut self.rng);
                self.try_again(id, wait);
            }
            Closed::Refused(Refusal::Status { .. }) => {
                self.found.refused_other += 1;
                self.failed(id, why.to_string());
                // Counted already, as what it was.
                self.found.connect_errors -= 1;
            }
            other => self.failed(id, other.to_string()),
        }
    }
}
