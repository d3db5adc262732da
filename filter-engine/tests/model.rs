//! The engine against a model that any reader can check: one set per subscriber, every question answered
//! by looking at all of them.

use std::collections::{BTreeMap, BTreeSet};

use longhaul_filter_engine::{
    Change, Engine, Filter, FleetId, Match, RoaringBitmap, SubscriberId, VehicleIndex, VehicleSet,
    Wanted,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const SUBSCRIBERS: u32 = 6;
const FLEETS: u32 = 2;
/// Far enough apart to fall into different pages, leaves and containers.
const VEHICLES: [u32; 9] = [1, 2, 15, 16, 17, 1_023, 1_024, 65_535, 65_536];

#[derive(Clone, Debug)]
enum Step {
    Set {
        s: u32,
        fleet: u32,
        granted: VehicleSet,
        wanted: Wanted,
    },
    Regrant {
        s: u32,
        granted: VehicleSet,
    },
    Remove {
        s: u32,
    },
    Route {
        fleet: u32,
        dirty: BTreeSet<u32>,
    },
}

#[derive(Clone)]
struct Subscriber {
    fleet: u32,
    wanted: Wanted,
    effective: VehicleSet,
}

#[derive(Default)]
struct Model(BTreeMap<u32, Subscriber>);

impl Model {
    fn named(&self) -> BTreeSet<VehicleIndex> {
        let sets = self
            .0
            .values()
            .filter_map(|subscriber| match &subscriber.effective {
                VehicleSet::Whole => None,
                VehicleSet::Some(vehicles) => Some(vehicles.iter().map(VehicleIndex)),
            });
        sets.flatten().collect()
    }

    fn is_fleet_watched(&self, fleet: u32) -> bool {
        let mut all = self.0.values();
        all.any(|subscriber| subscriber.fleet == fleet && subscriber.effective.is_whole())
    }

    /// Puts a subscriber in place of another, and tells what the engine must say about it.
    fn put(&mut self, s: u32, new: Option<Subscriber>) -> Change {
        let (named, whole) = (
            self.named(),
            [0, 1].map(|fleet| self.is_fleet_watched(fleet)),
        );
        let old = self.0.remove(&s);
        let mut change = Change::default();
        if let Some(new) = &new {
            self.0.insert(s, new.clone());
            change.added = match (&old, &new.effective) {
                (Some(old), VehicleSet::Some(vehicles)) if old.fleet == new.fleet => vehicles
                    .iter()
                    .map(VehicleIndex)
                    .filter(|&vehicle| !old.effective.contains(vehicle))
                    .collect(),
                (Some(old), VehicleSet::Whole)
                    if old.fleet == new.fleet && old.effective.is_whole() =>
                {
                    VehicleSet::none()
                }
                (_, effective) => effective.clone(),
            };
        }
        let now = self.named();
        change.watched = now.difference(&named).copied().collect();
        change.unwatched = named.difference(&now).copied().collect();
        let home = new.or(old.clone()).map(|subscriber| subscriber.fleet);
        for fleet in 0..FLEETS {
            let (before, after) = (whole[fleet as usize], self.is_fleet_watched(fleet));
            if before != after && home == Some(fleet) {
                change.fleet_watched = Some(after);
            } else if before != after {
                change.left_fleet = Some(FleetId(fleet));
            }
        }
        change
    }

    fn set(&mut self, s: u32, fleet: u32, granted: &VehicleSet, wanted: Wanted) -> Change {
        let effective = VEHICLES
            .into_iter()
            .filter(|&vehicle| wanted.whole || wanted.vehicles.contains(vehicle))
            .map(VehicleIndex)
            .filter(|&vehicle| granted.contains(vehicle))
            .collect();
        let effective = match granted {
            VehicleSet::Whole if wanted.whole => VehicleSet::Whole,
            _ => effective,
        };
        self.put(
            s,
            Some(Subscriber {
                fleet,
                wanted,
                effective,
            }),
        )
    }

    fn regrant(&mut self, s: u32, granted: &VehicleSet) -> Change {
        match self.0.get(&s).cloned() {
            Some(Subscriber { fleet, wanted, .. }) => self.set(s, fleet, granted, wanted),
            None => Change::default(),
        }
    }

    /// (subscriber, vehicle) pairs.
    fn route(&self, fleet: u32, dirty: &BTreeSet<u32>) -> BTreeSet<(SubscriberId, VehicleIndex)> {
        let mut seen = BTreeSet::new();
        for (&s, subscriber) in &self.0 {
            for vehicle in dirty.iter().copied().map(VehicleIndex) {
                if subscriber.fleet == fleet && subscriber.effective.contains(vehicle) {
                    seen.insert((SubscriberId(s), vehicle));
                }
            }
        }
        seen
    }

    fn groups(&self) -> usize {
        let mut distinct: Vec<(u32, &VehicleSet)> = Vec::new();
        for subscriber in self.0.values() {
            let key = (subscriber.fleet, &subscriber.effective);
            if !distinct.contains(&key) {
                distinct.push(key);
            }
        }
        distinct.len()
    }
}

/// What the engine tells for a tick; fails if it tells anything twice.
fn routed(
    engine: &mut Engine,
    fleet: u32,
    dirty: &BTreeSet<u32>,
) -> BTreeSet<(SubscriberId, VehicleIndex)> {
    let dirty: Vec<VehicleIndex> = dirty.iter().copied().map(VehicleIndex).collect();
    let (mut seen, mut groups) = (BTreeSet::new(), BTreeSet::new());
    engine.route(FleetId(fleet), &dirty, |found: Match<'_>| {
        assert!(
            groups.insert(found.group),
            "{:?} was visited twice",
            found.group
        );
        assert!(!found.members.is_empty() && !found.vehicles.is_empty());
        for &member in found.members {
            for &vehicle in found.vehicles {
                assert!(
                    seen.insert((member, vehicle)),
                    "{member:?} was told {vehicle:?} twice"
                );
            }
        }
    });
    seen
}

