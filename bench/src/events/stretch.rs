//! A stretch of the run: vehicles publish at some pace, and what that cost the gateway is the difference of two looks at
//! it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::course::Pace;
use super::publish::{PublishTask, Published};
use crate::checker::Epoch;
use crate::cli::Events;
use crate::clock::{now_ns, wall_ms};
use crate::crew::{CONNECTIONS_PER_PROCESS, Crew};
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Job, Notice, Order, Percentiles, Task, add_pairs};
use crate::metrics::Metrics;
use crate::run::{self, Interrupted};
use crate::usage;

/// The name of the gateway's thread that writes the log.
pub const LOG_THREAD: &str = "longhaul-events";
/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(20);
/// From the order to start until the start.
const LEAD_NS: u64 = 100_000_000;

/// Who else is attended to meanwhile.
pub enum Company<'a, 'b> {
    /// Nobody but the gateway.
    Alone(&'a mut Gateway, &'a Interrupted),
    /// A load whose latency is measured.
    Beside(&'a mut Desk<'b>),
}

impl Company<'_, '_> {
    /// The gateway under test.
    pub fn gateway(&self) -> &Gateway {
        match self {
            Self::Alone(gateway, _) => gateway,
            Self::Beside(desk) => desk.gateway,
        }
    }

    /// Attends to it, and waits a little for what `crew` says. `None`: the user gave up.
    ///
    /// # Errors
    /// The gateway or a generator process fails.
    pub fn hear(&mut self, crew: &Crew) -> anyhow::Result<Option<Option<Notice>>> {
        let (wait, goes_on) = match self {
            Self::Alone(gateway, interrupted) => {
                if gateway.has_ended() {
                    bail!("the gateway ended:\n{}", gateway.log_tail());
                }
                (LOOK, !interrupted.load(Ordering::Relaxed))
            }
            Self::Beside(desk) => {
                desk.attend(LOOK)?;
                (Duration::ZERO, desk.is_on())
            }
        };
        let notice = crew.notice(wait)?;
        Ok(goes_on.then(|| notice.map(|(_, notice)| notice)))
    }

    /// Waits for one notice of each process that `wanted` takes; what it makes of them. `None`: the user gave up.
    ///
    /// # Errors
    /// The gateway or a generator process fails.
    pub fn await_all<T>(
        &mut self,
        crew: &Crew,
        wanted: impl Fn(Notice) -> Option<T>,
    ) -> anyhow::Result<Option<Vec<T>>> {
        let mut found = Vec::new();
        while found.len() < crew.len() {
            match self.hear(crew)? {
                Some(notice) => found.extend(notice.and_then(&wanted)),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }
}

/// The gateway's counters at one moment.
struct Look {
    metrics: Metrics,
    cpu_us: u64,
    log_cpu_us: u64,
    written_bytes: u64,
}

impl Look {
    fn at(gateway: &Gateway) -> anyhow::Result<Self> {
        let pid = gateway.pid.context("the gateway's process is not known")?;
        let control = gateway.control.context("its metrics are not known")?;
        Ok(Self {
            metrics: Metrics::scrape(control)?,
            cpu_us: usage::cpu_us(pid)?,
            log_cpu_us: usage::thread_cpu_us(pid, usage::thread(pid, LOG_THREAD)?)?,
            written_bytes: usage::written_bytes(pid)?,
        })
    }
}

/// What a stretch cost the gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Events that became durable, by its metrics.
    pub logged: u64,
    /// Durable writes, by its metrics.
    pub commits: u64,
    pub events_per_commit: f64,
    pub commit_ms_mean: f64,
    /// Share of the time in which a durable write was under way.
    pub committing: f64,
    /// User and system time of the whole process, per event.
    pub cpu_us_per_event: f64,
    /// The part of the thread that writes the log.
    pub log_cpu_us_per_event: f64,
    /// What reached the disk, for each event.
    pub disk_bytes_per_event: f64,
}

impl Cost {
    fn between(before: &Look, after: &Look, seconds: f64) -> Self {
        let grown = |name: &str| after.metrics.value(name) - before.metrics.value(name);
        let commit_seconds = {
            let name = "longhaul_event_log_commit_seconds_total";
            after.metrics.sum(name) - before.metrics.sum(name)
        };
        let logged = grown("longhaul_event_log_events_total");
        let commits = grown("longhaul_event_log_commits_total");
        let per_event = |amount: u64| amount as f64 / logged.max(1.0);
        Self {
            logged: logged as u64,
            commits: commits as u64,
            events_per_commit: logged / commits.max(1.0),
            commit_ms_mean: commit_seconds * 1e3 / commits.max(1.0),
            committing: commit_seconds / seconds,
            cpu_us_per_event: per_event(after.cpu_us - before.cpu_us),
            log_cpu_us_per_event: per_event(after.log_cpu_us - before.log_cpu_us),
            disk_bytes_per_event: per_event(after.written_bytes - before.written_bytes),
        }
    }
}

/// What came of a stretch.
#[derive(Clone, Debug, Serialize)]
pub struct Stretch {
    /// From when the first event was due to the last Ack.
    pub seconds: f64,
    /// Events that were acknowledged: they are on the disk.
    pub acked: u64,
    pub acked_per_second: f64,
    /// Events without an Ack in the end.
    pub missing: u64,
    /// Refusals that ask for another try.
    pub refused: u64,
    /// From due to the Ack; in a closed loop, from sent to the Ack.
    pub latency_us: Percentiles,
    /// From due to sent: how late the generator itself was.
    pub send_late_us: Percentiles,
    /// What it cost the gateway.
    pub cost: Cost,
    /// Of the busiest generator process.
    pub generator_cpu_percent: f64,
    pub errors: u64,
    pub reasons: Vec<String>,
    /// By vehicle: its first message id, and how many were acknowledged.
    #[serde(skip)]
    pub vehicles: BTreeMap<u32, (u64, u64)>,
}

impl Stretch {
    /// Lets all vehicles publish at this pace. `None`: the user gave up.
    ///
    /// # Errors
    /// The gateway or a generator process fails.
    pub fn run(
        args: &Events,
        pace: Pace,
        mut company: Company<'_, '_>,
    ) -> anyhow::Result<Option<Self>> {
        let beside = matches!(company, Company::Beside(_));
        let mut crew = Crew::start(&jobs(args, pace, beside, company.gateway()))?;
        let ready = |notice| matches!(notice, Notice::Ready(_)).then_some(());
        if company.await_all(&crew, ready)?.is_none() {
            return Ok(None);
        }
        let before = Look::at(company.gateway())?;
        crew.order(Order::Start(Epoch {
            start_ns: now_ns() + LEAD_NS,
            wall_ms: wall_ms() + LEAD_NS / 1_000_000,
        }))?;
        let published = |notice| match notice {
            Notice::Published(found) => Some(*found),
            _ => None,
        };
        let Some(parts) = company.await_all(&crew, published)? else {
            return Ok(None);
        };
        let after = Look::at(company.gateway())?;
        Self::of(parts, &before, &after).map(Some)
    }

