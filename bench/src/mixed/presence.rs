//! Where each client of a day is: what its connection tells goes through here to the [`Clients`] of every load, and ends
//! that are part of the day go no further.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use crate::audience::{Audience, Filter};
use crate::clients::Clients;
use crate::clock::now_ns;
use crate::connection::{Closed, Incoming};
use crate::handshake::Refusal;
use crate::pool::Handler;
use crate::schedule::Plan;
use crate::storm::backoff::{self, Backoff};
use crate::storm::herd::Round;

const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(250),
    max: Duration::from_secs(8),
};
const REASONS_MAX: usize = 6;
const NORMAL_CLOSURE: u16 = 1_000;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected.
    Away,
    /// Not welcomed, or its subscription not acknowledged yet.
    Connecting,
    /// There.
    Live,
    /// A dashboard whose shift is over, and that still reads what was sent before.
    Lingering,
    /// A vehicle that is about to lose its connection: its ping says that all it sent was read.
    Confirming,
    /// Has said good-bye.
    Closing,
}

/// What happened to connections, besides deliveries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Comings {
    /// Vehicles and dashboards that were welcomed, each time.
    pub welcomed: u64,
    /// Good-byes that the gateway answered.
    pub farewells: u64,
    /// Connections that tunnels cut, everything sent on them read.
    pub tunnels: u64,
    /// Connections that the outage cut, likewise.
    pub dropped: u64,
    /// Those that ended before they were ready, because their time was over.
    pub cut_short: u64,
    /// Attempts that were answered with 503.
    pub refused_503: u64,
    /// Attempts that ended otherwise.
    pub connect_errors: u64,
    /// Ends that were not answered in time: not known whether all that was sent before was read.
    pub unanswered: u64,
    /// Why attempts failed, the first few.
    pub reasons: Vec<String>,
}

/// See the module. Ids are those of [`Clients`].
pub struct Presence<'a> {
    /// What is heard.
    pub clients: Clients<'a, Ledger>,
    /// Per client.
    pub states: Vec<State>,
    /// Per client: whether the day has it here now.
    pub wanted: Vec<bool>,
    /// When its state began.
    pub since_ns: Vec<u64>,
    /// Who is to connect, and when.
    pub again: BinaryHeap<Reverse<(u64, usize)>>,
    /// Vehicles whose last ping was answered: their connection is to be cut.
    pub confirmed: Vec<usize>,
    /// Clients in [`State::Live`].
    pub live: usize,
    /// So far.
    pub comings: Comings,
    /// How those came back that the outage had dropped.
    pub outage: Round,
    /// Per client: whether it is one of them, and not back yet.
    pub returning: Vec<bool>,
    /// From `connect` to 101, of those.
    pub upgrade_us: Histogram<u64>,
    /// From the end of the outage to `Welcome`.
    pub back_us: Histogram<u64>,
    audience: &'a Audience,
    ledger: &'a Ledger,
    /// Per vehicle, how many dashboards watch it now.
    watchers: Vec<u64>,
    watchers_of_all: u64,
    /// Per dashboard: after how many sends it began to be owed.
    watches_since: Vec<u64>,
    failures: Vec<u32>,
    rng: fastrand::Rng,
}

impl<'a> Presence<'a> {
    /// All are away.
    ///
    /// # Errors
    /// A histogram cannot be made (never, with these bounds).
    pub fn new(
        mut clients: Clients<'a, Ledger>,
        audience: &'a Audience,
        ledger: &'a Ledger,
    ) -> anyhow::Result<Self> {
        let all = clients.vehicles.len() + clients.dashboards.len();
        for at in 0..clients.dashboards.len() {
            // What comes before its subscription is acknowledged is not owed to it.
            clients.checker.watch_from(at, u64::MAX);
        }
        let histogram = Histogram::new_with_bounds(1, 600_000_000, 3)?;
        Ok(Self {
            states: vec![State::Away; all],
            wanted: vec![false; all],
            since_ns: vec![0; all],
            again: BinaryHeap::new(),
            confirmed: Vec::new(),
            live: 0,
            comings: Comings::default(),
            outage: Round::default(),
            returning: vec![false; all],
            upgrade_us: histogram.clone(),
            back_us: histogram,
            watchers: vec![0; clients.vehicles.len()],
            watchers_of_all: 0,
            watches_since: vec![0; clients.dashboards.len()],
            failures: vec![0; all],
            rng: fastrand::Rng::with_seed(audience.seed),
            clients,
            audience,
            ledger,
        })
    }

    /// Which of the dashboards a client is; none: it is a vehicle.
    pub fn dashboard(&self, id: usize) -> Option<usize> {
        id.checked_sub(self.clients.vehicles.len())
    }

    /// How many dashboards are owed an update that `vehicle` sends now.
    pub fn watchers(&self, vehicle: u32) -> u64 {
        self.watchers[vehicle as usize] + self.watchers_of_all
    }

