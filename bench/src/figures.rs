//! The figures of results that are worth showing and comparing: what they are called, their unit, and which way is better.

use serde_json::Value;

use crate::results::ResultFile;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Costs and delays.
    Lower,
    /// What is got for them.
    Higher,
}

/// A figure that results may have.
struct Known {
    /// JSON pointer, in which `*` stands for each element of a list or each entry of an object.
    pointer: &'static str,
    name: &'static str,
    unit: &'static str,
    better: Better,
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
const OF_LOADS: &[Known] = &[
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
    higher("/delivered", "delivered", "updates"),
    lower("/conflated", "conflated", "updates"),
    lower("/bytes_out", "bytes out", "bytes"),
];

/// Of particular subcommands.
const OF_RESULTS: &[Known] = &[
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
    lower("/outage/seconds", "time back after the outage", "s"),
    lower("/outage/back_us/p99", "back after the outage, p99", "µs"),
    lower("/events/latency_us/p50", "acknowledged p50", "µs"),
    lower("/events/latency_us/p99", "acknowledged p99", "µs"),
    lower("/coefficients/*/value", "coefficient", ""),
];

/// A figure of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Where it stands, by which it is found in another result.
    pub pointer: String,
    /// For people.
    pub name: String,
    /// Of the value; empty if the name says it.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// Finite.
    pub value: f64,
}

/// All figures of `result`, in the order of the lists above.
pub fn of(result: &ResultFile) -> Vec<Figure> {
    let mut figures = Vec::new();
    for load in result.loads() {
        for known in OF_LOADS {
            let name = match load.whose {
                "" => known.name.to_owned(),
                whose => format!("{whose}: {}", known.name),
            };
            find(
                load.value,
                known,
                &name,
                load.at.to_owned(),
                known.pointer,
                &mut figures,
            );
        }
    }
    for known in OF_RESULTS {
        find(
            &result.value,
            known,
            known.name,
            String::new(),
            known.pointer,
            &mut figures,
        );
    }
    figures
}

/// Follows what is `left` of a pointer from `value`, which stands `at`, and takes the numbers that it ends at.
fn find(value: &Value, known: &Known, name: &str, at: String, left: &str, into: &mut Vec<Figure>) {
    let Some((before, after)) = left.split_once("/*") else {
        let number = value.pointer(left).and_then(Value::as_f64);
        let pointer = at + left;
        let known_already = into.iter().any(|figure| figure.pointer == pointer);
        if let Some(value) = number.filter(|number| number.is_finite() && !known_already) {
            into.push(Figure {
                pointer,
                name: name.to_owned(),
                unit: known.unit.to_owned(),
                better: known.better,
                value,
            });
        }
        return;
    };
    match value.pointer(before) {
        Some(Value::Array(elements)) => {
            for (number, element) in elements.iter().enumerate() {
                let called = ["name", "kind"]
                    .iter()
                    .find_map(|key| element[*key].as_str());
                let called = called.map_or_else(|| (number + 1).to_string(), str::to_owned);
                let name = format!("{name}, {called}");
                find(
                    element,
                    known,
                    &name,
                    format!("{at}{before}/{number}"),
                    after,
                    into,
                );
            }
        }
        Some(Value::Object(entries)) => {
            for (key, entry) in entries {
                let from = into.len();
                let name = key.replace('_', " ");
                // RFC 6901 §3.
                let escaped = key.replace('~', "~0").replace('/', "~1");
                find(
                    entry,
                    known,
                    &name,
                    format!("{at}{before}/{escaped}"),
                    after,
                    into,
                );
                if let Some(unit) = entry["unit"].as_str() {
                    for figure in &mut into[from..] {
                        figure.unit = unit.to_owned();
                    }
                }
            }
        }
        _ => {}
    }
}

/// A value for people: four digits, or all of a greater one.
pub fn shown(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", crate::report::grouped(size.round() as u64))
    } else if size >= 100.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figures(value: Value) -> Vec<Figure> {
        of(&ResultFile::new("r".to_owned(), value).unwrap())
    }

    #[test]
    fn lists_and_entries_are_walked() {
        let found = figures(json!({
            "command": "storm",
            "rounds": [{"seconds": 1.5}, {"seconds": 2.5, "upgrade_us": {"p99": 3}}],
            "handshakes": [{"kind": "full", "gateway": {"cpu_us_each": 400.0}}],
            "coefficients": {"a_b": {"value": 7, "unit": "bytes"}},
            "existing": {"inbound": 1, "latency_us": {"p99": 9}, "gateway_cpu_percent": null},
        }));
        let brief: Vec<_> = found
            .iter()
            .map(|f| {
                (
                    f.pointer.as_str(),
                    f.name.as_str(),
                    f.unit.as_str(),
                    f.value,
                )
            })
            .collect();
        assert_eq!(
            brief,
            [
                (
                    "/existing/latency_us/p99",
                    "existing connections: latency p99",
                    "µs",
                    9.0
                ),
                ("/rounds/0/seconds", "time to connect all, 1", "s", 1.5),
                ("/rounds/1/seconds", "time to connect all, 2", "s", 2.5),
                ("/rounds/1/upgrade_us/p99", "upgrade p99, 2", "µs", 3.0),
                (
                    "/handshakes/0/gateway/cpu_us_each",
                    "gateway CPU per handshake, full",
                    "µs",
                    400.0
                ),
                ("/coefficients/a_b/value", "a b", "bytes", 7.0),
            ]
        );
    }

    #[test]
    fn every_figure_can_be_looked_up_by_its_pointer() {
        let result = ResultFile::new(
            "r".to_owned(),
            json!({"command": "x", "inbound": 3, "latency_us": {"p50": 1, "max": 4},
                   "coefficients": {"a/b~c": {"value": 2}}, "rounds": [7, {"seconds": "no"}]}),
        )
        .unwrap();
        let found = of(&result);
        assert_eq!(found.len(), 3);
        for figure in found {
            assert_eq!(result.number(&figure.pointer), Some(figure.value));
        }
    }

    #[test]
    fn values_have_the_digits_that_matter() {
        let shown: Vec<_> = [0.0, 0.01234, 1.5, 12.34, 123.4, 1_234_567.8, -2_000.0]
            .into_iter()
            .map(shown)
            .collect();
        assert_eq!(
            shown,
            ["0", "0.0123", "1.50", "12.3", "123", "1,234,568", "-2,000"]
        );
    }
}
