//! A plan against what is measured: coefficients from small runs must say what a run of twice the size takes.

mod common;

use std::path::Path;
use std::process::Command;

use common::gateway;
use serde_json::Value;

/// How far a prediction of memory may be off.
const WITHIN: f64 = 0.2;
/// Idle connections of the runs that coefficients are from.
const CALIBRATED: u32 = 6_000;

/// Runs the load generator, demands its success, and returns what it wrote to `json`.
fn run(arguments: &[&str], json: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul-bench"))
        .args(arguments)
        .arg("--json")
        .arg(json)
        .output()
        .expect("it starts");
    assert!(
        output.status.success(),
        "{arguments:?}: {}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    let text = std::fs::read_to_string(json).expect("the result is written");
    serde_json::from_str(&text).expect("the result is JSON")
}

/// Gateway memory of `names`, as planned.
fn planned(plan: &Value, names: &[&str]) -> f64 {
    let terms = plan["plan"]["terms"].as_array().expect("terms");
    let of = |name: &&str| {
        let term = terms
            .iter()
            .find(|term| term["part"] == "gateway_memory" && term["name"] == *name)
            .unwrap_or_else(|| panic!("no term {name}"));
        term["count"].as_f64().expect("a count") * term["each"].as_f64().expect("a size")
    };
    names.iter().map(of).sum()
}

/// Gateway memory of idle connections, as measured, over the baseline.
fn measured(folder: &Path, role: &str, connections: u32, watch: &str) -> f64 {
    let connections = connections.to_string();
    let gateway = gateway();
    let arguments = [
        "idle",
        "--spawn",
        "--gateway",
        gateway.to_str().expect("a path in UTF-8"),
        "--shards",
        "1",
        "--connections",
        &connections,
        "--role",
        role,
        "--watch",
        watch,
        "--settle",
        "0.5",
        "--seconds",
        "0.5",
    ];
    let report = run(&arguments, &folder.join("idle.json"));
    assert_eq!(report["failed"], 0, "{report}");
    let each = report["gateway_rss_bytes_per_connection"].as_f64();
    each.expect("memory") * report["connections"].as_f64().expect("connections")
}

fn assert_near(what: &str, planned: f64, measured: f64) {
    let off = planned / measured - 1.0;
    eprintln!("{what}: planned {planned:.0} bytes, measured {measured:.0}, {off:+.3}");
    assert!(
        off.abs() <= WITHIN,
        "{what}: planned {planned}, measured {measured}"
    );
}

#[test]
fn memory_at_twice_the_size_is_as_planned() {
    let folder = tempfile::tempdir().expect("a folder");
    let calibrated = folder.path().join("calibrated.json");
    let gateway = gateway();
    let connections = CALIBRATED.to_string();
    let arguments = [
        "calibrate",
        "--quick",
        "--connections",
        &connections,
        "--gateway",
        gateway.to_str().expect("a path in UTF-8"),
    ];
    run(&arguments, &calibrated);
    // Dashboards were held half as many.
    let (vehicles, dashboards, watch) =
        ((2 * CALIBRATED).to_string(), CALIBRATED.to_string(), "100");
    let arguments = [
        "plan",
        "--vehicles",
        &vehicles,
        "--interval",
        "30s",
        "--dashboards",
        &dashboards,
        "--watch",
        watch,
        "--spares",
        "0",
        "--no-tls",
        "--from",
        calibrated.to_str().expect("a path in UTF-8"),
    ];
    let plan = run(&arguments, &folder.path().join("plan.json"));
    assert_eq!(plan["plan"]["nodes"], 1, "{plan}");
    assert_near(
        "vehicles",
        planned(&plan, &["vehicles"]),
        measured(folder.path(), "vehicle", 2 * CALIBRATED, "0"),
    );
    assert_near(
        "dashboards",
        planned(&plan, &["dashboards", "vehicles in filters"]),
        measured(folder.path(), "dashboard", CALIBRATED, watch),
    );
}
