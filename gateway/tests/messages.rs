//! What clients may say and what they are told when it is wrong; how connections end; and what is counted of all that.

use longhaul_codec::{
    Ack, ErrorCode, Fix, Message, Position, PositionBatch, Role, Subscribe, SubscribeMode, Viewport,
};
use rustix::process::Signal;
use tungstenite::Message as Frame;

use crate::common::client::{Client, fix, of, watch, watch_all};
use crate::common::eventually;
use crate::common::gateway::{FLEET, Gateway};
use crate::common::http::{Metrics, get};

mod common;

/// A shard encodes its messages in one buffer: what is left over from one must not show in the next, whatever their
/// lengths.
#[test]
fn a_message_is_right_whatever_was_sent_before() {
    let gateway = Gateway::start(1);
    let mut dashboard = Client::dashboard(&gateway, "me");
    let token = gateway.vehicle_token("truck-1");
    for length in (1..100).step_by(3) {
        // Answered by Names, as long as the id is, and Ack.
        let replace = Subscribe {
            mode: SubscribeMode::Replace,
            ..watch(length, &[&"x".repeat(length as usize)])
        };
        assert_eq!(dashboard.subscribe(replace).watching, 1);
        let vehicle = Client::connect(&gateway, &token);
        let welcome = vehicle.welcome();
        assert_eq!((welcome.role, welcome.epoch), (Role::Vehicle, 0));
        assert_eq!((&*welcome.fleet, &*welcome.subject), (FLEET, "truck-1"));
    }
}

#[test]
fn an_identity_is_the_tokens() {
    let gateway = Gateway::start(2);
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1", "truck-2"]));
    let mut one = Client::vehicle(&gateway, "truck-1");
    let two = Client::vehicle(&gateway, "truck-2");

    let as_id = |n, id: &str| {
        let vehicle_id = Some(id.to_owned());
        Message::Position(Position {
            fix: fix(n),
            vehicle_id,
        })
    };
    one.send(&as_id(1, "truck-2"));
    let error = one.error(ErrorCode::WrongIdentity);
    assert!(error.message.contains("vehicle_id"), "{error:?}");
    one.send(&Message::PositionBatch(PositionBatch {
        fixes: vec![fix(1)],
        vehicle_id: Some("truck-2".to_owned()),
    }));
    one.error(ErrorCode::WrongIdentity);
    one.report(of(&two, fix(1)));
    one.error(ErrorCode::WrongIdentity);

    // None of them counted; its own id and its own index do.
    one.send(&as_id(2, "truck-1"));
    let expected = ("truck-1".to_owned(), of(&one, fix(2)));
    assert_eq!(dashboard.position(), expected);
    let mine = of(&one, fix(3));
    one.report(mine);
    assert_eq!(dashboard.position(), ("truck-1".to_owned(), mine));
}

#[test]
fn a_role_sends_its_own_messages_only() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    vehicle.send(&Message::Subscribe(watch_all(1)));
    vehicle.error(ErrorCode::NotAllowed);
    dashboard.report(fix(1));
    dashboard.error(ErrorCode::NotAllowed);
    // What only a gateway says.
    dashboard.send(&Message::Ack(Ack::default()));
    dashboard.error(ErrorCode::NotAllowed);
    // Both go on.
    dashboard.subscribe(watch(1, &["truck-1"]));
    vehicle.report(fix(1));
    assert_eq!(dashboard.position().1, of(&vehicle, fix(1)));
}

