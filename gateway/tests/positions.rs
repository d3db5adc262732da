//! Positions from vehicles to dashboards, through the real gateway: who gets what, and in which order.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use longhaul_codec::{Ack, AckKind, Message, PositionBatch, Subscribe, SubscribeMode, Unsubscribe};

use crate::common::client::{Client, fix, of, unwatch, watch, watch_all};
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

/// The kernel spreads connections over the shards by their ports, so some of so many are on each.
#[test]
fn a_vehicle_reaches_dashboards_on_every_shard() {
    let gateway = Gateway::start(4);
    let token = gateway.dashboard_token("me");
    let mut dashboards: Vec<_> = (0..32)
        .map(|n| match n % 2 {
            0 => Client::connect(&gateway, &token),
            _ => Client::connect_json(&gateway, &token),
        })
        .collect();
    let names: Vec<_> = (0..8).map(|n| format!("truck-{n}")).collect();
    for (n, dashboard) in dashboards.iter_mut().enumerate() {
        // Every fourth watches the whole fleet, the others by name.
        let ack = match n % 4 {
            0 => dashboard.subscribe(watch_all(7)),
            _ => dashboard.subscribe(Subscribe {
                request: 7,
                vehicles: names.clone(),
                ..Subscribe::default()
            }),
        };
        let watching = if n % 4 == 0 { Ack::WHOLE_FLEET } else { 8 };
        assert_eq!(ack.watching, watching);
    }
    let mut vehicles: Vec<_> = names
        .iter()
        .map(|name| Client::vehicle(&gateway, name))
        .collect();
    for n in 1..=5 {
        for (vehicle, name) in vehicles.iter_mut().zip(&names) {
            vehicle.report(fix(n));
            for dashboard in &mut dashboards {
                let expected = (name.clone(), of(vehicle, fix(n)));
                assert_eq!(dashboard.position(), expected);
            }
        }
    }
    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_positions_in_total"), 5 * 8);
    assert_eq!(metrics.value("longhaul_positions_out_total"), 5 * 8 * 32);
    assert_eq!(metrics.value("longhaul_matches_total"), 5 * 8 * 32);
    let exchanged = metrics.value("longhaul_exchanged_out_total");
    assert!(exchanged > 0, "no shard had anything for another");
    assert_eq!(metrics.value("longhaul_exchanged_in_total"), exchanged);
}

#[test]
fn a_fleet_sees_nothing_of_another() {
    let gateway = Gateway::start(2);
    let mut ours = Client::connect(&gateway, &gateway.token("dashboard", "ours", "me"));
    let mut theirs = Client::connect(&gateway, &gateway.token("dashboard", "theirs", "me"));
    assert_eq!(theirs.welcome().fleet, "theirs");
    // Same ids, different vehicles; and a wish for all.
    ours.subscribe(watch(1, &["truck-1", "truck-2"]));
    theirs.subscribe(watch(1, &["truck-1", "truck-2"]));
    theirs.subscribe(watch_all(2));

    let mut our_vehicle = Client::connect(&gateway, &gateway.token("vehicle", "ours", "truck-1"));
    let mut their_vehicle =
        Client::connect(&gateway, &gateway.token("vehicle", "theirs", "truck-1"));
    assert_ne!(
        our_vehicle.welcome().vehicle,
        their_vehicle.welcome().vehicle
    );
    for n in 1..=10 {
        our_vehicle.report(fix(n));
        let expected = ("truck-1".to_owned(), of(&our_vehicle, fix(n)));
        assert_eq!(ours.position(), expected);
    }
    // What comes first to the other dashboard is its own fleet's.
    their_vehicle.report(fix(100));
    let expected = ("truck-1".to_owned(), of(&their_vehicle, fix(100)));
    assert_eq!(theirs.position(), expected);
    assert_eq!(theirs.drain(), []);

    // Nor does a snapshot leak, or a name.
    let mut late = Client::connect(&gateway, &gateway.token("dashboard", "theirs", "late"));
    late.subscribe(watch_all(1));
    assert_eq!(late.position(), expected);
    assert_eq!(late.drain(), []);
}

