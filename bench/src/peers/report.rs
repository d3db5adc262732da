//! The table: what each server delivered, how late, and what it cost.

use std::fmt::Write;

use serde::Serialize;

use super::{Peers, peer::Peer};
use crate::job::Percentiles;
use crate::position::PositionFrame;
use crate::report::{Report, grouped};

/// A server that shares its core with more than this works by larger batches, cheaper each and later.
const OTHERS_PERCENT_MAX: f64 = 15.0;

/// The result of `peers`.
#[derive(Debug, Serialize)]
pub struct Table {
    command: &'static str,
    vehicles: u32,
    rate: u32,
    dashboards: u32,
    watch: String,
    all_dashboards: u32,
    seconds: f64,
    warm_up: f64,
    /// Payload of the WebSocket or other messages that a vehicle sends.
    message_bytes: usize,
    seed: u64,
    rows: Vec<Row>,
}

/// One server.
#[derive(Debug, Serialize)]
pub struct Row {
    name: String,
    version: Option<String>,
    /// Why it was left out.
    missing: Option<String>,
    /// What could not be measured, and why.
    failures: Vec<String>,
    /// With dashboards that watch some vehicles.
    pub some: Option<Measured>,
    /// With dashboards that watch all.
    pub all: Option<Measured>,
    /// With connections that say nothing.
    pub idle: Option<Idle>,
}

/// One load. See the report of `fanout` for the names.
#[derive(Debug, Serialize)]
pub struct Measured {
    inbound: u64,
    expected: u64,
    delivered: u64,
    lost: u64,
    conflated: u64,
    wrong: u64,
    duplicates: u64,
    out_of_order: u64,
    corrupted: u64,
    disconnected: usize,
    unconfirmed: usize,
    errors: u64,
    reasons: Vec<String>,
    /// User and system time of the server's processes, in microseconds.
    cpu_us_per_inbound: Option<f64>,
    cpu_us_per_delivery: Option<f64>,
    cpu_percent: Option<f64>,
    /// From due to received.
    latency_us: Percentiles,
    /// From due to sent: how late the generator itself was.
    send_late_us: Percentiles,
    generator_cpu_percent: f64,
    generator_limited: bool,
    seconds: f64,
    /// How much of the server's core other programs used from the first connection to the end.
    others_percent: Option<f64>,
    passed: bool,
}

/// Memory of the server's processes, over what they held before.
#[derive(Debug, Serialize)]
pub struct Idle {
    /// How many were held.
    pub connections: u32,
    /// Resident memory.
    pub rss_bytes_per_connection: f64,
    /// The same, where what processes share is divided among them.
    pub pss_bytes_per_connection: f64,
}

impl Measured {
    /// The part of a load's report that is comparable.
    pub fn of(report: &Report, others_percent: Option<f64>) -> Self {
        Self {
            others_percent,
            inbound: report.inbound,
            expected: report.expected,
            delivered: report.delivered,
            lost: report.lost,
            conflated: report.conflated,
            wrong: report.wrong,
            duplicates: report.duplicates,
            out_of_order: report.out_of_order,
            corrupted: report.corrupted,
            disconnected: report.disconnected,
            unconfirmed: report.unconfirmed,
            errors: report.errors,
            reasons: [&report.reasons[..], &report.failures].concat(),
            cpu_us_per_inbound: report.gateway_cpu_us_per_inbound,
            cpu_us_per_delivery: report.gateway_cpu_us_per_delivery,
            cpu_percent: report.gateway_cpu_percent,
            latency_us: report.latency_us,
            send_late_us: report.send_late_us,
            generator_cpu_percent: report.generator_cpu_percent,
            generator_limited: report.generator_limited,
            seconds: report.seconds,
            passed: report.passed,
        }
    }

    /// Other programs took so much of the server's core that it shows.
    fn disturbed(&self) -> bool {
        self.others_percent
            .is_some_and(|percent| percent > OTHERS_PERCENT_MAX)
    }

    fn cpu(&self, us: Option<f64>) -> String {
        let mark = if self.disturbed() { " †" } else { "" };
        us.map_or_else(|| "–".to_owned(), |us| format!("{us:.2} µs{mark}"))
    }

    /// All that must not be, besides what is lost.
    fn faults(&self) -> u64 {
        let connections = (self.disconnected + self.unconfirmed) as u64;
        self.wrong
            + self.duplicates
            + self.out_of_order
            + self.corrupted
            + self.errors
            + connections
    }

    fn lost(&self) -> String {
        let mut text = grouped(self.lost);
        if self.conflated > 0 {
            let _ = write!(text, " ({} conflated)", grouped(self.conflated));
        }
        if self.faults() > 0 {
            let _ = write!(text, ", {} faults", grouped(self.faults()));
        }
        text
    }

    fn latency(&self) -> String {
        let Percentiles { p50, p99, p999, .. } = self.latency_us;
        let ms = |us: u64| match us {
            0..10_000 => format!("{:.2}", us as f64 / 1e3),
            10_000..100_000 => format!("{:.1}", us as f64 / 1e3),
            _ => grouped(us / 1_000),
        };
        let mark = if self.generator_limited { " *" } else { "" };
        format!("{} / {} / {}{mark}", ms(p50), ms(p99), ms(p999))
    }
}

