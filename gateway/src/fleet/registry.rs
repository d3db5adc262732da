//! Fleets and vehicle ids, and the dense indexes that stand for them.
//!
//! An id keeps its index for the life of the process. The lock is held for a look-up at a time: at connect, at
//! subscribe, when names are sent, and for a position that repeats its vehicle's id. A position without one, the usual
//! kind, takes no lock. Ids lie end to end in one arena, so that a vehicle costs
//! its id's bytes and about 20 more.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use hashbrown::HashTable;
use longhaul_filter_engine::{FleetId, VehicleIndex};

/// What a vehicle weighs here without its id: its entry, and its place among its fleet's members.
pub const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<VehicleIndex>();
/// A vehicle in the look-up by id.
pub const LOOKED_UP_BYTES: usize = size_of::<u32>();
/// What a fleet weighs without its name, which is there twice, and without its vehicles: its members, its entry in the
/// look-up by name, and its size.
pub const FLEET_BYTES: usize =
    size_of::<Members>() + 2 * size_of::<(Box<str>, FleetId)>() + size_of::<AtomicU32>();

/// What a vehicle weighs besides that never connected: who asked for it, and how many each asker has.
pub const UNSEEN_BYTES: usize = size_of::<(u32, u64)>() + size_of::<(u64, u32)>() + 2;

/// Vehicles that [`Registry::joined`] visits under one lock.
const JOINED_PER_LOCK: u32 = 1_024;

/// Why an id got no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// `limits.vehicles_max` is reached.
    #[error(
        "this node knows {0} vehicles, its limit (limits.vehicles_max); no further vehicle id is taken"
    )]
    Vehicles(u32),
    /// The share of those ids that were only asked for is reached which one asker may have.
    #[error(
        "{own} of the vehicle ids that you asked for have never connected, and there is room for {free} more of all \
         users (limits.unseen_vehicles_max): nobody may have more than is left for the others; is the list of vehicles \
         right?"
    )]
    Unseen {
        /// How many the asker has.
        own: u32,
        /// How many more there may be.
        free: u32,
    },
    /// `limits.fleets_max` is reached.
    #[error("this node knows {0} fleets, its limit (limits.fleets_max); no further fleet is taken")]
    Fleets(u32),
}

/// All fleets and vehicles of this node.
#[derive(Debug)]
pub struct Registry {
    inner: Mutex<Inner>,
    /// How many vehicles each fleet has: read per frame without the lock, to see whether names are missing.
    sizes: Box<[AtomicU32]>,
    hasher: RandomState,
    vehicles_max: u32,
    unseen_max: u32,
}

#[derive(Debug, Default)]
struct Inner {
    fleets: Vec<Members>,
    fleet_by_name: HashMap<Box<str>, FleetId>,
    /// Vehicle n: its fleet, and where its id ends in `ids` (it begins where n-1 ends). Entry 0 is nobody.
    vehicles: Vec<Entry>,
    ids: Vec<u8>,
    /// Vehicle indexes, hashed by (fleet, id).
    by_id: HashTable<u32>,
    /// Vehicles that a dashboard asked for and that never connected, with who asked first.
    unseen: HashMap<u32, u64>,
    /// How many of these each asker has.
    askers: HashMap<u64, u32>,
}

#[derive(Debug, Default)]
struct Members {
    name: Box<str>,
    joined: Vec<VehicleIndex>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    fleet: FleetId,
    id_end: u32,
    /// It has connected with a token of its own.
    seen: bool,
}

impl Inner {
    /// Holds a new id that was only asked for against the asker's share: it may have as many as are left for everybody
    /// else, so that who asks for ever more gets half of all, and there is always room for another (dynamic thresholds;
    /// Choudhury and Hahne, 1998).
    fn admit_unseen(&mut self, index: u32, asker: u64, max: u32) -> Result<(), RegistryError> {
        let free = max.saturating_sub(self.unseen.len() as u32);
        let own = self.askers.get(&asker).copied().unwrap_or(0);
        if own >= free {
            return Err(RegistryError::Unseen { own, free });
        }
        self.unseen.insert(index, asker);
        self.askers.insert(asker, own + 1);
        Ok(())
    }

    /// An id that was only asked for belongs to a vehicle, after all.
    fn seen(&mut self, index: u32) {
        self.vehicles[index as usize].seen = true;
        if let Some(asker) = self.unseen.remove(&index)
            && let Some(own) = self.askers.get_mut(&asker)
        {
            *own -= 1;
            if *own == 0 {
                self.askers.remove(&asker);
            }
        }
    }

