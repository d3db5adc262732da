//! What a client asked for, apart from what it may see.

use roaring::RoaringBitmap;

use crate::VehicleSet;
use crate::set::{bitmap_at_rest, bitmap_heap_bytes};

/// A client's wish. It may ask for the whole fleet and for single vehicles; when it withdraws the whole
/// fleet, the single vehicles stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The whole fleet, and the vehicles that join it later.
    pub whole: bool,
    /// Single vehicles, by [`VehicleIndex`](crate::VehicleIndex).
    pub vehicles: RoaringBitmap,
}

impl Wanted {
    /// The effective filter: granted ∧ wanted. A wish can narrow a grant and never widen it.
    #[must_use]
    pub fn within(&self, granted: &VehicleSet) -> VehicleSet {
        match (self.whole, granted) {
            (true, granted) => granted.clone(),
            (false, VehicleSet::Whole) => VehicleSet::Some(self.vehicles.clone()),
            (false, VehicleSet::Some(granted)) => VehicleSet::Some(&self.vehicles & granted),
        }
    }

    /// True if this wish can be read back from the filter that came out of it, so it need not be kept.
    pub(crate) fn is_told_by(&self, effective: &VehicleSet) -> bool {
        match effective {
            VehicleSet::Whole => self.whole && self.vehicles.is_empty(),
            VehicleSet::Some(vehicles) => !self.whole && self.vehicles == *vehicles,
        }
    }

    pub(crate) fn at_rest(self) -> Self {
        Self {
            whole: self.whole,
            vehicles: bitmap_at_rest(self.vehicles),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        bitmap_heap_bytes(&self.vehicles)
    }
}

impl From<VehicleSet> for Wanted {
    fn from(set: VehicleSet) -> Self {
        match set {
            VehicleSet::Whole => Self {
                whole: true,
                vehicles: RoaringBitmap::new(),
            },
            VehicleSet::Some(vehicles) => Self {
                whole: false,
                vehicles,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_narrows_a_grant_and_never_widens_it() {
        let some = |vehicles: &[u32]| VehicleSet::Some(vehicles.iter().collect());
        let wish = |whole, vehicles: &[u32]| Wanted {
            whole,
            vehicles: vehicles.iter().collect(),
        };
        let cases = [
            // wanted, granted, effective, told by it
            (wish(true, &[]), VehicleSet::Whole, VehicleSet::Whole, true),
            (
                wish(true, &[7]),
                VehicleSet::Whole,
                VehicleSet::Whole,
                false,
            ),
            (wish(true, &[]), some(&[1, 2]), some(&[1, 2]), false),
            (wish(false, &[2, 3]), VehicleSet::Whole, some(&[2, 3]), true),
            (wish(false, &[2]), some(&[1, 2]), some(&[2]), true),
            (wish(false, &[2, 3]), some(&[1, 2]), some(&[2]), false),
            (wish(false, &[3]), some(&[]), some(&[]), false),
        ];
        for (wanted, granted, effective, told) in cases {
            assert_eq!(wanted.within(&granted), effective, "{wanted:?} {granted:?}");
            assert_eq!(
                wanted.is_told_by(&effective),
                told,
                "{wanted:?} {granted:?}"
            );
        }
    }
}