impl Row {
    /// A server of which nothing is known yet.
    pub fn new(peer: Peer, version: String) -> Self {
        Self {
            name: peer.to_string(),
            version: Some(version),
            missing: None,
            failures: Vec::new(),
            some: None,
            all: None,
            idle: None,
        }
    }

    /// A server that is not there.
    pub fn missing(peer: Peer, what: String) -> Self {
        Self {
            version: None,
            missing: Some(what),
            ..Self::new(peer, String::new())
        }
    }

    /// Notes what could not be measured.
    pub fn failed(&mut self, part: &str, why: &anyhow::Error) {
        eprintln!("{}: {part}: {why:#}", self.name);
        self.failures.push(format!("{part}: {why:#}"));
    }

    /// Its name and version.
    pub fn title(&self) -> String {
        let version = self.version.as_deref().unwrap_or("not installed");
        format!("{} ({version})", self.name)
    }

    fn markdown(&self) -> String {
        let none = || "–".to_owned();
        let of = |part: &Option<Measured>, text: &dyn Fn(&Measured) -> String| {
            part.as_ref().map_or_else(none, text)
        };
        let memory = |idle: &Idle| {
            let rss = idle.rss_bytes_per_connection.round().max(0.0) as u64;
            let pss = idle.pss_bytes_per_connection.round().max(0.0) as u64;
            format!("{} / {}", grouped(rss), grouped(pss))
        };
        let cells = [
            self.title(),
            of(&self.some, &|load| load.cpu(load.cpu_us_per_inbound)),
            of(&self.some, &|load| load.cpu(load.cpu_us_per_delivery)),
            of(&self.some, &Measured::latency),
            of(&self.some, &Measured::lost),
            of(&self.all, &|load| load.cpu(load.cpu_us_per_inbound)),
            of(&self.all, &|load| load.cpu(load.cpu_us_per_delivery)),
            of(&self.all, &Measured::latency),
            of(&self.all, &Measured::lost),
            self.idle.as_ref().map_or_else(none, memory),
        ];
        format!("| {} |\n", cells.join(" | "))
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let missing = self.missing.as_deref().unwrap_or_default();
        write!(f, "{}: {missing}", self.name)
    }
}

impl Table {
    /// # Errors
    /// The message cannot be encoded (a codec bug).
    pub fn new(args: &Peers, rows: Vec<Row>) -> anyhow::Result<Self> {
        Ok(Self {
            command: "peers",
            vehicles: args.vehicles,
            rate: args.rate,
            dashboards: args.dashboards,
            watch: args.watch.to_string(),
            all_dashboards: args.all_dashboards,
            seconds: args.seconds,
            warm_up: args.warm_up,
            message_bytes: PositionFrame::new(true)?.message_bytes(),
            seed: args.generator.seed,
            rows,
        })
    }

    /// Whether everything was measured that was to be, and Longhaul kept its promises.
    pub fn is_whole(&self) -> bool {
        self.rows.iter().all(|row| {
            let gateway = row.name == Peer::Longhaul.to_string();
            let loads = [&row.some, &row.all];
            let kept = loads
                .iter()
                .all(|load| load.as_ref().is_none_or(|load| load.passed));
            row.failures.is_empty() && (kept || !gateway)
        })
    }

    /// The table, and a line on what it is of.
    pub fn markdown(&self) -> String {
        let Self {
            dashboards,
            watch,
            all_dashboards,
            seconds,
            message_bytes,
            ..
        } = self;
        let mut text = format!(
            "{} vehicles, {} messages/s of {message_bytes} bytes, {seconds} s; servers on one core, the generator on \
             the others.\n\n",
            grouped(self.vehicles.into()),
            grouped(self.rate.into()),
        );
        let some = format!("{dashboards} × {watch}");
        let all = format!("{all_dashboards} × all");
        let mut heads = vec!["server".to_owned()];
        for load in [&some, &all] {
            for what in [
                "CPU per inbound",
                "per delivery",
                "p50 / p99 / p99.9, ms",
                "lost",
            ] {
                heads.push(format!("{load}: {what}"));
            }
        }
        heads.push("bytes per idle connection, RSS / PSS".to_owned());
        let _ = writeln!(text, "| {} |", heads.join(" | "));
        let _ = writeln!(text, "|{}", "---|".repeat(heads.len()));
        for row in &self.rows {
            text += &row.markdown();
        }
        text.push('\n');
        for row in &self.rows {
            for failure in &row.failures {
                // Some end with the lines of a log.
                let lines: Vec<&str> = failure.split_whitespace().collect();
                let _ = writeln!(text, "- {}: not measured: {}", row.name, lines.join(" "));
            }
            if row.missing.is_some() {
                let _ = writeln!(text, "- {row}");
            }
            let reasons = [&row.some, &row.all].into_iter().flatten();
            for reason in reasons.flat_map(|load| &load.reasons) {
                let _ = writeln!(text, "- {}: {reason}", row.name);
            }
        }
        if self.limited() {
            text += "- \\*: the generator was at its limit: latencies are its own as well.\n";
        }
        if self.loads().any(Measured::disturbed) {
            text += "- †: other programs used more than 15 % of the server's core: a quiet machine gives other figures.\n";
        }
        text
    }

    fn loads(&self) -> impl Iterator<Item = &Measured> {
        let loads = self.rows.iter().flat_map(|row| [&row.some, &row.all]);
        loads.flatten()
    }

    fn limited(&self) -> bool {
        self.loads().any(|load| load.generator_limited)
    }
}

#[cfg(test)]
mod tests;
