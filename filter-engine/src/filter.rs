//! A filter at rest: a set of vehicles in as little memory as it can be searched in.
//!
//! A roaring bitmap spends 40 bytes on every 65,536 numbers that it has members in, and two allocations more; for the
//! fifty vehicles of a dashboard that is half of what its filter costs. A short list does without.

use roaring::RoaringBitmap;

use crate::set::{bitmap_at_rest, bitmap_heap_bytes};
use crate::{VehicleIndex, VehicleSet};

/// The filter of a subscriber, to be asked; [`Filter::to_set`] is the same as a set to compute with.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter(Kept);

#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Whole,
    Listed(Listed),
    Bitmap(RoaringBitmap),
}

impl Filter {
    /// True for the whole fleet.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.0, Kept::Whole)
    }

    /// How many vehicles; `None` for the whole fleet, whose size is not known here.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match &self.0 {
            Kept::Whole => None,
            Kept::Listed(listed) => Some(listed.len() as u64),
            Kept::Bitmap(bitmap) => Some(bitmap.len()),
        }
    }

    /// True if no vehicle, present or future, is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// True if `vehicle`, taken to be of this fleet, is in it.
    #[must_use]
    pub fn contains(&self, vehicle: VehicleIndex) -> bool {
        match &self.0 {
            Kept::Whole => true,
            Kept::Listed(listed) => listed.contains(vehicle.0),
            Kept::Bitmap(bitmap) => bitmap.contains(vehicle.0),
        }
    }

    /// The same as a set.
    #[must_use]
    pub fn to_set(&self) -> VehicleSet {
        match &self.0 {
            Kept::Whole => VehicleSet::Whole,
            Kept::Listed(listed) => VehicleSet::Some(listed.iter().collect()),
            Kept::Bitmap(bitmap) => VehicleSet::Some(bitmap.clone()),
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Kept::Whole => 0,
            Kept::Listed(listed) => listed.heap_bytes(),
            Kept::Bitmap(bitmap) => bitmap_heap_bytes(bitmap),
        }
    }
}

impl Default for Filter {
    /// Nobody.
    fn default() -> Filter {
        Filter::from(VehicleSet::none())
    }
}

impl From<VehicleSet> for Filter {
    fn from(set: VehicleSet) -> Filter {
        let VehicleSet::Some(vehicles) = set else {
            return Filter(Kept::Whole);
        };
        let vehicles = bitmap_at_rest(vehicles);
        match Listed::of(&vehicles) {
            Some(listed) if listed.heap_bytes() <= bitmap_heap_bytes(&vehicles) => {
                Filter(Kept::Listed(listed))
            }
            _ => Filter(Kept::Bitmap(vehicles)),
        }
    }
}

impl PartialEq<VehicleSet> for Filter {
    fn eq(&self, set: &VehicleSet) -> bool {
        match (&self.0, set) {
            (Kept::Whole, VehicleSet::Whole) => true,
            (Kept::Listed(listed), VehicleSet::Some(set)) => {
                listed.len() as u64 == set.len() && listed.iter().eq(set.iter())
            }
            (Kept::Bitmap(bitmap), VehicleSet::Some(set)) => bitmap == set,
            _ => false,
        }
    }
}

/// Members at most, and stretches of 65,536 numbers that they lie in: both are counted in 16 bits.
pub(crate) const LISTED_MAX: u64 = 4_096;

/// Bytes of a list of so many members in so many stretches.
pub(crate) const fn listed_bytes(members: u64, stretches: u64) -> u64 {
    if members == 0 {
        return 0;
    }
    members
        .saturating_add(stretches.saturating_mul(2))
        .saturating_add(1)
        .saturating_mul(size_of::<u16>() as u64)
}

/// Few numbers: how many stretches there are; the upper half of each, and where its members end; then the lower halves
/// of all members, in order. Nothing at all if there are none.
#[derive(Clone, Debug, PartialEq)]
struct Listed(Box<[u16]>);

