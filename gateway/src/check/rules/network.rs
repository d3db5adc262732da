//! What the kernel's network settings do to a gateway.

use std::net::SocketAddr;

use crate::check::facts::Facts;
use crate::check::finding::Finding;
use crate::config::Config;

/// `CAP_NET_BIND_SERVICE`.
const BIND_SERVICE: u64 = 1 << 10;

pub fn backlog(config: &Config, facts: &Facts) -> Finding {
    let wanted = u64::from(config.server.backlog);
    match facts.somaxconn {
        Some(max) if max < wanted => Finding::warn(
            "backlog",
            format!(
                "net.core.somaxconn = {max} caps server.backlog = {wanted}: a storm of connections finds less room"
            ),
            format!("sysctl -w net.core.somaxconn={wanted}"),
        ),
        Some(_) => Finding::ok(
            "backlog",
            format!("{wanted} connections may wait per shard"),
        ),
        None => Finding::ok("backlog", "net.core.somaxconn cannot be read here"),
    }
}

pub fn migration(facts: &Facts) -> Finding {
    match facts.tcp_migrate_req {
        Some(1) => Finding::ok("tcp_migrate_req", "on"),
        found => Finding::warn(
            "tcp_migrate_req",
            match found {
                Some(_) => {
                    "off: in a rolling restart, connections that wait to be accepted are reset"
                }
                None => {
                    "cannot be read here (Linux 5.14 has it): a rolling restart may reset connections"
                }
            },
            "sysctl -w net.ipv4.tcp_migrate_req=1",
        ),
    }
}

/// The kernel may give a listener's port to somebody's outgoing connection while no gateway listens.
pub fn ephemeral_ports(config: &Config, facts: &Facts) -> Finding {
    let Some((first, last)) = facts.ephemeral_ports else {
        return Finding::ok("ephemeral ports", "cannot be read here");
    };
    let is_reserved = |port| {
        facts
            .reserved_ports
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&port))
    };
    let taken: Vec<String> = listeners(config)
        .into_iter()
        .map(|(_, address)| address.port())
        .filter(|port| (first..=last).contains(port) && !is_reserved(*port))
        .map(|port| port.to_string())
        .collect();
    if taken.is_empty() {
        return Finding::ok("ephemeral ports", format!("{first} to {last}"));
    }
    let ports = taken.join(",");
    Finding::warn(
        "ephemeral ports",
        format!(
            "{ports} may be given to an outgoing connection of this machine ({first} to {last}), and is then not free at the next start"
        ),
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={ports}, or listen below {first}"),
    )
}

pub fn privileged_port(config: &Config, facts: &Facts) -> Finding {
    let from = facts.unprivileged_port_start.unwrap_or(1_024);
    let may = facts
        .capabilities
        .is_none_or(|bits| bits & BIND_SERVICE != 0);
    let low = listeners(config)
        .into_iter()
        .find(|(_, address)| address.port() != 0 && u64::from(address.port()) < from);
    match low {
        Some((setting, address)) if !may => Finding::missing(
            "port",
            format!(
                "{setting} = \"{address}\" is below {from}, and this user may not listen there"
            ),
            "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or another port",
        ),
        _ => Finding::ok("port", format!("{}", config.server.listen)),
    }
}

/// Said, so that nobody looks for a gain that is not there.
pub fn kernel_tls(facts: &Facts) -> Finding {
    Finding::ok(
        "kernel TLS",
        if facts.kernel_tls {
            "the kernel has it; it is not used, sessions stay in the gateway"
        } else {
            "the kernel does not have it; it is not needed"
        },
    )
}

fn listeners(config: &Config) -> [(&'static str, SocketAddr); 2] {
    [
        ("server.listen", config.server.listen),
        ("control.listen", config.control.listen),
    ]
}
