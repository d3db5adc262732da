//! What a token lets its bearer see, publish and order; sub-fleets, and vehicles that pass from one to another while
//! everybody is connected.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use longhaul_codec::{
    AckKind, Authenticate, Command, Delivery, ErrorCode, Event, Fix, Message, PresenceState,
    ResumePoint, Subscribe, SubscribeMode, Unsubscribe,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    client::{Client, fix, watch, watch_all},
    gateway::{FLEET, Gateway},
    http::{Metrics, admin},
};

mod common;

/// A token with further arguments of `longhaul token`.
fn token(gateway: &Gateway, role: &str, subject: &str, more: &[&str]) -> String {
    let key = gateway.key();
    let key = key.to_str().expect("temporary folders have plain names");
    let mut arguments = vec!["--dev-key", key];
    arguments.extend(more);
    common::gateway::token(&arguments, role, FLEET, subject)
}

/// A vehicle whose token names these groups.
fn member(gateway: &Gateway, id: &str, groups: &[&str]) -> Client {
    let more: Vec<_> = groups.iter().flat_map(|name| ["--group", name]).collect();
    Client::connect(gateway, &token(gateway, "vehicle", id, &more))
}

/// The token of a dashboard with these entries.
fn granted_token(gateway: &Gateway, user: &str, grants: &[Value]) -> String {
    let texts: Vec<_> = grants.iter().map(Value::to_string).collect();
    let more: Vec<_> = texts
        .iter()
        .flat_map(|text| ["--grant", text.as_str()])
        .collect();
    token(gateway, "dashboard", user, &more)
}

fn granted(gateway: &Gateway, user: &str, grants: &[Value]) -> Client {
    Client::connect(gateway, &granted_token(gateway, user, grants))
}

/// With an event log in `folder`.
fn with_events(shards: usize, folder: &TempDir) -> Gateway {
    let directory = folder.path().join("events");
    let directory = directory.to_str();
    let directory = directory.expect("temporary folders have plain names");
    let directory = format!("events.directory={directory}");
    Gateway::start_with(
        shards,
        &["--set", &directory, "--set", "events.free_bytes_min=0"],
    )
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder for the test")
}

fn topics(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn all_of(request: u64, names: &[&str]) -> Subscribe {
    Subscribe {
        topics: topics(names),
        ..watch_all(request)
    }
}

fn groups(request: u64, names: &[&str]) -> Subscribe {
    Subscribe {
        request,
        groups: topics(names),
        ..Subscribe::default()
    }
}

fn event(message_id: u64, topic: &str) -> Event {
    Event {
        topic: topic.to_owned(),
        qos: u8::from(message_id > 0),
        message_id,
        time_ms: 1_000,
        ..Event::default()
    }
}

/// Publishes with qos 1, and waits for the Ack.
fn publish(vehicle: &mut Client, message_id: u64, topic: &str) {
    vehicle.send(&event(message_id, topic).into());
    match vehicle.next() {
        Message::Ack(ack) => assert_eq!((ack.kind, ack.id), (AckKind::Event, message_id)),
        other => panic!("no Ack of {message_id}: {other:?}"),
    }
}

/// Reports, and waits until the gateway has taken it.
fn report(vehicle: &mut Client, fix: Fix) {
    vehicle.report(fix);
    assert_eq!(vehicle.drain(), []);
}

/// What a dashboard was told, by vehicle id.
#[derive(Debug, Default, PartialEq)]
struct Told {
    names: BTreeSet<String>,
    positions: Vec<(String, u64)>,
    presence: Vec<(String, PresenceState)>,
    events: Vec<(String, String)>,
}

impl Told {
    fn note(&mut self, dashboard: &Client, message: Message) {
        match message {
            Message::Names(names) => self.names.extend(names.ids),
            Message::Positions(positions) => {
                let fixes = positions.fixes.iter();
                let told = fixes.map(|fix| (dashboard.name(fix.vehicle), fix.time_ms));
                self.positions.extend(told);
            }
            Message::Presence(presence) => {
                let changes = presence.changes.iter();
                let told = changes.map(|change| (dashboard.name(change.vehicle), change.state));
                self.presence.extend(told);
            }
            Message::Event(event) => {
                let told = (dashboard.name(event.vehicle), event.topic);
                self.events.push(told);
            }
            other => panic!("nobody asked for this: {other:?}"),
        }
    }

    /// Whatever has been sent by now.
    fn note_rest(&mut self, dashboard: &mut Client) {
        for message in dashboard.drain() {
            self.note(dashboard, message);
        }
    }

    /// Every vehicle that it was told anything of.
    fn whom(&self) -> BTreeSet<&str> {
        let positions = self.positions.iter().map(|(id, _)| id.as_str());
        let presence = self.presence.iter().map(|(id, _)| id.as_str());
        let events = self.events.iter().map(|(id, _)| id.as_str());
        let names = self.names.iter().map(String::as_str);
        positions
            .chain(presence)
            .chain(events)
            .chain(names)
            .collect()
    }
}

/// Reads until this position has come, and gives all that came up to it.
#[track_caller]
fn told_until(dashboard: &mut Client, id: &str, fix: Fix) -> Told {
    let mut told = Told::default();
    let last = (id.to_owned(), fix.time_ms);
    while !told.positions.contains(&last) {
        let message = dashboard.next();
        told.note(dashboard, message);
    }
    told
}

/// The same, with all that came in one frame with this position: events are behind positions there.
#[track_caller]
fn told_with(dashboard: &mut Client, id: &str, fix: Fix) -> Told {
    let mut told = told_until(dashboard, id, fix);
    told.note_rest(dashboard);
    told
}

/// What has come without asking.
fn told_so_far(dashboard: &mut Client) -> Told {
    let mut told = Told::default();
    told.note_rest(dashboard);
    told
}

fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_secs()
}

