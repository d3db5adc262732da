//! What everybody else sees of the event log: where it ends, whether it takes events, and where to send them.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
};

use crossbeam::channel::{Receiver, Sender, bounded};
use longhaul_codec::{CommandResult, Event, ResumePoint};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    commands::{Asker, NewCommand},
    consumers::Consumers,
    replay::ReplayRequest,
};
use crate::{
    fleet::{Holder, Interest},
    limits::{LOG_REQUESTS_MAX, Limits, REPLAYS_WAITING_MAX},
};

/// How the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LogState {
    /// There is none (no `events.directory`).
    Off = 0,
    /// It is not open yet: another process of this node has it.
    Opening = 1,
    /// It takes events.
    Open = 2,
    /// It cannot write (disk full, I/O error). What it has can be read.
    Failed = 3,
    /// It was handed over to another process.
    Closed = 4,
}

impl LogState {
    /// Why an event or a command is not taken in this state, for its sender.
    #[must_use]
    pub fn why_not(self) -> &'static str {
        match self {
            LogState::Off => "this gateway has no event log (events.directory): use qos 0",
            LogState::Opening => "the event log is about to be taken over; try again in a second",
            LogState::Open => "the event log was busy; try again",
            LogState::Failed => {
                "the event log cannot write at present (its disk is full or failed); keep it and try again"
            }
            LogState::Closed => "this gateway goes away and has handed its event log on; reconnect",
        }
    }
}

/// Where a fleet's log begins and ends.
#[derive(Debug)]
struct Head {
    /// The oldest event that is kept.
    first: AtomicU64,
    /// The newest one; 0: there never was one.
    last: AtomicU64,
}

/// An event with qos 1 on its way to the log.
#[derive(Debug)]
pub struct Publish {
    /// The connection that waits for the verdict.
    pub from: Holder,
    /// Its fleet.
    pub fleet: FleetId,
    /// Its sender.
    pub vehicle: VehicleIndex,
    /// As it came.
    pub event: Event,
}

impl Publish {
    /// What it takes of `limits.events_pending_bytes_max`.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Publish>() + self.event.topic.len() + self.event.payload.len()
    }
}

/// What happened to commands, vehicles and users, as far as commands are concerned.
#[derive(Debug)]
pub enum CommandNews {
    /// A dashboard sent one.
    Sent(Asker, Box<NewCommand>),
    /// A vehicle answers one, over this connection.
    Result(VehicleIndex, Holder, Box<CommandResult>),
    /// A vehicle has connected.
    VehicleHere(VehicleIndex, Holder),
    /// A user has connected.
    UserHere(FleetId, Box<str>, Holder),
    /// The vehicle's connection was gone; the command's number.
    NotDelivered(VehicleIndex, Holder, u64),
    /// The sender has been told what became of this one.
    Told(u64),
    /// The sender's connection was gone.
    NotTold(u64, Holder),
}

impl CommandNews {
    /// What it takes of memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let says = match self {
            CommandNews::Sent(_, command) => command.payload.len() + command.name.len(),
            CommandNews::Result(_, _, result) => result.payload.len(),
            _ => 0,
        };
        size_of::<CommandNews>() + says
    }
}

/// What the log's thread is asked for.
#[derive(Debug)]
pub enum Request {
    /// See [`CommandNews`].
    Command(CommandNews),
    /// Events of one shard's tick, in the order in which they came.
    Publish(Vec<Publish>),
    /// Finish, let go of the folder, and take nothing more: another process takes over.
    Close,
    /// The same, and end the thread.
    Stop,
}

/// The event log, as shards and the control plane see it.
#[derive(Debug)]
pub struct EventLog {
    state: AtomicU8,
    epoch: AtomicU64,
    /// The epoch of the log that was damaged and whose place this one took; 0: none.
    epoch_lost: AtomicU64,
    /// How long a consumer's cursor would have been kept, in milliseconds.
    consumer_expires_ms: AtomicU64,
    heads: Box<[Head]>,
    requests: Sender<Request>,
    replays: Sender<ReplayRequest>,
    pending: AtomicUsize,
    pending_bytes: AtomicUsize,
    pending_max: usize,
    pending_bytes_max: usize,
    /// Durable consumers.
    pub consumers: Consumers,
    /// Commands that wait for a vehicle or its answer; never too few.
    pub(super) commands_waiting: AtomicUsize,
    /// Results that wait for a user, or in case that a command is sent again.
    pub(super) results_kept: AtomicUsize,
}

/// The other ends of the log's channels, for its threads.
#[derive(Debug)]
pub struct Inlets {
    /// For the thread that writes.
    pub requests: Receiver<Request>,
    /// For the thread that reads.
    pub replays: Receiver<ReplayRequest>,
}

