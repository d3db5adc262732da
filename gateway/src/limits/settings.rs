//! What may be set: the keys of `[limits]`, each with its default and how far it goes.

use confique::Config;

use super::{
    COMMAND_PAYLOAD_BYTES_HARD_MAX, COMMAND_TTL_MS_HARD_MAX, COMMANDS_BYTES_HARD_MAX,
    COMMANDS_BYTES_HARD_MIN, COMMANDS_HARD_MAX, COMMANDS_PER_VEHICLE_HARD_MAX,
    CONNECTIONS_HARD_MAX, CONNECTIONS_PER_SHARD_HARD_MAX, DESCRIPTORS_RESERVED,
    ECHO_FRAMES_PER_MESSAGE_HARD_MAX, ECHO_MESSAGE_BYTES_HARD_MAX, EVENT_WINDOW_HARD_MAX,
    FLEET_ID_BYTES_HARD_MAX, FRAMES_PER_MESSAGE_HARD_MAX, MESSAGE_BYTES_HARD_MAX,
    MESSAGE_BYTES_HARD_MIN, POSITION_BATCH_HARD_MAX, POSITIONS_PER_FRAME_HARD_MAX,
    REFUSALS_IN_FLIGHT_MAX, REVOCATIONS_HARD_MAX, VEHICLE_ID_BYTES_HARD_MAX, VEHICLES_HARD_MAX,
};
use crate::config::rules::within;

/// Bounds. What goes over one is refused or closed, and the peer is told why where that is possible.
#[derive(Debug, Clone, PartialEq, Config)]
#[config(layer_attr(serde(deny_unknown_fields)))]
pub struct Limits {
    /// Connections of this node, over all shards. A further one gets 503.
    /// Allowed: 1 to 1024000000.
    #[config(default = 16_000_000, validate = within::<1, CONNECTIONS_HARD_MAX>)]
    pub connections_max: u64,

    /// Connections per shard. The process's descriptor limit (RLIMIT_NOFILE) bounds them as well.
    /// Allowed: 1 to 16000000.
    #[config(default = 1_000_000, validate = within::<1, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub connections_per_shard_max: usize,

    /// Connections from one address (IPv6: one /64). A further one gets 429. 0: no limit, because mobile networks put
    /// whole fleets behind one address.
    /// Allowed: 0 to 16000000.
    #[config(default = 0, validate = within::<0, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub connections_per_address_max: u32,

    /// Connections of one dashboard user (token subject), tabs and devices together. A further one gets 429. A vehicle
    /// has one connection: a newer one takes over.
    /// Allowed: 1 to 16000000.
    #[config(default = 100, validate = within::<1, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub connections_per_identity_max: u32,

    /// New connections per second and shard, after a burst of a second's worth. Over it, an upgrade gets 503 with a
    /// Retry-After. 0: no limit.
    /// Allowed: 0 to 1000000.
    #[config(default = 5_000, validate = within::<0, 1_000_000>)]
    pub accepts_per_second_max: u32,

    /// Connections per shard whose upgrade request has not been answered; each may hold twice header_bytes_max and
    /// some 8 KiB. A further one gets 503.
    /// Allowed: 1 to 16000000.
    #[config(default = 8_192, validate = within::<1, CONNECTIONS_PER_SHARD_HARD_MAX>)]
    pub handshakes_per_shard_max: u64,

    /// Messages per second from one connection, pings among them. 0: no limit.
    /// Allowed: 0 to 1000000.
    #[config(default = 100, validate = within::<0, 1_000_000>)]
    pub messages_per_second_max: u32,

    /// Messages that one connection may send at once before that rate holds. Over it, a message is refused with an
    /// Error; over twice as many, the connection is closed.
    /// Allowed: 1 to 1000000.
    #[config(default = 1_000, validate = within::<1, 1_000_000>)]
    pub messages_burst: u32,

