//! What routing costs per message: ticks of 20 dirty vehicles out of 100,000. The throughput that is printed
//! is messages, so its inverse is the cost of one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use longhaul_filter_engine::{Engine, SubscriberId, VehicleIndex, VehicleSet};

use crate::shapes::{self, DIRTY, FLEET, Numbers};

/// Ticks per iteration: enough different vehicles that the caches hold only what a shard's would.
const TICKS: usize = 5_000;

fn run(engine: &mut Engine, ticks: &[Vec<VehicleIndex>]) -> usize {
    let mut deliveries = 0;
    for tick in ticks {
        engine.route(FLEET, black_box(tick), |found| {
            deliveries += found.members.len() * found.vehicles.len();
        });
    }
    deliveries
}

pub fn route(c: &mut Criterion) {
    let mut numbers = Numbers(2);
    let ticks: Vec<_> = (0..TICKS).map(|_| numbers.tick()).collect();
    let mut group = c.benchmark_group("route");
    group.throughput(Throughput::Elements((TICKS * DIRTY) as u64));
    for (dashboards, watch) in [(1_000, 50), (10_000, 50), (1_000, 200)] {
        let mut engine = shapes::engine(dashboards, watch);
        let id = BenchmarkId::from_parameter(format!("{dashboards} dashboards of {watch}"));
        group.bench_function(id, |b| b.iter(|| run(&mut engine, &ticks)));
    }

    let mut engine = Engine::new();
    for s in 0..200 {
        engine.set(
            SubscriberId(s),
            FLEET,
            &VehicleSet::Whole,
            VehicleSet::Whole,
        );
    }
    group.bench_function("200 dashboards of the whole fleet", |b| {
        b.iter(|| run(&mut engine, &ticks));
    });
    group.bench_function("nobody", |b| b.iter(|| run(&mut Engine::new(), &ticks)));
    group.finish();
}
