//! The groups themselves, without the lock: names, numbers, members, and what has changed for whom.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use longhaul_filter_engine::{FleetId, VehicleIndex};
use roaring::RoaringBitmap;

use super::{Edit, GroupNumber, GroupsError, Naming, Summary};
use crate::limits::SHARDS_MAX;

/// What a group weighs without its name, which is there twice, and without its members.
pub const GROUP_BYTES: usize =
    size_of::<Option<Group>>() + 2 * size_of::<(Box<str>, GroupNumber)>();
/// What is remembered of a vehicle whose token names groups, without their numbers.
pub const REMEMBERED_BYTES: usize = size_of::<(u32, Said)>();

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Over all fleets.
    pub groups_max: u32,
    /// Of one fleet.
    pub per_fleet_max: u32,
    /// Vehicles in groups, by token and by operator.
    pub memberships_max: u64,
}

/// See the module above.
#[derive(Debug)]
pub struct Table {
    bounds: Bounds,
    groups: Vec<Option<Group>>,
    free: Vec<GroupNumber>,
    by_name: HashMap<FleetId, BTreeMap<Box<str>, GroupNumber>>,
    /// What the newest token of a vehicle said, of those whose tokens ever named a group.
    said: HashMap<u32, Said>,
    memberships: u64,
    /// Grows with each change.
    generation: u64,
    /// By shard: groups with a change that it has not looked at.
    changed: Vec<RoaringBitmap>,
    /// Shards that are to be told of vehicles that joined, and of vehicles that left.
    concerned: (u64, u64),
}

#[derive(Debug)]
struct Group {
    fleet: FleetId,
    name: Box<str>,
    by_token: RoaringBitmap,
    by_operator: RoaringBitmap,
    /// Shards where somebody names it.
    watched: u64,
}

#[derive(Debug, Default)]
struct Said {
    issued_s: u64,
    groups: Box<[GroupNumber]>,
}

impl Group {
    fn has_members(&self) -> bool {
        !(self.by_token.is_empty() && self.by_operator.is_empty())
    }
}

impl Table {
    pub fn new(bounds: Bounds) -> Table {
        Table {
            bounds,
            groups: Vec::new(),
            free: Vec::new(),
            by_name: HashMap::new(),
            said: HashMap::new(),
            memberships: 0,
            generation: 0,
            changed: vec![RoaringBitmap::new(); SHARDS_MAX],
            concerned: (0, 0),
        }
    }

    fn get(&self, group: GroupNumber) -> Option<&Group> {
        self.groups.get(group.0 as usize)?.as_ref()
    }

    pub fn find(&self, fleet: FleetId, name: &str) -> Option<GroupNumber> {
        self.by_name.get(&fleet)?.get(name).copied()
    }

