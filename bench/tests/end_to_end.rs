//! The load generator against the real gateway, small: what the figures come from must itself be right.

mod common;

use common::run;
use serde_json::Value;

/// What no run may show. An update that a newer one of the same vehicle replaced is not lost in this sense: on a busy
/// machine that is the gateway's promise at work.
fn assert_right(report: &Value) {
    let number = |name: &str| {
        report[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} is no number: {report}"))
    };
    for wrong in ["wrong", "duplicates", "out_of_order"] {
        assert_eq!(number(wrong), 0, "{wrong}: {report}");
    }
    assert_eq!(number("lost"), number("conflated"), "{report}");
    assert!(number("delivered") > 0, "{report}");
    assert_eq!(
        number("expected"),
        number("delivered") + number("lost"),
        "{report}"
    );
}

#[test]
fn the_berlin_fleet_reaches_its_dashboards_on_one_shard_and_on_three() {
    let trace = concat!(env!("CARGO_MANIFEST_DIR"), "/data/berlin-5s.csv.gz");
    for shards in ["1", "3"] {
        let report = run(&[
            "replay",
            "--trace",
            trace,
            "--from",
            "600",
            "--seconds",
            "60",
            "--speed",
            "20",
            "--dashboards",
            "20",
            "--watch",
            "50",
            "--watch-all",
            "2",
            "--shards",
            shards,
        ]);
        assert_right(&report);
        assert!(report["inbound"].as_u64() > Some(10_000), "{report}");
    }
}

#[test]
fn synthetic_vehicles_reach_those_who_watch_them() {
    assert_right(&run(&[
        "fanout",
        "--vehicles",
        "200",
        "--rate",
        "1000",
        "--dashboards",
        "20",
        "--watch",
        "30",
        "--seconds",
        "2",
        "--shards",
        "2",
    ]));
}

#[test]
fn idle_connections_are_held_and_measured() {
    for role in ["vehicle", "dashboard"] {
        let report = run(&[
            "idle",
            "--connections",
            "300",
            "--role",
            role,
            "--settle",
            "1",
            "--seconds",
            "1",
        ]);
        assert_eq!(report["connections"], 300, "{report}");
        assert_eq!(report["failed"], 0, "{report}");
        assert!(
            report["gateway_rss_bytes_per_connection"].is_number(),
            "{report}"
        );
    }
}

/// What the checker of a load that is part of a report must say, on a machine however busy.
fn assert_part_right(report: &Value, part: &str) {
    assert_right(&report[part]);
    assert_eq!(report[part]["disconnected"], 0, "{report}");
}

#[test]
fn dashboards_that_hang_resume_with_the_newest_positions() {
    // The long stall is cut short of the gateway's patience here: evictions take half a minute.
    let report = run(&[
        "slow",
        "--stalled",
        "20",
        "--healthy",
        "10",
        "--vehicles",
        "100",
        "--rate",
        "1000",
        "--quiet-seconds",
        "1",
        "--short-stall",
        "3",
        "--stall-seconds",
        "1",
        "--no-check",
    ]);
    assert_part_right(&report, "healthy");
    assert_eq!(report["evicted"], 0, "{report}");
    assert_eq!(report["stalled_errors"], 0, "{report}");
    for wrong in [
        "wrong",
        "duplicates",
        "out_of_order",
        "corrupted",
        "unnamed",
    ] {
        assert_eq!(report["stalled_counts"][wrong], 0, "{wrong}: {report}");
    }
    assert_eq!(report["resumed"]["fresh"], 20, "{report}");
    assert!(report["resumed"]["skipped"].as_u64() > Some(0), "{report}");
    assert!(report["gateway_rss_max"].is_number(), "{report}");
}

#[test]
fn a_storm_brings_everybody_back_and_loses_nobody() {
    let report = run(&[
        "storm",
        "--connections",
        "300",
        "--rounds",
        "2",
        "--vehicles",
        "50",
        "--rate",
        "200",
        "--dashboards",
        "10",
        "--watch",
        "20",
        "--quiet-seconds",
        "1",
        "--no-check",
    ]);
    assert_part_right(&report, "existing");
    assert_eq!(report["everyone_connected"], true, "{report}");
    assert_eq!(report["existing_lost"], 0, "{report}");
    let rounds = report["rounds"].as_array().expect("rounds");
    assert_eq!(rounds.len(), 2, "{report}");
    for round in rounds {
        assert_eq!(round["connected"], 300, "{report}");
        assert!(round["attempts"].as_u64() >= Some(300), "{report}");
    }
}

#[test]
fn a_fleet_that_came_and_went_is_forgotten() {
    for shards in ["1", "2"] {
        let report = run(&[
            "churn",
            "--seconds",
            "3",
            "--vehicles",
            "60",
            "--dashboards",
            "20",
            "--shards",
            shards,
        ]);
        assert_eq!(report["open"], 0, "{report}");
        assert_eq!(report["accepted"], report["closed"], "{report}");
        assert_eq!(report["clients"]["unparseable"], 0, "{report}");
        assert!(
            report["clients"]["welcomed"].as_u64() > Some(80),
            "{report}"
        );
    }
}

/// How fast it is, is not asked here: this gateway is a debug build on a busy machine.
#[test]
fn events_become_durable_and_come_back_after_a_night() {
    for shards in ["1", "2"] {
        let report = run(&[
            "events",
            "--vehicles",
            "40",
            "--rate",
            "200",
            "--seconds",
            "1",
            "--floor-seconds",
            "0.2",
            "--night-events",
            "3000",
            "--quiet-seconds",
            "1",
            "--positions-vehicles",
            "20",
            "--positions-rate",
            "100",
            "--shards",
            shards,
            "--no-check",
        ]);
        let night = &report["night"];
        assert_part_right(night, "positions");
        assert_eq!(report["latency"]["acked"], 200, "{report}");
        assert_eq!(night["published"]["acked"], 3_000, "{report}");
        for stretch in [
            &report["throughput"],
            &report["latency"],
            &night["published"],
        ] {
            assert_eq!(stretch["missing"], 0, "{report}");
            assert_eq!(stretch["errors"], 0, "{report}");
            assert_eq!(stretch["cost"]["logged"], stretch["acked"], "{report}");
            assert!(stretch["cost"]["commits"].as_u64() > Some(0), "{report}");
        }
        let mornings = night["mornings"].as_array().expect("mornings");
        assert_eq!(mornings.len(), 2, "{report}");
        for morning in mornings {
            assert_eq!(morning["events"], 3_000, "{report}");
            assert_eq!(morning["exact"], true, "{report}");
        }
        for floor in ["floor_before", "floor_after"] {
            for kind in ["one", "batch"] {
                let appends = report[floor][kind]["appends"].as_u64();
                assert!(appends > Some(0), "{report}");
            }
        }
    }
}
