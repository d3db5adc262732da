//! From messages to effects. Whatever is sent in answer goes through the connection's queue.

use std::ops::ControlFlow;

use longhaul_codec::{ErrorCode, Fix, MessageRef, decode, decode_fix, json, wire};
use longhaul_filter_engine::{FleetId, VehicleIndex};

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase},
    frame::Frame,
    outbound,
    ring::Key,
};
use crate::{
    fleet::{Extra, positions::Written},
    session::{
        close,
        penalty::Offence,
        rate::Verdict,
        rejection::{Bound, Rejection},
        vehicle::{self, FixRules, VehicleRequest},
    },
    websocket::{Control, Incoming, ProtocolError, outgoing},
};

/// Who speaks, as far as a message's handling must know.
#[derive(Debug, Clone, Copy)]
pub(super) enum Speaker {
    /// Itself, in its fleet.
    Vehicle(FleetId, VehicleIndex),
    /// A dashboard.
    Dashboard,
    /// A client of the echo endpoint.
    Echo,
}

impl Core {
    /// What a peer has said. It is unmasked where it lies.
    pub(super) fn bytes(&mut self, key: Key, bytes: &mut [u8], now: Now) {
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
            Peer::Preface(_) => return self.preface(key, bytes, now),
            Peer::Nobody => return,
        };
        if self
            .allow_bytes(key, speaker, bytes.len(), now)
            .is_continue()
        {
            self.frames(key, speaker, bytes, now);
        }
    }

    /// Frames of a connection that has completed its upgrade.
    pub(super) fn frames(&mut self, key: Key, speaker: Speaker, bytes: &mut [u8], now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
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
            self.offend(key, Offence::Frames);
            match error {
                ProtocolError::MessageTooLarge { .. } => self.metrics.limit_hit_message_bytes.inc(),
                ProtocolError::TooManyFrames { .. } => self.metrics.limit_hit_frames.inc(),
                _ => {}
            }
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
        if !matches!(incoming, Incoming::Close(_)) {
            match self.allow_message(key, speaker, now) {
                Verdict::Within => {}
                Verdict::Over => {
                    match (incoming, speaker) {
                        (Incoming::Binary(payload), Speaker::Vehicle(..)) if !json => {
                            self.too_fast(key, payload, now);
                        }
                        (Incoming::Text(text), Speaker::Vehicle(..)) if json => {
                            self.too_fast_text(key, text, now);
                        }
                        _ => {}
                    }
                    return self.flow(key);
                }
                Verdict::FarOver => return ControlFlow::Break(()),
            }
        }
        match (incoming, speaker) {
            (Incoming::Binary(payload), Speaker::Vehicle(fleet, me)) if !json => {
                self.vehicle_sent(key, fleet, me, payload, now);
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
                self.offend(key, Offence::Frames);
                self.close(key, close::WRONG_KIND);
                return ControlFlow::Break(());
            }
            (Incoming::Text(text), Speaker::Echo) => {
                self.enqueue(key, outbound::text_frame(text.as_bytes()));
            }
            (Incoming::Binary(payload), Speaker::Echo) => {
                self.enqueue(key, outbound::binary_frame(payload));
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
        match self.connections.get_mut(key) {
            Some(connection) if connection.phase == Phase::Open => {
                if !matches!(speaker, Speaker::Vehicle(..)) {
                    connection.active = now.stamp();
                }
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }

    /// Whether a connection still listens, after what it said.
    pub(super) fn flow(&mut self, key: Key) -> ControlFlow<()> {
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

    #[inline]
    fn vehicle_sent(
        &mut self,
        key: Key,
        fleet: FleetId,
        me: VehicleIndex,
        payload: &[u8],
        now: Now,
    ) {
        // A position without an id, what vehicles send all the time, by the shortest way.
        if let Some(fix) = decode_fix(payload) {
            self.metrics.messages_position.inc();
            let taken = self
                .check_positions(key, now)
                .and_then(|()| self.position(key, fleet, me, fix, now));
            if let Err(rejection) = taken {
                self.reject(key, rejection);
            }
            return;
        }
        match decode(payload) {
            Ok(message) => self.vehicle_said(key, fleet, me, message, now),
            Err(error) => self.malformed(key, &error),
        }
    }

    #[cold]
    fn malformed(&mut self, key: Key, error: &dyn std::fmt::Display) {
        self.metrics.messages_malformed.inc();
        self.offend_now_and_then(key);
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
                    .and_then(|()| self.check_positions(key, now))
                    .and_then(|()| self.position(key, fleet, me, Fix::from(position.fix()), now))
            }
            Ok(VehicleRequest::Batch(batch)) => {
                self.metrics.messages_position_batch.inc();
                self.batch(key, fleet, me, batch, now)
            }
            Ok(VehicleRequest::CommandResult(result)) => {
                self.metrics.messages_command_result.inc();
                self.command_result(key, me, result)
            }
            Ok(VehicleRequest::Authenticate(fresh)) => self.authenticate(key, fresh, now),
            Ok(VehicleRequest::Event(event)) => {
                self.metrics.messages_event.inc();
                self.event(key, fleet, me, event, now)
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
        key: Key,
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
        if stamped && let Some(last) = self.fleet.positions.read(me) {
            // Two fixes without a time in one tick: the later one is the newer one.
            let ahead = now.unix_ms.saturating_add(rules.clock_ahead_ms_max);
            fix.time_ms = fix
                .time_ms
                .max(last.fix.time_ms.saturating_add(1))
                .min(ahead);
        }
        self.metrics.positions_in.add(1);
        match self.fleet.positions.write(me, &fix, now.unix_ms) {
            Written::Newest => {
                self.out.changed.mark(fleet, me);
                if self.fleet.interest.extra(fleet, Extra::Every) != 0 {
                    self.out.every.push((fleet, fix));
                }
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.active = now.stamp();
                    if connection.stale {
                        self.set_stale(key, fleet, me, false);
                    }
                }
            }
            Written::Stale | Written::OutOfRange => self.metrics.positions_stale.add(1),
        }
        Ok(())
    }

    fn batch(
        &mut self,
        key: Key,
        fleet: FleetId,
        me: VehicleIndex,
        batch: wire::PositionBatch<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        self.own_id(me, batch.vehicle_id())?;
        self.check_positions(key, now)?;
        let (count, limit) = (batch.fixes().len(), self.config.limits.position_batch_max);
        if count > limit {
            let says = format!(
                "{count} fixes in one PositionBatch, the limit is {limit} (limits.position_batch_max)"
            );
            let rejection = Rejection::new(ErrorCode::LimitReached, 0, says);
            return Err(rejection.over(Bound::PositionBatch));
        }
        batch
            .fixes()
            .iter()
            .try_for_each(|fix| self.position(key, fleet, me, Fix::from(fix), now))
    }

    /// An id inside a message must be the sender's own.
    #[inline]
    pub(super) fn own_id(&self, me: VehicleIndex, id: Option<&str>) -> Result<(), Rejection> {
        match id {
            Some(id) if !self.fleet.registry.is_called(me, id) => Err(Rejection::new(
                ErrorCode::WrongIdentity,
                0,
                "vehicle_id differs from the token's subject: send that or leave it out",
            )),
            _ => Ok(()),
        }
    }

    /// Answers a message that was not taken.
    #[cold]
    pub(super) fn reject(&mut self, key: Key, rejection: Rejection) {
        self.metrics.errors_out.add(1);
        if let Some(bound) = rejection.over {
            self.metrics.hit(bound);
        }
        if rejection.code == ErrorCode::NotAllowed {
            self.witness_overreach(key, &rejection.message);
        }
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
            self.offend(key, Offence::Rate);
            self.close(key, close::SLOW_CONSUMER);
            return;
        }
        self.mark_flushable(key);
    }
}
