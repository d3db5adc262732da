//! WebSocket frames as a client reads and writes them (RFC 6455 §5).

/// Longest frame that a gateway may send us.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 20;

/// Frame type, RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Goes on with a fragmented message.
    Continuation,
    /// UTF-8 text.
    Text,
    /// A binary message, the only data frame of `longhaul.v1`.
    Binary,
    /// Closing handshake.
    Close,
    /// Must be answered with a pong of the same payload.
    Ping,
    /// Answer to a ping.
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// One whole frame inside the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Last frame of its message.
    pub fin: bool,
    /// What it carries.
    pub opcode: Opcode,
    /// Unmasked payload.
    pub payload: &'a [u8],
    /// Header and payload.
    pub length: usize,
}

/// What a server must never send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// RFC 6455 §5.2: reserved bits without a negotiated extension.
    #[error("reserved bits set, but no extension was negotiated")]
    Reserved,
    /// RFC 6455 §5.2.
    #[error("unknown opcode {0}")]
    Opcode(u8),
    /// RFC 6455 §5.1: a server never masks.
    #[error("a frame from the gateway is masked")]
    Masked,
    /// RFC 6455 §5.5.
    #[error("a control frame is fragmented or longer than 125 bytes")]
    Control,
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("a frame announces {0} bytes, more than this client takes")]
    TooLong(u64),
}

/// The first frame in `bytes`; `None` if it is not complete yet.
///
/// # Errors
/// A frame that no server may send.
pub fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let [first, second, ..] = *bytes else {
        return Ok(None);
    };
    if first & 0x70 != 0 {
        return Err(FrameError::Reserved);
    }
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(FrameError::Opcode(first & 0x0f))?;
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let fin = first & 0x80 != 0;
    let (header, announced) = match second {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|field| field.try_into().ok()) {
            Some(field) => (10, u64::from_be_bytes(field)),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if first & 0x08 != 0 && (!fin || announced > 125) {
        return Err(FrameError::Control);
    }
    let payload_bytes = usize::try_from(announced)
        .ok()
        .filter(|&length| length <= PAYLOAD_BYTES_MAX)
        .ok_or(FrameError::TooLong(announced))?;
    let length = header + payload_bytes;
    Ok(bytes.get(header..length).map(|payload| Frame {
        fin,
        opcode,
        payload,
        length,
    }))
}

/// Appends one unfragmented client frame. A zero `mask` is legal and leaves the payload as it is.
pub fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    out.push(0x80 | opcode.bits());
    match payload.len() {
        short @ 0..=125 => out.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a server would send.
    fn unmasked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut masked = Vec::new();
        write(&mut masked, opcode, payload, [0; 4]);
        let header = masked.len() - payload.len() - 4;
        let mut bytes = masked[..header].to_vec();
        bytes[1] &= 0x7f;
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn every_length_form_parses_and_no_prefix_does() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![7; length];
            let bytes = unmasked(Opcode::Binary, &payload);
            let frame = parse(&bytes).unwrap().unwrap();
            assert_eq!(
                (frame.payload, frame.length, frame.fin),
                (&payload[..], bytes.len(), true)
            );
            assert_eq!(parse(&bytes[..bytes.len() - 1]), Ok(None));
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let cases: &[(&[u8], FrameError)] = &[
            (&[0xc2, 0], FrameError::Reserved),
            (&[0x83, 0], FrameError::Opcode(3)),
            (&[0x82, 0x80, 0, 0, 0, 0], FrameError::Masked),
            (&[0x09, 0], FrameError::Control),
            (&[0x89, 126, 0, 126], FrameError::Control),
            (
                &[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0],
                FrameError::TooLong(1 << 56),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(parse(bytes), Err(*expected), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(frame)) = parse(&bytes) {
                prop_assert!(frame.length <= bytes.len());
            }
        }
    }
}
