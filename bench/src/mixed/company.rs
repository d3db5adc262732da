//! The events of a day: vehicles that publish with QoS 1 from midnight to midnight, and two dashboards that must get each
//! of them, though they are away for some hours.

use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::curve::HOURS;
use crate::checker::Epoch;
use crate::cli::Mixed;
use crate::crew::Crew;
use crate::events::consume::{ConsumeTask, Consumed, NAMES};
use crate::events::course::Pace;
use crate::events::publish::{PublishTask, Published};
use crate::gateway::Gateway;
use crate::job::{Job, Notice, Order, Percentiles, Task, add_pairs};
use crate::run;

/// Share of the events after which the dashboards go home.
const EVENING: f64 = 14.0 / HOURS as f64;
/// The hour in which they come back, behind the outage.
pub const RETURN_HOUR: usize = 20;
/// How long they may take to end once the day is over. Where nothing comes any more they give up earlier.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one of these dashboards got.
#[derive(Clone, Debug, Serialize)]
pub struct Consumer {
    /// How it said where it wants to go on.
    pub by: &'static str,
    /// Distinct events.
    pub events: u64,
    /// Those that came after it had been away.
    pub events_after: u64,
    /// Exactly what was published, per vehicle by message id, in order of the log, without a hole.
    pub exact: bool,
    /// Events that came again, and said so.
    pub redelivered: u64,
    /// Events that came again, and did not.
    pub duplicates: u64,
    /// Numbers of the log that were skipped.
    pub holes: u64,
    /// Events that are not the next of their vehicle.
    pub misplaced: u64,
}

/// What became of the events.
#[derive(Clone, Debug, Serialize)]
pub struct Events {
    /// Events that were acknowledged: they are on the disk.
    pub acked: u64,
    /// Events that were due and have no Ack.
    pub missing: u64,
    /// Refusals that ask for another try.
    pub refused: u64,
    /// From due to the Ack.
    pub latency_us: Percentiles,
    /// From due to sent.
    pub send_late_us: Percentiles,
    /// Ends of connections, and messages that make no sense.
    pub errors: u64,
    /// What each dashboard got.
    pub consumers: Vec<Consumer>,
    /// The first few errors and refusals.
    pub reasons: Vec<String>,
}

/// Those who publish and those who want the events, in a process each.
pub struct Company {
    publishers: Crew,
    consumers: Crew,
    ready: usize,
    left: bool,
    published: Option<Published>,
    consumed: Option<Consumed>,
}

impl Company {
    /// Starts them. `others`: connections that the fleet has, for the choice of source addresses.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn start(args: &Mixed, gateway: &Gateway, others: usize) -> anyhow::Result<Self> {
        let core = run::cores(1, gateway.shards, !args.generator.no_pin)[0];
        let seconds = args.warm_up + args.seconds;
        let events = (f64::from(args.events_rate) * seconds).round() as u64;
        let evening = (events as f64 * EVENING) as u64;
        let publish = Task::Publish(PublishTask {
            vehicles: args.events_vehicles,
            pace: Pace::Rate(args.events_rate, seconds),
            payload_bytes: args.payload_bytes,
            offset: others,
            turn: Duration::from_micros(args.generator.pace_us),
            beside: true,
        });
        let consume = Task::Consume(ConsumeTask {
            evening,
            night: events - evening,
            offset: others + args.events_vehicles as usize,
        });
        let start = |task| Crew::start(&[Job::at(gateway, (0, 1), core, task)]);
        Ok(Self {
            publishers: start(publish)?,
            consumers: start(consume)?,
            ready: 0,
            left: false,
            published: None,
            consumed: None,
        })
    }

    /// Takes in what they said, waiting at most this long.
    ///
    /// # Errors
    /// One of them failed.
    pub fn hear(&mut self, timeout: Duration) -> anyhow::Result<()> {
        for (crew, done) in [
            (&self.publishers, self.published.is_some()),
            (&self.consumers, self.consumed.is_some()),
        ] {
            if done {
                continue;
            }
            match crew.notice(timeout)? {
                Some((_, Notice::Ready(_))) => self.ready += 1,
                Some((_, Notice::Left)) => self.left = true,
                Some((_, Notice::Published(found))) => self.published = Some(*found),
                Some((_, Notice::Consumed(found))) => self.consumed = Some(*found),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether both wait for the day to begin.
    pub fn is_ready(&self) -> bool {
        self.ready == 2
    }

    /// The day begins.
    ///
    /// # Errors
    /// The process is gone.
    pub fn begin(&mut self, epoch: Epoch) -> anyhow::Result<()> {
        self.publishers.order(Order::Start(epoch))
    }

    /// Orders the dashboards back. Those that have not left yet leave first, whenever that is.
    ///
    /// # Errors
    /// The process is gone.
    pub fn come_back(&mut self, epoch: Epoch) -> anyhow::Result<()> {
        self.consumers.order(Order::Start(epoch))
    }

    /// Waits until the last event is acknowledged and got, or nobody waits for it any more.
    ///
    /// # Errors
    /// One of them failed, or says nothing any more.
    pub fn finish(mut self) -> anyhow::Result<Events> {
        let began = Instant::now();
        while self.published.is_none() || self.consumed.is_none() {
            self.hear(Duration::from_millis(20))?;
            if began.elapsed() > PATIENCE {
                bail!(
                    "the events' generators do not end (the dashboards {})",
                    if self.left { "came back" } else { "never left" }
                );
            }
        }
        Events::new(
            self.published.unwrap_or_default(),
            self.consumed.unwrap_or_default(),
        )
    }
}

impl Events {
    fn new(published: Published, consumed: Consumed) -> anyhow::Result<Self> {
        let mut latency = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3)?;
        let mut late = latency.clone();
        add_pairs(&mut latency, &published.latency);
        add_pairs(&mut late, &published.late);
        let consumers = consumed.mornings.iter().zip(NAMES).map(|(one, by)| {
            let whole = one.journal.behind_all_of(&one.evening);
            Consumer {
                by,
                events: whole.events,
                events_after: one.journal.events,
                exact: whole.is_exactly(&published.vehicles),
                redelivered: whole.redelivered,
                duplicates: whole.duplicates,
                holes: whole.holes,
                misplaced: whole.misplaced,
            }
        });
        Ok(Self {
            acked: published.acked,
            missing: published.missing,
            refused: published.refused,
            latency_us: Percentiles::of(&latency, published.latency_max_ns),
            send_late_us: Percentiles::of(&late, late.max() * 1_000),
            errors: published.errors + consumed.errors,
            consumers: consumers.collect(),
            reasons: [published.reasons, consumed.reasons].concat(),
        })
    }
}
