//! The opening handshake, as tables of requests and answers.

use proptest::prelude::*;

use super::super::Refusal;
use super::super::upgrade::{
    Request, UpgradeLimits, accept, negotiate, offered_subprotocols, parse_request,
};

const LIMITS: UpgradeLimits = UpgradeLimits {
    header_bytes_max: 1_024,
    headers_max: 12,
};

/// The example of RFC 6455 §1.2, without its last line.
const HEAD: &str = "GET /chat?access_token=abc HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n";

fn parse(head: &str) -> Result<Option<(Request, usize)>, Refusal> {
    parse_request(format!("{head}\r\n").as_bytes(), &LIMITS)
}

fn request(head: &str) -> Request {
    parse(head).unwrap().unwrap().0
}

/// The example with one line replaced; an empty replacement leaves it out.
fn with(line: &str, replacement: &str) -> String {
    let name = format!("{line}:");
    let mut lines: Vec<&str> = HEAD.split_inclusive("\r\n").collect();
    lines.retain(|line| !line.starts_with(&name));
    assert_eq!(lines.len(), 6, "{line} is in the example");
    lines.concat() + replacement
}

#[test]
fn the_rfc_example_is_accepted() {
    let bytes = format!("{HEAD}\r\nframes");
    let (request, consumed) = parse_request(bytes.as_bytes(), &LIMITS).unwrap().unwrap();
    assert_eq!(&bytes[consumed..], "frames");
    assert_eq!(request.uri().path(), "/chat");
    assert_eq!(request.uri().query(), Some("access_token=abc"));
    let subprotocol = negotiate(&request, &["superchat", "chat"]);
    assert_eq!(subprotocol, Some("superchat"), "the server's preference");
    let answer = String::from_utf8(accept(&request, subprotocol).unwrap()).unwrap();
    // §1.3 computes this accept key.
    assert_eq!(
        answer.to_lowercase(),
        "http/1.1 101 switching protocols\r\n\
         connection: upgrade\r\n\
         upgrade: websocket\r\n\
         sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n\
         sec-websocket-protocol: superchat\r\n\
         \r\n"
    );
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
}

#[test]
fn variants_that_the_rfcs_allow_are_accepted() {
    for (what, head) in [
        ("§4.2.1 any case", with("Upgrade", "UPGRADE: WebSocket\r\n")),
        (
            "§4.2.1 a list",
            with("Connection", "Connection: keep-alive, upgrade\r\n"),
        ),
        (
            "a list on several lines",
            with(
                "Connection",
                "Connection: keep-alive\r\nConnection:Upgrade\r\n",
            ),
        ),
        (
            "another protocol beside",
            with("Upgrade", "Upgrade: h2c,\twebsocket\r\n"),
        ),
        (
            "an explicit empty body",
            format!("{HEAD}Content-Length: 0\r\n"),
        ),
        (
            "RFC 9112 §2.2 an empty line in front",
            format!("\r\n{HEAD}"),
        ),
        ("RFC 9112 §2.2 bare line feeds", HEAD.replace("\r\n", "\n")),
        ("no subprotocol", with("Sec-WebSocket-Protocol", "")),
    ] {
        let (request, _) = parse(&head).unwrap().expect(what);
        assert!(
            accept(&request, None)
                .unwrap()
                .starts_with(b"HTTP/1.1 101 "),
            "{what}"
        );
    }
}

