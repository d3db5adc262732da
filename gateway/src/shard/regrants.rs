//! What changed while everybody is connected: members of groups, and entries that have ended.
//!
//! A shard knows which of its dashboards name which group, so a change costs work for those and for nobody else. It is
//! put into force in the tick in which the shard hears of it; only where that is more than a tick's work
//! ([`REGRANTS_PER_TICK`]) the rest follows in the next ones.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
};

use longhaul_filter_engine::{Filter, FleetId, SubscriberId};
use roaring::RoaringBitmap;

use super::{Core, clock::Now, connection::Connection, ring::Key};
use crate::{
    fleet::groups::{GroupNumber, GroupsError, Naming, News},
    limits::REGRANTS_PER_TICK,
    session::close,
};

/// Vehicles in a millisecond's worth of filters: how long joins may gather before the next ones are looked at follows
/// from what the last ones cost, so that a fleet that comes in costs a shard no more than a part of its time.
const JOINS_PER_MS: u64 = 20_000;
/// And at most so long, in milliseconds.
const JOINS_WAIT_MS_MAX: u64 = 1_000;

/// What a shard remembers to work out filters again.
#[derive(Debug, Default)]
pub struct Regrants {
    /// Dashboards by the groups that they name.
    watchers: HashMap<GroupNumber, HashSet<Key>>,
    /// Dashboards that may see less than they do: they come first.
    less: Turns,
    /// Dashboards that may see more.
    more: Turns,
    /// What is in force when the queue is empty.
    generation: Option<u64>,
    /// When entries end (seconds since the Unix epoch).
    ends: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Joins wait until then (the shard's clock, ms).
    joins_wait_ms: u64,
}

/// Dashboards whose filter is to be worked out again, in turn, each once.
#[derive(Debug, Default)]
struct Turns {
    queue: VecDeque<Key>,
    queued: HashSet<Key>,
}

impl Turns {
    fn push(&mut self, key: Key) {
        if self.queued.insert(key) {
            self.queue.push_back(key);
        }
    }

    fn pop(&mut self) -> Option<Key> {
        let key = self.queue.pop_front()?;
        self.queued.remove(&key);
        if self.queue.is_empty() {
            *self = Turns::default();
        }
        Some(key)
    }
}

impl Regrants {
    /// Filters that are to be worked out again.
    pub fn waiting(&self) -> usize {
        self.less.queue.len() + self.more.queue.len()
    }

    fn next(&mut self) -> Option<Key> {
        self.less.pop().or_else(|| self.more.pop())
    }

    fn pop_ended(&mut self, unix_s: u64) -> Option<Key> {
        let &Reverse((ends_s, slot, generation)) = self.ends.peek()?;
        if ends_s > unix_s {
            return None;
        }
        self.ends.pop();
        Some(Key { slot, generation })
    }
}

impl Core {
    /// Puts into force what has changed: groups, and entries that have ended. Once a tick, behind the letters.
    pub(super) fn go_on_regranting(&mut self, now: Now) {
        let shard = self.exchange.shard();
        let news = self.fleet.groups.news(shard);
        let is_due = match news {
            News::None => false,
            News::Grown => now.mono_ms >= self.regrants.joins_wait_ms,
            News::Shrunk => true,
        };
        if is_due {
            let (changed, generation) = self.fleet.groups.take(shard);
            let Regrants {
                watchers,
                less,
                more,
                ..
            } = &mut self.regrants;
            let turns = if matches!(news, News::Shrunk) {
                less
            } else {
                more
            };
            for group in changed {
                for key in watchers.get(&group).into_iter().flatten() {
                    turns.push(*key);
                }
            }
            self.regrants.generation = Some(generation);
        }
        while let Some(key) = self.regrants.pop_ended(now.unix_ms / 1_000) {
            self.regrants.less.push(key);
        }
        let mut work = 0;
        while work < REGRANTS_PER_TICK
            && let Some(key) = self.regrants.next()
        {
            work += self.regrant(key, now);
        }
        if work > 0 {
            let wait_ms = (work / JOINS_PER_MS).min(JOINS_WAIT_MS_MAX);
            self.regrants.joins_wait_ms = now.mono_ms + wait_ms;
        }
        if self.regrants.waiting() == 0
            && let Some(generation) = self.regrants.generation.take()
        {
            self.fleet.groups.finish(shard, generation);
        }
    }

