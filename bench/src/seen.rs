//! What one dashboard has received: per watched vehicle the newest sequence number and which of the 32 before it came.
//! Flat arrays, one cache line per update at most, since millions of updates a second pass here.

/// Per vehicle: eight bytes.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    last: u32,
    /// Bit i: the update `last - i` arrived.
    window: u32,
}

/// What a delivered update was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before; that many between were skipped.
    New {
        /// Updates that the newer one made obsolete.
        skipped: u32,
    },
    /// Older than one that came before it, and not delivered yet.
    Late,
    /// Delivered before.
    Duplicate,
}

// Above every sequence number, so that the hot path's one comparison fails for them.
const NOT_WATCHED: u32 = u32::MAX;
const UNNAMED: u32 = u32::MAX - 1;
const WINDOW: u32 = u32::BITS;

impl Seen {
    /// The newest sequence number that arrived; 0: none.
    pub fn last(&self) -> u32 {
        if self.last >= UNNAMED { 0 } else { self.last }
    }

    /// Whether the gateway has told this dashboard the vehicle's id.
    pub fn is_named(&self) -> bool {
        self.last != UNNAMED
    }

    /// Notes that the gateway has told the id; true the first time.
    pub fn name(&mut self) -> bool {
        let first = self.last == UNNAMED;
        if first {
            self.last = 0;
        }
        first
    }

    /// Takes a delivered update in.
    pub fn arrive(&mut self, sequence: u32) -> Arrival {
        if sequence > self.last {
            let step = sequence - self.last;
            self.window = self.window.checked_shl(step).unwrap_or(0) | 1;
            self.last = sequence;
            return Arrival::New { skipped: step - 1 };
        }
        let back = self.last - sequence;
        if back >= WINDOW {
            // Too old to remember. Both are faults; the wrong order is certain, the repetition is not.
            return Arrival::Late;
        }
        let bit = 1 << back;
        if self.window & bit != 0 {
            return Arrival::Duplicate;
        }
        self.window |= bit;
        Arrival::Late
    }
}

/// One dashboard's vehicles.
#[derive(Clone, Debug)]
pub enum Table {
    /// One entry for every vehicle of the fleet.
    Dense(Vec<Seen>),
    /// Open addressing: a power of two of slots, at most half of them taken.
    Sparse {
        /// (vehicle, state)
        slots: Vec<(u32, Seen)>,
        /// How far the hash is shifted down.
        shift: u32,
    },
}

const EMPTY: u32 = u32::MAX;

impl Table {
    /// A dashboard that watches all of `vehicles`.
    pub fn all(vehicles: u32) -> Self {
        Self::Dense(vec![
            Seen {
                last: UNNAMED,
                window: 0
            };
            vehicles as usize
        ])
    }

    /// A dashboard that watches `watched` out of `vehicles`.
    pub fn some(watched: &[u32], vehicles: u32) -> Self {
        let unnamed = Seen {
            last: UNNAMED,
            window: 0,
        };
        if watched.len() > vehicles as usize / 6 {
            let mut dense = vec![
                Seen {
                    last: NOT_WATCHED,
                    window: 0
                };
                vehicles as usize
            ];
            for &vehicle in watched {
                dense[vehicle as usize] = unnamed;
            }
            return Self::Dense(dense);
        }
        let size = (watched.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![(EMPTY, unnamed); size];
        let shift = u32::BITS - size.trailing_zeros();
        for &vehicle in watched {
            let mut at = home(vehicle, shift);
            while slots[at].0 != EMPTY {
                at = (at + 1) & (size - 1);
            }
            slots[at].0 = vehicle;
        }
        Self::Sparse { slots, shift }
    }

    /// The entry of `vehicle`; `None` if the filter does not allow it.
    pub fn get(&mut self, vehicle: u32) -> Option<&mut Seen> {
        match self {
            Self::Dense(entries) => entries
                .get_mut(vehicle as usize)
                .filter(|seen| seen.last != NOT_WATCHED),
            Self::Sparse { slots, shift } => {
                let mask = slots.len() - 1;
                let mut at = home(vehicle, *shift);
                loop {
                    match slots[at].0 {
                        EMPTY => return None,
                        found if found == vehicle => return Some(&mut slots[at].1),
                        _ => at = (at + 1) & mask,
                    }
                }
            }
        }
    }
}

fn home(vehicle: u32, shift: u32) -> usize {
    (vehicle.wrapping_mul(0x9e37_79b9) >> shift) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_watched_vehicles_have_an_entry() {
        for watched in [
            vec![],
            vec![3],
            vec![0, 5, 9, 77, 99],
            (0..90).collect::<Vec<_>>(),
        ] {
            let mut table = Table::some(&watched, 100);
            for vehicle in 0..120 {
                assert_eq!(
                    table.get(vehicle).is_some(),
                    watched.contains(&vehicle),
                    "{vehicle}"
                );
            }
        }
    }

    #[test]
    fn a_name_comes_once_and_an_update_before_it_still_counts() {
        let mut table = Table::all(1);
        let seen = table.get(0).unwrap();
        assert!(!seen.is_named() && seen.name() && !seen.name() && seen.is_named());
        assert_eq!(seen.arrive(3), Arrival::New { skipped: 2 });
    }

    proptest! {
        /// Against a set of everything that came, within the window.
        #[test]
        fn arrivals_match_a_naive_model(arrivals in proptest::collection::vec(1..40_u32, 1..80)) {
            let mut seen = Seen { last: 0, window: 0 };
            let mut model = BTreeSet::new();
            for sequence in arrivals {
                let newest = model.last().copied().unwrap_or(0);
                let expected = if sequence > newest {
                    Arrival::New { skipped: sequence - newest - 1 }
                } else if newest - sequence < WINDOW && model.contains(&sequence) {
                    Arrival::Duplicate
                } else {
                    Arrival::Late
                };
                prop_assert_eq!(seen.arrive(sequence), expected);
                model.insert(sequence);
                prop_assert_eq!(seen.last(), *model.last().unwrap());
            }
        }
    }
}
