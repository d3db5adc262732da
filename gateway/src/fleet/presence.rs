//! Whether each vehicle is connected, and reports; since when; and which connection is its own.
//!
//! A vehicle has one connection. A newer one takes over: the holder changes, and the state does not, so nobody sees it
//! go and come back. What the older connection reports of itself from then on is ignored, because it is no longer the
//! holder. Changes are rare (connect, disconnect, silence), so they take one of a few short locks; reading takes none.

use std::{
    num::NonZeroU64,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use longhaul_codec::PresenceState;
use longhaul_filter_engine::VehicleIndex;

use super::chunked::Chunked;

/// Locks that changes take turns at.
const STRIPES: usize = 64;
/// Bits of a slot that hold the state, below the time.
const STATE_BITS: u32 = 2;

/// A connection, as the shard that has it names it. Opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holder(pub NonZeroU64);

/// A vehicle's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Presence {
    /// Connected or not, reporting or not.
    pub state: PresenceState,
    /// Since when: milliseconds since the Unix epoch. 0: it never was in another.
    pub since_ms: u64,
}

impl Presence {
    fn pack(self) -> u64 {
        self.since_ms << STATE_BITS | self.state as u64
    }

    fn unpack(bits: u64) -> Presence {
        let state = match bits & ((1 << STATE_BITS) - 1) {
            1 => PresenceState::Online,
            2 => PresenceState::Stale,
            _ => PresenceState::Offline,
        };
        Presence {
            state,
            since_ms: bits >> STATE_BITS,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// [`Presence::pack`].
    presence: AtomicU64,
    /// The [`Holder`], or 0. Written and read under a lock only.
    holder: AtomicU64,
}

/// What a vehicle's slot weighs.
pub const SLOT_BYTES: usize = size_of::<Slot>();

const _: () = assert!(SLOT_BYTES == 16, "memory per vehicle is part of the budget");

/// What a new connection of a vehicle meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    /// The connection that had the vehicle before, which is to be closed.
    pub previous: Option<Holder>,
    /// The state changed.
    pub changed: bool,
}

/// The states of all vehicles.
#[derive(Debug)]
pub struct PresenceTable {
    slots: Chunked<Slot>,
    stripes: [Mutex<()>; STRIPES],
}

impl PresenceTable {
    /// Room for indexes up to `vehicles_max`; everybody is offline.
    pub(super) fn new(vehicles_max: u32) -> PresenceTable {
        PresenceTable {
            slots: Chunked::new(vehicles_max),
            stripes: [const { Mutex::new(()) }; STRIPES],
        }
    }

    /// A vehicle's state.
    #[must_use]
    pub fn read(&self, vehicle: VehicleIndex) -> Presence {
        self.slots
            .get(vehicle.0)
            .map_or_else(Presence::default, |slot| {
                Presence::unpack(slot.presence.load(Ordering::Acquire))
            })
    }

    /// A vehicle has connected: it is online from now on, and `holder` is its connection.
    pub fn connect(&self, vehicle: VehicleIndex, holder: Holder, now_ms: u64) -> Connected {
        self.change(vehicle, |slot| {
            let previous = slot.holder.swap(holder.0.get(), Ordering::Relaxed);
            Connected {
                previous: NonZeroU64::new(previous).map(Holder),
                changed: enter(slot, PresenceState::Online, now_ms),
            }
        })
        .unwrap_or(Connected {
            previous: None,
            changed: false,
        })
    }

    /// A connection has ended. Returns whether that changed the vehicle's state: not if another one has taken over.
    pub fn disconnect(&self, vehicle: VehicleIndex, holder: Holder, now_ms: u64) -> bool {
        self.change(vehicle, |slot| {
            if !holds(slot, holder) {
                return false;
            }
            slot.holder.store(0, Ordering::Relaxed);
            enter(slot, PresenceState::Offline, now_ms)
        })
        .unwrap_or(false)
    }

    /// A connection has had no position for too long, or has one again. Returns whether the state changed.
    pub fn set_stale(
        &self,
        vehicle: VehicleIndex,
        holder: Holder,
        stale: bool,
        now_ms: u64,
    ) -> bool {
        let state = if stale {
            PresenceState::Stale
        } else {
            PresenceState::Online
        };
        self.change(vehicle, |slot| {
            holds(slot, holder) && enter(slot, state, now_ms)
        })
        .unwrap_or(false)
    }

