//! All connections of one generator process on one epoll instance (mio), one shared read buffer, no tasks.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::connection::{Closed, Connection, Incoming};
use crate::handshake::Handshake;
use crate::tls::Secure;

/// Connections that are opened but not ready yet, at most: a storm would measure the listener's backlog.
pub const OPENING_MAX: usize = 256;
const READ_BUFFER_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 4_096;
/// Clients per source address: `connect` searches for a free port when many of an address's 28,000 are taken.
const CLIENTS_PER_ADDRESS: usize = 12_000;

/// What connections report. Ids are the pool's: 0, 1, 2, in the order of opening.
pub trait Handler {
    /// Something arrived; what is written to `reply` is sent.
    fn incoming(&mut self, id: usize, incoming: Incoming<'_>, now_ns: u64, reply: &mut Vec<u8>);
    /// The connection is gone.
    fn closed(&mut self, id: usize, why: Closed);
}

/// The connections.
pub struct Pool {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
    handshake: Handshake,
    target: SocketAddr,
    /// How many connections other processes have before this one's first.
    offset: usize,
    /// `SO_RCVBUF` of connections that are opened from now on; none: as the kernel likes.
    pub receive_buffer_bytes: Option<usize>,
    /// Connections that are opened from now on are TLS.
    pub secure: Option<Secure>,
}

impl Pool {
    /// A pool whose connections go to `target`. `offset`: how many connections other processes open, so that source
    /// addresses are shared out among all.
    ///
    /// # Errors
    /// No epoll instance can be had.
    pub fn new(target: SocketAddr, handshake: Handshake, offset: usize) -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            buffer: vec![0; READ_BUFFER_BYTES],
            connections: Vec::new(),
            handshake,
            target,
            offset,
            receive_buffer_bytes: None,
            secure: None,
        })
    }

    /// Opens the next connection; its id.
    pub fn open(&mut self, token: &str, handler: &mut impl Handler) -> usize {
        let id = self.connections.len();
        self.connections.push(None);
        self.reopen(id, token, handler);
        id
    }

    /// Room for connections 0 to `slots`, none of them open yet.
    pub fn reserve(&mut self, slots: usize) {
        self.connections.resize_with(slots, || None);
    }

    /// Opens connection `id` again; what it was is dropped.
    pub fn reopen(&mut self, id: usize, token: &str, handler: &mut impl Handler) {
        self.connections[id] = None;
        let source = source_address(self.target, self.offset + id);
        let request = self.handshake.request(token);
        let buffer = self.receive_buffer_bytes;
        let secure = self.secure.as_ref();
        let opened = Connection::open(self.target, source, buffer, secure, request).and_then(
            |mut connection| {
                register(&self.poll, id, &mut connection)?;
                Ok(connection)
            },
        );
        match opened {
            Ok(connection) => self.connections[id] = Some(connection),
            Err(why) => handler.closed(id, why),
        }
    }

    /// Drops a connection abruptly: the kernel sends a reset. The handler is not told.
    pub fn reset(&mut self, id: usize) {
        self.connections[id] = None;
    }

    /// Ends a connection in order but without a close frame. The handler is not told.
    pub fn hang_up(&mut self, id: usize) {
        if let Some(connection) = self.connections[id].take() {
            // Should it fail, the connection ends with a reset.
            let _ = SockRef::from(&connection.wire.stream).set_linger(None);
        }
    }

    /// Puts a detached connection on epoll again.
    pub fn attach(&mut self, id: usize, handler: &mut impl Handler) {
        if let Some(connection) = &mut self.connections[id]
            && let Err(error) = register(&self.poll, id, connection)
        {
            self.connections[id] = None;
            handler.closed(id, error.into());
        }
    }

    /// Takes a connection off epoll; from now on nothing but [`Pool::sweep`] reads it, until it is attached again.
    pub fn detach(&mut self, id: usize) {
        if let Some(connection) = &mut self.connections[id] {
            // It fails only for a socket that is not registered, which is what is wanted.
            let _ = self.poll.registry().deregister(&mut connection.wire.stream);
        }
    }

    /// Sends a frame. `Some(true)`: it went out at once. `None`: the connection is gone.
    pub fn send(&mut self, id: usize, frame: &[u8], handler: &mut impl Handler) -> Option<bool> {
        match self.connections[id].as_mut()?.send(frame) {
            Ok(at_once) => Some(at_once),
            Err(why) => {
                self.connections[id] = None;
                handler.closed(id, why);
                None
            }
        }
    }

    /// Handles what is ready, waiting for it at most `timeout`. How many connections had something.
    ///
    /// # Errors
    /// epoll failed.
    pub fn turn(
        &mut self,
        timeout: Duration,
        handler: &mut impl Handler,
    ) -> std::io::Result<usize> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(0),
            other => other?,
        }
        let mut handled = 0;
        for event in &self.events {
            let id = event.token().0;
            handled += 1;
            if event.is_writable() || event.is_error() {
                let slot = &mut self.connections[id];
                if let Some(Err(why)) = slot.as_mut().map(Connection::writable) {
                    *slot = None;
                    handler.closed(id, why);
                }
            }
            if event.is_readable() || event.is_read_closed() {
                let slot = &mut self.connections[id];
                let ended = event.is_read_closed();
                read(slot, id, &self.handshake, &mut self.buffer, ended, handler);
            }
        }
        Ok(handled)
    }

    /// Reads the detached connections `ids`.
    pub fn sweep(&mut self, ids: std::ops::Range<usize>, handler: &mut impl Handler) {
        for id in ids {
            let slot = &mut self.connections[id];
            read(slot, id, &self.handshake, &mut self.buffer, false, handler);
        }
    }
}

