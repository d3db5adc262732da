//! What is drawn of results.

use serde_json::Value;

use super::chart::{Axis, Chart, Scale, Series};
use crate::results::{LoadIn, ResultFile};

const MEBIBYTE: f64 = 1_048_576.0;
/// Fewer points show no line.
const RAMP_POINTS_MIN: usize = 3;
const SECONDS: Axis = linear("seconds since the load began");

const fn linear(title: &'static str) -> Axis {
    Axis {
        title,
        scale: Scale::Linear,
    }
}

const fn log(title: &'static str) -> Axis {
    Axis {
        title,
        scale: Scale::Log,
    }
}

/// Of all results together.
pub fn of_all(results: &[ResultFile]) -> Vec<Chart> {
    [
        latency(results),
        memory(results),
        memory_each(results),
        cpu(results, "inbound", "updates from vehicles a second"),
        cpu(results, "delivered", "updates to dashboards a second"),
        cpu_each(results),
        cpu_at_rest(results),
    ]
    .into_iter()
    .filter_map(Chart::drawable)
    .collect()
}

/// Of one load, second by second.
pub fn of_load(load: LoadIn<'_>) -> Vec<Chart> {
    let timeline = load.value["timeline"].as_array();
    let seconds: Vec<&Value> = timeline.into_iter().flatten().collect();
    let series = |name: &str, key: &str, divisor: f64| Series {
        name: name.to_owned(),
        points: seconds
            .iter()
            .filter_map(|at| Some((at["seconds"].as_f64()?, at[key].as_f64()? / divisor)))
            .collect(),
    };
    let chart = |title, note, y, series| {
        Chart {
            title,
            note,
            x: SECONDS,
            y,
            series,
        }
        .drawable()
    };
    [
        chart(
            "Updates",
            "",
            linear("updates a second"),
            vec![
                series("from vehicles", "inbound_per_second", 1.0),
                series("to dashboards", "delivered_per_second", 1.0),
            ],
        ),
        chart(
            "Latency",
            "Of what came in each second, from due to received.",
            log("ms"),
            vec![series("p50", "p50_us", 1e3), series("p99", "p99_us", 1e3)],
        ),
        chart(
            "Gateway CPU",
            "",
            linear("cores"),
            vec![series("gateway", "gateway_cores", 1.0)],
        ),
        chart(
            "Gateway memory",
            "Resident.",
            linear("MiB"),
            vec![series("gateway", "gateway_rss_bytes", MEBIBYTE)],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Of a day, hour by hour.
pub fn of_day(result: &ResultFile) -> Vec<Chart> {
    let hours = result.value["hours"].as_array();
    let hours: Vec<&Value> = hours.into_iter().flatten().collect();
    let series = |name: &str, pointer: &str, divisor: f64| Series {
        name: name.to_owned(),
        points: hours
            .iter()
            .filter_map(|at| {
                // An hour is shown at its end.
                let end = at["hour"].as_f64()? + 1.0;
                Some((end, at.pointer(pointer)?.as_f64()? / divisor))
            })
            .collect(),
    };
    let chart = |title, note, y, series| {
        let x = linear("hour");
        Chart {
            title,
            note,
            x,
            y,
            series,
        }
        .drawable()
    };
    [
        chart(
            "Connections by hour",
            "At the end of each hour. The gateway's count has those that publish and get events, too.",
            linear("connections"),
            vec![
                series("vehicles", "/vehicles", 1.0),
                series("dashboards", "/dashboards", 1.0),
                series("by the gateway", "/gateway_connections", 1.0),
            ],
        ),
        chart(
            "Latency by hour",
            "Of what came in each hour, from due to received.",
            log("ms"),
            vec![
                series("p50", "/latency_us/p50", 1e3),
                series("p99", "/latency_us/p99", 1e3),
                series("p99.9", "/latency_us/p999", 1e3),
            ],
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn latency(results: &[ResultFile]) -> Chart {
    let series = loads(results).map(|(result, load)| {
        let percentiles = load.value.pointer("/latency/percentiles");
        let steps = percentiles.and_then(Value::as_array).into_iter().flatten();
        Series {
            name: result.title(load),
            // The last step is everything, which no percentile axis has a place for; it is drawn above its neighbour.
            points: ascending(steps.filter_map(|step| {
                let (share, us) = (step[0].as_f64()?, step[1].as_f64()?);
                let count = load.value["delivered"].as_f64()?.max(1.0);
                Some(((1.0 / (1.0 - share).max(0.5 / count)).max(1.0), us / 1e3))
            })),
        }
    });
    Chart {
        title: "Latency by percentile",
        note: "From the instant an update was due until a dashboard read it. Each further nine is as wide as the one \
               before.",
        x: Axis {
            title: "share of deliveries that took no longer",
            scale: Scale::Percentile,
        },
        y: log("ms"),
        series: series.collect(),
    }
}

/// In the end, joined by role, and while connections are made.
fn memory(results: &[ResultFile]) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    let mut ramps = Vec::new();
    for result in results.iter().filter(|result| result.command() == "idle") {
        let role = result.text("/role").unwrap_or("connection").to_owned();
        let at_end = result
            .number("/connections")
            .zip(result.number("/gateway_rss_bytes"));
        if let Some((connections, bytes)) = at_end {
            add(&mut series, role, (connections, bytes / MEBIBYTE));
        }
        let ramp = result.value["ramp"].as_array().into_iter().flatten();
        let points = ascending(ramp.filter_map(|at| {
            let bytes = at["gateway_rss_bytes"].as_f64()?;
            Some((at["connections"].as_f64()?, bytes / MEBIBYTE))
        }));
        if points.len() >= RAMP_POINTS_MIN {
            let name = format!("{}, connecting", result.name);
            ramps.push(Series { name, points });
        }
    }
    sort(&mut series);
    series.extend(ramps);
    Chart {
        title: "Gateway memory against connections",
        note: "Resident, when they have been idle for a while; and while they connect, if that takes some seconds.",
        x: linear("connections"),
        y: linear("MiB"),
        series,
    }
}

fn memory_each(results: &[ResultFile]) -> Chart {
    let parts = [
        ("gateway", "/gateway_rss_bytes_per_connection", 1.0),
        ("kernel, one end", "/kernel_bytes_per_connection", 0.5),
    ];
    Chart {
        title: "Memory of each idle connection",
        note: "A flat line costs the same at any number. The gateway's without its baseline; the kernel's is half of \
               what both ends of a loopback connection take.",
        x: log("connections"),
        y: linear("bytes"),
        series: against_connections(results, &parts, of_role),
    }
}

fn cpu(results: &[ResultFile], count: &str, title: &'static str) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for (result, load) in loads(results) {
        let of = |key: &str| load.value[key].as_f64();
        let point = of(count).zip(of("seconds")).zip(of("gateway_cpu_percent"));
        if let Some(((count, seconds), percent)) = point {
            let parameters = &load.value["parameters"];
            let name = match (&parameters["dashboards"], parameters["watch"].as_str()) {
                (Value::Number(dashboards), Some(watch)) => {
                    format!("{}, {dashboards} dashboards of {watch}", result.command())
                }
                _ => result.command().to_owned(),
            };
            let name = match &parameters["held"] {
                Value::Number(held) => format!("{name}, beside {held}"),
                _ => name,
            };
            add(
                &mut series,
                name,
                (count / seconds.max(1e-3), percent / 100.0),
            );
        }
    }
    sort(&mut series);
    Chart {
        title: match count {
            "inbound" => "Gateway CPU against what vehicles send",
            _ => "Gateway CPU against what dashboards get",
        },
        note: "Each point is a whole run; runs that differ in their rates only are joined.",
        x: linear(title),
        y: linear("cores"),
        series,
    }
}

/// Beside more and more idle connections.
fn cpu_each(results: &[ResultFile]) -> Chart {
    let parts = [
        ("from a vehicle", "/beside/gateway_cpu_us_per_inbound", 1.0),
        ("to a dashboard", "/beside/gateway_cpu_us_per_delivery", 1.0),
    ];
    let load = |result: &ResultFile| {
        let of = |key: &str| result.number(&format!("/parameters/beside/{key}"));
        let (rate, dashboards) = (of("rate")?, of("dashboards")?);
        Some(format!("{rate} a second, {dashboards} dashboards"))
    };
    Chart {
        title: "CPU of each update against connections",
        note: "Of a load beside connections that are idle. A flat line costs the same beside any number of them. The \
               gateway's whole time is divided by the one count, and by the other.",
        x: log("connections"),
        y: linear("µs"),
        series: against_connections(results, &parts, |part, result| {
            load(result).map_or_else(|| part.to_owned(), |load| format!("{part}, {load}"))
        }),
    }
}

fn cpu_at_rest(results: &[ResultFile]) -> Chart {
    let parts = [("gateway", "/gateway_cpu_percent", 1.0)];
    Chart {
        title: "Gateway CPU at rest against connections",
        note: "While no client says anything; heartbeats go on.",
        x: log("connections"),
        y: linear("% of a core"),
        series: against_connections(results, &parts, of_role),
    }
}

/// A part of what a result's idle connections cost.
fn of_role(part: &str, result: &ResultFile) -> String {
    let role = result.text("/role").unwrap_or("connection");
    format!("{part}, {role}")
}

/// A figure of each `idle` result by its number of connections, for each of `parts`: its name, a JSON pointer, and what it
/// is multiplied with. Points whose series has the same name are joined.
fn against_connections(
    results: &[ResultFile],
    parts: &[(&str, &str, f64)],
    name: impl Fn(&str, &ResultFile) -> String,
) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for result in results.iter().filter(|result| result.command() == "idle") {
        let connections = result.number("/connections");
        for &(part, pointer, times) in parts {
            if let Some((connections, figure)) = connections.zip(result.number(pointer)) {
                add(
                    &mut series,
                    name(part, result),
                    (connections, figure * times),
                );
            }
        }
    }
    sort(&mut series);
    series
}

fn loads(results: &[ResultFile]) -> impl Iterator<Item = (&ResultFile, LoadIn<'_>)> {
    results
        .iter()
        .flat_map(|result| result.loads().map(move |load| (result, load)))
}

fn add(series: &mut Vec<Series>, name: String, point: (f64, f64)) {
    match series.iter_mut().find(|series| series.name == name) {
        Some(series) => series.points.push(point),
        None => series.push(Series {
            name,
            points: vec![point],
        }),
    }
}

fn sort(series: &mut [Series]) {
    for series in series {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
}

fn ascending(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = points.collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}
