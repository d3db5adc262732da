//! Whether the gateway says of itself what is seen from outside. A gateway whose figures are wrong misleads whoever
//! operates it, and a generator whose figures are wrong misleads whoever reads this.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::usage;

const OPEN: &str = "longhaul_connections_open";
const POSITIONS_IN: &str = "longhaul_positions_in_total";
const POSITIONS_OUT: &str = "longhaul_positions_out_total";
const CPU: &str = "process_cpu_seconds_total";
const RESIDENT: &str = "process_resident_memory_bytes";

/// How long a shard may take to count what it has done already.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// The kernel counts CPU time in steps of so many seconds, here and there, at the beginning and at the end.
const TICKS_SECONDS: f64 = 0.02;
/// Part of the resident memory that two ways of reading it may differ by.
const RESIDENT_SHARE: f64 = 0.01;
/// Kinds of pages that the kernel counts for a process: anonymous, of files, shared.
const PAGE_KINDS: u64 = 3;
/// Pages of each kind that a core may keep to itself before it adds them up: at least, and for each core of the machine.
const BATCH_PAGES_MIN: u64 = 32;
const BATCH_PAGES_PER_CORE: u64 = 2;

/// A figure as it was seen from outside, and as the gateway has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// What it is.
    pub what: &'static str,
    /// What the gateway calls it.
    pub metric: &'static str,
    /// Seen from outside.
    pub outside: f64,
    /// By the gateway's metrics.
    pub gateway: f64,
    /// How far they may be apart.
    pub tolerance: f64,
    /// They are not further apart. None: too little was seen to say so, as they may be apart by half of it or more.
    pub agrees: Option<bool>,
}

impl Pair {
    fn new(
        what: &'static str,
        metric: &'static str,
        outside: f64,
        gateway: f64,
        tolerance: f64,
    ) -> Self {
        let is_within = (outside - gateway).abs() <= tolerance;
        let too_little = tolerance > 0.0 && tolerance >= outside / 2.0;
        Self {
            what,
            metric,
            outside,
            gateway,
            tolerance,
            // What is further apart than it may be is wrong, however little it is.
            agrees: (!is_within || !too_little).then_some(is_within),
        }
    }

    /// What is wrong, if anything is.
    pub fn failure(&self) -> Option<String> {
        let number = |value: f64| match value.fract() {
            0.0 => format!("{value}"),
            _ => format!("{value:.3}"),
        };
        (self.agrees == Some(false)).then(|| {
            format!(
                "{}: {} seen from outside, {} by the gateway's {} (they may be {} apart)",
                self.what,
                number(self.outside),
                number(self.gateway),
                self.metric,
                number(self.tolerance)
            )
        })
    }
}

/// For people, in one line.
pub fn line(pairs: &[Pair]) -> String {
    let those = |agrees: Option<bool>| -> Vec<&str> {
        let those = pairs.iter().filter(|pair| pair.agrees == agrees);
        those.map(|pair| pair.what).collect()
    };
    let apart = those(Some(false)).len();
    if apart > 0 {
        return format!("DISAGREE in {apart} of {}", pairs.len());
    }
    let said = [
        ("agree", those(Some(true))),
        ("too little to compare", those(None)),
    ];
    let said = said.iter().filter(|(_, names)| !names.is_empty());
    let said = said.map(|(what, names)| format!("{what}: {}", names.join(", ")));
    said.collect::<Vec<_>>().join("; ")
}

/// What the generator sent and got, to be held against what the gateway took and gave.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Updates sent, all of which the gateway has read.
    pub sent: u64,
    /// Updates that dashboards received, whatever was right about them; none: not exactly known.
    pub received: Option<u64>,
}

/// Reads the gateway's own figures beside those from outside.
#[derive(Debug)]
pub struct Witness {
    control: SocketAddr,
    pid: Option<u32>,
    before: Metrics,
    began: Option<Moment>,
    pairs: Vec<Pair>,
}

