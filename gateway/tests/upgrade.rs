//! The opening handshake against the real gateway: who gets in, and what the others are told.

use std::io::{Read, Write};

use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::http::header::{AUTHORIZATION, HeaderName, SEC_WEBSOCKET_PROTOCOL};

use crate::common::gateway::{Gateway, token};
use crate::common::http::{Answer, Metrics, answer, dial, exchange};

mod common;

/// An upgrade request as a list of lines, to be spoilt line by line.
struct Upgrade {
    line: String,
    headers: Vec<(&'static str, String)>,
}

impl Upgrade {
    /// A request that is let in, if the token is good.
    fn with(token: &str) -> Upgrade {
        Upgrade {
            line: "GET /v1 HTTP/1.1".to_owned(),
            headers: vec![
                ("Host", "localhost".to_owned()),
                ("Upgrade", "websocket".to_owned()),
                ("Connection", "Upgrade".to_owned()),
                ("Sec-WebSocket-Key", generate_key()),
                ("Sec-WebSocket-Version", "13".to_owned()),
                ("Sec-WebSocket-Protocol", "longhaul.v1".to_owned()),
                ("Authorization", format!("Bearer {token}")),
            ],
        }
    }

    fn line(mut self, line: &str) -> Upgrade {
        self.line = line.to_owned();
        self
    }

