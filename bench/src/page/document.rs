//! The page: HTML by maud, which escapes every text that it is given.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::chart::{Chart, colour};
use super::charts;
use crate::figures;
use crate::results::ResultFile;

/// Nothing is loaded and nothing runs, whatever a text in a result might try.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 76rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .3rem }
table { border-collapse: collapse; margin: .5rem 0 1rem } th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums } th { font-weight: 600 } tr + tr td { border-top: 1px solid #eee }
code { background: #f4f4f4; padding: .1rem .3rem; overflow-wrap: anywhere }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1.5rem }
figure { margin: 0 } figcaption { font-weight: 600 } svg { width: 100%; height: auto }
.note { color: #666; font-weight: 400; font-size: 13px; margin: 0 } .legend { font-size: 13px; overflow-wrap: anywhere }
.legend span { margin-right: 1rem } .legend i { display: inline-block; width: 1rem; height: .25rem; margin-right: .4rem; vertical-align: middle }
.passed { color: #00694b } .failed { color: #b3261e; font-weight: 600 }
@media (prefers-color-scheme: dark) { svg { background: #fff } }
";

/// The page of `results`.
///
/// # Errors
/// A chart cannot be drawn.
pub fn page(results: &[ResultFile]) -> anyhow::Result<String> {
    let together = charts::of_all(results);
    let sections = results.iter().map(section).collect::<Result<Vec<_>, _>>()?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Longhaul: measured" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Longhaul: measured" }
                (machines(results))
                @if !together.is_empty() {
                    h2 { "Together" }
                    (drawn(&together)?)
                }
                @for section in &sections { (section) }
            }
        }
    };
    Ok(page.into_string())
}

/// The machines, each with the results that are from it.
fn machines(results: &[ResultFile]) -> Markup {
    let mut known: Vec<(&Value, Vec<&str>)> = Vec::new();
    for result in results {
        let machine = &result.value["provenance"]["machine"];
        match known.iter_mut().find(|(known, _)| *known == machine) {
            Some((_, names)) => names.push(&result.name),
            None => known.push((machine, vec![&result.name])),
        }
    }
    html! {
        h2 { @if known.len() == 1 { "Machine" } @else { "Machines" } }
        @for (machine, names) in &known {
            table {
                @for (name, value) in described(machine) {
                    tr { th { (name) } td { (value) } }
                }
                @if known.len() > 1 {
                    tr { th { "results" } td { (names.join(", ")) } }
                }
            }
        }
    }
}

fn described(machine: &Value) -> Vec<(&'static str, String)> {
    if machine.is_null() {
        return vec![("machine", "the result does not say".to_owned())];
    }
    let text = |key: &str| match &machine[key] {
        Value::Null => "unknown".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let gibibytes = machine["memory_bytes"].as_f64().map_or_else(
        || "unknown".to_owned(),
        |bytes| format!("{:.1} GiB", bytes / (1u64 << 30) as f64),
    );
    vec![
        ("CPU", text("cpu")),
        ("cores", text("cores")),
        ("memory", gibibytes),
        (
            "kernel",
            format!("{}, {}", text("kernel"), text("architecture")),
        ),
        ("frequency governor", text("governor")),
    ]
}

/// One result: what it is, its figures, its seconds.
fn section(result: &ResultFile) -> anyhow::Result<Markup> {
    let provenance = &result.value["provenance"];
    let said = |pointer: &str| {
        provenance
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("unknown")
            .to_owned()
    };
    let command_line = command_line(&provenance["command_line"]);
    let limited = result
        .loads()
        .any(|load| load.value["generator_limited"] == Value::Bool(true));
    let lines = result
        .loads()
        .map(|load| (load.whose, charts::of_load(load)))
        .filter(|(_, charts)| !charts.is_empty());
    let mut seconds = Vec::new();
    for (whose, charts) in lines {
        seconds.push((whose, drawn(&charts)?));
    }
    let hours = drawn(&charts::of_day(result))?;
    let is_day = result.value["hours"].is_array();
    Ok(html! {
        h2 { (result.name) }
        table {
            tr { th { "scenario" } td { (result.command()) " " (verdict(result)) } }
            @if let Some(line) = command_line { tr { th { "command" } td { code { (line) } } } }
            tr { th { "when" } td { (said("/date")) } }
            tr { th { "gateway" } td { (said("/gateway/version")) ", SHA-256 " (short(&said("/gateway/sha256"))) } }
            tr { th { "bench" } td { (said("/bench_version")) } }
        }
        @for failure in result.failures() { p.failed { (failure) } }
        @for remark in result.texts("not_flat") { p { (remark) } }
        @for remark in result.texts("not_to_the_fewest") { p { (remark) } }
        @if limited {
            p.failed { "The generator could not keep its own schedule: latencies are its, not the gateway's." }
        }
        table {
            @for figure in figures::of(result) {
                tr { th { (figure.name) } td.number { (figures::shown(figure.value)) } td { (figure.unit) } }
            }
        }
        @if is_day {
            h3 { "Hour by hour" }
            (hours)
        }
        @for (whose, charts) in &seconds {
            h3 { "Second by second" @if !whose.is_empty() { ", " (whose) } }
            (charts)
        }
    })
}

fn verdict(result: &ResultFile) -> Markup {
    html! {
        @match result.value["passed"].as_bool() {
            Some(true) => span.passed { "passed" },
            Some(false) => span.failed { "FAILED" },
            None => {}
        }
    }
}

fn drawn(charts: &[Chart]) -> anyhow::Result<Markup> {
    let drawings = charts
        .iter()
        .map(Chart::svg)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(html! {
        div.charts {
            @for (chart, svg) in charts.iter().zip(&drawings) {
                figure {
                    figcaption { (chart.title) p.note { (chart.note) } }
                    (PreEscaped(svg))
                    div.legend {
                        @for (number, series) in chart.series.iter().enumerate() {
                            span { i style={ "background:" (colour(number)) } {} (series.name) }
                        }
                    }
                }
            }
        }
    })
}

/// The arguments as a shell takes them; the program by its name alone.
fn command_line(arguments: &Value) -> Option<String> {
    let arguments: Vec<&str> = arguments
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let (program, rest) = arguments.split_first()?;
    let program = program.rsplit('/').next().unwrap_or(program);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = rest.iter().map(|argument| {
        if !argument.is_empty() && argument.chars().all(plain) {
            (*argument).to_owned()
        } else {
            format!("'{}'", argument.replace('\'', r"'\''"))
        }
    });
    Some(
        std::iter::once(program.to_owned())
            .chain(quoted)
            .collect::<Vec<_>>()
            .join(" "),
    )
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
