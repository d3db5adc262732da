//! A table of fixed size, as a processor's cache is one: set-associative. An entry has eight places where it can be; if
//! they are taken, the one that is worth least makes room.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places of a set.
const WAYS: usize = 8;

/// What a [`Sets`] holds.
pub(super) trait Entry: Copy + Default {
    /// One that nothing is known about. `tag` is not 0.
    fn new(tag: u64) -> Self;
    /// Whose it is; 0: nobody's.
    fn tag(&self) -> u64;
    /// How much it would be missed.
    fn worth(&self, now_ms: u64) -> u64;
}

/// The table. Each set has a lock of its own, held for a few instructions.
#[derive(Debug)]
pub(super) struct Sets<E>(Box<[Mutex<[E; WAYS]>]>);

impl<E: Entry> Sets<E> {
    /// What a place weighs, its part of the lock included.
    pub const ENTRY_BYTES: usize = size_of::<Mutex<[E; WAYS]>>().div_ceil(WAYS);

    /// With so many places, rounded up to a power of two; none for 0.
    pub fn new(places: usize) -> Sets<E> {
        let sets = match places.div_ceil(WAYS) {
            0 => 0,
            sets => sets.next_power_of_two(),
        };
        Sets((0..sets).map(|_| Mutex::default()).collect())
    }

    /// Changes the entry of a tag, if there is one.
    pub fn find<R>(&self, tag: u64, change: impl FnOnce(&mut E) -> R) -> Option<R> {
        let mut set = self.lock(tag)?;
        set.iter_mut().find(|entry| entry.tag() == tag).map(change)
    }

    /// Changes the entry of a tag; a new one takes the place of the one that is worth least.
    pub fn with<R: Default>(&self, tag: u64, now_ms: u64, change: impl FnOnce(&mut E) -> R) -> R {
        let Some(mut set) = self.lock(tag) else {
            return R::default();
        };
        let at = set.iter().position(|entry| entry.tag() == tag);
        let at = at.unwrap_or_else(|| {
            let worth = |entry: &E| (entry.tag() != 0, entry.worth(now_ms));
            let least = (0..WAYS).min_by_key(|at| worth(&set[*at])).unwrap_or(0);
            set[least] = E::new(tag);
            least
        });
        change(&mut set[at])
    }

    /// How many entries are so.
    pub fn count(&self, is_so: impl Fn(&E) -> bool) -> u64 {
        let of_set = |set: &Mutex<[E; WAYS]>| {
            let set = set.lock().unwrap_or_else(PoisonError::into_inner);
            set.iter().filter(|entry| is_so(entry)).count() as u64
        };
        self.0.iter().map(of_set).sum()
    }

    fn lock(&self, tag: u64) -> Option<MutexGuard<'_, [E; WAYS]>> {
        // The number of sets is a power of two, and tags are spread evenly.
        let at = (tag >> 8) as usize & self.0.len().wrapping_sub(1);
        let set = self.0.get(at)?;
        // Nothing under the lock can panic half way.
        Some(set.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
