//! Peers that vanish without a word: their link goes down, and neither FIN nor RST ever comes.
//!
//! The clients live in a network namespace of the test's own, behind a link that the test takes down. Where such a
//! namespace cannot be made (no root, no `ip`), the test says so and is skipped.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::common::client::{Client, watch_all};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

const GHOSTS: usize = 200;

/// A namespace with one end of a link; the other end is here. Both go with this value.
struct Elsewhere {
    name: String,
    link: String,
    /// This end's address.
    here: String,
}

impl Elsewhere {
    fn make() -> Result<Elsewhere, String> {
        let id = std::process::id();
        // A network of the test's own out of 198.18.0.0/15, which is for tests (RFC 2544).
        let net = format!("198.18.{}.{}", (id / 64) % 256, (id % 64) * 4);
        let base: std::net::Ipv4Addr = net.parse().map_err(|error| format!("{error}"))?;
        let at = |n: u32| std::net::Ipv4Addr::from_bits(base.to_bits() + n);
        let elsewhere = Elsewhere {
            name: format!("longhaul-test-{id}"),
            link: format!("lh{id}"),
            here: at(1).to_string(),
        };
        let Elsewhere { name, link, here } = &elsewhere;
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add {link} type veth peer name peer0 netns {name}"
        ))?;
        ip(&format!("addr add {here}/30 dev {link}"))?;
        ip(&format!("link set {link} up"))?;
        ip(&format!("-n {name} addr add {}/30 dev peer0", at(2)))?;
        ip(&format!("-n {name} link set peer0 up"))?;
        Ok(elsewhere)
    }

    /// Does something with this thread's sockets over there.
    fn inside<R: Send>(&self, what: impl FnOnce() -> R + Send) -> R {
        let handle = std::fs::File::open(format!("/run/netns/{}", self.name)).expect("it is there");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                use std::os::fd::AsFd;
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(handle.as_fd(), network).expect("root may");
                what()
            });
            thread.join().expect("it is done there")
        })
    }

    fn cut(&self) {
        ip(&format!("link set {} down", self.link)).expect("it is there");
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.link));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {}", said.trim()))
}

#[test]
fn all_are_found_and_freed_and_nothing_is_left_of_them() {
    let elsewhere = match Elsewhere::make() {
        Ok(elsewhere) => elsewhere,
        Err(why) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "no network namespace, and this must run in CI: {why}"
            );
            eprintln!("SKIPPED: no network namespace can be made here: {why}");
            return;
        }
    };
    let gateway = Gateway::start_at(
        &format!("{}:0", elsewhere.here),
        2,
        &[
            "--set",
            "connection.heartbeat_ms=1000",
            "--set",
            "connection.dead_after_ms=3000",
        ],
    );
    let open = || Metrics::of(gateway.control()).sum("longhaul_connections_open");
    let descriptors = || Metrics::of(gateway.control()).value("process_open_fds");
    let listen: SocketAddr = gateway.listen();
    let vehicle_tokens: Vec<_> = (0..GHOSTS / 2)
        .map(|n| gateway.vehicle_token(&format!("truck-{n}")))
        .collect();
    let user = gateway.dashboard_token("ghost");
    // One round of each warms up what is kept for good.
    elsewhere.inside(|| drop(TcpStream::connect(listen)));
    eventually("it is gone", || open() == 0);
    let descriptors_before = descriptors();

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