fn register(poll: &Poll, id: usize, connection: &mut Connection) -> std::io::Result<()> {
    let both = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut connection.wire.stream, Token(id), both)
}

/// Where client number `client` of a run connects from: 127.0.0.2 and up, if the gateway is on this machine.
pub fn source_address(target: SocketAddr, client: usize) -> Option<Ipv4Addr> {
    let address = client / CLIENTS_PER_ADDRESS + 2;
    target
        .ip()
        .is_loopback()
        .then(|| Ipv4Addr::from(0x7f00_0000 | address as u32 & 0x00ff_ffff))
}

fn read(
    slot: &mut Option<Connection>,
    id: usize,
    handshake: &Handshake,
    buffer: &mut Vec<u8>,
    ended: bool,
    handler: &mut impl Handler,
) {
    let Some(connection) = slot else { return };
    let mut take = |incoming: Incoming<'_>, now, reply: &mut Vec<u8>| {
        handler.incoming(id, incoming, now, reply)
    };
    if let Err(why) = connection.readable(handshake, buffer, ended, &mut take) {
        *slot = None;
        handler.closed(id, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    struct Ends(Vec<Closed>);

    impl Handler for Ends {
        fn incoming(&mut self, _: usize, _: Incoming<'_>, _: u64, _: &mut Vec<u8>) {}

        fn closed(&mut self, _: usize, why: Closed) {
            self.0.push(why);
        }
    }

    /// Both are one edge to epoll: there is no second event for the end.
    #[test]
    fn an_end_that_comes_with_the_last_bytes_is_noticed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let handshake = Handshake::new("h", "/v1");
        let mut pool = Pool::new(listener.local_addr().unwrap(), handshake, 0).unwrap();
        let mut ends = Ends(Vec::new());
        pool.open("token", &mut ends);
        let (mut peer, _) = listener.accept().unwrap();
        pool.turn(Duration::from_secs(1), &mut ends).unwrap();
        assert!(peer.read(&mut [0; 4_096]).unwrap() > 0);
        peer.write_all(b"HTTP/1.1 101").unwrap();
        drop(peer);
        for _ in 0..20 {
            pool.turn(Duration::from_millis(50), &mut ends).unwrap();
        }
        assert!(matches!(ends.0[..], [Closed::Eof]));
    }
}
