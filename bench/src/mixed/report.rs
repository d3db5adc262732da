//! The result of `mixed`.

use serde::Serialize;
use serde_json::Value;

use super::company::Events;
use super::curve::HOURS;
use super::day::{Day, OUTAGE};
use super::hours::{Hour, Lived};
use super::presence::Comings;
use crate::checker::{Phase, phase_percentiles};
use crate::checks::{self, Checks};
use crate::churn;
use crate::job::Percentiles;
use crate::metrics::Metrics;
use crate::out::out;
use crate::report::{Outcome, Report, grouped, milliseconds};
use crate::storm::report::RoundReport;

/// The gateway at one moment.
pub struct Look {
    /// When (monotonic clock).
    pub at_ns: u64,
    /// Its resident memory.
    pub rss_bytes: Option<u64>,
    /// Connections that it says are open.
    pub connections: Option<u64>,
}

/// What was measured.
pub struct Findings {
    /// What the fleet got, checked.
    pub fleet: Report,
    /// Its day.
    pub lived: Lived,
    /// The gateway at each full hour, 0 and 24 included.
    pub looks: Vec<Look>,
    /// Cores that it used in each hour.
    pub cores: Vec<Option<f64>>,
    /// What became of the events.
    pub events: Events,
    /// The gateway's metrics once everybody was gone.
    pub after: Option<Metrics>,
}

/// One hour.
#[derive(Debug, Serialize)]
struct HourReport {
    /// From this hour to the next.
    hour: usize,
    inbound_per_second: f64,
    delivered_per_second: f64,
    /// Of what was delivered in this hour, from due to received.
    latency_us: Percentiles,
    /// From due to sent: what of it is the generator's own.
    send_late_p99_us: u64,
    /// Updates that were due while their vehicle was connecting, and were not sent.
    withheld: u64,
    /// Connected at its end, by the generator.
    vehicles: usize,
    dashboards: usize,
    /// At its end, by the gateway: all of these, and those that have to do with events.
    gateway_connections: Option<u64>,
    gateway_cores: Option<f64>,
    /// At its end.
    gateway_rss_bytes: Option<u64>,
}

/// Those who were dropped by the outage, and came back at once.
#[derive(Debug, Serialize)]
struct OutageReport {
    /// When it began and ended, in hours.
    from: f64,
    to: f64,
    /// Vehicles that it was to drop.
    vehicles: usize,
    /// How they came back.
    #[serde(flatten)]
    back: RoundReport,
}

/// What the gateway still knows when everybody is gone.
#[derive(Debug, Serialize)]
struct Forgotten {
    open: u64,
    accepted: u64,
    closed: u64,
}

/// The result of `mixed`.
#[derive(Debug, Serialize)]
pub struct MixedReport {
    command: &'static str,
    parameters: Value,
    hours: Vec<HourReport>,
    comings: Comings,
    outage: OutageReport,
    events: Events,
    forgotten: Option<Forgotten>,
    /// Updates that were due while their vehicle was connecting, in the whole day.
    withheld: u64,
    /// Clients that should have been there in the end, and were not.
    stranded: usize,
    /// What the fleet got, all of the day and the midnight before it together.
    fleet: Report,
    /// Demands that are not met.
    pub failures: Vec<String>,
    passed: bool,
}

