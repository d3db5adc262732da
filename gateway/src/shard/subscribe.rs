//! A dashboard's wishes: into the filter engine, into the other shards' interest, and into its snapshot.

use longhaul_codec::{Ack, AckKind, ErrorCode, Message, MessageRef};
use longhaul_filter_engine::{Change, FleetId, SubscriberId, VehicleIndex, VehicleSet, Wanted};
use roaring::RoaringBitmap;

use super::{Core, clock::Now, connection::Peer, ring::Key};
use crate::{
    fleet::Interest,
    session::{
        dashboard::{self, DashboardRequest, Ids, SubscriptionRules},
        rejection::Rejection,
    },
};

/// Ids in one `Names` message that answers a Subscribe.
const NAMES_PER_MESSAGE_MAX: usize = 4_096;
/// `Ack.watching` for the whole fleet.
const WATCHING_ALL: u32 = u32::MAX;

impl Core {
    /// A dashboard's message.
    pub(super) fn from_dashboard(&mut self, key: Key, message: MessageRef<'_>, _now: Now) {
        let limits = &self.config.limits;
        let rules = SubscriptionRules {
            vehicles_max: limits.subscription_vehicles_max as usize,
            id_bytes_max: limits.vehicle_id_bytes_max,
            min_interval_ms_max: limits.min_interval_ms_max,
        };
        let outcome = match dashboard::understand(message, rules) {
            Ok(request) => self.obey(key, request),
            Err(rejection) => Err(rejection),
        };
        if let Err(rejection) = outcome {
            self.reject(key, rejection);
        }
    }

    fn obey(&mut self, key: Key, asked: DashboardRequest<'_>) -> Result<(), Rejection> {
        let Some(fleet) = self.dashboard_fleet(key) else { return Ok(()) };
        let mut wanted = self.engine.wanted(SubscriberId(key.slot)).unwrap_or_default();
        let (kind, id) = match asked {
            DashboardRequest::Subscribe { request, replace, whole_fleet, vehicles, min_interval_ms } => {
                self.metrics.messages_subscribe.inc();
                if replace {
                    wanted = Wanted::default();
                }
                wanted.whole |= whole_fleet;
                let indexes = self.intern(fleet, request, vehicles)?;
                wanted.vehicles.extend(&indexes);
                self.check_size(request, &wanted)?;
                self.name(key, vehicles, &indexes);
                self.set_interval(key, min_interval_ms);
                (AckKind::Subscribe, request)
            }
            DashboardRequest::Unsubscribe { request, everything, whole_fleet, vehicles } => {
                self.metrics.messages_unsubscribe.inc();
                if everything {
                    wanted = Wanted::default();
                }
                wanted.whole &= !whole_fleet;
                for vehicle in vehicles.iter().filter_map(|id| self.fleet.registry.find(fleet, id)) {
                    wanted.vehicles.remove(vehicle.0);
                }
                (AckKind::Unsubscribe, request)
            }
        };
        self.watch(key, fleet, wanted);
        let watching = match self.engine.effective(SubscriberId(key.slot)) {
            Some(VehicleSet::Whole) => WATCHING_ALL,
            Some(VehicleSet::Some(vehicles)) => vehicles.len() as u32,
            None => 0,
        };
        self.answer(key, &Message::Ack(Ack { kind, id, watching }));
        Ok(())
    }

    fn dashboard_fleet(&mut self, key: Key) -> Option<FleetId> {
        match &self.connections.get_mut(key)?.peer {
            Peer::Dashboard(dashboard) => Some(dashboard.fleet),
            _ => None,
        }
    }

