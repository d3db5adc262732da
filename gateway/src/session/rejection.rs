//! What the gateway answers to a message that it does not take: one `Error` message; the connection goes on.

use std::borrow::Cow;

use longhaul_codec::{Error, ErrorCode, Message};

use crate::limits::ERROR_TEXT_BYTES_MAX;

/// Why a message was not taken, in words for whoever wrote the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The error's kind.
    pub code: ErrorCode,
    /// What was wrong, where, and what to do.
    pub message: Cow<'static, str>,
    /// The request, message or command that it answers; 0: none.
    pub id: u64,
    /// The limit that it is over, to be counted.
    pub over: Option<Bound>,
}

/// A limit on what a message may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `limits.min_interval_ms_max`.
    MinInterval,
    /// `limits.subscription_vehicles_max`.
    SubscriptionVehicles,
    /// `limits.vehicle_id_bytes_max`.
    VehicleIdBytes,
    /// Topics in one message.
    Topics,
    /// `limits.position_batch_max`.
    PositionBatch,
    /// `limits.clock_ahead_ms_max`.
    ClockAhead,
    /// `limits.vehicles_max` and `limits.unseen_vehicles_max`.
    Vehicles,
    /// `limits.event_payload_bytes_max`.
    EventPayload,
    /// `limits.event_window`.
    EventWindow,
    /// `limits.events_pending_max` and `limits.events_pending_bytes_max`.
    EventsPending,
    /// What waits for the log's thread of commands and results.
    CommandNews,
    /// `limits.consumers_max`.
    Consumers,
    /// `limits.groups_max` and the like.
    Groups,
    /// Groups that one dashboard names.
    SubscriptionGroups,
    /// Fresh tokens of one connection in a minute, and of a shard in a tick.
    Renewals,
    /// Requests that wait for their answer.
    Requests,
}

impl Rejection {
    /// A rejection of the message that the client numbered `id`.
    pub fn new(code: ErrorCode, id: u64, message: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection {
            code,
            message: message.into(),
            id,
            over: None,
        }
    }

    /// The same, because it is over a limit.
    #[must_use]
    pub fn over(self, bound: Bound) -> Rejection {
        Rejection {
            over: Some(bound),
            ..self
        }
    }

    /// The message for the wire.
    #[must_use]
    pub fn into_message(self) -> Message {
        let mut text = self.message.into_owned();
        // It may quote what the client sent, and must not grow with it.
        text.truncate(text.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
        Message::Error(Error {
            code: self.code,
            message: text,
            id: self.id,
            missing: None,
        })
    }
}
