//! What lies between a socket's bytes and the WebSocket: what a load balancer says first, and TLS. Bytes in, bytes out, no
//! I/O.
//!
//! | file | what |
//! |---|---|
//! | [`proxy`] | whom a connection is for, as a load balancer says in front of it (PROXY protocol) |
//! | [`session`] | one connection's TLS: rustls through the handshake, then a record layer of a few hundred bytes |
//! | [`record`] | that record layer: TLS 1.3 record protection (RFC 8446 §5), keys set up anew for each record |
//! | [`certificates`] | what the handshake goes by: certificates by name, client authorities; read from files, and read again |
//! | [`peer_name`] | whose certificate a client has, and whether it is its token's |
//!
//! An idle connection holds its two traffic keys and what rustls needs to derive their successors, and no buffer. rustls
//! as it comes keeps about 7,300 bytes for it. The kernel's own TLS (kTLS) is not used: its contexts weigh more than
//! these keys, and what it saves, one copy, is little beside TCP for frames as small as ours.
//!
//! Whatever TLS library comes next has to fit [`Secure`].
#![forbid(unsafe_code)]

pub mod certificates;
pub mod peer_name;
pub mod proxy;
pub mod record;
pub mod session;

pub use certificates::{Certificates, CertificatesError};
pub use peer_name::{ClientCertificates, PeerNames};
pub use session::Session;

/// Why a session is over that should not be. Its alert, if there is one to send, is among the bytes for the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing can be said yet.
    Handshake,
    /// Both sides talk.
    Open,
    /// The peer has said that it says no more (close_notify), and may still be told something; or the session has failed.
    Closed,
}

/// What the shard needs of a TLS session.
pub trait Secure {
    /// Takes bytes off the wire, all of them: a record that is not complete is kept. Calls `plain` with what the peer
    /// said, in order, where it lies: it may be changed in place.
    ///
    /// # Errors
    /// What the peer did wrong. The session is over then.
    fn receive(&mut self, wire: &mut [u8], plain: &mut dyn FnMut(&mut [u8])) -> Result<(), Fault>;

    /// Appends to `wire` what the session itself has to send, and `plain` behind it. Nothing of `plain` before the
    /// session is open.
    ///
    /// # Errors
    /// The session cannot go on.
    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), Fault>;

    /// Whether the session itself has something to send.
    fn has_outgoing(&self) -> bool;

    /// Says that nothing follows (close_notify), once.
    fn close(&mut self);

    /// How far it is.
    fn stage(&self) -> Stage;
}
