//! Steps 3 and 4 of a tick. Route: everybody who watches the same and is up to date gets one shared frame. Flush: what
//! pended while a socket was busy goes out as the table has it *now*; nobody is ever sent a stale position.

use std::{cmp::Reverse, collections::BinaryHeap};

use longhaul_codec::{Encoded, Encoder, Fix, HEADER_ROOM, Message, decode, json};
use longhaul_filter_engine::VehicleIndex;

use roaring::RoaringBitmap;

use super::{
    Core,
    clock::Now,
    connection::{Connection, Dashboard, Peer, Phase},
    exchange::Seen,
    frame::Frame,
    ring::{Key, Ring},
};
use crate::{
    fleet::{Fleet, PositionTable},
    limits::NAMES_PER_MESSAGE_MAX,
    websocket::{Data, OpCode, outgoing},
};

/// What the encoder keeps between ticks, in bytes.
const ENCODER_BYTES_KEPT: usize = 1 << 20;

/// What encoding needs, kept between ticks.
#[derive(Debug, Default)]
pub struct Outbound {
    encoder: Encoder,
    fixes: Vec<Fix>,
    vehicles: Vec<VehicleIndex>,
    /// The frames made for the group at hand, by what sets its members apart.
    shared: Vec<(Audience, Frame)>,
    /// Dashboards whose interval has not elapsed, by when it does.
    held: BinaryHeap<Reverse<(u64, u32, u32)>>,
}

/// Members of a group with the same audience get the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Audience {
    json: bool,
    /// Of a whole-fleet watcher: how many names it has.
    named: Option<u32>,
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
fn append_encoded(bytes: &mut Vec<u8>, encoded: &Encoded<'_>, json: bool) {
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
    /// When the first held dashboard's interval ends (the shard's clock, ms).
    pub fn due_ms(&self) -> Option<u64> {
        self.held.peek().map(|&Reverse((due_ms, ..))| due_ms)
    }

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

    /// Reads the vehicles' positions; see [`Seen::read`] for those that are left out.
    fn read(
        &mut self,
        vehicles: impl Iterator<Item = VehicleIndex>,
        table: &PositionTable,
        seen: &Seen,
    ) {
        self.fixes.clear();
        self.fixes
            .extend(vehicles.filter_map(|vehicle| Some(seen.read(table, vehicle)?.fix)));
    }

    /// One buffer with the names that `audience` lacks and the positions in `self.fixes`, in as many messages as
    /// the bounds ask for. `None` if there is nothing to say.
    fn compose(
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
        if missing == 0 && self.fixes.len() <= per_frame {
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
        for fixes in self.fixes.chunks(per_frame) {
            append_encoded(
                &mut bytes,
                &self.encoder.positions(now.unix_ms, fixes.iter().copied()),
                json,
            );
        }
        (!bytes.is_empty()).then(|| bytes.into())
    }
}

/// Where missing names come from.
#[derive(Clone, Copy)]
struct Names<'a> {
    fleet: &'a Fleet,
    of: longhaul_filter_engine::FleetId,
    /// The fleet's size as this tick sees it.
    size: u32,
}

impl Dashboard {
    /// Moves up to `count` vehicles from the pending set to `out`, beginning behind the last one taken before and going
    /// round: vehicles with low numbers that report all the time must not keep the others waiting.
    fn take_pending(&mut self, count: usize, out: &mut Vec<VehicleIndex>) {
        if self.pending.len() <= count as u64 {
            out.extend(self.pending.iter().map(VehicleIndex));
            self.pending = RoaringBitmap::new();
            return;
        }
        let behind = self
            .pending
            .range(self.from..)
            .chain(self.pending.range(..self.from));
        out.extend(behind.take(count).map(VehicleIndex));
        for vehicle in out.iter() {
            self.pending.remove(vehicle.0);
        }
        self.from = out.last().map_or(0, |last| last.0.wrapping_add(1));
    }

