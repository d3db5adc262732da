//! An object whose `type` says which struct the rest of it is.
//!
//! serde's own internally tagged enums first copy the object into a tree, and lose line and column on the way. Here the
//! rest is read from the text itself: in the same pass if `type` comes first, as everything that writes JSON for this
//! protocol has it, and in a second one if it does not.

use std::fmt;

use serde::Deserializer;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, IntoDeserializer, MapAccess, Visitor};

use super::JsonError;
use crate::message::Message;

const TAG: &str = "type";

/// Reads `text` as one message.
pub(super) fn parse(text: &str) -> Result<Message, JsonError> {
    let mut reader = Reader::default();
    let name = match reader.read(text)? {
        Outcome::Message(message) => return Ok(message),
        Outcome::Untyped => return Err(JsonError::MissingType),
        Outcome::UnknownType(name) => return Err(unknown(name)),
        Outcome::TypeCameLate(name) => name,
    };
    let mut reader = Reader {
        known: Some(name),
        ..Reader::default()
    };
    match reader.read(text)? {
        Outcome::Message(message) => Ok(message),
        Outcome::UnknownType(name) | Outcome::TypeCameLate(name) => Err(unknown(name)),
        Outcome::Untyped => Err(JsonError::MissingType),
    }
}

/// The name is quoted in an answer to its sender, so it has a bound.
fn unknown(name: String) -> JsonError {
    JsonError::UnknownType {
        name: name.chars().take(40).collect(),
    }
}

enum Outcome {
    Message(Message),
    Untyped,
    UnknownType(String),
    /// Other fields came first and were skipped.
    TypeCameLate(String),
}

#[derive(Default)]
struct Reader {
    /// The type, if an earlier pass has found it.
    known: Option<String>,
    /// The message being read, for the error text.
    reading: Option<&'static str>,
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<Outcome, JsonError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let outcome = deserializer
            .deserialize_map(&mut *self)
            .and_then(|outcome| deserializer.end().map(|()| outcome));
        outcome.map_err(|error| match self.reading {
            Some(message) if error.is_data() => JsonError::Field { message, error },
            _ => JsonError::NotAnObject(error),
        })
    }

    /// Reads what is left of `map` as the message called `name`.
    fn message<'de, A: MapAccess<'de>>(
        &mut self,
        name: String,
        mut map: A,
    ) -> Result<Outcome, A::Error> {
        self.reading = Message::NAMES.iter().copied().find(|&known| known == name);
        if self.reading.is_none() {
            skip_rest(&mut map)?;
            return Ok(Outcome::UnknownType(name));
        }
        match Message::named(&name, MapAccessDeserializer::new(map)) {
            Some(message) => Ok(Outcome::Message(message?)),
            None => Ok(Outcome::UnknownType(name)),
        }
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Outcome;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        if let Some(name) = self.known.take() {
            return self.message(name, WithoutType(map));
        }
        match map.next_key_seed(IsType)? {
            Some(true) => {
                let name = map.next_value()?;
                return self.message(name, map);
            }
            Some(false) => map.next_value::<IgnoredAny>()?,
            None => return Ok(Outcome::Untyped),
        };
        while let Some(is_type) = map.next_key_seed(IsType)? {
            if is_type {
                let name = map.next_value()?;
                skip_rest(&mut map)?;
                return Ok(Outcome::TypeCameLate(name));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(Outcome::Untyped)
    }
}

/// Reads the rest, so that what is wrong with it is told first.
fn skip_rest<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    while let Some(is_type) = map.next_key_seed(IsType)? {
        if is_type {
            return Err(A::Error::duplicate_field(TAG));
        }
        map.next_value::<IgnoredAny>()?;
    }
    Ok(())
}

/// The map but for its `type`, which the first pass has read and found to be the only one.
struct WithoutType<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutType<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.0.next_key::<String>()? {
            if key != TAG {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.0.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A key, read as whether it is `type`.
struct IsType;

impl<'de> DeserializeSeed<'de> for IsType {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for IsType {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == TAG)
    }
}
