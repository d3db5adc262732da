use longhaul_codec::{Encoder, Message, Subscribe, decode};

use super::*;
use crate::session::dashboard::{DashboardRequest, SubscriptionRules, understand};

const NIGHT: GroupNumber = GroupNumber(0);
const DAY: GroupNumber = GroupNumber(1);
const NOW: u64 = 1_000;

fn entry() -> Entry {
    Entry {
        whole: false,
        vehicles: RoaringBitmap::new(),
        groups: Box::default(),
        topics: TopicSet::All,
        read: true,
        command: false,
        until_s: u64::MAX,
    }
}

fn of(vehicles: &[u32], groups: &[GroupNumber], topics: TopicSet) -> Entry {
    Entry {
        vehicles: vehicles.iter().collect(),
        groups: groups.into(),
        topics,
        ..entry()
    }
}

fn topics(positions: bool, presence: bool, events: &[&str]) -> TopicSet {
    TopicSet::Some {
        positions,
        presence,
        all_events: false,
        events: events.iter().map(|name| (*name).into()).collect(),
    }
}

/// The night group has 10 and 11, the day group 20.
fn members(group: GroupNumber) -> RoaringBitmap {
    if group == NIGHT {
        [10, 11].into_iter().collect()
    } else {
        [20].into_iter().collect()
    }
}

fn is_member(group: GroupNumber, vehicle: VehicleIndex) -> bool {
    members(group).contains(vehicle.0)
}

fn settled(entries: Vec<Entry>, wish: Wanted, wish_groups: &[GroupNumber]) -> (Access, Wanted) {
    let mut access = Access::new(Some(entries.into()));
    access.wish = wish;
    access.wish_groups = wish_groups.to_vec();
    let wanted = access.settle(NOW, members);
    (access, wanted)
}

fn some(vehicles: &[u32]) -> VehicleSet {
    VehicleSet::Some(vehicles.iter().collect())
}

fn whole() -> Wanted {
    VehicleSet::Whole.into()
}

#[test]
fn entries_add_up_and_wishes_stay_within_them() {
    let bounds = vec![
        of(&[1], &[NIGHT], TopicSet::All),
        of(&[2], &[], TopicSet::All),
    ];
    let (access, wanted) = settled(bounds, whole(), &[]);
    assert_eq!(*access.granted(), some(&[1, 2, 10, 11]));
    assert_eq!(wanted.within(access.granted()), some(&[1, 2, 10, 11]));
    assert!(access.shares_frames() && access.tells_event(VehicleIndex(1), "x"));
    let (access, wanted) = settled(
        vec![of(&[1], &[NIGHT], TopicSet::All)],
        some(&[1, 5]).into(),
        &[NIGHT, DAY],
    );
    assert_eq!(
        wanted.within(access.granted()),
        some(&[1, 10, 11]),
        "the day is not granted"
    );
    let mut free = Access::new(None);
    free.wish_groups = vec![DAY];
    let wanted = free.settle(NOW, members);
    assert_eq!(wanted.within(free.granted()), some(&[20]));
    assert_eq!(access.groups(), [NIGHT, DAY]);
}

#[test]
fn topics_that_differ_become_masks() {
    let bounds = vec![
        of(&[1, 2], &[], topics(true, false, &["door"])),
        of(&[2, 3], &[], topics(false, true, &["fuel"])),
        Entry {
            topics: TopicSet::Some {
                positions: false,
                presence: false,
                all_events: true,
                events: Box::default(),
            },
            ..of(&[4], &[], TopicSet::All)
        },
    ];
    let (access, _) = settled(bounds, whole(), &[]);
    assert_eq!(*access.granted(), some(&[1, 2, 3, 4]));
    assert_eq!(access.positions(), Some(&some(&[1, 2])));
    assert_eq!(access.presence(), Some(&some(&[2, 3])));
    for (vehicle, topic, told) in [
        (1, "door", true),
        (1, "fuel", false),
        (2, "door", true),
        (2, "fuel", true),
        (3, "door", false),
        (4, "anything", true),
        (5, "door", false),
    ] {
        assert_eq!(
            access.tells_event(VehicleIndex(vehicle), topic),
            told,
            "{vehicle} {topic}"
        );
    }
    assert!(!access.shares_frames());
    let same = vec![
        of(&[1], &[], topics(true, false, &[])),
        of(&[2], &[], topics(true, true, &[])),
    ];
    let (access, _) = settled(same, whole(), &[]);
    assert_eq!(
        access.positions(),
        None,
        "all of them have positions: frames are shared"
    );
    assert!(access.shares_frames());
    assert!(!access.tells_event(VehicleIndex(1), "door"));
}

