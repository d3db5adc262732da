//! Who is there: presence, and one vehicle's newer connection in place of its older one.

use std::time::{SystemTime, UNIX_EPOCH};

use longhaul_codec::{Message, PresenceState, Subscribe, SubscribeMode, Unsubscribe};

use crate::common::client::{Client, fix, of, watch, watch_all};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

use PresenceState::{Offline, Online, Stale};

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_millis() as u64
}

fn topics(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A wish for the presence of these vehicles, and for nothing else.
fn presence_of(request: u64, vehicles: &[&str]) -> Subscribe {
    Subscribe {
        topics: topics(&["presence"]),
        ..watch(request, vehicles)
    }
}

#[test]
fn a_vehicle_comes_and_goes_before_the_eyes_of_those_who_asked() {
    for shards in [1, 4] {
        let gateway = Gateway::start(shards);
        let began = now_ms();
        let mut dashboard = Client::dashboard(&gateway, "me");
        let mut of_all = Client::connect_json(&gateway, &gateway.dashboard_token("all"));
        let mut unasked = Client::dashboard(&gateway, "positions only");
        dashboard.subscribe(presence_of(1, &["truck-1", "truck-2"]));
        let mut seen = dashboard.presence();
        seen.sort_by_key(|change| change.0.clone());
        let never = |id: &str| (id.to_owned(), Offline, 0);
        assert_eq!(seen, [never("truck-1"), never("truck-2")], "a snapshot");
        unasked.subscribe(watch_all(1));
        of_all.subscribe(Subscribe {
            topics: topics(&["positions", "presence"]),
            ..watch_all(1)
        });
        assert_eq!(of_all.presence().len(), 2);

        let truck = Client::vehicle(&gateway, "truck-1");
        for dashboard in [&mut dashboard, &mut of_all] {
            let change = dashboard.presence().remove(0);
            assert_eq!((change.0.as_str(), change.1), ("truck-1", Online));
            assert!((began..=now_ms()).contains(&change.2), "{change:?}");
        }
        // Not watched by one of them.
        let other = Client::vehicle(&gateway, "truck-3");
        assert_eq!(of_all.presence()[0].0, "truck-3");
        drop(other);
        assert_eq!(of_all.presence()[0].1, Offline);
        drop(truck);
        for dashboard in [&mut dashboard, &mut of_all] {
            let changes = dashboard.presence();
            assert_eq!(changes.len(), 1, "{changes:?}");
            assert_eq!((changes[0].0.as_str(), changes[0].1), ("truck-1", Offline));
        }
        assert_eq!(dashboard.drain(), []);
        let said = unasked.drain();
        assert!(
            said.iter()
                .all(|message| matches!(message, Message::Names(_))),
            "{said:?}"
        );
    }
}

#[test]
fn topics_are_added_and_withdrawn() {
    let gateway = Gateway::start(2);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(1));
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));
    assert_eq!(dashboard.position().1, of(&truck, fix(1)));
    // One topic more: its snapshot, and no second one of positions.
    dashboard.subscribe(Subscribe {
        request: 2,
        topics: topics(&["presence"]),
        ..Subscribe::default()
    });
    assert_eq!(dashboard.presence()[0].1, Online);
    truck.report(fix(2));
    assert_eq!(dashboard.position().1, of(&truck, fix(2)));
    // One less.
    let less = Unsubscribe {
        request: 3,
        topics: topics(&["positions"]),
        ..Unsubscribe::default()
    };
    dashboard.ask(longhaul_codec::AckKind::Unsubscribe, 3, less);
    truck.report(fix(3));
    assert_eq!(truck.drain(), []);
    drop(truck);
    assert_eq!(dashboard.presence()[0].1, Offline, "and no position");
    // Positions instead.
    dashboard.subscribe(Subscribe {
        mode: SubscribeMode::Replace,
        ..watch(4, &["truck-1"])
    });
    assert_eq!(dashboard.position().1.time_ms, fix(3).time_ms);
    drop(Client::vehicle(&gateway, "truck-1"));
    assert_eq!(dashboard.drain(), []);
}

