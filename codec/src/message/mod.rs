//! Every message as an owned struct: for tests, for clients, for messages too rare to save an allocation on.
//!
//! Fields, units and defaults are the schema's; in JSON a field keeps its name, and one that the schema does not
//! require may be left out. Lists, bytes and texts that are empty are not written. Each file has the messages of one
//! kind of sender, and next to each struct the two ways between it and the wire.

mod authenticate;
mod dashboard;
mod gateway;
mod vehicle;

#[cfg(test)]
pub(crate) mod arbitrary;

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, UnionWIPOffset, Vector, WIPOffset};
use serde::{Deserialize, Serialize};

use crate::decode::MessageRef;
use crate::wire;

pub use authenticate::Authenticate;
pub use dashboard::{Command, EventAck, ResumePoint, Subscribe, Unsubscribe, Viewport};
pub use gateway::{
    Ack, Drain, Error, EventRange, LastKnown, Names, Positions, Presence, PresenceChange,
    TokenExpiring, Welcome,
};
pub use vehicle::{CommandResult, Event, Position, PositionBatch};

/// The builder that all messages are written with.
pub(crate) type Builder = FlatBufferBuilder<'static>;

/// How one message goes onto the wire.
pub(crate) trait Write {
    /// Writes the message's table, children first.
    fn write(&self, builder: &mut Builder) -> WIPOffset<UnionWIPOffset>;
}

macro_rules! message {
    ($($name:ident),* $(,)?) => {
        /// Any message of the protocol. In JSON: an object whose `type` is the message's name.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        #[allow(missing_docs, reason = "each variant is the struct of the same name")]
        pub enum Message {
            $($name($name),)*
        }

        impl Message {
            /// Every message's name, in the order of the schema.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The message's name in the schema and in JSON.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name),)*
                }
            }

            /// Copies a decoded message. In a view that [`crate::decode()`] did not check, a number without a
            /// meaning becomes its enumeration's first value.
            pub fn from_ref(message: MessageRef<'_>) -> Self {
                match message {
                    $(MessageRef::$name(view) => Self::$name(view.into()),)*
                }
            }

            /// Writes the message's table and says which union member it is.
            pub(crate) fn write(&self, builder: &mut Builder) -> (wire::Message, WIPOffset<UnionWIPOffset>) {
                match self {
                    $(Self::$name(message) => (wire::Message::$name, message.write(builder)),)*
                }
            }

            /// Reads the message called `name` with `deserializer`, or `None` if there is no such message.
            pub(crate) fn named<'de, D: serde::Deserializer<'de>>(
                name: &str,
                deserializer: D,
            ) -> Option<Result<Self, D::Error>> {
                match name {
                    $(stringify!($name) => Some($name::deserialize(deserializer).map(Self::$name)),)*
                    _ => None,
                }
            }
        }

        $(impl From<$name> for Message {
            fn from(message: $name) -> Self {
                Self::$name(message)
            }
        })*
    };
}

message! {
    Position, PositionBatch, Event, CommandResult,
    Subscribe, Unsubscribe, EventAck, Command,
    Welcome, Names, Positions, Ack, Presence, Drain, Error,
    Authenticate, TokenExpiring,
}

type Strings<'a> = Vector<'a, ForwardsUOffset<&'a str>>;

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn owned_list(list: Option<Strings<'_>>) -> Vec<String> {
    list.map_or_else(Vec::new, |list| list.iter().map(str::to_owned).collect())
}

fn owned_bytes(bytes: Option<Vector<'_, u8>>) -> Vec<u8> {
    bytes.map_or_else(Vec::new, |bytes| bytes.bytes().to_vec())
}

fn write_text(builder: &mut Builder, text: Option<&String>) -> Option<WIPOffset<&'static str>> {
    text.map(|text| builder.create_string(text))
}

/// An empty list is not written: for the reader, absent and empty are the same.
fn write_list(builder: &mut Builder, list: &[String]) -> Option<WIPOffset<Strings<'static>>> {
    if list.is_empty() {
        return None;
    }
    let texts: Vec<_> = list
        .iter()
        .map(|text| builder.create_string(text))
        .collect();
    Some(builder.create_vector(&texts))
}

fn write_bytes(builder: &mut Builder, bytes: &[u8]) -> Option<WIPOffset<Vector<'static, u8>>> {
    (!bytes.is_empty()).then(|| builder.create_vector(bytes))
}