impl Witness {
    /// Before the first connection of a run. `None`: it is not known where the gateway's metrics are.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn before(gateway: &Gateway) -> anyhow::Result<Option<Self>> {
        let Some(control) = gateway.control else {
            return Ok(None);
        };
        Ok(Some(Self {
            control,
            pid: gateway.pid,
            before: Metrics::scrape(control)?,
            began: None,
            pairs: Vec::new(),
        }))
    }

    /// So many connections are made, and nothing has been measured yet.
    ///
    /// # Errors
    /// The gateway's metrics cannot be read.
    pub fn connected(&mut self, connections: usize) -> anyhow::Result<()> {
        let before = self.before.sum(OPEN);
        let open = |metrics: &Metrics| metrics.sum(OPEN) - before;
        let expected = connections as f64;
        let moment = self.look_until(|metrics| open(metrics) == expected)?;
        let pair = Pair::new("connections", OPEN, expected, open(&moment.metrics), 0.0);
        self.pairs.push(pair);
        self.began = Some(moment);
        Ok(())
    }

    /// All that was measured is done.
    ///
    /// # Errors
    /// The gateway's metrics cannot be read.
    pub fn end(mut self, traffic: Option<Traffic>) -> anyhow::Result<Vec<Pair>> {
        let counts = traffic.map_or_else(Vec::new, |traffic| self.counts(traffic));
        let before = self.before.clone();
        let grown = |now: &Metrics, metric: &str| now.value(metric) - before.value(metric);
        let end = self.look_until(|now| {
            counts
                .iter()
                .all(|&(_, metric, count)| grown(now, metric) == count as f64)
        })?;
        for (what, metric, count) in counts {
            let gateway = grown(&end.metrics, metric);
            let pair = Pair::new(what, metric, count as f64, gateway, 0.0);
            self.pairs.push(pair);
        }
        if let Some(began) = &self.began {
            self.pairs.extend(cpu(began, &end));
        }
        self.pairs.extend(resident(&end));
        Ok(self.pairs)
    }

    /// What must be equal: what it is, the gateway's name for it, and how many were counted outside.
    fn counts(&self, traffic: Traffic) -> Vec<(&'static str, &'static str, u64)> {
        // Dashboards that are not this run's may watch the same vehicles.
        let others = self.before.value(&format!("{OPEN}{{role=\"dashboard\"}}")) > 0.0;
        let received = traffic.received.filter(|_| !others);
        let mut counts = vec![("updates in", POSITIONS_IN, traffic.sent)];
        counts.extend(received.map(|received| ("updates out", POSITIONS_OUT, received)));
        counts
    }

    /// Looks until it is as expected; what the last look shows, however that is.
    fn look_until(&self, expected: impl Fn(&Metrics) -> bool) -> anyhow::Result<Moment> {
        let began = Instant::now();
        loop {
            let moment = Moment::look(self.control, self.pid)?;
            if expected(&moment.metrics) || began.elapsed() > PATIENCE {
                return Ok(moment);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The gateway's metrics, and what was seen from outside just before and just after they were read.
#[derive(Debug)]
struct Moment {
    metrics: Metrics,
    cpu_seconds: Option<(f64, f64)>,
    resident_bytes: Option<(f64, f64)>,
}

impl Moment {
    fn look(control: SocketAddr, pid: Option<u32>) -> anyhow::Result<Self> {
        let cpu = || Some(usage::cpu_us(pid?).ok()? as f64 / 1e6);
        let resident = || Some(usage::resident(pid?).ok()?.total as f64);
        let before = (cpu(), resident());
        let metrics = Metrics::scrape(control)?;
        Ok(Self {
            metrics,
            cpu_seconds: before.0.zip(cpu()),
            resident_bytes: before.1.zip(resident()),
        })
    }
}

/// CPU time between two moments. As each look takes a while, it is known to lie between two values only.
fn cpu(began: &Moment, end: &Moment) -> Option<Pair> {
    let ((first, second), (third, last)) = began.cpu_seconds.zip(end.cpu_seconds)?;
    let (least, most) = (third - second, last - first);
    let gateway = end.metrics.value(CPU) - began.metrics.value(CPU);
    let tolerance = (most - least) / 2.0 + TICKS_SECONDS;
    let outside = f64::midpoint(least, most);
    Some(Pair::new("CPU seconds", CPU, outside, gateway, tolerance))
}

/// Resident memory. The gateway reads the kernel's quick count, which leaves out what each core has not added up yet.
fn resident(end: &Moment) -> Option<Pair> {
    let (before, after) = end.resident_bytes?;
    let outside = f64::midpoint(before, after);
    let tolerance = (after - before).abs() / 2.0
        + outside * RESIDENT_SHARE
        + not_added_up(std::thread::available_parallelism().map_or(1, usize::from) as u64);
    let gateway = end.metrics.value(RESIDENT);
    Some(Pair::new(
        "resident bytes",
        RESIDENT,
        outside,
        gateway,
        tolerance.ceil(),
    ))
}

/// Bytes of a process that `cores` may keep to themselves.
fn not_added_up(cores: u64) -> f64 {
    let batch = BATCH_PAGES_MIN.max(BATCH_PAGES_PER_CORE * cores);
    (PAGE_KINDS * cores * batch) as f64 * rustix::param::page_size() as f64
}

#[cfg(test)]
mod tests;
