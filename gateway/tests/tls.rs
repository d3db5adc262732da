//! TLS on the data plane, with other people's clients: rustls, OpenSSL, curl, Python, Node.js, Chromium.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tungstenite::{Message as Frame, WebSocket};

use crate::common::eventually;
use crate::common::gateway::bound_to_this_thread;
use crate::common::http::{BALANCER, Metrics, dial, proxy_header, upgrade};
use crate::common::secure::{Secured, Stream};
use crate::common::tools::{program, tool};

mod common;

fn say(socket: &mut WebSocket<Stream>, message: Value) {
    socket
        .send(Frame::text(message.to_string()))
        .expect("the gateway takes it");
}

/// The next message of this type; others are skipped.
fn hear(socket: &mut WebSocket<Stream>, kind: &str) -> Value {
    loop {
        let frame = socket.read().expect("the gateway is there");
        if !frame.is_text() {
            continue;
        }
        let message: Value =
            serde_json::from_str(frame.to_text().expect("text")).expect("it is JSON");
        if message["type"] == kind {
            return message;
        }
    }
}

fn position(time_ms: u64) -> Value {
    json!({"type": "Position", "fix": {"time_ms": time_ms, "vehicle": 0, "lat_e7": 525_000_000, "lon_e7": 134_000_000,
        "speed_cm_s": 1_000, "heading_cdeg": 0}})
}