    /// What another process, or an earlier one, knew. A vehicle that is connected here knows better. Returns whether
    /// the state changed.
    pub fn restore(&self, vehicle: VehicleIndex, presence: Presence) -> bool {
        self.change(vehicle, |slot| {
            slot.holder.load(Ordering::Relaxed) == 0
                && slot.presence.swap(presence.pack(), Ordering::AcqRel) != presence.pack()
        })
        .unwrap_or(false)
    }

    /// A vehicle that was expected to come has not. Returns whether the state changed.
    pub fn give_up(&self, vehicle: VehicleIndex, now_ms: u64) -> bool {
        self.change(vehicle, |slot| {
            slot.holder.load(Ordering::Relaxed) == 0 && enter(slot, PresenceState::Offline, now_ms)
        })
        .unwrap_or(false)
    }

    fn change<R>(&self, vehicle: VehicleIndex, change: impl FnOnce(&Slot) -> R) -> Option<R> {
        let slot = self.slots.get_or_make(vehicle.0)?;
        let _turn = self.turn(vehicle);
        Some(change(slot))
    }

    fn turn(&self, vehicle: VehicleIndex) -> MutexGuard<'_, ()> {
        // It guards no data of its own, so there is nothing that a panic could have left half done.
        self.stripes[vehicle.0 as usize % STRIPES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds(slot: &Slot, holder: Holder) -> bool {
    slot.holder.load(Ordering::Relaxed) == holder.0.get()
}

/// Changes the state, if it is another.
fn enter(slot: &Slot, state: PresenceState, now_ms: u64) -> bool {
    let before = Presence::unpack(slot.presence.load(Ordering::Relaxed));
    if before.state == state {
        return false;
    }
    let after = Presence {
        state,
        since_ms: now_ms,
    };
    slot.presence.store(after.pack(), Ordering::Release);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUCK: VehicleIndex = VehicleIndex(7);

    fn holder(n: u64) -> Holder {
        Holder(NonZeroU64::new(n).expect("not 0"))
    }

    fn state(table: &PresenceTable) -> (PresenceState, u64) {
        let Presence { state, since_ms } = table.read(TRUCK);
        (state, since_ms)
    }

    #[test]
    fn a_vehicle_comes_falls_silent_speaks_and_goes() {
        let table = PresenceTable::new(10);
        assert_eq!(state(&table), (PresenceState::Offline, 0), "never seen");
        let came = table.connect(TRUCK, holder(1), 10);
        assert_eq!(
            came,
            Connected {
                previous: None,
                changed: true
            }
        );
        assert_eq!(state(&table), (PresenceState::Online, 10));
        assert!(table.set_stale(TRUCK, holder(1), true, 20));
        assert!(
            !table.set_stale(TRUCK, holder(1), true, 25),
            "it was already"
        );
        assert_eq!(state(&table), (PresenceState::Stale, 20));
        assert!(table.set_stale(TRUCK, holder(1), false, 30));
        assert_eq!(state(&table), (PresenceState::Online, 30));
        assert!(table.disconnect(TRUCK, holder(1), 40));
        assert_eq!(state(&table), (PresenceState::Offline, 40));
        assert!(!table.disconnect(TRUCK, holder(1), 50), "once");
    }

    #[test]
    fn a_newer_connection_takes_over_without_a_flap() {
        let table = PresenceTable::new(10);
        table.connect(TRUCK, holder(1), 10);
        let took = table.connect(TRUCK, holder(2), 20);
        assert_eq!(took.previous, Some(holder(1)));
        assert!(!took.changed);
        assert!(!table.set_stale(TRUCK, holder(1), true, 25), "not its own");
        assert!(!table.disconnect(TRUCK, holder(1), 30), "not its own");
        assert_eq!(state(&table), (PresenceState::Online, 10));
        assert!(table.disconnect(TRUCK, holder(2), 40));
    }

    #[test]
    fn what_is_restored_yields_to_a_connection() {
        let table = PresenceTable::new(10);
        let online = Presence {
            state: PresenceState::Online,
            since_ms: 5,
        };
        assert!(table.restore(TRUCK, online));
        assert!(!table.connect(TRUCK, holder(1), 10).changed);
        assert_eq!(state(&table), (PresenceState::Online, 5), "no flap");
        assert!(!table.restore(TRUCK, Presence::default()));
        assert!(!table.give_up(TRUCK, 20), "it came");
        table.disconnect(TRUCK, holder(1), 30);
        table.restore(TRUCK, online);
        assert!(table.give_up(TRUCK, 40));
        assert_eq!(state(&table), (PresenceState::Offline, 40));
        assert!(
            !table.restore(VehicleIndex(u32::MAX), online),
            "out of range is nobody"
        );
    }
}
