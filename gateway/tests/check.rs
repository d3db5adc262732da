//! `longhaul check`, as an operator meets it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .arg("check")
        .args(arguments)
        .env_clear()
        .output()
        .expect("the binary starts")
}

/// Verdict and words of the findings of one kind.
fn findings(report: &Value, check: &str) -> Vec<(String, String)> {
    let all = report["checks"].as_array().expect("a list of checks");
    all.iter()
        .filter(|finding| finding["check"] == check)
        .map(|finding| (finding["verdict"].to_string(), finding.to_string()))
        .collect()
}

#[test]
fn it_says_what_is_missing_and_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    fs::write(file("secret"), [b'k'; 48]).expect("the folder takes it");
    fs::set_permissions(file("secret"), PermissionsExt::from_mode(0o644)).expect("it is ours");
    fs::write(file("no-folder"), "").expect("the folder takes it");
    let settings = "[auth]\nkeys = [{ algorithm = \"HS256\", file = \"secret\" }, { algorithm = \"EdDSA\", file = \"absent\" }]\n\
                    [state]\ndirectory = \"state\"\n[events]\ndirectory = \"no-folder\"\n";
    fs::write(file("longhaul.toml"), settings).expect("the folder takes it");
    let settings = file("longhaul.toml");
    let settings = settings
        .to_str()
        .expect("temporary folders have plain names");

    let output = check(&["--config", settings, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(report["ready"], false);
    let keys = findings(&report, "keys");
    assert!(keys[0].0.contains("warn") && keys[0].1.contains("chmod 600"));
    assert!(keys[1].0.contains("missing") && keys[1].1.contains("absent"));
    let folders = findings(&report, "folders");
    assert!(folders[0].0.contains("ok"), "{folders:?}");
    assert!(folders[1].0.contains("missing") && folders[1].1.contains("no folder"));
    // The tests could not run without these.
    assert!(findings(&report, "io_uring")[0].0.contains("ok"));
    assert!(findings(&report, "descriptor table")[0].0.contains("ok"));
    // It only looks.
    assert!(!file("state").exists());

    let text = check(&["--config", settings]);
    let text = String::from_utf8(text.stdout).expect("it prints UTF-8");
    assert!(
        text.contains("missing  folders") && text.contains("to mend"),
        "{text}"
    );
}

#[test]
fn settings_that_cannot_be_read_are_a_mistake_of_their_own() {
    let output = check(&["--config", "/nowhere/longhaul.toml"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}
