//! One connection: 64 bytes in the slab, and no buffer of any kind while it is idle.

use std::{collections::VecDeque, os::fd::RawFd};

use longhaul_filter_engine::{FleetId, VehicleIndex};
use roaring::RoaringBitmap;

use super::{clock::Stamp, frame::Frame};
use crate::{
    limits::{ECHO_BACKLOG_BYTES_MAX, JOINED_SEND_BYTES, Limits},
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
}

/// What a dashboard is owed.
#[derive(Debug)]
pub struct Dashboard {
    /// Its fleet.
    pub fleet: FleetId,
    /// Vehicles with a position that it has not been sent. Empty ones own no memory.
    pub pending: RoaringBitmap,
    /// Watches the whole fleet: how many of the fleet's vehicles, in order of joining, it has names for.
    pub named: Option<u32>,
    /// Where the next frame of a long pending set begins: behind the last vehicle sent, so that none is starved.
    pub from: u32,
    /// Milliseconds between frames at least.
    pub min_interval_ms: u32,
    /// When the next frame may go (the shard's clock, ms).
    pub not_before_ms: u64,
    /// Waits in the shard's list of held dashboards.
    pub held: bool,
}

impl Dashboard {
    /// One that watches nothing yet.
    pub fn new(fleet: FleetId) -> Dashboard {
        Dashboard {
            fleet,
            pending: RoaringBitmap::new(),
            named: None,
            from: 0,
            min_interval_ms: 0,
            not_before_ms: 0,
            held: false,
        }
    }
}

/// A connection's place in the slab.
#[derive(Debug)]
pub struct Connection {
    /// The socket, in this shard's descriptor table.
    pub fd: RawFd,
    /// When a byte last arrived.
    pub heard: Stamp,
    /// When a message last arrived that was more than a ping or pong.
    pub active: Stamp,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires_s: u32,
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
    /// See [`Peer`].
    pub peer: Peer,
    /// Frames to messages.
    pub assembler: Assembler,
    /// Control frames and answers that wait for the socket.
    pub queue: Option<Box<Queue>>,
}

/// Frames that wait, and their bytes in all.
#[derive(Debug, Default)]
pub struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
}

const _: () = assert!(
    size_of::<Connection>() <= 64,
    "memory per connection is part of the budget"
);

impl Connection {
    /// A socket that was just accepted.
    pub fn accepted(fd: RawFd, now: Stamp) -> Connection {
        Connection {
            fd,
            heard: now,
            active: now,
            expires_s: u32::MAX,
            receive: Receive::Armed,
            phase: Phase::Open,
            sending: false,
            sending_since: now,
            flushable: false,
            json: false,
            pinged: false,
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
        self.sending || self.receive != Receive::Ended
    }
}
