//! Step 2 of a tick: give other shards the part of the dirty set that they have interest in, and take theirs.
//!
//! Vehicle numbers travel, with the version that the sender saw; positions stay in the table. A shard therefore knows
//! which write of a vehicle it has routed ([`Seen`]). If the table is ahead of that when a frame is encoded, another
//! shard's letter about it is on its way: the vehicle is left out now and comes with the letter, so that no dashboard
//! gets one position twice.

use std::{collections::VecDeque, sync::Arc};

use longhaul_codec::Fix;
use longhaul_filter_engine::{Change, FleetId, VehicleIndex};
use roaring::RoaringBitmap;

use super::{
    dirty::Dirty,
    inbox::{Changed, Inbox, Letter},
    ring::Key,
};
use crate::{
    events::{
        Committed, Logged,
        handle::{CommandNews, Publish},
    },
    fleet::{Extra, Fleet, Interest, Known, PositionTable, Version},
    limits::{EVENTS_BACKLOG_MAX, EVERY_BACKLOG_MAX, TAKEN_OVER_BACKLOG_MAX},
};

/// Which version of each vehicle's position this shard has routed.
#[derive(Debug, Default)]
pub struct Seen(Vec<u32>);

impl Seen {
    /// The routed version; 0 if none.
    #[inline]
    pub fn version(&self, vehicle: VehicleIndex) -> Version {
        Version(self.0.get(vehicle.0 as usize).copied().unwrap_or(0))
    }

    /// A vehicle's position as far as this shard has routed it. `None` for one that never reported, and for one whose
    /// newest write another shard's letter is about to announce: it comes with the letter.
    #[inline]
    pub fn read(&self, table: &PositionTable, vehicle: VehicleIndex) -> Option<Known> {
        let known = table.read(vehicle)?;
        (!known.version.is_after(self.version(vehicle))).then_some(known)
    }

    /// Records a version, be it older or newer.
    #[inline]
    pub fn set(&mut self, vehicle: VehicleIndex, version: Version) {
        let index = vehicle.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = version.0;
    }
}

/// What a tick's exchange counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// Vehicle numbers sent to other shards.
    pub sent: u64,
    /// Vehicle numbers taken from other shards.
    pub taken: u64,
    /// Letters that found an inbox full and wait for the next tick.
    pub refused: u64,
    /// Positions for `every` dashboards of another shard that were dropped because its inbox stayed full.
    pub dropped: u64,
    /// Events with qos 0 for another shard that were dropped for the same reason.
    pub events_dropped: u64,
    /// Connections of another shard that were taken over and could not be told: they end by their heartbeat.
    pub forgotten: u64,
}

/// What this shard's own connections changed in a tick.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Vehicles with a new position.
    pub changed: Dirty,
    /// Vehicles that came, went or fell silent.
    pub presence: Dirty,
    /// Positions of fleets of which somebody wants each one, in order.
    pub every: Vec<(FleetId, Fix)>,
    /// Events that are in no log, of fleets of which somebody wants events.
    pub events: Vec<(FleetId, Arc<Logged>)>,
    /// Events for the log.
    pub publish: Vec<Publish>,
    /// What the log's thread is to hear of commands.
    pub command_news: VecDeque<CommandNews>,
    /// What that takes of memory.
    pub command_news_bytes: usize,
    /// Connections on other shards that have been taken over.
    pub taken_over: Vec<(usize, Key, VehicleIndex)>,
}

/// What dashboards of this shard are to be told of in a tick.
#[derive(Debug, Default)]
pub struct Routed {
    /// Vehicles with a new position.
    pub changed: Dirty,
    /// Vehicles that came, went or fell silent.
    pub presence: Dirty,
    /// Positions, each one, in order.
    pub every: Vec<(FleetId, Fix)>,
    /// Events that are in no log.
    pub events: Vec<(FleetId, Arc<Logged>)>,
    /// Events that became durable.
    pub committed: Vec<Arc<Committed>>,
}

/// The exchange of one shard.
#[derive(Debug)]
pub struct Exchange {
    shard: usize,
    inboxes: Arc<[Arc<Inbox>]>,
    outgoing: Vec<Outgoing>,
    presence: Vec<Outgoing>,
    every: Vec<VecDeque<(FleetId, Fix)>>,
    events: Vec<VecDeque<(FleetId, Arc<Logged>)>>,
    /// Shards with something in each of these.
    addressed: Addressed,
}

