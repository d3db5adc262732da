//! Step 4 of a tick. What pended while a socket was busy goes out as the table has it *now*: nobody is ever sent a stale
//! position, and whoever reads slowly gets fewer, fuller frames.

use std::{cmp::Reverse, collections::BinaryHeap};

use longhaul_codec::{LastKnown, PresenceChange};
use longhaul_filter_engine::VehicleIndex;
use roaring::RoaringBitmap;

use super::{
    Core,
    clock::Now,
    connection::{Dashboard, Peer, Phase},
    every::News,
    frame::Frame,
    outbound::{Audience, ENCODER_BYTES_KEPT, Names},
    ring::{Key, Ring},
};
use crate::limits::{
    MESSAGES_PER_INTERVAL_MAX, NAMES_PER_MESSAGE_MAX, PRESENCE_PER_MESSAGE_MAX,
    REPLAY_BYTES_PER_TICK,
};

/// Dashboards whose interval has not elapsed, by when it does.
#[derive(Debug, Default)]
pub struct Held(BinaryHeap<Reverse<(u64, u32, u32)>>);

impl Held {
    /// When the first interval ends (the shard's clock, ms).
    pub fn due_ms(&self) -> Option<u64> {
        self.0.peek().map(|&Reverse((due_ms, ..))| due_ms)
    }

    fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Key)> {
        if self.due_ms()? > now_ms {
            return None;
        }
        let Reverse((due_ms, slot, generation)) = self.0.pop()?;
        Some((due_ms, Key { slot, generation }))
    }
}

