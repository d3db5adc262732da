//! What the gateway costs from outside, and what it says of itself, against the real one: both must be there, and agree.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{gateway, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The names of what was looked at: all of it agreed, but for what is not exact and was too little to compare.
fn compared(report: &Value) -> Vec<&str> {
    let pairs = report["agreement"].as_array().expect("agreement");
    for pair in pairs {
        let (seen, may_be) = (pair["outside"].as_f64(), pair["tolerance"].as_f64());
        let too_little = may_be > Some(0.0) && may_be >= seen.map(|seen| seen / 2.0);
        let expected = if too_little { Value::Null } else { true.into() };
        assert_eq!(pair["agrees"], expected, "{report}");
        // A gateway at rest may have used no time that the kernel counts.
        let seen = pair["outside"].as_f64().expect("a number");
        assert!(seen > 0.0 || pair["what"] == "CPU seconds", "{report}");
    }
    let names = pairs.iter().map(|pair| pair["what"].as_str());
    names.map(|name| name.expect("a name")).collect()
}

fn assert_looked_at(outside: &Value) {
    for figure in [
        "seconds",
        "context_switches_voluntary",
        "rss_bytes",
        "pss_bytes",
        "threads",
    ] {
        let value = outside[figure].as_f64();
        assert!(value > Some(0.0), "{figure}: {outside}");
    }
    for figure in [
        "cpu_user_seconds",
        "cpu_system_seconds",
        "context_switches_involuntary",
    ] {
        assert!(outside[figure].is_number(), "{figure}: {outside}");
    }
    let system = &outside["system_after"];
    for figure in ["tcp_sockets", "slab_bytes", "slab_unreclaimable_bytes"] {
        let value = system[figure].as_u64();
        assert!(value > Some(0), "{figure}: {outside}");
    }
    assert!(system["tcp_memory_bytes"].is_u64(), "{outside}");
}

#[test]
fn the_gateway_counts_what_the_generator_counts() {
    for shards in ["1", "2"] {
        let report = run(&[
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
            shards,
            "--syscalls",
        ]);
        assert_eq!(
            compared(&report),
            [
                "connections",
                "updates in",
                "updates out",
                "CPU seconds",
                "resident bytes"
            ]
        );
        assert_eq!(report["failures"], Value::Array(Vec::new()), "{report}");
        let gateway = |at: usize| report["agreement"][at]["gateway"].as_f64();
        assert_eq!(gateway(0), Some(220.0), "{report}");
        assert_eq!(gateway(1), report["inbound"].as_f64(), "{report}");
        assert_looked_at(&report["gateway_outside"]);
        let calls = &report["system_calls"];
        // A machine without perf, or where it may not count, says so.
        let counted = calls["calls"].as_u64() > Some(0) && calls["calls_per_inbound"].is_number();
        assert!(counted || calls["not_available"].is_string(), "{calls}");
    }
}

#[test]
fn a_curve_has_a_point_for_each_number_of_connections() {
    let report = run(&[
        "curve",
        "--connections",
        "300,100",
        "--rate",
        "200",
        "--vehicles",
        "50",
        "--dashboards",
        "5",
        "--watch",
        "20",
        "--load-seconds",
        "1",
        "--settle",
        "0.5",
        "--seconds",
        "0.5",
    ]);
    let points = report["points"].as_array().expect("points");
    let runs = report["runs"].as_array().expect("runs");
    let connections: Vec<_> = points.iter().map(|p| p["connections"].as_u64()).collect();
    assert_eq!(connections, [Some(100), Some(300)], "{report}");
    for (point, run) in points.iter().zip(runs) {
        assert_eq!(run["connections"], point["connections"], "{report}");
        assert_eq!(
            point["gateway_bytes_per_connection"], run["gateway_rss_bytes_per_connection"],
            "{report}"
        );
        assert!(point["gateway_cpu_us_per_inbound"].is_number(), "{report}");
        assert_looked_at(&run["gateway_outside"]);
        assert_eq!(
            compared(run),
            ["connections", "CPU seconds", "resident bytes"]
        );
        let beside = compared(&run["beside"]);
        assert!(beside.contains(&"updates in"), "{report}");
    }
    assert_eq!(points[0]["ratios"]["latency_p99_us"], 1.0, "{report}");
}

/// What was measured before the load is no result without it.
#[test]
fn a_load_beside_that_is_cut_short_is_no_result() {
    let folder = tempfile::tempdir().expect("a folder");
    let result = folder.path().join("idle.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_longhaul-bench"))
        .args([
            "idle",
            "--connections",
            "20",
            "--settle",
            "0",
            "--seconds",
            "0.1",
        ])
        .args(["--rate", "100", "--vehicles", "10", "--dashboards", "2"])
        .args([
            "--watch",
            "5",
            "--load-seconds",
            "100",
            "--spawn",
            "--gateway",
        ])
        .arg(gateway())
        .arg("--json")
        .arg(&result)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(bench.stderr.take().expect("a pipe")).lines();
    let mut text = String::new();
    // The load's connections are the ones that are made last.
    while !text.contains("connected 12 of 12") {
        text = said.next().expect("it goes on").expect("text");
    }
    let pid = i32::try_from(bench.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGINT).expect("it runs");
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    let status = bench.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "{rest:?}");
    assert!(
        rest.iter().any(|line| line.contains("ended by the user")),
        "{rest:?}"
    );
    assert!(!result.exists());
}

/// As behind `| head`: what the reader does not want is no fault.
#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_longhaul-bench"))
        .args([
            "fanout",
            "--vehicles",
            "5",
            "--rate",
            "50",
            "--seconds",
            "0.5",
        ])
        .args([
            "--dashboards",
            "2",
            "--watch",
            "all",
            "--spawn",
            "--gateway",
        ])
        .arg(gateway())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(bench.stdout.take());
    let output = bench.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
