//! However the bytes are cut, the outcome is the same, and it is the model's.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

/// Small, so that random streams run into them.
const TIGHT: AssemblyLimits = AssemblyLimits {
    message_bytes_max: 100,
    frames_per_message_max: 3,
};

/// A data message in fragments, with a control frame behind some of them.
#[derive(Clone, Debug)]
struct Script {
    message: Owned,
    /// Where the payload is cut.
    cuts: Vec<Index>,
    controls: Vec<Option<Owned>>,
}

fn data() -> impl Strategy<Value = Owned> {
    prop_oneof![
        "\\PC{0,40}".prop_map(Owned::Text),
        vec(any::<u8>(), 0..200).prop_map(Owned::Binary),
    ]
}

fn control() -> impl Strategy<Value = Owned> {
    let payload = || vec(any::<u8>(), 0..=125);
    prop_oneof![
        payload().prop_map(Owned::Ping),
        payload().prop_map(Owned::Pong)
    ]
}

fn script() -> impl Strategy<Value = Script> {
    (
        data(),
        vec(any::<Index>(), 0..4),
        vec(proptest::option::of(control()), 4),
    )
        .prop_map(|(message, cuts, controls)| Script {
            message,
            cuts,
            controls,
        })
}

/// The bytes of a script, and what the gateway makes of them.
fn play(script: &Script) -> (Vec<u8>, Vec<Owned>) {
    let (opcode, payload) = match &script.message {
        Owned::Text(text) => (TEXT, text.as_bytes()),
        Owned::Binary(bytes) => (BINARY, &bytes[..]),
        other => unreachable!("{other:?} is no data message"),
    };
    let fragments = pieces(payload, &script.cuts);
    let (mut bytes, mut messages) = (Vec::new(), Vec::new());
    for (number, fragment) in fragments.iter().enumerate() {
        let opcode = if number == 0 { opcode } else { CONTINUE };
        let is_last = number + 1 == fragments.len();
        bytes.extend(frame(opcode | if is_last { FIN } else { 0 }, fragment));
        if is_last {
            messages.push(script.message.clone());
        }
        match &script.controls[number] {
            Some(Owned::Ping(payload)) => bytes.extend(frame(PING, payload)),
            Some(Owned::Pong(payload)) => bytes.extend(frame(PONG, payload)),
            _ => continue,
        }
        messages.extend(script.controls[number].clone());
    }
    (bytes, messages)
}

/// Cuts `bytes` at the given places into one piece more than there are places; some are empty.
fn pieces<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut start = 0;
    for place in places.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[start..place]);
        start = place;
    }
    pieces
}

/// A frame that may break any rule: odd opcodes and bits, wrong lengths, torn text.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => select(vec![TEXT, FIN | TEXT, BINARY, FIN | BINARY, CONTINUE, FIN]),
        4 => select(vec![PING, PONG]),
        1 => Just(CLOSE),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        6 => "[a-zµ€🚚]{0,12}".prop_map(String::into_bytes),
        2 => ("[µ€🚚]{1,4}", any::<Index>()).prop_map(|(text, cut)| {
            let cut = cut.index(text.len() + 1);
            text.into_bytes()[..cut].to_vec()
        }),
        2 => (990..1020_u16, "[aµ]{0,3}").prop_map(|(code, reason)| {
            [&code.to_be_bytes(), reason.as_bytes()].concat()
        }),
        1 => vec(any::<u8>(), 0..160),
    ];
    (first, payload).prop_map(|(first, payload)| frame(first, &payload))
}

/// Good messages, then such frames, some bytes of it all overwritten.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<Index>(), any::<u8>()), 0..2);
    (vec(script(), 0..3), vec(any_frame(), 1..12), damage).prop_map(|(scripts, frames, damage)| {
        let good: Vec<u8> = scripts.iter().flat_map(|script| play(script).0).collect();
        let mut bytes = [good, frames.concat()].concat();
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes
    })
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop_oneof![vec(any::<Index>(), 0..6), vec(any::<Index>(), 0..60)]
}

proptest! {
    #[test]
    fn what_was_sent_arrives_however_it_is_cut(
        scripts in vec(script(), 0..6),
        cuts in cuts(),
    ) {
        let (bytes, messages): (Vec<_>, Vec<_>) = scripts.iter().map(play).unzip();
        let expected = (messages.concat(), End::Open);
        let bytes = bytes.concat();
        let mut assembler = Assembler::default();
        prop_assert_eq!(&feed(&mut assembler, pieces(&bytes, &cuts), &LIMITS), &expected);
        prop_assert!(assembler.is_idle());
        prop_assert_eq!(feed_whole(&bytes), expected);
    }

    #[test]
    fn a_stream_that_breaks_rules_ends_as_the_model_says(
        bytes in any_stream(),
        cuts in cuts(),
        limits in select(vec![LIMITS, TIGHT]),
    ) {
        let expected = model::decode(&bytes, &limits);
        let mut assembler = Assembler::default();
        prop_assert_eq!(&feed(&mut assembler, [&bytes[..]], &limits), &expected);
        let mut assembler = Assembler::default();
        prop_assert_eq!(&feed(&mut assembler, pieces(&bytes, &cuts), &limits), &expected);
        prop_assert!(assembler.heap_bytes() <= limits.message_bytes_max + 512);
    }

    #[test]
    fn any_bytes_at_all_end_as_the_model_says(
        bytes in vec(any::<u8>(), 0..400),
        cuts in cuts(),
    ) {
        let expected = model::decode(&bytes, &LIMITS);
        let mut assembler = Assembler::default();
        prop_assert_eq!(feed(&mut assembler, pieces(&bytes, &cuts), &LIMITS), expected);
    }
}
