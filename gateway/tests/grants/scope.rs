//! Whom and what a dashboard sees: its own teams, its own topics, and of old events what it may see by now.

use std::collections::BTreeSet;

use longhaul_codec::{Delivery, ErrorCode, PresenceState, ResumePoint, Subscribe, SubscribeMode};
use serde_json::json;

use crate::{
    all_of,
    common::{
        client::{Client, fix, watch, watch_all},
        gateway::Gateway,
        http::Metrics,
    },
    event, folder, granted, member, publish, report, set,
    told::{Told, told_so_far, told_until, told_with},
    topics, watch_groups, with_events,
};

#[test]
fn two_teams_see_their_own_vehicles_and_nothing_of_the_others() {
    for shards in [1, 3] {
        let gateway = Gateway::start(shards);
        let grant = |team: &str| [json!({ "groups": [team] })];
        let mut north = granted(&gateway, "north", &grant("north"));
        let mut south = granted(&gateway, "south", &grant("south"));
        let mut both = granted(&gateway, "both", &[json!({ "groups": ["north", "south"] })]);
        let mut all = Client::dashboard(&gateway, "all");
        let mut by_wish = Client::dashboard(&gateway, "wish");
        let everything = ["positions", "presence", "events"];
        // Nobody is there yet: what is watched follows the groups.
        for dashboard in [&mut north, &mut south, &mut both, &mut all] {
            let ack = dashboard.subscribe(all_of(1, &everything));
            let is_all = ack.watching == u32::MAX;
            assert!(ack.watching == 0 || is_all, "{ack:?}");
        }
        by_wish.subscribe(Subscribe {
            topics: topics(&everything),
            ..watch_groups(1, &["north"])
        });
        let mut vehicles: Vec<(String, Client)> = (0..8)
            .map(|n| {
                let (id, team) = match n {
                    0..3 => (format!("n-{n}"), &["north"][..]),
                    3..6 => (format!("s-{n}"), &["south"][..]),
                    6 => ("x-6".to_owned(), &["north", "south"][..]),
                    _ => ("alone".to_owned(), &[][..]),
                };
                let vehicle = member(&gateway, &id, team);
                (id, vehicle)
            })
            .collect();
        for (_, vehicle) in &mut vehicles {
            report(vehicle, fix(1));
            vehicle.send(&event(0, "door").into());
            assert_eq!(vehicle.drain(), []);
        }
        // One whom all see is the last to speak.
        let last = fix(2);
        for id in ["n-0", "s-3", "alone"] {
            let found = vehicles.iter_mut().find(|(own, _)| own == id);
            report(&mut found.expect("it came").1, fix(1_000));
        }
        report(&mut vehicles[6].1, last);
        let northern = set(&["n-0", "n-1", "n-2", "x-6"]);
        let southern = set(&["s-3", "s-4", "s-5", "x-6"]);
        let either: BTreeSet<_> = northern.union(&southern).copied().collect();
        let mut everybody = either.clone();
        everybody.insert("alone");
        for (dashboard, own) in [
            (&mut north, &northern),
            (&mut south, &southern),
            (&mut both, &either),
            (&mut all, &everybody),
            (&mut by_wish, &northern),
        ] {
            let told = told_with(dashboard, "x-6", last);
            assert_eq!(told.whom(), *own);
            let names: BTreeSet<_> = told.names.iter().map(String::as_str).collect();
            assert_eq!(names, *own);
            let of_events: BTreeSet<_> = told.events.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(of_events, *own);
            let online: BTreeSet<_> = told.presence.iter().map(|(id, _)| id.as_str()).collect();
            assert_eq!(online, *own);
        }
    }
}

#[test]
fn what_is_beyond_a_grant_is_refused_and_nothing_of_the_request_holds() {
    let gateway = Gateway::start(2);
    let mut inside = member(&gateway, "inside", &["night"]);
    let mut named = Client::vehicle(&gateway, "named");
    let mut outside = member(&gateway, "outside", &["day"]);
    let grants = [
        json!({ "groups": ["night"], "topics": ["positions", "door"] }),
        json!({ "vehicles": ["named", "later"], "topics": ["presence"] }),
    ];
    let mut dashboard = granted(&gateway, "team", &grants);
    let wish = |vehicles: &[&str], names: &[&str], of: &[&str]| Subscribe {
        groups: topics(names),
        topics: topics(of),
        ..watch(7, vehicles)
    };
    for (asked, says) in [
        (wish(&["inside", "outside"], &[], &[]), "\"outside\""),
        (wish(&["inside", "nobody"], &[], &[]), "\"nobody\""),
        (wish(&["inside"], &["day"], &[]), "\"day\""),
        (wish(&["inside"], &["dusk"], &[]), "\"dusk\""),
        (wish(&["inside"], &[], &["fuel"]), "\"fuel\""),
        (wish(&["inside"], &[], &["positions", "fuel"]), "\"fuel\""),
        // Granted, but not for this topic.
        (wish(&["named"], &[], &["positions"]), "\"named\""),
        (wish(&["inside"], &[], &["presence"]), "\"inside\""),
        (wish(&[], &["night"], &["presence"]), "\"night\""),
    ] {
        dashboard.send(&asked.into());
        let error = dashboard.error(ErrorCode::NotAllowed);
        assert_eq!(error.id, 7);
        assert!(error.message.contains(says), "{says}: {}", error.message);
    }
    // Whether there is such a vehicle makes no difference, but for its name.
    let mut refusals = ["outside", "nobody"].map(|id| {
        dashboard.send(&wish(&[id], &[], &[]).into());
        dashboard
            .error(ErrorCode::NotAllowed)
            .message
            .replace(id, "")
    });
    refusals.sort();
    assert_eq!(refusals[0], refusals[1]);
    for vehicle in [&mut inside, &mut named, &mut outside] {
        report(vehicle, fix(1));
    }
    assert_eq!(dashboard.drain(), [], "nothing is watched");
    assert_eq!(
        Metrics::of(gateway.control()).sum("longhaul_beyond_grant_total"),
        11
    );
    // The whole fleet: all that it may see.
    let ack = dashboard.subscribe(watch_all(8));
    assert_eq!(ack.watching, 3, "inside, named, and one to come");
    assert_eq!(dashboard.position().0, "inside");
    for vehicle in [&mut outside, &mut named, &mut inside] {
        report(vehicle, fix(2));
    }
    let told = told_until(&mut dashboard, "inside", fix(2));
    assert_eq!(told.positions.len(), 1, "no position of `named`: {told:?}");
    // A wish for what is granted is one.
    let ack = dashboard.subscribe(Subscribe {
        mode: SubscribeMode::Replace,
        ..wish(&["later"], &["night"], &["presence", "door"])
    });
    assert_eq!(ack.watching, 2);
    assert_eq!(
        dashboard.presence().len(),
        1,
        "of `later`: presence of the group is not granted"
    );
}