/// Conflation: with an interval, a dashboard gets fewer messages, each with the newest position, and the last one.
#[test]
fn an_interval_conflates_and_never_goes_back() {
    const INTERVAL_MS: u32 = 50;
    const REPORTS: u32 = 2_000;
    let gateway = Gateway::start_with(2, &["--set", "limits.messages_per_second_max=0"]);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    let subscribed = Instant::now();
    dashboard.subscribe(Subscribe {
        min_interval_ms: INTERVAL_MS,
        ..watch(1, &["truck-1"])
    });

    let reporting = std::thread::spawn(move || {
        for n in 1..=REPORTS {
            vehicle.report(fix(n));
        }
        // Everything was taken.
        assert_eq!(vehicle.drain(), []);
    });
    let (mut messages, mut last) = (0, 0);
    while last < fix(REPORTS).time_ms {
        let (_, fix) = dashboard.position();
        assert!(fix.time_ms > last, "{} after {last}", fix.time_ms);
        last = fix.time_ms;
        messages += 1;
    }
    reporting.join().expect("every report is taken");
    // The gateway sent the first message after this clock was started, and the last one before it was stopped; its
    // own clock counts whole milliseconds.
    let elapsed_ms = subscribed.elapsed().as_millis() + 1;
    let most = 1 + elapsed_ms / u128::from(INTERVAL_MS);
    assert!(messages <= most, "{messages} messages in {elapsed_ms} ms");

    let metrics = Metrics::of(gateway.control());
    let taken = metrics.value("longhaul_positions_in_total");
    assert_eq!(taken, u64::from(REPORTS));
    assert_eq!(metrics.value("longhaul_positions_stale_total"), 0);
    assert_eq!(
        u128::from(metrics.value("longhaul_positions_out_total")),
        messages
    );
}

/// One who does not read for a while gets what is newest when he reads on, never a queue of old positions in between.
#[test]
fn many_vehicles_stay_in_order_each() {
    const REPORTS: u32 = 300;
    let gateway = Gateway::start(4);
    let names: Vec<_> = (0..12).map(|n| format!("truck-{n}")).collect();
    let mut dashboards: Vec<_> = (0..6).map(|_| Client::dashboard(&gateway, "me")).collect();
    for dashboard in &mut dashboards {
        dashboard.subscribe(watch_all(1));
    }
    let reporting: Vec<_> = names
        .iter()
        .map(|name| {
            let mut vehicle = Client::vehicle(&gateway, name);
            std::thread::spawn(move || {
                for n in 1..=REPORTS {
                    vehicle.report(fix(n));
                }
                assert_eq!(vehicle.drain(), []);
            })
        })
        .collect();
    for dashboard in &mut dashboards {
        let mut newest = HashMap::new();
        while newest
            .values()
            .filter(|&&time_ms| time_ms == fix(REPORTS).time_ms)
            .count()
            < names.len()
        {
            for (id, fix) in dashboard.positions() {
                let before = newest.insert(id, fix.time_ms).unwrap_or(0);
                assert!(fix.time_ms > before, "{} after {before}", fix.time_ms);
            }
        }
        assert_eq!(dashboard.drain(), []);
    }
    for vehicle in reporting {
        vehicle.join().expect("every report is taken");
    }
}

#[test]
fn an_older_fix_changes_nothing() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));
    vehicle.report(fix(10));
    assert_eq!(dashboard.position().1, of(&vehicle, fix(10)));
    vehicle.report(fix(9));
    // A batch leaves the newest of its fixes.
    vehicle.send(&Message::PositionBatch(PositionBatch {
        fixes: vec![fix(8), fix(11), fix(12)],
        vehicle_id: None,
    }));
    assert_eq!(dashboard.position().1, of(&vehicle, fix(12)));
    assert_eq!(vehicle.drain(), []);
    assert_eq!(dashboard.drain(), []);
    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_positions_in_total"), 5);
    assert_eq!(metrics.value("longhaul_positions_stale_total"), 2);
}

#[test]
fn a_new_dashboard_gets_the_last_known_positions() {
    let gateway = Gateway::start(2);
    let mut one = Client::vehicle(&gateway, "truck-1");
    let mut two = Client::vehicle(&gateway, "truck-2");
    let _silent = Client::vehicle(&gateway, "truck-3");
    for n in 1..=9 {
        one.report(fix(n));
    }
    two.report(fix(50));
    one.drain();
    two.drain();
    let last = [
        ("truck-1".to_owned(), of(&one, fix(9))),
        ("truck-2".to_owned(), of(&two, fix(50))),
    ];
    // Vehicles that are gone are still known.
    two.close();

    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1", "truck-2", "truck-3", "never seen"]));
    assert_eq!(dashboard.positions(), last);
    let mut all = Client::dashboard(&gateway, "me");
    assert_eq!(all.subscribe(watch_all(1)).watching, Ack::WHOLE_FLEET);
    let mut snapshot = all.positions();
    // The vehicle that left may be named and sent apart from the others.
    while snapshot.len() < last.len() {
        snapshot.extend(all.positions());
    }
    assert_eq!(snapshot, last);
    assert_eq!(dashboard.drain(), []);
}

#[test]
fn a_vehicle_may_be_watched_before_it_exists() {
    let gateway = Gateway::start(2);
    let mut dashboard = Client::dashboard(&gateway, "me");
    let ack = dashboard.subscribe(watch(1, &["truck of tomorrow"]));
    assert_eq!(ack.watching, 1);
    let mut other = Client::vehicle(&gateway, "truck of today");
    other.report(fix(1));
    other.drain();
    let mut vehicle = Client::vehicle(&gateway, "truck of tomorrow");
    vehicle.report(fix(2));
    let expected = ("truck of tomorrow".to_owned(), of(&vehicle, fix(2)));
    assert_eq!(dashboard.position(), expected);
}

