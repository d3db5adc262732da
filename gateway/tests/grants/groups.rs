//! Groups: watched by name, changed and kept by an operator's word.

use std::collections::BTreeSet;

use longhaul_codec::{AckKind, Message, Unsubscribe};
use serde_json::{Value, json};

use crate::{
    all_of,
    common::{
        self,
        client::{Client, fix, watch, watch_all},
        gateway::{FLEET, Gateway},
        http::admin,
    },
    event, folder, granted, member, report, set,
    told::{told_so_far, told_until, told_with},
    topics, watch_groups,
};

#[test]
fn groups_are_watched_and_unwatched_by_name() {
    let gateway = Gateway::start(2);
    let mut a = member(&gateway, "a", &["red"]);
    let mut b = member(&gateway, "b", &["blue"]);
    let mut c = Client::vehicle(&gateway, "c");
    let mut dashboard = Client::dashboard(&gateway, "me");
    assert_eq!(
        dashboard
            .subscribe(watch_groups(1, &["red", "green"]))
            .watching,
        1
    );
    assert_eq!(dashboard.subscribe(watch(2, &["c"])).watching, 2);
    assert_eq!(dashboard.subscribe(watch_groups(3, &["blue"])).watching, 3);
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
