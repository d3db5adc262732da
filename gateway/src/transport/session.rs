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
/// Key updates that a peer may make: so many, and one more for so many records that say something. Each costs us several
/// hashes, and may ask for an answer.
const KEY_UPDATES_FREE: u64 = 16;
const RECORDS_PER_KEY_UPDATE: u64 = 64;
/// Handshake messages behind the handshake (RFC 8446 §4).
const KEY_UPDATE: u8 = 24;
/// What a record may be about, on the outside (RFC 8446 §5.1).
const RECORD_KINDS: std::ops::RangeInclusive<u8> = 20..=23;

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

struct Sealed {
    rx: TrafficKey,
    tx: TrafficKey,
    /// Derives the next keys.
    successors: Box<KernelConnection<ServerConnectionData>>,
    silent_records: u8,
    /// Records of the peer with something to say, and its key updates.
    records: u64,
    key_updates: u64,
    /// A key update that the peer asked for is not sent yet: it answers all that are asked for until then.
    answer_is_due: bool,
    said_close: bool,
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
            records: 0,
            key_updates: 0,
            answer_is_due: false,
            said_close: false,
        });
        Ok(())
    }

    /// Ends a session that cannot go on. What it has to send still goes.
    fn fail(&mut self) {
        self.state = State::Over;
        self.held = Vec::new();
        self.seen = 0;
    }

    /// Lets rustls see what is held, one record at a time. It is to see nothing of what comes behind the handshake of
    /// TLS 1.3: that is for the record layer.
    fn drive(&mut self, plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let outcome = self.drive_records(plain);
        if outcome.is_err() {
            self.fail();
        } else if self.held.is_empty() {
            // No buffer while nothing is kept.
            self.held = Vec::new();
        }
        outcome
    }

    fn drive_records(&mut self, plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        while let State::Rustls(rustls) = &mut self.state
            && let Some(end) = end_of_next(&self.held, self.seen)
        {
            let began = rustls.is_handshaking();
            let (left, driven) = drive(rustls, &mut self.held, end, &mut self.outgoing, plain)?;
            self.seen = left;
            match driven {
                Driven::Closed => {
                    self.peer_closed = true;
                    return Ok(());
                }
                Driven::Waits if began && !rustls.is_handshaking() && is_1_3(rustls) => {
                    return if left == 0 {
                        Ok(())
                    } else {
                        Err(Fault("part of a message behind the handshake".to_owned()))
                    };
                }
                Driven::Waits => {}
            }
        }
        self.bound_handshake()
    }

    /// Opens the records in `wire`, the first of which may have begun in what is held.
    fn open_all(&mut self, wire: &mut [u8], plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        let mut rest = wire;
        while !rest.is_empty() && !self.is_deaf() {
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
        }
        Ok(())
    }

    /// Opens what came in one piece with the end of the handshake.
    fn open_held(&mut self, plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        match record::length_of(&self.held)? {
            Some(length) if length <= self.held.len() => {
                let mut held = std::mem::take(&mut self.held);
                self.open_all(&mut held, plain)
            }
            _ => Ok(()),
        }
    }

    /// Whether nothing that comes matters any more.
    fn is_deaf(&self) -> bool {
        self.peer_closed || matches!(self.state, State::Over)
    }

    /// Adds to the record that is held what belongs to it. Returns how many bytes that were.
    fn top_up(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        let length = match record::length_of(&self.held)? {
            Some(length) => length,
            None => record::HEADER_BYTES,
        };
        let missing = length
            .checked_sub(self.held.len())
            .ok_or_else(|| Fault("more is held than one record".to_owned()))?;
        let taken = missing.min(rest.len());
        // No more room than the record has: there may be as many of these as there are connections.
        self.held.reserve_exact(missing);
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
            sealed.records += 1;
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
                // It says no more, and may still be told something (RFC 8446 §6.1).
                self.peer_closed = true;
                self.held = Vec::new();
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
        sealed.key_updates += 1;
        if sealed.key_updates > KEY_UPDATES_FREE + sealed.records / RECORDS_PER_KEY_UPDATE {
            let fault = Fault("too many key updates".to_owned());
            return Err(self.refuse(alert::UNEXPECTED_MESSAGE, fault));
        }
        sealed.rx = next(sealed.successors.update_rx_secret())?;
        if answer && !std::mem::replace(&mut sealed.answer_is_due, true) {
            sealed.renew_tx(&mut self.outgoing)?;
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
        if let State::Sealed(sealed) = &mut self.state {
            sealed.answer_is_due = false;
        }
        match &mut self.state {
            State::Sealed(sealed) if !plain.is_empty() && !sealed.said_close => {
                if sealed.tx.is_worn() {
                    sealed.renew_tx(wire)?;
                }
                sealed.tx.seal(content::APPLICATION, plain, wire)
            }
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
            State::Sealed(sealed) if !sealed.said_close => {
                sealed.said_close = true;
                let last = [alert::WARNING, alert::CLOSE_NOTIFY];
                let _ = sealed.tx.seal(content::ALERT, &last, &mut self.outgoing);
            }
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

/// What rustls does when it has seen what there is.
enum Driven {
    /// It waits for more, or for something to say.
    Waits,
    /// The peer says no more.
    Closed,
}

/// Where the record ends that follows the first `seen` bytes of `held`. `None`: it is not complete. What is no record is
/// for rustls to refuse, all of it.
fn end_of_next(held: &[u8], seen: usize) -> Option<usize> {
    let next = held.get(seen..)?;
    let &[kind, _, _, high, low] = next.first_chunk::<{ record::HEADER_BYTES }>()?;
    let end = seen + record::HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let is_record = (RECORD_KINDS).contains(&kind);
    if !is_record {
        return Some(held.len());
    }
    (end <= held.len()).then_some(end)
}

fn is_1_3(rustls: &UnbufferedServerConnection) -> bool {
    rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
}

/// Lets rustls see the first `end` bytes of `held`, from which what it is done with is taken. Returns how many of them it
/// is not done with.
fn drive(
    rustls: &mut UnbufferedServerConnection,
    held: &mut Vec<u8>,
    end: usize,
    outgoing: &mut Vec<u8>,
    plain: &mut dyn FnMut(&mut [u8]),
) -> Result<(usize, Driven), Fault> {
    let mut end = end;
    loop {
        let UnbufferedStatus { discard, state } = rustls.process_tls_records(&mut held[..end]);
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
        let discard = discard.min(end);
        held.drain(..discard);
        end -= discard;
        match driven {
            None => {}
            Some(Err(fault)) => {
                take_alert(rustls, outgoing);
                return Err(fault);
            }
            Some(Ok(driven)) => return Ok((end, driven)),
        }
    }
}

/// The alert that rustls has for the peer, if it has one. Without one, rustls would go on to look at bytes that it
/// remembers and that are not there any more, and panic (seen with 0.23.46).
fn take_alert(rustls: &mut UnbufferedServerConnection, outgoing: &mut Vec<u8>) {
    if rustls.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(mut data)) =
            rustls.process_tls_records(&mut []).state
    {
        append(outgoing, |room| match data.encode(room) {
            Err(EncodeError::InsufficientSize(wanted)) => Err(wanted.required_size),
            encoded => Ok(encoded.unwrap_or(0)),
        });
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
    seen: &mut [u8],
    plain: &[u8],
    wire: &mut Vec<u8>,
) -> Result<(), Fault> {
    let state = rustls.process_tls_records(seen).state;
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

fn close_notify(rustls: &mut UnbufferedServerConnection, seen: &mut [u8], wire: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = rustls.process_tls_records(seen).state {
        append(wire, |room| match traffic.queue_close_notify(room) {
            Err(EncryptError::InsufficientSize(wanted)) => Err(wanted.required_size),
            written => Ok(written.unwrap_or(0)),
        });
    }
}

#[cfg(test)]
pub(super) mod tests;
