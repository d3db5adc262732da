//! TLS between the socket and the WebSocket: which connection has which session, and how much of a tick handshakes may
//! take. Without TLS it is not there: no memory, and one look per receive and per send.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase},
    frame::Frame,
    ring::Key,
};
use crate::{
    limits::TLS_HANDSHAKE_TIME_PER_TICK,
    session::penalty::Offence,
    transport::{
        Certificates, ClientCertificates, Fault, PeerNames, Secure as _, Session, Stage,
        session::Established,
    },
};

/// What a client is sent that is not let in before its handshake: a fatal alert, internal_error (RFC 8446 §6.2), which
/// is what a server that cannot serve has to say. To answer with HTTP would cost the handshake that there is no room for.
const NO_ROOM: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// The sessions of a shard.
#[derive(Debug)]
pub struct Sessions {
    /// `None`: connections are plain.
    certificates: Option<Arc<Certificates>>,
    /// By slot. A connection has none before its first byte.
    sessions: Vec<Option<Box<Session>>>,
    /// Whose certificate clients have, by slot, until their upgrade.
    names: HashMap<u32, PeerNames>,
    /// Connections whose handshake waits for its turn.
    waiting: VecDeque<Key>,
    /// Connections whose session cannot go on, and that are to be ended.
    failed: Vec<Key>,
    /// What is left of a tick's time for handshakes.
    time_left: Duration,
}

impl Sessions {
    /// None yet.
    pub fn new(certificates: Option<Arc<Certificates>>) -> Sessions {
        Sessions {
            certificates,
            sessions: Vec::new(),
            names: HashMap::new(),
            waiting: VecDeque::new(),
            failed: Vec::new(),
            time_left: TLS_HANDSHAKE_TIME_PER_TICK,
        }
    }

    /// Whether connections are over TLS.
    pub fn are_on(&self) -> bool {
        self.certificates.is_some()
    }

    fn get(&self, key: Key) -> Option<&Session> {
        self.sessions.get(key.slot as usize)?.as_deref()
    }

    /// Takes a connection's session out, to be put back.
    fn take(&mut self, key: Key) -> Option<Box<Session>> {
        self.sessions.get_mut(key.slot as usize)?.take()
    }

    fn put(&mut self, key: Key, session: Box<Session>) {
        let slot = key.slot as usize;
        if slot >= self.sessions.len() {
            self.sessions.resize_with(slot + 1, || None);
        }
        self.sessions[slot] = Some(session);
    }

    /// The connection has gone.
    pub fn forget(&mut self, key: Key) {
        if self.certificates.is_some() {
            self.take(key);
            self.names.remove(&key.slot);
        }
    }

    /// Whose certificate the client has, and what is asked of clients. To be asked once.
    pub fn take_names(&mut self, key: Key) -> (Option<PeerNames>, ClientCertificates) {
        let policy = self
            .certificates
            .as_ref()
            .map_or(ClientCertificates::Off, |certificates| {
                certificates.of_clients()
            });
        (self.names.remove(&key.slot), policy)
    }

    /// Whether TLS itself has something to send to this connection.
    pub fn has_outgoing(&self, key: Key) -> bool {
        self.certificates.is_some() && self.get(key).is_some_and(|session| session.has_outgoing())
    }

    /// What a frame is on the wire. `None`: nothing can be said to this connection, not yet or not any more.
    #[inline]
    pub fn seal(&mut self, key: Key, frame: Frame) -> Option<Frame> {
        if self.certificates.is_none() {
            return Some(frame);
        }
        self.sealed(key, &frame)
    }

    fn sealed(&mut self, key: Key, frame: &Frame) -> Option<Frame> {
        let Some(session) = self
            .sessions
            .get_mut(key.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return Some(NO_ROOM.into());
        };
        let mut wire = Vec::new();
        if let Err(Fault(reason)) = session.send(frame.bytes(), &mut wire) {
            tracing::debug!(reason, "a TLS session cannot go on");
            self.failed.push(key);
            return None;
        }
        (!wire.is_empty()).then(|| wire.into())
    }

    /// What TLS itself has to send: before anything else is said, in between, and when `closing` behind everything else.
    pub fn outgoing(&mut self, key: Key, closing: bool) -> Option<Frame> {
        self.certificates.as_ref()?;
        let session = self.sessions.get_mut(key.slot as usize)?.as_deref_mut()?;
        if closing && !session.has_outgoing() {
            session.close();
        }
        if !session.has_outgoing() {
            return None;
        }
        let mut wire = Vec::new();
        // Without anything to say there is nothing to fail.
        let _ = session.send(&[], &mut wire);
        Some(wire.into())
    }

    /// Whether a connection is in the middle of its handshake, and has had work of us.
    pub fn is_shaking_hands(&self, key: Key) -> bool {
        self.get(key)
            .is_some_and(|session| session.stage() == Stage::Handshake && session.has_answered())
    }

    /// Connections that wait for their handshake to go on.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Core {
    /// Bytes off a socket.
    #[inline]
    pub(super) fn wire(&mut self, key: Key, wire: &mut [u8], now: Now) {
        self.metrics.bytes_in.add(wire.len() as u64);
        if self.sessions.certificates.is_none() {
            return self.bytes(key, wire, now);
        }
        let is_preface = self
            .connections
            .get_mut(key)
            .is_some_and(|connection| matches!(connection.peer, Peer::Preface(_)));
        if is_preface {
            // What a load balancer says comes in front of TLS.
            self.bytes(key, wire, now);
        } else {
            self.secured(key, wire, now);
        }
    }

