//! What the assembler holds, and when.

use super::*;

#[test]
fn an_assembler_is_eight_bytes() {
    assert_eq!(size_of::<Assembler>(), 8);
}

#[test]
fn heap_is_held_only_within_a_message() {
    let cases: [(&str, Vec<u8>, bool); 9] = [
        ("nothing", vec![], true),
        ("whole frames", frame(FIN | TEXT, b"hi").repeat(3), true),
        (
            "part of a header",
            head(FIN | TEXT, 300)[..3].to_vec(),
            false,
        ),
        ("a header", head(FIN | TEXT, 5), false),
        (
            "part of a payload",
            frame(FIN | BINARY, b"hello")[..8].to_vec(),
            false,
        ),
        ("part of a ping", frame(PING, b"hello")[..8].to_vec(), false),
        ("an open fragment", frame(TEXT, b"x"), false),
        (
            "a ping within a message",
            [frame(TEXT, b"x"), frame(PING, b"y")].concat(),
            false,
        ),
        (
            "an ended message",
            [frame(TEXT, b"x"), frame(FIN, b"y")].concat(),
            true,
        ),
    ];
    for (what, bytes, is_idle) in cases {
        for size in [1, 2, 3, 1_000] {
            let mut assembler = Assembler::default();
            let (_, end) = feed(&mut assembler, bytes.chunks(size), &LIMITS);
            assert_eq!(end, End::Open, "{what}, chunks of {size}");
            assert_eq!(assembler.is_idle(), is_idle, "{what}, chunks of {size}");
            assert_eq!(
                assembler.heap_bytes() == 0,
                is_idle,
                "{what}, chunks of {size}"
            );
        }
    }
}

/// An announcement costs the sender nothing, so it must cost the gateway nothing.
#[test]
fn memory_follows_what_arrived_not_what_was_announced() {
    const LEN: usize = 10 << 20;
    let fixed = {
        let mut assembler = Assembler::default();
        feed(&mut assembler, [&head(FIN | BINARY, LEN)[..]], &LIMITS);
        assembler.heap_bytes()
    };
    assert!(fixed < 256, "{fixed} bytes for a header");

    for first in [BINARY, FIN | BINARY, TEXT, FIN | TEXT] {
        let mut assembler = Assembler::default();
        feed(&mut assembler, [&head(first, LEN)[..]], &LIMITS);
        // A multiple of four, so that every chunk meets the mask from its start.
        let mut chunk = [b'x'; 4_000];
        unmask(&mut chunk, MASK);
        let mut arrived = 0;
        while arrived + chunk.len() < LEN {
            let (messages, end) = feed(&mut assembler, [&chunk[..]], &LIMITS);
            assert_eq!((messages, end), (vec![], End::Open));
            arrived += chunk.len();
            let held = assembler.heap_bytes();
            assert!(
                held <= fixed + 2 * arrived,
                "{held} bytes held of {arrived}"
            );
            assert!(held <= fixed + LIMITS.message_bytes_max);
            if first & FIN != 0 {
                assert!(held <= fixed + LEN, "{held} bytes for a message of {LEN}");
            }
        }
    }
}

/// 16 MiB in 1 KiB pieces: with a cost that grew with the square this would not end.
#[test]
fn a_large_message_in_small_pieces() {
    let payload: Vec<u8> = "Vehicle µ ".bytes().cycle().take(16 << 20).collect();
    let payload = &payload[..payload.len() - payload.len() % 11];
    let bytes = frame(FIN | TEXT, payload);
    let mut assembler = Assembler::default();
    let (messages, end) = feed(&mut assembler, bytes.chunks(1_024), &LIMITS);
    assert_eq!(end, End::Open);
    assert!(assembler.is_idle());
    assert!(matches!(&messages[..], [Owned::Text(text)] if text.as_bytes() == payload));
}
