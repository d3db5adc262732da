//! Connections that say nothing for a while: they cost less, and lose nothing.

use crate::common::client::{Client, fix, of, watch};
use crate::common::eventually;
use crate::common::gateway::Gateway;
use crate::common::http::Metrics;

mod common;

/// A quiet connection's receive is exchanged for a poll. Its next byte brings it back, again and again; the gateway's
/// pings and the client's pongs in between do not.
#[test]
fn a_quiet_connection_is_heard_when_it_speaks_again() {
    let gateway = Gateway::start_with(
        1,
        &[
            "--set",
            "connection.quiet_after_ms=1000",
            "--set",
            "connection.heartbeat_ms=1000",
        ],
    );
    let mut dashboard = Client::dashboard(&gateway, "me");
    dashboard.subscribe(watch(1, &["truck-1"]));
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let counted = |series: &str| Metrics::of(gateway.control()).value(series);
    let mut quieted_before = 0;
    for round in 1..=3 {
        // At first both are; later the vehicle that spoke is again, while the dashboard never left.
        eventually("the vehicle is quiet", || {
            counted("longhaul_connections_quieted_total") > quieted_before
        });
        eventually("the gateway pings", || {
            counted("longhaul_pings_out_total") > 0
        });
        // Reading answers the pings, which is no reason to leave the quiet.
        truck.drain();
        dashboard.drain();
        quieted_before = counted("longhaul_connections_quieted_total");
        truck.report(fix(round));
        let expected = of(&truck, fix(round));
        assert_eq!(dashboard.position(), ("truck-1".to_owned(), expected));
    }
    let silent = counted("longhaul_connections_closed_total{cause=\"silent\"}");
    assert_eq!(silent, 0);
}
