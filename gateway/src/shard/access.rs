//! What a dashboard may see and do, where that is not simply its whole fleet; and wishes for groups. Pure: groups are
//! resolved by whoever is asked for, and time is passed in.
//!
//! | what | how it is enforced |
//! |---|---|
//! | vehicles | [`Access::granted`] goes into the filter engine: the effective filter is granted ∧ wanted |
//! | topics that differ in their vehicles | a mask beside the filter, by topic ([`Access::positions`] and so on) |
//! | until | [`Access::settle`] leaves out what has ended; [`Access::ends_s`] says when to ask again |
//! | commands | [`Access::commands`], when there is one |

use longhaul_filter_engine::{VehicleIndex, VehicleSet, Wanted};
use roaring::RoaringBitmap;

use crate::{
    fleet::groups::GroupNumber,
    session::{grants::TopicSet, topics::Topics},
};

/// One entry of a token's grants, with names resolved to numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The whole fleet.
    pub whole: bool,
    /// These vehicles.
    pub vehicles: RoaringBitmap,
    /// And those of these groups.
    pub groups: Box<[GroupNumber]>,
    /// What may be read of them.
    pub topics: TopicSet,
    /// It may be told of them.
    pub read: bool,
    /// It may send them commands.
    pub command: bool,
    /// When it ends, in seconds since the Unix epoch.
    pub until_s: u64,
}

/// A dashboard's grants, and what comes of them at this moment.
#[derive(Debug, Default)]
pub struct Access {
    /// None: the whole fleet, all topics; it is here for its groups.
    entries: Option<Box<[Entry]>>,
    /// What was asked for, by id and as a whole.
    pub wish: Wanted,
    /// The groups that were asked for, ascending.
    pub wish_groups: Vec<GroupNumber>,
    /// Vehicles that are watched and whose name the dashboard has not been sent.
    pub unnamed: RoaringBitmap,
    granted: VehicleSet,
    /// Where topics differ in their vehicles. None: each topic is of all that is granted.
    positions: Option<VehicleSet>,
    presence: Option<VehicleSet>,
    events: Option<Box<[(TopicSet, VehicleSet)]>>,
}

/// What a subscription names, to be held against a grant.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What of the vehicles.
    pub topics: Topics<'a>,
    /// Seconds since the Unix epoch.
    pub unix_s: u64,
}

impl Access {
    /// Bounded by these entries, or by nothing.
    pub fn new(entries: Option<Box<[Entry]>>) -> Access {
        Access {
            entries,
            ..Access::default()
        }
    }

    /// Other grants, with the wishes as they are.
    pub fn replace_grants(&mut self, entries: Option<Box<[Entry]>>) {
        self.entries = entries;
    }

    /// Whether a token bounds it.
    pub fn is_bounded(&self) -> bool {
        self.entries.is_some()
    }

    /// Every group that is named here, ascending, each once.
    pub fn groups(&self) -> Vec<GroupNumber> {
        let granted = self.entries.iter().flatten();
        let mut groups: Vec<_> = granted
            .flat_map(|entry| entry.groups.iter().copied())
            .chain(self.wish_groups.iter().copied())
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn readable(&self, unix_s: u64) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter().flatten();
        entries.filter(move |entry| entry.read && entry.until_s > unix_s)
    }

    /// Works out what is granted now, and what of that is wanted. `members`: who is in a group.
    pub fn settle(
        &mut self,
        unix_s: u64,
        mut members: impl FnMut(GroupNumber) -> RoaringBitmap,
    ) -> Wanted {
        let mut wanted = self.wish.clone();
        for group in &self.wish_groups {
            wanted.vehicles |= members(*group);
        }
        if self.entries.is_none() {
            self.granted = VehicleSet::Whole;
            (self.positions, self.presence, self.events) = (None, None, None);
            return wanted;
        }
        let readable: Vec<(&TopicSet, VehicleSet)> = self
            .readable(unix_s)
            .map(|entry| (&entry.topics, entry.resolved(&mut members)))
            .collect();
        let of = |has: &dyn Fn(&TopicSet) -> bool| {
            let all = readable.iter().all(|(topics, _)| has(topics));
            let some = readable.iter().filter(|(topics, _)| has(topics));
            (!all).then(|| union(some.map(|(_, set)| set)))
        };
        let granted = union(readable.iter().map(|(_, set)| set));
        let positions = of(&TopicSet::positions);
        let presence = of(&TopicSet::presence);
        let bounds_events = readable.iter().any(|(topics, _)| !is_all_events(topics));
        let events = bounds_events.then(|| {
            let mut sets: Vec<(TopicSet, VehicleSet)> = Vec::new();
            for (topics, set) in readable {
                match sets.iter_mut().find(|(known, _)| known == topics) {
                    Some((_, known)) => *known = union([&*known, &set]),
                    None => sets.push((topics.clone(), set)),
                }
            }
            sets.into()
        });
        self.granted = granted;
        self.positions = positions;
        self.presence = presence;
        self.events = events;
        wanted
    }

    /// What may be read of any topic, as it was worked out last.
    pub fn granted(&self) -> &VehicleSet {
        &self.granted
    }

    /// Where positions may be of fewer vehicles than the filter says.
    pub fn positions(&self) -> Option<&VehicleSet> {
        self.positions.as_ref()
    }

    /// The same for presence.
    pub fn presence(&self) -> Option<&VehicleSet> {
        self.presence.as_ref()
    }

    /// Whether events are of different vehicles by topic.
    pub fn has_event_masks(&self) -> bool {
        self.events.is_some()
    }

