//! One connection's TLS: rustls through the handshake, then our own record layer with the keys that it led to.
//!
//! rustls hands over the keys of a TLS 1.3 session (`dangerous_into_kernel_connection`, made for kTLS) and keeps what
//! derives the next ones. What is left to do of the protocol behind a handshake is little: records, key updates (RFC 8446
//! §4.6.3), alerts (§6). A session of TLS 1.2, where that is allowed, stays with rustls.

use std::sync::Arc;

use rustls::{
    HandshakeKind, ProtocolVersion, ServerConfig,
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

use super::{
    Fault, Secure, Stage,
    peer_name::PeerNames,
    record::{self, TrafficKey, content},
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
/// Key updates and empty records that a peer may send without saying anything in between, as rustls counts them.
const SILENT_RECORDS_MAX: u8 = 32;
/// Handshake messages behind the handshake (RFC 8446 §4).
const KEY_UPDATE: u8 = 24;

mod alert {
    pub const WARNING: u8 = 1;
    pub const FATAL: u8 = 2;
    pub const CLOSE_NOTIFY: u8 = 0;
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    pub const BAD_RECORD_MAC: u8 = 20;
    pub const USER_CANCELED: u8 = 90;
}

/// One connection's TLS.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// The beginning of a record, or of a handshake's flight.
    held: Vec<u8>,
    /// What TLS itself has to send.
    outgoing: Vec<u8>,
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

struct Sealed {
    rx: TrafficKey,
    tx: TrafficKey,
    /// Derives the next keys.
    successors: Box<KernelConnection<ServerConnectionData>>,
    silent_records: u8,
    said_close: bool,
    /// A key update of ours is among what TLS itself has to send.
    update_waits: bool,
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
            queued: false,
        })
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
        let is_done = matches!(&self.state, State::Rustls(rustls) if !rustls.is_handshaking()
            && rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3));
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
        self.state = State::Sealed(Sealed {
            rx,
            tx,
            successors: Box::new(successors),
            silent_records: 0,
            said_close: false,
            update_waits: false,
        });
        Ok(())
    }

    /// Ends a session that cannot go on. What it has to send still goes.
    fn fail(&mut self) {
        self.state = State::Over;
        self.held = Vec::new();
    }

    /// Lets rustls see what is held.
    fn drive(&mut self, plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let State::Rustls(rustls) = &mut self.state else {
            return Ok(());
        };
        let driven = drive(rustls, &mut self.held, &mut self.outgoing, plain);
        match driven {
            Ok(Driven::Waits) => {
                if self.held.is_empty() {
                    // No buffer while nothing is kept.
                    self.held = Vec::new();
                }
                self.bound_handshake()
            }
            Ok(Driven::Closed) => {
                self.fail();
                Ok(())
            }
            Err(fault) => {
                self.fail();
                Err(fault)
            }
        }
    }

    /// Opens the records in `wire`, the first of which may have begun in what is held.
    fn open_all(&mut self, wire: &mut [u8], plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let mut rest = wire;
        while !rest.is_empty() {
            if !self.held.is_empty() {
                let taken = self.top_up(rest)?;
                rest = &mut rest[taken..];
                if record::length_of(&self.held)? == Some(self.held.len()) {
                    let mut whole = std::mem::take(&mut self.held);
                    self.open_one(&mut whole, plain)?;
                }
            } else {
                match record::length_of(rest)? {
                    Some(length) if length <= rest.len() => {
                        let (whole, more) = rest.split_at_mut(length);
                        self.open_one(whole, plain)?;
                        rest = more;
                    }
                    _ => {
                        self.held = rest.to_vec();
                        return Ok(());
                    }
                }
            }
            if matches!(self.state, State::Over) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Adds to the record that is held what belongs to it. Returns how many bytes that were.
    fn top_up(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        let length = match record::length_of(&self.held)? {
            Some(length) => length,
            None => record::HEADER_BYTES,
        };
        let taken = (length - self.held.len()).min(rest.len());
        self.held.extend_from_slice(&rest[..taken]);
        Ok(taken)
    }

    fn open_one(
        &mut self,
        whole: &mut [u8],
        plain: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Fault> {
        let State::Sealed(sealed) = &mut self.state else {
            return Ok(());
        };
        let (kind, range) = match sealed.rx.open(whole) {
            Ok(opened) => opened,
            Err(fault) => return Err(self.refuse(alert::BAD_RECORD_MAC, fault)),
        };
        let said = &mut whole[range];
        if kind == content::APPLICATION && !said.is_empty() {
            sealed.silent_records = 0;
            plain(said);
            return Ok(());
        }
        sealed.silent_records += 1;
        if sealed.silent_records > SILENT_RECORDS_MAX {
            let fault = Fault("too many records that say nothing".to_owned());
            return Err(self.refuse(alert::UNEXPECTED_MESSAGE, fault));
        }
        match (kind, &*said) {
            (content::APPLICATION, _) | (content::ALERT, [_, alert::USER_CANCELED]) => Ok(()),
            (content::ALERT, [_, alert::CLOSE_NOTIFY]) => {
                self.close();
                self.fail();
                Ok(())
            }
            (content::ALERT, [_, description]) => {
                let fault = Fault(format!(
                    "the peer ends the session with alert {description}"
                ));
                self.fail();
                Err(fault)
            }
            (content::HANDSHAKE, [KEY_UPDATE, 0, 0, 1, wants @ (0 | 1)]) => {
                let answer = *wants == 1;
                self.update_keys(answer)
            }
            _ => {
                let fault = Fault("a message that does not belong behind a handshake".to_owned());
                Err(self.refuse(alert::UNEXPECTED_MESSAGE, fault))
            }
        }
    }

    /// The peer seals with the next key from now on, and may ask for the same of us.
    fn update_keys(&mut self, answer: bool) -> Result<(), Fault> {
        let State::Sealed(sealed) = &mut self.state else {
            return Ok(());
        };
        sealed.rx = next(sealed.successors.update_rx_secret())?;
        // One answer before our next word is enough (§4.6.3). A peer that asks without reading must not make us hold an
        // answer each time.
        if answer && !sealed.update_waits {
            sealed.renew_tx(&mut self.outgoing)?;
            sealed.update_waits = true;
        }
        Ok(())
    }

    /// Ends the session with an alert.
    fn refuse(&mut self, description: u8, fault: Fault) -> Fault {
        if let State::Sealed(sealed) = &mut self.state {
            // One that cannot be sealed is not sent.
            let _ = sealed.tx.seal(
                content::ALERT,
                &[alert::FATAL, description],
                &mut self.outgoing,
            );
        }
        self.fail();
        fault
    }
}

fn next(
    secret: Result<(u64, rustls::ConnectionTrafficSecrets), rustls::Error>,
) -> Result<TrafficKey, Fault> {
    let secret = secret.map_err(|error| Fault(error.to_string()))?;
    TrafficKey::new(secret)
        .ok_or_else(|| Fault("a cipher that the record layer does not know".to_owned()))
}

impl Sealed {
    /// Says that another key follows, and takes it.
    fn renew_tx(&mut self, wire: &mut Vec<u8>) -> Result<(), Fault> {
        // update_not_requested: the peer's own key is its own affair.
        let message = [KEY_UPDATE, 0, 0, 1, 0];
        self.tx.seal(content::HANDSHAKE, &message, wire)?;
        self.tx = next(self.successors.update_tx_secret())?;
        Ok(())
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
                let opened = self.open_all(wire, plain);
                if opened.is_err() {
                    self.fail();
                }
                opened
            }
            State::Over => Ok(()),
        }
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        wire.append(&mut self.outgoing);
        self.outgoing = Vec::new();
        if let State::Sealed(sealed) = &mut self.state {
            sealed.update_waits = false;
        }
        match &mut self.state {
            State::Sealed(sealed) if !plain.is_empty() => {
                if sealed.tx.is_worn() {
                    sealed.renew_tx(wire)?;
                }
                sealed.tx.seal(content::APPLICATION, plain, wire)
            }
            State::Rustls(rustls) if !rustls.is_handshaking() && !plain.is_empty() => {
                encrypt(rustls, plain, wire)
            }
            _ => Ok(()),
        }
    }

    fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn close(&mut self) {
        match &mut self.state {
            State::Sealed(sealed) if !sealed.said_close => {
                sealed.said_close = true;
                let last = [alert::WARNING, alert::CLOSE_NOTIFY];
                let _ = sealed.tx.seal(content::ALERT, &last, &mut self.outgoing);
            }
            State::Rustls(rustls) if !rustls.is_handshaking() => {
                close_notify(rustls, &mut self.outgoing);
                self.fail();
            }
            _ => {}
        }
    }

    fn stage(&self) -> Stage {
        match &self.state {
            State::Rustls(rustls) if rustls.is_handshaking() => Stage::Handshake,
            State::Rustls(_) | State::Sealed(_) => Stage::Open,
            State::Over => Stage::Closed,
        }
    }
}

