//! Who gets what: turns the vehicles that changed in a tick into the dashboards that watch them.
//!
//! One [`Engine`] per shard, single-threaded. It has no clock, no sockets and no knowledge of the wire.
//!
//! | module | idea |
//! |---|---|
//! | `ids` | the numbers that everything here is keyed by |
//! | `set` | a set of vehicles, or the symbol "whole fleet, and those that join later" |
//! | `filter` | the same at rest, in less memory |
//! | `wanted` | what a client asked for, kept so that a changed grant can be applied to it again |
//! | `groups` | subscribers with equal filters share one group: one bitmap, one set of index entries |
//! | `index` | the inverse: vehicle → groups that watch it, made of `page`s of 8 vehicles |
//! | `route` | a tick's dirty vehicles → one callback per group, with its members and its vehicles |
//! | `engine` | subscribe, update in place, re-grant, unsubscribe |
//! | `change`, `stats` | what the caller must know after a change, and for its metrics |
//! | [`footprint`] | what subscribers will hold on the heap |
//! | `sparse` | an array by dense number whose empty stretches cost nothing |
//!
//! ```
//! use longhaul_filter_engine::{Engine, FleetId, SubscriberId, VehicleIndex, VehicleSet};
//!
//! let (fleet, dashboard, wall) = (FleetId(1), SubscriberId(7), SubscriberId(8));
//! let mut engine = Engine::new();
//! let wanted: VehicleSet = [2, 3, 5].map(VehicleIndex).into_iter().collect();
//! let change = engine.set(dashboard, fleet, &VehicleSet::Whole, wanted.clone());
//! assert_eq!(change.added, wanted);
//! engine.set(wall, fleet, &VehicleSet::Whole, VehicleSet::Whole);
//!
//! let mut told = Vec::new();
//! engine.route(fleet, &[VehicleIndex(3), VehicleIndex(4)], |found| {
//!     told.push((found.members.to_vec(), found.vehicles.to_vec()));
//! });
//! assert_eq!(told, [
//!     (vec![wall], vec![VehicleIndex(3), VehicleIndex(4)]),
//!     (vec![dashboard], vec![VehicleIndex(3)]),
//! ]);
//! ```
//!
//! The cost of routing a message follows the number of groups that watch its vehicle, not the number of
//! dashboards, and nothing is allocated once the scratch space is warm.

#![forbid(unsafe_code)]

mod change;
mod engine;
mod filter;
pub mod footprint;
mod groups;
mod ids;
mod index;
mod members;
mod page;
mod route;
mod set;
mod sparse;
mod stats;
mod wanted;

pub use change::Change;
pub use engine::Engine;
pub use filter::Filter;
pub use ids::{FleetId, GroupId, SubscriberId, VehicleIndex};
pub use roaring::RoaringBitmap;
pub use route::{MATCHES_PER_BATCH_MAX, Match};
pub use set::VehicleSet;
pub use stats::Stats;
pub use wanted::Wanted;
