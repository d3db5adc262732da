//! A tick's dirty vehicles → one callback per group.
//!
//! Matches come out of the index by vehicle and must go to the visitor by group, so they are sorted by
//! counting: collect (group, vehicle) pairs and count per group, lay the groups out one behind the other,
//! drop every vehicle into its place, visit. All of it in vectors that are kept from tick to tick.

use crate::groups::Groups;
use crate::index::{Bank, Index};
use crate::{FleetId, GroupId, SubscriberId, VehicleIndex};

/// Matches that are held at once, give or take one vehicle's watchers: it bounds the scratch space to a
/// few MB. A tick with more is routed in batches, and may call back for the same group once in each.
pub const MATCHES_PER_BATCH_MAX: usize = 1 << 18;

/// A group with something new for its members.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// Which group.
    pub group: GroupId,
    /// The subscribers that see `vehicles`; at least one, in no order.
    pub members: &'a [SubscriberId],
    /// The dirty vehicles that the group watches; at least one, each once, in no order.
    pub vehicles: &'a [VehicleIndex],
}

#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// By group number: 1 + its place in `hits`, 0 if this batch has not met it. All 0 between batches.
    places: Vec<u32>,
    hits: Vec<Hit>,
    pairs: Vec<Pair>,
    vehicles: Vec<VehicleIndex>,
}

#[derive(Debug)]
struct Hit {
    group: u32,
    /// While collecting: how many matches. After `lay_out`: where the next one goes.
    cursor: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    place: u32,
    vehicle: VehicleIndex,
}

impl Scratch {
    pub(crate) fn route(
        &mut self,
        index: &Index,
        groups: &Groups,
        fleet: FleetId,
        dirty: &[VehicleIndex],
        visit: &mut impl FnMut(Match<'_>),
    ) {
        if self.places.len() < groups.numbers() {
            self.places.resize(groups.numbers(), 0);
        }
        for (first, bank) in index.banks() {
            let mut dirty = dirty;
            while !dirty.is_empty() {
                dirty = self.collect(first, bank, dirty);
                self.lay_out();
                self.deliver(groups, fleet, visit);
            }
        }
    }

    /// Takes matches until the batch is full, and returns the vehicles that are still to come.
    fn collect<'a>(
        &mut self,
        first: u32,
        bank: &Bank,
        dirty: &'a [VehicleIndex],
    ) -> &'a [VehicleIndex] {
        for (done, &vehicle) in dirty.iter().enumerate() {
            if self.pairs.len() >= MATCHES_PER_BATCH_MAX {
                return &dirty[done..];
            }
            for &watcher in bank.watchers(vehicle) {
                let group = first + u32::from(watcher);
                let place = &mut self.places[group as usize];
                if *place == 0 {
                    self.hits.push(Hit { group, cursor: 1 });
                    *place = self.hits.len() as u32;
                } else {
                    self.hits[*place as usize - 1].cursor += 1;
                }
                let place = *place - 1;
                self.pairs.push(Pair { place, vehicle });
            }
        }
        &[]
    }

    /// Turns counts into positions and sorts the vehicles by group.
    fn lay_out(&mut self) {
        let mut end = 0;
        for hit in &mut self.hits {
            let start = end;
            end += hit.cursor;
            hit.cursor = start;
        }
        self.vehicles.resize(self.pairs.len(), VehicleIndex(0));
        for pair in self.pairs.drain(..) {
            let cursor = &mut self.hits[pair.place as usize].cursor;
            self.vehicles[*cursor as usize] = pair.vehicle;
            *cursor += 1;
        }
    }

    fn deliver(&mut self, groups: &Groups, fleet: FleetId, visit: &mut impl FnMut(Match<'_>)) {
        let mut start = 0;
        for hit in self.hits.drain(..) {
            let end = hit.cursor as usize;
            let vehicles = &self.vehicles[start..end];
            start = end;
            self.places[hit.group as usize] = 0;
            let Some(id) = GroupId::new(hit.group) else {
                continue;
            };
            // A filter that names another fleet's vehicle must not see it, whoever let it through.
            match groups.get(id) {
                Some(group) if group.fleet == fleet => visit(Match {
                    group: id,
                    members: group.members.as_slice(),
                    vehicles,
                }),
                _ => {}
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.places.capacity() * size_of::<u32>()
            + self.hits.capacity() * size_of::<Hit>()
            + self.pairs.capacity() * size_of::<Pair>()
            + self.vehicles.capacity() * size_of::<VehicleIndex>()
    }
}