/// What rustls does when it has seen what there is.
enum Driven {
    /// It waits for more, or for something to say.
    Waits,
    /// The peer says no more.
    Closed,
}

/// Lets rustls see `held`, from which what it is done with is taken.
fn drive(
    rustls: &mut UnbufferedServerConnection,
    held: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    plain: &mut dyn FnMut(&mut [u8]),
) -> Result<Driven, Fault> {
    loop {
        let UnbufferedStatus { discard, state } = rustls.process_tls_records(held);
        let driven = match state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                append(outgoing, |room| match data.encode(room) {
                    Err(EncodeError::InsufficientSize(wanted)) => Err(wanted.required_size),
                    encoded => Ok(encoded.unwrap_or(0)),
                });
                None
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                None
            }
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(said) = traffic.next_record() {
                    let said = said.map_err(|error| Fault(error.to_string()))?;
                    plain(&mut said.payload.to_vec());
                }
                None
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                Some(Ok(Driven::Waits))
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Some(Ok(Driven::Closed)),
            // Early data is not offered.
            Ok(_) => Some(Err(Fault("early data".to_owned()))),
            Err(error) => Some(Err(Fault(error.to_string()))),
        };
        held.drain(..discard);
        match driven {
            None => {}
            Some(Err(fault)) => {
                // Its alert, if there is one.
                if let Ok(ConnectionState::EncodeTlsData(mut data)) =
                    rustls.process_tls_records(&mut []).state
                {
                    append(outgoing, |room| match data.encode(room) {
                        Err(EncodeError::InsufficientSize(wanted)) => Err(wanted.required_size),
                        encoded => Ok(encoded.unwrap_or(0)),
                    });
                }
                return Err(fault);
            }
            Some(done) => return done,
        }
    }
}

