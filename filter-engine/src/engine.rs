//! Subscribe, update in place, re-grant, unsubscribe; and the way in to routing.

use hashbrown::HashMap;

use crate::groups::{Groups, Left};
use crate::index::Index;
use crate::route::Scratch;
use crate::sparse::Sparse;
use crate::{
    Change, Filter, FleetId, GroupId, Match, Stats, SubscriberId, VehicleIndex, VehicleSet, Wanted,
};

/// Every subscriber of a shard, its filter, and the way from a vehicle to those that watch it.
#[derive(Debug, Default)]
pub struct Engine {
    seats: Sparse<Seat>,
    subscribers: usize,
    /// Wishes that the effective filter does not tell: only these need a place of their own.
    wishes: HashMap<SubscriberId, Wanted>,
    /// What the wishes hold on the heap.
    wish_bytes: usize,
    groups: Groups,
    index: Index,
    /// The one whole-fleet group of each fleet that has one.
    whole: Sparse<GroupId>,
    scratch: Scratch,
}

/// Where a subscriber sits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    group: GroupId,
    position: u32,
}

impl Engine {
    /// An engine without subscribers. Owns no heap memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives subscriber `s` the filter granted ∧ wanted: inserts it, or updates it in place, in which case only
    /// the difference touches the index.
    ///
    /// The grant itself is not kept; when it changes, tell [`Engine::regrant`]. The wish is kept where the
    /// effective filter does not tell it. Vehicle numbers must come from the node's registry, which keeps
    /// them dense: the index's memory follows the numbers that filters name.
    pub fn set(
        &mut self,
        s: SubscriberId,
        fleet: FleetId,
        granted: &VehicleSet,
        wanted: impl Into<Wanted>,
    ) -> Change {
        let wanted = wanted.into();
        let effective = wanted.within(granted);
        self.forget_wish(s);
        self.keep_wish(s, wanted, &effective);
        self.assign(s, fleet, effective)
    }

    /// Applies a changed grant to what subscriber `s` asked for. Nothing changes if there is no such subscriber.
    pub fn regrant(&mut self, s: SubscriberId, granted: &VehicleSet) -> Change {
        let group = self.group_of(s).and_then(|id| self.groups.get(id));
        let (Some(fleet), Some(wanted)) = (group.map(|group| group.fleet), self.wanted(s)) else {
            return Change::default();
        };
        self.set(s, fleet, granted, wanted)
    }

    /// Removes subscriber `s`; its id is free for reuse. Nothing changes if there is no such subscriber.
    pub fn remove(&mut self, s: SubscriberId) -> Change {
        let mut change = Change::default();
        if let Some(seat) = self.seats.remove(s.0) {
            self.subscribers -= 1;
            self.forget_wish(s);
            self.vacate(seat, None, &mut change);
        }
        if self.subscribers == 0 {
            self.scratch = Scratch::default();
        }
        change
    }

    /// What subscriber `s` sees.
    pub fn effective(&self, s: SubscriberId) -> Option<&Filter> {
        self.groups.filter(self.group_of(s)?)
    }

    /// What subscriber `s` asked for.
    pub fn wanted(&self, s: SubscriberId) -> Option<Wanted> {
        let effective = self.effective(s)?;
        let kept = self.wishes.get(&s).cloned();
        Some(kept.unwrap_or_else(|| effective.to_set().into()))
    }

    /// The group of subscriber `s`. It changes when the subscriber's filter does.
    pub fn group_of(&self, s: SubscriberId) -> Option<GroupId> {
        Some(self.seats.get(s.0)?.group)
    }

    /// True if anybody on this shard watches `vehicle` by name.
    pub fn is_watched(&self, vehicle: VehicleIndex) -> bool {
        self.index.is_watched(vehicle)
    }

    /// True if anybody on this shard watches the whole of `fleet`.
    pub fn is_fleet_watched(&self, fleet: FleetId) -> bool {
        self.whole.get(fleet.0).is_some()
    }

