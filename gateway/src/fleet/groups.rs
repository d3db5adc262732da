//! Groups of vehicles within a fleet: who is in them, and which shards are to hear of a change.
//!
//! A membership comes from two sides, which are kept apart: a vehicle's own token, whose word counts until a newer token
//! of that vehicle says otherwise, and an operator. A vehicle is in a group if either of them says so.
//!
//! A group has a number while it has members, or while somebody names it in a grant or a subscription. So a name that
//! nobody has taken yet can be watched, and one that nobody uses any more costs nothing.
//!
//! One mutex guards it. It is taken when a vehicle with groups connects, when a dashboard names a group, when an operator
//! changes one, and when a shard looks what has changed: never for a message.

mod error;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use longhaul_filter_engine::{FleetId, VehicleIndex};
use roaring::RoaringBitmap;

pub use self::error::GroupsError;
use self::table::{Bounds, Table};
pub use self::table::{GROUP_BYTES, REMEMBERED_BYTES};
use crate::limits::{Limits, SHARDS_MAX};

/// A group's number, dense over the node; it may stand for another group once nobody names the first one any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupNumber(pub u32);

/// Who names a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// A token: there is such a group, or there is to be one.
    Grant,
    /// A subscription, which may have made the name up. Such names have a bound of their own.
    Wish,
}

/// What an operator does to a group's members.
#[derive(Debug, Clone, Copy)]
pub enum Edit<'a> {
    /// These too.
    Add(&'a RoaringBitmap),
    /// These no longer.
    Remove(&'a RoaringBitmap),
    /// These and no others. None: the operator's part of the group ends.
    Replace(&'a RoaringBitmap),
}

/// What changed, and who is to hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wake {
    /// The shards whose doorbells are to be rung: bit n is shard n.
    pub shards: u64,
    /// When those have come so far ([`Groups::is_done`]), the change is in force.
    pub generation: u64,
}

/// What a shard has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// Nothing.
    None,
    /// Vehicles have joined a group: that may wait a little.
    Grown,
    /// Vehicles have left one: now.
    Shrunk,
}

/// The groups of all fleets.
#[derive(Debug)]
pub struct Groups {
    table: Mutex<Table>,
    /// By shard: see [`News`].
    news: Box<[AtomicU8]>,
    /// By shard: which change it has put into force.
    done: Box<[AtomicU64]>,
    /// Some token has ever given a membership: until then, vehicles pass without the lock.
    by_token: AtomicBool,
}

/// One group, for whoever lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What it is called.
    pub name: Box<str>,
    /// Members by an operator's word.
    pub by_operator: u64,
    /// Members by their tokens.
    pub by_token: u64,
    /// Members by either.
    pub members: u64,
}

