//! The thread that writes. It takes what shards hand it, as much as has gathered while the last batch was on its way to
//! the disk, makes one batch of it, and waits for the disk once: the more events come, the more of them share an fsync.
//!
//! | file | what |
//! |---|---|
//! | `begin` | opens the folder, or waits until another process lets go of it; what was kept comes back |
//! | `batch` | from events to one batch: retries, numbers, order |
//! | `commit` | the batch to the disk, and the verdicts to whoever waits for them; failure and recovery |
//! | `orders` | commands, as far as they are to be durable |
//! | `chores` | what is to be done now and then: retention, cursors |
//! | `post` | letters to shards, also to those with a full inbox |

mod batch;
mod begin;
mod chores;
mod commit;
mod orders;
mod post;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use longhaul_codec::ErrorCode;
use longhaul_filter_engine::{FleetId, VehicleIndex};

use self::{batch::Gathered, orders::Orders, post::Post};
use super::{
    EventLog, LogState,
    commands::Bounds,
    handle::{Inlets, Request},
    hold::Holds,
    replay::ReplayRequest,
    store::{Batch, LogFleet, Store, StoreError},
    window::Window,
};
use crate::{
    config,
    fleet::{Fleet, Holder},
    limits::{COMMIT_BYTES_MAX, COMMIT_EVENTS_MAX, COMMIT_REQUESTS_MAX},
    metrics::LogMetrics,
    shard::{inbox::Inbox, ring::Key},
};

/// The longest that the thread sleeps.
const STEP: Duration = Duration::from_millis(100);
/// The same, while a shard's inbox is full.
const POST_STEP: Duration = Duration::from_millis(2);
/// From the beginning of one commit to that of the next, at least. A commit costs about 0.6 ms of CPU and 190 KB of disk,
/// however few events it has: without a pause, 2,000 events a second take half a core and 180 MB/s. An event that comes
/// alone does not wait.
const COMMIT_EVERY: Duration = Duration::from_millis(4);
/// How long the last batch may take when the process ends.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What became of an event with qos 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The connection that waits for it.
    pub key: Key,
    /// The vehicle's number for it.
    pub message_id: u64,
    /// `Ok`: it is durable. Else why it was not taken.
    pub verdict: Result<(), Refused>,
}

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not now: the log is in this state.
    State(LogState),
    /// An earlier one of this vehicle was refused, and has to come first.
    Held,
    /// Its message id lies so far below others of its vehicle that nobody can say whether it is a retry.
    Old,
}

impl Refused {
    /// The error's kind, and the text for the vehicle.
    #[must_use]
    pub fn says(self) -> (ErrorCode, &'static str) {
        match self {
            Refused::State(state) => (ErrorCode::NotDurable, state.why_not()),
            Refused::Held => (
                ErrorCode::NotDurable,
                "an earlier event of yours was refused: go back to it, and send this one again behind it",
            ),
            Refused::Old => (
                ErrorCode::Malformed,
                "the message_id lies below those of your last events and is none of them: ids must grow, for ever; a \
                 vehicle that has lost its counter begins with the time in microseconds",
            ),
        }
    }
}

/// What the log works with.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The folder.
    pub directory: PathBuf,
    /// `[events]`.
    pub events: config::Events,
    /// The bounds of commands.
    pub commands: Bounds,
    /// The handle that shards have.
    pub log: Arc<EventLog>,
    /// Who is called what, and who wants what.
    pub fleet: Arc<Fleet>,
    /// Where verdicts and events go.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// What it counts.
    pub metrics: Arc<LogMetrics>,
}

/// The running log.
#[derive(Debug)]
pub struct Running {
    log: Arc<EventLog>,
    ended: mpsc::Receiver<()>,
}

