//! Events to dashboards: new ones to those who are up to date, old ones to those who are not.

use std::sync::Arc;

use longhaul_codec::{Error, ErrorCode, EventRange, Message, ResumePoint};
use longhaul_filter_engine::{Filter, FleetId, SubscriberId};

use super::{
    Core,
    access::Access,
    clock::Now,
    connection::{Connection, Peer, holder},
    feed::{BadAck, FeedLimits, Progress, Reading},
    ring::Key,
    tail::Followed,
};
use crate::{
    events::{
        Committed, Logged,
        replay::{ReplayRequest, Replayed},
    },
    limits::{EVENTS_PER_FRAME_BYTES, Limits},
    session::rejection::Rejection,
};

/// The bounds of one dashboard's events.
pub(super) fn feed_limits(limits: &Limits) -> FeedLimits {
    FeedLimits {
        window: limits.events_in_flight_max as usize,
        bytes_max: limits.event_queue_bytes_max,
    }
}

impl Core {
    /// Part of step 3: events that became durable, and those that are in no log.
    pub(super) fn route_events(&mut self) {
        for committed in std::mem::take(&mut self.routed.committed) {
            self.route_committed(&committed);
        }
        for (fleet, logged) in std::mem::take(&mut self.routed.events) {
            self.route_event(fleet, &logged);
        }
    }

    fn route_committed(&mut self, committed: &Committed) {
        let fleet = committed.fleet;
        // Nobody here wants them any more.
        let Some(tail) = self.tails.get_mut(fleet) else {
            return;
        };
        let mut fresh = Vec::new();
        if let Followed::Missed(through) = tail.take(committed, &mut fresh) {
            self.missed(fleet, through);
        }
        for logged in fresh {
            self.route_event(fleet, &logged);
        }
    }

    fn route_event(&mut self, fleet: FleetId, logged: &Arc<Logged>) {
        let Core {
            engine,
            connections,
            flushable,
            metrics,
            config,
            ..
        } = self;
        let limits = feed_limits(&config.limits);
        engine.route(fleet, &[logged.vehicle], |matched| {
            for member in matched.members {
                if let Some((key, connection)) = connections.slot_mut(member.0)
                    && let Peer::Dashboard(dashboard) = &mut connection.peer
                    && tells(dashboard.access.as_deref(), logged)
                    && let Some(feed) = &mut dashboard.feed
                {
                    let (ready, dropped) = feed.offer(logged, limits);
                    if dropped > 0 {
                        metrics.events_dropped.add(dropped);
                        metrics.limit_hit_event_queue.inc();
                    }
                    if ready && !std::mem::replace(&mut connection.flushable, true) {
                        flushable.push(key);
                    }
                }
            }
        });
    }

    /// This shard has no events behind `through` in memory: whoever was up to date reads them from the log.
    fn missed(&mut self, fleet: FleetId, through: u64) {
        let Some(tail) = self.tails.get(fleet) else {
            return;
        };
        for &key in tail.readers() {
            if let Some(feed) = self.connections.get_mut(key).and_then(Connection::feed_mut) {
                feed.missed(through);
                self.behind.push(key);
            }
        }
    }

    /// Brings those forward who had no room, and have some now. Once a tick.
    pub(super) fn catch_up_all(&mut self) {
        for key in std::mem::take(&mut self.behind) {
            self.catch_up(key);
        }
    }

