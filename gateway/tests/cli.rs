//! The real binary, as an operator meets it: what it prints, what it refuses, and its exit codes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const USAGE: i32 = 64;
const CONFIG: i32 = 78;
const SECRET: &str = "0123456789abcdef0123456789abcdef\n";

/// The binary, in an environment without settings of its own.
fn longhaul(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGHAUL_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    longhaul(args).output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it prints UTF-8")
}

/// It fails with this code and with all of these words on standard error.
fn assert_refused(output: &Output, code: i32, words: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).expect("a file in a temporary folder");
    path.to_str().expect("its path is UTF-8").to_owned()
}

#[test]
fn the_printed_configuration_is_accepted() {
    let printed = run(&["config"]);
    assert!(printed.status.success());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(folder.path(), "longhaul.toml", &text(&printed.stdout));
    let checked = run(&["config", "--check", &file]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("is good"));
}

#[test]
fn a_bad_file_is_refused_with_line_and_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (content, words) in [
        (
            "[server]\npase_us = 5",
            vec!["pase_us", "line 2", "pace_us"],
        ),
        (
            "[server]\npace_us = 100001",
            vec!["pace_us", "line 2", "0 to 100000"],
        ),
        ("[server]\nlisten = \"nowhere\"", vec!["listen", "line 2"]),
        ("[server", vec!["line 1"]),
        (
            "[control]\nlisten = \"0.0.0.0:9401\"",
            vec!["control.listen", "allow_remote"],
        ),
        ("[log]\nfilter = \"a=b=c\"", vec!["log.filter", "a=b=c"]),
        (
            "[auth]\nkeys = [{ algorithm = \"none\", file = \"x\" }]",
            vec!["none", "EdDSA"],
        ),
        (
            "[auth]\nkeys = [{ algorithm = \"HS256\", file = \"absent.key\" }]",
            vec!["auth.keys", "absent.key"],
        ),
    ] {
        let file = write(folder.path(), "longhaul.toml", content);
        assert_refused(&run(&["config", "--check", &file]), CONFIG, &words);
        assert_refused(&run(&["run", "--config", &file]), CONFIG, &words);
    }
    assert_refused(
        &run(&["run", "--config", "/nowhere/longhaul.toml"]),
        CONFIG,
        &["/nowhere/longhaul.toml"],
    );
}