impl MixedReport {
    /// Puts together what was found.
    ///
    /// # Errors
    /// A histogram cannot be made (never, with these bounds).
    pub fn new(parameters: &Value, day: &Day, found: Findings) -> anyhow::Result<Self> {
        let lived = found.lived;
        let seconds = day.seconds / HOURS as f64;
        // The first is the midnight before the day.
        let hours = lived
            .hours
            .iter()
            .skip(1)
            .zip(found.looks.iter().skip(1))
            .zip(&found.cores)
            .enumerate()
            .map(|(number, ((hour, look), &cores))| {
                HourReport::new(number, hour, look, cores, seconds)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut report = Self {
            command: "mixed",
            parameters: parameters.clone(),
            hours,
            withheld: lived.hours.iter().map(|hour| hour.withheld).sum(),
            comings: lived.comings,
            outage: OutageReport {
                from: OUTAGE.start,
                to: OUTAGE.end,
                vehicles: lived.in_outage,
                back: RoundReport::new(&[lived.outage], None)?,
            },
            events: found.events,
            forgotten: found.after.as_ref().map(Forgotten::new),
            stranded: lived.stranded,
            fleet: found.fleet,
            failures: Vec::new(),
            passed: false,
        };
        report.check();
        Ok(report)
    }

    fn check(&mut self) {
        let mut checks = Checks::default();
        checks.demand(self.fleet.passed, || {
            "what the fleet got: see its own result".to_owned()
        });
        checks.demand(self.fleet.delivered > 0, || {
            "nothing was delivered: there was nothing to check".to_owned()
        });
        checks.demand(self.hours.len() == HOURS, || {
            format!("{} of {HOURS} hours were measured", self.hours.len())
        });
        let (back, of) = (self.outage.back.connected, self.outage.vehicles);
        checks.demand(back == of, || {
            format!("{back} of {of} vehicles came back after the outage")
        });
        checks.demand(self.stranded == 0, || {
            format!("{} clients were not back when the day ended", self.stranded)
        });
        let events = &self.events;
        checks.demand(events.missing == 0 && events.errors == 0, || {
            format!(
                "{} events were not acknowledged, {} errors",
                events.missing, events.errors
            )
        });
        checks.demand(!events.consumers.is_empty(), || {
            "no dashboard says which events it got".to_owned()
        });
        for consumer in &events.consumers {
            checks.demand(consumer.exact, || {
                format!(
                    "the dashboard that goes on by {} got {} events, not exactly the {} that were acknowledged",
                    consumer.by, consumer.events, events.acked
                )
            });
        }
        if let Some(left) = &self.forgotten {
            checks.demand(left.open == 0 && left.accepted == left.closed, || {
                format!(
                    "when everybody was gone, {} connections were open, and {} of {} counted as closed",
                    left.open, left.closed, left.accepted
                )
            });
        }
        self.failures = checks.failures;
        self.passed = self.failures.is_empty();
    }
}

impl HourReport {
    fn new(
        number: usize,
        hour: &Hour,
        look: &Look,
        cores: Option<f64>,
        seconds: f64,
    ) -> anyhow::Result<Self> {
        let phase: Vec<Vec<Phase>> = vec![vec![hour.phase.clone()]];
        let late = Phase {
            latency: hour.phase.late.clone(),
            latency_max_ns: u64::MAX,
            ..Phase::default()
        };
        Ok(Self {
            hour: number,
            inbound_per_second: hour.inbound as f64 / seconds,
            delivered_per_second: hour.delivered as f64 / seconds,
            latency_us: phase_percentiles(&phase, &[0])?,
            send_late_p99_us: phase_percentiles(&[vec![late]], &[0])?.p99,
            withheld: hour.withheld,
            vehicles: hour.vehicles,
            dashboards: hour.dashboards,
            gateway_connections: look.connections,
            gateway_cores: cores,
            gateway_rss_bytes: look.rss_bytes,
        })
    }

    fn print(&self) {
        let ms = |us: u64| us as f64 / 1_000.0;
        let cores = self
            .gateway_cores
            .map_or_else(|| "?".to_owned(), |cores| format!("{cores:.2}"));
        let memory = self.gateway_rss_bytes.map_or_else(
            || "?".to_owned(),
            |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0),
        );
        out!(
            "  {:>4}  {:>8} {:>6}  {:>9} {:>10}  {:>8.2} {:>8.2} {:>8.2}  {cores:>5} {memory:>7}",
            format!("{:02}", self.hour),
            grouped(self.vehicles as u64),
            grouped(self.dashboards as u64),
            grouped(self.inbound_per_second as u64),
            grouped(self.delivered_per_second as u64),
            ms(self.latency_us.p50),
            ms(self.latency_us.p99),
            ms(self.latency_us.p999),
        );
    }
}

impl Forgotten {
    fn new(metrics: &Metrics) -> Self {
        Self {
            open: metrics.sum(churn::OPEN) as u64,
            accepted: metrics.value(churn::ACCEPTED) as u64,
            closed: metrics.sum(churn::CLOSED) as u64,
        }
    }
}

impl Outcome for MixedReport {
    fn print(&self) {
        self.fleet.print();
        out!("\nhour by hour");
        out!(
            "  {:>4}  {:>8} {:>6}  {:>9} {:>10}  {:>8} {:>8} {:>8}  {:>5} {:>7}",
            "hour",
            "vehicles",
            "boards",
            "in/s",
            "out/s",
            "p50 ms",
            "p99",
            "p99.9",
            "cores",
            "MiB"
        );
        self.hours.iter().for_each(HourReport::print);
        out!("");
        let row = |name: &str, value: String| out!("  {name:<22} {value}");
        let comings = &self.comings;
        row(
            "comings and goings",
            format!(
                "{} welcomed, {} farewells, {} tunnels, {} dropped by the outage, {} cut short",
                grouped(comings.welcomed),
                grouped(comings.farewells),
                grouped(comings.tunnels),
                grouped(comings.dropped),
                grouped(comings.cut_short)
            ),
        );
        row(
            "not let in at once",
            format!(
                "503 {}, errors {}; {} updates withheld while connecting",
                grouped(comings.refused_503),
                grouped(comings.connect_errors),
                grouped(self.withheld)
            ),
        );
        for reason in &comings.reasons {
            out!("  ! {reason}");
        }
        self.outage.back.print("after the outage");
        let events = &self.events;
        row(
            "events",
            format!(
                "{} acknowledged, {} missing; {}",
                grouped(events.acked),
                grouped(events.missing),
                milliseconds(&events.latency_us)
            ),
        );
        for one in &events.consumers {
            let exact = if one.exact { "exact" } else { "NOT EXACT" };
            row(
                &format!("  by {}", one.by),
                format!(
                    "{} events, {} of them after it was away, {exact}; redelivered {}",
                    grouped(one.events),
                    grouped(one.events_after),
                    grouped(one.redelivered)
                ),
            );
        }
        for reason in &events.reasons {
            out!("  ! {reason}");
        }
        checks::print(&self.failures);
    }

    fn failures(&self) -> &[String] {
        &self.failures
    }
}
