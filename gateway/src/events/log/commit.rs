//! The batch to the disk, and the verdicts to whoever waits for them. A failed write is nobody's Ack: the events go back to
//! their vehicles, reads go on, and the log tries again until it can.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use longhaul_filter_engine::FleetId;

use super::{
    super::{Committed, LogState, Logged, store::StoreError},
    COMMIT_EVERY, Place, Published, Refused, Writer, unix_ms,
};
use crate::{
    fleet::{Extra, Interest},
    shard::{connection::place, inbox::Letter},
};

/// How often the same trouble is said.
const SAY_EVERY: Duration = Duration::from_secs(30);
/// How long to wait after a failure before the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Writer {
    /// Writes the batch at hand, if there is one, and tells everybody.
    pub(super) fn commit(&mut self) {
        self.write_senders();
        self.write_commands();
        if self.batch.is_empty() {
            if self.retry_at.is_none() {
                self.commands_written(true);
            }
        } else {
            self.write();
        }
        self.answer();
    }

    fn write(&mut self) {
        let began = Instant::now();
        self.commit_at = began + COMMIT_EVERY;
        let written = self.store.commit(&self.batch);
        match &written {
            Ok(()) => self.durable(began),
            Err(error) => self.failed(error),
        }
        self.batch.clear();
        self.cursors_written(written.is_ok());
        self.commands_written(written.is_ok());
    }

    /// The batch is on the disk: the log ends later, and whoever has caught up gets its events from memory.
    fn durable(&mut self, began: Instant) {
        if self.said.take().is_some() {
            tracing::info!("the event log writes again");
        }
        let metrics = &self.setting.metrics;
        metrics.writable.set(1);
        metrics.commits.inc();
        metrics.events.add(self.gathered.new.len() as u64);
        metrics.commit_ns.add(began.elapsed().as_nanos() as u64);
        let mut by_fleet: Vec<(FleetId, Vec<Arc<Logged>>)> = Vec::new();
        for new in self.gathered.new.drain(..) {
            match by_fleet.iter_mut().find(|(fleet, _)| *fleet == new.fleet) {
                Some((_, events)) => events.push(new.logged),
                None => by_fleet.push((new.fleet, vec![new.logged])),
            }
        }
        for (fleet, _) in &by_fleet {
            if let Some(place) = self.places.get_mut(fleet) {
                place.known = true;
                self.setting.log.set_last(*fleet, place.last);
            }
        }
        // Whoever subscribes from now on finds the new end; whoever did before is in the masks.
        Interest::fence();
        for (fleet, events) in by_fleet {
            let committed = Arc::new(Committed {
                fleet,
                through: self.setting.log.last(fleet),
                events,
            });
            self.tell(&committed);
        }
    }

    /// Hands what became durable to the shards with a dashboard that wants events of this fleet.
    pub(super) fn tell(&mut self, committed: &Arc<Committed>) {
        let wanted = self
            .setting
            .fleet
            .interest
            .extra(committed.fleet, Extra::Events);
        for shard in 0..self.setting.inboxes.len() {
            if wanted >> shard & 1 == 1 {
                self.post.committed(shard, committed);
            }
        }
    }

    #[cold]
    fn failed(&mut self, error: &StoreError) {
        let metrics = &self.setting.metrics;
        metrics.errors.inc();
        metrics.events_refused.add(self.gathered.new.len() as u64);
        let now_ms = unix_ms();
        for answer in &mut self.gathered.answers {
            if answer.verdict.is_ok() && !answer.again {
                answer.verdict = Err(Refused::State(LogState::Failed));
                self.holds.refuse(answer.to, answer.message_id, now_ms);
            }
        }
        self.gathered.new.clear();
        self.forget();
        self.stop_writing(error);
    }

    /// Nothing can be written, for a while.
    pub(super) fn stop_writing(&mut self, error: &StoreError) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::error!(
                %error,
                "the event log cannot write: events with qos 1 are refused until it can; positions are not touched"
            );
        }
        // Refused ahead of the write, the store is as it was.
        self.broken = self.store.is_failed();
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        self.setting.log.set_state(LogState::Failed);
        self.setting.metrics.writable.set(0);
    }

    /// What was known beside the store may not be true any more.
    pub(super) fn forget(&mut self) {
        self.senders.clear();
        self.touched.clear();
        let registry = &self.setting.fleet.registry;
        for (fleet, place) in self.places.drain() {
            if place.known
                && let Some(name) = registry.fleet_name(fleet)
            {
                let last = self.setting.log.last(fleet);
                self.by_name.insert(name.into(), Place { last, ..place });
            }
        }
    }

    /// It takes events from now on. What happened to commands, vehicles and users in the meantime is told again.
    pub(super) fn open(&mut self, first: bool) {
        self.setting.log.set_state(LogState::Open);
        if first {
            self.setting.metrics.writable.set(1);
        }
        self.post.send_all(|| Letter::LogOpen { first });
    }

    /// After a failure, now and then: tries again.
    pub(super) fn recover(&mut self) {
        if self.retry_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        if self.broken {
            match self.store.reopen(unix_ms()) {
                Ok(recovered) => {
                    self.broken = false;
                    self.adopt(recovered);
                }
                Err(error) => {
                    if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                        self.said = Some(Instant::now());
                        tracing::warn!(%error, "the event log cannot be opened again yet");
                    }
                    return;
                }
            }
        }
        // Whether there is room is for the next write to find out.
        self.retry_at = None;
        self.open(false);
    }

    /// The verdicts.
    fn answer(&mut self) {
        if self.gathered.taken == 0 {
            return;
        }
        let mut by_shard: Vec<Vec<Published>> = Vec::new();
        by_shard.resize_with(self.setting.inboxes.len(), Vec::new);
        for answer in self.gathered.answers.drain(..) {
            let (shard, key) = place(answer.to);
            if let Some(verdicts) = by_shard.get_mut(shard) {
                verdicts.push(Published {
                    key,
                    message_id: answer.message_id,
                    verdict: answer.verdict,
                });
            }
        }
        for (shard, mut verdicts) in by_shard.into_iter().enumerate() {
            if !verdicts.is_empty() {
                // One frame for each vehicle, whose verdicts stay in order.
                verdicts.sort_by_key(|published| published.key.slot);
                self.post.send(shard, Letter::Published(verdicts));
            }
        }
        self.setting
            .log
            .settled(self.gathered.taken, self.gathered.bytes);
        (self.gathered.taken, self.gathered.bytes) = (0, 0);
    }
}
