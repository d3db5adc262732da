use super::*;
use serde_json::{Value, json};

const NASTY: &str = "<script>alert(1)</script>\"'&";

fn load(parameters: Value) -> Value {
    json!({
        "command": "fanout", "parameters": parameters, "passed": true, "inbound": 1_000, "delivered": 2_000,
        "seconds": 2.0, "gateway_cpu_percent": 12.5,
        "latency_us": {"p50": 500, "p99": 1_500, "p999": 2_000, "max": 2_500},
        "timeline": [
            {"seconds": 1.0, "inbound_per_second": 500.0, "delivered_per_second": 1_000.0, "p50_us": 500, "p99_us": 1_400,
             "gateway_cores": 0.1, "gateway_rss_bytes": 20_000_000},
            {"seconds": 2.0, "inbound_per_second": 500.0, "delivered_per_second": 1_000.0, "p50_us": null, "p99_us": null,
             "gateway_cores": null, "gateway_rss_bytes": 20_000_000},
        ],
        "latency": {"percentiles": [[0.5, 500, 1_000], [0.99, 1_500, 1_980], [1.0, 2_500, 2_000]], "hdr_log": []},
        "provenance": {
            "date": "2026-01-02T03:04:05Z", "command_line": ["/x/longhaul-bench", "fanout", "--watch", "a b"],
            "bench_version": "0.1.0", "gateway": {"version": "longhaul 0.1.0", "sha256": "abcdef0123456789"},
            "machine": {"cpu": "Some CPU", "cores": 4, "memory_bytes": 8_589_934_592u64, "kernel": "Linux 6.1",
                        "architecture": "x86_64", "governor": null},
        },
    })
}

fn idle(connections: u64) -> Value {
    json!({
        "command": "idle", "role": "vehicle", "connections": connections, "gateway_rss_bytes": connections * 200 + 20_000_000,
        "gateway_rss_bytes_per_connection": 200.0, "kernel_bytes_per_connection": 8_400.0,
        "ramp": [{"seconds": 1.0, "connections": connections / 2, "gateway_rss_bytes": 21_000_000}],
    })
}

fn result(name: &str, value: Value) -> ResultFile {
    ResultFile::new(name.to_owned(), value).unwrap()
}

fn page(results: &[ResultFile]) -> String {
    document::page(results).unwrap()
}

#[test]
fn a_page_has_every_plot_and_the_machine() {
    let results = [
        result("fast.json", load(json!({"dashboards": 2, "watch": "50"}))),
        result("idle-1.json", idle(1_000)),
        result("idle-2.json", idle(2_000)),
    ];
    let page = page(&results);
    for text in [
        "Latency by percentile",
        "Gateway memory against connections",
        "Memory of each idle connection",
        "Gateway CPU against what vehicles send",
        "Second by second",
        "Some CPU",
        "8.0 GiB",
        "longhaul-bench fanout --watch 'a b'",
        "2026-01-02T03:04:05Z",
        "99 %",
        "1,500",
        "the result does not say",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
    // Five of all together, four of the load's seconds.
    assert_eq!(page.matches("<svg").count(), 9);
}

#[test]
fn a_curve_is_drawn_from_the_runs_in_it() {
    let run = |connections: u64| {
        let mut run = idle(connections);
        run["gateway_cpu_percent"] = json!(connections as f64 / 1_000.0);
        let parameters = json!({"rate": 500, "dashboards": 2, "watch": "50", "held": connections});
        run["parameters"] = json!({"beside": parameters});
        run["beside"] = load(parameters);
        run["beside"]["gateway_cpu_us_per_inbound"] = json!(5.0);
        run["beside"]["gateway_cpu_us_per_delivery"] = json!(2.5);
        run
    };
    let curve = json!({
        "command": "curve", "passed": true, "runs": [run(1_000), run(10_000)],
        "not_flat": ["kernel bytes is not flat"],
        "not_to_the_fewest": ["idle CPU % cannot be compared"],
        "points": [{"name": "1,000 connections", "gateway_bytes_per_connection": 203.0}],
        "provenance": load(Value::Null)["provenance"],
    });
    let page = page(&result("curve.json", curve).with_parts());
    for text in [
        "Memory of each idle connection",
        "CPU of each update against connections",
        "from a vehicle, 500 a second, 2 dashboards",
        "Gateway CPU at rest against connections",
        "curve.json, 10000 connections",
        "gateway memory per connection, 1,000 connections",
        "kernel bytes is not flat",
        "idle CPU % cannot be compared",
        "idle, 2 dashboards of 50, beside 1000",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
    assert!(!page.contains("the result does not say"));
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = page(&[result("a", load(Value::Null)), result("b", idle(10))]);
    for foreign in [
        "<script", "<link", "<img", "src=", "href=", "@import", "url(",
    ] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    // The name of SVG's namespace is no address that a browser asks.
    assert!(
        !page
            .replace("http://www.w3.org/2000/svg", "")
            .contains("http://")
    );
    assert!(!page.contains("https://"));
}

/// Puts `nasty` in place of every text and every key of a result.
fn spoilt(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::String(NASTY.to_owned()),
        Value::Array(elements) => elements.iter().map(spoilt).collect(),
        Value::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), spoilt(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

#[test]
fn a_day_is_drawn_hour_by_hour() {
    let hour = |hour: u64| {
        json!({"hour": hour, "vehicles": 5, "dashboards": 2, "gateway_connections": 9,
               "latency_us": {"p50": 300, "p99": 900, "p999": 1_000}})
    };
    let mut fleet = load(json!({}));
    fleet["command"] = json!("the load of a day");
    let day = json!({"command": "mixed", "hours": [hour(0), hour(1), hour(2)], "fleet": fleet});
    let page = page(&[result("day.json", day)]);
    for text in [
        "Hour by hour",
        "Connections by hour",
        "Latency by hour",
        "by the gateway",
        "Second by second, the fleet",
    ] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn texts_of_results_are_never_markup() {
    let mut nasty = load(json!({"dashboards": 2, "watch": NASTY}));
    nasty["failures"] = json!([NASTY]);
    nasty["coefficients"] = json!({NASTY: {"value": 3, "unit": NASTY}});
    nasty["handshakes"] = json!([{"kind": NASTY, "gateway": {"cpu_us_each": 1}}]);
    for value in [nasty.clone(), spoilt(&nasty), spoilt(&idle(5))] {
        let page = page(&[result(NASTY, value.clone()), result("b", value)]);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
}

#[test]
fn results_of_any_shape_make_a_page() {
    for odd in [
        json!({"command": "mixed", "hours": [3, {"hour": "x"}, {"hour": 1e300, "vehicles": -1}]}),
        json!({"command": "fanout"}),
        json!({"command": "idle", "ramp": 3, "connections": -1, "gateway_rss_bytes": "many"}),
        json!({"command": "fanout", "latency_us": [], "inbound": "x", "timeline": {"a": 1}, "latency": {"percentiles": [[], 3, [1e300, 2, 3], [1.0, 1e300]]}}),
        json!({"command": "fanout", "latency_us": {}, "inbound": 0, "delivered": 0, "seconds": 0, "gateway_cpu_percent": 0,
               "timeline": [{"seconds": -5, "p50_us": -1}], "provenance": [1]}),
    ] {
        assert!(page(&[result("odd", odd)]).contains("odd"));
    }
}
