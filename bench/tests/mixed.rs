//! A day of a few seconds against the real gateway: whether everything in it happens, and is accounted for.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// The gateway that is built beside the load generator.
fn gateway() -> PathBuf {
    let gateway = Path::new(env!("CARGO_BIN_EXE_longhaul-bench")).with_file_name("longhaul");
    assert!(
        gateway.exists(),
        "{} is missing: cargo build -p longhaul-gateway",
        gateway.display()
    );
    gateway
}

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul-bench"))
        .args(arguments)
        .output()
        .expect("it starts")
}

/// A day with so many updates a second and these further arguments, what it said, and the page of it.
fn day(rate: &str, arguments: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, html) = (
        folder.path().join("day.json"),
        folder.path().join("day.html"),
    );
    let (gateway, json, html) = (gateway(), json.to_string_lossy(), html.to_string_lossy());
    let gateway = gateway.to_string_lossy();
    let mut all = vec![
        "mixed",
        "--spawn",
        "--gateway",
        &gateway,
        "--json",
        &json,
        "--vehicles",
        "120",
        "--rate",
        rate,
        "--dashboards",
        "12",
        "--seconds",
        "9",
        "--warm-up",
        "0.5",
        "--events-vehicles",
        "10",
        "--events-rate",
        "60",
    ];
    all.extend(arguments);
    let output = bench(&all);
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    let drawn = bench(&["report", &json, "--html", &html]);
    assert!(
        drawn.status.success(),
        "{}",
        String::from_utf8_lossy(&drawn.stderr)
    );
    let text = std::fs::read_to_string(&*json).expect("the report is written");
    let page = std::fs::read_to_string(&*html).expect("the page is written");
    (
        serde_json::from_str(&text).expect("the report is JSON"),
        page,
    )
}

fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{pointer} is no number: {value}"))
}

#[test]
fn a_day_passes_with_everything_in_it() {
    for shards in ["1", "2"] {
        let (report, page) = day("600", &["--shards", shards]);
        assert_eq!(report["passed"], true, "{report}");
        let count = |pointer: &str| number(&report, pointer);
        for wrong in [
            "wrong",
            "duplicates",
            "out_of_order",
            "disconnected",
            "unconfirmed",
        ] {
            assert_eq!(count(&format!("/fleet/{wrong}")), 0, "{wrong}: {report}");
        }
        assert_eq!(count("/fleet/lost"), count("/fleet/conflated"), "{report}");
        assert_eq!(
            count("/fleet/expected"),
            count("/fleet/delivered") + count("/fleet/lost"),
            "{report}"
        );
        // Dashboards that came for a shift began with what was there.
        assert!(count("/fleet/snapshot") > 0, "{report}");
        let hours = report["hours"].as_array().expect("hours");
        assert_eq!(hours.len(), 24, "{report}");
        let vehicles = |hour: usize| number(&hours[hour], "/vehicles");
        // In the night few, at the peaks more than at noon.
        assert!(vehicles(2) * 4 < vehicles(11), "{report}");
        assert!(vehicles(7).max(vehicles(8)) > vehicles(11), "{report}");
        assert!(vehicles(16) > vehicles(11), "{report}");
        // Those who came for their shifts, and those who stay.
        assert!(
            number(&hours[2], "/dashboards") < number(&hours[10], "/dashboards"),
            "{report}"
        );
        assert!(count("/comings/farewells") > 50, "{report}");
        assert!(count("/comings/tunnels") > 0, "{report}");
        assert!(count("/outage/vehicles") > 0, "{report}");
        assert_eq!(
            count("/outage/connected"),
            count("/outage/vehicles"),
            "{report}"
        );
        assert_eq!(count("/events/missing"), 0, "{report}");
        assert_eq!(count("/events/acked"), 570, "{report}");
        let consumers = report["events"]["consumers"].as_array().expect("consumers");
        assert_eq!(consumers.len(), 2, "{report}");
        for consumer in consumers {
            assert_eq!(consumer["exact"], true, "{report}");
            assert_eq!(number(consumer, "/events"), 570, "{report}");
            assert!(number(consumer, "/events_after") > 0, "{report}");
        }
        assert_eq!(count("/forgotten/open"), 0, "{report}");
        let outside = &report["fleet"]["gateway_outside"];
        assert!(outside["seconds"].as_f64() >= Some(9.0), "{report}");
        assert!(
            number(outside, "/context_switches_voluntary") > 0,
            "{report}"
        );
        for text in [
            "Hour by hour",
            "Connections by hour",
            "Second by second, the fleet",
        ] {
            assert!(page.contains(text), "{text}");
        }
    }
}

#[test]
fn a_day_with_few_updates_lasts_until_midnight() {
    let (report, _) = day("4", &["--shards", "1"]);
    assert_eq!(report["passed"], true, "{report}");
    assert_eq!(report["fleet"]["interrupted"], false, "{report}");
    let hours = report["hours"].as_array().expect("hours");
    assert_eq!(hours.len(), 24, "{report}");
    // At most what was due in the day and the midnight before it.
    let inbound = number(&report, "/fleet/inbound");
    assert!((1..=38).contains(&inbound), "{report}");
    assert_eq!(
        number(&report, "/outage/connected"),
        number(&report, "/outage/vehicles"),
        "{report}"
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    for (arguments, says) in [
        (vec!["--vehicles", "19000", "--dashboards", "100"], "19000"),
        (vec!["--processes", "2"], "one process"),
        (
            vec!["--vehicles", "2", "--rate", "5000"],
            "use more vehicles",
        ),
        (
            vec!["--events-vehicles", "1", "--events-rate", "1001"],
            "of the events",
        ),
    ] {
        let output = bench(&[&["mixed", "--spawn"], &arguments[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let output = bench(&["mixed", "--url", "ws://127.0.0.1:1", "--key", "k"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--spawn"));
}
