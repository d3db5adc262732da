//! Peers that vanish without a word: their link goes down, and neither FIN nor RST ever comes.
//!
//! The clients live in a network namespace of the test's own, behind a link that the test takes down. Where such a
//! namespace cannot be made (no root, no `ip`), the test says so and is skipped.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::common::client::{Client, watch_all};
use crate::common::elsewhere::Elsewhere;
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

const GHOSTS: usize = 200;

#[test]
fn all_are_found_and_freed_and_nothing_is_left_of_them() {
    let Some(elsewhere) = Elsewhere::or_skip() else {
        return;
    };
    let gateway = Gateway::start_at(
        &format!("{}:0", elsewhere.here()),
        2,
        &[
            "--set",
            "connection.heartbeat_ms=1000",
            "--set",
            "connection.dead_after_ms=3000",
        ],
    );
    let open = || Metrics::of(gateway.control()).sum("longhaul_connections_open");
    let memory = || Metrics::of(gateway.control()).value("process_resident_memory_bytes");
    let descriptors = || Metrics::of(gateway.control()).value("process_open_fds");
    let listen: SocketAddr = gateway.listen();
    let vehicle_tokens: Vec<_> = (0..GHOSTS / 2)
        .map(|n| gateway.vehicle_token(&format!("truck-{n}")))
        .collect();
    let user = gateway.dashboard_token("ghost");
    // One round of each warms up what is kept for good.
    elsewhere.inside(|| drop(TcpStream::connect(listen)));
    eventually("it is gone", || open() == 0);
    let (descriptors_before, memory_before) = (descriptors(), memory());

    let mut ghosts: Vec<Client> = elsewhere.inside(|| {
        let vehicles = vehicle_tokens
            .iter()
            .map(|token| Client::connect(&gateway, token));
        let dashboards = (0..GHOSTS / 2).map(|_| Client::connect(&gateway, &user));
        vehicles.chain(dashboards).collect()
    });
    for dashboard in &mut ghosts[GHOSTS / 2..] {
        dashboard.subscribe(watch_all(1));
    }
    // One that is alive, on this side of the link, and only answers pings.
    let mut alive = Client::connect(&gateway, &gateway.dashboard_token("alive"));
    alive
        .socket()
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a socket takes it");
    assert_eq!(open(), GHOSTS as u64 + 1);
    elsewhere.cut();
    eventually("every ghost is found", || {
        let _ = alive.try_read();
        open() == 1
    });
    eventually("their descriptors are back", || {
        let _ = alive.try_read();
        descriptors() == descriptors_before + 1
    });
    // What 200 connections and their vehicles' ids may leave behind, and what an allocator keeps.
    let grown = memory().saturating_sub(memory_before);
    assert!(grown <= 4 << 20, "{grown} bytes more than before");
    let metrics = Metrics::of(gateway.control());
    let closed = |cause: &str| {
        metrics.value(&format!(
            "longhaul_connections_closed_total{{cause=\"{cause}\"}}"
        ))
    };
    // Found by the heartbeat, or by TCP_USER_TIMEOUT, which is set to the same.
    assert_eq!(closed("silent") + closed("abrupt"), GHOSTS as u64 + 1);
    let accepted = metrics.value("longhaul_connections_accepted_total");
    assert_eq!(
        accepted,
        metrics.sum("longhaul_connections_open") + metrics.sum("longhaul_connections_closed_total")
    );
    drop(ghosts);
}
