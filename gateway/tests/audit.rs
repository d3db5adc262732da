//! The audit log: each act is there with who, from where and why; no token ever is.

use std::path::{Path, PathBuf};

use longhaul_codec::{Command, ErrorCode, Message};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::client::Client;
use crate::common::gateway::{FLEET, Gateway, token};
use crate::common::http::{self, Metrics, admin, post};
use crate::common::{PATIENCE, eventually};

mod common;

struct Audited {
    gateway: Gateway,
    file: PathBuf,
    _folder: TempDir,
}

impl Audited {
    fn start(shards: usize, settings: &[&str]) -> Audited {
        let folder = TempDir::new().expect("a folder for the test");
        let file = folder.path().join("audit.jsonl");
        let mut all = vec![format!("audit.file={}", file.display())];
        all.push(format!(
            "events.directory={}",
            folder.path().join("events").display()
        ));
        all.push("events.free_bytes_min=0".to_owned());
        all.push("log.filter=longhaul=trace,info".to_owned());
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let arguments: Vec<&str> = all.iter().flat_map(|setting| ["--set", setting]).collect();
        Audited {
            gateway: Gateway::start_with(shards, &arguments),
            file,
            _folder: folder,
        }
    }

    fn lines(&self) -> Vec<Value> {
        lines(&self.file)
    }

