//! Heartbeats and time-outs without a timer per connection: each tick looks at a slice of the slab, so that every
//! connection is looked at once per period and the pings that follow are spread over it.

use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase, Receive, holder},
    ring::{Key, Ring, sys},
};
use crate::{
    limits::LINGER_MS,
    session::{close, penalty::Offence},
    websocket::{Control, Refusal, outgoing},
};

/// The longest and shortest periods in which every connection is looked at once.
const PERIOD_MS: std::ops::RangeInclusive<u64> = 250..=5_000;

/// A send that takes this long is looked at more closely.
const SLOW_SEND_MS: u64 = 250;
/// Room that the kernel needs for a close frame behind a data frame, with its own overhead, in bytes.
const CLOSE_FRAME_ROOM: usize = 65_536;

/// Where the sweep is.
#[derive(Debug, Default)]
pub struct Sweep {
    next: u32,
    last_ms: u64,
    /// Slots that are due, in 1/period: what a tick's slice leaves over.
    owed: u64,
}

impl Sweep {
    /// How many slots to look at now, so that `slots` are looked at in `period_ms`.
    pub(super) fn due(&mut self, now_ms: u64, slots: u32, period_ms: u64) -> u32 {
        let elapsed = now_ms.saturating_sub(self.last_ms).min(period_ms);
        self.last_ms = now_ms;
        self.owed += u64::from(slots) * elapsed;
        let due = self.owed / period_ms;
        self.owed %= period_ms;
        due as u32
    }
}

impl Core {
    /// Looks at this tick's slice.
    pub(super) fn sweep(&mut self, ring: &mut Ring, now: Now) {
        self.gate.settle(now.mono_us);
        let settings = &self.config.connection;
        let shortest = settings
            .handshake_timeout_ms
            .min(settings.quiet_after_ms)
            .min(settings.heartbeat_ms)
            .min(settings.stale_after_ms)
            .min(settings.message_timeout_ms)
            .min(settings.send_timeout_ms);
        let period = (shortest / 4).clamp(*PERIOD_MS.start(), *PERIOD_MS.end());
        let slots = self.connections.slots();
        for _ in 0..self.sweep.due(now.mono_ms, slots, period) {
            let slot = self.sweep.next % slots;
            self.sweep.next = (slot + 1) % slots;
            if let Some((key, _)) = self.connections.slot_mut(slot) {
                self.look_at(ring, key, now);
            }
        }
    }

    fn look_at(&mut self, ring: &mut Ring, key: Key, now: Now) {
        let settings = &self.config.connection;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.messages.settle(now.mono_us);
        connection.bytes.settle(now.mono_us);
        let silent_ms = now.stamp().ms_since(connection.heard);
        let inactive_ms = now.stamp().ms_since(connection.active);
        let sending_ms = now.stamp().ms_since(connection.sending_since);
        let phase = connection.phase;
        let handshaking = connection.peer.is_coming();
        let slow = connection.sending && sending_ms >= SLOW_SEND_MS;
        match phase {
            Phase::Aborting => {}
            Phase::Lingering if silent_ms >= LINGER_MS => self.abort(ring, key),
            Phase::Closing if silent_ms >= settings.send_timeout_ms + LINGER_MS => {
                self.abort(ring, key)
            }
            Phase::Lingering | Phase::Closing => {}
            Phase::Open if self.bulk.holds(key) && !slow => self.excuse_waiting(key, now),
            Phase::Open if handshaking => {
                // Since it was accepted, not since its last byte: trickling in a header buys no time.
                if inactive_ms >= settings.handshake_timeout_ms {
                    let reason = "no complete upgrade request came in time (connection.handshake_timeout_ms)";
                    self.refuse(
                        key,
                        &Refusal::new(http::StatusCode::REQUEST_TIMEOUT, reason),
                    );
                }
            }
            Phase::Open if slow && self.is_stalled(key, now) => self.evict(ring, key),
            Phase::Open => self.look_at_open(ring, key, now, silent_ms, inactive_ms),
        }
    }

