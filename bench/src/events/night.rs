//! The night: two dashboards go home, events pile up, and in the morning both want all of them at once, beside live
//! positions whose watcher must not notice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::consume::{ConsumeTask, Consumed, NAMES};
use super::course::Pace;
use super::stretch::{Company, Stretch};
use crate::audience::{Audience, Watch};
use crate::checker::{Epoch, phase_percentiles};
use crate::cli::{Events, duration};
use crate::clock::{now_ns, wall_ms};
use crate::crew::Crew;
use crate::desk::Desk;
use crate::gateway::Gateway;
use crate::job::{Done, Job, Load, Notice, Order, Percentiles, Share, Task};
use crate::report::Report;
use crate::run::{self, Interrupted, Run};
use crate::schedule::Synthetic;
use crate::view::Lines;

/// Events while both still watch, so that each has something to remember.
const EVENING: u64 = 1_000;
/// From the last event of the night to the morning.
const DAWN: Duration = Duration::from_secs(1);
/// Longer than all of it takes: the positions are told to stop.
const SECONDS_MAX: f64 = 3_600.0;

// Parts of the time, as the positions' latencies are kept.
const QUIET: usize = 1;
const NIGHT: usize = 2;
const MORNING: usize = 4;

/// What one dashboard got in the morning.
#[derive(Debug, Serialize)]
pub struct Morning {
    /// How it said where it wants to go on.
    pub by: &'static str,
    /// Distinct events.
    pub events: u64,
    /// Exactly what was published, per vehicle by message id, in order of the log, without a hole.
    pub exact: bool,
    /// Events that came again, and said so.
    pub redelivered: u64,
    /// Events that came again, and did not.
    pub duplicates: u64,
    pub holes: u64,
    pub misplaced: u64,
    /// From the question to the last event.
    pub seconds: f64,
    pub events_per_second: f64,
    /// Acknowledgements that it sent.
    pub acks: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Night {
    /// How the events were published.
    pub published: Stretch,
    pub mornings: Vec<Morning>,
    /// Events a second to both together, until the later of them had all.
    pub replayed_per_second: f64,
    /// User and system time of the gateway meanwhile, the positions' included, per event and dashboard.
    pub gateway_cpu_us_per_replayed: Option<f64>,
    pub errors: u64,
    pub reasons: Vec<String>,
    /// Of the positions, from due to received: while there was nothing else, while events were published, and while they
    /// were replayed.
    pub positions_quiet_us: Percentiles,
    pub positions_night_us: Percentiles,
    pub positions_replay_us: Percentiles,
    pub positions: Report,
}

/// Lets it happen. `None`: the user gave up.
///
/// # Errors
/// The gateway or a generator process fails.
pub fn run(
    args: &Events,
    parameters: &Value,
    gateway: &mut Gateway,
    interrupted: &Interrupted,
) -> anyhow::Result<Option<Night>> {
    let (vehicles, rate) = (args.positions_vehicles, args.positions_rate);
    Synthetic::new(vehicles, rate, SECONDS_MAX)?;
    let load = Run {
        command: "positions beside the events",
        parameters: parameters.clone(),
        load: Load::Fanout {
            vehicles,
            rate,
            seconds: SECONDS_MAX,
        },
        audience: Audience::new(vehicles, 0, Watch::All, 1, args.generator.seed),
    };
    let mut view = Lines::new();
    let share = Share::vehicles_and(0..1);
    let opened = Desk::open(
        &load,
        share,
        gateway,
        &args.generator,
        &mut view,
        interrupted,
    )?;
    let Some(mut desk) = opened else {
        return Ok(None);
    };
    desk.start()?;
    let Some(mut crew) = evening(args, &mut desk)? else {
        return Ok(None);
    };
    eprintln!("quiet: only positions");
    desk.order(Order::Phase)?;
    desk.attend(duration(args.quiet_seconds))?;
    eprintln!("night: {} events", args.night_events);
    desk.order(Order::Phase)?;
    let pace = Pace::Batch(args.night_events);
    let Some(published) = Stretch::run(args, pace, Company::Beside(&mut desk))? else {
        return Ok(None);
    };
    desk.order(Order::Phase)?;
    desk.attend(DAWN)?;
    eprintln!("morning: both come back");
    desk.order(Order::Phase)?;
    let began_ns = now_ns();
    crew.order(Order::Start(Epoch {
        start_ns: began_ns,
        wall_ms: wall_ms(),
    }))?;
    let Some(found) = Company::Beside(&mut desk).await_all(&crew, consumed)? else {
        return Ok(None);
    };
    let ended_ns = now_ns();
    desk.order(Order::Phase)?;
    // The samples of CPU time must reach beyond the end.
    desk.attend(DAWN)?;
    let cpu_us = desk.cpu_between(began_ns, ended_ns);
    desk.order(Order::Stop)?;
    let (positions, done) = desk.finish()?;
    let found = found.into_iter().next().unwrap_or_default();
    put_together(published, found, cpu_us, positions, done).map(Some)
}

/// Both come, get the evening's events, and leave. `None`: the user gave up.
fn evening(args: &Events, desk: &mut Desk<'_>) -> anyhow::Result<Option<Crew>> {
    let core = run::cores(1, desk.gateway.shards, !args.generator.no_pin)[0];
    let task = Task::Consume(ConsumeTask {
        evening: EVENING,
        night: args.night_events,
        offset: args.positions_vehicles as usize + 1 + args.vehicles as usize,
    });
    let crew = Crew::start(&[Job::at(desk.gateway, (0, 1), core, task)])?;
    let ready = |notice| matches!(notice, Notice::Ready(_)).then_some(());
    if Company::Beside(desk).await_all(&crew, ready)?.is_none() {
        return Ok(None);
    }
    let pace = Pace::Batch(EVENING);
    if Stretch::run(args, pace, Company::Beside(desk))?.is_none() {
        return Ok(None);
    }
    let left = |notice| matches!(notice, Notice::Left).then_some(());
    let left = Company::Beside(desk).await_all(&crew, left)?;
    Ok(left.map(|_| crew))
}

fn consumed(notice: Notice) -> Option<Consumed> {
    match notice {
        Notice::Consumed(found) => Some(*found),
        _ => None,
    }
}

fn put_together(
    published: Stretch,
    found: Consumed,
    cpu_us: Option<u64>,
    positions: Report,
    done: Vec<Done>,
) -> anyhow::Result<Night> {
    let phases: Vec<_> = done.into_iter().map(|part| part.phases).collect();
    let asked_ns = found.mornings.iter().map(|one| one.asked_ns).min();
    let ended_ns = found.mornings.iter().map(|one| one.ended_ns).max();
    let spent_ns = ended_ns
        .zip(asked_ns)
        .map_or(0, |(ended, asked)| ended.saturating_sub(asked));
    let mornings = mornings(&found, &published.vehicles);
    let events: u64 = mornings.iter().map(|one| one.events).sum();
    Ok(Night {
        published,
        replayed_per_second: per_second(events, spent_ns),
        gateway_cpu_us_per_replayed: cpu_us.map(|us| us as f64 / events.max(1) as f64),
        mornings,
        errors: found.errors,
        reasons: found.reasons,
        positions_quiet_us: phase_percentiles(&phases, &[QUIET])?,
        positions_night_us: phase_percentiles(&phases, &[NIGHT])?,
        positions_replay_us: phase_percentiles(&phases, &[MORNING])?,
        positions,
    })
}

fn mornings(found: &Consumed, published: &BTreeMap<u32, (u64, u64)>) -> Vec<Morning> {
    let each = found.mornings.iter().zip(NAMES);
    each.map(|(one, by)| {
        let spent_ns = one.ended_ns.saturating_sub(one.asked_ns);
        let journal = &one.journal;
        Morning {
            by,
            events: journal.events,
            exact: journal.is_exactly(published),
            redelivered: journal.redelivered,
            duplicates: journal.duplicates,
            holes: journal.holes,
            misplaced: journal.misplaced,
            seconds: spent_ns as f64 / 1e9,
            events_per_second: per_second(journal.events, spent_ns),
            acks: one.acks,
        }
    })
    .collect()
}

fn per_second(events: u64, spent_ns: u64) -> f64 {
    events as f64 / (spent_ns as f64 / 1e9).max(1e-3)
}
