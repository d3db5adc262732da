//! Commands: kept while the vehicle is away, delivered in order, answered, and reported when they are too late.

use longhaul_codec::{AckKind, Command, CommandResult, CommandStatus, ErrorCode, Message};
use tempfile::TempDir;

use crate::common::{
    client::Client,
    gateway::{FLEET, Gateway},
};

mod common;

fn start(shards: usize, folder: &TempDir) -> Gateway {
    let directory = folder.path().join("events");
    let directory = directory
        .to_str()
        .expect("temporary folders have plain names");
    let directory = format!("events.directory={directory}");
    Gateway::start_with(
        shards,
        &["--set", &directory, "--set", "events.free_bytes_min=0"],
    )
}

fn folder() -> TempDir {
    TempDir::new().expect("a folder for the test")
}

/// The token of a dashboard that may send commands.
fn commander(gateway: &Gateway, user: &str) -> String {
    let key = gateway.key();
    let key = key.to_str().expect("temporary folders have plain names");
    common::gateway::token(
        &["--dev-key", key, "--may", "command"],
        "dashboard",
        FLEET,
        user,
    )
}

fn command(command_id: u64, vehicle: &str, ttl_ms: u32) -> Command {
    Command {
        command_id,
        vehicle_id: Some(vehicle.to_owned()),
        name: "lock".to_owned(),
        ttl_ms,
        payload: b"doors".to_vec(),
        ..Command::default()
    }
}

fn taken(dashboard: &mut Client, id: u64) {
    match dashboard.next() {
        Message::Ack(ack) => assert_eq!((ack.kind, ack.id), (AckKind::Command, id)),
        other => panic!("no Ack of {id}: {other:?}"),
    }
}

fn next_command(vehicle: &mut Client) -> Command {
    match vehicle.next() {
        Message::Command(command) => command,
        other => panic!("no command: {other:?}"),
    }
}

fn next_result(dashboard: &mut Client) -> CommandResult {
    match dashboard.next() {
        Message::CommandResult(result) => result,
        other => panic!("no result: {other:?}"),
    }
}

fn done(command: &Command) -> CommandResult {
    CommandResult {
        command_id: command.command_id,
        status: CommandStatus::Done,
        payload: b"ok".to_vec(),
        ..CommandResult::default()
    }
}

#[test]
fn a_command_is_delivered_and_its_result_comes_back() {
    for shards in [1, 3] {
        let folder = folder();
        let gateway = start(shards, &folder);
        let mut truck = Client::vehicle(&gateway, "truck-1");
        let mut bus = Client::connect_json(&gateway, &gateway.vehicle_token("bus-1"));
        let mut desk = Client::connect(&gateway, &commander(&gateway, "ada"));
        for (vehicle, id) in [(&mut truck, 7), (&mut bus, 8)] {
            let name = vehicle.welcome().subject.clone();
            desk.send(&command(id, &name, 60_000).into());
            taken(&mut desk, id);
            let arrived = next_command(vehicle);
            assert_eq!(
                (arrived.name.as_str(), arrived.payload.as_slice()),
                ("lock", b"doors".as_slice())
            );
            assert!(
                !arrived.redelivered && arrived.accepted_ms > 0 && arrived.vehicle_id.is_none()
            );
            assert!((1..=60_000).contains(&arrived.ttl_ms), "{arrived:?}");
            vehicle.send(&done(&arrived).into());
            let expected = CommandResult {
                command_id: id,
                vehicle: vehicle.welcome().vehicle,
                ..done(&arrived)
            };
            assert_eq!(next_result(&mut desk), expected);
            // Sent again, it is not done again.
            desk.send(&command(id, &name, 60_000).into());
            taken(&mut desk, id);
            assert_eq!(next_result(&mut desk), expected);
            assert!(vehicle.drain().is_empty());
        }
    }
}

