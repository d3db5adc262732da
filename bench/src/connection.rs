//! One client connection: upgrade, frames in, frames out. Owns no buffer while nothing is partial.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use crate::clock::now_ns;
use crate::frames::{self, FrameError, Opcode, PAYLOAD_BYTES_MAX};
use crate::handshake::{Handshake, Refusal};
use crate::tls::{Secure, Wire};

/// Bytes that may wait for a gateway that does not read.
const OUTGOING_BYTES_MAX: usize = 4 << 20;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// No TLS session.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// No upgrade.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The gateway's bytes are no WebSocket.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// End of stream without a close frame.
    #[error("the server closed the connection without a close frame")]
    Eof,
    /// A close frame.
    #[error("the server closed with code {code}: {reason}")]
    Close {
        /// RFC 6455 §7.4; 1005 if there was none.
        code: u16,
        /// As the gateway put it.
        reason: String,
    },
    /// The gateway takes nothing in.
    #[error("{OUTGOING_BYTES_MAX} bytes wait for a server that does not read")]
    Stuck,
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("a message is longer than this client takes")]
    TooLong,
}

/// What a connection tells its owner.
pub enum Incoming<'a> {
    /// The upgrade succeeded.
    Upgraded,
    /// A binary message; `frame_bytes` includes headers.
    Message {
        /// Payload.
        message: &'a [u8],
        /// Bytes on the wire.
        frame_bytes: usize,
    },
    /// Answer to a ping.
    Pong,
}

impl Closed {
    /// The close code as libraries report it: 1006 if the connection ended without a close frame (RFC 6455 §7.1.5).
    pub fn code(&self) -> u16 {
        match self {
            Self::Close { code, .. } => *code,
            _ => 1006,
        }
    }
}

/// A TCP socket that will connect to `target` from `source`, with `receive_buffer_bytes` if the kernel's own choice is
/// too large.
///
/// # Errors
/// The socket cannot be made or bound.
pub fn client_socket(
    target: SocketAddr,
    source: Option<Ipv4Addr>,
    receive_buffer_bytes: Option<usize>,
) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer_bytes {
        // Before connect: the window scale that is agreed on then follows from it.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        // The port is chosen by connect, which needs only the pair of addresses to be free.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    // An abortive close leaves no TIME_WAIT behind, whose memory would be counted in the next measurement.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(socket)
}

/// A nonblocking client connection.
pub struct Connection {
    /// The socket.
    pub wire: Wire,
    upgraded: bool,
    partial: Vec<u8>,
    fragments: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Connection {
    /// Begins to connect to `target` from `source`, over TLS if `secure`, and to send the upgrade `request` as soon as that
    /// succeeds.
    ///
    /// # Errors
    /// The socket cannot be made or bound.
    pub fn open(
        target: SocketAddr,
        source: Option<Ipv4Addr>,
        receive_buffer_bytes: Option<usize>,
        secure: Option<&Secure>,
        request: Vec<u8>,
    ) -> Result<Self, Closed> {
        let session = secure.map(Secure::session).transpose()?;
        let socket = client_socket(target, source, receive_buffer_bytes)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => {
                return Err(error.into());
            }
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into());
        let (partial, fragments) = (Vec::new(), Vec::new());
        Ok(Self {
            wire: Wire::new(stream, session),
            upgraded: false,
            partial,
            fragments,
            outgoing: request,
        })
    }

