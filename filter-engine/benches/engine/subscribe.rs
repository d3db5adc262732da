//! What changing filters costs, among 10,000 dashboards of 50 vehicles out of 100,000.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use longhaul_filter_engine::{RoaringBitmap, SubscriberId, VehicleSet};

use crate::shapes::{self, FLEET, Numbers};

const DASHBOARDS: u32 = 10_000;
/// The subscriber that comes, changes and goes.
const GUEST: SubscriberId = SubscriberId(DASHBOARDS);

pub fn subscribe(c: &mut Criterion) {
    let mut group = c.benchmark_group("subscribe");
    group.throughput(Throughput::Elements(1));
    let mut engine = shapes::engine(DASHBOARDS, 50);
    let mut numbers = Numbers(3);
    let filters: Vec<_> = (0..1_000).map(|_| numbers.filter(50)).collect();

    let mut turn = filters.iter().cycle();
    group.bench_function("a new filter of 50 and unsubscribe", |b| {
        b.iter(|| {
            let filter = turn.next().cloned().unwrap_or_default();
            let set = engine.set(GUEST, FLEET, &VehicleSet::Whole, filter);
            black_box((set, engine.remove(GUEST)))
        });
    });

    group.bench_function("all of 50 replaced", |b| {
        b.iter(|| {
            let filter = turn.next().cloned().unwrap_or_default();
            black_box(engine.set(GUEST, FLEET, &VehicleSet::Whole, filter))
        });
    });

    let VehicleSet::Some(base) = numbers.filter(50) else {
        return;
    };
    let mut step = 0;
    group.bench_function("one of 50 replaced", |b| {
        b.iter(|| {
            let mut filter: RoaringBitmap = base.clone();
            step += 1;
            filter.remove(filter.min().unwrap_or(0));
            filter.insert(filter.max().unwrap_or(0) + 1 + step % 2);
            black_box(engine.set(GUEST, FLEET, &VehicleSet::Whole, VehicleSet::Some(filter)))
        });
    });

    let shared = filters[0].clone();
    engine.set(
        SubscriberId(DASHBOARDS + 1),
        FLEET,
        &VehicleSet::Whole,
        shared.clone(),
    );
    engine.remove(GUEST);
    group.bench_function("a filter that others have and unsubscribe", |b| {
        b.iter(|| {
            let set = engine.set(GUEST, FLEET, &VehicleSet::Whole, shared.clone());
            black_box((set, engine.remove(GUEST)))
        });
    });
    group.bench_function("the whole fleet and unsubscribe", |b| {
        b.iter(|| {
            let set = engine.set(GUEST, FLEET, &VehicleSet::Whole, VehicleSet::Whole);
            black_box((set, engine.remove(GUEST)))
        });
    });
    group.finish();
}
