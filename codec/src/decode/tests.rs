use flatbuffers::FlatBufferBuilder;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encode::Encoder;
use crate::fix::Fix;
use crate::message::{Message, Position, arbitrary};

fn encoded(message: &Message) -> Vec<u8> {
    Encoder::new().message(message).payload().to_vec()
}

/// Reads every field of a message, so that a view that points out of its bytes cannot stay unnoticed.
fn read_all(view: MessageRef<'_>) -> Message {
    let _ = format!("{view:?}");
    Message::from_ref(view)
}

#[test]
fn every_union_member_is_decoded() {
    assert_eq!(&wire::Message::ENUM_VALUES[1..], MESSAGE_TYPES);
    let names: Vec<_> = MESSAGE_TYPES
        .iter()
        .map(|kind| kind.variant_name().unwrap())
        .collect();
    assert_eq!(names, Message::NAMES);
}

#[test]
fn a_message_may_start_at_any_address() {
    let fixes: Vec<Fix> = (0..5)
        .map(|n| Fix {
            vehicle: n,
            time_ms: u64::MAX - 1,
            ..Fix::default()
        })
        .collect();
    let messages = [
        Position {
            fix: fixes[3],
            vehicle_id: Some("bus-1".into()),
        }
        .into(),
        crate::message::Positions {
            fixes,
            gateway_time_ms: 5,
            last_known: vec![],
        }
        .into(),
        crate::message::Names {
            vehicles: vec![1, u32::MAX],
            ids: vec!["a".into(), "b".into()],
        }
        .into(),
    ];
    for message in messages {
        let bytes = encoded(&message);
        let mut space = vec![0; bytes.len() + 16];
        let aligned = space.as_ptr().align_offset(8);
        for shift in aligned..aligned + 8 {
            space[shift..][..bytes.len()].copy_from_slice(&bytes);
            let view = decode(&space[shift..][..bytes.len()]).unwrap();
            assert_eq!(read_all(view), message, "at {shift}");
        }
    }
}

/// An envelope whose union member `kind` is an `EventAck` table, written field by field as a foreign client might.
fn envelope(kind: u8) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let table = wire::EventAck::create(&mut builder, &wire::EventAckArgs::default());
    let args = wire::EnvelopeArgs {
        message_type: wire::Message(kind),
        message: Some(table.as_union_value()),
    };
    let envelope = wire::Envelope::create(&mut builder, &args);
    wire::finish_envelope_buffer(&mut builder, envelope);
    builder.finished_data().to_vec()
}

#[test]
fn a_type_that_this_version_does_not_have() {
    for kind in [wire::Message::ENUM_MAX + 1, 200, u8::MAX] {
        let bytes = envelope(kind);
        assert_eq!(decode(&bytes), Err(DecodeError::UnknownMessage(kind)));
    }
    // NONE is the default and thus not written: a message without a type.
    assert!(matches!(decode(&envelope(0)), Err(DecodeError::Invalid(_))));
}

/// Encodes with `write`, which makes the table and names its type.
fn written(
    write: impl FnOnce(
        &mut crate::message::Builder,
    ) -> (
        wire::Message,
        flatbuffers::WIPOffset<flatbuffers::UnionWIPOffset>,
    ),
) -> Vec<u8> {
    let mut builder = crate::message::Builder::new();
    let (message_type, table) = write(&mut builder);
    let args = wire::EnvelopeArgs {
        message_type,
        message: Some(table),
    };
    let envelope = wire::Envelope::create(&mut builder, &args);
    wire::finish_envelope_buffer(&mut builder, envelope);
    builder.finished_data().to_vec()
}

macro_rules! with {
    ($name:ident, $args:ident { $($field:ident: $value:expr),* }) => {
        written(|builder| {
            let args = wire::$args { $($field: $value,)* ..Default::default() };
            (wire::Message::$name, wire::$name::create(builder, &args).as_union_value())
        })
    };
}