/// Every change takes effect on the connection that is there, and the acknowledgement parts before from after.
#[test]
fn a_subscription_changes_in_place() {
    let gateway = Gateway::start(2);
    let names = ["truck-1", "truck-2", "truck-3"];
    let mut vehicles = names.map(|name| Client::vehicle(&gateway, name));
    let mut dashboard = Client::dashboard(&gateway, "me");
    // Sees everything, so that the test knows when a report has gone through.
    let mut witness = Client::dashboard(&gateway, "witness");
    witness.subscribe(watch_all(1));
    let mut n = 0;
    let mut everybody_reports = || {
        n += 1;
        for vehicle in &mut vehicles {
            vehicle.report(fix(n));
            assert_eq!(witness.position().1, of(vehicle, fix(n)));
        }
        fix(n).time_ms
    };
    // What the dashboard is sent next is the newest fix of these vehicles, once each.
    let sees = |dashboard: &mut Client, time_ms: u64, expected: &[&str]| {
        let mut missing: BTreeSet<_> = expected.iter().copied().collect();
        while !missing.is_empty() {
            for (id, fix) in dashboard.positions() {
                assert_eq!(fix.time_ms, time_ms, "{id}");
                assert!(
                    missing.remove(&*id),
                    "{id} is not of {expected:?}, or twice"
                );
            }
        }
    };

    dashboard.subscribe(watch(1, &["truck-1"]));
    let time_ms = everybody_reports();
    sees(&mut dashboard, time_ms, &["truck-1"]);

    // Add: the snapshot has what is new only.
    assert_eq!(dashboard.subscribe(watch(2, &["truck-3"])).watching, 2);
    sees(&mut dashboard, time_ms, &["truck-3"]);
    let time_ms = everybody_reports();
    sees(&mut dashboard, time_ms, &["truck-1", "truck-3"]);

    // Replace: what stays is not sent again.
    let replace = Subscribe {
        mode: SubscribeMode::Replace,
        ..watch(3, &["truck-2", "truck-3"])
    };
    assert_eq!(dashboard.subscribe(replace).watching, 2);
    sees(&mut dashboard, time_ms, &["truck-2"]);
    let time_ms = everybody_reports();
    sees(&mut dashboard, time_ms, &["truck-2", "truck-3"]);

    // Unsubscribe one, and one that was not watched.
    let ack = dashboard.ask(AckKind::Unsubscribe, 4, unwatch(4, &["truck-3", "truck-1"]));
    assert_eq!(ack.watching, 1);
    let time_ms = everybody_reports();
    sees(&mut dashboard, time_ms, &["truck-2"]);

    // The whole fleet, and back to the one vehicle.
    assert_eq!(dashboard.subscribe(watch_all(5)).watching, Ack::WHOLE_FLEET);
    sees(&mut dashboard, time_ms, &["truck-1", "truck-3"]);
    let time_ms = everybody_reports();
    sees(&mut dashboard, time_ms, &names);
    let whole_fleet = true;
    let narrow = Unsubscribe {
        whole_fleet,
        ..unwatch(6, &[])
    };
    assert_eq!(dashboard.ask(AckKind::Unsubscribe, 6, narrow).watching, 1);
    let time_ms = everybody_reports();
    sees(&mut dashboard, time_ms, &["truck-2"]);

    // Nothing, and something again.
    let everything = true;
    let nothing = Unsubscribe {
        everything,
        ..unwatch(7, &[])
    };
    assert_eq!(dashboard.ask(AckKind::Unsubscribe, 7, nothing).watching, 0);
    let time_ms = everybody_reports();
    dashboard.subscribe(watch(8, &["truck-1"]));
    sees(&mut dashboard, time_ms, &["truck-1"]);
    assert_eq!(dashboard.drain(), []);
}

#[test]
fn whoever_joins_a_watched_fleet_is_named_first() {
    let gateway = Gateway::start(4);
    let token = gateway.dashboard_token("me");
    let mut dashboards: Vec<_> = (0..8)
        .map(|n| match n % 2 {
            0 => Client::connect(&gateway, &token),
            _ => Client::connect_json(&gateway, &token),
        })
        .collect();
    for dashboard in &mut dashboards {
        dashboard.subscribe(watch_all(1));
    }
    for n in 1..=10 {
        let name = format!("truck-{n}");
        let mut vehicle = Client::vehicle(&gateway, &name);
        vehicle.report(fix(n));
        for dashboard in &mut dashboards {
            // `position` fails if the name has not come before.
            assert_eq!(dashboard.position(), (name.clone(), of(&vehicle, fix(n))));
        }
    }
}
