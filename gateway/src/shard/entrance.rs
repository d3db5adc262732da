//! Who may come in: every bound that a new connection meets, and the turn-taking that keeps a storm of them from those
//! who are connected already.

use std::{net::IpAddr, os::fd::RawFd};

use http::StatusCode;

use super::{
    Core,
    clock::Now,
    connection::{Connection, Peer, Phase},
    gate::Weather,
    offence,
    ring::{Key, Ring, sys},
};
use crate::{
    limits::{
        PENALTY_ANSWERS_MAX, REFUSALS_IN_FLIGHT_MAX, RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S,
        RETRY_STOPPING_S, UPGRADES_PER_TICK_MAX,
    },
    session::census::Counted,
    websocket::Refusal,
};

/// `Retry-After` where only somebody's going makes room, in seconds.
const RETRY_FULL_S: std::ops::RangeInclusive<u32> = 5..=30;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// Nobody needs to know, or the peer is gone.
    Unasked,
    /// From here, by itself.
    Client(IpAddr),
    /// From a load balancer, for somebody else.
    Balancer,
}

impl Core {
    /// The kernel has a new connection for us.
    pub(super) fn accepted(&mut self, ring: &mut Ring, fd: RawFd, now: Now) {
        self.accepted += 1;
        self.metrics.connections_accepted.inc();
        let origin = self.origin(fd);
        let kept_out = match origin {
            // First, so that it takes nothing from those who behave.
            Origin::Client(address) => self.is_kept_out(address),
            Origin::Unasked | Origin::Balancer => None,
        };
        let (over, answers_max) = match kept_out {
            Some(refusal) => (Some(refusal), PENALTY_ANSWERS_MAX),
            None => (self.over_a_limit(now), REFUSALS_IN_FLIGHT_MAX),
        };
        if over.is_some() && self.refusing >= answers_max {
            // Many are being told already.
            self.metrics.closed_overflow.inc();
            ring.close(fd);
            return;
        }
        let Ok(key) = self.connections.insert(Connection::accepted(fd, now)) else {
            // There is not even room to say no.
            if over.is_none() {
                self.census.leave();
            }
            self.metrics.closed_overflow.inc();
            ring.close(fd);
            return;
        };
        self.metrics.connections_open_handshake.add(1);
        ring.receive(fd, key);
        self.refusing += usize::from(over.is_some());
        let over = over.or_else(|| {
            let connection = self.connections.get_mut(key)?;
            connection.counted = true;
            match origin {
                Origin::Unasked => None,
                Origin::Client(address) => self.count_address(key, address).err(),
                Origin::Balancer => {
                    connection.peer = Peer::Preface(None);
                    None
                }
            }
        });
        if let Some(refusal) = over {
            self.refuse(key, &refusal);
        }
    }

    /// Holds a new connection against the limits on connections; counts it if it may come in.
    fn over_a_limit(&mut self, now: Now) -> Option<Refusal> {
        let metrics = &self.metrics;
        if self.stopping {
            let retry_s = RETRY_STOPPING_S + fastrand::u32(0..=RETRY_STOPPING_S);
            return Some(Refusal::unavailable(
                "The gateway is shutting down.",
                retry_s,
            ));
        }
        if let Err(latest_s) = self.gate.admit(now.mono_ms, now.mono_us) {
            metrics.limit_hit_accepts.inc();
            return Some(Refusal::unavailable(
                "Too many connections at once (limits.accepts_per_second_max): come back later.",
                fastrand::u32(RETRY_AFTER_MIN_S..=latest_s.min(RETRY_AFTER_MAX_S)),
            ));
        }
        let full = |name: &str| {
            Refusal::unavailable(
                format!("This node holds as many connections as it may ({name})."),
                fastrand::u32(RETRY_FULL_S),
            )
        };
        if self.connections.len() - self.refusing >= self.config.connections_max {
            metrics.limit_hit_connections_per_shard.inc();
            return Some(full("limits.connections_per_shard_max"));
        }
        if metrics.connections_open_handshake.get() >= self.config.limits.handshakes_per_shard_max {
            metrics.limit_hit_handshakes.inc();
            return Some(full("limits.handshakes_per_shard_max"));
        }
        if !self.census.enter() {
            metrics.limit_hit_connections.inc();
            return Some(full("limits.connections_max"));
        }
        None
    }

