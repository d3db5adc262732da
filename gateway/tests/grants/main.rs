//! What a token lets its bearer see, publish and order; sub-fleets, and vehicles that pass from one to another while
//! everybody is connected.
//!
//! - `scope.rs`: whom and what a dashboard sees, and what it is refused
//! - `rights.rs`: what may be ordered and published
//! - `changes.rs`: what changes while everybody is connected
//! - `groups.rs`: groups by name, and by an operator's word
//! - `told.rs`: what a dashboard was told

use std::collections::BTreeSet;

use longhaul_codec::{AckKind, Event, Fix, Message, Subscribe};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    client::{Client, watch_all},
    gateway::{FLEET, Gateway},
};

mod changes;
#[path = "../common/mod.rs"]
mod common;
mod groups;
mod rights;
mod scope;
mod told;

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

fn watch_groups(request: u64, names: &[&str]) -> Subscribe {
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

fn set<'a>(ids: &[&'a str]) -> BTreeSet<&'a str> {
    ids.iter().copied().collect()
}
