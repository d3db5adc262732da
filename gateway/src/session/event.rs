//! What an event must be like. Pure: a vehicle's message in, an event or a rejection out.

use longhaul_codec::{ErrorCode, Event, wire};
use longhaul_filter_engine::VehicleIndex;

use super::{
    rejection::{Bound, Rejection},
    topics::Topics,
};
use crate::limits::{CONTENT_TYPE_BYTES_MAX, TOPIC_BYTES_MAX};

/// The bounds that an event is held against.
#[derive(Debug, Clone, Copy)]
pub struct EventRules {
    /// Bytes of its payload.
    pub payload_bytes_max: usize,
}

/// Whether a vehicle's event is its own, and within bounds.
///
/// # Errors
/// What is wrong with it. The vehicle need not send it again.
pub fn check_event(
    event: wire::Event<'_>,
    me: VehicleIndex,
    rules: EventRules,
) -> Result<(), Rejection> {
    let id = event.message_id();
    let malformed = |says: String| Err(Rejection::new(ErrorCode::Malformed, id, says));
    if let Err(wrong) = check_topic(event.topic()) {
        return malformed(format!("the topic {wrong}"));
    }
    if event.qos() == 1 && id == 0 {
        return malformed(
            "an event with qos 1 needs a message_id of at least 1, greater than all before"
                .to_owned(),
        );
    }
    if event.vehicle() != 0 && event.vehicle() != me.0 {
        let says = "the event names another vehicle than this connection's: leave it out";
        return Err(Rejection::new(ErrorCode::WrongIdentity, id, says));
    }
    if let Some(content_type) = event.content_type()
        && let Err(wrong) = check_text(content_type, CONTENT_TYPE_BYTES_MAX)
    {
        return malformed(format!("the content_type {wrong}"));
    }
    let payload_bytes = event.payload().map_or(0, |payload| payload.len());
    if payload_bytes > rules.payload_bytes_max {
        let says = format!(
            "the payload has {payload_bytes} bytes, the limit is {} (limits.event_payload_bytes_max)",
            rules.payload_bytes_max
        );
        return Err(Rejection::new(ErrorCode::TooLarge, id, says).over(Bound::EventPayload));
    }
    Ok(())
}

/// The event as it goes on: what its vehicle may say, with a time.
pub fn taken(event: wire::Event<'_>, unix_ms: u64) -> Event {
    Event {
        topic: event.topic().to_owned(),
        qos: event.qos(),
        message_id: event.message_id(),
        time_ms: match event.time_ms() {
            0 => unix_ms,
            time_ms => time_ms,
        },
        content_type: event.content_type().map(str::to_owned),
        payload: event
            .payload()
            .map_or_else(Vec::new, |payload| payload.bytes().to_vec()),
        ..Event::default()
    }
}

/// Whether this can be the topic of an event.
///
/// # Errors
/// What is wrong with it.
pub fn check_topic(topic: &str) -> Result<(), String> {
    check_text(topic, TOPIC_BYTES_MAX)?;
    if topic.is_empty() {
        return Err("is empty".to_owned());
    }
    if Topics::RESERVED.contains(&topic) {
        return Err(format!("{topic:?} is the gateway's own: choose another"));
    }
    Ok(())
}

/// Whether a name is one: a short text that is not empty.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str, bytes_max: usize) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".to_owned());
    }
    check_text(name, bytes_max)
}

/// Whether a short text is one.
///
/// # Errors
/// What is wrong with it.
pub fn check_text(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        return Err(format!(
            "has {} bytes, the limit is {bytes_max}",
            text.len()
        ));
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use longhaul_codec::{Encoder, Message, MessageRef, decode};

    use super::*;

    const ME: VehicleIndex = VehicleIndex(7);

    fn check(event: Event) -> Result<Event, Rejection> {
        let mut encoder = Encoder::new();
        let encoded = encoder.message(&Message::Event(event));
        let rules = EventRules {
            payload_bytes_max: 4,
        };
        match decode(encoded.payload()).expect("it was just encoded") {
            MessageRef::Event(event) => check_event(event, ME, rules).map(|()| taken(event, 1_000)),
            other => panic!("{other:?}"),
        }
    }

    fn event() -> Event {
        Event {
            topic: "door".to_owned(),
            qos: 1,
            message_id: 9,
            time_ms: 5,
            content_type: Some("text/plain".to_owned()),
            payload: b"open".to_vec(),
            ..Event::default()
        }
    }

    #[test]
    fn a_good_one_is_taken_as_it_is() {
        assert_eq!(check(event()), Ok(event()));
        let own = Event {
            vehicle: 7,
            sequence: 5,
            epoch: 6,
            redelivered: true,
            vehicle_id: Some("x".to_owned()),
            ..event()
        };
        assert_eq!(check(own), Ok(event()), "what the gateway sets is ignored");
        let timeless = Event {
            time_ms: 0,
            ..event()
        };
        assert_eq!(check(timeless).map(|event| event.time_ms), Ok(1_000));
        let plain = Event {
            qos: 0,
            message_id: 0,
            ..event()
        };
        assert_eq!(check(plain.clone()), Ok(plain));
    }

    #[test]
    fn what_is_wrong_is_said() {
        use ErrorCode::{Malformed, TooLarge, WrongIdentity};
        let topic = |topic: &str| Event {
            topic: topic.to_owned(),
            ..event()
        };
        let cases = [
            (topic(""), Malformed, "empty"),
            (topic("a\nb"), Malformed, "control character"),
            (topic(&"t".repeat(129)), Malformed, "129 bytes"),
            (topic("positions"), Malformed, "gateway's own"),
            (topic("events"), Malformed, "gateway's own"),
            (
                Event {
                    message_id: 0,
                    ..event()
                },
                Malformed,
                "message_id",
            ),
            (
                Event {
                    vehicle: 8,
                    ..event()
                },
                WrongIdentity,
                "another vehicle",
            ),
            (
                Event {
                    payload: vec![0; 5],
                    ..event()
                },
                TooLarge,
                "5 bytes",
            ),
            (
                Event {
                    content_type: Some("x".repeat(129)),
                    ..event()
                },
                Malformed,
                "content_type",
            ),
        ];
        for (wrong, code, says) in cases {
            let id = wrong.message_id;
            let rejection = check(wrong).expect_err(says);
            assert_eq!((rejection.code, rejection.id), (code, id), "{says}");
            assert!(
                rejection.message.contains(says),
                "{} lacks {says}",
                rejection.message
            );
        }
    }
}