    /// The one line that fits, once it is there.
    #[track_caller]
    fn line(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = Vec::new();
        eventually(what, || {
            found = self.lines().into_iter().filter(&fits).collect();
            !found.is_empty()
        });
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        found.remove(0)
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last one may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn is(line: &Value, act: &str, subject: &str) -> bool {
    line["act"] == act && line["subject"] == subject
}

#[test]
fn every_act_is_there_and_no_token() {
    let audited = Audited::start(2, &[]);
    let gateway = &audited.gateway;
    let mut tokens = Vec::new();
    let mut keep = |token: String| {
        tokens.push(token.clone());
        token
    };

    let mut truck = Client::connect(gateway, &keep(gateway.vehicle_token("truck-1")));
    let line = audited.line("connect", |line| is(line, "connect", "truck-1"));
    for (field, value) in [("role", "vehicle"), ("fleet", FLEET), ("peer", "127.0.0.1")] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(
        line["token_id"].is_string() && line["connection"].is_string(),
        "{line}"
    );
    let time = line["time"].as_str().expect("it is text");
    assert!(
        time.len() == 24 && time.starts_with("20") && time.ends_with('Z'),
        "{line}"
    );
    assert!(
        !line["node"].as_str().unwrap_or_default().is_empty(),
        "{line}"
    );
    let connection = line["connection"].clone();

    // Refused: nobody known, somebody known.
    let foreign = keep({
        let key = gateway.folder().join("other");
        std::fs::write(&key, [b'o'; 48]).expect("the folder takes it");
        token(
            &["--dev-key", key.to_str().expect("plain")],
            "vehicle",
            FLEET,
            "stranger",
        )
    });
    let answer = http::exchange(gateway.listen(), http::upgrade(&foreign).as_bytes());
    assert_eq!(answer.status, 401);
    let line = audited.line("refuse", |line| {
        line["act"] == "refuse" && line["status"] == 401
    });
    assert!(
        line["why"]
            .as_str()
            .is_some_and(|why| why.contains("signature")),
        "{line}"
    );
    assert!(
        line["subject"].is_null() && line["peer"] == "127.0.0.1",
        "{line}"
    );
    // Somebody puts a token where none belongs.
    let request = http::upgrade("x").replace("/v1", &format!("/v1/{foreign}"));
    assert_eq!(
        http::exchange(gateway.listen(), request.as_bytes()).status,
        404
    );
    audited.line("refuse by path", |line| {
        line["act"] == "refuse" && line["status"] == 404
    });

    // A command, allowed and not.
    let key = gateway.key();
    let may = [
        "--dev-key",
        key.to_str().expect("plain"),
        "--may",
        "command",
    ];
    let command = |command_id| {
        Message::Command(Command {
            command_id,
            vehicle_id: Some("truck-1".to_owned()),
            name: "lock".to_owned(),
            ttl_ms: 60_000,
            ..Command::default()
        })
    };
    let mut commander = Client::connect(gateway, &keep(token(&may, "dashboard", FLEET, "ada")));
    commander.send(&command(17));
    let line = audited.line("command", |line| is(line, "command", "ada"));
    assert_eq!(line["what"], r#""lock" (17) for "truck-1""#, "{line}");
    let mut watcher = Client::connect(gateway, &keep(gateway.dashboard_token("bob")));
    watcher.send(&command(18));
    watcher.error(ErrorCode::NotAllowed);
    let line = audited.line("not allowed", |line| is(line, "not_allowed", "bob"));
    assert_eq!(line["role"], "dashboard", "{line}");

    // Taken over; evicted; revoked.
    let mut again = Client::connect(gateway, &keep(gateway.vehicle_token("truck-1")));
    truck.closed();
    let line = audited.line("taken over", |line| is(line, "evict", "truck-1"));
    assert_eq!(
        (&line["status"], &line["connection"]),
        (&json!(4502), &connection),
        "{line}"
    );
    let operator = keep(gateway.operator_token(None));
    let entry = json!({"fleet": FLEET, "subject": "truck-1", "reason": "stolen"}).to_string();
    let control = gateway.control();
    assert_eq!(
        admin(
            control,
            "POST",
            "/admin/revocations",
            Some(&operator),
            &entry
        )
        .status,
        200
    );
    assert_eq!(again.closed().0, 4503);
    let line = audited.line("evicted", |line| {
        is(line, "evict", "truck-1") && line["status"] == 4503
    });
    assert_eq!(line["fleet"], FLEET, "{line}");
    let line = audited.line("revoke", |line| line["act"] == "revoke");
    assert_eq!(
        (&line["subject"], &line["role"]),
        (&json!("ada"), &json!("operator")),
        "{line}"
    );
    assert_eq!(line["why"], "stolen", "{line}");
    assert!(
        line["what"]
            .as_str()
            .is_some_and(|what| what.contains("truck-1")),
        "{line}"
    );
    let line = audited.line("admin", |line| {
        line["act"] == "admin" && line["status"] == 200
    });
    assert_eq!(line["what"], "POST /admin/revocations", "{line}");
    assert!(
        line["token_id"].is_string() && line["peer"] == "127.0.0.1",
        "{line}"
    );
    // A replay, and a call of nobody.
    assert_eq!(
        admin(control, "POST", "/admin/reload", Some(&operator), "").status,
        409
    );
    let line = audited.line("replay", |line| {
        line["act"] == "admin" && line["status"] == 409
    });
    assert!(
        line["subject"] == "ada" && line["what"] == "POST /admin/reload",
        "{line}"
    );
    let path = format!("/admin/{foreign}");
    assert_eq!(
        admin(control, "POST", &path, Some(&foreign), "").status,
        401
    );
    audited.line("nobody", |line| {
        line["act"] == "admin" && line["status"] == 401
    });
    // A revoked one that comes back.
    let revoked = http::exchange(gateway.listen(), http::upgrade(&tokens[0]).as_bytes());
    assert_eq!(revoked.status, 401);
    audited.line("refused by name", |line| is(line, "refuse", "truck-1"));
    gateway.signal(Signal::HUP);
    audited.line("reload", |line| line["act"] == "reload");
    assert_eq!(post(control, "/drain", "").status, 202);
    audited.line("drain", |line| {
        line["act"] == "admin" && line["what"] == "POST /drain"
    });

    let text = std::fs::read_to_string(&audited.file).expect("it is text") + &gateway.log();
    for token in &tokens {
        let signature = token.rsplit('.').next().expect("a token has one");
        let claims = token.split('.').nth(1).expect("a token has some");
        assert!(
            !text.contains(signature) && !text.contains(claims),
            "a token was written: {text}"
        );
    }
}

#[test]
fn files_are_set_aside_and_the_oldest_go() {
    let audited = Audited::start(1, &["audit.rotate_bytes=4096", "audit.keep=2"]);
    let gateway = &audited.gateway;
    let folder = audited.file.parent().expect("it is in a folder");
    let aside = || {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .expect("it is there")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains("audit.jsonl."))
            .collect();
        names.sort();
        names
    };
    let rotations = || Metrics::of(gateway.control()).value("longhaul_audit_rotations_total");
    let mut n = 0;
    eventually("four files were set aside", || {
        Client::vehicle(gateway, &format!("truck-{n}")).close();
        n += 1;
        rotations() >= 4
    });
    let names = aside();
    assert_eq!(names.len(), 2, "{names:?}");
    // Each is whole, and they follow one another without a gap.
    Client::vehicle(gateway, "last").close();
    audited.line("the last", |line| is(line, "connect", "last"));
    let of = |path: &Path| {
        let subjects = lines(path)
            .into_iter()
            .filter(|line| line["act"] == "connect");
        subjects
            .map(|line| line["subject"].to_string())
            .collect::<Vec<_>>()
    };
    let mut all = aside().iter().flat_map(|path| of(path)).collect::<Vec<_>>();
    all.extend(of(&audited.file));
    assert_eq!(all.pop().as_deref(), Some("\"last\""));
    let numbers: Vec<u32> = all
        .iter()
        .map(|subject| subject.trim_matches('"')[6..].parse().expect("a number"))
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
    assert_eq!(numbers.last(), Some(&(n - 1)));
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew() {
    let audited = Audited::start(1, &[]);
    let gateway = &audited.gateway;
    Client::vehicle(gateway, "first").close();
    audited.line("first", |line| is(line, "connect", "first"));
    let moved = audited.file.with_extension("1");
    std::fs::rename(&audited.file, &moved).expect("it is there");
    gateway.signal(Signal::HUP);
    eventually("there is a new one", || audited.file.exists());
    Client::vehicle(gateway, "second").close();
    audited.line("second", |line| is(line, "connect", "second"));
    assert!(
        lines(&moved)
            .iter()
            .any(|line| is(line, "connect", "first"))
    );
    // And without a word.
    std::fs::rename(&audited.file, &moved).expect("it is there");
    eventually("it is noticed", || audited.file.exists());
    Client::vehicle(gateway, "third").close();
    audited.line("third", |line| is(line, "connect", "third"));
}

#[test]
fn an_audit_log_that_cannot_be_written_holds_nobody_up_and_says_so() {
    let gateway = Gateway::start_with(
        1,
        &[
            "--set",
            "audit.file=/dev/full",
            "--set",
            "limits.audit_queue_max=16",
        ],
    );
    let metric = |name: &str| Metrics::of(gateway.control()).value(name);
    let mut vehicle = Client::vehicle(&gateway, "truck-0");
    eventually("it is counted", || {
        metric("longhaul_audit_errors_total") > 0
    });
    assert_eq!(metric("longhaul_audit_writable"), 0);
    assert!(
        gateway.log().contains("the audit log cannot be written"),
        "it is said"
    );
    // More than the queue and a batch hold.
    let mut n = 1;
    eventually("what finds no room is counted", || {
        for _ in 0..100 {
            Client::vehicle(&gateway, &format!("truck-{n}")).close();
            n += 1;
        }
        metric("longhaul_audit_dropped_total") > 0
    });
    vehicle.drain();
}

#[test]
fn what_was_lost_is_told_when_there_is_room_again() {
    let folder = TempDir::new().expect("a folder for the test");
    let place = folder.path().join("place");
    std::fs::create_dir(&place).expect("the folder takes it");
    let file = place.join("audit.jsonl");
    let setting = format!("audit.file={}", file.display());
    let gateway = Gateway::start_with(
        1,
        &["--set", &setting, "--set", "limits.audit_queue_max=16"],
    );
    Client::vehicle(&gateway, "before").close();
    eventually("it is written", || !lines(&file).is_empty());
    std::fs::remove_dir_all(&place).expect("it is there");
    let metric = |name: &str| Metrics::of(gateway.control()).value(name);
    eventually("it is noticed", || metric("longhaul_audit_writable") == 0);
    let mut n = 0;
    eventually("the queue overflows", || {
        for _ in 0..50 {
            Client::vehicle(&gateway, &format!("truck-{n}")).close();
            n += 1;
        }
        metric("longhaul_audit_dropped_total") > 0
    });
    std::fs::create_dir(&place).expect("the folder takes it");
    let told = |lines: &[Value]| -> u64 {
        let dropped = lines.iter().filter(|line| line["act"] == "dropped");
        dropped
            .map(|line| line["count"].as_u64().expect("a number"))
            .sum()
    };
    eventually("it is told", || {
        let dropped = metric("longhaul_audit_dropped_total");
        told(&lines(&file)) == dropped && dropped > 0
    });
    let connects = lines(&file)
        .iter()
        .filter(|line| line["act"] == "connect")
        .count() as u64;
    assert_eq!(connects + told(&lines(&file)), n);
    assert_eq!(metric("longhaul_audit_writable"), 1);
}

#[test]
fn strangers_cannot_wash_away_what_others_did() {
    let audited = Audited::start(
        1,
        &[
            "limits.audit_refusals_per_second_max=5",
            "abuse.points_max=0",
        ],
    );
    let gateway = &audited.gateway;
    let began = std::time::Instant::now();
    const STRANGERS: u64 = 300;
    for _ in 0..STRANGERS {
        let answer = http::exchange(gateway.listen(), http::upgrade("not.a.token").as_bytes());
        assert_eq!(answer.status, 401);
    }
    let seconds = began.elapsed().as_secs() + 2;
    let sums = || {
        let lines = audited.lines();
        let refusals = lines.iter().filter(|line| line["act"] == "refuse");
        let (counted, single): (Vec<_>, Vec<_>) =
            refusals.partition(|line| line["count"].is_number());
        let left_out: u64 = counted
            .iter()
            .filter_map(|line| line["count"].as_u64())
            .sum();
        (single.len() as u64, left_out)
    };
    eventually("each is there, by a line or by a number", || {
        let (single, left_out) = sums();
        single + left_out == STRANGERS
    });
    let (single, _) = sums();
    assert!(single <= 5 * seconds, "{single} lines in {seconds} s");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn nobody_starts_without_an_audit_log_that_was_asked_for() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args([
            "run",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--control-listen",
            "127.0.0.1:0",
        ])
        .args(["--set", "audit.file=/no/such/folder/audit.jsonl"])
        .env_clear()
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("audit.file"),
        "{output:?}"
    );
}
