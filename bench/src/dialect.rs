//! What servers speak on top of WebSocket: Longhaul's protocol, which the rest of the load generator knows, and those of
//! the [`crate::peers`], behind one trait.
//!
//! Every server carries the same messages: a `Position` of `longhaul.v1`, byte for byte as a vehicle sends it. What differs
//! is what goes around them.

mod mqtt;
mod nats;
mod plain;

use serde::{Deserialize, Serialize};

use crate::handshake::Handshake;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// `longhaul.v1`.
    Longhaul,
    /// What the servers of `bench/peers` speak that are ours: see [`plain`].
    Plain,
    /// The text protocol of NATS clients.
    Nats,
    /// MQTT 3.1.1, QoS 0.
    Mqtt,
}

impl Dialect {
    /// The upgrade of its connections.
    pub fn handshake(self, host: &str, path: &str) -> Handshake {
        match self {
            Self::Longhaul => Handshake::new(host, path),
            Self::Plain | Self::Nats => Handshake::to(host, path, None),
            Self::Mqtt => Handshake::to(host, path, Some("mqtt")),
        }
    }

    /// What `clients` connections say and hear; `None` for Longhaul's own protocol.
    pub fn speech(self, clients: usize) -> Option<Box<dyn Speech>> {
        match self {
            Self::Longhaul => None,
            Self::Plain => Some(Box::new(plain::Plain)),
            Self::Nats => Some(Box::new(nats::Nats::new(clients))),
            Self::Mqtt => Some(Box::new(mqtt::Mqtt::new(clients))),
        }
    }
}

/// Who says hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The vehicle with this id.
    Vehicle(String),
    /// A dashboard, by its number, and the vehicles that it watches.
    Dashboard(usize, Wish),
}

/// What a dashboard watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The whole fleet.
    All,
    /// The vehicles with these ids.
    Some(Vec<String>),
}

/// What a connection hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// All that it said in its hello is in force.
    Ready,
    /// The message of some vehicle.
    Report(&'a [u8]),
    /// An error of the server, or what makes no sense.
    Fault(String),
}

/// A protocol on top of WebSocket.
pub trait Speech {
    /// Writes the frames that connection `client` sends as soon as it is made.
    fn hello(&mut self, client: usize, who: &Who, out: &mut Vec<u8>);

    /// Writes what goes into the one frame with which vehicle `id` reports `message`.
    fn report(&mut self, id: &str, message: &[u8], body: &mut Vec<u8>);

    /// Hands what connection `client` received to `take`, and writes the frames of its answer, if there is one.
    fn hear(
        &mut self,
        client: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    );
}

/// Cuts the stream of bytes that each connection receives into packets, of which a message may hold several, and parts.
struct Stream {
    /// Per connection: the part of a packet that has come.
    partial: Vec<Vec<u8>>,
}

impl Stream {
    fn new(clients: usize) -> Self {
        Self {
            partial: vec![Vec::new(); clients],
        }
    }

    /// `next` takes one packet from the beginning of the bytes, and says how long it was; `None`: not complete.
    fn feed(
        &mut self,
        client: usize,
        received: &[u8],
        mut next: impl FnMut(&[u8]) -> Option<usize>,
    ) {
        let partial = &mut self.partial[client];
        let kept = !partial.is_empty();
        if kept {
            partial.extend_from_slice(received);
        }
        let bytes = if kept { &partial[..] } else { received };
        let mut used = 0;
        while used < bytes.len()
            && let Some(length) = next(&bytes[used..])
        {
            used += length;
        }
        if kept {
            partial.drain(..used);
        } else {
            partial.extend_from_slice(&received[used..]);
        }
    }
}

#[cfg(test)]
mod tests;
