//! Slow consumers: what they are owed shrinks to what is newest, and whoever does not read at all is cut off and told.

use std::time::Duration;

use longhaul_codec::{Delivery, Fix, Message, PositionBatch, Subscribe};
use socket2::SockRef;
use tungstenite::Message as Frame;

use crate::common::client::{Client, fix, of, watch};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

/// No rate limits: a test sends what a fleet sends.
const FLEET: [&str; 4] = [
    "--set",
    "limits.messages_per_second_max=0",
    "--set",
    "limits.bytes_per_second_max=0",
];

/// A dashboard whose kernel takes little in advance.
fn narrow(gateway: &Gateway, user: &str) -> Client {
    let client = Client::dashboard(gateway, user);
    SockRef::from(client.socket())
        .set_recv_buffer_size(4_096)
        .expect("a socket takes it");
    client
}

/// Lets it read as fast as it likes: through so narrow a window, the kernel's timers would set the pace.
fn widen(client: &Client) {
    SockRef::from(client.socket())
        .set_recv_buffer_size(1 << 20)
        .expect("a socket takes it");
}

fn slow(gateway: &Gateway) -> u64 {
    let series = "longhaul_connections_closed_total{cause=\"slow_consumer\"}";
    Metrics::of(gateway.control()).value(series)
}

fn descriptors(gateway: &Gateway) -> u64 {
    Metrics::of(gateway.control()).value("process_open_fds")
}

/// Fixes from `from` on, as one message.
fn batch(from: u32) -> Message {
    let fixes: Vec<Fix> = (from..from + 200).map(fix).collect();
    PositionBatch {
        fixes,
        vehicle_id: None,
    }
    .into()
}

#[test]
fn one_who_does_not_read_is_evicted_with_4008_and_the_others_notice_nothing() {
    let mut arguments = FLEET.to_vec();
    arguments.extend(["--set", "connection.send_timeout_ms=1000"]);
    let gateway = Gateway::start_with(1, &arguments);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut stalled: Vec<_> = (0..2)
        .map(|n| {
            let mut client = narrow(&gateway, &format!("stalled-{n}"));
            client.subscribe(Subscribe {
                delivery: Delivery::Every,
                ..watch(1, &["truck-1"])
            });
            client
        })
        .collect();
    let mut healthy = Client::dashboard(&gateway, "healthy");
    healthy.subscribe(watch(1, &["truck-1"]));
    let before = descriptors(&gateway);
    let mut n = 1;
    eventually("each of them is evicted", || {
        // As fast as the healthy one reads: it is up to date the whole time.
        truck.send(&batch(n));
        n += 200;
        while healthy.position().1 != of(&truck, fix(n - 1)) {}
        slow(&gateway) == 2
    });
    // The gateway has done with them. What they find when they wake up, the kernel has kept for them.
    eventually("their descriptors are free", || {
        descriptors(&gateway) == before - stalled.len() as u64
    });
    for client in &mut stalled {
        widen(client);
        let mut last = 0;
        let close = loop {
            match client.next_frame() {
                Frame::Binary(bytes) => {
                    let message = longhaul_codec::decode(&bytes).expect("the schema");
                    if let Message::Positions(positions) = Message::from_ref(message) {
                        for fix in positions.fixes {
                            assert!(fix.time_ms > last, "{} after {last}", fix.time_ms);
                            last = fix.time_ms;
                        }
                    }
                }
                Frame::Close(close) => break close.expect("it has a code"),
                _ => {}
            }
        };
        assert_eq!(u16::from(close.code), 4008);
        assert!(close.reason.contains("slow consumer"), "{}", close.reason);
        assert!(last > 0, "it was sent something");
    }
    truck.send(&batch(n));
    while healthy.position().1 != of(&truck, fix(n + 199)) {}
    drop(stalled);
    eventually("nothing is left of them", || {
        Metrics::of(gateway.control()).sum("longhaul_connections_open") == 2
    });
    assert_eq!(slow(&gateway), 2, "and nobody else");
}

/// A link that is slow but works is not cut, however long a frame takes.
#[test]
fn one_who_reads_slowly_is_not_evicted() {
    let mut arguments = FLEET.to_vec();
    arguments.extend(["--set", "connection.send_timeout_ms=3000"]);
    let gateway = Gateway::start_with(1, &arguments);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut sluggish = narrow(&gateway, "sluggish");
    sluggish.subscribe(Subscribe {
        delivery: Delivery::Every,
        ..watch(1, &["truck-1"])
    });
    for n in 0..100 {
        truck.send(&batch(1 + n * 200));
    }
    assert_eq!(truck.drain(), []);
    // Each read is far below the time-out, all of them together far above.
    let (mut last, mut reads) = (0, 0);
    while last != fix(20_000).time_ms {
        for (_, fix) in sluggish.positions() {
            assert!(fix.time_ms > last);
            last = fix.time_ms;
        }
        reads += 1;
        if reads <= 20 {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    assert_eq!(slow(&gateway), 0);
}

/// After a stall the table is read, not a queue: nothing older than what was sent, and the newest.
#[test]
fn after_a_short_stall_only_what_is_newest_is_sent() {
    const REPORTS: u32 = 30_000;
    let mut arguments = FLEET.to_vec();
    // However busy the machine is, this stall is a short one.
    arguments.extend(["--set", "connection.send_timeout_ms=600000"]);
    let gateway = Gateway::start_with(1, &arguments);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = narrow(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));
    let mut witness = Client::dashboard(&gateway, "witness");
    witness.subscribe(watch(1, &["truck-1"]));
    for n in 1..=REPORTS {
        truck.report(fix(n));
        // One tick each, as long as the kernel takes frames.
        if n <= 3_000 {
            while witness.position().1 != of(&truck, fix(n)) {}
        }
    }
    while witness.position().1 != of(&truck, fix(REPORTS)) {}
    widen(&dashboard);
    let (mut last, mut seen) = (0, 0u32);
    while last != fix(REPORTS).time_ms {
        let (_, fix) = dashboard.position();
        assert!(fix.time_ms > last, "{} after {last}", fix.time_ms);
        last = fix.time_ms;
        seen += 1;
    }
    assert!(seen < 3_000, "{seen} frames for a reader that stalled");
    assert_eq!(dashboard.drain(), []);
    assert_eq!(slow(&gateway), 0);
}

/// A pong, and the answer to a close frame, come before data that waits.
#[test]
fn control_frames_are_not_starved_by_data() {
    let gateway = Gateway::start_with(1, &FLEET);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut dashboard = narrow(&gateway, "me");
    dashboard.subscribe(Subscribe {
        delivery: Delivery::Every,
        ..watch(1, &["truck-1"])
    });
    let mut n = 1;
    let mut fill = |truck: &mut Client| {
        for _ in 0..100 {
            truck.send(&batch(n));
            n += 200;
        }
        assert_eq!(truck.drain(), []);
    };
    fill(&mut truck);
    dashboard.send_frame(Frame::Ping(b"there?".as_slice().into()));
    assert_eq!(truck.drain(), []);
    // 20,000 positions wait, in frames of up to 2,000; the pong is behind one of them at most, and what the kernel had.
    let mut before = 0;
    loop {
        match dashboard.next_frame() {
            Frame::Pong(payload) => break assert_eq!(payload.as_ref(), b"there?"),
            Frame::Binary(bytes) => before += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(
        before < 20_000 * Fix::WIRE_BYTES / 2,
        "{before} bytes came first"
    );
    fill(&mut truck);
    assert_eq!(dashboard.close_with(1000), 1000);
}
