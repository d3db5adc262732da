//! Which figures results may have.

use super::Better;

/// A figure that results may have.
pub struct Known {
    /// JSON pointer, in which `*` stands for each element of a list or each entry of an object.
    pub pointer: &'static str,
    /// For people.
    pub name: &'static str,
    /// Of the value.
    pub unit: &'static str,
    /// Which way is better.
    pub better: Better,
}

const fn lower(pointer: &'static str, name: &'static str, unit: &'static str) -> Known {
    Known {
        pointer,
        name,
        unit,
        better: Better::Lower,
    }
}

const fn higher(pointer: &'static str, name: &'static str, unit: &'static str) -> Known {
    Known {
        pointer,
        name,
        unit,
        better: Better::Higher,
    }
}

/// Of a checked load, wherever it stands.
pub const OF_LOADS: &[Known] = &[
    lower("/latency_us/p50", "latency p50", "µs"),
    lower("/latency_us/p99", "latency p99", "µs"),
    lower("/latency_us/p999", "latency p99.9", "µs"),
    lower("/latency_us/max", "latency max", "µs"),
    lower(
        "/gateway_cpu_us_per_inbound",
        "gateway CPU per inbound",
        "µs",
    ),
    lower(
        "/gateway_cpu_us_per_delivery",
        "gateway CPU per delivery",
        "µs",
    ),
    lower("/gateway_cpu_percent", "gateway CPU", "% of a core"),
    lower("/gateway_rss_bytes", "gateway memory", "bytes"),
    lower(
        "/gateway_outside/context_switches_voluntary",
        "voluntary context switches",
        "",
    ),
    lower(
        "/gateway_outside/context_switches_involuntary",
        "involuntary context switches",
        "",
    ),
    lower(
        "/system_calls/calls_per_inbound",
        "system calls per inbound",
        "",
    ),
    higher("/delivered", "delivered", "updates"),
    lower("/conflated", "conflated", "updates"),
    lower("/bytes_out", "bytes out", "bytes"),
];

/// Of particular subcommands.
pub const OF_RESULTS: &[Known] = &[
    lower("/gateway_rss_bytes", "gateway memory", "bytes"),
    lower("/gateway_cpu_percent", "gateway CPU", "% of a core"),
    lower(
        "/gateway_rss_bytes_per_connection",
        "gateway memory per connection",
        "bytes",
    ),
    lower(
        "/gateway_rss_anon_bytes_per_connection",
        "of it heap",
        "bytes",
    ),
    lower(
        "/kernel_bytes_per_connection",
        "kernel memory per connection, both ends",
        "bytes",
    ),
    lower(
        "/kernel_bytes_over_bare",
        "kernel memory over a bare socket",
        "bytes",
    ),
    lower(
        "/gateway_cpu_us_per_connect",
        "gateway CPU per connect",
        "µs",
    ),
    lower("/seconds_to_connect", "time to connect all", "s"),
    lower("/seconds_to_evict", "time to evict all", "s"),
    lower(
        "/rss_growth_bytes_per_stalled",
        "memory per hanging dashboard",
        "bytes",
    ),
    lower(
        "/healthy_latency_quiet_us/p99",
        "latency p99 while all read",
        "µs",
    ),
    lower(
        "/healthy_latency_stall_us/p99",
        "latency p99 while some hang",
        "µs",
    ),
    lower(
        "/existing_latency_quiet_us/p99",
        "latency p99 before the storm",
        "µs",
    ),
    lower(
        "/existing_latency_storm_us/p99",
        "latency p99 in the storm",
        "µs",
    ),
    lower("/rounds/*/seconds", "time to connect all", "s"),
    higher(
        "/rounds/*/connections_per_core_second",
        "connections per core-second",
        "1/s",
    ),
    lower("/rounds/*/upgrade_us/p99", "upgrade p99", "µs"),
    lower("/rss_growth_bytes_per_id", "memory kept per id", "bytes"),
    lower(
        "/assaults/*/latency_us/p99",
        "latency p99 under attack",
        "µs",
    ),
    lower("/gateway_rss_max", "gateway memory, most", "bytes"),
    lower(
        "/gateway_bytes_per_tls_connection",
        "gateway memory per TLS connection",
        "bytes",
    ),
    lower("/gateway_bytes_of_tls", "of it TLS", "bytes"),
    lower(
        "/handshakes/*/gateway/cpu_us_each",
        "gateway CPU per handshake",
        "µs",
    ),
    higher("/throughput/acked_per_second", "durable events", "1/s"),
    lower("/latency/latency_us/p50", "acknowledged p50", "µs"),
    lower("/latency/latency_us/p99", "acknowledged p99", "µs"),
    higher("/night/replayed_per_second", "events replayed", "1/s"),
    lower(
        "/points/*/gateway_bytes_per_connection",
        "gateway memory per connection",
        "bytes",
    ),
    lower(
        "/points/*/kernel_bytes_per_connection",
        "kernel memory per connection, both ends",
        "bytes",
    ),
    lower(
        "/points/*/gateway_idle_cpu_percent",
        "gateway CPU at rest",
        "% of a core",
    ),
    lower(
        "/points/*/gateway_cpu_us_per_inbound",
        "gateway CPU per inbound",
        "µs",
    ),
    lower(
        "/points/*/gateway_cpu_us_per_delivery",
        "gateway CPU per delivery",
        "µs",
    ),
    lower("/points/*/latency_p50_us", "latency p50", "µs"),
    lower("/points/*/latency_p99_us", "latency p99", "µs"),
    lower("/outage/seconds", "time back after the outage", "s"),
    lower("/outage/back_us/p99", "back after the outage, p99", "µs"),
    lower("/events/latency_us/p50", "acknowledged p50", "µs"),
    lower("/events/latency_us/p99", "acknowledged p99", "µs"),
    lower("/coefficients/*/value", "coefficient", ""),
];
