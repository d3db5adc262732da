//! One connection: 72 bytes in the slab, and no buffer of any kind while it is idle.

use std::{collections::VecDeque, num::NonZeroU64, os::fd::RawFd};

use longhaul_filter_engine::{FleetId, VehicleIndex};
use roaring::RoaringBitmap;

use super::{
    access::Access,
    clock::{Now, Stamp},
    every::Every,
    feed::Feed,
    frame::Frame,
    ring::Key,
};
use crate::{
    fleet::Holder,
    limits::{
        COMMAND_OVERHEAD_BYTES, COMMANDS_IN_FLIGHT_MAX, ECHO_BACKLOG_BYTES_MAX, JOINED_SEND_BYTES,
        Limits, VEHICLE_ANSWER_BYTES_MAX, VEHICLE_ANSWERS_MAX,
    },
    session::{census::Counted, rate::Bucket, rights::Rights, token_notes::TokenNotes},
    websocket::Assembler,
};

/// What the ring does for this connection's receiving half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receive {
    /// Nothing is armed: the peer has ended its half, or it failed.
    Ended,
    /// Multishot receive.
    Armed,
    /// A multishot receive is being cancelled, in favour of a poll.
    Quieting,
    /// Readability only: the connection is quiet.
    Polled,
    /// One receive after a poll; what it brings decides what is armed next.
    Once,
    /// Nothing is armed: what it has sent already waits for its turn.
    Held,
}

/// How far a connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Talking.
    Open,
    /// Its last frame (a close frame or an HTTP answer) is queued; what arrives is dropped.
    Closing,
    /// The last frame is sent and our half is shut down; the peer's end is awaited.
    Lingering,
    /// Both halves are shut down; it goes as soon as the ring has nothing of it in hand.
    Aborting,
}

/// Who is at the other end.
#[derive(Debug)]
pub enum Peer {
    /// Comes from a load balancer and has not said whom it is for; holds what it said if that came in pieces.
    Preface(Option<Box<PartialRequest>>),
    /// Has not completed its upgrade; holds the request's bytes if they came in pieces.
    Handshake(Option<Box<PartialRequest>>),
    /// A vehicle.
    Vehicle {
        /// Its fleet.
        fleet: FleetId,
        /// Its own index.
        vehicle: VehicleIndex,
    },
    /// A dashboard.
    Dashboard(Box<Dashboard>),
    /// A client of the echo endpoint; bytes that wait to be sent back.
    Echo(usize),
    /// Was refused.
    Nobody,
}

/// The bytes of an upgrade request that has not come to its end.
#[derive(Debug, Default)]
pub struct PartialRequest {
    /// At most `limits.header_bytes_max`, and one receive buffer.
    pub bytes: Vec<u8>,
    /// It waits for its turn to be decided on.
    pub queued: bool,
}

impl Peer {
    /// Has not been let in or turned away yet.
    pub fn is_coming(&self) -> bool {
        matches!(self, Peer::Preface(_) | Peer::Handshake(_))
    }
}

impl PartialRequest {
    /// The first bytes of one.
    pub fn of(bytes: &[u8]) -> Box<PartialRequest> {
        Box::new(PartialRequest {
            bytes: bytes.to_vec(),
            queued: false,
        })
    }
}

/// What a dashboard is owed.
#[derive(Debug)]
pub struct Dashboard {
    /// Its fleet.
    pub fleet: FleetId,
    /// Its user, to be taken out of the census in the end.
    pub identity: Counted,
    /// The same, by name: consumers and commands are a user's own.
    pub user: Box<str>,
    /// What it may do beyond watching.
    pub may: Rights,
    /// May see less than its whole fleet, or watches groups.
    pub access: Option<Box<Access>>,
    /// Wants events.
    pub feed: Option<Box<Feed>>,
    /// Wants positions.
    pub positions: bool,
    /// What pends goes with how old it is: a snapshot is owed.
    pub snapshot: bool,
    /// Wants presence: vehicles whose state it has not been sent.
    pub presence: Option<Box<RoaringBitmap>>,
    /// Wants every position, not the newest only.
    pub every: Option<Box<Every>>,
    /// Vehicles with a position that it has not been sent. Empty ones own no memory.
    pub pending: RoaringBitmap,
    /// Watches the whole fleet: how many of the fleet's vehicles, in order of joining, it has names for.
    pub named: Option<u32>,
    /// Where the next frame of a long pending set begins: behind the last vehicle sent, so that none is starved.
    pub from: u32,
    /// Asked for time between frames.
    pub interval: Option<Box<Interval>>,
}

