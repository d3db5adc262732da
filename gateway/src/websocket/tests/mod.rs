//! The assembler seen from a client: frames in, messages out.

mod assembly;
mod memory;
pub mod model;
mod properties;
mod upgrade;

use std::ops::ControlFlow;

use super::mask::unmask;
use super::{Assembler, AssemblyLimits, Incoming, ProtocolError};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const LIMITS: AssemblyLimits = AssemblyLimits {
    message_bytes_max: 16 << 20,
    frames_per_message_max: 1_000,
};

/// First header bytes: FIN and opcode.
const CONTINUE: u8 = 0x00;
const TEXT: u8 = 0x01;
const BINARY: u8 = 0x02;
const FIN: u8 = 0x80;
const CLOSE: u8 = FIN | 0x08;
const PING: u8 = FIN | 0x09;
const PONG: u8 = FIN | 0x0a;

/// A message that outlives the buffer it came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Incoming<'_>> for Owned {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.into()),
            Incoming::Binary(bytes) => Self::Binary(bytes.into()),
            Incoming::Ping(bytes) => Self::Ping(bytes.into()),
            Incoming::Pong(bytes) => Self::Pong(bytes.into()),
            Incoming::Close(close) => {
                Self::Close(close.map(|(code, why)| (code.into(), why.into())))
            }
        }
    }
}

/// How a byte stream ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Open,
    Closed,
    Failed(ProtocolError),
}

/// A frame as a client sends it: masked, its length in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len());
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    unmask(&mut bytes[start..], MASK);
    bytes
}

/// The header alone.
fn head(first: u8, payload_len: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload_len {
        0..=125 => bytes.push(0x80 | payload_len as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((payload_len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload_len as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// Feeds the chunks one by one, until the end.
pub fn feed<'c>(
    assembler: &mut Assembler,
    chunks: impl IntoIterator<Item = &'c [u8]>,
    limits: &AssemblyLimits,
) -> (Vec<Owned>, End) {
    let mut messages = Vec::new();
    for chunk in chunks {
        let mut sink = |incoming: Incoming<'_>| {
            messages.push(incoming.into());
            ControlFlow::Continue(())
        };
        match assembler.receive(&mut chunk.to_vec(), limits, &mut sink) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return (messages, End::Closed),
            Err(error) => return (messages, End::Failed(error)),
        }
    }
    (messages, End::Open)
}

/// Feeds a fresh assembler with all bytes at once.
fn feed_whole(bytes: &[u8]) -> (Vec<Owned>, End) {
    feed(&mut Assembler::default(), [bytes], &LIMITS)
}

/// Feeds a fresh assembler byte by byte.
fn feed_bytewise(bytes: &[u8]) -> (Vec<Owned>, End) {
    feed(&mut Assembler::default(), bytes.chunks(1), &LIMITS)
}