    /// Routes the vehicles of `fleet` that changed, none of them twice: calls `visit` once for each group with at
    /// least one of them in its filter (see [`MATCHES_PER_BATCH_MAX`](crate::MATCHES_PER_BATCH_MAX) for the one
    /// exception). Allocates nothing once it has seen a tick as busy as this one.
    pub fn route(
        &mut self,
        fleet: FleetId,
        dirty: &[VehicleIndex],
        mut visit: impl FnMut(Match<'_>),
    ) {
        if dirty.is_empty() {
            return;
        }
        let whole = self.whole.get(fleet.0).copied();
        if let Some((id, group)) = whole.and_then(|id| Some((id, self.groups.get(id)?))) {
            visit(Match {
                group: id,
                members: group.members.as_slice(),
                vehicles: dirty,
            });
        }
        self.scratch
            .route(&self.index, &self.groups, fleet, dirty, &mut visit);
    }

    /// Figures for metrics.
    pub fn stats(&self) -> Stats {
        Stats {
            subscribers: self.subscribers,
            groups: self.groups.len(),
            index_entries: self.index.entries(),
            heap_bytes: self.seats.heap_bytes()
                + self.wishes.allocation_size()
                + self.wish_bytes
                + self.groups.heap_bytes()
                + self.index.heap_bytes()
                + self.whole.heap_bytes(),
            scratch_bytes: self.scratch.heap_bytes(),
        }
    }

    /// Moves subscriber `s` to the group of `effective`, or its group to `effective` if it is alone in it.
    fn assign(&mut self, s: SubscriberId, fleet: FleetId, effective: VehicleSet) -> Change {
        let mut change = Change::default();
        let Some(seat) = self.seats.get(s.0).copied() else {
            change.added = effective.clone();
            self.subscribers += 1;
            self.seat(s, fleet, effective, &mut change);
            return change;
        };
        let old = self
            .groups
            .get(seat.group)
            .zip(self.groups.filter(seat.group));
        let Some((old, before)) = old else {
            return change;
        };
        if old.fleet == fleet {
            if *before == effective {
                return change;
            }
            let before = before.to_set();
            change.added = effective.minus(&before);
            let alone = old.members.as_slice().len() == 1;
            if let (true, VehicleSet::Some(before), VehicleSet::Some(after)) =
                (alone, &before, &effective)
            {
                let hash = self.groups.hash(fleet, &effective);
                if self.groups.find(hash, fleet, &effective).is_none() {
                    let (gained, lost) = (after - before, before - after);
                    self.groups.refilter(seat.group, hash, effective);
                    self.index.insert(seat.group, &gained, &mut change.watched);
                    self.index.remove(seat.group, &lost, &mut change.unwatched);
                    return change;
                }
            }
        } else {
            change.added = effective.clone();
        }
        // First in, then out, so that a vehicle of both filters is never without a watcher.
        self.seat(s, fleet, effective, &mut change);
        self.vacate(seat, Some(fleet), &mut change);
        change
    }

    /// Gives subscriber `s` a seat in the group of `filter`, which is made if there is none.
    fn seat(&mut self, s: SubscriberId, fleet: FleetId, filter: VehicleSet, change: &mut Change) {
        let hash = self.groups.hash(fleet, &filter);
        let (group, position) = match self.groups.find(hash, fleet, &filter) {
            Some(group) => (group, self.groups.join(group, s)),
            None => {
                let group = self.groups.create(hash, fleet, filter.clone(), s);
                self.enter(group, fleet, &filter, change);
                (group, 0)
            }
        };
        self.seats.insert(s.0, Seat { group, position });
    }

    /// Makes a new group reachable from its vehicles, or from its fleet.
    fn enter(&mut self, id: GroupId, fleet: FleetId, filter: &VehicleSet, change: &mut Change) {
        match filter {
            VehicleSet::Some(vehicles) => {
                self.index.insert(id, vehicles, &mut change.watched);
            }
            VehicleSet::Whole => {
                self.whole.insert(fleet.0, id);
                change.fleet_watched = Some(true);
            }
        }
    }

    /// Empties a seat. The group goes with its last member. `moved_to` is the fleet that its owner has
    /// taken a seat in before, if any.
    fn vacate(&mut self, seat: Seat, moved_to: Option<FleetId>, change: &mut Change) {
        let (fleet, filter) = match self.groups.leave(seat.group, seat.position) {
            Left::Behind { moved } => {
                if let Some(moved) = moved.and_then(|moved| self.seats.get_mut(moved.0)) {
                    moved.position = seat.position;
                }
                return;
            }
            Left::Last { fleet, filter } => (fleet, filter),
        };
        match filter {
            VehicleSet::Some(vehicles) => {
                self.index
                    .remove(seat.group, &vehicles, &mut change.unwatched);
            }
            VehicleSet::Whole => {
                self.whole.remove(fleet.0);
                if moved_to.is_none_or(|moved_to| moved_to == fleet) {
                    change.fleet_watched = Some(false);
                } else {
                    change.left_fleet = Some(fleet);
                }
            }
        }
    }

    fn keep_wish(&mut self, s: SubscriberId, wanted: Wanted, effective: &VehicleSet) {
        if !wanted.is_told_by(effective) {
            let wanted = wanted.at_rest();
            self.wish_bytes += wanted.heap_bytes();
            self.wishes.insert(s, wanted);
        }
    }

    fn forget_wish(&mut self, s: SubscriberId) -> Option<Wanted> {
        let wanted = self.wishes.remove(&s)?;
        self.wish_bytes -= wanted.heap_bytes();
        if self.wishes.is_empty() {
            self.wishes = HashMap::new();
        } else if self.wishes.capacity() > 4 * self.wishes.len() {
            self.wishes.shrink_to(2 * self.wishes.len());
        }
        Some(wanted)
    }
}
