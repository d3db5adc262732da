//! Bounds on connections and on what they send: what is over one is told so, counted, and does no harm.

use std::io::{Read, Write};
use std::net::Shutdown;

use longhaul_codec::{ErrorCode, Message};
use tungstenite::{
    Message as Frame, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::common::client::{Client, fix, of, watch};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::{Answer, Metrics, dial, exchange, upgrade};

mod common;

fn start(settings: &[&str]) -> Gateway {
    let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    Gateway::start_with(2, &arguments)
}

fn hits(gateway: &Gateway, limit: &str) -> u64 {
    let series = format!("longhaul_limit_hits_total{{limit=\"{limit}\"}}");
    Metrics::of(gateway.control()).value(&series)
}

/// Opened is open plus closed, by every cause. A scrape reads one number after the other, so what ends in between is
/// seen twice or not at all: it has to hold once all is quiet.
fn assert_adds_up(gateway: &Gateway) {
    eventually("opened is open plus closed", || {
        let metrics = Metrics::of(gateway.control());
        let accepted = metrics.value("longhaul_connections_accepted_total");
        let open = metrics.sum("longhaul_connections_open");
        accepted == open + metrics.sum("longhaul_connections_closed_total")
    });
}

fn refused(gateway: &Gateway, token: &str) -> Answer {
    exchange(gateway.listen(), upgrade(token).as_bytes())
}

/// Whether somebody with this token is let in now; then it leaves again.
fn is_let_in(gateway: &Gateway, token: &str) -> bool {
    let mut stream = dial(gateway.listen());
    stream
        .write_all(upgrade(token).as_bytes())
        .expect("it is taken");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("it is answered");
    status == *b"HTTP/1.1 101"
}

#[track_caller]
fn assert_told(answer: &Answer, status: u16, limit: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(limit), "{answer:?}");
    let after = answer.header("retry-after").expect("it says when");
    let after: u32 = after.parse().expect("a number of seconds");
    assert!((1..=120).contains(&after), "{after}");
}

#[test]
fn connections_in_all() {
    let gateway = start(&["limits.connections_max=3"]);
    let mut held: Vec<_> = (0..3)
        .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
        .collect();
    let token = gateway.vehicle_token("truck-9");
    assert_told(&refused(&gateway, &token), 503, "limits.connections_max");
    assert_eq!(hits(&gateway, "connections_max"), 1);
    assert_adds_up(&gateway);
    // Those who are in notice nothing, and who leaves makes room.
    held[0].report(fix(1));
    assert_eq!(held[0].drain(), []);
    held.pop().expect("three").close();
    eventually("there is room", || is_let_in(&gateway, &token));
    assert_adds_up(&gateway);
}

#[test]
fn handshakes_under_way() {
    let gateway = start(&["limits.handshakes_per_shard_max=2"]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    // Two shards with two places each: of ten that say nothing, six are turned away.
    let silent: Vec<_> = (0..10).map(|_| dial(gateway.listen())).collect();
    eventually("all places are taken", || {
        let metrics = Metrics::of(gateway.control());
        metrics.value("longhaul_connections_accepted_total") == 11
            && metrics.value("longhaul_connections_open{role=\"handshake\"}") <= 4
    });
    let turned_away = hits(&gateway, "handshakes_per_shard_max");
    assert!((6..=8).contains(&turned_away), "{turned_away}");
    truck.report(fix(1));
    assert_eq!(truck.drain(), []);
    drop(silent);
    let token = gateway.vehicle_token("truck-2");
    eventually("there is room again", || is_let_in(&gateway, &token));
    assert_adds_up(&gateway);
}

#[test]
fn connections_of_an_address_and_of_a_user() {
    let gateway = start(&[
        "limits.connections_per_address_max=3",
        "limits.connections_per_identity_max=2",
    ]);
    let ada = gateway.dashboard_token("ada");
    let mut tabs = vec![
        Client::connect(&gateway, &ada),
        Client::connect(&gateway, &ada),
    ];
    let limit = "limits.connections_per_identity_max";
    assert_told(&refused(&gateway, &ada), 429, limit);
    eventually("that one has left", || {
        Metrics::of(gateway.control()).sum("longhaul_connections_open") == 2
    });
    let truck = Client::vehicle(&gateway, "truck-1");
    let token = gateway.vehicle_token("truck-2");
    let limit = "limits.connections_per_address_max";
    assert_told(&refused(&gateway, &token), 429, limit);
    assert_eq!(hits(&gateway, "connections_per_identity_max"), 1);
    assert_eq!(hits(&gateway, "connections_per_address_max"), 1);
    tabs.pop().expect("two").close();
    truck.close();
    eventually("there is room again", || is_let_in(&gateway, &ada));
    assert_adds_up(&gateway);
}

#[test]
fn a_burst_then_an_error_then_the_end() {
    let gateway = start(&[
        "limits.messages_per_second_max=1",
        "limits.messages_burst=50",
    ]);
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));
    let mut truck = Client::vehicle(&gateway, "truck-1");
    for n in 1..=60 {
        truck.report(fix(n));
    }
    let error = truck.error(ErrorCode::LimitReached);
    assert!(
        error.message.contains("limits.messages_per_second_max"),
        "{error:?}"
    );
    // What was over the burst was not taken.
    let last = loop {
        let (_, fix) = dashboard.position();
        if fix.time_ms >= of(&truck, common::client::fix(50)).time_ms {
            break fix;
        }
    };
    assert!(last.time_ms < fix(59).time_ms, "{last:?}");
    assert!(hits(&gateway, "messages_per_second_max") > 0);
    for n in 61..=200 {
        if truck.try_report(fix(n)).is_err() {
            break;
        }
    }
    let (code, reason) = truck.closed();
    assert_eq!(code, 4029, "{reason}");
    let closed = "longhaul_connections_closed_total{cause=\"rate_limit\"}";
    assert_eq!(Metrics::of(gateway.control()).value(closed), 1);
    // The dashboard goes on as if nothing had been.
    assert_eq!(dashboard.drain(), []);
    assert_adds_up(&gateway);
}