impl Listed {
    /// `None` if there are too many.
    fn of(bitmap: &RoaringBitmap) -> Option<Listed> {
        if bitmap.len() > LISTED_MAX {
            return None;
        }
        if bitmap.is_empty() {
            return Some(Listed(Box::default()));
        }
        let mut stretches: Vec<(u16, u16)> = Vec::new();
        for (number, end) in bitmap.iter().zip(1..) {
            let upper = (number >> 16) as u16;
            match stretches.last_mut() {
                Some(last) if last.0 == upper => last.1 = end,
                _ => stretches.push((upper, end)),
            }
        }
        let heads = stretches.iter().flat_map(|&(upper, end)| [upper, end]);
        let lower = bitmap.iter().map(|number| number as u16);
        let words = std::iter::once(stretches.len() as u16).chain(heads);
        let mut list = Vec::with_capacity(1 + 2 * stretches.len() + bitmap.len() as usize);
        list.extend(words.chain(lower));
        Some(Listed(list.into()))
    }

    /// Each stretch's upper half and end, and the lower halves.
    fn parts(&self) -> (&[[u16; 2]], &[u16]) {
        let Some((&stretches, rest)) = self.0.split_first() else {
            return (&[], &[]);
        };
        let (heads, members) = rest.split_at(2 * usize::from(stretches));
        (heads.as_chunks().0, members)
    }

    fn len(&self) -> usize {
        self.parts().1.len()
    }

    fn contains(&self, number: u32) -> bool {
        let (heads, members) = self.parts();
        let upper = (number >> 16) as u16;
        let Ok(at) = heads.binary_search_by_key(&upper, |head| head[0]) else {
            return false;
        };
        let start = at.checked_sub(1).map_or(0, |before| heads[before][1]);
        let members = &members[usize::from(start)..usize::from(heads[at][1])];
        members.binary_search(&(number as u16)).is_ok()
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        let (heads, members) = self.parts();
        let mut start = 0;
        heads.iter().flat_map(move |&[upper, end]| {
            let from = std::mem::replace(&mut start, usize::from(end));
            let lower = members[from..usize::from(end)].iter();
            lower.map(move |&lower| u32::from(upper) << 16 | u32::from(lower))
        })
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

const _: () = assert!(size_of::<Option<Filter>>() <= 24, "one per group");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(vehicles: impl IntoIterator<Item = u32>) -> (Filter, VehicleSet) {
        let set = VehicleSet::Some(vehicles.into_iter().collect());
        (Filter::from(set.clone()), set)
    }

    #[test]
    fn fifty_vehicles_of_a_large_fleet_take_little() {
        let (listed, _) = filter((0..50).map(|n| n * 1_999));
        assert!(matches!(listed.0, Kept::Listed(_)));
        assert_eq!(listed.heap_bytes(), 2 * (1 + 2 * 2 + 50));
        assert_eq!(listed.heap_bytes() as u64, listed_bytes(50, 2));
        let (none, _) = filter([]);
        assert_eq!((none.heap_bytes(), none.is_empty()), (0, true));
    }

    #[test]
    fn what_a_bitmap_keeps_in_less_stays_a_bitmap() {
        let (run, _) = filter(0..4_000);
        assert!(matches!(run.0, Kept::Bitmap(_)));
        let (many, _) = filter((0..5_000).map(|n| n * 2));
        assert!(matches!(many.0, Kept::Bitmap(_)));
        let whole = Filter::from(VehicleSet::Whole);
        assert!(whole.is_whole() && whole.contains(VehicleIndex(7)) && !whole.is_empty());
        assert_eq!((whole.len(), whole.to_set()), (None, VehicleSet::Whole));
        assert!(whole == VehicleSet::Whole && run != VehicleSet::Whole);
    }

    proptest! {
        #[test]
        fn a_filter_is_its_set(
            members in prop::collection::btree_set(prop_oneof![0_u32..300, 65_000..66_000_u32, any::<u32>()], 0..200),
            others in prop::collection::vec(prop_oneof![0_u32..300, 65_000..66_000_u32, any::<u32>()], 0..100),
        ) {
            let (kept, set) = filter(members.iter().copied());
            prop_assert_eq!(kept.len(), Some(members.len() as u64));
            prop_assert_eq!(kept.is_empty(), members.is_empty());
            for number in members.iter().chain(&others) {
                prop_assert_eq!(kept.contains(VehicleIndex(*number)), members.contains(number));
            }
            prop_assert_eq!(kept.to_set(), set.clone());
            prop_assert!(kept == set);
            let mut other = members.clone();
            if !other.remove(&others.first().copied().unwrap_or(1)) {
                other.insert(others.first().copied().unwrap_or(1));
            }
            prop_assert!(kept != filter(other).1);
        }
    }
}
