//! How a shard goes away without a jolt: everybody is told when to come back, and is closed at that time, one after the
//! other at an even pace. Dashboards go first: where they go they get what vehicles that are still here report.

use longhaul_codec::Drain;

use super::{
    Core,
    connection::{Peer, Phase},
    ring::Key,
};
use crate::session::close;

/// The longest that telling everybody takes, in milliseconds; a quarter of the window if that is less.
const TELLING_MS_MAX: u64 = 2_000;

/// How this node goes away; the same for all shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Over how many milliseconds.
    pub window_ms: u64,
    /// Where clients are sent instead.
    pub alternative: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// When what happens, in milliseconds from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Schedule {
    /// Everybody has been told.
    told: u64,
    /// The last dashboard is closed.
    dashboards: u64,
    /// The last vehicle is closed.
    end: u64,
}

impl Schedule {
    fn of(window_ms: u64) -> Schedule {
        let told = TELLING_MS_MAX.min(window_ms / 4);
        Schedule {
            told,
            dashboards: told + (window_ms - told) / 4,
            end: window_ms,
        }
    }

    /// When the connection in a slot is closed.
    fn close_at(&self, slot: u32, slots: u32, vehicle: bool) -> u64 {
        // Later ones are closed in the end.
        if slot >= slots {
            return self.end;
        }
        let (from, to) = if vehicle {
            (self.dashboards, self.end)
        } else {
            (self.told, self.dashboards)
        };
        from + (to - from) * u64::from(slot) / u64::from(slots.max(1))
    }
}

/// How many of `slots` are behind us at `now`, on a walk that goes from `from` to `to`.
fn walked(slots: u32, from: u64, to: u64, now: u64) -> u32 {
    if now >= to {
        return slots;
    }
    let share = now.saturating_sub(from) * u64::from(slots) / (to - from).max(1);
    share as u32
}

/// A shard that goes away.
#[derive(Debug)]
pub struct Leaving {
    plan: std::sync::Arc<Plan>,
    schedule: Schedule,
    began_ms: u64,
    /// How many slots there were at the beginning: the measure of the walks. Later ones are closed in the end.
    slots: u32,
    /// How far each walk is.
    told: u32,
    dashboards: u32,
    vehicles: u32,
}

impl Core {
    /// Begins to go away.
    pub(super) fn leave(&mut self, plan: std::sync::Arc<Plan>) {
        if self.going {
            return;
        }
        self.going = true;
        self.leaving = Some(Leaving {
            schedule: Schedule::of(plan.window_ms),
            plan,
            began_ms: self.now.mono_ms,
            slots: self.connections.slots(),
            told: 0,
            dashboards: 0,
            vehicles: 0,
        });
    }

    /// Goes on with it, in every tick.
    pub(super) fn go_on_leaving(&mut self) {
        let Some(mut leaving) = self.leaving.take() else {
            return;
        };
        if self.stopping {
            return;
        }
        let Schedule {
            told,
            dashboards,
            end,
        } = leaving.schedule;
        let (slots, since) = (leaving.slots, self.now.mono_ms - leaving.began_ms);
        let until = walked(slots, 0, told, since);
        for slot in std::mem::replace(&mut leaving.told, until)..until {
            self.tell(&leaving, slot);
        }
        let until = walked(slots, told, dashboards, since);
        for slot in std::mem::replace(&mut leaving.dashboards, until)..until {
            self.send_off(slot, |peer| {
                matches!(peer, Peer::Dashboard(_) | Peer::Echo(_))
            });
        }
        let until = walked(slots, dashboards, end, since);
        for slot in std::mem::replace(&mut leaving.vehicles, until)..until {
            self.send_off(slot, |peer| matches!(peer, Peer::Vehicle { .. }));
        }
        self.leaving = Some(leaving);
        if since >= end {
            self.stop();
        }
    }

    /// Tells the peer of one that came while the shard goes away, unless the walk has yet to come by.
    pub(super) fn tell_latecomer(&mut self, key: Key) {
        if let Some(leaving) = self.leaving.take() {
            if !(leaving.told..leaving.slots).contains(&key.slot) {
                self.tell(&leaving, key.slot);
            }
            self.leaving = Some(leaving);
        }
    }

    fn tell(&mut self, leaving: &Leaving, slot: u32) {
        let since = self.now.mono_ms - leaving.began_ms;
        let Some((key, connection)) = self.connections.slot_mut(slot) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let vehicle = match &connection.peer {
            Peer::Vehicle { .. } => true,
            Peer::Dashboard(_) => false,
            _ => return,
        };
        let left_ms = leaving
            .schedule
            .close_at(slot, leaving.slots, vehicle)
            .saturating_sub(since);
        // A little earlier than it is closed, and not all with the same little.
        let reconnect_after_ms = (left_ms as f64 * (0.7 + 0.25 * fastrand::f64())) as u32;
        self.metrics.drains_out.inc();
        self.answer(
            key,
            &Drain {
                reconnect_after_ms,
                alternative: leaving.plan.alternative.clone(),
                reason: leaving.plan.reason.clone(),
            }
            .into(),
        );
    }

    fn send_off(&mut self, slot: u32, whom: impl Fn(&Peer) -> bool) {
        if let Some((key, connection)) = self.connections.slot_mut(slot)
            && whom(&connection.peer)
        {
            self.close(key, close::RESTARTING);
        }
    }

    /// Whether new connections are to go elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        self.going
    }

    /// Says goodbye to everybody now.
    pub(super) fn stop(&mut self) {
        (self.going, self.stopping) = (true, true);
        for slot in 0..self.connections.slots() {
            if let Some((key, _)) = self.connections.slot_mut(slot) {
                self.close_or_refuse(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_go_first_and_everybody_in_time() {
        let schedule = Schedule::of(30_000);
        assert_eq!((schedule.told, schedule.dashboards), (2_000, 9_000));
        assert_eq!(schedule.close_at(0, 100, false), 2_000);
        assert_eq!(schedule.close_at(99, 100, false), 8_930);
        assert_eq!(schedule.close_at(0, 100, true), 9_000);
        assert_eq!(schedule.close_at(99, 100, true), 29_790);
        let at_once = Schedule::of(0);
        assert_eq!((at_once.told, at_once.dashboards, at_once.end), (0, 0, 0));
        assert_eq!(at_once.close_at(5, 0, true), 0);
        assert_eq!(schedule.close_at(1_000, 100, false), 30_000, "a latecomer");
    }

    #[test]
    fn a_walk_visits_each_slot_once_at_an_even_pace() {
        let mut before = 0;
        for now in 0..=1_000 {
            let walked = walked(77, 100, 900, now);
            assert!(walked >= before && walked - before <= 1, "at {now}");
            before = walked;
        }
        assert_eq!(before, 77);
        assert_eq!(walked(77, 100, 100, 99), 0);
        assert_eq!(walked(77, 100, 100, 100), 77, "no time: at once");
    }
}