impl Core {
    /// Step 4: sends what waits, one frame per connection that is free.
    pub(super) fn flush(&mut self, ring: &mut Ring, now: Now) {
        self.end_failed_sessions();
        self.release_held(now);
        self.catch_up_all();
        self.replay_bytes_left = REPLAY_BYTES_PER_TICK;
        let mut flushable = std::mem::take(&mut self.flushable);
        put_in_order(&mut flushable, std::mem::take(&mut self.leftovers));
        for key in flushable.drain(..) {
            self.flush_one(ring, key, now);
        }
        // What `flush_one` marked again has more to send in the next tick.
        self.leftovers = self.flushable.len();
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
        let phase = connection.phase;
        if !matches!(phase, Phase::Open | Phase::Closing) {
            return;
        }
        let frame = match connection.dequeue() {
            None if phase == Phase::Open => self.next_frame(key, now),
            frame => frame,
        };
        let wire = match frame {
            Some(frame) => self.on_the_wire(key, frame),
            None => self.sessions.outgoing(key, phase == Phase::Closing),
        };
        let Some(wire) = wire else {
            if phase == Phase::Closing {
                self.linger(ring, key, now);
            }
            return;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.sending = true;
        self.resent += usize::from(connection.sending_since == now.stamp());
        connection.sending_since = now.stamp();
        self.metrics.sends.inc();
        ring.send(connection.fd, key, wire);
    }

    /// What a frame is on the wire.
    fn on_the_wire(&mut self, key: Key, frame: Frame) -> Option<Frame> {
        let said = frame.len();
        let wire = self.sessions.seal(key, frame)?;
        if let Some(connection) = self.connections.get_mut(key)
            && let Peer::Echo(waiting) = &mut connection.peer
        {
            // What TLS adds is sent as well, and taken off again.
            *waiting += wire.len().saturating_sub(said);
        }
        Some(wire)
    }

    /// A dashboard's own frame: the names that it lacks, and what pends.
    fn next_frame(&mut self, key: Key, now: Now) -> Option<Frame> {
        let is_held = self.is_held(key, now);
        let connection = self.connections.get_mut(key)?;
        let json = connection.json;
        let Peer::Dashboard(dashboard) = &mut connection.peer else {
            return None;
        };
        // Events do not wait for the interval.
        if is_held && !dashboard.has_events() {
            return None;
        }
        let (of, named) = (dashboard.fleet, dashboard.named);
        let size = self.fleet.registry.fleet_size(of);
        let missing = named.map_or(0, |named| size.saturating_sub(named));
        let unnamed = match &mut dashboard.access {
            Some(access) => {
                let before = access.unnamed.len();
                self.outbound.clear();
                let to_name = &mut self.outbound.to_name;
                take_lowest(
                    &mut access.unnamed,
                    NAMES_PER_MESSAGE_MAX as usize,
                    |vehicle| {
                        to_name.push(vehicle);
                    },
                );
                before
            }
            None => {
                self.outbound.clear();
                0
            }
        };
        // Whoever lacks more names gets those first.
        if missing.max(u32::try_from(unnamed).unwrap_or(u32::MAX)) <= NAMES_PER_MESSAGE_MAX {
            self.gather_events(key, now);
            if !is_held {
                self.gather_vehicles(key, now);
            }
        }
        let Core {
            connections,
            fleet,
            outbound,
            metrics,
            config,
            ..
        } = self;
        let said = (
            outbound.fixes.len() + outbound.known.len(),
            outbound.changes.len(),
        );
        let frame = outbound.compose(
            Audience { json, named },
            Names { fleet, of, size },
            config.limits.positions_per_frame_max,
            now,
        );
        if let Peer::Dashboard(dashboard) = &mut connections.get_mut(key)?.peer {
            dashboard.named = named.map(|named| named + missing.min(NAMES_PER_MESSAGE_MAX));
            if frame.is_some() && said != (0, 0) {
                metrics.positions_out.add(said.0 as u64);
                metrics.presence_out.add(said.1 as u64);
                dashboard.has_sent(now);
            }
        }
        if frame.is_none() && self.owes(key) {
            // A whole frame's worth of vehicles that never reported, for example: go on with the rest in the next tick.
            self.mark_flushable(key);
        }
        frame
    }

    /// Whether positions and presence wait for a dashboard's interval to end. It is remembered until then.
    fn is_held(&mut self, key: Key, now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let Peer::Dashboard(dashboard) = &mut connection.peer else {
            return false;
        };
        let Some(interval) = &mut dashboard.interval else {
            return false;
        };
        let until = interval.not_before_ms;
        if until <= now.mono_ms {
            return false;
        }
        if interval.held_until_ms == 0 || until < interval.held_until_ms {
            interval.held_until_ms = until;
            self.hold(until, key);
        }
        true
    }

    /// Takes what pends of positions and presence, as far as it has room in a frame.
    fn gather_vehicles(&mut self, key: Key, now: Now) {
        let Core {
            connections,
            fleet,
            seen,
            outbound,
            metrics,
            config,
            ..
        } = self;
        let Some(connection) = connections.get_mut(key) else {
            return;
        };
        let Peer::Dashboard(dashboard) = &mut connection.peer else {
            return;
        };
        let per_frame = config.limits.positions_per_frame_max;
        if let Some(pending) = &mut dashboard.presence {
            take_lowest(pending, PRESENCE_PER_MESSAGE_MAX, |index| {
                let presence = fleet.presence.read(VehicleIndex(index));
                outbound.changes.push(PresenceChange {
                    since_ms: presence.since_ms,
                    vehicle: index,
                    state: presence.state,
                });
            });
        }
        // What gathered in an interval goes out at its end, in as many messages as it takes.
        let room = if dashboard.interval.is_none() {
            per_frame
        } else {
            per_frame * MESSAGES_PER_INTERVAL_MAX
        };
        if let Some(every) = &mut dashboard.every {
            outbound.dropped = every.take_dropped();
            every.take(room, &mut outbound.fixes);
            dashboard.pending |= every.take_owed();
        }
        let mut vehicles = std::mem::take(&mut outbound.vehicles);
        vehicles.clear();
        // Room of their own: whatever comes all the time must not keep a snapshot waiting.
        dashboard.take_pending(room, &mut vehicles);
        for &vehicle in &vehicles {
            let Some(known) = seen.read(&fleet.positions, vehicle) else {
                continue;
            };
            match dashboard.every.as_ref().map(|every| every.news(&known.fix)) {
                Some(News::None) => continue,
                // Behind those of its own that still wait.
                Some(News::Newer) => {
                    if let Some(every) = &mut dashboard.every {
                        let bytes_max = config.limits.every_queue_bytes_max;
                        metrics.every_dropped.add(every.push(known.fix, bytes_max));
                    }
                    continue;
                }
                Some(News::First) => {
                    if let Some(every) = &mut dashboard.every {
                        every.advance(&known.fix);
                    }
                }
                None => {}
            }
            let tells_presence = dashboard
                .access
                .as_ref()
                .and_then(|access| access.presence())
                .is_none_or(|granted| granted.contains(vehicle));
            // Whether a vehicle is there is presence, which a grant may leave out.
            if !dashboard.snapshot || !tells_presence {
                outbound.fixes.push(known.fix);
                continue;
            }
            let age_ms = now.unix_ms.saturating_sub(known.received_ms);
            let last_known = LastKnown {
                age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX),
                state: fleet.presence.read(vehicle).state,
            };
            outbound.known.push((known.fix, last_known));
        }
        outbound.vehicles = vehicles;
        dashboard.snapshot &= !dashboard.pending.is_empty();
    }

