//! Peers that send more than a tick has room for: what they sent is held back and taken a piece at a time, in turns, and
//! the kernel is not asked for more of it meanwhile, so that TCP slows them down. Everybody else's tick stays short.
//!
//! Long messages are what costs: a request that names four thousand vehicles takes a millisecond. A piece that fills its
//! receive buffer, or goes on with a message, is therefore measured; one position is not.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Core,
    clock::Now,
    connection::Receive,
    ring::{Key, Ring},
};
use crate::limits::{BULK_DEBT_MAX, BULK_HELD_BYTES_MAX, BULK_PIECE_OVERHEAD, BULK_TIME_PER_TICK};

/// What a shard holds back.
#[derive(Debug)]
pub struct Bulk {
    backlogs: HashMap<Key, Backlog>,
    /// Whose turn is next. A connection that has gone is still in it.
    turns: VecDeque<Key>,
    /// What the backlogs take.
    bytes: usize,
    /// What is left of a tick's time.
    left: Duration,
    /// What one piece took longer than there was time for: later ticks' time.
    debt: Duration,
    /// The length of a receive buffer.
    buffer_bytes: usize,
}

#[derive(Debug, Default)]
struct Backlog {
    pieces: VecDeque<Box<[u8]>>,
    /// How receiving ended, to be seen behind the pieces.
    end: Option<i32>,
}

/// One piece, in its turn.
#[derive(Debug, PartialEq, Eq)]
struct Turn {
    key: Key,
    piece: Box<[u8]>,
    /// It was the connection's last.
    caught_up: bool,
    /// And how receiving ended behind it.
    end: Option<i32>,
}

impl Bulk {
    /// Nothing yet. `buffer_bytes`: the length of a receive buffer.
    pub fn new(buffer_bytes: usize) -> Bulk {
        Bulk {
            backlogs: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            left: BULK_TIME_PER_TICK,
            debt: Duration::ZERO,
            buffer_bytes,
        }
    }

    /// Connections that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.backlogs.len()
    }

    /// Bytes that are held, with what keeps them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something of this connection is held.
    pub fn holds(&self, key: Key) -> bool {
        !self.backlogs.is_empty() && self.backlogs.contains_key(&key)
    }

    /// The connection has gone.
    pub fn forget(&mut self, key: Key) {
        if !self.backlogs.is_empty()
            && let Some(backlog) = self.backlogs.remove(&key)
        {
            let weights = backlog.pieces.iter().map(|piece| weight(piece.len()));
            self.bytes -= weights.sum::<usize>();
        }
    }

    /// How receiving ended, if something is held: it is seen behind that.
    pub fn end(&mut self, key: Key, result: i32) -> bool {
        let backlog = self.backlogs.get_mut(&key);
        backlog.map(|backlog| backlog.end = Some(result)).is_some()
    }

    fn begin_tick(&mut self) {
        let paid = self.debt.min(BULK_TIME_PER_TICK);
        self.debt -= paid;
        self.left = BULK_TIME_PER_TICK - paid;
    }

    fn charge(&mut self, spent: Duration) {
        let over = spent.saturating_sub(self.left);
        self.left = self.left.saturating_sub(spent);
        self.debt = (self.debt + over).min(BULK_DEBT_MAX);
    }

    fn is_spent(&self) -> bool {
        self.left.is_zero()
    }

    fn has_room(&self, piece: usize) -> bool {
        self.bytes + weight(piece) <= BULK_HELD_BYTES_MAX
    }

    fn hold(&mut self, key: Key, piece: &[u8]) {
        self.bytes += weight(piece.len());
        let backlog = self.backlogs.entry(key).or_insert_with(|| {
            self.turns.push_back(key);
            Backlog::default()
        });
        backlog.pieces.push_back(piece.into());
    }

    /// The next piece of whoever's turn it is.
    fn take_turn(&mut self) -> Option<Turn> {
        loop {
            let key = self.turns.pop_front()?;
            if let Some(turn) = self.take_piece(key) {
                if !turn.caught_up {
                    self.turns.push_back(key);
                }
                return Some(turn);
            }
        }
    }

    fn take_piece(&mut self, key: Key) -> Option<Turn> {
        let backlog = self.backlogs.get_mut(&key)?;
        let piece = backlog.pieces.pop_front()?;
        self.bytes -= weight(piece.len());
        let (caught_up, end) = (backlog.pieces.is_empty(), backlog.end);
        if caught_up {
            self.backlogs.remove(&key);
            if self.backlogs.is_empty() {
                // What a flood made of them is not kept.
                self.backlogs = HashMap::new();
            }
        }
        Some(Turn {
            key,
            piece,
            caught_up,
            end,
        })
    }
}

fn weight(piece: usize) -> usize {
    piece + BULK_PIECE_OVERHEAD
}

impl Core {
    /// Bytes off a socket, now or in their turn. Returns whether they are held back.
    #[inline]
    pub(super) fn arrived(&mut self, key: Key, wire: &mut [u8], now: Now) -> bool {
        let is_long = wire.len() >= self.bulk.buffer_bytes
            || self
                .connections
                .get_mut(key)
                .is_some_and(|connection| connection.assembler.is_unfinished());
        if is_long || self.bulk.waiting() > 0 {
            return self.arrived_in_bulk(key, wire, is_long, now);
        }
        self.wire(key, wire, now);
        false
    }

