//! A command as it is kept in memory.

use std::sync::Arc;

use longhaul_codec::{Command, CommandResult, CommandStatus};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use crate::fleet::Holder;

/// A command that waits, or its result.
#[derive(Debug)]
pub struct Entry {
    /// The sender's fleet.
    pub fleet: FleetId,
    /// The sender.
    pub user: Arc<str>,
    /// The sender's number.
    pub command_id: u64,
    /// The connection that sent it, as long as it is not known to be gone.
    pub sender: Option<Holder>,
    /// For whom it is.
    pub vehicle: VehicleIndex,
    /// Its id.
    pub vehicle_id: Box<str>,
    /// A checksum of what was to be done, to tell a command that is sent again from another one with its number. It
    /// finds mistakes; who wants to fool it fools nobody but himself.
    pub fingerprint: u32,
    /// When it was taken.
    pub accepted_ms: u64,
    /// When it is too late to deliver it.
    pub expires_ms: u64,
    /// What became of it.
    pub state: State,
}

/// What became of a command.
#[derive(Debug)]
pub enum State {
    /// Nothing yet.
    Waiting(Order),
    /// There is a result.
    Finished(Outcome),
}

/// What is to be done.
#[derive(Debug)]
pub struct Order {
    /// Its name.
    pub name: String,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// Any bytes.
    pub payload: Vec<u8>,
    /// How often it may have been delivered.
    pub deliveries: u32,
}

/// What was done.
#[derive(Debug)]
pub struct Outcome {
    /// What the vehicle said, or `Expired`.
    pub status: CommandStatus,
    /// Media type of the payload.
    pub content_type: Option<String>,
    /// Any bytes.
    pub payload: Vec<u8>,
    /// When the result came.
    pub finished_ms: u64,
    /// Whether the user has it.
    pub told: Told,
}

/// Whether a user has a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nobody was there.
    No,
    /// It is on its way to this connection.
    Under(Holder),
    /// It was handed to a connection.
    Yes,
}

impl Outcome {
    /// The user has it.
    pub fn is_told(&self) -> bool {
        self.told == Told::Yes
    }
}

impl Order {
    /// See [`Entry::fingerprint`].
    pub fn fingerprint(&self) -> u32 {
        fingerprint(&self.name, self.content_type.as_deref(), &self.payload)
    }
}

/// See [`Entry::fingerprint`].
pub fn fingerprint(name: &str, content_type: Option<&str>, payload: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    for part in [
        name.as_bytes(),
        content_type.unwrap_or_default().as_bytes(),
        payload,
    ] {
        checksum.update(&(part.len() as u64).to_le_bytes());
        checksum.update(part);
    }
    checksum.finalize()
}

impl Entry {
    /// What counts towards `limits.commands_bytes_max`.
    pub fn bytes(&self) -> u64 {
        let (name, content_type, payload) = match &self.state {
            State::Waiting(order) => (order.name.len(), &order.content_type, &order.payload),
            State::Finished(outcome) => (0, &outcome.content_type, &outcome.payload),
        };
        let content_type = content_type.as_ref().map_or(0, String::len);
        (self.vehicle_id.len() + self.user.len() + name + content_type + payload.len()) as u64
    }

    /// The command as its vehicle gets it, if it still waits.
    pub fn command(&self, number: u64, now_ms: u64) -> Option<Command> {
        let State::Waiting(order) = &self.state else {
            return None;
        };
        let left_ms = self.expires_ms.saturating_sub(now_ms);
        Some(Command {
            command_id: number,
            vehicle_id: None,
            name: order.name.clone(),
            ttl_ms: u32::try_from(left_ms).unwrap_or(u32::MAX),
            content_type: order.content_type.clone(),
            payload: order.payload.clone(),
            accepted_ms: self.accepted_ms,
            redelivered: order.deliveries > 0,
        })
    }

    /// The result as its sender gets it, if there is one.
    pub fn result(&self) -> Option<CommandResult> {
        let State::Finished(outcome) = &self.state else {
            return None;
        };
        Some(CommandResult {
            command_id: self.command_id,
            status: outcome.status,
            content_type: outcome.content_type.clone(),
            payload: outcome.payload.clone(),
            vehicle: self.vehicle.0,
        })
    }

    /// What is to be done, if that is still so.
    pub fn order_mut(&mut self) -> Option<&mut Order> {
        match &mut self.state {
            State::Waiting(order) => Some(order),
            State::Finished(_) => None,
        }
    }

    /// What was done, if it was.
    pub fn outcome_mut(&mut self) -> Option<&mut Outcome> {
        match &mut self.state {
            State::Waiting(_) => None,
            State::Finished(outcome) => Some(outcome),
        }
    }
}