    fn set_interval(&mut self, key: Key, min_interval_ms: u32) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Peer::Dashboard(dashboard) = &mut connection.peer
        {
            dashboard.min_interval_ms = min_interval_ms;
        }
    }

    /// The indexes of these ids. A vehicle that never connected is given one: its positions come once it reports.
    fn intern(&self, fleet: FleetId, request: u64, vehicles: Ids<'_>) -> Result<Vec<u32>, Rejection> {
        vehicles
            .iter()
            .map(|id| self.fleet.registry.vehicle(fleet, id).map(|vehicle| vehicle.0))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                self.metrics.limit_hit_registry.add(1);
                Rejection::new(ErrorCode::LimitReached, request, error.to_string())
            })
    }

    fn check_size(&self, request: u64, wanted: &Wanted) -> Result<(), Rejection> {
        let (count, limit) = (wanted.vehicles.len(), u64::from(self.config.limits.subscription_vehicles_max));
        if count <= limit {
            return Ok(());
        }
        self.metrics.limit_hit_subscription.add(1);
        let says = format!(
            "this would watch {count} vehicles by id, the limit is {limit} (limits.subscription_vehicles_max); \
             use whole_fleet, or Unsubscribe some first"
        );
        Err(Rejection::new(ErrorCode::LimitReached, request, says))
    }

    /// Tells the dashboard which index stands for which id.
    fn name(&mut self, key: Key, vehicles: Ids<'_>, indexes: &[u32]) {
        let Some(json) = self.connections.get_mut(key).map(|connection| connection.json) else { return };
        let mut entries = indexes.iter().copied().zip(vehicles.iter());
        for _ in 0..indexes.len().div_ceil(NAMES_PER_MESSAGE_MAX) {
            let frame = self.outbound.names(entries.by_ref().take(NAMES_PER_MESSAGE_MAX), json);
            self.enqueue(key, frame);
        }
    }

    /// Puts a wish into force. What it adds is pending at once: the snapshot.
    fn watch(&mut self, key: Key, fleet: FleetId, wanted: Wanted) {
        self.metrics.subscriptions.add(1);
        let whole = wanted.whole;
        let change = self.engine.set(SubscriberId(key.slot), fleet, &VehicleSet::Whole, wanted);
        self.announce(fleet, &change);
        let snapshot = match change.added {
            VehicleSet::Some(vehicles) => vehicles,
            VehicleSet::Whole => {
                let mut all = RoaringBitmap::new();
                self.fleet.registry.joined(fleet, 0, u32::MAX, |vehicle, _| {
                    all.insert(vehicle.0);
                });
                all
            }
        };
        if let Some(connection) = self.connections.get_mut(key)
            && let Peer::Dashboard(dashboard) = &mut connection.peer
        {
            dashboard.pending |= snapshot;
            dashboard.named = if whole { dashboard.named.or(Some(0)) } else { None };
        }
        self.mark_flushable(key);
    }

    /// Tells the other shards what this one has interest in from now on, before it reads the positions of a snapshot.
    fn announce(&mut self, fleet: FleetId, change: &Change) {
        let Core { fleet: shared, seen, number, .. } = self;
        let (interest, mine) = (&shared.interest, 1u64 << *number);
        // A vehicle that this shard already heard of must keep the version that it has routed; one that is new here
        // begins with what the snapshot will read.
        let whole = interest.fleet(fleet) & mine != 0;
        let fresh = |vehicle: VehicleIndex| !whole && interest.vehicle(vehicle) & mine == 0;
        let mut begins: Vec<VehicleIndex> = change.watched.iter().copied().filter(|&vehicle| fresh(vehicle)).collect();
        if change.fleet_watched == Some(true) {
            shared.registry.joined(fleet, 0, u32::MAX, |vehicle, _| {
                if fresh(vehicle) {
                    begins.push(vehicle);
                }
            });
        }
        for &vehicle in &change.watched {
            interest.set_vehicle(*number, vehicle, true);
        }
        if let Some(watched) = change.fleet_watched {
            interest.set_fleet(*number, fleet, watched);
        }
        for &vehicle in &change.unwatched {
            interest.set_vehicle(*number, vehicle, false);
        }
        Interest::fence();
        for vehicle in begins {
            seen.set(vehicle, shared.positions.version(vehicle));
        }
    }

    /// A connection leaves the open phase: nothing is routed to it from now on.
    pub(super) fn retire(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.phase != super::connection::Phase::Open {
            return;
        }
        match &mut connection.peer {
            Peer::Vehicle { .. } => self.metrics.connections_open_vehicle.sub(1),
            Peer::Dashboard(dashboard) => {
                dashboard.pending = RoaringBitmap::new();
                dashboard.named = None;
                let fleet = dashboard.fleet;
                self.metrics.connections_open_dashboard.sub(1);
                let change = self.engine.remove(SubscriberId(key.slot));
                self.announce(fleet, &change);
            }
            Peer::Handshake(_) => self.metrics.connections_open_handshake.sub(1),
            Peer::Echo(_) => self.metrics.connections_open_echo.sub(1),
            Peer::Nobody => {}
        }
    }
}
