//! Who comes and goes when in a day of a fleet: fixed by the seed before the run begins. Knows no socket and no clock.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::curve::{HOURS, above};
use crate::audience::Watch;

/// When the network of some cells fails, and for how long, in hours.
pub const OUTAGE: Range<f64> = 18.5..18.9;
/// Share of the vehicles on the road that are in those cells.
const OUTAGE_SHARE: f64 = 1.0 / 3.0;
/// Chance of a vehicle to drive into a tunnel, for each hour.
const TUNNEL_SHARE: f64 = 0.05;
/// How long a tunnel is, in hours.
const TUNNEL_HOURS: Range<f64> = 0.2..0.6;
/// From one coming or going of a vehicle to the next, at least, in hours: nobody is gone before it has come.
const BETWEEN_HOURS: f64 = 0.2;
/// Shifts of dashboards, in hours, in turn.
const SHIFTS: [Range<f64>; 4] = [0.0..24.0, 6.0..14.0, 8.5..17.0, 14.0..22.0];
/// How far a dashboard may be off its shift, in hours.
const PUNCTUALITY_HOURS: f64 = 0.4;
/// What dashboards watch, in turn.
const WATCHES: [Watch; 10] = [
    Watch::All,
    Watch::Count(50),
    Watch::Count(200),
    Watch::Count(50),
    Watch::Count(50),
    Watch::Count(200),
    Watch::Count(50),
    Watch::Count(200),
    Watch::Count(50),
    Watch::Count(50),
];

/// A day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Day {
    /// Vehicles of the fleet.
    pub vehicles: u32,
    /// Dashboards of all shifts.
    pub dashboards: u32,
    /// Updates a second that there would be if all vehicles were on the road.
    pub rate: u32,
    /// Seconds of midnight before the day.
    pub warm_up: f64,
    /// Seconds of the day.
    pub seconds: f64,
    /// Seed of who drives when.
    pub seed: u64,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Comes, or comes back.
    Come,
    /// Leaves politely.
    Leave,
    /// Its connection is cut.
    Tunnel,
    /// Its connection is cut, together with many others.
    Outage,
    /// Comes back together with many others.
    Back,
}

/// A line of the day's agenda.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the load began; 0: before it begins.
    pub due_ns: u64,
    /// Vehicles by number, then dashboards.
    pub client: usize,
    /// What happens.
    pub what: Move,
}

impl Day {
    /// What each of so many dashboards watches.
    pub fn watches(dashboards: u32) -> Vec<Watch> {
        WATCHES
            .iter()
            .copied()
            .cycle()
            .take(dashboards as usize)
            .collect()
    }

    /// Of the whole load, midnight before the day included.
    pub fn total_seconds(&self) -> f64 {
        self.warm_up + self.seconds
    }

    /// When it is this hour (0 to 24): nanoseconds since the load began.
    pub fn at_ns(&self, hour: f64) -> u64 {
        ((self.warm_up + hour * self.seconds / HOURS as f64) * 1e9) as u64
    }

