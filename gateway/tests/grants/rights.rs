//! What a token lets its bearer do: order vehicles, and publish.

use std::collections::BTreeSet;

use longhaul_codec::{AckKind, Command, ErrorCode, Message};
use serde_json::{Value, json};

use crate::{
    all_of,
    common::client::{Client, fix},
    event, folder, granted, member, publish, report, set, token,
    told::told_with,
    with_events,
};

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
