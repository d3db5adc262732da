//! What can go wrong with the queue, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;

/// The queue cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QueueError {
    /// Two processes with one queue would number their events alike.
    #[error(
        "another process has the queue {} open: give each process a queue of its own, or stop the other one",
        .0.display()
    )]
    InUse(PathBuf),
    /// A file that cannot be opened, read or made.
    #[error("the queue {}: {why}. Check the folder, its permissions and the space that is left", file.display())]
    Storage {
        /// The queue's file.
        file: PathBuf,
        /// What the system or the library said.
        why: String,
    },
    /// Bounds that leave no room.
    #[error("a queue needs room for 2 events and more than 0 bytes")]
    Bounds,
    /// The system gave no thread.
    #[error("no thread for the queue: {0}")]
    Thread(String),
}

/// An event was not taken into the queue.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The event is none that a gateway would take.
    #[error("{0}")]
    Invalid(#[from] crate::EventError),
    /// The queue has no room.
    #[error(
        "the queue is full with {events} events of {bytes} bytes: wait until the gateway has some of them, or let the queue drop the oldest"
    )]
    Full {
        /// Events in it.
        events: usize,
        /// Bytes of them.
        bytes: usize,
    },
    /// Larger than the whole queue.
    #[error(
        "an event of {bytes} bytes does not fit into a queue of {max} bytes: make the queue larger"
    )]
    TooLarge {
        /// Of the event as it is sent.
        bytes: usize,
        /// Of the queue.
        max: usize,
    },
    /// The disk did not take it. The next call tries again.
    #[error(
        "the event is not safe: the queue could not be written: {0}. Check the space that is left"
    )]
    Storage(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}
