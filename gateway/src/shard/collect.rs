//! Step 1 of a tick: completions become bytes, bytes become messages; and the life of a connection on the ring.

use super::{
    Core, Shard, ShardError,
    clock::Now,
    connection::{Peer, Phase, Receive},
    ring::{Completion, Key, Op, Ring},
};
use crate::limits::ACCEPTS_PER_TICK_MAX;

/// How long to leave the listener alone after the kernel refused to accept (out of descriptors or memory).
const ACCEPT_AGAIN_MS: u64 = 100;

/// How long a shard that leaves goes on taking connections that the kernel has queued already. Where the kernel hands
/// them to another listener (net.ipv4.tcp_migrate_req), they would be safe without.
const LISTEN_ON_MS: u64 = 1_000;

impl Shard {
    /// Handles every completion that is there. Returns how many.
    pub(super) fn collect(&mut self, now: Now) -> Result<usize, ShardError> {
        self.core.now = now;
        self.core.accepted = 0;
        self.core.go_on_with_handshakes(now);
        self.core.decide_upgrades(now);
        self.core.go_on_with_bulk(&mut self.ring, now);
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
        self.core.observe_storm(now);
        self.core.sweep(&mut self.ring, now);
        self.core.look_at_deadlines(now);
        self.listen(now);
        Ok(count)
    }

    /// Keeps accepts in the ring while this shard takes connections. Each takes one, so that a storm of them cannot
    /// fill a tick.
    fn listen(&mut self, now: Now) {
        if self.core.is_leaving() {
            let until = *self
                .listen_until_ms
                .get_or_insert(now.mono_ms + LISTEN_ON_MS);
            let queue_is_empty = self.core.accepted == 0 && self.accepting > 0;
            if self.core.stopping || queue_is_empty || now.mono_ms >= until {
                if self.listener.take().is_some() {
                    self.ring.cancel_accepts();
                }
                return;
            }
        }
        if self.accept_again_ms.is_some_and(|at| at > now.mono_ms) {
            return;
        }
        self.accept_again_ms = None;
        if let Some(listener) = &self.listener {
            for _ in self.accepting..ACCEPTS_PER_TICK_MAX {
                self.ring.accept(listener.fd());
            }
            self.accepting = ACCEPTS_PER_TICK_MAX;
        }
    }

    fn accepted(&mut self, completion: &Completion, now: Now) {
        self.accepting = self.accepting.saturating_sub(1);
        match completion.result {
            fd if fd >= 0 => self.core.accepted(&mut self.ring, fd, now),
            error if error == -libc::ECANCELED => {}
            // The peer was gone before it was accepted (accept(2)): nobody to talk to, and no reason to pause.
            error if error == -libc::ECONNABORTED => {}
            error => {
                if self.accept_again_ms.is_none() {
                    tracing::warn!(
                        error = %std::io::Error::from_raw_os_error(-error),
                        "cannot accept connections; trying again shortly"
                    );
                }
                self.accept_again_ms = Some(now.mono_ms + ACCEPT_AGAIN_MS);
            }
        }
    }
}

impl Core {
    fn received(&mut self, ring: &mut Ring, completion: &Completion, now: Now) {
        let key = completion.key();
        let is_held = ring.with_received(completion, |wire| self.arrived(key, wire, now));
        if is_held == Some(true) {
            if completion.more() {
                self.stop_receiving(ring, key);
            }
            self.make_room(ring, now);
        }
        if completion.more() {
            return;
        }
        let is_held = self.bulk.holds(key);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match completion.result {
            // The buffers ran dry. They were given back in this very tick.
            error if error == -libc::ENOBUFS => {
                self.metrics.ring_enobufs.add(1);
                if is_held {
                    connection.receive = Receive::Held;
                    return;
                }
                connection.receive = Receive::Armed;
                ring.receive(connection.fd, key);
            }
            // It has had its say for now; what is armed next is decided when it has caught up.
            bytes
                if is_held
                    && (bytes > 0 || bytes == -libc::ECANCELED || bytes == -libc::EAGAIN) =>
            {
                connection.receive = Receive::Held;
            }
            // Not armed any more, and bytes may have come: one look at what `receive` was for.
            bytes if bytes > 0 => match connection.receive {
                // Who has begun a message is not quiet.
                Receive::Quieting | Receive::Once
                    if connection.active != now.stamp()
                        && !connection.assembler.is_unfinished() =>
                {
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
                if !self.bulk.end(key, end) {
                    self.ended(ring, key, end);
                }
            }
        }
    }

    /// The peer has ended its half of the connection, or the connection has failed, and all that came before is taken.
    pub(super) fn ended(&mut self, ring: &mut Ring, key: Key, result: i32) {
        let is_closing = self
            .connections
            .get_mut(key)
            .is_some_and(|connection| connection.phase == Phase::Closing);
        if result == 0 && is_closing {
            // Our last frame may still go out on our half.
            self.mark_flushable(key);
        } else {
            self.lost(ring, key);
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
            // What it said before it left is heard, if it had to wait.
            if connection.phase != Phase::Open || !self.bulk.end(key, completion.result) {
                self.lost(ring, key);
            }
            return;
        }
        self.metrics.bytes_out.add(completion.result as u64);
        self.stalls.forget(key);
        if let Peer::Echo(waiting) = &mut connection.peer {
            *waiting = waiting.saturating_sub(completion.result as usize);
        }
        match connection.phase {
            Phase::Aborting | Phase::Lingering => self.conclude(ring, key),
            Phase::Closing => self.mark_flushable(key),
            Phase::Open => {
                if connection.queue.is_some() || self.sessions.has_outgoing(key) || self.owes(key) {
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
