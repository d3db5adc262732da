//! Delivery `Every`: each position, in order, up to a bound.

use longhaul_codec::{AckKind, Delivery, ErrorCode, Message, Subscribe, Unsubscribe};

use crate::common::client::{Client, fix, of, watch, watch_all};
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

const UNHURRIED: [&str; 2] = ["--set", "limits.messages_per_second_max=0"];

fn every(subscribe: Subscribe) -> Subscribe {
    Subscribe {
        delivery: Delivery::Every,
        ..subscribe
    }
}

/// The times of the next fixes, until there are this many.
fn times(dashboard: &mut Client, count: usize) -> Vec<u64> {
    let mut times = Vec::new();
    while times.len() < count {
        times.extend(dashboard.positions().iter().map(|(_, fix)| fix.time_ms));
    }
    times
}

/// On one shard and across shards; by id and as part of the fleet; with and without an interval.
#[test]
fn each_position_arrives_once_and_in_order() {
    const REPORTS: u32 = 500;
    for shards in [1, 4] {
        let gateway = Gateway::start_with(shards, &UNHURRIED);
        let mut trucks: Vec<_> = (0..4)
            .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
            .collect();
        for truck in &mut trucks {
            truck.report(fix(1));
            assert_eq!(truck.drain(), []);
        }
        let wishes = [
            every(watch(1, &["truck-0", "truck-1", "truck-2", "truck-3"])),
            every(watch_all(1)),
            Subscribe {
                min_interval_ms: 50,
                ..every(watch_all(1))
            },
        ];
        let mut dashboards: Vec<_> = wishes
            .into_iter()
            .enumerate()
            .map(|(n, wish)| {
                let mut dashboard = if n == 1 {
                    Client::connect_json(&gateway, &gateway.dashboard_token("json"))
                } else {
                    Client::dashboard(&gateway, "me")
                };
                dashboard.subscribe(wish);
                // The snapshot. What comes before it is read would stand in its place.
                assert_eq!(times(&mut dashboard, 4), [fix(1).time_ms; 4]);
                dashboard
            })
            .collect();
        for n in 2..=REPORTS {
            for truck in &mut trucks {
                truck.report(fix(n));
            }
        }
        let expected: Vec<u64> = (2..=REPORTS).map(|n| fix(n).time_ms).collect();
        for (n, dashboard) in dashboards.iter_mut().enumerate() {
            let mut seen: Vec<Vec<u64>> = vec![Vec::new(); trucks.len()];
            while seen.iter().map(Vec::len).sum::<usize>() < trucks.len() * (REPORTS - 1) as usize {
                for (name, fix) in dashboard.positions() {
                    let truck: usize = name["truck-".len()..].parse().expect("a number");
                    seen[truck].push(fix.time_ms);
                }
            }
            for times in seen {
                assert!(
                    times == expected,
                    "shards {shards}, dashboard {n}: {times:?}"
                );
            }
            assert_eq!(dashboard.drain(), []);
        }
        let dropped = Metrics::of(gateway.control()).value("longhaul_positions_dropped_total");
        assert_eq!(dropped, 0);
    }
}