#[test]
fn positions_reach_dashboards_over_tls_on_all_shards() {
    for (settings, tls12) in [("", false), ("tls12 = true\n", true)] {
        let secured = Secured::start(2, settings, &[]);
        let client = |role, subject: &str| {
            let token = secured.gateway.token(role, "demo", subject);
            secured
                .connect(secured.authority.client(None, tls12), &token)
                .expect("it is let in")
        };
        let mut dashboards: Vec<_> = (0..4)
            .map(|n| client("dashboard", &format!("d{n}")))
            .collect();
        for dashboard in &mut dashboards {
            say(
                dashboard,
                json!({"type": "Subscribe", "request": 1, "whole_fleet": true}),
            );
            hear(dashboard, "Ack");
        }
        let mut vehicles: Vec<_> = (0..4)
            .map(|n| client("vehicle", &format!("v{n}")))
            .collect();
        for round in 1..=20 {
            for vehicle in &mut vehicles {
                say(vehicle, position(round));
            }
            for dashboard in &mut dashboards {
                let mut seen = 0;
                while seen < vehicles.len() {
                    let fixes = hear(dashboard, "Positions")["fixes"].clone();
                    let fixes = fixes.as_array().expect("a list");
                    assert!(fixes.iter().all(|fix| fix["time_ms"] == round));
                    seen += fixes.len();
                }
            }
        }
        let metrics = Metrics::of(secured.gateway.control());
        assert_eq!(metrics.sum("longhaul_tls_failures_total"), 0);
        assert_eq!(metrics.sum("longhaul_tls_handshakes_total"), 8);
        dashboards[0].close(None).expect("it is told");
        let ended = loop {
            match dashboards[0].read() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(
            matches!(ended, tungstenite::Error::ConnectionClosed),
            "in order, close_notify and all: {ended}"
        );
    }
}

#[test]
fn a_long_message_crosses_many_records_in_both_directions() {
    let secured = Secured::start(1, "", &[]);
    let stream = secured.dial(secured.authority.client(None, false), "localhost");
    let url = format!("wss://localhost:{}/echo", secured.gateway.listen().port());
    let (mut socket, _) = tungstenite::client(url, stream).expect("echo is there");
    for length in [0, 1, 16_383, 16_384, 16_385, 1_000_000] {
        let payload: Vec<u8> = (0..length).map(|n| (n * 31) as u8).collect();
        socket.send(Frame::binary(payload.clone())).expect("taken");
        let back = socket.read().expect("it comes back");
        assert!(back.into_data() == payload, "{length}");
    }
}

#[test]
fn a_ticket_brings_a_client_back_without_a_full_handshake() {
    let secured = Secured::start(1, "", &[]);
    let config = secured.authority.client(None, false);
    for _ in 0..3 {
        let token = secured.gateway.vehicle_token("v");
        secured
            .connect(Arc::clone(&config), &token)
            .expect("it is let in");
    }
    let metrics = Metrics::of(secured.gateway.control());
    assert_eq!(
        metrics.value("longhaul_tls_handshakes_total{kind=\"full\"}"),
        1
    );
    assert_eq!(
        metrics.value("longhaul_tls_handshakes_total{kind=\"resumed\"}"),
        2
    );
}

#[test]
fn a_client_asks_for_a_name_and_sees_its_certificate() {
    let files = tempfile::tempdir().expect("a folder");
    let other = common::secure::Authority::new();
    other.write(files.path(), "other", &["*.fleet.example"]);
    let other_files = files.path().display();
    let secured = Secured::start(
        1,
        &format!(
            "[tls]\ncertificates = [{{ chain = \"edge.pem\", key = \"edge.key.pem\" }},\n  \
             {{ chain = \"{other_files}/other.pem\", key = \"{other_files}/other.key.pem\" }}]\n"
        ),
        &[],
    );
    let shakes_hands = |authority: &common::secure::Authority, name: &str| {
        let mut stream = secured.dial(authority.client(None, false), name);
        stream.conn.complete_io(&mut stream.sock).is_ok()
    };
    assert!(shakes_hands(&secured.authority, "localhost"));
    assert!(shakes_hands(&other, "north.fleet.example"));
    assert!(!shakes_hands(&secured.authority, "north.fleet.example"));
    assert!(!shakes_hands(&other, "localhost"));
    // Somebody without a name sees the first.
    assert!(shakes_hands(&secured.authority, "127.0.0.1"));
}

#[test]
fn a_vehicle_is_whom_its_certificate_names() {
    let settings = "client_certificates = \"required\"\nclient_authorities = \"ca.pem\"\n";
    let secured = Secured::start(1, settings, &[]);
    let stranger = common::secure::Authority::new();
    let try_as = |certificate: Option<&str>, role: &str, subject: &str| {
        let token = secured.gateway.token(role, "demo", subject);
        secured
            .connect(secured.authority.client(certificate, false), &token)
            .map(drop)
    };
    assert_eq!(try_as(Some("bus-1"), "vehicle", "bus-1"), Ok(()));
    assert_eq!(try_as(None, "dashboard", "ada"), Ok(()));
    let none = try_as(None, "vehicle", "bus-1").unwrap_err();
    assert!(
        none.contains("401") && none.contains("needs a client certificate"),
        "{none}"
    );
    let wrong = try_as(Some("bus-1"), "vehicle", "bus-2").unwrap_err();
    assert!(
        wrong.contains("401") && wrong.contains("not for the subject"),
        "{wrong}"
    );
    let wrong = try_as(Some("bus-1"), "dashboard", "ada").unwrap_err();
    assert!(wrong.contains("401"), "{wrong}");

    // A certificate of somebody whom we do not know ends in the handshake.
    let token = secured.gateway.vehicle_token("bus-1");
    let mut config = (*secured.authority.client(None, false)).clone();
    config.client_auth_cert_resolver = stranger
        .client(Some("bus-1"), false)
        .client_auth_cert_resolver
        .clone();
    let refused = secured.connect(Arc::new(config), &token).unwrap_err();
    assert!(
        refused.contains("UnknownCA") || refused.contains("alert"),
        "{refused}"
    );
    let metrics = Metrics::of(secured.gateway.control());
    let failed = "longhaul_tls_failures_total{at=\"handshake\"}";
    assert_eq!(metrics.value(failed), 1);
}

#[test]
fn what_is_no_tls_is_closed_and_counted() {
    let secured = Secured::start(1, "", &[]);
    // TLS 1.2 was not allowed.
    let token = secured.gateway.vehicle_token("v");
    let refused = secured
        .connect(secured.authority.client(None, true), &token)
        .unwrap_err();
    assert!(refused.contains("ProtocolVersion"), "{refused}");
    // Plain HTTP.
    let mut plain = dial(secured.gateway.listen());
    plain
        .write_all(b"GET /v1 HTTP/1.1\r\nHost: h\r\n\r\n")
        .expect("it is sent");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).expect("it is closed");
    assert_eq!(answer[..2], [21, 3], "an alert: {answer:?}");
    // A record that was not sealed with the session's key.
    let mut stream = secured.dial(secured.authority.client(None, false), "localhost");
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("a handshake");
    }
    let mut forged = vec![23, 3, 3, 0, 40];
    forged.resize(45, 1);
    stream.sock.write_all(&forged).expect("it is sent");
    let error = stream.read(&mut [0; 10]).unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    eventually("three are counted", || {
        Metrics::of(secured.gateway.control()).sum("longhaul_tls_failures_total") == 3
    });
    // It goes on serving.
    secured.connected("vehicle", "v");
}

