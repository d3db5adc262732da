//! How a connection ends: a last frame or none, both halves, then its slot. Every way leads through `retire`, so that
//! nothing is routed to a connection that is on its way out.

use std::net::Shutdown;

use http::StatusCode;
use longhaul_filter_engine::{SubscriberId, VehicleIndex};
use roaring::RoaringBitmap;

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase, Receive, holder},
    frame::Frame,
    ring::{Key, Ring},
    witness::without_path,
};
use crate::{
    fleet::Extra,
    limits::RETRY_STOPPING_S,
    session::penalty::Offence,
    session::{
        close::{self, Close},
        token::Identity,
    },
    websocket::{Refusal, outgoing},
};

impl Core {
    /// Ends a connection with a close code.
    pub(super) fn close(&mut self, key: Key, close: Close) {
        if self.flow(key).is_break() {
            return;
        }
        let metrics = &self.metrics;
        match close {
            close::RESTARTING => metrics.closed_restarting.inc(),
            close::TAKEN_OVER => metrics.closed_taken_over.inc(),
            close::RATE_LIMITED => metrics.closed_rate_limited.inc(),
            close::UNFINISHED => metrics.closed_unfinished.inc(),
            close::SILENT => metrics.closed_silent.inc(),
            close::SLOW_CONSUMER => metrics.closed_slow.inc(),
            close::REVOKED => metrics.closed_revoked.inc(),
            close::EVICTED => metrics.closed_evicted.inc(),
            close::TOKEN_EXPIRED => metrics.closed_expired.inc(),
            _ => metrics.closed_wrong_kind.inc(),
        }
        self.witness_close(key, close);
        self.end_with(key, outgoing::close_frame(close.code, close.reason));
    }

    /// Refuses an upgrade with an HTTP answer.
    pub(super) fn refuse(&mut self, key: Key, refusal: &Refusal) {
        self.refuse_as(key, refusal, None);
    }

    /// The same, of somebody whose token is good.
    pub(super) fn refuse_as(&mut self, key: Key, refusal: &Refusal, who: Option<&Identity>) {
        let metrics = &self.metrics;
        metrics.closed_refused.inc();
        match refusal.status {
            StatusCode::NOT_FOUND => metrics.refused_path.inc(),
            StatusCode::UNAUTHORIZED => metrics.refused_unauthorized.inc(),
            StatusCode::REQUEST_TIMEOUT => {
                metrics.refused_timeout.inc();
                metrics.limit_hit_handshake_time.inc();
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
                metrics.refused_too_large.inc();
                metrics.limit_hit_header.inc();
            }
            StatusCode::SERVICE_UNAVAILABLE => metrics.refused_unavailable.inc(),
            StatusCode::TOO_MANY_REQUESTS => metrics.refused_too_many.inc(),
            StatusCode::FORBIDDEN => metrics.refused_forbidden.inc(),
            _ => metrics.refused_request.inc(),
        }
        self.witness_refusal(key, refusal, who);
        tracing::debug!(
            status = refusal.status.as_u16(),
            reason = without_path(refusal),
            "refused an upgrade"
        );
        self.offend_by(key, refusal.status);
        self.end_with(key, refusal.response());
        if let Some(connection) = self.connections.get_mut(key) {
            connection.peer = Peer::Nobody;
        }
    }

    /// Queues the last bytes of a connection. What it was still owed is dropped, except what is queued already: a peer
    /// gets its answers before its close frame.
    pub(super) fn end_with(&mut self, key: Key, last: Vec<u8>) {
        self.retire(key);
        let limits = &self.config.limits;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        connection.phase = Phase::Closing;
        let last = Frame::from(last);
        if !connection.enqueue_within(last.clone(), limits) {
            connection.queue = None;
            connection.enqueue(last);
        }
        self.mark_flushable(key);
    }

    /// Says goodbye to one connection because this node goes away.
    pub(super) fn close_or_refuse(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match (&connection.peer, connection.phase) {
            (_, Phase::Closing | Phase::Lingering | Phase::Aborting) => {}
            (Peer::Preface(_) | Peer::Handshake(_), Phase::Open) => {
                let retry_s = RETRY_STOPPING_S + fastrand::u32(0..=RETRY_STOPPING_S);
                self.refuse(
                    key,
                    &Refusal::unavailable("The gateway is shutting down.", retry_s),
                );
            }
            (_, Phase::Open) => self.close(key, close::RESTARTING),
        }
    }

