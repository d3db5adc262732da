//! From bytes to effects: the upgrade, then messages. Whatever is sent in answer goes through the connection's queue.

use std::ops::ControlFlow;

use http::StatusCode;
use longhaul_codec::{ErrorCode, Fix, MessageRef, Role, Welcome, decode, json, wire};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    clock::Now,
    connection::{Dashboard, PartialRequest, Peer, Phase},
    frame::Frame,
    outbound,
    ring::Key,
};
use crate::{
    fleet::{RegistryError, positions::Written},
    limits::{ECHO_BACKLOG_BYTES_MAX, RETRY_FULL_REGISTRY_S, RETRY_STOPPING_S},
    session::{
        admission::{Admission, Admitted},
        close::{self, Close},
        rejection::Rejection,
        token::Role as TokenRole,
        vehicle::{self, FixRules, VehicleRequest},
    },
    websocket::{
        Control, Incoming, Refusal, outgoing,
        upgrade::{self, UpgradeLimits},
    },
};

/// Who speaks, as far as a message's handling must know.
#[derive(Debug, Clone, Copy)]
enum Speaker {
    Vehicle(FleetId, VehicleIndex),
    Dashboard,
    Echo,
}

impl Core {
    /// Bytes from a socket. They are unmasked where they lie.
    pub(super) fn bytes(&mut self, key: Key, bytes: &mut [u8], now: Now) {
        self.metrics.bytes_in.add(bytes.len() as u64);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        connection.heard = now.stamp();
        connection.pinged = false;
        let speaker = match &connection.peer {
            Peer::Vehicle { fleet, vehicle } => Speaker::Vehicle(*fleet, *vehicle),
            Peer::Dashboard(_) => Speaker::Dashboard,
            Peer::Echo(_) => Speaker::Echo,
            Peer::Handshake(_) => return self.handshake(key, bytes, now),
            Peer::Nobody => return,
        };
        self.frames(key, speaker, bytes, now);
    }

    fn frames(&mut self, key: Key, speaker: Speaker, bytes: &mut [u8], now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let json = connection.json;
        let mut assembler = std::mem::take(&mut connection.assembler);
        let limits = if matches!(speaker, Speaker::Echo) {
            self.echo_assembly
        } else {
            self.assembly
        };
        let outcome = assembler.receive(bytes, &limits, &mut |incoming| {
            self.incoming(key, speaker, json, incoming, now)
        });
        if let Some(connection) = self.connections.get_mut(key) {
            connection.assembler = assembler;
        }
        if let Err(error) = outcome {
            self.metrics.closed_protocol.inc();
            self.end_with(
                key,
                outgoing::close_frame(error.close_code().into(), &error.to_string()),
            );
        }
    }

    #[inline]
    fn incoming(
        &mut self,
        key: Key,
        speaker: Speaker,
        json: bool,
        incoming: Incoming<'_>,
        now: Now,
    ) -> ControlFlow<()> {
        match (incoming, speaker) {
            (Incoming::Binary(payload), Speaker::Vehicle(fleet, me)) if !json => {
                match decode(payload) {
                    Ok(message) => self.vehicle_said(key, fleet, me, message, now),
                    Err(error) => self.malformed(key, &error),
                }
            }
            (Incoming::Binary(payload), Speaker::Dashboard) if !json => match decode(payload) {
                Ok(message) => self.dashboard_said(key, message, now),
                Err(error) => self.malformed(key, &error),
            },
            (Incoming::Text(text), Speaker::Vehicle(..) | Speaker::Dashboard) if json => {
                self.transcoded(key, speaker, text, now);
            }
            (
                Incoming::Text(_) | Incoming::Binary(_),
                Speaker::Vehicle(..) | Speaker::Dashboard,
            ) => {
                self.close(key, close::WRONG_KIND);
                return ControlFlow::Break(());
            }
            (Incoming::Text(text), Speaker::Echo) => {
                return self.echo(key, outbound::text_frame(text.as_bytes()));
            }
            (Incoming::Binary(payload), Speaker::Echo) => {
                return self.echo(key, outbound::binary_frame(payload));
            }
            (Incoming::Ping(payload), _) => {
                self.enqueue(key, outgoing::control_frame(Control::Pong, payload).into());
                return self.flow(key);
            }
            (Incoming::Pong(_), _) => return ControlFlow::Continue(()),
            (Incoming::Close(received), _) => {
                self.metrics.closed_by_peer.inc();
                self.end_with(key, outgoing::close_reply(received.map(|(code, _)| code)));
                return ControlFlow::Break(());
            }
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.active = now.stamp();
        }
        self.flow(key)
    }

