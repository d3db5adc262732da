//! What tokens let their bearers see and do, in force on live connections: at the start, and when a token is renewed.

use longhaul_codec::ErrorCode;
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
        groups::{GroupNumber, GroupsError, Naming, Wake},
    },
    session::{
        grants::{Grant, Grants, TopicSet},
        rejection::{Bound, Rejection},
        rights::Rights,
        token::{Identity, Role},
    },
};

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

    /// The groups that a dashboard names.
    pub(super) fn groups_of(&mut self, key: Key) -> Vec<GroupNumber> {
        let connection = self.connections.get_mut(key);
        let dashboard = connection.and_then(Connection::dashboard_mut);
        let access = dashboard.and_then(|dashboard| dashboard.access.as_deref());
        access.map_or_else(Vec::new, Access::groups)
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
}
