//! The table of what the keeper of revocations counts.
#![forbid(unsafe_code)]

use super::family::shard_metrics;

shard_metrics! {
    /// What the keeper of revocations counts. Written under its lock.
    #[derive(Debug, Default)]
    pub struct RevocationMetrics {
        gauge "longhaul_revocations" "Entries of the list of revoked tokens that are in force" { entries }
        gauge "longhaul_revocation_files_broken" "Files of revoked tokens that cannot be used, so that what they said before is in force" { broken }
        counter "longhaul_revocation_file_errors" "States of a file of revoked tokens that could not be used" { errors }
        counter "longhaul_revocation_limit_hits" "Revocations for which there was no room, and letters about them that had to wait" { limit_hits }
    }
}
