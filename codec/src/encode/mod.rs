//! Messages into a buffer that is kept, with room in front for the WebSocket header.

mod template;

use std::fmt;

use flatbuffers::{UnionWIPOffset, WIPOffset};

use crate::fix::Fix;
use crate::message::{Builder, Message, Position};
use crate::wire;
use template::Template;

/// The longest WebSocket header (RFC 6455 §5.2): 2 bytes, 8 of length, and a client's mask of 4.
pub const HEADER_ROOM: usize = 14;

/// An iterator's word on how many fixes follow is taken up to here; beyond, they have to come.
const FIXES_EXPECTED_MAX: usize = 1 << 16;

/// What a new builder starts with: enough for all but lists.
const BUILDER_BYTES: usize = 1024;

/// Writes messages. Keep one per thread: it owns the buffers, so that encoding does not allocate once they have grown.
///
/// Each method overwrites the message before. No method checks that what it writes makes sense or that a peer would
/// take its length ([`crate::MESSAGE_BYTES_MAX`]); whoever collects the content bounds it. Beyond 2 GiB, which
/// FlatBuffers cannot express, they panic.
pub struct Encoder {
    /// For messages with strings and optional fields. It fills its buffer from the end.
    builder: Builder,
    /// For messages that only vary in their numbers, written from the start. Its length is the most ever used.
    frame: Vec<u8>,
    position: Template,
    positions: Template,
    ids: Vec<WIPOffset<&'static str>>,
    indexes: Vec<u32>,
    /// Where in the builder's buffer a message begins whose room may hold a header.
    room_before: Option<usize>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Encoder")
            .field("frame_bytes", &self.frame.len())
            .finish_non_exhaustive()
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder with small buffers.
    pub fn new() -> Self {
        let mut builder = Builder::with_capacity(BUILDER_BYTES);
        let position = Template::position(&mut builder);
        let positions = Template::positions(&mut builder);
        Self {
            builder,
            frame: Vec::new(),
            position,
            positions,
            ids: Vec::new(),
            indexes: Vec::new(),
            room_before: None,
        }
    }

