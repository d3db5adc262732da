//! A data message that has not ended: its frame, or a later one, is still to come.

use super::{Incoming, ProtocolError};

/// The payload so far. It grows as bytes arrive, never to what a header merely announces.
#[derive(Debug)]
pub(super) struct PartialMessage {
    payload: Payload,
    frames: u32,
}

#[derive(Debug)]
enum Payload {
    Binary(Vec<u8>),
    Text { text: String, tail: Tail },
}

/// The first bytes of a character whose rest has not arrived: at most three.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    bytes: [u8; 4],
    len: u8,
}

impl PartialMessage {
    pub(super) fn binary() -> Self {
        Self::new(Payload::Binary(Vec::new()))
    }

    pub(super) fn text() -> Self {
        Self::new(Payload::Text {
            text: String::new(),
            tail: Tail::default(),
        })
    }

    fn new(payload: Payload) -> Self {
        Self { payload, frames: 1 }
    }

    /// Counts one more frame; refuses it when there are `frames_max` already.
    pub(super) fn count_frame(&mut self, frames_max: u32) -> Result<(), ProtocolError> {
        if self.frames >= frames_max {
            return Err(ProtocolError::TooManyFrames { frames_max });
        }
        self.frames += 1;
        Ok(())
    }

    /// Payload bytes received.
    pub(super) fn len(&self) -> usize {
        match &self.payload {
            Payload::Binary(bytes) => bytes.len(),
            Payload::Text { text, tail } => text.len() + usize::from(tail.len),
        }
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.payload {
            Payload::Binary(bytes) => bytes.capacity(),
            Payload::Text { text, .. } => text.capacity(),
        }
    }

    /// Appends unmasked payload. `len_max` is the most that the whole message can come to, and
    /// bounds how far the buffer grows ahead of need.
    ///
    /// Text fails at the first byte that no valid UTF-8 could have there (§8.1), however the
    /// bytes are cut.
    pub(super) fn append(&mut self, bytes: &[u8], len_max: usize) -> Result<(), ProtocolError> {
        match &mut self.payload {
            Payload::Binary(buffer) => {
                let more = growth(buffer.len(), buffer.capacity(), bytes.len(), len_max);
                buffer.reserve_exact(more);
                buffer.extend_from_slice(bytes);
                Ok(())
            }
            Payload::Text { text, tail } => {
                let coming = usize::from(tail.len) + bytes.len();
                let more = growth(text.len(), text.capacity(), coming, len_max);
                text.reserve_exact(more);
                append_text(text, tail, bytes)
            }
        }
    }

    /// The whole message, its last frame having arrived.
    pub(super) fn finished(&self) -> Result<Incoming<'_>, ProtocolError> {
        match &self.payload {
            Payload::Binary(bytes) => Ok(Incoming::Binary(bytes)),
            Payload::Text { text, tail } if tail.len == 0 => Ok(Incoming::Text(text)),
            // The message ends inside a character.
            Payload::Text { .. } => Err(ProtocolError::TextNotUtf8),
        }
    }
}

/// How much to reserve beyond `len` so that `coming` bytes fit: doubling, so that many small
/// pieces cost linear time, but never past `len_max` unless the bytes are there already.
fn growth(len: usize, capacity: usize, coming: usize, len_max: usize) -> usize {
    let need = len + coming;
    if need <= capacity {
        return coming;
    }
    need.max(capacity.saturating_mul(2).min(len_max)) - len
}

fn append_text(text: &mut String, tail: &mut Tail, mut bytes: &[u8]) -> Result<(), ProtocolError> {
    // First the character that the last piece cut.
    while tail.len > 0
        && let Some((first, rest)) = bytes.split_first()
    {
        tail.bytes[usize::from(tail.len)] = *first;
        tail.len += 1;
        bytes = rest;
        match std::str::from_utf8(&tail.bytes[..usize::from(tail.len)]) {
            Ok(character) => {
                text.push_str(character);
                tail.len = 0;
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => return Err(ProtocolError::TextNotUtf8),
        }
    }
    match std::str::from_utf8(bytes) {
        Ok(valid) => text.push_str(valid),
        // No error length: valid so far, cut within the last character.
        Err(error) if error.error_len().is_none() => {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).map_err(|_| ProtocolError::TextNotUtf8)?);
            tail.bytes[..rest.len()].copy_from_slice(rest);
            tail.len = rest.len() as u8;
        }
        Err(_) => return Err(ProtocolError::TextNotUtf8),
    }
    Ok(())
}