fn set<'a>(ids: &[&'a str]) -> BTreeSet<&'a str> {
    ids.iter().copied().collect()
}

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
            ..groups(1, &["north"])
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
fn a_vehicle_that_changes_its_group_changes_its_watchers_at_once() {
    for shards in [1, 3] {
        let gateway = Gateway::start(shards);
        let everything = ["positions", "presence", "events"];
        let team = |name: &str| [json!({ "groups": [name] })];
        let mut north = granted(&gateway, "north", &team("north"));
        let mut south = granted(&gateway, "south", &team("south"));
        let mut every = granted(&gateway, "every", &team("north"));
        let mut slow = granted(&gateway, "slow", &team("north"));
        let mut truck = member(&gateway, "truck", &["north"]);
        let mut n_witness = member(&gateway, "n", &["north"]);
        let mut s_witness = member(&gateway, "s", &["south"]);
        report(&mut truck, fix(1));
        north.subscribe(all_of(1, &everything));
        south.subscribe(all_of(1, &everything));
        every.subscribe(Subscribe {
            delivery: Delivery::Every,
            ..all_of(1, &["positions", "events"])
        });
        told_until(&mut north, "truck", fix(1));
        told_until(&mut every, "truck", fix(1));
        // What is held back for an interval is held back from whoever has left by then.
        slow.subscribe(Subscribe {
            min_interval_ms: 2_000,
            ..watch_all(1)
        });
        told_until(&mut slow, "truck", fix(1));
        report(&mut truck, fix(2));
        told_until(&mut north, "truck", fix(2));

        let before = truck;
        let mut truck = member(&gateway, "truck", &["south"]);
        report(&mut truck, fix(3));
        let gained = told_until(&mut south, "truck", fix(3));
        assert!(gained.names.contains("truck"), "{gained:?}");
        assert!(
            gained
                .presence
                .contains(&("truck".to_owned(), PresenceState::Online))
        );
        // At most once: one that is sent before the shards of its new watchers know of it may pass them by.
        truck.send(&event(0, "door").into());
        assert_eq!(truck.drain(), []);
        // All shards have been sent it by then: it comes ahead of what the witnesses report, or in one frame with that.
        report(&mut s_witness, fix(9));
        report(&mut n_witness, fix(9));
        let gained = told_with(&mut south, "s", fix(9));
        let door = ("truck".to_owned(), "door".to_owned());
        assert!(gained.events.contains(&door), "{gained:?}");
        for dashboard in [&mut north, &mut every, &mut slow] {
            let told = told_with(dashboard, "n", fix(9));
            let late = |(id, time): &&(String, u64)| id == "truck" && *time >= fix(3).time_ms;
            assert_eq!(told.positions.iter().find(late), None, "{told:?}");
            assert!(!told.events.contains(&door), "{told:?}");
        }
        drop(before);
        // And back again, and into nothing.
        let mut truck = member(&gateway, "truck", &["north", "south"]);
        report(&mut truck, fix(4));
        told_until(&mut north, "truck", fix(4));
        told_until(&mut south, "truck", fix(4));
        let mut truck = member(&gateway, "truck", &[]);
        report(&mut truck, fix(5));
        truck.send(&event(0, "door").into());
        assert_eq!(truck.drain(), []);
        drop(truck);
        report(&mut n_witness, fix(10));
        report(&mut s_witness, fix(10));
        for (dashboard, witness) in [(&mut north, "n"), (&mut south, "s"), (&mut every, "n")] {
            let told = told_with(dashboard, witness, fix(10));
            let last = told.positions.iter().filter(|(id, _)| id == "truck");
            assert!(
                last.clone().all(|(_, time)| *time <= fix(4).time_ms),
                "{told:?}"
            );
            assert!(!told.events.contains(&door), "{told:?}");
            assert!(
                !told
                    .presence
                    .contains(&("truck".to_owned(), PresenceState::Offline))
            );
        }
    }
}

