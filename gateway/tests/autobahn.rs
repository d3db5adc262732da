//! The cases of the Autobahn test suite, run by `kosoku` against the echo endpoint.

use std::process::Stdio;

use serde_json::Value;

use crate::common::gateway::{Gateway, bound_to_this_thread};
use crate::common::tools::tool;

mod common;

/// All cases but 12 and 13, which test compression: the gateway does not offer it.
const CASES: usize = 301;

#[test]
fn every_case_outside_compression_is_passed_strictly() {
    let gateway = Gateway::start(2);
    let report = gateway.folder().join("report");
    let target = format!("{}/echo", gateway.listen());
    let output = bound_to_this_thread(tool("python/bin/kosoku"))
        .arg("-o")
        .arg(&report)
        .arg(&target)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let index = std::fs::read(report.join("index.json")).unwrap_or_else(|error| {
        panic!(
            "no report: {error}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    });

    let index: Value = serde_json::from_slice(&index).expect("it is JSON");
    let agents = index.as_object().expect("results by server");
    assert_eq!(agents.len(), 1, "one server was tested");
    let results = agents.values().next().and_then(Value::as_object);
    let results = results.expect("results by case");

    let compression = |case: &str| case.starts_with("12.") || case.starts_with("13.");
    let cases = results.iter().filter(|(case, _)| !compression(case));
    let passed = |result: &Value| matches!(result.as_str(), Some("OK" | "INFORMATIONAL"));
    let failed: Vec<_> = cases
        .clone()
        .filter(|(_, result)| !passed(&result["behavior"]) || !passed(&result["behaviorClose"]))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(cases.count(), CASES);
}
