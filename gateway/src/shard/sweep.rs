//! Heartbeats and time-outs without a timer per connection: each tick looks at a slice of the slab, so that every
//! connection is looked at once per period and the pings that follow are spread over it.

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase, Receive},
    ring::{Key, Ring},
};
use crate::{
    limits::{LINGER_MS, SEND_BYTES_PER_SECOND_MIN},
    session::close,
    websocket::{Control, Refusal, outgoing},
};

/// The longest and shortest periods in which every connection is looked at once.
const PERIOD_MS: std::ops::RangeInclusive<u64> = 250..=5_000;

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
    fn due(&mut self, now_ms: u64, slots: u32, period_ms: u64) -> u32 {
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
        let settings = &self.config.connection;
        let shortest = settings
            .handshake_timeout_ms
            .min(settings.quiet_after_ms)
            .min(settings.heartbeat_ms);
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
        let silent_ms = now.stamp().ms_since(connection.heard);
        let handshaking = matches!(connection.peer, Peer::Handshake(_));
        // A large frame is given time in proportion: a slow link that works is none to cut.
        let patience = settings.send_timeout_ms
            + ring.sending_bytes(key) as u64 * 1_000 / SEND_BYTES_PER_SECOND_MIN;
        let stalled =
            connection.sending && now.stamp().ms_since(connection.sending_since) >= patience;
        match connection.phase {
            Phase::Aborting => {}
            Phase::Open if stalled => {
                // A close frame would only wait behind the one that the peer does not take.
                self.metrics.closed_slow.inc();
                self.abort(ring, key);
            }
            Phase::Lingering if silent_ms >= LINGER_MS => self.abort(ring, key),
            Phase::Closing if silent_ms >= settings.send_timeout_ms + LINGER_MS => {
                self.abort(ring, key)
            }
            Phase::Lingering | Phase::Closing => {}
            Phase::Open if handshaking => {
                // Since it was accepted, not since its last byte: trickling in a header buys no time.
                if now.stamp().ms_since(connection.active) >= settings.handshake_timeout_ms {
                    let reason = "no complete upgrade request came in time (connection.handshake_timeout_ms)";
                    self.refuse(
                        key,
                        &Refusal::new(http::StatusCode::REQUEST_TIMEOUT, reason),
                    );
                }
            }
            Phase::Open if u64::from(connection.expires_s) * 1_000 <= now.unix_ms => {
                self.close(key, close::TOKEN_EXPIRED);
            }
            Phase::Open if silent_ms >= settings.dead_after_ms => {
                self.close(key, close::SILENT);
            }
            Phase::Open => {
                let quiet = now.stamp().ms_since(connection.active) >= settings.quiet_after_ms;
                if quiet && connection.receive == Receive::Armed {
                    connection.receive = Receive::Quieting;
                    ring.cancel_receive(key);
                }
                if silent_ms >= settings.heartbeat_ms && !connection.pinged {
                    connection.pinged = true;
                    self.metrics.pings_out.add(1);
                    self.enqueue(key, outgoing::control_frame(Control::Ping, &[]).into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
