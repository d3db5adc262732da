//! A trace as a schedule: every row due at its own time, divided by the speed.

use std::collections::HashMap;
use std::time::Duration;

use longhaul_codec::Fix;

use crate::schedule::{Identity, Plan, Update};
use crate::trace::{Row, Trace};

/// Which part of a trace is replayed, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt {
    /// 1: real time.
    pub speed: f64,
    /// Rows before this time of the trace are left out.
    pub from: Duration,
    /// The replay ends after this time (of the replay, not of the trace).
    pub length: Option<Duration>,
}

struct Planned {
    due_ns: u64,
    /// Milliseconds since the start of the run. Strictly increasing per vehicle.
    offset_ms: u64,
    row: Row,
}

/// The schedule of a replay.
pub struct Timeline {
    ids: Vec<String>,
    numbers: HashMap<String, u32>,
    /// In order of due time: vehicle and sequence number.
    order: Vec<(u32, u32)>,
    /// By vehicle, then by sequence number.
    planned: Vec<Planned>,
    /// Where each vehicle begins in `planned`; one more at the end.
    first: Vec<usize>,
}

impl Timeline {
    /// All of the trace's vehicles take part, also those that report only outside the excerpt.
    pub fn new(trace: Trace, excerpt: Excerpt) -> Self {
        let from_ms = excerpt.from.as_millis() as u64;
        let due = |row: &Row| ((row.t_ms - from_ms) as f64 * 1e6 / excerpt.speed) as u64;
        let length_ns = excerpt
            .length
            .map_or(u64::MAX, |length| length.as_nanos() as u64);
        let rows: Vec<Row> = trace
            .rows
            .into_iter()
            .filter(|row| row.t_ms >= from_ms && due(row) <= length_ns)
            .collect();
        let mut per_vehicle: Vec<Vec<Planned>> = trace.ids.iter().map(|_| Vec::new()).collect();
        let mut order = Vec::with_capacity(rows.len());
        for row in rows {
            let of_vehicle = &mut per_vehicle[row.vehicle as usize];
            let due_ns = due(&row);
            let earliest = of_vehicle.last().map_or(0, |last| last.offset_ms + 1);
            let offset_ms = (due_ns / 1_000_000).max(earliest);
            of_vehicle.push(Planned {
                due_ns,
                offset_ms,
                row,
            });
            order.push((row.vehicle, of_vehicle.len() as u32));
        }
        let mut first = vec![0];
        let mut planned = Vec::with_capacity(order.len());
        for of_vehicle in per_vehicle {
            planned.extend(of_vehicle);
            first.push(planned.len());
        }
        let numbers = trace.ids.iter().cloned().zip(0..).collect();
        Self {
            ids: trace.ids,
            numbers,
            order,
            planned,
            first,
        }
    }

    fn of(&self, vehicle: u32) -> &[Planned] {
        &self.planned[self.first[vehicle as usize]..self.first[vehicle as usize + 1]]
    }
}

impl Plan for Timeline {
    fn vehicles(&self) -> u32 {
        self.ids.len() as u32
    }

    fn id(&self, vehicle: u32) -> String {
        self.ids[vehicle as usize].clone()
    }