#[test]
fn a_budget_follows_the_settings() {
    let printed = |args: &[&str]| {
        let output = run(&[&["config", "--budget"], args].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    /// The fourth column of a term's line: its count and size.
    fn product<'a>(budget: &'a str, name: &str) -> &'a str {
        let line = budget
            .lines()
            .find_map(|line| line.strip_prefix("  ")?.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in: {budget}"))
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = "[server]\nshards = 2\n[receive]\nbuffers = 64\n[limits]\nvehicles_max = 5000\n\
        subscription_vehicles_max = 5000";
    let file = write(folder.path(), "longhaul.toml", settings);

    let by_default = printed(&[]);
    assert!(
        by_default.starts_with(
            "Memory for 1,000,000 connections: 980,000 vehicles and 20,000 dashboards"
        )
    );
    let asked = printed(&["10000", "--dashboards", "4000", "--config", &file]);
    assert!(
        asked.starts_with(
            "Memory for 10,000 connections: 6,000 vehicles and 4,000 dashboards, on 2 shards."
        ),
        "{asked}"
    );
    assert!(
        asked.contains("But limits.vehicles_max lets in no more than 5,000."),
        "{asked}"
    );
    assert!(product(&asked, "receive buffers").contains("128 × 4,112"));
    assert!(product(&asked, "sockets").contains("10,000 × "));
    for budget in [&by_default, &asked] {
        for name in ["the gateway", "the kernel", "all", "per connection"] {
            assert!(product(budget, name).contains('B'), "{budget}");
        }
    }

    for (args, words) in [
        (vec!["--budget", "0"], "1..=1024000000"),
        (vec!["--budget", "10", "--check", &file], "--check"),
        (vec!["--dashboards", "10"], "--budget"),
        (
            vec!["--budget", "10", "--dashboards", "11"],
            "--dashboards 11",
        ),
    ] {
        assert_refused(&run(&[&["config"], &args[..]].concat()), USAGE, &[words]);
    }
    let file = write(folder.path(), "longhaul.toml", "[limits]\nvehicles_mex = 1");
    assert_refused(
        &run(&["config", "--budget", "--config", &file]),
        CONFIG,
        &["vehicles_mex"],
    );
}

#[test]
fn flags_and_environment_obey_the_same_rules() {
    assert_refused(
        &run(&["run", "--dev", "--set", "server.pace_us=100001"]),
        CONFIG,
        &["server.pace_us", "0 to 100000"],
    );
    assert_refused(
        &run(&["run", "--dev", "--set", "sever.pace_us=1"]),
        CONFIG,
        &["sever"],
    );
    assert_refused(
        &run(&["run", "--dev", "--set", "pace_us"]),
        USAGE,
        &["SECTION.KEY=VALUE"],
    );
    assert_refused(
        &run(&["run", "--dev", "--shards", "65"]),
        USAGE,
        &["--shards", "0..=64"],
    );
    assert_refused(
        &run(&["run", "--dev", "--listen", "0.0.0.0:9400"]),
        CONFIG,
        &["--dev", "0.0.0.0:9400"],
    );
    let output = longhaul(&["run", "--dev"])
        .env("LONGHAUL_SHARDS", "65")
        .output()
        .expect("the binary starts");
    assert_refused(&output, CONFIG, &["LONGHAUL_SHARDS", "0 to 64"]);
    let output = longhaul(&["run", "--dev"])
        .env("LONGHAUL_LOG", "a=b=c")
        .output()
        .expect("the binary starts");
    assert_refused(&output, CONFIG, &["log.filter"]);
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = write(
        folder.path(),
        "longhaul.toml",
        "[server]\nlisten = \"192.0.2.1:1\"",
    );
    // Which address was taken shows in the refusal of --dev.
    let output = run(&["run", "--dev", "--config", &file]);
    assert_refused(&output, CONFIG, &["192.0.2.1:1"]);
    let environment = |args: &[&str]| {
        longhaul(args)
            .env("LONGHAUL_LISTEN", "192.0.2.2:2")
            .env("LONGHAUL_CONFIG", &file)
            .output()
            .expect("the binary starts")
    };
    assert_refused(&environment(&["run", "--dev"]), CONFIG, &["192.0.2.2:2"]);
    assert_refused(
        &environment(&["run", "--dev", "--listen", "192.0.2.3:3"]),
        CONFIG,
        &["192.0.2.3:3"],
    );
}

#[test]
fn without_a_key_it_says_what_to_do() {
    assert_refused(
        &run(&["run"]),
        CONFIG,
        &[
            "no key is configured",
            "[[auth.keys]]",
            "longhaul run --dev",
        ],
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error_and_help_is_none() {
    assert_refused(&run(&[]), USAGE, &["Usage"]);
    assert_refused(&run(&["fly"]), USAGE, &["fly"]);
    assert_refused(&run(&["run", "--dev-key", "x"]), USAGE, &["--dev"]);
    let help = run(&["run", "--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("--control-listen"));
    let version = run(&["--version"]);
    assert!(version.status.success() && text(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_token_is_minted_with_a_secret() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = write(folder.path(), "dev.key", SECRET);
    let who = [
        "token",
        "--role",
        "vehicle",
        "--fleet",
        "berlin",
        "--subject",
        "truck-17",
    ];
    for how in [
        vec!["--dev-key", &key],
        vec![
            "--key",
            &key,
            "--algorithm",
            "HS256",
            "--ttl",
            "30days",
            "--kid",
            "k",
            "--may",
            "command",
            "--may",
            "command",
        ],
    ] {
        let output = run(&[&who[..], &how[..]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let token = text(&output.stdout);
        assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
        assert_eq!(token.lines().count(), 1, "{token}");
    }
}

#[test]
fn a_token_that_would_be_refused_is_not_minted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = write(folder.path(), "dev.key", SECRET);
    let short = write(folder.path(), "short.key", "secret");
    let mint = |fleet: &str, rest: &[&str]| {
        run(&[
            &[
                "token",
                "--role",
                "vehicle",
                "--subject",
                "truck-17",
                "--fleet",
                fleet,
            ],
            rest,
        ]
        .concat())
    };
    assert_refused(
        &mint("", &["--dev-key", &key]),
        USAGE,
        &["`fleet` is empty"],
    );
    assert_refused(
        &mint(&"x".repeat(65), &["--dev-key", &key]),
        USAGE,
        &["65 bytes", "64"],
    );
    assert_refused(
        &mint("f", &["--dev-key", &short]),
        CONFIG,
        &["short.key", "at least 32 bytes", "has 6"],
    );
    assert_refused(
        &mint("f", &["--dev-key", "/nowhere"]),
        CONFIG,
        &["/nowhere", "run --dev"],
    );
    assert_refused(
        &mint("f", &["--key", &key, "--algorithm", "EdDSA"]),
        CONFIG,
        &["Ed25519 private key"],
    );
    assert_refused(&mint("f", &["--key", &key]), USAGE, &["--algorithm"]);
    assert_refused(
        &mint("f", &["--dev-key", &key, "--may", "fly"]),
        USAGE,
        &["fly", "command"],
    );
    assert_refused(
        &mint("f", &["--key", &key, "--dev-key", &key]),
        USAGE,
        &["cannot be used with"],
    );
    assert_refused(&mint("f", &[]), USAGE, &["--dev-key", "--key"]);
    assert_refused(
        &run(&["token", "--role", "driver"]),
        USAGE,
        &["driver", "vehicle", "dashboard"],
    );
}

/// A gateway in development mode, ended when this is dropped.
struct Gateway {
    process: Child,
    log: BufReader<std::process::ChildStderr>,
    seen: String,
}

impl Gateway {
    fn start(more: &[&str]) -> Self {
        let args = [
            "run",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--control-listen",
            "127.0.0.1:0",
            "--shards",
            "1",
        ];
        let mut process = longhaul(&[&args[..], more].concat())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = BufReader::new(process.stderr.take().expect("it is piped"));
        Self {
            process,
            log,
            seen: String::new(),
        }
    }

    /// The first line of the log, from here on, with these words.
    fn line_with(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.log.read_line(&mut line).expect("it logs"),
                0,
                "no {words:?} in: {}",
                self.seen
            );
            self.seen.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    fn control_address(&mut self) -> String {
        let line = self.line_with("longhaul is ready");
        let (_, after) = line
            .split_once("\"control\":\"")
            .expect("it is JSON, as there is no terminal");
        after.split('"').next().expect("an address").to_owned()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn development_mode_says_what_it_is_and_how_to_get_a_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = folder.path().join("dev.key");
    let key = key.to_str().expect("its path is UTF-8");
    let mut gateway = Gateway::start(&["--dev-key", key]);
    gateway.control_address();
    for words in [
        "development mode",
        "not for production",
        "this machine only",
        "/echo",
        "longhaul token --dev-key",
    ] {
        assert!(
            gateway.seen.contains(words),
            "no {words:?} in: {}",
            gateway.seen
        );
    }
    let made = fs::metadata(key).expect("it made the key");
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(key).expect("it made the key");
    assert!(
        !gateway.seen.contains(secret.trim_end()),
        "the log shows the secret"
    );

    // The command that the log shows works as it is.
    let line = gateway
        .seen
        .lines()
        .find(|line| line.contains("longhaul token"))
        .expect("it was just seen");
    let (_, command) = line.split_once("longhaul token").expect("it was just seen");
    let args: Vec<&str> = command
        .split('"')
        .next()
        .expect("a command")
        .split_whitespace()
        .collect();
    let output = run(&[&["token"], &args[..]].concat());
    assert!(
        output.status.success(),
        "{args:?}: {}",
        text(&output.stderr)
    );
}

#[test]
fn the_control_plane_answers() {
    let mut gateway = Gateway::start(&[]);
    let mut stream = TcpStream::connect(gateway.control_address()).expect("it listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("longhaul_build_info"),
        "{answer}"
    );
}
