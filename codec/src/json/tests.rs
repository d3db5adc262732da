use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::decode::decode;
use crate::fix::Fix;
use crate::message::{Event, Position, Subscribe, arbitrary};
use crate::values::Delivery;

proptest! {
    #[test]
    fn every_message_survives_text_and_wire(message in arbitrary::message()) {
        let text = write(&message);
        prop_assert_eq!(&parse(&text).unwrap(), &message);

        let mut encoder = Encoder::new();
        let direct = encoder.message(&message).payload().to_vec();
        let encoded = to_wire(&text, &mut encoder).unwrap();
        prop_assert_eq!(encoded.payload(), direct);
        prop_assert_eq!(from_wire(decode(encoded.payload()).unwrap()), text);
    }

    /// serde_json keeps an object's keys sorted, so that `type` comes where the alphabet puts it.
    #[test]
    fn the_order_of_keys_means_nothing(message in arbitrary::message()) {
        let text = write(&message);
        let sorted = serde_json::from_str::<Value>(&text).unwrap().to_string();
        prop_assert_eq!(&parse(&sorted).unwrap(), &message);
        let indented = serde_json::to_string_pretty(&message).unwrap();
        prop_assert_eq!(&parse(&indented).unwrap(), &message);
        prop_assert_eq!(serde_json::from_str::<Message>(&sorted).unwrap(), message);
    }

    #[test]
    fn any_text_parses_or_gives_an_error(text in ".{0,200}") {
        let _ = parse(&text);
    }

    /// What does parse is a message that the wire can carry.
    #[test]
    fn damaged_texts_parse_or_give_an_error(
        message in arbitrary::message(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..4),
    ) {
        let mut characters: Vec<char> = write(&message).chars().collect();
        for (at, character) in damage {
            let at = at.index(characters.len());
            characters[at] = character;
        }
        let text = String::from_iter(characters);
        let mut encoder = Encoder::new();
        if let Ok(encoded) = to_wire(&text, &mut encoder) {
            prop_assert_eq!(Message::from_ref(decode(encoded.payload()).unwrap()), parse(&text).unwrap());
        }
    }
}

/// Texts that docs/protocol.md may show, and that people have typed into clients since.
#[test]
fn texts_that_people_write() {
    let cases: [(&str, Message); 4] = [
        (
            r#"{"type":"Position","fix":{"lat_e7":525200000,"lon_e7":134050000}}"#,
            Position {
                fix: Fix {
                    lat_e7: 525_200_000,
                    lon_e7: 134_050_000,
                    ..Fix::default()
                },
                vehicle_id: None,
            }
            .into(),
        ),
        (
            r#"{"type":"Subscribe","vehicles":["bus-1"],"delivery":"Every","resume":null}"#,
            Subscribe {
                vehicles: vec!["bus-1".into()],
                delivery: Delivery::Every,
                ..Default::default()
            }
            .into(),
        ),
        (
            r#"{"topic":"door","payload":"b3Blbg==","type":"Event","qos":1,"message_id":18446744073709551615}"#,
            Event {
                topic: "door".into(),
                payload: b"open".to_vec(),
                qos: 1,
                message_id: u64::MAX,
                ..Default::default()
            }
            .into(),
        ),
        (
            " {\n\t\"type\" : \"Unsubscribe\" } \r\n",
            crate::message::Unsubscribe::default().into(),
        ),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap(), message, "{text}");
    }
}

#[test]
fn texts_that_the_gateway_writes() {
    let cases: [(Message, &str); 3] = [
        (
            crate::message::Positions {
                fixes: vec![Fix {
                    vehicle: 7,
                    time_ms: 1_700_000_000_000,
                    ..Fix::default()
                }],
                gateway_time_ms: 1_700_000_000_250,
                last_known: vec![crate::message::LastKnown {
                    age_ms: 1_200,
                    state: crate::values::PresenceState::Stale,
                }],
            }
            .into(),
            r#"{"type":"Positions","fixes":[{"time_ms":1700000000000,"vehicle":7,"lat_e7":0,"lon_e7":0,"speed_cm_s":65535,"heading_cdeg":65535}],"gateway_time_ms":1700000000250,"last_known":[{"age_ms":1200,"state":"Stale"}]}"#,
        ),
        (
            crate::message::Drain::default().into(),
            r#"{"type":"Drain","reconnect_after_ms":0}"#,
        ),
        (
            Event {
                topic: "\"\u{1}ü".into(),
                payload: vec![0, 255],
                ..Default::default()
            }
            .into(),
            r#"{"type":"Event","topic":"\"\u0001ü","qos":0,"message_id":0,"time_ms":0,"payload":"AP8=","vehicle":0,"sequence":0,"epoch":0,"redelivered":false}"#,
        ),
    ];
    for (message, text) in cases {
        assert_eq!(write(&message), text);
    }
}

