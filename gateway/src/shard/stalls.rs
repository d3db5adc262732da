//! Which connections make no progress. A send may take long because the frame is large and the link slow, or because
//! nobody reads at the other end: what tells them apart is whether the peer acknowledges anything at all.

use std::collections::HashMap;

use super::{clock::Stamp, ring::Key};

#[derive(Debug)]
struct Stall {
    generation: u32,
    acked: u64,
    since: Stamp,
}

/// What an entry weighs.
pub const STALL_BYTES: usize = size_of::<(u32, Stall)>();

/// Connections whose send has been under way for a while; there are few.
#[derive(Debug, Default)]
pub struct Stalls(HashMap<u32, Stall>);

impl Stalls {
    /// Milliseconds that a connection has made no progress for, as far as it was looked at, given the bytes that its
    /// peer has acknowledged in all.
    pub fn look(&mut self, key: Key, acked: u64, now: Stamp) -> u64 {
        let fresh = || Stall {
            generation: key.generation,
            acked,
            since: now,
        };
        let stall = self.0.entry(key.slot).or_insert_with(fresh);
        if stall.generation != key.generation || stall.acked != acked {
            *stall = fresh();
        }
        now.ms_since(stall.since)
    }

    /// The send is through, or the connection has ended.
    #[inline]
    pub fn forget(&mut self, key: Key) {
        if !self.0.is_empty() {
            self.0.remove(&key.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::clock::Now;

    #[test]
    fn progress_is_what_the_peer_acknowledges() {
        let at = |mono_ms| {
            Now {
                mono_ms,
                ..Now::default()
            }
            .stamp()
        };
        let key = Key {
            slot: 7,
            generation: 1,
        };
        let mut stalls = Stalls::default();
        assert_eq!(stalls.look(key, 100, at(0)), 0);
        assert_eq!(stalls.look(key, 100, at(4_000)), 4_000);
        assert_eq!(stalls.look(key, 101, at(9_000)), 0, "a byte is progress");
        assert_eq!(stalls.look(key, 101, at(20_000)), 11_000);
        let next = Key {
            generation: 2,
            ..key
        };
        assert_eq!(stalls.look(next, 101, at(30_000)), 0, "somebody else");
        stalls.forget(next);
        assert_eq!(stalls.look(next, 101, at(50_000)), 0, "another send");
    }
}
