//! What the caller must know after a filter changed.

use crate::{FleetId, VehicleIndex, VehicleSet};

/// The outcome of [`Engine::set`](crate::Engine::set), [`regrant`](crate::Engine::regrant) and
/// [`remove`](crate::Engine::remove). The default is "nothing changed".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// What the subscriber sees now and did not see before: what its snapshot must hold.
    /// [`VehicleSet::Whole`] if it now sees the whole fleet and did not, though it may have seen part of it.
    pub added: VehicleSet,
    /// Vehicles that nobody on this shard watched by name before, ascending.
    pub watched: Vec<VehicleIndex>,
    /// Vehicles that nobody on this shard watches by name any more, ascending.
    pub unwatched: Vec<VehicleIndex>,
    /// `Some(true)`: the subscriber's fleet has its first whole-fleet watcher; `Some(false)`: its last has gone.
    pub fleet_watched: Option<bool>,
    /// Only if the subscriber was moved here from another fleet: that fleet, if it lost its last whole-fleet
    /// watcher thereby.
    pub left_fleet: Option<FleetId>,
}
