//! The shapes that the benches share: dashboards with random filters over a fleet.

use longhaul_filter_engine::{Engine, FleetId, SubscriberId, VehicleIndex, VehicleSet};

/// Vehicles in the fleet; their indexes are 1 to this.
pub const VEHICLES: u32 = 100_000;
/// Vehicles that changed in a tick.
pub const DIRTY: usize = 20;
/// The only fleet.
pub const FLEET: FleetId = FleetId(1);

/// A small fixed generator, so that every run measures the same filters.
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// A random vehicle.
    pub fn vehicle(&mut self) -> VehicleIndex {
        VehicleIndex(1 + self.next() % VEHICLES)
    }

    /// A random set of `watch` vehicles.
    pub fn filter(&mut self, watch: u64) -> VehicleSet {
        let mut filter = longhaul_filter_engine::RoaringBitmap::new();
        while filter.len() < watch {
            filter.insert(self.vehicle().0);
        }
        VehicleSet::Some(filter)
    }

    /// A tick: `DIRTY` vehicles, none twice.
    pub fn tick(&mut self) -> Vec<VehicleIndex> {
        let mut tick = Vec::with_capacity(DIRTY);
        while tick.len() < DIRTY {
            let vehicle = self.vehicle();
            if !tick.contains(&vehicle) {
                tick.push(vehicle);
            }
        }
        tick
    }
}

/// An engine with `dashboards` distinct filters of `watch` vehicles each.
pub fn engine(dashboards: u32, watch: u64) -> Engine {
    let mut numbers = Numbers(1);
    let mut engine = Engine::new();
    for s in 0..dashboards {
        engine.set(
            SubscriberId(s),
            FLEET,
            &VehicleSet::Whole,
            numbers.filter(watch),
        );
    }
    engine
}
