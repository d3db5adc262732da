//! The generator process of `churn`: a crowd of clients, each of which lives its own random life.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use longhaul_codec::{Encoder, Fix, Message, Subscribe, Unsubscribe};
use serde::{Deserialize, Serialize};

use super::hearing::{Away, Hearing, State};
use super::life::{Act, Life};
use crate::clock::{now_ns, wall_ms};
use crate::frames::{self, Opcode};
use crate::handshake::Handshake;
use crate::job::{Job, Notice, Order, tell};
use crate::pool::Pool;
use crate::position::PositionFrame;
use crate::token::{Mint, Role};

const TURN: Duration = Duration::from_millis(5);
/// How long an answer may take that ends a connection, or an upgrade.
const PATIENCE: Duration = Duration::from_secs(6);

/// What this process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChurnTask {
    /// Vehicles.
    pub vehicles: u32,
    /// Dashboards.
    pub dashboards: u32,
    /// For how long.
    pub time: Duration,
    /// Seed of all lives.
    pub seed: u64,
}

impl ChurnTask {
    /// Ids that dashboards ask for: all vehicles, and some that never connect.
    pub fn ids(&self) -> u32 {
        self.vehicles + self.vehicles / 10 + 1
    }

    /// Connections at most: vehicles, dashboards, and a twin of each vehicle.
    pub fn connections(&self) -> usize {
        2 * self.vehicles as usize + self.dashboards as usize
    }
}

/// Runs a [`ChurnTask`] in this process.
///
/// # Errors
/// epoll failed, or the main process is gone.
pub fn run(job: &Job, task: &ChurnTask, orders: &Receiver<Order>) -> anyhow::Result<()> {
    let mut crowd = Crowd::new(job, task)?;
    let end_ns = now_ns() + task.time.as_nanos() as u64;
    while now_ns() < end_ns && matches!(orders.try_recv(), Err(TryRecvError::Empty)) {
        crowd.turn()?;
    }
    crowd.leave()?;
    tell(&Notice::Churned(Box::new(crowd.hearing.tally)))
}

/// Ids: vehicles, then dashboards, then the vehicles' twins.
struct Crowd<'a> {
    task: &'a ChurnTask,
    pool: Pool,
    hearing: Hearing,
    lives: Vec<Life>,
    tokens: Vec<String>,
    /// Until when a client waits for the gateway, if it does.
    patience_ns: Vec<u64>,
    /// Per vehicle: whether its twin is about, and so among those who are due.
    twins: Vec<bool>,
    /// Each client's next event.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    position: PositionFrame,
    encoder: Encoder,
    frame: Vec<u8>,
    requests: u64,
    rng: fastrand::Rng,
}