    /// Where a new connection comes from, as far as anybody needs to know: the kernel is asked only then.
    fn origin(&self, fd: RawFd) -> Origin {
        let is_needed = self.census.counts_addresses()
            || !self.config.balancers.is_empty()
            || !self.penalties.is_empty(self.now.mono_ms);
        if !is_needed {
            return Origin::Unasked;
        }
        // A peer that has gone already has no address; its connection ends by itself.
        let Ok(address) = sys::peer_address(fd) else {
            return Origin::Unasked;
        };
        let address = address.to_canonical();
        if self
            .config
            .balancers
            .iter()
            .any(|net| net.contains(&address))
        {
            Origin::Balancer
        } else {
            Origin::Client(address)
        }
    }

    /// The address of a connection's peer: what a load balancer said of it, or else by a system call. It is for what happens
    /// once in a connection's life, such as a line in the audit log. `None` if the peer has gone already.
    ///
    /// Every question for a peer's address goes through here, so that a proxy's word for it has one place.
    pub(super) fn peer_of(&mut self, key: Key) -> Option<IpAddr> {
        let fd = self.connections.get_mut(key)?.fd;
        self.clients
            .get(key.slot)
            .or_else(|| Some(sys::peer_address(fd).ok()?.to_canonical()))
    }

    /// The answer to an address that is in the penalty box.
    pub(super) fn is_kept_out(&self, address: IpAddr) -> Option<Refusal> {
        let left_ms = self.penalties.keeps_out(address, self.now.mono_ms)?;
        self.metrics.penalty_refused.inc();
        Some(offence::kept_out(left_ms))
    }

    /// Counts a connection for its address.
    pub(super) fn count_address(&mut self, key: Key, address: IpAddr) -> Result<(), Refusal> {
        if !self.census.counts_addresses() {
            return Ok(());
        }
        let Some(counted) = self.census.enter_address(address) else {
            self.metrics.limit_hit_address.inc();
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Your address has as many connections as it may (limits.connections_per_address_max).",
            )
            .retry_after(fastrand::u32(RETRY_FULL_S)));
        };
        let slot = key.slot as usize;
        if slot >= self.addresses.len() {
            self.addresses.resize(slot + 1, Counted::default());
        }
        self.addresses[slot] = counted;
        Ok(())
    }

    /// A connection has ended: its address has room for another.
    pub(super) fn leave_address(&mut self, key: Key) {
        if let Some(counted) = self.addresses.get_mut(key.slot as usize)
            && *counted != Counted::default()
        {
            self.census.leave_address(std::mem::take(counted));
        }
    }

    /// Decides on the upgrade requests that waited, oldest first, as many as a tick has room for.
    pub(super) fn decide_upgrades(&mut self, now: Now) {
        self.upgrades_left = UPGRADES_PER_TICK_MAX;
        while self.upgrades_left > 0
            && let Some(key) = self.upgrades.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(key)
                && connection.phase == Phase::Open
                && let Peer::Handshake(Some(held)) = &mut connection.peer
            {
                held.queued = false;
                self.handshake(key, &mut [], now);
            }
        }
    }

    /// Says when a storm of new connections begins and ends.
    pub(super) fn observe_storm(&mut self, now: Now) {
        match self.barometer.observe(self.accepted, now.mono_ms) {
            None => {}
            Some(Weather::Storm) => {
                self.metrics.storm.set(1);
                self.metrics.storms.inc();
                tracing::warn!(
                    shard = self.exchange.shard(),
                    usual_per_second = self.barometer.usual().round(),
                    "a storm of new connections begins; those who are connected come first"
                );
            }
            Some(Weather::Calm) => {
                self.metrics.storm.set(0);
                tracing::info!(
                    shard = self.exchange.shard(),
                    "the storm of new connections is over"
                );
            }
        }
    }
}