    /// Whether an event of this vehicle, which the filter lets through, may be told.
    pub fn tells_event(&self, vehicle: VehicleIndex, topic: &str) -> bool {
        self.events.as_ref().is_none_or(|sets| {
            sets.iter()
                .any(|(topics, set)| set.contains(vehicle) && topics.event(topic))
        })
    }

    /// Whether a frame for others may go to it as well.
    pub fn shares_frames(&self) -> bool {
        self.positions.is_none() && self.unnamed.is_empty()
    }

    /// When the next entry ends, in seconds since the Unix epoch.
    pub fn ends_s(&self, unix_s: u64) -> Option<u64> {
        let entries = self.entries.iter().flatten();
        let ends = entries.map(|entry| entry.until_s);
        ends.filter(|ends| (unix_s + 1..u64::MAX).contains(ends))
            .min()
    }

    /// Whether it had grants and all of them have ended.
    pub fn is_over(&self, unix_s: u64) -> bool {
        self.entries.as_ref().is_some_and(|entries| {
            !entries.is_empty() && entries.iter().all(|entry| entry.until_s <= unix_s)
        })
    }

    /// Whether it may send commands to this vehicle; `None`: to one that this node does not know. `is_member`: whether
    /// the vehicle is in a group. `whole`: whether it may without entries.
    pub fn commands(
        &self,
        vehicle: Option<VehicleIndex>,
        unix_s: u64,
        whole: bool,
        is_member: impl Fn(GroupNumber, VehicleIndex) -> bool,
    ) -> bool {
        let Some(entries) = &self.entries else {
            return whole;
        };
        let mut entries = entries
            .iter()
            .filter(|entry| entry.command && entry.until_s > unix_s);
        entries.any(|entry| entry.covers(vehicle, &is_member))
    }

    /// The first topic that is named and of which nothing is granted. Without names, positions are meant.
    pub fn refused_topic<'a>(&self, asked: Asked<'a>) -> Option<&'a str> {
        self.entries.as_ref()?;
        let any = |has: &dyn Fn(&TopicSet) -> bool| {
            self.readable(asked.unix_s).any(|entry| has(&entry.topics))
        };
        let topics = asked.topics;
        if topics.positions && !any(&TopicSet::positions) {
            return Some(Topics::POSITIONS);
        }
        if topics.presence && !any(&TopicSet::presence) {
            return Some(Topics::PRESENCE);
        }
        // All events: all that it may see, if that is any.
        if topics.all_events && !any(&has_events) {
            return Some(Topics::EVENTS);
        }
        topics
            .of_events()
            .find(|topic| !any(&|topics: &TopicSet| topics.event(topic)))
    }

    /// Which vehicles may be watched for one of the topics that are asked for. `None`: any.
    pub fn watchable(
        &self,
        asked: Asked<'_>,
        mut members: impl FnMut(GroupNumber) -> RoaringBitmap,
    ) -> Option<VehicleSet> {
        self.entries.as_ref()?;
        let sets: Vec<_> = self
            .about(asked)
            .map(|entry| entry.resolved(&mut members))
            .collect();
        Some(union(&sets)).filter(|set| !set.is_whole())
    }

    /// Whether a group that is named may be watched for one of them. `None`: this node does not know it.
    pub fn may_watch_group(&self, group: Option<GroupNumber>, asked: Asked<'_>) -> bool {
        let names = |entry: &Entry| group.is_some_and(|group| entry.groups.contains(&group));
        self.entries.is_none() || self.about(asked).any(|entry| entry.whole || names(entry))
    }

    /// Entries that grant some of what is asked for.
    fn about<'a>(&'a self, asked: Asked<'a>) -> impl Iterator<Item = &'a Entry> {
        let topics = asked.topics;
        self.readable(asked.unix_s).filter(move |entry| {
            let own = &entry.topics;
            (topics.positions && own.positions())
                || (topics.presence && own.presence())
                || (topics.all_events && has_events(own))
                || topics.of_events().any(|topic| own.event(topic))
        })
    }
}

impl Entry {
    fn resolved(&self, members: &mut impl FnMut(GroupNumber) -> RoaringBitmap) -> VehicleSet {
        if self.whole {
            return VehicleSet::Whole;
        }
        let mut vehicles = self.vehicles.clone();
        for group in &self.groups {
            vehicles |= members(*group);
        }
        VehicleSet::Some(vehicles)
    }

    fn covers(
        &self,
        vehicle: Option<VehicleIndex>,
        is_member: &impl Fn(GroupNumber, VehicleIndex) -> bool,
    ) -> bool {
        let is_named = |vehicle: VehicleIndex| {
            self.vehicles.contains(vehicle.0)
                || self.groups.iter().any(|group| is_member(*group, vehicle))
        };
        self.whole || vehicle.is_some_and(is_named)
    }
}

fn is_all_events(topics: &TopicSet) -> bool {
    matches!(
        topics,
        TopicSet::All
            | TopicSet::Some {
                all_events: true,
                ..
            }
    )
}

fn has_events(topics: &TopicSet) -> bool {
    is_all_events(topics) || matches!(topics, TopicSet::Some { events, .. } if !events.is_empty())
}

fn union<'a>(sets: impl IntoIterator<Item = &'a VehicleSet>) -> VehicleSet {
    let mut all = RoaringBitmap::new();
    for set in sets {
        match set {
            VehicleSet::Whole => return VehicleSet::Whole,
            VehicleSet::Some(vehicles) => all |= vehicles,
        }
    }
    VehicleSet::Some(all)
}

#[cfg(test)]
mod tests;