    /// The day has `id` here from now on.
    pub fn come(&mut self, id: usize, now: u64) {
        self.wanted[id] = true;
        if self.states[id] == State::Away {
            self.again.push(Reverse((now, id)));
        }
    }

    /// Client `id` is somewhere else from now on.
    pub fn enter(&mut self, id: usize, state: State) {
        let before = std::mem::replace(&mut self.states[id], state);
        self.since_ns[id] = now_ns();
        self.live += usize::from(state == State::Live);
        self.live -= usize::from(before == State::Live);
        if before == State::Live && self.dashboard(id).is_some() {
            self.watch(id, false);
        }
        if state == State::Live && self.dashboard(id).is_some() {
            self.watch(id, true);
        }
    }

    /// Client `id` has no connection any more, and is to come back at once if the day has it here.
    pub fn gone(&mut self, id: usize) {
        self.enter(id, State::Away);
        if self.wanted[id] {
            self.again.push(Reverse((now_ns(), id)));
        }
    }

    /// Updates that dashboard `at` was owed up to now.
    pub fn owed(&self, at: usize) -> u64 {
        let (since, until) = (self.watches_since[at], self.ledger.sends());
        match self.audience.filter(self.clients.dashboards[at]) {
            Filter::All => until - since,
            Filter::Some(vehicles) => vehicles
                .into_iter()
                .map(|vehicle| {
                    let sent = |sends| self.ledger.sent_by(vehicle, sends);
                    u64::from(sent(until) - sent(since))
                })
                .sum(),
        }
    }

    fn watch(&mut self, id: usize, begins: bool) {
        let Some(at) = self.dashboard(id) else { return };
        let sends = self.ledger.sends();
        let checker = &mut self.clients.checker;
        if begins {
            self.watches_since[at] = sends;
            checker.watch_from(at, sends);
        } else {
            checker.watch_until(at, sends);
        }
        let change = |watchers: &mut u64| {
            *watchers = if begins { *watchers + 1 } else { *watchers - 1 };
        };
        match self.audience.filter(self.clients.dashboards[at]) {
            Filter::All => change(&mut self.watchers_of_all),
            Filter::Some(vehicles) => {
                for vehicle in vehicles {
                    change(&mut self.watchers[vehicle as usize]);
                }
            }
        }
    }

    /// `id` has what it needs.
    fn ready(&mut self, id: usize, now: u64) {
        self.enter(id, State::Live);
        self.comings.welcomed += 1;
        self.failures[id] = 0;
        if std::mem::take(&mut self.returning[id]) {
            self.outage.connected += 1;
            self.outage.ended_ns = now;
            let us = now.saturating_sub(self.outage.began_ns) / 1_000;
            self.back_us.saturating_record(us);
        }
    }

    /// An attempt to connect failed. `retry_after`: it was refused because too many came, and told to wait so many
    /// seconds.
    pub fn failed(&mut self, id: usize, reason: String, retry_after: Option<u32>) {
        self.failures[id] += 1;
        let mut wait = BACKOFF.wait(self.failures[id], &mut self.rng);
        let storm = &mut self.outage;
        let returning = u64::from(self.returning[id]);
        if let Some(seconds) = retry_after {
            self.comings.refused_503 += 1;
            storm.refused_503 += returning;
            wait = backoff::after(seconds, &mut self.rng);
        } else {
            self.comings.connect_errors += 1;
            storm.connect_errors += returning;
        }
        let reasons = &mut self.comings.reasons;
        if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
            reasons.push(reason);
        }
        self.enter(id, State::Away);
        if self.wanted[id] {
            self.again
                .push(Reverse((now_ns() + wait.as_nanos() as u64, id)));
        }
    }
}

impl Handler for Presence<'_> {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, now_ns: u64, reply: &mut Vec<u8>) {
        match incoming {
            Incoming::Pong if self.states[id] == State::Confirming => self.confirmed.push(id),
            Incoming::Upgraded if self.returning[id] => {
                let us = now_ns.saturating_sub(self.since_ns[id]) / 1_000;
                self.upgrade_us.saturating_record(us);
                self.clients.incoming(id, incoming, now_ns, reply);
            }
            incoming => {
                let before = self.clients.ready;
                self.clients.incoming(id, incoming, now_ns, reply);
                if self.clients.ready > before && self.states[id] == State::Connecting {
                    self.ready(id, now_ns);
                }
            }
        }
    }

    fn closed(&mut self, id: usize, why: Closed) {
        match self.states[id] {
            State::Connecting => {
                let retry_after = match why {
                    Closed::Refused(Refusal::Status {
                        status: 503,
                        retry_after,
                        ..
                    }) => Some(retry_after.unwrap_or(1)),
                    _ => None,
                };
                self.failed(id, why.to_string(), retry_after);
            }
            State::Closing if why.code() == NORMAL_CLOSURE => {
                self.comings.farewells += 1;
                self.gone(id);
            }
            State::Away => {}
            State::Live | State::Lingering | State::Confirming | State::Closing => {
                self.clients.closed(id, why);
                self.gone(id);
            }
        }
    }
}