impl<'a> Crowd<'a> {
    fn new(job: &Job, task: &'a ChurnTask) -> anyhow::Result<Self> {
        let mint = Mint::from_file(&job.key)?;
        let (vehicles, dashboards) = (task.vehicles as usize, task.dashboards as usize);
        let mut tokens = Vec::with_capacity(vehicles + dashboards);
        for vehicle in 0..task.vehicles {
            tokens.push(mint.token(&churn_id(vehicle), Role::Vehicle)?);
        }
        for dashboard in 0..dashboards {
            tokens.push(mint.token(&format!("dashboard-{dashboard}"), Role::Dashboard)?);
        }
        let clients = task.connections();
        let mut pool = Pool::new(job.target, Handshake::new(&job.host, &job.path), 0)?;
        pool.secure = job.secure()?;
        pool.reserve(clients);
        let mut lives: Vec<Life> = (0..clients)
            .map(|id| Life::new(task.seed, id, id < vehicles || id >= tokens.len()))
            .collect();
        let now = now_ns();
        let due = lives[..tokens.len()]
            .iter_mut()
            .zip(0..)
            .map(|(life, id)| Reverse((now + nanos(life.away()), id)))
            .collect();
        Ok(Self {
            task,
            pool,
            hearing: Hearing::new(clients, vehicles..tokens.len()),
            lives,
            tokens,
            patience_ns: vec![0; clients],
            twins: vec![false; vehicles],
            due,
            position: PositionFrame::new(false)?,
            encoder: Encoder::new(),
            frame: Vec::new(),
            requests: 0,
            rng: fastrand::Rng::with_seed(task.seed),
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        let now = now_ns();
        while let Some(&Reverse((due_ns, id))) = self.due.peek()
            && due_ns <= now
        {
            self.due.pop();
            if let Some(wait) = self.event(id) {
                self.due.push(Reverse((now + nanos(wait), id)));
            }
        }
        self.pool.turn(TURN, &mut self.hearing)?;
        Ok(())
    }

    /// Client `id` does something; when its next event is. `None`: a twin that is gone.
    fn event(&mut self, id: usize) -> Option<Duration> {
        match self.hearing.states[id] {
            State::Away(away) => self.come(id, away),
            State::Connecting { impatient: true } => Some(self.drop_abruptly(id)),
            State::Connecting { .. } => Some(self.wait(id, "upgrade_unanswered")),
            State::Live => self.act(id),
            State::Stalled => {
                self.pool.attach(id, &mut self.hearing);
                // The gateway may have ended it meanwhile; that is read like everything else.
                if self.hearing.states[id] == State::Stalled {
                    self.hearing.states[id] = State::Live;
                }
                Some(self.lives[id].between_acts())
            }
            State::Ending => Some(self.wait(id, "end_unanswered")),
        }
    }

    /// Waits on for the gateway, or no longer.
    fn wait(&mut self, id: usize, unanswered: &str) -> Duration {
        if now_ns() < self.patience_ns[id] {
            return self.lives[id].between_acts();
        }
        self.hearing.tally.odd(unanswered);
        self.drop_abruptly(id)
    }

    /// A client that is away comes back, when it may. Twins come when their vehicle says so, and no other time.
    fn come(&mut self, id: usize, away: Away) -> Option<Duration> {
        if id >= self.tokens.len() {
            self.twins[id - self.tokens.len()] = false;
            return None;
        }
        let wait = match away {
            Away::Freely => return Some(self.connect(id)),
            Away::TakenOver => self.lives[id].away_after_takeover(),
            Away::RetryAfter(seconds) => {
                Duration::from_secs(seconds.into()) + self.lives[id].away()
            }
        };
        self.hearing.states[id] = State::Away(Away::Freely);
        Some(wait)
    }

    fn connect(&mut self, id: usize) -> Duration {
        let token = &self.tokens[id.checked_sub(self.tokens.len()).unwrap_or(id)];
        let impatience = self.lives[id].impatience();
        self.hearing.connecting(id, impatience.is_some());
        self.pool.reopen(id, token, &mut self.hearing);
        self.patience_ns[id] = now_ns() + nanos(PATIENCE);
        impatience.unwrap_or_else(|| self.lives[id].between_acts())
    }

    fn act(&mut self, id: usize) -> Option<Duration> {
        let act = self.lives[id].act();
        self.perform(id, act)
    }

    fn perform(&mut self, id: usize, act: Act) -> Option<Duration> {
        self.hearing.tally.act(act);
        self.frame.clear();
        match act {
            Act::Report => self.report(id),
            Act::Subscribe | Act::WatchFleet => self.subscribe(id, act == Act::WatchFleet),
            Act::Unsubscribe => self.unsubscribe(id),
            Act::Rubbish => {
                let bytes = self.lives[id].rubbish();
                frames::write(&mut self.frame, Opcode::Binary, &bytes, [0; 4]);
            }
            Act::Violation => {
                let bytes = self.lives[id].violation();
                return Some(self.end(id, bytes));
            }
            Act::Farewell => {
                frames::write(
                    &mut self.frame,
                    Opcode::Close,
                    &1_000_u16.to_be_bytes(),
                    [0; 4],
                );
                let frame = std::mem::take(&mut self.frame);
                let wait = self.end(id, &frame);
                self.frame = frame;
                return Some(wait);
            }
            Act::Stall => {
                self.pool.detach(id);
                self.hearing.states[id] = State::Stalled;
                return Some(self.lives[id].stall());
            }
            Act::Reset => return Some(self.drop_abruptly(id)),
            Act::HangUp => {
                self.pool.hang_up(id);
                self.hearing.left(id);
                return Some(self.lives[id].away());
            }
            Act::Twin => self.twin(id),
        }
        if !self.frame.is_empty() {
            self.pool.send(id, &self.frame, &mut self.hearing);
        }
        Some(self.lives[id].between_acts())
    }

    /// Sends what makes the gateway end the connection.
    fn end(&mut self, id: usize, bytes: &[u8]) -> Duration {
        self.hearing.states[id] = State::Ending;
        self.patience_ns[id] = now_ns() + nanos(PATIENCE);
        self.pool.send(id, bytes, &mut self.hearing);
        self.lives[id].between_acts()
    }

    fn drop_abruptly(&mut self, id: usize) -> Duration {
        self.pool.reset(id);
        self.hearing.left(id);
        self.lives[id].away()
    }

    fn report(&mut self, id: usize) {
        let (lat_e7, lon_e7) = self.lives[id].place();
        let fix = Fix {
            time_ms: wall_ms(),
            lat_e7,
            lon_e7,
            speed_cm_s: 1_111,
            heading_cdeg: 9_000,
            ..Fix::default()
        };
        let frame = self.position.patch(&fix, &mut self.rng);
        self.frame.extend_from_slice(frame);
    }

    fn subscribe(&mut self, id: usize, whole_fleet: bool) {
        let wish = self.lives[id].wish(self.task.ids());
        self.requests += 1;
        let message = Subscribe {
            request: self.requests,
            mode: wish.mode,
            whole_fleet,
            vehicles: if whole_fleet {
                Vec::new()
            } else {
                wish.vehicles.into_iter().map(churn_id).collect()
            },
            min_interval_ms: wish.min_interval_ms,
            ..Subscribe::default()
        };
        let encoded = self.encoder.message(&Message::Subscribe(message));
        frames::write(&mut self.frame, Opcode::Binary, encoded.payload(), [0; 4]);
    }

    fn unsubscribe(&mut self, id: usize) {
        let wish = self.lives[id].wish(self.task.ids());
        self.requests += 1;
        let message = Unsubscribe {
            request: self.requests,
            everything: wish.vehicles.len() > 40,
            whole_fleet: wish.vehicles.len() < 20,
            vehicles: wish.vehicles.into_iter().map(churn_id).collect(),
            ..Unsubscribe::default()
        };
        let encoded = self.encoder.message(&Message::Unsubscribe(message));
        frames::write(&mut self.frame, Opcode::Binary, encoded.payload(), [0; 4]);
    }

    /// The twin of vehicle `id` connects, if it is not about already; a twin has no twin.
    fn twin(&mut self, id: usize) {
        if id < self.twins.len() && !self.twins[id] {
            self.twins[id] = true;
            let twin = self.tokens.len() + id;
            let wait = self.connect(twin);
            self.due.push(Reverse((now_ns() + nanos(wait), twin)));
        }
    }

    /// Everybody leaves, each in its own way, and those who leave politely wait for the answer.
    fn leave(&mut self) -> anyhow::Result<()> {
        for id in 0..self.lives.len() {
            match self.hearing.states[id] {
                State::Live => {
                    let act = self.lives[id].leave();
                    self.perform(id, act);
                }
                State::Ending | State::Away(_) => {}
                State::Connecting { .. } | State::Stalled => {
                    self.drop_abruptly(id);
                }
            }
        }
        let until_ns = now_ns() + nanos(PATIENCE);
        while self.hearing.states.contains(&State::Ending) && now_ns() < until_ns {
            self.pool.turn(TURN, &mut self.hearing)?;
        }
        for id in 0..self.lives.len() {
            if self.hearing.states[id] == State::Ending {
                self.hearing.tally.odd("end_unanswered");
                self.drop_abruptly(id);
            }
        }
        Ok(())
    }
}

/// Ids of vehicles, those that never connect included.
fn churn_id(vehicle: u32) -> String {
    format!("churn-{vehicle:06}")
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
