//! The table of what the keeper of keys counts.
#![forbid(unsafe_code)]

use super::family::shard_metrics;

shard_metrics! {
    /// What the keeper of keys counts. Written under its lock only.
    #[derive(Debug, Default)]
    pub struct KeyMetrics {
        gauge "longhaul_keys" "Keys that tokens are checked with, by where they come from" {
            keys_file: from = "file",
            keys_url: from = "url",
        }
        gauge "longhaul_key_sets_fetched_timestamp_seconds" "When the set of keys of a URL that is oldest was fetched; 0: one never was, or there is none" { fetched_unix }
        counter "longhaul_key_set_fetches" "Sets of keys that were fetched" { fetches }
        counter "longhaul_key_set_fetches_failed" "Sets of keys that could not be fetched" { fetches_failed }
    }
}
