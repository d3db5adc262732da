//! `cargo bench -p longhaul-filter-engine`: routing per message, and changing filters.

use criterion::{criterion_group, criterion_main};

mod route;
mod shapes;
mod subscribe;

criterion_group!(benches, route::route, subscribe::subscribe);
criterion_main!(benches);
