//! Open loop: what is sent when is fixed before the run begins and does not wait for the gateway, so a gateway that
//! falls behind cannot slow the load down and hide its latency.

use longhaul_codec::Fix;

/// One update of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// When it is due: nanoseconds since the start of the run.
    pub due_ns: u64,
    /// Who sends it.
    pub vehicle: u32,
    /// The vehicle's own count, from 1.
    pub sequence: u32,
}

/// Which update a delivered fix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The update with this sequence number, every field of it intact.
    Sequence(u32),
    /// Older than this run: a last known position from before.
    BeforeRun,
    /// Nothing that the schedule contains.
    Unknown,
}

/// Everything that will be sent in a run. All of it is computable by every process, so that the checker needs no record
/// of what was sent, and latency is exact from the due instant even when another process did the sending.
pub trait Plan {
    /// How many vehicles there are, numbered from 0.
    fn vehicles(&self) -> u32;
    /// The id under which a vehicle connects.
    fn id(&self, vehicle: u32) -> String;
    /// The vehicle with this id.
    fn vehicle_of(&self, id: &str) -> Option<u32>;
    /// Update `number` (from 0) in the order of due times; `None` after the last.
    fn update(&self, number: u64) -> Option<Update>;
    /// How many updates `vehicle` sends.
    fn planned(&self, vehicle: u32) -> u32;
    /// When an update is due: nanoseconds since the start of the run.
    fn due_ns(&self, vehicle: u32, sequence: u32) -> u64;
    /// What an update says, in a run that began at `wall_ms`. Times strictly increase per vehicle.
    fn fix(&self, vehicle: u32, sequence: u32, wall_ms: u64) -> Fix;
    /// Recognises a delivered fix. `last` is the newest sequence number seen before it, a hint.
    fn identify(&self, vehicle: u32, last: u32, fix: &Fix, wall_ms: u64) -> Identity;
    /// How many updates of `vehicle` are among the first `sends` of the run. Asked only for dashboards that come and go,
    /// which no run has where everything is fixed before.
    fn sent_by(&self, _vehicle: u32, _sends: u64) -> u32 {
        0
    }
}

/// `vehicles` that report in turn, evenly spread, `rate` updates a second in all.
/// An update's sequence number travels in its coordinates, its vehicle's number in speed and heading.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    vehicles: u32,
    updates: u64,
    /// Time between two updates, in 2^-16 ns.
    interval: u64,
    period_ns: u64,
}

const LAT_E7: i32 = 524_000_000;
const LON_E7: i32 = 135_000_000;

/// Speed and heading say which vehicle it is, so that a mix-up of two vehicles cannot pass.
fn motion(vehicle: u32) -> (u16, u16) {
    (
        (vehicle % 10_000) as u16,
        (vehicle / 10_000 % 36_000) as u16,
    )
}

impl Synthetic {
    /// # Errors
    /// Rates that no schedule can express: none at all, or more than 1,000 a second from one vehicle (its fixes are told
    /// apart by their milliseconds).
    pub fn new(vehicles: u32, rate: u32, seconds: f64) -> Result<Self, ScheduleError> {
        if vehicles == 0 || rate == 0 {
            return Err(ScheduleError::Empty);
        }
        if u64::from(rate) > u64::from(vehicles) * 1_000 {
            return Err(ScheduleError::TooFast { vehicles, rate });
        }
        // Rounded up, so that a vehicle at the highest rate never reports twice in a millisecond.
        let interval = (1_000_000_000_u64 << 16).div_ceil(u64::from(rate));
        let updates = (f64::from(rate) * seconds).round() as u64;
        if updates / u64::from(vehicles) >= u64::from(u32::MAX >> 1) {
            return Err(ScheduleError::TooLong);
        }
        Ok(Self {
            vehicles,
            updates,
            interval,
            period_ns: scaled(interval, u64::from(vehicles)),
        })
    }
}

/// Why a schedule cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Nothing to send.
    #[error("at least one vehicle and one update per second are needed")]
    Empty,
    /// Fixes of one vehicle could not be told apart.
    #[error(
        "{rate} updates/s from {vehicles} vehicles is more than 1,000/s each: use more vehicles"
    )]
    TooFast {
        /// Vehicles asked for.
        vehicles: u32,
        /// Updates per second asked for.
        rate: u32,
    },
    /// Sequence numbers would run out.
    #[error("the run is too long: a vehicle would send more than 2^31 updates")]
    TooLong,
}

/// `count` intervals in nanoseconds.
fn scaled(interval: u64, count: u64) -> u64 {
    ((u128::from(interval) * u128::from(count)) >> 16) as u64
}

impl Plan for Synthetic {
    fn vehicles(&self) -> u32 {
        self.vehicles
    }

    fn id(&self, vehicle: u32) -> String {
        synthetic_id(vehicle)
    }

    fn vehicle_of(&self, id: &str) -> Option<u32> {
        let number: u32 = id.strip_prefix('v')?.parse().ok()?;
        number
            .checked_sub(1)
            .filter(|&vehicle| vehicle < self.vehicles)
    }

    fn update(&self, number: u64) -> Option<Update> {
        if number >= self.updates {
            return None;
        }
        let vehicle = (number % u64::from(self.vehicles)) as u32;
        let sequence = (number / u64::from(self.vehicles)) as u32 + 1;
        Some(Update {
            due_ns: self.due_ns(vehicle, sequence),
            vehicle,
            sequence,
        })
    }