#[test]
fn bytes_have_a_rate_of_their_own() {
    let gateway = start(&[
        "limits.bytes_per_second_max=1000",
        "limits.bytes_burst=65536",
        "limits.messages_per_second_max=0",
    ]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    // 64-byte reports: a thousand fill the burst, two thousand are too much.
    for n in 1..=1_300 {
        truck.report(fix(n));
    }
    let error = truck.error(ErrorCode::LimitReached);
    assert!(
        error.message.contains("limits.bytes_per_second_max"),
        "{error:?}"
    );
    for n in 1_301..=4_000 {
        if truck.try_report(fix(n)).is_err() {
            break;
        }
    }
    assert_eq!(truck.closed().0, 4029);
    assert!(hits(&gateway, "bytes_per_second_max") > 0);
}

/// Who sends more than a tick has room for is slowed down, alone, and loses nothing: neither what comes last nor what comes
/// right before the end of the connection.
#[test]
fn long_messages_wait_for_their_turn() {
    const REQUESTS: u64 = 8;
    let gateway = Gateway::start(1);
    let mut bystander = Client::dashboard(&gateway, "bystander");
    bystander.subscribe(watch(1, &["truck-1"]));
    let ids: Vec<String> = (0..2_000).map(|n| format!("nobody-has-{n:05}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let subscribes = |client: &mut Client| {
        for request in 1..=REQUESTS {
            client.send(&Message::Subscribe(watch(request, &ids)));
        }
    };
    let mut waits = Client::dashboard(&gateway, "waits");
    subscribes(&mut waits);
    let (code, reason) = (CloseCode::Normal, Utf8Bytes::default());
    waits.send_frame(Frame::Close(Some(CloseFrame { code, reason })));
    let mut leaves = Client::dashboard(&gateway, "leaves");
    subscribes(&mut leaves);
    let socket = leaves.socket();
    socket.shutdown(Shutdown::Write).expect("it is connected");

    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(1));
    assert_eq!(bystander.position().0, "truck-1");
    for request in 1..=REQUESTS {
        let ack = loop {
            match waits.next() {
                Message::Ack(ack) => break ack,
                Message::Names(_) => {}
                other => panic!("not an Ack of request {request}: {other:?}"),
            }
        };
        assert_eq!((ack.id, ack.watching), (request, 2_000));
    }
    assert_eq!(waits.closed().0, 1000);
    // What is held is said once a tick: it may be a tick behind.
    eventually(
        "all that was sent is taken, they are gone, and nothing is held",
        || {
            let metrics = Metrics::of(gateway.control());
            metrics.value("longhaul_messages_in_total{kind=\"subscribe\"}") == 1 + 2 * REQUESTS
                && metrics.sum("longhaul_connections_open") == 2
                && metrics.value("longhaul_bulk_held_bytes") == 0
        },
    );
    assert!(hits(&gateway, "bulk_time") > 0);
    assert_eq!(hits(&gateway, "bulk_held_bytes"), 0);
    assert_adds_up(&gateway);
}

#[test]
fn too_many_at_once_are_told_to_come_back_later() {
    let gateway = start(&["limits.accepts_per_second_max=1", "server.pin_cores=false"]);
    let token = gateway.vehicle_token("truck-1");
    let mut first = Client::connect(&gateway, &token);
    let answers: Vec<_> = (0..60).map(|_| refused(&gateway, "no token")).collect();
    let (late, let_in): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 503);
    // Two shards let in one each, and one a second more for as long as this takes.
    assert!(late.len() >= 5, "{} of 60", late.len());
    assert!(let_in.iter().all(|answer| answer.status == 401));
    for answer in &late {
        assert_told(answer, 503, "limits.accepts_per_second_max");
    }
    assert_eq!(hits(&gateway, "accepts_per_second_max"), late.len() as u64);
    first.report(fix(1));
    assert_eq!(first.drain(), []);
    assert_adds_up(&gateway);
}

/// A storm is told from what is usual, and said to whoever operates this.
#[test]
fn a_storm_of_connections_is_noticed() {
    let gateway = Gateway::start(1);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let storms = || Metrics::of(gateway.control()).value("longhaul_storms_total");
    assert_eq!(storms(), 0);
    eventually("200 connections in a second are a storm", || {
        let at_once: Vec<_> = (0..200).map(|_| dial(gateway.listen())).collect();
        drop(at_once);
        storms() > 0
    });
    assert_eq!(
        Metrics::of(gateway.control()).value("longhaul_storm_shards"),
        1
    );
    assert!(gateway.log().contains("a storm of new connections begins"));
    truck.report(fix(1));
    assert_eq!(truck.drain(), []);
    eventually("it is over", || {
        Metrics::of(gateway.control()).value("longhaul_storm_shards") == 0
    });
}