#[derive(Debug, Default)]
struct Addressed {
    outgoing: u64,
    presence: u64,
    every: u64,
    events: u64,
}

/// What one other shard is to be told: this tick's, and beneath it what a full inbox refused before. Sets, so that it
/// cannot outgrow the fleets.
#[derive(Debug, Default)]
struct Outgoing {
    by_fleet: Vec<RoaringBitmap>,
    /// Fleets with a non-empty set.
    touched: Vec<FleetId>,
}

impl Outgoing {
    fn insert(&mut self, fleet: FleetId, vehicle: VehicleIndex) {
        let slot = fleet.0 as usize;
        if slot >= self.by_fleet.len() {
            self.by_fleet.resize_with(slot + 1, RoaringBitmap::new);
        }
        let set = &mut self.by_fleet[slot];
        if set.is_empty() {
            self.touched.push(fleet);
        }
        set.insert(vehicle.0);
    }

    /// Posts each fleet's set as the letter that `write` makes of it. Returns whether one was refused.
    fn post(
        &mut self,
        inbox: &Inbox,
        counted: &mut Exchanged,
        write: impl Fn(FleetId, &RoaringBitmap) -> Letter,
    ) -> bool {
        let Outgoing { by_fleet, touched } = self;
        touched.retain(|&fleet_id| {
            let set = &mut by_fleet[fleet_id.0 as usize];
            let count = set.len();
            let posted = inbox.post(write(fleet_id, set)).is_ok();
            if posted {
                counted.sent += count;
                set.clear();
            } else {
                counted.refused += 1;
            }
            !posted
        });
        !touched.is_empty()
    }
}

impl Exchange {
    /// The exchange of shard number `shard` among `inboxes`.
    pub fn new(shard: usize, inboxes: Arc<[Arc<Inbox>]>) -> Exchange {
        let sets = || inboxes.iter().map(|_| Outgoing::default()).collect();
        Exchange {
            shard,
            outgoing: sets(),
            presence: sets(),
            every: inboxes.iter().map(|_| VecDeque::new()).collect(),
            events: inboxes.iter().map(|_| VecDeque::new()).collect(),
            addressed: Addressed::default(),
            inboxes,
        }
    }

    /// This shard's number.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Rings the doorbells of these shards (bit n: shard n), which have something to look at.
    pub fn ring(&self, shards: u64) {
        each_shard(shards & !self.mine(), |shard| {
            if let Some(inbox) = self.inboxes.get(shard) {
                inbox.doorbell.ring();
            }
        });
    }

    /// Tells the other shards what this one has interest in from now on, after a filter of `fleet_id` changed and
    /// before the positions of a snapshot are read.
    ///
    /// A vehicle may pass from one kind of interest to the other, by name and by fleet. A writer reads the two masks one
    /// after the other and may see neither; whatever it wrote is found here after the fence, and put into `routed`.
    pub fn announce(
        &self,
        fleet: &Fleet,
        seen: &mut Seen,
        routed: &mut Dirty,
        fleet_id: FleetId,
        change: &Change,
    ) {
        let (interest, mine) = (&fleet.interest, 1u64 << self.shard);
        // A vehicle that this shard hears of already keeps the version that it has routed: a letter about a newer one
        // must still count. One that is new here begins with what the snapshot will read.
        let whole = interest.fleet(fleet_id) & mine != 0;
        let is_new = |vehicle: VehicleIndex| !whole && interest.vehicle(vehicle) & mine == 0;
        let (mut begins, mut passes) = (Vec::new(), Vec::new());
        for &vehicle in &change.watched {
            if is_new(vehicle) {
                begins.push(vehicle)
            } else {
                passes.push(vehicle)
            }
        }
        if change.fleet_watched == Some(true) {
            // The fleet's bit is set before its vehicles are counted: one that joins after the count finds it set.
            interest.set_fleet(self.shard, fleet_id, true);
            fleet.registry.members(fleet_id, |piece| {
                begins.extend(piece.iter().filter(|vehicle| is_new(**vehicle)));
            });
        }
        for &vehicle in &change.watched {
            interest.set_vehicle(self.shard, vehicle, true);
        }
        if change.fleet_watched == Some(false) {
            interest.set_fleet(self.shard, fleet_id, false);
        }
        for &vehicle in &change.unwatched {
            interest.set_vehicle(self.shard, vehicle, false);
        }
        if interest.fleet(fleet_id) & mine != 0 {
            passes.extend_from_slice(&change.unwatched);
        }
        Interest::fence();
        for vehicle in begins {
            seen.set(vehicle, fleet.positions.version(vehicle));
        }
        for vehicle in passes {
            let version = fleet.positions.version(vehicle);
            if version.is_after(seen.version(vehicle)) {
                seen.set(vehicle, version);
                routed.mark(fleet_id, vehicle);
            }
        }
    }