#[test]
fn what_is_wrong_is_answered_and_the_connection_goes_on() {
    let gateway = Gateway::start(2);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));

    // No FlatBuffers at all, and offsets that point outside.
    for bytes in [
        &b""[..],
        b"\0",
        b"{\"type\":\"Position\"}",
        &[0xff; 64],
        &[0; 64],
    ] {
        vehicle.send_frame(Frame::binary(bytes.to_vec()));
        vehicle.error(ErrorCode::Malformed);
    }
    // Values that no place has, and a clock that is far ahead.
    vehicle.report(Fix {
        lat_e7: 900_000_001,
        ..fix(1)
    });
    vehicle.error(ErrorCode::InvalidPosition);
    vehicle.report(Fix {
        lon_e7: i32::MIN,
        ..fix(1)
    });
    vehicle.error(ErrorCode::InvalidPosition);
    vehicle.report(Fix {
        heading_cdeg: 36_000,
        ..fix(1)
    });
    vehicle.error(ErrorCode::InvalidPosition);
    vehicle.report(Fix {
        time_ms: u64::MAX,
        ..fix(1)
    });
    vehicle.error(ErrorCode::ClockAhead);
    // More than may be in one message.
    vehicle.send(&Message::PositionBatch(PositionBatch {
        fixes: vec![fix(1); 257],
        vehicle_id: None,
    }));
    vehicle.error(ErrorCode::LimitReached);
    // Not of this gateway; the answer names the request.
    dashboard.send(&Message::Subscribe(Subscribe {
        viewport: Some(Viewport::default()),
        ..watch(77, &[])
    }));
    let error = dashboard.error(ErrorCode::NotSupported);
    assert_eq!(error.id, 77);
    assert!(error.message.contains("viewport"), "{error:?}");
    dashboard.send(&Message::Subscribe(watch(78, &[""])));
    assert_eq!(dashboard.error(ErrorCode::Malformed).id, 78);

    vehicle.report(fix(1));
    assert_eq!(dashboard.position().1, of(&vehicle, fix(1)));
}

#[test]
fn json_that_is_wrong_is_answered_and_the_connection_goes_on() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::connect_json(&gateway, &gateway.vehicle_token("truck-1"));
    for (text, says) in [
        ("", "not a JSON object"),
        ("{nonsense", "not a JSON object"),
        ("{}", "no `type`"),
        (r#"{"type":"Teleport"}"#, "unknown type `Teleport`"),
        (r#"{"type":"Position","fix":{"lat_e7":1}}"#, "lon_e7"),
        (
            r#"{"type":"Position","fix":{"lat_e7":1,"lon_e7":2,"altitude":3}}"#,
            "altitude",
        ),
    ] {
        vehicle.send_frame(Frame::text(text));
        let error = vehicle.error(ErrorCode::Malformed);
        assert!(error.message.contains(says), "{text}: {error:?}");
    }
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch_all(1));
    vehicle.report(fix(1));
    assert_eq!(dashboard.position().1, of(&vehicle, fix(1)));
}

#[test]
fn the_other_kind_of_message_closes_with_1003() {
    let gateway = Gateway::start(1);
    let token = gateway.vehicle_token("truck-1");
    let mut binary = Client::connect(&gateway, &token);
    binary.send_frame(Frame::text(
        r#"{"type":"Position","fix":{"lat_e7":1,"lon_e7":2}}"#,
    ));
    let (code, reason) = binary.closed();
    assert_eq!(code, 1003);
    assert!(reason.contains("longhaul.v1.json takes text"), "{reason}");

    let mut json = Client::connect_json(&gateway, &token);
    json.send_frame(Frame::binary(vec![1, 2, 3]));
    assert_eq!(json.closed().0, 1003);
}

#[test]
fn a_message_over_the_limit_closes_with_1009() {
    let gateway = Gateway::start(1);
    let mut vehicle = Client::vehicle(&gateway, "truck-1");
    let limit = vehicle.welcome().message_bytes_max as usize;
    assert_eq!(limit, 65_536);
    vehicle.send_frame(Frame::binary(vec![0; limit]));
    vehicle.error(ErrorCode::Malformed);
    vehicle.send_frame(Frame::binary(vec![0; limit + 1]));
    assert_eq!(vehicle.closed().0, 1009);
}

