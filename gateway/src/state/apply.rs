//! From a file to the tables.

use std::io::{Read, Seek};

use longhaul_codec::PresenceState;
use longhaul_filter_engine::{FleetId, VehicleIndex};
use roaring::RoaringBitmap;

use super::file::{Checked, Entry, FileError, Kind, Record};
use crate::{
    fleet::{Fleet, Presence, positions::Written},
    limits::Limits,
};

/// Vehicles that are announced at a time.
pub const ANNOUNCED_AT_ONCE: usize = 4_096;

/// What was taken from a file, or from several.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Vehicles that the file has.
    pub vehicles: u64,
    /// Positions newer than the ones in the table.
    pub positions: u64,
    /// Vehicles that this node has no room for: its limits of vehicles, fleets or id lengths.
    pub skipped: u64,
}

/// Vehicles of which another process said that they are connected to it, and which may come here.
#[derive(Debug, Default)]
pub struct Expected(Vec<(FleetId, RoaringBitmap)>);

impl Expected {
    fn insert(&mut self, fleet: FleetId, vehicle: VehicleIndex) {
        match self.0.last_mut() {
            Some((last, vehicles)) if *last == fleet => drop(vehicles.insert(vehicle.0)),
            _ => self.0.push((fleet, RoaringBitmap::from([vehicle.0]))),
        }
    }

    /// Nobody is expected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives up those that are not connected here.
    pub fn give_up(
        self,
        fleet: &Fleet,
        now_ms: u64,
        announce: &impl Fn(FleetId, &[VehicleIndex], &[VehicleIndex]),
    ) {
        for (fleet_id, vehicles) in self.0 {
            let mut gone = Batch::new(announce);
            for vehicle in vehicles.iter().map(VehicleIndex) {
                if fleet.presence.give_up(vehicle, now_ms) {
                    gone.presence(fleet_id, vehicle);
                }
            }
            gone.flush();
        }
    }
}

/// How a file is taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// The gateway's clock, in milliseconds since the Unix epoch: a position from the future is not taken.
    pub now_ms: u64,
    /// Whether vehicles that were connected to the other process may still be expected here.
    pub expect: bool,
    /// When the snapshot that was loaded was written. Vehicles that were connected then are taken to be offline since,
    /// for want of better knowledge; a handover file has better. 0: none was loaded.
    pub assumed_since_ms: u64,
}

/// Puts a file's content into the tables. A newer position wins over an older one, wherever it comes from; a vehicle that
/// is connected here stays as it is.
///
/// # Errors
/// As [`Checked::read`].
pub fn apply<R: Read + Seek>(
    file: Checked<R>,
    rules: Rules,
    fleet: &Fleet,
    limits: &Limits,
    announce: &impl Fn(FleetId, &[VehicleIndex], &[VehicleIndex]),
) -> Result<(Taken, Expected), FileError> {
    let (header, mut expected) = (file.header, Expected::default());
    let mut taken = Taken {
        vehicles: file.vehicles,
        ..Taken::default()
    };
    // What a clock that was ahead has left behind would hide everything that follows.
    let latest_ms = rules.now_ms.saturating_add(limits.clock_ahead_ms_max);
    let mut current = None;
    let mut batch = Batch::new(announce);
    file.read(|entry| match entry {
        Entry::Fleet(name) => {
            current = (name.len() <= limits.fleet_id_bytes_max)
                .then(|| fleet.registry.fleet(name).ok())
                .flatten();
        }
        Entry::Vehicle(record) => {
            let Some((fleet_id, vehicle)) = current.and_then(|fleet_id| {
                let fits = record.vehicle.len() <= limits.vehicle_id_bytes_max;
                let vehicle = fits.then(|| fleet.registry.vehicle(fleet_id, record.vehicle));
                Some((fleet_id, vehicle?.ok()?))
            }) else {
                taken.skipped += 1;
                return;
            };
            if let Some((fix, received_ms)) = record.position
                && fix.time_ms.max(received_ms) <= latest_ms
                && fleet.positions.write(vehicle, &fix, received_ms) == Written::Newest
            {
                taken.positions += 1;
                batch.position(fleet_id, vehicle);
            }
            let Some(presence) = restorable(&record, header.kind, header.written_ms, rules) else {
                return;
            };
            if is_news(fleet.presence.read(vehicle), presence, rules) {
                if presence.state != PresenceState::Offline {
                    expected.insert(fleet_id, vehicle);
                }
                if fleet.presence.restore(vehicle, presence) {
                    batch.presence(fleet_id, vehicle);
                }
            }
        }
    })?;
    batch.flush();
    Ok((taken, expected))
}

/// A vehicle's state as it is here, from what it was there: who was connected to a process that is gone is offline.
fn restorable(record: &Record<'_>, kind: Kind, written_ms: u64, rules: Rules) -> Option<Presence> {
    let there = record.presence?;
    let comes = kind == Kind::Handover && rules.expect;
    Some(match there.state {
        PresenceState::Online | PresenceState::Stale if !comes => Presence {
            state: PresenceState::Offline,
            since_ms: written_ms,
        },
        _ => there,
    })
}

/// Whether a state is newer than the one here, or the one here was only assumed.
fn is_news(here: Presence, there: Presence, rules: Rules) -> bool {
    let assumed = Presence {
        state: PresenceState::Offline,
        since_ms: rules.assumed_since_ms,
    };
    there.since_ms >= here.since_ms || here == assumed
}

/// Vehicles of one fleet that changed, until there are enough of them to be announced.
struct Batch<'a, A> {
    announce: &'a A,
    fleet: Option<FleetId>,
    positions: Vec<VehicleIndex>,
    presence: Vec<VehicleIndex>,
}

impl<'a, A: Fn(FleetId, &[VehicleIndex], &[VehicleIndex])> Batch<'a, A> {
    fn new(announce: &'a A) -> Self {
        Batch {
            announce,
            fleet: None,
            positions: Vec::new(),
            presence: Vec::new(),
        }
    }

    fn position(&mut self, fleet: FleetId, vehicle: VehicleIndex) {
        self.of(fleet).positions.push(vehicle);
    }

    fn presence(&mut self, fleet: FleetId, vehicle: VehicleIndex) {
        self.of(fleet).presence.push(vehicle);
    }

    fn of(&mut self, fleet: FleetId) -> &mut Self {
        let full = self.positions.len().max(self.presence.len()) >= ANNOUNCED_AT_ONCE;
        if full || self.fleet != Some(fleet) {
            self.flush();
            self.fleet = Some(fleet);
        }
        self
    }

    fn flush(&mut self) {
        if let Some(fleet) = self.fleet
            && !(self.positions.is_empty() && self.presence.is_empty())
        {
            (self.announce)(fleet, &self.positions, &self.presence);
        }
        self.positions.clear();
        self.presence.clear();
    }
}
