//! A dashboard's requests: held against its grants and the limits, and put into force (`watch`).

use longhaul_codec::{Ack, AckKind, ErrorCode, Message, MessageRef};
use longhaul_filter_engine::{FleetId, SubscriberId, Wanted};
use roaring::RoaringBitmap;

use super::{
    Core,
    access::Asked,
    clock::Now,
    connection::{Connection, Peer},
    grants::Wish,
    ring::Key,
    watch::Wishes,
};
use crate::{
    fleet::groups::{GroupNumber, Naming},
    limits::{NAMES_PER_MESSAGE_MAX, REQUESTS_IN_FLIGHT_MAX, SUBSCRIPTION_GROUPS_MAX},
    session::{
        dashboard::{self, DashboardRequest, Ids, SubscriptionRules},
        rejection::{Bound, Rejection},
    },
};

/// `Ack.watching` for the whole fleet.
const WATCHING_ALL: u32 = u32::MAX;

impl Core {
    /// A dashboard's message.
    pub(super) fn dashboard_said(&mut self, key: Key, message: MessageRef<'_>, now: Now) {
        let limits = &self.config.limits;
        let rules = SubscriptionRules {
            vehicles_max: limits.subscription_vehicles_max as usize,
            id_bytes_max: limits.vehicle_id_bytes_max,
            min_interval_ms_max: limits.min_interval_ms_max,
        };
        let outcome = match dashboard::understand(message, rules) {
            Ok(request) => self.obey(key, request, now),
            Err(rejection) => {
                self.metrics.messages_other.inc();
                Err(rejection)
            }
        };
        if let Err(rejection) = outcome {
            self.reject(key, rejection);
        }
    }

    /// A request costs work in proportion to the fleet, so a client may not have many of them answered at once.
    fn check_pipeline(&mut self, key: Key, request: u64) -> Result<(), Rejection> {
        let waiting = self
            .connections
            .get_mut(key)
            .map_or(0, |connection| connection.waiting());
        if waiting < REQUESTS_IN_FLIGHT_MAX {
            return Ok(());
        }
        let says = format!(
            "{waiting} answers wait for you, the limit is {REQUESTS_IN_FLIGHT_MAX}: wait for each Ack before the next \
             request"
        );
        Err(Rejection::new(ErrorCode::LimitReached, request, says).over(Bound::Requests))
    }