#[test]
fn errors_say_what_and_where() {
    let types = "Position, PositionBatch, Event, CommandResult, Subscribe, Unsubscribe, EventAck, Command, \
                 Welcome, Names, Positions, Ack, Presence, Drain, Error, Authenticate, TokenExpiring";
    let cases = [
        ("", "not a JSON object: EOF while parsing a value at line 1 column 0".to_owned()),
        ("[]", "not a JSON object: invalid type: sequence, expected an object with a `type` at line 1 column 0".into()),
        ("{", "not a JSON object: EOF while parsing an object at line 1 column 1".into()),
        ("{}", format!("no `type`; it is one of {types}")),
        (r#"{"fix":{}}"#, format!("no `type`; it is one of {types}")),
        (r#"{"type":"Ping"}"#, format!("unknown type `Ping`; it is one of {types}")),
        (r#"{"a":1,"type":"position"}"#, format!("unknown type `position`; it is one of {types}")),
        (r#"{"type":7}"#, "not a JSON object: invalid type: integer `7`, expected a string at line 1 column 9".into()),
        (r#"{"type":"Ping"}{"#, "not a JSON object: trailing characters at line 1 column 16".into()),
        (r#"{"type":"Position"}"#, "Position: missing field `fix` at line 1 column 19".into()),
        (
            "{\"type\":\"Position\",\n\"fix\":{\"lat_e7\":1,\"lon_e7\":1,\"speed\":3}}",
            "Position: unknown field `speed`, expected one of `time_ms`, `vehicle`, `lat_e7`, `lon_e7`, `speed_cm_s`, \
             `heading_cdeg` at line 2 column 36".into(),
        ),
        (
            r#"{"fixx":1,"type":"Position"}"#,
            "Position: unknown field `fixx`, expected `fix` or `vehicle_id` at line 1 column 7".into(),
        ),
        (
            r#"{"type":"Position","fix":{"lat_e7":2147483648,"lon_e7":0}}"#,
            "Position: invalid value: integer `2147483648`, expected i32 at line 1 column 45".into(),
        ),
        (
            r#"{"type":"EventAck","epoch":1,"epoch":2}"#,
            "EventAck: duplicate field `epoch` at line 1 column 36".into(),
        ),
        (
            r#"{"type":"EventAck","type":"EventAck"}"#,
            "EventAck: unknown field `type`, expected `epoch` or `sequence` at line 1 column 25".into(),
        ),
        (
            r#"{"epoch":1,"type":"EventAck","type":"EventAck"}"#,
            "not a JSON object: duplicate field `type` at line 1 column 35".into(),
        ),
        (
            r#"{"type":"Ack","kind":"Nack"}"#,
            "Ack: unknown variant `Nack`, expected one of `Event`, `Subscribe`, `Unsubscribe`, `Command`, `Authenticate` at line 1 column 27".into(),
        ),
        (
            r#"{"type":"Event","topic":"t","payload":"%"}"#,
            "Event: not base64 (RFC 4648 §4): invalid length at 0 at line 1 column 42".into(),
        ),
        (r#"{"type":"Event","topic":"t","qos":2}"#, "Event.qos is 2; 0 and 1 exist".into()),
        (
            r#"{"type":"Names","vehicles":[1],"ids":[]}"#,
            "Names has 1 vehicles and 0 ids; one of each is a pair".into(),
        ),
        (r#"{"type":"EventAck","epoch":1,}"#, "not a JSON object: trailing comma at line 1 column 30".into()),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!(r#"{{"a":{}"#, "[".repeat(1_000_000));
    assert!(matches!(parse(&deep), Err(JsonError::NotAnObject(_))));
    let deep = format!(r#"{{"type":"Position","fix":{}"#, "[".repeat(1_000_000));
    assert!(parse(&deep).is_err());
    let name = format!(r#"{{"type":"{}"}}"#, "ü".repeat(100_000));
    let Err(JsonError::UnknownType { name }) = parse(&name) else {
        panic!("that is not a type");
    };
    assert_eq!(name, "ü".repeat(40));
}
