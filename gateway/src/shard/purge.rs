//! How a shard closes connections by whose they are: because their token was revoked, or because an operator says so.
//!
//! A letter names whom. First the names become indexes, some per tick; then the slab is walked, a slice per tick, and at
//! most so many are closed in one. So a fleet that is revoked costs everybody else a bounded part of each tick. A letter
//! that comes meanwhile makes the walk go on for one more round from where it is.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    connection::{Peer, Phase},
    passes::{Pass, TokenHash},
    ring::Key,
};
use crate::{
    fleet::Registry,
    limits::{PURGE_CLOSES_PER_TICK_MAX, PURGE_NAMES_PER_TICK_MAX, PURGE_SLOTS_PER_TICK_MAX},
    session::{
        close::{self, Close},
        revocation::Whom,
        token::Identity,
        trust::Trust,
    },
};

/// Whom to close, and what to tell them.
#[derive(Debug)]
pub struct Purge {
    /// The code and reason.
    pub close: Close,
    /// Whom, and before which moment their token must have been issued (seconds since the Unix epoch).
    pub whom: Vec<(Whom, u64)>,
}

/// What a shard still has to do of it.
#[derive(Debug, Default)]
pub struct Purging {
    /// Letters whose names are not looked up, and how far the first of them is.
    letters: VecDeque<Arc<Purge>>,
    looked_up: usize,
    revoked: Targets,
    evicted: Targets,
    /// Where the walk is, and how many slots are left of it.
    next: u32,
    left: u32,
}

/// Names as this shard knows them. For each, the moment before which tokens are hit.
#[derive(Debug, Default)]
struct Targets {
    all: u64,
    fleets: HashMap<FleetId, u64>,
    vehicles: HashMap<VehicleIndex, u64>,
    users: HashMap<FleetId, HashMap<Box<str>, u64>>,
    /// Tokens, with the fleet if it matters.
    tokens: HashSet<(TokenHash, Option<FleetId>)>,
}

impl Targets {
    fn add(&mut self, whom: &Whom, before: u64, registry: &Registry, trust: &Trust) {
        // Nobody is connected of a fleet or under an id that this node does not know.
        let known = |fleet: &str| registry.find_fleet(fleet);
        let later = |moment: &mut u64| *moment = before.max(*moment);
        match whom {
            Whom::All => later(&mut self.all),
            Whom::Operator(_) => {}
            Whom::Fleet(fleet) => {
                if let Some(fleet) = known(fleet) {
                    later(self.fleets.entry(fleet).or_default());
                }
            }
            Whom::Subject(fleet, subject) => {
                if let Some(fleet) = known(fleet) {
                    if let Some(vehicle) = registry.find(fleet, subject) {
                        later(self.vehicles.entry(vehicle).or_default());
                    }
                    let users = self.users.entry(fleet).or_default();
                    later(users.entry(subject.clone()).or_default());
                }
            }
            Whom::Token(id, None) => {
                self.tokens.insert((Some(trust.token_hash(id)), None));
            }
            Whom::Token(id, Some(fleet)) => {
                if let Some(fleet) = known(fleet) {
                    let token = Some(trust.token_hash(id));
                    self.tokens.insert((token, Some(fleet)));
                }
            }
        }
    }

    fn hits(&self, peer: &Peer, pass: Pass) -> bool {
        let issued = pass.issued_unix();
        let before = |moment: Option<&u64>| moment.is_some_and(|moment| issued < *moment);
        let (fleet, of_name) = match peer {
            Peer::Vehicle { fleet, vehicle } => (*fleet, before(self.vehicles.get(vehicle))),
            Peer::Dashboard(dashboard) => {
                let users = self.users.get(&dashboard.fleet);
                let moment = users.and_then(|users| users.get(&dashboard.user));
                (dashboard.fleet, before(moment))
            }
            _ => return false,
        };
        let token = pass.token();
        let of_token =
            || self.tokens.contains(&(token, None)) || self.tokens.contains(&(token, Some(fleet)));
        of_name
            || issued < self.all
            || before(self.fleets.get(&fleet))
            || (token.is_some() && !self.tokens.is_empty() && of_token())
    }
}

impl Core {
    /// A letter has come.
    pub(super) fn purge(&mut self, purge: Arc<Purge>) {
        self.purging.letters.push_back(purge);
    }

    /// Goes on with it, in every tick. Returns whether there is more to do.
    pub(super) fn go_on_purging(&mut self) -> bool {
        if self.purging.letters.is_empty() && self.purging.left == 0 {
            return false;
        }
        self.look_up_names();
        if self.purging.letters.is_empty() {
            self.walk_slots();
        }
        true
    }

    fn look_up_names(&mut self) {
        let Core {
            purging,
            fleet,
            trust,
            connections,
            ..
        } = self;
        let mut room = PURGE_NAMES_PER_TICK_MAX;
        while room > 0
            && let Some(letter) = purging.letters.front()
        {
            let names = &letter.whom[purging.looked_up..];
            let names = &names[..names.len().min(room)];
            let targets = match letter.close {
                close::REVOKED => &mut purging.revoked,
                _ => &mut purging.evicted,
            };
            for (whom, before) in names {
                targets.add(whom, *before, &fleet.registry, trust);
            }
            room -= names.len();
            purging.looked_up += names.len();
            if purging.looked_up == letter.whom.len() {
                purging.letters.pop_front();
                purging.looked_up = 0;
                purging.left = connections.slots();
            } else {
                break;
            }
        }
    }

    fn walk_slots(&mut self) {
        let slots = self.connections.slots();
        let mut room = PURGE_CLOSES_PER_TICK_MAX;
        let mut steps = PURGE_SLOTS_PER_TICK_MAX.min(self.purging.left);
        while steps > 0 && room > 0 && slots > 0 {
            steps -= 1;
            self.purging.left -= 1;
            let slot = self.purging.next % slots;
            self.purging.next = (slot + 1) % slots;
            let Some((key, connection)) = self.connections.slot_mut(slot) else {
                continue;
            };
            if connection.phase != Phase::Open {
                continue;
            }
            let pass = self.passes.get(slot);
            let close = if self.purging.revoked.hits(&connection.peer, pass) {
                close::REVOKED
            } else if self.purging.evicted.hits(&connection.peer, pass) {
                close::EVICTED
            } else {
                continue;
            };
            room -= 1;
            self.close(key, close);
        }
        if self.purging.left == 0 || slots == 0 {
            self.purging = Purging::default();
        }
    }

    /// Whether this token was revoked. Ask at each upgrade and at each renewal, in the step that lets it in.
    pub(super) fn is_revoked(&self, identity: &Identity) -> bool {
        self.trust.revocations().hit(identity).is_some()
    }

    /// A connection goes by this token from now on: at its upgrade, and when it is renewed.
    pub(super) fn keep_pass(&mut self, key: Key, identity: &Identity) {
        let token = identity.token_id.as_deref();
        let pass = Pass::new(
            token.map(|id| self.trust.token_hash(id)),
            identity.issued_unix,
        );
        self.passes.set(key.slot, pass);
    }
}
