//! How a budget is printed.

use std::fmt::{self, Write};

use super::{ID_BYTES, Load, Part, Term, WATCHED, Weight, draw_up, objections, sum};
use crate::{
    config::Config,
    limits::{DESCRIPTORS_RESERVED, REFUSALS_IN_FLIGHT_MAX},
};

const PARTS: [(Part, &str); 5] = [
    (Part::Connections, "connections"),
    (Part::Vehicles, "vehicles"),
    (Part::Dashboards, "dashboards"),
    (Part::UnderWay, "under way"),
    (Part::Kernel, "in the kernel"),
];

/// The budget as text.
pub fn print(config: &Config, load: Load) -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    write(&mut out, config, load).expect("a String takes any text");
    out
}

fn write(out: &mut String, config: &Config, load: Load) -> fmt::Result {
    let terms = draw_up(config, load);
    let limits = &config.limits;
    writeln!(
        out,
        "Memory for {} connections: {} vehicles and {} dashboards, on {}.",
        grouped(load.connections),
        grouped(load.vehicles()),
        grouped(load.dashboards),
        match load.shards {
            1 => "1 shard".to_owned(),
            shards => format!("{shards} shards"),
        }
    )?;
    writeln!(
        out,
        "Usual: ids of {ID_BYTES} bytes, each dashboard watches {WATCHED} vehicles of its own choice and reads."
    )?;
    writeln!(
        out,
        "At most: {} vehicles are known, and everybody does the worst that the limits allow, all at once.",
        grouped(u64::from(limits.vehicles_max))
    )?;
    for (limit, lets_in) in objections(config, load) {
        writeln!(
            out,
            "But {limit} lets in no more than {}.",
            grouped(lets_in)
        )?;
    }
    for (part, title) in PARTS {
        writeln!(out, "\n{title:<28} {:>10} {:>10}", "usual", "at most")?;
        for term in terms.iter().filter(|term| term.part == part) {
            write_term(out, term)?;
        }
        write_sum(out, "together", &terms, |of| of == part)?;
    }
    writeln!(out)?;
    write_sum(out, "the gateway", &terms, |part| part != Part::Kernel)?;
    write_sum(out, "the kernel", &terms, |part| part == Part::Kernel)?;
    write_sum(out, "all", &terms, |_| true)?;
    let per_connection = sum(&terms, |_| true, |term| term.usual) / load.connections.max(1);
    writeln!(
        out,
        "  {:<26} {:>10}",
        "per connection",
        bytes(per_connection)
    )?;
    let descriptors = load
        .connections
        .div_ceil(load.shards.max(1))
        .saturating_add(DESCRIPTORS_RESERVED)
        .saturating_add(REFUSALS_IN_FLIGHT_MAX as u64);
    writeln!(
        out,
        "\nEach shard needs {} descriptors (RLIMIT_NOFILE). Not counted: the program itself, its threads' stacks, and \
         what\nTCP buffers in the kernel (net.ipv4.tcp_mem).",
        grouped(descriptors)
    )
}

fn write_term(out: &mut String, term: &Term) -> fmt::Result {
    write!(
        out,
        "  {:<26} {:>10} {:>10}   ",
        term.name,
        bytes(term.usual.bytes()),
        bytes(term.at_most.bytes())
    )?;
    match (term.usual.bytes(), term.at_most.bytes()) {
        (usual, at_most) if usual == at_most => writeln!(out, "{}", product(term.usual))?,
        (0, _) => writeln!(out, "at most {}", product(term.at_most))?,
        (_, 0) => writeln!(out, "{}", product(term.usual))?,
        _ => writeln!(
            out,
            "{}, at most {}",
            product(term.usual),
            product(term.at_most)
        )?,
    }
    writeln!(out, "      {}", term.why)
}

fn write_sum(
    out: &mut String,
    name: &str,
    terms: &[Term],
    of: impl Fn(Part) -> bool,
) -> fmt::Result {
    writeln!(
        out,
        "  {name:<26} {:>10} {:>10}",
        bytes(sum(terms, &of, |term| term.usual)),
        bytes(sum(terms, &of, |term| term.at_most))
    )
}

fn product(weight: Weight) -> String {
    format!("{} × {}", grouped(weight.count), grouped(weight.bytes_each))
}

/// Decimal units, three digits or more.
fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut unit, mut scale) = (0, 1u64);
    while bytes / scale >= 1_000 && unit + 1 < UNITS.len() {
        unit += 1;
        scale *= 1_000;
    }
    match (bytes, unit) {
        (0, _) => "-".to_owned(),
        (_, 0) => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / scale as f64, UNITS[unit]),
    }
}

/// Thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
        for (number, text) in [
            (0, "-"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (80_035_840, "80.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
