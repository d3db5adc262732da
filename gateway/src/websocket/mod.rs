//! WebSocket (RFC 6455) without I/O: bytes in, messages out, and the bytes to answer with.
//!
//! ```text
//!   request bytes ─► upgrade::parse_request ─► (may they?) ─► upgrade::accept ─► 101
//!                          └─► Refusal::response ─► 4xx or 5xx in plain words
//!   frame bytes   ─► Assembler::receive ─► Incoming, one per message
//!                          └─► ProtocolError ─► outgoing::close_frame
//!   payload       ─► outgoing::write_header, control_frame, close_frame ─► frame bytes
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `upgrade` | the opening handshake: parse, check, choose a subprotocol, answer 101 |
//! | `refusal` | the HTTP answer to a request that is not upgraded |
//! | `assembler` | frames become messages; owns heap only while a message is unfinished |
//! | `unfinished` | what is kept of a message between two chunks of bytes |
//! | `head` | one frame header, and the rules that it must obey by itself |
//! | `message` | a message that has not ended; text is checked as it arrives |
//! | `close` | what a close frame may carry |
//! | `mask` | takes the client's mask off |
//! | `error` | every way to break the protocol, with its close code |
//! | `outgoing` | frames that the gateway sends |
//!
//! Frame header, opcodes, close codes and the handshake's key are tungstenite's.

mod assembler;
mod close;
mod error;
mod head;
mod mask;
mod message;
pub mod outgoing;
mod refusal;
mod unfinished;
pub mod upgrade;

#[cfg(test)]
pub mod tests;

pub use assembler::{Assembler, AssemblyLimits, Incoming};
pub use error::ProtocolError;
pub use refusal::Refusal;
pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
pub use unfinished::UNFINISHED_BYTES;
