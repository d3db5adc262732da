//! Tokens on live connections: told that one ends, a fresh one in its place, the end.

mod common;

use std::time::{Duration, UNIX_EPOCH};

use common::client::{Client, fix, watch_all};
use common::eventually;
use common::gateway::{FLEET, Gateway, token};
use common::http::Metrics;
use longhaul_codec::{Ack, AckKind, Authenticate, ErrorCode, Message};

/// A token of the gateway's key that lasts for so long.
fn lasting(gateway: &Gateway, ttl: &str, role: &str, fleet: &str, subject: &str) -> String {
    let key = gateway.key();
    let key = key.to_str().expect("temporary folders have plain names");
    token(&["--dev-key", key, "--ttl", ttl], role, fleet, subject)
}

fn authenticate(request: u64, token: &str) -> Message {
    let token = token.to_owned();
    Authenticate { request, token }.into()
}

fn acknowledged(request: u64) -> Message {
    let kind = AckKind::Authenticate;
    Message::Ack(Ack {
        kind,
        id: request,
        watching: 0,
    })
}

/// The next message that is a warning, and what it says.
fn warned(client: &mut Client) -> u64 {
    loop {
        match client.next() {
            Message::TokenExpiring(warning) => return warning.expires_ms,
            Message::Names(_) | Message::Positions(_) => {}
            other => panic!("no warning: {other:?}"),
        }
    }
}

fn unix_ms() -> u64 {
    let since = UNIX_EPOCH.elapsed().expect("it is later than 1970");
    since.as_millis() as u64
}

#[test]
fn a_fresh_token_in_place_keeps_the_connection() {
    let gateway = Gateway::start_with(2, &["--set", "auth.leeway_s=0"]);
    for (role, json) in [("vehicle", false), ("dashboard", true)] {
        let short = lasting(&gateway, "10s", role, FLEET, "ada");
        let mut client = if json {
            Client::connect_json(&gateway, &short)
        } else {
            Client::connect(&gateway, &short)
        };
        let ends = client.welcome().expires_ms;
        assert_eq!(warned(&mut client), ends, "{role}");
        assert!(unix_ms() < ends, "the warning comes before the end");
        client.send(&authenticate(
            7,
            &lasting(&gateway, "1h", role, FLEET, "ada"),
        ));
        assert_eq!(client.next(), acknowledged(7), "{role}");
        while unix_ms() < ends + 1_500 {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(client.drain(), [], "{role}: it lives, and nothing was said");
    }
    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_token_renewals_total"), 2);
    assert_eq!(metrics.value("longhaul_token_warnings_total"), 2);
    assert_eq!(
        metrics.value("longhaul_connections_closed_total{cause=\"token_expired\"}"),
        0
    );
}

#[test]
fn without_a_fresh_one_the_connection_ends_with_its_token() {
    let gateway = Gateway::start_with(2, &["--set", "auth.leeway_s=1"]);
    let mut dashboard = Client::connect(
        &gateway,
        &lasting(&gateway, "10s", "dashboard", FLEET, "ada"),
    );
    let ends = dashboard.welcome().expires_ms;
    dashboard.subscribe(watch_all(1));
    // Whoever is busy is warned like anybody else.
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    vehicle.report(fix(1));
    assert_eq!(warned(&mut dashboard), ends);
    // A token that is good for less than the old one is taken as well: the newest counts.
    let brief = lasting(&gateway, "4s", "dashboard", FLEET, "ada");
    dashboard.send(&authenticate(1, &brief));
    assert_eq!(dashboard.next(), acknowledged(1));
    let (code, reason) = dashboard.closed();
    assert_eq!(code, 4501);
    assert!(reason.contains("expired"), "{reason}");
    assert!(unix_ms() >= ends, "not before its end");
    assert_eq!(vehicle.drain(), [], "others live on");
}

#[test]
fn a_wrong_token_leaves_the_old_one_in_force() {
    let gateway = Gateway::start_with(2, &["--set", "auth.leeway_s=0"]);
    let refused = |request: u64, token: &str, code: ErrorCode, says: &str| {
        for mut client in [
            Client::vehicle(&gateway, "ada"),
            Client::dashboard(&gateway, "ada"),
        ] {
            client.send(&authenticate(request, token));
            let error = client.error(code);
            assert_eq!(error.id, request);
            assert!(error.message.contains(says), "{}", error.message);
            let signature = token.rsplit('.').next().unwrap_or_default();
            assert!(signature.len() < 8 || !error.message.contains(signature));
            assert_eq!(client.drain(), []);
        }
    };
    let expired = lasting(&gateway, "0s", "vehicle", FLEET, "ada");
    refused(1, &expired, ErrorCode::NotAllowed, "expired");
    refused(2, "no token", ErrorCode::NotAllowed, "not a signed JWT");
    refused(3, "", ErrorCode::NotAllowed, "not a signed JWT");
    refused(4, &"a".repeat(9_000), ErrorCode::TooLarge, "9000 bytes");
    let good = gateway.vehicle_token("ada");
    let cut = &good[..good.len() - 3];
    refused(5, cut, ErrorCode::NotAllowed, "signature");

    let wrong = ErrorCode::WrongIdentity;
    for (role, fleet, subject) in [
        ("vehicle", FLEET, "bob"),
        ("dashboard", FLEET, "bob"),
        ("vehicle", "other", "ada"),
        ("dashboard", "other", "ada"),
    ] {
        let other = gateway.token(role, fleet, subject);
        refused(6, &other, wrong, "another subject, fleet or role");
    }
    let mut vehicle = Client::vehicle(&gateway, "ada");
    vehicle.send(&authenticate(7, &gateway.dashboard_token("ada")));
    vehicle.error(wrong);
    let mut dashboard = Client::dashboard(&gateway, "ada");
    dashboard.send(&authenticate(8, &good));
    dashboard.error(wrong);

    let metrics = Metrics::of(gateway.control());
    assert_eq!(metrics.value("longhaul_token_renewals_total"), 0);
    assert_eq!(metrics.value("longhaul_token_renewals_refused_total"), 20);
}

#[test]
fn nobody_has_the_gateway_check_tokens_all_day() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::vehicle(&gateway, "ada");
    let good = gateway.vehicle_token("ada");
    // Two minutes' worth of attempts: whenever the minute ends, some are refused.
    for request in 1..=20 {
        vehicle.send(&authenticate(request, &good));
    }
    let mut refused = 0;
    for message in vehicle.drain() {
        match message {
            Message::Ack(ack) => assert_eq!(ack.kind, AckKind::Authenticate),
            Message::Error(error) => {
                assert_eq!(error.code, ErrorCode::LimitReached);
                refused += 1;
            }
            other => panic!("neither Ack nor Error: {other:?}"),
        }
    }
    assert!((8..=14).contains(&refused), "{refused}");
    eventually("it is counted", || {
        Metrics::of(gateway.control())
            .value("longhaul_limit_hits_total{limit=\"renewals_per_minute\"}")
            == refused
    });
}