    /// Another connection has taken over: this one is closed, unless it has gone already.
    pub(super) fn taken_over(&mut self, key: Key, vehicle: VehicleIndex) {
        let of_vehicle =
            |peer: &Peer| matches!(peer, Peer::Vehicle { vehicle: own, .. } if *own == vehicle);
        if self
            .connections
            .get_mut(key)
            .is_some_and(|connection| of_vehicle(&connection.peer))
        {
            self.close(key, close::TAKEN_OVER);
        }
    }

    /// A connection leaves the open phase: nothing is routed to it from now on.
    pub(super) fn retire(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        connection.heard = self.now.stamp();
        if matches!(connection.peer, Peer::Dashboard(_)) {
            self.end_feed(key, self.now);
            self.end_access(key);
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match &mut connection.peer {
            Peer::Vehicle { fleet, vehicle } => {
                self.publishers.forget(key);
                if std::mem::take(&mut connection.bounded) {
                    self.publish_bounds.remove(&key);
                }
                let (fleet, vehicle) = (*fleet, *vehicle);
                self.metrics.connections_open_vehicle.sub(1);
                if connection.stale {
                    self.metrics.vehicles_stale.sub(1);
                }
                let holder = holder(self.exchange.shard(), key);
                // One that goes while this node goes away has moved, as far as anybody here can tell: whoever still
                // watches here is not told, and asks again where it goes.
                if !self.is_leaving()
                    && self
                        .fleet
                        .presence
                        .disconnect(vehicle, holder, self.now.unix_ms)
                {
                    self.out.presence.mark(fleet, vehicle);
                }
            }
            Peer::Dashboard(dashboard) => {
                dashboard.pending = RoaringBitmap::new();
                dashboard.named = None;
                let fleet = dashboard.fleet;
                let (presence, every) = (dashboard.presence.take(), dashboard.every.take());
                self.census.leave_identity(dashboard.identity);
                self.metrics.connections_open_dashboard.sub(1);
                self.extras.change(
                    &self.fleet,
                    fleet,
                    Extra::Presence,
                    presence.is_some(),
                    false,
                );
                self.extras
                    .change(&self.fleet, fleet, Extra::Every, every.is_some(), false);
                let change = self.engine.remove(SubscriberId(key.slot));
                self.announce(fleet, &change);
            }
            Peer::Preface(_) | Peer::Handshake(_) => {
                self.metrics.connections_open_handshake.sub(1);
            }
            Peer::Echo(_) => self.metrics.connections_open_echo.sub(1),
            Peer::Nobody => {}
        }
    }

    /// A connection ended without a close frame.
    pub(super) fn lost(&mut self, ring: &mut Ring, key: Key) {
        if self
            .connections
            .get_mut(key)
            .is_some_and(|connection| connection.phase == Phase::Open)
        {
            self.metrics.closed_abruptly.inc();
            if self.sessions.is_shaking_hands(key) {
                // It had our signature, and leaves: that is how a flood of handshakes looks.
                self.offend(key, Offence::Tls);
            }
        }
        self.abort(ring, key);
    }

    /// Ends a connection now, whatever it still has to send.
    pub(super) fn abort(&mut self, ring: &mut Ring, key: Key) {
        self.retire(key);
        self.bulk.forget(key);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = Phase::Aborting;
        connection.queue = None;
        if connection.in_ring() {
            ring.shutdown(connection.fd, Shutdown::Both);
        }
        self.conclude(ring, key);
    }

    /// Ends our half after the last frame. A peer that has ended its own is gone at once.
    pub(super) fn linger(&mut self, ring: &mut Ring, key: Key, now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = Phase::Lingering;
        connection.heard = now.stamp();
        if connection.receive == Receive::Ended {
            self.conclude(ring, key);
        } else {
            ring.shutdown(connection.fd, Shutdown::Write);
        }
    }

    /// Frees a connection that has ended and of which the ring holds nothing.
    pub(super) fn conclude(&mut self, ring: &mut Ring, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let ended = matches!(connection.phase, Phase::Aborting | Phase::Lingering);
        if ended && !connection.in_ring() {
            ring.close(connection.fd);
            if connection.counted {
                self.census.leave();
                self.leave_address(key);
            } else {
                self.refusing -= 1;
            }
            self.stalls.forget(key);
            self.bulk.forget(key);
            self.sessions.forget(key);
            self.clients.forget(key.slot);
            self.no_deadline(key);
            self.connections.remove(key);
        }
    }
}
