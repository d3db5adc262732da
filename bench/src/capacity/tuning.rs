//! What must be set on each node for a plan: limits of the gateway, of its unit, and of the kernel.

use serde::Serialize;

use super::model::{NodeKind, Plan};

/// Room for an uneven spread of connections over nodes and shards.
const UNEVEN: f64 = 1.25;
/// Defaults of the gateway, of the unit in `tuning/`, and of the kernel.
const CONNECTIONS_PER_SHARD: u64 = 1_000_000;
const VEHICLES: u64 = 2_000_000;
const NR_OPEN: u64 = 1 << 20;
const BACKLOG: u64 = 4_096;
/// Descriptors of a shard that are no connections (`DESCRIPTORS_RESERVED` of the gateway).
const RESERVED: u64 = 256;

/// A setting, and what for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Where it is set.
    pub at: &'static str,
    pub name: &'static str,
    pub value: String,
    pub why: String,
}

/// The settings for nodes of `plan`.
pub fn of(plan: &Plan, kind: &NodeKind) -> Vec<Setting> {
    let connections = (plan.connections_per_node * UNEVEN).ceil() as u64;
    let shards = u64::from(kind.shards());
    let per_shard = connections.div_ceil(shards);
    let descriptors = (per_shard + RESERVED).next_power_of_two().max(NR_OPEN);
    let known = known_vehicles(plan);
    let mut settings = Vec::new();
    let mut set = |at, name, value: String, why: String| {
        settings.push(Setting {
            at,
            name,
            value,
            why,
        });
    };
    let gateway = "longhaul.toml";
    set(
        gateway,
        "server.shards",
        shards.to_string(),
        "one for each core".to_owned(),
    );
    set(
        gateway,
        "limits.connections_max",
        connections.to_string(),
        format!(
            "{:.0} that are planned, and a quarter for an uneven spread; further ones are told to go elsewhere",
            plan.connections_per_node
        ),
    );
    if per_shard > CONNECTIONS_PER_SHARD {
        set(
            gateway,
            "limits.connections_per_shard_max",
            per_shard.to_string(),
            format!("its default is {CONNECTIONS_PER_SHARD}"),
        );
    }
    if known > VEHICLES {
        set(
            gateway,
            "limits.vehicles_max",
            known.to_string(),
            format!("its default is {VEHICLES}; a node knows its own and those that it hears of"),
        );
    }
    let unit = "longhaul@.service";
    set(
        unit,
        "LimitNOFILE",
        descriptors.to_string(),
        format!("each shard has a table of its own, for {per_shard} connections"),
    );
    set(
        unit,
        "LimitMEMLOCK",
        "256M".to_owned(),
        "about 1 MiB of registered buffers for each shard".to_owned(),
    );
    let sysctl = "sysctl";
    if descriptors > NR_OPEN {
        set(
            sysctl,
            "fs.nr_open",
            descriptors.to_string(),
            "LimitNOFILE must not be above it".to_owned(),
        );
    }
    set(
        sysctl,
        "fs.file-max",
        (connections + connections / 10 + 65_536).to_string(),
        "of the whole machine; leave it if it is higher already".to_owned(),
    );
    set(
        sysctl,
        "net.core.somaxconn",
        BACKLOG.to_string(),
        "it caps server.backlog, where a storm of connections waits".to_owned(),
    );
    set(
        sysctl,
        "net.ipv4.tcp_migrate_req",
        "1".to_owned(),
        "a rolling restart resets no connection".to_owned(),
    );
    set(
        sysctl,
        "net.netfilter.nf_conntrack_max",
        (connections * 2).to_string(),
        "if a firewall tracks connections at all; better: notrack for the gateway's port"
            .to_owned(),
    );
    settings
}

/// Vehicles that a node knows: its own, and those of others that somebody on it watches.
fn known_vehicles(plan: &Plan) -> u64 {
    let of = |name: &str| {
        let term = plan.terms.iter().find(|term| term.name == name);
        term.map_or(0.0, |term| term.count)
    };
    let known = of("vehicles") + of("vehicles of other nodes, at most");
    (known * UNEVEN).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capacity::coefficients::Coefficients;
    use crate::capacity::model::plan;
    use crate::capacity::properties::{fleet, node};

    fn settings(vehicles: u64, cores: u32) -> Vec<Setting> {
        let (coefficients, _) = Coefficients::built_in().unwrap();
        let kind = NodeKind {
            cores,
            memory_bytes: 1e13,
            nic_bits_per_second: 1e13,
            headroom: 0.0,
            spares: 0,
        };
        let mut fleet = fleet(vehicles, 10);
        fleet.interval_seconds = 22.0;
        of(&plan(&fleet, &kind, &coefficients).unwrap(), &kind)
    }

    fn value(settings: &[Setting], name: &str) -> Option<u64> {
        settings
            .iter()
            .find(|set| set.name == name)?
            .value
            .parse()
            .ok()
    }

    #[test]
    fn defaults_that_suffice_are_left_alone() {
        let few = settings(100_000, 4);
        assert_eq!(value(&few, "server.shards"), Some(4));
        assert_eq!(value(&few, "LimitNOFILE"), Some(NR_OPEN));
        for name in [
            "limits.vehicles_max",
            "limits.connections_per_shard_max",
            "fs.nr_open",
        ] {
            assert_eq!(value(&few, name), None, "{name}");
        }
    }

    #[test]
    fn a_great_node_needs_more_of_everything() {
        let many = settings(5_000_000, 4);
        assert!(value(&many, "limits.vehicles_max") >= Some(5_000_000));
        assert!(value(&many, "limits.connections_per_shard_max") >= Some(1_250_000));
        assert!(value(&many, "LimitNOFILE") > Some(NR_OPEN));
        assert_eq!(value(&many, "fs.nr_open"), value(&many, "LimitNOFILE"));
    }

    #[test]
    fn the_names_of_terms_are_those_that_are_looked_up() {
        let (coefficients, _) = Coefficients::built_in().unwrap();
        let plan = plan(&fleet(1_000_000, 10_000), &node(), &coefficients).unwrap();
        assert!(known_vehicles(&plan) as f64 > plan.connections_per_node);
    }
}
