//! What the callers' side and the connection's side have in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use longhaul_codec::{ErrorCode, Fix};
use tokio::sync::{Notify, broadcast, watch};

use crate::queue::Queue;
use crate::session::commands::Book;
use crate::status::{Notice, State, Tally, count};

/// Before this, a clock was not set: 2020-01-01. Then the gateway stamps what happens.
const CLOCK_IS_SET_MS: u64 = 1_577_836_800_000;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) state: watch::Sender<State>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) tally: Arc<Tally>,
    /// There is something to send.
    pub(crate) wake: Arc<Notify>,
    position: Mutex<Slot>,
    book: Mutex<Book>,
}

/// The newest position.
#[derive(Debug, Default)]
struct Slot {
    /// The latest time that was given to a position without one.
    stamped_ms: u64,
    pending: Option<Fix>,
    /// Sent last, on whatever connection.
    sent: Option<Fix>,
}

impl Slot {
    /// A position without a time is of now; of two in the same millisecond, the second one is later. The gateway takes
    /// the second of two with the same time for a repetition of the first.
    fn stamped(&mut self, mut fix: Fix, now_ms: u64) -> Fix {
        if fix.time_ms == 0 {
            self.stamped_ms = now_ms.max(self.stamped_ms + 1);
            fix.time_ms = self.stamped_ms;
        }
        fix
    }
}

impl Shared {
    pub(crate) fn new(
        queue: Queue,
        state: watch::Sender<State>,
        notices: broadcast::Sender<Notice>,
        tally: Arc<Tally>,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            queue,
            state,
            notices,
            tally,
            wake,
            position: Mutex::default(),
            book: Mutex::default(),
        }
    }

    /// The commands that this client knows.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new position takes the place of the one that waits, unless that is later by its own time.
    pub(crate) fn report(&self, fix: Fix, now_ms: u64) {
        let mut slot = self.slot();
        let fix = slot.stamped(fix, now_ms);
        match slot.pending {
            Some(waits) => {
                count(&self.tally.positions_replaced, 1);
                if fix.time_ms == 0 || fix.time_ms >= waits.time_ms {
                    slot.pending = Some(fix);
                }
            }
            None => slot.pending = Some(fix),
        }
        drop(slot);
        self.wake.notify_one();
    }

    /// On a new connection the last position goes once more: it may have been lost with the one before, and the gateway
    /// takes no position twice. Only one with a time of its own, though: another would be stamped anew.
    pub(crate) fn recall_position(&self) {
        let mut slot = self.slot();
        if slot.pending.is_none() {
            slot.pending = slot.sent.filter(|fix| fix.time_ms != 0);
        }
    }

    /// The position that waits.
    pub(crate) fn position(&self) -> Option<Fix> {
        self.slot().pending
    }

    /// It was sent.
    pub(crate) fn position_sent(&self, fix: Fix) {
        let mut slot = self.slot();
        if slot.pending == Some(fix) {
            slot.pending = None;
        }
        slot.sent = Some(fix);
        count(&self.tally.positions_sent, 1);
    }

    /// An event is at the gateway.
    pub(crate) fn acked(&self, id: u64) {
        if self.queue.remove(id) {
            count(&self.tally.acked, 1);
            self.tell(Notice::Acked { id });
        }
    }

    /// An event will never be taken.
    pub(crate) fn refused(&self, id: u64, code: ErrorCode, why: String) {
        if self.queue.remove(id) {
            tracing::warn!(id, ?code, "the gateway will never take this event: {why}");
            count(&self.tally.refused, 1);
            self.tell(Notice::Refused { id, code, why });
        }
    }

    /// Tells whoever listens.
    pub(crate) fn tell(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    /// Nobody listens to all states, so the last one counts.
    pub(crate) fn enter(&self, state: State) {
        tracing::debug!(?state);
        self.state.send_replace(state);
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds since the Unix epoch; 0 if the clock was never set.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis() as u64);
    if ms < CLOCK_IS_SET_MS { 0 } else { ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_positions_in_one_millisecond_the_second_is_later() {
        let mut slot = Slot::default();
        let mut stamp = |time_ms, now_ms| {
            let fix = Fix {
                time_ms,
                ..Fix::default()
            };
            slot.stamped(fix, now_ms).time_ms
        };
        assert_eq!([stamp(0, 10), stamp(0, 10), stamp(0, 10)], [10, 11, 12]);
        assert_eq!(stamp(5, 10), 5, "its own time");
        assert_eq!(stamp(0, 20), 20);
    }
}
