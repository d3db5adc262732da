//! What the clients of `churn` hear, and what becomes of their connections.

use std::ops::Range;

use longhaul_codec::{MessageRef, decode};

use super::tally::Tally;
use crate::connection::{Closed, Incoming};
use crate::handshake::Refusal;
use crate::pool::Handler;
use crate::position::read_fix;

/// A vehicle whose connection was replaced by another of the same vehicle must not come back at once.
const TAKEN_OVER: u16 = 4_502;
/// An index without a name.
const UNNAMED: u64 = u64::MAX;
/// Gateway indexes are dense; one beyond this is a fault, not a reason to allocate.
const INDEX_MAX: u32 = 1 << 20;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not connected.
    Away(Away),
    /// Not welcomed yet.
    Connecting {
        /// And will not wait for it.
        impatient: bool,
    },
    /// Welcomed.
    Live,
    /// Welcomed, and reads nothing.
    Stalled,
    /// Has done what makes the gateway end the connection.
    Ending,
}

/// When a client that is away may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// As it likes.
    Freely,
    /// Another connection took its place.
    TakenOver,
    /// The gateway said when, in seconds.
    RetryAfter(u32),
}

/// The clients' ears.
pub struct Hearing {
    /// Per client.
    pub states: Vec<State>,
    /// What they met with.
    pub tally: Tally,
    dashboards: Range<usize>,
    /// Per dashboard and index: the time of the newest fix on this connection.
    newest: Vec<Vec<u64>>,
}

impl Hearing {
    /// `clients` that are all away, `dashboards` of them dashboards.
    pub fn new(clients: usize, dashboards: Range<usize>) -> Self {
        Self {
            states: vec![State::Away(Away::Freely); clients],
            tally: Tally::default(),
            newest: vec![Vec::new(); dashboards.len()],
            dashboards,
        }
    }

    /// Client `id` begins to connect.
    pub fn connecting(&mut self, id: usize, impatient: bool) {
        self.tally.connects += 1;
        self.states[id] = State::Connecting { impatient };
        if self.dashboards.contains(&id) {
            // Names are valid until the connection ends.
            self.newest[id - self.dashboards.start].clear();
        }
    }

    /// Client `id` ended its connection itself.
    pub fn left(&mut self, id: usize) {
        self.states[id] = State::Away(Away::Freely);
    }

    fn message(&mut self, id: usize, message: MessageRef<'_>) {
        match message {
            MessageRef::Welcome(_) => {
                self.tally.welcomed += 1;
                if matches!(self.states[id], State::Connecting { .. }) {
                    self.states[id] = State::Live;
                }
            }
            MessageRef::Ack(_) => self.tally.acks += 1,
            MessageRef::Error(error) => {
                let code = format!("{:?}", error.code());
                *self.tally.errors.entry(code).or_default() += 1;
            }
            MessageRef::Names(names) => {
                for index in names.vehicles() {
                    self.name(id, index);
                }
            }
            MessageRef::Positions(positions) => {
                self.tally.frames += 1;
                for fix in positions.fixes().bytes().chunks_exact(24).map(read_fix) {
                    self.position(id, fix.vehicle, fix.time_ms);
                }
            }
            // Later versions may say more.
            _ => {}
        }
    }

    fn name(&mut self, id: usize, index: u32) {
        if !self.dashboards.contains(&id) || index > INDEX_MAX {
            self.tally.unparseable(format!("a name for index {index}"));
            return;
        }
        let newest = &mut self.newest[id - self.dashboards.start];
        let at = index as usize;
        if at >= newest.len() {
            newest.resize(at + 1, UNNAMED);
        }
        if newest[at] == UNNAMED {
            newest[at] = 0;
        }
    }

    fn position(&mut self, id: usize, index: u32, time_ms: u64) {
        self.tally.updates += 1;
        let newest = self
            .dashboards
            .contains(&id)
            .then(|| &mut self.newest[id - self.dashboards.start])
            .and_then(|newest| newest.get_mut(index as usize))
            .filter(|newest| **newest != UNNAMED);
        match newest {
            None => self.tally.unnamed += 1,
            // The same again is the snapshot of a vehicle that was not watched for a while.
            Some(newest) if *newest > time_ms => self.tally.back_in_time += 1,
            Some(newest) => *newest = time_ms,
        }
    }
}

impl Handler for Hearing {
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, _now_ns: u64, _reply: &mut Vec<u8>) {
        let Incoming::Message { message, .. } = incoming else {
            return;
        };
        match decode(message) {
            Ok(message) => self.message(id, message),
            Err(error) => self
                .tally
                .unparseable(format!("a message does not decode: {error}")),
        }
    }

    fn closed(&mut self, id: usize, why: Closed) {
        let mut away = Away::Freely;
        match &why {
            Closed::Refused(Refusal::Status {
                status,
                retry_after,
                ..
            }) => {
                *self.tally.refusals.entry(*status).or_default() += 1;
                away = retry_after.map_or(Away::Freely, Away::RetryAfter);
            }
            Closed::Refused(Refusal::Invalid(_)) | Closed::Frame(_) | Closed::TooLong => {
                self.tally.unparseable(why.to_string());
            }
            _ => {
                let code = why.code();
                *self.tally.closes.entry(code).or_default() += 1;
                if code == TAKEN_OVER {
                    away = Away::TakenOver;
                }
            }
        }
        self.states[id] = State::Away(away);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_need_a_name_and_never_go_back() {
        let mut hearing = Hearing::new(3, 1..2);
        hearing.connecting(1, false);
        hearing.position(1, 5, 100);
        assert_eq!(hearing.tally.unnamed, 1);
        hearing.name(1, 5);
        hearing.position(1, 5, 100);
        hearing.position(1, 5, 100);
        assert_eq!(hearing.tally.faults(), 1);
        hearing.position(1, 5, 99);
        assert_eq!(hearing.tally.back_in_time, 1);
        // A new connection begins with nothing.
        hearing.connecting(1, false);
        hearing.position(1, 5, 100);
        assert_eq!(hearing.tally.unnamed, 2);
    }

    #[test]
    fn whoever_was_taken_over_stays_away_for_a_while() {
        let mut hearing = Hearing::new(1, 0..0);
        let reason = String::new();
        hearing.closed(
            0,
            Closed::Close {
                code: 4_502,
                reason,
            },
        );
        assert_eq!(hearing.states[0], State::Away(Away::TakenOver));
        hearing.closed(0, Closed::Eof);
        assert_eq!(hearing.states[0], State::Away(Away::Freely));
        assert_eq!(hearing.tally.closes, [(4_502, 1), (1_006, 1)].into());
    }
}