    /// What comes behind a load balancer's word.
    pub(super) fn unveiled(&mut self, key: Key, wire: &mut [u8], now: Now) {
        if self.sessions.certificates.is_none() {
            self.handshake(key, wire, now);
        } else {
            self.secured(key, wire, now);
        }
    }

    fn secured(&mut self, key: Key, wire: &mut [u8], now: Now) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let Some(mut session) = self.sessions.take(key).or_else(|| self.begin_session()) else {
            return;
        };
        if session.stage() == Stage::Handshake {
            if self.sessions.time_left.is_zero() {
                let held = session.hold(wire);
                if held.is_ok() && !std::mem::replace(&mut session.queued, true) {
                    self.sessions.waiting.push_back(key);
                }
                self.sessions.put(key, session);
                return self.judge(key, held);
            }
            return self.shake_hands(key, session, wire, now);
        }
        let received = session.receive(wire, &mut |plain| self.bytes(key, plain, now));
        let (stage, has_outgoing) = (session.stage(), session.has_outgoing());
        self.sessions.put(key, session);
        if has_outgoing {
            self.mark_flushable(key);
        }
        if received.is_err() || stage == Stage::Closed {
            self.judge(key, received);
        }
    }

    fn begin_session(&self) -> Option<Box<Session>> {
        let config = self.sessions.certificates.as_ref()?.current();
        match Session::new(config) {
            Ok(session) => Some(Box::new(session)),
            Err(Fault(reason)) => {
                tracing::error!(reason, "a TLS session cannot begin");
                None
            }
        }
    }

    /// Goes on with a handshake, and takes what that costs from the tick's time.
    fn shake_hands(&mut self, key: Key, mut session: Box<Session>, wire: &mut [u8], now: Now) {
        let (began, began_in) = (Instant::now(), session.stage());
        // The upgrade request may come in one piece with the handshake's end, and is not to be seen before that is
        // judged.
        let mut early = Vec::new();
        let mut received = session.receive(wire, &mut |plain| early.extend_from_slice(plain));
        let begun = began_in == Stage::Handshake;
        if begun && let Some(Established { resumed, names }) = session.established() {
            if resumed {
                self.metrics.tls_resumed.inc();
            } else {
                self.metrics.tls_full.inc();
            }
            if let Some(names) = names {
                self.sessions.names.insert(key.slot, names);
            }
            received = received.and_then(|()| session.settle()).and_then(|()| {
                session.receive(&mut [], &mut |plain| early.extend_from_slice(plain))
            });
        }
        self.sessions.time_left = self.sessions.time_left.saturating_sub(began.elapsed());
        let stage = session.stage();
        let has_outgoing = session.has_outgoing();
        self.sessions.put(key, session);
        if has_outgoing {
            self.mark_flushable(key);
        }
        if !early.is_empty() {
            self.bytes(key, &mut early, now);
        }
        if received.is_err() || stage == Stage::Closed {
            self.judge(key, received);
        }
    }

    /// Handshakes that waited, oldest first, as long as a tick has time for them.
    pub(super) fn go_on_with_handshakes(&mut self, now: Now) {
        self.sessions.time_left = TLS_HANDSHAKE_TIME_PER_TICK;
        while !self.sessions.time_left.is_zero()
            && let Some(key) = self.sessions.waiting.pop_front()
        {
            let is_open = self
                .connections
                .get_mut(key)
                .is_some_and(|connection| connection.phase == Phase::Open);
            if is_open && let Some(mut session) = self.sessions.take(key) {
                session.queued = false;
                self.shake_hands(key, session, &mut [], now);
            }
        }
    }

    /// Ends connections whose sessions could not go on in this tick.
    pub(super) fn end_failed_sessions(&mut self) {
        while let Some(key) = self.sessions.failed.pop() {
            self.metrics.tls_failed_record.inc();
            self.end_without_a_word(key);
        }
    }

    /// Ends a connection whose session has ended, by the peer's wish or because of what it did.
    fn judge(&mut self, key: Key, received: Result<(), Fault>) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let was_open = connection.phase == Phase::Open;
        let handshaking = matches!(connection.peer, Peer::Handshake(_));
        match received {
            Ok(())
                if self.sessions.get(key).map(|session| session.stage()) != Some(Stage::Closed) =>
            {
                return;
            }
            // What it is owed already, it is still told.
            Ok(()) if was_open => {
                self.metrics.closed_abruptly.inc();
                self.retire(key);
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.phase = Phase::Closing;
                }
                return self.mark_flushable(key);
            }
            Ok(()) => return self.mark_flushable(key),
            Err(Fault(reason)) => {
                if handshaking {
                    self.metrics.tls_failed_handshake.inc();
                } else {
                    self.metrics.tls_failed_record.inc();
                }
                if was_open {
                    self.metrics.closed_tls.inc();
                }
                tracing::debug!(reason, "a TLS session has failed");
                self.offend(key, Offence::Tls);
            }
        }
        self.end_without_a_word(key);
    }

    /// Ends a connection to which nothing can be said any more but what TLS itself has to send.
    fn end_without_a_word(&mut self, key: Key) {
        self.retire(key);
        if let Some(connection) = self.connections.get_mut(key)
            && connection.phase == Phase::Open
        {
            connection.phase = Phase::Closing;
            connection.queue = None;
            self.mark_flushable(key);
        }
    }
}