    /// Moves what this shard's vehicles did (`out`) to where it is wanted: to other shards, and to `routed` for this
    /// one, together with what other shards sent. Vehicles that nobody watches end here, at the price of two loads.
    /// What else other shards ask for is handed to `asked`.
    pub fn run(
        &mut self,
        fleet: &Fleet,
        out: &mut Outbox,
        routed: &mut Routed,
        seen: &mut Seen,
        asked: impl FnMut(Letter),
    ) -> Exchanged {
        let mut counted = Exchanged::default();
        if !out.changed.is_empty() || !out.presence.is_empty() {
            Interest::fence();
        }
        let interest = &fleet.interest;
        out.changed.drain(|fleet_id, vehicles| {
            let whole = interest.fleet(fleet_id);
            for &vehicle in vehicles {
                let wanted = whole | interest.vehicle(vehicle);
                if wanted & self.mine() != 0 {
                    seen.set(vehicle, fleet.positions.version(vehicle));
                    routed.changed.mark(fleet_id, vehicle);
                }
                let others = wanted & !self.mine();
                self.addressed.outgoing |= others;
                each_shard(others, |shard| {
                    self.outgoing[shard].insert(fleet_id, vehicle);
                });
            }
        });
        out.presence.drain(|fleet_id, vehicles| {
            let extra = interest.extra(fleet_id, Extra::Presence);
            for &vehicle in vehicles {
                let wanted = extra & (interest.fleet(fleet_id) | interest.vehicle(vehicle));
                if wanted & self.mine() != 0 {
                    routed.presence.mark(fleet_id, vehicle);
                }
                let others = wanted & !self.mine();
                self.addressed.presence |= others;
                each_shard(others, |shard| {
                    self.presence[shard].insert(fleet_id, vehicle);
                });
            }
        });
        for (fleet_id, fix) in out.every.drain(..) {
            let watched = interest.fleet(fleet_id) | interest.vehicle(VehicleIndex(fix.vehicle));
            let wanted = interest.extra(fleet_id, Extra::Every) & watched;
            if wanted & self.mine() != 0 {
                routed.every.push((fleet_id, fix));
            }
            let others = wanted & !self.mine();
            self.addressed.every |= others;
            each_shard(others, |shard| {
                let waiting = &mut self.every[shard];
                waiting.push_back((fleet_id, fix));
                if waiting.len() > EVERY_BACKLOG_MAX {
                    waiting.pop_front();
                    counted.dropped += 1;
                }
            });
        }
        for (fleet_id, logged) in out.events.drain(..) {
            let watched = interest.fleet(fleet_id) | interest.vehicle(logged.vehicle);
            let wanted = interest.extra(fleet_id, Extra::Events) & watched;
            let others = wanted & !self.mine();
            self.addressed.events |= others;
            each_shard(others, |shard| {
                let waiting = &mut self.events[shard];
                waiting.push_back((fleet_id, Arc::clone(&logged)));
                if waiting.len() > EVENTS_BACKLOG_MAX {
                    waiting.pop_front();
                    counted.events_dropped += 1;
                }
            });
            if wanted & self.mine() != 0 {
                routed.events.push((fleet_id, logged));
            }
        }
        self.post(fleet, &mut out.taken_over, &mut counted);
        self.take(routed, seen, &mut counted, asked);
        counted
    }

    fn mine(&self) -> u64 {
        1 << self.shard
    }