    fn of(parts: Vec<Published>, before: &Look, after: &Look) -> anyhow::Result<Self> {
        let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let mut late = latency.clone();
        for part in &parts {
            add_pairs(&mut latency, &part.latency);
            add_pairs(&mut late, &part.late);
        }
        let sum = |value: fn(&Published) -> u64| parts.iter().map(value).sum::<u64>();
        let max = |value: fn(&Published) -> u64| parts.iter().map(value).max().unwrap_or(0);
        let spent_ns = max(|part| part.ended_ns.saturating_sub(part.began_ns));
        let seconds = (spent_ns as f64 / 1e9).max(1e-3);
        let acked = sum(|part| part.acked);
        Ok(Self {
            seconds,
            acked,
            acked_per_second: acked as f64 / seconds,
            missing: sum(|part| part.missing),
            refused: sum(|part| part.refused),
            latency_us: Percentiles::of(&latency, max(|part| part.latency_max_ns)),
            send_late_us: Percentiles::of(&late, late.max() * 1_000),
            cost: Cost::between(before, after, seconds),
            generator_cpu_percent: max(|part| part.cpu_us) as f64 / seconds / 1e4,
            errors: sum(|part| part.errors),
            reasons: parts.iter().flat_map(|part| part.reasons.clone()).collect(),
            vehicles: parts.into_iter().flat_map(|part| part.vehicles).collect(),
        })
    }
}

fn jobs(args: &Events, pace: Pace, beside: bool, gateway: &Gateway) -> Vec<Job> {
    let fewest = (args.vehicles as usize)
        .div_ceil(CONNECTIONS_PER_PROCESS)
        .max(1);
    let asked = args.generator.processes.map_or(fewest, usize::from);
    let processes = asked.max(fewest);
    run::cores(processes, gateway.shards, !args.generator.no_pin)
        .into_iter()
        .enumerate()
        .map(|(process, core)| {
            let task = Task::Publish(PublishTask {
                vehicles: args.vehicles,
                pace,
                payload_bytes: args.payload_bytes,
                offset: args.positions_vehicles as usize + 1,
                turn: Duration::from_micros(args.generator.pace_us),
                beside,
            });
            Job::at(gateway, (process, processes), core, task)
        })
        .collect()
}
