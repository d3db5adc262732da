//! What a client tells about itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use longhaul_codec::ErrorCode;

/// Where a client is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Opens a connection.
    Connecting {
        /// From 1; it begins anew after a connection that lived for a while.
        attempt: u32,
    },
    /// The gateway has said Welcome.
    Connected {
        /// When, by the system's clock.
        since: SystemTime,
        /// The token's fleet.
        fleet: String,
        /// The token's subject: who this vehicle is.
        vehicle: String,
        /// The gateway's name.
        node: Option<String>,
    },
    /// The gateway goes away, and the client moves. It is still connected.
    Draining,
    /// Not connected, and not trying for a while.
    Waiting {
        /// When it tries again.
        until: Instant,
        /// What ended the last attempt or connection.
        why: String,
    },
    /// It will not come back. Events may still be published, and wait for the next client of this queue.
    Stopped {
        /// Why.
        why: StopReason,
    },
}

/// Why a client stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// [`crate::Vehicle::close`], or nobody holds the client any more.
    #[error("it was closed")]
    Closed,
    /// Another connection with this vehicle's token is there: another program or device.
    #[error(
        "another connection of this vehicle has taken over; only one program may use its token: {0}"
    )]
    TakenOver(String),
    /// The queue's events are another vehicle's.
    #[error("{0}")]
    NotMine(String),
}

/// What became of events, and what else a caller may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The gateway has it on its disk. It is gone from the queue.
    Acked {
        /// As `publish` gave it.
        id: u64,
    },
    /// The gateway will never take it. It is gone from the queue.
    Refused {
        /// As `publish` gave it.
        id: u64,
        /// The kind of reason.
        code: ErrorCode,
        /// The reason, for people.
        why: String,
    },
    /// The queue was full, and this was the oldest.
    Dropped {
        /// As `publish` gave it.
        id: u64,
    },
    /// The gateway did not take something that has no number: a position, or an event with QoS 0.
    Warned {
        /// The kind of reason.
        code: ErrorCode,
        /// The reason, for people.
        why: String,
    },
}

/// What a client has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events in the queue now.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Events that were made durable here.
    pub published: u64,
    /// Events that the gateway has.
    pub acked: u64,
    /// Events that the gateway will never take.
    pub refused: u64,
    /// Events that made room for newer ones.
    pub dropped: u64,
    /// Events with QoS 0 that were sent.
    pub fleeting_sent: u64,
    /// Events with QoS 0 that there was no connection for, or no room in it.
    pub fleeting_dropped: u64,
    /// Positions that were sent.
    pub positions_sent: u64,
    /// Positions that a newer one took the place of before they were sent.
    pub positions_replaced: u64,
    /// Commands that were handed out.
    pub commands: u64,
    /// Fresh tokens that a connection took in place.
    pub renewals: u64,
    /// Connections beyond the first.
    pub reconnects: u64,
}

/// The same, counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) published: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) fleeting_sent: AtomicU64,
    pub(crate) fleeting_dropped: AtomicU64,
    pub(crate) positions_sent: AtomicU64,
    pub(crate) positions_replaced: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) renewals: AtomicU64,
    pub(crate) connections: AtomicU64,
}

/// Counts.
pub(crate) fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Tally {
    pub(crate) fn read(&self, (queued, queued_bytes): (usize, usize)) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            queued: queued as u64,
            queued_bytes: queued_bytes as u64,
            published: get(&self.published),
            acked: get(&self.acked),
            refused: get(&self.refused),
            dropped: get(&self.dropped),
            fleeting_sent: get(&self.fleeting_sent),
            fleeting_dropped: get(&self.fleeting_dropped),
            positions_sent: get(&self.positions_sent),
            positions_replaced: get(&self.positions_replaced),
            commands: get(&self.commands),
            renewals: get(&self.renewals),
            reconnects: get(&self.connections).saturating_sub(1),
        }
    }
}
