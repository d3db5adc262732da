//! From what is to be said to frames: names, presence and positions, in the encoding that their readers speak, in as
//! many messages as the bounds ask for, in one buffer.

use longhaul_codec::{
    Encoded, Encoder, Error, ErrorCode, Fix, HEADER_ROOM, LastKnown, Message, Positions, Presence,
    PresenceChange, decode, json,
};
use longhaul_filter_engine::VehicleIndex;

use super::{clock::Now, exchange::Seen, feed::Due, frame::Frame};
use crate::{
    fleet::{Fleet, PositionTable},
    limits::NAMES_PER_MESSAGE_MAX,
    websocket::{Data, OpCode, outgoing},
};

/// What the encoder keeps between ticks, in bytes.
pub(super) const ENCODER_BYTES_KEPT: usize = 1 << 20;

/// What encoding needs, kept between ticks.
#[derive(Debug, Default)]
pub struct Outbound {
    pub(super) encoder: Encoder,
    /// Positions to say.
    pub(super) fixes: Vec<Fix>,
    /// Positions of a snapshot to say, and what is known about each of them.
    pub(super) known: Vec<(Fix, LastKnown)>,
    /// Presence to say.
    pub(super) changes: Vec<PresenceChange>,
    /// Vehicles to name.
    pub(super) to_name: Vec<u32>,
    /// Positions that were dropped, to say.
    pub(super) dropped: u64,
    /// Events to say.
    pub(super) events: Vec<Due>,
    /// That events are missing, to say ahead of them.
    pub(super) gaps: Vec<Message>,
    /// Events that were dropped, to say.
    pub(super) events_dropped: u64,
    pub(super) vehicles: Vec<VehicleIndex>,
    /// The frames made for the group at hand, by what sets its members apart.
    pub(super) shared: Vec<(Audience, Frame)>,
}

/// Members of a group with the same audience get the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Audience {
    pub(super) json: bool,
    /// Of a whole-fleet watcher: how many names it has.
    pub(super) named: Option<u32>,
}

/// A text message in one frame.
pub fn text_frame(payload: &[u8]) -> Frame {
    frame_of(OpCode::Data(Data::Text), payload)
}

/// A binary message in one frame.
pub fn binary_frame(payload: &[u8]) -> Frame {
    frame_of(OpCode::Data(Data::Binary), payload)
}

fn frame_of(opcode: OpCode, payload: &[u8]) -> Frame {
    let mut bytes = Vec::with_capacity(outgoing::HEADER_ROOM + payload.len());
    append_frame(&mut bytes, opcode, payload);
    bytes.into()
}

fn append_frame(bytes: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let mut room = [0; outgoing::HEADER_ROOM];
    let start = outgoing::write_header(&mut room, opcode, payload.len());
    bytes.extend_from_slice(&room[start..]);
    bytes.extend_from_slice(payload);
}

/// Appends an encoded message as one frame, in the encoding that its readers speak.
pub(super) fn append_encoded(bytes: &mut Vec<u8>, encoded: &Encoded<'_>, json: bool) {
    if json {
        // The encoder's own output always decodes.
        if let Ok(message) = decode(encoded.payload()) {
            append_frame(
                bytes,
                OpCode::Data(Data::Text),
                json::from_wire(message).as_bytes(),
            );
        }
    } else {
        append_frame(bytes, OpCode::Data(Data::Binary), encoded.payload());
    }
}

/// An encoded message as a frame. The usual case, binary, is finished in the encoder's own buffer.
fn finished(mut encoded: Encoded<'_>, json: bool) -> Frame {
    if json {
        let mut bytes = Vec::new();
        append_encoded(&mut bytes, &encoded, json);
        return bytes.into();
    }
    const { assert!(HEADER_ROOM == outgoing::HEADER_ROOM) };
    let bytes = encoded.with_room();
    let length = bytes.len() - HEADER_ROOM;
    let mut start = 0;
    if let Some(room) = bytes.first_chunk_mut() {
        start = outgoing::write_header(room, OpCode::Data(Data::Binary), length);
    }
    Frame::from(&bytes[start..])
}

impl Outbound {
    /// Any message as a frame.
    pub fn message(&mut self, message: &Message, json: bool) -> Frame {
        let frame = finished(self.encoder.message(message), json);
        self.encoder.shrink(ENCODER_BYTES_KEPT);
        frame
    }

    /// `Names` for these pairs.
    pub fn names<'n>(
        &mut self,
        entries: impl Iterator<Item = (u32, &'n str)>,
        json: bool,
    ) -> Frame {
        finished(self.encoder.names(entries), json)
    }