#[test]
fn a_close_is_answered_with_its_code() {
    let gateway = Gateway::start(1);
    for code in [1000, 1001, 3000, 4999] {
        assert_eq!(Client::vehicle(&gateway, "truck-1").close_with(code), code);
    }
    eventually("every connection is closed", || {
        Metrics::of(gateway.control()).value("longhaul_connections_open{role=\"vehicle\"}") == 0
    });
}

#[test]
fn a_token_that_runs_out_ends_the_connection_with_4501() {
    let gateway = Gateway::start_with(1, &["--set", "auth.leeway_s=0"]);
    let key = gateway.key();
    let key = key.to_str().expect("temporary folders have plain names");
    let arguments = ["--dev-key", key, "--ttl", "3s"];
    let token = common::gateway::token(&arguments, "dashboard", FLEET, "me");
    let mut dashboard = Client::connect(&gateway, &token);
    let (code, reason) = dashboard.closed();
    assert_eq!(code, 4501);
    assert!(reason.contains("expired"), "{reason}");
}

#[test]
fn a_signal_ends_every_connection_with_1012_and_the_process_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(4);
        let mut clients: Vec<_> = (0..12)
            .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
            .collect();
        let mut dashboard = Client::connect_json(&gateway, &gateway.dashboard_token("me"));
        dashboard.subscribe(watch_all(1));
        clients.push(dashboard);
        gateway.signal(signal);
        for client in &mut clients {
            let (code, reason) = client.closed();
            assert_eq!(code, 1012);
            assert!(reason.contains("reconnect"), "{reason}");
        }
        drop(clients);
        let status = gateway.wait();
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

#[test]
fn the_control_plane_answers_and_its_counters_add_up() {
    let gateway = Gateway::start(2);
    for path in ["/healthz", "/readyz"] {
        let answer = get(gateway.control(), path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    let ready: serde_json::Value =
        serde_json::from_str(&get(gateway.control(), "/readyz").body).expect("it is JSON");
    assert_eq!(ready["ready"], true);
    assert_eq!(get(gateway.control(), "/").status, 404);

    let mut vehicles =
        ["truck-1", "truck-2", "truck-3"].map(|name| Client::vehicle(&gateway, name));
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1", "truck-2"]));
    for n in 1..=10 {
        for (at, vehicle) in vehicles.iter_mut().enumerate() {
            vehicle.report(fix(n));
            if at < 2 {
                dashboard.position();
            }
        }
    }
    vehicles[2].send_frame(Frame::binary(vec![0; 3]));
    vehicles[2].error(ErrorCode::Malformed);

    let metrics = Metrics::of(gateway.control());
    for (series, value) in [
        ("longhaul_connections_accepted_total", 4),
        ("longhaul_connections_open{role=\"vehicle\"}", 3),
        ("longhaul_connections_open{role=\"dashboard\"}", 1),
        ("longhaul_connections_open{role=\"handshake\"}", 0),
        ("longhaul_messages_in_total{kind=\"position\"}", 30),
        ("longhaul_messages_in_total{kind=\"subscribe\"}", 1),
        ("longhaul_messages_in_total{kind=\"malformed\"}", 1),
        ("longhaul_positions_in_total", 30),
        ("longhaul_positions_stale_total", 0),
        ("longhaul_positions_out_total", 20),
        ("longhaul_matches_total", 20),
        ("longhaul_errors_out_total", 1),
        ("longhaul_send_errors_total", 0),
        ("longhaul_connections_closed_total{cause=\"peer\"}", 0),
    ] {
        assert_eq!(metrics.value(series), value, "{series}");
    }
    vehicles.into_iter().for_each(Client::close);
    dashboard.close();
    eventually("the closed connections are counted", || {
        let metrics = Metrics::of(gateway.control());
        metrics.value("longhaul_connections_closed_total{cause=\"peer\"}") == 4
            && metrics.value("longhaul_connections_open{role=\"vehicle\"}") == 0
            && metrics.value("longhaul_connections_open{role=\"dashboard\"}") == 0
    });
}
