//! Step 1 of a tick: completions become bytes, bytes become messages; and the life of a connection on the ring.

use std::os::fd::RawFd;

use super::{
    Core, Shard, ShardError,
    clock::Now,
    connection::{Connection, Peer, Phase, Receive},
    ring::{Completion, Key, Op, Ring},
};

/// How long to leave the listener alone after the kernel refused to accept (out of descriptors or memory).
const ACCEPT_AGAIN_MS: u64 = 100;

impl Shard {
    /// Handles every completion that is there. Returns how many.
    pub(super) fn collect(&mut self, now: Now) -> Result<usize, ShardError> {
        if self.accept_again_ms.is_some_and(|at| at <= now.mono_ms) {
            self.accept_again_ms = None;
            self.accept();
        }
        let mut completions = std::mem::take(&mut self.completions);
        self.ring
            .collect(&mut completions)
            .map_err(ShardError::Enter)?;
        let count = completions.len();
        for completion in completions.drain(..) {
            match completion.op() {
                Op::Receive => self.core.received(&mut self.ring, &completion, now),
                Op::Send => self.core.sent(&mut self.ring, &completion),
                Op::Poll => self.core.readable(&mut self.ring, completion.key()),
                Op::Accept => self.accepted(&completion, now),
                Op::Forget => {}
            }
        }
        self.completions = completions;
        self.core.sweep(&mut self.ring, now);
        if self.core.stopping && self.listener.take().is_some() {
            self.ring.cancel_accept();
        }
        Ok(count)
    }

    fn accept(&mut self) {
        if let Some(listener) = &self.listener {
            self.ring.accept(listener.fd());
        }
    }

    fn accepted(&mut self, completion: &Completion, now: Now) {
        if completion.result < 0 && self.core.stopping {
            return;
        }
        if completion.result < 0 {
            tracing::warn!(
                error = %std::io::Error::from_raw_os_error(-completion.result),
                "cannot accept connections; trying again shortly"
            );
            self.accept_again_ms = Some(now.mono_ms + ACCEPT_AGAIN_MS);
            return;
        }
        if !completion.more() {
            self.accept();
        }
        self.core.accepted(&mut self.ring, completion.result, now);
    }
}

impl Core {
    fn accepted(&mut self, ring: &mut Ring, fd: RawFd, now: Now) {
        match self
            .connections
            .insert(Connection::accepted(fd, now.stamp()))
        {
            Ok(key) if !self.stopping => {
                self.metrics.connections_accepted.add(1);
                self.metrics.connections_open_handshake.add(1);
                ring.receive(fd, key);
            }
            Ok(key) => {
                self.connections.remove(key);
                ring.close(fd);
            }
            Err(_) => {
                self.metrics.limit_hit_connections.add(1);
                ring.close(fd);
            }
        }
    }

    fn received(&mut self, ring: &mut Ring, completion: &Completion, now: Now) {
        let key = completion.key();
        ring.with_received(completion, |bytes| self.bytes(key, bytes, now));
        if completion.more() {
            return;
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match completion.result {
            // The buffers ran dry. They were given back in this very tick.
            error if error == -libc::ENOBUFS => {
                self.metrics.ring_enobufs.add(1);
                connection.receive = Receive::Armed;
                ring.receive(connection.fd, key);
            }
            // Not armed any more, and bytes may have come: one look at what `receive` was for.
            bytes if bytes > 0 => match connection.receive {
                Receive::Quieting | Receive::Once if connection.active != now.stamp() => {
                    connection.receive = Receive::Polled;
                    ring.poll(connection.fd, key);
                }
                _ => {
                    connection.receive = Receive::Armed;
                    ring.receive(connection.fd, key);
                }
            },
            error if error == -libc::ECANCELED => {
                if connection.receive == Receive::Quieting {
                    self.metrics.quieted.inc();
                    connection.receive = Receive::Polled;
                    ring.poll(connection.fd, key);
                } else {
                    // The cancellation came late and hit the receive that was armed after the one it was meant for.
                    connection.receive = Receive::Armed;
                    ring.receive(connection.fd, key);
                }
            }
            // A poll's wake-up that somebody else's bytes explained: wait for the next.
            error if error == -libc::EAGAIN && connection.receive == Receive::Once => {
                connection.receive = Receive::Polled;
                ring.poll(connection.fd, key);
            }
            end => {
                connection.receive = Receive::Ended;
                let orderly = end == 0 && connection.phase == Phase::Closing;
                if orderly {
                    // Our last frame may still go out on our half.
                    self.mark_flushable(key);
                } else {
                    self.lost(ring, key);
                }
            }
        }
    }

    /// A quiet connection has something to say, or has ended.
    fn readable(&mut self, ring: &mut Ring, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.receive = Receive::Once;
            ring.receive_once(connection.fd, key);
        }
    }

    fn sent(&mut self, ring: &mut Ring, completion: &Completion) {
        let key = completion.key();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.sending = false;
        if completion.result < 0 {
            self.metrics.send_errors.inc();
            self.lost(ring, key);
            return;
        }
        self.metrics.bytes_out.add(completion.result as u64);
        if let Peer::Echo(waiting) = &mut connection.peer {
            *waiting = waiting.saturating_sub(completion.result as usize);
        }
        match connection.phase {
            Phase::Aborting | Phase::Lingering => self.conclude(ring, key),
            Phase::Closing => self.mark_flushable(key),
            Phase::Open => {
                if connection.queue.is_some() || self.owes_positions(key) {
                    self.mark_flushable(key);
                }
            }
        }
    }

    /// Puts a connection on the list of those that have something to send or to end.
    pub(super) fn mark_flushable(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.flushable
        {
            connection.flushable = true;
            self.flushable.push(key);
        }
    }
}