    /// Has nothing to say.
    pub(super) fn clear(&mut self) {
        self.to_name.clear();
        self.fixes.clear();
        self.known.clear();
        self.changes.clear();
        self.dropped = 0;
        self.events.clear();
        self.gaps.clear();
        self.events_dropped = 0;
    }

    /// Reads the vehicles' positions; see [`Seen::read`] for those that are left out.
    pub(super) fn read(
        &mut self,
        vehicles: impl Iterator<Item = VehicleIndex>,
        table: &PositionTable,
        seen: &Seen,
    ) {
        self.clear();
        self.fixes
            .extend(vehicles.filter_map(|vehicle| Some(seen.read(table, vehicle)?.fix)));
    }

    /// One buffer with the names that `audience` lacks and with what there is to say. `None` if that is nothing.
    pub(super) fn compose(
        &mut self,
        audience: Audience,
        names: Names<'_>,
        per_frame: usize,
        now: Now,
    ) -> Option<Frame> {
        let json = audience.json;
        let missing = audience
            .named
            .map_or(0, |named| names.size.saturating_sub(named));
        let plain = self.to_name.is_empty()
            && self.changes.is_empty()
            && self.dropped == 0
            && self.known.is_empty()
            && self.events.is_empty()
            && self.gaps.is_empty()
            && self.events_dropped == 0;
        if missing == 0 && plain && self.fixes.len() <= per_frame {
            if self.fixes.is_empty() {
                return None;
            }
            return Some(finished(
                self.encoder
                    .positions(now.unix_ms, self.fixes.iter().copied()),
                json,
            ));
        }
        let mut bytes = Vec::new();
        if missing > 0 {
            let mut owned = Vec::new();
            let count = missing.min(NAMES_PER_MESSAGE_MAX);
            names
                .fleet
                .registry
                .joined(names.of, names.size - missing, count, |index, id| {
                    owned.push((index.0, id.to_owned()));
                });
            let entries = owned.iter().map(|(index, id)| (*index, id.as_str()));
            append_encoded(&mut bytes, &self.encoder.names(entries), json);
        }
        if !self.to_name.is_empty() {
            let registry = &names.fleet.registry;
            let mut owned = Vec::with_capacity(self.to_name.len());
            registry.ids_of(&self.to_name, |index, id| {
                owned.push((index, id.to_owned()))
            });
            let entries = owned.iter().map(|(index, id)| (*index, id.as_str()));
            append_encoded(&mut bytes, &self.encoder.names(entries), json);
        }
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            let message = Presence { changes }.into();
            append_encoded(&mut bytes, &self.encoder.message(&message), json);
        }
        if self.dropped > 0 {
            let message = Error {
                code: ErrorCode::LimitReached,
                message: format!(
                    "{} positions were dropped, the oldest first: more came than you took at your pace and with your \
                     min_interval_ms (limits.every_queue_bytes_max)",
                    self.dropped
                ),
                id: 0,
                missing: None,
            };
            append_encoded(&mut bytes, &self.encoder.message(&message.into()), json);
        }
        for fixes in self.fixes.chunks(per_frame) {
            let encoded = self.encoder.positions(now.unix_ms, fixes.iter().copied());
            append_encoded(&mut bytes, &encoded, json);
        }
        for known in self.known.chunks(per_frame) {
            let (fixes, last_known) = known.iter().copied().unzip();
            let message = Positions {
                fixes,
                gateway_time_ms: now.unix_ms,
                last_known,
            };
            append_encoded(&mut bytes, &self.encoder.message(&message.into()), json);
        }
        self.append_events(&mut bytes, json);
        (!bytes.is_empty()).then(|| bytes.into())
    }

    /// Events, and what is to be said ahead of them. They come last: live positions do not wait for them.
    fn append_events(&mut self, bytes: &mut Vec<u8>, json: bool) {
        for gap in self.gaps.drain(..) {
            append_encoded(bytes, &self.encoder.message(&gap), json);
        }
        if self.events_dropped > 0 {
            let message = Error {
                code: ErrorCode::LimitReached,
                message: format!(
                    "{} events were dropped: more came than you took (limits.event_queue_bytes_max); with qos 1, those \
                     of the log wait for you instead",
                    self.events_dropped
                ),
                id: 0,
                missing: None,
            };
            append_encoded(bytes, &self.encoder.message(&message.into()), json);
        }
        for Due { logged, again } in self.events.drain(..) {
            let encoded = if again {
                self.encoder.message(&logged.again())
            } else {
                self.encoder.message(logged.message())
            };
            append_encoded(bytes, &encoded, json);
        }
    }
}

/// Where missing names come from.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) of: longhaul_filter_engine::FleetId,
    /// The fleet's size as this tick sees it.
    pub(super) size: u32,
}