    /// Whether a shared frame may go to it: nothing older waits, its interval is over, and it lacks at most one
    /// message's worth of names.
    fn is_current(&self, size: u32, now: Now) -> bool {
        self.pending.is_empty()
            && self.not_before_ms <= now.mono_ms
            && self
                .named
                .is_none_or(|named| size.saturating_sub(named) <= NAMES_PER_MESSAGE_MAX)
    }
}

impl Core {
    /// Step 3: vehicle numbers to dashboards. Those that are current share a frame, for the others the vehicles pend.
    pub(super) fn route(&mut self, ring: &mut Ring, now: Now) {
        let Core {
            routed,
            engine,
            connections,
            fleet,
            seen,
            outbound,
            flushable,
            metrics,
            config,
            ..
        } = self;
        let per_frame = config.limits.positions_per_frame_max;
        let (mut matches, mut delivered) = (0u64, 0u64);
        routed.drain(|fleet_id, dirty| {
            let names = Names {
                fleet,
                of: fleet_id,
                size: fleet.registry.fleet_size(fleet_id),
            };
            engine.route(fleet_id, dirty, |matched| {
                matches += (matched.members.len() * matched.vehicles.len()) as u64;
                outbound.shared.clear();
                let mut read = false;
                for member in matched.members {
                    let Some((key, connection)) = connections.slot_mut(member.0) else {
                        continue;
                    };
                    let free = !connection.sending && connection.queue.is_none();
                    let json = connection.json;
                    let Peer::Dashboard(dashboard) = &mut connection.peer else {
                        continue;
                    };
                    // Whoever leaves is taken out of the engine; this holds even if that were forgotten.
                    if connection.phase != Phase::Open || dashboard.fleet != fleet_id {
                        debug_assert!(false, "{key:?} is no member of this group any more");
                        continue;
                    }
                    if !(free && dashboard.is_current(names.size, now)) {
                        dashboard
                            .pending
                            .extend(matched.vehicles.iter().map(|vehicle| vehicle.0));
                        mark(connection, key, flushable);
                        continue;
                    }
                    let audience = Audience {
                        json,
                        named: dashboard.named,
                    };
                    let made = outbound
                        .shared
                        .iter()
                        .find(|(made_for, _)| *made_for == audience);
                    let frame = match made {
                        Some((_, frame)) => frame.clone(),
                        None => {
                            if !std::mem::replace(&mut read, true) {
                                outbound.read(
                                    matched.vehicles.iter().copied(),
                                    &fleet.positions,
                                    seen,
                                );
                            }
                            let Some(frame) = outbound.compose(audience, names, per_frame, now)
                            else {
                                continue;
                            };
                            outbound.shared.push((audience, frame.clone()));
                            frame
                        }
                    };
                    delivered += outbound.fixes.len() as u64;
                    dashboard.named = dashboard.named.map(|named| named.max(names.size));
                    dashboard.not_before_ms = now.mono_ms + u64::from(dashboard.min_interval_ms);
                    connection.sending = true;
                    connection.sending_since = now.stamp();
                    metrics.sends.inc();
                    ring.send(connection.fd, key, frame);
                }
            });
        });
        outbound.shared.clear();
        metrics.matches.add(matches);
        metrics.positions_out.add(delivered);
    }

    /// Step 4: sends what waits, one frame per connection that is free.
    pub(super) fn flush(&mut self, ring: &mut Ring, now: Now) {
        self.release_held(now);
        let mut flushable = std::mem::take(&mut self.flushable);
        for key in flushable.drain(..) {
            self.flush_one(ring, key, now);
        }
        // What `flush_one` marked again has more to send in the next tick.
        flushable.append(&mut self.flushable);
        self.flushable = flushable;
        self.outbound.encoder.shrink(ENCODER_BYTES_KEPT);
    }

