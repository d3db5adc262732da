//! The comparison with other servers, small, against the real ones: each must get the whole load and be measured. How fast
//! they are is not asked here.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_longhaul-bench");
const RATE: u64 = 400;

/// The rows of a run with these servers, by the servers' names.
fn rows(peers: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let (json, markdown) = (folder.path().join("p.json"), folder.path().join("p.md"));
    let mut command = Command::new(BENCH);
    command.arg("peers").arg("--skip-missing");
    for peer in peers {
        command.arg("--only").arg(peer);
    }
    let rate = RATE.to_string();
    command.args(["--vehicles", "100", "--rate", &rate, "--seconds", "1"]);
    command.args([
        "--dashboards",
        "20",
        "--watch",
        "10",
        "--all-dashboards",
        "3",
    ]);
    command.args(["--warm-up", "0.5", "--idle", "100", "--settle", "0.5"]);
    command.arg("--gateway");
    command.arg(Path::new(BENCH).with_file_name("longhaul"));
    command
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(&markdown);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{peers:?}: {said}");
    let table: Value = serde_json::from_str(&std::fs::read_to_string(&json).expect("the result"))
        .expect("the result is JSON");
    assert_eq!(table["message_bytes"], 64, "{table}");
    let text = std::fs::read_to_string(&markdown).expect("the table");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    let rows = table["rows"].as_array().expect("rows").clone();
    assert_eq!(rows.len(), peers.len(), "{table}");
    for peer in peers {
        assert!(text.contains(&format!("\n| {peer} (")) || text.contains(&format!("- {peer}:")));
    }
    rows
}

/// The load was delivered whole, and all of it was measured.
fn assert_measured(row: &Value) {
    assert_eq!(row["failures"], Value::Array(Vec::new()), "{row}");
    assert!(
        row["version"]
            .as_str()
            .is_some_and(|version| { version.starts_with(|c: char| c.is_ascii_digit()) })
    );
    for (load, dashboards, watched) in [("some", 20, 10), ("all", 3, 100)] {
        let load = &row[load];
        assert_eq!(load["inbound"], RATE, "{row}");
        // Dashboards that watch some draw them at random: the load's own figure, near this.
        let near = RATE * dashboards * watched / 100;
        let expected = load["expected"].as_u64().expect("expected");
        assert!(expected.abs_diff(near) <= near / 4, "{row}");
        let delivered = load["delivered"].as_u64().expect("delivered");
        let conflated = load["conflated"].as_u64().expect("conflated");
        assert_eq!(delivered + conflated, expected, "{row}");
        if row["name"] != "longhaul" {
            assert_eq!(load["lost"], 0, "{row}");
        }
        for fault in [
            "wrong",
            "duplicates",
            "out_of_order",
            "corrupted",
            "disconnected",
            "unconfirmed",
            "errors",
        ] {
            assert_eq!(load[fault], 0, "{fault}: {row}");
        }
        assert!(load["cpu_us_per_inbound"].is_number(), "{row}");
        assert!(load["cpu_us_per_delivery"].is_number(), "{row}");
        assert!(load["others_percent"].is_number(), "{row}");
        for percentile in ["p50", "p99", "p999"] {
            assert!(load["latency_us"][percentile].as_u64() > Some(0), "{row}");
        }
    }
    assert_eq!(row["idle"]["connections"], 100, "{row}");
    for memory in ["rss_bytes_per_connection", "pss_bytes_per_connection"] {
        assert!(row["idle"][memory].is_number(), "{row}");
    }
}

#[test]
fn the_gateway_and_a_plain_server_get_the_same_load() {
    for row in rows(&["longhaul", "tokio-tungstenite"]) {
        assert_eq!(
            row["missing"],
            Value::Null,
            "cargo build -p longhaul-gateway: {row}"
        );
        assert_measured(&row);
    }
}

/// scripts/install-tools installs them; where it did not run, there is nothing to test.
fn assert_measured_if_installed(peer: &str) {
    for row in rows(&[peer]) {
        if row["missing"] == Value::Null {
            assert_measured(&row);
        } else {
            assert!(std::env::var_os("CI").is_none(), "not installed: {row}");
            eprintln!("not tested: {row}");
        }
    }
}

#[test]
fn uwebsockets_js_gets_the_same_load() {
    assert_measured_if_installed("uwebsockets-js");
}

#[test]
fn node_ws_gets_the_same_load() {
    assert_measured_if_installed("node-ws");
}

#[test]
fn nats_gets_the_same_load() {
    assert_measured_if_installed("nats");
}

#[test]
fn mosquitto_gets_the_same_load() {
    assert_measured_if_installed("mosquitto");
}

#[test]
fn what_is_missing_is_said_with_how_to_install_it() {
    let run = |further: &[&str]| {
        Command::new(BENCH)
            .args(["peers", "--only", "nats", "--only", "longhaul"])
            .args(["--nats-server", "/no/such/nats-server"])
            .args(["--gateway", "/no/such/longhaul"])
            .args(further)
            .output()
            .expect("it starts")
    };
    let output = run(&[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for text in [
        "there is no /no/such/nats-server",
        "scripts/install-tools peers",
        "cargo build",
        "--skip-missing",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    let output = run(&["--vehicles", "30000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("fewer vehicles"), "{said}");
    // Without all that is missing nothing is left, and the table says why.
    let output = run(&["--skip-missing"]);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("- nats: there is no /no/such/nats-server"));
}