#[test]
fn a_third_partys_grant_ends_before_its_token() {
    let gateway = Gateway::start(2);
    let mut own = member(&gateway, "own", &["own"]);
    let mut lent = member(&gateway, "lent", &["lent"]);
    let grants = |until: u64| {
        [
            json!({ "groups": ["own"] }),
            json!({ "groups": ["lent"], "until": until }),
        ]
    };
    let mut partner = granted(&gateway, "partner", &grants(unix_s() + 4));
    let ack = partner.subscribe(watch_all(1));
    assert_eq!(ack.watching, 2);
    report(&mut lent, fix(1));
    told_until(&mut partner, "lent", fix(1));
    let until = unix_s() + 3;
    let mut guest = granted(
        &gateway,
        "guest",
        &[json!({ "fleet": true, "until": until })],
    );
    assert_eq!(guest.subscribe(watch_all(1)).watching, u32::MAX);
    report(&mut own, fix(1));
    told_until(&mut guest, "own", fix(1));
    // All that it had has ended: so has the connection.
    assert_eq!(guest.closed().0, 4501);
    let begins = granted(&gateway, "late", &grants(unix_s() - 1));
    let mut begins = begins;
    assert_eq!(begins.subscribe(watch_all(1)).watching, 1);
    let mut over = granted(
        &gateway,
        "over",
        &[json!({ "fleet": true, "until": unix_s() - 1 })],
    );
    assert_eq!(over.closed().0, 4501);
    // One of two has ended: the rest holds.
    let mut n = 1;
    common::eventually("the lent vehicles are gone", || {
        n += 1;
        report(&mut lent, fix(n));
        report(&mut own, fix(n));
        let told = told_until(&mut partner, "own", fix(n));
        !told.positions.iter().any(|(id, _)| id == "lent")
            && told_so_far(&mut partner).positions.is_empty()
    });
    partner.send(&watch(2, &["lent"]).into());
    partner.error(ErrorCode::NotAllowed);
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
fn commands_go_to_vehicles_that_a_grant_covers() {
    let folder = folder();
    let gateway = with_events(2, &folder);
    let mut mine = member(&gateway, "mine", &["team"]);
    let _other = Client::vehicle(&gateway, "other");
    let grants = [
        json!({ "groups": ["team"], "may": ["read", "command"] }),
        json!({ "fleet": true }),
    ];
    let mut dashboard = granted(&gateway, "boss", &grants);
    let command = |command_id: u64, vehicle: &str| Command {
        command_id,
        vehicle_id: Some(vehicle.to_owned()),
        name: "lock".to_owned(),
        ttl_ms: 60_000,
        ..Command::default()
    };
    let ack = dashboard.ask(AckKind::Command, 1, command(1, "mine"));
    assert_eq!(ack.id, 1);
    match mine.next() {
        Message::Command(command) => assert_eq!(command.name, "lock"),
        other => panic!("no command: {other:?}"),
    }
    let refusals = ["other", "nobody"].map(|id| {
        dashboard.send(&command(2, id).into());
        dashboard.error(ErrorCode::NotAllowed).message
    });
    assert_eq!(refusals[0], refusals[1], "whether it exists is not told");
    // It leaves the team: the next command is refused.
    drop(mine);
    let _mine = member(&gateway, "mine", &[]);
    dashboard.send(&command(3, "mine").into());
    dashboard.error(ErrorCode::NotAllowed);
    // The whole fleet, by either claim.
    let whole = [json!({ "fleet": true, "may": ["read", "command"] })];
    let old = token(&gateway, "dashboard", "old", &["--may", "command"]);
    for mut dashboard in [
        granted(&gateway, "whole", &whole),
        Client::connect(&gateway, &old),
    ] {
        dashboard.ask(AckKind::Command, 1, command(1, "other"));
        dashboard.send(&command(2, "nobody").into());
        dashboard.error(ErrorCode::UnknownVehicle);
    }
    // To read is not to command.
    let mut reader = granted(&gateway, "reader", &[json!({ "fleet": true })]);
    reader.send(&command(1, "other").into());
    reader.error(ErrorCode::NotAllowed);
}

#[test]
fn a_vehicle_publishes_what_its_token_lets_it() {
    let folder = folder();
    let gateway = with_events(2, &folder);
    let mut all = Client::dashboard(&gateway, "all");
    all.subscribe(all_of(1, &["positions", "events"]));
    let publisher = |id: &str, grants: &[Value]| {
        let texts: Vec<_> = grants.iter().map(Value::to_string).collect();
        let more: Vec<_> = texts.iter().flat_map(|text| ["--grant", text]).collect();
        Client::connect(&gateway, &token(&gateway, "vehicle", id, &more))
    };
    let may = |topics: &[&str]| json!({ "topics": topics, "may": ["publish"] });
    let mut sensor = publisher("sensor", &[may(&["door"]), may(&["fuel"])]);
    sensor.report(fix(1));
    let error = sensor.error(ErrorCode::NotAllowed);
    assert!(error.message.contains("positions"), "{}", error.message);
    sensor.send(&event(1, "alarm").into());
    let error = sensor.error(ErrorCode::NotAllowed);
    assert_eq!(error.id, 1);
    publish(&mut sensor, 2, "door");
    publish(&mut sensor, 3, "fuel");
    let mut tracker = publisher("tracker", &[may(&["positions"])]);
    tracker.send(&event(0, "door").into());
    tracker.error(ErrorCode::NotAllowed);
    let mut mute = publisher("mute", &[may(&[])]);
    mute.report(fix(1));
    mute.error(ErrorCode::NotAllowed);
    let mut free = publisher("free", &[json!({ "may": ["publish"] })]);
    free.send(&event(0, "door").into());
    report(&mut free, fix(1));
    report(&mut tracker, fix(2));
    let told = told_with(&mut all, "tracker", fix(2));
    let events: BTreeSet<_> = told
        .events
        .iter()
        .map(|(id, t)| (id.as_str(), t.as_str()))
        .collect();
    let expected = [("free", "door"), ("sensor", "door"), ("sensor", "fuel")];
    assert_eq!(events, expected.into_iter().collect());
    let positions: BTreeSet<_> = told.positions.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(positions, set(&["free", "tracker"]));
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

#[test]
fn groups_are_watched_and_unwatched_by_name() {
    let gateway = Gateway::start(2);
    let mut a = member(&gateway, "a", &["red"]);
    let mut b = member(&gateway, "b", &["blue"]);
    let mut c = Client::vehicle(&gateway, "c");
    let mut dashboard = Client::dashboard(&gateway, "me");
    assert_eq!(
        dashboard.subscribe(groups(1, &["red", "green"])).watching,
        1
    );
    assert_eq!(dashboard.subscribe(watch(2, &["c"])).watching, 2);
    assert_eq!(dashboard.subscribe(groups(3, &["blue"])).watching, 3);
    for vehicle in [&mut a, &mut b, &mut c] {
        report(vehicle, fix(1));
    }
    let mut told = BTreeSet::new();
    while told.len() < 3 {
        told.extend(dashboard.positions().into_iter().map(|(id, _)| id));
    }
    let less = Unsubscribe {
        request: 4,
        groups: topics(&["red", "unheard of"]),
        ..Unsubscribe::default()
    };
    assert_eq!(dashboard.ask(AckKind::Unsubscribe, 4, less).watching, 2);
    let mut d = member(&gateway, "d", &["red", "blue"]);
    report(&mut a, fix(2));
    report(&mut d, fix(2));
    let told = told_until(&mut dashboard, "d", fix(2));
    assert!(!told.positions.iter().any(|(id, _)| id == "a"), "{told:?}");
    // The whole fleet, and none of it again: the groups stay.
    assert_eq!(dashboard.subscribe(watch_all(5)).watching, u32::MAX);
    let less = Unsubscribe {
        request: 6,
        whole_fleet: true,
        ..Unsubscribe::default()
    };
    dashboard.send(&less.into());
    loop {
        match dashboard.next() {
            Message::Ack(ack) => break assert_eq!(ack.watching, 3, "b, d and c"),
            Message::Names(_) | Message::Positions(_) => {}
            other => panic!("{other:?}"),
        }
    }
    let everything = Unsubscribe {
        request: 7,
        everything: true,
        ..Unsubscribe::default()
    };
    dashboard.drain();
    assert_eq!(
        dashboard.ask(AckKind::Unsubscribe, 7, everything).watching,
        0
    );
    let _e = member(&gateway, "e", &["blue"]);
    report(&mut b, fix(3));
    assert_eq!(dashboard.drain(), []);
}

/// Says a fresh token in place, and gives what came before its Ack.
#[track_caller]
fn renew(client: &mut Client, request: u64, token: String) -> Vec<Message> {
    client.send(&Authenticate { request, token }.into());
    let mut before = Vec::new();
    loop {
        match client.next() {
            Message::Ack(ack) => {
                assert_eq!((ack.kind, ack.id), (AckKind::Authenticate, request));
                return before;
            }
            other => before.push(other),
        }
    }
}

#[test]
fn a_renewed_token_narrows_and_widens_in_place() {
    for shards in [1, 3] {
        let gateway = Gateway::start(shards);
        let mut a = member(&gateway, "a", &["a"]);
        let mut b = member(&gateway, "b", &["b"]);
        let mut dashboard = Client::dashboard(&gateway, "me");
        let everything = ["positions", "presence", "events"];
        dashboard.subscribe(all_of(1, &everything));
        let of = |groups: &[&str]| [json!({ "groups": groups })];
        for vehicle in [&mut a, &mut b] {
            report(vehicle, fix(1));
        }
        told_until(&mut dashboard, "b", fix(1));
        told_so_far(&mut dashboard);
        renew(
            &mut dashboard,
            2,
            granted_token(&gateway, "me", &of(&["a"])),
        );
        let mut c = member(&gateway, "c", &["b"]);
        for vehicle in [&mut b, &mut c, &mut a] {
            vehicle.send(&event(0, "door").into());
            report(vehicle, fix(2));
        }
        let told = told_with(&mut dashboard, "a", fix(2));
        assert_eq!(told.whom(), set(&["a"]), "and no name of c: {told:?}");
        renew(
            &mut dashboard,
            3,
            granted_token(&gateway, "me", &of(&["b"])),
        );
        // What is new begins with a snapshot.
        let told = told_until(&mut dashboard, "c", fix(2));
        assert!(told.names.contains("c"), "{told:?}");
        report(&mut a, fix(3));
        report(&mut b, fix(3));
        let told = told_until(&mut dashboard, "b", fix(3));
        assert!(!told.positions.iter().any(|(id, _)| id == "a"), "{told:?}");
        renew(&mut dashboard, 4, gateway.dashboard_token("me"));
        report(&mut a, fix(4));
        told_until(&mut dashboard, "a", fix(4));
        // A vehicle's groups follow its tokens as well.
        let mut team = granted(&gateway, "team", &of(&["moved"]));
        assert_eq!(team.subscribe(all_of(1, &["positions"])).watching, 0);
        assert_eq!(
            renew(
                &mut a,
                5,
                token(&gateway, "vehicle", "a", &["--group", "moved"])
            ),
            []
        );
        told_until(&mut team, "a", fix(4));
        let bound = json!({ "topics": ["door"], "may": ["publish"] }).to_string();
        renew(
            &mut a,
            6,
            token(&gateway, "vehicle", "a", &["--grant", &bound]),
        );
        a.report(fix(5));
        a.error(ErrorCode::NotAllowed);
    }
}

fn call(
    gateway: &Gateway,
    fleet: Option<&str>,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let token = gateway.operator_token(fleet);
    let body = body.map_or_else(String::new, |body| body.to_string());
    let answer = admin(gateway.control(), method, path, Some(&token), &body);
    let says = serde_json::from_str(&answer.body);
    (answer.status, says.unwrap_or_else(|_| panic!("{answer:?}")))
}

#[test]
fn an_operator_moves_vehicles_between_groups_before_everybodys_eyes() {
    let folder = folder();
    let state = format!("state.directory={}", folder.path().display());
    for shards in [1, 3] {
        let gateway = Gateway::start_with(shards, &["--set", &state]);
        let group = format!("/admin/fleets/{FLEET}/groups/night-{shards}");
        let name = format!("night-{shards}");
        let mut a = Client::vehicle(&gateway, "a");
        let mut b = member(&gateway, "b", &[&name]);
        let mut team = granted(&gateway, "team", &[json!({ "groups": [name] })]);
        team.subscribe(all_of(1, &["positions", "presence", "events"]));
        report(&mut a, fix(1));
        report(&mut b, fix(1));
        let told = told_until(&mut team, "b", fix(1));
        assert_eq!(told.whom(), set(&["b"]));
        let add = json!({ "add": ["a", "to-come"] });
        let (status, says) = call(&gateway, None, "POST", &group, Some(add));
        assert_eq!(status, 200, "{says}");
        assert_eq!(
            says,
            json!({ "by_operator": 2, "in_force": true, "kept": true })
        );
        let told = told_until(&mut team, "a", fix(1));
        assert!(told.names.contains("to-come"), "{told:?}");
        let (_, says) = call(&gateway, Some(FLEET), "GET", &group, None);
        let member = |id: &str, by_operator: bool, by_token: bool| json!({ "id": id, "by_operator": by_operator, "by_token": by_token });
        let mut listed = says["vehicles"].as_array().expect("a list").clone();
        listed.sort_by_key(Value::to_string);
        let mut expected = vec![
            member("a", true, false),
            member("b", false, true),
            member("to-come", true, false),
        ];
        expected.sort_by_key(Value::to_string);
        assert_eq!(listed, expected, "{says}");
        // Once the call is answered, nothing of a vehicle that was taken out comes any more.
        for n in 2..12 {
            report(&mut a, fix(n));
            let less = json!({ "remove": ["a", "unheard of"] });
            let (status, says) = call(&gateway, None, "POST", &group, Some(less));
            assert_eq!((status, &says["in_force"]), (200, &json!(true)), "{says}");
            told_so_far(&mut team);
            report(&mut a, fix(1_000 * n));
            a.send(&event(0, "door").into());
            assert_eq!(a.drain(), []);
            report(&mut b, fix(n));
            let told = told_with(&mut team, "b", fix(n));
            assert!(!told.whom().contains("a"), "{told:?}");
            let more = json!({ "add": ["a"] });
            call(&gateway, Some(FLEET), "POST", &group, Some(more));
            told_until(&mut team, "a", fix(1_000 * n));
        }
        let these = json!({ "vehicles": ["b"] });
        call(&gateway, None, "PUT", &group, Some(these));
        let (status, says) = call(&gateway, None, "DELETE", &group, None);
        assert_eq!((status, &says["by_operator"]), (200, &json!(0)));
        report(&mut b, fix(20));
        told_until(&mut team, "b", fix(20));
        // By its token, whatever an operator takes away.
        let path = format!("/admin/fleets/{FLEET}/groups");
        let (_, says) = call(&gateway, None, "GET", &path, None);
        let listed = json!([{ "name": name, "members": 1, "by_operator": 0, "by_token": 1 }]);
        assert_eq!(says["groups"], listed);
    }
}

#[test]
fn groups_survive_a_restart_and_operators_keep_to_their_fleet() {
    let folder = folder();
    let state = format!("state.directory={}", folder.path().display());
    let start = || Gateway::start_with(2, &["--set", &state]);
    let path = |fleet: &str, group: &str| format!("/admin/fleets/{fleet}/groups/{group}");
    let night = path(FLEET, "night");
    let mut gateway = start();
    let body = json!({ "vehicles": ["a", "b"] });
    for (fleet, method, at, body, expected) in [
        (Some("other"), "PUT", &night, Some(&body), 403),
        (Some("other"), "GET", &night, None, 403),
        (Some(FLEET), "GET", &night, None, 404),
        (None, "PUT", &night, None, 415),
        (None, "PUT", &night, Some(&json!({ "vehicle": [] })), 400),
        (None, "PUT", &night, Some(&json!({ "vehicles": [""] })), 400),
        (None, "POST", &night, Some(&json!({})), 400),
        (None, "PUT", &path(FLEET, &"x".repeat(65)), Some(&body), 400),
        (Some(FLEET), "PUT", &night, Some(&body), 200),
    ] {
        let (status, says) = call(&gateway, fleet, method, at, body.cloned());
        assert_eq!(status, expected, "{method} {at}: {says}");
    }
    gateway.signal(rustix::process::Signal::TERM);
    gateway.wait();
    let mut gateway = start();
    let mut b = Client::vehicle(&gateway, "b");
    let mut c = Client::vehicle(&gateway, "c");
    let mut team = granted(&gateway, "team", &[json!({ "groups": ["night"] })]);
    assert_eq!(team.subscribe(watch_all(1)).watching, 2);
    report(&mut c, fix(1));
    report(&mut b, fix(1));
    assert_eq!(told_until(&mut team, "b", fix(1)).positions.len(), 1);
    // Killed, right after the answer.
    let less = json!({ "remove": ["b"] });
    assert_eq!(call(&gateway, None, "POST", &night, Some(less)).0, 200);
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();
    let gateway = start();
    let mut team = granted(&gateway, "team", &[json!({ "groups": ["night"] })]);
    assert_eq!(team.subscribe(watch_all(1)).watching, 1);
    drop(gateway);
    // A file that is none is set aside, and the node runs.
    std::fs::write(folder.path().join("groups.json"), "{").expect("the folder takes it");
    let gateway = start();
    assert_eq!(call(&gateway, None, "GET", &night, None).0, 404);
    assert!(folder.path().join("groups.json.refused").exists());
    // What another process of the node changes is found.
    let theirs = json!({ "version": 1, "fleets": { FLEET: { "day": ["d"] } } });
    let written = folder.path().join("tmp-of-the-test");
    std::fs::write(&written, theirs.to_string()).expect("the folder takes it");
    std::fs::rename(&written, folder.path().join("groups.json")).expect("the folder takes it");
    common::eventually("the other process's group is there", || {
        call(&gateway, None, "GET", &path(FLEET, "day"), None).0 == 200
    });
}
