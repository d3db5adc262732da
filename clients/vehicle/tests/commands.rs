//! Commands from a dashboard to the vehicle and their results back, against the real gateway.

mod common;

use std::time::Duration;

use common::{Dashboard, Gateway, PATIENCE, config, connected, eventually};
use longhaul_vehicle::{AnswerError, Command, CommandResult, CommandStatus, Vehicle};
use tokio::sync::mpsc;

fn lock(command_id: u64) -> Command {
    Command {
        command_id,
        vehicle_id: Some("truck-1".to_owned()),
        name: "lock".to_owned(),
        ttl_ms: 60_000,
        payload: b"all doors".to_vec(),
        ..Command::default()
    }
}

async fn next(commands: &mut mpsc::Receiver<Command>) -> Command {
    let command = tokio::time::timeout(PATIENCE, commands.recv()).await;
    command.expect("it comes").expect("the client runs")
}

fn done(command: &Command, text: &str) -> CommandResult {
    CommandResult {
        command_id: command.command_id,
        payload: text.as_bytes().to_vec(),
        ..CommandResult::default()
    }
}

/// The results that a dashboard has, as number, status and text.
fn results(dashboard: &Dashboard) -> Vec<(u64, CommandStatus, String)> {
    let seen = dashboard.seen();
    let results = seen.results.iter();
    let text = |result: &CommandResult| String::from_utf8_lossy(&result.payload).into_owned();
    results
        .map(|result| (result.command_id, result.status, text(result)))
        .collect()
}

#[tokio::test]
async fn a_command_is_done_and_its_result_comes_back() {
    let gateway = Gateway::start();
    let config = config(
        &gateway.url(),
        &gateway.vehicle_token("truck-1"),
        gateway.folder(),
        "truck-1",
    );
    let (vehicle, mut commands) = Vehicle::start(config).expect("it starts");
    connected(&vehicle).await;
    let dashboard = Dashboard::commander(&gateway, "me").await;
    dashboard.send(lock(9));
    let command = next(&mut commands).await;
    assert_eq!(
        (command.name.as_str(), command.payload.as_slice()),
        ("lock", &b"all doors"[..])
    );
    assert!(command.ttl_ms <= 60_000 && command.accepted_ms > 0);
    vehicle
        .answer(done(&command, "locked"))
        .expect("it is in hand");
    let expected = (9, CommandStatus::Done, "locked".to_owned());
    eventually("the result", || results(&dashboard).contains(&expected)).await;
    let again = vehicle.answer(done(&command, "locked"));
    assert_eq!(again, Err(AnswerError::Unknown(command.command_id)));
    assert_eq!(vehicle.counters().commands, 1);
}

#[tokio::test]
async fn a_command_survives_a_reconnect_and_is_handed_out_once() {
    let gateway = Gateway::start();
    let config = config(
        &gateway.url(),
        &gateway.vehicle_token("truck-1"),
        gateway.folder(),
        "truck-1",
    );
    let (vehicle, mut commands) = Vehicle::start(config).expect("it starts");
    connected(&vehicle).await;
    let dashboard = Dashboard::commander(&gateway, "me").await;
    dashboard.send(lock(9));
    let command = next(&mut commands).await;
    // The gateway is gone before there is a result, and comes back with its log.
    drop(dashboard);
    let gateway = gateway.restart(&[]);
    connected(&vehicle).await;
    eventually("back", || vehicle.counters().reconnects == 1).await;
    let dashboard = Dashboard::commander(&gateway, "me").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(commands.try_recv().is_err(), "it is in hand already");
    vehicle
        .answer(done(&command, "locked"))
        .expect("it is in hand");
    let expected = (9, CommandStatus::Done, "locked".to_owned());
    eventually("the result", || results(&dashboard).contains(&expected)).await;
}

#[tokio::test]
async fn a_vehicle_that_takes_no_commands_says_so() {
    let gateway = Gateway::start();
    let config = config(
        &gateway.url(),
        &gateway.vehicle_token("truck-1"),
        gateway.folder(),
        "truck-1",
    );
    let (vehicle, commands) = Vehicle::start(config).expect("it starts");
    drop(commands);
    connected(&vehicle).await;
    let dashboard = Dashboard::commander(&gateway, "me").await;
    dashboard.send(lock(9));
    eventually("the refusal", || {
        results(&dashboard)
            .iter()
            .any(|(id, status, _)| (*id, *status) == (9, CommandStatus::Refused))
    })
    .await;
}
