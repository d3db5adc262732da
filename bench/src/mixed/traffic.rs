//! The comings and goings of a day, on connections: who connects, who says good-bye, and whose connection is cut.

use std::cmp::Reverse;
use std::time::Duration;

use anyhow::bail;

use super::day::{Day, Entry, Move};
use super::ledger::Ledger;
use super::presence::{Presence, State};
use crate::clients::Clients;
use crate::clock::now_ns;
use crate::frames::{self, Opcode};
use crate::handshake::Handshake;
use crate::job::{Job, LoadTask, Notice, Ready, tell};
use crate::load::SETUP_NS;
use crate::pool::Pool;
use crate::schedule::Plan;
use crate::token::{Mint, Role};

/// How long the loop may sleep where nothing is due.
pub const TURN: Duration = Duration::from_millis(5);
/// Connections that are opened before answers get their turn.
const OPENS_PER_TURN: usize = 128;
/// How often those are looked at that wait for something.
const LOOK_NS: u64 = 20_000_000;
/// How long a good-bye, or a last ping, may go without an answer, and a dashboard that leaves without what it is owed.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How long an attempt to connect may take: more than the gateway gives an upgrade.
const ATTEMPT_NS: u64 = 15_000_000_000;

/// See the module.
pub struct Traffic<'a> {
    /// Where everybody is.
    pub presence: Presence<'a>,
    /// Their connections.
    pub pool: Pool,
    tokens: Vec<String>,
    agenda: Vec<Entry>,
    /// How much of the agenda is done.
    happened: usize,
    /// Per dashboard that leaves: what it was owed.
    leaving: Vec<u64>,
    /// Vehicles that are to leave as soon as they are back from the outage.
    late: Vec<usize>,
    looked_ns: u64,
}

impl<'a> Traffic<'a> {
    /// Nobody is connected.
    ///
    /// # Errors
    /// The token secret cannot be read, or no epoll instance can be had.
    pub fn new(
        job: &Job,
        task: &'a LoadTask,
        day: &Day,
        ledger: &'a Ledger,
        sample_every: u32,
    ) -> anyhow::Result<Self> {
        let clients = Clients::new(ledger, &task.audience, &task.share, 0, 1, sample_every)?;
        let mint = Mint::from_file(&job.key)?;
        let mut tokens = Vec::new();
        for &vehicle in &clients.vehicles {
            tokens.push(mint.token(&ledger.id(vehicle), Role::Vehicle)?);
        }
        for dashboard in &clients.dashboards {
            tokens.push(mint.token(&format!("dashboard-{dashboard}"), Role::Dashboard)?);
        }
        let mut pool = Pool::new(job.target, Handshake::new(&job.host, &job.path), 0)?;
        pool.secure = job.secure()?;
        pool.reserve(tokens.len());
        Ok(Self {
            leaving: vec![0; clients.dashboards.len()],
            presence: Presence::new(clients, &task.audience, ledger)?,
            pool,
            tokens,
            agenda: day.agenda(),
            happened: 0,
            late: Vec::new(),
            looked_ns: 0,
        })
    }

    /// Vehicles that the outage is to drop.
    pub fn in_outage(&self) -> usize {
        let back = self.agenda.iter().filter(|entry| entry.what == Move::Back);
        back.count()
    }

    /// Connects those who are there at midnight.
    ///
    /// # Errors
    /// Not all of them can be, or the main process is gone.
    pub fn connect(&mut self) -> anyhow::Result<()> {
        let began = now_ns();
        let (mut told, mut moved) = (began, began);
        self.happen(0);
        let of = self
            .presence
            .wanted
            .iter()
            .filter(|wanted| **wanted)
            .count();
        while self.presence.live < of {
            let before = self.presence.live;
            self.attend(TURN)?;
            let now = now_ns();
            if self.presence.live > before {
                moved = now;
            }
            let ready = self.presence.live;
            let clients = &self.presence.clients;
            if clients.closed > 0 || clients.errors > 0 {
                bail!("connecting failed: {}", clients.reasons.join("; "));
            }
            if now - moved > SETUP_NS {
                let reasons = self.presence.comings.reasons.join("; ");
                bail!(
                    "{ready} of {of} connections are ready and nothing happens any more: {reasons}"
                );
            }
            if now - told > 250_000_000 {
                told = now;
                tell(&Notice::Connecting { ready, of })?;
            }
        }
        tell(&Notice::Ready(Ready {
            connected: of,
            seconds: (now_ns() - began) as f64 / 1e9,
            ..Ready::default()
        }))
    }

