//! The assembler's model: RFC 6455 read off the page, on all bytes at once, with no thought for
//! speed or memory.

use super::super::ProtocolError;
use super::*;

/// The messages in `bytes`, and how the stream ended.
pub fn decode(bytes: &[u8], limits: &AssemblyLimits) -> (Vec<Owned>, End) {
    let mut messages = Vec::new();
    let end = match frames(bytes, limits, &mut messages) {
        Ok(end) => end,
        Err(error) => End::Failed(error),
    };
    (messages, end)
}

fn frames(
    mut bytes: &[u8],
    limits: &AssemblyLimits,
    messages: &mut Vec<Owned>,
) -> Result<End, ProtocolError> {
    use ProtocolError::*;
    // Opcode, payload so far and frames so far of the message that is open.
    let mut open: Option<(u8, Vec<u8>, u32)> = None;
    loop {
        let [first, second, ..] = *bytes else {
            return Ok(End::Open);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & 0x80 != 0 { 4 } else { 0 };
        let head_len = 2 + length_bytes + mask_bytes;
        if bytes.len() < head_len {
            return Ok(End::Open);
        }
        let length = bytes[2..2 + length_bytes]
            .iter()
            .fold(0, |length, byte| length << 8 | u64::from(*byte));
        let length = if length_bytes == 0 {
            u64::from(second & 0x7f)
        } else {
            length
        };
        let mask = &bytes[2 + length_bytes..head_len];

        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err(ReservedOpcode(opcode));
        }
        if first & 0x70 != 0 {
            return Err(ReservedBits);
        }
        if mask.is_empty() {
            return Err(Unmasked);
        }
        if opcode >= 8 && length > 125 {
            return Err(ControlTooLong);
        }
        if opcode >= 8 && !fin {
            return Err(FragmentedControl);
        }
        if length >> 63 == 1 {
            return Err(LengthTopBit);
        }
        if length_bytes == 2 && length < 126 || length_bytes == 8 && length < 65_536 {
            return Err(LengthNotShortest);
        }

        bytes = &bytes[head_len..];
        let arrived = (bytes.len() as u64).min(length) as usize;
        let payload: Vec<u8> = (0..arrived).map(|i| bytes[i] ^ mask[i % 4]).collect();
        let is_complete = arrived as u64 == length;
        bytes = &bytes[arrived..];

        if opcode >= 8 {
            if !is_complete {
                return Ok(End::Open);
            }
            match opcode {
                9 => messages.push(Owned::Ping(payload)),
                10 => messages.push(Owned::Pong(payload)),
                _ => {
                    messages.push(Owned::Close(close(&payload)?));
                    return Ok(End::Closed);
                }
            }
            continue;
        }

        let (kind, mut message, frames) = match (opcode, open.take()) {
            (0, None) => return Err(NothingToContinue),
            (0, Some((kind, message, frames))) => (kind, message, frames + 1),
            (_, Some(_)) => return Err(MessageUnfinished),
            (kind, None) => (kind, Vec::new(), 1),
        };
        if frames > limits.frames_per_message_max {
            return Err(TooManyFrames {
                frames_max: limits.frames_per_message_max,
            });
        }
        if message.len() as u64 + length > limits.message_bytes_max as u64 {
            return Err(MessageTooLarge {
                bytes_max: limits.message_bytes_max,
            });
        }
        message.extend(payload);
        let ends = fin && is_complete;
        if kind == 1 {
            match std::str::from_utf8(&message) {
                Err(error) if ends || error.error_len().is_some() => return Err(TextNotUtf8),
                _ => {}
            }
        }
        if !is_complete {
            return Ok(End::Open);
        }
        if ends {
            messages.push(match kind {
                1 => Owned::Text(String::from_utf8(message).unwrap()),
                _ => Owned::Binary(message),
            });
        } else {
            open = Some((kind, message, frames));
        }
    }
}

fn close(payload: &[u8]) -> Result<Option<(u16, String)>, ProtocolError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(ProtocolError::ClosePayloadLength),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(ProtocolError::CloseCodeNotAllowed(code));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Some((code, reason.into()))),
        Err(_) => Err(ProtocolError::CloseReasonNotUtf8),
    }
}
