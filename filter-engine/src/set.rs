//! A set of vehicles, or the symbol for all of them.

use std::hash::{Hash, Hasher};

use roaring::RoaringBitmap;

use crate::VehicleIndex;

/// Which vehicles of a fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum VehicleSet {
    /// The whole fleet and the vehicles that join it later: a symbol, not an enumeration.
    Whole,
    /// These vehicles, by [`VehicleIndex`].
    Some(RoaringBitmap),
}

impl VehicleSet {
    /// No vehicle at all.
    pub fn none() -> Self {
        Self::Some(RoaringBitmap::new())
    }

    /// True if no vehicle, present or future, is in the set.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(vehicles) if vehicles.is_empty())
    }

    /// True for the whole fleet.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }

    /// How many vehicles; `None` for the whole fleet, whose size is not known here.
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Whole => None,
            Self::Some(vehicles) => Some(vehicles.len()),
        }
    }

    /// True if `vehicle`, taken to be of this fleet, is in the set.
    pub fn contains(&self, vehicle: VehicleIndex) -> bool {
        match self {
            Self::Whole => true,
            Self::Some(vehicles) => vehicles.contains(vehicle.0),
        }
    }

    /// The vehicles that are in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Whole, set) | (set, Self::Whole) => set.clone(),
            (Self::Some(a), Self::Some(b)) => Self::Some(a & b),
        }
    }

    /// The vehicles of this set that are not in `other`. The whole fleet without some vehicles has no
    /// finite form, so it stays [`VehicleSet::Whole`]: never less than the true difference.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        match (self, other) {
            (_, Self::Whole) => Self::none(),
            (Self::Whole, Self::Some(_)) => Self::Whole,
            (Self::Some(a), Self::Some(b)) => Self::Some(a - b),
        }
    }
}

impl Default for VehicleSet {
    fn default() -> Self {
        Self::none()
    }
}

impl From<RoaringBitmap> for VehicleSet {
    fn from(vehicles: RoaringBitmap) -> Self {
        Self::Some(vehicles)
    }
}

impl FromIterator<VehicleIndex> for VehicleSet {
    fn from_iter<I: IntoIterator<Item = VehicleIndex>>(vehicles: I) -> Self {
        Self::Some(vehicles.into_iter().map(|vehicle| vehicle.0).collect())
    }
}

/// By content: bitmaps that are equal hash alike however their containers are laid out.
impl Hash for VehicleSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Whole => state.write_u64(u64::MAX),
            Self::Some(vehicles) => {
                state.write_u64(vehicles.len());
                vehicles.iter().for_each(|vehicle| state.write_u32(vehicle));
            }
        }
    }
}

/// Runs where they are smaller, and no spare capacity: a bitmap that was built or computed keeps what its
/// vectors grew to, a clone is exact.
pub(crate) fn bitmap_at_rest(mut bitmap: RoaringBitmap) -> RoaringBitmap {
    bitmap.optimize();
    bitmap.clone()
}

/// What a bitmap holds for each stretch of 65,536 numbers that it has members in.
pub(crate) const CONTAINER_BYTES: u64 = 40;
/// The members of such a stretch, where there are too many to list.
pub(crate) const BITSET_BYTES: u64 = 8_192;

/// Bytes on the heap of a bitmap at rest: its containers, and 2 bytes a value, 8 KiB of bits or 4 bytes a run. Counted from values, because the statistics' own byte figures take a value for 4 bytes.
pub(crate) fn bitmap_heap_bytes(bitmap: &RoaringBitmap) -> usize {
    let statistics = bitmap.statistics();
    let bytes = u64::from(statistics.n_containers) * CONTAINER_BYTES
        + u64::from(statistics.n_values_array_containers) * 2
        + u64::from(statistics.n_bitset_containers) * BITSET_BYTES
        + statistics.n_bytes_run_containers;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(vehicles: &[u32]) -> VehicleSet {
        VehicleSet::Some(vehicles.iter().collect())
    }

    #[test]
    fn and_and_minus_treat_the_whole_fleet_as_a_symbol() {
        let (whole, none) = (VehicleSet::Whole, VehicleSet::none());
        let cases = [
            // a, b, a & b, a - b
            (whole.clone(), whole.clone(), whole.clone(), none.clone()),
            (whole.clone(), set(&[1, 2]), set(&[1, 2]), whole.clone()),
            (set(&[1, 2]), whole.clone(), set(&[1, 2]), none.clone()),
            (set(&[1, 2]), set(&[2, 3]), set(&[2]), set(&[1])),
            (set(&[1]), none.clone(), none.clone(), set(&[1])),
            (none.clone(), whole, none.clone(), none.clone()),
        ];
        for (a, b, and, minus) in cases {
            assert_eq!(a.and(&b), and, "{a:?} & {b:?}");
            assert_eq!(a.minus(&b), minus, "{a:?} - {b:?}");
        }
    }

    #[test]
    fn equal_contents_are_equal_and_hash_alike_in_any_layout() {
        use std::hash::BuildHasher;
        let hasher = hashbrown::DefaultHashBuilder::default();
        let built: RoaringBitmap = (1..=6_000).collect();
        let runs = bitmap_at_rest(built.clone());
        assert!(bitmap_heap_bytes(&runs) < bitmap_heap_bytes(&built));
        let (built, runs) = (VehicleSet::Some(built), VehicleSet::Some(runs));
        assert_eq!(built, runs);
        assert_eq!(hasher.hash_one(&built), hasher.hash_one(&runs));
        assert_ne!(
            hasher.hash_one(VehicleSet::Whole),
            hasher.hash_one(VehicleSet::none())
        );
    }
}
