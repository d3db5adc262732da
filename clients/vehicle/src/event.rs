//! What a vehicle says besides where it is.

use longhaul_codec::Event as Wire;
use thiserror::Error;

/// The longest topic and content type, in bytes: docs/delivery.md.
const NAME_BYTES_MAX: usize = 128;
/// The longest payload that any gateway could take. Its own limit is usually lower, and told when it refuses.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// Topics that mean something else to a dashboard.
const RESERVED: [&str; 3] = ["positions", "presence", "events"];

/// An event that no gateway would take. It is refused here, where the fault is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventError {
    /// Empty, too long, or with control characters.
    #[error("the {what} \"{text}\" has to have {min} to 128 bytes, and no control characters")]
    Name {
        /// Which one.
        what: &'static str,
        /// Its beginning.
        text: String,
        /// Least length.
        min: usize,
    },
    /// A name that the protocol uses.
    #[error("the topic \"{0}\" is reserved; choose another")]
    Reserved(String),
    /// More than any gateway takes.
    #[error("a payload of {0} bytes, and the most is {PAYLOAD_BYTES_MAX}: send a reference to it")]
    TooLarge(usize),
}

/// Something that happened.
///
/// ```
/// use longhaul_vehicle::Event;
///
/// let opened = Event::new("door").text("open");
/// let measured = Event::new("tyre").json(r#"{"front_left_kpa":230}"#).at(1_795_291_375_157);
/// # let _ = (opened, measured);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What it is about: 1 to 128 bytes without control characters.
    pub topic: String,
    /// When it happened, in milliseconds since the Unix epoch; 0: when it is published.
    pub time_ms: u64,
    /// Media type of the payload, up to 128 bytes.
    pub content_type: Option<String>,
    /// Any bytes, as many as the gateway takes: 16 KiB by default.
    pub payload: Vec<u8>,
}

impl Event {
    /// An event without a payload, that happens now.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            ..Self::default()
        }
    }

    /// With this text.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.payload("text/plain", text.into())
    }

    /// With this JSON, which is not looked at.
    pub fn json(self, json: impl Into<String>) -> Self {
        self.payload("application/json", json.into())
    }

    /// With these bytes.
    pub fn payload(mut self, content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.content_type = Some(content_type.into());
        self.payload = bytes.into();
        self
    }

    /// It happened then: milliseconds since the Unix epoch.
    pub fn at(mut self, time_ms: u64) -> Self {
        self.time_ms = time_ms;
        self
    }

    /// The message, but for its number.
    pub(crate) fn into_wire(self, qos: u8, now_ms: u64) -> Result<Wire, EventError> {
        name("topic", &self.topic, 1)?;
        if RESERVED.contains(&self.topic.as_str()) {
            return Err(EventError::Reserved(self.topic));
        }
        name(
            "content type",
            self.content_type.as_deref().unwrap_or_default(),
            0,
        )?;
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(EventError::TooLarge(self.payload.len()));
        }
        Ok(Wire {
            topic: self.topic,
            qos,
            time_ms: if self.time_ms == 0 {
                now_ms
            } else {
                self.time_ms
            },
            content_type: self.content_type,
            payload: self.payload,
            ..Wire::default()
        })
    }
}

fn name(what: &'static str, text: &str, min: usize) -> Result<(), EventError> {
    if (min..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let text = text.chars().take(40).flat_map(char::escape_default);
    let text = text.collect();
    Err(EventError::Name { what, text, min })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_gateway_takes_is_refused_with_a_reason() {
        let long = "x".repeat(129);
        let cases = [
            (Event::new(""), "topic"),
            (Event::new(long.clone()), "128"),
            (Event::new("a\nb"), "a\\nb"),
            (Event::new("presence"), "reserved"),
            (Event::new("a").payload(long, ""), "content type"),
            (
                Event::new("a").payload("b", vec![0; PAYLOAD_BYTES_MAX + 1]),
                "16777217",
            ),
        ];
        for (event, says) in cases {
            let error = event.into_wire(1, 5).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_time_that_is_given_is_kept() {
        let event = Event::new("door").text("open");
        assert_eq!(event.clone().into_wire(1, 5).unwrap().time_ms, 5);
        assert_eq!(event.at(3).into_wire(1, 5).unwrap().time_ms, 3);
    }
}
