//! Step 2 of a tick: give other shards the part of the dirty set that they have interest in, and take theirs.
//!
//! Vehicle numbers travel, with the version that the sender saw; positions stay in the table. A shard therefore knows
//! which write of a vehicle it has routed ([`Seen`]). If the table is ahead of that when a frame is encoded, another
//! shard's letter about it is on its way: the vehicle is left out now and comes with the letter, so that no dashboard
//! gets one position twice.

use std::sync::Arc;

use longhaul_filter_engine::{Change, FleetId, VehicleIndex};
use roaring::RoaringBitmap;

use super::{
    dirty::Dirty,
    inbox::{Changed, Inbox, Letter},
};
use crate::fleet::{Fleet, Interest, Known, PositionTable, Version};

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
    /// A stop was asked for.
    pub stop: bool,
}

/// The exchange of one shard.
#[derive(Debug)]
pub struct Exchange {
    shard: usize,
    inboxes: Arc<[Arc<Inbox>]>,
    outgoing: Vec<Outgoing>,
    /// Shards with something in `outgoing`.
    addressed: u64,
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
}

impl Exchange {
    /// The exchange of shard number `shard` among `inboxes`.
    pub fn new(shard: usize, inboxes: Arc<[Arc<Inbox>]>) -> Exchange {
        let outgoing = inboxes.iter().map(|_| Outgoing::default()).collect();
        Exchange {
            shard,
            inboxes,
            outgoing,
            addressed: 0,
        }
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
            fleet.registry.joined(fleet_id, 0, u32::MAX, |vehicle, _| {
                if is_new(vehicle) {
                    begins.push(vehicle);
                }
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

    /// Moves `changed` (what this shard's vehicles reported) to where it is wanted: to other shards, and to `routed`
    /// for this one, together with what other shards sent. Vehicles that nobody watches end here, at the price of
    /// two loads.
    pub fn run(
        &mut self,
        fleet: &Fleet,
        changed: &mut Dirty,
        routed: &mut Dirty,
        seen: &mut Seen,
    ) -> Exchanged {
        let mut counted = Exchanged::default();
        if !changed.is_empty() {
            Interest::fence();
            let mine = 1u64 << self.shard;
            changed.drain(|fleet_id, vehicles| {
                let whole = fleet.interest.fleet(fleet_id);
                for &vehicle in vehicles {
                    let wanted = whole | fleet.interest.vehicle(vehicle);
                    if wanted & mine != 0 {
                        seen.set(vehicle, fleet.positions.version(vehicle));
                        routed.mark(fleet_id, vehicle);
                    }
                    let mut others = wanted & !mine;
                    self.addressed |= others;
                    while others != 0 {
                        let shard = others.trailing_zeros() as usize;
                        others &= others - 1;
                        if let Some(outgoing) = self.outgoing.get_mut(shard) {
                            outgoing.insert(fleet_id, vehicle);
                        }
                    }
                }
            });
        }
        self.post(fleet, &mut counted);
        self.take(routed, seen, &mut counted);
        counted
    }

    fn post(&mut self, fleet: &Fleet, counted: &mut Exchanged) {
        let mut addressed = std::mem::take(&mut self.addressed);
        while addressed != 0 {
            let shard = addressed.trailing_zeros() as usize;
            addressed &= addressed - 1;
            let Some(outgoing) = self.outgoing.get_mut(shard) else {
                continue;
            };
            let by_fleet = &mut outgoing.by_fleet;
            outgoing.touched.retain(|&fleet_id| {
                let set = &mut by_fleet[fleet_id.0 as usize];
                let changed: Vec<Changed> = set
                    .iter()
                    .map(|index| {
                        let vehicle = VehicleIndex(index);
                        Changed {
                            vehicle,
                            version: fleet.positions.version(vehicle),
                        }
                    })
                    .collect();
                let count = changed.len() as u64;
                let posted = self.inboxes[shard]
                    .post(Letter::Dirty(fleet_id, changed))
                    .is_ok();
                if posted {
                    counted.sent += count;
                    set.clear();
                } else {
                    counted.refused += 1;
                    self.addressed |= 1 << shard;
                }
                !posted
            });
        }
    }

    fn take(&mut self, routed: &mut Dirty, seen: &mut Seen, counted: &mut Exchanged) {
        while let Some(letter) = self.inboxes[self.shard].take() {
            match letter {
                Letter::Stop => counted.stop = true,
                Letter::Dirty(fleet_id, changed) => {
                    counted.taken += changed.len() as u64;
                    for Changed { vehicle, version } in changed {
                        // A snapshot or an earlier letter may have been ahead of this one.
                        if version.is_after(seen.version(vehicle)) {
                            seen.set(vehicle, version);
                            routed.mark(fleet_id, vehicle);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
