//! What is kept of a message that has not ended, from one chunk of bytes to the next.

use super::ProtocolError;
use super::head::{CONTROL_BYTES_MAX, FrameKind, HEAD_BYTES_MAX, Head};
use super::message::PartialMessage;

/// Where in the byte stream the last chunk ended, and what it left behind.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) reading: Reading,
    /// A data message of which some frame has begun.
    pub(super) message: Option<PartialMessage>,
    /// The unmasked start of a control frame, at most 125 bytes.
    pub(super) control: Vec<u8>,
    /// When it was first seen to be unfinished, by whoever asks how long it has been.
    pub(super) seen_ms: Option<u64>,
}

/// What it weighs beside a message's payload, a control frame's start included.
pub const UNFINISHED_BYTES: usize = size_of::<Unfinished>() + CONTROL_BYTES_MAX;

#[derive(Debug)]
pub(super) enum Reading {
    /// Between two frames of a message.
    Boundary,
    /// Inside a header.
    Head {
        bytes: [u8; HEAD_BYTES_MAX],
        len: u8,
    },
    /// Inside a payload.
    Payload(Frame),
    /// After a close frame, an error, or a sink that had enough (RFC 6455 §5.5.1, §7.1.7).
    Closed,
}

/// A frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) is_final: bool,
    /// As the next byte meets it.
    pub(super) mask: [u8; 4],
    /// Payload bytes that have not arrived.
    pub(super) remaining: usize,
}

impl Unfinished {
    pub(super) fn new(reading: Reading) -> Self {
        Self {
            reading,
            message: None,
            control: Vec::new(),
            seen_ms: None,
        }
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, PartialMessage::heap_bytes);
        self.control.capacity() + message
    }

    /// The header that ends in `bytes`, joined with the start that was kept of it, and how many
    /// of `bytes` belong to it; `None` when it does not end there. What was kept stays until the
    /// payload is read.
    pub(super) fn join_head(&self, bytes: &[u8]) -> Result<Option<(Head, usize)>, ProtocolError> {
        let Reading::Head { bytes: kept, len } = &self.reading else {
            return Head::parse(bytes);
        };
        let kept_len = usize::from(*len);
        let more = bytes.len().min(HEAD_BYTES_MAX - kept_len);
        let mut joined = *kept;
        joined[kept_len..kept_len + more].copy_from_slice(&bytes[..more]);
        let parsed = Head::parse(&joined[..kept_len + more])?;
        Ok(parsed.map(|(head, head_len)| (head, head_len - kept_len)))
    }

    /// Keeps the start of a header, behind what was kept of it before. A header that is not
    /// complete is shorter than the longest one, so it always fits.
    pub(super) fn keep_head(&mut self, more: &[u8]) {
        let (mut bytes, len) = match &self.reading {
            Reading::Head { bytes, len } => (*bytes, usize::from(*len)),
            _ => ([0; HEAD_BYTES_MAX], 0),
        };
        let more = &more[..more.len().min(HEAD_BYTES_MAX - len)];
        bytes[len..len + more.len()].copy_from_slice(more);
        let len = (len + more.len()) as u8;
        self.reading = Reading::Head { bytes, len };
    }

    /// Notes where `frame` stands after the bytes at hand.
    pub(super) fn leave(&mut self, frame: Frame) {
        self.reading = if frame.remaining > 0 {
            Reading::Payload(frame)
        } else {
            Reading::Boundary
        };
    }
}
