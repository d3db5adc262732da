//! Peers that send more than a tick has room for: what they sent is held back and taken a piece at a time, in turns, and
//! the kernel is not asked for more of it meanwhile, so that TCP slows them down. Everybody else's tick stays short.
//!
//! What costs is measured: all that dashboards ask for, of which sixty bytes may mean a walk over the fleet, and long
//! messages of anybody. A vehicle's position is not.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Core,
    clock::Now,
    connection::{Peer, Phase, Receive},
    dialogue::Speaker,
    ring::{Key, Ring},
};
use crate::limits::{
    BULK_BACKLOG_OVERHEAD, BULK_DEBT_MAX, BULK_HELD_BYTES_MAX, BULK_PIECE_OVERHEAD,
    BULK_TIME_PER_TICK, BULK_TIME_PER_TICK_MAX,
};

/// A piece of this length is of a long message.
const LONG: usize = 2_048;
/// How much of what a dashboard says is taken between two looks at the clock: about the shortest request.
const STEP: usize = 64;
/// The same over TLS.
const STEP_OF_RECORDS: usize = 1_024;

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
    /// When this tick began, in microseconds (see [`Now`]).
    began_us: u32,
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
    /// Nothing yet.
    pub fn new() -> Bulk {
        Bulk {
            backlogs: HashMap::new(),
            turns: VecDeque::new(),
            bytes: 0,
            left: BULK_TIME_PER_TICK,
            debt: Duration::ZERO,
            began_us: 0,
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
            self.bytes -= BULK_BACKLOG_OVERHEAD + weights.sum::<usize>();
            if self.backlogs.is_empty() {
                self.give_back();
            }
        }
    }

    /// How receiving ended, if something is held: it is seen behind that.
    pub fn end(&mut self, key: Key, result: i32) -> bool {
        let backlog = self.backlogs.get_mut(&key);
        backlog.map(|backlog| backlog.end = Some(result)).is_some()
    }

    /// A quarter of the time where ticks are long, so that a pace of many milliseconds does not starve anybody.
    fn begin_tick(&mut self, now: Now) {
        let since_us = now.mono_us.wrapping_sub(self.began_us);
        self.began_us = now.mono_us;
        let share = Duration::from_micros(u64::from(since_us) / 4);
        let time = share.clamp(BULK_TIME_PER_TICK, BULK_TIME_PER_TICK_MAX);
        let paid = self.debt.min(time);
        self.debt -= paid;
        self.left = time - paid;
    }

    fn charge(&mut self, spent: Duration) {
        let over = spent.saturating_sub(self.left);
        self.left = self.left.saturating_sub(spent);
        self.debt = (self.debt + over).min(BULK_DEBT_MAX);
    }

    fn is_spent(&self) -> bool {
        self.left.is_zero()
    }

    fn is_over(&self) -> bool {
        self.bytes > BULK_HELD_BYTES_MAX
    }

    /// What of a connection is held; if nothing is, it gets a turn.
    fn backlog(&mut self, key: Key) -> &mut Backlog {
        self.backlogs.entry(key).or_insert_with(|| {
            self.bytes += BULK_BACKLOG_OVERHEAD;
            self.turns.push_back(key);
            Backlog::default()
        })
    }

    fn hold(&mut self, key: Key, piece: &[u8]) {
        self.bytes += weight(piece.len());
        self.backlog(key).pieces.push_back(piece.into());
    }

    /// The rest of a piece whose turn has not been long enough: it comes first in the connection's next.
    fn put_back(&mut self, turn: &Turn, rest: &[u8]) {
        self.bytes += weight(rest.len());
        let backlog = self.backlog(turn.key);
        backlog.pieces.push_front(rest.into());
        backlog.end = turn.end;
    }

    /// The next piece of whoever's turn it is.
    fn take_turn(&mut self) -> Option<Turn> {
        loop {
            let key = self.turns.pop_front()?;
            let Some(backlog) = self.backlogs.get_mut(&key) else {
                continue;
            };
            let Some(piece) = backlog.pieces.pop_front() else {
                continue;
            };
            self.bytes -= weight(piece.len());
            let (caught_up, end) = (backlog.pieces.is_empty(), backlog.end);
            if caught_up {
                self.backlogs.remove(&key);
                self.bytes -= BULK_BACKLOG_OVERHEAD;
                if self.backlogs.is_empty() {
                    self.give_back();
                }
            } else {
                self.turns.push_back(key);
            }
            return Some(Turn {
                key,
                piece,
                caught_up,
                end,
            });
        }
    }

    /// What a flood made of them is not kept. All that still had a turn have gone.
    fn give_back(&mut self) {
        self.backlogs = HashMap::new();
        self.turns = VecDeque::new();
    }
}