    /// Delivers what waits. What a full inbox refuses waits for the next tick.
    fn post(
        &mut self,
        fleet: &Fleet,
        taken_over: &mut Vec<(usize, Key, VehicleIndex)>,
        counted: &mut Exchanged,
    ) {
        let Exchange {
            inboxes,
            outgoing,
            presence,
            every,
            events,
            addressed,
            ..
        } = self;
        taken_over.retain(|&(shard, key, vehicle)| {
            let posted = inboxes[shard].post(Letter::TakenOver(key, vehicle)).is_ok();
            counted.refused += u64::from(!posted);
            !posted
        });
        // A shard that takes no letters for so long is not alive, which /healthz says.
        let too_many = taken_over.len().saturating_sub(TAKEN_OVER_BACKLOG_MAX);
        taken_over.drain(..too_many);
        counted.forgotten += too_many as u64;
        each_shard(std::mem::take(&mut addressed.every), |shard| {
            let fixes = Vec::from(std::mem::take(&mut every[shard]));
            if let Err(Letter::Every(fixes)) = inboxes[shard].post(Letter::Every(fixes)) {
                every[shard] = fixes.into();
                counted.refused += 1;
                addressed.every |= 1 << shard;
            }
        });
        each_shard(std::mem::take(&mut addressed.events), |shard| {
            let passing = Vec::from(std::mem::take(&mut events[shard]));
            if let Err(Letter::Events(passing)) = inboxes[shard].post(Letter::Events(passing)) {
                events[shard] = passing.into();
                counted.refused += 1;
                addressed.events |= 1 << shard;
            }
        });
        // Where those wait, what announces them waits as well.
        let held_back = addressed.outgoing & addressed.every;
        let now = std::mem::replace(&mut addressed.outgoing, held_back) & !held_back;
        each_shard(now, |shard| {
            let waits = outgoing[shard].post(&inboxes[shard], counted, |fleet_id, set| {
                let versioned = |index| Changed {
                    vehicle: VehicleIndex(index),
                    version: fleet.positions.version(VehicleIndex(index)),
                };
                Letter::Dirty(fleet_id, set.iter().map(versioned).collect())
            });
            addressed.outgoing |= u64::from(waits) << shard;
        });
        each_shard(std::mem::take(&mut addressed.presence), |shard| {
            let waits = presence[shard].post(&inboxes[shard], counted, |fleet_id, set| {
                Letter::Presence(fleet_id, set.iter().map(VehicleIndex).collect())
            });
            addressed.presence |= u64::from(waits) << shard;
        });
    }

    fn take(
        &mut self,
        routed: &mut Routed,
        seen: &mut Seen,
        counted: &mut Exchanged,
        mut asked: impl FnMut(Letter),
    ) {
        while let Some(letter) = self.inboxes[self.shard].take() {
            match letter {
                Letter::Several(letters) => {
                    for letter in letters {
                        read(letter, routed, seen, counted, &mut asked);
                    }
                }
                letter => read(letter, routed, seen, counted, &mut asked),
            }
        }
    }
}

/// Takes what is in a letter.
fn read(
    letter: Letter,
    routed: &mut Routed,
    seen: &mut Seen,
    counted: &mut Exchanged,
    asked: &mut impl FnMut(Letter),
) {
    match letter {
        Letter::Dirty(fleet_id, changed) => {
            counted.taken += changed.len() as u64;
            for Changed { vehicle, version } in changed {
                // A snapshot or an earlier letter may have been ahead of this one.
                if version.is_after(seen.version(vehicle)) {
                    seen.set(vehicle, version);
                    routed.changed.mark(fleet_id, vehicle);
                }
            }
        }
        Letter::Presence(fleet_id, vehicles) => {
            counted.taken += vehicles.len() as u64;
            for vehicle in vehicles {
                routed.presence.mark(fleet_id, vehicle);
            }
        }
        Letter::Every(fixes) => {
            counted.taken += fixes.len() as u64;
            routed.every.extend(fixes);
        }
        Letter::Events(passing) => {
            counted.taken += passing.len() as u64;
            routed.events.extend(passing);
        }
        Letter::Committed(committed) => {
            counted.taken += committed.events.len() as u64 + 1;
            routed.committed.push(committed);
        }
        other => asked(other),
    }
}

/// Calls `each` for the number of every bit that is set.
fn each_shard(mut mask: u64, mut each: impl FnMut(usize)) {
    while mask != 0 {
        each(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

#[cfg(test)]
mod tests;
