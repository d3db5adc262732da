//! A wish in force: in the filter engine, in the other shards' interest, and in what a dashboard is owed.

use longhaul_filter_engine::{Change, Filter, FleetId, SubscriberId, VehicleSet};
use roaring::RoaringBitmap;

use super::{
    Core,
    access::Access,
    clock::Now,
    connection::{Connection, Peer},
    grants::Wish,
    ring::Key,
};
use crate::fleet::Extra;

/// What a dashboard wants to be told of the vehicles that it watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    pub(super) positions: bool,
    pub(super) presence: bool,
    pub(super) every: bool,
}

/// What a dashboard may be told of which vehicles.
#[derive(Debug)]
pub(super) struct Sees {
    /// Its filter.
    watched: VehicleSet,
    /// Those of its filter of which it is told positions.
    positions: VehicleSet,
    /// The same for presence.
    presence: VehicleSet,
}

impl Core {
    /// What a dashboard is told of the vehicles that it watches, so far.
    pub(super) fn topics(&mut self, key: Key) -> Wishes {
        match self
            .connections
            .get_mut(key)
            .map(|connection| &connection.peer)
        {
            Some(Peer::Dashboard(dashboard)) => Wishes {
                positions: dashboard.positions,
                presence: dashboard.presence.is_some(),
                every: dashboard.every.is_some(),
            },
            _ => Wishes::default(),
        }
    }

    /// Puts what it is told into force, ahead of the snapshot.
    pub(super) fn tell_of(&mut self, key: Key, fleet: FleetId, before: Wishes, now: Wishes) {
        let extras = &mut self.extras;
        extras.change(
            &self.fleet,
            fleet,
            Extra::Presence,
            before.presence,
            now.presence,
        );
        extras.change(&self.fleet, fleet, Extra::Every, before.every, now.every);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Peer::Dashboard(dashboard) = &mut connection.peer else {
            return;
        };
        dashboard.positions = now.positions;
        if !now.positions {
            // After the Ack, none comes.
            dashboard.pending = RoaringBitmap::new();
            dashboard.every = None;
        } else if let (Some(every), false) = (&dashboard.every, now.every) {
            // Of what waited, the newest.
            dashboard.pending |= every.waiting();
        }
        if now.presence != before.presence {
            dashboard.presence = now.presence.then(Box::default);
        }
        if now.every != dashboard.every.is_some() {
            dashboard.every = now.every.then(Box::default);
        }
    }

    /// What a dashboard may be told of which vehicles at this moment.
    pub(super) fn sees(&mut self, key: Key, told: Wishes) -> Sees {
        let watched = self.engine.effective(SubscriberId(key.slot));
        let watched = watched.map_or_else(VehicleSet::none, Filter::to_set);
        let connection = self.connections.get_mut(key);
        let dashboard = connection.and_then(Connection::dashboard_mut);
        let access = dashboard.and_then(|dashboard| dashboard.access.as_deref());
        let masked = |is_told: bool, mask: Option<&VehicleSet>| match (is_told, mask) {
            (false, _) => VehicleSet::none(),
            (true, None) => watched.clone(),
            (true, Some(mask)) => watched.and(mask),
        };
        let positions = masked(told.positions, access.and_then(Access::positions));
        let presence = masked(told.presence, access.and_then(Access::presence));
        Sees {
            watched,
            positions,
            presence,
        }
    }

    /// Puts a wish into force, within what is granted. What it adds to what the dashboard saw is pending at once, the
    /// snapshot; what it takes away is pending no more. `named`: vehicles whose names were just sent.
    pub(super) fn watch(
        &mut self,
        key: Key,
        wish: Wish,
        saw: Sees,
        told: Wishes,
        named: &RoaringBitmap,
        now: Now,
    ) {
        let Some(fleet) = self.dashboard_fleet(key) else {
            return;
        };
        let subscriber = SubscriberId(key.slot);
        let (granted, wanted) = self.settle_wish(key, wish, now);
        let change = self.engine.set(subscriber, fleet, &granted, wanted);
        self.announce(fleet, &change);
        let sees = self.sees(key, told);
        let positions = self.added(fleet, &sees.positions, &saw.positions);
        let presence = self.added(fleet, &sees.presence, &saw.presence);
        let connection = self.connections.get_mut(key);
        if let Some(dashboard) = connection.and_then(Connection::dashboard_mut) {
            if let VehicleSet::Some(seen) = &sees.positions {
                dashboard.pending &= seen;
            }
            if let (VehicleSet::Some(seen), Some(pending)) =
                (&sees.presence, &mut dashboard.presence)
            {
                **pending &= seen;
            }
            if let Some(every) = &mut dashboard.every {
                every.retain(&sees.positions);
            }
            dashboard.snapshot |= !positions.is_empty();
            dashboard.pending |= positions;
            if let Some(pending) = &mut dashboard.presence {
                **pending |= presence;
            }
            let is_whole = sees.watched.is_whole();
            dashboard.named = is_whole.then(|| dashboard.named.unwrap_or(0));
            if let Some(access) = &mut dashboard.access {
                access.unnamed = match (&sees.watched, &saw.watched) {
                    // All of the fleet are named, in the order in which they joined.
                    (VehicleSet::Whole, _) => RoaringBitmap::new(),
                    (VehicleSet::Some(watched), VehicleSet::Whole) => watched - named,
                    (VehicleSet::Some(watched), VehicleSet::Some(before)) => {
                        (&access.unnamed | &(&(watched - before) - named)) & watched
                    }
                };
            }
        }
        self.mark_flushable(key);
    }

    /// What is seen now and was not before.
    fn added(&self, fleet: FleetId, now: &VehicleSet, before: &VehicleSet) -> RoaringBitmap {
        match (now, before) {
            (VehicleSet::Some(now), VehicleSet::Some(before)) => now - before,
            (VehicleSet::Whole, VehicleSet::Some(before)) => self.known_vehicles(fleet) - before,
            (_, VehicleSet::Whole) => RoaringBitmap::new(),
        }
    }

    fn known_vehicles(&self, fleet: FleetId) -> RoaringBitmap {
        let mut known = RoaringBitmap::new();
        self.fleet.registry.members(fleet, |piece| {
            // By runs: `push` looks for the highest number each time, through all of a dense container.
            for run in piece.chunk_by(|a, b| a.0 + 1 == b.0) {
                if let [first, .., last] | [first @ last] = run {
                    known.insert_range(first.0..=last.0);
                }
            }
        });
        known
    }

    /// Tells the other shards of a changed filter.
    pub(super) fn announce(&mut self, fleet: FleetId, change: &Change) {
        let Core {
            exchange,
            fleet: shared,
            seen,
            routed,
            ..
        } = self;
        exchange.announce(shared, seen, &mut routed.changed, fleet, change);
    }
}
