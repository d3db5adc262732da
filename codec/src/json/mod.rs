//! The JSON mirror of the wire form: the same messages as text, for people and quick scripts.
//!
//! A message is an object whose `type` is its name; fields are named and numbered as in the schema. Numbers stay
//! numbers (64-bit ones too), enumerations are names, payloads base64. What the schema does not require may be left
//! out; what it does not have is refused by name.
//!
//! ```
//! use longhaul_codec::{Encoder, decode, json};
//!
//! let mut encoder = Encoder::new();
//! let text = r#"{"type":"EventAck","epoch":3,"sequence":41}"#;
//! let encoded = json::to_wire(text, &mut encoder)?;
//! assert_eq!(json::from_wire(decode(encoded.payload())?), text);
//!
//! let error = json::to_wire(r#"{"type":"EventAck","sequenze":41}"#, &mut encoder).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "EventAck: unknown field `sequenze`, expected `epoch` or `sequence` at line 1 column 29"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod base64;
mod tagged;

use thiserror::Error;

use crate::decode::{DecodeError, MESSAGE_BYTES_MAX, MessageRef};
use crate::encode::{Encoded, Encoder};
use crate::message::Message;

/// Why a text is no message. All of these are the sender's fault.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes; the longest allowed has {MESSAGE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not JSON, not an object, or nested too deeply. The text has the line and column.
    #[error("not a JSON object: {0}")]
    NotAnObject(#[source] serde_json::Error),
    /// An object without a `type`.
    #[error("no `type`; it is one of {}", Message::NAMES.join(", "))]
    MissingType,
    /// An object of a type that does not exist.
    #[error("unknown type `{name}`; it is one of {}", Message::NAMES.join(", "))]
    UnknownType {
        /// The type, or as much of it as a person needs to recognise it.
        name: String,
    },
    /// A field that is missing, unknown, given twice or of the wrong kind. The text has the line and column.
    #[error("{message}: {error}")]
    Field {
        /// The message's type.
        message: &'static str,
        /// What is wrong, and where.
        #[source]
        error: serde_json::Error,
    },
    /// Each field is right, and the message is not.
    #[error(transparent)]
    Invalid(#[from] DecodeError),
}

/// Reads one message.
///
/// # Errors
/// Any other text gives a [`JsonError`] that says what is wrong with it, and where.
pub fn parse(text: &str) -> Result<Message, JsonError> {
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(JsonError::TooLarge(text.len()));
    }
    let message = tagged::parse(text)?;
    match &message {
        Message::Names(names) if names.vehicles.len() != names.ids.len() => {
            let (vehicles, ids) = (names.vehicles.len(), names.ids.len());
            Err(DecodeError::NamesUnpaired { vehicles, ids }.into())
        }
        Message::Event(event) if event.qos > 1 => Err(DecodeError::UnknownQos(event.qos).into()),
        _ => Ok(message),
    }
}

/// Writes one message, without a line break.
pub fn write(message: &Message) -> String {
    serde_json::to_string(message).expect("structs with named fields always have a JSON form")
}

/// Turns a text into the bytes of the same message, so that a gateway handles one representation only.
///
/// # Errors
/// As [`parse`]. The wire form may be up to four times longer than the text, and has the same limit.
pub fn to_wire<'e>(text: &str, encoder: &'e mut Encoder) -> Result<Encoded<'e>, JsonError> {
    let encoded = encoder.message(&parse(text)?);
    match encoded.payload().len() {
        0..=MESSAGE_BYTES_MAX => Ok(encoded),
        bytes => Err(JsonError::TooLarge(bytes)),
    }
}

/// Turns a decoded message into text.
pub fn from_wire(message: MessageRef<'_>) -> String {
    write(&Message::from_ref(message))
}

#[cfg(test)]
mod tests;