    /// The group of this name, made if need be. One that is made and gets no member and no watcher must be let go.
    fn find_or_make(&mut self, fleet: FleetId, name: &str) -> Result<GroupNumber, GroupsError> {
        if let Some(group) = self.find(fleet, name) {
            return Ok(group);
        }
        let Bounds {
            groups_max,
            per_fleet_max,
            ..
        } = self.bounds;
        let of_fleet = self.by_name.get(&fleet).map_or(0, BTreeMap::len);
        if of_fleet >= per_fleet_max as usize {
            return Err(GroupsError::PerFleet(per_fleet_max));
        }
        if self.groups.len() - self.free.len() >= groups_max as usize {
            return Err(GroupsError::Groups(groups_max));
        }
        let group = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            GroupNumber(self.groups.len() as u32 - 1)
        });
        self.groups[group.0 as usize] = Some(Group {
            fleet,
            name: name.into(),
            by_token: RoaringBitmap::new(),
            by_operator: RoaringBitmap::new(),
            watched: 0,
        });
        self.by_name
            .entry(fleet)
            .or_default()
            .insert(name.into(), group);
        Ok(group)
    }

    /// Forgets a group that nobody is in and nobody names.
    fn let_go(&mut self, group: GroupNumber) {
        let is_used = |group: &Group| group.has_members() || group.watched != 0;
        let Some(slot) = self.groups.get_mut(group.0 as usize) else {
            return;
        };
        if slot.as_ref().is_none_or(is_used) {
            return;
        }
        let Some(gone) = slot.take() else { return };
        if let Some(names) = self.by_name.get_mut(&gone.fleet) {
            names.remove(&gone.name);
            if names.is_empty() {
                self.by_name.remove(&gone.fleet);
            }
        }
        for changed in &mut self.changed {
            changed.remove(group.0);
        }
        self.free.push(group);
    }

    pub fn watch(
        &mut self,
        shard: usize,
        fleet: FleetId,
        name: &str,
        naming: Naming,
    ) -> Result<GroupNumber, GroupsError> {
        if naming == Naming::Wish && self.find(fleet, name).is_none() {
            let of_fleet = self.by_name.get(&fleet);
            let names = of_fleet.into_iter().flat_map(BTreeMap::values);
            let is_unseen = |number: &&GroupNumber| {
                self.get(**number).is_some_and(|group| !group.has_members())
            };
            let unseen_max = (self.bounds.per_fleet_max / 2).max(1);
            // Counted only where there are enough of any kind.
            if of_fleet.map_or(0, BTreeMap::len) >= unseen_max as usize
                && names.filter(is_unseen).count() >= unseen_max as usize
            {
                return Err(GroupsError::Unseen(unseen_max));
            }
        }
        let group = self.find_or_make(fleet, name)?;
        if let Some(Some(watched)) = self.groups.get_mut(group.0 as usize) {
            watched.watched |= 1 << shard;
        }
        Ok(group)
    }

    pub fn unwatch(&mut self, shard: usize, group: GroupNumber) {
        if let Some(Some(watched)) = self.groups.get_mut(group.0 as usize) {
            watched.watched &= !(1 << shard);
        }
        if let Some(changed) = self.changed.get_mut(shard) {
            changed.remove(group.0);
        }
        self.let_go(group);
    }

    pub fn members(&self, group: GroupNumber) -> RoaringBitmap {
        self.get(group).map_or_else(RoaringBitmap::new, |group| {
            &group.by_token | &group.by_operator
        })
    }

    pub fn is_member(&self, group: GroupNumber, vehicle: VehicleIndex) -> bool {
        self.get(group).is_some_and(|group| {
            group.by_token.contains(vehicle.0) || group.by_operator.contains(vehicle.0)
        })
    }

    pub fn by_token(
        &mut self,
        fleet: FleetId,
        vehicle: VehicleIndex,
        names: &[Box<str>],
        issued_s: u64,
    ) -> Result<(), GroupsError> {
        let known = self.said.get(&vehicle.0);
        if known.is_none() && names.is_empty() {
            return Ok(());
        }
        if known.is_some_and(|said| issued_s < said.issued_s) {
            // An older token than one that it has shown before.
            return Ok(());
        }
        let before = known.map_or_else(Box::default, |said| said.groups.clone());
        let mut after = Vec::with_capacity(names.len());
        for name in names {
            match self.find_or_make(fleet, name) {
                Ok(group) => after.push(group),
                Err(error) => {
                    after.into_iter().for_each(|group| self.let_go(group));
                    return Err(error);
                }
            }
        }
        after.sort_unstable();
        after.dedup();
        let more = after.len().saturating_sub(before.len()) as u64;
        if self.memberships + more > self.bounds.memberships_max {
            after.into_iter().for_each(|group| self.let_go(group));
            return Err(GroupsError::Memberships(self.bounds.memberships_max));
        }
        self.memberships = self.memberships + after.len() as u64 - before.len() as u64;
        for &group in after.iter().filter(|group| !before.contains(group)) {
            if let Some(Some(joined)) = self.groups.get_mut(group.0 as usize) {
                let is_new = !joined.by_operator.contains(vehicle.0);
                joined.by_token.insert(vehicle.0);
                self.note(group, is_new, false);
            }
        }
        for &group in before.iter().filter(|group| !after.contains(group)) {
            if let Some(Some(left)) = self.groups.get_mut(group.0 as usize) {
                let has_left = !left.by_operator.contains(vehicle.0);
                left.by_token.remove(vehicle.0);
                self.note(group, false, has_left);
            }
            self.let_go(group);
        }
        let groups = after.into();
        self.said.insert(vehicle.0, Said { issued_s, groups });
        Ok(())
    }

    pub fn edit(&mut self, fleet: FleetId, name: &str, edit: Edit<'_>) -> Result<u64, GroupsError> {
        let adds = match edit {
            Edit::Add(vehicles) | Edit::Replace(vehicles) => !vehicles.is_empty(),
            Edit::Remove(_) => false,
        };
        let group = match self.find(fleet, name) {
            Some(group) => group,
            None if adds => self.find_or_make(fleet, name)?,
            None => return Ok(0),
        };
        let Some(Some(edited)) = self.groups.get_mut(group.0 as usize) else {
            return Ok(0);
        };
        let before = &edited.by_operator;
        let after = match edit {
            Edit::Add(vehicles) => before | vehicles,
            Edit::Remove(vehicles) => before - vehicles,
            Edit::Replace(vehicles) => vehicles.clone(),
        };
        let memberships = self.memberships + after.len() - before.len();
        if after.len() > before.len() && memberships > self.bounds.memberships_max {
            self.let_go(group);
            return Err(GroupsError::Memberships(self.bounds.memberships_max));
        }
        self.memberships = memberships;
        let joined = !(&after - before).is_subset(&edited.by_token);
        let left = !(before - &after).is_subset(&edited.by_token);
        let count = after.len();
        edited.by_operator = after;
        self.note(group, joined, left);
        self.let_go(group);
        Ok(count)
    }

    /// Vehicles have joined a group, or have left it.
    fn note(&mut self, group: GroupNumber, joined: bool, left: bool) {
        if !(joined || left) {
            return;
        }
        self.generation += 1;
        let watched = self.get(group).map_or(0, |group| group.watched);
        if joined {
            self.concerned.0 |= watched;
        }
        if left {
            self.concerned.1 |= watched;
        }
        for (shard, changed) in self.changed.iter_mut().enumerate() {
            if watched >> shard & 1 == 1 {
                changed.insert(group.0);
            }
        }
    }

    pub fn take_concerned(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.concerned)
    }

    pub fn take_changed(&mut self, shard: usize) -> Vec<GroupNumber> {
        let changed = self.changed.get_mut(shard).map(std::mem::take);
        changed
            .unwrap_or_default()
            .iter()
            .map(GroupNumber)
            .collect()
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn list(&self, fleet: FleetId, after: &str, count: usize) -> Vec<Summary> {
        let Some(names) = self.by_name.get(&fleet) else {
            return Vec::new();
        };
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        names
            .range::<str, _>(behind)
            .filter_map(|(name, number)| Some((name, self.get(*number)?)))
            .filter(|(_, group)| group.has_members())
            .take(count)
            .map(|(name, group)| Summary {
                name: name.clone(),
                by_operator: group.by_operator.len(),
                by_token: group.by_token.len(),
                members: group.by_operator.union_len(&group.by_token),
            })
            .collect()
    }

    pub fn of_both(&self, fleet: FleetId, name: &str) -> Option<(RoaringBitmap, RoaringBitmap)> {
        let group = self.get(self.find(fleet, name)?)?;
        group
            .has_members()
            .then(|| (group.by_operator.clone(), group.by_token.clone()))
    }

    pub fn by_operators(&self) -> Vec<(FleetId, Box<str>, RoaringBitmap)> {
        let groups = self.groups.iter().flatten();
        let set = groups.filter(|group| !group.by_operator.is_empty());
        set.map(|group| (group.fleet, group.name.clone(), group.by_operator.clone()))
            .collect()
    }

    pub fn counts(&self) -> (u64, u64) {
        (
            (self.groups.len() - self.free.len()) as u64,
            self.memberships,
        )
    }

    /// Sums that are kept, taken again.
    #[cfg(test)]
    pub fn check(&self) {
        let groups = || self.groups.iter().flatten();
        let by_operator: u64 = groups().map(|group| group.by_operator.len()).sum();
        let by_token: u64 = groups().map(|group| group.by_token.len()).sum();
        let said: usize = self.said.values().map(|said| said.groups.len()).sum();
        assert_eq!(self.memberships, by_operator + by_token);
        assert_eq!(by_token, said as u64);
        assert!(groups().all(|group| group.has_members() || group.watched != 0));
        assert_eq!(groups().count() + self.free.len(), self.groups.len());
        let named: usize = self.by_name.values().map(BTreeMap::len).sum();
        assert_eq!(groups().count(), named);
    }
}
