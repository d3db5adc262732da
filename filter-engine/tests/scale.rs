//! What only shows with many groups or many matches.

use longhaul_filter_engine::{
    Engine, FleetId, MATCHES_PER_BATCH_MAX, SubscriberId, VehicleIndex, VehicleSet,
};

const FLEET: FleetId = FleetId(0);

const SUBSCRIBERS: u32 = 70_000;

/// A filter that no other subscriber has; one in a hundred names vehicle 1 as well.
fn distinct(s: u32) -> VehicleSet {
    let everyone = s.is_multiple_of(100).then_some(1);
    let vehicles = [10 + s % 300, 1_000 + s / 300].into_iter().chain(everyone);
    vehicles.map(VehicleIndex).collect()
}

#[test]
fn more_groups_than_one_bank_holds() {
    let mut engine = Engine::new();
    for s in 0..SUBSCRIBERS {
        let change = engine.set(SubscriberId(s), FLEET, &VehicleSet::Whole, distinct(s));
        assert_eq!(change.added, distinct(s));
    }
    assert_eq!(engine.stats().groups, SUBSCRIBERS as usize);

    let dirty = [1, 10, 11, 12, 1_000, 1_233].map(VehicleIndex);
    let mut seen = vec![0; SUBSCRIBERS as usize];
    engine.route(FLEET, &dirty, |found| {
        for member in found.members {
            seen[member.0 as usize] += found.vehicles.len();
        }
    });
    for (s, &seen) in (0..).zip(&seen) {
        let expected = dirty
            .iter()
            .filter(|&&vehicle| distinct(s).contains(vehicle))
            .count();
        assert_eq!(seen, expected, "subscriber {s}");
    }

    let mut unwatched = 0;
    for s in 0..SUBSCRIBERS {
        unwatched += engine.remove(SubscriberId(s)).unwatched.len();
    }
    assert_eq!(unwatched, 1 + 300 + 234);
    assert_eq!(engine.stats().heap_bytes, 0);
}

#[test]
fn a_tick_with_too_many_matches_is_routed_in_batches() {
    let (subscribers, vehicles) = (1_000, 600);
    let mut engine = Engine::new();
    for s in 0..subscribers {
        let wanted = (1..=vehicles)
            .chain([10_000 + s])
            .map(VehicleIndex)
            .collect::<VehicleSet>();
        engine.set(SubscriberId(s), FLEET, &VehicleSet::Whole, wanted);
    }
    let dirty: Vec<_> = (1..=vehicles).map(VehicleIndex).collect();
    let (mut visits, mut matches) = (0, 0);
    engine.route(FLEET, &dirty, |found| {
        visits += 1;
        matches += found.vehicles.len();
    });
    assert_eq!(matches, (subscribers * vehicles) as usize);
    let batches = matches.div_ceil(MATCHES_PER_BATCH_MAX);
    assert_eq!(visits, batches * subscribers as usize);
    let bound = 16 * (MATCHES_PER_BATCH_MAX + subscribers as usize) * 2;
    assert!(engine.stats().scratch_bytes <= bound);
}
