//! What the main process and its generator processes tell each other: one JSON value a line, on stdin and stdout.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::audience::{Audience, Watch};
use crate::checker::{Counts, Epoch, Phase};
use crate::churn::crowd::ChurnTask;
use crate::churn::tally::Tally;
use crate::dialect::Dialect;
use crate::events::consume::{ConsumeTask, Consumed};
use crate::events::publish::{PublishTask, Published};
use crate::gateway::Gateway;
use crate::mixed::day::Day;
use crate::mixed::hours::Lived;
use crate::resume::Resumed;
use crate::storm::herd::{Round, StormTask};
use crate::tls::Secure;
use crate::token::Role;

/// The first line that a generator process reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What the server speaks; anything but Longhaul's protocol for loads and idle vehicles only.
    pub dialect: Dialect,
    /// Where the gateway listens.
    pub target: SocketAddr,
    /// For the `Host` header.
    pub host: String,
    /// Path of the upgrade.
    pub path: String,
    /// File with the token secret.
    pub key: PathBuf,
    /// File with the gateway's certificate, if it speaks TLS.
    pub certificate: Option<PathBuf>,
    /// Which process this is.
    pub process: usize,
    /// How many there are: process p has every vehicle and dashboard whose number is p modulo this.
    pub processes: usize,
    /// Core to run on.
    pub core: Option<usize>,
    /// What to do.
    pub task: Task,
}

impl Job {
    /// A job against a gateway.
    pub fn at(
        gateway: &Gateway,
        (process, processes): (usize, usize),
        core: Option<usize>,
        task: Task,
    ) -> Job {
        Job {
            dialect: gateway.dialect,
            target: gateway.target,
            host: gateway.host.clone(),
            path: gateway.path.clone(),
            key: gateway.key.clone(),
            certificate: gateway.certificate.clone(),
            process,
            processes,
            core,
            task,
        }
    }

    /// How its connections are made secure, if they are. Each makes a handshake of its own.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn secure(&self) -> anyhow::Result<Option<Secure>> {
        let trust = |chain: &PathBuf| Secure::trusting(chain, false);
        self.certificate.as_ref().map(trust).transpose()
    }
}

/// What a generator process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Task {
    /// Sends updates and checks deliveries.
    Load(LoadTask),
    /// Holds idle connections.
    Hold(HoldTask),
    /// Connects many at once.
    Storm(StormTask),
    /// Comes and goes.
    Churn(ChurnTask),
    /// Publishes events.
    Publish(PublishTask),
    /// Watches events, leaves, and comes back.
    Consume(ConsumeTask),
}

/// See [`Task::Load`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadTask {
    /// What is sent.
    pub load: Load,
    /// Who watches.
    pub audience: Audience,
    /// Which of them these processes have.
    pub share: Share,
    /// Positions are masked as a real client does. Otherwise with zeros, which costs neither side anything.
    pub masked: bool,
    /// Shortest time between two turns of the loop.
    pub pace: Duration,
    /// Time between two [`Notice::Progress`].
    pub progress: Duration,
}

/// Which clients of a load a set of processes has between them, and how these dashboards read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Whether they have the vehicles.
    pub vehicles: bool,
    /// Which of the audience's dashboards.
    pub dashboards: Range<usize>,
    /// With which `Subscribe.min_interval_ms`.
    pub min_interval_ms: u32,
    /// With which `SO_RCVBUF`; none: as the kernel likes.
    pub receive_buffer_bytes: Option<usize>,
}

impl Share {
    /// All vehicles, and these dashboards, with nothing special about how they read.
    pub fn vehicles_and(dashboards: Range<usize>) -> Self {
        Self {
            vehicles: true,
            dashboards,
            min_interval_ms: 0,
            receive_buffer_bytes: None,
        }
    }
}

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Load {
    /// Synthetic vehicles, evenly spread.
    Fanout {
        /// How many.
        vehicles: u32,
        /// Updates a second, of all together.
        rate: u32,
        /// For how long.
        seconds: f64,
    },
    /// A trace.
    Replay {
        /// CSV, plain or gzip.
        trace: PathBuf,
        /// 1: real time.
        speed: f64,
        /// Where in the trace to begin.
        from: Duration,
        /// How long to replay; none: to the end.
        length: Option<Duration>,
    },
    /// A fleet that comes and goes.
    Day(Day),
}

/// See [`Task::Hold`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldTask {
    /// Number of the first, among all processes.
    pub first: u32,
    /// How many connections.
    pub connections: u32,
    /// What they are; none: bare sockets.
    pub role: Option<Role>,
    /// What each dashboard watches.
    pub watch: Watch,
    /// How many vehicles a dashboard chooses from.
    pub universe: u32,
    /// Seed of the choice.
    pub seed: u64,
}

/// From the main process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Sending begins at this instant.
    Start(Epoch),
    /// From now on latencies count as the next phase's.
    Phase,
    /// Finish now. The end of the input means the same.
    Stop,
}