    /// Whether a dashboard has something to come.
    pub(super) fn owes(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        match &connection.peer {
            Peer::Dashboard(dashboard) => {
                !dashboard.pending.is_empty()
                    || dashboard
                        .access
                        .as_ref()
                        .is_some_and(|access| !access.unnamed.is_empty())
                    || dashboard
                        .presence
                        .as_ref()
                        .is_some_and(|set| !set.is_empty())
                    || dashboard
                        .every
                        .as_ref()
                        .is_some_and(|every| !every.is_empty())
                    || dashboard.has_events()
                    || dashboard.named.is_some_and(|named| {
                        named < self.fleet.registry.fleet_size(dashboard.fleet)
                    })
            }
            _ => false,
        }
    }

    /// Remembers a dashboard until its interval ends.
    fn hold(&mut self, until_ms: u64, key: Key) {
        let held = &mut self.held.0;
        // Those who have gone, or whose interval has become shorter, leave entries behind.
        if held.len() > 2 * self.connections.len() + 64 {
            held.retain(|&Reverse((_, slot, generation))| {
                self.connections.get_mut(Key { slot, generation }).is_some()
            });
        }
        held.push(Reverse((until_ms, key.slot, key.generation)));
    }

    fn release_held(&mut self, now: Now) {
        while let Some((due_ms, key)) = self.held.pop_due(now.mono_ms) {
            if let Some(connection) = self.connections.get_mut(key)
                && let Peer::Dashboard(dashboard) = &mut connection.peer
                && let Some(interval) = &mut dashboard.interval
                && interval.held_until_ms == due_ms
            {
                interval.held_until_ms = 0;
                self.mark_flushable(key);
            }
        }
    }
}

/// The last tick's leftovers, which are in front, come first: what a tick has for those who catch up goes round. All others
/// in the order of memory, here and in the kernel (docs/performance.md says what that is worth).
fn put_in_order(flushable: &mut [Key], leftovers: usize) {
    let leftovers = leftovers.min(flushable.len());
    flushable[leftovers..].sort_unstable_by_key(|key| key.slot);
}

/// Takes up to `count` of the set.
fn take_lowest(set: &mut RoaringBitmap, count: usize, mut each: impl FnMut(u32)) {
    if set.len() <= count as u64 {
        set.iter().for_each(each);
        *set = RoaringBitmap::new();
        return;
    }
    let taken: Vec<u32> = set.iter().take(count).collect();
    for index in taken {
        set.remove(index);
        each(index);
    }
}

impl Dashboard {
    /// Whether there is an event to send.
    pub(super) fn has_events(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.is_ready())
    }

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
}

#[cfg(test)]
mod tests {
    use longhaul_filter_engine::FleetId;

    use super::*;
    use crate::session::census::Counted;

    #[test]
    fn whoever_got_nothing_comes_before_lower_slots() {
        let mut flushable: Vec<Key> = [9, 7, 8, 3, 1, 2]
            .map(|slot| Key {
                slot,
                generation: 0,
            })
            .into();
        put_in_order(&mut flushable, 3);
        let slots: Vec<u32> = flushable.iter().map(|key| key.slot).collect();
        assert_eq!(slots, [9, 7, 8, 1, 2, 3]);
        put_in_order(&mut flushable, 100);
    }

    /// Vehicle 1 reports all the time; vehicles 2 to 5 must be sent as well.
    #[test]
    fn a_long_pending_set_is_sent_in_turns() {
        let mut dashboard = Dashboard::new(FleetId(0), Counted::default(), "me");
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
