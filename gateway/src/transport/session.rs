//! One connection's TLS: rustls through the handshake, then our own record layer with the keys that it led to.
//!
//! rustls hands over the keys of a TLS 1.3 session (`dangerous_into_kernel_connection`, made for kTLS) and keeps what
//! derives the next ones. What is left to do of the protocol behind a handshake is little: records, key updates (RFC 8446
//! §4.6.3), alerts (§6). A session of TLS 1.2, where that is allowed, stays with rustls.
//!
//! - `session/unbuffered.rs`: what rustls does
//! - `session/sealed.rs`: what is left to do behind it

mod sealed;
mod unbuffered;

use std::sync::Arc;

use rustls::{
    HandshakeKind, ServerConfig,
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
};

use self::{
    sealed::Sealed,
    unbuffered::{close_notify, encrypt, is_1_3},
};
use super::{
    Fault, Secure, Stage,
    peer_name::PeerNames,
    record::{self, TrafficKey},
};

/// What a handshake may keep of what the peer sent, in bytes: a client's certificates lie in one message.
pub const HANDSHAKE_BYTES_MAX: usize = 32_768;
/// What a session that is open may keep: a record without its last byte.
pub const RECORD_BYTES_MAX: usize = record::HEADER_BYTES + record::SEALED_BYTES_MAX;
/// What an open session of TLS 1.3 weighs, without a client's certificates: its keys, what derives their successors, and
/// rustls' state behind that, which has no public size (three secrets of 72 bytes, and what they belong to).
pub const SESSION_BYTES: usize =
    size_of::<Session>() + size_of::<KernelConnection<ServerConnectionData>>() + 384;
/// What a handshake under way weighs beside what it keeps of the peer: rustls' state, and its answer on its way out.
pub const HANDSHAKE_STATE_BYTES: usize =
    size_of::<Session>() + size_of::<UnbufferedServerConnection>() + 16_384;

/// One connection's TLS.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// The beginning of a record, or of a handshake's flight.
    held: Vec<u8>,
    /// What TLS itself has to send.
    outgoing: Vec<u8>,
    /// How much of what is held rustls has seen and not done with.
    seen: usize,
    /// The peer has said that it says no more. It may still be told something.
    peer_closed: bool,
    /// The peer was said something.
    answered: bool,
    /// It waits for its turn to go on with its handshake.
    pub queued: bool,
}

enum State {
    /// Handshaking, or TLS 1.2.
    Rustls(Box<UnbufferedServerConnection>),
    Sealed(Sealed),
    Over,
}

impl std::fmt::Debug for State {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            State::Rustls(_) => "Rustls",
            State::Sealed(_) => "Sealed",
            State::Over => "Over",
        })
    }
}

/// What is known when a handshake is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Established {
    /// The peer came back with a ticket.
    pub resumed: bool,
    /// Whose certificate the peer has, if it has one.
    pub names: Option<PeerNames>,
}

impl Session {
    /// A session that waits for its peer's first message.
    ///
    /// # Errors
    /// The configuration is of no use, which [`super::Certificates`] does not hand out.
    pub fn new(config: Arc<ServerConfig>) -> Result<Session, Fault> {
        let rustls =
            UnbufferedServerConnection::new(config).map_err(|error| Fault(error.to_string()))?;
        Ok(Session {
            state: State::Rustls(Box::new(rustls)),
            held: Vec::new(),
            outgoing: Vec::new(),
            seen: 0,
            peer_closed: false,
            answered: false,
            queued: false,
        })
    }

    /// Whether anything was said to the peer, or is about to be.
    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// Keeps bytes of a handshake for which there is no time now.
    ///
    /// # Errors
    /// More than a handshake has.
    pub fn hold(&mut self, wire: &[u8]) -> Result<(), Fault> {
        self.held.extend_from_slice(wire);
        self.bound_handshake()
    }

    fn bound_handshake(&mut self) -> Result<(), Fault> {
        let length = self.held.len();
        if length > HANDSHAKE_BYTES_MAX {
            self.fail();
            return Err(Fault(format!(
                "a handshake of more than {HANDSHAKE_BYTES_MAX} bytes at once"
            )));
        }
        Ok(())
    }

    /// What the handshake has shown, if it is complete. For a session that was not open before.
    pub fn established(&self) -> Option<Established> {
        let (kind, certificates) = match &self.state {
            State::Rustls(rustls) if !rustls.is_handshaking() => {
                (rustls.handshake_kind(), rustls.peer_certificates())
            }
            _ => return None,
        };
        Some(Established {
            resumed: kind == Some(HandshakeKind::Resumed),
            names: certificates
                .and_then(|chain| chain.first())
                .map(|certificate| PeerNames::of(certificate)),
        })
    }

    /// Leaves rustls behind once the handshake is complete, if the session is one of TLS 1.3. To be called after
    /// [`Session::established`].
    ///
    /// # Errors
    /// rustls does not let go.
    pub fn settle(&mut self) -> Result<(), Fault> {
        let is_done = matches!(&self.state, State::Rustls(rustls) if !rustls.is_handshaking() && is_1_3(rustls));
        if !is_done {
            return Ok(());
        }
        let State::Rustls(rustls) = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        let (secrets, successors) = rustls
            .dangerous_into_kernel_connection()
            .map_err(|error| Fault(error.to_string()))?;
        let (Some(rx), Some(tx)) = (TrafficKey::new(secrets.rx), TrafficKey::new(secrets.tx))
        else {
            return Err(Fault(
                "a cipher that the record layer does not know".to_owned(),
            ));
        };
        self.state = State::Sealed(Sealed::new(rx, tx, successors));
        Ok(())
    }

    /// Ends a session that cannot go on. What it has to send still goes.
    fn fail(&mut self) {
        self.state = State::Over;
        self.held = Vec::new();
        self.seen = 0;
    }
}

impl Secure for Session {
    fn receive(&mut self, wire: &mut [u8], plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        match &self.state {
            State::Rustls(_) => {
                self.held.extend_from_slice(wire);
                self.drive(plain)
            }
            State::Sealed(_) => {
                let opened = self
                    .open_held(plain)
                    .and_then(|()| self.open_all(wire, plain));
                if opened.is_err() {
                    self.fail();
                }
                opened
            }
            State::Over => Ok(()),
        }
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        self.answered |= !self.outgoing.is_empty();
        wire.append(&mut self.outgoing);
        self.outgoing = Vec::new();
        match &mut self.state {
            State::Sealed(sealed) => sealed.send(plain, wire),
            State::Rustls(rustls) if !rustls.is_handshaking() && !plain.is_empty() => {
                encrypt(rustls, &mut self.held[..self.seen], plain, wire)
            }
            _ => Ok(()),
        }
    }

    fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn close(&mut self) {
        match &mut self.state {
            State::Sealed(sealed) => sealed.close(&mut self.outgoing),
            State::Rustls(rustls) if !rustls.is_handshaking() => {
                close_notify(rustls, &mut self.held[..self.seen], &mut self.outgoing);
                self.fail();
            }
            _ => {}
        }
    }

    fn stage(&self) -> Stage {
        match &self.state {
            _ if self.peer_closed => Stage::Closed,
            State::Rustls(rustls) if rustls.is_handshaking() => Stage::Handshake,
            State::Rustls(_) | State::Sealed(_) => Stage::Open,
            State::Over => Stage::Closed,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
