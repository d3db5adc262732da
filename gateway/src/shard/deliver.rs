//! Events to dashboards: new ones to those who are up to date, old ones to those who are not.

use std::sync::Arc;

use longhaul_codec::{Error, ErrorCode, EventRange, Message, ResumePoint};
use longhaul_filter_engine::{FleetId, SubscriberId, VehicleSet};

use super::{
    Core,
    clock::Now,
    connection::{Dashboard, Peer, holder},
    feed::{BadAck, Feed, FeedLimits, Hold, Progress, Reading},
    ring::Key,
    tail::Followed,
};
use crate::{
    events::{
        Committed, LogState, Logged,
        consumers::{Attached, Consumers},
        replay::{ReplayRequest, Replayed, TopicFilter},
    },
    fleet::{Extra, Interest},
    limits::{EVENT_TOPICS_MAX, EVENTS_PER_FRAME_BYTES, Limits},
    session::{
        dashboard::{EventWish, Topics},
        rejection::{Bound, Rejection},
    },
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
            if let Some(feed) = self.connections.get_mut(key).and_then(feed_of) {
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
        let Some((fleet, feed)) = connections
            .get_mut(key)
            .and_then(|connection| dashboard_of(&mut connection.peer))
            .and_then(|dashboard| Some((dashboard.fleet, dashboard.feed.as_deref_mut()?)))
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
        let nobody = VehicleSet::default();
        let watched = engine.effective(SubscriberId(key.slot)).unwrap_or(&nobody);
        if let Some(near) = tail.from(next) {
            feed.live(tail.through());
            for logged in near {
                if !watched.contains(logged.vehicle) || !feed.topics.takes(logged.topic()) {
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
        let feed = self.connections.get_mut(key).and_then(feed_of);
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
        let Some(feed) = connections.get_mut(key).and_then(feed_of) else {
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
        let nobody = VehicleSet::default();
        let watched = self
            .engine
            .effective(SubscriberId(key.slot))
            .unwrap_or(&nobody);
        let Some(feed) = self.connections.get_mut(key).and_then(feed_of) else {
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
            // It may watch less by now.
            if watched.contains(logged.vehicle) && feed.topics.takes(logged.topic()) {
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
        let Some(feed) = self.connections.get_mut(key).and_then(feed_of) else {
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

    /// A newer connection has taken the consumer over: no more events come here.
    pub(super) fn lose_consumer(&mut self, key: Key, now: Now) {
        self.end_feed(key, now);
        self.reject(
            key,
            Rejection::new(
                ErrorCode::NotAllowed,
                0,
                "another connection has taken your consumer over: no more events come here",
            ),
        );
    }

    /// The sweep's look at a dashboard: what is overdue is sent again, and whoever got stuck goes on.
    pub(super) fn look_at_feed(&mut self, key: Key, now: Now) {
        let wait_ms = self.config.ack_wait_ms;
        let tails = &self.tails;
        let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(|connection| dashboard_of(&mut connection.peer))
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

    /// Checks what a subscription asks of events, before anything of it is put into force.
    pub(super) fn check_events(
        &mut self,
        key: Key,
        request: u64,
        topics: Topics<'_>,
        wish: EventWish<'_>,
        replace: bool,
    ) -> Result<(), Rejection> {
        if !topics.wants_events() {
            return Ok(());
        }
        let state = self.events.state();
        if wish.acknowledged && !self.events.is_readable() {
            return Err(Rejection::new(
                ErrorCode::NotDurable,
                request,
                state.why_not(),
            ));
        }
        if let Some(name) = wish.consumer
            && let Some(consumer_key) = self.consumer_key(key, name)
            && let Err(error) = self.events.consumers.has_room(&consumer_key)
        {
            let says = error.to_string();
            let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
            return Err(rejection.over(Bound::Consumers));
        }
        let Some(feed) = self.connections.get_mut(key).and_then(feed_of) else {
            return Ok(());
        };
        if replace {
            return Ok(());
        }
        if wish.resume.is_some()
            || wish.consumer.is_some()
            || wish.acknowledged != feed.acknowledged
        {
            let says = "you watch events already, in another way: a connection has one stream of them; use mode Replace";
            return Err(Rejection::new(ErrorCode::Malformed, request, says));
        }
        if let TopicFilter::Some(own) = &feed.topics
            && own.len() + topics.of_events().count() > EVENT_TOPICS_MAX
        {
            let says =
                format!("this would be over {EVENT_TOPICS_MAX} topics, the limit; use \"events\"");
            let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
            return Err(rejection.over(Bound::Topics));
        }
        Ok(())
    }

    /// Begins to send events, or those of more topics.
    pub(super) fn begin_feed(
        &mut self,
        key: Key,
        request: u64,
        topics: Topics<'_>,
        wish: EventWish<'_>,
        now: Now,
    ) -> Result<(), Rejection> {
        let me = holder(self.exchange.shard(), key);
        let log = Arc::clone(&self.events);
        let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(|connection| dashboard_of(&mut connection.peer))
        else {
            return Ok(());
        };
        let fleet = dashboard.fleet;
        let wanted = if topics.all_events {
            TopicFilter::All
        } else {
            TopicFilter::Some(topics.of_events().map(Box::from).collect())
        };
        if let Some(feed) = &mut dashboard.feed {
            feed.topics = joined(
                std::mem::replace(&mut feed.topics, TopicFilter::All),
                wanted,
            );
            feed.refilter(|_| true);
            self.behind.push(key);
            return Ok(());
        }
        // First the log's thread is told, then it is asked where the log ends: whatever comes behind that comes here.
        self.extras
            .change(&self.fleet, fleet, Extra::Events, false, true);
        Interest::fence();
        self.tails.begin(fleet, log.last(fleet), key);
        let tail_through = self.tails.get(fleet).map_or(0, |tail| tail.through());
        let now_at = ResumePoint {
            epoch: log.epoch(),
            sequence: tail_through.max(log.last(fleet)),
        };
        let consumer_key = wish.consumer.and_then(|name| self.consumer_key(key, name));
        let attached = match consumer_key {
            None => None,
            Some(consumer_key) => match log.consumers.attach(consumer_key, me, now.unix_ms) {
                Ok(found) => Some(found),
                Err(error) => {
                    self.unwant_events(fleet, key);
                    let says = error.to_string();
                    let rejection = Rejection::new(ErrorCode::LimitReached, request, says);
                    return Err(rejection.over(Bound::Consumers));
                }
            },
        };
        let (begin, sent) = match &attached {
            Some(Attached {
                consumer,
                is_new: false,
            }) => {
                let cursor = consumer.cursor();
                let at = ResumePoint {
                    epoch: cursor.epoch,
                    sequence: cursor.acked,
                };
                (at, cursor.sent)
            }
            // A log that took the place of a damaged one lost the cursors as well: this may have been one of them.
            Some(_) if wish.resume.is_none() => (log.lost(now.unix_ms).unwrap_or(now_at), 0),
            _ => (wish.resume.unwrap_or(now_at), 0),
        };
        let (at, gap) = starting_point(begin, now_at);
        let sent = if gap.is_none() { sent } else { 0 };
        let mut feed = Feed::new(wanted, wish.acknowledged, at, sent);
        if let Some(gap) = gap {
            self.metrics.event_gaps.inc();
            feed.missing(gap);
        }
        if let Some(Attached { consumer, is_new }) = attached {
            if is_new {
                // With a gap, it is told again until something behind it is acknowledged.
                consumer.begin(if gap.is_some() {
                    begin
                } else {
                    ResumePoint {
                        sequence: at,
                        ..now_at
                    }
                });
            }
            feed.consumer = Some(Hold {
                consumer,
                me,
                epoch: now_at.epoch,
            });
        }
        if let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(|connection| dashboard_of(&mut connection.peer))
        {
            dashboard.feed = Some(Box::new(feed));
        }
        self.behind.push(key);
        self.mark_flushable(key);
        Ok(())
    }

    /// What a dashboard's consumer is called in the log.
    fn consumer_key(&mut self, key: Key, name: &str) -> Option<Box<str>> {
        let connection = self.connections.get_mut(key)?;
        let dashboard = dashboard_of(&mut connection.peer)?;
        let fleet = self.fleet.registry.fleet_name(dashboard.fleet)?;
        Some(Consumers::key(&fleet, &dashboard.user, name))
    }

    /// The filter of a dashboard has changed.
    pub(super) fn refilter(&mut self, key: Key) {
        let nobody = VehicleSet::default();
        let watched = self
            .engine
            .effective(SubscriberId(key.slot))
            .unwrap_or(&nobody);
        if let Some(feed) = self.connections.get_mut(key).and_then(feed_of) {
            feed.refilter(|logged| watched.contains(logged.vehicle));
            self.behind.push(key);
        }
    }

    /// Sends no more events.
    pub(super) fn end_feed(&mut self, key: Key, now: Now) {
        let Some(dashboard) = self
            .connections
            .get_mut(key)
            .and_then(|connection| dashboard_of(&mut connection.peer))
        else {
            return;
        };
        let fleet = dashboard.fleet;
        let Some(mut feed) = dashboard.feed.take() else {
            return;
        };
        if let Some(tail) = self.tails.get(fleet) {
            feed.settle(tail.through(), now.mono_ms, now.unix_ms);
        }
        if let Some(hold) = &feed.consumer {
            hold.consumer.release(hold.me, now.unix_ms);
        }
        self.unwant_events(fleet, key);
    }

    /// The topics of events that it does not want any more.
    pub(super) fn drop_topics(&mut self, key: Key, topics: Topics<'_>, now: Now) {
        let Some(feed) = self.connections.get_mut(key).and_then(feed_of) else {
            return;
        };
        let none_left = match &mut feed.topics {
            _ if topics.all_events => true,
            // All but one is no wish that it could have.
            TopicFilter::All => false,
            TopicFilter::Some(own) => {
                own.retain(|own| !topics.of_events().any(|gone| gone == &**own));
                own.is_empty()
            }
        };
        if none_left {
            self.end_feed(key, now);
        } else {
            self.refilter(key);
        }
    }

    /// The log is another one: everybody with events has to say anew where to begin.
    pub(super) fn new_epoch(&mut self) {
        for slot in 0..self.connections.slots() {
            if let Some((key, connection)) = self.connections.slot_mut(slot)
                && let Peer::Dashboard(dashboard) = &connection.peer
                && dashboard.feed.is_some()
            {
                self.close(key, crate::session::close::RESTARTING);
            }
        }
    }

    /// Whether this log is one to be told of in `Welcome`.
    pub(super) fn epoch_to_tell(&self) -> u64 {
        match self.events.state() {
            LogState::Open | LogState::Failed => self.events.epoch(),
            LogState::Off | LogState::Opening | LogState::Closed => 0,
        }
    }

    /// The log takes events now: whoever has come before is announced to it. Where it was opened, what it has is not new.
    pub(super) fn log_opened(&mut self, first: bool) {
        if first {
            self.tails.catch_up(|fleet| self.events.last(fleet));
        }
        self.announce_all();
    }

    fn unwant_events(&mut self, fleet: FleetId, key: Key) {
        if let Some(tail) = self.tails.get_mut(fleet) {
            tail.leave(key);
        }
        self.extras
            .change(&self.fleet, fleet, Extra::Events, true, false);
        if !self.extras.is_wanted(fleet, Extra::Events) {
            self.tails.end(fleet);
        }
    }
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

/// Where to begin, and what is missing, for somebody who was at `asked` in a log that ends at `now`.
fn starting_point(asked: ResumePoint, now: ResumePoint) -> (u64, Option<EventRange>) {
    if asked.epoch == now.epoch && asked.sequence > now.sequence {
        // Somebody has put an older copy of the log back.
        let lost = EventRange {
            epoch: asked.epoch,
            first: now.sequence + 1,
            last: asked.sequence,
        };
        return (now.sequence, Some(lost));
    }
    if asked.epoch == now.epoch {
        // Retention is looked at when the log is read.
        return (asked.sequence, None);
    }
    if asked.epoch == 0 && asked.sequence == 0 {
        // It has never seen any: all that is kept.
        return (0, None);
    }
    let lost = EventRange {
        epoch: asked.epoch,
        first: asked.sequence.saturating_add(1),
        last: u64::MAX,
    };
    (0, Some(lost))
}

/// Topics of both.
fn joined(own: TopicFilter, more: TopicFilter) -> TopicFilter {
    match (own, more) {
        (TopicFilter::Some(mut own), TopicFilter::Some(more)) => {
            for topic in more {
                if !own.contains(&topic) {
                    own.push(topic);
                }
            }
            TopicFilter::Some(own)
        }
        _ => TopicFilter::All,
    }
}

fn dashboard_of(peer: &mut Peer) -> Option<&mut Dashboard> {
    match peer {
        Peer::Dashboard(dashboard) => Some(dashboard),
        _ => None,
    }
}

fn feed_of(connection: &mut super::connection::Connection) -> Option<&mut Feed> {
    dashboard_of(&mut connection.peer)?.feed.as_deref_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_begins_where_it_can_and_says_what_is_missing() {
        let point = |epoch, sequence| ResumePoint { epoch, sequence };
        let now = point(7, 100);
        assert_eq!(starting_point(point(7, 40), now), (40, None));
        let ahead = EventRange {
            epoch: 7,
            first: 101,
            last: 400,
        };
        assert_eq!(starting_point(point(7, 400), now), (100, Some(ahead)));
        assert_eq!(starting_point(point(7, 0), now), (0, None));
        assert_eq!(starting_point(point(0, 0), now), (0, None), "all there is");
        let lost = EventRange {
            epoch: 6,
            first: 41,
            last: u64::MAX,
        };
        assert_eq!(starting_point(point(6, 40), now), (0, Some(lost)));
    }

    #[test]
    fn topics_are_added() {
        let some =
            |topics: &[&str]| TopicFilter::Some(topics.iter().map(|t| (*t).into()).collect());
        assert_eq!(joined(some(&["a"]), some(&["a", "b"])), some(&["a", "b"]));
        assert_eq!(joined(some(&["a"]), TopicFilter::All), TopicFilter::All);
    }
}
