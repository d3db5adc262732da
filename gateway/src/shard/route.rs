//! Step 3 of a tick. Everybody who watches the same and is up to date gets one shared frame; for the others it pends.

use longhaul_codec::Fix;
use longhaul_filter_engine::{FleetId, VehicleIndex, VehicleSet};
use roaring::RoaringBitmap;

use super::{
    Core,
    clock::Now,
    connection::{Connection, Dashboard, Peer, Phase},
    outbound::{Audience, Names},
    ring::{Key, Ring},
};
use crate::limits::NAMES_PER_MESSAGE_MAX;

impl Core {
    /// Step 3: finds out who watches what changed.
    pub(super) fn route(&mut self, ring: &mut Ring, now: Now) {
        self.route_presence();
        // Ahead of the newest positions: an `every` dashboard then knows most of those already.
        self.route_every();
        // Ahead of them as well: whoever is owed an event gets both in one frame.
        self.route_events();
        self.route_newest(ring, now);
    }

    fn route_presence(&mut self) {
        let Core {
            routed,
            engine,
            connections,
            flushable,
            ..
        } = self;
        routed.presence.drain(|fleet, vehicles| {
            engine.route(fleet, vehicles, |matched| {
                for member in matched.members {
                    if let Some((key, connection)) = connections.slot_mut(member.0)
                        && let Peer::Dashboard(dashboard) = &mut connection.peer
                        && let Some(pending) = &mut dashboard.presence
                    {
                        let mask = dashboard.access.as_ref();
                        let mask = mask.and_then(|access| access.presence());
                        pend(pending, matched.vehicles, mask);
                        mark(connection, key, flushable);
                    }
                }
            });
        });
    }

    fn route_every(&mut self) {
        let mut fixes = std::mem::take(&mut self.routed.every);
        for (fleet, fix) in fixes.drain(..) {
            self.route_each(fleet, fix);
        }
        self.routed.every = fixes;
    }

    fn route_each(&mut self, fleet: FleetId, fix: Fix) {
        let Core {
            engine,
            connections,
            flushable,
            metrics,
            config,
            ..
        } = self;
        let bytes_max = config.limits.every_queue_bytes_max;
        engine.route(fleet, &[VehicleIndex(fix.vehicle)], |matched| {
            for member in matched.members {
                if let Some((key, connection)) = connections.slot_mut(member.0)
                    && let Peer::Dashboard(dashboard) = &mut connection.peer
                    && dashboard.positions
                    && dashboard.is_told_where(VehicleIndex(fix.vehicle))
                    && let Some(every) = &mut dashboard.every
                {
                    metrics.every_dropped.add(every.push(fix, bytes_max));
                    mark(connection, key, flushable);
                }
            }
        });
    }

    fn route_newest(&mut self, ring: &mut Ring, now: Now) {
        let Core {
            routed,
            engine,
            connections,
            sessions,
            fleet,
            seen,
            outbound,
            flushable,
            metrics,
            config,
            ..
        } = self;
        let per_frame = config.limits.positions_per_frame_max;
        let every_bytes_max = config.limits.every_queue_bytes_max;
        let (mut matches, mut delivered) = (0u64, 0u64);
        let mut resent = 0;
        routed.changed.drain(|fleet_id, dirty| {
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
                    if !dashboard.positions {
                        continue;
                    }
                    let access = dashboard.access.as_ref();
                    let mask = access.and_then(|access| access.positions());
                    if let Some(every) = &mut dashboard.every {
                        // Nearly always known: this is for what was written before its shard heard of us.
                        for fix in matched
                            .vehicles
                            .iter()
                            .filter(|vehicle| mask.is_none_or(|mask| mask.contains(**vehicle)))
                            .filter_map(|vehicle| seen.read(&fleet.positions, *vehicle))
                        {
                            metrics
                                .every_dropped
                                .add(every.push(fix.fix, every_bytes_max));
                        }
                        mark(connection, key, flushable);
                        continue;
                    }
                    if !(free && dashboard.is_current(names.size, now)) {
                        pend(&mut dashboard.pending, matched.vehicles, mask);
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
                    let Some(wire) = sessions.seal(key, frame) else {
                        continue;
                    };
                    delivered += outbound.fixes.len() as u64;
                    dashboard.named = dashboard.named.map(|named| named.max(names.size));
                    dashboard.has_sent(now);
                    connection.sending = true;
                    resent += usize::from(connection.sending_since == now.stamp());
                    connection.sending_since = now.stamp();
                    metrics.sends.inc();
                    ring.send(connection.fd, key, wire);
                }
            });
        });
        outbound.shared.clear();
        metrics.matches.add(matches);
        metrics.positions_out.add(delivered);
        self.resent += resent;
    }
}

impl Dashboard {
    /// Whether it may be told of this vehicle's positions, which its filter lets through.
    fn is_told_where(&self, vehicle: VehicleIndex) -> bool {
        let mask = self.access.as_ref().and_then(|access| access.positions());
        mask.is_none_or(|mask| mask.contains(vehicle))
    }

    /// Whether a shared frame may go to it: nothing older waits, its interval is over, it lacks at most one message's
    /// worth of names, and its grants make no difference between topics.
    fn is_current(&self, fleet_size: u32, now: Now) -> bool {
        let lacks = self
            .named
            .map_or(0, |named| fleet_size.saturating_sub(named));
        self.pending.is_empty()
            && self
                .presence
                .as_ref()
                .is_none_or(|pending| pending.is_empty())
            && !self.has_events()
            && self
                .access
                .as_ref()
                .is_none_or(|access| access.shares_frames())
            && self.is_due(now)
            && lacks <= NAMES_PER_MESSAGE_MAX
    }
}

/// Adds vehicles to a pending set, as far as the mask lets them through.
fn pend(pending: &mut RoaringBitmap, vehicles: &[VehicleIndex], mask: Option<&VehicleSet>) {
    match mask {
        None => pending.extend(vehicles.iter().map(|vehicle| vehicle.0)),
        Some(mask) => {
            let seen = vehicles.iter().filter(|vehicle| mask.contains(**vehicle));
            pending.extend(seen.map(|vehicle| vehicle.0));
        }
    }
}

/// Puts a connection on the list of those that have something to send.
fn mark(connection: &mut Connection, key: Key, flushable: &mut Vec<Key>) {
    if !std::mem::replace(&mut connection.flushable, true) {
        flushable.push(key);
    }
}
