//! A tick's dirty vehicles → one callback per group.
//!
//! Matches come out of the index by vehicle and must go to the visitor by group. So they are collected and
//! counted per group. A group with a single match, which is the usual case, is visited at once. Those with
//! several are sorted by counting: lay the groups out one behind the other, put every vehicle into its
//! place, visit. All of it in vectors that are kept from tick to tick.

use std::hint::black_box;

use crate::groups::Groups;
use crate::index::{Bank, Index};
use crate::page::List;
use crate::{FleetId, GroupId, SubscriberId, VehicleIndex};

/// Matches that are held at once, give or take one vehicle's watchers: it bounds the scratch space to a
/// few MB. A tick with more is routed in batches, and may call back for the same group once in each.
pub const MATCHES_PER_BATCH_MAX: usize = 1 << 18;

/// Scratch space for one match: as it was found, in its group's place, and in a vector that has doubled.
pub(crate) const SCRATCH_BYTES_PER_MATCH: u64 =
    2 * (size_of::<(u16, VehicleIndex)>() + size_of::<VehicleIndex>() + size_of::<u16>()) as u64;

/// Lists that are looked up before the first of them is read.
const LOOK_AHEAD: usize = 32;

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

/// Groups go by the lower 16 bits of their number here, as in the bank that is being routed.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// By group number: how many matches, and while sorting where the next one goes. 0 for the groups that
    /// this batch has not met, so all 0 between batches.
    counts: Vec<u32>,
    matches: Vec<(u16, VehicleIndex)>,
    /// The groups with more than one match.
    several: Vec<u16>,
    /// The vehicles of `several`, one group behind the other.
    vehicles: Vec<VehicleIndex>,
}

/// Where matches go, and from which bank they come.
struct Target<'a, V> {
    groups: &'a Groups,
    fleet: FleetId,
    /// The number of the bank's first group.
    first: u32,
    visit: V,
}

impl<V: FnMut(Match<'_>)> Target<'_, V> {
    #[inline]
    fn tell(&mut self, group: u16, vehicles: &[VehicleIndex]) {
        // A filter that names another fleet's vehicle must not see it, whoever let it through.
        match self.groups.at(self.first + u32::from(group)) {
            Some((group, found)) if found.fleet == self.fleet => (self.visit)(Match {
                group,
                members: found.members.as_slice(),
                vehicles,
            }),
            _ => {}
        }
    }
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
        if self.counts.len() < groups.numbers() {
            self.counts.resize(groups.numbers(), 0);
        }
        for (first, bank) in index.banks() {
            let mut target = Target {
                groups,
                fleet,
                first,
                visit: &mut *visit,
            };
            let mut dirty = dirty;
            while !dirty.is_empty() {
                dirty = self.collect(first, bank, dirty);
                self.deliver_single(&mut target);
                self.deliver_several(&mut target);
            }
        }
    }

    /// Takes matches until the batch is full, and returns the vehicles that are still to come.
    ///
    /// Lists lie far apart, so most of the cost is waiting for memory. Looking up a few dozen lists, and
    /// touching each, before the first is read lets those waits overlap.
    fn collect<'a>(
        &mut self,
        first: u32,
        bank: &Bank,
        dirty: &'a [VehicleIndex],
    ) -> &'a [VehicleIndex] {
        let mut lists = [List::EMPTY; LOOK_AHEAD];
        let counts = &mut self.counts[first as usize..];
        let mut rest = dirty;
        while !rest.is_empty() {
            let (ahead, behind) = rest.split_at(rest.len().min(LOOK_AHEAD));
            for (list, &vehicle) in lists.iter_mut().zip(ahead) {
                *list = bank.watchers(vehicle);
            }
            let firsts = lists[..ahead.len()].iter().filter_map(|list| list.first());
            black_box(firsts.fold(0, |touched, first| touched ^ first));
            for (done, (list, &vehicle)) in lists.iter().zip(ahead).enumerate() {
                if self.matches.len() >= MATCHES_PER_BATCH_MAX {
                    return &rest[done..];
                }
                for slice in list.slices() {
                    self.matches.extend(slice.iter().map(|&group| {
                        let count = &mut counts[usize::from(group)];
                        *count += 1;
                        if *count == 2 {
                            self.several.push(group);
                        }
                        (group, vehicle)
                    }));
                }
            }
            rest = behind;
        }
        rest
    }

    /// Visits the groups with one match, and keeps the matches of the others.
    fn deliver_single(&mut self, target: &mut Target<'_, impl FnMut(Match<'_>)>) {
        let counts = &mut self.counts[target.first as usize..];
        self.matches.retain(|&(group, vehicle)| {
            let count = &mut counts[usize::from(group)];
            let single = *count == 1;
            if single {
                *count = 0;
                target.tell(group, &[vehicle]);
            }
            !single
        });
    }

    /// Sorts the matches that are left by group, and visits each.
    fn deliver_several(&mut self, target: &mut Target<'_, impl FnMut(Match<'_>)>) {
        let counts = &mut self.counts[target.first as usize..];
        let mut start = 0;
        for &group in &self.several {
            let count = &mut counts[usize::from(group)];
            start += std::mem::replace(count, start);
        }
        if self.vehicles.len() < self.matches.len() {
            self.vehicles.resize(self.matches.len(), VehicleIndex(0));
        }
        for (group, vehicle) in self.matches.drain(..) {
            let next = &mut counts[usize::from(group)];
            self.vehicles[*next as usize] = vehicle;
            *next += 1;
        }
        let mut start = 0;
        for group in self.several.drain(..) {
            let end = std::mem::take(&mut counts[usize::from(group)]) as usize;
            target.tell(group, &self.vehicles[start..end]);
            start = end;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.counts.capacity() * size_of::<u32>()
            + self.several.capacity() * size_of::<u16>()
            + self.matches.capacity() * size_of::<(u16, VehicleIndex)>()
            + self.vehicles.capacity() * size_of::<VehicleIndex>()
    }
}