/// Time between a dashboard's frames.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interval {
    /// Milliseconds at least.
    pub min_ms: u32,
    /// When the next frame may go (the shard's clock, ms).
    pub not_before_ms: u64,
    /// Waits in the shard's list of held dashboards until then; 0: it does not.
    pub held_until_ms: u64,
}

impl Dashboard {
    /// One that watches nothing yet.
    pub fn new(fleet: FleetId, identity: Counted, user: &str) -> Dashboard {
        Dashboard {
            fleet,
            identity,
            user: user.into(),
            may: Rights::default(),
            access: None,
            feed: None,
            positions: false,
            snapshot: false,
            presence: None,
            every: None,
            pending: RoaringBitmap::new(),
            named: None,
            from: 0,
            interval: None,
        }
    }

    /// Its next frame may go.
    pub fn is_due(&self, now: Now) -> bool {
        let interval = self.interval.as_ref();
        interval.is_none_or(|interval| interval.not_before_ms <= now.mono_ms)
    }

    /// A frame has gone.
    pub fn has_sent(&mut self, now: Now) {
        if let Some(interval) = &mut self.interval {
            interval.not_before_ms = now.mono_ms + u64::from(interval.min_ms);
        }
    }

    /// From now on there is so much time between frames; 0: none.
    pub fn set_interval(&mut self, min_ms: u32, now: Now) {
        if min_ms == 0 {
            self.interval = None;
            return;
        }
        let interval = self.interval.get_or_insert_default();
        interval.min_ms = min_ms;
        interval.not_before_ms = interval.not_before_ms.min(now.mono_ms + u64::from(min_ms));
    }
}

/// A connection's place in the slab.
#[derive(Debug)]
pub struct Connection {
    /// The socket, in this shard's descriptor table.
    pub fd: RawFd,
    /// When a byte last arrived.
    pub heard: Stamp,
    /// When a message last arrived that was more than a ping or pong; of a vehicle: a new position.
    pub active: Stamp,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires_s: u32,
    /// See [`TokenNotes`].
    pub token: TokenNotes,
    /// See [`Receive`].
    pub receive: Receive,
    /// See [`Phase`].
    pub phase: Phase,
    /// A send is in flight.
    pub sending: bool,
    /// Since when, if one is.
    pub sending_since: Stamp,
    /// Is in the shard's list of connections to flush.
    pub flushable: bool,
    /// Speaks `longhaul.v1.json`.
    pub json: bool,
    /// Was pinged since it was last heard.
    pub pinged: bool,
    /// A vehicle that has not reported for too long.
    pub stale: bool,
    /// Was told that it sends too many messages.
    pub warned_messages: bool,
    /// Was told that it sends too many bytes.
    pub warned_bytes: bool,
    /// Is in the node's census.
    pub counted: bool,
    /// A vehicle that may not publish everything; the shard knows what.
    pub bounded: bool,
    /// How many messages it may send.
    pub messages: Bucket,
    /// How many bytes.
    pub bytes: Bucket,
    /// See [`Peer`].
    pub peer: Peer,
    /// Frames to messages.
    pub assembler: Assembler,
    /// Control frames and answers that wait for the socket.
    pub queue: Option<Box<Queue>>,
}

/// How other shards name a connection. Its parts come back with [`place`].
pub fn holder(shard: usize, key: Key) -> Holder {
    let parts = (shard as u64) << 56 | u64::from(key.generation) << 32 | u64::from(key.slot);
    Holder(NonZeroU64::MIN.saturating_add(parts))
}