    /// Bytes per second from one connection. 0: no limit.
    /// Allowed: 0 to 1073741824.
    #[config(default = 262_144, validate = within::<0, 1_073_741_824>)]
    pub bytes_per_second_max: u32,

    /// Bytes that one connection may send at once before that rate holds. Over it, it is warned with an Error; over
    /// twice as many, it is closed. At least message_bytes_max.
    /// Allowed: 4096 to 1073741824.
    #[config(default = 2_097_152, validate = within::<MESSAGE_BYTES_HARD_MIN, 1_073_741_824>)]
    pub bytes_burst: u32,

    /// Bytes of an upgrade request: request line and headers, the token among them.
    /// Allowed: 1024 to 65536.
    #[config(default = 8_192, validate = within::<1_024, 65_536>)]
    pub header_bytes_max: usize,

    /// Bytes of one message from a client.
    /// Allowed: 4096 to 16777216.
    #[config(default = 65_536, validate = within::<MESSAGE_BYTES_HARD_MIN, MESSAGE_BYTES_HARD_MAX>)]
    pub message_bytes_max: usize,

    /// Frames that one message may be split into.
    /// Allowed: 1 to 65536.
    #[config(default = 1_024, validate = within::<1, FRAMES_PER_MESSAGE_HARD_MAX>)]
    pub frames_per_message_max: usize,

    /// Bytes of one message at the echo endpoint, which exists with --dev only. At least message_bytes_max.
    /// Allowed: 4096 to 67108864.
    #[config(default = 20_000_000, validate = within::<MESSAGE_BYTES_HARD_MIN, ECHO_MESSAGE_BYTES_HARD_MAX>)]
    pub echo_message_bytes_max: usize,

    /// Frames per message at the echo endpoint. At least frames_per_message_max.
    /// Allowed: 1 to 1048576.
    #[config(default = 131_072, validate = within::<1, ECHO_FRAMES_PER_MESSAGE_HARD_MAX>)]
    pub echo_frames_per_message_max: usize,

    /// Vehicles that this node knows, connected or not, over all fleets.
    /// Allowed: 1 to 16000000.
    #[config(default = 2_000_000, validate = within::<1, VEHICLES_HARD_MAX>)]
    pub vehicles_max: u32,

    /// Vehicle ids that dashboards asked for and that never connected, over all fleets: made-up ids cannot keep vehicles
    /// out. One user may have as many as are left for all others: at most half.
    /// Allowed: 1 to 16000000.
    #[config(default = 200_000, validate = within::<1, VEHICLES_HARD_MAX>)]
    pub unseen_vehicles_max: u32,

    /// Fleets that this node knows.
    /// Allowed: 1 to 65535.
    #[config(default = 1_024, validate = within::<1, 65_535>)]
    pub fleets_max: u32,

    /// Groups of vehicles that this node knows, over all fleets.
    /// Allowed: 1 to 1000000.
    #[config(default = 20_000, validate = within::<1, 1_000_000>)]
    pub groups_max: u32,

    /// Groups of one fleet. At most half of them may be names that a dashboard asked for and that no vehicle has.
    /// Allowed: 2 to 1000000.
    #[config(default = 4_096, validate = within::<2, 1_000_000>)]
    pub groups_per_fleet_max: u32,

    /// Vehicles in groups, over all groups: one that is in three counts three times.
    /// Allowed: 1 to 100000000.
    #[config(default = 8_000_000, validate = within::<1, 100_000_000>)]
    pub group_memberships_max: u64,

    /// Bytes of a vehicle's id, and of any other token subject.
    /// Allowed: 1 to 255.
    #[config(default = 128, validate = within::<1, VEHICLE_ID_BYTES_HARD_MAX>)]
    pub vehicle_id_bytes_max: usize,

    /// Bytes of a fleet's id.
    /// Allowed: 1 to 255.
    #[config(default = 64, validate = within::<1, FLEET_ID_BYTES_HARD_MAX>)]
    pub fleet_id_bytes_max: usize,