#[test]
fn numbers_without_a_meaning() {
    let unknown = |message, field, name, number| {
        Err(DecodeError::UnknownValue {
            message,
            field,
            unknown: UnknownValue { name, number },
        })
    };
    let cases = [
        (
            with!(
                CommandResult,
                CommandResultArgs {
                    status: wire::CommandStatus(4)
                }
            ),
            unknown("CommandResult", "status", "CommandStatus", 4),
        ),
        (
            with!(
                Subscribe,
                SubscribeArgs {
                    mode: wire::SubscribeMode(2)
                }
            ),
            unknown("Subscribe", "mode", "SubscribeMode", 2),
        ),
        (
            with!(
                Subscribe,
                SubscribeArgs {
                    delivery: wire::Delivery(9)
                }
            ),
            unknown("Subscribe", "delivery", "Delivery", 9),
        ),
        (
            with!(
                Ack,
                AckArgs {
                    kind: wire::AckKind(255)
                }
            ),
            unknown("Ack", "kind", "AckKind", 255),
        ),
        (
            written(|builder| {
                let text = Some(builder.create_string(""));
                let args = wire::WelcomeArgs {
                    role: wire::Role(2),
                    fleet: text,
                    subject: text,
                    ..Default::default()
                };
                let table = wire::Welcome::create(builder, &args).as_union_value();
                (wire::Message::Welcome, table)
            }),
            unknown("Welcome", "role", "Role", 2),
        ),
        (
            written(|builder| {
                let message = Some(builder.create_string("?"));
                let args = wire::ErrorArgs {
                    code: wire::ErrorCode(4711),
                    message,
                    id: 0,
                    missing: None,
                };
                let table = wire::Error::create(builder, &args).as_union_value();
                (wire::Message::Error, table)
            }),
            unknown("Error", "code", "ErrorCode", 4711),
        ),
        (
            written(|builder| {
                let changes = [0, 2, 3]
                    .map(|state| wire::PresenceChange::new(1, 1, wire::PresenceState(state)));
                let args = wire::PresenceArgs {
                    changes: Some(builder.create_vector(&changes)),
                };
                let table = wire::Presence::create(builder, &args).as_union_value();
                (wire::Message::Presence, table)
            }),
            unknown("Presence", "state", "PresenceState", 3),
        ),
        (
            written(|builder| {
                let topic = Some(builder.create_string("door"));
                let args = wire::EventArgs {
                    topic,
                    qos: 2,
                    ..Default::default()
                };
                let table = wire::Event::create(builder, &args).as_union_value();
                (wire::Message::Event, table)
            }),
            Err(DecodeError::UnknownQos(2)),
        ),
        (
            written(|builder| {
                let id = builder.create_string("bus-1");
                let args = wire::NamesArgs {
                    vehicles: Some(builder.create_vector(&[1u32, 2])),
                    ids: Some(builder.create_vector(&[id])),
                };
                let table = wire::Names::create(builder, &args).as_union_value();
                (wire::Message::Names, table)
            }),
            Err(DecodeError::NamesUnpaired {
                vehicles: 2,
                ids: 1,
            }),
        ),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(&bytes), expected);
    }
}

/// 1,000 offsets to one string of 10,000 bytes would be 10 MB to look through for 14 KB of message.
#[test]
fn shared_bytes_do_not_multiply_the_work() {
    let bytes = written(|builder| {
        let id = builder.create_string(&"x".repeat(10_000));
        let args = wire::SubscribeArgs {
            vehicles: Some(builder.create_vector(&[id; 1000])),
            ..Default::default()
        };
        let table = wire::Subscribe::create(builder, &args).as_union_value();
        (wire::Message::Subscribe, table)
    });
    let too_large = Box::new(InvalidFlatbuffer::ApparentSizeTooLarge);
    assert_eq!(decode(&bytes), Err(DecodeError::Invalid(too_large)));
}

/// What the bound above must never refuse: the shapes with the most offsets for their bytes.
#[test]
fn honest_messages_are_far_from_the_bound() {
    for length in [0, 1, 2, 10, 10_000] {
        let message = crate::message::Subscribe {
            vehicles: vec![String::new(); length],
            groups: vec!["a".into(); length],
            topics: vec!["abcd".into(); length],
            ..Default::default()
        };
        let bytes = encoded(&message.into());
        let options = VerifierOptions {
            max_apparent_size: 2 * bytes.len() + APPARENT_BYTES_FREE / 2,
            ..Default::default()
        };
        assert!(wire::root_as_envelope_with_opts(&options, &bytes).is_ok());
    }
}

