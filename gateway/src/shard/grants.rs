//! What tokens let their bearers see and do, in force on live connections: at the start, when a token is renewed, when a
//! group changes, and when an entry ends.
//!
//! A shard knows which of its dashboards name which group, so a change costs work for those and for nobody else. It is
//! put into force in the tick in which the shard hears of it; only where that is more than a tick's work
//! ([`REGRANTS_PER_TICK`]) the rest follows in the next ones.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
};

use longhaul_codec::{ErrorCode, wire};
use longhaul_filter_engine::{FleetId, SubscriberId, VehicleIndex, VehicleSet, Wanted};
use roaring::RoaringBitmap;

use super::{
    Core,
    access::{Access, Entry},
    clock::Now,
    connection::{Connection, Peer},
    ring::Key,
};
use crate::{
    fleet::{
        RegistryError,
        groups::{GroupNumber, GroupsError, Naming, News, Wake},
    },
    limits::REGRANTS_PER_TICK,
    session::{
        close,
        grants::{Grant, Grants, TopicSet},
        rejection::{Bound, Rejection},
        rights::Rights,
        token::{Identity, Role},
    },
};

/// Vehicles in a millisecond's worth of filters: how long joins may gather before the next ones are looked at follows
/// from what the last ones cost, so that a fleet that comes in costs a shard no more than a part of its time.
const JOINS_PER_MS: u64 = 20_000;
/// And at most so long, in milliseconds.
const JOINS_WAIT_MS_MAX: u64 = 1_000;

/// Why grants could not be put into force: a limit of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Of vehicles.
    #[error(transparent)]
    Vehicles(#[from] RegistryError),
    /// Of groups.
    #[error(transparent)]
    Groups(#[from] GroupsError),
}

/// What a shard remembers to work out filters again.
#[derive(Debug, Default)]
pub struct Regrants {
    /// Dashboards by the groups that they name.
    watchers: HashMap<GroupNumber, HashSet<Key>>,
    /// Dashboards whose filter is to be worked out again, in turn; and the same, each once.
    queue: VecDeque<Key>,
    queued: HashSet<Key>,
    /// What is in force when the queue is empty.
    generation: Option<u64>,
    /// When entries end (seconds since the Unix epoch).
    ends: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Joins wait until then (the shard's clock, ms).
    joins_wait_ms: u64,
}

impl Regrants {
    /// Filters that are to be worked out again.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn enqueue(&mut self, key: Key) {
        if self.queued.insert(key) {
            self.queue.push_back(key);
        }
    }

    fn next(&mut self) -> Option<Key> {
        let key = self.queue.pop_front()?;
        self.queued.remove(&key);
        if self.queue.is_empty() {
            (self.queue, self.queued) = Default::default();
        }
        Some(key)
    }

    fn pop_ended(&mut self, unix_s: u64) -> Option<Key> {
        let &Reverse((ends_s, slot, generation)) = self.ends.peek()?;
        if ends_s > unix_s {
            return None;
        }
        self.ends.pop();
        Some(Key { slot, generation })
    }
}

/// The entries that bound a dashboard. None: nothing does.
pub(super) type Bounds = Option<Box<[Entry]>>;

/// What a dashboard has asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wish {
    /// By id, and as a whole.
    pub(super) vehicles: Wanted,
    /// Groups, ascending.
    pub(super) groups: Vec<GroupNumber>,
}

/// The rights of grants that bound nothing, so that they cost nothing: the whole fleet, all topics, until the token ends.
fn unbounded(grants: &Grants) -> Option<Rights> {
    let is_plain = |grant: &Grant| grant.vehicles.fleet && grant.until_unix.is_none();
    let entries = || grants.0.iter();
    let reads = |grant: &Grant| grant.read && is_plain(grant) && grant.topics == TopicSet::All;
    let command = entries().any(|grant| grant.command && is_plain(grant));
    let is_whole = entries().any(reads) && (command || !entries().any(|grant| grant.command));
    is_whole.then_some(Rights { command })
}

impl Core {
    /// What a dashboard may do beyond watching, and what bounds it, if something does. From now on this shard hears of
    /// the groups that its token names.
    pub(super) fn access_of(
        &mut self,
        key: Key,
        fleet: FleetId,
        identity: &Identity,
    ) -> Result<(Rights, Bounds), GrantError> {
        let Some(grants) = &identity.grants else {
            return Ok((identity.may, None));
        };
        if let Some(rights) = unbounded(grants) {
            return Ok((rights, None));
        }
        let mut named = Vec::new();
        let entries = grants
            .0
            .iter()
            .map(|grant| self.entry_of(key, fleet, grant, &mut named))
            .collect::<Result<Box<[Entry]>, GrantError>>();
        if entries.is_err() {
            let kept = self.groups_of(key);
            self.forget_groups(key, &named, &kept);
        }
        Ok((Rights::default(), Some(entries?)))
    }

