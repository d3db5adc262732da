//! One frame header (RFC 6455 §5.2), and the rules that it must obey whatever came before it.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;

use super::{Control, Data, OpCode, ProtocolError};

/// The longest header from a client: two bytes, a 64-bit length, a mask.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// The most that a control frame may carry (§5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is, reserved opcodes excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl FrameKind {
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A frame header that obeys every rule that can be checked without its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: FrameKind,
    pub(super) is_final: bool,
    pub(super) mask: [u8; 4],
    /// Payload length in bytes, as announced.
    pub(super) payload_len: u64,
}

impl Head {
    /// Reads the header that `bytes` begin with and tells how long it was;
    /// `None` when more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let mut cursor = Cursor::new(bytes);
        let (header, payload_len) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return Ok(None),
            // Reading from memory cannot fail, so the opcode is what it objects to.
            Err(_) => {
                let first = bytes.first().copied().unwrap_or_default();
                return Err(ProtocolError::ReservedOpcode(first & 0x0f));
            }
        };
        let head_len = cursor.position() as usize;

        // §5.2: RSV1-3 are 0 unless an extension defines them; Longhaul negotiates none.
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(ProtocolError::ReservedBits);
        }
        let kind = kind(header.opcode)?;
        // §5.1: a server closes the connection on an unmasked frame.
        let Some(mask) = header.mask else {
            return Err(ProtocolError::Unmasked);
        };
        // §5.5: control frames are at most 125 bytes and never fragmented.
        if kind.is_control() {
            if payload_len > CONTROL_BYTES_MAX as u64 {
                return Err(ProtocolError::ControlTooLong);
            }
            if !header.is_final {
                return Err(ProtocolError::FragmentedControl);
            }
        }
        // §5.2: "the most significant bit MUST be 0".
        if payload_len >> 63 != 0 {
            return Err(ProtocolError::LengthTopBit);
        }
        // §5.2: "the minimal number of bytes MUST be used to encode the length".
        // `len` is what the header takes in its shortest form.
        if header.len(payload_len) != head_len {
            return Err(ProtocolError::LengthNotShortest);
        }
        let head = Self {
            kind,
            is_final: header.is_final,
            mask,
            payload_len,
        };
        Ok(Some((head, head_len)))
    }
}

fn kind(opcode: OpCode) -> Result<FrameKind, ProtocolError> {
    match opcode {
        OpCode::Data(Data::Continue) => Ok(FrameKind::Continuation),
        OpCode::Data(Data::Text) => Ok(FrameKind::Text),
        OpCode::Data(Data::Binary) => Ok(FrameKind::Binary),
        OpCode::Control(Control::Close) => Ok(FrameKind::Close),
        OpCode::Control(Control::Ping) => Ok(FrameKind::Ping),
        OpCode::Control(Control::Pong) => Ok(FrameKind::Pong),
        // §5.2: the rest is reserved for extensions.
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            Err(ProtocolError::ReservedOpcode(u8::from(opcode)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// `start` and the mask.
    fn masked(start: &[u8]) -> Vec<u8> {
        [start, &MASK].concat()
    }

    fn long(first: u8, len: u64) -> Vec<u8> {
        masked(&[&[first, 0xff], &len.to_be_bytes()[..]].concat())
    }

    #[test]
    fn every_rule_of_a_header_alone() {
        use ProtocolError::*;
        let refused: &[(&str, Vec<u8>, ProtocolError)] = &[
            ("§5.2 RSV1", masked(&[0xc2, 0x80]), ReservedBits),
            ("§5.2 RSV2", masked(&[0xa2, 0x80]), ReservedBits),
            ("§5.2 RSV3", masked(&[0x92, 0x80]), ReservedBits),
            ("§5.2 RSV on control", masked(&[0xc9, 0x80]), ReservedBits),
            ("§5.1 unmasked data", vec![0x82, 0x00], Unmasked),
            ("§5.1 unmasked control", vec![0x89, 0x00], Unmasked),
            (
                "§5.5 ping of 126",
                masked(&[0x89, 0xfe, 0, 126]),
                ControlTooLong,
            ),
            ("§5.5 pong of 64 Ki", long(0x8a, 65_536), ControlTooLong),
            (
                "§5.5 close of 126",
                masked(&[0x88, 0xfe, 0, 126]),
                ControlTooLong,
            ),
            (
                "§5.5 ping in parts",
                masked(&[0x09, 0x80]),
                FragmentedControl,
            ),
            (
                "§5.5 close in parts",
                masked(&[0x08, 0x80]),
                FragmentedControl,
            ),
            (
                "§5.2 125 in 16 bits",
                masked(&[0x82, 0xfe, 0, 125]),
                LengthNotShortest,
            ),
            (
                "§5.2 0 in 16 bits",
                masked(&[0x82, 0xfe, 0, 0]),
                LengthNotShortest,
            ),
            (
                "§5.2 ping of 5 in 16 bits",
                masked(&[0x89, 0xfe, 0, 5]),
                LengthNotShortest,
            ),
            (
                "§5.2 65,535 in 64 bits",
                long(0x82, 65_535),
                LengthNotShortest,
            ),
            ("§5.2 0 in 64 bits", long(0x82, 0), LengthNotShortest),
            ("§5.2 2^63", long(0x82, 1 << 63), LengthTopBit),
            ("§5.2 2^64 - 1", long(0x82, u64::MAX), LengthTopBit),
        ];
        for (rule, bytes, error) in refused {
            assert_eq!(Head::parse(bytes), Err(*error), "{rule}");
        }
        for opcode in (3..=7).chain(11..=15) {
            let bytes = masked(&[0x80 | opcode, 0x80]);
            assert_eq!(
                Head::parse(&bytes),
                Err(ReservedOpcode(opcode)),
                "§5.2 opcode"
            );
        }
    }

    #[test]
    fn every_length_form_is_read() {
        for (bytes, payload_len) in [
            (masked(&[0x82, 0x80]), 0),
            (masked(&[0x82, 0xfd]), 125),
            (masked(&[0x82, 0xfe, 0, 126]), 126),
            (masked(&[0x82, 0xfe, 0xff, 0xff]), 65_535),
            (long(0x82, 65_536), 65_536),
            (long(0x82, u64::MAX >> 1), u64::MAX >> 1),
        ] {
            let head = Head {
                kind: FrameKind::Binary,
                is_final: true,
                mask: MASK,
                payload_len,
            };
            assert_eq!(Head::parse(&bytes), Ok(Some((head, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(
                    Head::parse(&bytes[..cut]),
                    Ok(None),
                    "{payload_len} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn every_kind_is_read() {
        for (first, kind, is_final) in [
            (0x00, FrameKind::Continuation, false),
            (0x80, FrameKind::Continuation, true),
            (0x01, FrameKind::Text, false),
            (0x81, FrameKind::Text, true),
            (0x02, FrameKind::Binary, false),
            (0x82, FrameKind::Binary, true),
            (0x88, FrameKind::Close, true),
            (0x89, FrameKind::Ping, true),
            (0x8a, FrameKind::Pong, true),
        ] {
            let bytes = masked(&[first, 0x80]);
            let (head, _) = Head::parse(&bytes).unwrap().unwrap();
            assert_eq!((head.kind, head.is_final), (kind, is_final));
        }
    }
}