impl EventLog {
    /// A log that is in `state`, and empty.
    #[must_use]
    pub fn new(limits: &Limits, state: LogState) -> (Arc<EventLog>, Inlets) {
        let (requests, request_inlet) = bounded(LOG_REQUESTS_MAX);
        let (replays, replay_inlet) = bounded(REPLAYS_WAITING_MAX);
        let head = || Head {
            first: AtomicU64::new(1),
            last: AtomicU64::new(0),
        };
        let log = EventLog {
            state: AtomicU8::new(state as u8),
            epoch: AtomicU64::new(0),
            epoch_lost: AtomicU64::new(0),
            consumer_expires_ms: AtomicU64::new(0),
            heads: (0..limits.fleets_max).map(|_| head()).collect(),
            requests,
            replays,
            pending: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            pending_max: limits.events_pending_max,
            pending_bytes_max: limits.events_pending_bytes_max,
            consumers: Consumers::new(limits.consumers_max, limits.consumers_per_user_max),
            commands_waiting: AtomicUsize::new(0),
            results_kept: AtomicUsize::new(0),
        };
        let inlets = Inlets {
            requests: request_inlet,
            replays: replay_inlet,
        };
        (Arc::new(log), inlets)
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> LogState {
        match self.state.load(Ordering::Acquire) {
            1 => LogState::Opening,
            2 => LogState::Open,
            3 => LogState::Failed,
            4 => LogState::Closed,
            _ => LogState::Off,
        }
    }

    /// Whether what it has can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(self.state(), LogState::Open | LogState::Failed)
    }

    /// Which history the sequences count in; 0: none yet.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Where a consumer that nobody knows may have been: in a log that was damaged so recently that its cursor would still
    /// be kept. Epochs are the times of their beginning.
    #[must_use]
    pub fn lost(&self, now_ms: u64) -> Option<ResumePoint> {
        let epoch = self.epoch_lost.load(Ordering::Acquire);
        let expires_ms = self.consumer_expires_ms.load(Ordering::Relaxed);
        let is_recent = now_ms.saturating_sub(self.epoch()) < expires_ms;
        (epoch > 0 && is_recent).then_some(ResumePoint { epoch, sequence: 0 })
    }

    /// The newest event of a fleet; 0: there is none.
    #[must_use]
    pub fn last(&self, fleet: FleetId) -> u64 {
        self.head(fleet)
            .map_or(0, |head| head.last.load(Ordering::Acquire))
    }

    /// The oldest event of a fleet that is kept.
    #[must_use]
    pub fn first(&self, fleet: FleetId) -> u64 {
        self.head(fleet)
            .map_or(1, |head| head.first.load(Ordering::Acquire))
    }

    fn head(&self, fleet: FleetId) -> Option<&Head> {
        self.heads.get(fleet.0 as usize)
    }

    /// Asks for room for one event; it is given back by [`EventLog::settled`].
    pub fn admit(&self, bytes: usize) -> bool {
        let events = self.pending.fetch_add(1, Ordering::Relaxed);
        let waiting = self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room =
            events < self.pending_max && waiting.saturating_add(bytes) <= self.pending_bytes_max;
        if !room {
            self.settled(1, bytes);
        }
        room
    }

    /// So many events do not wait any more.
    pub fn settled(&self, events: usize, bytes: usize) {
        self.pending.fetch_sub(events, Ordering::Relaxed);
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a vehicle that connects should be announced to the log's thread. To be asked when its presence is set.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        Interest::fence();
        self.commands_waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether a user who connects should be.
    #[must_use]
    pub fn has_results(&self) -> bool {
        self.has_commands() || self.results_kept.load(Ordering::Relaxed) > 0
    }

    /// Events that wait to be written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Hands the log's thread a request, and gives it back if there is no room.
    ///
    /// # Errors
    /// The request itself.
    pub fn ask(&self, request: Request) -> Result<(), Request> {
        self.requests
            .try_send(request)
            .map_err(|error| error.into_inner())
    }

    /// Hands a request to the thread that reads; false if there is no room.
    pub fn replay(&self, request: ReplayRequest) -> bool {
        self.replays.try_send(request).is_ok()
    }

    /// For the log's thread: it ends here now.
    pub(super) fn set_last(&self, fleet: FleetId, last: u64) {
        if let Some(head) = self.head(fleet) {
            head.last.store(last, Ordering::Release);
        }
    }

    /// For the log's thread: it begins here now.
    pub(super) fn set_first(&self, fleet: FleetId, first: u64) {
        if let Some(head) = self.head(fleet) {
            head.first.store(first, Ordering::Release);
        }
    }

    /// For the log's thread.
    pub(super) fn set_state(&self, state: LogState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// For the log's thread, before it says that the log is open. In another epoch than before, every fleet begins anew.
    pub(super) fn set_epoch(&self, epoch: u64, lost: Option<u64>, consumer_expires_ms: u64) {
        if self.epoch() != epoch {
            for head in &self.heads {
                head.first.store(1, Ordering::Release);
                head.last.store(0, Ordering::Release);
            }
        }
        self.epoch_lost.store(lost.unwrap_or(0), Ordering::Release);
        self.consumer_expires_ms
            .store(consumer_expires_ms, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_waits_is_bounded_by_number_and_by_bytes() {
        let mut limits = Config::defaults().expect("defaults are good").limits;
        (limits.events_pending_max, limits.events_pending_bytes_max) = (2, 100);
        let (log, _inlets) = EventLog::new(&limits, LogState::Open);
        assert!(log.admit(60) && !log.admit(41) && log.admit(40));
        assert!(!log.admit(0), "two wait");
        log.settled(1, 60);
        assert!(log.admit(60));
        assert_eq!(log.pending(), 2);
    }
}
