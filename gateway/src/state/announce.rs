//! Tells shards what the keeper changed in the tables, as another shard would.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use longhaul_filter_engine::{FleetId, VehicleIndex};

use crate::{
    fleet::{Extra, Fleet, Interest},
    shard::inbox::{Changed, Inbox, Letter},
};

/// How long to wait for room in a shard's inbox. One that takes nothing for so long is not alive.
const POST_WITHIN: Duration = Duration::from_secs(5);

/// A function that tells the shards with interest which vehicles of a fleet have another position,
/// and which have another presence.
pub fn announcer(
    fleet: Arc<Fleet>,
    inboxes: Arc<[Arc<Inbox>]>,
) -> impl Fn(FleetId, &[VehicleIndex], &[VehicleIndex]) {
    move |fleet_id, positions, presence| {
        Interest::fence();
        let interest = &fleet.interest;
        let of_presence = interest.extra(fleet_id, Extra::Presence);
        for (shard, inbox) in inboxes.iter().enumerate() {
            let bit = 1u64 << shard;
            let watched = |vehicle: &VehicleIndex| {
                (interest.fleet(fleet_id) | interest.vehicle(*vehicle)) & bit != 0
            };
            let changed: Vec<Changed> = positions
                .iter()
                .filter(|vehicle| watched(vehicle))
                .map(|&vehicle| Changed {
                    vehicle,
                    version: fleet.positions.version(vehicle),
                })
                .collect();
            if !changed.is_empty() {
                post(inbox, Letter::Dirty(fleet_id, changed));
            }
            if of_presence & bit != 0 {
                let vehicles: Vec<_> = presence.iter().copied().filter(watched).collect();
                if !vehicles.is_empty() {
                    post(inbox, Letter::Presence(fleet_id, vehicles));
                }
            }
        }
    }
}

fn post(inbox: &Inbox, mut letter: Letter) {
    let by = Instant::now() + POST_WITHIN;
    while let Err(refused) = inbox.post(letter) {
        if Instant::now() >= by {
            tracing::warn!("a shard takes no letters; it is not told of restored positions");
            return;
        }
        letter = refused;
        thread::sleep(Duration::from_millis(1));
    }
}
