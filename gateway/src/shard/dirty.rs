//! The dirty sets of a tick: which vehicles of which fleet have a new position, each vehicle once.

use longhaul_filter_engine::{FleetId, VehicleIndex};

/// Vehicles by fleet, in the order in which they first changed.
#[derive(Debug, Default)]
pub struct Dirty {
    by_fleet: Vec<Vec<VehicleIndex>>,
    /// Fleets with a non-empty list.
    touched: Vec<FleetId>,
    /// One bit per vehicle: in a list already.
    marks: Vec<u64>,
}

impl Dirty {
    /// Adds a vehicle; false if it is in already.
    #[inline]
    pub fn mark(&mut self, fleet: FleetId, vehicle: VehicleIndex) -> bool {
        let (word, bit) = (vehicle.0 as usize / 64, 1u64 << (vehicle.0 % 64));
        if word >= self.marks.len() {
            self.marks.resize(word + 1, 0);
        }
        if self.marks[word] & bit != 0 {
            return false;
        }
        self.marks[word] |= bit;
        let fleet_slot = fleet.0 as usize;
        if fleet_slot >= self.by_fleet.len() {
            self.by_fleet.resize_with(fleet_slot + 1, Vec::new);
        }
        let list = &mut self.by_fleet[fleet_slot];
        if list.is_empty() {
            self.touched.push(fleet);
        }
        list.push(vehicle);
        true
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Hands out each fleet's list and leaves the set empty; lists keep their capacity.
    pub fn drain(&mut self, mut each: impl FnMut(FleetId, &[VehicleIndex])) {
        for fleet in self.touched.drain(..) {
            let list = &mut self.by_fleet[fleet.0 as usize];
            each(fleet, list);
            for vehicle in list.drain(..) {
                self.marks[vehicle.0 as usize / 64] &= !(1 << (vehicle.0 % 64));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vehicle_is_in_once_and_can_come_again_after_the_drain() {
        let mut dirty = Dirty::default();
        let (a, b) = (FleetId(0), FleetId(3));
        for round in 0..2 {
            assert!(dirty.mark(b, VehicleIndex(70)), "round {round}");
            assert!(!dirty.mark(b, VehicleIndex(70)));
            assert!(dirty.mark(a, VehicleIndex(1)));
            assert!(dirty.mark(b, VehicleIndex(6)));
            let mut seen = Vec::new();
            dirty.drain(|fleet, list| seen.push((fleet, list.to_vec())));
            assert_eq!(
                seen,
                [
                    (b, vec![VehicleIndex(70), VehicleIndex(6)]),
                    (a, vec![VehicleIndex(1)])
                ]
            );
            assert!(dirty.is_empty());
        }
    }
}
