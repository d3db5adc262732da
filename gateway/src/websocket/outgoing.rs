//! Frames that the gateway sends. A server masks nothing (RFC 6455 §5.1) and sends every
//! message in one frame.

use tungstenite::protocol::frame::FrameHeader;

use super::head::CONTROL_BYTES_MAX;
use super::{CloseCode, Control, OpCode};

/// Room for the longest frame header, kept free in front of an encoded payload, in bytes.
pub const HEADER_ROOM: usize = super::head::HEAD_BYTES_MAX;

/// Writes the header of a final, unmasked frame right-aligned into the room in front of its
/// payload of `payload_len` bytes. The frame begins at the returned offset.
pub fn write_header(room: &mut [u8; HEADER_ROOM], opcode: OpCode, payload_len: usize) -> usize {
    let header = FrameHeader {
        opcode,
        ..FrameHeader::default()
    };
    let start = HEADER_ROOM - header.len(payload_len as u64);
    let mut rest = &mut room[start..];
    header
        .format(payload_len as u64, &mut rest)
        .expect("the room was cut to the header's own length");
    start
}

/// A control frame. `payload` is at most 125 bytes (§5.5), which what a ping carried always is;
/// more is cut off.
pub fn control_frame(opcode: Control, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut room = [0; HEADER_ROOM];
    let start = write_header(&mut room, OpCode::Control(opcode), payload.len());
    [&room[start..], payload].concat()
}

/// A close frame with a status code and a reason in words (§5.5.1). The reason is cut at a
/// character boundary to the 123 bytes that fit.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    control_frame(Control::Close, &payload)
}

/// The answer to a client's close frame: its own code, or none if it gave none (§5.5.1).
pub fn close_reply(received: Option<CloseCode>) -> Vec<u8> {
    match received {
        Some(code) => close_frame(code.into(), ""),
        None => control_frame(Control::Close, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Data;
    use super::*;

    #[test]
    fn headers_take_the_shortest_form_right_aligned() {
        const BINARY: OpCode = OpCode::Data(Data::Binary);
        for (payload_len, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut room = [0xaa; HEADER_ROOM];
            let start = write_header(&mut room, BINARY, payload_len);
            assert_eq!(&room[start..], expected);
            assert!(room[..start].iter().all(|byte| *byte == 0xaa));
        }
    }

    #[test]
    fn control_frames_are_final_and_at_most_125_bytes() {
        assert_eq!(control_frame(Control::Ping, b""), [0x89, 0]);
        assert_eq!(control_frame(Control::Pong, b"hi"), *b"\x8a\x02hi");
        assert_eq!(control_frame(Control::Pong, &[7; 125]).len(), 127);
        assert_eq!(control_frame(Control::Pong, &[7; 126])[..2], [0x8a, 125]);
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        assert_eq!(close_frame(1000, ""), [0x88, 2, 0x03, 0xe8]);
        assert_eq!(close_frame(4008, "slow"), *b"\x88\x06\x0f\xa8slow");
        let fits = "ü".repeat(61) + "x";
        assert_eq!(close_frame(1000, &fits)[4..], *fits.as_bytes());
        let cut = close_frame(1000, &"ü".repeat(80));
        assert_eq!(cut[..4], [0x88, 2 + 122, 0x03, 0xe8]);
        assert_eq!(cut[4..], *"ü".repeat(61).as_bytes());
    }

    #[test]
    fn a_close_is_answered_with_its_own_code() {
        assert_eq!(close_reply(None), [0x88, 0]);
        assert_eq!(close_reply(Some(CloseCode::Away)), [0x88, 2, 0x03, 0xe9]);
    }
}