    fn obey(&mut self, key: Key, asked: DashboardRequest<'_>, now: Now) -> Result<(), Rejection> {
        let Some(fleet) = self.dashboard_fleet(key) else {
            return Ok(());
        };
        let mut wish = self.wish_of(key);
        let mut named = RoaringBitmap::new();
        let before = self.topics(key);
        let mut now_wanted = before;
        let mut begin = None;
        let (kind, id) = match asked {
            DashboardRequest::Command(command) => {
                self.metrics.messages_command.inc();
                return self.command(key, command);
            }
            DashboardRequest::Authenticate(fresh) => return self.authenticate(key, fresh, now),
            DashboardRequest::EventAck(point) => {
                self.metrics.messages_event_ack.inc();
                return self.event_ack(key, point, now);
            }
            DashboardRequest::Subscribe {
                request,
                topics,
                events,
                every,
                replace,
                whole_fleet,
                vehicles,
                groups,
                min_interval_ms,
            } => {
                self.metrics.messages_subscribe.inc();
                self.check_pipeline(key, request)?;
                if replace {
                    wish = Wish::default();
                    now_wanted = Wishes::default();
                }
                now_wanted.positions |= topics.positions;
                now_wanted.presence |= topics.presence;
                now_wanted.every = every;
                let asked = Asked {
                    topics,
                    unix_s: now.unix_ms / 1_000,
                };
                self.check_grant(key, request, asked, vehicles, groups)?;
                let wanted = &mut wish.vehicles;
                wanted.whole |= whole_fleet;
                self.check_size(fleet, request, wanted, vehicles)?;
                self.check_events(key, request, topics, events, replace)?;
                let indexes = self.intern(key, fleet, request, vehicles)?;
                wanted.vehicles.extend(&indexes);
                self.watch_groups(key, fleet, request, groups, &mut wish.groups)?;
                self.name(key, vehicles, &indexes);
                named.extend(&indexes);
                if self.flow(key).is_break() {
                    // The names were too much for a peer that does not read: it has left the filter engine, for good.
                    self.forget_groups(key, &wish.groups, &[]);
                    return Ok(());
                }
                self.set_interval(key, min_interval_ms, now);
                if replace {
                    self.end_feed(key, now);
                }
                begin = topics.wants_events().then_some((topics, events));
                (AckKind::Subscribe, request)
            }
            DashboardRequest::Unsubscribe {
                request,
                everything,
                whole_fleet,
                vehicles,
                groups,
                topics,
            } => {
                self.metrics.messages_unsubscribe.inc();
                self.check_pipeline(key, request)?;
                now_wanted.positions &= !topics.positions;
                now_wanted.presence &= !topics.presence;
                self.drop_topics(key, topics, now);
                if everything {
                    self.end_feed(key, now);
                    wish = Wish::default();
                    now_wanted = Wishes::default();
                }
                let wanted = &mut wish.vehicles;
                wanted.whole &= !whole_fleet;
                for vehicle in vehicles
                    .iter()
                    .filter_map(|id| self.fleet.registry.find(fleet, id))
                {
                    wanted.vehicles.remove(vehicle.0);
                }
                for group in groups
                    .iter()
                    .filter_map(|name| self.fleet.groups.find(fleet, name))
                {
                    wish.groups.retain(|own| *own != group);
                }
                (AckKind::Unsubscribe, request)
            }
        };
        now_wanted.every &= now_wanted.positions;
        self.metrics.subscriptions.inc();
        let saw = self.sees(key, before);
        self.tell_of(key, fleet, before, now_wanted);
        self.watch(key, wish, saw, now_wanted, &named, now);
        self.refilter(key);
        if let Some((topics, wish)) = begin {
            self.begin_feed(key, id, topics, wish, now)?;
        }
        let watching = match self.engine.effective(SubscriberId(key.slot)) {
            Some(filter) => filter.len().map_or(WATCHING_ALL, |watched| watched as u32),
            None => 0,
        };
        self.answer(key, &Message::Ack(Ack { kind, id, watching }));
        Ok(())
    }

    pub(super) fn dashboard_fleet(&mut self, key: Key) -> Option<FleetId> {
        match &self.connections.get_mut(key)?.peer {
            Peer::Dashboard(dashboard) => Some(dashboard.fleet),
            _ => None,
        }
    }

    fn set_interval(&mut self, key: Key, min_interval_ms: u32, now: Now) {
        let connection = self.connections.get_mut(key);
        if let Some(dashboard) = connection.and_then(Connection::dashboard_mut) {
            dashboard.set_interval(min_interval_ms, now);
        }
    }

    /// The indexes of these ids. A vehicle that never connected is given one: its positions come once it reports.
    fn intern(
        &mut self,
        key: Key,
        fleet: FleetId,
        request: u64,
        vehicles: Ids<'_>,
    ) -> Result<Vec<u32>, Rejection> {
        let connection = self.connections.get_mut(key);
        let dashboard = connection.and_then(|connection| connection.dashboard_mut());
        let asker = dashboard.map_or(0, |dashboard| dashboard.identity.number());
        let registry = &self.fleet.registry;
        vehicles
            .iter()
            .map(|id| registry.wish(fleet, asker, id).map(|vehicle| vehicle.0))
            .collect::<Result<_, _>>()
            .map_err(|error| {
                Rejection::new(ErrorCode::LimitReached, request, error.to_string())
                    .over(Bound::Vehicles)
            })
    }

