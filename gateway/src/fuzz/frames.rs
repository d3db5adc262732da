//! The frame assembler: however the bytes are cut, it says what the model says.

use bolero::check;

use crate::websocket::tests::{feed, model};
use crate::websocket::{Assembler, AssemblyLimits};

/// Small enough for a fuzzer to run into.
const TIGHT: AssemblyLimits = AssemblyLimits {
    message_bytes_max: 300,
    frames_per_message_max: 3,
};
const WIDE: AssemblyLimits = AssemblyLimits {
    message_bytes_max: 1 << 20,
    frames_per_message_max: 1_000,
};

/// The first byte says how the rest is cut, and which limits hold.
#[test]
fn frames() {
    check!(name = "frames").for_each(|input: &[u8]| {
        let Some((&shape, bytes)) = input.split_first() else {
            return;
        };
        let limits = if shape & 0x80 == 0 { TIGHT } else { WIDE };
        let piece = usize::from(shape & 0x7f) + 1;
        let expected = model::decode(bytes, &limits);
        let mut assembler = Assembler::default();
        assert_eq!(feed(&mut assembler, [bytes], &limits), expected);
        let mut assembler = Assembler::default();
        assert_eq!(
            feed(&mut assembler, bytes.chunks(piece), &limits),
            expected,
            "in pieces of {piece} bytes"
        );
        assert!(assembler.heap_bytes() <= limits.message_bytes_max + 512);
    });
}