    fn planned(&self, vehicle: u32) -> u32 {
        let vehicles = u64::from(self.vehicles);
        let one_more = u64::from(u64::from(vehicle) < self.updates % vehicles);
        (self.updates / vehicles + one_more) as u32
    }

    fn due_ns(&self, vehicle: u32, sequence: u32) -> u64 {
        u64::from(sequence - 1) * self.period_ns + scaled(self.interval, u64::from(vehicle))
    }

    fn fix(&self, vehicle: u32, sequence: u32, wall_ms: u64) -> Fix {
        let (speed_cm_s, heading_cdeg) = motion(vehicle);
        Fix {
            time_ms: wall_ms + self.due_ns(vehicle, sequence) / 1_000_000,
            vehicle: 0,
            lat_e7: LAT_E7 + (sequence & 0xffff) as i32,
            lon_e7: LON_E7 + (sequence >> 16) as i32,
            speed_cm_s,
            heading_cdeg,
        }
    }

    fn identify(&self, vehicle: u32, _last: u32, fix: &Fix, wall_ms: u64) -> Identity {
        if fix.time_ms < wall_ms {
            return Identity::BeforeRun;
        }
        let low = fix.lat_e7.wrapping_sub(LAT_E7) as u32;
        let high = fix.lon_e7.wrapping_sub(LON_E7) as u32;
        let sequence = low | high << 16;
        let intact = low <= 0xffff
            && high <= 0x7fff
            && sequence != 0
            && (fix.speed_cm_s, fix.heading_cdeg) == motion(vehicle)
            && fix.time_ms == wall_ms + self.due_ns(vehicle, sequence) / 1_000_000;
        // The last round of a run may be a part of one: `planned` is asked only there.
        let last_round = u64::from(sequence) * u64::from(self.vehicles) > self.updates;
        if !intact || last_round && sequence > self.planned(vehicle) {
            return Identity::Unknown;
        }
        Identity::Sequence(sequence)
    }
}

/// Ids of synthetic vehicles: `v0000001` and up.
pub fn synthetic_id(vehicle: u32) -> String {
    format!("v{:07}", vehicle + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL_MS: u64 = 1_790_000_000_000;

    #[test]
    fn updates_come_in_order_at_the_asked_rate_and_add_up() {
        let plan = Synthetic::new(7, 300, 2.0).unwrap();
        let updates: Vec<Update> = (0..).map_while(|n| plan.update(n)).collect();
        assert_eq!(updates.len(), 600);
        assert!(updates.is_sorted_by_key(|update| update.due_ns));
        assert_eq!(updates[599].due_ns / 1_000_000, 599 * 1_000 / 300);
        for vehicle in 0..7 {
            let sent: Vec<&Update> = updates.iter().filter(|u| u.vehicle == vehicle).collect();
            assert_eq!(sent.len() as u32, plan.planned(vehicle));
            assert!(
                sent.iter()
                    .zip(1..)
                    .all(|(update, sequence)| update.sequence == sequence)
            );
            let times: Vec<u64> = (1..=plan.planned(vehicle))
                .map(|sequence| plan.fix(vehicle, sequence, WALL_MS).time_ms)
                .collect();
            assert!(times.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn every_update_is_recognised_and_nothing_else() {
        let plan = Synthetic::new(3, 3_000, 100.0).unwrap();
        for (vehicle, sequence) in [(0, 1), (2, 65_535), (1, 65_536), (2, 100_000)] {
            let fix = plan.fix(vehicle, sequence, WALL_MS);
            assert!(fix.check().is_ok());
            assert_eq!(
                plan.identify(vehicle, 0, &fix, WALL_MS),
                Identity::Sequence(sequence)
            );
            let other = Fix {
                lat_e7: fix.lat_e7 + 1,
                ..fix
            };
            assert_eq!(
                plan.identify(vehicle, 0, &other, WALL_MS),
                Identity::Unknown
            );
            let other = Fix {
                speed_cm_s: 9,
                ..fix
            };
            assert_eq!(
                plan.identify(vehicle, 0, &other, WALL_MS),
                Identity::Unknown
            );
            let older = Fix {
                time_ms: WALL_MS - 1,
                ..fix
            };
            assert_eq!(
                plan.identify(vehicle, 0, &older, WALL_MS),
                Identity::BeforeRun
            );
        }
        let never_sent = plan.fix(0, 100_001, WALL_MS);
        assert_eq!(plan.identify(0, 0, &never_sent, WALL_MS), Identity::Unknown);
    }

    #[test]
    fn ids_lead_back_to_vehicles() {
        let plan = Synthetic::new(5, 5, 1.0).unwrap();
        assert_eq!(plan.id(0), "v0000001");
        for vehicle in 0..5 {
            assert_eq!(plan.vehicle_of(&plan.id(vehicle)), Some(vehicle));
        }
        for stranger in ["v0000000", "v0000006", "x0000001", ""] {
            assert_eq!(plan.vehicle_of(stranger), None);
        }
    }

    #[test]
    fn impossible_rates_are_refused() {
        assert_eq!(Synthetic::new(0, 5, 1.0).unwrap_err(), ScheduleError::Empty);
        assert!(matches!(
            Synthetic::new(1, 1_001, 1.0),
            Err(ScheduleError::TooFast { .. })
        ));
    }
}