    /// Refuses a wish that is too large before any of its ids is given an index.
    fn check_size(
        &self,
        fleet: FleetId,
        request: u64,
        wanted: &Wanted,
        ids: Ids<'_>,
    ) -> Result<(), Rejection> {
        let limit = u64::from(self.config.limits.subscription_vehicles_max);
        if wanted.vehicles.len() + ids.len() as u64 <= limit {
            return Ok(());
        }
        let is_new = |id: &&str| {
            let known = self.fleet.registry.find(fleet, id);
            known.is_none_or(|vehicle| !wanted.vehicles.contains(vehicle.0))
        };
        let count = wanted.vehicles.len() + ids.iter().filter(is_new).count() as u64;
        if count <= limit {
            return Ok(());
        }
        let says = format!(
            "this would watch {count} vehicles by id, the limit is {limit} (limits.subscription_vehicles_max); \
             use whole_fleet, or Unsubscribe some first"
        );
        let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
        Err(rejection.over(Bound::SubscriptionVehicles))
    }

    /// Refuses what is named and not granted, whether it exists or not, before anything of the request is in force.
    fn check_grant(
        &mut self,
        key: Key,
        request: u64,
        asked: Asked<'_>,
        vehicles: Ids<'_>,
        groups: Ids<'_>,
    ) -> Result<(), Rejection> {
        let shared = &self.fleet;
        let connection = self.connections.get_mut(key);
        let dashboard = connection.and_then(Connection::dashboard_mut);
        let Some((fleet, Some(access))) =
            dashboard.map(|dashboard| (dashboard.fleet, dashboard.access.as_deref()))
        else {
            return Ok(());
        };
        let says = if let Some(topic) = access.refused_topic(asked) {
            format!("your token does not grant the topic {topic:?}")
        } else if let Some(group) = groups.iter().find(|name| {
            let group = shared.groups.find(fleet, name);
            !access.may_watch_group(group, asked)
        }) {
            format!("your token does not grant the group {group:?}")
        } else {
            let members = |group| shared.groups.members(group);
            let Some(watchable) = access.watchable(asked, members) else {
                return Ok(());
            };
            let is_beyond = |id: &&str| {
                let vehicle = shared.registry.find(fleet, id);
                !vehicle.is_some_and(|vehicle| watchable.contains(vehicle))
            };
            let Some(vehicle) = vehicles.iter().find(is_beyond) else {
                return Ok(());
            };
            format!("your token does not grant the vehicle {vehicle:?} with these topics")
        };
        self.metrics.beyond_grant_subscribe.inc();
        let says = format!("{says}: ask for less; nothing of this request is in force");
        Err(Rejection::new(ErrorCode::NotAllowed, request, says))
    }

    /// The numbers of these groups, beside those that are asked for already. A group that nobody is in is given one: its
    /// vehicles come once they are in it.
    fn watch_groups(
        &mut self,
        key: Key,
        fleet: FleetId,
        request: u64,
        names: Ids<'_>,
        wished: &mut Vec<GroupNumber>,
    ) -> Result<(), Rejection> {
        let own = self.groups_of(key);
        let mut groups = wished.clone();
        let mut refused = None;
        for name in names.iter() {
            match self.name_group(key, fleet, name, Naming::Wish) {
                Ok(group) => groups.push(group),
                Err(error) => {
                    refused = Some((error.to_string(), Bound::Groups));
                    break;
                }
            }
        }
        groups.sort_unstable();
        groups.dedup();
        if refused.is_none() && groups.len() > SUBSCRIPTION_GROUPS_MAX {
            let says = format!(
                "this would watch {} groups, the limit is {SUBSCRIPTION_GROUPS_MAX}; Unsubscribe some first",
                groups.len()
            );
            refused = Some((says, Bound::SubscriptionGroups));
        }
        if let Some((says, bound)) = refused {
            self.forget_groups(key, &groups, &own);
            return Err(Rejection::new(ErrorCode::LimitReached, request, says).over(bound));
        }
        *wished = groups;
        Ok(())
    }

    /// Tells the dashboard which index stands for which id.
    fn name(&mut self, key: Key, vehicles: Ids<'_>, indexes: &[u32]) {
        let Some(json) = self
            .connections
            .get_mut(key)
            .map(|connection| connection.json)
        else {
            return;
        };
        let mut entries = indexes.iter().copied().zip(vehicles.iter());
        let per_message = NAMES_PER_MESSAGE_MAX as usize;
        for _ in 0..indexes.len().div_ceil(per_message) {
            let frame = self
                .outbound
                .names(entries.by_ref().take(per_message), json);
            self.enqueue(key, frame);
        }
    }
}
