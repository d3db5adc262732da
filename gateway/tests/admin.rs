//! Orders to a node: who may give which, once each.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::client::Client;
use crate::common::eventually;
use crate::common::gateway::{FLEET, Gateway, longhaul};
use crate::common::http::{admin, exchange, get, post};

mod common;

fn body(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_call_needs_an_operators_token_and_each_token_is_good_once() {
    let gateway = Gateway::start(1);
    let control = gateway.control();
    let entry = json!({"fleet": FLEET, "subject": "nobody"}).to_string();
    let revoke = |token: Option<&str>| admin(control, "POST", "/admin/revocations", token, &entry);
    let (vehicle, dashboard) = (
        gateway.vehicle_token("truck-1"),
        gateway.dashboard_token("ada"),
    );
    for (what, token, status) in [
        ("no token", None, 401),
        ("no token at all", Some("x"), 401),
        ("a vehicle's", Some(vehicle.as_str()), 403),
        ("a dashboard's", Some(dashboard.as_str()), 403),
    ] {
        let answer = revoke(token);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(
            !body(&answer.body)["error"]
                .as_str()
                .unwrap_or_default()
                .is_empty(),
            "{answer:?}"
        );
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{what}");
        }
        // Nothing can be asked either.
        assert_eq!(
            admin(control, "GET", "/admin/revocations", token, "").status,
            status,
            "{what}"
        );
    }
    let token = gateway.operator_token(None);
    let list = || admin(control, "GET", "/admin/revocations", Some(&token), "");
    assert_eq!(body(&list().body)["total"], 0);
    let answer = revoke(Some(&token));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(body(&answer.body)["survives_restart"], false);
    let again = revoke(Some(&token));
    assert_eq!(again.status, 409, "{again:?}");
    assert!(again.body.contains("make a new one"), "{again:?}");
    assert_eq!(body(&list().body)["total"], 1, "a question uses nothing up");
    // Any other order with the same token, too.
    assert_eq!(
        admin(control, "POST", "/admin/reload", Some(&token), "").status,
        409
    );
    // One that does too long is good for questions only.
    let key = gateway.key();
    let key = key.to_str().expect("plain");
    let long = longhaul(&[
        "token",
        "--role",
        "operator",
        "--subject",
        "ada",
        "--ttl",
        "1h",
        "--dev-key",
        key,
    ]);
    assert_eq!(revoke(Some(&long)).status, 401);
    assert_eq!(
        admin(control, "GET", "/admin/revocations", Some(&long), "").status,
        200
    );
}

#[test]
fn an_operator_of_a_fleet_touches_nothing_else() {
    let gateway = Gateway::start_with(1, &["--set", "auth.leeway_s=0"]);
    let control = gateway.control();
    let call = |method: &str, path: &str, entry: Value| {
        let text = if entry.is_null() {
            String::new()
        } else {
            entry.to_string()
        };
        let token = gateway.operator_token(Some("north"));
        admin(control, method, path, Some(&token), &text)
    };
    for (path, entry, status) in [
        ("/admin/revocations", json!({"fleet": "north"}), 200),
        (
            "/admin/revocations",
            json!({"fleet": "north", "subject": "truck-1"}),
            200,
        ),
        (
            "/admin/revocations",
            json!({"token_id": "t", "fleet": "north"}),
            200,
        ),
        ("/admin/revocations", json!({"token_id": "t"}), 403),
        ("/admin/revocations", json!({"fleet": "south"}), 403),
        ("/admin/revocations", json!({"all": true}), 403),
        ("/admin/revocations", json!({"operator": "ada"}), 403),
        ("/admin/evict", json!({"fleet": "south"}), 403),
        (
            "/admin/evict",
            json!({"fleet": "north", "subject": "x"}),
            202,
        ),
        ("/admin/reload", Value::Null, 403),
        ("/drain", Value::Null, 403),
    ] {
        let answer = call("POST", path, entry.clone());
        // Revoking its fleet revokes its own older tokens as well: one of the next second is good again.
        if status != 401 && answer.status == 401 {
            std::thread::sleep(std::time::Duration::from_millis(1_100));
            assert_eq!(
                call("POST", path, entry.clone()).status,
                status,
                "{path} {entry}"
            );
            continue;
        }
        assert_eq!(answer.status, status, "{path} {entry}: {answer:?}");
    }
    let node = gateway.operator_token(None);
    let south = json!({"fleet": "south"}).to_string();
    assert_eq!(
        admin(control, "POST", "/admin/revocations", Some(&node), &south).status,
        200
    );
    let listed = call("GET", "/admin/revocations", Value::Null);
    assert_eq!(body(&listed.body)["total"], 3, "{listed:?}");
    assert_eq!(
        call("DELETE", "/admin/revocations?fleet=south", Value::Null).status,
        403
    );
    assert_eq!(
        call("DELETE", "/admin/revocations?fleet=north", Value::Null).status,
        200
    );
    assert_eq!(
        call("DELETE", "/admin/revocations?fleet=north", Value::Null).status,
        404
    );
}

