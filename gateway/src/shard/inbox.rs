//! What other threads tell a shard: a bounded queue and a doorbell each.

use std::{io, sync::Arc};

use crossbeam::queue::ArrayQueue;
use longhaul_codec::{Command, CommandResult, Fix, Message};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    leaving::Plan,
    purge::Purge,
    ring::{Key, sys::Doorbell},
};
use crate::{
    events::{Committed, Logged, log::Published, replay::Replayed},
    fleet::Version,
};

/// A vehicle whose position changed, and which write of it the sender saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Whose position.
    pub vehicle: VehicleIndex,
    /// The table held at least this version when the sender's tick ended.
    pub version: Version,
}

/// One message to a shard.
#[derive(Debug)]
pub enum Letter {
    /// The part of another shard's dirty set that this shard has interest in, of one fleet.
    Dirty(FleetId, Vec<Changed>),
    /// Vehicles of one fleet that came, went or fell silent.
    Presence(FleetId, Vec<VehicleIndex>),
    /// Positions for those who want each one, oldest first. They come before the `Dirty` that announces them.
    Every(Vec<(FleetId, Fix)>),
    /// Events of this fleet that are in no log (qos 0).
    Events(Vec<(FleetId, Arc<Logged>)>),
    /// Events that became durable.
    Committed(Arc<Committed>),
    /// What became of events of this shard's vehicles, sorted by connection.
    Published(Vec<Published>),
    /// Old events that a dashboard asked for.
    Replayed(Key, Box<Replayed>),
    /// A message for one connection.
    Say(Key, Box<Message>),
    /// A command for a vehicle's connection, until this moment (milliseconds since the Unix epoch).
    Deliver(Key, VehicleIndex, u64, Arc<Command>),
    /// What became of the command of this number, for its sender.
    Tell(Key, u64, Box<CommandResult>),
    /// The event log is another one.
    NewEpoch,
    /// The event log can be written, for the first time or again.
    LogOpen {
        /// Nobody could read it before.
        first: bool,
    },
    /// What waited for room here.
    Several(Vec<Letter>),
    /// Another connection is this vehicle's own from now on.
    TakenOver(Key, VehicleIndex),
    /// Close connections by whose they are.
    Purge(Arc<Purge>),
    /// Close every connection, over a while, and end.
    Leave(Arc<Plan>),
    /// Close every connection now, and end.
    Stop,
    /// Panic, for the test that nothing stays half alive after that.
    #[cfg(debug_assertions)]
    Panic,
}

/// A shard's inbox. A full one refuses: the sender keeps the set and merges it with its next.
#[derive(Debug)]
pub struct Inbox {
    letters: ArrayQueue<Letter>,
    /// Wakes the shard.
    pub doorbell: Doorbell,
}

impl Inbox {
    /// Room for `letters_max`.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new(letters_max: usize) -> io::Result<Arc<Inbox>> {
        Ok(Arc::new(Inbox {
            letters: ArrayQueue::new(letters_max.max(1)),
            doorbell: Doorbell::new()?,
        }))
    }

    /// Delivers a letter and rings; hands it back if the inbox is full.
    ///
    /// # Errors
    /// The letter itself.
    pub fn post(&self, letter: Letter) -> Result<(), Letter> {
        let posted = self.letters.push(letter);
        self.doorbell.ring();
        posted
    }

    /// The oldest letter.
    pub fn take(&self) -> Option<Letter> {
        self.letters.pop()
    }
}
