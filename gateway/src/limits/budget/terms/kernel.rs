//! What the kernel holds for it, as measured with `longhaul-bench idle --bare` on Linux 6.18 (x86-64).

use super::{NOTHING, Sheet, size};
use crate::{
    limits::budget::{Load, Part},
    shard::footprint as shard,
};

/// A connected TCP socket with its descriptor and file.
const SOCKET_BYTES: u64 = 4_050;
/// A multishot receive that is armed.
const RECEIVE_BYTES: u64 = 864;
/// A poll that is armed in place of it.
const POLL_BYTES: u64 = 256;

impl Sheet<'_> {
    pub(super) fn kernel(&mut self) {
        let part = Part::Kernel;
        let Load {
            connections,
            dashboards,
            shards,
        } = self.load;
        let refusals = self.refusals();
        let backlog = u64::from(self.config.server.backlog).saturating_mul(shards);
        self.add(
            part,
            "sockets",
            (connections, SOCKET_BYTES),
            (
                connections.saturating_add(refusals),
                SOCKET_BYTES,
            ),
            "a TCP connection with its descriptor, as measured; what it buffers is net.ipv4.tcp_mem's to bound",
        );
        self.add(
            part,
            "armed receives",
            (self.load.vehicles(), RECEIVE_BYTES),
            (
                connections.saturating_add(refusals),
                RECEIVE_BYTES,
            ),
            "connections that are heard more often than every connection.quiet_after_ms, as measured",
        );
        self.add(
            part,
            "armed polls",
            (dashboards, POLL_BYTES),
            NOTHING,
            "connections that are silent for longer, in place of a receive, as measured",
        );
        self.add(
            part,
            "to be accepted",
            NOTHING,
            (backlog, SOCKET_BYTES),
            "server.backlog per shard",
        );
        let rings = (shards, size(shard::RING));
        self.add(
            part,
            "rings",
            rings,
            rings,
            "io_uring's queues, one pair per shard",
        );
    }
}