    fn flush_one(&mut self, ring: &mut Ring, key: Key, now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.flushable = false;
        if connection.sending {
            return;
        }
        let frame = match connection.dequeue() {
            Some(frame) => frame,
            None if connection.phase == Phase::Closing => return self.linger(ring, key, now),
            None if connection.phase != Phase::Open => return,
            None => match self.next_positions(key, now) {
                Some(frame) => frame,
                None => return,
            },
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.sending = true;
        connection.sending_since = now.stamp();
        self.metrics.sends.inc();
        ring.send(connection.fd, key, frame);
    }

    /// A dashboard's own frame: what pends, and the names that it lacks.
    fn next_positions(&mut self, key: Key, now: Now) -> Option<Frame> {
        let Core {
            connections,
            fleet,
            seen,
            outbound,
            metrics,
            config,
            ..
        } = self;
        let connection = connections.get_mut(key)?;
        let json = connection.json;
        let Peer::Dashboard(dashboard) = &mut connection.peer else {
            return None;
        };
        if dashboard.not_before_ms > now.mono_ms {
            if !std::mem::replace(&mut dashboard.held, true) {
                outbound
                    .held
                    .push(Reverse((dashboard.not_before_ms, key.slot, key.generation)));
            }
            return None;
        }
        let size = fleet.registry.fleet_size(dashboard.fleet);
        let names = Names {
            fleet,
            of: dashboard.fleet,
            size,
        };
        let missing = dashboard
            .named
            .map_or(0, |named| size.saturating_sub(named));
        let per_frame = config.limits.positions_per_frame_max;
        let mut vehicles = std::mem::take(&mut outbound.vehicles);
        vehicles.clear();
        if missing <= NAMES_PER_MESSAGE_MAX {
            dashboard.take_pending(per_frame, &mut vehicles);
        }
        outbound.read(vehicles.iter().copied(), &fleet.positions, seen);
        outbound.vehicles = vehicles;
        let frame = outbound.compose(
            Audience {
                json,
                named: dashboard.named,
            },
            names,
            per_frame,
            now,
        );
        dashboard.named = dashboard
            .named
            .map(|named| named + missing.min(NAMES_PER_MESSAGE_MAX));
        if frame.is_some() && !outbound.fixes.is_empty() {
            metrics.positions_out.add(outbound.fixes.len() as u64);
            dashboard.not_before_ms = now.mono_ms + u64::from(dashboard.min_interval_ms);
        }
        if frame.is_none() && !dashboard.pending.is_empty() {
            // A whole frame's worth of vehicles that never reported: go on with the rest in the next tick.
            self.mark_flushable(key);
        }
        frame
    }

    /// Whether a dashboard has positions or names to come.
    pub(super) fn owes_positions(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        match &connection.peer {
            Peer::Dashboard(dashboard) => {
                !dashboard.pending.is_empty()
                    || dashboard.named.is_some_and(|named| {
                        named < self.fleet.registry.fleet_size(dashboard.fleet)
                    })
            }
            _ => false,
        }
    }

    fn release_held(&mut self, now: Now) {
        while let Some(&Reverse((due_ms, slot, generation))) = self.outbound.held.peek() {
            if due_ms > now.mono_ms {
                break;
            }
            self.outbound.held.pop();
            let key = Key { slot, generation };
            if let Some(connection) = self.connections.get_mut(key)
                && let Peer::Dashboard(dashboard) = &mut connection.peer
            {
                dashboard.held = false;
                self.mark_flushable(key);
            }
        }
    }
}

fn mark(connection: &mut Connection, key: Key, flushable: &mut Vec<Key>) {
    if !std::mem::replace(&mut connection.flushable, true) {
        flushable.push(key);
    }
}

#[cfg(test)]
mod tests {
    use longhaul_filter_engine::FleetId;

    use super::*;

    /// Vehicle 1 reports all the time; vehicles 2 to 5 must be sent as well.
    #[test]
    fn a_long_pending_set_is_sent_in_turns() {
        let mut dashboard = Dashboard::new(FleetId(0));
        dashboard.pending = (1..=5).collect();
        let mut sent = Vec::new();
        for _ in 0..3 {
            let mut taken = Vec::new();
            dashboard.take_pending(2, &mut taken);
            sent.extend(taken.iter().map(|vehicle| vehicle.0));
            dashboard.pending.insert(1);
        }
        assert_eq!(sent, [1, 2, 3, 4, 1, 5]);
        assert_eq!(dashboard.pending.iter().collect::<Vec<_>>(), [1]);
    }
}
