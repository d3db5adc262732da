//! What a command and a result must be like, and why one is refused.

use longhaul_codec::{CommandResult, CommandStatus, ErrorCode};

use super::NewCommand;
use crate::limits::{COMMAND_NAME_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, Limits};

/// The settings that bound commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Commands that wait for one vehicle.
    pub per_vehicle_max: usize,
    /// Commands and results in all.
    pub commands_max: usize,
    /// Bytes of their payloads and texts.
    pub bytes_max: u64,
    /// Bytes of one payload.
    pub payload_bytes_max: usize,
    /// The longest life.
    pub ttl_ms_max: u32,
}

impl Bounds {
    /// As the configuration has them.
    pub fn new(limits: &Limits) -> Self {
        Self {
            per_vehicle_max: limits.commands_per_vehicle_max,
            commands_max: limits.commands_max,
            bytes_max: limits.commands_bytes_max,
            payload_bytes_max: limits.command_payload_bytes_max,
            ttl_ms_max: limits.command_ttl_ms_max,
        }
    }

    /// Checks a command by itself.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self, command: &NewCommand) -> Result<(), Refusal> {
        if command.command_id == 0 {
            return Err(Refusal::NoNumber);
        }
        let bytes = command.name.len();
        if !(1..=COMMAND_NAME_BYTES_MAX).contains(&bytes) || has_control(&command.name) {
            return Err(Refusal::Name { bytes });
        }
        self.check_content(command.content_type.as_deref(), &command.payload)?;
        match command.ttl_ms {
            0 => Err(Refusal::NoLife {
                ttl_ms_max: self.ttl_ms_max,
            }),
            ttl_ms if ttl_ms > self.ttl_ms_max => Err(Refusal::Life {
                ttl_ms,
                ttl_ms_max: self.ttl_ms_max,
            }),
            _ => Ok(()),
        }
    }

    /// Checks a vehicle's result by itself.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check_result(&self, result: &CommandResult) -> Result<(), Refusal> {
        if result.status == CommandStatus::Expired {
            return Err(Refusal::Status);
        }
        self.check_content(result.content_type.as_deref(), &result.payload)
    }

    fn check_content(&self, content_type: Option<&str>, payload: &[u8]) -> Result<(), Refusal> {
        if let Some(text) = content_type
            && (text.len() > CONTENT_TYPE_BYTES_MAX || has_control(text))
        {
            return Err(Refusal::ContentType { bytes: text.len() });
        }
        if payload.len() > self.payload_bytes_max {
            return Err(Refusal::Payload {
                bytes: payload.len(),
                bytes_max: self.payload_bytes_max,
            });
        }
        Ok(())
    }
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Why a command, or a result, is refused: what was wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No number to answer with.
    #[error(
        "a Command needs a command_id of at least 1, which its Ack and its CommandResult carry back"
    )]
    NoNumber,
    /// The number is in use. A client that begins to count anew would otherwise take an old result for a new one.
    #[error(
        "command_id {0} is that of another command, whose result is kept: give every new command a number that you have not \
         used in the last hour"
    )]
    OtherCommand(u64),
    /// No name, or none that can be shown.
    #[error(
        "a command's name has 1 to {COMMAND_NAME_BYTES_MAX} bytes and no control characters, this one has {bytes} bytes"
    )]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// The media type is none.
    #[error(
        "a content_type has up to {CONTENT_TYPE_BYTES_MAX} bytes and no control characters, this one has {bytes} bytes"
    )]
    ContentType {
        /// Its length.
        bytes: usize,
    },
    /// The payload is too large.
    #[error(
        "a payload of {bytes} bytes, the limit is {bytes_max} (limits.command_payload_bytes_max)"
    )]
    Payload {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// It would never be delivered.
    #[error(
        "ttl_ms is 0: say for how many milliseconds the command may wait for its vehicle, 1 to {ttl_ms_max}"
    )]
    NoLife {
        /// The bound.
        ttl_ms_max: u32,
    },
    /// It would wait for too long.
    #[error("ttl_ms is {ttl_ms}, the limit is {ttl_ms_max} (limits.command_ttl_ms_max)")]
    Life {
        /// What was asked for.
        ttl_ms: u32,
        /// The bound.
        ttl_ms_max: u32,
    },
    /// A vehicle says that a command has expired.
    #[error("the gateway alone says Expired; a vehicle answers Done, Refused or Failed")]
    Status,
    /// As many wait for the vehicle as may.
    #[error(
        "{0} commands wait for this vehicle already (limits.commands_per_vehicle_max): try again when one is done"
    )]
    VehicleFull(usize),
    /// As many wait on this node as may.
    #[error("{0} commands wait on this node already (limits.commands_max): try again later")]
    NodeFull(usize),
    /// They weigh as much as they may.
    #[error(
        "the commands that wait on this node have {0} bytes already or would have with this one \
         (limits.commands_bytes_max): try again later"
    )]
    BytesFull(u64),
    /// The disk did not take it.
    #[error("the command could not be made durable: try again later, with the same command_id")]
    NotDurable,
}

impl Refusal {
    /// For programs.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoNumber
            | Self::OtherCommand(_)
            | Self::Name { .. }
            | Self::ContentType { .. }
            | Self::NoLife { .. }
            | Self::Status => ErrorCode::Malformed,
            Self::Payload { .. } => ErrorCode::TooLarge,
            Self::Life { .. } | Self::VehicleFull(_) | Self::NodeFull(_) | Self::BytesFull(_) => {
                ErrorCode::LimitReached
            }
            Self::NotDurable => ErrorCode::NotDurable,
        }
    }
}