    /// Vehicles that one dashboard may list by id. Watching the whole fleet does not count. At most vehicles_max.
    /// Allowed: 1 to 16000000.
    #[config(default = 100_000, validate = within::<1, VEHICLES_HARD_MAX>)]
    pub subscription_vehicles_max: u32,

    /// Fixes in one PositionBatch. They must fit message_bytes_max, at 24 bytes each.
    /// Allowed: 1 to 8192.
    #[config(default = 256, validate = within::<1, POSITION_BATCH_HARD_MAX>)]
    pub position_batch_max: usize,

    /// Fixes in one Positions message to a dashboard; what is left over goes into the next.
    /// Allowed: 1 to 65536.
    #[config(default = 2_000, validate = within::<1, POSITIONS_PER_FRAME_HARD_MAX>)]
    pub positions_per_frame_max: usize,

    /// Batches that wait in a shard's inbox for it to take them.
    /// Allowed: 16 to 65536.
    #[config(default = 1_024, validate = within::<16, 65_536>)]
    pub inbox_batches_max: usize,

    /// Control frames and answers that wait for one connection's socket.
    /// Allowed: 4 to 65536.
    #[config(default = 1_024, validate = within::<4, 65_536>)]
    pub control_queue_max: usize,

    /// Bytes of them. Room for the names of everything that one dashboard may list.
    /// Allowed: 65536 to 1073741824.
    #[config(default = 16_777_216, validate = within::<65_536, 1_073_741_824>)]
    pub control_queue_bytes_max: usize,

    /// Bytes of positions that wait for one dashboard with delivery Every; beyond, the oldest is dropped.
    /// Allowed: 4096 to 1073741824.
    #[config(default = 1_048_576, validate = within::<4_096, 1_073_741_824>)]
    pub every_queue_bytes_max: usize,

    /// Largest min_interval_ms that a subscription may ask for.
    /// Allowed: 0 to 3600000.
    #[config(default = 60_000, validate = within::<0, 3_600_000>)]
    pub min_interval_ms_max: u32,

    /// Bytes of one event's payload. It must fit message_bytes_max.
    /// Allowed: 1 to 1048576.
    #[config(default = 16_384, validate = within::<1, 1_048_576>)]
    pub event_payload_bytes_max: usize,

    /// Events with qos 1 of one vehicle that may wait for their Ack; told to it in Welcome.
    /// Allowed: 1 to 32.
    #[config(default = 32, validate = within::<1, EVENT_WINDOW_HARD_MAX>)]
    pub event_window: u32,

    /// Events with qos 1 that wait to be written, over all shards. A further one is refused, and its vehicle comes back
    /// with it.
    /// Allowed: 1 to 10000000.
    #[config(default = 100_000, validate = within::<1, 10_000_000>)]
    pub events_pending_max: usize,

    /// Bytes of them.
    /// Allowed: 65536 to 1073741824.
    #[config(default = 67_108_864, validate = within::<65_536, 1_073_741_824>)]
    pub events_pending_bytes_max: usize,

    /// Events with qos 1 that may be sent to one dashboard and not acknowledged by it; told to it in Welcome.
    /// Allowed: 1 to 65536.
    #[config(default = 256, validate = within::<1, 65_536>)]
    pub events_in_flight_max: u32,

    /// Bytes of events that wait for one dashboard's socket; beyond, those with qos 0 are dropped and the others wait
    /// in the log.
    /// Allowed: 65536 to 1073741824.
    #[config(default = 1_048_576, validate = within::<65_536, 1_073_741_824>)]
    pub event_queue_bytes_max: usize,

    /// Durable consumers of this node, over all fleets.
    /// Allowed: 0 to 1000000.
    #[config(default = 10_000, validate = within::<0, 1_000_000>)]
    pub consumers_max: usize,

    /// Durable consumers of one user of a fleet.
    /// Allowed: 0 to 1000000.
    #[config(default = 100, validate = within::<0, 1_000_000>)]
    pub consumers_per_user_max: usize,

