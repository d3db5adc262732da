//! How a gateway goes away: told in advance, at an even pace, with exit code 0; and how it does not stay half alive.

use std::time::{Duration, Instant};

use longhaul_codec::{Drain, Message};
use rustix::process::Signal;
use tungstenite::Message as Frame;

use crate::common::client::{Client, fix, of, watch, watch_all};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::{exchange, get, post, upgrade};

mod common;

fn start(shards: usize, grace_ms: u32, window_ms: u32) -> Gateway {
    let grace = format!("drain.grace_ms={grace_ms}");
    let window = format!("drain.window_ms={window_ms}");
    Gateway::start_with(shards, &["--set", &grace, "--set", &window])
}

/// Reads up to the Drain, past what else comes.
fn drain_of(client: &mut Client) -> Drain {
    loop {
        if let Message::Drain(drain) = client.next() {
            return drain;
        }
    }
}

#[test]
fn everybody_is_told_and_closed_in_turn_and_the_process_ends_with_0() {
    let mut gateway = start(2, 0, 3_000);
    let mut trucks: Vec<_> = (0..20)
        .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
        .collect();
    let mut dashboards: Vec<_> = (0..20)
        .map(|n| Client::dashboard(&gateway, &format!("user-{n}")))
        .collect();
    for dashboard in &mut dashboards {
        dashboard.subscribe(watch_all(1));
    }
    gateway.signal(Signal::TERM);
    eventually("it is not ready", || {
        get(gateway.control(), "/readyz").status == 503
    });
    assert_eq!(get(gateway.control(), "/healthz").status, 200);
    // Told, and still served: a dashboard gets what a vehicle reports.
    for client in trucks.iter_mut().chain(&mut dashboards) {
        let drain = drain_of(client);
        assert!(drain.reconnect_after_ms < 3_000, "{drain:?}");
        assert_eq!(drain.alternative, None);
    }
    let mut ends: Vec<(bool, Instant)> = Vec::new();
    std::thread::scope(|scope| {
        let wait = |vehicle: bool, mut client: Client| {
            scope.spawn(move || {
                let (code, reason) = client.closed();
                assert_eq!(code, 1012);
                assert!(reason.contains("reconnect"), "{reason}");
                (vehicle, Instant::now())
            })
        };
        let waiting: Vec<_> = trucks
            .into_iter()
            .map(|client| wait(true, client))
            .chain(dashboards.into_iter().map(|client| wait(false, client)))
            .collect();
        ends.extend(
            waiting
                .into_iter()
                .map(|thread| thread.join().expect("closed with 1012")),
        );
    });
    assert_eq!(gateway.wait().code(), Some(0));
    // Dashboards first: where they go they get what vehicles that are still here report.
    ends.sort_by_key(|(_, at)| *at);
    let first_half = ends[..20].iter().filter(|(vehicle, _)| !vehicle).count();
    assert!(
        first_half >= 15,
        "{first_half} of the first 20 are dashboards"
    );
}

