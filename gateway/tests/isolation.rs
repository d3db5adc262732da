//! Fleets see nothing of each other, whatever their clients do.

use longhaul_codec::{Encoder, Message};
use tungstenite::Message as Frame;

use crate::common::client::{Client, fix, watch, watch_all};
use crate::common::gateway::Gateway;

mod common;

/// A dashboard that asks and asks without waiting is refused or cut off, and leaves nothing behind for whoever gets its
/// place: not its filter, and not a position of its fleet.
#[test]
fn a_dashboard_that_was_cut_off_leaves_no_filter_behind() {
    let gateway = Gateway::start_with(1, &["--set", "limits.control_queue_max=8"]);
    let mut encoder = Encoder::new();
    for round in 0..20 {
        let mut greedy = Client::dashboard(&gateway, "greedy");
        for request in 0..200 {
            let wish = Message::from(watch(request, &["truck-1"]));
            greedy.send_frame(Frame::binary(encoder.message(&wish).payload().to_vec()));
        }
        // Some answers, then 4008, or all of them if the gateway was quick: either way it goes.
        drop(greedy);

        let token = gateway.token("dashboard", "another-fleet", "me");
        let mut stranger = Client::connect(&gateway, &token);
        let mut truck = Client::vehicle(&gateway, "truck-1");
        truck.report(fix(round + 1));
        let mut own = Client::dashboard(&gateway, "own");
        own.subscribe(watch_all(1));
        assert_eq!(own.position().0, "truck-1", "the report has gone through");
        let said = stranger.drain();
        assert!(
            said.is_empty(),
            "round {round}: another fleet's dashboard was told {said:?}"
        );
        let ack = stranger.subscribe(watch(1, &["truck-1"]));
        assert_eq!(ack.watching, 1, "its own truck-1, and nothing else");
        let said = stranger.drain();
        assert!(said.is_empty(), "round {round}: {said:?}");
    }
}
