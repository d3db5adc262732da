//! From the tables to a file.

use std::io::{self, Write};

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::file::{Record, Writer};
use crate::fleet::{Fleet, Known, Presence, Version};

/// Vehicles that are copied out from under the registry's lock at a time.
const CHUNK: u32 = 1_024;

/// Writes everything that is known of every vehicle. `seen` is told which write of each position that was.
pub fn write_all(
    fleet: &Fleet,
    writer: &mut Writer<impl Write>,
    mut seen: impl FnMut(VehicleIndex, Version),
) -> io::Result<()> {
    // An id that a dashboard asked for and that never connected says nothing to the next process.
    let is_known = |vehicle| {
        fleet.positions.version(vehicle) != Version(0)
            || fleet.presence.read(vehicle) != Presence::default()
    };
    each(fleet, writer, is_known, |vehicle, id| {
        let known = fleet.positions.read(vehicle);
        if let Some(known) = known {
            seen(vehicle, known.version);
        }
        Record {
            vehicle: id,
            position: known.map(
                |Known {
                     fix, received_ms, ..
                 }| (fix, received_ms),
            ),
            presence: Some(fleet.presence.read(vehicle)),
        }
    })
}

/// Writes the positions that are not those of `before`, and updates it.
pub fn write_changed(
    fleet: &Fleet,
    writer: &mut Writer<impl Write>,
    before: &mut Versions,
) -> io::Result<()> {
    let mut written = Vec::new();
    each(
        fleet,
        writer,
        |vehicle| before.differs(fleet, vehicle),
        |vehicle, id| {
            let known = fleet.positions.read(vehicle);
            if let Some(known) = known {
                written.push((vehicle, known.version));
            }
            Record {
                vehicle: id,
                position: known.map(
                    |Known {
                         fix, received_ms, ..
                     }| (fix, received_ms),
                ),
                presence: None,
            }
        },
    )?;
    for (vehicle, version) in written {
        before.set(vehicle, version);
    }
    Ok(())
}

/// Which write of each vehicle's position a process has handed over. Exact, where a clock that is set would not be.
#[derive(Debug, Default)]
pub struct Versions(Vec<u32>);

impl Versions {
    /// Notes a version.
    pub fn set(&mut self, vehicle: VehicleIndex, version: Version) {
        let index = vehicle.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = version.0;
    }

    fn differs(&self, fleet: &Fleet, vehicle: VehicleIndex) -> bool {
        let handed = self.0.get(vehicle.0 as usize).copied().unwrap_or(0);
        fleet.positions.version(vehicle) != Version(handed)
    }
}

/// Writes the vehicles that are `wanted`, fleet by fleet. Ids are copied under the registry's lock, a chunk at a time, and
/// written without it.
fn each<W: Write>(
    fleet: &Fleet,
    writer: &mut Writer<W>,
    wanted: impl Fn(VehicleIndex) -> bool,
    mut record: impl for<'a> FnMut(VehicleIndex, &'a str) -> Record<'a>,
) -> io::Result<()> {
    let mut chunk = Chunk::default();
    for fleet_id in (0..fleet.registry.fleets()).map(FleetId) {
        let Some(name) = fleet.registry.fleet_name(fleet_id) else {
            continue;
        };
        let mut named = false;
        let mut from = 0;
        while from < fleet.registry.fleet_size(fleet_id) {
            chunk.clear();
            fleet.registry.joined(fleet_id, from, CHUNK, |vehicle, id| {
                if wanted(vehicle) {
                    chunk.push(vehicle, id);
                }
            });
            from += CHUNK;
            if !named && !chunk.members.is_empty() {
                named = true;
                writer.fleet(&name)?;
            }
            let mut start = 0;
            for &(vehicle, end) in &chunk.members {
                writer.vehicle(&record(vehicle, &chunk.ids[start..end]))?;
                start = end;
            }
        }
    }
    Ok(())
}

/// Vehicles with their ids end to end.
#[derive(Debug, Default)]
struct Chunk {
    ids: String,
    members: Vec<(VehicleIndex, usize)>,
}

impl Chunk {
    fn clear(&mut self) {
        self.ids.clear();
        self.members.clear();
    }

    fn push(&mut self, vehicle: VehicleIndex, id: &str) {
        self.ids.push_str(id);
        self.members.push((vehicle, self.ids.len()));
    }
}
