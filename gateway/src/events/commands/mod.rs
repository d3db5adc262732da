//! The commands of this node: taken from dashboards, delivered to vehicles in order, and answered.
//!
//! No I/O and no clock: what is to be done comes out as [`Effect`]s, and time is an argument (milliseconds since the Unix
//! epoch). One thread owns a [`Commands`].
//!
//! A command gets a number when it is taken, and waits until its vehicle answers or its time is up. It is delivered to the
//! vehicle's present connection, a few at a time, in the order of their numbers; a new connection gets all of them again.
//! What became of it is told to the connection that sent it, or to the user's next one, and then kept for a while, so that
//! a command that is sent again is not done again.
//!
//! | file | what |
//! |---|---|
//! | `rules` | what a command and a result must be like, and why one is refused |
//! | `record` | a command as it is kept on disk |
//! | `entry` | a command as it is kept in memory |
//! | `line` | the commands of one vehicle, in order, and how far they are delivered |
//! | `users` | the commands of one user, and where the user is |
//! | `table` | all of them, with their bounds and what they weigh |
//! | `submit` | from a dashboard, and what if it cannot be made durable |
//! | `deliver` | to a vehicle, and its result |
//! | `tell` | the result to the user |
//! | `restore` | from disk, after a restart |
#![forbid(unsafe_code)]

mod deliver;
mod entry;
mod line;
mod record;
mod restore;
mod rules;
mod submit;
mod table;
mod tell;
mod users;

use std::sync::Arc;

use longhaul_codec::{Command, CommandResult};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use crate::fleet::Holder;

pub use restore::Restored;
pub use rules::{Bounds, Refusal};
pub use table::{Commands, WEIGHT_BYTES};

/// Who sent a command, and from which connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The user's fleet, which is the vehicle's too.
    pub fleet: FleetId,
    /// The token's subject.
    pub user: Arc<str>,
    /// The connection.
    pub at: Holder,
}

/// A command as a dashboard sent it. Whether its sender may, and whether there is such a vehicle in its fleet, has been
/// looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// The sender's own number for it.
    pub command_id: u64,
    /// For which vehicle.
    pub vehicle: VehicleIndex,
    /// Its id, which means the same after a restart.
    pub vehicle_id: String,
    /// What to do.
    pub name: String,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// Any bytes.
    pub payload: Vec<u8>,
    /// For how long it is worth delivering.
    pub ttl_ms: u32,
}

/// A number as the key of a record: big-endian, so that keys sort as numbers do.
pub type Key = [u8; 8];

/// What is to be done, in this order. `Keep` and `Forget` go into the next durable batch; the others wait until it is
/// durable. If it cannot be made so: [`Commands::not_durable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write this record, over an older one.
    Keep {
        /// Which command.
        key: Key,
        /// What is to be given to [`Commands::restore`].
        value: Vec<u8>,
    },
    /// Delete this record.
    Forget {
        /// Which command.
        key: Key,
    },
    /// An `Ack` with the sender's number: the command will be delivered, or reported as expired.
    Taken {
        /// Who sent it.
        to: Asker,
        /// The sender's number.
        command_id: u64,
    },
    /// An `Error` with the sender's number: nothing was taken.
    Refused {
        /// Who sent it.
        to: Asker,
        /// The sender's number.
        command_id: u64,
        /// For programs and for people.
        why: Refusal,
    },
    /// A command to a vehicle. If its connection is gone: [`Commands::not_delivered`].
    Deliver {
        /// Which vehicle.
        vehicle: VehicleIndex,
        /// Its connection.
        to: Holder,
        /// From then on it is not to be delivered any more: leave it out if the batch took that long.
        expires_ms: u64,
        /// What to send. Its `command_id` is the gateway's number.
        command: Arc<Command>,
    },
    /// What became of a command. If it was handed to the connection: [`Commands::told`]; if that is gone:
    /// [`Commands::not_told`].
    Tell {
        /// The gateway's number.
        number: u64,
        /// The sender's fleet.
        fleet: FleetId,
        /// The sender.
        user: Arc<str>,
        /// The sender's connection, or another one of the same user.
        at: Holder,
        /// What to send. Its `command_id` is the sender's number.
        result: CommandResult,
    },
}

#[cfg(test)]
mod tests;
