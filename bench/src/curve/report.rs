//! What `curve` found: one line for each number of connections, and what is not flat.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::checks;
use crate::idle::IdleReport;
use crate::out::out;
use crate::report::grouped;

/// How far a cost may be from that beside the fewest connections.
const FLAT_WITHIN: f64 = 0.15;

/// A column of the table.
struct Column {
    /// In JSON.
    key: &'static str,
    /// For people.
    name: &'static str,
    /// It costs the same at any number of connections, or something is to be explained.
    flat: bool,
    of: fn(&IdleReport) -> Option<f64>,
}

const COLUMNS: [Column; 7] = [
    Column {
        key: "gateway_bytes_per_connection",
        name: "gateway bytes",
        flat: true,
        of: |run| run.gateway_rss_bytes_per_connection,
    },
    Column {
        key: "kernel_bytes_per_connection",
        name: "kernel bytes",
        flat: true,
        of: |run| Some(run.kernel_bytes_per_connection),
    },
    Column {
        key: "gateway_idle_cpu_percent",
        name: "idle CPU %",
        flat: false,
        of: |run| run.gateway_cpu_percent,
    },
    Column {
        key: "gateway_cpu_us_per_inbound",
        name: "µs per inbound",
        flat: true,
        of: |run| run.beside.as_ref()?.gateway_cpu_us_per_inbound,
    },
    Column {
        key: "gateway_cpu_us_per_delivery",
        name: "µs per delivery",
        flat: true,
        of: |run| run.beside.as_ref()?.gateway_cpu_us_per_delivery,
    },
    Column {
        key: "latency_p50_us",
        name: "p50 µs",
        flat: false,
        of: |run| Some(run.beside.as_ref()?.latency_us.p50 as f64),
    },
    Column {
        key: "latency_p99_us",
        name: "p99 µs",
        flat: false,
        of: |run| Some(run.beside.as_ref()?.latency_us.p99 as f64),
    },
];

/// The result of `curve`.
#[derive(Debug, Serialize)]
pub struct CurveReport {
    command: &'static str,
    parameters: Value,
    /// In ascending order of connections.
    points: Vec<Point>,
    /// Costs that are not the same at every number of connections; no fault, but something to be explained.
    not_flat: Vec<String>,
    /// Figures that are not compared with those beside the fewest connections, as those are not above 0.
    not_to_the_fewest: Vec<String>,
    /// Demands that are not met.
    pub failures: Vec<String>,
    passed: bool,
    /// The whole result of each run, as `idle` writes it.
    runs: Vec<IdleReport>,
}

/// One number of connections.
#[derive(Debug, PartialEq, Serialize)]
struct Point {
    /// How it is called.
    name: String,
    connections: usize,
    #[serde(flatten)]
    figures: BTreeMap<&'static str, f64>,
    /// Of each figure to that beside the fewest connections where it is above 0.
    ratios: BTreeMap<&'static str, f64>,
}

impl CurveReport {
    /// Of runs in ascending order of connections; `failures`: of those that there are not.
    pub fn new(parameters: Value, runs: Vec<IdleReport>, mut failures: Vec<String>) -> Self {
        let figures = |run: &IdleReport| {
            let known = COLUMNS
                .iter()
                .filter_map(|column| Some((column.key, (column.of)(run)?)));
            (run.connections, known.collect())
        };
        let points = points(runs.iter().map(figures).collect());
        for (run, point) in runs.iter().zip(&points) {
            let failed = run.failures.iter();
            failures.extend(failed.map(|failure| format!("{}: {failure}", point.name)));
        }
        Self {
            command: "curve",
            parameters,
            not_flat: not_flat(&points),
            not_to_the_fewest: not_to_the_fewest(&points),
            points,
            passed: failures.is_empty(),
            failures,
            runs,
        }
    }

    /// The table for people.
    pub fn print(&self) {
        out!("\ncurve: of each connection and message, and times what it is beside the fewest");
        let mut heading = format!("  {:>12}", "connections");
        for column in &COLUMNS {
            // Writing to a string cannot fail.
            let _ = write!(heading, "  {:>18}", column.name);
        }
        out!("{heading}");
        for point in &self.points {
            let mut line = format!("  {:>12}", grouped(point.connections as u64));
            for column in &COLUMNS {
                let _ = write!(line, "  {:>18}", point.cell(column));
            }
            out!("{line}");
        }
        for remark in self.not_flat.iter().chain(&self.not_to_the_fewest) {
            out!("  * {remark}");
        }
        checks::print(&self.failures);
    }
}

impl Point {
    fn cell(&self, column: &Column) -> String {
        let Some(figure) = self.figures.get(column.key) else {
            return "–".to_owned();
        };
        let shown = crate::figures::shown(*figure);
        match self.ratios.get(column.key) {
            None => shown,
            Some(ratio) => {
                let mark = if column.flat && !is_flat(*ratio) {
                    "*"
                } else {
                    " "
                };
                format!("{shown} ×{ratio:.2}{mark}")
            }
        }
    }
}

