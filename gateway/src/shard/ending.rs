//! How a connection ends: a last frame or none, both halves, then its slot. Every way leads through `retire`, so that
//! nothing is routed to a connection that is on its way out.

use std::net::Shutdown;

use http::StatusCode;
use longhaul_filter_engine::SubscriberId;
use roaring::RoaringBitmap;

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase, Receive},
    frame::Frame,
    ring::{Key, Ring},
};
use crate::{
    limits::RETRY_STOPPING_S,
    session::close::{self, Close},
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
            close::GOING_AWAY => metrics.closed_stopping.inc(),
            close::SILENT => metrics.closed_silent.inc(),
            close::SLOW_CONSUMER => metrics.closed_slow.inc(),
            close::TOKEN_EXPIRED => metrics.closed_expired.inc(),
            _ => metrics.closed_wrong_kind.inc(),
        }
        self.end_with(key, outgoing::close_frame(close.code, close.reason));
    }

    /// Refuses an upgrade with an HTTP answer.
    pub(super) fn refuse(&mut self, key: Key, refusal: &Refusal) {
        let metrics = &self.metrics;
        metrics.closed_refused.inc();
        match refusal.status {
            StatusCode::NOT_FOUND => metrics.refused_path.inc(),
            StatusCode::UNAUTHORIZED => metrics.refused_unauthorized.inc(),
            StatusCode::REQUEST_TIMEOUT => metrics.refused_timeout.inc(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
                metrics.refused_too_large.inc()
            }
            StatusCode::SERVICE_UNAVAILABLE => metrics.refused_unavailable.inc(),
            _ => metrics.refused_request.inc(),
        }
        tracing::debug!(status = refusal.status.as_u16(), reason = %refusal.reason, "refused an upgrade");
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

    /// Says goodbye to everybody.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        for slot in 0..self.connections.slots() {
            let Some((key, connection)) = self.connections.slot_mut(slot) else {
                continue;
            };
            if connection.phase != Phase::Open {
                continue;
            }
            if matches!(connection.peer, Peer::Handshake(_)) {
                self.refuse(
                    key,
                    &Refusal::unavailable("The gateway is shutting down.", RETRY_STOPPING_S),
                );
            } else {
                self.close(key, close::GOING_AWAY);
            }
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
        match &mut connection.peer {
            Peer::Vehicle { .. } => self.metrics.connections_open_vehicle.sub(1),
            Peer::Dashboard(dashboard) => {
                dashboard.pending = RoaringBitmap::new();
                dashboard.named = None;
                let fleet = dashboard.fleet;
                self.metrics.connections_open_dashboard.sub(1);
                let change = self.engine.remove(SubscriberId(key.slot));
                self.announce(fleet, &change);
            }
            Peer::Handshake(_) => self.metrics.connections_open_handshake.sub(1),
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
        }
        self.abort(ring, key);
    }

    /// Ends a connection now, whatever it still has to send.
    pub(super) fn abort(&mut self, ring: &mut Ring, key: Key) {
        self.retire(key);
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
            self.connections.remove(key);
        }
    }
}