    fn arrived_in_bulk(&mut self, key: Key, wire: &mut [u8], is_long: bool, now: Now) -> bool {
        let (holds, has_room) = (self.bulk.holds(key), self.bulk.has_room(wire.len()));
        if has_room && (holds || is_long && self.bulk.is_spent()) {
            if !holds {
                self.metrics.limit_hit_bulk_time.inc();
            }
            if let Some(connection) = self.connections.get_mut(key) {
                connection.heard = now.stamp();
                connection.pinged = false;
            }
            self.bulk.hold(key, wire);
            return true;
        }
        if !has_room {
            self.metrics.limit_hit_bulk_bytes.inc();
            // In order, and if it takes long: memory comes before time.
            while let Some(mut turn) = self.bulk.take_piece(key) {
                self.measured(key, &mut turn.piece, now);
            }
        }
        if is_long {
            self.measured(key, wire, now);
        } else {
            self.wire(key, wire, now);
        }
        false
    }

    fn measured(&mut self, key: Key, wire: &mut [u8], now: Now) {
        let began = Instant::now();
        self.wire(key, wire, now);
        self.bulk.charge(began.elapsed());
    }

    /// What was held back, as much as a tick has time for, and receiving again from whoever has caught up.
    pub(super) fn go_on_with_bulk(&mut self, ring: &mut Ring, now: Now) {
        self.bulk.begin_tick();
        while !self.bulk.is_spent()
            && let Some(mut turn) = self.bulk.take_turn()
        {
            self.measured(turn.key, &mut turn.piece, now);
            if turn.caught_up {
                self.caught_up(ring, turn.key, turn.end);
            }
        }
        self.metrics.bulk_held_bytes.set(self.bulk.bytes() as u64);
    }

    fn caught_up(&mut self, ring: &mut Ring, key: Key, end: Option<i32>) {
        if let Some(result) = end {
            return self.ended(ring, key, result);
        }
        if let Some(connection) = self.connections.get_mut(key)
            && connection.receive == Receive::Held
        {
            connection.receive = Receive::Armed;
            ring.receive(connection.fd, key);
        }
    }

    /// Asks the kernel for nothing more of a connection of which something is held.
    pub(super) fn stop_receiving(&mut self, ring: &mut Ring, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.receive == Receive::Armed
        {
            connection.receive = Receive::Quieting;
            ring.cancel_receive(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> Key {
        Key {
            slot,
            generation: 1,
        }
    }

    fn pieces(bulk: &mut Bulk) -> Vec<(u32, u8, bool)> {
        std::iter::from_fn(|| bulk.take_turn())
            .map(|turn| (turn.key.slot, turn.piece[0], turn.caught_up))
            .collect()
    }

    #[test]
    fn each_connection_has_its_turn_and_its_pieces_stay_in_order() {
        let mut bulk = Bulk::new(4_096);
        for piece in 0..3 {
            bulk.hold(key(1), &[piece; 100]);
        }
        bulk.hold(key(2), &[9; 100]);
        assert!(bulk.holds(key(1)) && bulk.holds(key(2)) && !bulk.holds(key(3)));
        assert_eq!(
            pieces(&mut bulk),
            [(1, 0, false), (2, 9, true), (1, 1, false), (1, 2, true)]
        );
        assert_eq!((bulk.waiting(), bulk.bytes()), (0, 0));
    }

    #[test]
    fn an_end_is_seen_behind_the_last_piece_and_only_where_something_is_held() {
        let mut bulk = Bulk::new(4_096);
        assert!(!bulk.end(key(1), 0));
        bulk.hold(key(1), &[1]);
        bulk.hold(key(1), &[2]);
        assert!(bulk.end(key(1), -104));
        let turns: Vec<Turn> = std::iter::from_fn(|| bulk.take_turn()).collect();
        assert_eq!(turns.len(), 2);
        assert_eq!((turns[1].caught_up, turns[1].end), (true, Some(-104)));
        assert!(!turns[0].caught_up);
    }

    #[test]
    fn what_has_gone_weighs_nothing_and_has_no_turn() {
        let mut bulk = Bulk::new(4_096);
        bulk.hold(key(1), &[1; 1_000]);
        bulk.hold(key(2), &[2; 10]);
        bulk.forget(key(1));
        bulk.forget(key(3));
        assert_eq!(bulk.bytes(), weight(10));
        assert_eq!(pieces(&mut bulk), [(2, 2, true)]);
        assert_eq!(bulk.bytes(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut bulk = Bulk::new(4_096);
        let piece = [0; 4_096];
        while bulk.has_room(piece.len()) {
            bulk.hold(key(7), &piece);
        }
        assert!(bulk.bytes() <= BULK_HELD_BYTES_MAX);
        assert!(bulk.bytes() + 2 * piece.len() > BULK_HELD_BYTES_MAX);
    }

    #[test]
    fn a_long_piece_is_paid_for_by_later_ticks_and_a_clock_that_jumps_not_for_ever() {
        let mut bulk = Bulk::new(4_096);
        bulk.begin_tick();
        bulk.charge(BULK_TIME_PER_TICK / 4);
        assert!(!bulk.is_spent());
        bulk.charge(3 * BULK_TIME_PER_TICK);
        let mut ticks = 0;
        while bulk.is_spent() {
            bulk.begin_tick();
            ticks += 1;
        }
        assert_eq!(ticks, 3);
        assert_eq!(bulk.left, BULK_TIME_PER_TICK * 3 / 4);
        bulk.charge(Duration::from_secs(3_600));
        let paid_after = BULK_DEBT_MAX.as_micros() / BULK_TIME_PER_TICK.as_micros() + 1;
        for _ in 0..paid_after {
            bulk.begin_tick();
        }
        assert!(!bulk.is_spent());
    }
}
