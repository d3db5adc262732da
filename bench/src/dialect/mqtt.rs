//! MQTT 3.1.1 over WebSocket (OASIS MQTT 3.1.1, §6), as much of it as QoS 0 needs: CONNECT, CONNACK, SUBSCRIBE, SUBACK,
//! PUBLISH. A vehicle publishes to a topic of its own; a dashboard subscribes to the topics of the vehicles that it
//! watches, or to all with a wildcard.

use super::{Heard, Speech, Stream, Who, Wish};
use crate::frames::{self, Opcode};

/// In front of the vehicle's id.
const TOPIC: &str = "p/";
/// The longest packet that there can be, §2.2.3; none here comes near it.
const PACKET_BYTES_MAX: usize = frames::PAYLOAD_BYTES_MAX;

/// A SUBACK's code for a subscription that was refused, §3.9.3.
const REFUSED: u8 = 0x80;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

/// See the module.
pub struct Mqtt {
    stream: Stream,
    /// Per connection: it has subscribed to something, and is ready once that is acknowledged.
    subscribes: Vec<bool>,
}

impl Mqtt {
    /// For connections 0 to `clients`.
    pub fn new(clients: usize) -> Self {
        Self {
            stream: Stream::new(clients),
            subscribes: vec![false; clients],
        }
    }
}

impl Speech for Mqtt {
    fn hello(&mut self, client: usize, who: &Who, out: &mut Vec<u8>) {
        let (name, topics) = match who {
            Who::Vehicle(id) => (id.clone(), Vec::new()),
            Who::Dashboard(number, wish) => {
                let topics = match wish {
                    Wish::All => vec![format!("{TOPIC}+")],
                    Wish::Some(ids) => ids.iter().map(|id| format!("{TOPIC}{id}")).collect(),
                };
                (format!("dashboard-{number}"), topics)
            }
        };
        let mut connect = Vec::new();
        string(&mut connect, "MQTT");
        // Protocol level 4; a clean session; no keep alive, so that nobody has to ping.
        connect.extend_from_slice(&[4, 0b10, 0, 0]);
        string(&mut connect, &name);
        let mut packets = Vec::new();
        write_packet(&mut packets, CONNECT, &connect);
        self.subscribes[client] = !topics.is_empty();
        if !topics.is_empty() {
            let mut subscribe = vec![0, 1];
            for topic in &topics {
                string(&mut subscribe, topic);
                subscribe.push(0);
            }
            write_packet(&mut packets, SUBSCRIBE, &subscribe);
        }
        frames::write(out, Opcode::Binary, &packets, [0; 4]);
    }

    fn report(&mut self, id: &str, message: &[u8], body: &mut Vec<u8>) {
        body.push(PUBLISH);
        write_length(body, 2 + TOPIC.len() + id.len() + message.len());
        body.extend_from_slice(&((TOPIC.len() + id.len()) as u16).to_be_bytes());
        body.extend_from_slice(TOPIC.as_bytes());
        body.extend_from_slice(id.as_bytes());
        body.extend_from_slice(message);
    }

    fn hear(
        &mut self,
        client: usize,
        received: &[u8],
        _answer: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) {
        let subscribes = self.subscribes[client];
        self.stream.feed(client, received, |bytes| {
            let (length, kind, body) = match packet(bytes) {
                Ok(found) => found?,
                Err(fault) => {
                    take(Heard::Fault(fault));
                    return Some(bytes.len());
                }
            };
            match (kind, body) {
                (PUBLISH, body) => match message(body) {
                    Some(message) => take(Heard::Report(message)),
                    None => take(Heard::Fault("MQTT: a PUBLISH without a topic".to_owned())),
                },
                (CONNACK, [_, 0]) if !subscribes => take(Heard::Ready),
                (CONNACK, [_, 0]) => {}
                (SUBACK, [_, _, codes @ ..]) if !codes.contains(&REFUSED) => take(Heard::Ready),
                (kind, body) => take(Heard::Fault(format!(
                    "MQTT: packet {kind:#04x} says {body:02x?}"
                ))),
            }
            Some(length)
        });
    }
}

/// §1.5.3: a length of two bytes, then UTF-8.
fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_packet(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    write_length(out, body.len());
    out.extend_from_slice(body);
}

/// §2.2.3: seven bits a byte, the lowest first.
fn write_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

/// Length, first byte and body.
type Packet<'a> = (usize, u8, &'a [u8]);

/// The first packet in `bytes`, if it is complete.
fn packet(bytes: &[u8]) -> Result<Option<Packet<'_>>, String> {
    let mut length = 0;
    for at in 0..4 {
        let Some(&byte) = bytes.get(1 + at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if length > PACKET_BYTES_MAX {
                return Err(format!("MQTT: a packet announces {length} bytes"));
            }
            let (from, end) = (2 + at, 2 + at + length);
            return Ok(bytes.get(from..end).map(|body| (end, bytes[0], body)));
        }
    }
    Err("MQTT: a packet's length does not end".to_owned())
}

/// What a PUBLISH with QoS 0 carries behind its topic, §3.3.
fn message(body: &[u8]) -> Option<&[u8]> {
    let topic_bytes = u16::from_be_bytes([*body.first()?, *body.get(1)?]);
    body.get(2 + usize::from(topic_bytes)..)
}