#[test]
fn the_grace_period_still_lets_clients_in() {
    let mut gateway = start(2, 60_000, 0);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    assert_eq!(post(gateway.control(), "/drain", "").status, 202);
    eventually("it is not ready", || {
        get(gateway.control(), "/readyz").status == 503
    });
    let mut dashboard = Client::dashboard(&gateway, "late");
    dashboard.subscribe(watch(1, &["truck-1"]));
    truck.report(fix(1));
    assert_eq!(dashboard.position().1, of(&truck, fix(1)));
    // It knows that already, and a supervisor's SIGTERM says no more than that. The next one hurries.
    let again = post(gateway.control(), "/drain", "");
    assert_eq!(again.status, 409, "{again:?}");
    gateway.signal(Signal::TERM);
    for n in 2..=20 {
        std::thread::sleep(Duration::from_millis(5));
        truck.report(fix(n));
        assert_eq!(dashboard.position().1, of(&truck, fix(n)), "still served");
    }
    gateway.signal(Signal::TERM);
    assert_eq!(truck.closed().0, 1012);
    assert_eq!(dashboard.closed().0, 1012);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_signal_in_the_window_hurries() {
    let mut gateway = start(1, 0, 3_000_000);
    let mut trucks: Vec<_> = (0..10)
        .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
        .collect();
    let body = r#"{"alternative":"wss://edge-2.example/v1","reason":"kernel update"}"#;
    assert_eq!(post(gateway.control(), "/drain", body).status, 202);
    let drain = drain_of(&mut trucks[0]);
    assert_eq!(
        drain.alternative.as_deref(),
        Some("wss://edge-2.example/v1")
    );
    assert_eq!(drain.reason.as_deref(), Some("kernel update"));
    // It listens no more: the port is free for whoever comes next, and a connection is refused.
    eventually("the port is closed", || {
        std::net::TcpStream::connect(gateway.listen()).is_err()
    });
    gateway.signal(Signal::INT);
    for truck in &mut trucks {
        assert_eq!(truck.closed().0, 1012);
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

/// The jitter: clients that all obey come back one after the other, not as one.
#[test]
fn the_delays_are_spread_over_the_window() {
    let mut gateway = start(1, 0, 40_000);
    let mut trucks: Vec<_> = (0..100)
        .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
        .collect();
    gateway.signal(Signal::TERM);
    let delays: Vec<u32> = trucks
        .iter_mut()
        .map(|truck| drain_of(truck).reconnect_after_ms)
        .collect();
    let tenths: std::collections::HashSet<u32> = delays.iter().map(|delay| delay / 4_000).collect();
    assert!(tenths.len() >= 5, "{delays:?}");
    // Who obeys is gone before it is closed.
    drop(trucks);
    assert_eq!(gateway.wait().code(), Some(0), "nobody is left to wait for");
}

/// A client that was let in is not forgotten, and one that is not is told to come back.
#[test]
fn an_upgrade_under_way_is_answered() {
    let mut gateway = start(1, 0, 3_000_000);
    let token = gateway.vehicle_token("truck-1");
    let mut held = Client::vehicle(&gateway, "truck-0");
    let request = upgrade(&token);
    let (first, second) = request.split_at(30);
    let mut stream = common::http::dial(gateway.listen());
    std::io::Write::write_all(&mut stream, first.as_bytes()).expect("it is taken");
    // It has been accepted for certain once somebody who came later is answered.
    assert_eq!(exchange(gateway.listen(), b"x\r\n\r\n").status, 400);
    gateway.signal(Signal::TERM);
    drain_of(&mut held);
    std::io::Write::write_all(&mut stream, second.as_bytes()).expect("it is taken");
    let mut bytes = [0; 12];
    std::io::Read::read_exact(&mut stream, &mut bytes).expect("it is answered");
    assert_eq!(&bytes, b"HTTP/1.1 101");
    gateway.signal(Signal::TERM);
    assert_eq!(held.closed().0, 1012);
    assert_eq!(gateway.wait().code(), Some(0));
}

/// One shard's panic ends the process: a balancer must not go on sending clients to half a gateway.
#[test]
fn a_shard_that_panics_takes_the_process_down_with_an_error() {
    let mut gateway = Gateway::start(4);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(1));
    assert_eq!(truck.drain(), []);
    assert_eq!(post(gateway.control(), "/debug/panic/9", "").status, 404);
    post(gateway.control(), "/debug/panic/2", "");
    let status = gateway.wait();
    assert!(!status.success(), "{status}");
    eventually("it says so", || {
        let log = gateway.log();
        log.contains("internal error") && log.contains("shard-2")
    });
    // The kernel winds its rings up in the background; then nothing of it listens any more.
    eventually("the port is closed", || {
        std::net::TcpStream::connect_timeout(&gateway.listen(), Duration::from_secs(5)).is_err()
    });
    drop(truck);
}

/// Echo clients are development's own; they go as well.
#[test]
fn nobody_keeps_the_process_alive() {
    let mut gateway = start(1, 0, 500);
    let mut silent = std::net::TcpStream::connect(gateway.listen()).expect("it listens");
    let (mut echo, _) =
        tungstenite::connect(format!("ws://{}/echo", gateway.listen())).expect("it is let in");
    gateway.signal(Signal::TERM);
    let close = loop {
        if let Frame::Close(close) = echo.read().expect("a close frame") {
            break close.expect("it has a code");
        }
    };
    assert_eq!(u16::from(close.code), 1012);
    let mut answer = String::new();
    let _ = std::io::Read::read_to_string(&mut silent, &mut answer);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    assert_eq!(gateway.wait().code(), Some(0));
}