/// Opens the log and starts its threads. If another process of this node has the folder, they wait for it.
///
/// # Errors
/// The folder cannot be used, or there can be no further thread.
pub fn start(setting: Setting, inlets: Inlets) -> anyhow::Result<Running> {
    let log = Arc::clone(&setting.log);
    let opened = match begin::open(&setting) {
        Ok(opened) => Some(opened),
        Err(StoreError::Locked { .. }) => {
            tracing::warn!(
                directory = %setting.directory.display(),
                "another process has the event log; waiting for it to let go"
            );
            log.set_state(LogState::Opening);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let (done, ended) = mpsc::channel();
    thread::Builder::new()
        .name("longhaul-events".to_owned())
        .spawn(move || {
            begin::run(setting, inlets, opened);
            let _ = done.send(());
        })?;
    Ok(Running { log, ended })
}

impl Running {
    /// Another process of this node is to take over: finishes what waits and lets go of the folder.
    pub fn close(&self) {
        // A full queue is being emptied, and the process's end closes the folder as well.
        let _ = self.log.ask(Request::Close);
    }

    /// Finishes what waits, and waits for that. Call it when no shard publishes any more.
    pub fn stop(self) {
        let by = Instant::now() + STOP_WITHIN;
        while self.log.ask(Request::Stop).is_err() && Instant::now() < by {
            if self.ended.try_recv().is_ok() {
                return;
            }
            thread::sleep(POST_STEP);
        }
        if self
            .ended
            .recv_timeout(by.saturating_duration_since(Instant::now()))
            .is_err()
        {
            tracing::error!(
                "the event log did not finish within {} s; nothing that was acknowledged is lost",
                STOP_WITHIN.as_secs()
            );
        }
    }
}

/// A fleet in the store.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: LogFleet,
    /// The newest event, those of the batch at hand included.
    last: u64,
    /// The store knows the fleet.
    known: bool,
}

/// Which fleet has which number: for the thread that reads.
type Numbered = Arc<Mutex<HashMap<FleetId, LogFleet>>>;

/// The thread's state.
#[derive(Debug)]
struct Writer {
    setting: Setting,
    store: Store,
    requests: Receiver<Request>,
    batch: Batch,
    gathered: Gathered,
    places: HashMap<FleetId, Place>,
    numbered: Numbered,
    /// Numbers of fleets in the store, by name, for those that nobody has asked for yet.
    by_name: HashMap<String, Place>,
    next_number: u32,
    /// By vehicle: the newest message ids.
    senders: HashMap<VehicleIndex, Window>,
    /// Those that changed in the batch at hand, and their fleets.
    touched: HashMap<VehicleIndex, FleetId>,
    holds: Holds<Holder>,
    orders: Orders,
    post: Post,
    /// When to try again after a failure. `None`: nothing is wrong.
    retry_at: Option<Instant>,
    /// When trouble was last said.
    said: Option<Instant>,
    /// The store has to be opened again first.
    broken: bool,
    /// When the next commit may begin.
    commit_at: Instant,
    chores: chores::Chores,
    name: String,
    record: Vec<u8>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Another process takes over.
    Closed,
    /// The process ends.
    Stopped,
}

impl Writer {
    /// Works until it is told to let go.
    fn run(&mut self) -> Ended {
        loop {
            let step = if self.post.is_behind() {
                POST_STEP
            } else {
                STEP
            };
            let mut ended = None;
            match self.requests.recv_timeout(step) {
                Ok(request) => {
                    ended = self.take(request);
                    let mut taken = 1;
                    // What came while the disk was busy, and what comes until the next commit may begin.
                    while ended.is_none()
                        && self.gathered.len() < COMMIT_EVENTS_MAX
                        && self.gathered.bytes() < COMMIT_BYTES_MAX
                        && taken < COMMIT_REQUESTS_MAX
                        && let Ok(request) = self.requests.recv_deadline(self.commit_at)
                    {
                        ended = self.take(request);
                        taken += 1;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => ended = Some(Ended::Stopped),
            }
            self.recover();
            self.chores(ended.is_some());
            self.commit();
            self.post.again();
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    fn numbered(&self) -> MutexGuard<'_, HashMap<FleetId, LogFleet>> {
        locked(&self.numbered)
    }

    fn take(&mut self, request: Request) -> Option<Ended> {
        match request {
            Request::Publish(events) => {
                let now_ms = unix_ms();
                for publish in events {
                    self.publish(publish, now_ms);
                }
                None
            }
            Request::Command(news) => {
                self.command_news(news);
                None
            }
            Request::Close => Some(Ended::Closed),
            Request::Stop => Some(Ended::Stopped),
        }
    }
}

/// Milliseconds since the Unix epoch.
fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

fn locked(numbered: &Numbered) -> MutexGuard<'_, HashMap<FleetId, LogFleet>> {
    // Nothing under the lock can panic half way.
    numbered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that nobody will serve, because the log is closed: dashboards are told by its state.
fn drain(replays: &Receiver<ReplayRequest>) {
    while replays.try_recv().is_ok() {}
}