#[test]
fn everything_else_is_refused_in_plain_words() {
    let too_many = format!("{HEAD}{}", "A: b\r\n".repeat(7));
    let too_long = format!("{HEAD}A: {}\r\n", "b".repeat(1_024));
    let cases: Vec<(String, u16, &str)> = vec![
        (HEAD.replace("GET", "POST"), 405, "not with POST"),
        (
            HEAD.replace("HTTP/1.1", "HTTP/1.0"),
            505,
            "proxy_http_version",
        ),
        (HEAD.replace("HTTP/1.1", "HTTP/2.0"), 505, "HTTP/1.1"),
        ("PRI * HTTP/2.0\r\n".into(), 505, "HTTP/1.1"),
        (HEAD.replace("/chat", "chat^"), 400, "target"),
        (with("Host", ""), 400, "Host"),
        (format!("{HEAD}Host: other\r\n"), 400, "more than one Host"),
        (with("Upgrade", ""), 400, "Upgrade: websocket"),
        (
            with("Upgrade", "Upgrade: h2c\r\n"),
            400,
            "Upgrade: websocket",
        ),
        (with("Connection", ""), 400, "Connection: Upgrade"),
        (
            with("Connection", "Connection: close\r\n"),
            400,
            "Connection: Upgrade",
        ),
        (
            with("Sec-WebSocket-Key", ""),
            400,
            "Sec-WebSocket-Key is missing",
        ),
        (
            with("Sec-WebSocket-Key", "Sec-WebSocket-Key: YWJj\r\n"),
            400,
            "16 bytes",
        ),
        (
            format!("{HEAD}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            400,
            "more than one sec-websocket-key",
        ),
        (with("Sec-WebSocket-Version", ""), 426, "version 13"),
        (
            with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8\r\n"),
            426,
            "version 13",
        ),
        (
            format!("{HEAD}Sec-WebSocket-Version: 13\r\n"),
            400,
            "more than one",
        ),
        (format!("{HEAD}Content-Length: 5\r\n"), 400, "no body"),
        (
            format!("{HEAD}Transfer-Encoding: chunked\r\n"),
            400,
            "no body",
        ),
        (format!("{HEAD}no colon\r\n"), 400, "not an HTTP request"),
        (format!("{HEAD}Bad Name: x\r\n"), 400, "not an HTTP request"),
        ("hello\r\n".into(), 400, "not an HTTP request"),
        (too_many, 431, "12 headers"),
        (too_long, 431, "1024 bytes"),
    ];
    for (head, status, words) in cases {
        let refusal = parse(&head).expect_err(&head);
        assert_eq!(refusal.status, status, "{head}{}", refusal.reason);
        assert!(refusal.reason.contains(words), "{head}{}", refusal.reason);
        let answer = String::from_utf8(refusal.response()).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        // RFC 9110 §15.5.6 and RFC 6455 §4.4: what these must name.
        assert_eq!(answer.contains("\r\nallow: GET\r\n"), status == 405);
        assert_eq!(
            answer.contains("\r\nsec-websocket-version: 13\r\n"),
            status == 426
        );
        assert_eq!(answer.contains("\r\nupgrade: websocket\r\n"), status == 426);
    }
}

#[test]
fn a_request_may_arrive_in_pieces() {
    let bytes = format!("{HEAD}\r\n");
    for cut in 0..bytes.len() {
        let got = parse_request(&bytes.as_bytes()[..cut], &LIMITS);
        assert!(matches!(got, Ok(None)), "cut at {cut}");
    }
}

#[test]
fn bytes_that_will_never_be_a_request_are_refused_early() {
    let limit = LIMITS.header_bytes_max;
    let line = format!("GET /{}", "a".repeat(limit));
    let lines = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(limit));
    for (bytes, status, words) in [
        (&b"\x16\x03\x01"[..], 400, "TLS"),
        (b"\x81\x85", 400, "not an HTTP request"),
        (&line.as_bytes()[..limit], 414, "request line"),
        (&lines.as_bytes()[..limit], 431, "1024 bytes"),
    ] {
        let refusal = parse_request(bytes, &LIMITS).unwrap_err();
        assert_eq!(refusal.status, status);
        assert!(refusal.reason.contains(words), "{}", refusal.reason);
    }
    assert!(matches!(
        parse_request(&lines.as_bytes()[..limit - 1], &LIMITS),
        Ok(None)
    ));
}

#[test]
fn the_subprotocol_is_the_servers_choice_among_the_offered() {
    let offers = "Sec-WebSocket-Protocol: longhaul.v1.json,\tbearer.abc ,,\r\n\
        Sec-WebSocket-Protocol: longhaul.v1\r\n";
    let request = request(&with("Sec-WebSocket-Protocol", offers));
    let offered: Vec<&str> = offered_subprotocols(&request).collect();
    assert_eq!(offered, ["longhaul.v1.json", "bearer.abc", "longhaul.v1"]);
    for (supported, chosen) in [
        (
            &["longhaul.v1", "longhaul.v1.json"][..],
            Some("longhaul.v1"),
        ),
        (
            &["longhaul.v1.json", "longhaul.v1"],
            Some("longhaul.v1.json"),
        ),
        (
            &["longhaul.v2", "longhaul.v1.json"],
            Some("longhaul.v1.json"),
        ),
        // §4.1: names are compared as they are.
        (&["LONGHAUL.V1"], None),
        (&[], None),
    ] {
        assert_eq!(negotiate(&request, supported), chosen);
    }
    assert!(accept(&request, Some("not\na token")).is_err());
}

proptest! {
    #[test]
    fn any_bytes_give_a_request_a_wait_or_a_refusal(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(),
    ) {
        let _ = parse_request(&bytes, &LIMITS);
        // The same within an otherwise good request.
        let mut spliced = format!("{HEAD}\r\n").into_bytes();
        let at = at.index(spliced.len());
        spliced.splice(at..at, bytes);
        if let Ok(Some((request, consumed))) = parse_request(&spliced, &LIMITS) {
            prop_assert!(consumed <= spliced.len());
            prop_assert!(accept(&request, None).is_ok());
        }
    }
}