#[test]
fn a_vehicle_that_does_not_report_is_stale_until_it_does() {
    let gateway = Gateway::start_with(2, &["--set", "connection.stale_after_ms=1000"]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(Subscribe {
        topics: topics(&["positions", "presence"]),
        ..watch(1, &["truck-1"])
    });
    let mut states = Vec::new();
    while states.last() != Some(&Stale) {
        states.push(dashboard.presence()[0].1);
    }
    assert!(
        states == [Online, Stale] || states == [Stale],
        "{states:?} (the second if this took longer than a second)"
    );
    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_vehicles_stale"), 1);
    // Talking is not reporting.
    assert_eq!(truck.drain(), []);
    assert_eq!(dashboard.drain(), []);
    truck.report(fix(1));
    let mut said = (None, None);
    while said.0.is_none() || said.1.is_none() {
        match dashboard.next() {
            Message::Presence(presence) => said.0 = Some(presence.changes[0].state),
            Message::Positions(positions) => said.1 = Some(positions.fixes[0]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said, (Some(Online), Some(of(&truck, fix(1)))));
    // Whoever comes later is told how old the position is, and how the vehicle is.
    eventually("it is stale again", || {
        Metrics::of(gateway.control()).value("longhaul_vehicles_stale") == 1
    });
    let mut late = Client::connect_json(&gateway, &gateway.dashboard_token("late"));
    late.subscribe(watch(1, &["truck-1"]));
    let Message::Positions(snapshot) = late.next() else {
        panic!("a snapshot comes first")
    };
    assert_eq!(snapshot.fixes, [of(&truck, fix(1))]);
    assert_eq!(snapshot.last_known.len(), 1);
    assert_eq!(snapshot.last_known[0].state, Stale);
    let age_ms = snapshot.last_known[0].age_ms;
    assert!((1_000..60_000).contains(&age_ms), "{age_ms}");
    truck.report(fix(2));
    let Message::Positions(live) = late.next() else {
        panic!("a position comes next")
    };
    assert_eq!(live.last_known, [], "it is as fresh as can be");
    drop(truck);
    eventually("it is gone", || {
        Metrics::of(gateway.control()).value("longhaul_connections_open{role=\"vehicle\"}") == 0
    });
    assert_eq!(
        Metrics::of(gateway.control()).value("longhaul_vehicles_stale"),
        0
    );
}

/// On one shard and across shards.
#[test]
fn a_newer_connection_takes_over_and_nobody_sees_a_flap() {
    for shards in [1, 4] {
        let gateway = Gateway::start(shards);
        let mut dashboard = Client::dashboard(&gateway, "me");
        dashboard.subscribe(Subscribe {
            topics: topics(&["positions", "presence"]),
            ..watch(1, &["truck-1"])
        });
        assert_eq!(dashboard.presence()[0].1, Offline);
        let mut truck = Client::vehicle(&gateway, "truck-1");
        assert_eq!(dashboard.presence()[0].1, Online);
        for round in 1..=10 {
            let mut newer = Client::vehicle(&gateway, "truck-1");
            assert_eq!(newer.welcome().vehicle, truck.welcome().vehicle);
            let (code, reason) = truck.closed();
            assert_eq!(code, 4502, "{reason}");
            assert!(reason.contains("taken over"), "{reason}");
            newer.report(fix(round));
            assert_eq!(
                dashboard.position().1,
                of(&newer, fix(round)),
                "shards {shards}, round {round}: no change of presence in between"
            );
            truck = newer;
        }
        let closed = "longhaul_connections_closed_total{cause=\"taken_over\"}";
        assert_eq!(Metrics::of(gateway.control()).value(closed), 10);
        drop(truck);
        assert_eq!(dashboard.presence()[0].1, Offline);
        assert_eq!(dashboard.drain(), []);
    }
}

#[test]
fn tabs_are_one_user() {
    let gateway = Gateway::start(4);
    let users = || Metrics::of(gateway.control()).value("longhaul_dashboard_users");
    let tabs: Vec<_> = (0..5).map(|_| Client::dashboard(&gateway, "ada")).collect();
    let other = Client::dashboard(&gateway, "grace");
    assert_eq!(users(), 2);
    drop(tabs);
    eventually("one is left", || users() == 1);
    other.close();
    eventually("nobody is left", || users() == 0);
}