    /// Milliseconds that a fix's time may lie ahead of the gateway's clock.
    /// Allowed: 0 to 86400000.
    #[config(default = 300_000, validate = within::<0, 86_400_000>)]
    pub clock_ahead_ms_max: u64,

    /// Commands that wait for one vehicle, or for its results. A further one is refused.
    /// Allowed: 1 to 4096.
    #[config(default = 64, validate = within::<1, COMMANDS_PER_VEHICLE_HARD_MAX>)]
    pub commands_per_vehicle_max: usize,

    /// Commands that this node keeps: those that wait, and results that are kept for their users. Results make room for
    /// commands, the oldest first; if only waiting ones are left, a further one is refused.
    /// Allowed: 1 to 16000000.
    #[config(default = 100_000, validate = within::<1, COMMANDS_HARD_MAX>)]
    pub commands_max: usize,

    /// Bytes of their payloads and texts, by the same rule.
    /// Allowed: 2097152 to 17179869184.
    #[config(default = 67_108_864, validate = within::<COMMANDS_BYTES_HARD_MIN, COMMANDS_BYTES_HARD_MAX>)]
    pub commands_bytes_max: u64,

    /// Bytes of the payload of one command, and of its result.
    /// Allowed: 0 to 1048576.
    #[config(default = 16_384, validate = within::<0, COMMAND_PAYLOAD_BYTES_HARD_MAX>)]
    pub command_payload_bytes_max: usize,

    /// Largest ttl_ms that a command may have: how long it waits for its vehicle.
    /// Allowed: 1 to 2592000000.
    #[config(default = 86_400_000, validate = within::<1, COMMAND_TTL_MS_HARD_MAX>)]
    pub command_ttl_ms_max: u32,

    /// Entries of the list of revoked tokens, from the file of auth.revocations and from calls together. A further one is
    /// refused.
    /// Allowed: 1 to 100000.
    #[config(default = 10_000, validate = within::<1, REVOCATIONS_HARD_MAX>)]
    pub revocations_max: usize,

    /// Acts that wait to be written to the audit log. A further one is counted and lost.
    /// Allowed: 16 to 1048576.
    #[config(default = 16_384, validate = within::<16, 1_048_576>)]
    pub audit_queue_max: usize,

    /// Refused connections per second, of peers without a good token, that get a line each in the audit log; what is
    /// over it is there as a number, so that strangers cannot wash away what others did. 0: no limit.
    /// Allowed: 0 to 1000000.
    #[config(default = 100, validate = within::<0, 1_000_000>)]
    pub audit_refusals_per_second_max: u32,
}

impl Limits {
    /// How many connections a shard with a descriptor table of its own may hold, given the descriptors that
    /// [`super::raise_descriptor_limit`] found. At least 1, so that a tiny limit shows as refusals and not as a panic.
    pub fn connections_per_shard(&self, descriptors: u64) -> usize {
        let kept = DESCRIPTORS_RESERVED + REFUSALS_IN_FLIGHT_MAX as u64;
        let free = descriptors.saturating_sub(kept).max(1);
        self.connections_per_shard_max
            .min(usize::try_from(free).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use confique::Layer;

    use super::*;

    fn defaults() -> Limits {
        Limits::from_layer(<Limits as Config>::Layer::default_values())
            .expect("the defaults are complete")
    }

    #[test]
    fn connections_follow_the_smaller_of_setting_and_descriptors() {
        let mut limits = defaults();
        for (setting, descriptors, expected) in [
            (1_000_000, 20_000, 20_000 - 1_280),
            (1_000, 20_000, 1_000),
            (1_000_000, 10, 1),
            (1_000_000, u64::MAX, 1_000_000),
        ] {
            limits.connections_per_shard_max = setting;
            assert_eq!(
                limits.connections_per_shard(descriptors),
                expected,
                "{setting} {descriptors}"
            );
        }
    }
}
