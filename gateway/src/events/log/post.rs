//! Letters to shards. A shard with a full inbox is written to again a little later; nobody waits for it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use longhaul_filter_engine::FleetId;

use super::super::Committed;
use crate::{
    limits::LOG_LETTERS_MAX,
    metrics::LogMetrics,
    shard::inbox::{Inbox, Letter},
};

/// The letters of one thread.
#[derive(Debug)]
pub(super) struct Post {
    inboxes: Arc<[Arc<Inbox>]>,
    metrics: Arc<LogMetrics>,
    /// By shard: what waits, the oldest first.
    waiting: Vec<VecDeque<Letter>>,
    /// By shard: fleets of which it has missed events, and where their logs end. It reads them from the store.
    missed: Vec<HashMap<FleetId, u64>>,
}

impl Post {
    pub(super) fn new(inboxes: Arc<[Arc<Inbox>]>, metrics: Arc<LogMetrics>) -> Post {
        Post {
            waiting: inboxes.iter().map(|_| VecDeque::new()).collect(),
            missed: inboxes.iter().map(|_| HashMap::new()).collect(),
            inboxes,
            metrics,
        }
    }

    /// Whether something waits.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.iter().any(|letters| !letters.is_empty())
            || self.missed.iter().any(|fleets| !fleets.is_empty())
    }

    /// A letter that must arrive, in order.
    pub(super) fn send(&mut self, shard: usize, letter: Letter) {
        let waiting = &mut self.waiting[shard];
        if waiting.is_empty() {
            if let Err(letter) = self.inboxes[shard].post(letter) {
                waiting.push_back(letter);
            }
            return;
        }
        // It comes behind them, in the next turn.
        waiting.push_back(letter);
        if waiting.len() > LOG_LETTERS_MAX {
            waiting.pop_front();
            self.metrics.limit_hit_letters.inc();
        }
    }

    /// A letter to every shard, of the same kind.
    pub(super) fn send_all(&mut self, letter: impl Fn() -> Letter) {
        for shard in 0..self.inboxes.len() {
            self.send(shard, letter());
        }
    }

    /// New events. A shard that has no room for them is told where the log ends instead.
    pub(super) fn committed(&mut self, shard: usize, committed: &Arc<Committed>) {
        let missed = &mut self.missed[shard];
        if !self.waiting[shard].is_empty() {
            // It comes behind what waits.
            missed.insert(committed.fleet, committed.through);
            return;
        }
        if let Some(through) = missed.get_mut(&committed.fleet) {
            *through = committed.through;
            return;
        }
        let letter = Letter::Committed(Arc::clone(committed));
        if self.inboxes[shard].post(letter).is_err() {
            missed.insert(committed.fleet, committed.through);
        }
    }

    /// Tries again what found no room.
    pub(super) fn again(&mut self) {
        for shard in 0..self.inboxes.len() {
            self.deliver(shard);
            if !self.waiting[shard].is_empty() {
                continue;
            }
            let inbox = &self.inboxes[shard];
            self.missed[shard].retain(|&fleet, &mut through| {
                let end = Committed {
                    fleet,
                    through,
                    events: Vec::new(),
                };
                inbox.post(Letter::Committed(Arc::new(end))).is_err()
            });
        }
    }

    fn deliver(&mut self, shard: usize) {
        let waiting = &mut self.waiting[shard];
        // All of it takes one place, so that only time can fill an inbox.
        let letter = match waiting.len() {
            0 => return,
            1 => match waiting.pop_front() {
                Some(letter) => letter,
                None => return,
            },
            _ => Letter::Several(waiting.drain(..).collect()),
        };
        if let Err(refused) = self.inboxes[shard].post(letter) {
            match refused {
                Letter::Several(letters) => waiting.extend(letters),
                letter => waiting.push_back(letter),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_without_room_is_told_where_the_log_ends() {
        let inbox = Inbox::new(1).expect("a doorbell");
        let metrics = Arc::new(LogMetrics::default());
        let mut post = Post::new(Arc::from([Arc::clone(&inbox)]), Arc::clone(&metrics));
        let committed = |through| {
            Arc::new(Committed {
                fleet: FleetId(3),
                through,
                events: Vec::new(),
            })
        };
        post.committed(0, &committed(1));
        post.committed(0, &committed(2));
        post.committed(0, &committed(3));
        assert!(post.is_behind());
        post.again();
        assert!(post.is_behind(), "there is still no room");
        for expected in [1, 3] {
            let Some(Letter::Committed(taken)) = inbox.take() else {
                panic!("a letter")
            };
            assert_eq!(taken.through, expected);
            post.again();
        }
        assert!(!post.is_behind());
        post.send_all(|| Letter::LogOpen { first: true });
        for _ in 0..LOG_LETTERS_MAX + 2 {
            post.send(0, Letter::NewEpoch);
        }
        assert_eq!(metrics.limit_hit_letters.get(), 2, "it is bounded");
        post.committed(0, &committed(4));
        assert!(matches!(inbox.take(), Some(Letter::LogOpen { .. })));
        post.again();
        let Some(Letter::Several(letters)) = inbox.take() else {
            panic!("all that waited comes at once")
        };
        assert_eq!(letters.len(), LOG_LETTERS_MAX);
        post.again();
        assert!(
            matches!(inbox.take(), Some(Letter::Committed(_))),
            "and then"
        );
    }
}
