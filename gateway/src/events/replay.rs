//! The thread that reads old events, for dashboards that come back or fall behind. It has a thread of its own, below
//! the shards' priority, because a disk may take its time; a dashboard has one request under way, and asks for the next
//! part when it has room for it.

use std::{
    ops::ControlFlow,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use longhaul_filter_engine::{Filter, FleetId};

use super::{
    EventLog, Logged,
    logged::Record,
    store::{LogFleet, Reader, StoreError},
};
use crate::{
    fleet::{Fleet, Holder},
    limits::{REPLAY_SCAN_BYTES_MAX, REPLAY_SCAN_MAX},
    shard::{
        connection::place,
        inbox::{Inbox, Letter},
    },
};

/// Reading ahead for somebody who was away is to come out of what shards leave.
const NICE: i32 = 10;
/// How often the thread looks whether it is to end.
const STEP: Duration = Duration::from_millis(200);
/// How long an answer waits for room in a shard's inbox.
const POST_STEP: Duration = Duration::from_millis(1);
/// How often it tries. Then the answer is dropped, so that the others need not wait, and asked for again.
const POST_TRIES: usize = 100;

/// Which topics somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicFilter {
    /// All of them.
    All,
    /// These.
    Some(Vec<Box<str>>),
}

impl TopicFilter {
    /// Whether it is among them.
    #[must_use]
    pub fn takes(&self, topic: &str) -> bool {
        match self {
            TopicFilter::All => true,
            TopicFilter::Some(topics) => topics.iter().any(|own| **own == *topic),
        }
    }
}

/// What a dashboard wants to have read.
#[derive(Debug)]
pub struct ReplayRequest {
    /// Its connection.
    pub to: Holder,
    /// Its fleet.
    pub fleet: FleetId,
    /// The first event that it has not considered.
    pub from: u64,
    /// The request's number, for the answer.
    pub ticket: u64,
    /// Whose events.
    pub vehicles: Filter,
    /// Which of them.
    pub topics: TopicFilter,
    /// How many at most.
    pub events_max: usize,
    /// How many bytes of them, about.
    pub bytes_max: usize,
}

/// What was found.
#[derive(Debug)]
pub struct Replayed {
    /// As it was asked.
    pub from: u64,
    /// The request's.
    pub ticket: u64,
    /// The oldest event that is kept; if that is above `from`, those before it are gone.
    pub first: u64,
    /// Everything up to here has been looked at. `None`: it could not be read, at present.
    pub through: Option<u64>,
    /// What matched, in order.
    pub events: Vec<Arc<Logged>>,
}

/// Where a fleet's events are in the store. The log's thread knows, and tells through this.
pub type Numbers = Arc<dyn Fn(FleetId) -> Option<LogFleet> + Send + Sync>;

/// What the thread works with.
pub struct Replay {
    /// Ends, when the log's thread has let go.
    pub requests: Receiver<ReplayRequest>,
    /// The store.
    pub reader: Reader,
    /// See [`Numbers`].
    pub numbers: Numbers,
    /// Where the log ends.
    pub log: Arc<EventLog>,
    /// Who is called what.
    pub fleet: Arc<Fleet>,
    /// Where answers go.
    pub inboxes: Arc<[Arc<Inbox>]>,
    /// The thread is to end.
    pub stop: Receiver<()>,
}

impl Replay {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name("longhaul-replay".to_owned())
            .spawn(move || {
                // Linux counts this for the thread. A refusal costs no more than some latency.
                let _ = rustix::process::setpriority_process(None, NICE);
                self.run();
            })
    }

    fn run(self) {
        loop {
            match self.requests.recv_timeout(STEP) {
                Ok(request) => self.serve(&request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !matches!(
                self.stop.try_recv(),
                Err(crossbeam::channel::TryRecvError::Empty)
            ) {
                return;
            }
        }
    }

    fn serve(&self, request: &ReplayRequest) {
        let replayed = self.read(request).unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read old events");
            Replayed {
                from: request.from,
                ticket: request.ticket,
                first: request.from,
                through: None,
                events: Vec::new(),
            }
        });
        let (shard, key) = place(request.to);
        let Some(inbox) = self.inboxes.get(shard) else {
            return;
        };
        let mut letter = Letter::Replayed(key, Box::new(replayed));
        for _ in 0..POST_TRIES {
            match inbox.post(letter) {
                Ok(()) => return,
                Err(refused) => letter = refused,
            }
            thread::sleep(POST_STEP);
        }
    }

    fn read(&self, request: &ReplayRequest) -> Result<Replayed, StoreError> {
        let (epoch, last) = (self.log.epoch(), self.log.last(request.fleet));
        let mut replayed = Replayed {
            from: request.from,
            ticket: request.ticket,
            first: request.from,
            through: Some(last),
            events: Vec::new(),
        };
        let Some(number) = (self.numbers)(request.fleet) else {
            // Nothing was ever logged of this fleet; or the log is being opened again, and it is asked for once more.
            replayed.through = (last == 0).then_some(0);
            return Ok(replayed);
        };
        let mut bytes_left = request.bytes_max;
        let mut considered = request.from.saturating_sub(1);
        let outcome = self.reader.read(
            number,
            request.from,
            last,
            REPLAY_SCAN_MAX,
            REPLAY_SCAN_BYTES_MAX,
            &mut |sequence, _, bytes| {
                considered = sequence;
                let Some(record) = Record::read(bytes) else {
                    tracing::error!(sequence, "a record of the event log cannot be read");
                    return ControlFlow::Continue(());
                };
                if !request.topics.takes(record.topic) {
                    return ControlFlow::Continue(());
                }
                let registry = &self.fleet.registry;
                let vehicle = if request.vehicles.is_whole() {
                    // It may not have connected yet since the start. It did, before: it gets an index.
                    registry.vehicle(request.fleet, record.vehicle_id).ok()
                } else {
                    registry.find(request.fleet, record.vehicle_id)
                };
                let wanted = match vehicle {
                    Some(vehicle) => request.vehicles.contains(vehicle),
                    None => request.vehicles.is_whole(),
                };
                if wanted {
                    let logged = record.logged(vehicle, sequence, epoch);
                    bytes_left = bytes_left.saturating_sub(logged.bytes());
                    replayed.events.push(Arc::new(logged));
                }
                if replayed.events.len() >= request.events_max || bytes_left == 0 {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            },
        );
        let first = match outcome {
            Ok(outcome) => outcome.first,
            // What comes before the damage first; then it is a gap.
            Err(StoreError::Corrupt { .. }) if considered >= request.from => request.from,
            Err(StoreError::Corrupt {
                resume: Some(resume),
                path,
                what,
            }) => {
                tracing::error!(path = %path.display(), what, from = request.from, resume, "events are damaged");
                resume
            }
            Err(error) => return Err(error),
        };
        replayed.first = first;
        // Nothing at all was there: what was asked for is behind retention as a whole, or not there yet.
        replayed.through = Some(considered.max(first.saturating_sub(1)));
        Ok(replayed)
    }
}
