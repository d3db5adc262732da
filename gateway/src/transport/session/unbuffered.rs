//! What rustls does of a session: the handshake, and all of TLS 1.2. It keeps no bytes of its own: it is shown what is
//! held, and says how much of that it is done with.

use rustls::{
    ProtocolVersion,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};

use super::{Session, State};
use crate::transport::{Fault, record};

/// What a record may be about, on the outside (RFC 8446 §5.1).
const RECORD_KINDS: std::ops::RangeInclusive<u8> = 20..=23;

impl Session {
    /// Lets rustls see what is held, one record at a time. It is to see nothing of what comes behind the handshake of
    /// TLS 1.3: that is for the record layer.
    pub(super) fn drive(&mut self, plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
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

pub(super) fn is_1_3(rustls: &UnbufferedServerConnection) -> bool {
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
pub(super) fn encrypt(
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

pub(super) fn close_notify(
    rustls: &mut UnbufferedServerConnection,
    seen: &mut [u8],
    wire: &mut Vec<u8>,
) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = rustls.process_tls_records(seen).state {
        append(wire, |room| match traffic.queue_close_notify(room) {
            Err(EncryptError::InsufficientSize(wanted)) => Err(wanted.required_size),
            written => Ok(written.unwrap_or(0)),
        });
    }
}