impl Groups {
    /// None, with room for what the limits allow.
    pub(super) fn new(limits: &Limits) -> Groups {
        Groups {
            table: Mutex::new(Table::new(Bounds {
                groups_max: limits.groups_max,
                per_fleet_max: limits.groups_per_fleet_max,
                memberships_max: limits.group_memberships_max,
            })),
            news: (0..SHARDS_MAX).map(|_| AtomicU8::new(0)).collect(),
            done: (0..SHARDS_MAX).map(|_| AtomicU64::new(0)).collect(),
            by_token: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under the lock with an invariant broken.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a group that somebody on this shard names from now on; the shard hears of its changes until
    /// [`Groups::unwatch`]. To be asked before its members are read.
    ///
    /// # Errors
    /// At a limit of groups.
    pub fn watch(
        &self,
        shard: usize,
        fleet: FleetId,
        name: &str,
        naming: Naming,
    ) -> Result<GroupNumber, GroupsError> {
        self.lock().watch(shard, fleet, name, naming)
    }

    /// The number of a group that somebody names or that has members.
    #[must_use]
    pub fn find(&self, fleet: FleetId, name: &str) -> Option<GroupNumber> {
        self.lock().find(fleet, name)
    }

    /// Nobody on this shard names it any more.
    pub fn unwatch(&self, shard: usize, group: GroupNumber) {
        self.lock().unwatch(shard, group);
    }

    /// Who is in it now.
    #[must_use]
    pub fn members(&self, group: GroupNumber) -> RoaringBitmap {
        self.lock().members(group)
    }

    /// Whether this vehicle is in it now.
    #[must_use]
    pub fn is_member(&self, group: GroupNumber, vehicle: VehicleIndex) -> bool {
        self.lock().is_member(group, vehicle)
    }

    /// A vehicle has come with a token that names these groups, or has renewed it: they take the place of what its
    /// tokens said before, unless that was a newer one. `issued_s`: the token's `iat`, 0 without one.
    ///
    /// # Errors
    /// At a limit of groups or memberships; nothing has changed then.
    pub fn by_token(
        &self,
        fleet: FleetId,
        vehicle: VehicleIndex,
        names: &[Box<str>],
        issued_s: u64,
    ) -> Result<Wake, GroupsError> {
        if names.is_empty() && !self.by_token.load(Ordering::Acquire) {
            return Ok(Wake::default());
        }
        let mut table = self.lock();
        self.by_token.store(true, Ordering::Release);
        table.by_token(fleet, vehicle, names, issued_s)?;
        Ok(self.publish(&mut table))
    }

    /// An operator changes a group. Gives how many members it has by an operator's word now.
    ///
    /// # Errors
    /// At a limit of groups or memberships; nothing has changed then.
    pub fn edit(
        &self,
        fleet: FleetId,
        name: &str,
        edit: Edit<'_>,
    ) -> Result<(u64, Wake), GroupsError> {
        let mut table = self.lock();
        let members = table.edit(fleet, name, edit)?;
        Ok((members, self.publish(&mut table)))
    }

    /// Tells the shards concerned of what has changed.
    fn publish(&self, table: &mut Table) -> Wake {
        let (grown, shrunk) = table.take_concerned();
        for (news, shards) in [(News::Grown, grown), (News::Shrunk, shrunk)] {
            for (shard, flag) in self.news.iter().enumerate() {
                if shards >> shard & 1 == 1 {
                    flag.fetch_max(news as u8, Ordering::AcqRel);
                }
            }
        }
        Wake {
            shards: grown | shrunk,
            generation: table.generation(),
        }
    }

    /// Whether a shard has something to do. One load.
    #[inline]
    #[must_use]
    pub fn news(&self, shard: usize) -> News {
        match self
            .news
            .get(shard)
            .map(|flag| flag.load(Ordering::Acquire))
        {
            Some(2..) => News::Shrunk,
            Some(1) => News::Grown,
            _ => News::None,
        }
    }

    /// The groups that have changed since a shard asked last, each once; and the generation to report with
    /// [`Groups::finish`] when that is in force.
    #[must_use]
    pub fn take(&self, shard: usize) -> (Vec<GroupNumber>, u64) {
        let mut table = self.lock();
        if let Some(flag) = self.news.get(shard) {
            flag.store(News::None as u8, Ordering::Release);
        }
        (table.take_changed(shard), table.generation())
    }

    /// Everything up to this generation is in force on a shard.
    pub fn finish(&self, shard: usize, generation: u64) {
        if let Some(done) = self.done.get(shard) {
            done.fetch_max(generation, Ordering::AcqRel);
        }
    }

    /// Whether a change is in force everywhere.
    #[must_use]
    pub fn is_done(&self, wake: Wake) -> bool {
        (0..SHARDS_MAX)
            .filter(|shard| wake.shards >> shard & 1 == 1)
            .all(|shard| {
                let done = self.done.get(shard);
                done.is_none_or(|done| done.load(Ordering::Acquire) >= wake.generation)
            })
    }

    /// Up to `count` groups of a fleet that have members, by name, behind `after`.
    #[must_use]
    pub fn list(&self, fleet: FleetId, after: &str, count: usize) -> Vec<Summary> {
        self.lock().list(fleet, after, count)
    }

    /// The members of a group by an operator's word, and by their tokens. None: there are none.
    #[must_use]
    pub fn of_both(&self, fleet: FleetId, name: &str) -> Option<(RoaringBitmap, RoaringBitmap)> {
        self.lock().of_both(fleet, name)
    }

    /// What operators have set, to be kept: each fleet's groups with their members by an operator's word.
    #[must_use]
    pub fn by_operators(&self) -> Vec<(FleetId, Box<str>, RoaringBitmap)> {
        self.lock().by_operators()
    }

    /// How many groups and memberships there are.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        self.lock().counts()
    }
}
