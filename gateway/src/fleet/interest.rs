//! Which shards have a dashboard that watches a vehicle: one bit per shard.
//!
//! A shard that subscribes sets its bit *before* it reads the position table; a shard that writes a position reads
//! the bits *after* the write. With a sequentially consistent fence between the two on both sides
//! ([`Interest::fence`], once per tick, not per message) no update falls between a snapshot and the first exchange.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::chunked::Chunked;
use crate::limits::SHARDS_MAX;

const _: () = assert!(SHARDS_MAX <= 64, "an interest mask has 64 bits");

/// What a mask weighs.
pub const MASK_BYTES: usize = size_of::<AtomicU64>();
/// Masks of each fleet: of the whole of it, of presence, of each position, of events.
pub const MASKS_PER_FLEET: usize = 4;

/// The masks of all vehicles and fleets.
#[derive(Debug)]
pub struct Interest {
    fleets: Box<[AtomicU64]>,
    vehicles: Chunked<AtomicU64>,
    /// By fleet: shards where somebody wants more than the newest position of what they watch.
    presence: Box<[AtomicU64]>,
    every: Box<[AtomicU64]>,
    events: Box<[AtomicU64]>,
}

/// What a dashboard may want of the vehicles that it watches, beside the newest position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    /// Who comes and goes.
    Presence,
    /// Each position.
    Every,
    /// Events.
    Events,
}

impl Interest {
    /// Nobody watches anything.
    pub(super) fn new(fleets_max: u32, vehicles_max: u32) -> Interest {
        let masks = || (0..fleets_max).map(|_| AtomicU64::new(0)).collect();
        Interest {
            fleets: masks(),
            vehicles: Chunked::new(vehicles_max),
            presence: masks(),
            every: masks(),
            events: masks(),
        }
    }

    /// Sets or clears `shard`'s bit for more of a fleet than the newest positions.
    pub fn set_extra(&self, shard: usize, fleet: FleetId, extra: Extra, wanted: bool) {
        if let Some(mask) = self.masks(extra).get(fleet.0 as usize) {
            set(mask, shard, wanted);
        }
    }

    /// Shards (bit n: shard n) where somebody wants that; of which vehicles, the other masks say.
    #[inline]
    #[must_use]
    pub fn extra(&self, fleet: FleetId, extra: Extra) -> u64 {
        self.masks(extra)
            .get(fleet.0 as usize)
            .map_or(0, |mask| mask.load(Ordering::Relaxed))
    }

    fn masks(&self, extra: Extra) -> &[AtomicU64] {
        match extra {
            Extra::Presence => &self.presence,
            Extra::Every => &self.every,
            Extra::Events => &self.events,
        }
    }

    /// Sets or clears `shard`'s bit for one vehicle.
    pub fn set_vehicle(&self, shard: usize, vehicle: VehicleIndex, watched: bool) {
        if let Some(mask) = self.vehicles.get_or_make(vehicle.0) {
            set(mask, shard, watched);
        }
    }

    /// Sets or clears `shard`'s bit for a whole fleet, vehicles to come included.
    pub fn set_fleet(&self, shard: usize, fleet: FleetId, watched: bool) {
        if let Some(mask) = self.fleets.get(fleet.0 as usize) {
            set(mask, shard, watched);
        }
    }

    /// Shards (bit n: shard n) that watch this vehicle alone.
    #[inline]
    #[must_use]
    pub fn vehicle(&self, vehicle: VehicleIndex) -> u64 {
        self.vehicles
            .get(vehicle.0)
            .map_or(0, |mask| mask.load(Ordering::Relaxed))
    }

    /// Shards that watch this whole fleet.
    #[inline]
    #[must_use]
    pub fn fleet(&self, fleet: FleetId) -> u64 {
        self.fleets
            .get(fleet.0 as usize)
            .map_or(0, |mask| mask.load(Ordering::Relaxed))
    }

    /// The fence of the module's description: between position writes and mask reads, and between mask writes and
    /// position reads.
    pub fn fence() {
        fence(Ordering::SeqCst);
    }
}

fn set(mask: &AtomicU64, shard: usize, watched: bool) {
    let bit = 1u64 << shard;
    if watched {
        mask.fetch_or(bit, Ordering::Relaxed);
    } else {
        mask.fetch_and(!bit, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_per_shard_and_per_subject() {
        let interest = Interest::new(4, 100_000);
        let (one, far, fleet) = (VehicleIndex(1), VehicleIndex(99_999), FleetId(2));
        interest.set_vehicle(0, one, true);
        interest.set_vehicle(63, one, true);
        interest.set_vehicle(5, far, true);
        interest.set_fleet(1, fleet, true);
        assert_eq!(interest.vehicle(one), 1 | 1 << 63);
        assert_eq!(interest.vehicle(far), 1 << 5);
        assert_eq!(interest.vehicle(VehicleIndex(2)), 0);
        assert_eq!((interest.fleet(fleet), interest.fleet(FleetId(0))), (2, 0));
        interest.set_extra(3, fleet, Extra::Every, true);
        assert_eq!(interest.extra(fleet, Extra::Every), 8);
        assert_eq!(interest.extra(fleet, Extra::Presence), 0);
        interest.set_vehicle(0, one, false);
        assert_eq!(interest.vehicle(one), 1 << 63);
        assert_eq!(
            interest.vehicle(VehicleIndex(u32::MAX)),
            0,
            "out of range is nobody's"
        );
    }
}