    /// Whether a connection still listens, after what it said.
    fn flow(&mut self, key: Key) -> ControlFlow<()> {
        match self.connections.get_mut(key) {
            Some(connection) if connection.phase == Phase::Open => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }

    /// JSON becomes the one representation that everything else handles.
    fn transcoded(&mut self, key: Key, speaker: Speaker, text: &str, now: Now) {
        let mut transcoder = self.transcoder.take().unwrap_or_default();
        match json::to_wire(text, &mut transcoder).map(|encoded| decode(encoded.into_payload())) {
            Ok(Ok(message)) => match speaker {
                Speaker::Vehicle(fleet, me) => self.vehicle_said(key, fleet, me, message, now),
                Speaker::Dashboard | Speaker::Echo => self.dashboard_said(key, message, now),
            },
            Ok(Err(error)) => self.malformed(key, &error),
            Err(error) => self.malformed(key, &error),
        }
        transcoder.shrink(self.config.limits.message_bytes_max);
        self.transcoder = Some(transcoder);
    }

    #[cold]
    fn malformed(&mut self, key: Key, error: &dyn std::fmt::Display) {
        self.metrics.messages_malformed.inc();
        self.reject(
            key,
            Rejection::new(ErrorCode::Malformed, 0, error.to_string()),
        );
    }

    #[inline]
    fn vehicle_said(
        &mut self,
        key: Key,
        fleet: FleetId,
        me: VehicleIndex,
        message: MessageRef<'_>,
        now: Now,
    ) {
        let outcome = match vehicle::understand(message) {
            Ok(VehicleRequest::Position(position)) => {
                self.metrics.messages_position.inc();
                self.own_id(me, position.vehicle_id())
                    .and_then(|()| self.position(fleet, me, Fix::from(position.fix()), now))
            }
            Ok(VehicleRequest::Batch(batch)) => {
                self.metrics.messages_position_batch.inc();
                self.batch(fleet, me, batch, now)
            }
            Err(rejection) => {
                self.metrics.messages_other.inc();
                Err(rejection)
            }
        };
        if let Err(rejection) = outcome {
            self.reject(key, rejection);
        }
    }

    #[inline]
    fn position(
        &mut self,
        fleet: FleetId,
        me: VehicleIndex,
        fix: Fix,
        now: Now,
    ) -> Result<(), Rejection> {
        let rules = FixRules {
            clock_ahead_ms_max: self.config.limits.clock_ahead_ms_max,
        };
        let stamped = fix.time_ms == 0;
        let mut fix = vehicle::check_fix(fix, me, now.unix_ms, rules)?;
        if stamped && let Some((last, _)) = self.fleet.positions.read(me) {
            // Two fixes without a time in one tick: the later one is the newer one.
            fix.time_ms = fix.time_ms.max(last.time_ms + 1);
        }
        self.metrics.positions_in.add(1);
        match self.fleet.positions.write(me, &fix) {
            Written::Newest => {
                self.changed.mark(fleet, me);
            }
            Written::Stale | Written::OutOfRange => self.metrics.positions_stale.add(1),
        }
        Ok(())
    }

    fn batch(
        &mut self,
        fleet: FleetId,
        me: VehicleIndex,
        batch: wire::PositionBatch<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        self.own_id(me, batch.vehicle_id())?;
        let (count, limit) = (batch.fixes().len(), self.config.limits.position_batch_max);
        if count > limit {
            self.metrics.limit_hit_position_batch.add(1);
            let says = format!(
                "{count} fixes in one PositionBatch, the limit is {limit} (limits.position_batch_max)"
            );
            return Err(Rejection::new(ErrorCode::LimitReached, 0, says));
        }
        batch
            .fixes()
            .iter()
            .try_for_each(|fix| self.position(fleet, me, Fix::from(fix), now))
    }

    /// An id inside a message must be the sender's own.
    #[inline]
    fn own_id(&self, me: VehicleIndex, id: Option<&str>) -> Result<(), Rejection> {
        match id {
            Some(id) if !self.fleet.registry.is_called(me, id) => Err(Rejection::new(
                ErrorCode::WrongIdentity,
                0,
                "vehicle_id differs from the token's subject: send that or leave it out",
            )),
            _ => Ok(()),
        }
    }

    fn echo(&mut self, key: Key, frame: Frame) -> ControlFlow<()> {
        let Some(connection) = self.connections.get_mut(key) else {
            return ControlFlow::Break(());
        };
        if let Peer::Echo(waiting) = &mut connection.peer {
            *waiting += frame.len();
            if *waiting > self.config.limits.echo_message_bytes_max + ECHO_BACKLOG_BYTES_MAX {
                self.close(key, close::SLOW_CONSUMER);
                return ControlFlow::Break(());
            }
        }
        connection.enqueue(frame);
        self.mark_flushable(key);
        ControlFlow::Continue(())
    }

    fn handshake(&mut self, key: Key, bytes: &mut [u8], now: Now) {
        let limits = UpgradeLimits {
            header_bytes_max: self.config.limits.header_bytes_max,
            headers_max: upgrade::HEADERS_MAX,
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Peer::Handshake(held) = &mut connection.peer else {
            return;
        };
        let mut joined = held.take().map(|mut held| {
            held.bytes.extend_from_slice(bytes);
            held
        });
        let request = joined.as_deref().map_or(&*bytes, |held| held.bytes.as_slice());
        match upgrade::parse_request(request, &limits) {
            Ok(None) => {
                let first = || Box::new(PartialRequest { bytes: bytes.to_vec() });
                *held = Some(joined.unwrap_or_else(first));
            }
            Err(refusal) => self.refuse(key, &refusal),
            Ok(Some((request, consumed))) => {
                let admission = Admission {
                    verifier: &self.verifier,
                    unix_s: now.unix_ms / 1_000,
                    echo: self.config.echo,
                };
                match admission
                    .decide(&request)
                    .and_then(|admitted| self.admit(key, admitted, now))
                {
                    Err(refusal) => self.refuse(key, &refusal),
                    Ok(speaker) => {
                        // A client may not speak before the 101, but nothing is gained by being strict.
                        let rest = match &mut joined {
                            Some(joined) => &mut joined.bytes[consumed..],
                            None => &mut bytes[consumed..],
                        };
                        if !rest.is_empty() {
                            self.frames(key, speaker, rest, now);
                        }
                    }
                }
            }
        }
    }

    /// Turns a handshake into a vehicle, a dashboard or an echo client, and greets it.
    fn admit(&mut self, key: Key, admitted: Admitted, now: Now) -> Result<Speaker, Refusal> {
        let unavailable = |error: RegistryError| {
            self.metrics.limit_hit_registry.inc();
            Refusal::unavailable(error.to_string(), RETRY_FULL_REGISTRY_S)
        };
        let (peer, speaker, expires_s, greeting) = match &admitted.identity {
            None => {
                self.metrics.connections_open_echo.add(1);
                (Peer::Echo(0), Speaker::Echo, u32::MAX, None)
            }
            Some(identity) => {
                let fleet = self
                    .fleet
                    .registry
                    .fleet(&identity.fleet)
                    .map_err(unavailable)?;
                let (peer, speaker, vehicle) = match identity.role {
                    TokenRole::Vehicle => {
                        let vehicle = self
                            .fleet
                            .registry
                            .vehicle(fleet, &identity.subject)
                            .map_err(unavailable)?;
                        self.metrics.connections_open_vehicle.add(1);
                        (
                            Peer::Vehicle { fleet, vehicle },
                            Speaker::Vehicle(fleet, vehicle),
                            vehicle.0,
                        )
                    }
                    TokenRole::Dashboard => {
                        self.metrics.connections_open_dashboard.add(1);
                        (
                            Peer::Dashboard(Box::new(Dashboard::new(fleet))),
                            Speaker::Dashboard,
                            0,
                        )
                    }
                };
                let welcome = Welcome {
                    role: match identity.role {
                        TokenRole::Vehicle => Role::Vehicle,
                        TokenRole::Dashboard => Role::Dashboard,
                    },
                    fleet: identity.fleet.clone(),
                    subject: identity.subject.clone(),
                    vehicle,
                    gateway_time_ms: now.unix_ms,
                    heartbeat_ms: self.config.connection.heartbeat_ms as u32,
                    message_bytes_max: self.config.limits.message_bytes_max as u32,
                    expires_ms: identity.expires_unix.saturating_mul(1_000),
                    node: Some(self.config.node.to_string()),
                    epoch: 0,
                };
                let ends = identity.expires_unix.saturating_add(self.config.leeway_s);
                let expires_s = u32::try_from(ends).unwrap_or(u32::MAX);
                (peer, speaker, expires_s, Some(welcome.into()))
            }
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(speaker);
        };
        self.metrics.connections_open_handshake.sub(1);
        connection.peer = peer;
        connection.json = admitted.json;
        connection.expires_s = expires_s;
        connection.active = now.stamp();
        let mut first = admitted.response;
        if let Some(welcome) = greeting {
            first.extend_from_slice(self.outbound.message(&welcome, admitted.json).bytes());
        }
        connection.enqueue(first.into());
        self.mark_flushable(key);
        Ok(speaker)
    }

    /// Answers a message that was not taken.
    #[cold]
    pub(super) fn reject(&mut self, key: Key, rejection: Rejection) {
        self.metrics.errors_out.add(1);
        self.answer(key, &rejection.into_message());
    }

    /// Queues a message for one connection, in its encoding.
    pub(super) fn answer(&mut self, key: Key, message: &longhaul_codec::Message) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let frame = self.outbound.message(message, connection.json);
        self.enqueue(key, frame);
    }

    /// Queues a frame. A peer that does not read its answers is a slow consumer.
    pub(super) fn enqueue(&mut self, key: Key, frame: Frame) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        if !connection.enqueue_within(frame, &self.config.limits) {
            self.metrics.limit_hit_control_queue.inc();
            self.close(key, close::SLOW_CONSUMER);
            return;
        }
        self.mark_flushable(key);
    }

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
    fn end_with(&mut self, key: Key, last: Vec<u8>) {
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
}
