//! What a client does next: a random life, drawn from a seed. Knows no sockets and no clock.

use std::time::Duration;

use longhaul_codec::SubscribeMode;
use serde::Serialize;

/// What a client that is connected does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A vehicle says where it is.
    Report,
    /// A dashboard watches more, or others.
    Subscribe,
    /// A dashboard watches the whole fleet.
    WatchFleet,
    /// A dashboard watches less.
    Unsubscribe,
    /// Reads nothing for a while.
    Stall,
    /// Ends with a reset.
    Reset,
    /// Ends without a close frame.
    HangUp,
    /// Ends with a close handshake.
    Farewell,
    /// Sends bytes that are no message.
    Rubbish,
    /// Breaks RFC 6455.
    Violation,
    /// A vehicle connects a second time under the same identity.
    Twin,
}

const VEHICLE: &[(Act, u32)] = &[
    (Act::Report, 68),
    (Act::Stall, 6),
    (Act::Reset, 5),
    (Act::HangUp, 5),
    (Act::Farewell, 5),
    (Act::Rubbish, 5),
    (Act::Violation, 2),
    (Act::Twin, 4),
];
const DASHBOARD: &[(Act, u32)] = &[
    (Act::Subscribe, 45),
    (Act::WatchFleet, 8),
    (Act::Unsubscribe, 15),
    (Act::Stall, 10),
    (Act::Reset, 5),
    (Act::HangUp, 5),
    (Act::Farewell, 5),
    (Act::Rubbish, 5),
    (Act::Violation, 2),
];
/// Ways to leave when all do.
const LEAVING: &[(Act, u32)] = &[(Act::Reset, 1), (Act::HangUp, 1), (Act::Farewell, 2)];

/// Frames that RFC 6455 forbids a client to send, as they stand on the wire.
const VIOLATIONS: &[&[u8]] = &[
    // §5.1: not masked.
    &[0x82, 0x01, 0x00],
    // §5.2: a reserved bit.
    &[0xc2, 0x80, 0, 0, 0, 0],
    // §5.2: an unknown opcode.
    &[0x83, 0x80, 0, 0, 0, 0],
    // §5.5: a control frame in pieces.
    &[0x09, 0x80, 0, 0, 0, 0],
    // §5.4: a continuation of nothing.
    &[0x80, 0x80, 0, 0, 0, 0],
    // A text message, which this subprotocol does not have.
    &[0x81, 0x80, 0, 0, 0, 0],
    // A gigabyte, announced.
    &[0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0],
];

/// One client's dice.
pub struct Life {
    rng: fastrand::Rng,
    vehicle: bool,
}

/// What a dashboard asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// More, or others.
    pub mode: SubscribeMode,
    /// Numbers of vehicles.
    pub vehicles: Vec<u32>,
    /// `Subscribe.min_interval_ms`.
    pub min_interval_ms: u32,
}

impl Life {
    /// Client number `client` of a run with `seed`.
    pub fn new(seed: u64, client: usize, vehicle: bool) -> Self {
        let mixed = seed ^ (client as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            rng: fastrand::Rng::with_seed(mixed),
            vehicle,
        }
    }

    /// What it does next while it is connected.
    pub fn act(&mut self) -> Act {
        let table = if self.vehicle { VEHICLE } else { DASHBOARD };
        self.pick(table)
    }

    /// How it leaves for good.
    pub fn leave(&mut self) -> Act {
        self.pick(LEAVING)
    }

    fn pick(&mut self, table: &[(Act, u32)]) -> Act {
        let all = table.iter().map(|&(_, weight)| weight).sum();
        let mut at = self.rng.u32(0..all);
        for &(act, weight) in table {
            if at < weight {
                return act;
            }
            at -= weight;
        }
        table[0].0
    }

    /// From one act to the next. A connection stays well below the gateway's limit of messages per second.
    pub fn between_acts(&mut self) -> Duration {
        self.between(20, 400)
    }

    /// How long it is away.
    pub fn away(&mut self) -> Duration {
        self.between(50, 1_000)
    }

    /// How long it stays away after somebody else took its place: coming back at once would start a quarrel.
    pub fn away_after_takeover(&mut self) -> Duration {
        self.between(1_000, 3_000)
    }

    /// How long it reads nothing.
    pub fn stall(&mut self) -> Duration {
        self.between(100, 2_500)
    }

    /// Some do not even wait for the answer to their upgrade: how long they do.
    pub fn impatience(&mut self) -> Option<Duration> {
        (self.rng.u32(0..20) == 0).then(|| self.between(0, 5))
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.u64(from_ms..=to_ms))
    }

    /// What to watch, out of `vehicles`.
    pub fn wish(&mut self, vehicles: u32) -> Wish {
        let mode = if self.rng.bool() {
            SubscribeMode::Add
        } else {
            SubscribeMode::Replace
        };
        let count = self.rng.u32(1..=50);
        let intervals = [0, 0, 50, 250, 1_000];
        Wish {
            mode,
            vehicles: (0..count).map(|_| self.rng.u32(0..vehicles)).collect(),
            min_interval_ms: intervals[self.rng.usize(0..intervals.len())],
        }
    }

    /// Bytes that are no message of the protocol.
    pub fn rubbish(&mut self) -> Vec<u8> {
        let length = self.rng.usize(1..200);
        let mut bytes: Vec<u8> = (0..length).map(|_| self.rng.u8(..)).collect();
        // The root's offset leads far beyond the end, so that it never is a message by accident.
        bytes.splice(0..bytes.len().min(4), [0xff; 4]);
        bytes
    }

    /// A frame that a client must not send.
    pub fn violation(&mut self) -> &'static [u8] {
        VIOLATIONS[self.rng.usize(0..VIOLATIONS.len())]
    }

    /// A place on Earth.
    pub fn place(&mut self) -> (i32, i32) {
        let lat_e7 = self.rng.i32(-900_000_000..=900_000_000);
        let lon_e7 = self.rng.i32(-1_800_000_000..=1_800_000_000);
        (lat_e7, lon_e7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_a_life() {
        let life = |seed| {
            let mut life = Life::new(seed, 3, true);
            (0..50).map(|_| life.act()).collect::<Vec<_>>()
        };
        assert_eq!(life(1), life(1));
        assert_ne!(life(1), life(2));
    }

    #[test]
    fn everything_happens_and_nothing_that_the_role_does_not_do() {
        for (vehicle, table) in [(true, VEHICLE), (false, DASHBOARD)] {
            let mut life = Life::new(7, 0, vehicle);
            let found: BTreeSet<Act> = (0..5_000).map(|_| life.act()).collect();
            assert_eq!(found, table.iter().map(|&(act, _)| act).collect());
        }
    }

    #[test]
    fn rubbish_never_decodes() {
        let mut life = Life::new(7, 0, true);
        for _ in 0..1_000 {
            assert!(longhaul_codec::decode(&life.rubbish()).is_err());
        }
    }
}
