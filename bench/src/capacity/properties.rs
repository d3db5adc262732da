//! What must hold of any plan, whatever the coefficients.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::coefficients::{Coefficient, Coefficients, Key};
use super::model::{Bound, Fleet, NodeKind, Part, Plan, plan};
use crate::audience::Watch;

/// A fleet of one region that reports every five seconds.
pub fn fleet(vehicles: u64, dashboards: u64) -> Fleet {
    Fleet {
        vehicles,
        interval_seconds: 5.0,
        dashboards,
        watch: Watch::Count(200),
        min_interval_seconds: 0.0,
        away: 0.0,
        session_seconds: 3_600.0,
        regions: 1,
        tls: true,
    }
}

/// An ordinary one.
pub fn node() -> NodeKind {
    NodeKind {
        cores: 16,
        memory_bytes: 64e9,
        nic_bits_per_second: 10e9,
        headroom: 0.4,
        spares: 1,
    }
}

fn coefficients(scales: &[f64]) -> Coefficients {
    let (built_in, _) = Coefficients::built_in().unwrap();
    let scaled: BTreeMap<Key, Coefficient> = Key::ALL
        .into_iter()
        .zip(scales)
        .map(|(key, scale)| {
            let mut coefficient = built_in.get(key).unwrap().clone();
            coefficient.value *= scale;
            (key, coefficient)
        })
        .collect();
    Coefficients::new(scaled).unwrap()
}

fn any_coefficients() -> impl Strategy<Value = Coefficients> {
    prop::collection::vec(0.1..4.0f64, Key::ALL.len()).prop_map(|scales| coefficients(&scales))
}

prop_compose! {
    fn any_fleet()(
        vehicles in 1u64..30_000_000,
        dashboards in 0u64..100_000,
        watch in prop_oneof![9 => (0u32..2_000).prop_map(Watch::Count), 1 => Just(Watch::All)],
        interval_seconds in 1.0..600.0f64,
        min_interval_seconds in prop_oneof![Just(0.0), 0.0..2.0f64],
        away in 0.0..1.0f64,
        session_seconds in 60.0..86_400.0f64,
        regions in 1u32..20,
        tls in any::<bool>(),
    ) -> Fleet {
        // A dashboard of everything is rare, or no node of any size would do.
        let dashboards = if watch == Watch::All { dashboards.min(3) } else { dashboards };
        Fleet {
            vehicles, interval_seconds, dashboards, watch, min_interval_seconds, away, session_seconds, regions, tls,
        }
    }
}

prop_compose! {
    fn any_node()(
        cores in 2u32..128, gibibytes in 8.0..1_024.0f64, gigabits in 1.0..100.0f64,
        headroom in 0.0..0.7f64, spares in 0u64..3,
    ) -> NodeKind {
        NodeKind {
            cores,
            memory_bytes: gibibytes * (1u64 << 30) as f64,
            nic_bits_per_second: gigabits * 1e9,
            headroom,
            spares,
        }
    }
}

/// A fleet that no such node carries needs infinitely many.
fn nodes(fleet: &Fleet, node: &NodeKind, coefficients: &Coefficients) -> u64 {
    plan(fleet, node, coefficients).map_or(u64::MAX, |plan| plan.nodes)
}