    /// Works out again what one dashboard sees. Returns about how much work that was, in vehicles.
    pub(super) fn regrant(&mut self, key: Key, now: Now) -> u64 {
        let unix_s = now.unix_ms / 1_000;
        let connection = self.connections.get_mut(key);
        let Some(dashboard) = connection.and_then(Connection::dashboard_mut) else {
            return 1;
        };
        let Some(access) = &dashboard.access else {
            return 1;
        };
        if access.is_over(unix_s) {
            self.close(key, close::TOKEN_EXPIRED);
            return 1;
        }
        if let Some(ends_s) = access.ends_s(unix_s) {
            self.remember_end(key, ends_s);
        }
        if self.engine.effective(SubscriberId(key.slot)).is_none() {
            // It has asked for nothing yet.
            return 1;
        }
        self.metrics.regrants.inc();
        let subscriber = SubscriberId(key.slot);
        let before = self.engine.effective(subscriber).cloned();
        let wish = self.wish_of(key);
        let told = self.topics(key);
        let saw = self.sees(key, told);
        self.watch(key, wish, saw, told, &RoaringBitmap::new(), now);
        let watched = self.engine.effective(subscriber);
        let is_same = watched == before.as_ref();
        let watched = watched.and_then(Filter::len).unwrap_or(0);
        let connection = self.connections.get_mut(key);
        let access = connection
            .and_then(Connection::dashboard_mut)
            .and_then(|dashboard| dashboard.access.as_ref());
        let (granted, has_masks) = access.map_or((0, false), |access| {
            (
                access.granted().len().unwrap_or(0),
                access.has_event_masks(),
            )
        });
        // A stream of old events would begin anew, and with a fleet that comes in never end.
        if !is_same || has_masks {
            self.refilter(key);
        }
        1 + watched + granted
    }

    fn remember_end(&mut self, key: Key, ends_s: u64) {
        let ends = &mut self.regrants.ends;
        // Those who have gone leave entries behind, and so does each look at one that stays.
        if ends.len() > 2 * self.connections.len() + 64 {
            let mut each_once = HashSet::new();
            let connections = &mut self.connections;
            ends.retain(|&Reverse((_, slot, generation))| {
                let key = Key { slot, generation };
                connections.get_mut(key).is_some()
            });
            ends.retain(|entry| each_once.insert(*entry));
        }
        ends.push(Reverse((ends_s, key.slot, key.generation)));
    }

    /// A dashboard names this group from now on.
    pub(super) fn name_group(
        &mut self,
        key: Key,
        fleet: FleetId,
        name: &str,
        naming: Naming,
    ) -> Result<GroupNumber, GroupsError> {
        let shard = self.exchange.shard();
        let group = self.fleet.groups.watch(shard, fleet, name, naming)?;
        let watchers = self.regrants.watchers.entry(group).or_default();
        watchers.insert(key);
        Ok(group)
    }

    /// Of these groups, it names those no more that are not among the ones to keep.
    pub(super) fn forget_groups(&mut self, key: Key, of: &[GroupNumber], keep: &[GroupNumber]) {
        let shard = self.exchange.shard();
        for group in of.iter().filter(|group| !keep.contains(group)) {
            let Some(watchers) = self.regrants.watchers.get_mut(group) else {
                continue;
            };
            watchers.remove(&key);
            if watchers.is_empty() {
                self.regrants.watchers.remove(group);
                self.fleet.groups.unwatch(shard, *group);
            }
        }
    }
}
