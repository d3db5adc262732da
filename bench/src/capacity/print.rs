//! A plan for people.

use std::time::Duration;

use super::PlanReport;
use super::coefficients::{Coefficient, Key};
use super::model::{Bound, Fleet, NodeKind, Part, Plan, Term, Use};
use crate::figures::shown;
use crate::report::grouped;
use crate::results::ResultFile;

/// What no term stands for.
const LEFT_OUT: &[&str] = &[
    "network cards: interrupts and drivers, which loopback does not have; the headroom is for them",
    "events, commands and their log on the disk",
    "slow dashboards: at most a frame each in the kernel, and the bounds of `longhaul config --budget`",
    "hot spots: fleets, nodes and shards are taken to be even",
];

pub fn print(report: &PlanReport, fleet: &Fleet, kind: &NodeKind, file: &ResultFile) {
    let plan = &report.plan;
    headline(plan, fleet, kind);
    for (title, parts) in [
        ("memory", &[Part::GatewayMemory, Part::KernelMemory][..]),
        ("CPU", &[Part::Cpu]),
        ("received from the network", &[Part::Received]),
        ("sent to the network", &[Part::Sent]),
    ] {
        section(title, parts, plan);
    }
    backplane(plan);
    println!("\ntuning profile of each node");
    for set in &report.tuning {
        println!(
            "  {:<18} {:<34} {:<10} {}",
            set.at, set.name, set.value, set.why
        );
    }
    let of = |pointer| file.text(pointer).unwrap_or("unknown");
    println!(
        "\ncoefficients ({}): measured on {}, {}, with {}, at {}",
        file.name,
        of("/provenance/machine/cpu"),
        of("/provenance/machine/kernel"),
        of("/provenance/gateway/version"),
        of("/provenance/date"),
    );
    for key in Key::ALL {
        if let Some(Coefficient { value, unit, from }) = report.coefficients.get(key) {
            println!(
                "  {:<30} {:>12} {unit:<6} {from}",
                key.name(),
                shown(*value)
            );
        }
    }
    println!("\nnot in it");
    for left_out in LEFT_OUT {
        println!("  {left_out}");
    }
}

fn headline(plan: &Plan, fleet: &Fleet, kind: &NodeKind) {
    let regions = u64::from(fleet.regions);
    println!(
        "{} vehicles, each reports every {}; {} dashboards of {}; {}",
        grouped(fleet.vehicles),
        humantime::format_duration(Duration::from_secs_f64(fleet.interval_seconds)),
        grouped(fleet.dashboards),
        fleet.watch,
        if fleet.tls { "TLS" } else { "no TLS" },
    );
    println!(
        "nodes of {} cores, {:.0} GiB and {:.0} Gbit/s each way, of which {:.0} % stay free\n",
        kind.cores,
        kind.memory_bytes / (1u64 << 30) as f64,
        kind.nic_bits_per_second / 1e9,
        kind.headroom * 100.0
    );
    println!(
        "{} nodes in all; in each of {regions} region(s), with {} vehicles and {} dashboards:",
        grouped(plan.nodes * regions),
        grouped(plan.vehicles_per_region),
        grouped(plan.dashboards_per_region),
    );
    println!(
        "  {:<16} {}: {} carry it, {} spare; {} is used up first",
        "nodes",
        plan.nodes,
        plan.nodes_needed,
        kind.spares,
        name(plan.bound_by)
    );
    for used in &plan.uses {
        println!(
            "  {:<16} {}",
            name(used.of),
            in_region(used, plan.nodes_needed)
        );
    }
    let Plan { backplane, .. } = plan;
    println!(
        "  {:<16} {} published, {} received by nodes, {} from other regions",
        "backplane",
        bits(backplane.published_bits_per_second),
        bits(backplane.received_bits_per_second),
        bits(backplane.from_regions_bits_per_second),
    );
    if let Some(seconds) = plan.seconds_to_reconnect {
        println!(
            "  {:<16} clients of a lost node are back at the others after {seconds:.1} s",
            "reconnects"
        );
    }
}

/// What is used of all nodes that carry the region, and of one.
fn in_region(used: &Use, nodes: u64) -> String {
    let quantity = |value: f64| match used.of {
        Bound::Memory => bytes(value),
        Bound::Cores => format!("{value:.1} cores"),
        Bound::NicIn | Bound::NicOut => bits(value),
    };
    format!(
        "{} used; of each node {} of {}, {:.0} %",
        quantity(used.used * nodes as f64),
        quantity(used.used),
        quantity(used.has),
        used.share() * 100.0
    )
}

fn section(title: &str, parts: &[Part], plan: &Plan) {
    println!("\n{title} of a node, when the spares are away");
    let mut sum = 0.0;
    for term in plan.terms.iter().filter(|term| parts.contains(&term.part)) {
        sum += term.total();
        println!(
            "  {:<38} {:>12}  {:>14} × {:<9} {}",
            named(term),
            quantity(term.part, term.total()),
            count(term.count),
            shown(term.each),
            by(term)
        );
    }
    println!("  {:<38} {:>12}", "together", quantity(parts[0], sum));
}

fn named(term: &Term) -> String {
    match term.part {
        Part::KernelMemory => format!("kernel: {}", term.name),
        _ => term.name.to_owned(),
    }
}

fn by(term: &Term) -> String {
    let names: Vec<String> = term.by.iter().map(|key| key.name()).collect();
    match (term.part, names.is_empty()) {
        (Part::Received | Part::Sent, true) => "headers".to_owned(),
        _ => names.join(" + "),
    }
}

fn backplane(plan: &Plan) {
    let row = |name: &str, per_second: f64, each: f64| {
        println!(
            "  {name:<38} {:>12}  {:>14} positions a second",
            bits(each),
            count(per_second)
        );
    };
    println!("\nbackplane of a region (from the wire format: this version has none to measure)");
    let found = &plan.backplane;
    row(
        "published, as other nodes watch",
        found.published_per_second,
        found.published_bits_per_second,
    );
    row(
        "received, by all nodes together",
        found.received_per_second,
        found.received_bits_per_second,
    );
    row(
        "from other regions",
        found.from_regions_per_second,
        found.from_regions_bits_per_second,
    );
}

fn name(bound: Bound) -> &'static str {
    match bound {
        Bound::Memory => "memory",
        Bound::Cores => "cores",
        Bound::NicIn => "network in",
        Bound::NicOut => "network out",
    }
}

fn quantity(part: Part, value: f64) -> String {
    match part {
        Part::GatewayMemory | Part::KernelMemory => bytes(value),
        Part::Cpu => format!("{:.3} cores", value / 1e6),
        Part::Received | Part::Sent => bits(value * 8.0),
    }
}

/// Of what there are fractions, fractions.
fn count(value: f64) -> String {
    if value >= 10.0 {
        grouped(value.round() as u64)
    } else {
        format!("{value:.2}")
    }
}

fn bytes(value: f64) -> String {
    scaled(value, 1_024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

fn bits(value: f64) -> String {
    scaled(
        value,
        1_000.0,
        &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"],
    )
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        assert_eq!(bytes(1_536.0), "1.5 KiB");
        assert_eq!(bits(10e9), "10.0 Gbit/s");
        assert_eq!(bits(0.0), "0.0 bit/s");
        assert_eq!(bytes(3e18), "2664.5 PiB");
        assert_eq!(
            (count(0.5), count(1_234.4)),
            ("0.50".to_owned(), "1,234".to_owned())
        );
    }
}
