//! Groups: subscribers of one fleet with equal filters, found by the filter's content.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use roaring::RoaringBitmap;

use crate::members::Members;
use crate::sparse::{LEAF, Sparse, leaf_bytes};
use crate::{Filter, FleetId, GroupId, SubscriberId, VehicleSet};

/// What routing reads of a group, and no more: the less of it there is, the more of it is in cache.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) members: Members,
    pub(crate) fleet: FleetId,
    /// Kept so that the table can grow without reading every filter again.
    hash: ContentHash,
}

/// Of a fleet and a filter. Half of what the hasher gives: it only has to be spread, equality decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContentHash(u32);

/// A group without what its filter and a second member own: its place, its filter's place, and an entry in the look-up
/// by content, which is half full on average.
pub(crate) const BYTES_EACH: u64 = ((leaf_bytes::<Group>() + leaf_bytes::<Filter>()) / LEAF as u64)
    + 2 * (size_of::<GroupId>() as u64 + 1);

#[derive(Debug, Default)]
pub(crate) struct Groups {
    slots: Sparse<Group>,
    /// The filter of each group, under the same number.
    filters: Sparse<Filter>,
    /// Numbers below `next` that are not in use. The lowest goes out first, which keeps numbers dense.
    free: RoaringBitmap,
    next: u32,
    by_content: HashTable<GroupId>,
    hasher: DefaultHashBuilder,
    count: usize,
    /// What the groups' filters and member lists hold on the heap.
    owned_bytes: usize,
}

impl Groups {
    pub(crate) fn hash(&self, fleet: FleetId, filter: &VehicleSet) -> ContentHash {
        ContentHash(self.hasher.hash_one((fleet, filter)) as u32)
    }

    pub(crate) fn find(
        &self,
        hash: ContentHash,
        fleet: FleetId,
        filter: &VehicleSet,
    ) -> Option<GroupId> {
        let same = |id: &GroupId| {
            self.get(*id)
                .is_some_and(|group| group.hash.0 == hash.0 && group.fleet == fleet)
                && self.filter(*id).is_some_and(|own| own == filter)
        };
        self.by_content.find(hash.spread(), same).copied()
    }

    #[inline]
    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.slots.get(id.get())
    }

    /// A group by its bare number.
    #[inline]
    pub(crate) fn at(&self, number: u32) -> Option<(GroupId, &Group)> {
        Some((GroupId::new(number)?, self.slots.get(number)?))
    }

    pub(crate) fn filter(&self, id: GroupId) -> Option<&Filter> {
        self.filters.get(id.get())
    }

    /// Makes a group of one. No group with this filter may exist.
    pub(crate) fn create(
        &mut self,
        hash: ContentHash,
        fleet: FleetId,
        filter: VehicleSet,
        member: SubscriberId,
    ) -> GroupId {
        let id = self.take_number();
        let group = Group {
            members: Members::One(member),
            fleet,
            hash,
        };
        let filter = Filter::from(filter);
        self.owned_bytes += filter.heap_bytes();
        self.slots.insert(id.get(), group);
        self.filters.insert(id.get(), filter);
        self.enter(id, hash);
        self.count += 1;
        id
    }

    /// Adds a member to a living group and tells its position.
    pub(crate) fn join(&mut self, id: GroupId, member: SubscriberId) -> u32 {
        let Some(group) = self.slots.get_mut(id.get()) else {
            return 0;
        };
        self.owned_bytes -= group.members.heap_bytes();
        let position = group.members.push(member);
        self.owned_bytes += group.members.heap_bytes();
        position
    }

    /// Takes out the member at `position`.
    pub(crate) fn leave(&mut self, id: GroupId, position: u32) -> Left {
        let Some(group) = self.slots.get_mut(id.get()) else {
            return Left::Behind { moved: None };
        };
        if let Members::Many(_) = group.members {
            self.owned_bytes -= group.members.heap_bytes();
            group.members.swap_remove(position);
            self.owned_bytes += group.members.heap_bytes();
            let moved = group.members.as_slice().get(position as usize).copied();
            return Left::Behind { moved };
        }
        let (fleet, hash) = (group.fleet, group.hash);
        self.withdraw(id, hash);
        self.slots.remove(id.get());
        let filter = self
            .filters
            .remove(id.get())
            .map_or_else(VehicleSet::none, |filter| {
                self.owned_bytes -= filter.heap_bytes();
                filter.to_set()
            });
        self.count -= 1;
        self.give_number(id);
        Left::Last { fleet, filter }
    }

    /// Gives a living group another filter, which no group has yet.
    pub(crate) fn refilter(&mut self, id: GroupId, hash: ContentHash, filter: VehicleSet) {
        let (Some(group), Some(own)) =
            (self.slots.get_mut(id.get()), self.filters.get_mut(id.get()))
        else {
            return;
        };
        let filter = Filter::from(filter);
        self.owned_bytes += filter.heap_bytes();
        self.owned_bytes -= own.heap_bytes();
        *own = filter;
        let old_hash = std::mem::replace(&mut group.hash, hash);
        self.withdraw(id, old_hash);
        self.enter(id, hash);
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Above every number in use.
    pub(crate) fn numbers(&self) -> usize {
        self.next as usize + 1
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.owned_bytes
            + self.slots.heap_bytes()
            + self.filters.heap_bytes()
            + self.by_content.allocation_size()
            + crate::set::bitmap_heap_bytes(&self.free)
    }

    fn enter(&mut self, id: GroupId, hash: ContentHash) {
        let Self {
            by_content, slots, ..
        } = self;
        let rehash = |id: &GroupId| slots.get(id.get()).map_or(0, |group| group.hash.spread());
        by_content.insert_unique(hash.spread(), id, rehash);
    }

    fn withdraw(&mut self, id: GroupId, hash: ContentHash) {
        let Self {
            by_content, slots, ..
        } = self;
        if let Ok(entry) = by_content.find_entry(hash.spread(), |&other| other == id) {
            entry.remove();
        }
        if by_content.is_empty() {
            *by_content = HashTable::new();
        } else if by_content.capacity() > 4 * by_content.len() {
            let rehash = |id: &GroupId| slots.get(id.get()).map_or(0, |group| group.hash.spread());
            by_content.shrink_to(2 * by_content.len(), rehash);
        }
    }

    fn take_number(&mut self) -> GroupId {
        let lowest = self.free.min();
        if let Some(number) = lowest {
            self.free.remove(number);
        }
        lowest.and_then(GroupId::new).unwrap_or_else(|| {
            self.next += 1;
            GroupId::new(self.next).unwrap_or(GroupId::FIRST)
        })
    }

    fn give_number(&mut self, id: GroupId) {
        self.free.insert(id.get());
        if self.count == 0 {
            self.free = RoaringBitmap::new();
            self.next = 0;
        }
    }
}

/// What became of a group that a member left.
pub(crate) enum Left {
    /// It lives on; `moved` is the member that now has the position of the one that left.
    Behind { moved: Option<SubscriberId> },
    /// That was its last member. This was its filter.
    Last { fleet: FleetId, filter: VehicleSet },
}

impl ContentHash {
    /// To 64 bits: the table reads its buckets from the lower end and its tags from the upper.
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}