#[test]
fn entries_end() {
    let until = |until_s, vehicle: u32| Entry {
        until_s,
        ..of(&[vehicle], &[], TopicSet::All)
    };
    let (mut access, _) = settled(vec![until(NOW + 1, 1), until(NOW + 9, 2)], whole(), &[]);
    assert_eq!(*access.granted(), some(&[1, 2]));
    assert_eq!(access.ends_s(NOW), Some(NOW + 1));
    access.settle(NOW + 1, members);
    assert_eq!(*access.granted(), some(&[2]), "it ends at that second");
    assert_eq!(access.ends_s(NOW + 1), Some(NOW + 9));
    assert!(!access.is_over(NOW + 8) && access.is_over(NOW + 9));
    let (access, _) = settled(vec![], whole(), &[]);
    assert!(access.granted().is_empty());
    assert!(!access.is_over(NOW), "it had nothing that could end");
    assert_eq!(access.ends_s(NOW), None);
    let (access, _) = settled(vec![entry()], whole(), &[]);
    assert_eq!(access.ends_s(NOW), None);
}

#[test]
fn commands_go_where_an_entry_with_that_right_has_the_vehicle() {
    let may = |of: Entry| Entry {
        command: true,
        ..of
    };
    let (access, _) = settled(
        vec![
            may(of(&[1], &[NIGHT], topics(true, false, &[]))),
            of(&[2], &[DAY], TopicSet::All),
            Entry {
                until_s: NOW,
                ..may(of(&[3], &[], TopicSet::All))
            },
        ],
        whole(),
        &[],
    );
    let commands = |vehicle| access.commands(vehicle, NOW, true, is_member);
    for (vehicle, may) in [(1, true), (10, true), (2, false), (20, false), (3, false)] {
        assert_eq!(commands(Some(VehicleIndex(vehicle))), may, "{vehicle}");
    }
    assert!(!commands(None), "one that nobody knows");
    let fleet = Entry {
        whole: true,
        ..entry()
    };
    let (access, _) = settled(vec![may(fleet)], whole(), &[]);
    assert!(access.commands(None, NOW, false, is_member));
    let free = Access::new(None);
    assert!(free.commands(None, NOW, true, is_member));
    assert!(!free.commands(None, NOW, false, is_member));
}

/// Gives what a Subscribe with these topics asks for to `see`.
fn asked<T>(names: &[&str], see: impl Fn(Asked<'_>) -> T) -> T {
    let subscribe = Subscribe {
        topics: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Subscribe::default()
    };
    let mut encoder = Encoder::new();
    let encoded = encoder.message(&Message::Subscribe(subscribe));
    let rules = SubscriptionRules {
        vehicles_max: 9,
        id_bytes_max: 9,
        min_interval_ms_max: 9,
    };
    let message = decode(encoded.payload()).expect("it was just encoded");
    match understand(message, rules).expect("it is good") {
        DashboardRequest::Subscribe { topics, .. } => see(Asked {
            topics,
            unix_s: NOW,
        }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_named_must_be_granted_for_what_it_is_named_for() {
    let (access, _) = settled(
        vec![
            of(&[1], &[NIGHT], topics(true, false, &["door"])),
            of(&[2], &[DAY], topics(false, true, &[])),
            Entry {
                until_s: NOW,
                ..of(&[3], &[], topics(false, false, &["fuel"]))
            },
        ],
        whole(),
        &[],
    );
    for (topics, refused) in [
        (&[][..], None),
        (&["positions", "presence", "door"], None),
        (&["events"], None),
        (&["door", "fuel"], Some("fuel")),
        (&["window"], Some("window")),
    ] {
        let says = asked(topics, |asked| {
            access.refused_topic(asked).map(str::to_owned)
        });
        assert_eq!(says.as_deref(), refused, "{topics:?}");
    }
    for (topics, vehicles, night, day) in [
        (&[][..], &[1, 10, 11][..], true, false),
        (&["presence"], &[2, 20], false, true),
        (&["door", "presence"], &[1, 2, 10, 11, 20], true, true),
        (&["fuel"], &[], false, false),
    ] {
        asked(topics, |asked| {
            assert_eq!(
                access.watchable(asked, members),
                Some(some(vehicles)),
                "{topics:?}"
            );
            assert_eq!(access.may_watch_group(Some(NIGHT), asked), night);
            assert_eq!(access.may_watch_group(Some(DAY), asked), day);
            assert!(!access.may_watch_group(None, asked));
        });
    }
    let (fleet, _) = settled(
        vec![Entry {
            whole: true,
            ..entry()
        }],
        whole(),
        &[],
    );
    asked(&["window"], |asked| {
        assert_eq!(fleet.refused_topic(asked), None);
        assert_eq!(fleet.watchable(asked, members), None);
        assert!(fleet.may_watch_group(None, asked));
    });
    let (blind, _) = settled(vec![of(&[1], &[], topics(true, false, &[]))], whole(), &[]);
    let says = asked(&["events"], |asked| {
        blind.refused_topic(asked).map(str::to_owned)
    });
    assert_eq!(says.as_deref(), Some("events"), "none of them");
}
