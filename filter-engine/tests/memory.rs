//! What a subscriber costs, counted where the memory comes from. A test binary of its own, because the
//! counting allocator is global, and with one test, because it counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use longhaul_filter_engine::{
    Engine, FleetId, RoaringBitmap, SubscriberId, VehicleIndex, VehicleSet,
};

struct Counting;

/// Bytes asked for and not given back.
static ASKED: AtomicUsize = AtomicUsize::new(0);
/// The same as a plain allocator stores it: an 8-byte header, multiples of 16.
static STORED: AtomicUsize = AtomicUsize::new(0);
/// Allocations and reallocations so far.
static CALLS: AtomicUsize = AtomicUsize::new(0);

fn stored(size: usize) -> usize {
    (size + 8).next_multiple_of(16)
}

// SAFETY: every call is passed on to the system allocator unchanged; only counters are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        STORED.fetch_add(stored(layout.size()), Relaxed);
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise about `layout` is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ASKED.fetch_sub(layout.size(), Relaxed);
        STORED.fetch_sub(stored(layout.size()), Relaxed);
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

#[test]
fn a_subscriber_of_50_vehicles_costs_at_most_400_bytes_and_routing_allocates_nothing() {
    const SUBSCRIBERS: u32 = 15_000;
    const FLEET: FleetId = FleetId(1);
    for vehicles in [10_000, 60_000] {
        let mut numbers = Numbers(7);
        let (asked, stored) = (ASKED.load(Relaxed), STORED.load(Relaxed));
        let mut engine = Engine::new();
        for s in 0..SUBSCRIBERS {
            let wanted = numbers.filter(50, vehicles);
            engine.set(SubscriberId(s), FLEET, &VehicleSet::Whole, wanted);
        }
        let per_subscriber = |bytes: usize| bytes as f64 / f64::from(SUBSCRIBERS);
        let asked_after = ASKED.load(Relaxed) - asked;
        let told = engine.stats().heap_bytes;
        println!(
            "50 of {vehicles} vehicles: {:.0} bytes asked for, {:.0} stored, {:.0} told by stats",
            per_subscriber(asked_after),
            per_subscriber(STORED.load(Relaxed) - stored),
            per_subscriber(told),
        );
        assert!(per_subscriber(STORED.load(Relaxed) - stored) <= 400.0);
        assert!(
            told.abs_diff(asked_after) < asked_after / 50,
            "{told} told, {asked_after} counted"
        );

        let mut matches = 0;
        let mut tick = |engine: &mut Engine, first: u32| {
            let dirty: Vec<_> = (first..first + 200).map(VehicleIndex).collect();
            let calls = CALLS.load(Relaxed);
            engine.route(FLEET, &dirty, |found| matches += found.vehicles.len());
            CALLS.load(Relaxed) - calls
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
            ASKED.load(Relaxed),
            asked,
            "memory was kept after the last subscriber left"
        );
    }
}
