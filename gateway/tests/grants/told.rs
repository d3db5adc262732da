//! What a dashboard was told, held against what it may be told.

use std::collections::BTreeSet;

use longhaul_codec::{Fix, Message, PresenceState};

use crate::common::client::Client;

/// What a dashboard was told, by vehicle id.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub names: BTreeSet<String>,
    pub positions: Vec<(String, u64)>,
    pub presence: Vec<(String, PresenceState)>,
    pub events: Vec<(String, String)>,
}

impl Told {
    pub fn note(&mut self, dashboard: &Client, message: Message) {
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
    pub fn whom(&self) -> BTreeSet<&str> {
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
pub fn told_until(dashboard: &mut Client, id: &str, fix: Fix) -> Told {
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
pub fn told_with(dashboard: &mut Client, id: &str, fix: Fix) -> Told {
    let mut told = told_until(dashboard, id, fix);
    told.note_rest(dashboard);
    told
}

/// What has come without asking.
pub fn told_so_far(dashboard: &mut Client) -> Told {
    let mut told = Told::default();
    told.note_rest(dashboard);
    told
}
