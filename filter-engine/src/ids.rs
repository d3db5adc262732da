//! The numbers that filters, members and routes are made of.

use std::num::NonZeroU32;

/// A vehicle's number, dense on this node: it is also its slot in the position table. 0 is never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VehicleIndex(pub u32);

/// A subscriber, by the number that its owner already has for it: the connection's slab key.
/// Dense, and free for reuse once the subscriber has been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u32);

/// A fleet's number, dense on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetId(pub u32);

/// Subscribers of one fleet with equal filters. Stable while the group lives; reused after its last
/// member has left, so it may key what is cached within a tick but not beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(NonZeroU32);

impl GroupId {
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);

    /// `None` for 0, which is never a group.
    pub(crate) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The group's number: dense, from 1.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}
