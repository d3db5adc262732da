//! The table of what the keeper of state counts.
#![forbid(unsafe_code)]

use super::family::shard_metrics;

shard_metrics! {
    /// What the keeper of state counts. Only its thread writes.
    #[derive(Debug, Default)]
    pub struct StateMetrics {
        gauge "longhaul_state_restored_positions" "Positions that were known when this process began, from state files" { restored }
        counter "longhaul_state_snapshots" "Snapshots of the last positions that were written" { snapshots }
        gauge "longhaul_state_snapshot_vehicles" "Vehicles in the last snapshot that was written" { snapshot_vehicles }
        gauge "longhaul_state_snapshot_time_seconds" "When the last snapshot was written, in seconds since the Unix epoch; 0: never" {
            snapshot_time_s
        }
        counter "longhaul_state_errors" "State files that could not be written" { errors }
        counter "longhaul_state_files_refused" "State files that were damaged or of another version, and set aside" { files_refused }
        counter "longhaul_state_handovers" "Handover files written while draining" { handovers }
        counter "longhaul_state_handover_positions" "Positions taken from the handover files of other processes" { handover_positions }
        counter "longhaul_state_vehicles_skipped" "Vehicles in state files that the limits of this node left no room for" { skipped }
    }
}
