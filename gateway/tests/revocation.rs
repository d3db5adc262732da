//! Revoked tokens: not let in, and closed where they are in already; from calls and from a watched file.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longhaul_codec::{AckKind, Authenticate, ErrorCode, Message};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::client::Client;
use crate::common::eventually;
use crate::common::gateway::{FLEET, Gateway, longhaul};
use crate::common::http::{self, Metrics, admin};

mod common;

/// The code of a token that was revoked (docs/protocol.md).
const REVOKED: u16 = 4503;

/// Who is refused again and again from one address is not to be kept out for that.
fn start(shards: usize) -> Gateway {
    let settings = ["abuse.points_max=0", "auth.leeway_s=0"];
    Gateway::start_with(shards, &settings.map(|setting| ["--set", setting]).concat())
}

fn revoke(gateway: &Gateway, entry: &Value) -> Value {
    let token = gateway.operator_token(None);
    let text = entry.to_string();
    let answer = admin(
        gateway.control(),
        "POST",
        "/admin/revocations",
        Some(&token),
        &text,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("it is JSON")
}

/// The token's own id. The test reads it; nobody checks the signature here.
fn token_id(token: &str) -> String {
    let claims = token.split('.').nth(1).expect("it has three parts");
    let claims = data_encoding::BASE64URL_NOPAD
        .decode(claims.as_bytes())
        .expect("base64url (RFC 7515)");
    let claims: Value = serde_json::from_slice(&claims).expect("it is JSON");
    claims["jti"]
        .as_str()
        .expect("longhaul token gives one")
        .to_owned()
}

/// The status of an upgrade with this token.
fn upgrade(gateway: &Gateway, token: &str) -> (u16, String) {
    let answer = http::exchange(gateway.listen(), http::upgrade(token).as_bytes());
    (answer.status, answer.body)
}

/// Whether the token gets in. A token that does may be asked for several times: its connection is closed again.
fn gets_in(gateway: &Gateway, token: &str) -> bool {
    let mut stream = http::dial(gateway.listen());
    std::io::Write::write_all(&mut stream, http::upgrade(token).as_bytes()).expect("it is taken");
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut head).expect("it answers");
    match &head {
        b"HTTP/1.1 101" => true,
        b"HTTP/1.1 401" => false,
        other => panic!("{}", String::from_utf8_lossy(other)),
    }
}

/// Vehicles and dashboards over two shards, of whom `entry` hits those that `hits` says. Tokens made later are good if
/// `newer` says so.
fn hits(entry: impl Fn(&[String]) -> Value, hits: impl Fn(usize) -> bool, newer: bool) {
    let gateway = start(2);
    // Fleet, role, subject. Several of each, so that both shards have some.
    let who: Vec<(&str, &str, String)> = (0..12)
        .map(|n| {
            let fleet = if n < 8 { FLEET } else { "south" };
            let role = if n % 4 == 3 { "dashboard" } else { "vehicle" };
            (fleet, role, format!("{role}-{n}"))
        })
        .collect();
    let tokens: Vec<_> = who
        .iter()
        .map(|(fleet, role, subject)| gateway.token(role, fleet, subject))
        .collect();
    let mut clients: Vec<_> = tokens
        .iter()
        .map(|token| Client::connect(&gateway, token))
        .collect();
    let ids: Vec<_> = tokens.iter().map(|token| token_id(token)).collect();
    revoke(&gateway, &entry(&ids));
    for (n, client) in clients.iter_mut().enumerate() {
        if hits(n) {
            assert_eq!(client.closed().0, REVOKED, "{:?}", who[n]);
        } else {
            client.drain();
        }
    }
    let closed = (0..who.len()).filter(|&n| hits(n)).count() as u64;
    let metrics = Metrics::of(gateway.control());
    assert_eq!(
        metrics.value(r#"longhaul_connections_closed_total{cause="revoked"}"#),
        closed
    );
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(
            gets_in(&gateway, token),
            !hits(n),
            "{:?}, with the old token",
            who[n]
        );
    }
    // A token of this very second would be an old one.
    std::thread::sleep(Duration::from_millis(1_100));
    for (n, (fleet, role, subject)) in who.iter().enumerate() {
        let token = gateway.token(role, fleet, subject);
        assert_eq!(
            gets_in(&gateway, &token),
            newer || !hits(n),
            "{:?}, with a new token",
            who[n]
        );
    }
}