    /// Everything but the day itself: connects who is to connect, reads what came, and lets go who has waited.
    ///
    /// # Errors
    /// epoll failed.
    pub fn attend(&mut self, timeout: Duration) -> std::io::Result<()> {
        let now = now_ns();
        let mut opened = 0;
        while opened < OPENS_PER_TURN
            && let Some(&Reverse((due_ns, id))) = self.presence.again.peek()
            && due_ns <= now
        {
            self.presence.again.pop();
            if !self.presence.wanted[id] || self.presence.states[id] != State::Away {
                continue;
            }
            opened += 1;
            self.presence.outage.attempts += u64::from(self.presence.returning[id]);
            self.presence.enter(id, State::Connecting);
            self.pool.reopen(id, &self.tokens[id], &mut self.presence);
        }
        let timeout = if opened == 0 { timeout } else { Duration::ZERO };
        self.pool.turn(timeout, &mut self.presence)?;
        for id in std::mem::take(&mut self.presence.confirmed) {
            if self.presence.states[id] == State::Confirming {
                self.pool.reset(id);
                self.presence.gone(id);
            }
        }
        if now.saturating_sub(self.looked_ns) > LOOK_NS {
            self.looked_ns = now;
            for id in 0..self.tokens.len() {
                self.look_after(id, now);
            }
            for id in std::mem::take(&mut self.late) {
                self.leave(id, Move::Leave);
            }
        }
        Ok(())
    }

    fn look_after(&mut self, id: usize, now: u64) {
        let waited_ns = now.saturating_sub(self.presence.since_ns[id]);
        match self.presence.states[id] {
            State::Connecting if waited_ns > ATTEMPT_NS => {
                self.pool.reset(id);
                let reason = "no answer to the upgrade".to_owned();
                self.presence.failed(id, reason, None);
            }
            State::Closing | State::Confirming if waited_ns > PATIENCE_NS => {
                self.pool.reset(id);
                self.presence.comings.unanswered += 1;
                self.presence.gone(id);
            }
            State::Lingering => {
                let Some(at) = self.presence.dashboard(id) else {
                    return;
                };
                let accounted = self.presence.clients.checker.accounted[at];
                // Without what it is owed it leaves all the same: that is lost then.
                if accounted >= self.leaving[at] || waited_ns > PATIENCE_NS {
                    self.say(id, Opcode::Close, &1_000_u16.to_be_bytes(), State::Closing);
                }
            }
            _ => {}
        }
    }

    /// Sends a control frame that the gateway answers.
    fn say(&mut self, id: usize, opcode: Opcode, payload: &[u8], then: State) {
        let mut frame = Vec::new();
        frames::write(&mut frame, opcode, payload, [0; 4]);
        self.presence.enter(id, then);
        self.pool.send(id, &frame, &mut self.presence);
    }

    /// Lets happen what the agenda has up to `elapsed_ns`.
    pub fn happen(&mut self, elapsed_ns: u64) {
        while let Some(&Entry {
            due_ns,
            client,
            what,
        }) = self.agenda.get(self.happened)
            && due_ns <= elapsed_ns
        {
            self.happened += 1;
            match what {
                Move::Come => {
                    self.late.retain(|&late| late != client);
                    self.presence.come(client, now_ns());
                }
                Move::Back => {
                    let now = now_ns();
                    if self.presence.outage.began_ns == 0 {
                        self.presence.outage.began_ns = now;
                    }
                    self.presence.returning[client] = true;
                    self.presence.come(client, now);
                }
                Move::Leave | Move::Tunnel | Move::Outage => self.leave(client, what),
            }
        }
    }

    fn leave(&mut self, id: usize, what: Move) {
        if self.presence.returning[id] {
            // Who was dropped comes back first, however long that takes: nobody is to be forgotten.
            if what == Move::Leave {
                self.late.push(id);
            }
            return;
        }
        self.presence.wanted[id] = false;
        match (self.presence.states[id], self.presence.dashboard(id)) {
            (State::Connecting, _) => {
                self.pool.reset(id);
                self.presence.comings.cut_short += 1;
                self.presence.enter(id, State::Away);
            }
            (State::Live, None) if what == Move::Leave => {
                self.say(id, Opcode::Close, &1_000_u16.to_be_bytes(), State::Closing);
            }
            (State::Live, None) => {
                let comings = &mut self.presence.comings;
                match what {
                    Move::Outage => comings.dropped += 1,
                    _ => comings.tunnels += 1,
                }
                self.say(id, Opcode::Ping, b"last", State::Confirming);
            }
            (State::Live, Some(at)) => {
                self.presence.enter(id, State::Lingering);
                self.leaving[at] = self.presence.owed(at);
            }
            _ => {}
        }
    }

    /// Whether somebody is about to arrive or to leave.
    pub fn is_on_the_way(&self) -> bool {
        let (wanted, states) = (&self.presence.wanted, &self.presence.states);
        let mut both = wanted.iter().zip(states);
        both.any(|(&wanted, &state)| state != if wanted { State::Live } else { State::Away })
    }

    /// Clients that should be there and are not.
    pub fn stranded(&self) -> usize {
        let (wanted, states) = (&self.presence.wanted, &self.presence.states);
        let both = wanted.iter().zip(states);
        both.filter(|&(&wanted, &state)| wanted && state != State::Live)
            .count()
    }
}
