//! What the integration tests share: a gateway of their own each, clients, and the tools that `scripts/test` installs.
//!
//! - [`gateway`]: starts the real binary on free ports, reads its log, mints tokens, stops it
//! - [`client`]: a WebSocket client that speaks either subprotocol
//! - [`elsewhere`]: a network namespace of the test's own
//! - [`http`]: raw requests to the gateway and to its control plane
//! - [`secure`]: the same over TLS, with certificates of the test's own
//! - [`foreign`]: other people's clients, driven by lines on their standard input and output
//! - [`tools`]: where the foreign tools are
//!
//! Nothing waits for longer than [`PATIENCE`], and no outcome depends on how long something took.
#![allow(
    dead_code,
    reason = "every test binary has this module and uses its part of it"
)]

use std::time::{Duration, Instant};

pub mod client;
pub mod elsewhere;
pub mod foreign;
pub mod gateway;
pub mod http;
pub mod secure;
pub mod tools;

/// How long anything may take before a test gives up: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is yes: for what the gateway does on its own, such as noticing that a client is gone.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !holds() {
        assert!(
            asked.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
