//! Commands from disk, after a restart.

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::entry::{Entry, Order, Outcome, State, Told};
use super::record::{Record, Stored};
use super::table::key;
use super::{Bounds, Commands, Effect};

/// What a restart has left.
#[derive(Debug)]
pub struct Restored {
    /// The commands. Those that have expired meanwhile are reported when their users come.
    pub commands: Commands,
    /// Records that could not be read, or whose vehicle this node has no room for. They are forgotten.
    pub skipped: u64,
    /// What is to be done.
    pub effects: Vec<Effect>,
}

impl Commands {
    /// The commands of all records, as their `Keep` and `Forget` have left them, in any order. `resolve` gives the fleet of
    /// a name and the vehicle of an id in it. Everything that waits may have been delivered before. If bounds are lower
    /// than they were, what waits stays.
    pub fn restore(
        bounds: Bounds,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
        mut resolve: impl FnMut(&str, &str) -> Option<(FleetId, VehicleIndex)>,
        now_ms: u64,
    ) -> Restored {
        let (mut commands, mut effects, mut skipped) = (Commands::new(bounds), Vec::new(), 0);
        let mut found = Vec::new();
        for (name, value) in records {
            let number = <[u8; 8]>::try_from(name).map(u64::from_be_bytes).ok();
            let entry = Record::read(&value).and_then(|record| {
                // Of a record that is good, its key is too: a damaged one must not use up the numbers.
                commands.last_number = commands.last_number.max(number.unwrap_or(0));
                let (fleet, vehicle) = resolve(record.fleet, record.vehicle)?;
                Some((record.fleet.to_owned(), entry(record, fleet, vehicle)))
            });
            match (number, entry) {
                (Some(number), Some((fleet_name, entry))) => {
                    found.push((number, fleet_name, entry));
                }
                (number, _) => {
                    skipped += 1;
                    // A key of another length is none of ours.
                    effects.extend(number.map(|number| Effect::Forget { key: key(number) }));
                }
            }
        }
        found.sort_by_key(|(number, ..)| *number);
        for (number, fleet_name, entry) in found {
            commands.insert(number, &fleet_name, entry);
        }
        for (_, number) in commands.results.clone() {
            commands.file_result(number, &mut effects);
        }
        commands.make_room(0, 0, &mut effects);
        commands.expire(now_ms, &mut effects);
        Restored {
            commands,
            skipped,
            effects,
        }
    }
}

fn entry(record: Record<'_>, fleet: FleetId, vehicle: VehicleIndex) -> Entry {
    let (fingerprint, state) = match record.state {
        Stored::Waiting {
            name,
            content_type,
            payload,
        } => {
            let order = Order {
                name: name.to_owned(),
                content_type: content_type.map(str::to_owned),
                payload: payload.to_owned(),
                deliveries: 1,
            };
            (order.fingerprint(), State::Waiting(order))
        }
        Stored::Finished {
            fingerprint,
            status,
            content_type,
            payload,
            finished_ms,
            told,
        } => {
            let outcome = Outcome {
                status,
                content_type: content_type.map(str::to_owned),
                payload: payload.to_owned(),
                finished_ms,
                told: if told { Told::Yes } else { Told::No },
            };
            (fingerprint, State::Finished(outcome))
        }
    };
    Entry {
        fleet,
        user: record.user.into(),
        command_id: record.command_id,
        sender: None,
        vehicle,
        vehicle_id: record.vehicle.into(),
        fingerprint,
        accepted_ms: record.accepted_ms,
        expires_ms: record.expires_ms,
        state,
    }
}