fn sum(plan: &Plan, parts: &[Part]) -> f64 {
    let of = plan.terms.iter().filter(|term| parts.contains(&term.part));
    of.map(super::model::Term::total).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn more_of_anything_never_needs_fewer_nodes(
        fleet in any_fleet(), node in any_node(), coefficients in any_coefficients(), more in 1.0..3.0f64,
    ) {
        let least = nodes(&fleet, &node, &coefficients);
        let grown = |change: &dyn Fn(&mut Fleet)| {
            let mut other = fleet.clone();
            change(&mut other);
            nodes(&other, &node, &coefficients)
        };
        prop_assert!(grown(&|fleet| fleet.vehicles = (fleet.vehicles as f64 * more) as u64 + 1) >= least, "vehicles");
        prop_assert!(grown(&|fleet| fleet.dashboards = (fleet.dashboards as f64 * more) as u64 + 1) >= least, "dashboards");
        prop_assert!(grown(&|fleet| if let Watch::Count(count) = &mut fleet.watch { *count += 50 }) >= least, "watch");
        prop_assert!(grown(&|fleet| fleet.session_seconds /= more) >= least, "shorter sessions");
        prop_assert!(grown(&|fleet| fleet.min_interval_seconds /= more) >= least, "more frames");
        let mut kept_free = node.clone();
        kept_free.headroom = (kept_free.headroom * more).min(0.9);
        prop_assert!(nodes(&fleet, &kept_free, &coefficients) >= least, "headroom");
    }

    #[test]
    fn a_greater_node_never_needs_more_of_them(
        fleet in any_fleet(), node in any_node(), coefficients in any_coefficients(), more in 1.0..3.0f64,
    ) {
        let most = nodes(&fleet, &node, &coefficients);
        let with = |change: &dyn Fn(&mut NodeKind)| {
            let mut other = node.clone();
            change(&mut other);
            nodes(&fleet, &other, &coefficients)
        };
        prop_assert!(with(&|node| node.memory_bytes *= more) <= most, "memory");
        prop_assert!(with(&|node| node.nic_bits_per_second *= more) <= most, "network");
    }

    #[test]
    fn dearer_coefficients_never_need_fewer_nodes(
        fleet in any_fleet(), node in any_node(),
        scales in prop::collection::vec(0.1..4.0f64, Key::ALL.len()), which in 0..Key::ALL.len(),
    ) {
        let cheap = nodes(&fleet, &node, &coefficients(&scales));
        let mut dearer = scales;
        dearer[which] *= 2.0;
        prop_assert!(nodes(&fleet, &node, &coefficients(&dearer)) >= cheap);
    }

    #[test]
    fn what_is_planned_fits_and_its_terms_add_up(
        fleet in any_fleet(), node in any_node(), coefficients in any_coefficients(),
    ) {
        let Ok(plan) = plan(&fleet, &node, &coefficients) else { return Ok(()) };
        for used in &plan.uses {
            prop_assert!(used.share() <= 1.0 - node.headroom + 1e-9, "{used:?}");
            let terms = match used.of {
                Bound::Memory => sum(&plan, &[Part::GatewayMemory, Part::KernelMemory]),
                Bound::Cores => sum(&plan, &[Part::Cpu]) / 1e6,
                Bound::NicIn => sum(&plan, &[Part::Received]) * 8.0,
                Bound::NicOut => sum(&plan, &[Part::Sent]) * 8.0,
            };
            prop_assert!((terms - used.used).abs() <= used.used * 1e-9);
        }
        for term in &plan.terms {
            prop_assert!(term.total().is_finite() && term.total() >= 0.0, "{term:?}");
        }
        let most = plan.uses.iter().map(|used| used.share()).fold(0.0, f64::max);
        prop_assert!(plan.uses.iter().any(|used| used.of == plan.bound_by && used.share() == most));
        prop_assert_eq!(plan.nodes, plan.nodes_needed + node.spares);
        // Whoever hears something hears no more than what is said, each of the other nodes once.
        let Plan { backplane, nodes, .. } = &plan;
        let heard = backplane.received_per_second - backplane.from_regions_per_second * *nodes as f64;
        prop_assert!(heard <= backplane.published_per_second * *nodes as f64 + 1e-6, "{:?}", backplane);
    }
}

#[test]
fn one_node_less_would_be_too_few() {
    let coefficients = coefficients(&[1.0; Key::ALL.len()]);
    let mut kind = node();
    kind.spares = 0;
    let fleet = fleet(20_000_000, 20_000);
    let found = plan(&fleet, &kind, &coefficients).unwrap();
    assert!(found.nodes > 1);
    let used = found
        .uses
        .iter()
        .find(|used| used.of == found.bound_by)
        .unwrap();
    let on_one_less = used.share() * found.nodes as f64 / (found.nodes - 1) as f64;
    assert!(on_one_less > 0.55, "{on_one_less}");
}

#[test]
fn one_node_alone_has_no_backplane() {
    let coefficients = coefficients(&[1.0; Key::ALL.len()]);
    let mut kind = node();
    kind.spares = 0;
    let alone = plan(&fleet(1_000, 10), &kind, &coefficients).unwrap();
    assert_eq!(
        (alone.nodes, alone.backplane.published_per_second),
        (1, 0.0)
    );
    assert_eq!(
        (
            alone.backplane.received_per_second,
            alone.seconds_to_reconnect
        ),
        (0.0, None)
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let (whole, _) = Coefficients::built_in().unwrap();
    let mut small = node();
    small.memory_bytes = 1e6;
    let error = plan(&fleet(1_000, 10), &small, &whole)
        .unwrap_err()
        .to_string();
    assert!(error.contains("too small"), "{error}");
    let without = Key::ALL[..15]
        .iter()
        .map(|&key| (key, whole.get(key).unwrap().clone()))
        .collect();
    let without = Coefficients::new(without).unwrap();
    let error = plan(&fleet(1_000, 10), &node(), &without)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--no-tls"), "{error}");
}

#[test]
fn frames_are_counted_as_a_measured_run_had_them() {
    // fanout, 20 dashboards of 50 out of 500 vehicles, 2,000 updates a second: 3,610 frames a second were measured.
    let coefficients = coefficients(&[1.0; Key::ALL.len()]);
    let mut fleet = fleet(500, 20);
    (fleet.watch, fleet.interval_seconds) = (Watch::Count(50), 0.25);
    let mut kind = node();
    kind.spares = 0;
    let plan = plan(&fleet, &kind, &coefficients).unwrap();
    let frames = plan
        .terms
        .iter()
        .find(|term| term.name == "frames to dashboards")
        .unwrap();
    assert!(
        (frames.count / 3_610.0 - 1.0).abs() < 0.02,
        "{}",
        frames.count
    );
}
