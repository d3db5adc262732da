//! How many connections this node has: in all, per address, per dashboard user. Shared by all shards.
//!
//! It is asked when a connection comes and told when it goes, never in between. Addresses and users are counted by a
//! keyed hash of 64 bits, so that an entry costs 16 bytes whatever it stands for, and nobody outside can make two meet.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::limits::Limits;

/// What somebody who is counted weighs.
pub const COUNTED_BYTES: usize = size_of::<(u64, u32)>();

/// Locks per kind of count.
const STRIPES: usize = 16;

/// Somebody who is counted. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted(u64);

impl Counted {
    /// What stands for it, in this process.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// The counts.
#[derive(Debug)]
pub struct Census {
    open: AtomicU64,
    open_max: u64,
    addresses: Counts,
    identities: Counts,
    hasher: RandomState,
}

impl Census {
    /// Nobody is there yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Census {
        Census {
            open: AtomicU64::new(0),
            open_max: limits.connections_max,
            addresses: Counts::new(limits.connections_per_address_max),
            identities: Counts::new(limits.connections_per_identity_max),
            hasher: RandomState::new(),
        }
    }

    /// Counts a connection; false if there are too many.
    pub fn enter(&self) -> bool {
        // Over the limit for a moment is fine: the one who went over takes itself out again.
        if self.open.fetch_add(1, Ordering::Relaxed) < self.open_max {
            return true;
        }
        self.leave();
        false
    }

    /// Takes a connection out.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether addresses are counted: if not, nobody needs to ask the kernel for them.
    #[must_use]
    pub fn counts_addresses(&self) -> bool {
        self.addresses.each_max > 0
    }

    /// Counts a connection from an address. `None` if it has too many.
    pub fn enter_address(&self, address: IpAddr) -> Option<Counted> {
        let key = self.key(network(address));
        self.addresses.enter(key).then_some(key)
    }

    /// Takes it out.
    pub fn leave_address(&self, counted: Counted) {
        self.addresses.leave(counted);
    }

    /// Counts a dashboard of a fleet's user. `None` if the user has too many.
    pub fn enter_identity(&self, fleet: &str, subject: &str) -> Option<Counted> {
        let key = self.key((fleet, subject));
        self.identities.enter(key).then_some(key)
    }

    /// Takes it out.
    pub fn leave_identity(&self, counted: Counted) {
        self.identities.leave(counted);
    }

    /// Users who are there, with however many connections.
    #[must_use]
    pub fn identities(&self) -> u64 {
        self.identities.len()
    }

    fn key(&self, of: impl Hash) -> Counted {
        Counted(self.hasher.hash_one(of).max(1))
    }
}

/// What is counted as one: whether it is IPv4, and the address, or for IPv6 the first 64 bits of it.
pub(super) fn network(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (true, u64::from(address.to_bits())),
        // One subscriber has a /64 to choose from (RFC 6177).
        IpAddr::V6(address) => (false, (address.to_bits() >> 64) as u64),
    }
}

#[derive(Debug)]
struct Counts {
    stripes: [Mutex<HashMap<u64, u32>>; STRIPES],
    each_max: u32,
}

impl Counts {
    fn new(each_max: u32) -> Counts {
        Counts {
            stripes: std::array::from_fn(|_| Mutex::default()),
            each_max,
        }
    }

    fn enter(&self, of: Counted) -> bool {
        let mut counts = self.lock(of);
        let count = counts.entry(of.0).or_default();
        if *count >= self.each_max {
            return false;
        }
        *count += 1;
        true
    }

    fn leave(&self, of: Counted) {
        let mut counts = self.lock(of);
        if let Some(count) = counts.get_mut(&of.0) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&of.0);
                if counts.capacity() > 64 && counts.len() * 4 < counts.capacity() {
                    counts.shrink_to_fit();
                }
            }
        }
    }

    fn len(&self) -> u64 {
        let len = |stripe: &Mutex<HashMap<u64, u32>>| {
            stripe.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
        };
        self.stripes.iter().map(len).sum()
    }

    fn lock(&self, of: Counted) -> MutexGuard<'_, HashMap<u64, u32>> {
        // Nothing under the lock can panic half way.
        self.stripes[of.0 as usize % STRIPES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn census(all: u64, address: u32, identity: u32) -> Census {
        let mut limits = Config::defaults().expect("defaults are good").limits;
        limits.connections_max = all;
        limits.connections_per_address_max = address;
        limits.connections_per_identity_max = identity;
        Census::new(&limits)
    }

    #[test]
    fn connections_in_all() {
        let census = census(2, 0, 1);
        assert!(census.enter() && census.enter());
        assert!(!census.enter() && !census.enter(), "full, twice");
        census.leave();
        assert!(census.enter());
    }

    #[test]
    fn a_network_is_counted_as_one() {
        let census = census(10, 2, 1);
        let enter = |text: &str| census.enter_address(text.parse().expect("an address"));
        let first = enter("10.0.0.1").expect("room");
        assert_eq!(
            enter("::ffff:10.0.0.1"),
            Some(first),
            "the same host, by another name"
        );
        assert_eq!(enter("10.0.0.1"), None);
        assert!(enter("10.0.0.2").is_some(), "another");
        census.leave_address(first);
        assert!(enter("10.0.0.1").is_some());
        assert!(enter("2001:db8:0:1::1").is_some() && enter("2001:db8:0:1:ffff::2").is_some());
        assert_eq!(enter("2001:db8:0:1::3"), None, "the same /64");
        assert!(enter("2001:db8:0:2::1").is_some(), "another /64");
    }

    #[test]
    fn tabs_of_one_user_count_as_one_user() {
        let census = census(10, 0, 2);
        assert!(!census.counts_addresses());
        let ada = census.enter_identity("north", "ada").expect("room");
        census.enter_identity("north", "ada").expect("room");
        assert_eq!(census.enter_identity("north", "ada"), None);
        census
            .enter_identity("south", "ada")
            .expect("somebody else");
        assert_eq!(census.identities(), 2);
        census.leave_identity(ada);
        assert_eq!(census.identities(), 2);
        census.leave_identity(ada);
        assert_eq!(census.identities(), 1);
    }
}