    fn vehicle_of(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    fn update(&self, number: u64) -> Option<Update> {
        let &(vehicle, sequence) = self.order.get(usize::try_from(number).ok()?)?;
        Some(Update {
            due_ns: self.due_ns(vehicle, sequence),
            vehicle,
            sequence,
        })
    }

    fn planned(&self, vehicle: u32) -> u32 {
        self.of(vehicle).len() as u32
    }

    fn due_ns(&self, vehicle: u32, sequence: u32) -> u64 {
        self.of(vehicle)[sequence as usize - 1].due_ns
    }

    fn fix(&self, vehicle: u32, sequence: u32, wall_ms: u64) -> Fix {
        let Planned { offset_ms, row, .. } = &self.of(vehicle)[sequence as usize - 1];
        Fix {
            time_ms: wall_ms + offset_ms,
            vehicle: 0,
            lat_e7: row.lat_e7,
            lon_e7: row.lon_e7,
            speed_cm_s: row.speed_cm_s,
            heading_cdeg: row.heading_cdeg,
        }
    }

    fn identify(&self, vehicle: u32, last: u32, fix: &Fix, wall_ms: u64) -> Identity {
        let Some(offset_ms) = fix.time_ms.checked_sub(wall_ms) else {
            return Identity::BeforeRun;
        };
        let planned = self.of(vehicle);
        // Nearly always it is the one after the last.
        let at = match planned.get(last as usize) {
            Some(next) if next.offset_ms == offset_ms => last as usize,
            _ => match planned.binary_search_by_key(&offset_ms, |planned| planned.offset_ms) {
                Ok(at) => at,
                Err(_) => return Identity::Unknown,
            },
        };
        let row = &planned[at].row;
        let intact = (row.lat_e7, row.lon_e7, row.speed_cm_s, row.heading_cdeg)
            == (fix.lat_e7, fix.lon_e7, fix.speed_cm_s, fix.heading_cdeg);
        if intact {
            Identity::Sequence(at as u32 + 1)
        } else {
            Identity::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::parse;

    const WALL_MS: u64 = 1_790_000_000_000;
    const TRACE: &str = "t_ms,vehicle,lat,lon,speed_mps,heading_deg\n\
        1000,a,1,1,1,1\n1000,b,2,1,1,1\n6000,a,1.1,1,1,1\n6001,a,1.2,1,1,1\n9000,b,2.1,1,1,1\n";

    fn timeline(speed: f64, from: u64, length: Option<u64>) -> Timeline {
        let (from, length) = (
            Duration::from_millis(from),
            length.map(Duration::from_millis),
        );
        Timeline::new(
            parse(TRACE.as_bytes()).unwrap(),
            Excerpt {
                speed,
                from,
                length,
            },
        )
    }

    #[test]
    fn rows_are_due_at_their_time_divided_by_the_speed() {
        let plan = timeline(2.0, 0, None);
        let updates: Vec<Update> = (0..).map_while(|n| plan.update(n)).collect();
        let due: Vec<u64> = updates.iter().map(|update| update.due_ns / 1_000).collect();
        assert_eq!(due, [500_000, 500_000, 3_000_000, 3_000_500, 4_500_000]);
        assert_eq!((updates[3].vehicle, updates[3].sequence), (0, 3));
        assert_eq!((plan.planned(0), plan.planned(1)), (3, 2));
    }

    #[test]
    fn an_excerpt_keeps_all_vehicles_and_only_its_rows() {
        let plan = timeline(1.0, 5_000, Some(2_000));
        let updates: Vec<Update> = (0..).map_while(|n| plan.update(n)).collect();
        assert_eq!(updates.len(), 2);
        assert_eq!(updates[0].due_ns, 1_000_000_000);
        assert_eq!((plan.vehicles(), plan.planned(1)), (2, 0));
    }

    #[test]
    fn times_stay_distinct_at_any_speed_and_lead_back_to_the_row() {
        let plan = timeline(1_000.0, 0, None);
        let fixes: Vec<Fix> = (1..=3)
            .map(|sequence| plan.fix(0, sequence, WALL_MS))
            .collect();
        assert!(fixes.is_sorted_by(|a, b| a.time_ms < b.time_ms));
        for (fix, sequence) in fixes.iter().zip(1..) {
            for last in 0..4 {
                assert_eq!(
                    plan.identify(0, last, fix, WALL_MS),
                    Identity::Sequence(sequence)
                );
            }
            let moved = Fix {
                lat_e7: fix.lat_e7 + 1,
                ..*fix
            };
            assert_eq!(plan.identify(0, 0, &moved, WALL_MS), Identity::Unknown);
        }
        let never = Fix {
            time_ms: WALL_MS + 100,
            ..fixes[0]
        };
        assert_eq!(plan.identify(0, 0, &never, WALL_MS), Identity::Unknown);
        let before = Fix {
            time_ms: WALL_MS - 1,
            ..fixes[0]
        };
        assert_eq!(plan.identify(0, 0, &before, WALL_MS), Identity::BeforeRun);
    }
}
