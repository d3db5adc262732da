//! What the crowd of `churn` did and met with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::life::Act;

const REASONS_MAX: usize = 8;

/// Counters of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Attempts to connect.
    pub connects: u64,
    /// Connections that were welcomed.
    pub welcomed: u64,
    /// What clients did, by act.
    pub acts: BTreeMap<String, u64>,
    /// How the gateway ended connections, by close code; 1006: without a close frame.
    pub closes: BTreeMap<u16, u64>,
    /// Upgrades that were refused, by status.
    pub refusals: BTreeMap<u16, u64>,
    /// `Error` messages, by code.
    pub errors: BTreeMap<String, u64>,
    /// Oddities that are no fault: answers that did not come in time.
    pub odd: BTreeMap<String, u64>,
    /// `Ack` messages.
    pub acks: u64,
    /// `Positions` messages.
    pub frames: u64,
    /// Fixes in them.
    pub updates: u64,
    /// Frames or messages that a client could not read; must be 0.
    pub unparseable: u64,
    /// Fixes of an index that had no name on this connection; must be 0.
    pub unnamed: u64,
    /// Fixes that were older than one before, of the same vehicle on the same connection; must be 0.
    pub back_in_time: u64,
    /// What was wrong, the first few.
    pub reasons: Vec<String>,
}

impl Tally {
    /// A client did something.
    pub fn act(&mut self, act: Act) {
        let name = format!("{act:?}").to_lowercase();
        *self.acts.entry(name).or_default() += 1;
    }

    /// Something odd happened.
    pub fn odd(&mut self, what: &str) {
        if let Some(count) = self.odd.get_mut(what) {
            *count += 1;
        } else {
            self.odd.insert(what.to_owned(), 1);
        }
    }

    /// A client could not read something.
    pub fn unparseable(&mut self, why: String) {
        self.unparseable += 1;
        self.note(why);
    }

    /// Keeps a reason.
    pub fn note(&mut self, why: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }

    /// Everything that must not happen.
    pub fn faults(&self) -> u64 {
        self.unparseable + self.unnamed + self.back_in_time
    }
}
