//! The inverse index: vehicle → groups that watch it.
//!
//! Groups fall into banks of 65,536, as values do in a roaring bitmap, so that an entry is 2 bytes. A shard
//! with fewer groups than that, which is nearly every shard, has one bank.

use roaring::RoaringBitmap;

use crate::page::{List, PAGE, Page};
use crate::sparse::Sparse;
use crate::{GroupId, VehicleIndex};

#[derive(Debug, Default)]
pub(crate) struct Index {
    banks: Vec<Bank>,
    entries: usize,
    /// Entries that the pages have room for.
    capacity: usize,
}

/// The watchers whose number shares its upper 16 bits.
#[derive(Debug, Default)]
pub(crate) struct Bank {
    pages: Sparse<Page>,
    entries: usize,
}

impl Index {
    /// Enters `group` as a watcher of `vehicles`, of which it watched none. Vehicles that had no watcher
    /// at all are appended to `watched`.
    pub(crate) fn insert(
        &mut self,
        group: GroupId,
        vehicles: &RoaringBitmap,
        watched: &mut Vec<VehicleIndex>,
    ) {
        let (bank, watcher) = split(group);
        if bank >= self.banks.len() {
            self.banks.resize_with(bank + 1, Bank::default);
        }
        for vehicle in vehicles {
            let vehicle = VehicleIndex(vehicle);
            let pages = &mut self.banks[bank].pages;
            let page = pages.get_or_insert_with(vehicle.0 / PAGE, Page::default);
            let before = page.capacity();
            page.insert(place(vehicle), watcher);
            self.capacity += page.capacity() - before;
            let alone = page.list(place(vehicle)).len() == 1;
            if alone && !self.is_watched_beside(bank, vehicle) {
                watched.push(vehicle);
            }
        }
        self.banks[bank].entries += vehicles.len() as usize;
        self.entries += vehicles.len() as usize;
    }

    /// Takes `group` out of the watchers of `vehicles`. Vehicles that nobody watches any more are
    /// appended to `unwatched`.
    pub(crate) fn remove(
        &mut self,
        group: GroupId,
        vehicles: &RoaringBitmap,
        unwatched: &mut Vec<VehicleIndex>,
    ) {
        let (bank, watcher) = split(group);
        for vehicle in vehicles {
            let vehicle = VehicleIndex(vehicle);
            let Some(entered) = self.banks.get_mut(bank) else {
                return;
            };
            let Some(page) = entered.pages.get_mut(vehicle.0 / PAGE) else {
                continue;
            };
            let before = page.capacity();
            if !page.remove(place(vehicle), watcher) {
                continue;
            }
            self.capacity = self.capacity + page.capacity() - before;
            self.entries -= 1;
            entered.entries -= 1;
            let alone = page.list(place(vehicle)).is_empty();
            if page.is_empty() {
                self.capacity -= page.capacity();
                entered.pages.remove(vehicle.0 / PAGE);
            }
            if alone && !self.is_watched_beside(bank, vehicle) {
                unwatched.push(vehicle);
            }
        }
        while self.banks.last().is_some_and(|bank| bank.entries == 0) {
            self.banks.pop();
        }
        if self.banks.is_empty() {
            self.banks = Vec::new();
        }
    }

    /// True if any group watches this vehicle by name (whole-fleet groups are not in the index).
    pub(crate) fn is_watched(&self, vehicle: VehicleIndex) -> bool {
        self.banks
            .iter()
            .any(|bank| !bank.watchers(vehicle).is_empty())
    }

    /// True if a group of another bank watches `vehicle`.
    fn is_watched_beside(&self, bank: usize, vehicle: VehicleIndex) -> bool {
        let mut banks = self.banks.iter().enumerate();
        banks.any(|(other, groups)| other != bank && !groups.watchers(vehicle).is_empty())
    }

    /// The banks, each with the number of its first group.
    pub(crate) fn banks(&self) -> impl Iterator<Item = (u32, &Bank)> {
        (0..).step_by(1 << 16).zip(&self.banks)
    }

    /// (group, vehicle) pairs.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.banks.capacity() * size_of::<Bank>()
            + self
                .banks
                .iter()
                .map(|bank| bank.pages.heap_bytes())
                .sum::<usize>()
            + self.capacity * size_of::<u16>()
    }
}

impl Bank {
    /// The lower 16 bits of the groups that watch `vehicle`; nothing for one that was never heard of.
    #[inline]
    pub(crate) fn watchers(&self, vehicle: VehicleIndex) -> List<'_> {
        match self.pages.get(vehicle.0 / PAGE) {
            Some(page) => page.list(place(vehicle)),
            None => List::EMPTY,
        }
    }
}

#[inline]
fn place(vehicle: VehicleIndex) -> usize {
    (vehicle.0 % PAGE) as usize
}

/// A group's bank and its number within it.
fn split(group: GroupId) -> (usize, u16) {
    ((group.get() >> 16) as usize, group.get() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (group, vehicle) pairs as the index tells them.
    fn watchers(index: &Index, vehicle: u32) -> Vec<u32> {
        let mut groups: Vec<u32> = index
            .banks()
            .flat_map(|(first, bank)| {
                let low = bank.watchers(VehicleIndex(vehicle));
                low.slices()
                    .flatten()
                    .map(move |&low| first + u32::from(low))
            })
            .collect();
        groups.sort_unstable();
        groups
    }

    #[test]
    fn groups_of_different_banks_watch_the_same_vehicle() {
        let mut index = Index::default();
        let group = |number| GroupId::new(number).expect("not 0");
        let (mut watched, mut unwatched) = (Vec::new(), Vec::new());
        let vehicles: RoaringBitmap = [1, 17, 4_000_000].into_iter().collect();
        for number in [1, 65_535, 65_536, 65_537, 200_000] {
            index.insert(group(number), &vehicles, &mut watched);
        }
        assert_eq!(watched, [1, 17, 4_000_000].map(VehicleIndex));
        assert_eq!(watchers(&index, 17), [1, 65_535, 65_536, 65_537, 200_000]);
        assert_eq!(watchers(&index, 18), []);
        assert_eq!(watchers(&index, u32::MAX), []);
        assert_eq!(index.entries(), 15);
        for number in [200_000, 1, 65_536, 65_537] {
            index.remove(group(number), &vehicles, &mut unwatched);
        }
        assert_eq!(unwatched, []);
        assert_eq!(watchers(&index, 4_000_000), [65_535]);
        index.remove(group(65_535), &vehicles, &mut unwatched);
        index.remove(group(65_535), &vehicles, &mut unwatched);
        assert_eq!(unwatched, [1, 17, 4_000_000].map(VehicleIndex));
        assert_eq!(
            (index.entries(), index.capacity, index.banks.len()),
            (0, 0, 0)
        );
    }
}