    /// Writes any message.
    pub fn message(&mut self, message: &Message) -> Encoded<'_> {
        match message {
            Message::Position(Position {
                fix,
                vehicle_id: None,
            }) => self.position(fix),
            Message::Positions(positions) if positions.last_known.is_empty() => {
                self.positions(positions.gateway_time_ms, positions.fixes.iter().copied())
            }
            _ => self.built(|builder| message.write(builder)),
        }
    }

    /// Writes `Position` without a vehicle id: what a vehicle sends.
    pub fn position(&mut self, fix: &Fix) -> Encoded<'_> {
        let template = &self.position;
        let end = HEADER_ROOM + template.bytes.len();
        grow(&mut self.frame, end);
        let payload = &mut self.frame[HEADER_ROOM..end];
        payload.copy_from_slice(&template.bytes);
        payload[template.at..][..Fix::WIRE_BYTES].copy_from_slice(&wire::Fix::from(fix).0);
        Encoded {
            bytes: &mut self.frame[..end],
        }
    }

    /// Writes `Positions`: the fixes in the order in which they come, straight to where they will be sent from.
    pub fn positions(
        &mut self,
        gateway_time_ms: u64,
        fixes: impl IntoIterator<Item = Fix>,
    ) -> Encoded<'_> {
        let template = &self.positions;
        let first = HEADER_ROOM + template.bytes.len();
        let mut fixes = fixes.into_iter();
        let expected = fixes.size_hint().0.min(FIXES_EXPECTED_MAX);
        // One more than expected, so that the end of the fixes is seen before the end of the slots.
        grow(&mut self.frame, first + (expected + 1) * Fix::WIRE_BYTES);

        let mut end = first;
        loop {
            let slots = self.frame[end..].chunks_exact_mut(Fix::WIRE_BYTES);
            for (slot, fix) in slots.zip(fixes.by_ref()) {
                slot.copy_from_slice(&wire::Fix::from(fix).0);
                end += Fix::WIRE_BYTES;
            }
            if self.frame.len() - end >= Fix::WIRE_BYTES {
                break; // slots are left, so it was the fixes that ended
            }
            // Twice as much, so that each byte is moved once on average.
            grow(&mut self.frame, 2 * end + Fix::WIRE_BYTES);
        }

        let count = u32::try_from((end - first) / Fix::WIRE_BYTES)
            .expect("a buffer of 2^32 fixes is past the 2 GiB that FlatBuffers can express");
        let prefix = &mut self.frame[HEADER_ROOM..first];
        prefix.copy_from_slice(&template.bytes);
        prefix[template.at..][..size_of::<u64>()].copy_from_slice(&gateway_time_ms.to_le_bytes());
        let length_at = prefix.len() - size_of::<u32>();
        prefix[length_at..].copy_from_slice(&count.to_le_bytes());
        Encoded {
            bytes: &mut self.frame[..end],
        }
    }

    /// Writes `Names`: which index stands for which vehicle id.
    pub fn names<'n>(&mut self, entries: impl IntoIterator<Item = (u32, &'n str)>) -> Encoded<'_> {
        let (mut ids, mut indexes) = (
            std::mem::take(&mut self.ids),
            std::mem::take(&mut self.indexes),
        );
        ids.clear();
        indexes.clear();
        self.begin();
        for (index, id) in entries {
            indexes.push(index);
            ids.push(self.builder.create_string(id));
        }
        let args = wire::NamesArgs {
            vehicles: Some(self.builder.create_vector(&indexes)),
            ids: Some(self.builder.create_vector(&ids)),
        };
        let table = wire::Names::create(&mut self.builder, &args).as_union_value();
        (self.ids, self.indexes) = (ids, indexes);
        self.finish(wire::Message::Names, table)
    }

    /// Gives back each buffer that has grown beyond `bytes_max`, so that one huge message is not paid for forever.
    pub fn shrink(&mut self, bytes_max: usize) {
        if self.builder.mut_finished_buffer().0.len() > bytes_max {
            self.builder = Builder::with_capacity(BUILDER_BYTES.min(bytes_max));
            self.room_before = None;
        }
        if self.frame.capacity() > bytes_max {
            self.frame = Vec::new();
        }
        if self.ids.capacity() * size_of::<WIPOffset<&str>>() > bytes_max {
            (self.ids, self.indexes) = (Vec::new(), Vec::new());
        }
    }

    /// Writes a message whose table `write` makes.
    fn built(
        &mut self,
        write: impl FnOnce(&mut Builder) -> (wire::Message, WIPOffset<UnionWIPOffset>),
    ) -> Encoded<'_> {
        self.begin();
        let (kind, table) = write(&mut self.builder);
        self.finish(kind, table)
    }

    /// Empties the builder. Its `reset` clears what it has written itself, and it relies on all the rest being zero: a
    /// header that was written into the room in front of the message has to be cleared as well.
    fn begin(&mut self) {
        if let Some(start) = self.room_before.take() {
            let (buffer, _) = self.builder.mut_finished_buffer();
            buffer[start - HEADER_ROOM..start].fill(0);
        }
        self.builder.reset();
    }

    /// Puts the envelope around `table` and finds room in front of it.
    fn finish(&mut self, kind: wire::Message, table: WIPOffset<UnionWIPOffset>) -> Encoded<'_> {
        finish(&mut self.builder, kind, table);
        let (buffer, start) = self.builder.mut_finished_buffer();
        if start < HEADER_ROOM {
            // It has filled its buffer to the brim: copy this one message, and have a larger buffer for the next.
            let capacity = 2 * buffer.len();
            let end = HEADER_ROOM + buffer.len() - start;
            grow(&mut self.frame, end);
            self.frame[HEADER_ROOM..end].copy_from_slice(&buffer[start..]);
            self.builder = Builder::with_capacity(capacity);
            return Encoded {
                bytes: &mut self.frame[..end],
            };
        }
        self.room_before = Some(start);
        // Taken anew: the borrow checker does not let go of a buffer that one of two branches returns.
        let (buffer, start) = self.builder.mut_finished_buffer();
        Encoded {
            bytes: &mut buffer[start - HEADER_ROOM..],
        }
    }
}

/// Puts the envelope around `table`. What the builder then holds is the message.
fn finish(builder: &mut Builder, kind: wire::Message, table: WIPOffset<UnionWIPOffset>) {
    let args = wire::EnvelopeArgs {
        message_type: kind,
        message: Some(table),
    };
    let envelope = wire::Envelope::create(builder, &args);
    wire::finish_envelope_buffer(builder, envelope);
}

/// Makes `frame` at least `bytes` long. It never becomes shorter, so a warm buffer is not filled with zeros again.
#[inline]
fn grow(frame: &mut Vec<u8>, bytes: usize) {
    if frame.len() < bytes {
        frame.resize(bytes, 0);
    }
}

/// A finished message in its encoder's buffer, with [`HEADER_ROOM`] writable bytes in front of it.
#[derive(Debug)]
pub struct Encoded<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Encoded<'a> {
    /// The message.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_ROOM..]
    }

    /// The message, for as long as the encoder is borrowed.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        &self.bytes[HEADER_ROOM..]
    }

    /// The room, whose content is left over from before, and the message after it. A header of n bytes goes to
    /// `HEADER_ROOM - n`, and the frame is all from there.
    #[inline]
    pub fn with_room(&mut self) -> &mut [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
