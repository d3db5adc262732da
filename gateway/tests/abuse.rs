//! Attacks on the real gateway: each meets its bound, moves its counter, and those who behave notice nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::common::client::{Client, fix, of, watch};
use crate::common::gateway::Gateway;
use crate::common::http::{
    Answer, BALANCER, Metrics, answer, dial, exchange, proxy_header, upgrade,
};
use crate::common::{PATIENCE, eventually};

mod common;

/// A gateway whose penalty box knows no exceptions.
fn start(settings: &[&str]) -> Gateway {
    let all = ["abuse.exempt=[]"].iter().chain(settings);
    let arguments: Vec<&str> = all.flat_map(|set| ["--set", set]).collect();
    Gateway::start_with(2, &arguments)
}

#[track_caller]
fn value(gateway: &Gateway, series: &str) -> u64 {
    Metrics::of(gateway.control()).value(series)
}

fn offences(gateway: &Gateway, kind: &str) -> u64 {
    value(
        gateway,
        &format!("longhaul_offences_total{{kind=\"{kind}\"}}"),
    )
}

/// A connection from one of this machine's many addresses.
fn dial_from(source: &str, to: SocketAddr) -> TcpStream {
    let source: IpAddr = source.parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .and_then(|()| socket.connect(&to.into()))
        .and_then(|()| socket.set_read_timeout(Some(PATIENCE)))
        .expect("the whole of 127.0.0.0/8 is this machine");
    socket.into()
}