#[test]
fn a_wrong_call_says_what_is_wrong() {
    let gateway = Gateway::start(1);
    let control = gateway.control();
    for (method, path, text, status, says) in [
        ("POST", "/admin/revocations", "{", 400, "the body"),
        ("POST", "/admin/revocations", "{}", 400, "token_id"),
        (
            "POST",
            "/admin/revocations",
            r#"{"fleets":"x"}"#,
            400,
            "unknown field",
        ),
        (
            "POST",
            "/admin/revocations",
            r#"{"all":true,"until":7}"#,
            400,
            "over already",
        ),
        ("POST", "/admin/revocations", "", 415, "application/json"),
        ("POST", "/admin/evict", r#"{"fleet":""}"#, 400, "empty"),
        (
            "DELETE",
            "/admin/revocations?fleets=x",
            "",
            400,
            "unknown field",
        ),
        ("GET", "/admin/revocations?from=x", "", 400, "from"),
        ("POST", "/admin/nothing", "", 404, "no such call"),
        ("PUT", "/admin/revocations", "", 405, "another method"),
    ] {
        let token = gateway.operator_token(None);
        let answer = admin(control, method, path, Some(&token), text);
        let error = body(&answer.body)["error"].to_string();
        assert_eq!(answer.status, status, "{method} {path} {text}: {answer:?}");
        assert!(error.contains(says), "{method} {path} {text}: {error}");
    }
    let large = format!(r#"{{"all":true,"reason":"{}"}}"#, "x".repeat(10_000));
    let token = gateway.operator_token(None);
    assert_eq!(
        admin(control, "POST", "/admin/revocations", Some(&token), &large).status,
        413
    );
    let token = gateway.operator_token(None);
    let web_page = format!(
        "POST /admin/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: https://evil.example\r\nAuthorization: Bearer \
         {token}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(exchange(control, web_page.as_bytes()).status, 403);
}

#[test]
fn a_drain_asks_for_a_token_where_that_is_set() {
    let gateway = Gateway::start_with(1, &["--set", "control.require_token=true"]);
    let control = gateway.control();
    assert_eq!(post(control, "/drain", "").status, 401);
    assert_eq!(get(control, "/readyz").status, 200, "health asks for none");
    let vehicle = gateway.vehicle_token("truck-1");
    assert_eq!(
        admin(control, "POST", "/drain", Some(&vehicle), "").status,
        403
    );
    let token = gateway.operator_token(None);
    assert_eq!(
        admin(control, "POST", "/drain", Some(&token), "").status,
        202
    );
}

#[test]
fn an_evicted_client_may_come_back() {
    let gateway = Gateway::start(2);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let mut ada = Client::dashboard(&gateway, "ada");
    let mut other = Client::vehicle(&gateway, "truck-2");
    for subject in ["truck-1", "ada"] {
        let entry = json!({"fleet": FLEET, "subject": subject}).to_string();
        let token = gateway.operator_token(Some(FLEET));
        let answer = admin(
            gateway.control(),
            "POST",
            "/admin/evict",
            Some(&token),
            &entry,
        );
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    assert_eq!(vehicle.closed().0, 4003);
    assert_eq!(ada.closed().0, 4003);
    other.drain();
    Client::vehicle(&gateway, "truck-1").drain();
    let metrics = common::http::Metrics::of(gateway.control());
    assert_eq!(
        metrics.value(r#"longhaul_connections_closed_total{cause="evicted"}"#),
        2
    );
}

#[test]
fn the_command_line_gives_orders() {
    let gateway = Gateway::start(2);
    gateway.wait_for_the_next_second();
    let key = gateway.key();
    let key = key.to_str().expect("plain");
    let control = format!("http://{}", gateway.control());
    let said = |arguments: &[&str]| {
        let mut all = vec![
            "admin",
            "--control",
            control.as_str(),
            "--dev-key",
            key,
            "--as",
            "ada",
        ];
        all.extend(arguments);
        longhaul(&all)
    };
    let order = |arguments: &[&str]| body(&said(arguments));
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let answer = order(&[
        "revoke",
        "--fleet",
        FLEET,
        "--subject",
        "truck-1",
        "--reason",
        "stolen",
    ]);
    assert_eq!(answer["revoked"]["subject"], "truck-1", "{answer}");
    assert_eq!(vehicle.closed().0, 4503);
    let answer = order(&["revocations"]);
    assert_eq!(answer["revocations"][0]["reason"], "stolen", "{answer}");
    assert_eq!(answer["revocations"][0]["origin"], "call", "{answer}");
    order(&["unrevoke", "--fleet", FLEET, "--subject", "truck-1"]);
    assert_eq!(order(&["revocations"])["total"], 0);
    let answer = order(&["reload"]);
    assert!(
        answer["parts"]
            .as_array()
            .is_some_and(|parts| parts.len() >= 2),
        "{answer}"
    );
    let answer = order(&["call", "GET", "/admin/revocations"]);
    assert_eq!(answer["total"], 0);
    // What the node does not do has an exit code.
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args([
            "admin",
            "--control",
            &control,
            "--dev-key",
            key,
            "unrevoke",
            "--all",
        ])
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("no such entry"),
        "{output:?}"
    );
    let nobody = std::process::Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args([
            "admin",
            "--control",
            "http://127.0.0.1:1",
            "--dev-key",
            key,
            "reload",
        ])
        .output()
        .expect("the binary runs");
    assert_eq!(nobody.status.code(), Some(69), "{nobody:?}");
    let other = std::process::Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args([
            "admin",
            "--control",
            "https://127.0.0.1:1",
            "--dev-key",
            key,
            "reload",
        ])
        .output()
        .expect("the binary runs");
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("http://"),
        "{other:?}"
    );
    assert_eq!(said(&["drain", "--reason", "test"]), "the node drains");
}

#[test]
fn a_signal_reloads_and_ends_nothing() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    gateway.signal(Signal::HUP);
    eventually("every part says what it did", || {
        let log = gateway.log();
        log.contains("reloaded: there is none (audit.file)")
            && log.contains("0 entries are in force")
    });
    vehicle.drain();
    assert_eq!(get(gateway.control(), "/readyz").status, 200);
}