#[test]
fn commands_wait_for_a_vehicle_that_is_away_over_a_restart_too() {
    let folder = folder();
    let mut gateway = start(2, &folder);
    Client::vehicle(&gateway, "truck-1").close();
    let mut desk = Client::connect(&gateway, &commander(&gateway, "ada"));
    for id in 1..=20 {
        desk.send(&command(id, "truck-1", 600_000).into());
        taken(&mut desk, id);
    }
    desk.send(&command(21, "truck-1", 1_000).into());
    taken(&mut desk, 21);
    let expired = next_result(&mut desk);
    assert_eq!(
        (expired.command_id, expired.status),
        (21, CommandStatus::Expired)
    );
    gateway.signal(rustix::process::Signal::KILL);
    gateway.wait();

    let gateway = start(2, &folder);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut numbers = Vec::new();
    // A few at a time; the next one comes with a result.
    for _ in 0..8 {
        numbers.push(next_command(&mut truck));
    }
    assert!(truck.drain().is_empty(), "eight are at the vehicle");
    for at in 0..20 {
        truck.send(&done(&numbers[at]).into());
        if numbers.len() < 20 {
            numbers.push(next_command(&mut truck));
        }
    }
    assert!(numbers.is_sorted_by_key(|command| command.command_id));
    assert!(truck.drain().is_empty());
    // The user was not there: the results come with the next connection. Before the kill there may have been no time to
    // write down that one of them was told.
    let mut desk = Client::connect(&gateway, &commander(&gateway, "ada"));
    let mut told = Vec::new();
    while told.len() < 20 {
        let result = next_result(&mut desk);
        if result.command_id == 21 {
            assert_eq!(result.status, CommandStatus::Expired);
        } else {
            assert_eq!(result.status, CommandStatus::Done);
            told.push(result.command_id);
        }
    }
    told.sort_unstable();
    assert_eq!(told, (1..=20).collect::<Vec<_>>());
    assert!(desk.drain().is_empty());
}

#[test]
fn a_vehicle_that_comes_back_gets_unfinished_commands_again() {
    let folder = folder();
    let gateway = start(3, &folder);
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let mut desk = Client::connect(&gateway, &commander(&gateway, "ada"));
    for id in 1..=3 {
        desk.send(&command(id, "truck-1", 600_000).into());
        taken(&mut desk, id);
    }
    let first: Vec<_> = (0..3).map(|_| next_command(&mut truck)).collect();
    truck.send(&done(&first[1]).into());
    assert_eq!(next_result(&mut desk).command_id, 2);
    // It takes over from itself.
    let mut truck = Client::vehicle(&gateway, "truck-1");
    let again: Vec<_> = (0..2).map(|_| next_command(&mut truck)).collect();
    for (again, first) in again.iter().zip([&first[0], &first[2]]) {
        assert_eq!(
            (again.command_id, again.redelivered),
            (first.command_id, true)
        );
    }
}

#[test]
fn who_may_not_or_cannot_is_told() {
    let folder = folder();
    let gateway = start(1, &folder);
    let _truck = Client::vehicle(&gateway, "truck-1");
    let mut watcher = Client::dashboard(&gateway, "eve");
    watcher.send(&command(1, "truck-1", 1_000).into());
    let error = watcher.error(ErrorCode::NotAllowed);
    assert_eq!(error.id, 1);
    assert!(error.message.contains("`may`"), "{error:?}");
    let mut desk = Client::connect(&gateway, &commander(&gateway, "ada"));
    let cases = [
        (command(2, "nobody", 1_000), ErrorCode::UnknownVehicle),
        (command(3, "truck-1", 0), ErrorCode::Malformed),
        (command(4, "truck-1", u32::MAX), ErrorCode::LimitReached),
        (
            Command {
                payload: vec![0; 16_385],
                ..command(5, "truck-1", 1_000)
            },
            ErrorCode::TooLarge,
        ),
    ];
    for (wrong, code) in cases {
        let id = wrong.command_id;
        desk.send(&wrong.into());
        assert_eq!(desk.error(code).id, id);
    }
    let without_a_log = Gateway::start(1);
    let _truck = Client::vehicle(&without_a_log, "truck-1");
    let mut desk = Client::connect(&without_a_log, &commander(&without_a_log, "ada"));
    desk.send(&command(6, "truck-1", 1_000).into());
    assert_eq!(desk.error(ErrorCode::NotDurable).id, 6);
}