    /// All comings and goings, in order of time; those at 0 are before the load begins.
    pub fn agenda(&self) -> Vec<Entry> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut ranks: Vec<u32> = (0..self.vehicles).collect();
        rng.shuffle(&mut ranks);
        let mut entries = Vec::new();
        for (vehicle, rank) in ranks.into_iter().enumerate() {
            let threshold = (f64::from(rank) + 0.5) / f64::from(self.vehicles);
            let in_cells = rng.f64() < OUTAGE_SHARE;
            for drive in above(threshold) {
                self.drive(vehicle, drive, in_cells, &mut rng, &mut entries);
            }
        }
        for dashboard in 0..self.dashboards as usize {
            let shift = &SHIFTS[dashboard % SHIFTS.len()];
            let off = (rng.f64() * 2.0 - 1.0) * PUNCTUALITY_HOURS;
            let client = self.vehicles as usize + dashboard;
            if shift.start <= 0.0 {
                self.note(&mut entries, 0.0, client, Move::Come);
            } else {
                self.note(&mut entries, shift.start + off, client, Move::Come);
                self.note(&mut entries, shift.end + off, client, Move::Leave);
            }
        }
        entries.sort_by_key(|entry| (entry.due_ns, entry.client));
        entries
    }

    fn drive(
        &self,
        vehicle: usize,
        (from, to): (f64, f64),
        in_cells: bool,
        rng: &mut fastrand::Rng,
        entries: &mut Vec<Entry>,
    ) {
        self.note(entries, from, vehicle, Move::Come);
        let out =
            in_cells && from + BETWEEN_HOURS < OUTAGE.start && OUTAGE.end + BETWEEN_HOURS < to;
        if out {
            self.note(entries, OUTAGE.start, vehicle, Move::Outage);
            self.note(entries, OUTAGE.end, vehicle, Move::Back);
        }
        let mut free = from + BETWEEN_HOURS;
        for hour in from as usize..HOURS {
            let (chance, start) = (rng.f64(), hour as f64 + rng.f64());
            let end =
                start + TUNNEL_HOURS.start + rng.f64() * (TUNNEL_HOURS.end - TUNNEL_HOURS.start);
            let clear =
                !out || end + BETWEEN_HOURS < OUTAGE.start || start > OUTAGE.end + BETWEEN_HOURS;
            if chance < TUNNEL_SHARE && start > free && end + BETWEEN_HOURS < to && clear {
                self.note(entries, start, vehicle, Move::Tunnel);
                self.note(entries, end, vehicle, Move::Come);
                free = end + BETWEEN_HOURS;
            }
        }
        if to < HOURS as f64 {
            self.note(entries, to, vehicle, Move::Leave);
        }
    }

    fn note(&self, entries: &mut Vec<Entry>, hour: f64, client: usize, what: Move) {
        let due_ns = if hour <= 0.0 { 0 } else { self.at_ns(hour) };
        entries.push(Entry {
            due_ns,
            client,
            what,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixed::curve::share;

    fn day(vehicles: u32) -> Day {
        Day {
            vehicles,
            dashboards: 20,
            rate: 1_000,
            warm_up: 1.0,
            seconds: 24.0,
            seed: 7,
        }
    }

    #[test]
    fn everybody_comes_before_it_goes_and_the_seed_says_when() {
        let agenda = day(500).agenda();
        assert!(agenda.is_sorted_by_key(|entry| entry.due_ns));
        assert_eq!(agenda, day(500).agenda());
        assert_ne!(
            agenda,
            Day {
                seed: 8,
                ..day(500)
            }
            .agenda()
        );
        for client in 0..520 {
            let moves: Vec<_> = agenda
                .iter()
                .filter(|entry| entry.client == client)
                .collect();
            for (at, entry) in moves.iter().enumerate() {
                let comes = matches!(entry.what, Move::Come | Move::Back);
                assert_eq!(comes, at % 2 == 0, "{client}: {moves:?}");
            }
            for pair in moves.windows(2) {
                assert!(pair[0].due_ns < pair[1].due_ns, "{client}: {moves:?}");
                let back = pair[1].what == Move::Back;
                assert_eq!(pair[0].what == Move::Outage, back, "{client}: {moves:?}");
            }
        }
    }

    #[test]
    fn a_third_of_those_on_the_road_drop_and_all_of_them_return() {
        let agenda = day(3_000).agenda();
        let count = |what| agenda.iter().filter(|entry| entry.what == what).count();
        let on_the_road = 3_000.0 * share(OUTAGE.start);
        let dropped = count(Move::Outage) as f64;
        assert!((0.25..0.36).contains(&(dropped / on_the_road)), "{dropped}");
        assert_eq!(count(Move::Outage), count(Move::Back));
        assert!(count(Move::Tunnel) > 300);
    }

    #[test]
    fn dashboards_come_for_their_shifts_and_some_stay() {
        let agenda = day(10).agenda();
        let of = |what| {
            let dashboards = agenda
                .iter()
                .filter(move |e| e.client >= 10 && e.what == what);
            dashboards.collect::<Vec<_>>()
        };
        assert_eq!((of(Move::Come).len(), of(Move::Leave).len()), (20, 15));
        assert_eq!(
            of(Move::Come)
                .iter()
                .filter(|entry| entry.due_ns == 0)
                .count(),
            5
        );
        for watch in WATCHES {
            assert!(Day::watches(10).contains(&watch));
        }
    }
}