fn agree(engine: &Engine, model: &Model) {
    for s in 0..SUBSCRIBERS {
        let expected = model.0.get(&s);
        let s = SubscriberId(s);
        assert_eq!(
            engine.effective(s).map(Filter::to_set),
            expected.map(|subscriber| subscriber.effective.clone())
        );
        assert_eq!(
            engine.wanted(s),
            expected.map(|subscriber| subscriber.wanted.clone())
        );
        // Numbers are reused; a subscriber that moves takes the new one before it gives the old one back.
        assert!(
            engine
                .group_of(s)
                .is_none_or(|group| group.get() <= SUBSCRIBERS + 1)
        );
        for other in (0..SUBSCRIBERS).map(SubscriberId) {
            let (Some(a), Some(b)) = (expected, model.0.get(&other.0)) else {
                continue;
            };
            let equal = a.fleet == b.fleet && a.effective == b.effective;
            assert_eq!(
                engine.group_of(s) == engine.group_of(other),
                equal,
                "{s:?} {other:?}"
            );
        }
    }
    let named = model.named();
    for vehicle in VEHICLES.map(VehicleIndex) {
        assert_eq!(engine.is_watched(vehicle), named.contains(&vehicle));
    }
    for fleet in 0..FLEETS {
        assert_eq!(
            engine.is_fleet_watched(FleetId(fleet)),
            model.is_fleet_watched(fleet)
        );
    }
    let stats = engine.stats();
    assert_eq!(
        (stats.subscribers, stats.groups),
        (model.0.len(), model.groups())
    );
}

/// Mostly small sets, so that filters are often equal.
fn vehicles() -> impl Strategy<Value = RoaringBitmap> {
    let many = prop::sample::subsequence(VEHICLES.to_vec(), 0..=VEHICLES.len());
    let few = prop::sample::subsequence(VEHICLES[..3].to_vec(), 0..=2);
    prop_oneof![many, few].prop_map(|vehicles| vehicles.into_iter().collect())
}

fn granted() -> impl Strategy<Value = VehicleSet> {
    prop_oneof![
        Just(VehicleSet::Whole),
        vehicles().prop_map(VehicleSet::Some)
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (prop::bool::weighted(0.3), vehicles()).prop_map(|(whole, vehicles)| Wanted { whole, vehicles })
}

fn step() -> impl Strategy<Value = Step> {
    let s = 0..SUBSCRIBERS;
    // A subscriber nearly always stays in its fleet.
    let fleet = move |s: u32, moved: bool| if moved { 1 - s % 2 } else { s % 2 };
    let moved = prop::bool::weighted(0.05);
    let dirty = prop::sample::subsequence(VEHICLES.to_vec(), 0..=VEHICLES.len());
    prop_oneof![
        4 => (s.clone(), moved, granted(), wanted()).prop_map(move |(s, moved, granted, wanted)| {
            Step::Set { s, fleet: fleet(s, moved), granted, wanted }
        }),
        2 => (s.clone(), granted()).prop_map(|(s, granted)| Step::Regrant { s, granted }),
        1 => s.prop_map(|s| Step::Remove { s }),
        3 => (0..FLEETS, dirty).prop_map(|(fleet, dirty)| Step::Route {
            fleet,
            dirty: dirty.into_iter().chain([3, 70_000, u32::MAX]).collect(),
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        // An integration test has no lib.rs above it, so it says where its failures are kept.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_leaves_engine_and_model_agreed(
        history in prop::collection::vec(step(), 1..60)
    ) {
        let (mut engine, mut model) = (Engine::new(), Model::default());
        for step in history {
            match step {
                Step::Set { s, fleet, granted, wanted } => {
                    let change =
                        engine.set(SubscriberId(s), FleetId(fleet), &granted, wanted.clone());
                    prop_assert_eq!(change, model.set(s, fleet, &granted, wanted));
                }
                Step::Regrant { s, granted } => {
                    let change = engine.regrant(SubscriberId(s), &granted);
                    prop_assert_eq!(change, model.regrant(s, &granted));
                }
                Step::Remove { s } => {
                    prop_assert_eq!(engine.remove(SubscriberId(s)), model.put(s, None));
                }
                Step::Route { fleet, dirty } => {
                    prop_assert_eq!(routed(&mut engine, fleet, &dirty), model.route(fleet, &dirty));
                }
            }
            agree(&engine, &model);
        }
        for s in 0..SUBSCRIBERS {
            prop_assert_eq!(engine.remove(SubscriberId(s)), model.put(s, None));
        }
        let stats = engine.stats();
        prop_assert_eq!((stats.subscribers, stats.groups, stats.index_entries), (0, 0, 0));
        prop_assert_eq!((stats.heap_bytes, stats.scratch_bytes), (0, 0));
    }
}
