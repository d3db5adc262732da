//! Clients in other languages, on libraries that others wrote, publish and subscribe for real.
//!
//! One that cannot be started is a failure: `scripts/test` installs what they need.

use longhaul_codec::{ErrorCode, Subscribe};
use rustix::process::Signal;
use serde_json::json;

use crate::common::client::{Client, fix};
use crate::common::foreign::{Foreign, Library};
use crate::common::gateway::Gateway;

mod common;

/// Publishes with a foreign vehicle, and checks each fix at a client of ours.
fn publishes(library: Library) {
    let gateway = Gateway::start(2);
    let mut dashboard = Client::dashboard(&gateway, "me");
    let vehicles = vec!["truck-1".to_owned()];
    dashboard.subscribe(Subscribe {
        request: 1,
        vehicles,
        ..Subscribe::default()
    });

    let mut vehicle = Foreign::connect(library, &gateway, "vehicle", "truck-1");
    for n in 1..=20 {
        vehicle.report(fix(n));
        let (id, seen) = dashboard.position();
        let sent = fix(n);
        assert_eq!(id, "truck-1");
        assert_eq!(
            seen,
            longhaul_codec::Fix {
                vehicle: seen.vehicle,
                ..sent
            }
        );
    }
    // Its identity is its token's.
    vehicle.tell(json!({ "fix": fix(21), "vehicle_id": "truck-2" }));
    vehicle.expect(json!({ "error": "WrongIdentity" }));
    vehicle.tell(json!({ "fix": fix(22), "vehicle_id": "truck-1" }));
    assert_eq!(dashboard.position().1.time_ms, fix(22).time_ms);
    vehicle.close();
}

/// Subscribes with a foreign dashboard to vehicles of ours, and checks each fix.
fn subscribes(library: Library) {
    let gateway = Gateway::start(2);
    let mut one = Client::vehicle(&gateway, "truck-1");
    let mut two = Client::vehicle(&gateway, "truck-2");
    one.report(fix(1));
    one.drain();

    let mut dashboard = Foreign::connect(library, &gateway, "dashboard", "me");
    dashboard.tell(json!({ "subscribe": ["truck-1", "truck-2"] }));
    dashboard.expect(json!({ "ack": { "kind": "Subscribe", "watching": 2 } }));
    dashboard.expect_fix("truck-1", fix(1));
    for n in 2..=20 {
        one.report(fix(n));
        dashboard.expect_fix("truck-1", fix(n));
        two.report(fix(100 + n));
        dashboard.expect_fix("truck-2", fix(100 + n));
    }

    dashboard.tell(json!({ "unsubscribe": ["truck-1"] }));
    dashboard.expect(json!({ "ack": { "kind": "Unsubscribe", "watching": 1 } }));
    one.report(fix(21));
    one.drain();
    two.report(fix(121));
    dashboard.expect_fix("truck-2", fix(121));

    dashboard.tell(json!({ "whole_fleet": true }));
    dashboard.expect(json!({ "ack": { "kind": "Subscribe", "watching": u32::MAX } }));
    dashboard.expect_fix("truck-1", fix(21));
    let mut three = Client::vehicle(&gateway, "truck-3");
    three.report(fix(200));
    dashboard.expect_fix("truck-3", fix(200));

    // A vehicle's message from a dashboard.
    dashboard.tell(json!({ "fix": fix(1) }));
    dashboard.expect(json!({ "error": "NotAllowed" }));
    dashboard.close();
}

#[test]
fn python_json_publishes() {
    publishes(Library::PythonJson);
}

#[test]
fn python_json_subscribes() {
    subscribes(Library::PythonJson);
}

#[test]
fn python_binary_publishes() {
    publishes(Library::PythonBinary);
}

#[test]
fn python_binary_subscribes() {
    subscribes(Library::PythonBinary);
}

#[test]
fn node_publishes() {
    publishes(Library::Node);
}

#[test]
fn node_subscribes() {
    subscribes(Library::Node);
}

#[test]
fn websocat_publishes() {
    publishes(Library::Websocat);
}

#[test]
fn websocat_subscribes() {
    subscribes(Library::Websocat);
}

#[test]
fn every_client_hears_every_other() {
    let gateway = Gateway::start(2);
    let mut dashboards = Library::ALL.map(|library| {
        let user = format!("{library:?}");
        Foreign::connect(library, &gateway, "dashboard", &user)
    });
    let ids = Library::ALL.map(|library| format!("truck of {library:?}"));
    for dashboard in &mut dashboards {
        dashboard.tell(json!({ "subscribe": ids }));
        dashboard.expect(json!({ "ack": { "kind": "Subscribe", "watching": 4 } }));
    }
    let mut vehicles = Library::ALL.map(|library| {
        let id = format!("truck of {library:?}");
        Foreign::connect(library, &gateway, "vehicle", &id)
    });
    for round in 1..=5 {
        for (at, vehicle) in vehicles.iter_mut().enumerate() {
            let fix = fix(10 * round + at as u32);
            vehicle.report(fix);
            for dashboard in &mut dashboards {
                dashboard.expect_fix(&ids[at], fix);
            }
        }
    }
    for client in vehicles.into_iter().chain(dashboards) {
        client.close();
    }
}

#[test]
fn every_client_is_told_that_the_gateway_stops() {
    let mut gateway = Gateway::start(2);
    let mut clients = Library::ALL.map(|library| {
        let user = format!("{library:?}");
        Foreign::connect(library, &gateway, "dashboard", &user)
    });
    gateway.signal(Signal::TERM);
    for (client, library) in clients.iter_mut().zip(Library::ALL) {
        if library != Library::Websocat {
            client.expect(json!({ "closed": 1012 }));
        }
        client.wait();
    }
    assert!(gateway.wait().success());
}

/// The errors that clients in other languages see by name are the schema's.
#[test]
fn error_names_are_the_schemas() {
    assert_eq!(json!(ErrorCode::WrongIdentity), "WrongIdentity");
    assert_eq!(json!(ErrorCode::NotAllowed), "NotAllowed");
}
