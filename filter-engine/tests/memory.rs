//! What a subscriber costs, counted where the memory comes from. A test binary of its own, because the
//! allocator is global; it counts by thread, because the test runner has threads that allocate too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use longhaul_filter_engine::{
    Engine, FleetId, RoaringBitmap, SubscriberId, VehicleIndex, VehicleSet, footprint,
};

struct Counting;

#[derive(Clone, Copy, Default)]
struct Count {
    /// Bytes asked for and not given back.
    asked: usize,
    /// The same as mimalloc stores it: multiples of 16, and above 128 bytes four sizes from one power of two to the next.
    stored: usize,
    /// Allocations so far.
    calls: usize,
}

thread_local! {
    static COUNT: Cell<Count> = const { Cell::new(Count { asked: 0, stored: 0, calls: 0 }) };
}

/// This thread's count, after `change`.
fn count(change: impl FnOnce(&mut Count)) -> Count {
    let mut count = COUNT.get();
    change(&mut count);
    COUNT.set(count);
    count
}

fn now() -> Count {
    COUNT.get()
}

fn stored(size: usize) -> usize {
    let step = (size.next_power_of_two() / 8).max(16);
    size.next_multiple_of(step)
}

// SAFETY: every call is passed on to the system allocator unchanged; only a count is kept, in a thread-local
// that needs neither set-up nor tear-down and so never allocates itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(|count| {
            count.asked = count.asked.wrapping_add(layout.size());
            count.stored = count.stored.wrapping_add(stored(layout.size()));
            count.calls += 1;
        });
        // SAFETY: the caller's promise about `layout` is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(|count| {
            count.asked = count.asked.wrapping_sub(layout.size());
            count.stored = count.stored.wrapping_sub(stored(layout.size()));
        });
        // SAFETY: `pointer` came from `alloc` above, so from the system allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A small fixed generator: the same filters in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }

    fn filter(&mut self, watch: u64, vehicles: u32) -> VehicleSet {
        let mut filter = RoaringBitmap::new();
        while filter.len() < watch {
            filter.insert(1 + self.below(vehicles));
        }
        VehicleSet::Some(filter)
    }
}

/// What the budget says of subscribers with a filter of `watched` each.
fn footprint_of(subscribers: u64, watched: u64, vehicles: u64) -> u64 {
    subscribers * footprint::group(watched, vehicles)
        + subscribers.div_ceil(footprint::SEATS_PER_LEAF) * footprint::SEAT_LEAF_BYTES
        + vehicles.div_ceil(footprint::VEHICLES_PER_PAGE) * footprint::PAGE_BYTES
}

#[test]
fn a_subscriber_of_50_vehicles_costs_at_most_370_bytes_and_routing_allocates_nothing() {
    const SUBSCRIBERS: u32 = 15_000;
    const FLEET: FleetId = FleetId(1);
    for vehicles in [10_000, 60_000] {
        let mut numbers = Numbers(7);
        let before = now();
        let mut engine = Engine::new();
        for s in 0..SUBSCRIBERS {
            let wanted = numbers.filter(50, vehicles);
            engine.set(SubscriberId(s), FLEET, &VehicleSet::Whole, wanted);
        }
        let per_subscriber = |bytes: usize| bytes as f64 / f64::from(SUBSCRIBERS);
        let asked_after = now().asked - before.asked;
        let told = engine.stats().heap_bytes;
        let stored_after = now().stored - before.stored;
        assert!(
            per_subscriber(stored_after) <= 370.0,
            "{stored_after} bytes stored"
        );
        assert!(
            told.abs_diff(asked_after) < asked_after / 50,
            "{told} told, {asked_after} counted"
        );
        let budget = footprint_of(u64::from(SUBSCRIBERS), 50, u64::from(vehicles));
        assert!(
            budget.abs_diff(told as u64) < budget / 5,
            "{budget} in the budget, {told} told"
        );

        let mut matches = 0;
        let mut tick = |engine: &mut Engine, first: u32| {
            let dirty: Vec<_> = (first..first + 200).map(VehicleIndex).collect();
            let calls = now().calls;
            engine.route(FLEET, &dirty, |found| matches += found.vehicles.len());
            now().calls - calls
        };
        for first in (1..8_000).step_by(200) {
            tick(&mut engine, first);
        }
        for first in (1..8_000).step_by(200) {
            assert_eq!(tick(&mut engine, first), 0, "a warm engine allocated");
        }
        assert!(matches > 0);

        for s in 0..SUBSCRIBERS {
            engine.remove(SubscriberId(s));
        }
        assert_eq!(engine.stats().heap_bytes, 0);
        assert_eq!(
            now().asked,
            before.asked,
            "memory was kept after the last subscriber left"
        );
        // Not earlier: the test runner's buffer for what is printed would be counted.
        println!(
            "50 of {vehicles} vehicles: {:.0} bytes asked for, {:.0} stored, {:.0} told by stats",
            per_subscriber(asked_after),
            per_subscriber(stored_after),
            per_subscriber(told),
        );
    }
}