/// Beyond its bytes the oldest go. The dashboard is told, and what it gets is still in order.
#[test]
fn beyond_the_bound_the_oldest_are_dropped_and_the_dashboard_is_told() {
    let gateway = Gateway::start_with(
        1,
        &[
            "--set",
            "limits.messages_per_second_max=0",
            "--set",
            "limits.bytes_per_second_max=0",
            "--set",
            "limits.every_queue_bytes_max=4096",
        ],
    );
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    // The interval makes the positions wait: 4,096 bytes hold 128 of them.
    dashboard.subscribe(Subscribe {
        min_interval_ms: 1_000,
        ..every(watch(1, &["truck-1"]))
    });
    for n in 1..=2_000 {
        truck.report(fix(n));
    }
    assert_eq!(truck.drain(), []);
    let (mut seen, mut told) = (Vec::new(), 0u64);
    while seen.last() != Some(&fix(2_000).time_ms) {
        match dashboard.next() {
            Message::Error(error) => {
                assert_eq!(error.code, ErrorCode::LimitReached);
                let count = error.message.split(' ').next().expect("a number");
                told += count.parse::<u64>().expect("a number");
            }
            Message::Positions(positions) => {
                seen.extend(positions.fixes.iter().map(|fix| fix.time_ms));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    let metrics = Metrics::of(gateway.control());
    let dropped = metrics.value("longhaul_positions_dropped_total");
    assert!(dropped >= 1_000, "{dropped}");
    assert_eq!((told, seen.len() as u64), (dropped, 2_000 - dropped));
}

#[test]
fn a_dashboard_may_change_its_mind() {
    let gateway = Gateway::start_with(2, &UNHURRIED);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));
    truck.report(fix(1));
    assert_eq!(dashboard.position().1, of(&truck, fix(1)));
    dashboard.subscribe(every(watch(2, &["truck-1"])));
    for n in 2..=300 {
        truck.report(fix(n));
    }
    let expected: Vec<u64> = (2..=300).map(|n| fix(n).time_ms).collect();
    assert_eq!(times(&mut dashboard, 299), expected);
    dashboard.subscribe(watch(3, &["truck-1"]));
    for n in 301..=600 {
        truck.report(fix(n));
    }
    let mut last = 0;
    while last < fix(600).time_ms {
        let (_, fix) = dashboard.position();
        assert!(fix.time_ms > last);
        last = fix.time_ms;
    }
}

/// What comes all the time must not keep those waiting that are quiet.
#[test]
fn a_busy_vehicle_does_not_starve_a_quiet_ones_snapshot() {
    let gateway = Gateway::start_with(1, &UNHURRIED);
    let mut quiet = Client::vehicle(&gateway, "quiet");
    quiet.report(fix(1));
    assert_eq!(quiet.drain(), []);
    let mut busy = Client::vehicle(&gateway, "busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Acquire) {
                n += 1;
                busy.report(fix(n));
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        let mut dashboard = Client::dashboard(&gateway, "me");
        dashboard.subscribe(every(watch_all(1)));
        let mut others = 0;
        while !dashboard
            .positions()
            .iter()
            .any(|(name, _)| name == "quiet")
        {
            others += 1;
            assert!(
                others < 1_000,
                "{others} messages, and none of the quiet one"
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Release);
    });
}

/// What waited for the end of an interval is not lost with the queue, and not sent to one who wants no more positions.
#[test]
fn what_waits_follows_the_wish() {
    let gateway = Gateway::start_with(1, &UNHURRIED);
    // A vehicle of its own each: one that has reported before would begin with a snapshot, or not, as fast as it is.
    let waiting = |user: &str, n: u32| {
        let mut truck = Client::vehicle(&gateway, user);
        let mut dashboard = Client::dashboard(&gateway, user);
        dashboard.subscribe(Subscribe {
            min_interval_ms: 60_000,
            ..every(watch(1, &[user]))
        });
        truck.report(fix(n));
        assert_eq!(dashboard.position().1, of(&truck, fix(n)));
        truck.report(fix(n + 1));
        assert_eq!(truck.drain(), []);
        assert_eq!(dashboard.drain(), [], "it waits for the interval's end");
        (dashboard, of(&truck, fix(n + 1)), truck)
    };
    let (mut latest, expected, _truck) = waiting("latest", 1);
    latest.subscribe(watch(2, &["latest"]));
    assert_eq!(latest.position().1, expected);

    let (mut none, _, _truck) = waiting("none", 11);
    let less = Unsubscribe {
        request: 2,
        topics: vec!["positions".to_owned()],
        ..Unsubscribe::default()
    };
    none.ask(AckKind::Unsubscribe, 2, less);
    none.subscribe(Subscribe {
        request: 3,
        topics: vec!["presence".to_owned()],
        ..Subscribe::default()
    });
    assert_eq!(none.presence().len(), 1);
    assert_eq!(none.drain(), [], "no position after the Ack");
}
