//! The text protocol of NATS clients. A vehicle publishes to a subject of its own; a dashboard subscribes to the subjects
//! of the vehicles that it watches, or to all with a wildcard. A `PING` behind the subscriptions is answered once they are
//! in force.

use super::{Heard, Speech, Stream, Who, Wish};
use crate::frames::{self, Opcode};

/// In front of the vehicle's id.
const SUBJECT: &str = "p.";
/// The server's limit of a control line is 4,096 bytes; `INFO` is longer with many addresses.
const LINE_BYTES_MAX: usize = 64 << 10;

/// See the module.
pub struct Nats {
    stream: Stream,
}

impl Nats {
    /// For connections 0 to `clients`.
    pub fn new(clients: usize) -> Self {
        Self {
            stream: Stream::new(clients),
        }
    }
}

impl Speech for Nats {
    fn hello(&mut self, _client: usize, who: &Who, out: &mut Vec<u8>) {
        let mut lines = String::from(
            "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\",\"protocol\":1}\r\n",
        );
        match who {
            Who::Vehicle(_) => {}
            Who::Dashboard(_, Wish::All) => lines += &format!("SUB {SUBJECT}* 1\r\n"),
            Who::Dashboard(_, Wish::Some(ids)) => {
                for (id, number) in ids.iter().zip(1..) {
                    lines += &format!("SUB {SUBJECT}{id} {number}\r\n");
                }
            }
        }
        lines += "PING\r\n";
        frames::write(out, Opcode::Binary, lines.as_bytes(), [0; 4]);
    }

    fn report(&mut self, id: &str, message: &[u8], body: &mut Vec<u8>) {
        let line = format!("PUB {SUBJECT}{id} {}\r\n", message.len());
        body.extend_from_slice(line.as_bytes());
        body.extend_from_slice(message);
        body.extend_from_slice(b"\r\n");
    }

    fn hear(
        &mut self,
        client: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) {
        self.stream.feed(client, received, |bytes| {
            let (length, heard) = match packet(bytes) {
                Ok(found) => found?,
                Err(fault) => (bytes.len(), Packet::Fault(fault)),
            };
            match heard {
                Packet::Message(message) => take(Heard::Report(message)),
                Packet::Pong => take(Heard::Ready),
                Packet::Ping => frames::write(answer, Opcode::Binary, b"PONG\r\n", [0; 4]),
                Packet::Fault(fault) => take(Heard::Fault(fault)),
                Packet::Info => {}
            }
            Some(length)
        });
    }
}

enum Packet<'a> {
    Message(&'a [u8]),
    Info,
    Ping,
    Pong,
    Fault(String),
}

/// The first packet in `bytes` and its length, if it is complete.
fn packet(bytes: &[u8]) -> Result<Option<(usize, Packet<'_>)>, String> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() > LINE_BYTES_MAX {
            Err("NATS: a line does not end".to_owned())
        } else {
            Ok(None)
        };
    };
    let line = bytes[..end].trim_ascii_end();
    let strange = || format!("NATS: a strange line: {}", String::from_utf8_lossy(line));
    let after = end + 1;
    let simple = match line {
        [b'M', b'S', b'G', b' ', fields @ ..] => {
            // SUBJECT SID [REPLY] BYTES
            let length = fields.rsplit(|&byte| byte == b' ').next();
            let length: usize = length
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
                .filter(|&length| length <= frames::PAYLOAD_BYTES_MAX)
                .ok_or_else(strange)?;
            return Ok(match bytes.get(after..after + length + 2) {
                None => None,
                Some([message @ .., b'\r', b'\n']) => {
                    Some((after + length + 2, Packet::Message(message)))
                }
                Some(_) => return Err(strange()),
            });
        }
        b"PING" => Packet::Ping,
        b"PONG" => Packet::Pong,
        [b'I', b'N', b'F', b'O', ..] | b"+OK" => Packet::Info,
        [b'-', b'E', b'R', b'R', ..] => {
            Packet::Fault(format!("NATS: {}", String::from_utf8_lossy(line)))
        }
        _ => return Err(strange()),
    };
    Ok(Some((after, simple)))
}