/// From a generator process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Notice {
    /// While connecting.
    Connecting {
        /// Connections that are ready.
        ready: usize,
        /// Of how many.
        of: usize,
    },
    /// All that could be connected is.
    Ready(Ready),
    /// While sending.
    Progress(Progress),
    /// Everything has been received, or nothing comes any more; connections are still open.
    Settled,
    /// The end of a load.
    Done(Box<Done>),
    /// The end of a hold.
    Held {
        /// Connections that the gateway ended meanwhile.
        dropped: usize,
        /// Why, the first few.
        reasons: Vec<String>,
    },
    /// The end of a round of a storm.
    Round(Box<Round>),
    /// The end of a churn.
    Churned(Box<Tally>),
    /// All that was to be published is acknowledged, or will not be.
    Published(Box<Published>),
    /// Dashboards have what they were to get, and are gone for now.
    Left,
    /// What they got when they came back.
    Consumed(Box<Consumed>),
    /// It cannot go on.
    Failed(String),
}

/// What came of connecting.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ready {
    /// Connections that are ready.
    pub connected: usize,
    /// Connections that are not.
    pub failed: usize,
    /// Why, the first few.
    pub reasons: Vec<String>,
    /// From the first `connect` to the last ready.
    pub seconds: f64,
    /// Ids that the gateway should have given and has not.
    pub names_missing: usize,
}

/// How far a load is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Updates sent.
    pub inbound: u64,
    /// Updates sent, times the dashboards of this process that watch the vehicle.
    pub matches: u64,
    /// What was delivered.
    pub counts: Counts,
    /// So far.
    pub latency: Percentiles,
    /// Of what came since the last one of these: microseconds and count.
    pub window: Vec<(u64, u64)>,
    /// Sends, from due to done, 99th percentile.
    pub late_p99_us: u64,
    /// User and system time of this process since the start.
    pub cpu_us: u64,
    /// The first few dashboards of this process.
    pub dashboards: Vec<DashboardProgress>,
}

/// How one dashboard fares.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DashboardProgress {
    /// Its number.
    pub dashboard: usize,
    /// What it watches.
    pub watch: Watch,
    /// Updates sent by vehicles that it watches.
    pub matches: u64,
    /// Those that reached it.
    pub delivered: u64,
}

/// Latency from due to received, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl Percentiles {
    /// Of a histogram of microseconds, whose sampling may have missed the maximum.
    pub fn of(histogram: &Histogram<u64>, max_ns: u64) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile).min(max_ns / 1_000);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: max_ns / 1_000,
        }
    }
}

/// Everything that one process found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// What was delivered.
    pub counts: Counts,
    /// Updates sent, per vehicle of this process in ascending order.
    pub sent: Vec<u32>,
    /// Updates that this process's dashboards were owed; none: each that was sent by a vehicle that they watch.
    pub expected: Option<u64>,
    /// Latency in microseconds: value and count.
    pub latency: Vec<(u64, u64)>,
    /// The longest latency.
    pub latency_max_ns: u64,
    /// The same latencies, by phase: one more than there were [`Order::Phase`].
    pub phases: Vec<Phase>,
    /// One in how many latencies is in the histogram.
    pub sample_every: u32,
    /// Sends, from due to done, in microseconds: value and count. Those that the gateway held up are not in it.
    pub late: Vec<(u64, u64)>,
    /// Sends that had to wait because the gateway did not read.
    pub blocked: u64,
    /// Vehicles whose last ping was not answered: not known whether all their updates were read.
    pub unconfirmed: usize,
    /// Connections that ended during the run.
    pub disconnected: usize,
    /// The same, by close code; 1006 without a close frame.
    pub closes: BTreeMap<u16, u64>,
    /// What dashboards got after this process had been stopped for a while, per time that it was.
    pub resumed: Vec<Resumed>,
    /// A day hour by hour, if the load was one.
    pub lived: Option<Box<Lived>>,
    /// Why, the first few, and `Error` messages.
    pub reasons: Vec<String>,
    /// `Error` messages and messages that do not decode.
    pub errors: u64,
    /// When the last update was sent (monotonic clock).
    pub sent_ns: u64,
    /// When the last update was received (monotonic clock).
    pub received_ns: u64,
    /// When everything had been received, or nothing came any more (monotonic clock).
    pub settled_ns: u64,
    /// User and system time of this process while it sent.
    pub cpu_us: u64,
}

/// A histogram as values and counts.
pub fn pairs(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram
        .iter_recorded()
        .map(|v| (v.value_iterated_to(), v.count_at_value()))
        .collect()
}

/// Adds values and counts to a histogram.
pub fn add_pairs(histogram: &mut Histogram<u64>, pairs: &[(u64, u64)]) {
    for &(value, count) in pairs {
        histogram.saturating_record_n(value, count);
    }
}

/// Writes one line to the main process.
///
/// # Errors
/// The main process is gone.
pub fn tell(notice: &Notice) -> anyhow::Result<()> {
    use std::io::Write;
    let mut line = serde_json::to_vec(notice)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(&line)
        .context("the main process is gone")?;
    stdout.flush().context("the main process is gone")
}