/// Figures with their ratios to the first that is above 0; none before it.
fn points(all: Vec<(usize, BTreeMap<&'static str, f64>)>) -> Vec<Point> {
    let mut bases = BTreeMap::new();
    all.into_iter()
        .map(|(connections, figures)| {
            for (&key, &figure) in figures.iter().filter(|&(_, &figure)| figure > 0.0) {
                bases.entry(key).or_insert(figure);
            }
            let ratio =
                |(&key, &figure): (&&'static str, &f64)| Some((key, figure / bases.get(key)?));
            Point {
                name: format!("{} connections", grouped(connections as u64)),
                connections,
                ratios: figures.iter().filter_map(ratio).collect(),
                figures,
            }
        })
        .collect()
}

/// In words.
fn not_to_the_fewest(points: &[Point]) -> Vec<String> {
    let mut found = Vec::new();
    for column in &COLUMNS {
        let has = |point: &&Point| point.ratios.contains_key(column.key);
        if points.first().is_none_or(|first| has(&first)) {
            continue;
        }
        if let Some(base) = points.iter().find(has) {
            found.push(format!(
                "{} is compared with that beside {}: it is not above 0 beside fewer",
                column.name, base.name
            ));
        } else if points
            .iter()
            .any(|point| point.figures.contains_key(column.key))
        {
            found.push(format!(
                "{} cannot be compared: it is never above 0",
                column.name
            ));
        }
    }
    found
}

fn is_flat(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= FLAT_WITHIN
}

/// In words.
fn not_flat(points: &[Point]) -> Vec<String> {
    let mut found = Vec::new();
    for column in COLUMNS.iter().filter(|column| column.flat) {
        for point in points {
            let ratio = point.ratios.get(column.key).copied();
            if let Some(ratio) = ratio.filter(|&ratio| !is_flat(ratio)) {
                found.push(format!(
                    "{} is not flat within {:.0} %: {ratio:.2} times as much beside {}",
                    column.name,
                    FLAT_WITHIN * 100.0,
                    point.name
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        connections: usize,
        gateway: f64,
        kernel: f64,
        idle: f64,
    ) -> (usize, BTreeMap<&'static str, f64>) {
        let figures = [
            (COLUMNS[0].key, gateway),
            (COLUMNS[1].key, kernel),
            (COLUMNS[2].key, idle),
        ];
        (connections, figures.into())
    }

    #[test]
    fn ratios_are_to_the_fewest_connections() {
        let points = points(vec![
            of(1_000, 200.0, 8_000.0, 0.1),
            of(10_000, 240.0, 8_100.0, 1.0),
            of(100_000, 165.0, 9_200.0, 10.0),
        ]);
        let ratios: Vec<f64> = points
            .iter()
            .map(|point| point.ratios["gateway_bytes_per_connection"])
            .collect();
        assert_eq!(ratios, [1.0, 1.2, 0.825]);
        assert_eq!(points[2].name, "100,000 connections");
        // What grows with the number of connections by nature is not remarked upon.
        assert_eq!(
            not_flat(&points),
            [
                "gateway bytes is not flat within 15 %: 1.20 times as much beside 10,000 connections",
                "gateway bytes is not flat within 15 %: 0.82 times as much beside 100,000 connections",
            ]
        );
        assert_eq!(points[1].cell(&COLUMNS[0]), "240 ×1.20*");
        assert_eq!(points[1].cell(&COLUMNS[1]), "8,100 ×1.01 ");
        assert_eq!(points[2].cell(&COLUMNS[2]), "10.0 ×100.00 ");
        assert_eq!(points[1].cell(&COLUMNS[3]), "–");
    }

    #[test]
    fn nothing_is_a_multiple_of_nothing() {
        let points = points(vec![
            of(10, -3.0, 8_000.0, 0.0),
            of(20, 200.0, 8_000.0, 0.0),
            of(30, 300.0, 8_000.0, -0.1),
        ]);
        let cells: Vec<_> = points.iter().map(|p| p.cell(&COLUMNS[0])).collect();
        assert_eq!(cells, ["-3.00", "200 ×1.00 ", "300 ×1.50*"]);
        assert!(
            points
                .iter()
                .all(|p| !p.ratios.contains_key(COLUMNS[2].key))
        );
        assert_eq!(
            not_flat(&points),
            ["gateway bytes is not flat within 15 %: 1.50 times as much beside 30 connections"]
        );
        assert_eq!(
            not_to_the_fewest(&points),
            [
                "gateway bytes is compared with that beside 20 connections: it is not above 0 beside fewer",
                "idle CPU % cannot be compared: it is never above 0",
            ]
        );
        assert!(not_to_the_fewest(&[]).is_empty());
    }
}