#[test]
fn faults_are_told_in_one_line() {
    let bytes = written(|builder| {
        let start = builder.start_table();
        let empty = builder.end_table(start);
        (
            wire::Message::Position,
            flatbuffers::WIPOffset::new(empty.value()),
        )
    });
    let error = decode(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not a FlatBuffers Envelope: Missing required field `fix`, \
         while verifying union variant `Message::Position` at position 20, \
         while verifying table field `message` at position 20"
    );
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert_eq!(
        decode(&long).unwrap_err().to_string(),
        "message of 67108865 bytes; the longest allowed has 67108864"
    );
}

/// `decode_fix` gives what `decode` gives, and nothing else.
fn check_shortcut(bytes: &[u8]) {
    let expected = match decode(bytes) {
        Ok(MessageRef::Position(view)) if view.vehicle_id().is_none() => Some(view.fix().into()),
        _ => None,
    };
    assert_eq!(decode_fix(bytes), expected, "{bytes:?}");
}

/// As other languages' builders may write it: fields in another order, a vtable with room for more, bytes in between.
#[test]
fn the_shortcut_knows_other_layouts() {
    let fix = Fix {
        vehicle: 3,
        ..Fix::default()
    };
    let plain = encoded(
        &Position {
            fix,
            vehicle_id: None,
        }
        .into(),
    );
    let turned = {
        let mut builder = FlatBufferBuilder::new();
        let args = wire::PositionArgs {
            fix: Some(&fix.into()),
            vehicle_id: None,
        };
        let table = wire::Position::create(&mut builder, &args);
        let mut envelope = wire::EnvelopeBuilder::new(&mut builder);
        envelope.add_message_type(wire::Message::Position);
        envelope.add_message(table.as_union_value());
        let envelope = envelope.finish();
        wire::finish_envelope_buffer(&mut builder, envelope);
        builder.finished_data().to_vec()
    };
    assert_ne!(plain, turned);
    for bytes in [&plain, &turned] {
        check_shortcut(bytes);
        assert_eq!(decode_fix(bytes), Some(fix));
    }
}

/// Each byte of a position, with each value.
#[test]
fn the_shortcut_is_as_strict_as_the_verifier() {
    let vehicle_id = Some("bus-1".to_owned());
    for vehicle_id in [None, vehicle_id] {
        let fix = Fix::default();
        let mut bytes = encoded(&Position { fix, vehicle_id }.into());
        for at in 0..bytes.len() {
            let value = bytes[at];
            for other in 0..=255 {
                bytes[at] = other;
                check_shortcut(&bytes);
            }
            bytes[at] = value;
        }
        for end in 0..bytes.len() {
            check_shortcut(&bytes[..end]);
        }
    }
}

proptest! {
    /// Small numbers in place of offsets and lengths lead to more places than random bytes do.
    #[test]
    fn the_shortcut_agrees_on_damaged_positions(
        fix in arbitrary::fix(),
        id in prop::option::of("[a-z]{0,9}"),
        damage in vec((0..64usize, prop_oneof![0..80u8, any::<u8>()]), 1..6),
    ) {
        let mut bytes = encoded(&Position { fix, vehicle_id: id }.into());
        for (at, value) in damage {
            bytes[at] = value;
        }
        check_shortcut(&bytes);
    }

    #[test]
    fn any_bytes_decode_or_give_an_error(bytes in vec(any::<u8>(), 0..300)) {
        check_shortcut(&bytes);
        if let Ok(view) = decode(&bytes) {
            read_all(view);
        }
    }

    /// Random bytes hardly ever get past the first offset; damaged messages do.
    #[test]
    fn damaged_messages_decode_or_give_an_error(
        message in arbitrary::message(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let mut bytes = encoded(&message);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        check_shortcut(&bytes);
        if let Ok(view) = decode(&bytes) {
            // What was read can be written again, and is then the same.
            let first = read_all(view);
            prop_assert_eq!(read_all(decode(&encoded(&first)).unwrap()), first);
        }
    }
}

#[test]
fn every_cut_of_a_message_decodes_or_gives_an_error() {
    let message = crate::message::Event {
        topic: "door".into(),
        content_type: Some("text/plain".into()),
        payload: b"open".to_vec(),
        ..Default::default()
    };
    let bytes = encoded(&message.into());
    for end in 0..bytes.len() {
        if let Ok(view) = decode(&bytes[..end]) {
            read_all(view);
        }
    }
}