#[test]
fn by_token() {
    hits(|ids| json!({"token_id": ids[2]}), |n| n == 2, true);
}

#[test]
fn by_token_of_a_dashboard() {
    hits(
        |ids| json!({"token_id": ids[7], "fleet": FLEET}),
        |n| n == 7,
        true,
    );
}

#[test]
fn by_vehicle() {
    hits(
        |_| json!({"fleet": FLEET, "subject": "vehicle-5"}),
        |n| n == 5,
        true,
    );
}

#[test]
fn by_user() {
    hits(
        |_| json!({"fleet": "south", "subject": "dashboard-11"}),
        |n| n == 11,
        true,
    );
}

#[test]
fn by_fleet() {
    hits(|_| json!({"fleet": FLEET}), |n| n < 8, true);
}

#[test]
fn everybody_for_a_time() {
    hits(
        |_| json!({"all": true, "issued_before": 4_000_000_000u64}),
        |_| true,
        false,
    );
}

#[test]
fn a_token_cannot_be_renewed_with_one_that_was_revoked() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let fresh = gateway.vehicle_token("truck-1");
    revoke(&gateway, &json!({"token_id": token_id(&fresh)}));
    vehicle.send(&Message::Authenticate(Authenticate {
        request: 7,
        token: fresh,
    }));
    let error = vehicle.error(ErrorCode::NotAllowed);
    assert!(error.message.contains("revoked"), "{error:?}");
    // One that is renewed goes by its new token from then on.
    let fresh = gateway.vehicle_token("truck-1");
    vehicle.ask(
        AckKind::Authenticate,
        8,
        Authenticate {
            request: 8,
            token: fresh.clone(),
        },
    );
    revoke(&gateway, &json!({"token_id": token_id(&fresh)}));
    assert_eq!(vehicle.closed().0, REVOKED);
}

