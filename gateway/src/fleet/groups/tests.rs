use std::collections::{BTreeMap, BTreeSet};

use longhaul_filter_engine::{FleetId, VehicleIndex};
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::config::Config;

const NORTH: FleetId = FleetId(0);
const SOUTH: FleetId = FleetId(1);
const ME: VehicleIndex = VehicleIndex(7);

fn groups(groups_max: u32, per_fleet: u32, memberships: u64) -> Groups {
    let mut limits = Config::defaults().expect("defaults are good").limits;
    limits.groups_max = groups_max;
    limits.groups_per_fleet_max = per_fleet;
    limits.group_memberships_max = memberships;
    Groups::new(&limits)
}

fn names(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

fn some(vehicles: &[u32]) -> RoaringBitmap {
    vehicles.iter().collect()
}

#[test]
fn a_token_and_an_operator_each_have_their_say() {
    let groups = groups(10, 10, 100);
    let night = groups.watch(0, NORTH, "night", Naming::Grant).unwrap();
    groups.by_token(NORTH, ME, &names(&["night"]), 0).unwrap();
    groups
        .edit(NORTH, "night", Edit::Add(&some(&[7, 8])))
        .unwrap();
    assert_eq!(groups.members(night), some(&[7, 8]));
    groups.by_token(NORTH, ME, &[], 0).unwrap();
    assert_eq!(groups.members(night), some(&[7, 8]), "the operator's word");
    groups.by_token(NORTH, ME, &names(&["night"]), 0).unwrap();
    let (members, _) = groups
        .edit(NORTH, "night", Edit::Replace(&some(&[8])))
        .unwrap();
    assert_eq!(
        (members, groups.members(night)),
        (1, some(&[7, 8])),
        "the token's"
    );
    groups.by_token(NORTH, ME, &names(&["day"]), 0).unwrap();
    assert_eq!(groups.members(night), some(&[8]));
    assert!(groups.is_member(groups.find(NORTH, "day").unwrap(), ME));
    assert_eq!(groups.find(SOUTH, "night"), None, "names are a fleet's own");
    let listed = groups.list(NORTH, "", 10);
    let listed: Vec<_> = listed
        .iter()
        .map(|group| (&*group.name, group.members))
        .collect();
    assert_eq!(listed, [("day", 1), ("night", 1)]);
    assert_eq!(groups.list(NORTH, "day", 10).len(), 1);
    assert_eq!(groups.by_operators(), [(NORTH, "night".into(), some(&[8]))]);
}

#[test]
fn an_older_token_does_not_bring_a_membership_back() {
    let groups = groups(10, 10, 100);
    groups.by_token(NORTH, ME, &names(&["night"]), 100).unwrap();
    let night = groups.find(NORTH, "night").unwrap();
    let watched = groups.watch(0, NORTH, "night", Naming::Grant).unwrap();
    assert_eq!(night, watched);
    groups.by_token(NORTH, ME, &[], 200).unwrap();
    assert!(groups.members(night).is_empty());
    groups.by_token(NORTH, ME, &names(&["night"]), 100).unwrap();
    assert!(
        groups.members(night).is_empty(),
        "it was issued before the other"
    );
    groups.by_token(NORTH, ME, &names(&["night"]), 200).unwrap();
    assert_eq!(
        groups.members(night),
        some(&[7]),
        "of one age: the last one"
    );
}

#[test]
fn shards_hear_of_what_they_watch_and_of_nothing_else() {
    let groups = groups(10, 10, 100);
    let night = groups.watch(3, NORTH, "night", Naming::Grant).unwrap();
    let quiet = Wake::default();
    let wake = groups.edit(NORTH, "day", Edit::Add(&some(&[1]))).unwrap().1;
    assert_eq!(wake.shards, quiet.shards);
    let (_, wake) = groups
        .edit(NORTH, "night", Edit::Add(&some(&[1, 2])))
        .unwrap();
    assert_eq!(wake.shards, 1 << 3);
    assert_eq!((groups.news(3), groups.news(2)), (News::Grown, News::None));
    assert!(!groups.is_done(wake));
    let (changed, generation) = groups.take(3);
    assert_eq!((changed, groups.news(3)), (vec![night], News::None));
    groups.finish(3, generation);
    assert!(groups.is_done(wake));
    // Who is in it anyway has neither joined nor left.
    let (_, wake) = groups.edit(NORTH, "night", Edit::Add(&some(&[2]))).unwrap();
    assert_eq!(wake.shards, 0);
    groups.edit(NORTH, "night", Edit::Add(&some(&[3]))).unwrap();
    groups
        .edit(NORTH, "night", Edit::Remove(&some(&[1])))
        .unwrap();
    assert_eq!(groups.news(3), News::Shrunk, "the more urgent of both");
    assert_eq!(groups.take(3).0, [night], "once");
    groups.unwatch(3, night);
    let (_, wake) = groups
        .edit(NORTH, "night", Edit::Remove(&some(&[2])))
        .unwrap();
    assert_eq!((wake.shards, groups.news(3)), (0, News::None));
}

#[test]
fn limits_hold_and_what_is_refused_leaves_nothing_behind() {
    let groups = groups(3, 2, 4);
    let refused = |outcome: Result<Wake, GroupsError>| outcome.unwrap_err();
    assert_eq!(
        refused(groups.by_token(NORTH, ME, &names(&["a", "b", "c"]), 0)),
        GroupsError::PerFleet(2)
    );
    assert_eq!(groups.counts(), (0, 0));
    groups.by_token(NORTH, ME, &names(&["a", "b"]), 0).unwrap();
    assert_eq!(
        refused(groups.by_token(SOUTH, VehicleIndex(8), &names(&["a", "b"]), 0)),
        GroupsError::Groups(3)
    );
    assert_eq!(groups.counts(), (2, 2));
    let five = some(&[1, 2, 3]);
    assert_eq!(
        groups.edit(NORTH, "a", Edit::Add(&five)),
        Err(GroupsError::Memberships(4))
    );
    assert_eq!(
        groups.edit(SOUTH, "a", Edit::Add(&five)),
        Err(GroupsError::Memberships(4))
    );
    assert_eq!(groups.counts(), (2, 2));
    assert_eq!(
        groups
            .edit(SOUTH, "a", Edit::Replace(&some(&[])))
            .unwrap()
            .0,
        0
    );
    assert_eq!(groups.counts(), (2, 2), "no group for nobody");
    groups.by_token(NORTH, ME, &[], 0).unwrap();
    assert_eq!(groups.counts(), (0, 0), "nobody is in them or names them");
}

#[test]
fn made_up_names_are_half_of_a_fleets_groups_at_most() {
    let groups = groups(100, 4, 100);
    let wish = |name| groups.watch(0, NORTH, name, Naming::Wish);
    let first = wish("x").unwrap();
    wish("y").unwrap();
    assert_eq!(wish("z"), Err(GroupsError::Unseen(2)));
    assert_eq!(wish("x"), Ok(first), "a known one is no new wish");
    groups.watch(0, NORTH, "z", Naming::Grant).unwrap();
    groups.by_token(NORTH, ME, &names(&["x"]), 0).unwrap();
    assert_eq!(wish("w"), Err(GroupsError::Unseen(2)), "y and z");
    groups.unwatch(0, groups.find(NORTH, "y").unwrap());
    wish("w").unwrap();
}

/// What the groups should be, said as plainly as can be.
#[derive(Debug, Default)]
struct Model {
    by_token: BTreeMap<u32, (u64, BTreeSet<u32>)>,
    by_operator: BTreeMap<u32, BTreeSet<u32>>,
}

impl Model {
    fn members(&self, group: u32) -> BTreeSet<u32> {
        let told = self.by_token.iter();
        let told = told.filter(|(_, (_, groups))| groups.contains(&group));
        let mut members: BTreeSet<_> = told.map(|(vehicle, _)| *vehicle).collect();
        members.extend(self.by_operator.get(&group).into_iter().flatten());
        members
    }
}

#[derive(Debug, Clone)]
enum Step {
    Token(u32, BTreeSet<u32>, u64),
    Add(u32, BTreeSet<u32>),
    Remove(u32, BTreeSet<u32>),
    Replace(u32, BTreeSet<u32>),
    Watch(usize, u32),
    Unwatch(usize, u32),
    Look(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let vehicles = || proptest::collection::btree_set(0..6u32, 0..4);
    let group = || 0..4u32;
    let shard = || 0..2usize;
    let step = prop_oneof![
        (
            0..6u32,
            proptest::collection::btree_set(group(), 0..3),
            0..3u64
        )
            .prop_map(|(vehicle, groups, issued)| Step::Token(vehicle, groups, issued)),
        (group(), vehicles()).prop_map(|(group, vehicles)| Step::Add(group, vehicles)),
        (group(), vehicles()).prop_map(|(group, vehicles)| Step::Remove(group, vehicles)),
        (group(), vehicles()).prop_map(|(group, vehicles)| Step::Replace(group, vehicles)),
        (shard(), group()).prop_map(|(shard, group)| Step::Watch(shard, group)),
        (shard(), group()).prop_map(|(shard, group)| Step::Unwatch(shard, group)),
        shard().prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    /// A shard that works out again what it is told of has the members right, whatever happens.
    #[test]
    fn groups_do_what_a_naive_model_does(steps in steps()) {
        let groups = groups(10, 10, 1_000);
        let name = |group: u32| format!("g{group}");
        let mut model = Model::default();
        // By shard: the groups that it names, and what it takes their members to be.
        let mut known: [BTreeMap<GroupNumber, (u32, RoaringBitmap)>; 2] = Default::default();
        for step in steps {
            match step {
                Step::Token(vehicle, of, issued) => {
                    let names: Vec<Box<str>> = of.iter().map(|group| name(*group).into()).collect();
                    groups.by_token(NORTH, VehicleIndex(vehicle), &names, issued).unwrap();
                    let told = model.by_token.get(&vehicle);
                    if (told.is_some() || !of.is_empty()) && told.is_none_or(|told| told.0 <= issued) {
                        model.by_token.insert(vehicle, (issued, of));
                    }
                }
                Step::Add(group, vehicles) => {
                    groups.edit(NORTH, &name(group), Edit::Add(&vehicles.iter().collect())).unwrap();
                    model.by_operator.entry(group).or_default().extend(vehicles);
                }
                Step::Remove(group, vehicles) => {
                    groups.edit(NORTH, &name(group), Edit::Remove(&vehicles.iter().collect())).unwrap();
                    model.by_operator.entry(group).or_default().retain(|own| !vehicles.contains(own));
                }
                Step::Replace(group, vehicles) => {
                    groups.edit(NORTH, &name(group), Edit::Replace(&vehicles.iter().collect())).unwrap();
                    model.by_operator.insert(group, vehicles);
                }
                Step::Watch(shard, group) => {
                    let number = groups.watch(shard, NORTH, &name(group), Naming::Grant).unwrap();
                    known[shard].insert(number, (group, groups.members(number)));
                }
                Step::Unwatch(shard, group) => {
                    let number = known[shard].iter().find(|(_, (own, _))| *own == group);
                    if let Some(number) = number.map(|(number, _)| *number) {
                        groups.unwatch(shard, number);
                        known[shard].remove(&number);
                    }
                }
                Step::Look(shard) => {
                    if groups.news(shard) != News::None {
                        for number in groups.take(shard).0 {
                            if let Some((_, members)) = known[shard].get_mut(&number) {
                                *members = groups.members(number);
                            }
                        }
                    }
                    for (group, members) in known[shard].values() {
                        let expected = model.members(*group);
                        prop_assert!(members.iter().eq(expected.iter().copied()), "{} {:?}", group, expected);
                    }
                }
            }
            groups.lock().check();
        }
    }
}
