//! From facts to findings. Pure.

mod machine;
mod network;
mod storage;

use super::facts::Facts;
use super::finding::Finding;
use crate::config::Config;

/// Judges a machine by what these settings ask of it. `shards`: how many there will be.
pub fn judge(config: &Config, shards: u64, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        machine::kernel(facts),
        machine::ring(facts),
        machine::own_table(facts),
        machine::seccomp(facts),
        machine::user(facts),
        machine::locked_memory(facts, shards),
        machine::descriptors(config, facts, shards),
        machine::cores(config, facts, shards),
        machine::clock(facts),
        network::backlog(config, facts),
        network::migration(facts),
        network::ephemeral_ports(config, facts),
        network::privileged_port(config, facts),
        network::kernel_tls(facts),
    ];
    findings.extend(storage::keys(config, facts));
    findings.extend(storage::certificates(config, facts));
    findings.extend(storage::folders(config, facts));
    findings
}

#[cfg(test)]
mod tests;
