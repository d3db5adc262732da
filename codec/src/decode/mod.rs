//! From bytes that a stranger sent to a view that is safe to read.

mod fix;

use flatbuffers::{InvalidFlatbuffer, VerifierOptions};
use thiserror::Error;

use crate::values::{
    AckKind, CommandStatus, Delivery, ErrorCode, PresenceState, Role, SubscribeMode, UnknownValue,
};
use crate::wire;

pub use fix::decode_fix;

/// The longest message that [`decode`] looks at. Connections have lower limits of their own.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The envelope and the one message in it: this schema has no other tables.
const TABLES_MAX: usize = 2;

/// What the verifier may visit in all, as a multiple of the message's length. Offsets may point to the same bytes
/// again and again, so without a bound a small message could cost quadratic work. An honest message, which shares
/// nothing, stays below 2; the constant is for short ones, whose vtables weigh more.
const APPARENT_FACTOR_MAX: usize = 4;
const APPARENT_BYTES_FREE: usize = 512;

/// Why bytes are no message. All of these are the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes; the longest allowed has {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not a FlatBuffers buffer with an `Envelope`, or one that points outside of itself or costs too much to verify.
    #[error("not a FlatBuffers Envelope: {}", one_line(.0))]
    Invalid(Box<InvalidFlatbuffer>),
    /// A union member that this version of the schema does not have. 0 is `NONE`: an envelope without a message.
    #[error("unknown message type {0}")]
    UnknownMessage(u8),
    /// A number outside of its enumeration.
    #[error("{message}.{field}: {unknown}")]
    UnknownValue {
        /// The message that holds it.
        message: &'static str,
        /// The field that holds it.
        field: &'static str,
        /// The enumeration and the number.
        unknown: UnknownValue,
    },
    /// `Event.qos` is neither 0 nor 1.
    #[error("Event.qos is {0}; 0 and 1 exist")]
    UnknownQos(u8),
    /// `Names` without an id for each index, or without an index for each id.
    #[error("Names has {vehicles} vehicles and {ids} ids; one of each is a pair")]
    NamesUnpaired {
        /// Length of `vehicles`.
        vehicles: usize,
        /// Length of `ids`.
        ids: usize,
    },
}

/// The verifier's own text runs over several lines, one for each step of the way to the fault.
fn one_line(error: &InvalidFlatbuffer) -> String {
    let text = error.to_string();
    text.split('\n')
        .map(|line| line.trim().trim_end_matches('.'))
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

impl From<InvalidFlatbuffer> for DecodeError {
    #[cold]
    fn from(error: InvalidFlatbuffer) -> Self {
        Self::Invalid(Box::new(error))
    }
}

/// Declares [`MessageRef`] and what is the same for each of its variants.
macro_rules! message_ref {
    ($($name:ident $as_name:ident),* $(,)?) => {
        /// A verified message, borrowed from the bytes that it came in. Each variant holds the generated view.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each variant is the schema's message of the same name")]
        pub enum MessageRef<'a> {
            $($name(wire::$name<'a>),)*
        }

        impl MessageRef<'_> {
            /// The message's name in the schema.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }
        }

        /// Picks the union member. The accessors return `None` only if the type is another one.
        #[inline]
        fn member(envelope: wire::Envelope<'_>) -> Option<MessageRef<'_>> {
            match envelope.message_type() {
                $(wire::Message::$name => envelope.$as_name().map(MessageRef::$name),)*
                _ => None,
            }
        }

        #[cfg(test)]
        pub(crate) const MESSAGE_TYPES: &[wire::Message] = &[$(wire::Message::$name),*];
    };
}

message_ref! {
    Position message_as_position,
    PositionBatch message_as_position_batch,
    Event message_as_event,
    CommandResult message_as_command_result,
    Subscribe message_as_subscribe,
    Unsubscribe message_as_unsubscribe,
    EventAck message_as_event_ack,
    Command message_as_command,
    Welcome message_as_welcome,
    Names message_as_names,
    Positions message_as_positions,
    Ack message_as_ack,
    Presence message_as_presence,
    Drain message_as_drain,
    Error message_as_error,
    Authenticate message_as_authenticate,
    TokenExpiring message_as_token_expiring,
}

/// Verifies that `bytes` are one message of this protocol and gives a view of it that borrows them.
///
/// The work is linear in the length of `bytes`, which may start at any address. Positions are not checked for being on
/// earth: [`crate::Fix::check`] does that, so that a gateway can refuse a single fix.
///
/// # Errors
/// Any other byte string gives a [`DecodeError`] that says what is wrong with it.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<MessageRef<'_>, DecodeError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let options = VerifierOptions {
        max_depth: TABLES_MAX,
        max_tables: TABLES_MAX,
        max_apparent_size: APPARENT_FACTOR_MAX * bytes.len() + APPARENT_BYTES_FREE,
        ignore_missing_null_terminator: false,
    };
    let envelope = wire::root_as_envelope_with_opts(&options, bytes)?;
    let message = member(envelope).ok_or(DecodeError::UnknownMessage(envelope.message_type().0))?;
    check(message)?;
    Ok(message)
}

/// What FlatBuffers leaves open: numbers without a meaning, lengths that must agree.
#[inline]
fn check(message: MessageRef<'_>) -> Result<(), DecodeError> {
    let unknown = |field| {
        move |unknown| DecodeError::UnknownValue {
            message: message.name(),
            field,
            unknown,
        }
    };
    match message {
        MessageRef::Event(event) if event.qos() > 1 => {
            return Err(DecodeError::UnknownQos(event.qos()));
        }
        MessageRef::CommandResult(result) => {
            CommandStatus::try_from(result.status()).map_err(unknown("status"))?;
        }
        MessageRef::Subscribe(subscribe) => {
            SubscribeMode::try_from(subscribe.mode()).map_err(unknown("mode"))?;
            Delivery::try_from(subscribe.delivery()).map_err(unknown("delivery"))?;
        }
        MessageRef::Welcome(welcome) => {
            Role::try_from(welcome.role()).map_err(unknown("role"))?;
        }
        MessageRef::Names(names) => {
            let (vehicles, ids) = (names.vehicles().len(), names.ids().len());
            if vehicles != ids {
                return Err(DecodeError::NamesUnpaired { vehicles, ids });
            }
        }
        MessageRef::Ack(ack) => {
            AckKind::try_from(ack.kind()).map_err(unknown("kind"))?;
        }
        MessageRef::Presence(presence) => {
            for change in presence.changes() {
                PresenceState::try_from(change.state()).map_err(unknown("state"))?;
            }
        }
        MessageRef::Error(error) => {
            ErrorCode::try_from(error.code()).map_err(unknown("code"))?;
        }
        MessageRef::Position(_)
        | MessageRef::PositionBatch(_)
        | MessageRef::Positions(_)
        | MessageRef::Event(_)
        | MessageRef::Unsubscribe(_)
        | MessageRef::EventAck(_)
        | MessageRef::Command(_)
        | MessageRef::Drain(_)
        | MessageRef::Authenticate(_)
        | MessageRef::TokenExpiring(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