    /// Fills a dashboard's room: from memory if what is next is there, else it is read from the log.
    fn catch_up(&mut self, key: Key) {
        let Core {
            connections,
            tails,
            engine,
            config,
            exchange,
            events,
            metrics,
            now,
            next_ticket,
            ..
        } = self;
        let limits = feed_limits(&config.limits);
        let Some((fleet, access, feed)) = connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut)
            .and_then(|dashboard| {
                let feed = dashboard.feed.as_deref_mut()?;
                Some((dashboard.fleet, dashboard.access.as_deref(), feed))
            })
        else {
            return;
        };
        let Progress::Behind(next) = feed.progress else {
            return;
        };
        let Some(tail) = tails.get(fleet) else {
            return;
        };
        if next > tail.through() {
            feed.live(tail.through());
            return;
        }
        let room = feed.room(limits);
        if room == 0 {
            // Its acknowledgement, or its socket, brings it here again.
            return;
        }
        let nobody = Filter::default();
        let watched = engine.effective(SubscriberId(key.slot)).unwrap_or(&nobody);
        if let Some(near) = tail.from(next) {
            feed.live(tail.through());
            for logged in near {
                let is_watched = watched.contains(logged.vehicle) && tells(access, logged);
                if !is_watched || !feed.topics.takes(logged.topic()) {
                    continue;
                }
                if feed.room(limits) == 0 {
                    feed.stop_at(logged.sequence);
                    break;
                }
                feed.push(Arc::clone(logged));
            }
            self.mark_flushable(key);
            return;
        }
        let asked = events.replay(ReplayRequest {
            to: holder(exchange.shard(), key),
            fleet,
            from: next,
            ticket: *next_ticket,
            vehicles: watched.clone(),
            topics: feed.topics.clone(),
            events_max: room,
            bytes_max: feed.bytes_left(limits),
        });
        if asked {
            metrics.event_replays.inc();
            feed.progress = Progress::Reading(Reading {
                from: next,
                ticket: *next_ticket,
                since_ms: now.mono_ms,
            });
            *next_ticket += 1;
        }
        // No room there: the sweep brings it here again.
    }

    /// Takes what is owed of events, as far as it has room in a frame. Those who catch up share what a tick has for them.
    pub(super) fn gather_events(&mut self, key: Key, now: Now) {
        let feed = self.connections.get_mut(key).and_then(Connection::feed_mut);
        if feed.is_some_and(|feed| feed.is_taken_over()) {
            return self.lose_consumer(key, now);
        }
        let Core {
            connections,
            outbound,
            metrics,
            events,
            behind,
            replay_bytes_left,
            ..
        } = self;
        let Some(feed) = connections.get_mut(key).and_then(Connection::feed_mut) else {
            return;
        };
        let (gaps, dropped) = feed.take_news(now.mono_ms);
        let epoch = events.epoch();
        outbound
            .gaps
            .extend(gaps.into_iter().map(|range| gap_message(range, epoch)));
        outbound.events_dropped = dropped;
        let catches_up = feed.progress != Progress::Live;
        let bytes_max = if catches_up {
            EVENTS_PER_FRAME_BYTES.min(*replay_bytes_left)
        } else {
            EVENTS_PER_FRAME_BYTES
        };
        feed.take(bytes_max, now.mono_ms, &mut outbound.events);
        let (mut bytes, mut again) = (0, 0);
        for due in &outbound.events {
            bytes += due.logged.bytes();
            again += u64::from(due.again);
        }
        metrics.events_out.add(outbound.events.len() as u64);
        metrics.events_redelivered.add(again);
        if catches_up {
            *replay_bytes_left = replay_bytes_left.saturating_sub(bytes);
            behind.push(key);
        }
    }

    /// Old events that were asked for.
    pub(super) fn replayed(&mut self, key: Key, replayed: Replayed) {
        let epoch = self.events.epoch();
        let nobody = Filter::default();
        let watched = self
            .engine
            .effective(SubscriberId(key.slot))
            .unwrap_or(&nobody);
        let Some((access, feed)) = self
            .connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut)
            .and_then(|dashboard| {
                let feed = dashboard.feed.as_deref_mut()?;
                Some((dashboard.access.as_deref(), feed))
            })
        else {
            return;
        };
        // It may have asked for something else in the meantime.
        let Progress::Reading(Reading { ticket, .. }) = feed.progress else {
            return;
        };
        if ticket != replayed.ticket {
            return;
        }
        let Some(through) = replayed.through else {
            feed.progress = Progress::Behind(replayed.from);
            return;
        };
        if replayed.first > replayed.from {
            self.metrics.event_gaps.inc();
            feed.missing(EventRange {
                epoch,
                first: replayed.from,
                last: replayed.first - 1,
            });
        }
        for logged in replayed.events {
            // It may watch less by now, and it may not be told of each topic.
            let is_watched = watched.contains(logged.vehicle) && tells(access, &logged);
            if is_watched && feed.topics.takes(logged.topic()) {
                feed.push(logged);
            }
        }
        feed.looked(through);
        self.behind.push(key);
        self.mark_flushable(key);
    }

    /// An acknowledgement of a dashboard.
    pub(super) fn event_ack(
        &mut self,
        key: Key,
        point: ResumePoint,
        now: Now,
    ) -> Result<(), Rejection> {
        let epoch = self.events.epoch();
        let wrong = |says: String| Err(Rejection::new(ErrorCode::Malformed, 0, says));
        let Some(feed) = self.connections.get_mut(key).and_then(Connection::feed_mut) else {
            return wrong("you watch no events: there is nothing to acknowledge".to_owned());
        };
        if !feed.acknowledged {
            return wrong(
                "your events come with qos 0, which is not acknowledged: subscribe with qos 1"
                    .to_owned(),
            );
        }
        if point.epoch != epoch {
            return wrong(format!(
                "epoch {} is not this log's, which is {epoch}: acknowledge what this connection was sent",
                point.epoch
            ));
        }
        if feed.is_taken_over() {
            self.lose_consumer(key, now);
            return Ok(());
        }
        match feed.ack(point.sequence, now.mono_ms, now.unix_ms) {
            Ok(_) => {
                self.behind.push(key);
                Ok(())
            }
            Err(BadAck::NotSent(sent)) => wrong(format!(
                "event {} was not sent yet; the last one was {sent}",
                point.sequence
            )),
        }
    }

    /// The sweep's look at a dashboard: what is overdue is sent again, and whoever got stuck goes on.
    pub(super) fn look_at_feed(&mut self, key: Key, now: Now) {
        let wait_ms = self.config.ack_wait_ms;
        let tails = &self.tails;
        let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(Connection::dashboard_mut)
        else {
            return;
        };
        let fleet = dashboard.fleet;
        let Some(feed) = &mut dashboard.feed else {
            return;
        };
        if feed.is_taken_over() {
            return self.lose_consumer(key, now);
        }
        feed.give_up_reading(now.mono_ms);
        if feed.is_overdue(now.mono_ms, wait_ms) {
            feed.go_back();
        } else if let Some(tail) = tails.get(fleet) {
            feed.settle(tail.through(), now.mono_ms, now.unix_ms);
        }
        self.behind.push(key);
    }
}

/// Whether a grant lets an event through that the filter lets through.
pub(super) fn tells(access: Option<&Access>, logged: &Logged) -> bool {
    access.is_none_or(|access| access.tells_event(logged.vehicle, logged.topic()))
}

/// Says that events are missing, in a log of this epoch.
fn gap_message(range: EventRange, now: u64) -> Message {
    let EventRange { epoch, first, last } = range;
    let text = if last == u64::MAX {
        format!(
            "the events behind {} of epoch {epoch} are lost: this log is another one, of epoch {now}; what it has \
             follows",
            first.saturating_sub(1),
        )
    } else {
        format!(
            "the events {first} to {last} of epoch {epoch} are not kept any more (events.retain_ms, \
             events.retain_bytes); what is kept follows"
        )
    };
    Error {
        code: ErrorCode::Gap,
        message: text,
        id: 0,
        missing: Some(range),
    }
    .into()
}
