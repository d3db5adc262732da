//! The table of what a shard counts. One line adds a metric: it becomes a field here and a series on `/metrics`.
#![forbid(unsafe_code)]

use super::family::shard_metrics;
use crate::session::{penalty::Offence, rejection::Bound};

shard_metrics! {
    /// What one shard counts. Only its thread writes; aligned so that no two shards share a cache line (128 bytes:
    /// processors fetch lines in pairs).
    #[derive(Debug, Default)]
    #[repr(align(128))]
    pub struct ShardMetrics {
        counter "longhaul_connections_accepted" "TCP connections accepted" { connections_accepted }
        gauge "longhaul_connections_open" "Connections that are open, by role" {
            connections_open_vehicle: role = "vehicle",
            connections_open_dashboard: role = "dashboard",
            connections_open_echo: role = "echo",
            connections_open_handshake: role = "handshake",
        }
        counter "longhaul_connections_closed" "Connections closed, by cause" {
            closed_by_peer: cause = "peer",
            closed_abruptly: cause = "abrupt",
            closed_refused: cause = "refused",
            closed_protocol: cause = "protocol",
            closed_wrong_kind: cause = "wrong_kind",
            closed_silent: cause = "silent",
            closed_slow: cause = "slow_consumer",
            closed_expired: cause = "token_expired",
            closed_revoked: cause = "revoked",
            closed_evicted: cause = "evicted",
            closed_taken_over: cause = "taken_over",
            closed_rate_limited: cause = "rate_limit",
            closed_unfinished: cause = "unfinished",
            closed_restarting: cause = "restarting",
            closed_overflow: cause = "overflow",
            closed_tls: cause = "tls",
        }
        counter "longhaul_upgrades_refused" "Upgrade requests refused, by the kind of the HTTP answer" {
            refused_request: reason = "request",
            refused_path: reason = "path",
            refused_unauthorized: reason = "unauthorized",
            refused_timeout: reason = "timeout",
            refused_too_large: reason = "too_large",
            refused_unavailable: reason = "unavailable",
            refused_too_many: reason = "too_many",
            refused_forbidden: reason = "forbidden",
        }
        counter "longhaul_tls_handshakes" "TLS handshakes completed, by kind" {
            tls_full: kind = "full",
            tls_resumed: kind = "resumed",
        }
        counter "longhaul_tls_failures" "TLS sessions that failed, by what failed" {
            tls_failed_handshake: at = "handshake",
            tls_failed_record: at = "record",
        }
        counter "longhaul_offences" "What clients did wrong, by kind; what of it counts against their addresses is in docs/operations.md" {
            offence_token: kind = "token",
            offence_request: kind = "request",
            offence_too_long: kind = "too_long",
            offence_timeout: kind = "timeout",
            offence_tls: kind = "tls",
            offence_proxy: kind = "proxy",
            offence_frames: kind = "frames",
            offence_malformed: kind = "malformed",
            offence_unfinished: kind = "unfinished",
            offence_rate: kind = "rate",
        }
        counter "longhaul_penalties" "Addresses put into the penalty box" { penalties }
        counter "longhaul_penalty_refused" "Connections refused because their address is in the penalty box" { penalty_refused }
        counter "longhaul_proxied_connections" "Connections that a load balancer said whom they are for" { proxied }
        counter "longhaul_messages_in" "Messages from clients, by kind" {
            messages_position: kind = "position",
            messages_position_batch: kind = "position_batch",
            messages_subscribe: kind = "subscribe",
            messages_unsubscribe: kind = "unsubscribe",
            messages_event: kind = "event",
            messages_event_ack: kind = "event_ack",
            messages_command: kind = "command",
            messages_command_result: kind = "command_result",
            messages_authenticate: kind = "authenticate",
            messages_other: kind = "other",
            messages_malformed: kind = "malformed",
        }
        counter "longhaul_received_bytes" "Bytes received from clients" { bytes_in }
        counter "longhaul_sent_bytes" "Bytes sent to clients" { bytes_out }
        counter "longhaul_sends" "Sends submitted to the kernel" { sends }
        counter "longhaul_send_errors" "Sends that failed" { send_errors }
        counter "longhaul_positions_in" "Position fixes taken from vehicles" { positions_in }
        counter "longhaul_positions_stale" "Position fixes not newer than the one already known" { positions_stale }
        counter "longhaul_positions_out" "Position fixes sent to dashboards" { positions_out }
        counter "longhaul_positions_dropped" "Positions dropped because a dashboard that wants each one was too slow" { every_dropped }
        counter "longhaul_presence_out" "Changes of presence sent to dashboards" { presence_out }
        counter "longhaul_events_out" "Events sent to dashboards" { events_out }
        counter "longhaul_events_redelivered" "Events sent to a dashboard that may have got them before" { events_redelivered }
        counter "longhaul_events_dropped" "Events that did not reach a dashboard that was too slow, all of them at most once" { events_dropped }
        counter "longhaul_event_acks_out" "Events with qos 1 whose vehicle was told that they are durable" { event_acks_out }
        counter "longhaul_events_refused" "Events with qos 1 that were refused for now" { events_refused }
        counter "longhaul_event_replays" "Steps of reading old events for dashboards" { event_replays }
        counter "longhaul_event_gaps" "Dashboards that were told that events are missing" { event_gaps }
        counter "longhaul_token_renewals" "Fresh tokens that took the place of a connection's old one" { renewals }
        counter "longhaul_token_renewals_refused" "Fresh tokens that did not" { renewals_refused }
        counter "longhaul_token_warnings" "Connections that were told that their token ends soon" { expiry_warnings }
        gauge "longhaul_vehicles_stale" "Vehicles that are connected and have not reported for connection.stale_after_ms" { vehicles_stale }
        gauge "longhaul_bulk_held_bytes" "Received bytes of long messages that wait for their turn" { bulk_held_bytes }
        gauge "longhaul_storm_shards" "Shards that see a storm of new connections" { storm }
        counter "longhaul_storms" "Storms of new connections seen by a shard" { storms }
        counter "longhaul_drains_out" "Drain messages sent to clients" { drains_out }
        counter "longhaul_matches" "Changed vehicles times the dashboards that watch them" { matches }
        counter "longhaul_subscription_changes" "Filters that a dashboard set, changed or withdrew" { subscriptions }
        counter "longhaul_beyond_grant" "Requests for more than the token grants, by what was asked for" {
            beyond_grant_subscribe: request = "subscribe",
            beyond_grant_command: request = "command",
            beyond_grant_publish: request = "publish",
        }
        counter "longhaul_regrants" "Filters worked out again because a group or a grant changed" { regrants }
        counter "longhaul_errors_out" "Error messages sent to clients" { errors_out }
        counter "longhaul_pings_out" "Pings sent to silent connections" { pings_out }
        counter "longhaul_connections_quieted" "Receives exchanged for a poll because their connection was quiet" { quieted }
        counter "longhaul_ring_enobufs" "Receives that found no free buffer and were armed again" { ring_enobufs }
        counter "longhaul_ticks" "Ticks" { ticks }
        counter "longhaul_ticks_empty" "Ticks that found nothing to do" { ticks_empty }
        counter "longhaul_inbox_full" "Batches that found another shard's inbox full and waited a tick" { inbox_full }
        counter "longhaul_exchanged_out" "Changed vehicles handed to other shards" { exchanged_out }
        counter "longhaul_exchanged_in" "Changed vehicles taken from other shards" { exchanged_in }
        counter "longhaul_limit_hits" "How often a bound was hit, by the setting in [limits]" {
            limit_hit_connections: limit = "connections_max",
            limit_hit_connections_per_shard: limit = "connections_per_shard_max",
            limit_hit_address: limit = "connections_per_address_max",
            limit_hit_identity: limit = "connections_per_identity_max",
            limit_hit_accepts: limit = "accepts_per_second_max",
            limit_hit_handshakes: limit = "handshakes_per_shard_max",
            limit_hit_messages: limit = "messages_per_second_max",
            limit_hit_bytes: limit = "bytes_per_second_max",
            limit_hit_registry: limit = "vehicles_max",
            limit_hit_groups: limit = "groups_max",
            limit_hit_subscription_groups: limit = "subscription_groups",
            limit_hit_subscription: limit = "subscription_vehicles_max",
            limit_hit_position_batch: limit = "position_batch_max",
            limit_hit_control_queue: limit = "control_queue_max",
            limit_hit_requests: limit = "requests_in_flight",
            limit_hit_taken_over: limit = "taken_over_backlog",
            limit_hit_topics: limit = "topics",
            limit_hit_min_interval: limit = "min_interval_ms_max",
            limit_hit_vehicle_id: limit = "vehicle_id_bytes_max",
            limit_hit_clock_ahead: limit = "clock_ahead_ms_max",
            limit_hit_event_payload: limit = "event_payload_bytes_max",
            limit_hit_event_window: limit = "event_window",
            limit_hit_events_pending: limit = "events_pending_max",
            limit_hit_event_queue: limit = "event_queue_bytes_max",
            limit_hit_consumers: limit = "consumers_max",
            limit_hit_command_news: limit = "command_news",
            limit_hit_message_bytes: limit = "message_bytes_max",
            limit_hit_frames: limit = "frames_per_message_max",
            limit_hit_header: limit = "header_bytes_max",
            limit_hit_renewals: limit = "renewals_per_minute",
            limit_hit_handshake_time: limit = "handshake_timeout_ms",
            limit_hit_message_time: limit = "message_timeout_ms",
            limit_hit_bulk_time: limit = "bulk_time",
            limit_hit_bulk_bytes: limit = "bulk_held_bytes",
        }
        busy "longhaul_shard_busy_seconds" "Time that a shard spent working, not waiting" { busy_ns }
    }
}