    fn id(&self, index: u32) -> &str {
        let index = index as usize;
        let range = self.vehicles[index - 1].id_end as usize..self.vehicles[index].id_end as usize;
        // Only whole `&str` are ever appended, so this cannot fail; an empty id is never interned.
        std::str::from_utf8(&self.ids[range]).unwrap_or_default()
    }
}

impl Registry {
    /// Empty, with these bounds.
    pub(super) fn new(fleets_max: u32, vehicles_max: u32, unseen_max: u32) -> Registry {
        let nobody = Entry {
            fleet: FleetId(u32::MAX),
            id_end: 0,
            seen: false,
        };
        Registry {
            inner: Mutex::new(Inner {
                vehicles: vec![nobody],
                ..Inner::default()
            }),
            sizes: (0..fleets_max).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
            vehicles_max,
            unseen_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under the lock with an invariant broken.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fleet of this name; a new one is made.
    ///
    /// # Errors
    /// At the limit of fleets.
    pub fn fleet(&self, name: &str) -> Result<FleetId, RegistryError> {
        let mut inner = self.lock();
        if let Some(fleet) = inner.fleet_by_name.get(name) {
            return Ok(*fleet);
        }
        let next = inner.fleets.len();
        if next >= self.sizes.len() {
            return Err(RegistryError::Fleets(self.sizes.len() as u32));
        }
        let fleet = FleetId(next as u32);
        inner.fleets.push(Members {
            name: name.into(),
            joined: Vec::new(),
        });
        inner.fleet_by_name.insert(name.into(), fleet);
        Ok(fleet)
    }

    /// The fleet of this name, if it is known.
    #[must_use]
    pub fn find_fleet(&self, name: &str) -> Option<FleetId> {
        self.lock().fleet_by_name.get(name).copied()
    }

    /// The vehicle of this id in this fleet, which has a token to prove it; a new one is given the next index and joins
    /// its fleet.
    ///
    /// # Errors
    /// At the limit of vehicles.
    pub fn vehicle(&self, fleet: FleetId, id: &str) -> Result<VehicleIndex, RegistryError> {
        self.intern(fleet, id, None)
    }

    /// The vehicle of this id in this fleet, which a dashboard asks for and which may not exist. Such ids have a bound
    /// of their own, so that made-up ones cannot keep vehicles out, and `asker` (any number that stands for a user) has a
    /// share of it, so that one user's cannot keep out another's.
    ///
    /// # Errors
    /// At either limit, and at the asker's share.
    pub fn wish(
        &self,
        fleet: FleetId,
        asker: u64,
        id: &str,
    ) -> Result<VehicleIndex, RegistryError> {
        self.intern(fleet, id, Some(asker))
    }

    fn intern(
        &self,
        fleet: FleetId,
        id: &str,
        asker: Option<u64>,
    ) -> Result<VehicleIndex, RegistryError> {
        let hash = self.hasher.hash_one((fleet.0, id));
        let mut guard = self.lock();
        let inner = &mut *guard;
        let same =
            |&index: &u32| inner.vehicles[index as usize].fleet == fleet && inner.id(index) == id;
        if let Some(&index) = inner.by_id.find(hash, same) {
            if asker.is_none() && !inner.vehicles[index as usize].seen {
                inner.seen(index);
            }
            return Ok(VehicleIndex(index));
        }
        let index = inner.vehicles.len() as u32;
        let Ok(id_end) = u32::try_from(inner.ids.len() + id.len()) else {
            return Err(RegistryError::Vehicles(index - 1));
        };
        if index > self.vehicles_max || fleet.0 as usize >= inner.fleets.len() {
            return Err(RegistryError::Vehicles(self.vehicles_max));
        }
        if let Some(asker) = asker {
            inner.admit_unseen(index, asker, self.unseen_max)?;
        }
        inner.ids.extend_from_slice(id.as_bytes());
        inner.vehicles.push(Entry {
            fleet,
            id_end,
            seen: asker.is_none(),
        });
        let mut by_id = std::mem::take(&mut inner.by_id);
        by_id.insert_unique(hash, index, |&other| {
            self.hasher
                .hash_one((inner.vehicles[other as usize].fleet.0, inner.id(other)))
        });
        inner.by_id = by_id;
        let joined = &mut inner.fleets[fleet.0 as usize].joined;
        joined.push(VehicleIndex(index));
        self.sizes[fleet.0 as usize].store(joined.len() as u32, Ordering::Release);
        Ok(VehicleIndex(index))
    }

    /// The vehicle of this id in this fleet, if it is known.
    #[must_use]
    pub fn find(&self, fleet: FleetId, id: &str) -> Option<VehicleIndex> {
        let hash = self.hasher.hash_one((fleet.0, id));
        let inner = self.lock();
        let same =
            |&index: &u32| inner.vehicles[index as usize].fleet == fleet && inner.id(index) == id;
        inner
            .by_id
            .find(hash, same)
            .map(|&index| VehicleIndex(index))
    }

    /// How many vehicles the fleet has, known to the registry; lock-free.
    #[inline]
    #[must_use]
    pub fn fleet_size(&self, fleet: FleetId) -> u32 {
        self.sizes
            .get(fleet.0 as usize)
            .map_or(0, |size| size.load(Ordering::Acquire))
    }

    /// Calls `each` for up to `count` of the fleet's vehicles in the order in which they joined, from the `from`-th on.
    /// The lock is let go now and then, so that no other shard waits for a whole fleet.
    pub fn joined(
        &self,
        fleet: FleetId,
        from: u32,
        count: u32,
        mut each: impl FnMut(VehicleIndex, &str),
    ) {
        self.in_pieces(fleet, from, count, |inner, piece| {
            for &index in piece {
                each(index, inner.id(index.0));
            }
        });
    }

    /// Calls `each` for all of the fleet's vehicles, a piece at a time, in the order in which they joined: by number, mostly
    /// in long runs.
    pub fn members(&self, fleet: FleetId, mut each: impl FnMut(&[VehicleIndex])) {
        self.in_pieces(fleet, 0, u32::MAX, |_, piece| each(piece));
    }

    fn in_pieces(
        &self,
        fleet: FleetId,
        from: u32,
        count: u32,
        mut each: impl FnMut(&Inner, &[VehicleIndex]),
    ) {
        let end = from.saturating_add(count).min(self.fleet_size(fleet));
        let mut next = from;
        while next < end {
            let inner = self.lock();
            let Some(members) = inner.fleets.get(fleet.0 as usize) else {
                return;
            };
            let until = end.min(next + JOINED_PER_LOCK);
            let piece = members.joined.get(next as usize..until as usize);
            each(&inner, piece.unwrap_or_default());
            next = until;
        }
    }

    /// How many fleets there are; their numbers are the ones below.
    #[must_use]
    pub fn fleets(&self) -> u32 {
        self.lock().fleets.len() as u32
    }

    /// What a fleet is called.
    #[must_use]
    pub fn fleet_name(&self, fleet: FleetId) -> Option<Box<str>> {
        let inner = self.lock();
        Some(inner.fleets.get(fleet.0 as usize)?.name.clone())
    }

    /// Calls `each` with the ids of these vehicles. The lock is let go now and then.
    pub fn ids_of(&self, vehicles: &[u32], mut each: impl FnMut(u32, &str)) {
        for some in vehicles.chunks(JOINED_PER_LOCK as usize) {
            let inner = self.lock();
            for &vehicle in some {
                if vehicle > 0 && (vehicle as usize) < inner.vehicles.len() {
                    each(vehicle, inner.id(vehicle));
                }
            }
        }
    }

    /// Calls `each` with the vehicle's id. False if there is no such vehicle.
    pub fn with_id(&self, vehicle: VehicleIndex, each: impl FnOnce(&str)) -> bool {
        let inner = self.lock();
        let known = vehicle.0 > 0 && (vehicle.0 as usize) < inner.vehicles.len();
        if known {
            each(inner.id(vehicle.0));
        }
        known
    }

    /// Whether `vehicle`'s id is `id`.
    #[must_use]
    pub fn is_called(&self, vehicle: VehicleIndex, id: &str) -> bool {
        let inner = self.lock();
        vehicle.0 > 0 && (vehicle.0 as usize) < inner.vehicles.len() && inner.id(vehicle.0) == id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_get_dense_indexes_per_fleet_and_keep_them() {
        let registry = Registry::new(2, 3, 3);
        let (north, south) = (
            registry.fleet("north").unwrap(),
            registry.fleet("south").unwrap(),
        );
        assert_eq!(registry.fleet("north"), Ok(north));
        assert_eq!(registry.fleet("third"), Err(RegistryError::Fleets(2)));
        assert_eq!(registry.fleets(), 2);
        assert_eq!(registry.fleet_name(south).as_deref(), Some("south"));
        assert_eq!(registry.fleet_name(FleetId(2)), None);
        assert_eq!(registry.vehicle(north, "a"), Ok(VehicleIndex(1)));
        assert_eq!(
            registry.vehicle(south, "a"),
            Ok(VehicleIndex(2)),
            "ids are a fleet's own"
        );
        assert_eq!(registry.vehicle(north, "bb"), Ok(VehicleIndex(3)));
        assert_eq!(registry.vehicle(north, "a"), Ok(VehicleIndex(1)));
        assert_eq!(
            (registry.find(south, "a"), registry.find(south, "bb")),
            (Some(VehicleIndex(2)), None)
        );
        assert_eq!(
            registry.vehicle(north, "c"),
            Err(RegistryError::Vehicles(3))
        );
        assert_eq!(
            (registry.fleet_size(north), registry.fleet_size(south)),
            (2, 1)
        );
        let mut names = Vec::new();
        registry.joined(north, 0, 10, |index, id| {
            names.push((index.0, id.to_owned()))
        });
        assert_eq!(names, [(1, "a".to_owned()), (3, "bb".to_owned())]);
        names.clear();
        registry.joined(north, 1, 10, |index, id| {
            names.push((index.0, id.to_owned()))
        });
        assert_eq!(names, [(3, "bb".to_owned())]);
        assert!(registry.is_called(VehicleIndex(3), "bb"));
        assert!(!registry.is_called(VehicleIndex(3), "a"));
        assert!(
            !registry.is_called(VehicleIndex(0), "") && !registry.is_called(VehicleIndex(9), "a")
        );
    }

    #[test]
    fn made_up_ids_keep_no_vehicle_out() {
        let registry = Registry::new(1, 10, 2);
        let fleet = registry.fleet("f").unwrap();
        let full = Err(RegistryError::Unseen { own: 0, free: 0 });
        let ghost = registry.wish(fleet, 1, "ghost").unwrap();
        registry.wish(fleet, 2, "truck").unwrap();
        assert_eq!(registry.wish(fleet, 3, "third"), full);
        assert_eq!(
            registry.wish(fleet, 3, "ghost"),
            Ok(ghost),
            "a known one is no new wish"
        );
        registry.vehicle(fleet, "third").unwrap();
        registry.vehicle(fleet, "truck").unwrap();
        registry.vehicle(fleet, "truck").unwrap();
        assert!(
            registry.wish(fleet, 4, "fourth").is_ok(),
            "the truck came, which made room for one"
        );
        assert_eq!(registry.wish(fleet, 5, "fifth"), full);
    }

    #[test]
    fn one_users_made_up_ids_leave_room_for_those_of_others() {
        let registry = Registry::new(1, 10_000, 1_000);
        let fleet = registry.fleet("f").unwrap();
        let takes = |asker: u64| {
            let ids = (0..2_000).map(|n| format!("{asker}-{n}"));
            ids.take_while(|id| registry.wish(fleet, asker, id).is_ok())
                .count()
        };
        assert_eq!([takes(1), takes(2), takes(3)], [500, 250, 125]);
        assert_eq!(takes(1), 500, "its own are known, and no more are taken");
        // Most of the first one's come, which makes room for everybody.
        for n in 0..400 {
            registry.vehicle(fleet, &format!("1-{n}")).unwrap();
        }
        assert_eq!(takes(4), 263);
        assert!(registry.wish(fleet, 1, "another").is_ok());
    }

    #[test]
    fn many_ids_are_found_again_after_growth() {
        let registry = Registry::new(1, 100_000, 0);
        let fleet = registry.fleet("f").unwrap();
        let indexes: Vec<_> = (0..20_000)
            .map(|n| registry.vehicle(fleet, &format!("v{n}")).unwrap())
            .collect();
        for (n, index) in indexes.iter().enumerate() {
            assert_eq!(registry.vehicle(fleet, &format!("v{n}")), Ok(*index));
        }
        assert_eq!(registry.fleet_size(fleet), 20_000);
    }
}