/// A load balancer's word comes in front of TLS, in a piece of its own or in one with the client's first.
#[test]
fn behind_a_load_balancer_bounds_hold_for_the_real_address() {
    let one_each = "limits.connections_per_address_max=1";
    let secured = Secured::start(1, "", &["--set", BALANCER, "--set", one_each]);
    let gateway = &secured.gateway;
    let token = gateway.vehicle_token("v");
    let hits = |limit| {
        let series = format!("longhaul_limit_hits_total{{limit=\"{limit}\"}}");
        Metrics::of(gateway.control()).value(&series)
    };
    let status = |client: Option<&str>, in_one_piece: bool| {
        let mut stream = secured.dial(secured.authority.client(None, false), "localhost");
        let mut first = client.map_or_else(Vec::new, proxy_header);
        if !in_one_piece {
            stream.sock.write_all(&first).expect("it is sent");
            first.clear();
        }
        stream.conn.write_tls(&mut first).expect("it says hello");
        stream.sock.write_all(&first).expect("it is sent");
        let mut line = [0; 12];
        stream
            .write_all(upgrade(&token).as_bytes())
            .and_then(|()| stream.read_exact(&mut line))
            .map_err(|error| error.to_string())?;
        let status = String::from_utf8_lossy(&line[9..]).into_owned();
        Ok::<_, String>((status, stream))
    };
    let (first, held) = status(Some("192.0.2.1"), false).expect("it is let in");
    assert_eq!(first, "101");
    let (other, _) = status(Some("2001:db8::1"), true).expect("it is let in");
    assert_eq!(other, "101");
    // Who is not let in is told so with an alert, as there is no session to say more in: a second connection of an
    // address, and one of which nobody said whom it is for.
    for (client, in_one_piece) in [(Some("192.0.2.1"), true), (None, false)] {
        let refused = status(client, in_one_piece).map(|(status, _)| status);
        assert_eq!(
            refused,
            Err("received fatal alert: InternalError".to_owned())
        );
    }
    assert_eq!(hits("connections_per_address_max"), 1);
    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_proxied_connections_total"), 3);
    drop(held);
}

#[test]
fn a_handshake_that_is_not_ended_costs_its_time_only() {
    let settings = "[connection]\nhandshake_timeout_ms = 500\n[tls]\n\
        certificates = [{ chain = \"edge.pem\", key = \"edge.key.pem\" }]\n";
    let secured = Secured::start(1, settings, &[]);
    let mut silent = dial(secured.gateway.listen());
    let mut begun = dial(secured.gateway.listen());
    begun.write_all(&[22, 3, 1, 2, 0, 1]).expect("it is sent");
    let mut shaken = secured.dial(secured.authority.client(None, false), "localhost");
    while shaken.conn.is_handshaking() {
        shaken
            .conn
            .complete_io(&mut shaken.sock)
            .expect("a handshake");
    }
    for stream in [&mut silent, &mut begun] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it is closed");
    }
    // This one can be told, because its handshake is complete.
    let mut answer = String::new();
    shaken
        .read_to_string(&mut answer)
        .expect("it is closed in order");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let metrics = Metrics::of(secured.gateway.control());
    let hits = "longhaul_limit_hits_total{limit=\"handshake_timeout_ms\"}";
    assert_eq!(metrics.value(hits), 3);
}

#[test]
fn openssl_and_curl_connect() {
    let secured = Secured::start(1, "tls12 = true\n", &[]);
    let port = secured.gateway.listen().port();
    let token = secured.gateway.vehicle_token("v");
    for version in ["-tls1_3", "-tls1_2"] {
        let mut openssl = bound_to_this_thread("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", version])
            .args([
                "-connect",
                &format!("localhost:{port}"),
                "-servername",
                "localhost",
            ])
            .arg("-CAfile")
            .arg(secured.ca())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is there");
        let mut input = openssl.stdin.take().expect("piped");
        input
            .write_all(upgrade(&token).as_bytes())
            .expect("it is taken");
        let mut answer = [0; 12];
        let output = openssl.stdout.as_mut().expect("piped");
        output.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101", "{version}");
        drop(input);
        openssl.kill().expect("it runs");
        openssl.wait().expect("it ends");
    }
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--max-time",
            "20",
            "--cacert",
        ])
        .arg(secured.ca())
        .args(["-H", "Upgrade: websocket", "-H", "Connection: Upgrade"])
        .args([
            "-H",
            "Sec-WebSocket-Version: 13",
            "-H",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ])
        .arg(format!("https://localhost:{port}/nothing"))
        .output()
        .expect("curl is there");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("HTTP/1.1 404"), "{output:?}");
}