impl ShardMetrics {
    /// Counts what a client did wrong.
    pub fn offence(&self, offence: Offence) {
        match offence {
            Offence::Token => self.offence_token.inc(),
            Offence::Request => self.offence_request.inc(),
            Offence::TooLong => self.offence_too_long.inc(),
            Offence::Timeout => self.offence_timeout.inc(),
            Offence::Tls => self.offence_tls.inc(),
            Offence::Proxy => self.offence_proxy.inc(),
            Offence::Frames => self.offence_frames.inc(),
            Offence::Malformed => self.offence_malformed.inc(),
            Offence::Unfinished => self.offence_unfinished.inc(),
            Offence::Rate => self.offence_rate.inc(),
        }
    }

    /// Counts a message that was over a limit.
    pub fn hit(&self, bound: Bound) {
        match bound {
            Bound::MinInterval => self.limit_hit_min_interval.inc(),
            Bound::SubscriptionVehicles => self.limit_hit_subscription.inc(),
            Bound::VehicleIdBytes => self.limit_hit_vehicle_id.inc(),
            Bound::Topics => self.limit_hit_topics.inc(),
            Bound::PositionBatch => self.limit_hit_position_batch.inc(),
            Bound::EventPayload => self.limit_hit_event_payload.inc(),
            Bound::EventWindow => self.limit_hit_event_window.inc(),
            Bound::EventsPending => self.limit_hit_events_pending.inc(),
            Bound::CommandNews => self.limit_hit_command_news.inc(),
            Bound::Consumers => self.limit_hit_consumers.inc(),
            Bound::ClockAhead => self.limit_hit_clock_ahead.inc(),
            Bound::Vehicles => self.limit_hit_registry.inc(),
            Bound::Groups => self.limit_hit_groups.inc(),
            Bound::SubscriptionGroups => self.limit_hit_subscription_groups.inc(),
            Bound::Renewals => self.limit_hit_renewals.inc(),
            Bound::Requests => self.limit_hit_requests.inc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_share_no_cache_line() {
        assert_eq!(align_of::<ShardMetrics>(), 128);
        assert_eq!(size_of::<ShardMetrics>() % 128, 0);
    }
}