/// What somebody there is answered. Status 0: closed without a word.
fn exchange_from(source: &str, gateway: &Gateway, request: &str) -> Answer {
    let mut stream = dial_from(source, gateway.listen());
    // One that is kept out may be closed before it has spoken, or while it does.
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse().expect("a status"));
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    Answer {
        status,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// Whether somebody there is let in with this request.
fn is_let_in(source: &str, gateway: &Gateway, request: &str) -> bool {
    let mut stream = dial_from(source, gateway.listen());
    let _ = stream.write_all(request.as_bytes());
    let mut status = [0; 12];
    stream.read_exact(&mut status).is_ok() && status == *b"HTTP/1.1 101"
}

#[test]
fn bad_tokens_lead_into_the_penalty_box_and_time_out_of_it() {
    let gateway = start(&["abuse.stay_ms_min=3000", "abuse.points_max=20"]);
    let (bad, good) = ("127.0.0.66", "127.0.0.77");
    let token = upgrade(&gateway.vehicle_token("truck-1"));
    for _ in 0..5 {
        assert_eq!(
            exchange_from(bad, &gateway, &upgrade("nonsense")).status,
            401
        );
    }
    // Five times five points: over twenty.
    let kept_out = exchange_from(bad, &gateway, &token);
    assert_eq!(kept_out.status, 429, "{kept_out:?}");
    assert!(kept_out.body.contains("[abuse]"), "{kept_out:?}");
    let after: u64 = kept_out
        .header("retry-after")
        .expect("it says when")
        .parse()
        .expect("seconds");
    assert!((1..=3).contains(&after), "{after}");
    assert!(is_let_in(good, &gateway, &token), "somebody else");

    assert_eq!(offences(&gateway, "token"), 5);
    assert_eq!(value(&gateway, "longhaul_penalties_total"), 1);
    assert_eq!(value(&gateway, "longhaul_penalty_refused_total"), 1);
    let log = gateway.log();
    assert!(
        log.contains("put into the penalty box") && log.contains(bad),
        "{log}"
    );
    eventually("it has served its time", || {
        value(&gateway, "longhaul_penalty_addresses") == 0
    });
    assert!(is_let_in(bad, &gateway, &token));
}

/// One of many behind the same address: the others have come in properly, and go on doing so.
#[test]
fn a_carrier_is_not_locked_out_by_one_of_its_vehicles() {
    let gateway = start(&["abuse.points_max=20"]);
    let _fleet: Vec<_> = (0..10)
        .map(|n| Client::vehicle(&gateway, &format!("truck-{n}")))
        .collect();
    // Twenty points would do for four; ten vehicles more are good for forty.
    for _ in 0..40 {
        assert_eq!(
            exchange(gateway.listen(), upgrade("nonsense").as_bytes()).status,
            401
        );
    }
    Client::vehicle(&gateway, "truck-11");
    assert_eq!(value(&gateway, "longhaul_penalties_total"), 0);
}

/// Those who are kept out are told so as long as that is cheap, and closed without a word then.
#[test]
fn a_flood_from_the_box_is_closed_cheaply() {
    let gateway = start(&["abuse.points_max=1", "abuse.stay_ms_min=600000"]);
    let bad = "127.0.0.66";
    exchange_from(bad, &gateway, &upgrade("nonsense"));
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let silent: Vec<_> = (0..400).map(|_| dial_from(bad, gateway.listen())).collect();
    eventually("all are refused", || {
        value(&gateway, "longhaul_penalty_refused_total") == 400
    });
    assert!(
        value(
            &gateway,
            "longhaul_connections_closed_total{cause=\"overflow\"}"
        ) > 0
    );
    truck.report(fix(1));
    assert_eq!(truck.drain(), []);
    drop(silent);
}

/// Through a load balancer: the header, and what the client sends.
fn through(gateway: &Gateway, header: &[u8], request: &str) -> TcpStream {
    let mut stream = dial(gateway.listen());
    stream
        .write_all(&[header, request.as_bytes()].concat())
        .expect("it is taken");
    stream
}

fn status(mut stream: &TcpStream) -> u16 {
    let mut line = [0; 12];
    stream.read_exact(&mut line).expect("it is answered");
    std::str::from_utf8(&line[9..])
        .expect("digits")
        .parse()
        .expect("a status")
}

#[test]
fn behind_a_load_balancer_bounds_hold_for_the_real_address() {
    let gateway = start(&[
        BALANCER,
        "limits.connections_per_address_max=2",
        "abuse.points_max=20",
    ]);
    let token = upgrade(&gateway.dashboard_token("me"));
    for client in ["192.0.2.1", "2001:db8::1"] {
        let header = proxy_header(client);
        let held: Vec<_> = (0..2).map(|_| through(&gateway, &header, &token)).collect();
        assert!(held.iter().all(|stream| status(stream) == 101), "{client}");
        assert_eq!(
            status(&through(&gateway, &header, &token)),
            429,
            "a third of {client}"
        );
    }
    // The same for the penalty box: one client of the balancer is kept out, the next is not.
    for _ in 0..5 {
        assert_eq!(
            status(&through(
                &gateway,
                &proxy_header("192.0.2.9"),
                &upgrade("nonsense")
            )),
            401
        );
    }
    let kept_out = answer(through(&gateway, &proxy_header("192.0.2.9"), &token));
    assert_eq!(kept_out.status, 429, "{kept_out:?}");
    assert!(kept_out.body.contains("[abuse]"), "{kept_out:?}");
    assert_eq!(
        status(&through(&gateway, &proxy_header("192.0.2.10"), &token)),
        101
    );
    assert!(gateway.log().contains("192.0.2.9"), "{}", gateway.log());
    eventually("who has left is counted out", || {
        Metrics::of(gateway.control()).sum("longhaul_connections_open") == 0
    });
    assert_eq!(
        status(&through(&gateway, &proxy_header("192.0.2.1"), &token)),
        101
    );
    assert_eq!(value(&gateway, "longhaul_proxied_connections_total"), 14);
}

#[test]
fn a_header_may_come_byte_by_byte_and_be_the_balancers_own() {
    let gateway = start(&[BALANCER]);
    let token = upgrade(&gateway.dashboard_token("me"));
    let mut stream = dial(gateway.listen());
    for byte in [&proxy_header("192.0.2.1"), token.as_bytes()].concat() {
        stream.write_all(&[byte]).expect("it is taken");
    }
    assert_eq!(status(&stream), 101);
    let local = [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20, 0, 0, 0]].concat();
    assert_eq!(status(&through(&gateway, &local, &token)), 101);
}

