//! A command as it is kept on disk: a byte for the format, then postcard.
//!
//! Names instead of indexes, because those are given anew after a restart.

use longhaul_codec::CommandStatus;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, State};

/// The first byte. Another one is another format.
const FORMAT: u8 = 1;

/// One record, as it lies in its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// The fleet's name.
    pub fleet: &'a str,
    /// The vehicle's id.
    pub vehicle: &'a str,
    /// The sender.
    pub user: &'a str,
    /// The sender's number.
    pub command_id: u64,
    /// When it was taken: milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// When it is too late to deliver it.
    pub expires_ms: u64,
    /// What became of it.
    #[serde(borrow)]
    pub state: Stored<'a>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored<'a> {
    /// Nothing yet. Whether it was delivered is not written: after a restart, it may have been.
    Waiting {
        /// What to do.
        name: &'a str,
        /// Media type of the payload.
        content_type: Option<&'a str>,
        /// Any bytes.
        payload: &'a [u8],
    },
    /// There is a result; what was to be done is not needed any more.
    Finished {
        /// See [`Entry::fingerprint`].
        fingerprint: u32,
        /// What the vehicle said, or `Expired`.
        status: CommandStatus,
        /// Media type of the payload.
        content_type: Option<&'a str>,
        /// Any bytes.
        payload: &'a [u8],
        /// When the result came.
        finished_ms: u64,
        /// The sender has it.
        told: bool,
    },
}

impl Record<'_> {
    /// The record of a command of this fleet.
    pub fn write(fleet: &str, entry: &Entry) -> Vec<u8> {
        let record = Record {
            fleet,
            vehicle: &entry.vehicle_id,
            user: &entry.user,
            command_id: entry.command_id,
            accepted_ms: entry.accepted_ms,
            expires_ms: entry.expires_ms,
            state: match &entry.state {
                State::Waiting(order) => Stored::Waiting {
                    name: &order.name,
                    content_type: order.content_type.as_deref(),
                    payload: &order.payload,
                },
                State::Finished(outcome) => Stored::Finished {
                    fingerprint: entry.fingerprint,
                    status: outcome.status,
                    content_type: outcome.content_type.as_deref(),
                    payload: &outcome.payload,
                    finished_ms: outcome.finished_ms,
                    told: outcome.is_told(),
                },
            },
        };
        // A vector takes any bytes, so that nothing here can fail.
        postcard::to_extend(&record, vec![FORMAT]).unwrap_or_default()
    }
}

impl<'a> Record<'a> {
    /// Reads a record. `None`: it is damaged, or of another format.
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (&FORMAT, body) = bytes.split_first()? else {
            return None;
        };
        match postcard::take_from_bytes(body) {
            Ok((record, [])) => Some(record),
            _ => None,
        }
    }
}