    fn entry_of(
        &mut self,
        key: Key,
        fleet: FleetId,
        grant: &Grant,
        named: &mut Vec<GroupNumber>,
    ) -> Result<Entry, GrantError> {
        let registry = &self.fleet.registry;
        // A token is no wish: it says that there is such a vehicle, or that there will be one.
        let vehicles = grant.vehicles.vehicles.iter();
        let vehicles = vehicles
            .map(|id| registry.vehicle(fleet, id).map(|vehicle| vehicle.0))
            .collect::<Result<RoaringBitmap, _>>()?;
        let mut groups = Vec::with_capacity(grant.vehicles.groups.len());
        for name in &grant.vehicles.groups {
            let group = self.name_group(key, fleet, name, Naming::Grant)?;
            named.push(group);
            groups.push(group);
        }
        Ok(Entry {
            whole: grant.vehicles.fleet,
            vehicles,
            groups: groups.into(),
            topics: grant.topics.clone(),
            read: grant.read,
            command: grant.command,
            until_s: grant.until_unix.unwrap_or(u64::MAX),
        })
    }

    /// A dashboard has come: its bounds are in force.
    pub(super) fn begin_access(&mut self, key: Key, entries: Option<Box<[Entry]>>, now: Now) {
        let Some(entries) = entries else {
            return;
        };
        let dashboard = self
            .connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut);
        if let Some(dashboard) = dashboard {
            dashboard.access = Some(Box::new(Access::new(Some(entries))));
            self.regrant(key, now);
        }
    }

    /// A dashboard names this group from now on.
    pub(super) fn name_group(
        &mut self,
        key: Key,
        fleet: FleetId,
        name: &str,
        naming: Naming,
    ) -> Result<GroupNumber, GroupsError> {
        let shard = self.exchange.shard();
        let group = self.fleet.groups.watch(shard, fleet, name, naming)?;
        let watchers = self.regrants.watchers.entry(group).or_default();
        watchers.insert(key);
        Ok(group)
    }

    /// The groups that a dashboard names.
    pub(super) fn groups_of(&mut self, key: Key) -> Vec<GroupNumber> {
        let connection = self.connections.get_mut(key);
        let dashboard = connection.and_then(Connection::dashboard_mut);
        let access = dashboard.and_then(|dashboard| dashboard.access.as_deref());
        access.map_or_else(Vec::new, Access::groups)
    }

    /// Of these groups, it names those no more that are not among the ones to keep.
    pub(super) fn forget_groups(&mut self, key: Key, of: &[GroupNumber], keep: &[GroupNumber]) {
        let shard = self.exchange.shard();
        for group in of.iter().filter(|group| !keep.contains(group)) {
            let Some(watchers) = self.regrants.watchers.get_mut(group) else {
                continue;
            };
            watchers.remove(&key);
            if watchers.is_empty() {
                self.regrants.watchers.remove(group);
                self.fleet.groups.unwatch(shard, *group);
            }
        }
    }

    /// A dashboard goes.
    pub(super) fn end_access(&mut self, key: Key) {
        let groups = self.groups_of(key);
        self.forget_groups(key, &groups, &[]);
        let connection = self.connections.get_mut(key);
        if let Some(dashboard) = connection.and_then(Connection::dashboard_mut) {
            dashboard.access = None;
        }
    }

    /// What a dashboard asked for so far.
    pub(super) fn wish_of(&mut self, key: Key) -> Wish {
        let connection = self.connections.get_mut(key);
        let dashboard = connection.and_then(Connection::dashboard_mut);
        match dashboard.and_then(|dashboard| dashboard.access.as_deref()) {
            Some(access) => Wish {
                vehicles: access.wish.clone(),
                groups: access.wish_groups.clone(),
            },
            None => Wish {
                vehicles: self
                    .engine
                    .wanted(SubscriberId(key.slot))
                    .unwrap_or_default(),
                groups: Vec::new(),
            },
        }
    }

    /// Keeps what a dashboard asks for, and gives what may be granted of it and what is wanted, for the filter engine.
    pub(super) fn settle_wish(&mut self, key: Key, wish: Wish, now: Now) -> (VehicleSet, Wanted) {
        let before = self.groups_of(key);
        let groups = &self.fleet.groups;
        let connection = self.connections.get_mut(key);
        let Some(dashboard) = connection.and_then(Connection::dashboard_mut) else {
            return (VehicleSet::none(), Wanted::default());
        };
        let is_needed = |access: &Access| {
            access.is_bounded() || !wish.groups.is_empty() || !access.unnamed.is_empty()
        };
        match &dashboard.access {
            // Nothing bounds it any more: it is one of the many again.
            Some(access) if !is_needed(access) => dashboard.access = None,
            None if !wish.groups.is_empty() => dashboard.access = Some(Box::default()),
            _ => {}
        }
        let settled = match &mut dashboard.access {
            None => (VehicleSet::Whole, wish.vehicles),
            Some(access) => {
                access.wish = wish.vehicles;
                access.wish_groups = wish.groups;
                let wanted = access.settle(now.unix_ms / 1_000, |group| groups.members(group));
                (access.granted().clone(), wanted)
            }
        };
        let after = self.groups_of(key);
        self.forget_groups(key, &before, &after);
        settled
    }

    /// A fresh token in place of the one that a connection came with: what it grants is in force from now on, be it more
    /// or less.
    ///
    /// # Errors
    /// At a limit of this node; what was granted before holds on then. A token all of whose grants have ended is none:
    /// the connection is closed.
    pub(super) fn apply_grants(
        &mut self,
        key: Key,
        request: u64,
        identity: &Identity,
        now: Now,
    ) -> Result<(), Rejection> {
        let outcome = match identity.role {
            Role::Vehicle => self.apply_to_vehicle(key, identity),
            Role::Dashboard => self.apply_to_dashboard(key, identity, now),
        };
        outcome.map_err(|error| {
            let bound = match error {
                GrantError::Vehicles(_) => Bound::Vehicles,
                GrantError::Groups(_) => Bound::Groups,
            };
            Rejection::new(ErrorCode::LimitReached, request, error.to_string()).over(bound)
        })
    }

    fn apply_to_vehicle(&mut self, key: Key, identity: &Identity) -> Result<(), GrantError> {
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        if let Peer::Vehicle { fleet, vehicle } = connection.peer {
            self.join_groups(fleet, vehicle, identity)?;
            self.bound_publishing(key, identity);
        }
        Ok(())
    }

    fn apply_to_dashboard(
        &mut self,
        key: Key,
        identity: &Identity,
        now: Now,
    ) -> Result<(), GrantError> {
        let Some(fleet) = self.dashboard_fleet(key) else {
            return Ok(());
        };
        let before = self.groups_of(key);
        let (rights, entries) = self.access_of(key, fleet, identity)?;
        let wish = self.wish_of(key);
        let connection = self.connections.get_mut(key);
        let Some(dashboard) = connection.and_then(Connection::dashboard_mut) else {
            return Ok(());
        };
        dashboard.may = rights;
        match (&mut dashboard.access, entries) {
            (None, None) => return Ok(()),
            (Some(access), entries) => access.replace_grants(entries),
            (None, entries) => {
                let mut access = Access::new(entries);
                (access.wish, access.wish_groups) = (wish.vehicles, wish.groups);
                dashboard.access = Some(Box::new(access));
            }
        }
        let after = self.groups_of(key);
        self.forget_groups(key, &before, &after);
        self.regrant(key, now);
        Ok(())
    }

    /// A vehicle's token says which groups it is in.
    pub(super) fn join_groups(
        &mut self,
        fleet: FleetId,
        vehicle: VehicleIndex,
        identity: &Identity,
    ) -> Result<(), GroupsError> {
        let issued_s = identity.issued_unix.unwrap_or(0);
        let groups = &self.fleet.groups;
        let Wake { shards, .. } = groups.by_token(fleet, vehicle, &identity.groups, issued_s)?;
        self.exchange.ring(shards);
        Ok(())
    }

    /// A vehicle's token says what it may publish.
    pub(super) fn bound_publishing(&mut self, key: Key, identity: &Identity) {
        let is_free = |grant: &Grant| {
            grant.publish && grant.topics == TopicSet::All && grant.until_unix.is_none()
        };
        let bounds = identity
            .grants
            .as_ref()
            .filter(|grants| !grants.0.iter().any(is_free));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.bounded = bounds.is_some();
        }
        match bounds {
            Some(grants) => drop(self.publish_bounds.insert(key, grants.clone())),
            None => drop(self.publish_bounds.remove(&key)),
        }
    }

    /// Whether a vehicle may publish positions.
    #[inline]
    pub(super) fn check_positions(&mut self, key: Key, now: Now) -> Result<(), Rejection> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.bounded => {
                self.check_publish(key, 0, "positions", now, TopicSet::positions)
            }
            _ => Ok(()),
        }
    }

    /// Whether it may publish this event.
    pub(super) fn check_event_topic(
        &mut self,
        key: Key,
        event: wire::Event<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.bounded => {
                let (id, topic) = (event.message_id(), event.topic());
                self.check_publish(key, id, topic, now, |topics| topics.event(topic))
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn check_publish(
        &self,
        key: Key,
        id: u64,
        what: &str,
        now: Now,
        has: impl Fn(&TopicSet) -> bool,
    ) -> Result<(), Rejection> {
        let unix_s = now.unix_ms / 1_000;
        let grants = self.publish_bounds.get(&key);
        let mut grants = grants.iter().flat_map(|grants| &grants.0);
        let may = grants.any(|grant| {
            let in_force = grant.until_unix.is_none_or(|until| until > unix_s);
            grant.publish && in_force && has(&grant.topics)
        });
        if may {
            return Ok(());
        }
        self.metrics.beyond_grant_publish.inc();
        let says = format!(
            "your token does not let you publish {what:?}: no entry of its claim `grants` with \"publish\" has it"
        );
        Err(Rejection::new(ErrorCode::NotAllowed, id, says))
    }

    /// Puts into force what has changed: groups, and entries that have ended. Once a tick, behind the letters.
    pub(super) fn go_on_regranting(&mut self, now: Now) {
        let shard = self.exchange.shard();
        let is_due = match self.fleet.groups.news(shard) {
            News::None => false,
            News::Grown => now.mono_ms >= self.regrants.joins_wait_ms,
            News::Shrunk => true,
        };
        if is_due {
            let (changed, generation) = self.fleet.groups.take(shard);
            let Regrants {
                watchers,
                queue,
                queued,
                ..
            } = &mut self.regrants;
            for group in changed {
                for key in watchers.get(&group).into_iter().flatten() {
                    if queued.insert(*key) {
                        queue.push_back(*key);
                    }
                }
            }
            self.regrants.generation = Some(generation);
        }
        while let Some(key) = self.regrants.pop_ended(now.unix_ms / 1_000) {
            self.regrants.enqueue(key);
        }
        let mut work = 0;
        while work < REGRANTS_PER_TICK
            && let Some(key) = self.regrants.next()
        {
            work += self.regrant(key, now);
        }
        if work > 0 {
            let wait_ms = (work / JOINS_PER_MS).min(JOINS_WAIT_MS_MAX);
            self.regrants.joins_wait_ms = now.mono_ms + wait_ms;
        }
        if self.regrants.waiting() == 0
            && let Some(generation) = self.regrants.generation.take()
        {
            self.fleet.groups.finish(shard, generation);
        }
    }

    /// Works out again what one dashboard sees. Returns about how much work that was, in vehicles.
    fn regrant(&mut self, key: Key, now: Now) -> u64 {
        let unix_s = now.unix_ms / 1_000;
        let connection = self.connections.get_mut(key);
        let Some(dashboard) = connection.and_then(Connection::dashboard_mut) else {
            return 1;
        };
        let Some(access) = &dashboard.access else {
            return 1;
        };
        if access.is_over(unix_s) {
            self.close(key, close::TOKEN_EXPIRED);
            return 1;
        }
        if let Some(ends_s) = access.ends_s(unix_s) {
            self.remember_end(key, ends_s);
        }
        if self.engine.effective(SubscriberId(key.slot)).is_none() {
            // It has asked for nothing yet.
            return 1;
        }
        self.metrics.regrants.inc();
        let wish = self.wish_of(key);
        let told = self.topics(key);
        let saw = self.sees(key, told);
        self.watch(key, wish, saw, told, &RoaringBitmap::new(), now);
        self.refilter(key);
        let watched = self.engine.effective(SubscriberId(key.slot));
        1 + watched.and_then(VehicleSet::len).unwrap_or(0)
    }

    fn remember_end(&mut self, key: Key, ends_s: u64) {
        let ends = &mut self.regrants.ends;
        // Those who have gone leave entries behind, and so does each look at one that stays.
        if ends.len() > 2 * self.connections.len() + 64 {
            let mut each_once = HashSet::new();
            let connections = &mut self.connections;
            ends.retain(|&Reverse((_, slot, generation))| {
                let key = Key { slot, generation };
                connections.get_mut(key).is_some()
            });
            ends.retain(|entry| each_once.insert(*entry));
        }
        ends.push(Reverse((ends_s, key.slot, key.generation)));
    }
}