#[test]
fn a_balancer_that_does_not_speak_for_its_clients_is_told_so() {
    let gateway = start(&[BALANCER, "connection.handshake_timeout_ms=500"]);
    let token = upgrade(&gateway.dashboard_token("me"));
    let too_long = [
        b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
        &[0x21, 0x11, 0xFF, 0xFF],
    ]
    .concat();
    let datagram = [
        b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
        &[0x21, 0x12, 0, 12],
        &[0; 12],
    ]
    .concat();
    for (header, says) in [
        (&b""[..], "version 2"),
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n", "version 2"),
        (&too_long, "2048"),
        (&datagram, "TCP"),
    ] {
        let refused = answer(through(&gateway, header, &token));
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains(says), "{refused:?}");
    }
    // Silence, and half a header.
    for half in [&b""[..], b"\r\n\r\n\0\r\nQUI"] {
        assert_eq!(answer(through(&gateway, half, "")).status, 408);
    }
    assert_eq!(offences(&gateway, "proxy"), 4);
    assert_eq!(
        value(&gateway, "longhaul_penalties_total"),
        0,
        "it is everybody's balancer"
    );
}

#[test]
fn nobody_else_speaks_for_others() {
    let gateway = start(&["server.proxy_protocol={ from = [\"10.0.0.0/8\"] }"]);
    let token = upgrade(&gateway.dashboard_token("me"));
    let refused = answer(through(&gateway, &proxy_header("192.0.2.1"), &token));
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(
        refused.body.contains("server.proxy_protocol"),
        "{refused:?}"
    );
    assert_eq!(
        status(&through(&gateway, b"", &token)),
        101,
        "it is served as it is"
    );
}

#[test]
fn pages_from_elsewhere_may_not_connect() {
    let gateway = start(&["server.origins=[\"https://ops.example\"]"]);
    let plain = upgrade(&gateway.dashboard_token("me"));
    let from = |origin: &str| plain.replace("Host:", &format!("Origin: {origin}\r\nHost:"));
    assert_eq!(status(&through(&gateway, b"", &plain)), 101, "no browser");
    assert_eq!(
        status(&through(&gateway, b"", &from("https://ops.example"))),
        101
    );
    for origin in ["https://evil.test", "null"] {
        let refused = exchange(gateway.listen(), from(origin).as_bytes());
        assert_eq!(refused.status, 403, "{refused:?}");
        assert!(refused.body.contains("server.origins"), "{refused:?}");
    }
    let refused = "longhaul_upgrades_refused_total{reason=\"forbidden\"}";
    assert_eq!(value(&gateway, refused), 2);
    assert_eq!(
        offences(&gateway, "request"),
        0,
        "the page's fault is not its reader's"
    );
}