/// The shard and key of a connection.
pub fn place(holder: Holder) -> (usize, Key) {
    let parts = holder.0.get() - 1;
    let key = Key {
        slot: parts as u32,
        generation: (parts >> 32) as u32 & 0xFF_FFFF,
    };
    ((parts >> 56) as usize, key)
}

/// Frames that wait, and their bytes in all.
#[derive(Debug, Default)]
pub struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

const _: () = assert!(
    size_of::<Connection>() <= 72 && size_of::<Dashboard>() <= 112,
    "memory per connection is part of the budget"
);

impl Connection {
    /// A socket that was just accepted.
    pub fn accepted(fd: RawFd, now: Now) -> Connection {
        let full = Bucket::full(now.mono_us);
        let now = now.stamp();
        Connection {
            fd,
            heard: now,
            active: now,
            expires_s: u32::MAX,
            token: TokenNotes::default(),
            receive: Receive::Armed,
            phase: Phase::Open,
            sending: false,
            sending_since: now,
            flushable: false,
            json: false,
            pinged: false,
            stale: false,
            warned_messages: false,
            warned_bytes: false,
            counted: false,
            bounded: false,
            messages: full,
            bytes: full,
            peer: Peer::Handshake(None),
            assembler: Assembler::default(),
            queue: None,
        }
    }

    /// Appends a frame and says how many wait, and how many bytes they have.
    pub fn enqueue(&mut self, frame: Frame) -> (usize, usize) {
        let queue = self.queue.get_or_insert_default();
        queue.bytes += frame.len();
        queue.frames.push_back(frame);
        (queue.frames.len(), queue.bytes)
    }

    /// The dashboard, if it is one.
    pub fn dashboard_mut(&mut self) -> Option<&mut Dashboard> {
        match &mut self.peer {
            Peer::Dashboard(dashboard) => Some(dashboard),
            _ => None,
        }
    }

    /// The dashboard's events, if it wants some.
    pub fn feed_mut(&mut self) -> Option<&mut Feed> {
        self.dashboard_mut()?.feed.as_deref_mut()
    }

    /// How many frames wait.
    pub fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.frames.len())
    }

    /// Appends a frame; false if that is more than `limits` allow to wait. Echo clients have a bound of their own.
    pub fn enqueue_within(&mut self, frame: Frame, limits: &Limits) -> bool {
        let length = frame.len();
        let (frames, bytes) = self.enqueue(frame);
        if let Peer::Echo(waiting) = &mut self.peer {
            *waiting += length;
            return *waiting <= limits.echo_message_bytes_max + ECHO_BACKLOG_BYTES_MAX;
        }
        if let Peer::Vehicle { .. } = self.peer {
            // There may be millions of it. What it is sent has bounds of its own: Acks by its window, and commands.
            let commands = COMMANDS_IN_FLIGHT_MAX
                * (limits.command_payload_bytes_max + COMMAND_OVERHEAD_BYTES);
            return frames <= VEHICLE_ANSWERS_MAX && bytes <= VEHICLE_ANSWER_BYTES_MAX + commands;
        }
        frames <= limits.control_queue_max && bytes <= limits.control_queue_bytes_max
    }

    /// What waits, joined to as much as one send should carry.
    pub fn dequeue(&mut self) -> Option<Frame> {
        let queue = self.queue.as_mut()?;
        let mut next = queue.frames.pop_front()?;
        queue.bytes -= next.len();
        if next.len() < JOINED_SEND_BYTES && !queue.frames.is_empty() {
            let mut joined = next.bytes().to_vec();
            while let Some(frame) = queue.frames.front() {
                if joined.len() + frame.len() > JOINED_SEND_BYTES {
                    break;
                }
                joined.extend_from_slice(frame.bytes());
                queue.bytes -= frame.len();
                queue.frames.pop_front();
            }
            next = joined.into();
        }
        if queue.frames.is_empty() {
            self.queue = None;
        }
        Some(next)
    }

    /// Whether the ring has an operation of this connection in hand.
    pub fn in_ring(&self) -> bool {
        self.sending || !matches!(self.receive, Receive::Ended | Receive::Held)
    }
}
