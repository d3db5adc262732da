//! The rules that span frames, as tables of cases: whole and byte by byte.

use super::super::{CloseCode, ProtocolError};
use super::*;

/// A rule, the frames that try it, and what comes of them.
type Case<Outcome> = (&'static str, Vec<Vec<u8>>, Outcome);

fn text(text: &str) -> Owned {
    Owned::Text(text.into())
}

fn check(rule: &str, frames: &[Vec<u8>], expected: (Vec<Owned>, End)) {
    let bytes = frames.concat();
    assert_eq!(feed_whole(&bytes), expected, "{rule}, in one chunk");
    assert_eq!(feed_bytewise(&bytes), expected, "{rule}, byte by byte");
}

#[test]
fn what_a_client_may_send() {
    use Owned::{Binary, Close, Ping, Pong};
    let big = vec![0xfe; 65_536];
    let cases: Vec<Case<Vec<Owned>>> = vec![
        (
            "§5.6 text",
            vec![frame(FIN | TEXT, "Grüße".as_bytes())],
            vec![text("Grüße")],
        ),
        (
            "§5.6 binary",
            vec![frame(FIN | BINARY, b"\0\xff")],
            vec![Binary(b"\0\xff".into())],
        ),
        (
            "§5.6 empty messages",
            vec![frame(FIN | TEXT, b""), frame(FIN | BINARY, b"")],
            vec![text(""), Binary(vec![])],
        ),
        (
            "§5.2 every length form",
            [125, 126, 65_535, 65_536]
                .map(|len| frame(FIN | BINARY, &big[..len]))
                .into(),
            [125, 126, 65_535, 65_536]
                .map(|len| Binary(big[..len].into()))
                .into(),
        ),
        (
            "§5.5.2, §5.5.3 ping and pong, up to 125 bytes",
            vec![
                frame(PING, b""),
                frame(PING, &big[..125]),
                frame(PONG, b"p"),
            ],
            vec![Ping(vec![]), Ping(big[..125].into()), Pong(b"p".into())],
        ),
        (
            "§5.4 three fragments",
            vec![frame(TEXT, b"a"), frame(CONTINUE, b"b"), frame(FIN, b"c")],
            vec![text("abc")],
        ),
        (
            "§5.4 empty fragments",
            vec![frame(BINARY, b""), frame(CONTINUE, b""), frame(FIN, b"")],
            vec![Binary(vec![])],
        ),
        (
            "§5.4 control frames between fragments come first",
            vec![
                frame(TEXT, b"a"),
                frame(PING, b"1"),
                frame(CONTINUE, b"b"),
                frame(PONG, b"2"),
                frame(FIN, b"c"),
                frame(FIN | TEXT, b"d"),
            ],
            vec![Ping(b"1".into()), Pong(b"2".into()), text("abc"), text("d")],
        ),
        (
            "§8.1 a character may be cut by a fragment",
            vec![
                frame(TEXT, b"\xe2"),
                frame(CONTINUE, b"\x82"),
                frame(FIN, b"\xac!"),
            ],
            vec![text("€!")],
        ),
        (
            "§8.1 the last code point, and what looks like a byte order mark",
            vec![frame(FIN | TEXT, "\u{feff}\u{10ffff}".as_bytes())],
            vec![text("\u{feff}\u{10ffff}")],
        ),
    ];
    for (rule, frames, messages) in cases {
        check(rule, &frames, (messages, End::Open));
    }
    let close = |code, reason: &str| Close(Some((code, reason.into())));
    for (rule, payload, close) in [
        ("§5.5.1 without a code", &b""[..], Close(None)),
        ("§5.5.1 with a code", b"\x03\xe8", close(1000, "")),
        ("§7.4.2 with a private code", b"\x0f\xa8", close(4008, "")),
        ("§5.5.1 with a reason", b"\x03\xe9bye", close(1001, "bye")),
    ] {
        check(rule, &[frame(CLOSE, payload)], (vec![close], End::Closed));
    }
}

#[test]
fn what_fails_the_connection() {
    use ProtocolError::*;
    let cases: Vec<Case<ProtocolError>> = vec![
        (
            "§5.4 continuation first",
            vec![frame(FIN, b"x")],
            NothingToContinue,
        ),
        (
            "§5.4 open continuation first",
            vec![frame(CONTINUE, b"")],
            NothingToContinue,
        ),
        (
            "§5.4 text in text",
            vec![frame(TEXT, b"a"), frame(FIN | TEXT, b"b")],
            MessageUnfinished,
        ),
        (
            "§5.4 binary in text",
            vec![frame(TEXT, b""), frame(BINARY, b"")],
            MessageUnfinished,
        ),
        (
            "§5.5 fragmented ping",
            vec![frame(0x09, b"x")],
            FragmentedControl,
        ),
        (
            "§5.5 long ping",
            vec![frame(PING, &[0; 126])],
            ControlTooLong,
        ),
        ("§5.1 no mask", vec![vec![FIN | TEXT, 0]], Unmasked),
        (
            "§5.2 RSV1 on a later frame",
            vec![frame(0x41, b"x")],
            ReservedBits,
        ),
        (
            "§5.2 reserved data opcode",
            vec![frame(FIN | 3, b"")],
            ReservedOpcode(3),
        ),
        (
            "§5.2 reserved control opcode",
            vec![frame(FIN | 11, b"")],
            ReservedOpcode(11),
        ),
        (
            "§5.5.1 close of one byte",
            vec![frame(CLOSE, b"\x03")],
            ClosePayloadLength,
        ),
        (
            "§7.4 close 1005",
            vec![frame(CLOSE, b"\x03\xed")],
            CloseCodeNotAllowed(1005),
        ),
        (
            "§5.5.1 close reason",
            vec![frame(CLOSE, b"\x03\xe8\xff")],
            CloseReasonNotUtf8,
        ),
        (
            "§8.1 invalid text",
            vec![frame(FIN | TEXT, b"a\xffb")],
            TextNotUtf8,
        ),
        (
            "§8.1 text ends in a character",
            vec![frame(FIN | TEXT, b"a\xe2\x82")],
            TextNotUtf8,
        ),
        (
            "§8.1 fragments end in a character",
            vec![frame(TEXT, b"a\xe2"), frame(FIN, b"\x82")],
            TextNotUtf8,
        ),
        (
            "§8.1 a character broken by the next fragment",
            vec![frame(TEXT, b"\xe2"), frame(CONTINUE, b"x")],
            TextNotUtf8,
        ),
    ];
    for (rule, frames, error) in cases {
        // A message in front still arrives; one behind never does.
        let frames = [
            vec![frame(FIN | TEXT, b"before")],
            frames,
            vec![frame(FIN | TEXT, b"behind")],
        ]
        .concat();
        check(rule, &frames, (vec![text("before")], End::Failed(error)));
    }
    check(
        "§5.4 continuation after the end",
        &[frame(TEXT, b"a"), frame(FIN, b"b"), frame(FIN, b"c")],
        (vec![text("ab")], End::Failed(NothingToContinue)),
    );
}

#[test]
fn each_fault_has_its_close_code_and_a_reason_that_fits() {
    use ProtocolError::*;
    let too_large = MessageTooLarge {
        bytes_max: usize::MAX,
    };
    let too_many = TooManyFrames {
        frames_max: u32::MAX,
    };
    for (error, code) in [
        (ReservedBits, CloseCode::Protocol),
        (ReservedOpcode(15), CloseCode::Protocol),
        (Unmasked, CloseCode::Protocol),
        (FragmentedControl, CloseCode::Protocol),
        (ControlTooLong, CloseCode::Protocol),
        (LengthNotShortest, CloseCode::Protocol),
        (LengthTopBit, CloseCode::Protocol),
        (NothingToContinue, CloseCode::Protocol),
        (MessageUnfinished, CloseCode::Protocol),
        (ClosePayloadLength, CloseCode::Protocol),
        (CloseCodeNotAllowed(u16::MAX), CloseCode::Protocol),
        (CloseReasonNotUtf8, CloseCode::Invalid),
        (TextNotUtf8, CloseCode::Invalid),
        (too_large, CloseCode::Size),
        (too_many, CloseCode::Size),
    ] {
        assert_eq!(error.close_code(), code, "{error}");
        assert!(error.to_string().len() <= 123, "{error}");
    }
}

/// The point at which a text frame that will never be valid has to fail: at the first byte that
/// no UTF-8 could have there, with the frame's end far away.
#[test]
fn invalid_text_fails_before_its_frame_ends() {
    let cases: [(&str, &[u8]); 8] = [
        ("a byte that never occurs", b"\xff"),
        ("a stray continuation", b"\x80"),
        ("overlong, two bytes", b"\xc0"),
        ("overlong, three bytes", b"\xe0\x9f"),
        ("a surrogate", b"\xed\xa0"),
        ("beyond U+10FFFF", b"\xf4\x90"),
        ("a lead byte too high", b"\xf5"),
        ("a character cut by ASCII", b"\xf0\x9f\x9a."),
    ];
    for (what, invalid) in cases {
        for start in [TEXT, FIN | TEXT] {
            let mut bytes = frame(
                start,
                &[b"\xce\xba\xe1\xbd\xb9", invalid, b"edited"].concat(),
            );
            let fault = head(start, 0).len() + 5 + invalid.len();
            bytes.truncate(fault);
            let failed = (vec![], End::Failed(ProtocolError::TextNotUtf8));
            assert_eq!(feed_whole(&bytes), failed, "{what}");
            assert_eq!(feed_bytewise(&bytes), failed, "{what}");
            let open = (vec![], End::Open);
            assert_eq!(feed_whole(&bytes[..fault - 1]), open, "{what}");
            assert_eq!(feed_bytewise(&bytes[..fault - 1]), open, "{what}");
        }
    }
}

#[test]
fn limits_are_on_the_message_and_on_its_frames() {
    let limits = AssemblyLimits {
        message_bytes_max: 10,
        frames_per_message_max: 3,
    };
    let too_large = End::Failed(ProtocolError::MessageTooLarge { bytes_max: 10 });
    let too_many = End::Failed(ProtocolError::TooManyFrames { frames_max: 3 });
    let ten = Owned::Binary(vec![7; 10]);
    let cases: Vec<Case<(Vec<Owned>, End)>> = vec![
        (
            "exactly full",
            vec![frame(FIN | BINARY, &[7; 10])],
            (vec![ten.clone()], End::Open),
        ),
        (
            "one over",
            vec![head(FIN | BINARY, 11)],
            (vec![], too_large),
        ),
        (
            "the longest that a header can say",
            vec![head(FIN | TEXT, usize::MAX >> 1)],
            (vec![], too_large),
        ),
        (
            "full by fragments",
            vec![
                frame(BINARY, &[7; 4]),
                frame(CONTINUE, &[7; 4]),
                frame(FIN, &[7; 2]),
            ],
            (vec![ten.clone()], End::Open),
        ),
        (
            "over by fragments",
            vec![frame(BINARY, &[7; 4]), head(FIN, 7)],
            (vec![], too_large),
        ),
        (
            "a character's start counts",
            vec![frame(TEXT, b"12345678\xe2"), head(FIN, 2)],
            (vec![], too_large),
        ),
        (
            "control frames do not count",
            vec![
                frame(BINARY, &[7; 10]),
                frame(PONG, &[1; 20]),
                frame(FIN, b""),
            ],
            (vec![Owned::Pong(vec![1; 20]), ten], End::Open),
        ),
        (
            "a frame too many",
            vec![
                frame(TEXT, b""),
                frame(CONTINUE, b""),
                frame(CONTINUE, b""),
                frame(FIN, b""),
            ],
            (vec![], too_many),
        ),
    ];
    for (rule, frames, expected) in cases {
        let bytes = frames.concat();
        let whole = feed(&mut Assembler::default(), [&bytes[..]], &limits);
        let bytewise = feed(&mut Assembler::default(), bytes.chunks(1), &limits);
        assert_eq!(whole, expected, "{rule}");
        assert_eq!(bytewise, expected, "{rule}, byte by byte");
    }
}

#[test]
fn nothing_is_read_behind_the_end() {
    let more = frame(FIN | TEXT, b"more");
    // §5.5.1 a close frame; §7.1.7 a fault.
    for end in [frame(CLOSE, b""), frame(FIN, b"")] {
        let mut assembler = Assembler::default();
        let (_, ended) = feed(&mut assembler, [&end[..]], &LIMITS);
        assert_ne!(ended, End::Open);
        let after = feed(&mut assembler, [&more[..]], &LIMITS);
        assert_eq!(after, (vec![], End::Closed));
    }
    // A sink that breaks.
    let mut assembler = Assembler::default();
    let mut seen = 0;
    for _ in 0..2 {
        let flow = assembler.receive(&mut more.repeat(3), &LIMITS, &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!(flow, Ok(ControlFlow::Break(())));
    }
    assert_eq!(seen, 1);
}
