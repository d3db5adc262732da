use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::decode::{MessageRef, decode};
use crate::message::{Names, Positions, arbitrary};

/// What the builder makes of `message`, without the shortcuts of the hot path.
fn built(message: &Message) -> Vec<u8> {
    Encoder::new()
        .built(|builder| message.write(builder))
        .payload()
        .to_vec()
}

proptest! {
    #[test]
    fn every_message_survives_one_encoder(messages in vec(arbitrary::message(), 1..8)) {
        let mut encoder = Encoder::new();
        for message in &messages {
            let mut encoded = encoder.message(message);
            // What a header in front of it leaves behind must not show in the next message.
            encoded.with_room()[..HEADER_ROOM].fill(0xA5);
            let decoded = decode(encoded.payload());
            prop_assert!(decoded.is_ok(), "{:?} of {:?}", decoded, message);
            let view = decoded.unwrap();
            prop_assert_eq!(view.name(), message.name());
            prop_assert_eq!(&Message::from_ref(view), message);
        }
    }

    #[test]
    fn shortcuts_write_what_the_builder_writes(
        fixes in vec(arbitrary::fix(), 0..50),
        gateway_time_ms in 1..u64::MAX,
    ) {
        let mut encoder = Encoder::new();
        for &fix in &fixes {
            let message = Position { fix, vehicle_id: None }.into();
            prop_assert_eq!(encoder.position(&fix).into_payload(), built(&message));
            prop_assert_eq!(encoder.message(&message).into_payload(), built(&message));
        }
        let positions = encoder.positions(gateway_time_ms, fixes.iter().copied()).payload().to_vec();
        let message = Positions { fixes, gateway_time_ms, last_known: vec![] }.into();
        prop_assert_eq!(&positions, &built(&message));
        prop_assert_eq!(encoder.message(&message).into_payload(), positions);
    }

    #[test]
    fn names_are_the_message(pairs in vec((any::<u32>(), ".{0,12}"), 0..40)) {
        let mut encoder = Encoder::new();
        let payload = encoder.names(pairs.iter().map(|(index, id)| (*index, id.as_str()))).payload().to_vec();
        let (vehicles, ids) = pairs.into_iter().unzip();
        prop_assert_eq!(payload, built(&Names { vehicles, ids }.into()));
    }
}

/// Lengths around those that fill the builder's buffer to the last byte, where there would be no room in front.
#[test]
fn there_is_always_room_for_a_header() {
    for length in 0..3 * BUILDER_BYTES {
        let mut encoder = Encoder::new();
        let message = Message::from(crate::message::Error {
            message: "x".repeat(length),
            ..Default::default()
        });
        for _ in 0..2 {
            let mut encoded = encoder.message(&message);
            let payload = encoded.payload().to_vec();
            encoded.with_room()[..HEADER_ROOM].fill(0xff);
            assert_eq!(&encoded.with_room()[HEADER_ROOM..], payload);
            assert_eq!(encoded.payload(), payload);
            let view = decode(&payload).expect("it was encoded just now");
            assert_eq!(Message::from_ref(view), message);
        }
    }
}

#[test]
fn an_iterator_may_lie_about_its_length() {
    struct Liar(u32, (usize, Option<usize>));
    impl Iterator for Liar {
        type Item = Fix;
        fn next(&mut self) -> Option<Fix> {
            self.0 = self.0.checked_sub(1)?;
            Some(Fix::default())
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            self.1
        }
    }
    let mut encoder = Encoder::new();
    for hint in [
        (0, None),
        (0, Some(0)),
        (1000, Some(1000)),
        (usize::MAX, None),
    ] {
        let encoded = encoder.positions(1, Liar(3, hint));
        let Ok(MessageRef::Positions(view)) = decode(encoded.payload()) else {
            panic!("not Positions");
        };
        assert_eq!(view.fixes().len(), 3);
    }
}

/// Positions of n vehicles cost n fixes of memory and one to spare, not twice as much.
#[test]
fn an_honest_length_is_all_that_is_taken() {
    let mut encoder = Encoder::new();
    encoder.positions(1, [Fix::default(); 1000]);
    let payload = encoder
        .positions(1, [Fix::default(); 1000])
        .into_payload()
        .len();
    assert_eq!(encoder.frame.len(), HEADER_ROOM + payload + Fix::WIRE_BYTES);
}

#[test]
fn a_gateway_time_of_zero_is_zero() {
    let mut encoder = Encoder::new();
    let encoded = encoder.positions(0, [Fix::default()]);
    let Ok(MessageRef::Positions(view)) = decode(encoded.payload()) else {
        panic!("not Positions");
    };
    assert_eq!(view.gateway_time_ms(), 0);
}

#[test]
fn unpaired_names_lose_what_has_no_partner() {
    let message = Names {
        vehicles: vec![1, 2],
        ids: vec!["a".into()],
    };
    let mut encoder = Encoder::new();
    let encoded = encoder.message(&message.into());
    let Ok(MessageRef::Names(view)) = decode(encoded.payload()) else {
        panic!("not Names");
    };
    assert_eq!((view.vehicles().len(), view.ids().len()), (1, 1));
}

#[test]
fn shrinking_gives_back_what_one_huge_message_took() {
    let mut encoder = Encoder::new();
    let ids: Vec<String> = (0..3000).map(|n| format!("vehicle-{n}")).collect();
    encoder.positions(1, (0..1000).map(|_| Fix::default()));
    encoder.names(ids.iter().map(|id| (0, id.as_str())));
    encoder.shrink(4096);
    assert!(encoder.builder.mut_finished_buffer().0.len() <= 4096);
    assert!(encoder.frame.capacity() <= 4096);
    assert!(encoder.ids.capacity() == 0 && encoder.indexes.capacity() == 0);

    let fix = Fix {
        vehicle: 7,
        ..Fix::default()
    };
    let encoded = encoder.position(&fix);
    let Ok(MessageRef::Position(view)) = decode(encoded.payload()) else {
        panic!("not Position");
    };
    assert_eq!(Fix::from(view.fix()), fix);
}
