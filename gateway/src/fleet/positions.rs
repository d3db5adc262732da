//! The last-value table: one 32-byte slot per vehicle, written by the vehicle's shard, read by all, without locks.
//!
//! Each slot is a seqlock on plain atomics, so there is no data race and no `unsafe`: a writer makes the sequence
//! odd, stores, makes it even; a reader that saw it odd or changed reads again. Two writers (an old and a new
//! connection of one vehicle on two shards) take turns by compare-and-swap.

use std::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use longhaul_codec::Fix;
use longhaul_filter_engine::VehicleIndex;

use super::chunked::Chunked;

/// How often a vehicle's slot was written, modulo 2^31. 0: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version(pub u32);

impl Version {
    /// Whether `self` is later than `other`, across wrap-around.
    #[inline]
    #[must_use]
    pub fn is_after(self, other: Version) -> bool {
        (self.0.wrapping_sub(other.0) << 1) as i32 > 0
    }
}

/// How often to look for the end of a write before giving the core away.
const SPINS_MAX: u32 = 1_000;

#[derive(Debug, Default)]
struct Slot {
    /// Even: stable. Odd: being written. Half of it is the version.
    sequence: AtomicU32,
    speed_heading: AtomicU32,
    time_ms: AtomicU64,
    lat_lon: AtomicU64,
    /// When the gateway took it. The vehicle's own clock, `time_ms`, may be off.
    received_ms: AtomicU64,
}

/// What a vehicle's slot weighs.
pub const SLOT_BYTES: usize = size_of::<Slot>();

const _: () = assert!(SLOT_BYTES == 32, "memory per vehicle is part of the budget");

/// A vehicle's last position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Where it was, and when by its own clock.
    pub fix: Fix,
    /// Which write that was.
    pub version: Version,
    /// When the gateway took it: milliseconds since the Unix epoch.
    pub received_ms: u64,
}

/// Last positions by vehicle index.
#[derive(Debug)]
pub struct PositionTable {
    slots: Chunked<Slot>,
}

/// What [`PositionTable::write`] did with a fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is the vehicle's newest now.
    Newest,
    /// The table holds one as new or newer; nothing changed.
    Stale,
    /// The index is beyond the table.
    OutOfRange,
}

impl PositionTable {
    /// Room for indexes up to `vehicles_max`.
    pub(super) fn new(vehicles_max: u32) -> PositionTable {
        PositionTable {
            slots: Chunked::new(vehicles_max),
        }
    }

    /// Stores `fix` as `vehicle`'s last position unless the table holds one that is as new: time never goes back.
    /// `received_ms` is the gateway's clock, in milliseconds since the Unix epoch.
    #[inline]
    pub fn write(&self, vehicle: VehicleIndex, fix: &Fix, received_ms: u64) -> Written {
        let Some(slot) = self.slots.get_or_make(vehicle.0) else {
            return Written::OutOfRange;
        };
        let mut sequence = slot.sequence.load(Ordering::Relaxed);
        let mut spins = 0;
        loop {
            if sequence & 1 == 1 {
                wait(&mut spins);
                sequence = slot.sequence.load(Ordering::Relaxed);
                continue;
            }
            let odd = sequence.wrapping_add(1);
            match slot.sequence.compare_exchange_weak(
                sequence,
                odd,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(current) => sequence = current,
            }
        }
        let first = sequence == 0;
        if !first && fix.time_ms <= slot.time_ms.load(Ordering::Relaxed) {
            slot.sequence.store(sequence, Ordering::Release);
            return Written::Stale;
        }
        // Readers that see any of the stores below must also see the odd sequence above.
        fence(Ordering::Release);
        slot.time_ms.store(fix.time_ms, Ordering::Relaxed);
        slot.received_ms.store(received_ms, Ordering::Relaxed);
        slot.lat_lon
            .store(pack(fix.lat_e7, fix.lon_e7), Ordering::Relaxed);
        slot.speed_heading.store(
            u32::from(fix.speed_cm_s) << 16 | u32::from(fix.heading_cdeg),
            Ordering::Relaxed,
        );
        let next = match sequence.wrapping_add(2) {
            0 => 2, // 0 means "never written"
            next => next,
        };
        slot.sequence.store(next, Ordering::Release);
        Written::Newest
    }