#[test]
fn topics_that_differ_in_their_vehicles_are_kept_apart() {
    let folder = folder();
    let gateway = with_events(2, &folder);
    let mut a = member(&gateway, "a", &["a"]);
    let mut b = member(&gateway, "b", &["b"]);
    let grants = [
        json!({ "groups": ["a"], "topics": ["positions", "door"] }),
        json!({ "groups": ["b"], "topics": ["presence", "fuel"] }),
        json!({ "groups": ["a", "b"], "topics": ["alarm"] }),
    ];
    let mut dashboard = granted(&gateway, "mixed", &grants);
    let mut every = granted(&gateway, "every", &grants);
    let topics = ["positions", "presence", "events"];
    for vehicle in [&mut a, &mut b] {
        report(vehicle, fix(1));
    }
    let from_the_beginning = Subscribe {
        resume: Some(ResumePoint::default()),
        qos: 1,
        ..all_of(1, &topics)
    };
    for (at, topic) in ["door", "fuel", "alarm", "other"].into_iter().enumerate() {
        publish(&mut a, at as u64 + 1, topic);
        publish(&mut b, at as u64 + 1, topic);
    }
    dashboard.subscribe(from_the_beginning);
    every.subscribe(Subscribe {
        delivery: Delivery::Every,
        ..all_of(1, &topics)
    });
    for (at, topic) in ["other", "alarm", "fuel", "door"].into_iter().enumerate() {
        publish(&mut b, at as u64 + 5, topic);
        publish(&mut a, at as u64 + 5, topic);
    }
    for vehicle in [&mut b, &mut a] {
        report(vehicle, fix(2));
    }
    let expected = |times: usize| {
        let once = [("a", "alarm"), ("a", "door"), ("b", "alarm"), ("b", "fuel")];
        let mut all: Vec<_> = once
            .iter()
            .flat_map(|(id, topic)| vec![((*id).to_owned(), (*topic).to_owned()); times])
            .collect();
        all.sort();
        all
    };
    for (dashboard, times) in [(&mut dashboard, 2), (&mut every, 1)] {
        let mut told = told_until(dashboard, "a", fix(2));
        while told.events.len() < 4 * times {
            let message = dashboard.next();
            told.note(dashboard, message);
        }
        told.events.sort();
        assert_eq!(told.events, expected(times));
        assert!(told.positions.iter().all(|(id, _)| id == "a"), "{told:?}");
        assert!(told.presence.iter().all(|(id, _)| id == "b"), "{told:?}");
        assert_eq!(told.presence.len(), 1);
        assert_eq!(told_so_far(dashboard), Told::default());
    }
    drop((a, b));
    let gone = dashboard.presence().remove(0);
    assert_eq!((gone.0.as_str(), gone.1), ("b", PresenceState::Offline));
}

#[test]
fn old_events_come_as_far_as_they_are_granted_now() {
    let folder = folder();
    let gateway = with_events(2, &folder);
    let mut mine = member(&gateway, "mine", &["team"]);
    let mut other = member(&gateway, "other", &["others"]);
    for id in 1..=5 {
        publish(&mut mine, id, "door");
        publish(&mut other, id, "door");
    }
    let grants = [json!({ "groups": ["team"] })];
    let resume = Subscribe {
        resume: Some(ResumePoint::default()),
        ..all_of(1, &["events"])
    };
    let of_mine = |told: &Told| told.events.iter().all(|(id, _)| id == "mine");
    let mut dashboard = granted(&gateway, "team", &grants);
    dashboard.subscribe(resume.clone());
    let mut told = Told::default();
    while told.events.len() < 5 {
        // A gap would be an Error, which is none of what may come.
        let message = dashboard.next();
        told.note(&dashboard, message);
    }
    assert!(of_mine(&told), "{told:?}");
    // A consumer that comes back finds what its grant lets it see by then.
    let durable = |request| Subscribe {
        consumer: Some("desk".to_owned()),
        ..all_of(request, &["events"])
    };
    let mut desk = granted(&gateway, "desk", &grants);
    desk.subscribe(durable(1));
    drop(desk);
    publish(&mut mine, 6, "door");
    publish(&mut other, 6, "door");
    drop(other);
    let mut other = member(&gateway, "other", &["team"]);
    publish(&mut other, 7, "door");
    let mut desk = granted(&gateway, "desk", &grants);
    desk.subscribe(durable(1));
    let mut told = Told::default();
    while told.events.len() < 3 {
        let message = desk.next();
        told.note(&desk, message);
    }
    let ids: Vec<_> = told.events.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["mine", "other", "other"], "it is of the team now");
}
