//! Longhaul's wire format: bytes in, messages out, and back. No I/O, no clock.
//!
//! FlatBuffers (`schema/longhaul.fbs`, subprotocol `longhaul.v1`) is the one representation; JSON
//! (`longhaul.v1.json`) mirrors it message by message. A map of the crate:
//!
//! - [`decode()`] verifies bytes and gives a borrowed view, [`MessageRef`]; [`wire`] is the generated code behind it.
//!   [`decode_fix`] is its shortcut for what vehicles send all the time.
//! - [`Encoder`] writes messages into a buffer that it keeps, with [`HEADER_ROOM`] free bytes in front.
//! - [`Fix`] is a position as 24 plain bytes; [`values`] has the protocol's enumerations.
//! - [`message`] has every message as an owned struct, for tests, clients and rare messages.
//! - [`json`] transcodes text to and from the wire form.
//!
//! ```
//! use longhaul_codec::{Encoder, Fix, MessageRef, decode};
//!
//! let mut encoder = Encoder::new();
//! let here = Fix { lat_e7: 525_200_000, lon_e7: 134_050_000, ..Fix::default() };
//! let sent = encoder.position(&here);
//! let MessageRef::Position(received) = decode(sent.payload())? else { panic!("it was a Position") };
//! assert_eq!(Fix::from(received.fix()), here);
//! # Ok::<(), longhaul_codec::DecodeError>(())
//! ```
#![deny(unsafe_code)] // `forbid` but for the generated module

mod decode;
mod encode;
mod fix;
mod generated;
pub mod json;
pub mod message;
pub mod values;

pub use decode::{DecodeError, MESSAGE_BYTES_MAX, MessageRef, decode, decode_fix};
pub use encode::{Encoded, Encoder, HEADER_ROOM};
pub use fix::{Fix, FixError};
pub use generated::v_1 as wire;
pub use json::JsonError;
pub use message::{
    Ack, Authenticate, Command, CommandResult, Drain, Error, Event, EventAck, EventRange,
    LastKnown, Message, Names, Position, PositionBatch, Positions, Presence, PresenceChange,
    ResumePoint, Subscribe, TokenExpiring, Unsubscribe, Viewport, Welcome,
};
pub use values::{
    AckKind, CommandStatus, Delivery, ErrorCode, PresenceState, Role, SubscribeMode, UnknownValue,
};

/// The WebSocket subprotocol (RFC 6455 §1.9) whose binary messages are one FlatBuffers `Envelope` each.
pub const SUBPROTOCOL: &str = "longhaul.v1";

/// The WebSocket subprotocol whose text messages mirror [`SUBPROTOCOL`] in JSON.
pub const SUBPROTOCOL_JSON: &str = "longhaul.v1.json";
