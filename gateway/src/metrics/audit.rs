//! The table of what the audit log counts.
#![forbid(unsafe_code)]

use super::family::shard_metrics;

shard_metrics! {
    /// What the audit log counts. Only its thread writes.
    #[derive(Debug, Default)]
    pub struct AuditMetrics {
        gauge "longhaul_audit_writable" "1: the audit log takes acts; 0: there is none, or it cannot be written" { writable }
        counter "longhaul_audit_acts" "Acts taken from the queue to be written" { acts }
        counter "longhaul_audit_dropped" "Acts that are not in the audit log because more came than could be written" { dropped }
        counter "longhaul_audit_refusals_left_out" "Refusals of strangers that are in the audit log as a number only" { refusals_left_out }
        counter "longhaul_audit_repeats_left_out" "Refusals and questions of known users that are in the audit log as a number only" { repeats_left_out }
        counter "longhaul_audit_errors" "Attempts to write, open or rotate the audit log that failed" { errors }
        counter "longhaul_audit_rotations" "Audit logs that were set aside" { rotations }
        gauge "longhaul_audit_waiting" "Acts that wait to be written" { waiting }
    }
}
