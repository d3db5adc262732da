//! The table of what a shard counts. One line adds a metric: it becomes a field here and a series on `/metrics`.
#![forbid(unsafe_code)]

use super::family::shard_metrics;

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
        counter "longhaul_upgrades_refused" "Upgrade requests refused, by reason" {
            upgrades_refused_request: reason = "request",
            upgrades_refused_path: reason = "path",
            upgrades_refused_credentials: reason = "credentials",
            upgrades_refused_token: reason = "token",
            upgrades_refused_subprotocol: reason = "subprotocol",
            upgrades_refused_too_large: reason = "too_large",
            upgrades_refused_timeout: reason = "timeout",
            upgrades_refused_limit: reason = "limit",
            upgrades_refused_draining: reason = "draining",
        }
        counter "longhaul_messages_in" "Messages from clients, by kind" {
            messages_in_position: kind = "position",
            messages_in_position_batch: kind = "position_batch",
            messages_in_event: kind = "event",
            messages_in_subscribe: kind = "subscribe",
            messages_in_unsubscribe: kind = "unsubscribe",
            messages_in_command: kind = "command",
            messages_in_other: kind = "other",
        }
        counter "longhaul_received_bytes" "Bytes received from clients" { bytes_in }
        counter "longhaul_sent_bytes" "Bytes sent to clients" { bytes_out }
        counter "longhaul_frames_out" "WebSocket frames sent" { frames_out }
        counter "longhaul_positions_in" "Position fixes taken from vehicles" { positions_in }
        counter "longhaul_positions_stale" "Position fixes older than the one already known" { positions_stale }
        counter "longhaul_positions_out" "Position fixes delivered to dashboards" { positions_out }
        counter "longhaul_matches" "Changed vehicles times the dashboards that watch them" { matches }
        counter "longhaul_events_in" "Events taken from vehicles" { events_in }
        counter "longhaul_errors_out" "Error messages sent to clients" { errors_out }
        counter "longhaul_protocol_errors" "Connections failed for breaking the WebSocket protocol" { protocol_errors }
        counter "longhaul_connections_closed" "Connections closed, by class of close code" {
            closes_normal: code = "normal",
            closes_protocol: code = "protocol",
            closes_retry: code = "retry",
            closes_refused: code = "refused",
            closes_abrupt: code = "abrupt",
            closes_dead: code = "dead",
        }
        counter "longhaul_evicted_slow" "Connections closed because a send made no progress" { evicted_slow }
        counter "longhaul_ring_enobufs" "Receives that found no free buffer and were armed again" { ring_enobufs }
        counter "longhaul_ticks" "Ticks" { ticks }
        counter "longhaul_ticks_empty" "Ticks that found nothing to do" { ticks_empty }
        counter "longhaul_sends" "Sends submitted" { sends }
        counter "longhaul_send_errors" "Sends that failed" { send_errors }
        counter "longhaul_inbox_full" "Batches that found a shard's inbox full" { inbox_full }
        counter "longhaul_exchanged_out" "Changed vehicles handed to other shards" { exchanged_out }
        counter "longhaul_exchanged_in" "Changed vehicles taken from other shards" { exchanged_in }
        gauge "longhaul_subscriptions" "Dashboards that watch something" { subscriptions }
        counter "longhaul_limit_hits" "How often a bound was hit, by the setting in [limits]" {
            limit_hit_connections: limit = "connections_per_shard_max",
            limit_hit_message_bytes: limit = "message_bytes_max",
            limit_hit_frames: limit = "frames_per_message_max",
            limit_hit_vehicles: limit = "vehicles_max",
            limit_hit_fleets: limit = "fleets_max",
            limit_hit_subscription: limit = "subscription_vehicles_max",
            limit_hit_position_batch: limit = "position_batch_max",
            limit_hit_control_queue: limit = "control_queue_max",
            limit_hit_min_interval: limit = "min_interval_ms_max",
            limit_hit_clock_ahead: limit = "clock_ahead_ms_max",
        }
        busy "longhaul_shard_busy_seconds" "Time that a shard spent working, not waiting" { busy_ns }
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