    /// A connection with nothing wrong so far.
    fn look_at_open(
        &mut self,
        ring: &mut Ring,
        key: Key,
        now: Now,
        silent_ms: u64,
        inactive_ms: u64,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let has_feed =
            matches!(&connection.peer, Peer::Dashboard(dashboard) if dashboard.feed.is_some());
        if has_feed {
            self.look_at_feed(key, now);
        }
        let settings = &self.config.connection;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if silent_ms >= settings.dead_after_ms {
            return self.close(key, close::SILENT);
        }
        if connection.assembler.unfinished_ms(now.mono_ms) >= settings.message_timeout_ms {
            self.metrics.limit_hit_message_time.inc();
            self.offend(key, Offence::Unfinished);
            return self.close(key, close::UNFINISHED);
        }
        if inactive_ms >= settings.quiet_after_ms && connection.receive == Receive::Armed {
            connection.receive = Receive::Quieting;
            ring.cancel_receive(key);
        }
        let ping =
            silent_ms >= ping_after_ms(key.slot, settings.heartbeat_ms) && !connection.pinged;
        connection.pinged |= ping;
        if let Peer::Vehicle { fleet, vehicle } = connection.peer
            && !connection.stale
            && inactive_ms >= settings.stale_after_ms
        {
            self.set_stale(key, fleet, vehicle, true);
        }
        if ping {
            self.metrics.pings_out.add(1);
            self.enqueue(key, outgoing::control_frame(Control::Ping, &[]).into());
        }
    }

    /// Whether the peer has acknowledged nothing of what it is being sent for too long. A large frame on a slow link
    /// that works is none to cut.
    fn is_stalled(&mut self, key: Key, now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        // Without the kernel's word, time alone has to do.
        let acked = sys::bytes_acked(connection.fd).unwrap_or(0);
        self.stalls.look(key, acked, now.stamp()) >= self.config.connection.send_timeout_ms
    }

    /// Closes a slow consumer. The kernel is made to take what is left of the frame under way and the close frame, so
    /// that a peer that wakes up learns what happened.
    fn evict(&mut self, ring: &mut Ring, key: Key) {
        self.stalls.forget(key);
        let rest = ring.sending_bytes(key);
        self.close(key, close::SLOW_CONSUMER);
        if let Some(connection) = self.connections.get_mut(key) {
            sys::widen(connection.fd, rest + CLOSE_FRAME_ROOM);
        }
    }

    /// A vehicle has not reported for too long, or has again.
    pub(super) fn set_stale(
        &mut self,
        key: Key,
        fleet: FleetId,
        vehicle: VehicleIndex,
        stale: bool,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.stale = stale;
        if stale {
            self.metrics.vehicles_stale.add(1);
        } else {
            self.metrics.vehicles_stale.sub(1);
        }
        let me = holder(self.exchange.shard(), key);
        if self
            .fleet
            .presence
            .set_stale(vehicle, me, stale, self.now.unix_ms)
        {
            self.out.presence.mark(fleet, vehicle);
        }
    }
}

/// How long the connection in a slot may be silent until it is pinged: its own moment between half of the heartbeat and
/// all of it, so that connections that came at the same time are not pinged at the same time.
fn ping_after_ms(slot: u32, heartbeat_ms: u64) -> u64 {
    // Fibonacci hashing: neighbours land far apart.
    let spread = u64::from(slot.wrapping_mul(0x9E37_79B9));
    heartbeat_ms / 2 + ((heartbeat_ms.div_ceil(2) * spread) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_spread_over_half_a_heartbeat() {
        let after: Vec<u64> = (0..1_000).map(|slot| ping_after_ms(slot, 30_000)).collect();
        assert!(after.iter().all(|ms| (15_000..=30_000).contains(ms)));
        for from in (15_000..30_000).step_by(1_500) {
            let count = after
                .iter()
                .filter(|ms| (from..from + 1_500).contains(*ms))
                .count();
            assert!(
                (90..=110).contains(&count),
                "{count} in a tenth, from {from}"
            );
        }
    }

    #[test]
    fn every_slot_is_looked_at_once_per_period_however_time_passes() {
        let mut sweep = Sweep::default();
        let looked: u32 = (1..=5_000).map(|ms| sweep.due(ms, 777, 5_000)).sum();
        assert_eq!(looked, 777, "millisecond by millisecond");
        assert_eq!(sweep.due(10_000, 777, 5_000), 777, "after a pause");
        assert_eq!(
            sweep.due(1_000_000, 777, 5_000),
            777,
            "after a long pause: once, not often"
        );
        assert_eq!(sweep.due(1_000_000, 777, 5_000), 0);
        assert_eq!(sweep.due(2_000_000, 0, 5_000), 0);
    }
}
