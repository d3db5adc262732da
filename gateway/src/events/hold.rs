//! Order after a refusal. A vehicle has several events under way. If one is refused and the next one taken, the first
//! would come behind it when it is sent again. So whoever was refused one id is refused the later ones as well, until it
//! goes back to that id.

use std::{collections::HashMap, hash::Hash};

use crate::limits::{HOLD_MS, HOLDS_MAX};

/// Who has to go back, and to which id. `P`: what a publisher is called here.
#[derive(Debug)]
pub struct Holds<P> {
    held: HashMap<P, Hold>,
    /// When those that are over were last taken out.
    purged_ms: u64,
}

/// How often that is done at most, in milliseconds.
const PURGE_EVERY_MS: u64 = 1_000;

#[derive(Debug, Clone, Copy)]
struct Hold {
    id: u64,
    until_ms: u64,
}

impl<P: Hash + Eq> Default for Holds<P> {
    fn default() -> Holds<P> {
        Holds {
            held: HashMap::new(),
            purged_ms: 0,
        }
    }
}

impl<P: Hash + Eq> Holds<P> {
    /// Event `id` of this publisher was refused for now. Not to be called for one that was refused because of the hold:
    /// it ends some time, whatever is sent.
    pub fn refuse(&mut self, publisher: P, id: u64, now_ms: u64) {
        if self.held.len() >= HOLDS_MAX {
            // Whoever is over the bound may lose its order, and nothing else. The table is looked through now and then.
            if now_ms < self.purged_ms + PURGE_EVERY_MS {
                return;
            }
            self.purged_ms = now_ms;
            self.held.retain(|_, hold| hold.until_ms > now_ms);
            if self.held.len() >= HOLDS_MAX {
                return;
            }
        }
        let until_ms = now_ms.saturating_add(HOLD_MS);
        let hold = self.held.entry(publisher).or_insert(Hold { id, until_ms });
        hold.id = hold.id.min(id);
        hold.until_ms = until_ms;
    }

    /// Whether event `id` may be taken. The one that was refused, or an earlier one, ends the hold.
    pub fn lets(&mut self, publisher: P, id: u64, now_ms: u64) -> bool {
        if self.held.is_empty() {
            return true;
        }
        match self.held.get(&publisher) {
            Some(hold) if id > hold.id && now_ms < hold.until_ms => false,
            Some(_) => {
                self.held.remove(&publisher);
                true
            }
            None => true,
        }
    }

    /// Event `id` will never be taken, and its publisher has been told: it need not go back to it.
    pub fn give_up(&mut self, publisher: P, id: u64) {
        if self.held.get(&publisher).is_some_and(|hold| id <= hold.id) {
            self.held.remove(&publisher);
        }
    }

    /// Forgets a publisher that is gone.
    pub fn forget(&mut self, publisher: &P) {
        self.held.remove(publisher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ones_wait_for_the_refused_one() {
        let mut holds = Holds::default();
        assert!(holds.lets("a", 5, 0));
        holds.refuse("a", 5, 0);
        holds.refuse("a", 7, 0);
        assert!(!holds.lets("a", 6, 1), "behind the refused one");
        assert!(holds.lets("b", 6, 1), "somebody else");
        assert!(holds.lets("a", 5, 2), "it went back");
        assert!(holds.lets("a", 6, 3));
        holds.refuse("a", 9, 4);
        assert!(!holds.lets("a", 10, 5));
        assert!(holds.lets("a", 10, 4 + HOLD_MS), "it never went back");
        holds.refuse("a", 9, 4);
        holds.give_up("a", 10);
        assert!(!holds.lets("a", 10, 5), "that was another one");
        holds.give_up("a", 9);
        assert!(holds.lets("a", 10, 5), "it will never be taken");
        holds.refuse("a", 9, 4);
        holds.forget(&"a");
        assert!(holds.lets("a", 10, 5), "a new connection");
    }
}