#[test]
fn python_and_node_connect() {
    let secured = Secured::start(1, "", &[]);
    for (mut command, name) in [
        (
            {
                let mut python = bound_to_this_thread(tool("python/bin/python"));
                python.arg(program("json_client.py"));
                python
            },
            "python",
        ),
        (
            {
                let mut node = bound_to_this_thread("node");
                node.env("NODE_PATH", tool("node/node_modules"))
                    .arg(program("node_client.cjs"));
                node
            },
            "node",
        ),
    ] {
        let mut client = command
            .env("SSL_CERT_FILE", secured.ca())
            .env("NODE_EXTRA_CA_CERTS", secured.ca())
            .arg(secured.url())
            .arg(secured.gateway.dashboard_token(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = [0; 11];
        let output = client.stdout.as_mut().expect("piped");
        output.read_exact(&mut said).expect("it says something");
        assert_eq!(&said, b"{\"welcome\":", "{name}");
        client.kill().expect("it runs");
        client.wait().expect("it ends");
    }
}

/// A page in Chromium opens a WebSocket over TLS with its token as a subprotocol, and reports what it hears.
#[test]
fn a_browser_connects() {
    use std::net::TcpListener;
    let secured = Secured::start(1, "", &[]);
    let token = secured.gateway.dashboard_token("browser");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let page = format!(
        "<script>const socket = new WebSocket({url:?}, ['longhaul.v1.json', 'longhaul.token.{token}']);\
         socket.onmessage = event => fetch('/heard', {{method: 'POST', body: event.data}});\
         socket.onerror = () => fetch('/heard', {{method: 'POST', body: 'no connection'}});</script>",
        url = secured.url()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let at = format!("http://{}/", listener.local_addr().expect("bound"));
    let mut browser = bound_to_this_thread("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        // The authority is the test's own, and a browser's list of authorities is not for tests to change.
        .args(["--ignore-certificate-errors", "--no-first-run"])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .arg(at)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium is there: scripts/install-tools");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = Vec::new();
            let mut room = [0; 4_096];
            loop {
                let read = stream.read(&mut room).unwrap_or(0);
                request.extend_from_slice(&room[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    if read == 0 {
                        break;
                    }
                    continue;
                };
                let length = head
                    .lines()
                    .find_map(|line| {
                        line.to_ascii_lowercase()
                            .strip_prefix("content-length: ")
                            .map(str::to_owned)
                    })
                    .map_or(0, |length| length.parse::<usize>().expect("a number"));
                if body.len() < length && read > 0 {
                    continue;
                }
                let answer = if head.starts_with("POST") {
                    let _ = tell.send(body.to_owned());
                    ""
                } else {
                    page.as_str()
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                    answer.len()
                );
                break;
            }
        }
    });
    let heard = told.recv_timeout(common::PATIENCE);
    browser.kill().expect("it runs");
    browser.wait().expect("it ends");
    let welcome: Value =
        serde_json::from_str(&heard.expect("the page says something")).expect("JSON");
    assert_eq!(
        (&welcome["type"], &welcome["subject"]),
        (&json!("Welcome"), &json!("browser"))
    );
}

#[test]
fn certificates_are_read_again_and_nobody_is_dropped() {
    use rustix::process::Signal;
    let secured = Secured::start(2, "", &[]);
    let mut before = secured.connected("vehicle", "v");
    let shakes_hands = |authority: &common::secure::Authority| {
        let mut stream = secured.dial(authority.client(None, false), "localhost");
        stream.conn.complete_io(&mut stream.sock).is_ok()
    };
    let other = common::secure::Authority::new();
    assert!(shakes_hands(&secured.authority) && !shakes_hands(&other));
    // A file that is of no use: it is said, and everything is as it was.
    std::fs::write(secured.files().join("edge.pem"), "no certificate").expect("it is written");
    secured.gateway.signal(Signal::HUP);
    eventually("it is said", || {
        secured.gateway.log().contains("holds no certificate")
    });
    assert!(shakes_hands(&secured.authority));
    other.write(secured.files(), "edge", &["localhost"]);
    secured.gateway.signal(Signal::HUP);
    eventually("the new one is shown", || shakes_hands(&other));
    assert!(!shakes_hands(&secured.authority));
    for n in 1..=3 {
        say(&mut before, position(n));
    }
    eventually("who was connected still talks", || {
        Metrics::of(secured.gateway.control()).value("longhaul_positions_in_total") == 3
    });
}
