//! A shard's own listening socket. Options that accepted sockets inherit are set here once instead of per connection.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::ShardConfig;

/// A `SO_REUSEPORT` listener: the kernel spreads connections over the shards, and over the processes during a restart.
#[derive(Debug)]
pub struct Listener(Socket);

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// What the kernel says; the caller knows the address.
    pub fn bind(config: &ShardConfig) -> io::Result<Listener> {
        let address = config.listen;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Inherited by every accepted socket (tcp(7)): no Nagle delay, little unsent data in the kernel, and an end to
        // retransmissions that matches the heartbeat's.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(config.connection.notsent_lowat_bytes)?;
        socket
            .set_tcp_user_timeout(Some(Duration::from_millis(config.connection.dead_after_ms)))?;
        socket.bind(&address.into())?;
        // std's backlog of 128 drops SYNs in a connection storm, and each costs the client a second.
        socket.listen(i32::try_from(config.backlog).unwrap_or(i32::MAX))?;
        Ok(Listener(socket))
    }

    /// For the ring.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
