//! Behind the handshake of TLS 1.3, without rustls: records, key updates (RFC 8446 §4.6.3), alerts (§6).

use rustls::{kernel::KernelConnection, server::ServerConnectionData};

use super::{Session, State};
use crate::transport::{
    Fault,
    record::{self, TrafficKey, content},
};

/// Key updates and empty records that a peer may send without saying anything in between, as rustls counts them.
const SILENT_RECORDS_MAX: u8 = 32;
/// Key updates that a peer may make: so many, and one more for so many records that say something. Each costs us several
/// hashes, and may ask for an answer.
const KEY_UPDATES_FREE: u64 = 16;
const RECORDS_PER_KEY_UPDATE: u64 = 64;
/// Handshake messages behind the handshake (RFC 8446 §4).
pub(super) const KEY_UPDATE: u8 = 24;

mod alert {
    pub const WARNING: u8 = 1;
    pub const FATAL: u8 = 2;
    pub const CLOSE_NOTIFY: u8 = 0;
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    pub const BAD_RECORD_MAC: u8 = 20;
    pub const USER_CANCELED: u8 = 90;
}

/// A session of TLS 1.3 that is open.
pub(super) struct Sealed {
    pub(super) rx: TrafficKey,
    pub(super) tx: TrafficKey,
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

impl Sealed {
    pub(super) fn new(
        rx: TrafficKey,
        tx: TrafficKey,
        successors: KernelConnection<ServerConnectionData>,
    ) -> Sealed {
        Sealed {
            rx,
            tx,
            successors: Box::new(successors),
            silent_records: 0,
            records: 0,
            key_updates: 0,
            answer_is_due: false,
            said_close: false,
        }
    }

    /// Appends `plain` to `wire`, behind what TLS itself had to send. Nothing follows a close.
    pub(super) fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault> {
        self.answer_is_due = false;
        if plain.is_empty() || self.said_close {
            return Ok(());
        }
        if self.tx.is_worn() {
            self.renew_tx(wire)?;
        }
        self.tx.seal(content::APPLICATION, plain, wire)
    }

    /// Says that another key follows, and takes it.
    pub(super) fn renew_tx(&mut self, wire: &mut Vec<u8>) -> Result<(), Fault> {
        // update_not_requested: the peer's own key is its own affair.
        let message = [KEY_UPDATE, 0, 0, 1, 0];
        self.tx.seal(content::HANDSHAKE, &message, wire)?;
        self.tx = next(self.successors.update_tx_secret())?;
        Ok(())
    }

    /// Says that nothing follows, once.
    pub(super) fn close(&mut self, wire: &mut Vec<u8>) {
        if !self.said_close {
            self.said_close = true;
            let last = [alert::WARNING, alert::CLOSE_NOTIFY];
            let _ = self.tx.seal(content::ALERT, &last, wire);
        }
    }
}

impl Session {
    /// Opens what came in one piece with the end of the handshake.
    pub(super) fn open_held(&mut self, plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault> {
        match record::length_of(&self.held)? {
            Some(length) if length <= self.held.len() => {
                let mut held = std::mem::take(&mut self.held);
                self.open_all(&mut held, plain)
            }
            _ => Ok(()),
        }
    }

    /// Opens the records in `wire`, the first of which may have begun in what is held.
    pub(super) fn open_all(
        &mut self,
        wire: &mut [u8],
        plain: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Fault> {
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