#[test]
fn who_is_being_let_in_at_that_moment_does_not_slip_through() {
    let gateway = start(2);
    let token = gateway.vehicle_token("truck-1");
    let others: Vec<_> = (0..3)
        .map(|n| gateway.dashboard_token(&format!("user-{n}")))
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Each comes as often as it can, and goes on coming for a while after it was revoked.
        let comers: Vec<_> = std::iter::once(&token)
            .chain(&others)
            .map(|token| {
                let (gateway, stop) = (&gateway, &stop);
                scope.spawn(move || {
                    let mut open = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let Some(stream) = try_upgrade(gateway.listen(), token) else {
                            std::thread::sleep(Duration::from_millis(1));
                            continue;
                        };
                        open.push(stream);
                        if open.len() > 20 {
                            open.remove(0);
                        }
                    }
                    open
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        revoke(&gateway, &json!({"fleet": FLEET}));
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        let open: Vec<_> = comers
            .into_iter()
            .map(|comer| comer.join().expect("it ends"))
            .collect();
        assert!(
            open.iter().all(|streams| !streams.is_empty()),
            "nobody ever came in"
        );
        eventually("nobody of the fleet is connected", || {
            let metrics = Metrics::of(gateway.control());
            metrics.value(r#"longhaul_connections_open{role="vehicle"}"#) == 0
                && metrics.value(r#"longhaul_connections_open{role="dashboard"}"#) == 0
        });
    });
    assert!(!gets_in(&gateway, &token));
}

/// A connection that was let in; none if it was refused.
fn try_upgrade(listen: SocketAddr, token: &str) -> Option<std::net::TcpStream> {
    let mut stream = http::dial(listen);
    std::io::Write::write_all(&mut stream, http::upgrade(token).as_bytes()).ok()?;
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut head).ok()?;
    (&head == b"HTTP/1.1 101").then_some(stream)
}

fn with_state(folder: &Path) -> Gateway {
    let directory = format!("state.directory={}", folder.display());
    Gateway::start_with(2, &["--set", &directory])
}

#[test]
fn what_was_revoked_survives_a_restart_and_reaches_a_second_process() {
    let folder = TempDir::new().expect("a folder for the test");
    let state = folder.path().join("state");
    let first = with_state(&state);
    let second = with_state(&state);
    let mut there = Client::vehicle(&second, "truck-1");
    let entry = json!({"fleet": FLEET, "subject": "truck-1", "issued_before": 4_000_000_000u64});
    let said = revoke(&first, &entry);
    assert_eq!(said["survives_restart"], true);
    assert_eq!(there.closed().0, REVOKED, "the other process heard of it");
    drop((first, second));
    let third = with_state(&state);
    let (status, why) = upgrade(&third, &third.vehicle_token("truck-1"));
    assert!(status == 401 && why.contains("revoked"), "{status} {why}");
    assert!(gets_in(&third, &third.vehicle_token("truck-2")));
    // Killed, not asked to end: it was on disk when the call was answered.
    let token = third.operator_token(None);
    let path = format!("/admin/revocations?fleet={FLEET}&subject=truck-1");
    assert_eq!(
        admin(third.control(), "DELETE", &path, Some(&token), "").status,
        200
    );
    assert!(gets_in(&third, &third.vehicle_token("truck-1")));
}

/// Replaces a file the way it is to be replaced.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the folder takes it");
    std::fs::rename(&new, path).expect("the folder takes it");
}

#[test]
fn a_watched_file_is_followed_and_a_broken_one_changes_nothing() {
    let folder = TempDir::new().expect("a folder for the test");
    let path = folder.path().join("revoked.jsonl");
    std::fs::write(&path, "").expect("the folder takes it");
    let setting = format!("auth.revocations={}", path.display());
    let gateway = Gateway::start_with(2, &["--set", &setting]);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let mut ada = Client::dashboard(&gateway, "ada");
    let mut other = Client::vehicle(&gateway, "truck-2");
    let line = |subject: &str| {
        json!({"fleet": FLEET, "subject": subject, "issued_before": 4_000_000_000u64}).to_string()
            + "\n"
    };
    put(&path, &(line("truck-1") + &line("ada")));
    assert_eq!(vehicle.closed().0, REVOKED);
    assert_eq!(ada.closed().0, REVOKED);
    other.drain();
    put(&path, "{\"fleet\": ");
    eventually("it is said that the file is broken", || {
        Metrics::of(gateway.control()).value("longhaul_revocation_files_broken") == 1
    });
    eventually("the log says so", || {
        gateway.log().contains("what it said before stays in force")
    });
    assert!(!gets_in(&gateway, &gateway.vehicle_token("truck-1")));
    let token = gateway.operator_token(None);
    let answer = admin(gateway.control(), "POST", "/admin/reload", Some(&token), "");
    assert!(
        answer.status == 500 && answer.body.contains("line 1"),
        "{answer:?}"
    );
    std::fs::remove_file(&path).expect("it is there");
    std::thread::sleep(Duration::from_millis(700));
    assert!(
        !gets_in(&gateway, &gateway.vehicle_token("truck-1")),
        "a file that is gone frees nobody"
    );
    put(&path, &line("truck-2"));
    assert_eq!(other.closed().0, REVOKED);
    eventually("who is not in it any more gets in", || {
        gets_in(&gateway, &gateway.vehicle_token("truck-1"))
    });
    let token = gateway.operator_token(None);
    let taken = format!("/admin/revocations?fleet={FLEET}&subject=truck-2");
    assert_eq!(
        admin(gateway.control(), "DELETE", &taken, Some(&token), "").status,
        409
    );
}

#[test]
fn nobody_starts_without_a_list_that_was_asked_for() {
    let folder = TempDir::new().expect("a folder for the test");
    let missing = folder.path().join("revoked.jsonl");
    let setting = format!("auth.revocations={}", missing.display());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args([
            "run",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--control-listen",
            "127.0.0.1:0",
            "--set",
            &setting,
        ])
        .env_clear()
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("auth.revocations"),
        "{output:?}"
    );
    // The same words where an operator looks first.
    assert!(longhaul(&["config"]).contains("# revocations ="));
}