/// Appends what `write` writes; it says how much room it needs if there is too little.
fn append(to: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let start = to.len();
    let mut room = 0;
    loop {
        to.resize(start + room, 0);
        match write(&mut to[start..]) {
            Ok(written) => return to.truncate(start + written),
            Err(needed) if needed > room => room = needed,
            Err(_) => return to.truncate(start),
        }
    }
}

/// What TLS 1.2 makes of `plain`.
fn encrypt(
    rustls: &mut UnbufferedServerConnection,
    plain: &[u8],
    wire: &mut Vec<u8>,
) -> Result<(), Fault> {
    let state = rustls.process_tls_records(&mut []).state;
    let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
        return Err(Fault("the session takes nothing any more".to_owned()));
    };
    let mut exhausted = false;
    append(wire, |room| match traffic.encrypt(plain, room) {
        Err(EncryptError::InsufficientSize(wanted)) => Err(wanted.required_size),
        Err(EncryptError::EncryptExhausted) => {
            exhausted = true;
            Ok(0)
        }
        Ok(written) => Ok(written),
    });
    if exhausted {
        return Err(Fault("more records than a key is for".to_owned()));
    }
    Ok(())
}

fn close_notify(rustls: &mut UnbufferedServerConnection, wire: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
        rustls.process_tls_records(&mut []).state
    {
        append(wire, |room| match traffic.queue_close_notify(room) {
            Err(EncryptError::InsufficientSize(wanted)) => Err(wanted.required_size),
            written => Ok(written.unwrap_or(0)),
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
