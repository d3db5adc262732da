//! What every test of the load generator as a program needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The gateway that is built beside the load generator.
pub fn gateway() -> PathBuf {
    let gateway = Path::new(env!("CARGO_BIN_EXE_longhaul-bench")).with_file_name("longhaul");
    assert!(
        gateway.exists(),
        "{} is missing: cargo build -p longhaul-gateway",
        gateway.display()
    );
    gateway
}

/// Runs the load generator with a gateway that it starts, demands its success, and returns its report.
#[allow(dead_code, reason = "some tests run it otherwise")]
pub fn run(arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let report = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul-bench"))
        .args(arguments)
        .arg("--spawn")
        .arg("--gateway")
        .arg(gateway())
        .arg("--json")
        .arg(&report)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{arguments:?}: {said}\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let text = std::fs::read_to_string(&report).expect("the report is written");
    serde_json::from_str(&text).expect("the report is JSON")
}