    fn set(mut self, name: &'static str, value: &str) -> Upgrade {
        self = self.without(name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Upgrade {
        self.headers.retain(|(header, _)| *header != name);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }

    /// What the gateway answers, for a request that is refused.
    fn refused(&self, gateway: &Gateway) -> Answer {
        exchange(gateway.listen(), &self.bytes())
    }
}

/// Every refusal is a whole answer in plain words, and the connection ends with it.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(says), "{says:?} is not in {answer:?}");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(length.as_str()));
}

/// A token signed with a key that the gateway does not have.
fn foreign_token(gateway: &Gateway) -> String {
    let key = gateway.folder().join("another key");
    std::fs::write(&key, [b'k'; 32]).expect("the folder is the test's own");
    let key = key.to_str().expect("temporary folders have plain names");
    let arguments = ["--key", key, "--algorithm", "HS256"];
    token(&arguments, "vehicle", "demo", "truck-1")
}

fn expired_token(gateway: &Gateway) -> String {
    let key = gateway.key();
    let key = key.to_str().expect("temporary folders have plain names");
    token(
        &["--dev-key", key, "--ttl", "0s"],
        "vehicle",
        "demo",
        "truck-1",
    )
}

#[test]
fn a_bad_token_is_refused_with_its_reason() {
    let gateway = Gateway::start_with(2, &["--set", "auth.leeway_s=0"]);
    let good = gateway.vehicle_token("truck-1");
    let other = gateway.vehicle_token("truck-2");
    let cut = &good[..good.len() - 3];

    let cases = [
        (
            Upgrade::with(&good).without("Authorization"),
            "a token is needed: send \"Authorization: Bearer TOKEN\"",
        ),
        (
            Upgrade::with(&good).set("Authorization", "Basic dXNlcjpwYXNz"),
            "another scheme than Bearer",
        ),
        (
            Upgrade::with(&good).set("Authorization", "Bearer"),
            "holds no token",
        ),
        (
            Upgrade::with(&foreign_token(&gateway)),
            "signature is not by a key of this gateway",
        ),
        (Upgrade::with(cut), "signature"),
        (Upgrade::with("nonsense"), "not a signed JWT"),
        (Upgrade::with(&expired_token(&gateway)), "expired"),
        (
            Upgrade::with(&good).line(&format!("GET /v1?access_token={other} HTTP/1.1")),
            "hold different tokens: send one token",
        ),
        (
            Upgrade::with(&good).set(
                "Sec-WebSocket-Protocol",
                &format!("longhaul.v1, longhaul.token.{other}"),
            ),
            "hold different tokens: send one token",
        ),
    ];
    let count = cases.len() as u64;
    for (upgrade, says) in cases {
        let answer = upgrade.refused(&gateway);
        assert_refused(&answer, 401, says);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.body.contains(&good), "a token is never repeated");
    }
    let metrics = Metrics::of(gateway.control());
    let refused = "longhaul_upgrades_refused_total{reason=\"unauthorized\"}";
    assert_eq!(metrics.value(refused), count);
}

#[test]
fn a_bad_request_is_refused_with_its_reason() {
    let gateway = Gateway::start(2);
    let token = gateway.vehicle_token("truck-1");
    let good = || Upgrade::with(&token);

    let cases = [
        (good().line("GET /v2 HTTP/1.1"), 404, "connect to /v1"),
        (good().line("GET / HTTP/1.1"), 404, "connect to /v1"),
        (good().line("POST /v1 HTTP/1.1"), 405, "not with POST"),
        (good().line("GET /v1 HTTP/1.0"), 505, "HTTP/1.1"),
        (
            good().without("Sec-WebSocket-Protocol"),
            400,
            "longhaul.v1 (FlatBuffers) or longhaul.v1.json (JSON)",
        ),
        (
            good().set("Sec-WebSocket-Protocol", "mqtt, longhaul.v2"),
            400,
            "longhaul.v1 (FlatBuffers)",
        ),
        (good().set("Sec-WebSocket-Version", "8"), 426, "version 13"),
        (good().without("Sec-WebSocket-Version"), 426, "version 13"),
        (
            good().without("Sec-WebSocket-Key"),
            400,
            "Sec-WebSocket-Key",
        ),
        (
            good().set("Sec-WebSocket-Key", "c2hvcnQ="),
            400,
            "16 bytes in base64",
        ),
        (good().without("Upgrade"), 400, "Upgrade: websocket"),
        (good().without("Connection"), 400, "Connection: Upgrade"),
        (good().without("Host"), 400, "Host"),
        (good().set("Content-Length", "5"), 400, "no body"),
        (
            good().set("X-Filler", &"x".repeat(8_192)),
            431,
            "8192 bytes",
        ),
    ];
    for (upgrade, status, says) in cases {
        let answer = upgrade.refused(&gateway);
        assert_refused(&answer, status, says);
        match status {
            405 => assert_eq!(answer.header("allow"), Some("GET")),
            426 => assert_eq!(answer.header("sec-websocket-version"), Some("13")),
            _ => {}
        }
    }
}

#[test]
fn what_is_no_http_is_told_so() {
    let gateway = Gateway::start(1);
    // The first bytes of a TLS client's hello, an SSH client, and noise.
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    assert_refused(&exchange(gateway.listen(), tls), 400, "ws://");
    assert_refused(
        &exchange(gateway.listen(), b"\x00\x01\x02"),
        400,
        "not an HTTP request",
    );
    assert_refused(
        &exchange(gateway.listen(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        400,
        "not an HTTP request",
    );
}

#[test]
fn a_request_line_without_end_is_cut_off() {
    let gateway = Gateway::start(1);
    let endless = format!("GET /v1?{}", "x".repeat(9_000));
    let answer = exchange(gateway.listen(), endless.as_bytes());
    assert_refused(&answer, 414, "8192 bytes");
}

#[test]
fn half_a_request_and_then_silence_ends_in_408() {
    let short = ["--set", "connection.handshake_timeout_ms=100"];
    let gateway = Gateway::start_with(2, &short);
    let whole = Upgrade::with("x").bytes();

    for half in [&whole[..0], &whole[..1], &whole[..whole.len() / 2]] {
        let mut stream = dial(gateway.listen());
        stream.write_all(half).expect("it is taken");
        let refused = answer(stream);
        assert_refused(&refused, 408, "");
        assert!(!refused.body.trim().is_empty(), "it says why");
    }
    let metrics = Metrics::of(gateway.control());
    let refused = "longhaul_upgrades_refused_total{reason=\"timeout\"}";
    assert_eq!(metrics.value(refused), 3);
    let open = "longhaul_connections_open{role=\"handshake\"}";
    assert_eq!(metrics.value(open), 0);
}

/// Bytes may arrive in any portions, and the first frame right behind the request.
#[test]
fn a_request_may_come_byte_by_byte() {
    let gateway = Gateway::start(1);
    let mut stream = dial(gateway.listen());
    for byte in Upgrade::with(&gateway.vehicle_token("truck-1")).bytes() {
        stream.write_all(&[byte]).expect("it is taken");
    }
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{answer:?}");
}

#[test]
fn a_token_is_taken_from_each_of_its_places() {
    let gateway = Gateway::start(2);
    let token = gateway.dashboard_token("me");
    let entry = format!("longhaul.token.{token}");
    let query = format!("/v1?access_token={token}");
    let bearer = format!("Bearer {token}");

    let enter = |path: &str, authorization: Option<&str>, subprotocols: &str| {
        let url = format!("ws://{}{path}", gateway.listen());
        let mut request = url.into_client_request().expect("the URL is good");
        let mut header = |name: HeaderName, value: &str| {
            let value = value.parse().expect("it is plain");
            request.headers_mut().insert(name, value);
        };
        header(SEC_WEBSOCKET_PROTOCOL, subprotocols);
        if let Some(authorization) = authorization {
            header(AUTHORIZATION, authorization);
        }
        let (mut socket, response): (_, Response) =
            tungstenite::client(request, dial(gateway.listen())).expect("it is let in");
        assert_eq!(response.status(), 101);
        let chosen = response.headers()[SEC_WEBSOCKET_PROTOCOL].to_str();
        let chosen = chosen.expect("it is plain").to_owned();
        let welcome = socket.read().expect("a Welcome");
        assert!(!welcome.is_empty());
        chosen
    };

    assert_eq!(enter("/v1", Some(&bearer), "longhaul.v1"), "longhaul.v1");
    assert_eq!(enter(&query, None, "longhaul.v1.json"), "longhaul.v1.json");
    assert_eq!(
        enter("/v1", None, &format!("longhaul.v1, {entry}")),
        "longhaul.v1"
    );
    // The token's entry is never chosen, wherever it stands.
    assert_eq!(
        enter("/v1", None, &format!("{entry}, longhaul.v1.json")),
        "longhaul.v1.json"
    );
    // One token in all places is one token.
    assert_eq!(
        enter(&query, Some(&bearer), &format!("{entry}, longhaul.v1")),
        "longhaul.v1"
    );
    // The gateway prefers the binary form.
    assert_eq!(
        enter("/v1", Some(&bearer), "longhaul.v1.json, longhaul.v1"),
        "longhaul.v1"
    );
}