    /// Sends a frame now, or as soon as the gateway takes it. True if it went out at once.
    ///
    /// # Errors
    /// The connection is broken, or too much waits already.
    pub fn send(&mut self, frame: &[u8]) -> Result<bool, Closed> {
        if !self.outgoing.is_empty() {
            if self.outgoing.len() + frame.len() > OUTGOING_BYTES_MAX {
                return Err(Closed::Stuck);
            }
            self.outgoing.extend_from_slice(frame);
            return Ok(false);
        }
        match self.wire.write(frame) {
            Ok(written) if written == frame.len() => Ok(true),
            Ok(written) => {
                self.outgoing.extend_from_slice(&frame[written..]);
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.outgoing.extend_from_slice(frame);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The socket takes bytes again.
    ///
    /// # Errors
    /// The connection could not be made, or is broken.
    pub fn writable(&mut self) -> Result<(), Closed> {
        self.wire.flush()?;
        while !self.outgoing.is_empty() {
            match self.wire.write(&self.outgoing) {
                Ok(written) => {
                    self.outgoing.drain(..written);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    return match self.wire.stream.take_error()? {
                        Some(error) => Err(error.into()),
                        None => Ok(()),
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing = Vec::new();
        Ok(())
    }

    /// Reads until the socket is empty and hands each message to `take`, with the time when its last byte was read; what
    /// `take` writes into its last argument is sent. `buffer` is shared by all connections. `ended`: the gateway has ended
    /// its half, and no further event will say so, so this reads up to that end.
    ///
    /// # Errors
    /// The connection ended.
    pub fn readable(
        &mut self,
        handshake: &Handshake,
        buffer: &mut Vec<u8>,
        ended: bool,
        take: &mut impl FnMut(Incoming<'_>, u64, &mut Vec<u8>),
    ) -> Result<(), Closed> {
        loop {
            let kept = self.partial.len();
            if buffer.len() < kept * 2 {
                buffer.resize(kept * 2, 0);
            }
            buffer[..kept].copy_from_slice(&self.partial);
            let read = match self.wire.read(&mut buffer[kept..]) {
                Ok(0) => return Err(Closed::Eof),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let filled = kept + read;
            let used = self.consume(handshake, &buffer[..filled], take)?;
            if used == filled {
                // Gives the memory back: most connections are never partial twice.
                self.partial = Vec::new();
            } else {
                self.partial.clear();
                self.partial.extend_from_slice(&buffer[used..filled]);
            }
            if filled < buffer.len() && !ended && self.wire.is_emptied_by_a_short_read() {
                return Ok(());
            }
        }
    }

    /// Handles all complete frames in `bytes`; how many bytes they were.
    fn consume(
        &mut self,
        handshake: &Handshake,
        bytes: &[u8],
        take: &mut impl FnMut(Incoming<'_>, u64, &mut Vec<u8>),
    ) -> Result<usize, Closed> {
        let now = now_ns();
        let mut reply = Vec::new();
        let mut used = 0;
        if !self.upgraded {
            let Some(length) = handshake.answer(bytes)? else {
                return Ok(0);
            };
            self.upgraded = true;
            used = length;
            take(Incoming::Upgraded, now, &mut reply);
        }
        while let Some(frame) = frames::parse(&bytes[used..])? {
            used += frame.length;
            match frame.opcode {
                Opcode::Binary if frame.fin => {
                    let frame_bytes = frame.length;
                    take(
                        Incoming::Message {
                            message: frame.payload,
                            frame_bytes,
                        },
                        now,
                        &mut reply,
                    );
                }
                Opcode::Binary | Opcode::Text | Opcode::Continuation => {
                    if self.fragments.len() + frame.payload.len() > PAYLOAD_BYTES_MAX {
                        return Err(Closed::TooLong);
                    }
                    self.fragments.extend_from_slice(frame.payload);
                    if frame.fin {
                        let message = std::mem::take(&mut self.fragments);
                        let frame_bytes = message.len() + (frame.length - frame.payload.len());
                        take(
                            Incoming::Message {
                                message: &message,
                                frame_bytes,
                            },
                            now,
                            &mut reply,
                        );
                    }
                }
                Opcode::Ping => frames::write(&mut reply, Opcode::Pong, frame.payload, [0; 4]),
                Opcode::Pong => take(Incoming::Pong, now, &mut reply),
                Opcode::Close => {
                    let (code, reason) = match frame.payload {
                        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
                        _ => (1005, &[][..]),
                    };
                    let reason = String::from_utf8_lossy(reason).into_owned();
                    return Err(Closed::Close { code, reason });
                }
            }
        }
        if !reply.is_empty() {
            self.send(&reply)?;
        }
        Ok(used)
    }
}
