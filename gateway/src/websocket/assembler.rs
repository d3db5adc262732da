//! Frames become messages (RFC 6455 §5, §6.2).
//!
//! A message that arrives whole in one chunk is unmasked where it lies and handed out as a
//! borrowed slice: no copy, no allocation. Heap is held only between a frame's first byte and
//! the last byte of its message.

use std::mem;
use std::ops::ControlFlow;

use super::head::{FrameKind, Head};
use super::mask::{advance, unmask};
use super::message::PartialMessage;
use super::unfinished::{Frame, Reading, Unfinished};
use super::{CloseCode, ProtocolError, close};

/// One message from the client, unmasked; text is valid UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message (§5.6).
    Text(&'a str),
    /// A binary message (§5.6).
    Binary(&'a [u8]),
    /// To be answered with a pong of the same payload, at most 125 bytes (§5.5.2).
    Ping(&'a [u8]),
    /// The answer to a ping, or a heartbeat that nobody asked for (§5.5.3).
    Pong(&'a [u8]),
    /// The last message; to be answered with a close frame unless one was sent (§5.5.1).
    Close(Option<(CloseCode, &'a str)>),
}

/// Bounds on what one client may make the gateway hold (§10.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AssemblyLimits {
    /// The longest payload of a message, and so of a frame, in bytes.
    pub message_bytes_max: usize,
    /// The most frames that one message may come in. Empty ones count.
    pub frames_per_message_max: u32,
}

/// Turns the bytes of one connection into messages. Eight bytes, and no heap between messages.
#[derive(Debug, Default)]
pub struct Assembler {
    unfinished: Option<Box<Unfinished>>,
}

impl Assembler {
    /// Feeds received bytes and calls `sink` for each message that they complete, in order.
    /// `bytes` is scratch afterwards: payloads are unmasked in place.
    ///
    /// Returns `Break` when nothing more is to be received: after a close frame, or once
    /// `sink` returned `Break`. Bytes behind that point are dropped, and so is everything fed later.
    ///
    /// # Errors
    ///
    /// The client broke the protocol or a limit. The connection is over: send a close frame with
    /// the error's code and text, then close. Messages before the fault have been handed out.
    pub fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &AssemblyLimits,
        sink: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let outcome = self.read_frames(bytes, limits, sink);
        if outcome != Ok(ControlFlow::Continue(())) {
            // One small box until the connection's slot is freed; an idle one needs no flag.
            self.unfinished = Some(Box::new(Unfinished::new(Reading::Closed)));
        }
        outcome
    }

    /// For how many milliseconds a message has been unfinished, counted from the first time that this was asked about it.
    /// To be asked now and then: it costs a null check between messages.
    pub fn unfinished_ms(&mut self, now_ms: u64) -> u64 {
        self.unfinished.as_deref_mut().map_or(0, |unfinished| {
            now_ms.saturating_sub(*unfinished.seen_ms.get_or_insert(now_ms))
        })
    }

    /// Counts anew for how long a message has been unfinished.
    pub fn excuse(&mut self, now_ms: u64) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.seen_ms = Some(now_ms);
        }
    }

    /// Whether a message is unfinished.
    #[inline]
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    #[cfg(test)]
    /// Whether no message is unfinished and so no heap is held.
    pub fn is_idle(&self) -> bool {
        self.unfinished.is_none()
    }

    #[cfg(test)]
    /// Heap held for an unfinished message, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.unfinished.as_deref().map_or(0, |unfinished| {
            size_of::<Unfinished>() + unfinished.heap_bytes()
        })
    }

    fn read_frames(
        &mut self,
        mut bytes: &mut [u8],
        limits: &AssemblyLimits,
        sink: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        while !bytes.is_empty() {
            let (mut frame, head_len) = match self.next_frame(bytes, limits)? {
                Next::Frame(frame, head_len) => (frame, head_len),
                Next::NeedsMore => break,
                Next::Closed => return Ok(ControlFlow::Break(())),
            };
            let (_, after_head) = bytes.split_at_mut(head_len);
            let arrived = frame.remaining.min(after_head.len());
            let (payload, rest) = after_head.split_at_mut(arrived);
            unmask(payload, frame.mask);
            frame.mask = advance(frame.mask, arrived);
            frame.remaining -= arrived;
            let flow = if frame.kind.is_control() {
                self.read_control(frame, payload, sink)?
            } else {
                self.read_data(frame, payload, limits, sink)?
            };
            if flow.is_break() {
                return Ok(flow);
            }
            bytes = rest;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The frame that `bytes` begin or go on with, and how many of them belong to its header.
    fn next_frame(&mut self, bytes: &[u8], limits: &AssemblyLimits) -> Result<Next, ProtocolError> {
        let head = match self.unfinished.as_deref() {
            None => Head::parse(bytes)?,
            Some(unfinished) => match unfinished.reading {
                Reading::Closed => return Ok(Next::Closed),
                Reading::Payload(frame) => return Ok(Next::Frame(frame, 0)),
                Reading::Boundary | Reading::Head { .. } => unfinished.join_head(bytes)?,
            },
        };
        let Some((head, head_len)) = head else {
            self.unfinished().keep_head(bytes);
            return Ok(Next::NeedsMore);
        };
        let frame = Frame {
            kind: head.kind,
            is_final: head.is_final,
            mask: head.mask,
            remaining: self.admit(&head, limits)?,
        };
        Ok(Next::Frame(frame, head_len))
    }

    /// Checks a header against the message that it comes in; gives the payload length.
    fn admit(&mut self, head: &Head, limits: &AssemblyLimits) -> Result<usize, ProtocolError> {
        let too_large = ProtocolError::MessageTooLarge {
            bytes_max: limits.message_bytes_max,
        };
        let payload_len = usize::try_from(head.payload_len).map_err(|_| too_large)?;
        // §5.4: control frames may come between the fragments of a message.
        if head.kind.is_control() {
            return Ok(payload_len);
        }
        let message = self.unfinished.as_mut().and_then(|u| u.message.as_mut());
        let received = match (head.kind, message) {
            (FrameKind::Continuation, Some(message)) => {
                message.count_frame(limits.frames_per_message_max)?;
                message.len()
            }
            // §5.4: a continuation continues something, and messages do not interleave.
            (FrameKind::Continuation, None) => return Err(ProtocolError::NothingToContinue),
            (_, Some(_)) => return Err(ProtocolError::MessageUnfinished),
            (_, None) => 0,
        };
        // §10.4. Refused on announcement, before any of it is held.
        if payload_len > limits.message_bytes_max.saturating_sub(received) {
            return Err(too_large);
        }
        Ok(payload_len)
    }

    fn read_data(
        &mut self,
        frame: Frame,
        payload: &[u8],
        limits: &AssemblyLimits,
        sink: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        let is_whole = frame.is_final && frame.remaining == 0;
        if is_whole && !self.is_within_message() {
            self.settle();
            return Ok(sink(match frame.kind {
                FrameKind::Text => Incoming::Text(
                    // §8.1: text that is not UTF-8 fails the connection.
                    std::str::from_utf8(payload).map_err(|_| ProtocolError::TextNotUtf8)?,
                ),
                _ => Incoming::Binary(payload),
            }));
        }

        let unfinished = self.unfinished();
        let message = unfinished.message.get_or_insert_with(|| match frame.kind {
            FrameKind::Text => PartialMessage::text(),
            _ => PartialMessage::binary(),
        });
        // What the buffer may grow to: the message's length once it is known.
        let len_max = if frame.is_final {
            message.len() + payload.len() + frame.remaining
        } else {
            limits.message_bytes_max
        };
        message.append(payload, len_max)?;
        if !is_whole {
            unfinished.leave(frame);
            return Ok(ControlFlow::Continue(()));
        }
        let message = unfinished.message.take();
        self.unfinished = None;
        match message {
            Some(message) => Ok(sink(message.finished()?)),
            None => Ok(ControlFlow::Continue(())),
        }
    }

    fn read_control(
        &mut self,
        frame: Frame,
        payload: &[u8],
        sink: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ProtocolError> {
        if frame.remaining > 0 {
            let unfinished = self.unfinished();
            unfinished.control.extend_from_slice(payload);
            unfinished.leave(frame);
            return Ok(ControlFlow::Continue(()));
        }
        let Some(unfinished) = &mut self.unfinished else {
            return deliver_control(frame.kind, payload, sink);
        };
        let mut control = mem::take(&mut unfinished.control);
        unfinished.reading = Reading::Boundary;
        self.settle();
        if control.is_empty() {
            return deliver_control(frame.kind, payload, sink);
        }
        control.extend_from_slice(payload);
        deliver_control(frame.kind, &control, sink)
    }

    fn unfinished(&mut self) -> &mut Unfinished {
        self.unfinished
            .get_or_insert_with(|| Box::new(Unfinished::new(Reading::Boundary)))
    }

    /// Whether some of a data message has arrived.
    fn is_within_message(&self) -> bool {
        matches!(&self.unfinished, Some(unfinished) if unfinished.message.is_some())
    }

    /// Frees the box when a frame ended and no fragmented message is open.
    fn settle(&mut self) {
        if !self.is_within_message() {
            self.unfinished = None;
        }
    }
}

/// What the bytes at hand begin with.
enum Next {
    /// A frame, behind so many bytes of its header.
    Frame(Frame, usize),
    /// A header that does not end in them; it is kept.
    NeedsMore,
    /// Nothing that is still to be read.
    Closed,
}

fn deliver_control(
    kind: FrameKind,
    payload: &[u8],
    sink: &mut impl FnMut(Incoming<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ProtocolError> {
    match kind {
        FrameKind::Ping => Ok(sink(Incoming::Ping(payload))),
        FrameKind::Pong => Ok(sink(Incoming::Pong(payload))),
        _ => {
            // §5.5.1: nothing follows a close frame, whatever the sink makes of it.
            let _ = sink(Incoming::Close(close::read(payload)?));
            Ok(ControlFlow::Break(()))
        }
    }
}