/// A frame that never ends, and a fragmented message that never does; pings in between do not help.
#[test]
fn a_message_that_does_not_end_ends_its_connection() {
    let gateway = start(&["connection.message_timeout_ms=1000"]);
    let mut watcher = Client::dashboard(&gateway, "me");
    watcher.subscribe(watch(1, &["truck-1"]));
    // Half a frame; a fragment that is not the last; the first byte of a header.
    let halves: [&[u8]; 3] = [
        &[0x82, 0x85, 0, 0, 0, 0, 1],
        &[0x02, 0x81, 0, 0, 0, 0, 1],
        &[0x82],
    ];
    for half in halves {
        let client = Client::vehicle(&gateway, "truck-9");
        let mut socket = client.socket();
        socket.write_all(half).expect("it is taken");
        let mut client = client;
        let (code, reason) = client.closed();
        assert_eq!(code, 4010, "{reason}");
    }
    let pinging = Client::vehicle(&gateway, "truck-9");
    pinging
        .socket()
        .write_all(&[0x02, 0x81, 0, 0, 0, 0, 1])
        .expect("it is taken");
    pinging
        .socket()
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("it takes it");
    eventually("pings are no progress", || {
        let _ = pinging.socket().write_all(&[0x89, 0x80, 0, 0, 0, 0]);
        offences(&gateway, "unfinished") == 4
    });
    let hits = "longhaul_limit_hits_total{limit=\"message_timeout_ms\"}";
    assert_eq!(value(&gateway, hits), 4);
    let closed = "longhaul_connections_closed_total{cause=\"unfinished\"}";
    assert_eq!(value(&gateway, closed), 4);
    // Who sends whole messages for longer than that is let be.
    let mut truck = Client::vehicle(&gateway, "truck-1");
    for n in 1..=30 {
        truck.report(fix(n));
        assert_eq!(
            watcher.position(),
            ("truck-1".to_owned(), of(&truck, fix(n)))
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(truck.drain(), []);
}

fn hits(gateway: &Gateway, limit: &str) -> u64 {
    value(
        gateway,
        &format!("longhaul_limit_hits_total{{limit=\"{limit}\"}}"),
    )
}

/// Bytes that trickle in buy no time, and silence costs points.
#[test]
fn slow_requests_and_silence_end_and_lead_into_the_box() {
    let gateway = start(&[
        "connection.handshake_timeout_ms=500",
        "abuse.points_max=20",
        "abuse.stay_ms_min=600000",
    ]);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let slow = dial_from("127.0.0.66", gateway.listen());
    let trickling = std::thread::spawn({
        let mut slow = slow.try_clone().expect("a descriptor");
        // It is cut off while it still goes on.
        move || {
            while slow.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let mut answer = [0; 12];
    (&slow).read_exact(&mut answer).expect("it is answered");
    assert_eq!(&answer, b"HTTP/1.1 408");
    trickling.join().expect("it has ended");

    let silent: Vec<_> = (0..4)
        .map(|_| dial_from("127.0.0.66", gateway.listen()))
        .collect();
    eventually("five that took too long are too many", || {
        value(&gateway, "longhaul_penalties_total") == 1
    });
    drop(silent);
    let token = upgrade(&gateway.vehicle_token("truck-2"));
    assert_eq!(exchange_from("127.0.0.66", &gateway, &token).status, 429);
    assert_eq!(hits(&gateway, "handshake_timeout_ms"), 5);
    assert_eq!(offences(&gateway, "timeout"), 5);
    truck.report(fix(1));
    assert_eq!(truck.drain(), []);
}

/// What a client that was let in can do with its frames: each ends its connection with the code for it, is counted, and
/// is an offence.
#[test]
fn bombs_and_floods_of_frames_end_their_own_connection_only() {
    let gateway = start(&["abuse.points_max=0", "limits.messages_burst=100"]);
    let mut watcher = Client::dashboard(&gateway, "me");
    watcher.subscribe(watch(1, &["truck-1"]));
    let ping: &[u8] = &[0x89, 0x80, 0, 0, 0, 0];
    let fragment: &[u8] = &[0x00, 0x80, 0, 0, 0, 0];
    let first: &[u8] = &[0x02, 0x80, 0, 0, 0, 0];
    let mut encoder = longhaul_codec::Encoder::new();
    let report = longhaul_codec::Position {
        fix: fix(1),
        vehicle_id: None,
    };
    let mut position = vec![0x82, 0, 0, 0, 0, 0];
    position.extend_from_slice(encoder.message(&report.into()).payload());
    position[1] = 0x80 | u8::try_from(position.len() - 6).expect("a short message");
    let noise: &[u8] = &[0x82, 0x84, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F];
    for (what, bytes, code, limit, offence) in [
        (
            "a gigabyte",
            [0x82, 0xFF, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0].to_vec(),
            1009,
            "message_bytes_max",
            "frames",
        ),
        (
            "a fragment bomb",
            [first.to_vec(), fragment.repeat(1_100)].concat(),
            1009,
            "frames_per_message_max",
            "frames",
        ),
        (
            "a flood of positions",
            position.repeat(5_000),
            4029,
            "messages_per_second_max",
            "rate",
        ),
        // Nobody reads pongs and errors that fast: they are too many before the rate is.
        (
            "a ping flood",
            ping.repeat(5_000),
            4008,
            "control_queue_max",
            "rate",
        ),
        (
            "a flood of noise",
            noise.repeat(5_000),
            4008,
            "control_queue_max",
            "rate",
        ),
    ] {
        let (before, offended) = (hits(&gateway, limit), offences(&gateway, offence));
        let mut client = Client::vehicle(&gateway, "attacker");
        // The gateway may have closed before all of it is written.
        let _ = client.socket().write_all(&bytes);
        let code_said = loop {
            match client.try_read() {
                Ok(tungstenite::Message::Close(close)) => {
                    break close.map(|close| close.code.into());
                }
                Ok(_) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        };
        assert_eq!(code_said, Some(code), "{what}");
        assert!(hits(&gateway, limit) > before, "{what}");
        assert_eq!(offences(&gateway, offence), offended + 1, "{what}");
    }
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(1));
    assert_eq!(watcher.position().1, of(&truck, fix(1)));
}

/// A broken client sends nonsense at the rate of a good one: it is told each time, and in the end it is kept out.
#[test]
fn nonsense_is_answered_counted_and_held_against_its_address() {
    let gateway = start(&[
        "abuse.points_max=10",
        "limits.messages_per_second_max=0",
        "abuse.stay_ms_min=600000",
    ]);
    let binary = Client::vehicle(&gateway, "truck-1");
    let json = Client::connect_json(&gateway, &gateway.vehicle_token("truck-2"));
    let nonsense = [
        tungstenite::Message::binary(vec![0xFF; 100]),
        tungstenite::Message::text("{\"type\":\"Position\",\"fix\":[[[[[[["),
    ];
    for (mut client, nonsense) in [binary, json].into_iter().zip(nonsense) {
        for _ in 0..200 {
            client.send_frame(nonsense.clone());
            client.error(longhaul_codec::ErrorCode::Malformed);
        }
        client.close();
    }
    assert_eq!(
        value(&gateway, "longhaul_messages_in_total{kind=\"malformed\"}"),
        400
    );
    // One in sixteen counts: of 400, three are all but certain.
    assert!(offences(&gateway, "malformed") > 0);
    assert_eq!(value(&gateway, "longhaul_penalties_total"), 1);
}

/// A million made-up ids: the user who asks gets half of what there is room for, and others and vehicles the rest.
#[test]
fn a_subscribe_bomb_leaves_room_for_others() {
    let gateway = start(&[
        "limits.unseen_vehicles_max=1000",
        "limits.vehicles_max=100000",
        "limits.bytes_per_second_max=0",
        "limits.messages_per_second_max=0",
    ]);
    let mut bomber = Client::dashboard(&gateway, "bomber");
    let mut refused = 0;
    for request in 1..=40u32 {
        let ids: Vec<String> = (0..100).map(|n| format!("made-up-{request}-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        bomber.send(&watch(u64::from(request), &ids).into());
        loop {
            match bomber.next() {
                longhaul_codec::Message::Names(_) => {}
                longhaul_codec::Message::Ack(_) => break,
                longhaul_codec::Message::Error(error) => {
                    assert!(error.message.contains("unseen_vehicles_max"), "{error:?}");
                    refused += 1;
                    break;
                }
                other => panic!("neither taken nor refused: {other:?}"),
            }
        }
    }
    assert_eq!(refused, 35, "five hundred were taken");
    assert!(hits(&gateway, "vehicles_max") >= 35);
    // Under another connection it is the same user.
    let mut again = Client::dashboard(&gateway, "bomber");
    again.send(&watch(1, &["one-more"]).into());
    again.error(longhaul_codec::ErrorCode::LimitReached);
    let mut other = Client::dashboard(&gateway, "somebody else");
    other.subscribe(watch(1, &["truck-1", "truck-2"]));
    let mut truck = Client::vehicle(&gateway, "truck-1");
    truck.report(fix(1));
    assert_eq!(other.position(), ("truck-1".to_owned(), of(&truck, fix(1))));
}

#[test]
fn a_request_that_is_too_long_costs_points() {
    let gateway = start(&["abuse.points_max=20", "abuse.stay_ms_min=600000"]);
    let token = upgrade(&gateway.vehicle_token("truck-1"));
    let long = token.replace(
        "Host:",
        &format!("X-Filler: {}\r\nHost:", "x".repeat(9_000)),
    );
    for _ in 0..3 {
        assert_eq!(exchange_from("127.0.0.66", &gateway, &long).status, 431);
    }
    assert_eq!(exchange_from("127.0.0.66", &gateway, &token).status, 429);
    assert_eq!(
        (
            hits(&gateway, "header_bytes_max"),
            offences(&gateway, "too_long")
        ),
        (3, 3)
    );
}