    /// The last position; `None` if the vehicle never reported.
    #[inline]
    #[must_use]
    pub fn read(&self, vehicle: VehicleIndex) -> Option<Known> {
        let slot = self.slots.get(vehicle.0)?;
        let mut spins = 0;
        loop {
            let before = slot.sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before & 1 == 0 {
                let time_ms = slot.time_ms.load(Ordering::Relaxed);
                let lat_lon = slot.lat_lon.load(Ordering::Relaxed);
                let speed_heading = slot.speed_heading.load(Ordering::Relaxed);
                let received_ms = slot.received_ms.load(Ordering::Relaxed);
                fence(Ordering::Acquire);
                if slot.sequence.load(Ordering::Relaxed) == before {
                    let (lat_e7, lon_e7) = unpack(lat_lon);
                    let fix = Fix {
                        time_ms,
                        vehicle: vehicle.0,
                        lat_e7,
                        lon_e7,
                        speed_cm_s: (speed_heading >> 16) as u16,
                        heading_cdeg: speed_heading as u16,
                    };
                    return Some(Known {
                        fix,
                        version: Version(before / 2),
                        received_ms,
                    });
                }
            }
            wait(&mut spins);
        }
    }

    /// The version alone: which write of the vehicle the table holds.
    #[inline]
    #[must_use]
    pub fn version(&self, vehicle: VehicleIndex) -> Version {
        Version(
            self.slots
                .get(vehicle.0)
                .map_or(0, |slot| slot.sequence.load(Ordering::Acquire) / 2),
        )
    }
}

/// Waits for a writer. It needs a few nanoseconds, unless it has lost its core in the middle: then it is given one.
fn wait(spins: &mut u32) {
    *spins += 1;
    if *spins < SPINS_MAX {
        spin_loop();
    } else {
        std::thread::yield_now();
    }
}

fn pack(lat: i32, lon: i32) -> u64 {
    u64::from(lat as u32) << 32 | u64::from(lon as u32)
}

fn unpack(lat_lon: u64) -> (i32, i32) {
    ((lat_lon >> 32) as u32 as i32, lat_lon as u32 as i32)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn fix(time_ms: u64, n: i32) -> Fix {
        Fix {
            time_ms,
            vehicle: 7,
            lat_e7: n,
            lon_e7: -n,
            speed_cm_s: n as u16,
            heading_cdeg: n as u16,
        }
    }

    #[test]
    fn keeps_the_newest_and_refuses_to_go_back() {
        let table = PositionTable::new(100);
        let seven = VehicleIndex(7);
        assert_eq!(table.read(seven), None);
        assert_eq!(table.version(seven), Version(0));
        assert_eq!(table.write(seven, &fix(10, 1), 5), Written::Newest);
        assert_eq!(
            table.read(seven),
            Some(Known {
                fix: fix(10, 1),
                version: Version(1),
                received_ms: 5
            })
        );
        assert_eq!(
            table.write(seven, &fix(10, 2), 5),
            Written::Stale,
            "the same instant is not newer"
        );
        assert_eq!(table.write(seven, &fix(9, 2), 5), Written::Stale);
        assert_eq!(table.write(seven, &fix(11, -3), 5), Written::Newest);
        assert_eq!(
            table.read(seven).map(|known| (known.fix, known.version)),
            Some((fix(11, -3), Version(2)))
        );
        assert_eq!(
            table.write(VehicleIndex(u32::MAX), &fix(1, 1), 5),
            Written::OutOfRange
        );
        assert_eq!(table.read(VehicleIndex(8)), None);
    }

    #[test]
    fn versions_compare_across_the_wrap() {
        let top = Version((u32::MAX - 1) / 2);
        assert!(Version(1).is_after(top));
        assert!(!top.is_after(Version(1)));
        assert!(!top.is_after(top));
    }

    /// Readers never see half of one write and half of another, with two writers at work.
    #[test]
    fn reads_are_never_torn() {
        let table = Arc::new(PositionTable::new(100));
        let seven = VehicleIndex(7);
        let writers: Vec<_> = (0..2u64)
            .map(|odd| {
                let table = Arc::clone(&table);
                std::thread::spawn(move || {
                    for n in 1..50_000u64 {
                        table.write(seven, &fix(n * 2 + odd, (n * 2 + odd) as i32), 5);
                    }
                })
            })
            .collect();
        let (mut last_time, mut last_version) = (0, Version(0));
        while !writers.iter().all(std::thread::JoinHandle::is_finished) {
            if let Some(Known {
                fix: read, version, ..
            }) = table.read(seven)
            {
                assert_eq!(read, fix(read.time_ms, read.time_ms as i32), "torn");
                assert!(
                    read.time_ms >= last_time && !last_version.is_after(version),
                    "went back"
                );
                (last_time, last_version) = (read.time_ms, version);
            }
        }
        for writer in writers {
            writer.join().expect("writer");
        }
        assert_eq!(
            table.read(seven).expect("written").fix.time_ms,
            49_999 * 2 + 1
        );
    }
}
