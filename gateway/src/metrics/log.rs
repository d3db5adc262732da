//! The table of what the event log counts.
#![forbid(unsafe_code)]

use super::family::shard_metrics;

shard_metrics! {
    /// What the event log counts. Only its thread writes.
    #[derive(Debug, Default)]
    pub struct LogMetrics {
        gauge "longhaul_event_log_writable" "1: the event log takes events; 0: there is none, or it cannot write" { writable }
        counter "longhaul_event_log_events" "Events that became durable" { events }
        counter "longhaul_event_log_commits" "Durable writes, of as many events as had gathered" { commits }
        counter "longhaul_event_log_duplicates" "Events that were sent again and were in the log already" { duplicates }
        counter "longhaul_event_log_refused" "Events that were refused because the log could not write" { events_refused }
        counter "longhaul_event_log_errors" "Durable writes that failed" { errors }
        counter "longhaul_event_log_removed" "Events removed because they were too old or too many" { removed }
        counter "longhaul_event_log_set_aside" "Damaged logs that were set aside" { set_aside }
        gauge "longhaul_event_log_pending" "Events that wait to be written" { pending }
        gauge "longhaul_event_log_free_bytes" "Free bytes of the event log's disk" { free_bytes }
        gauge "longhaul_event_log_consumers" "Durable consumers" { consumers }
        counter "longhaul_event_log_limit_hits" "How often a bound of the event log's thread was hit" {
            limit_hit_letters: limit = "log_letters",
        }
        busy "longhaul_event_log_commit_seconds" "Time that durable writes took" { commit_ns }
    }
}
