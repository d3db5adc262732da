//! What dashboards of this shard want beside the newest positions, counted per fleet, so that other shards are told of
//! the first who wants it and of the last who does not any more.

use std::collections::HashMap;

use longhaul_filter_engine::FleetId;

use crate::fleet::{Extra, Fleet};

/// The counts of one shard.
#[derive(Debug)]
pub struct Extras {
    shard: usize,
    /// By fleet; fleets of which nobody wants anything are not in it.
    presence: HashMap<u32, u32>,
    every: HashMap<u32, u32>,
    events: HashMap<u32, u32>,
}

impl Extras {
    /// Nobody wants anything.
    pub fn new(shard: usize) -> Extras {
        Extras {
            shard,
            presence: HashMap::new(),
            every: HashMap::new(),
            events: HashMap::new(),
        }
    }

    /// A dashboard of this fleet wanted it `before` and does or does not `now`. To be called before a snapshot is read.
    pub fn change(&mut self, fleet: &Fleet, id: FleetId, extra: Extra, before: bool, now: bool) {
        if before == now {
            return;
        }
        let counts = match extra {
            Extra::Presence => &mut self.presence,
            Extra::Every => &mut self.every,
            Extra::Events => &mut self.events,
        };
        let count = counts.entry(id.0).or_default();
        *count = if now {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        match (*count, now) {
            (1, true) => fleet.interest.set_extra(self.shard, id, extra, true),
            (0, false) => {
                fleet.interest.set_extra(self.shard, id, extra, false);
                counts.remove(&id.0);
            }
            _ => {}
        }
    }

    /// Whether anybody of this fleet wants it.
    pub fn is_wanted(&self, id: FleetId, extra: Extra) -> bool {
        let counts = match extra {
            Extra::Presence => &self.presence,
            Extra::Every => &self.every,
            Extra::Events => &self.events,
        };
        counts.contains_key(&id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn others_are_told_of_the_first_and_the_last() {
        let fleet = Fleet::new(&Config::defaults().expect("defaults are good").limits);
        let id = FleetId(3);
        let mut extras = Extras::new(2);
        let mask = || fleet.interest.extra(id, Extra::Presence);
        for (before, now, expected) in [
            (false, false, 0),
            (false, true, 4),
            (false, true, 4),
            (true, true, 4),
            (true, false, 4),
            (true, false, 0),
        ] {
            extras.change(&fleet, id, Extra::Presence, before, now);
            assert_eq!(mask(), expected);
        }
        assert_eq!(fleet.interest.extra(id, Extra::Every), 0);
    }
}