fn weight(piece: usize) -> usize {
    piece + BULK_PIECE_OVERHEAD
}

impl Core {
    /// Bytes off a socket: taken, or held back until their turn, of which it returns true.
    #[inline]
    pub(super) fn arrived(&mut self, key: Key, wire: &mut [u8], now: Now) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let is_long = wire.len() >= LONG
            || connection.assembler.is_unfinished()
            || matches!(connection.peer, Peer::Dashboard(_));
        // What is not open takes nothing, however much it is.
        let is_open = connection.phase == Phase::Open;
        if is_open && (is_long || self.bulk.waiting() > 0) {
            return self.arrived_in_bulk(key, wire, is_long, now);
        }
        self.wire(key, wire, now);
        false
    }

    fn arrived_in_bulk(&mut self, key: Key, wire: &mut [u8], is_long: bool, now: Now) -> bool {
        let holds = self.bulk.holds(key);
        if !holds && !is_long {
            self.wire(key, wire, now);
            return false;
        }
        let taken = if holds || self.bulk.is_spent() {
            0
        } else {
            self.take_in(key, wire, now)
        };
        if taken == wire.len() || self.flow(key).is_break() {
            return false;
        }
        if !holds {
            self.metrics.limit_hit_bulk_time.inc();
        }
        self.bulk.hold(key, &wire[taken..]);
        true
    }

    /// Takes what there is time for, and says how much that was: at least one step.
    fn take_in(&mut self, key: Key, wire: &mut [u8], now: Now) -> usize {
        let connection = self.connections.get_mut(key);
        let is_dashboard =
            connection.is_some_and(|connection| matches!(connection.peer, Peer::Dashboard(_)));
        let step = match (is_dashboard, self.sessions.are_on()) {
            (false, _) => wire.len(),
            (true, false) => STEP,
            // Nothing is taken before a record is whole, so that most smaller pieces would cut nothing.
            (true, true) => STEP_OF_RECORDS,
        };
        let mut taken = 0;
        for step in wire.chunks_mut(step.max(1)) {
            let began = Instant::now();
            self.wire(key, step, now);
            self.bulk.charge(began.elapsed());
            taken += step.len();
            if self.bulk.is_spent() {
                break;
            }
        }
        taken
    }

    /// What a client sent behind its upgrade request, once it is let in.
    pub(super) fn frames_behind(&mut self, key: Key, speaker: Speaker, rest: &mut [u8], now: Now) {
        let began = Instant::now();
        self.frames(key, speaker, rest, now);
        self.bulk.charge(began.elapsed());
    }

    /// What was held back, as much as a tick has time for, and receiving again from whoever has caught up.
    pub(super) fn go_on_with_bulk(&mut self, ring: &mut Ring, now: Now) {
        self.bulk.begin_tick(now);
        while !self.bulk.is_spent() && self.give_turn(ring, now) {}
        self.metrics.bulk_held_bytes.set(self.bulk.bytes() as u64);
    }

    /// Memory comes before time.
    pub(super) fn make_room(&mut self, ring: &mut Ring, now: Now) {
        while self.bulk.is_over() && self.give_turn(ring, now) {
            self.metrics.limit_hit_bulk_bytes.inc();
        }
    }

    /// False if nobody waits.
    fn give_turn(&mut self, ring: &mut Ring, now: Now) -> bool {
        let Some(mut turn) = self.bulk.take_turn() else {
            return false;
        };
        let mut piece = std::mem::take(&mut turn.piece);
        let taken = self.take_in(turn.key, &mut piece, now);
        let is_open = self.flow(turn.key).is_continue();
        if taken < piece.len() && is_open {
            self.bulk.put_back(&turn, &piece[taken..]);
        } else if turn.caught_up {
            self.caught_up(ring, turn.key, turn.end);
        }
        true
    }

    fn caught_up(&mut self, ring: &mut Ring, key: Key, end: Option<i32>) {
        if let Some(result) = end {
            return self.ended(ring, key, result);
        }
        let others_wait = self.bulk.waiting() > 0;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.assembler.excuse(self.now.mono_ms);
        match connection.receive {
            // One buffer at a time while there is not enough time for all.
            Receive::Held if others_wait => {
                connection.receive = Receive::Once;
                ring.receive_once(connection.fd, key);
            }
            Receive::Held => {
                connection.receive = Receive::Armed;
                ring.receive(connection.fd, key);
            }
            // The cancellation is on its way, and will be found to have come late.
            Receive::Quieting => connection.receive = Receive::Armed,
            Receive::Armed | Receive::Once | Receive::Polled | Receive::Ended => {}
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

    /// Time that a connection waits for its turn is not held against it.
    pub(super) fn excuse_waiting(&mut self, key: Key, now: Now) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.heard = now.stamp();
            connection.assembler.excuse(now.mono_ms);
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
        let mut bulk = Bulk::new();
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
        let mut bulk = Bulk::new();
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
        let mut bulk = Bulk::new();
        bulk.hold(key(1), &[1; 1_000]);
        bulk.hold(key(2), &[2; 10]);
        bulk.forget(key(1));
        bulk.forget(key(3));
        assert_eq!(bulk.bytes(), weight(10) + BULK_BACKLOG_OVERHEAD);
        assert_eq!(pieces(&mut bulk), [(2, 2, true)]);
        assert_eq!(bulk.bytes(), 0);
    }

    #[test]
    fn the_rest_of_a_piece_comes_first_and_after_others() {
        let mut bulk = Bulk::new();
        for (slot, first) in [(1, 10), (1, 20), (2, 30)] {
            bulk.hold(key(slot), &[first, first + 1]);
        }
        bulk.end(key(2), 0);
        for slot in [1, 2] {
            let turn = bulk.take_turn().expect("it waits");
            assert_eq!(turn.key.slot, slot);
            bulk.put_back(&turn, &turn.piece[1..]);
        }
        let turns: Vec<Turn> = std::iter::from_fn(|| bulk.take_turn()).collect();
        let seen: Vec<_> = turns
            .iter()
            .map(|turn| (turn.key.slot, turn.piece[0], turn.caught_up, turn.end))
            .collect();
        assert_eq!(
            seen,
            [
                (1, 11, false, None),
                (2, 31, true, Some(0)),
                (1, 20, true, None),
            ]
        );
        assert_eq!((bulk.waiting(), bulk.bytes()), (0, 0));
    }

    #[test]
    fn memory_is_bounded_whatever_the_pieces() {
        for length in [1, 100, 4_096] {
            let mut bulk = Bulk::new();
            let mut slot = 0;
            while !bulk.is_over() {
                bulk.hold(key(slot), &vec![0; length]);
                slot += 1;
            }
            let entry = size_of::<(Key, Backlog)>() + size_of::<Key>() + 2 * size_of::<Box<[u8]>>();
            assert!(entry * 2 <= BULK_BACKLOG_OVERHEAD, "{entry}");
            let most = BULK_HELD_BYTES_MAX + weight(length) + BULK_BACKLOG_OVERHEAD;
            assert!(bulk.bytes() <= most, "{length}");
        }
    }

    #[test]
    fn a_long_piece_is_paid_for_by_later_ticks_and_a_clock_that_jumps_not_for_ever() {
        let mut bulk = Bulk::new();
        let mut now = Now::default();
        let mut tick = |bulk: &mut Bulk, us: u32| {
            now.mono_us = now.mono_us.wrapping_add(us);
            bulk.begin_tick(now);
        };
        tick(&mut bulk, 1_000);
        bulk.charge(BULK_TIME_PER_TICK / 4);
        assert!(!bulk.is_spent());
        bulk.charge(3 * BULK_TIME_PER_TICK);
        let mut ticks = 0;
        while bulk.is_spent() {
            tick(&mut bulk, 1_000);
            ticks += 1;
        }
        assert_eq!(ticks, 3);
        assert_eq!(bulk.left, BULK_TIME_PER_TICK * 3 / 4);
        bulk.charge(Duration::from_secs(3_600));
        let paid_after = BULK_DEBT_MAX.as_micros() / BULK_TIME_PER_TICK.as_micros() + 1;
        for _ in 0..paid_after {
            tick(&mut bulk, 1_000);
        }
        assert!(!bulk.is_spent());
    }

    #[test]
    fn long_ticks_have_more_time_to_a_bound() {
        let mut bulk = Bulk::new();
        let at = |mono_us| Now {
            mono_us,
            ..Now::default()
        };
        bulk.begin_tick(at(u32::MAX - 3_000));
        bulk.begin_tick(at(5_000));
        assert_eq!(bulk.left, Duration::from_micros(8_001 / 4));
        bulk.begin_tick(at(105_000));
        assert_eq!(bulk.left, BULK_TIME_PER_TICK_MAX);
    }
}
